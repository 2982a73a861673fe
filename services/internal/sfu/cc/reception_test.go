package cc_test

import (
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/sfu/cc"
)

func TestReceptionCountsLosses(t *testing.T) {
	r := cc.NewReception(90_000)
	if _, ok := r.Report(0, 7); ok {
		t.Error("a report before the first packet")
	}
	// 100 packets over the wrap, every tenth lost, the last one twice.
	for i := range uint16(100) {
		if i%10 != 5 {
			r.Received(time.Second, 65500+i, 0)
		}
	}
	r.Received(time.Second, 63, 0) // 65500 + 99
	rep, ok := r.Report(time.Second, 7)
	if !ok || rep.SSRC != 7 || rep.Lost != 9 || rep.Highest != 1<<16|63 || rep.Fraction != 9*256/100 {
		t.Errorf("%+v", rep)
	}
	// Nothing lost since then.
	for i := range uint16(50) {
		r.Received(time.Second, 64+i, 0)
	}
	if rep, _ := r.Report(time.Second, 7); rep.Fraction != 0 || rep.Lost != 9 {
		t.Errorf("%+v", rep)
	}
	// More duplicates than losses (RFC 3550 section 6.4.1: no negative fraction).
	for range 20 {
		r.Received(time.Second, 113, 0)
	}
	if rep, _ := r.Report(time.Second, 7); rep.Fraction != 0 || rep.Lost != -11 {
		t.Errorf("%+v", rep)
	}
}

func TestReceptionRestarts(t *testing.T) {
	r := cc.NewReception(48_000)
	r.Received(0, 100, 0)
	if r.Received(0, 40_000, 0) {
		t.Error("one stray packet was counted")
	}
	if !r.Received(0, 101, 0) {
		t.Error("a packet after a stray one was not counted")
	}
	r.Received(0, 20_000, 0)
	if !r.Received(0, 20_001, 0) {
		t.Error("two in a row were not believed")
	}
	if rep, _ := r.Report(0, 1); rep.Lost != 0 || rep.Highest != 20_001 {
		t.Errorf("%+v", rep)
	}
}

func TestReceptionJitter(t *testing.T) {
	for name, c := range map[string]struct {
		late time.Duration // every other packet
		want uint32        // in ticks of 90 kHz
	}{
		"none":        {0, 0},
		"2 ms, mean":  {2 * time.Millisecond, 180},
		"20 ms, mean": {20 * time.Millisecond, 1800},
	} {
		r := cc.NewReception(90_000)
		for i := range 500 {
			now := 100*time.Hour + time.Duration(i)*20*time.Millisecond
			if i%2 == 1 {
				now += c.late
			}
			r.Received(now, uint16(i), uint32(i)*1800)
			// The rest of the frame comes later and does not count.
			r.Received(now+7*time.Millisecond, uint16(i), uint32(i)*1800)
		}
		rep, _ := r.Report(0, 1)
		if rep.Jitter < c.want*9/10 || rep.Jitter > c.want+2 {
			t.Errorf("%s: %d, want %d", name, rep.Jitter, c.want)
		}
	}
}

func TestReceptionTellsOfSenderReports(t *testing.T) {
	r := cc.NewReception(90_000)
	r.Received(0, 1, 0)
	if rep, _ := r.Report(time.Second, 1); rep.LSR != 0 || rep.DLSR != 0 {
		t.Errorf("%+v", rep)
	}
	ntp := cc.NTP(time.Unix(1_700_000_000, 250_000_000))
	r.SenderReport(time.Second, ntp)
	rep, _ := r.Report(3500*time.Millisecond, 1)
	if rep.LSR != uint32(ntp>>16) || rep.DLSR != 5*65536/2 {
		t.Errorf("%+v", rep)
	}
	// The sender's sum is the round trip: here 40 ms on the way there and back.
	if rtt, ok := rep.RTT(cc.NTP(time.Unix(1_700_000_002, 790_000_000))); !ok || rtt.Round(time.Millisecond) != 40*time.Millisecond {
		t.Errorf("round trip %v", rtt)
	}
}
