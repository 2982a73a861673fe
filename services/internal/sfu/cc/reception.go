package cc

import "time"

// Limits of what a sequence number may do (RFC 3550 appendix A.1).
const (
	maxDropout  = 3000
	maxMisorder = 100
)

// Reception counts what arrives of one stream, for receiver reports (RFC 3550
// section 6.4.1 and appendix A). Retransmissions on their own SSRC do not belong
// here.
type Reception struct {
	rate    uint32 // of the stream's clock, Hz
	started bool
	base    uint32 // extended first sequence number
	highest uint32 // extended
	bad     uint32 // the sequence number that would prove a restart; above 1<<16 none

	packets       uint32
	expectedPrior uint32
	packetsPrior  uint32

	transit uint32
	rtp     uint32
	jitter  uint32 // times 16

	lsr   uint32
	lsrAt time.Duration
}

const noBad = 1<<16 + 1

// NewReception is for a stream whose clock has that many ticks per second.
func NewReception(rate uint32) *Reception { return &Reception{rate: rate, bad: noBad} }

// Received records a packet. It reports false for one so far from the others that
// it is not counted: a restart needs two in a row.
func (r *Reception) Received(now time.Duration, seq uint16, rtp uint32) bool {
	if !r.started {
		r.restart(seq)
	}
	switch d := seq - uint16(r.highest); {
	case d < maxDropout:
		if seq < uint16(r.highest) {
			r.highest += 1 << 16
		}
		r.highest = r.highest&^0xffff | uint32(seq)
	case d <= 1<<16-maxMisorder:
		if uint32(seq) != r.bad {
			r.bad = uint32(seq + 1)
			return false
		}
		r.restart(seq)
	}
	r.packets++
	r.bad = noBad

	// The packets of one frame have one timestamp; their distance is pacing, not
	// jitter.
	if r.packets > 1 && rtp == r.rtp {
		return true
	}
	transit := units(now, r.rate) - rtp
	if r.packets > 1 {
		d := int32(transit - r.transit)
		if d < 0 {
			d = -d
		}
		// A timestamp that leaps is a new source, not jitter.
		if uint32(d) < 10*r.rate {
			r.jitter += uint32(d) - (r.jitter+8)>>4
		}
	}
	r.transit, r.rtp = transit, rtp
	return true
}

func (r *Reception) restart(seq uint16) {
	r.started = true
	r.base, r.highest, r.bad = uint32(seq), uint32(seq), noBad
	r.packets, r.packetsPrior, r.expectedPrior = 0, 0, 0
	r.jitter = 0
}

// SenderReport records the NTP time of a sender report, for LSR and DLSR.
func (r *Reception) SenderReport(now time.Duration, ntp uint64) {
	r.lsr, r.lsrAt = uint32(ntp>>16), now
}

// Report gives the block for a receiver report and begins the next interval. It
// is false before the first packet.
func (r *Reception) Report(now time.Duration, ssrc uint32) (Report, bool) {
	if !r.started {
		return Report{}, false
	}
	expected := r.highest - r.base + 1
	lost := int32(expected - r.packets)
	rep := Report{
		SSRC: ssrc, Lost: min(max(lost, -1<<23), 1<<23-1),
		Highest: r.highest, Jitter: r.jitter >> 4,
	}
	exp, got := expected-r.expectedPrior, r.packets-r.packetsPrior
	r.expectedPrior, r.packetsPrior = expected, r.packets
	if exp > 0 && got < exp {
		rep.Fraction = uint8(min((exp-got)<<8/exp, 255))
	}
	if r.lsr != 0 {
		rep.LSR = r.lsr
		rep.DLSR = uint32((now - r.lsrAt) * (1 << 16) / time.Second)
	}
	return rep, true
}

// units is a time in ticks of a clock, modulo 32 bits.
func units(t time.Duration, rate uint32) uint32 {
	s, rest := int64(t/time.Second), int64(t%time.Second)
	return uint32(s*int64(rate) + rest*int64(rate)/int64(time.Second))
}
