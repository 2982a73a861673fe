package health

import (
	"context"
	"flag"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/parley-meet/parley/image/liveness"
)

// Idle is the program of a service that cannot be configured yet, with its
// arguments: it says so on its health socket and to PID 1, opens no port, and
// returns the exit code.
func Idle(service string, args []string) int {
	fs := flag.NewFlagSet(service, flag.ExitOnError)
	socket := fs.String("health", SocketPath(service), "unix `socket` of the health endpoint")
	fs.Parse(args)
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, nil)))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := idle(ctx, service, *socket); err != nil {
		slog.Error("stopped", "err", err)
		return 1
	}
	return 0
}

func idle(ctx context.Context, service, socket string) error {
	line, err := liveness.Open()
	if err != nil {
		return err
	}
	srv, err := Listen(socket, service)
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
