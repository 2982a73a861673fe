package console

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sync/errgroup"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/image/layout"
	"github.com/parley-meet/parley/image/liveness"
	"github.com/parley-meet/parley/services/internal/admin"
	"github.com/parley-meet/parley/services/internal/certificate"
	"github.com/parley-meet/parley/services/internal/credential"
	"github.com/parley-meet/parley/services/internal/netclient"
	"github.com/parley-meet/parley/services/internal/nic"
	"github.com/parley-meet/parley/services/internal/portalctl"
	"github.com/parley-meet/parley/services/internal/terminal"
	"github.com/parley-meet/parley/services/internal/zonectl"
)

// runSerial serves the terminals until ctx ends. listen is where the other
// process serves the web.
func runSerial(ctx context.Context, log *slog.Logger, line *liveness.Line, terminals []string, listen string) error {
	_, p, err := net.SplitHostPort(listen)
	if err != nil {
		return fmt.Errorf("-listen %q: %w", listen, err)
	}
	port, err := strconv.ParseUint(p, 10, 16)
	if err != nil {
		return fmt.Errorf("-listen %q: port: %w", listen, err)
	}
	room := &reserve{path: filepath.Join(layout.PermDir, "console-serial", "reserve"), log: log}
	room.fill()
	pid1 := &control.Client{Path: layout.ControlSocket}
	keeper := credential.NewKeeper(credential.NewStore(), credential.NewHasher(4), rand.Reader)
	adm := admin.New(admin.Config{
		Appliance:    pid1,
		Network:      &netclient.Client{Path: netclient.Socket},
		Store:        keeper.Store,
		Hasher:       keeper.Hasher,
		Zone:         askZone,
		Interfaces:   nic.List,
		Dir:          layout.CredentialDir,
		ConnectorDir: layout.ConnectorDir,
		Insist:       true,
		MakeRoom:     room.Free,
		Log:          log,
	})
	defer adm.Close()
	c := terminal.New(terminal.Config{
		Appliance:   pid1,
		Admin:       adm,
		Keeper:      keeper,
		Interfaces:  nic.List,
		Fingerprint: certificate.ReadFingerprint,
		Settings:    terminal.SettingsPath,
		Recovered:   terminal.RecoveredPath,
		WebPort:     int(port),
		Portal:      askPortal,
		Log:         log,
	})
	g, ctx := errgroup.WithContext(ctx)
	for _, name := range terminals {
		g.Go(func() error { return c.Serve(ctx, name, terminal.Open) })
	}
	detail, err := c.Check()
	if err != nil {
		return err
	}
	if err := line.Ready(detail); err != nil {
		return err
	}
	g.Go(func() error { return c.Poll(ctx) })
	g.Go(func() error { return line.Run(ctx, c.Check) })
	return g.Wait()
}

// askPortal asks the portal that runs here, where one does.
func askPortal(ctx context.Context, req portalctl.Request) (portalctl.Answer, error) {
	return portalctl.Ask(ctx, portalctl.Socket, req)
}

// askZone asks the process that holds the membership in the zone.
func askZone(ctx context.Context, req zonectl.Request) (zonectl.Answer, error) {
	return zonectl.Ask(ctx, zonectl.Socket(os.Getenv("PARLEY_ROLE")), req)
}
