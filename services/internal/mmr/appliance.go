package mmr

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/member"
)

// ApplianceConfig is what the router of an appliance works with. What
// administrators set comes by Zone.
type ApplianceConfig struct {
	Zone    member.Zone
	Version string // of the appliance
	Host    string // name of the machine
	// Certificate is what clients of the router's own 443 and of TURN are shown. It
	// is asked at each handshake, so a new one counts at once. It does not wait.
	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// Figures is a unix socket: GET /metrics for Prometheus, GET /meetings in JSON.
	// "": none.
	Figures string
	// Handover, of a controller VM where the controller has 443 of a shared address, is
	// a unix socket on which it hands over connections of ICE-TCP, and of TURN (see
	// TURNName) before their handshake. "": none.
	Handover string
	// Peers are the users who may connect to Handover; nil: all whom the socket's
	// folder lets through.
	Peers []int
	// Status gets how the router is when that has changed: one of Ready, Waiting and
	// Degraded, and a line for people. nil: nobody is told.
	Status func(status, detail string)
	Log    *slog.Logger

	// What tests and other machines have otherwise; zero: as on an appliance.
	Addresses  func() ([]netip.Addr, error) // of the machine, in the kernel's order
	Media      []uint16                     // UDP ports; nil: 8801 and 3478
	HTTPS      uint16                       // own, or of the controller with whom it is shared; 0: 443
	Bus        uint16                       // controllers' port; 0: 443
	Controller netip.Addr                   // of this machine's controller on the bus; zero: as Addresses say
	CPU        func() float64               // share of the processors in use; nil: measured
}

// How a router is.
const (
	Ready    = "ready"
	Waiting  = "waiting" // it is in no zone, or has no address
	Degraded = "degraded"
)

// Appliance is the router of an appliance. It takes part in the zone whose
// credentials its membership has, and begins anew with others.
type Appliance struct {
	cfg    ApplianceConfig
	status [2]string
}

// Times of an appliance.
const (
	lookEvery = 2 * time.Second // at the machine's addresses
	// partingTime is what the last words of a router have to reach pages.
	partingTime = 300 * time.Millisecond
)

// NewAppliance returns one. It starts nothing.
func NewAppliance(cfg ApplianceConfig) (*Appliance, error) {
	if cfg.Zone == nil || cfg.Certificate == nil || cfg.Log == nil {
		return nil, errors.New("router: zone, certificate and log are needed")
	}
	if cfg.Addresses == nil {
		cfg.Addresses = machineAddresses
	}
	if cfg.Media == nil {
		cfg.Media = mediaPorts
	}
	if cfg.HTTPS == 0 {
		cfg.HTTPS = httpsPort
	}
	return &Appliance{cfg: cfg}, nil
}

// Run serves until ctx ends: then its people are told to join again, at another
// router or at this one's next process, and it returns nil. An error is one that a
// restart alone may cure.
func (a *Appliance) Run(ctx context.Context) error {
	changed, stop := a.cfg.Zone.Watch()
	defer stop()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for ctx.Err() == nil {
		st := a.cfg.Zone.State()
		p, err := a.plan(st)
		switch {
		case st.Credentials == nil && st.Problem != nil:
			a.tell(Waiting, "not in a zone: "+st.Problem.Code)
		case st.Credentials == nil:
			a.tell(Waiting, "not in a zone yet")
		case err != nil:
			a.tell(Waiting, err.Error())
		case len(p.Media) == 0:
			a.tell(Waiting, "the machine has no address yet")
		default:
			if err := a.serve(ctx, st, p, changed, look.C); err != nil {
				return err
			}
			continue
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-look.C:
		}
	}
	return nil
}

// plan is where the router listens now.
func (a *Appliance) plan(st member.State) (plan, error) {
	machine, err := a.cfg.Addresses()
	if err != nil {
		return plan{}, err
	}
	return planFor(st, machine, a.cfg.Media, a.cfg.HTTPS), nil
}

// tell passes on how the router is, when that has changed.
func (a *Appliance) tell(status, detail string) {
	if a.status == [2]string{status, detail} {
		return
	}
	a.status = [2]string{status, detail}
	a.cfg.Log.Info("router", "status", status, "detail", detail)
	if a.cfg.Status != nil {
		a.cfg.Status(status, detail)
	}
}

// identity is what a router is in its zone: with another it begins anew.
type identity struct {
	zone, appliance string
	role            link.Role
}

func identify(c *link.Credentials) identity {
	if c == nil {
		return identity{}
	}
	return identity{c.Zone, c.Appliance, c.Role}
}

// serve takes part in one zone until ctx ends or the appliance is somebody else.
func (a *Appliance) serve(ctx context.Context, st member.State, p plan, changed <-chan struct{}, look <-chan time.Time) error {
	l, err := a.start(st, p)
	if err != nil {
		return err
	}
	sample := time.NewTicker(sampleEvery)
	defer sample.Stop()
	var before counted
	for identify(l.state().Credentials) == l.id {
		a.tell(l.status())
		select {
		case <-ctx.Done():
			return l.stop()
		case err := <-l.failed:
			return errors.Join(err, l.stop())
		case <-sample.C:
			l.metrics.sample(l.core.hall.Figures())
			before = l.report(before)
			continue
		case <-changed:
		case <-look:
		}
		l.follow(a.cfg.Zone.State())
	}
	a.cfg.Log.Info("router leaves the zone", "zone", l.id.zone, "appliance", l.id.appliance)
	return l.stop()
}

// hear is a listener of a port of the router's own.
func (l *live) hear(conn net.Listener) { l.core.work.Go(func() { l.core.accept(conn) }) }
