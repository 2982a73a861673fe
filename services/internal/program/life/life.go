// Package life is what the programs of zctrl and mmr have in common: how they
// begin, answer PID 1 and the consoles, and end.
package life

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/parley-meet/parley/image/layout"
	"github.com/parley-meet/parley/image/liveness"
	"github.com/parley-meet/parley/services/internal/firewall"
	"github.com/parley-meet/parley/services/internal/health"
	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/machine"
	"github.com/parley-meet/parley/services/internal/member"
	"github.com/parley-meet/parley/services/internal/netconfig"
	"github.com/parley-meet/parley/services/internal/trust"
)

// Life is one of a process.
type Life struct {
	Log     *slog.Logger
	Host    string // name of the machine
	Answers *health.Server

	line *liveness.Line
}

// Run has f run until PID 1 ends the process, and returns the exit code.
func Run(service string, f func(context.Context, *Life) error) int {
	l := &Life{Log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	slog.SetDefault(l.Log)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	err := l.begin(service)
	if err == nil {
		err = f(ctx, l)
	}
	if err != nil {
		l.Log.Error("stopped", "error", err)
		return 1
	}
	return 0
}

func (l *Life) begin(service string) (err error) {
	if l.Host, err = os.Hostname(); err != nil {
		return fmt.Errorf("host name: %w", err)
	}
	if l.line, err = liveness.Open(); err != nil {
		return err
	}
	l.Answers, err = health.Listen(health.SocketPath(service), service)
	return err
}

// Member returns the machine's membership in a zone, kept in the service's own
// folder. more adds to what the portal is told of the machine.
func (l *Life) Member(service string, role link.Role, more func(*link.Status)) (*member.Member, error) {
	return member.New(member.Config{
		Role: role, Host: l.Host, Version: machine.Version(), Dir: machine.OwnDir(service), Settings: layout.ConnectorDir,
		Roots: func() *x509.CertPool {
			pool, err := trust.New(layout.ConnectorDir).Pool()
			if err != nil {
				l.Log.Warn("authorities that were added", "error", err)
			}
			return pool
		},
		Proxy: netconfig.Through(netconfig.ProxyPath),
		Status: func() link.Status {
			s := link.Status{Addresses: machine.Addresses(), HTTPS: firewall.PortHTTPS, Synced: machine.Synced()}
			s.Memory, s.MemoryTotal = machine.Memory()
			more(&s)
			return s
		},
		Log: l.Log,
	})
}

// Serve runs work until ctx ends, and the tasks until work has ended: what work
// says last, the membership still carries. The first error ends all.
func (l *Life) Serve(ctx context.Context, work func(context.Context) error, tasks ...func(context.Context) error) error {
	outlives, ended := context.WithCancel(context.WithoutCancel(ctx))
	defer ended()
	g, lost := errgroup.WithContext(outlives)
	g.Go(func() error {
		defer ended()
		both, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(lost, cancel)()
		return work(both)
	})
	for _, task := range append(tasks, l.Answers.Run, l.answer) {
		g.Go(func() error { return task(lost) })
	}
	return g.Wait()
}

// answer tells PID 1 that the process is ready, then that it lives.
func (l *Life) answer(ctx context.Context) error {
	if err := l.line.Ready(l.Answers.Report().Line()); err != nil {
		return err
	}
	return l.line.Run(ctx, l.Answers.Check)
}
