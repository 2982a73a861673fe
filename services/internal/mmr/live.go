package mmr

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parley-meet/parley/internal/localsocket"
	"github.com/parley-meet/parley/services/internal/bus"
	"github.com/parley-meet/parley/services/internal/bus/placement"
	"github.com/parley-meet/parley/services/internal/carrier"
	"github.com/parley-meet/parley/services/internal/hall"
	"github.com/parley-meet/parley/services/internal/handover"
	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/meeting"
	"github.com/parley-meet/parley/services/internal/member"
	"github.com/parley-meet/parley/services/internal/sfu/sdp"
	"github.com/parley-meet/parley/services/internal/sfu/wire"
	"github.com/parley-meet/parley/services/internal/signal"
	"github.com/parley-meet/parley/services/internal/ticket"
)

// quietCPU is the most that a router with few participants says of its processors:
// they are not what makes the machine busy, and a zone's only router takes its
// first meeting however slow the machine is.
const quietCPU = 0.6

// live is a router that takes part in a zone.
type live struct {
	a       *Appliance
	log     *slog.Logger
	id      identity
	ports   *ports
	core    *core
	conn    *bus.Conn
	carried *carrier.Router
	tells   *placement.Announcer
	events  *events
	metrics *metrics
	cpu     *cpu
	figures *http.Server
	taken   *handover.Listener

	now    atomic.Pointer[member.State]
	trust  atomic.Pointer[trusted]
	cred   atomic.Pointer[link.Credentials]
	failed chan error
	last   []sdp.Candidate // that pages were given

	stopAnnouncing, stopWork context.CancelFunc
	announcing, work         sync.WaitGroup
}

// trusted is whose tickets are taken.
type trusted struct {
	issuer string
	keys   ticket.Set
}

func (l *live) state() member.State { return *l.now.Load() }

// start opens ports and joins the zone.
func (a *Appliance) start(st member.State, p plan) (*live, error) {
	l := &live{a: a, log: a.cfg.Log, id: identify(st.Credentials), failed: make(chan error, 8), cpu: newCPU()}
	if a.cfg.CPU != nil {
		l.cpu = nil
	}
	l.ports = newPorts(l.log)
	l.keep(st)
	zone, err := l.zone(st, p)
	if err != nil {
		return nil, err
	}
	if l.conn, err = bus.New(bus.Config{Credentials: func() link.Credentials { return *l.cred.Load() }, Role: link.Router, Port: a.cfg.Bus, Log: l.log}, zone); err != nil {
		return nil, err
	}
	l.events = newEvents(a.cfg.Zone.Event, l.log)
	l.carried = carrier.NewRouter(carrier.RouterConfig{
		Bus:     l.conn,
		Meet:    func(m carrier.Meet) { l.core.hall.Expect(m.Meeting, m.Epoch, m.Kept) },
		Receive: func(id signal.Link, b []byte) { l.core.hall.Receive(id, b) },
		Cut:     func(id signal.Link) { l.core.hall.Cut(id) },
		End:     func(id string, epoch uint64) { l.core.hall.Yield(id, epoch) },
		Web:     http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { l.core.whip.ServeHTTP(w, r) }),
		Log:     l.log,
	})
	l.tells = placement.NewAnnouncer(l.conn, l.announcement, l.log)
	pass, err := meeting.NewPassKey()
	if err != nil {
		return nil, err
	}
	// Ports are opened before anybody is told of them.
	l.core, err = newCore(l.ports.mux, hall.Config{
		Zone:    l.id.zone,
		Limit:   st.Settings.Participants(),
		Trust:   func() (string, ticket.Set) { t := l.trust.Load(); return t.issuer, t.keys },
		PassKey: pass,
		Placed:  true,
		Busy:    l.busy,
		Changed: l.tells.Changed,
		Began:   l.began,
		Over:    l.over,
		Keep:    l.kept,
	}, setup{
		Candidates:  l.ports.candidates,
		Router:      p.addresses(),
		Certificate: a.cfg.Certificate,
		Relay:       l.relay,
		Carried:     l.carried.Write,
	}, l.log)
	if err != nil {
		return nil, errors.Join(err, l.ports.close())
	}
	l.metrics = newMetrics(sources{load: l.core.hall.Load, media: l.core.hall.Totals, wire: l.ports.mux.Totals, turn: l.core.turn.Allocations, carried: l.carried.Counts, cpu: l.share})
	l.ports.apply(p, l.hear)
	l.last = l.ports.candidates()
	if err := l.open(); err != nil {
		return nil, errors.Join(err, l.stop())
	}
	l.run()
	l.log.Info("router runs", "zone", l.id.zone, "appliance", l.id.appliance, "media", p.Media, "https", p.Web, "candidates", len(l.last))
	return l, nil
}

// open makes the sockets of this machine's other processes.
func (l *live) open() error {
	cfg := l.a.cfg
	if cfg.Figures != "" {
		in, err := localsocket.Listen(cfg.Figures, localsocket.KeepGroup)
		if err != nil {
			return fmt.Errorf("figures at %s: %w", cfg.Figures, err)
		}
		l.figures = l.core.server(l.metrics.handler(l.core.hall.Figures, l.log))
		l.core.work.Go(func() { l.http(l.figures, in) })
	}
	if cfg.Handover != "" {
		l.taken = handover.New(&net.TCPAddr{})
		l.hear(l.taken)
	}
	return nil
}

func (l *live) http(s *http.Server, in net.Listener) {
	if err := s.Serve(in); !errors.Is(err, http.ErrServerClosed) {
		l.fail(err)
	}
}

// run starts what runs until stop.
func (l *live) run() {
	announcing, stopAnnouncing := context.WithCancel(context.Background())
	work, stopWork := context.WithCancel(context.Background())
	l.stopAnnouncing, l.stopWork = stopAnnouncing, stopWork
	l.announcing.Go(func() { l.fail(l.tells.Run(announcing)) })
	l.work.Go(func() { l.fail(l.conn.Run(work)) })
	l.conn.Subscribe(carrier.Topic, l.carried.Hear)
	l.work.Go(func() { l.fail(l.carried.Run(work)) })
	l.work.Go(func() { l.events.run(work) })
	if l.cpu != nil {
		l.work.Go(func() { l.cpu.run(work) })
	}
	if l.taken != nil {
		l.work.Go(func() { l.fail(handover.Receive(work, l.a.cfg.Handover, l.a.cfg.Peers, l.taken, l.log)) })
	}
}

// fail ends the router with an error.
func (l *live) fail(err error) {
	if err == nil {
		return
	}
	select {
	case l.failed <- err:
	default:
	}
}

// stop leaves the zone: meetings go elsewhere, and the people of this router are
// told. Where there is no other one they come back to its next process.
func (l *live) stop() error {
	l.core.hall.Drain()
	if l.stopAnnouncing != nil {
		// Controllers must know that nothing is placed here before people ask them.
		l.stopAnnouncing()
		l.announcing.Wait()
	}
	l.core.hall.End(signal.Moved)
	if l.stopWork != nil {
		time.Sleep(partingTime)
		l.stopWork()
	}
	if l.taken != nil {
		l.taken.Close()
	}
	if l.figures != nil {
		l.figures.Close()
	}
	l.work.Wait()
	// Listeners first: what they accept is served by the core.
	return errors.Join(l.ports.closeWeb(), l.core.end(signal.Moved), l.ports.mux.Close())
}

// keep takes what the membership knows now.
func (l *live) keep(st member.State) {
	l.now.Store(&st)
	if st.Credentials != nil {
		l.cred.Store(st.Credentials)
	}
	keys, err := st.Keys()
	if err != nil {
		l.log.Error("keys of tickets", "error", err)
		if l.trust.Load() != nil {
			return // those before hold
		}
		keys = ticket.Set{}
	}
	l.trust.Store(&trusted{st.Issuer(), keys})
}

// follow goes on with what the membership and the machine are now.
func (l *live) follow(st member.State) {
	l.keep(st)
	if identify(st.Credentials) != l.id {
		return // serve ends
	}
	l.core.hall.SetLimit(st.Settings.Participants())
	p, err := l.a.plan(st)
	if err != nil {
		l.log.Warn("addresses", "error", err)
		return
	}
	if zone, err := l.zone(st, p); err != nil {
		l.log.Error("zone", "error", err)
	} else {
		l.conn.SetZone(zone)
	}
	if len(p.Media) == 0 {
		return // a lease that is renewed: what is open may come back
	}
	if !l.ports.apply(p, l.hear) {
		return
	}
	if err := l.core.turn.SetRouter(p.addresses()); err != nil {
		l.log.Error("turn", "error", err)
	}
	l.tells.Changed()
	if now := l.ports.candidates(); !slices.Equal(now, l.last) {
		l.last = now
		l.log.Info("clients reach the router by other addresses", "candidates", len(now))
		l.core.hall.Restart()
	}
}

// zone is who belongs to the zone, with the way to this machine's own controller,
// which the portal knows only when it has been linked.
func (l *live) zone(st member.State, p plan) (bus.Zone, error) {
	z, err := bus.NewZone(*st.Credentials, st.Config)
	if err != nil || st.Credentials.Role != link.Controller || z.Appliances == nil {
		return z, err
	}
	at := l.a.cfg.Controller
	if !at.IsValid() {
		at = p.Controller
	}
	for i := range z.Appliances {
		if z.Appliances[i].ID == st.Credentials.Appliance && at.IsValid() {
			z.Appliances[i].Addresses = []netip.Addr{at}
		}
	}
	return z, nil
}

// relay is how clients reach TURN, nil if they do not.
func (l *live) relay(user, password string) *signal.Relay {
	st := l.state()
	public := st.Settings.PublicName
	if public == "" && st.Config != nil {
		public = st.Config.PublicName
	}
	p, _, _ := l.ports.now()
	host := turnHost(public, p.TURN.Addr(), len(p.Web) == 0, l.a.cfg.Certificate)
	if host == "" {
		return nil
	}
	return turns(host, p.TURN.Port(), user, password)
}

func (l *live) began(r hall.Run) {
	l.metrics.began.Inc()
	l.events.add(eventStarted, started{Meeting: r.Meeting, Run: r.ID, Started: r.Began, Again: r.Again})
}

// over tells the portal of a meeting that has ended; one that goes on elsewhere has
// not.
func (l *live) over(r hall.Run, why signal.Code, told meeting.Report) {
	if why != signal.Moved {
		l.events.add(eventEnded, report(r, why, told))
	}
}

func (l *live) kept(id string, epoch uint64, k *meeting.Kept) {
	if k == nil {
		l.carried.Over(id, epoch)
		return
	}
	if err := l.carried.Keep(id, epoch, *k); err != nil {
		l.log.Warn("not kept for another router", "meeting", id, "error", err)
	}
}

func (l *live) share() float64 {
	if l.cpu == nil {
		return l.a.cfg.CPU()
	}
	return l.cpu.share()
}

func (l *live) busy() bool {
	if l.cpu == nil {
		return l.a.cfg.CPU() > busyAbove
	}
	return l.cpu.busy.Load()
}

// announcement is what controllers hear of this router.
func (l *live) announcement() placement.Announcement {
	load := l.core.hall.Load()
	p, _, _ := l.ports.now()
	a := placement.Announcement{
		Version: l.a.cfg.Version, Host: l.a.cfg.Host, Addresses: p.addresses(),
		Limit: load.Limit, Participants: load.Participants, CPU: min(max(l.share(), 0), 1), Draining: load.Draining,
	}
	if len(a.Addresses) > placement.MaxAddresses {
		a.Addresses = a.Addresses[:placement.MaxAddresses]
	}
	if load.Participants < hall.BusyFrom {
		a.CPU = min(a.CPU, quietCPU)
	}
	for _, m := range load.Meetings {
		a.Meetings = append(a.Meetings, placement.Meeting{ID: m.ID, Epoch: m.Epoch, Participants: m.Participants})
	}
	return a
}

// status is how the router is, for people.
func (l *live) status() (status, detail string) {
	_, _, problems := l.ports.now()
	connected := 0
	servers := l.conn.Servers()
	for _, s := range servers {
		if s.Connected {
			connected++
		}
	}
	load := l.core.hall.Load()
	switch {
	case len(problems) > 0:
		return Degraded, strings.Join(problems, "; ")
	case connected == 0:
		return Degraded, fmt.Sprintf("none of %d controllers of the zone is reached", len(servers))
	case load.Full:
		return Ready, fmt.Sprintf("full: %d of %d participants", load.Participants, load.Limit)
	}
	return Ready, fmt.Sprintf("%d meetings", len(load.Meetings))
}

// counted is what the last report was made of.
type counted struct {
	at    time.Time
	wire  wire.Totals
	peaks map[string]int // most participants that the portal was told of, by run
}

// report tells the membership what the router does, for the portal, and the portal
// of meetings that have grown.
func (l *live) report(before counted) counted {
	now := counted{time.Now(), l.ports.mux.Totals(), map[string]int{}}
	load := l.core.hall.Load()
	for _, m := range load.Meetings {
		peak := before.peaks[m.Run]
		if m.Participants > peak {
			peak = m.Participants
			l.events.add(eventParticipants, participants{m.ID, m.Run, peak})
		}
		now.peaks[m.Run] = peak
	}
	_, open, _ := l.ports.now()
	u := member.Usage{Meetings: len(load.Meetings), Participants: load.Participants, Limit: load.Limit, CPU: min(max(l.share(), 0), 1), Media: open}
	if d := now.at.Sub(before.at).Seconds(); !before.at.IsZero() && d > 0 {
		u.SendBits = int64(float64(now.wire.SentBytes-before.wire.SentBytes) * 8 / d)
		u.ReceiveBits = int64(float64(now.wire.ReceivedBytes-before.wire.ReceivedBytes) * 8 / d)
	}
	l.a.cfg.Zone.Report(u)
	return now
}
