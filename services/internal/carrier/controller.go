package carrier

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/parley-meet/parley/services/internal/bus"
	"github.com/parley-meet/parley/services/internal/bus/placement"
	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/meeting"
	"github.com/parley-meet/parley/services/internal/ticket"
)

// ControllerConfig is what a controller's end works with.
type ControllerConfig struct {
	Bus Asking
	Log *slog.Logger     // nil: none
	Now func() time.Time // nil: time.Now
}

// Sink gets the frames of a router for a WebSocket. It must not wait, and is
// called without a lock of this package. A frame with last is followed by
// nothing: the WebSocket is closed after it, at once where the frame is empty.
type Sink func(frame []byte, last bool)

// Controller is the controller's end. Its methods are safe for concurrent use,
// and but for Run never wait.
type Controller struct {
	cfg  ControllerConfig
	boot uint64

	mu      sync.Mutex
	next    uint64
	links   map[uint64]*Link
	partial int // bytes of frames of which parts are missing
	kept    map[string]*held
	held    int // bytes of kept
	counts  Counts
}

// Link is a WebSocket's way to the router of its meeting.
type Link struct {
	c      *Controller
	number uint64
	to     bus.Peer
	meet   []byte // JSON of a Meet, until a frame came back
	sink   Sink
	in     assembly
	serial uint32
	over   bool
}

// held is a meeting's Kept.
type held struct {
	from  string // router
	epoch uint64
	kept  json.RawMessage
	pass  meeting.Kept // its Passes alone
	heard time.Time
}

// NewController returns a controller's end. It starts nothing.
func NewController(cfg ControllerConfig) *Controller {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	var b [8]byte
	rand.Read(b[:])
	return &Controller{cfg: cfg, boot: binary.BigEndian.Uint64(b[:]), links: map[uint64]*Link{}, kept: map[string]*held{}}
}

// Counts returns figures for the metrics.
func (c *Controller) Counts() Counts {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.counts
	n.Links = len(c.links)
	return n
}

// Open makes a link to the router that has a meeting, or is to begin it. Nothing
// is sent before its first frame. Its user calls Cut when the WebSocket is gone.
func (c *Controller) Open(id string, at placement.Place, sink Sink) (*Link, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.links) >= MaxLinks {
		return nil, ErrMany
	}
	meet, err := c.meetLocked(id, at)
	if err != nil {
		return nil, err
	}
	c.next++
	l := &Link{c: c, number: c.next, to: bus.Peer{Role: link.Router, ID: at.Router}, meet: meet, sink: sink}
	c.links[l.number] = l
	return l, nil
}

// meetLocked is what a router is told of a meeting: the JSON of a Meet.
func (c *Controller) meetLocked(id string, at placement.Place) ([]byte, error) {
	m := struct {
		Meeting string          `json:"meeting"`
		Epoch   uint64          `json:"epoch"`
		Kept    json.RawMessage `json:"kept,omitempty"`
	}{Meeting: id, Epoch: at.Epoch}
	if k := c.kept[id]; k != nil && (!at.Runs || len(k.kept) <= maxTold) {
		m.Kept = k.kept
	}
	meet, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("carrier: meeting %q: %w", id, err)
	}
	return meet, nil
}

// Router returns the id of the router that a link goes to.
func (l *Link) Router() string { return l.to.ID }

// Send sends a frame of the page. An error says that it is lost; package signal
// sends it again.
func (l *Link) Send(frame []byte) error {
	c := l.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if l.over {
		return nil // the page is told already
	}
	flags, blob := byte(0), frame
	if l.meet != nil {
		flags, blob = flagMeet, withMeet(l.meet, frame)
	}
	l.serial++
	list, err := split(address{c.boot, l.number}, l.serial, flags, blob)
	if err == nil {
		err = publish(c.cfg.Bus, l.to, list)
	}
	if err != nil {
		c.counts.Lost++
		return err
	}
	c.counts.Sent++
	return nil
}

// Cut ends a link and tells its router. It may be called more than once.
func (l *Link) Cut() {
	c := l.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if l.over {
		return
	}
	c.forgetLocked(l)
	if l.serial > 0 {
		// Lost, it costs the router what idle says.
		_ = c.cfg.Bus.Publish(l.to, Topic, message{kind: kindCut, address: address{c.boot, l.number}}.bytes())
	}
}

func (c *Controller) forgetLocked(l *Link) {
	c.partial -= len(l.in.data)
	l.in.reset()
	l.over = true
	delete(c.links, l.number)
}

// Hear takes a message of the bus: conn.Subscribe(carrier.Topic, controller.Hear).
func (c *Controller) Hear(m bus.Message) {
	if m.From.Role != link.Router || len(m.Data) == 0 {
		return
	}
	if kind(m.Data[0]) == kindKeep {
		c.keep(m.From.ID, m.Data[1:])
		return
	}
	x, err := parse(m.Data)
	c.mu.Lock()
	if err != nil || x.kind != kindFrame {
		c.counts.Strange++
		c.mu.Unlock()
		return
	}
	l := c.links[x.link]
	if l == nil || x.boot != c.boot || l.to != m.From {
		c.mu.Unlock() // it is gone
		return
	}
	l.meet = nil
	c.partial -= len(l.in.data)
	blob, whole, lost := l.in.add(x, func(n int) bool { return c.partial+n <= maxPartial })
	c.partial += len(l.in.data)
	if lost {
		c.counts.Lost++
	}
	last := x.flags&flagLast != 0
	if whole {
		c.counts.Received++
		if last {
			c.forgetLocked(l)
		}
	}
	c.mu.Unlock()
	if whole {
		l.sink(blob, last)
	}
}

// keep takes what a router tells of a meeting.
func (c *Controller) keep(from string, b []byte) {
	var (
		k    keep
		kept meeting.Kept
	)
	err := json.Unmarshal(b, &k)
	if err == nil && !k.Over && len(k.Kept) <= MaxKept {
		err = json.Unmarshal(k.Kept, &kept) // the next router must be able to
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil || k.Meeting == "" || len(k.Meeting) > maxMeeting || k.Over != (len(k.Kept) == 0) || len(k.Kept) > MaxKept {
		c.counts.Strange++
		return
	}
	was := c.kept[k.Meeting]
	if was != nil && was.epoch > k.Epoch {
		return // it has moved on
	}
	if was != nil {
		c.held -= len(was.kept)
		delete(c.kept, k.Meeting)
	}
	if k.Over {
		return
	}
	// Where there is no room the ones before are older promises.
	if len(c.kept) >= maxMeetings || c.held+len(k.Kept) > maxHeld {
		return
	}
	c.kept[k.Meeting] = &held{from, k.Epoch, k.Kept, meeting.Kept{Passes: kept.Passes}, c.cfg.Now()}
	c.held += len(k.Kept)
}

// Knows reports whether something is kept of a meeting.
func (c *Controller) Knows(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.kept[id] != nil
}

// Keeps returns of how many meetings something is kept, and how many bytes.
func (c *Controller) Keeps() (meetings, bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.kept), c.held
}

// VerifyPass returns what a pass says, if a router of the zone signed it for a
// meeting whose Kept is known here.
func (c *Controller) VerifyPass(text, zone string) (ticket.Claims, error) {
	id := meetingOf(text)
	c.mu.Lock()
	k := c.kept[id]
	c.mu.Unlock()
	if k == nil {
		return ticket.Claims{}, ticket.ErrKey
	}
	return k.pass.VerifyPass(text, zone, id, c.cfg.Now())
}

// meetingOf reads which meeting a pass claims to be for, before it is verified.
func meetingOf(text string) string {
	_, rest, _ := strings.Cut(text, ".")
	body, _, _ := strings.Cut(rest, ".")
	if len(text) > ticket.MaxSize {
		return ""
	}
	b, err := base64.RawURLEncoding.DecodeString(body)
	if err != nil {
		return ""
	}
	var claims struct {
		Meeting ticket.Meeting `json:"meeting"`
	}
	if err := json.Unmarshal(b, &claims); err != nil {
		return ""
	}
	return claims.Meeting.ID
}

// Process asks a router which process it is: another number is another one, and
// the meetings of the one before are lost. It waits for the answer until ctx ends.
func (c *Controller) Process(ctx context.Context, router string) (uint64, error) {
	b, err := c.cfg.Bus.Request(ctx, bus.Peer{Role: link.Router, ID: router}, Topic, []byte{byte(kindWho)})
	if err != nil {
		return 0, err
	}
	if len(b) != 8 {
		return 0, fmt.Errorf("carrier: router %s says that it is %d bytes", router, len(b))
	}
	return binary.BigEndian.Uint64(b), nil
}

// End tells a router that a meeting runs at another one, with a higher epoch. It
// may be lost, and is told again as long as it is so.
func (c *Controller) End(router, id string, epoch uint64) error {
	b, err := json.Marshal(end{id, epoch})
	if err != nil {
		return fmt.Errorf("carrier: end %q: %w", id, err)
	}
	return c.cfg.Bus.Publish(bus.Peer{Role: link.Router, ID: router}, Topic, append([]byte{byte(kindEnd)}, b...))
}

// Run says that the controller is alive, and forgets what is old, until ctx ends;
// it returns nil then. Links that are left are cut.
func (c *Controller) Run(ctx context.Context) error {
	t := time.NewTicker(AliveEvery)
	defer t.Stop()
	for {
		// Lost, another one follows.
		_ = c.cfg.Bus.Publish(bus.AllRouters, Topic, message{kind: kindAlive, address: address{boot: c.boot}}.bytes())
		select {
		case <-ctx.Done():
			for _, l := range c.all() {
				l.Cut()
			}
			return nil
		case <-t.C:
		}
		now := c.cfg.Now()
		c.mu.Lock()
		for id, k := range c.kept {
			if now.Sub(k.heard) > keptFor {
				c.held -= len(k.kept)
				delete(c.kept, id)
			}
		}
		c.mu.Unlock()
	}
}

func (c *Controller) all() []*Link {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]*Link, 0, len(c.links))
	for _, l := range c.links {
		out = append(out, l)
	}
	return out
}
