package live

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/portal/store"
)

// Topics of notes.
const (
	// TopicState says that states were written: whoever shows some looks again.
	TopicState = "live-state"
	// topicHere says which instance holds an appliance's link now; another one
	// that had it before gives it up. The payload is "APPLIANCE INSTANCE SINCE",
	// the time in ms.
	topicHere = "live-here"
)

// Bounds and times of the server's side.
const (
	maxLinks = 5000 // of an instance
	// flushEvery gathers what is written: one transaction for all that changed.
	flushEvery = time.Second
	// lookEvery is how often everything is looked at without being told: notes
	// may be lost.
	lookEvery = 20 * time.Second
)

// Events takes what appliances tell, in the transaction in which their number is
// taken: neither is there without the other.
type Events interface {
	HandleEvent(tx *store.Tx, from Identity, e link.Event) error
}

// Config is what a Service works with.
type Config struct {
	DB        *store.DB
	Directory Directory
	Events    []Events
	// Revoked and Changed are the topics by which the directory tells that an
	// appliance (its id) or a zone's configuration (its id) is another one.
	Revoked, Changed string
	Now              func() time.Time // nil: time.Now
	Log              *slog.Logger
}

// Service is the server's side of all links, and what is known of them. Its
// methods are safe for concurrent use.
type Service struct {
	cfg      Config
	instance string
	now      func() time.Time
	gate     gate
	notes    atomic.Uint64 // that were heard of who may be linked, and of configurations

	mu       sync.Mutex
	conns    map[string]*conn // by appliance
	dirty    map[string]State // to be written
	here     map[string]bool  // new connections to be told of
	zones    map[string]bool  // of which appliances' addresses are others
	stopping bool
	wg       sync.WaitGroup // connections
}

// New returns a service.
func New(cfg Config) *Service {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Service{cfg: cfg, instance: store.NewID(), now: cfg.Now, gate: newGate(),
		conns: map[string]*conn{}, dirty: map[string]State{}, here: map[string]bool{}, zones: map[string]bool{}}
}

// Links returns how many appliances are linked to this instance.
func (s *Service) Links() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Run carries the service's tasks out until ctx ends. Then it sends the
// appliances away, to come back spread over some seconds, to whichever instance
// there is.
func (s *Service) Run(ctx context.Context) error {
	// Who is to go goes at once: that does not wait for configurations, which are
	// many when something changed.
	gone, changed := s.cfg.DB.Subscribe(s.cfg.Revoked, topicHere), s.cfg.DB.Subscribe(s.cfg.Changed)
	defer gone.Close()
	defer changed.Close()
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.listen(gctx, gone) })
	g.Go(func() error { return s.listen(gctx, changed) })
	g.Go(func() error { return every(gctx, flushEvery, s.flush) })
	g.Go(func() error { return every(gctx, lookEvery, func(ctx context.Context) { s.look(ctx, nil) }) })
	g.Go(func() error { return every(gctx, alertEvery, s.alerts) })
	g.Go(func() error { return every(gctx, sampleEvery, s.sample) })
	g.Go(func() error { return every(gctx, thinEvery, s.thin) })
	err := g.Wait()
	s.stop()
	// What was heard last is written all the same.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	s.flush(last)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// every calls f until ctx ends.
func every(ctx context.Context, d time.Duration, f func(context.Context)) error {
	t := time.NewTicker(d)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			f(ctx)
		case <-ctx.Done():
			return nil
		}
	}
}

func (s *Service) listen(ctx context.Context, sub *store.Subscription) error {
	zones := map[string]bool{} // to look at: one whose account changes it all the time is looked at once
	hear := func(n store.Note) {
		if n.Topic != topicHere {
			s.notes.Add(1)
		}
		switch n.Topic {
		case topicHere:
			s.elsewhere(n.Payload)
		case s.cfg.Revoked:
			s.look(ctx, func(c *conn) bool { return c.id.Appliance == n.Payload })
		case s.cfg.Changed:
			zones[n.Payload] = true
		case store.TopicAll:
			s.look(ctx, nil)
		}
	}
	for {
		select {
		case n := <-sub.C:
			hear(n)
		case <-ctx.Done():
			return nil
		}
		for len(zones) > 0 {
			for more := true; more; {
				select {
				case n := <-sub.C:
					hear(n)
				default:
					more = false
				}
			}
			for zone := range zones {
				delete(zones, zone)
				s.look(ctx, func(c *conn) bool { return c.id.Zone == zone })
				if ctx.Err() != nil {
					return nil
				}
			}
		}
	}
}

// pick returns the connections that want says; nil is all.
func (s *Service) pick(want func(*conn) bool) []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*conn
	for _, c := range s.conns {
		if want == nil || want(c) {
			out = append(out, c)
		}
	}
	return out
}

// look sends away who may not be linked any more, and gives the others their
// configuration when it is another one.
func (s *Service) look(ctx context.Context, want func(*conn) bool) {
	for _, c := range s.pick(want) {
		cfg, err := s.cfg.Directory.Config(ctx, c.id.Appliance)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, ErrRevoked):
			c.end(link.Bye{Why: link.WhyRevoked})
		case errors.Is(err, ErrDisabled):
			c.end(link.Bye{Why: link.WhyDisabled})
		case err != nil:
			s.cfg.Log.Error("configuration of an appliance", "appliance", c.id.Appliance, "error", err)
		default:
			c.configure(cfg)
		}
	}
}

// elsewhere ends the connection of an appliance that has come to another instance
// since. A note is as old as a flush: the appliance may have come back here.
func (s *Service) elsewhere(payload string) {
	var appliance, instance string
	var at int64
	if _, err := fmt.Sscan(payload, &appliance, &instance, &at); err != nil || instance == s.instance {
		return
	}
	for _, c := range s.pick(func(c *conn) bool { return c.id.Appliance == appliance }) {
		// Of two in the same millisecond both instances choose the same one.
		if mine := store.Millis(c.since); mine < at || mine == at && s.instance < instance {
			c.end(link.Bye{Why: link.WhySuperseded})
		}
	}
}

// stop sends everybody away.
func (s *Service) stop() {
	s.mu.Lock()
	s.stopping = true
	n := len(s.conns)
	s.mu.Unlock()
	// Each gets the same bound and picks a moment below it.
	after := min(time.Duration(n)*10*time.Millisecond+time.Second, 30*time.Second)
	for _, c := range s.pick(nil) {
		c.end(link.Bye{Why: link.WhyStopping, After: after})
	}
	s.wg.Wait()
}

// add takes a connection in, or says why not; the one before of the same
// appliance ends.
func (s *Service) add(c *conn) (why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.conns[c.id.Appliance]
	switch {
	case s.stopping:
		return link.WhyStopping
	case old == nil && len(s.conns) >= maxLinks:
		return link.WhyBusy
	}
	if old != nil {
		old.end(link.Bye{Why: link.WhySuperseded})
	}
	c.since = s.now()
	s.conns[c.id.Appliance] = c
	s.here[c.id.Appliance] = true
	s.wg.Add(1)
	return ""
}

func (s *Service) remove(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns[c.id.Appliance] == c {
		delete(s.conns, c.id.Appliance)
	}
	s.wg.Done()
}

// moved has a zone's appliances learn of each other's addresses, once what was
// heard is written.
func (s *Service) moved(zone string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.zones[zone] = true
}

// heard notes what an appliance said.
func (s *Service) heard(st State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dirty[st.Appliance] = st
}

// flush writes what was heard.
func (s *Service) flush(ctx context.Context) {
	s.mu.Lock()
	dirty, zones := s.dirty, s.zones
	here := map[string]time.Time{}
	for id := range s.here {
		if c := s.conns[id]; c != nil { // else it has gone again
			here[id] = c.since
		}
	}
	s.dirty, s.here, s.zones = map[string]State{}, map[string]bool{}, map[string]bool{}
	s.mu.Unlock()
	if len(dirty) == 0 && len(here) == 0 && len(zones) == 0 {
		return
	}
	err := s.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		// In one order, so that two instances do not lock each other out.
		for _, id := range sortedKeys(dirty) {
			st := dirty[id]
			b, err := json.Marshal(st.Status)
			if err != nil {
				return err
			}
			// An appliance may have been removed with its zone meanwhile.
			if _, err := tx.Exec(`INSERT INTO appliance_live (appliance_id, zone_id, account_id, role, host, version, status, contact, instance)
SELECT p.id, p.zone_id, p.account_id, p.role, ?, ?, ?, ?, ? FROM appliances p WHERE p.id = ?
ON CONFLICT (appliance_id) DO UPDATE SET host = excluded.host, version = excluded.version, status = excluded.status, contact = excluded.contact, instance = excluded.instance
WHERE appliance_live.contact <= excluded.contact`,
				st.Host, st.Version, string(b), store.Millis(st.Contact), s.instance, id); err != nil {
				return err
			}
		}
		for id, since := range here {
			tx.Notify(topicHere, fmt.Sprint(id, " ", s.instance, " ", store.Millis(since)))
		}
		for zone := range zones {
			tx.Notify(s.cfg.Changed, zone)
		}
		if len(dirty) > 0 {
			tx.Notify(TopicState, "")
		}
		return nil
	})
	if err == nil {
		return
	}
	s.cfg.Log.Error("write what appliances said", "appliances", len(dirty), "error", err)
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, st := range dirty {
		if _, newer := s.dirty[id]; !newer {
			s.dirty[id] = st
		}
	}
	for id := range here {
		s.here[id] = true
	}
	for zone := range zones {
		s.zones[zone] = true
	}
}

func sortedKeys(m map[string]State) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

const stateColumns = "l.appliance_id, l.zone_id, l.account_id, l.role, l.host, l.version, l.status, l.contact, p.expires"

func scanState(scan func(...any) error) (State, error) {
	var st State
	var status string
	var contact, expires int64
	if err := scan(&st.Appliance, &st.Zone, &st.Account, &st.Role, &st.Host, &st.Version, &status, &contact, &expires); err != nil {
		return st, err
	}
	st.Contact, st.LinkExpires = store.FromMillis(contact), store.FromMillis(expires)
	return st, json.Unmarshal([]byte(status), &st.Status)
}

func states(tx *store.Tx, where string, args ...any) ([]State, error) {
	var out []State
	err := tx.Each(func(scan func(...any) error) error {
		st, err := scanState(scan)
		out = append(out, st)
		return err
	}, "SELECT "+stateColumns+" FROM appliance_live l JOIN appliances p ON p.id = l.appliance_id WHERE p.revoked = 0 AND "+where+" ORDER BY l.role, l.host, l.appliance_id", args...)
	return out, err
}

// Appliances returns the last state of each appliance of an account that was ever
// linked and is still enrolled.
func (s *Service) Appliances(ctx context.Context, account string) ([]State, error) {
	var out []State
	err := s.cfg.DB.Read(ctx, func(tx *store.Tx) (err error) {
		out, err = states(tx, "l.account_id = ?", account)
		return err
	})
	return out, err
}

// Controllers returns the controllers of a zone that run, the least loaded first.
func (s *Service) Controllers(ctx context.Context, zone string) ([]Controller, error) {
	var out []Controller
	now := s.now()
	err := s.cfg.DB.Read(ctx, func(tx *store.Tx) error {
		out = nil
		list, err := states(tx, "l.zone_id = ? AND l.role = 'controller' AND l.contact >= ?", zone, store.Millis(now.Add(-link.SilentAfter)))
		if err != nil {
			return err
		}
		for _, st := range list {
			c := Controller{ID: st.Appliance, Zone: st.Zone, Status: st.Status, Contact: st.Contact}
			if err := tx.Row("SELECT public_name FROM appliances WHERE id = ?", st.Appliance).Scan(&c.PublicName); err != nil {
				return err
			}
			if c.Status.HTTPS != 0 {
				out = append(out, c)
			}
		}
		return nil
	})
	slices.SortStableFunc(out, func(a, b Controller) int { return a.Status.Participants - b.Status.Participants })
	return out, err
}

// Routers returns the multimedia routers of a zone that run, those in controllers
// too, the least loaded first.
func (s *Service) Routers(ctx context.Context, zone string) ([]Router, error) {
	out := []Router{}
	now := s.now()
	err := s.cfg.DB.Read(ctx, func(tx *store.Tx) error {
		out = out[:0]
		list, err := states(tx, "l.zone_id = ? AND l.contact >= ?", zone, store.Millis(now.Add(-link.SilentAfter)))
		if err != nil {
			return err
		}
		for _, st := range list {
			if len(st.Status.Media) == 0 {
				continue // no port of it answers
			}
			r := Router{ID: st.Appliance, Zone: st.Zone, Host: st.Host, Version: st.Version, InController: st.Role == link.Controller,
				Addresses: st.Status.Addresses, Ports: st.Status.Media, Unreachable: st.Status.Unreachable, Participants: st.Status.Participants, Limit: st.Status.Limit, CPU: st.Status.CPU,
				SendBits: st.Status.SendBits, ReceiveBits: st.Status.ReceiveBits, Contact: st.Contact}
			var external string
			if err := tx.Row("SELECT external FROM appliances WHERE id = ?", st.Appliance).Scan(&external); err != nil {
				return err
			}
			if err := json.Unmarshal([]byte(external), &r.External); err != nil {
				return err
			}
			out = append(out, r)
		}
		return nil
	})
	slices.SortStableFunc(out, func(a, b Router) int { return cmp.Compare(a.load(), b.load()) })
	return out, err
}
