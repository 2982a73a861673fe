// Package router is the program of mmr, the multimedia router (package mmr). On an
// appliance with a zone controller that one holds the membership in the zone, and
// the router has it from there; on one without it holds its own.
package router

import (
	"context"
	"crypto/x509"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/parley-meet/parley/image/layout"
	"github.com/parley-meet/parley/image/liveness"
	"github.com/parley-meet/parley/services/internal/health"
	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/machine"
	"github.com/parley-meet/parley/services/internal/member"
	"github.com/parley-meet/parley/services/internal/mmr"
	"github.com/parley-meet/parley/services/internal/netconfig"
	"github.com/parley-meet/parley/services/internal/trust"
	"github.com/parley-meet/parley/services/internal/zonectl"
)

const service = "mmr"

// roleRouter is the role of an appliance without a zone controller, as config.json
// spells it.
const roleRouter = "router"

// Main runs the program with its arguments and returns the exit code.
func Main(args []string) int {
	fs := flag.NewFlagSet("router", flag.ExitOnError)
	consoles := fs.String("consoles", "", "`users` of the consoles, who are answered")
	controller := fs.String("controller", "", "`user` of the zone controller of this machine")
	fs.Parse(args)
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	slog.SetDefault(log)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, log, os.Getenv("PARLEY_ROLE"), *consoles, *controller); err != nil {
		log.Error("stopped", "error", err)
		return 1
	}
	return 0
}

// zone is the membership that the router has, and what keeps it up.
type zone struct {
	member.Zone
	tasks []func(context.Context) error
}

func run(ctx context.Context, log *slog.Logger, role, consoles, controller string) error {
	readers, err := machine.Users(consoles)
	if err != nil {
		return fmt.Errorf("-consoles: %w", err)
	}
	peers, err := machine.Users(controller)
	if err != nil {
		return fmt.Errorf("-controller: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	line, err := liveness.Open()
	if err != nil {
		return err
	}
	answers, err := health.Listen(health.SocketPath(service), service)
	if err != nil {
		return err
	}
	var z zone
	if role == roleRouter {
		z, err = own(host, readers, log)
	} else {
		remote := member.Dial(filepath.Join(layout.ConnectorRunDir, member.SocketName), log, peers...)
		z = zone{remote, []func(context.Context) error{remote.Run}}
	}
	if err != nil {
		return err
	}
	certs := &machine.Certificates{Dir: layout.ConnectorDir, Host: host, State: z.State}
	cfg := mmr.ApplianceConfig{
		Zone: z, Version: machine.Version(), Host: host, Certificate: certs.Get, Log: log,
		Figures: filepath.Join(layout.RunDir, service, "metrics.sock"),
		Status:  func(status, detail string) { answers.Set(word(z.State(), role, status), detail) },
	}
	if role != roleRouter {
		cfg.Web = filepath.Join(layout.ConnectorRunDir, "whip.sock")
		cfg.Handover = filepath.Join(layout.ConnectorRunDir, "handover.sock")
		for _, p := range peers {
			cfg.Peers = append(cfg.Peers, int(p))
		}
	}
	a, err := mmr.NewAppliance(cfg)
	if err != nil {
		return err
	}
	// The membership outlives the router, whose last events the portal shall hear.
	served, ended := context.WithCancel(context.WithoutCancel(ctx))
	defer ended()
	g, lost := errgroup.WithContext(served)
	g.Go(func() error {
		defer ended()
		both, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(lost, cancel)()
		return a.Run(both)
	})
	for _, task := range z.tasks {
		g.Go(func() error { return task(lost) })
	}
	g.Go(func() error { return answers.Run(lost) })
	g.Go(func() error {
		if err := line.Ready(answers.Report().Line()); err != nil {
			return err
		}
		return line.Run(lost, answers.Check)
	})
	return g.Wait()
}

// own is the membership of an appliance that has no zone controller.
func own(host string, readers []uint32, log *slog.Logger) (zone, error) {
	m, err := member.New(member.Config{
		Role: link.Router, Host: host, Version: machine.Version(), Dir: machine.OwnDir(service), Settings: layout.ConnectorDir,
		Roots: func() *x509.CertPool {
			pool, err := trust.New(layout.ConnectorDir).Pool()
			if err != nil {
				log.Warn("authorities that were added", "error", err)
			}
			return pool
		},
		Proxy: netconfig.Through(netconfig.ProxyPath),
		Status: func() link.Status {
			s := link.Status{Addresses: machine.Addresses(), HTTPS: 443}
			s.Memory, s.MemoryTotal = machine.Memory()
			s.Synced = machine.Synced()
			return s
		},
		Log: log,
	})
	if err != nil {
		return zone{}, err
	}
	return zone{m, []func(context.Context) error{m.Run, func(ctx context.Context) error {
		return zonectl.Serve(ctx, zonectl.Socket(roleRouter), readers, zonectl.Answerer(m, nil), log)
	}}}, nil
}

// word puts how the router is into the words that the appliance's services have
// for it. Beside a zone controller it is never told of the token, and without one
// there is a zone all the same: none is that it is being enrolled.
func word(st member.State, role, status string) string {
	switch {
	case status != mmr.Waiting || st.Credentials != nil:
		return status
	case st.Settings.Token != "" || role != roleRouter:
		return "enrolling"
	}
	return health.NotConfigured
}
