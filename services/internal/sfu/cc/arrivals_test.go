package cc_test

import (
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/sfu/cc"
)

// drain builds all feedback there is and gives what it says.
func drain(t *testing.T, a *cc.Arrivals, now time.Duration) (all []cc.Status, packets int) {
	t.Helper()
	buf := make([]byte, 1200)
	for n := a.Build(now, buf, 1, 2); n > 0; n = a.Build(now, buf, 1, 2) {
		if packets++; packets > 50 {
			t.Fatal("feedback without end")
		}
		_, s, err := read(buf[:n])
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s...)
	}
	if a.Next() != 0 {
		t.Error("something is left after all was built")
	}
	return all, packets
}

func received(all []cc.Status) (seqs []uint16) {
	for _, s := range all {
		if s.Received {
			seqs = append(seqs, s.Seq)
		}
	}
	return seqs
}

func wantSeqs(t *testing.T, all []cc.Status, first uint16, statuses int, want ...uint16) {
	t.Helper()
	got := received(all)
	ok := len(got) == len(want) && len(all) == statuses && all[0].Seq == first
	for i := range want {
		ok = ok && got[i] == want[i]
	}
	if !ok {
		t.Errorf("told of %v in %d statuses, want %v in %d from %d", got, len(all), want, statuses, first)
	}
}

func TestArrivalsWrapAndReorder(t *testing.T) {
	var a cc.Arrivals
	at := time.Hour
	for _, seq := range []uint16{65533, 65535, 1, 0, 65535} {
		a.Add(at, seq, 100)
		at += time.Millisecond
	}
	all, _ := drain(t, &a, at)
	wantSeqs(t, all, 65533, 5, 65533, 65535, 0, 1)
	// A late one is told of, with what followed it.
	a.Add(at, 65534, 100)
	a.Add(at, 2, 100)
	all, _ = drain(t, &a, at)
	wantSeqs(t, all, 65534, 5, 65534, 65535, 0, 1, 2)
	// A duplicate is not.
	a.Add(at, 1, 100)
	if all, _ := drain(t, &a, at); all != nil {
		t.Errorf("a duplicate made %v", all)
	}
	// The gap since the last feedback counts as lost.
	a.Add(at, 10, 100)
	all, _ = drain(t, &a, at)
	wantSeqs(t, all, 3, 8, 10)
}

func TestArrivalsBeforeTheFirst(t *testing.T) {
	var a cc.Arrivals
	a.Add(time.Second, 3, 100)
	a.Add(time.Second, 1, 100)
	all, _ := drain(t, &a, time.Second)
	wantSeqs(t, all, 1, 3, 1, 3)
}

func TestArrivalsJump(t *testing.T) {
	var a cc.Arrivals
	a.Add(time.Second, 100, 100)
	// Further than a feedback reaches: what was before is forgotten.
	a.Add(time.Second, 5000, 100)
	all, _ := drain(t, &a, time.Second)
	wantSeqs(t, all, 5000, 1, 5000)
	// Strays from behind are ignored.
	for i := range uint16(20) {
		a.Add(time.Second, 3000+i, 100)
	}
	if all, _ := drain(t, &a, time.Second); all != nil {
		t.Errorf("strays made %v", all)
	}
	// A sender that goes on from there is believed.
	for i := range uint16(60) {
		a.Add(time.Second, 3000+i, 100)
	}
	all, _ = drain(t, &a, time.Second)
	if got := received(all); len(got) < 40 || got[len(got)-1] != 3059 {
		t.Errorf("after a restart told of %v", got)
	}
	// The largest gap that one feedback bridges.
	a.Add(time.Second, 3059+1024, 100)
	all, n := drain(t, &a, time.Second)
	wantSeqs(t, all, 3060, 1024, 3059+1024)
	if n != 1 {
		t.Errorf("%d packets of feedback for a gap", n)
	}
}

// Whatever sequence numbers come, the work and the feedback are bounded.
func TestArrivalsHostile(t *testing.T) {
	var a cc.Arrivals
	x := uint32(1)
	now := time.Duration(0)
	for i := range 200_000 {
		x = x*1664525 + 1013904223
		a.Add(now, uint16(x>>16), 1200)
		now += time.Duration(x % 3_000_000)
		if a.Due(now) || i%1000 == 0 {
			if all, packets := drain(t, &a, now); len(all) > 2048 || packets > 10 {
				t.Fatalf("%d statuses in %d packets", len(all), packets)
			}
		}
	}
}

// Feedback of which two packets are further apart than a delta reaches.
func TestArrivalsFarApart(t *testing.T) {
	var a cc.Arrivals
	a.Add(time.Second, 1, 100)
	a.Add(time.Minute, 2, 100)
	all, n := drain(t, &a, time.Minute)
	wantSeqs(t, all, 1, 2, 1, 2)
	if n != 2 {
		t.Errorf("%d packets of feedback, want 2", n)
	}
	if d := all[1].Arrived - all[0].Arrived; d != 59*time.Second {
		t.Errorf("%v apart", d)
	}
}

func TestArrivalsInASmallBuffer(t *testing.T) {
	var a cc.Arrivals
	for i := range uint16(300) {
		a.Add(time.Duration(i)*time.Millisecond+time.Second, i*3, 100)
	}
	buf := make([]byte, 64)
	var all []cc.Status
	for n := a.Build(2*time.Second, buf, 1, 2); n > 0; n = a.Build(2*time.Second, buf, 1, 2) {
		_, s, err := read(buf[:n])
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s...)
	}
	if got := received(all); len(got) != 300 {
		t.Errorf("told of %d packets, want 300", len(got))
	}
	a.Add(3*time.Second, 1000, 100)
	if n := a.Build(3*time.Second, buf[:63], 1, 2); n != 0 {
		t.Errorf("%d bytes into a buffer that is too small", n)
	}
	// A gap that such a buffer cannot hold before its first packet.
	a.Add(3*time.Second, 1900, 100)
	n := 0
	for k := a.Build(3*time.Second, buf, 1, 2); k > 0; k = a.Build(3*time.Second, buf, 1, 2) {
		_, s, err := read(buf[:k])
		if err != nil {
			t.Fatal(err)
		}
		n += len(received(s))
	}
	if n != 2 {
		t.Errorf("told of %d packets, want 2", n)
	}
}

func TestArrivalsInterval(t *testing.T) {
	for rate, want := range map[int]time.Duration{ // bytes per 10 ms
		10:   100 * time.Millisecond, // 8 kbit/s
		190:  72 * time.Millisecond,  // 152 kbit/s: 10,880 bits are a twentieth of it
		1250: 50 * time.Millisecond,  // 1 Mbit/s
	} {
		var a cc.Arrivals
		var last, gap time.Duration
		if a.Next() != 0 || a.Due(time.Hour) {
			t.Error("due before anything arrived")
		}
		for i := range 200 {
			now := time.Duration(i) * 10 * time.Millisecond
			a.Add(now, uint16(i), rate)
			for ; now < time.Duration(i+1)*10*time.Millisecond; now += time.Millisecond {
				if a.Due(now) {
					if next := a.Next(); next > now || next == 0 {
						t.Errorf("due at %v, next %v", now, next)
					}
					drain(t, &a, now)
					gap, last = now-last, now
				}
			}
		}
		if gap < want-10*time.Millisecond || gap > want+10*time.Millisecond {
			t.Errorf("%d kbit/s: feedback each %v, want %v", rate*8/10, gap, want)
		}
	}
	// After silence the first packet is told of at once.
	var a cc.Arrivals
	a.Add(0, 1, 100)
	drain(t, &a, 100*time.Millisecond)
	a.Add(10*time.Second, 2, 100)
	if !a.Due(10 * time.Second) {
		t.Errorf("due at %v", a.Next())
	}
}
