package room

import (
	"slices"
	"time"

	"github.com/parley-meet/parley/services/internal/sfu/cc"
	"github.com/parley-meet/parley/services/internal/sfu/codec"
	"github.com/parley-meet/parley/services/internal/sfu/sdp"
	"github.com/parley-meet/parley/services/internal/sfu/wire"
)

// Slot is a line on which a peer receives: one stream for it, fed from one source
// after the other. All of it is under the peer's mu.
type Slot struct {
	peer *Peer
	mid  string
	id   uint32 // of the peer's pacer
	line *sdp.Line
	out  wire.Stream
	rtx  wire.Stream
	// rtxNext is the next number of the retransmissions, which have their own.
	rtxNext uint64

	track  *Track // what it shows; nil: nothing
	layer  *Layer // what is sent; nil: nothing yet
	target *Layer // what shall be sent; nil: paused
	codec  sdp.Codec
	kind   codec.Kind // of what is sent, as its publisher calls it
	opus   uint8      // payload type within RED
	width  int        // in pixels, as the screen shows it
	height int
	chosen bool   // the last choice was to pause it, if there is no target
	thin   bool   // the highest temporal layer of the target shall be left out
	thins  bool   // it is
	first  uint64 // number to begin with

	runs     []run
	numbers  []numbered // of VP8 and VP9: what packets went out with, by number
	rewriter codec.Rewriter
	sent     bool
	lastTS   uint32
	lastAt   time.Duration
	packets  uint32
	bytes    uint32
	switches uint32
	reported tally // by the receiver
}

// run is a stretch of a layer that went out with the same offsets.
type run struct {
	layer *Layer
	from  uint64 // first number that came in
	off   uint64 // added to it, modulo 2^64
	ts    uint32 // added to the timestamp
	rtx   uint8  // payload type of its retransmissions; 0: none
}

// maxRuns are remembered: packets from before are not sent again.
const maxRuns = 24

// numbered is what a packet's payload was rewritten to, for a resend.
type numbered struct {
	n   uint32 // the low half of the number
	ids codec.IDs
}

// numbersKept are remembered of a slot: a second of a fast stream.
const numbersKept = 512

// remember keeps what a packet went out with.
func (s *Slot) remember(n uint64, ids codec.IDs) {
	if s.numbers == nil {
		s.numbers = make([]numbered, numbersKept)
	}
	s.numbers[n%numbersKept] = numbered{uint32(n), ids}
}

// number gives the number with which a packet of a layer goes out.
func (s *Slot) number(l *Layer, index uint64) (*run, uint64, bool) {
	for i := len(s.runs) - 1; i >= 0; i-- {
		r := &s.runs[i]
		if r.layer != l || index < r.from {
			continue
		}
		out := index + r.off
		// What is late and belongs behind the next run has no number any more.
		if i+1 < len(s.runs) && out >= s.runs[i+1].from+s.runs[i+1].off {
			return nil, 0, false
		}
		return r, out, true
	}
	return nil, 0, false
}

// source finds what went out with a number.
func (s *Slot) source(out uint64) (*run, uint64, bool) {
	for i := len(s.runs) - 1; i >= 0; i-- {
		r := &s.runs[i]
		if out >= r.from+r.off {
			return r, out - r.off, true
		}
	}
	return nil, 0, false
}

// begin starts a run at a packet: its number follows the last, and its time is
// as much later as the clock says.
func (s *Slot) begin(l *Layer, p *packet, now time.Duration) {
	next := s.out.Newest() + 1
	ts := p.ts
	if s.sent {
		step := uint32(int64(now-s.lastAt) * int64(l.clock) / int64(time.Second))
		ts = s.lastTS + max(step, 1)
	} else {
		next = s.first
	}
	if len(s.runs) == maxRuns {
		copy(s.runs, s.runs[1:])
		s.runs = s.runs[:maxRuns-1]
	}
	s.runs = append(s.runs, run{layer: l, from: p.index, off: next - p.index, ts: ts - p.ts, rtx: s.codec.RTX})
	if s.layer != l {
		s.switches++
	}
	s.layer, s.thins = l, false
	s.rewriter.Switch(l.id)
}

// skip closes the gap of a packet that is not sent.
func (s *Slot) skip(p *packet) {
	if len(s.runs) == 0 {
		return
	}
	r := s.runs[len(s.runs)-1]
	if r.layer != s.layer || p.index < r.from {
		return
	}
	// Only at the newest end: behind it numbers are given away.
	if p.index+r.off <= s.out.Newest() {
		return
	}
	if p.index == r.from {
		s.runs[len(s.runs)-1].from++
		s.runs[len(s.runs)-1].off--
		return
	}
	if len(s.runs) == maxRuns {
		copy(s.runs, s.runs[1:])
		s.runs = s.runs[:maxRuns-1]
	}
	s.runs = append(s.runs, run{layer: r.layer, from: p.index + 1, off: r.off - 1, ts: r.ts, rtx: r.rtx})
}

// queued is a packet that waits in the pacer.
type queued struct {
	slot   *Slot
	layer  *Layer
	packet *packet
	number uint64 // of a resend: the one that it went out with
	pad    int
}

// forward sends what came of a layer, one packet after the other. The peer's mu is
// held.
func (s *Slot) forward(out *wire.Out, now time.Duration, l *Layer, run []*packet) {
	peer := s.peer
	if peer.crypt == nil || peer.path == nil {
		return
	}
	if s.target != l && s.layer != l {
		return
	}
	audio := l.track.source.Audio()
	most := 0
	for _, p := range run {
		most = max(most, len(p.payload))
	}
	for _, p := range run {
		if s.layer == l && p.info.Kind != s.kind && len(p.payload) > 0 {
			// The publisher goes on with another codec: sound at once, pictures with the
			// keyframe that it begins with.
			if !audio {
				s.layer = nil
				l.askKey(out)
			} else if !s.enter(p.info.Kind, l) {
				return
			}
		}
		if s.layer != l {
			// A stream is entered where it can be decoded from.
			if s.target != l || !audio && !(p.info.Keyframe && p.info.Start) {
				continue
			}
			if !s.enter(p.info.Kind, l) {
				return
			}
			peer.pacer.Forget(s.id)
			s.begin(l, p, now)
		}
		if len(p.payload) == 0 {
			s.skip(p)
			continue
		}
		if s.leavesOut(l, &p.info) {
			s.rewriter.Drop(l.id, &p.info)
			s.skip(p)
			continue
		}
		pad := 0
		if d := most - len(p.payload); !audio && d > 0 && d <= maxPad {
			pad = d
		}
		item := cc.Item[queued]{
			Packet: queued{slot: s, layer: l, packet: p, pad: pad},
			Size:   len(p.payload) + perPacket,
			Stream: s.id,
			Class:  cc.Video,
			Key:    p.info.Keyframe,
			First:  p.info.Start,
		}
		if audio {
			item.Class = cc.Audio
		}
		switch peer.pacer.Offer(now, item) {
		case cc.Send:
			s.write(out, now, l, p, pad)
		case cc.Queued:
			peer.queuedAt()
		}
	}
}

// leavesOut reports whether a packet of the slot's layer is of its highest temporal
// layer, and that is left out. It ends and begins with a frame; it ends where the
// frame needs none of those that were left out.
func (s *Slot) leavesOut(l *Layer, in *codec.Info) bool {
	if !in.HasLayers || l.temporal == 0 || in.Temporal < l.temporal {
		return false
	}
	if in.Start && (s.thin || in.Sync || in.Keyframe) {
		s.thins = s.thin
	}
	return s.thins
}

// maxPad is how much a packet is padded, bytes, so that a frame's packets have
// one size and leave as one message: encoders split frames into packets that
// differ by one or two.
const maxPad = 4

// perPacket is what a packet has beside its payload on the network: headers of
// IP, UDP and RTP with extensions, and the tag.
const perPacket = 28 + 20 + wire.Overhead

// enter chooses the payload type for what a layer carries. Sound with redundancy
// (RFC 2198) goes without it to who does not take it.
func (s *Slot) enter(kind codec.Kind, l *Layer) bool {
	c, ok := s.line.Send(l.format)
	opus, plain := s.line.Send(sdp.Format{Kind: codec.Opus})
	if kind == codec.RED && plain {
		if s.opus = opus.PT; !ok {
			c, ok = opus, true
		}
	} else if kind == codec.RED {
		return false
	}
	if !ok {
		return false
	}
	s.codec, s.kind = *c, kind
	return true
}

// put copies a payload as the receiver knows it, and returns its length; false is
// that it cannot be read.
func (s *Slot) put(dst []byte, p *packet) (int, bool) {
	if p.info.Kind != codec.RED {
		return copy(dst, p.payload), true
	}
	if s.codec.Kind == codec.Opus {
		_, primary, err := codec.Primary(p.payload)
		return copy(dst, primary), err == nil
	}
	n := copy(dst, p.payload)
	return n, codec.SetRED(dst[:n], s.opus) == nil
}

// write sends one packet now.
func (s *Slot) write(out *wire.Out, now time.Duration, l *Layer, p *packet, pad int) {
	r, n, ok := s.number(l, p.index)
	if !ok {
		return
	}
	if p.info.Keyframe && p.info.Start && n > s.out.Newest()+1 && s.sent {
		// Frames before it were dropped, or are missing: nobody needs to ask for
		// them any more.
		s.begin(l, p, now)
		if r, n, ok = s.number(l, p.index); !ok {
			return
		}
	}
	ids, rewrite := codec.IDs{}, p.info.PictureBits > 0 || p.info.HasTL0
	if rewrite {
		if ids, ok = s.rewriter.Place(l.id, &p.info); !ok {
			s.skip(p)
			return
		}
	}
	peer := s.peer
	size := maxOutHeader + len(p.payload) + pad + wire.Overhead
	b := out.Buffer(size)
	h := outHeader{pt: s.codec.PT, marker: p.marker, ts: p.ts + r.ts, padded: pad > 0}
	if l.track.source.Audio() {
		h.levelID, h.level = s.line.Ext.AudioLevel, p.level
	}
	h.twccID, h.twcc = s.line.Ext.TWCC, peer.estimator.Sent(now, len(p.payload)+perPacket)
	at := h.put(b)
	copied, ok := s.put(b[at:], p)
	if !ok {
		s.skip(p)
		return
	}
	end := at + copied
	if rewrite {
		ids.Write(b[at:end], &p.info)
		s.remember(n, ids)
	}
	if pad > 0 {
		clear(b[end : end+pad])
		end += pad
		b[end-1] = byte(pad)
	}
	sealed, err := peer.crypt.SealRTP(&s.out, n, b[:end], at)
	if err != nil {
		peer.stats.Refused++
		return
	}
	out.Commit(peer.path, len(sealed))
	s.packets++
	s.bytes += uint32(len(p.payload))
	peer.stats.Sent++
	peer.stats.SentBytes += uint64(len(sealed))
	if n == s.out.Newest() {
		s.sent, s.lastTS, s.lastAt = true, h.ts, now
	}
}

// resend sends again what went out with a sequence number, by RTX (RFC 4588): a
// stream of its own, so that no number is sealed twice.
func (s *Slot) resend(out *wire.Out, now time.Duration, seq uint16) bool {
	newest := s.out.Newest()
	n := newest - uint64(uint16(newest)-seq)
	r, index, ok := s.source(n)
	if !ok || r.rtx == 0 || s.line.RTXSSRC == 0 {
		return false
	}
	p := r.layer.get(index)
	if p == nil {
		return false
	}
	item := cc.Item[queued]{
		Packet: queued{slot: s, layer: r.layer, packet: p, number: n},
		Size:   len(p.payload) + perPacket,
		Class:  cc.Resend,
	}
	switch s.peer.pacer.Offer(now, item) {
	case cc.Send:
		s.writeAgain(out, now, r, p, n)
	case cc.Queued:
		s.peer.queuedAt()
	}
	return true
}

func (s *Slot) writeAgain(out *wire.Out, now time.Duration, r *run, p *packet, n uint64) {
	peer := s.peer
	rewritten := p.info.PictureBits > 0 || p.info.HasTL0
	if rewritten && (s.numbers == nil || s.numbers[n%numbersKept].n != uint32(n)) {
		return // too long ago
	}
	b := out.Buffer(maxOutHeader + 2 + len(p.payload) + wire.Overhead)
	h := outHeader{pt: r.rtx, marker: p.marker, ts: p.ts + r.ts}
	h.twccID, h.twcc = s.line.Ext.TWCC, peer.estimator.Sent(now, len(p.payload)+perPacket)
	at := h.put(b)
	b[at], b[at+1] = byte(n>>8), byte(n)
	end := at + 2 + copy(b[at+2:], p.payload)
	if rewritten {
		s.numbers[n%numbersKept].ids.Write(b[at+2:end], &p.info)
	}
	sealed, err := peer.crypt.SealRTP(&s.rtx, s.rtxNext, b[:end], at)
	if err != nil {
		peer.stats.Refused++
		return
	}
	s.rtxNext++
	out.Commit(peer.path, len(sealed))
	peer.stats.Resent++
	peer.stats.SentBytes += uint64(len(sealed))
}

// probe sends padding on the retransmissions' stream: what a receiver measures and
// throws away. It says whether it could.
func (s *Slot) probe(out *wire.Out, now time.Duration, n int) bool {
	peer := s.peer
	rtx := s.codec.RTX
	if rtx == 0 && len(s.line.Codecs) > 0 {
		rtx = s.line.Codecs[0].RTX // nothing was sent yet
	}
	if rtx == 0 || s.line.RTXSSRC == 0 || s.line.Ext.TWCC == 0 {
		return false
	}
	pad := min(max(n-perPacket, 1), 255)
	b := out.Buffer(maxOutHeader + pad + wire.Overhead)
	h := outHeader{pt: rtx, ts: s.lastTS, padded: true, twccID: s.line.Ext.TWCC}
	h.twcc = peer.estimator.Sent(now, pad+perPacket)
	at := h.put(b)
	end := at + pad
	clear(b[at:end])
	b[end-1] = byte(pad)
	sealed, err := peer.crypt.SealRTP(&s.rtx, s.rtxNext, b[:end], at)
	if err != nil {
		return false
	}
	s.rtxNext++
	out.Commit(peer.path, len(sealed))
	peer.stats.Probes++
	peer.stats.SentBytes += uint64(len(sealed))
	return true
}

// release sends what the pacer lets go.
func (p *Peer) release(out *wire.Out, now time.Duration) {
	if p.crypt == nil || p.path == nil {
		return
	}
	for {
		it, ok := p.pacer.Pop(now)
		if !ok {
			break
		}
		q := it.Packet
		switch {
		case it.Class == cc.Resend:
			if r, _, ok := q.slot.source(q.number); ok && r.layer == q.layer {
				q.slot.writeAgain(out, now, r, q.packet, q.number)
			}
		case q.slot.layer == q.layer:
			q.slot.write(out, now, q.layer, q.packet, q.pad)
		}
	}
	p.pad(out, now)
	for {
		stream, ok := p.pacer.Broken()
		if !ok {
			break
		}
		for _, s := range p.slots {
			if s.id == stream && s.layer != nil {
				s.layer.askKey(out)
			}
		}
	}
}

// pad sends the padding that the estimator wants, on any slot that can.
func (p *Peer) pad(out *wire.Out, now time.Duration) {
	for range maxPadding {
		n := p.estimator.Padding(now)
		if n <= 0 {
			return
		}
		if !slices.ContainsFunc(p.slots, func(s *Slot) bool { return s.probe(out, now, n) }) {
			return
		}
	}
}

// maxPadding packets leave at once.
const maxPadding = 16
