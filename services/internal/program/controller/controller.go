// Package controller is the program of zctrl, the zone controller (package zctrl).
// It holds the appliance's membership in its zone too (package member), and tells
// the router of the same machine and the consoles of it.
package controller

import (
	"context"
	"flag"
	"fmt"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/image/layout"
	"github.com/parley-meet/parley/services/internal/firewall"
	"github.com/parley-meet/parley/services/internal/health"
	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/machine"
	"github.com/parley-meet/parley/services/internal/meetpage"
	"github.com/parley-meet/parley/services/internal/member"
	"github.com/parley-meet/parley/services/internal/mmr"
	"github.com/parley-meet/parley/services/internal/program/life"
	"github.com/parley-meet/parley/services/internal/zctrl"
	"github.com/parley-meet/parley/services/internal/zonectl"
)

const service = "zctrl"

// Main runs the program with its arguments and returns the exit code.
func Main(args []string) int {
	fs := flag.NewFlagSet("controller", flag.ExitOnError)
	consoles := fs.String("consoles", "", "`users` of the consoles, who are answered")
	router := fs.String("router", "", "`user` of the router of this machine")
	fs.Parse(args)
	return life.Run(service, func(ctx context.Context, l *life.Life) error { return run(ctx, l, *consoles, *router) })
}

func run(ctx context.Context, l *life.Life, consoles, router string) error {
	readers, err := machine.Users(consoles)
	if err != nil {
		return fmt.Errorf("-consoles: %w", err)
	}
	peers, err := machine.Users(router)
	if err != nil {
		return fmt.Errorf("-router: %w", err)
	}
	certs := &machine.Certificates{Dir: layout.ConnectorDir, Host: l.Host}
	m, err := l.Member(service, link.Controller, func(s *link.Status) {
		s.Certificate = certs.Told(time.Now())
		s.Services = []link.Service{{Name: service, State: string(control.StateReady)}}
	})
	if err != nil {
		return err
	}
	certs.State = m.State
	server, err := zctrl.New(zctrl.Config{
		Zone: m, Trials: m, Certificate: certs.Get, Log: l.Log,
		Listen:    func() []netip.AddrPort { return listen(m.State()) },
		Page:      meetpage.New(meetpage.Config{Origins: func() []string { return origins(m.State()) }, Portal: func() string { return portal(m.State()) }, Log: l.Log}),
		Handover:  filepath.Join(layout.ConnectorRunDir, "handover.sock"),
		Challenge: netip.AddrPortFrom(netip.IPv6Unspecified(), firewall.PortHTTP),
		TURN:      func() string { return turn(m.State()) },
		Metrics:   filepath.Join(layout.RunDir, service, "metrics.sock"),
		Health:    func(status, detail string) { l.Answers.Set(word(m.State(), status), detail) },
	})
	if err != nil {
		return err
	}
	return l.Serve(ctx, server.Run,
		m.Run,
		func(ctx context.Context) error {
			return m.Serve(ctx, filepath.Join(layout.ConnectorRunDir, member.SocketName), peers...)
		},
		func(ctx context.Context) error {
			return zonectl.Serve(ctx, zonectl.Socket("controller"), readers, zonectl.Answerer(m, m), l.Log)
		})
}

func listen(st member.State) (out []netip.AddrPort) {
	for _, a := range machine.Controller(st.Settings, machine.Addresses()) {
		out = append(out, netip.AddrPortFrom(a, firewall.PortHTTPS))
	}
	return out
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
