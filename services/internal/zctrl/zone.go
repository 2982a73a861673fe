package zctrl

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/parley-meet/parley/services/internal/bus"
	"github.com/parley-meet/parley/services/internal/bus/hub"
	"github.com/parley-meet/parley/services/internal/bus/placement"
	"github.com/parley-meet/parley/services/internal/carrier"
	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/member"
	"github.com/parley-meet/parley/services/internal/signal"
	"github.com/parley-meet/parley/services/internal/ticket"
)

const (
	// settleTime is how long after its start a controller waits for routers that it
	// has not heard, before it places a meeting that may run at one of them.
	settleTime = 2*placement.Every + time.Second
	// patience is how long a page waits for a router to be there. It is shorter than
	// signal.Silence.
	patience = 10 * time.Second
	// findTime is how long a router may take to say that a meeting runs.
	findTime = placement.Every + time.Second
	// placedFor is how long a place counts before its router says that the meeting
	// runs there.
	placedFor = 10 * time.Second
	maxPlaced = 4096
	// expected is how many participants a new meeting is given room for.
	expected = 20
	poll     = 50 * time.Millisecond
)

// zone is a controller's part of a zone. Another one takes its place when the
// appliance goes into another zone.
type zone struct {
	s       *Server
	self    bus.Peer
	id      string
	hub     *hub.Hub
	conn    *bus.Conn
	view    *placement.View
	carrier *carrier.Controller
	born    time.Time

	stopCarrier, stopBus func() // wait

	mu        sync.Mutex
	issuer    string // of tickets
	keys      ticket.Set
	hosts     map[string]bool // of the zone's controllers
	appliance []link.Peer
	placed    map[string]placed
}

// placed is where this controller has put a meeting of which its router has not
// said yet that it runs.
type placed struct {
	at   placement.Place
	when time.Time
}

// follow keeps the zone as the membership says, until ctx ends.
func (s *Server) follow(ctx context.Context) {
	changed, stop := s.cfg.Zone.Watch()
	defer stop()
	for {
		s.enter(s.cfg.Zone.State())
		s.tell()
		select {
		case <-changed:
		case <-ctx.Done():
			if z := s.swap(nil); z != nil {
				z.stop()
			}
			return
		}
	}
}

func (s *Server) swap(z *zone) (before *zone) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, s.zone = s.zone, z
	return before
}

// enter goes into the zone of a state, or tells the one before what is new.
func (s *Server) enter(st member.State) {
	z := s.current()
	if z != nil && (st.Credentials == nil || st.Credentials.Zone != z.id || st.Credentials.Appliance != z.self.ID) {
		s.log.Info("out of the zone", "zone", z.id)
		s.swap(nil)
		s.closePages(func(p *page) bool { return p.zone == z }, "another zone")
		z.stop()
		z = nil
	}
	if st.Credentials == nil {
		return
	}
	view, err := bus.NewZone(*st.Credentials, st.Config)
	if err != nil {
		s.log.Error("zone", "error", err)
		return
	}
	if z == nil {
		if z, err = s.newZone(*st.Credentials, view); err != nil {
			s.log.Error("zone", "zone", st.Credentials.Zone, "error", err)
			return
		}
		z.tell(st)
		s.swap(z)
		s.log.Info("in the zone", "zone", z.id, "appliance", z.self.ID)
		return
	}
	z.hub.SetZone(view)
	z.conn.SetZone(view)
	z.view.SetZone(view)
	z.tell(st)
}

// newZone starts a zone's bus.
func (s *Server) newZone(first link.Credentials, view bus.Zone) (*zone, error) {
	z := &zone{s: s, id: first.Zone, born: time.Now(), placed: map[string]placed{}}
	credentials := func() link.Credentials {
		if c := s.cfg.Zone.State().Credentials; c != nil && c.Zone == first.Zone && c.Appliance == first.Appliance {
			return *c // it may have been renewed
		}
		return first
	}
	var err error
	if z.hub, err = hub.New(hub.Config{Credentials: credentials, Log: s.log}, view); err != nil {
		return nil, err
	}
	if z.conn, err = bus.New(bus.Config{Credentials: credentials, Local: z.hub.Dial, Port: s.cfg.Port, Log: s.log}, view); err != nil {
		return nil, err
	}
	z.self = z.conn.Self()
	z.view = placement.NewView(s.log)
	z.carrier = carrier.NewController(carrier.ControllerConfig{Bus: z.conn, Log: s.log})
	z.conn.Subscribe(placement.Topic, z.view.Hear)
	z.conn.Subscribe(carrier.Topic, z.carrier.Hear)

	z.stopCarrier = running(func(ctx context.Context) error {
		var work sync.WaitGroup
		work.Go(func() { _ = z.view.Run(ctx) })
		work.Go(func() { z.watch(ctx) })
		work.Go(func() { z.attend(ctx) })
		err := z.carrier.Run(ctx)
		work.Wait()
		return err
	}, s.failed("carrier"))
	stopHub := running(z.hub.Run, s.failed("bus"))
	stopConn := running(z.conn.Run, s.failed("bus"))
	z.stopBus = func() {
		stopHub()
		stopConn()
	}
	return z, nil
}

func (s *Server) failed(what string) func(error) {
	return func(err error) { s.log.Error(what, "error", err) }
}

// running runs f until what it returns is called, which waits for it.
func running(f func(context.Context) error, failed func(error)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := f(ctx); err != nil {
			failed(err)
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

func (z *zone) stop() {
	z.stopCarrier()
	z.stopBus()
}

// tell takes what the portal has told.
func (z *zone) tell(st member.State) {
	keys, err := st.Keys()
	if err != nil {
		z.s.log.Error("keys of tickets", "error", err)
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	z.issuer, z.keys = st.Issuer(), keys
	z.appliance, z.hosts = nil, map[string]bool{}
	if st.Config == nil {
		return
	}
	z.appliance = st.Config.Appliances
	for _, p := range st.Config.Appliances {
		if p.Role != link.Controller {
			continue
		}
		for _, a := range p.Addresses {
			z.hosts[strings.ToLower(a.String())] = true
		}
		z.hosts[strings.ToLower(p.PublicName)] = p.PublicName != ""
	}
}

// trusts reports whether it is known who signs the zone's tickets.
func (z *zone) trusts() bool {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.issuer != ""
}

// has reports whether a host is one of the zone's controllers.
func (z *zone) has(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.hosts[host]
}

// live are the routers that are heard.
func (z *zone) live() map[string]bool {
	now, out := time.Now(), map[string]bool{}
	for _, r := range z.view.Routers() {
		if !r.Silent(now) {
			out[r.ID] = true
		}
	}
	return out
}

// settled reports whether the routers have had time to say what they run.
func (z *zone) settled(now time.Time) bool {
	if now.Sub(z.born) >= settleTime {
		return true
	}
	live := z.live()
	z.mu.Lock()
	defer z.mu.Unlock()
	for _, p := range z.appliance {
		if !live[p.ID] {
			return false
		}
	}
	return len(z.appliance) > 0
}

// errAway is of a meeting that cannot be found or placed now.
var errAway = errors.New("the meeting's router is not known")

// refusal is a code that a page is told.
type refusal signal.Code

func (r refusal) Error() string { return string(r) }

// find returns where a session's meeting runs. It waits while the controller is
// new, and for a meeting that has begun a moment ago.
func (z *zone) find(ctx context.Context, meeting string) (placement.Place, error) {
	limit := time.Now().Add(findTime)
	for {
		if p, ok := z.view.Find(meeting); ok {
			return p, nil
		}
		now := time.Now()
		if p, ok := z.lately(meeting, now); ok {
			return p, nil
		}
		if z.settled(now) && (z.carrier.Knows(meeting) || now.After(limit)) {
			if len(z.live()) == 0 {
				return placement.Place{}, errAway
			}
			return placement.Place{}, refusal(signal.Unknown) // its router is lost
		}
		select {
		case <-ctx.Done():
			return placement.Place{}, errAway
		case <-time.After(poll):
		}
	}
}

// place returns where a meeting is to begin, or runs. It waits for a router for
// patience.
func (z *zone) place(ctx context.Context, meeting string) (placement.Place, error) {
	limit := time.Now().Add(patience)
	for {
		if p, ok := z.view.Find(meeting); ok {
			return p, nil
		}
		now := time.Now()
		if z.settled(now) {
			p, err := z.put(meeting, now)
			switch {
			case err == nil:
				return p, nil
			case errors.Is(err, placement.ErrFull):
				return placement.Place{}, refusal(signal.Full)
			case now.After(limit):
				return placement.Place{}, refusal(signal.NoRouter)
			}
		}
		select {
		case <-ctx.Done():
			return placement.Place{}, errAway
		case <-time.After(poll):
		}
	}
}

// put chooses a router for a meeting, the same one for all who come until it says
// that the meeting runs.
func (z *zone) put(meeting string, now time.Time) (placement.Place, error) {
	if at, ok := z.lately(meeting, now); ok {
		return at, nil
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	at, err := z.view.Place(meeting, expected)
	if err != nil {
		return at, err
	}
	z.s.log.Info("meeting placed", "meeting", meeting, "router", at.Router)
	if len(z.placed) < maxPlaced {
		z.placed[meeting] = placed{at, now}
	}
	return at, nil
}

// lately returns where this controller has placed a meeting.
func (z *zone) lately(meeting string, now time.Time) (placement.Place, bool) {
	live := z.live()
	z.mu.Lock()
	defer z.mu.Unlock()
	for id, p := range z.placed {
		if now.Sub(p.when) > placedFor || !live[p.at.Router] {
			delete(z.placed, id)
		}
	}
	p, ok := z.placed[meeting]
	return p.at, ok
}

// verify returns the meeting that a ticket or pass lets into. While the controller
// is new it waits for what routers say of their passes.
func (z *zone) verify(ctx context.Context, text string) (string, error) {
	for {
		z.mu.Lock()
		issuer, keys := z.issuer, z.keys
		z.mu.Unlock()
		if issuer == "" {
			return "", errAway
		}
		now := time.Now()
		c, err := ticket.Verify(text, keys, ticket.Expect{Issuer: issuer, Zone: z.id}, now)
		if errors.Is(err, ticket.ErrKey) {
			c, err = z.carrier.VerifyPass(text, z.id)
			if errors.Is(err, ticket.ErrKey) && now.Sub(z.born) < settleTime {
				select {
				case <-ctx.Done():
					return "", errAway
				case <-time.After(poll):
				}
				continue
			}
		}
		if err != nil {
			z.s.strangers.Line(0, "ticket refused", "error", err)
			return "", refusal(signal.BadTicket)
		}
		return c.Meeting.ID, nil
	}
}
