package room

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parley-meet/parley/services/internal/sfu/cc"
	"github.com/parley-meet/parley/services/internal/sfu/codec"
	"github.com/parley-meet/parley/services/internal/sfu/sdp"
	"github.com/parley-meet/parley/services/internal/sfu/transport"
	"github.com/parley-meet/parley/services/internal/sfu/wire"
)

// Peer is one participant's connection: it publishes tracks, and receives on
// slots. Locks: in, then mu; the room's before both; never two peers' in, never
// two peers' mu.
type Peer struct {
	room   *Room
	id     string
	events Events

	// What comes in.
	in       sync.Mutex
	crypt    *wire.Crypt // both sides; nil until DTLS is done
	ids      extensions
	tracks   []*Track
	bySSRC   map[uint32]*inStream
	arrivals cc.Arrivals
	clock    cc.Wall
	rttIn    time.Duration
	slab     []byte
	slabSize int
	slabAt   time.Duration // when it was made
	run      []*packet
	received Received
	lossUp   Losses

	// What goes out.
	mu        sync.Mutex
	path      *wire.Path
	slots     []*Slot
	voices    []*Slot
	estimator *cc.Estimator
	pacer     *cc.Pacer[queued]
	ssrc      uint32 // that our RTCP comes from
	cname     string
	stats     Sent
	lossDown  Losses
	nacks     []uint16
	asked     uint64    // keyframes of it
	asks      []cc.Slot // of choose, kept for the next time
	asking    []*Slot
	picks     []int
	state     transport.State
	due       atomic.Int64 // when release is called, ns of now; 0: not

	// One offer after the other.
	offering  sync.Mutex
	session   *sdp.Session
	transport *transport.Peer
	sdpID     uint64

	// Under the room's mu.
	number uint32
	dirty  dirt
	view   []Want
	closed bool
}

// Sent counts what a peer was sent, packets but SentBytes.
type Sent struct {
	Sent        uint64 `json:"sent"`
	SentBytes   uint64 `json:"sent_bytes"`
	Resent      uint64 `json:"resent"`
	Probes      uint64 `json:"probes"`
	Refused     uint64 `json:"refused"`
	Nacked      uint64 `json:"nacked"`       // numbers that it asked for
	NackMissing uint64 `json:"nack_missing"` // of those, they were gone
	Feedbacks   uint64 `json:"feedbacks"`    // that it sent
	Keyframes   uint64 `json:"keyframes"`    // that it asked for
}

// Received counts what a peer sent, packets but Bytes.
type Received struct {
	Packets   uint64 `json:"packets"`
	Bytes     uint64 `json:"bytes"`
	Dropped   uint64 `json:"dropped"`
	Recovered uint64 `json:"recovered"` // by retransmission
	Nacks     uint64 `json:"nacks"`     // packets that we sent, as those below
	Feedbacks uint64 `json:"feedbacks"`
	Keyframes uint64 `json:"keyframes"` // that we asked for
}

// inStream is an SSRC that a peer sends.
type inStream struct {
	layer *Layer // whose it is
	again bool   // it carries the layer's retransmissions
}

// Bounds of a peer.
const (
	maxStreams = 32 // SSRCs that are media of it
	// A slab lives as long as any packet in it: it is as large as what comes in half
	// a second, within bounds, bytes.
	minSlab, maxSlab = 4 << 10, 64 << 10
	slabFor          = 500 * time.Millisecond
)

// open opens a packet into the slab: one allocation for many packets.
func (p *Peer) open(b []byte, now time.Duration) ([]byte, error) {
	if len(b) > len(p.slab) {
		switch took := now - p.slabAt; {
		case took < slabFor/2:
			p.slabSize = min(2*p.slabSize, maxSlab)
		case took > 2*slabFor:
			p.slabSize /= 2
		}
		p.slabSize = max(p.slabSize, minSlab)
		p.slab, p.slabAt = make([]byte, p.slabSize), now
	}
	clear, err := p.crypt.OpenRTP(p.slab[:0:len(b)], b)
	if err != nil {
		return nil, err
	}
	p.slab = p.slab[len(clear):]
	return clear[:len(clear):len(clear)], nil
}

// Media implements wire.Handler.
func (p *Peer) Media(out *wire.Out, from *wire.Path, packets [][]byte) {
	now := p.room.now()
	p.in.Lock()
	defer p.in.Unlock()
	if p.crypt == nil {
		return
	}
	var last *Layer
	p.run = p.run[:0]
	for _, b := range packets {
		if t := b[1] & 0x7f; t >= 64 && t <= 95 { // RFC 5761, 4
			p.flushRun(out, now, last)
			last = nil
			p.rtcp(out, now, b)
			continue
		}
		l, pkt := p.rtp(out, now, b)
		if pkt == nil {
			continue
		}
		if l != last {
			p.flushRun(out, now, last)
			last = l
		}
		p.run = append(p.run, pkt)
	}
	p.flushRun(out, now, last)
	p.askAgain(out, now)
	if p.arrivals.Due(now) {
		p.feedback(out, now)
	}
}

// flushRun forwards what came of a layer in a row.
func (p *Peer) flushRun(out *wire.Out, now time.Duration, l *Layer) {
	if l == nil || len(p.run) == 0 {
		return
	}
	t := l.track
	if !t.muted {
		if t.source.Audio() && t.source != ScreenSound {
			p.room.speak(out, now, t, l, p.run)
		} else {
			for _, s := range t.slots {
				s.peer.mu.Lock()
				s.forward(out, now, l, p.run)
				s.peer.mu.Unlock()
			}
		}
	}
	clear(p.run)
	p.run = p.run[:0]
}

// rtp takes a packet of media: it opens it, finds its layer, and keeps it.
func (p *Peer) rtp(out *wire.Out, now time.Duration, b []byte) (*Layer, *packet) {
	clear, err := p.open(b, now)
	if err != nil {
		p.received.Dropped++
		return nil, nil
	}
	var h header
	if !h.parse(clear, &p.ids) {
		p.received.Dropped++
		return nil, nil
	}
	p.received.Packets++
	p.received.Bytes += uint64(len(b))
	if h.hasTWCC {
		p.arrivals.Add(now, h.twcc, len(b))
	}
	s := p.bySSRC[h.ssrc]
	if s == nil {
		if s = p.learn(&h); s == nil {
			p.received.Dropped++
			return nil, nil
		}
	}
	l := s.layer
	if s.again {
		if len(h.payload) < 2 {
			return nil, nil // padding: a probe
		}
		h.seq = uint16(h.payload[0])<<8 | uint16(h.payload[1])
		h.payload = h.payload[2:]
		if !l.any || l.get(l.peek(h.seq)) != nil {
			return nil, nil
		}
		p.received.Recovered++
	} else {
		if !l.accepts(h.pt) {
			if !l.become(h.pt) {
				p.received.Dropped++
				return nil, nil
			}
		}
		l.recv.Received(now, h.seq, h.ts)
	}
	was := l.any
	index := l.extend(h.seq)
	if was && l.highest-index >= uint64(videoCache) {
		return nil, nil // too old to be of use
	}
	l.heard = now
	l.rate.add(len(b), now)
	pkt := &packet{index: index, ts: h.ts, at: now, marker: h.marker, level: h.level}
	if !h.hasLevel {
		pkt.level = unknownLevel
	}
	pkt.payload = h.payload
	if len(pkt.payload) > 0 {
		if pkt.info, err = codec.Inspect(l.format.Kind, pkt.payload); err != nil {
			p.received.Dropped++
			return nil, nil
		}
		if pkt.info.HasLayers && pkt.info.Temporal > l.temporal && l.thinnable() {
			l.temporal = pkt.info.Temporal
		}
		if pkt.info.Keyframe && pkt.info.Start {
			l.keyWant.Store(false)
			if pkt.info.Width > 0 {
				l.width, l.height = pkt.info.Width, pkt.info.Height
			}
		}
	}
	if !l.track.source.Audio() {
		if s.again {
			l.nacks.Recovered(h.seq)
		} else {
			l.nacks.Received(now, h.seq, pkt.info.Keyframe && pkt.info.Start)
		}
	}
	l.keep(pkt)
	return l, pkt
}

// learn finds whose an SSRC is: by what it says of itself (RFC 8843, 9.2; RFC
// 8852), or by a payload type that only one line has.
func (p *Peer) learn(h *header) *inStream {
	if len(p.bySSRC) >= maxStreams {
		return nil
	}
	var track *Track
	if len(h.mid) > 0 {
		for _, t := range p.tracks {
			if t.mid == string(h.mid) {
				track = t
			}
		}
	} else {
		for _, t := range p.tracks {
			for i := range t.line.Codecs {
				if c := &t.line.Codecs[i]; c.PT == h.pt || c.RTX != 0 && c.RTX == h.pt {
					if track != nil && track != t {
						return nil
					}
					track = t
				}
			}
		}
	}
	if track == nil {
		return nil
	}
	rid := h.rid
	if len(h.repaired) > 0 {
		rid = h.repaired
	}
	var layer *Layer
	for _, l := range track.layers {
		if l.rid == string(rid) || len(track.layers) == 1 && len(rid) == 0 {
			layer = l
		}
	}
	if layer == nil {
		return nil
	}
	s := &inStream{layer: layer, again: track.isRTX(h.pt)}
	if s.again {
		if layer.rtx != 0 {
			return nil
		}
		layer.rtx = h.ssrc
	} else {
		if layer.ssrc != 0 {
			// A page that takes a new camera goes on with its SSRC; another one is
			// somebody's lie, or a sender that began anew and must offer again.
			return nil
		}
		layer.ssrc = h.ssrc
	}
	p.bySSRC[h.ssrc] = s
	return s
}

func (t *Track) isRTX(pt uint8) bool {
	for i := range t.line.Codecs {
		if t.line.Codecs[i].RTX == pt && pt != 0 {
			return true
		}
	}
	return false
}

// accepts says whether a payload type is the one that the layer has.
func (l *Layer) accepts(pt uint8) bool { return l.clock != 0 && l.pt == pt }

// become gives a layer the format of a payload type.
func (l *Layer) become(pt uint8) bool {
	for i := range l.track.line.Codecs {
		c := &l.track.line.Codecs[i]
		if c.PT != pt {
			continue
		}
		if l.clock != c.Clock {
			l.recv, l.sr, l.reported = cc.NewReception(c.Clock), cc.NewClock(c.Clock), tally{}
		}
		l.pt, l.format, l.clock, l.temporal = pt, c.Format, c.Clock, 0
		return true
	}
	return false
}

// thinnable says whether frames of the layer can be left out so that receivers do
// not notice: they tell where a higher temporal layer may be taken up again.
func (l *Layer) thinnable() bool { return l.format.Kind == codec.VP8 || l.format.Kind == codec.VP9 }

// peek is the extended number that a sequence number has, without a change.
func (l *Layer) peek(seq uint16) uint64 {
	return l.highest + uint64(int64(int16(seq-uint16(l.highest))))
}

// queuedAt sees to it that release is called when the pacer wants it. mu is held.
func (p *Peer) queuedAt() {
	next := int64(p.pacer.Next())
	if padding := int64(p.estimator.NextPadding()); padding != 0 && (next == 0 || padding < next) {
		next = padding
	}
	if due := p.due.Load(); next != 0 && (due == 0 || next < due) {
		p.due.Store(next)
		p.room.wake(time.Duration(next))
	}
}

// keys are the handshake's end.
func (p *Peer) keys(c *wire.Crypt, _ wire.Profile) {
	p.in.Lock()
	p.mu.Lock()
	p.crypt = c
	p.mu.Unlock()
	p.in.Unlock()
}

// via is the path that the peer has nominated.
func (p *Peer) via(path *wire.Path) {
	p.mu.Lock()
	p.path = path
	p.mu.Unlock()
}

func (p *Peer) changed(s transport.State, err error) {
	p.mu.Lock()
	p.state = s
	p.mu.Unlock()
	if s == transport.Connected {
		p.room.start(p)
	}
	if p.events.State != nil {
		p.events.State(s, err)
	}
}

// ID is the participant's.
func (p *Peer) ID() string { return p.id }

func (p *Peer) String() string { return fmt.Sprintf("peer %s", p.id) }
