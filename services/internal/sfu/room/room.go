// Package room is the media of meetings: who publishes what, who is shown what,
// and the way of each packet from the one to the others.
//
// A Peer publishes tracks (sources with one layer, or several of simulcast) and
// receives on slots, the lines that its offer kept free. What a slot carries
// changes without another offer: the router renumbers, so that a receiver sees one
// stream. Sound goes to the first slots by loudness (Voices), pictures by what the
// peer's screen shows (View) and by what its network carries (package cc).
//
// A packet is forwarded on the goroutine that read it: it is opened, put into its
// layer's cache and written for each slot that shows the layer. The path of a
// packet takes the publisher's lock and then, one after the other, those of the
// peers that get it. A room has two goroutines of its own: one for what has a
// rhythm, one for packets that wait in pacers.
//
// What is dropped, and when: packets of nobody's SSRC; video of a slot until a
// keyframe of its layer comes; whole frames where a peer's pacer is full (see
// cc.Pacer); sound that is not among the loudest.
package room

import (
	"log/slog"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parley-meet/parley/services/internal/sfu/cc"
	"github.com/parley-meet/parley/services/internal/sfu/codec"
	"github.com/parley-meet/parley/services/internal/sfu/sdp"
	"github.com/parley-meet/parley/services/internal/sfu/transport"
	"github.com/parley-meet/parley/services/internal/sfu/wire"
)

// Config is what rooms of a router share.
type Config struct {
	Transport  *transport.API
	Candidates func() []sdp.Candidate // as clients reach this router
	Log        *slog.Logger
}

// Events tell what a peer must hear by signalling. They are called by one
// goroutine of the room and must not wait.
type Events struct {
	State   func(transport.State, error)
	Slots   func([]Shown)          // all of them, when one changes
	Layers  func(Source, []Wanted) // of a track that the peer publishes
	Speaker func(peer string)      // the dominant one; to everybody
}

// Shown is what a slot carries.
type Shown struct {
	MID    string
	Peer   string // "" is nothing
	Source Source
}

// Wanted says whether somebody watches a layer.
type Wanted struct {
	RID    string // "" of a track without simulcast
	Active bool
}

// Want is what a screen shows in a slot.
type Want struct {
	MID           string
	Peer          string
	Source        Source
	Width, Height int // pixels as shown; 0 pauses
}

// Room is one meeting's media.
type Room struct {
	cfg   Config
	log   *slog.Logger
	epoch time.Time
	stop  chan struct{}
	done  sync.WaitGroup

	mu     sync.Mutex
	peers  map[string]*Peer
	nextID uint32
	closed bool
	gone   Totals // of peers that are no more

	everybody atomic.Pointer[[]*Peer]

	voiceMu       sync.Mutex
	voices        [Voices]*Track
	dominant      *Track
	voicesChanged atomic.Bool

	pacing   chan struct{}
	nextWake atomic.Int64 // ns of now; MaxInt64: none
}

// New starts a room without peers.
func New(cfg Config) *Room {
	r := &Room{
		cfg: cfg, log: cfg.Log, epoch: time.Now(),
		stop:   make(chan struct{}),
		peers:  map[string]*Peer{},
		pacing: make(chan struct{}, 1),
	}
	r.everybody.Store(&[]*Peer{})
	r.nextWake.Store(math.MaxInt64)
	r.done.Go(r.run)
	r.done.Go(r.pace)
	return r
}

// now is the time since the room began.
func (r *Room) now() time.Duration { return time.Since(r.epoch) }

// wall is the time of day then.
func (r *Room) wall(now time.Duration) time.Time { return r.epoch.Add(now) }

// Close ends all peers.
func (r *Room) Close() {
	r.mu.Lock()
	r.closed = true
	peers := make([]*Peer, 0, len(r.peers))
	for _, p := range r.peers {
		peers = append(peers, p)
	}
	r.mu.Unlock()
	for _, p := range peers {
		p.Close()
	}
	close(r.stop)
	r.done.Wait()
}

// id gives a number that nobody else in the room has.
func (r *Room) id() uint32 {
	r.nextID++
	return r.nextID
}

// list remakes everybody; mu is held.
func (r *Room) list() {
	all := make([]*Peer, 0, len(r.peers))
	for _, p := range r.peers {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b *Peer) int { return int(a.number) - int(b.number) })
	r.everybody.Store(&all)
}

// find a track; mu is held.
func (r *Room) find(peer string, source Source) *Track {
	p := r.peers[peer]
	if p == nil {
		return nil
	}
	p.in.Lock()
	defer p.in.Unlock()
	for _, t := range p.tracks {
		if t.source == source {
			return t
		}
	}
	return nil
}

// show makes a slot carry a track, or nothing. mu is held.
func (r *Room) show(out *wire.Out, s *Slot, t *Track) {
	if s.track == t {
		return
	}
	if old := s.track; old != nil {
		old.peer.in.Lock()
		old.slots = slices.DeleteFunc(old.slots, func(x *Slot) bool { return x == s })
		old.peer.in.Unlock()
	}
	s.peer.mu.Lock()
	s.track, s.layer, s.target = t, nil, nil
	s.peer.pacer.Forget(s.id)
	s.peer.mu.Unlock()
	if t != nil {
		t.peer.in.Lock()
		t.slots = append(t.slots, s)
		t.peer.in.Unlock()
	}
	s.peer.dirty |= dirtySlots
}

// dirt is what a peer has not been told yet.
type dirt uint8

const (
	dirtySlots dirt = 1 << iota
	dirtyLayers
	dirtyView // what it is sent must be chosen anew
)

// Rhythm of a room.
const (
	tick         = 100 * time.Millisecond
	chooseTicks  = 3 // layers are chosen
	watchTicks   = 5 // dynacast
	reportTicks  = 10
	unwatchedFor = 3 * time.Second // before a sender is told to pause a layer
	silentAfter  = 1500 * time.Millisecond
	thinShare    = 65      // percent of a layer's rate that is left without its highest temporal layer
	audioReserve = 120_000 // bit/s, of what a peer's network carries, for voices
	// What a peer's network is taken to carry before anything is known, bit/s: one
	// picture of 720p and the voices. Feedback comes within 100 ms, and lowers it
	// within a second where that is too much.
	firstEstimate = 3_500_000
)

// run is what has a rhythm.
func (r *Room) run() {
	t := time.NewTicker(tick)
	defer t.Stop()
	out := wire.NewOutSize(64 << 10)
	for n := 1; ; n++ {
		select {
		case <-r.stop:
			return
		case <-t.C:
		}
		r.beat(out, n)
		out.Flush()
	}
}

func (r *Room) beat(out *wire.Out, n int) {
	now := r.now()
	peers := *r.everybody.Load()
	for _, p := range peers {
		p.in.Lock()
		if p.crypt != nil {
			p.askAgain(out, now)
			if p.arrivals.Due(now) {
				p.feedback(out, now)
			}
		}
		for _, t := range p.tracks {
			t.snapshot(now)
			for _, l := range t.layers {
				if l.keyWant.Load() {
					out.After(l.requestKey)
				}
			}
		}
		p.in.Unlock()
		out.Flush()
	}
	if n%chooseTicks == 0 {
		for _, p := range peers {
			p.mu.Lock()
			p.choose(out, now)
			p.mu.Unlock()
		}
		out.Flush()
	} else {
		r.mu.Lock()
		var urgent []*Peer
		for _, p := range peers {
			if p.dirty&dirtyView != 0 {
				p.dirty &^= dirtyView
				urgent = append(urgent, p)
			}
		}
		r.mu.Unlock()
		for _, p := range urgent {
			p.mu.Lock()
			p.choose(out, now)
			p.mu.Unlock()
		}
	}
	if n%reportTicks == 0 {
		for _, p := range peers {
			p.reports(out, now)
			out.Flush()
		}
	}
	if n%watchTicks == 0 {
		for _, p := range peers {
			r.watch(p, now)
		}
	}
	r.tell(now, peers)
}

// snapshot says what a track's layers are now, low to high. peer.in is held.
func (t *Track) snapshot(now time.Duration) {
	if t.source.Audio() {
		return
	}
	s := &layers{}
	for _, l := range t.layers {
		l.rate.roll(now)
		rate := l.rate.bps
		switch {
		case l.heard != 0 && now-l.heard < silentAfter:
			l.known = max(rate, 1)
		case l.wanted && now-l.wantedAt > silentAfter && l.heard != 0:
			rate = 0 // its sender does not manage
		default:
			rate = l.known
		}
		if rate == 0 && l.heard == 0 && !(l.wanted && now-l.wantedAt > 2*silentAfter) {
			rate = expected(l.rank, len(t.layers))
		}
		w, h := int(l.width), int(l.height)
		if w == 0 {
			w, h = 1280>>(len(t.layers)-1-l.rank), 720>>(len(t.layers)-1-l.rank)
		}
		s.list = append(s.list, l)
		s.sizes = append(s.sizes, cc.Layer{Width: w, Height: h, Rate: rate})
	}
	sortLayers(s)
	s.thin = len(s.list) > 0 && s.list[0].temporal > 0
	t.now.Store(s)
}

// expected is what a layer takes that nobody has sent yet, bit/s.
func expected(rank, of int) int64 {
	rates := [...]int64{150_000, 500_000, 1_700_000}
	return rates[min(rank+len(rates)-min(of, len(rates)), len(rates)-1)]
}

// layers is a snapshot.
type layers struct {
	list  []*Layer
	sizes []cc.Layer
	thin  bool // the lowest has more than one temporal layer
}

// sortLayers puts them low to high: senders number them as they like.
func sortLayers(s *layers) {
	for i := 1; i < len(s.list); i++ {
		for j := i; j > 0 && s.sizes[j].Width*s.sizes[j].Height < s.sizes[j-1].Width*s.sizes[j-1].Height; j-- {
			s.list[j], s.list[j-1] = s.list[j-1], s.list[j]
			s.sizes[j], s.sizes[j-1] = s.sizes[j-1], s.sizes[j]
		}
	}
}

// choose decides which layer each slot of a peer gets. Its mu is held.
func (p *Peer) choose(out *wire.Out, now time.Duration) {
	if p.crypt == nil {
		return
	}
	p.asks = p.asks[:0]
	p.asking = p.asking[:0]
	for _, s := range p.slots {
		if s.track == nil || s.track.source.Audio() {
			if s.track != nil && s.target == nil {
				s.target = s.track.layers[0]
			}
			continue
		}
		snap := s.track.now.Load()
		if snap == nil {
			continue
		}
		current := cc.Fresh
		if s.target != nil {
			current = slices.Index(snap.list, s.target)
		} else if s.chosen {
			current = cc.None
		}
		priority := 1
		switch {
		case s.track.source == Screen:
			priority = 3
		case s.height >= 360:
			priority = 2
		}
		p.asks = append(p.asks, cc.Slot{Width: s.width, Height: s.height, Priority: priority, Layers: snap.sizes, Current: current})
		p.asking = append(p.asking, s)
	}
	if len(p.asks) == 0 {
		return
	}
	p.picks = slices.Grow(p.picks[:0], len(p.asks))[:len(p.asks)]
	p.pacer.SetRate(now, p.estimator.Target())
	p.estimator.SetWanted(wantedRate(p.asks) + audioReserve)
	p.pad(out, now)
	p.queuedAt()
	budget := p.estimator.Target()
	if len(p.voices) > 0 {
		// On a poor network the smallest picture may fit beside one voice.
		budget -= min(audioReserve, budget/3)
	}
	cc.Allocate(budget, p.asks, p.picks)
	for i, pick := range p.picks {
		if pick >= 0 {
			budget -= p.asks[i].Layers[pick].Rate
		}
	}
	for i, s := range p.asking {
		s.chosen = true
		pick := p.picks[i]
		// What does not fit may fit with fewer frames.
		s.thin = false
		if lowest := s.track.now.Load(); pick < 0 && s.width > 0 && lowest.thin {
			if rate := lowest.sizes[0].Rate * thinShare / 100; rate > 0 && rate <= budget {
				budget -= rate
				pick, s.thin = 0, true
			}
		}
		if pick < 0 {
			s.target, s.layer = nil, nil
			p.pacer.Forget(s.id)
			continue
		}
		l := s.track.now.Load().list[pick]
		if s.target != l {
			s.target = l
		}
		if s.layer != l {
			l.askKey(out)
		}
	}
}

// wantedRate is what the slots would take if the network carried all, bit/s.
func wantedRate(asks []cc.Slot) (sum int64) {
	for i := range asks {
		best := int64(0)
		for _, l := range asks[i].Layers {
			if l.Rate > 0 {
				best = l.Rate
			}
			if l.Height >= asks[i].Height && best > 0 {
				break
			}
		}
		sum += best
	}
	return sum
}

// watch tells a publisher which of its layers are watched (dynacast).
func (r *Room) watch(p *Peer, now time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p.in.Lock()
	defer p.in.Unlock()
	for _, t := range p.tracks {
		if t.source.Audio() {
			continue
		}
		for _, l := range t.layers {
			seen := false
			for _, s := range t.slots {
				s.peer.mu.Lock()
				seen = seen || s.target == l || s.layer == l
				s.peer.mu.Unlock()
			}
			switch {
			case seen:
				l.unseen = 0
				if !l.wanted {
					l.wanted, l.wantedAt = true, now
					p.dirty |= dirtyLayers
				}
			case l.unseen == 0:
				l.unseen = now
			case l.wanted && now-l.unseen > unwatchedFor:
				l.wanted, l.wantedAt = false, now
				p.dirty |= dirtyLayers
			}
		}
	}
}

// tell calls the events of what has changed.
func (r *Room) tell(now time.Duration, peers []*Peer) {
	speaker, changed := r.dominate(now)
	voices := r.voicesChanged.Swap(false)
	type call struct {
		p     *Peer
		what  dirt
		slots []Shown
	}
	var calls []call
	r.mu.Lock()
	for _, p := range peers {
		if voices {
			p.dirty |= dirtySlots
		}
		what := p.dirty & (dirtySlots | dirtyLayers)
		p.dirty &^= what
		if what == 0 && !changed {
			continue
		}
		c := call{p: p, what: what}
		if what&dirtySlots != 0 {
			c.slots = r.shown(p)
		}
		calls = append(calls, c)
	}
	r.mu.Unlock()
	for _, c := range calls {
		if c.what&dirtySlots != 0 && c.p.events.Slots != nil {
			c.p.events.Slots(c.slots)
		}
		if c.what&dirtyLayers != 0 && c.p.events.Layers != nil {
			for source, wanted := range c.p.wanted() {
				c.p.events.Layers(source, wanted)
			}
		}
		if changed && c.p.events.Speaker != nil {
			c.p.events.Speaker(speaker)
		}
	}
}

// shown lists what a peer's slots carry; mu is held.
func (r *Room) shown(p *Peer) []Shown {
	r.voiceMu.Lock()
	voices := r.voices
	r.voiceMu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]Shown, 0, len(p.slots))
	for _, s := range p.slots {
		t := s.track
		if i := slices.Index(p.voices, s); i >= 0 {
			if t = voices[i]; t != nil && t.peer == p {
				t = nil
			}
		}
		if t == nil {
			list = append(list, Shown{MID: s.mid})
		} else {
			list = append(list, Shown{MID: s.mid, Peer: t.peer.id, Source: t.source})
		}
	}
	return list
}

// wanted lists the layers of each track of pictures.
func (p *Peer) wanted() map[Source][]Wanted {
	p.in.Lock()
	defer p.in.Unlock()
	m := map[Source][]Wanted{}
	for _, t := range p.tracks {
		if t.source.Audio() {
			continue
		}
		for _, l := range t.layers {
			m[t.source] = append(m[t.source], Wanted{RID: l.rid, Active: l.wanted})
		}
	}
	return m
}

// wake sees to it that packets which wait leave at a time. The peer's mu may be
// held.
func (r *Room) wake(at time.Duration) {
	for {
		next := r.nextWake.Load()
		if int64(at) >= next {
			return
		}
		if r.nextWake.CompareAndSwap(next, int64(at)) {
			select {
			case r.pacing <- struct{}{}:
			default:
			}
			return
		}
	}
}

// pace releases what waits in pacers.
func (r *Room) pace() {
	t := time.NewTimer(time.Hour)
	defer t.Stop()
	out := wire.NewOut()
	for {
		select {
		case <-r.stop:
			return
		case <-r.pacing:
		case <-t.C:
		}
		now := r.now()
		if next := time.Duration(r.nextWake.Load()); next > now {
			if next < math.MaxInt64 {
				t.Reset(next - now)
			}
			continue
		}
		r.nextWake.Store(math.MaxInt64)
		for _, p := range *r.everybody.Load() {
			if due := p.due.Load(); due == 0 {
				continue
			} else if due > int64(now) {
				r.wake(time.Duration(due))
				continue
			}
			p.mu.Lock()
			p.due.Store(0)
			p.release(out, now)
			p.queuedAt()
			p.mu.Unlock()
		}
		out.Flush()
	}
}

// policy is what peers may send and receive.
var policy = sdp.Policy{
	Codecs: []sdp.Format{
		{Kind: codec.Opus},
		{Kind: codec.RED},
		{Kind: codec.VP8},
		{Kind: codec.VP9, Profile: 0},
		{Kind: codec.H264, Profile: sdp.ConstrainedBaseline, Mode: 1},
		{Kind: codec.H264, Profile: sdp.ConstrainedBaseline, Mode: 0},
		{Kind: codec.H264, Profile: sdp.Main, Mode: 1},
		{Kind: codec.H264, Profile: sdp.High, Mode: 1},
		{Kind: codec.AV1, Profile: 0},
	},
	Extensions: []string{extLevel, extTWCC, extMID, extRID, extRepaired},
	PeerAudio:  true,
	MaxLayers:  3,
	DTX:        true,
	DTLSClient: true,
}

// Header extensions by name.
const (
	extLevel    = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
	extTWCC     = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
	extMID      = "urn:ietf:params:rtp-hdrext:sdes:mid"
	extRID      = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"
	extRepaired = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id"
)
