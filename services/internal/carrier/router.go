package carrier

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/parley-meet/parley/services/internal/bus"
	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/meeting"
	"github.com/parley-meet/parley/services/internal/signal"
)

// RouterConfig is what a router's end works with. Its functions are called
// without a lock of this package, one at a time for what comes from the bus; Cut
// also beside it.
type RouterConfig struct {
	Bus Bus
	// Meet is called before Receive with what the controller knows of the link's
	// meeting, until the link's first frame has gone back: a meeting that runs
	// stays as it is, another one begins with that Epoch and Kept when its ticket
	// is good.
	Meet func(Meet)
	// Receive and Cut are those of hall.Hall.
	Receive func(signal.Link, []byte)
	Cut     func(signal.Link)
	// End says that a meeting runs at another router too, which has it with a
	// higher epoch: the own one is to be ended with signal.Moved, if its epoch is
	// lower than that.
	End func(meeting string, epoch uint64)
	// Web answers requests of HTTP that controllers pass on, several at a time; nil:
	// nobody does.
	Web http.Handler
	Log *slog.Logger     // nil: none
	Now func() time.Time // nil: time.Now
}

// Router is the router's end. Its methods are safe for concurrent use, and but for
// Run never wait.
type Router struct {
	cfg  RouterConfig
	boot [8]byte
	room chan struct{} // for requests of HTTP

	mu          sync.Mutex
	controllers map[string]*controller // by id
	links       map[signal.Link]*served
	partial     int // bytes of frames of which parts are missing
	kept        map[string]*told
	counts      Counts
	changed     chan struct{} // something of kept
}

// controller is what a router knows of one.
type controller struct {
	boot  uint64
	heard time.Time
	links map[uint64]*served
}

// served is a link at its router.
type served struct {
	name   signal.Link
	to     bus.Peer
	at     address
	heard  time.Time
	in     assembly
	serial uint32 // of the last frame back
}

// told is what controllers are told of a meeting.
type told struct {
	epoch uint64
	data  []byte    // a message
	sent  time.Time // zero: never
	new   bool      // it was not sent as it is
	over  time.Time // since when; zero: it runs
}

// NewRouter returns a router's end. It starts nothing.
func NewRouter(cfg RouterConfig) *Router {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	r := &Router{
		cfg: cfg, controllers: map[string]*controller{}, links: map[signal.Link]*served{},
		kept: map[string]*told{}, changed: make(chan struct{}, 1), room: make(chan struct{}, maxServed),
	}
	rand.Read(r.boot[:])
	return r
}

// Counts returns figures for the metrics.
func (r *Router) Counts() Counts {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.counts
	c.Links = len(r.links)
	return c
}

// Hear takes a message of the bus: conn.Subscribe(carrier.Topic, router.Hear).
func (r *Router) Hear(m bus.Message) {
	if m.From.Role != link.Controller || len(m.Data) == 0 {
		return
	}
	switch kind(m.Data[0]) {
	case kindWho:
		if m.Wanted() {
			_ = m.Reply(r.boot[:]) // lost, it is asked again
		}
		return
	case kindMeet:
		meet, err := parseMeet(m.Data[1:])
		if err != nil {
			r.strange()
			return
		}
		r.cfg.Meet(meet)
		_ = m.Reply(r.boot[:]) // lost, it is told again
		return
	case kindAsk:
		r.ask(m)
		return
	case kindEnd:
		var e end
		if err := json.Unmarshal(m.Data[1:], &e); err != nil || e.Meeting == "" || len(e.Meeting) > maxMeeting {
			r.strange()
			return
		}
		r.cfg.End(e.Meeting, e.Epoch)
		return
	}
	x, err := parse(m.Data)
	if err != nil {
		r.strange()
		return
	}
	now := r.cfg.Now()
	r.mu.Lock()
	// A controller that has begun anew has none of its links.
	gone := r.controllerLocked(m.From.ID, x.boot, now)
	var (
		l    *served
		blob []byte
	)
	switch x.kind {
	case kindCut:
		if l := r.controllers[m.From.ID].links[x.link]; l != nil {
			r.forgetLocked(l)
			gone = append(gone, l)
		}
	case kindFrame:
		l = r.linkLocked(m.From, x.address, now)
		blob = r.assembleLocked(l, x)
	}
	r.mu.Unlock()
	for _, g := range gone {
		r.cfg.Cut(g.name)
	}
	if l == nil || blob == nil {
		return
	}
	if x.flags&flagMeet != 0 {
		meet, frame, err := cutMeet(blob)
		if err != nil {
			r.strange()
			return
		}
		r.cfg.Meet(meet)
		blob = frame
	}
	r.cfg.Receive(l.name, blob)
}

func (r *Router) strange() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts.Strange++
}

// controllerLocked notes that a controller was heard, and returns the links of its
// process before this one.
func (r *Router) controllerLocked(id string, boot uint64, now time.Time) (gone []*served) {
	c := r.controllers[id]
	if c == nil || c.boot != boot {
		for _, t := range r.kept {
			t.new = true // it has not heard it
		}
		wake(r.changed)
	}
	if c != nil && c.boot != boot {
		for _, l := range c.links {
			r.forgetLocked(l)
			gone = append(gone, l)
		}
		c.boot = boot
	}
	if c == nil {
		// The bus lets only the zone's controllers write: they are few.
		c = &controller{boot: boot, links: map[uint64]*served{}}
		r.controllers[id] = c
	}
	c.heard = now
	return gone
}

// linkLocked returns a controller's link, nil if there is no room for one more.
func (r *Router) linkLocked(from bus.Peer, at address, now time.Time) *served {
	c := r.controllers[from.ID]
	l := c.links[at.link]
	if l == nil {
		if len(r.links) >= MaxLinks {
			r.counts.Lost++
			return nil
		}
		l = &served{name: name(from.ID, at), to: from, at: at}
		c.links[at.link], r.links[l.name] = l, l
	}
	l.heard = now
	return l
}

// name is how a router calls a link.
func name(controller string, at address) signal.Link {
	return signal.Link(controller + "/" + strconv.FormatUint(at.boot, 36) + "/" + strconv.FormatUint(at.link, 10))
}

// assembleLocked returns the frame that a message completes, or nil.
func (r *Router) assembleLocked(l *served, x message) []byte {
	if l == nil {
		return nil
	}
	r.partial -= len(l.in.data)
	blob, whole, lost := l.in.add(x, func(n int) bool { return r.partial+n <= maxPartial })
	r.partial += len(l.in.data)
	if lost {
		r.counts.Lost++
	}
	if !whole {
		return nil
	}
	r.counts.Received++
	return blob
}

func (r *Router) forgetLocked(l *served) {
	r.partial -= len(l.in.data)
	l.in.reset()
	delete(r.links, l.name)
	if c := r.controllers[l.to.ID]; c != nil && c.links[l.at.link] == l {
		delete(c.links, l.at.link)
	}
}

// Write is hall.Config.Write. A frame that the bus does not take is lost, and
// package signal sends it again.
func (r *Router) Write(name signal.Link, frame []byte, last bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.links[name]
	if l == nil {
		return
	}
	flags := byte(0)
	if last {
		flags = flagLast
	}
	l.serial++
	list, err := split(l.at, l.serial, flags, frame)
	if err == nil {
		err = publish(r.cfg.Bus, l.to, list)
	}
	if err != nil {
		r.counts.Lost++
	} else {
		r.counts.Sent++
	}
	if last {
		r.forgetLocked(l)
	}
}

// publish sends a frame's messages.
func publish(b Bus, to bus.Peer, list [][]byte) error {
	for _, m := range list {
		if err := b.Publish(to, Topic, m); err != nil {
			return err
		}
	}
	return nil
}

// Keep tells the controllers what is to outlive this router of a meeting. The
// last one counts; a second time the same costs nothing.
func (r *Router) Keep(id string, epoch uint64, kept meeting.Kept) error {
	b, err := json.Marshal(kept)
	if err != nil {
		return fmt.Errorf("carrier: keep %q: %w", id, err)
	}
	if len(b) > MaxKept {
		return fmt.Errorf("carrier: keep %q: %d bytes, want %d at most", id, len(b), MaxKept)
	}
	return r.tell(keep{Meeting: id, Epoch: epoch, Kept: b}, time.Time{})
}

// Over has the controllers forget a meeting that has ended of itself or by its
// host. What is lost or goes on elsewhere (signal.Moved, signal.Stopping) is not
// over.
func (r *Router) Over(id string, epoch uint64) {
	if err := r.tell(keep{Meeting: id, Epoch: epoch, Over: true}, r.cfg.Now()); err != nil {
		r.cfg.Log.Warn("carrier: over", "meeting", id, "error", err)
	}
}

func (r *Router) tell(k keep, over time.Time) error {
	b, err := json.Marshal(k)
	if err != nil {
		return fmt.Errorf("carrier: keep %q: %w", k.Meeting, err)
	}
	b = append([]byte{byte(kindKeep)}, b...)
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.kept[k.Meeting]
	switch {
	case t == nil && len(r.kept) >= maxMeetings:
		return fmt.Errorf("carrier: keep %q: %d others are kept", k.Meeting, maxMeetings)
	case t == nil:
		t = &told{}
		r.kept[k.Meeting] = t
	case string(t.data) == string(b):
		return nil
	}
	t.epoch, t.data, t.over, t.new = k.Epoch, b, over, true
	wake(r.changed)
	return nil
}

// wake puts a value into a channel for one.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run tells controllers what is kept, and cuts links of those that are silent,
// until ctx ends; it returns nil then.
func (r *Router) Run(ctx context.Context) error {
	t := time.NewTicker(keepPause / 2)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			r.tellKept(r.cfg.Now(), 0) // what changed last
			return nil
		case <-r.changed:
		case <-t.C:
		}
		now := r.cfg.Now()
		r.tellKept(now, keepPause)
		r.sweep(now)
	}
}

// tellKept sends what is due; what changed not more often than each pause.
func (r *Router) tellKept(now time.Time, pause time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, t := range r.kept {
		if !t.over.IsZero() && now.Sub(t.over) > overFor {
			delete(r.kept, id)
			continue
		}
		if d := now.Sub(t.sent); t.new && d >= pause || d >= KeepEvery {
			t.sent, t.new = now, false
			if err := r.cfg.Bus.Publish(bus.AllControllers, Topic, t.data); err != nil {
				t.sent, t.new = now, true // again after the pause
			}
		}
	}
}

// sweep cuts what nobody is at the other end of.
func (r *Router) sweep(now time.Time) {
	var gone []*served
	r.mu.Lock()
	for id, c := range r.controllers {
		silent := now.Sub(c.heard) > AliveFor
		if silent {
			r.cfg.Log.Info("carrier: a controller is silent", "controller", id, "links", len(c.links))
		}
		for _, l := range c.links {
			if silent || now.Sub(l.heard) > idle {
				gone = append(gone, l)
			}
		}
		if silent {
			delete(r.controllers, id)
		}
	}
	for _, l := range gone {
		r.forgetLocked(l)
	}
	r.mu.Unlock()
	for _, l := range gone {
		r.cfg.Cut(l.name)
	}
}
