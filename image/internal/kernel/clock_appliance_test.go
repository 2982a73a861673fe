//go:build appliance

// These tests move the machine's clocks, so they are built for a virtual machine
// alone (package qemutest).

package kernel

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// offset is how far the wall clock is from where it was at the time at, by the
// monotonic clock.
func offset(at time.Time) time.Duration {
	now := time.Now()
	return now.Round(0).Sub(at.Round(0)) - now.Sub(at)
}

// raw is how far the wall clock is from the one that no slew moves, as the
// monotonic clock's is.
func raw(t *testing.T) time.Duration {
	t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC_RAW, &ts); err != nil {
		t.Fatal(err)
	}
	return time.Duration(time.Now().UnixNano() - ts.Nano())
}

// follows asks as any process may.
func follows(t *testing.T) bool {
	t.Helper()
	var x unix.Timex
	state, err := unix.Adjtimex(&x)
	if err != nil {
		t.Fatal(err)
	}
	return state != unix.TIME_ERROR
}

func TestClocksOfTheAppliance(t *testing.T) {
	var c Clocks
	at := time.Now()
	for _, x := range []struct{ by, sum time.Duration }{
		{time.Hour + 1500*time.Millisecond, time.Hour + 1500*time.Millisecond},
		{-250 * time.Millisecond, time.Hour + 1250*time.Millisecond},
		{-2*time.Hour - 750*time.Millisecond, -time.Hour + 500*time.Millisecond},
	} {
		if err := c.Step(x.by); err != nil {
			t.Fatal(err)
		}
		if got := offset(at); (got - x.sum).Abs() > 20*time.Millisecond {
			t.Errorf("after a step by %v the clock is off by %v, want %v", x.by, got, x.sum)
		}
	}
	if follows(t) {
		t.Error("after a step the clock is said to follow servers")
	}
	if err := c.Follow(time.Hour); err != nil {
		t.Fatal(err)
	}
	if !follows(t) {
		t.Error("the kernel does not say that the clock follows servers")
	}
	// 0.5 ms a second: in two seconds about one is done.
	before := raw(t)
	if err := c.Slew(400 * time.Millisecond); err != nil {
		t.Fatal(err)
	}
	time.Sleep(3 * time.Second)
	if got := raw(t) - before; got < 200*time.Microsecond || got > 20*time.Millisecond {
		t.Errorf("in 3 s the slew has moved the clock by %v", got)
	}
	if err := c.Slew(0); err != nil { // ends it
		t.Error(err)
	}
	want := time.Date(2031, 12, 31, 23, 59, 30, 0, time.UTC)
	if err := c.SaveRTC(want); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open("/dev/rtc0")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := unix.IoctlGetRTCTime(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	got := time.Date(int(r.Year)+1900, time.Month(r.Mon)+1, int(r.Mday), int(r.Hour), int(r.Min), int(r.Sec), 0, time.UTC)
	if got.Sub(want) < 0 || got.Sub(want) > 10*time.Second {
		t.Errorf("the real-time clock says %v, want %v", got, want)
	}
}
