// Package load joins a router as many participants, to measure it and to certify
// what a machine carries. Packets are made up, and everything around them is real:
// ICE, DTLS, SRTP, feedback, NACKs and their retransmissions.
//
// A subscriber is light or full. A light one counts its packets by SSRC at the
// socket, sends transport-wide feedback for all of them, and opens one of Sample to
// measure the delay. A full one opens all, asks again for what is missing, and
// knows what was lost for good.
package load

import (
	"encoding/binary"
	"math"
	"sync"
	"time"

	"github.com/parley-meet/parley/services/internal/sfu/cc"
	"github.com/parley-meet/parley/services/internal/sfu/transport"
)

// Payload types that clients offer.
const (
	ptVP8  = 96
	ptRTX  = 97
	ptOpus = 111
)

// Sample is which part of its packets a light subscriber opens.
const Sample = 64

// Where a payload holds the time at which it was sent, ns since the epoch of the
// load, 8 bytes.
const (
	stampVideo = 24
	stampAudio = 4
)

// URIs of extensions.
const (
	extTWCC = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
	extMID  = "urn:ietf:params:rtp-hdrext:sdes:mid"
	extRID  = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"
	extRep  = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id"
	extLev  = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
)

// Subscriber receives.
type Subscriber struct {
	Full bool
	// Lose is of a full one: of so many packets of video one is taken for lost, as
	// networks do, and has to come by retransmission. 0: none.
	Lose  int
	epoch time.Time

	mu       sync.Mutex
	client   *transport.Client
	twcc     uint8
	streams  map[uint32]*stream
	arrivals cc.Arrivals
	delays   Histogram
	scratch  []byte
	count    uint64
	resent   uint64
	ssrc     uint32
	feedback uint64
	nacks    uint64
	dice     int
}

// stream is an SSRC that it receives.
type stream struct {
	pt       uint8
	first    uint64
	highest  uint64
	received uint64
	any      bool
	nacks    cc.Nacks
}

// Figures are what a subscriber has seen.
type Figures struct {
	Packets  uint64 // of media, without retransmissions
	Expected uint64
	Resent   uint64 // retransmissions that came
	Feedback uint64 // packets of feedback sent
	Nacks    uint64
}

// Add sums.
func (f *Figures) Add(g Figures) {
	f.Packets += g.Packets
	f.Expected += g.Expected
	f.Resent += g.Resent
	f.Feedback += g.Feedback
	f.Nacks += g.Nacks
}

// NewSubscriber makes one; Start must follow when its client is ready.
func NewSubscriber(epoch time.Time, full bool) *Subscriber {
	return &Subscriber{Full: full, epoch: epoch, streams: map[uint32]*stream{}, ssrc: 1}
}

// Start gives it its client, which is ready, and the first of its lines.
func (s *Subscriber) Start(c *transport.Client, line int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.client, s.twcc = c, c.Extension(line, extTWCC)
}

// Media is for transport.Dial.
func (s *Subscriber) Media(packets [][]byte) {
	now := time.Since(s.epoch)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client == nil {
		return
	}
	for _, b := range packets {
		if t := b[1] & 0x7f; t >= 64 && t <= 95 {
			continue // reports of the server: nothing is played
		}
		s.packet(now, b)
	}
	if s.arrivals.Due(now) {
		s.tell(now)
	}
	if s.Full {
		s.ask(now)
	}
}

func (s *Subscriber) packet(now time.Duration, b []byte) {
	if len(b) < 20 {
		return
	}
	pt, seq, ssrc := b[1]&0x7f, binary.BigEndian.Uint16(b[2:]), binary.BigEndian.Uint32(b[8:])
	if s.Full && s.Lose > 0 && pt == ptVP8 {
		if s.dice++; s.dice%s.Lose == 0 {
			return
		}
	}
	if s.twcc != 0 && b[0]&0x10 != 0 && binary.BigEndian.Uint16(b[12:]) == 0xBEDE {
		for at, end := 16, min(len(b), 16+4*int(binary.BigEndian.Uint16(b[14:]))); at+2 < end; {
			id, n := b[at]>>4, int(b[at]&15)+1
			if b[at] == 0 {
				at++
				continue
			}
			if id == s.twcc && n == 2 {
				s.arrivals.Add(now, binary.BigEndian.Uint16(b[at+1:]), len(b))
			}
			at += 1 + n
		}
	}
	s.count++
	st := s.streams[ssrc]
	if st == nil {
		st = &stream{pt: pt}
		s.streams[ssrc] = st
	}
	if pt == ptRTX {
		s.resent++
		if s.Full {
			s.restore(now, b)
		}
		return
	}
	if !st.any {
		st.any, st.first, st.highest = true, 1<<16+uint64(seq), 1<<16+uint64(seq)
	} else if d := int16(seq - uint16(st.highest)); d > 0 {
		st.highest += uint64(d)
	}
	st.received++
	if s.Full && pt == ptVP8 {
		st.nacks.Received(now, seq, false)
	}
	if s.Full || s.count%Sample == 0 {
		s.open(now, b, pt)
	}
}

// open decrypts a packet and takes its delay.
func (s *Subscriber) open(now time.Duration, b []byte, pt uint8) {
	clear, err := s.client.Crypt.OpenRTP(s.scratch[:0], b)
	if err != nil {
		return
	}
	s.scratch = clear
	at := payloadAt(clear)
	if pt == ptVP8 {
		at += stampVideo
	} else {
		at += stampAudio
	}
	if at+8 > len(clear) {
		return
	}
	if sent := time.Duration(binary.BigEndian.Uint64(clear[at:])); sent > 0 && sent <= now {
		s.delays.Add(now - sent)
	}
}

// payloadAt is where the payload begins of a packet that was opened, and so has a
// whole header (RFC 3550, 5.1).
func payloadAt(b []byte) int {
	at := 12 + 4*int(b[0]&15)
	if b[0]&0x10 != 0 {
		at += 4 + 4*int(binary.BigEndian.Uint16(b[at+2:]))
	}
	return at
}

// restore takes a retransmission.
func (s *Subscriber) restore(now time.Duration, b []byte) {
	clear, err := s.client.Crypt.OpenRTP(s.scratch[:0], b)
	if err != nil {
		return
	}
	s.scratch = clear
	at := payloadAt(clear)
	if clear[0]&0x20 != 0 || at+2 > len(clear) {
		return // a probe
	}
	seq := binary.BigEndian.Uint16(clear[at:])
	for _, st := range s.streams {
		if st.pt == ptVP8 && st.nacks.Missing() > 0 {
			before := st.nacks.Missing()
			st.nacks.Recovered(seq)
			if st.nacks.Missing() < before {
				st.received++
				return
			}
		}
	}
}

// tell sends feedback.
func (s *Subscriber) tell(now time.Duration) {
	var buf [1200]byte
	media := uint32(0)
	for ssrc := range s.streams {
		media = ssrc
		break
	}
	for {
		n := s.arrivals.Build(now, buf[:], s.ssrc, media)
		if n == 0 {
			return
		}
		s.feedback++
		s.rtcp(buf[:n])
	}
}

func (s *Subscriber) ask(now time.Duration) {
	var buf [400]byte
	for ssrc, st := range s.streams {
		if st.nacks.Missing() == 0 {
			continue
		}
		if n := st.nacks.Build(now, 5*time.Millisecond, buf[:], s.ssrc, ssrc); n > 0 {
			s.nacks++
			s.rtcp(buf[:n])
		}
	}
}

func (s *Subscriber) rtcp(b []byte) {
	_ = s.client.SendRTCP(b) // a full buffer is a lost packet
}

// Figures are those so far.
func (s *Subscriber) Figures() Figures {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := Figures{Resent: s.resent, Feedback: s.feedback, Nacks: s.nacks}
	for _, st := range s.streams {
		if st.any {
			f.Packets += st.received
			f.Expected += st.highest - st.first + 1
		}
	}
	return f
}

// Delays adds what was measured to h.
func (s *Subscriber) Delays(h *Histogram) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h.Merge(&s.delays)
}

// Reset begins the delays anew.
func (s *Subscriber) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.delays = Histogram{}
}

// Histogram counts durations in steps of an eighth of their size.
type Histogram struct {
	counts [512]uint64
	total  uint64
}

// Add counts one.
func (h *Histogram) Add(d time.Duration) {
	h.counts[bucket(d)]++
	h.total++
}

func bucket(d time.Duration) int {
	us := float64(max(d.Microseconds(), 1))
	return min(int(math.Log2(us)*8), 511)
}

// Merge adds another one.
func (h *Histogram) Merge(o *Histogram) {
	for i, n := range o.counts {
		h.counts[i] += n
	}
	h.total += o.total
}

// Quantile is the duration below which a share q of them is, at most.
func (h *Histogram) Quantile(q float64) time.Duration {
	want, sum := uint64(math.Ceil(q*float64(h.total))), uint64(0)
	for i, n := range h.counts {
		if sum += n; sum >= want && n > 0 {
			return time.Duration(math.Exp2(float64(i+1)/8)) * time.Microsecond
		}
	}
	return 0
}

// Count is how many there are.
func (h *Histogram) Count() uint64 { return h.total }
