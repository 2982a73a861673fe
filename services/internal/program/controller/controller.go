// Package controller is the program of zctrl, the zone controller (package zctrl).
// It holds the appliance's membership in its zone too (package member), and tells
// the router of the same machine and the consoles of it.
package controller

import (
	"context"
	"crypto/x509"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/image/layout"
	"github.com/parley-meet/parley/image/liveness"
	"github.com/parley-meet/parley/services/internal/firewall"
	"github.com/parley-meet/parley/services/internal/health"
	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/machine"
	"github.com/parley-meet/parley/services/internal/meetpage"
	"github.com/parley-meet/parley/services/internal/member"
	"github.com/parley-meet/parley/services/internal/mmr"
	"github.com/parley-meet/parley/services/internal/netconfig"
	"github.com/parley-meet/parley/services/internal/trust"
	"github.com/parley-meet/parley/services/internal/zctrl"
	"github.com/parley-meet/parley/services/internal/zonectl"
)

const (
	service = "zctrl"
	port    = 443
)

// Main runs the program with its arguments and returns the exit code.
func Main(args []string) int {
	fs := flag.NewFlagSet("controller", flag.ExitOnError)
	consoles := fs.String("consoles", "", "`users` of the consoles, who are answered")
	router := fs.String("router", "", "`user` of the router of this machine")
	fs.Parse(args)
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	slog.SetDefault(log)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, log, *consoles, *router); err != nil {
		log.Error("stopped", "error", err)
		return 1
	}
	return 0
}

func run(ctx context.Context, log *slog.Logger, consoles, router string) error {
	readers, err := machine.Users(consoles)
	if err != nil {
		return fmt.Errorf("-consoles: %w", err)
	}
	peers, err := machine.Users(router)
	if err != nil {
		return fmt.Errorf("-router: %w", err)
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
	certs := &machine.Certificates{Dir: layout.ConnectorDir, Host: host}
	m, err := member.New(member.Config{
		Role: link.Controller, Host: host, Version: machine.Version(), Dir: machine.OwnDir(service), Settings: layout.ConnectorDir,
		Roots:  roots(log),
		Proxy:  netconfig.Through(netconfig.ProxyPath),
		Status: func() link.Status { return status(certs) },
		Log:    log,
	})
	if err != nil {
		return err
	}
	certs.State = m.State
	server, err := zctrl.New(zctrl.Config{
		Zone: m, Trials: m, Certificate: certs.Get, Log: log,
		Listen:    func() []netip.AddrPort { return listen(m.State()) },
		Page:      meetpage.New(meetpage.Config{Origins: func() []string { return origins(m.State()) }, Portal: func() string { return portal(m.State()) }, Log: log}),
		Router:    filepath.Join(layout.ConnectorRunDir, "whip.sock"),
		Handover:  filepath.Join(layout.ConnectorRunDir, "handover.sock"),
		Challenge: netip.AddrPortFrom(netip.IPv6Unspecified(), firewall.PortHTTP),
		TURN:      func() string { return turn(m.State()) },
		Metrics:   filepath.Join(layout.RunDir, service, "metrics.sock"),
		Health:    func(status, detail string) { answers.Set(word(m.State(), status), detail) },
	})
	if err != nil {
		return err
	}
	// The membership outlives the server, which tells pages to go on elsewhere.
	served, ended := context.WithCancel(context.WithoutCancel(ctx))
	g, lost := errgroup.WithContext(served)
	defer ended()
	g.Go(func() error {
		defer ended()
		both, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(lost, cancel)()
		return server.Run(both)
	})
	g.Go(func() error { return m.Run(lost) })
	g.Go(func() error { return m.Serve(lost, filepath.Join(layout.ConnectorRunDir, member.SocketName), peers...) })
	g.Go(func() error {
		return zonectl.Serve(lost, zonectl.Socket("controller"), readers, zonectl.Answerer(m, m), log)
	})
	g.Go(func() error { return answers.Run(lost) })
	g.Go(func() error {
		if err := line.Ready(answers.Report().Line()); err != nil {
			return err
		}
		return line.Run(lost, answers.Check)
	})
	return g.Wait()
}

// roots returns what the portal's certificate may chain to: the usual authorities
// and those that the administrator added.
func roots(log *slog.Logger) func() *x509.CertPool {
	return func() *x509.CertPool {
		pool, err := trust.New(layout.ConnectorDir).Pool()
		if err != nil {
			log.Warn("authorities that were added", "error", err)
		}
		return pool
	}
}

func listen(st member.State) (out []netip.AddrPort) {
	for _, a := range machine.Controller(st.Settings, machine.Addresses()) {
		out = append(out, netip.AddrPortFrom(a, port))
	}
	return out
}

func status(certs *machine.Certificates) link.Status {
	s := link.Status{Addresses: machine.Addresses(), HTTPS: port, Certificate: certs.Told(time.Now()),
		Services: []link.Service{{Name: service, State: string(control.StateReady)}}}
	s.Memory, s.MemoryTotal = machine.Memory()
	s.Synced = machine.Synced()
	return s
}

// portal is where people who are out go to join again.
func portal(st member.State) string {
	if st.Standalone || st.Config == nil {
		return ""
	}
	return st.Config.Portal
}

// origins are the zone's other controllers as browsers reach them.
func origins(st member.State) (out []string) {
	if st.Config == nil || st.Credentials == nil {
		return nil
	}
	for _, p := range st.Config.Appliances {
		if p.Role != link.Controller || p.ID == st.Credentials.Appliance {
			continue
		}
		switch {
		case p.PublicName != "":
			out = append(out, "https://"+p.PublicName)
		case len(p.Addresses) > 0:
			host := p.Addresses[0].String()
			if p.Addresses[0].Is6() {
				host = "[" + host + "]"
			}
			out = append(out, "https://"+host)
		}
	}
	return out
}

// turn is the server name of TURN over TLS at an address that the router shares
// with the controller. A router that has an address of its own offers no such name.
func turn(st member.State) string {
	name := st.Settings.PublicName
	if name == "" && st.Config != nil {
		name = st.Config.PublicName
	}
	if name == "" {
		return ""
	}
	return mmr.TURNName(name)
}

// word puts how the controller is into the words that the appliance's services
// have for it.
func word(st member.State, status string) string {
	switch {
	case status == "failing":
		return "degraded"
	case status != "waiting":
		return status
	case st.Credentials == nil && st.Settings.Token != "":
		return "enrolling"
	case st.Credentials == nil:
		return health.NotConfigured
	}
	return status
}
