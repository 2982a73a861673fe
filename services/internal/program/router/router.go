// Package router is the program of mmr, the multimedia router (package mmr). On an
// appliance with a zone controller that one holds the membership in the zone, and
// the router has it from there; on one without it holds its own.
package router

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/parley-meet/parley/image/layout"
	"github.com/parley-meet/parley/services/internal/health"
	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/machine"
	"github.com/parley-meet/parley/services/internal/member"
	"github.com/parley-meet/parley/services/internal/mmr"
	"github.com/parley-meet/parley/services/internal/program/life"
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
	return life.Run(service, func(ctx context.Context, l *life.Life) error {
		return run(ctx, l, os.Getenv("PARLEY_ROLE"), *consoles, *controller)
	})
}

// zone is the membership that the router has, and what keeps it up.
type zone struct {
	member.Zone
	tasks []func(context.Context) error
}

func run(ctx context.Context, l *life.Life, role, consoles, controller string) error {
	readers, err := machine.Users(consoles)
	if err != nil {
		return fmt.Errorf("-consoles: %w", err)
	}
	peers, err := machine.Users(controller)
	if err != nil {
		return fmt.Errorf("-controller: %w", err)
	}
	var z zone
	if role == roleRouter {
		z, err = own(l, readers)
	} else {
		remote := member.Dial(filepath.Join(layout.ConnectorRunDir, member.SocketName), l.Log, peers...)
		z = zone{remote, []func(context.Context) error{remote.Run}}
	}
	if err != nil {
		return err
	}
	certs := &machine.Certificates{Dir: layout.ConnectorDir, Host: l.Host, State: z.State}
	cfg := mmr.ApplianceConfig{
		Zone: z, Version: machine.Version(), Host: l.Host, Certificate: certs.Get, Log: l.Log,
		Figures: filepath.Join(layout.RunDir, service, "metrics.sock"),
		Status:  func(status, detail string) { l.Answers.Set(word(z.State(), role, status), detail) },
	}
	if role != roleRouter {
		cfg.Handover = filepath.Join(layout.ConnectorRunDir, "handover.sock")
		for _, p := range peers {
			cfg.Peers = append(cfg.Peers, int(p))
		}
	}
	a, err := mmr.NewAppliance(cfg)
	if err != nil {
		return err
	}
	return l.Serve(ctx, a.Run, z.tasks...)
}

// own is the membership of an appliance that has no zone controller.
func own(l *life.Life, readers []uint32) (zone, error) {
	m, err := l.Member(service, link.Router, func(*link.Status) {})
	if err != nil {
		return zone{}, err
	}
	return zone{m, []func(context.Context) error{m.Run, func(ctx context.Context) error {
		return zonectl.Serve(ctx, zonectl.Socket(roleRouter), readers, zonectl.Answerer(m, nil), l.Log)
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
