package console

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/image/layout"
	"github.com/parley-meet/parley/image/liveness"
	"github.com/parley-meet/parley/services/internal/admin"
	"github.com/parley-meet/parley/services/internal/certificate"
	"github.com/parley-meet/parley/services/internal/credential"
	"github.com/parley-meet/parley/services/internal/netclient"
	"github.com/parley-meet/parley/services/internal/nic"
	"github.com/parley-meet/parley/services/internal/webconsole"
)

// webName is the service's name in config.json, and networkName that of the one
// that keeps the machine's address.
const (
	webName     = "console-web"
	networkName = "network"
)

// waitingLogins is how many passwords wait for the one that is checked.
const waitingLogins = 8

// runWeb serves the web console until ctx ends.
func runWeb(ctx context.Context, log *slog.Logger, line *liveness.Line, listen string) error {
	hostname, err := os.Hostname()
	if err != nil {
		return err
	}
	pid1 := &control.Client{Path: layout.ControlSocket}
	adm := admin.New(admin.Config{
		Appliance:    pid1,
		Network:      &netclient.Client{Path: netclient.Socket},
		Store:        credential.NewStore(),
		Hasher:       credential.NewHasher(waitingLogins),
		Interfaces:   nic.List,
		Zone:         askZone,
		Dir:          layout.CredentialDir,
		ConnectorDir: layout.ConnectorDir,
		Log:          log,
	})
	defer adm.Close()
	certs := &certificate.Keeper{
		Dir:    certificate.Shared(layout.ConnectorDir).Dir,
		RAM:    filepath.Join(layout.RunDir, webName),
		Old:    filepath.Join(layout.PermDir, webName),
		RunDir: layout.CredentialRunDir,
		Public: adm.PublicName,
		Log:    log,
	}
	c := webconsole.New(webconsole.Config{
		Admin:       adm,
		Appliance:   pid1,
		Interfaces:  nic.List,
		Certificate: certs,
		Cutting:     []string{webName, networkName},
		Portal:      askPortal,
		Figures:     func(service string) string { return filepath.Join(layout.RunDir, service, "metrics.sock") },
		Log:         log,
	})
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	// Whoever connects from here on waits in the listener's queue for as long as a
	// key takes to make, and is not refused.
	if err := line.Ready(fmt.Sprintf("https on port %d", l.Addr().(*net.TCPAddr).Port)); err != nil {
		return err
	}
	if err := certs.Load(time.Now(), hostname, addresses()); err != nil {
		if c, _ := certs.Certificate(nil); c == nil {
			return err
		}
		log.Warn("certificate: a new one was made", "error", err)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return c.Serve(ctx, l) })
	g.Go(func() error { return line.Run(ctx, c.Check) })
	// Storing waits for the machine's address and for the disk; nobody waits for it.
	g.Go(func() error { return certs.Run(ctx, machineName, addresses) })
	return g.Wait()
}

// machineName is the host name at this time, to put into a certificate.
func machineName() string {
	name, err := os.Hostname()
	if err != nil {
		return "" // it does without
	}
	return name
}

// addresses are those to put into a certificate.
func addresses() []netip.Addr {
	list, err := nic.List()
	if err != nil {
		return nil // a certificate without addresses is as good: it is compared by its fingerprint
	}
	return nic.Reachable(list)
}
