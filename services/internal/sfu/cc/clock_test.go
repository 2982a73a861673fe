package cc_test

import (
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/sfu/cc"
)

func TestNTP(t *testing.T) {
	// RFC 868 and RFC 5905: 1970 is 2,208,988,800 seconds after 1900.
	if got := cc.NTP(time.Unix(0, 500_000_000)); got != 2_208_988_800<<32|1<<31 {
		t.Errorf("%#x", got)
	}
}

// Audio and video of one participant keep their distance, whatever its clock says
// and however its reports are delayed.
func TestSenderReportsKeepStreamsTogether(t *testing.T) {
	var w cc.Wall
	audio, video := cc.NewClock(48_000), cc.NewClock(90_000)
	if _, ok := audio.RTP(&w, 0, 0); ok {
		t.Error("a report before the publisher's first")
	}
	// Captured at T: audio's timestamp 48,000 T + 1000, video's 90,000 T + 77.
	begin := time.Unix(1_000_000_000, 0) // the participant's clock is wrong
	report := func(c *cc.Clock, captured, delay time.Duration, rtp uint32) {
		ntp := cc.NTP(begin.Add(captured))
		w.Learn(10*time.Second+captured+delay, ntp)
		c.SenderReport(ntp, rtp)
	}
	ticks := func(captured time.Duration, rate int64) uint32 {
		return uint32(int64(captured) * rate / int64(time.Second))
	}
	for i := range 20 {
		at := time.Duration(i) * time.Second
		delay := 30 * time.Millisecond
		if i%3 == 1 {
			delay = 250 * time.Millisecond
		}
		report(&audio, at, delay, ticks(at, 48_000)+1000)
		report(&video, at+300*time.Millisecond, 30*time.Millisecond, ticks(at+300*time.Millisecond, 90_000)+77)

		now := 10*time.Second + at + 800*time.Millisecond
		a, ok := audio.RTP(&w, now, 5)
		v, ok2 := video.RTP(&w, now, 0xffff_fff0)
		if !ok || !ok2 {
			t.Fatal("no report")
		}
		// Both timestamps belong to one moment of capture; that is what counts.
		ta := time.Duration(a-1000-5) * time.Second / 48_000
		tv := time.Duration(v-77+16) * time.Second / 90_000
		if d := ta - tv; d < -100*time.Microsecond || d > 100*time.Microsecond {
			t.Errorf("after %v audio and video are %v apart", at, d)
		}
		// And it is the one that the shortest delay belongs to.
		if d := at + 770*time.Millisecond - ta; i > 2 && (d < -20*time.Millisecond || d > 20*time.Millisecond) {
			t.Errorf("after %v the moment is %v off", at, d)
		}
	}
}

func TestWallFollowsALeap(t *testing.T) {
	var w cc.Wall
	w.Learn(time.Second, cc.NTP(time.Unix(1000, 0)))
	w.Learn(2*time.Second, cc.NTP(time.Unix(5000, 0)))
	if got := w.Local(cc.NTP(time.Unix(5000, 0))); got != 2*time.Second {
		t.Errorf("after a leap %v", got)
	}
	// A drift of 100 µs per second is followed, in either direction.
	for _, drift := range []time.Duration{100 * time.Microsecond, -100 * time.Microsecond} {
		var w cc.Wall
		for i := range 600 {
			now := time.Duration(i) * (time.Second + drift)
			w.Learn(now, cc.NTP(time.Unix(int64(1000+i), 0)))
		}
		now := 600 * (time.Second + drift)
		if d := w.Local(cc.NTP(time.Unix(1600, 0))) - now; d < -10*time.Millisecond || d > 10*time.Millisecond {
			t.Errorf("drift of %v: %v off after ten minutes", drift, d)
		}
	}
}
