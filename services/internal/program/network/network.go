// Package network is the program that keeps the appliance's network: its
// interface, the host's firewall, the clock and the host name, as they were saved
// and as the consoles ask on its socket (package netclient). It is the only
// process that may:
// CAP_NET_ADMIN, CAP_NET_RAW for DHCP before there is an address,
// CAP_NET_BIND_SERVICE for its port 68. The clock and the name are PID 1's to
// set, who is asked on his socket.
package network

import (
	"context"
	crand "crypto/rand"
	"flag"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/image/layout"
	"github.com/parley-meet/parley/image/liveness"
	"github.com/parley-meet/parley/services/internal/dhcp"
	"github.com/parley-meet/parley/services/internal/ethernet"
	"github.com/parley-meet/parley/services/internal/firewall"
	"github.com/parley-meet/parley/services/internal/netclient"
	"github.com/parley-meet/parley/services/internal/netconfig"
	"github.com/parley-meet/parley/services/internal/netserver"
	"github.com/parley-meet/parley/services/internal/timesync"
)

// Files in the run folder, beside those of package ethernet. It is in RAM: they
// are gone after a reboot, and not when the service starts again.
const (
	clockMarker = "clock-set"      // the clock was set since boot
	imageName   = "image-hostname" // what the machine was called before the first change
)

// hold is how long a change waits to be confirmed; tests shorten it.
var hold = netclient.Hold

// Main runs the program with its arguments and returns the exit code.
func Main(args []string) int {
	cfg := ethernet.Config{Log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	init := &control.Client{}
	fs := flag.NewFlagSet("network", flag.ExitOnError)
	fs.StringVar(&cfg.Interface, "interface", "eth0", "`name` of the interface")
	fs.StringVar(&cfg.RunDir, "run", netconfig.RunDir, "`folder` of the socket, state.json and resolv.conf")
	fs.StringVar(&cfg.PermDir, "perm", netconfig.PermDir, "`folder` of network.json and lease.json")
	fs.StringVar(&init.Path, "control", layout.ControlSocket, "PID 1's `socket`")
	fs.Parse(args)

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, cfg, init); err != nil {
		cfg.Log.Error("stopped", "err", err)
		return 1
	}
	return 0
}

func run(ctx context.Context, cfg ethernet.Config, init *control.Client) error {
	line, err := liveness.Open()
	if err != nil {
		return err
	}
	name := newNaming(init, filepath.Join(cfg.RunDir, imageName), cfg.Log)
	clock := timesync.New(timesync.Config{
		Query: timesync.NTP,
		Adjust: func(ctx context.Context, c control.Clock) error {
			return init.Do(ctx, control.Request{Op: control.OpClock, Clock: &c})
		},
		Marker: filepath.Join(cfg.RunDir, clockMarker),
		Log:    cfg.Log,
	})
	// A name that servers could not use is not sent.
	if netconfig.CheckName(name.image) == nil {
		cfg.Hostname = name.image
	}
	cfg.Kernel = ethernet.Linux(cfg.Interface)
	cfg.Wire = dhcp.Sockets{Interface: cfg.Interface}
	cfg.Rand = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	var service *netserver.Service
	cfg.Started = func(string) error { return line.Ready(service.Detail()) }
	cfg.OnState = func(s netconfig.State) {
		clock.SetDHCP(s.NTP)
		if len(s.Addresses)+len(s.IPv6) > 0 {
			clock.Nudge()
		}
	}
	daemon := ethernet.New(cfg)
	service = netserver.New(netserver.Config{
		Dir:      cfg.PermDir,
		Daemon:   daemon,
		Firewall: &firewall.Linux{Role: os.Getenv("PARLEY_ROLE"), Log: cfg.Log},
		Clock:    clock,
		Hostname: name.Set,
		Proxy: func(p netconfig.Proxy) {
			if err := netconfig.SaveProxy(filepath.Join(cfg.RunDir, netconfig.ProxyFile), p); err != nil {
				cfg.Log.Error("the services are not told of the proxy", "err", err)
			}
		},
		ID:   crand.Text,
		Hold: hold,
		Log:  cfg.Log,
	})
	l, err := netserver.Listen(filepath.Join(cfg.RunDir, filepath.Base(netclient.Socket)))
	if err != nil {
		return err
	}
	service.Start()
	server := netserver.NewServer(service)
	g, ctx := errgroup.WithContext(ctx)
	for _, task := range []func(context.Context) error{daemon.Run, service.Run, clock.Run, name.Run} {
		g.Go(func() error { return task(ctx) })
	}
	g.Go(func() error { return server.Serve(ctx, l) })
	g.Go(func() error {
		return line.Run(ctx, func() (string, error) {
			if _, err := daemon.Check(); err != nil {
				return "", err
			}
			return service.Detail(), service.Check()
		})
	})
	return g.Wait()
}
