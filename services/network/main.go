// Command network keeps the appliance's network interface configured. It is the
// only process that may: CAP_NET_ADMIN, CAP_NET_RAW for DHCP before there is an
// address, CAP_NET_BIND_SERVICE for its port 68.
package main

import (
	"context"
	"flag"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/parley-meet/parley/image/liveness"
	"github.com/parley-meet/parley/services/internal/dhcp"
	"github.com/parley-meet/parley/services/internal/ethernet"
	"github.com/parley-meet/parley/services/internal/netconfig"
)

func main() {
	cfg := ethernet.Config{Log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	flag.StringVar(&cfg.Interface, "interface", "eth0", "`name` of the interface")
	flag.StringVar(&cfg.RunDir, "run", netconfig.RunDir, "`folder` of state.json and resolv.conf")
	flag.StringVar(&cfg.PermDir, "perm", netconfig.PermDir, "`folder` of lease.json")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, cfg); err != nil {
		cfg.Log.Error("stopped", "err", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, cfg ethernet.Config) error {
	line, err := liveness.Open()
	if err != nil {
		return err
	}
	// A name that servers could not use is not sent.
	if name, err := os.Hostname(); err == nil && netconfig.CheckName(name) == nil {
		cfg.Hostname = name
	}
	cfg.Kernel = ethernet.Linux(cfg.Interface)
	cfg.Wire = dhcp.Sockets{Interface: cfg.Interface}
	cfg.Rand = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	cfg.Started = line.Ready
	d := ethernet.New(cfg)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return d.Run(ctx) })
	g.Go(func() error { return line.Run(ctx, d.Check) })
	return g.Wait()
}
