package cc

import "time"

// Between NTP's epoch of 1900 and Unix's.
const ntpUnix = 2_208_988_800

// NTP is a moment in the format of sender reports: seconds since 1900, 32.32. It
// wraps in 2036, as the format does.
func NTP(t time.Time) uint64 {
	return uint64(t.Unix()+ntpUnix)<<32 | uint64(t.Nanosecond())<<32/uint64(time.Second)
}

// ntpSpan is the distance between two NTP times, below 68 years.
func ntpSpan(later, earlier uint64) time.Duration {
	d := int64(later - earlier)
	return time.Duration((d>>32)*int64(time.Second) + (d&0xffffffff)*int64(time.Second)>>32)
}

// ntpAdd moves an NTP time.
func ntpAdd(ntp uint64, d time.Duration) uint64 {
	s, rest := int64(d/time.Second), int64(d%time.Second)
	return ntp + uint64(s<<32+rest<<32/int64(time.Second))
}

const (
	// wallJump is how far a participant's clock may leap before it is learned anew.
	wallJump = time.Second

	// wallDrift is how much of a later reading is taken: clocks drift apart by
	// some 50 µs per second, and readings come every second or more seldom.
	wallDrift = 64
)

// Wall is one participant's NTP clock as seen from here. All its streams share
// it, so that audio and video keep their distance when the reports that the
// router sends speak of the router's own clock.
type Wall struct {
	known  bool
	base   uint64        // an NTP time of the participant
	origin time.Duration // and what it was here, with the shortest delay seen
}

// Learn takes the NTP time of a sender report that arrived now.
func (w *Wall) Learn(now time.Duration, ntp uint64) {
	if !w.known {
		w.known, w.base, w.origin = true, ntp, now
		return
	}
	// Positive: this report took longer than the ones before, or the clocks drift.
	switch late := now - w.Local(ntp); {
	case late > wallJump || late < -wallJump:
		w.base, w.origin = ntp, now
	case late < 0:
		w.origin += late
	default:
		w.origin += late / wallDrift
	}
}

// Local is a time of the participant on the router's clock.
func (w *Wall) Local(ntp uint64) time.Duration { return w.origin + ntpSpan(ntp, w.base) }

// Clock maps the timestamps of one incoming stream to time, by the last sender
// report.
type Clock struct {
	rate  uint32 // Hz
	ntp   uint64
	rtp   uint32
	known bool
}

// NewClock is for a stream whose clock has that many ticks per second.
func NewClock(rate uint32) Clock { return Clock{rate: rate} }

// SenderReport takes the publisher's report. Learn it in the Wall too.
func (c *Clock) SenderReport(ntp uint64, rtp uint32) { c.ntp, c.rtp, c.known = ntp, rtp, true }

// RTP gives the timestamp that belongs to a time on the router's clock, with the
// offset of an outgoing stream added; false before the publisher's first report.
// With the NTP time of now it makes the router's own sender report.
func (c *Clock) RTP(w *Wall, now time.Duration, offset uint32) (uint32, bool) {
	if !c.known || !w.known {
		return 0, false
	}
	return c.rtp + units(now-w.Local(c.ntp), c.rate) + offset, true
}
