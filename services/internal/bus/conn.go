package bus

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parley-meet/parley/services/internal/link"
)

// Config is what a Conn works with.
type Config struct {
	// Credentials is asked for at each connection: certificates are renewed. It
	// does not wait. Appliance, Zone and Role stay.
	Credentials func() link.Credentials
	// Role is what this process is: "" is the credentials' role. The router of a
	// controller VM is a Router with the credentials of a controller.
	Role link.Role
	// Local opens a connection to a server that needs no TLS: the
	// controller's of this machine. nil: none.
	Local func(context.Context) (net.Conn, error)
	// Port of the controllers; 0 is 443.
	Port uint16
	Log  *slog.Logger // nil: none
}

// Message is one that came.
type Message struct {
	From  Peer
	Topic string
	Data  []byte // not to be changed: other subscriptions may have it too

	conn *Conn
	ref  uint64 // of a request: its number
}

// Wanted reports whether the author waits for a reply.
func (m Message) Wanted() bool { return m.ref != 0 }

// Reply answers a request. It never waits.
func (m Message) Reply(data []byte) error {
	if !m.Wanted() {
		return fmt.Errorf("%s of %s: nobody waits for a reply", m.Topic, m.From)
	}
	return m.conn.send(m.From, m.Topic, kindReply, 0, m.ref, data)
}

// Conn is an appliance's end of the bus. Its methods are safe for concurrent use,
// and but for Run and Request never wait.
type Conn struct {
	cfg  Config
	self Peer
	zone string // id
	boot uint64
	// renewWithin is how long after a new certificate a connection is made anew.
	renewWithin time.Duration

	mu     sync.Mutex
	number uint64
	view   Zone
	paths  map[string]*path // by name
	known  map[string]controller
	run    context.Context // nil: Run was not called
	work   sync.WaitGroup
	subs   map[string][]*Subscription
	waits  map[uint64]wait
	joined chan struct{}

	seen seen

	got, twice, strange atomic.Uint64
}

// wait is for a reply.
type wait struct {
	to    Peer
	reply chan []byte
}

// maxRequests is how many requests may wait for their replies at a time.
const maxRequests = 4096

// New returns a Conn. It starts nothing.
func New(cfg Config, z Zone) (*Conn, error) {
	cred := cfg.Credentials()
	self := Peer{cred.Role, cred.Appliance}
	if cfg.Role != "" {
		self.Role = cfg.Role
	}
	if !self.good() || cred.Role == link.Router && self.Role != link.Router {
		return nil, fmt.Errorf("bus: %s with the credentials of a %s", self, cred.Role)
	}
	if cred.Zone != z.ID {
		return nil, fmt.Errorf("bus: credentials of zone %q, want %q", cred.Zone, z.ID)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Port == 0 {
		cfg.Port = 443
	}
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		return nil, err
	}
	c := &Conn{
		cfg: cfg, self: self, zone: z.ID, boot: binary.BigEndian.Uint64(b[:]), view: z,
		paths: make(map[string]*path), known: make(map[string]controller), subs: make(map[string][]*Subscription),
		waits: make(map[uint64]wait), joined: make(chan struct{}, 1), seen: make(seen), renewWithin: renewWithin,
	}
	return c, nil
}

// Self returns who this is.
func (c *Conn) Self() Peer { return c.self }

// Joined gets a value soon after a connection to a server of the zone stands: who
// listens there has heard nothing yet. One value may stand for several.
func (c *Conn) Joined() <-chan struct{} { return c.joined }

// SetZone tells who belongs to the zone now, and where the controllers are. A
// controller without addresses keeps those that it had.
func (c *Conn) SetZone(z Zone) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if z.ID != c.zone {
		return // appliances never change their zone
	}
	c.view = z
	c.settleLocked()
}

// settleLocked starts and ends connections, so that there is one to each
// controller.
func (c *Conn) settleLocked() {
	if c.run == nil || c.run.Err() != nil {
		return
	}
	want := make(map[string]bool)
	add := func(name string, dial func(context.Context) (net.Conn, error)) {
		want[name] = true
		if c.paths[name] == nil {
			c.paths[name] = newPath(c, name, dial)
			c.paths[name].start(c.run, &c.work)
		}
	}
	without := ""
	if c.cfg.Local != nil || c.self.Role == link.Controller {
		without = c.self.ID
	}
	if c.cfg.Local != nil {
		add(c.self.ID, c.cfg.Local)
	}
	for _, k := range c.view.controllers(without, c.cfg.Port) {
		if len(k.addresses) == 0 {
			k.addresses = c.known[k.id].addresses
		}
		c.known[k.id] = k
		if len(k.addresses) > 0 {
			add(k.id, func(ctx context.Context) (net.Conn, error) { return c.dial(ctx, k.id) })
		}
	}
	for name, p := range c.paths {
		if !want[name] {
			p.stop()
			delete(c.paths, name)
			delete(c.known, name)
		} else {
			p.retry() // at another address, perhaps
		}
	}
}

// Run keeps the connections until ctx ends; it returns nil then. It is called
// once.
func (c *Conn) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c.mu.Lock()
	if c.run != nil {
		c.mu.Unlock()
		return errors.New("bus: Run is called twice")
	}
	c.run = ctx
	for _, list := range c.subs {
		for _, s := range list {
			s.start(ctx, &c.work)
		}
	}
	c.settleLocked()
	c.mu.Unlock()
	<-ctx.Done()
	c.mu.Lock() // nobody starts more
	c.mu.Unlock()
	c.work.Wait()
	return nil
}

// Publish sends a message to somebody, to AllControllers or AllRouters. An error
// says that it is lost; nil says that it is on its way, not that it arrives.
func (c *Conn) Publish(to Peer, topic string, data []byte) error {
	return c.send(to, topic, kindPlain, 0, 0, data)
}

// Request sends a message and waits for the first reply, until ctx ends. Where
// nobody answers, or the message or its reply is lost, that is all that is
// learnt.
func (c *Conn) Request(ctx context.Context, to Peer, topic string, data []byte) ([]byte, error) {
	w := wait{to, make(chan []byte, 1)}
	c.mu.Lock()
	if len(c.waits) >= maxRequests {
		c.mu.Unlock()
		return nil, fmt.Errorf("request %s to %s: %d others wait", topic, to, maxRequests)
	}
	c.number++
	n := c.number
	c.waits[n] = w
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.waits, n)
		c.mu.Unlock()
	}()
	if err := c.send(to, topic, kindRequest, n, 0, data); err != nil {
		return nil, fmt.Errorf("request %s to %s: %w", topic, to, err)
	}
	select {
	case b := <-w.reply:
		return b, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("request %s to %s: no reply: %w", topic, to, context.Cause(ctx))
	}
}

// send hands a message to each connection. number is 0 for the next one.
func (c *Conn) send(to Peer, topic string, k kind, number, ref uint64, data []byte) error {
	if to != AllControllers && to != AllRouters && !to.good() {
		return fmt.Errorf("bus: %q is nobody to write to", to.String())
	}
	if !GoodTopic(topic) {
		return fmt.Errorf("bus: topic %q", topic)
	}
	if len(data) > MaxData {
		return ErrTooLong
	}
	c.mu.Lock()
	defer c.mu.Unlock() // each connection gets messages in the order of their numbers
	if number == 0 {
		c.number++
		number = c.number
	}
	out := envelope{subject(c.zone, c.self, to, topic), frame{k, c.boot, number, ref, data}.bytes()}
	err := ErrNoPath
	for _, p := range c.paths {
		switch p.out.push(out) {
		case nil:
			err = nil
		case ErrFull:
			if err != nil {
				err = ErrFull
			}
		}
	}
	return err
}

// Subscription is a function that gets messages.
type Subscription struct {
	topic string
	conn  *Conn
	inbox *inbox
	f     func(Message)
}

// Subscribe has f called with messages of a topic and of those below it: "signal"
// is for "signal" and "signal.m42", not for "signals". f gets one message at a
// time, each author's in order; an author for whom too many wait loses the
// newest. f may wait and holds up nothing but itself, and must come back when Run's
// context ends.
func (c *Conn) Subscribe(topic string, f func(Message)) *Subscription {
	if !GoodTopic(topic) {
		panic(fmt.Sprintf("bus: topic %q", topic)) // topics are constants
	}
	s := &Subscription{topic, c, newInbox(), f}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.subs[topic] = append(c.subs[topic], s)
	if c.run != nil && c.run.Err() == nil {
		s.start(c.run, &c.work)
	}
	return s
}

// Cancel ends a subscription. Its function may still be at work.
func (s *Subscription) Cancel() {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	list := slices.DeleteFunc(slices.Clone(s.conn.subs[s.topic]), func(x *Subscription) bool { return x == s })
	if len(list) == 0 {
		delete(s.conn.subs, s.topic)
	} else {
		s.conn.subs[s.topic] = list
	}
	s.inbox.close()
}

// Dropped returns how many messages found no room.
func (s *Subscription) Dropped() uint64 {
	s.inbox.mu.Lock()
	defer s.inbox.mu.Unlock()
	return s.inbox.dropped
}

func (s *Subscription) start(ctx context.Context, work *sync.WaitGroup) {
	work.Go(func() {
		for ctx.Err() == nil && !s.inbox.isClosed() {
			if m, ok := s.inbox.pop(); ok {
				s.f(m)
				continue
			}
			select {
			case <-s.inbox.wake:
			case <-ctx.Done():
			}
		}
	})
}

// receive takes what came on a connection. It never waits for a subscriber.
func (c *Conn) receive(subj string, b []byte) {
	from, to, topic, ok := parseSubject(subj, c.zone)
	if !ok {
		c.strange.Add(1)
		return
	}
	f, err := parseFrame(b)
	if err != nil {
		c.strange.Add(1)
		return
	}
	if from == c.self {
		return // to a group that this one is in
	}
	// In the lock until the message is queued: the connections do not overtake each
	// other.
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.view.Has(from) || c.self.Role == link.Router && from.Role != link.Controller || to != c.self && to != (Peer{c.self.Role, all}) {
		c.strange.Add(1)
		return
	}
	if !c.seen.first(from, f.boot, f.number) {
		c.twice.Add(1)
		return
	}
	c.got.Add(1)
	if f.kind == kindReply {
		w, ok := c.waits[f.ref]
		if ok && (w.to == from || w.to == Peer{from.Role, all}) {
			select {
			case w.reply <- f.data:
			default: // another was first
			}
		}
		return
	}
	m := Message{From: from, Topic: topic, Data: f.data, conn: c}
	if f.kind == kindRequest {
		m.ref = f.number
	}
	for t := topic; ; {
		for _, s := range c.subs[t] {
			s.inbox.push(m)
		}
		i := strings.LastIndexByte(t, '.')
		if i < 0 {
			return
		}
		t = t[:i]
	}
}

// Server is how the connection to one server is.
type Server struct {
	Controller string // id
	Connected  bool
	Since      time.Time // of being connected, or not
	Address    string    // of the last attempt; "" where there is none
	Problem    string    // why it is not connected
	Dropped    uint64    // messages for which its queue had no room
}

// Servers returns how the connections are, by name.
func (c *Conn) Servers() []Server {
	c.mu.Lock()
	var paths []*path
	for _, p := range c.paths {
		paths = append(paths, p)
	}
	c.mu.Unlock()
	var out []Server
	for _, p := range paths {
		out = append(out, p.state())
	}
	slices.SortFunc(out, func(a, b Server) int { return strings.Compare(a.Controller, b.Controller) })
	return out
}

// Counts are figures since the start.
type Counts struct {
	Received uint64 // messages, each once
	Twice    uint64 // copies that were dropped
	Strange  uint64 // what was not understood, or not from the zone
}

// Counts returns figures for the metrics.
func (c *Conn) Counts() Counts {
	return Counts{c.got.Load(), c.twice.Load(), c.strange.Load()}
}
