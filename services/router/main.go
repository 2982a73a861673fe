// Command router is mmr, the multimedia router. It has no configuration to
// read yet: it says so on its health socket, and opens no port.
package main

import (
	"context"
	"flag"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/parley-meet/parley/image/liveness"
	"github.com/parley-meet/parley/services/internal/health"
)

// service is the name that operators know.
const service = "mmr"

func main() {
	socket := flag.String("health", health.SocketPath(service), "unix `socket` of the health endpoint")
	flag.Parse()
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, nil)))

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, *socket); err != nil {
		slog.Error("stopped", "err", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, socket string) error {
	line, err := liveness.Open()
	if err != nil {
		return err
	}
	srv, err := health.Listen(socket, service)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return srv.Run(ctx) })
	g.Go(func() error {
		if err := line.Ready(srv.Report().Line()); err != nil {
			return err
		}
		return line.Run(ctx, srv.Check)
	})
	return g.Wait()
}
