package cc_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/sfu/cc"
)

const unlimited = 1 << 40

// seconds runs and wants of the first flow a share of the capacity in hundredths.
func wantUse(t *testing.T, l *bottleneck, from, to time.Duration, least, most int64, flows ...*flow) {
	t.Helper()
	rates, worst, mean := run(t, l, from, to, flows...)
	var sum int64
	for _, r := range rates {
		sum += r
	}
	use := sum * 100 / l.capacity
	t.Logf("%v to %v: %d %% of %d kbit/s, queue %v at worst, %v in the mean", from, to, use, l.capacity/1000, worst, mean)
	if use < least || use > most {
		t.Errorf("%v to %v: %d %% of %d kbit/s, want %d to %d", from, to, use, l.capacity/1000, least, most)
	}
}

func wantQueue(t *testing.T, l *bottleneck, from, to, most time.Duration, flows ...*flow) {
	t.Helper()
	if _, worst, _ := run(t, l, from, to, flows...); worst > most {
		t.Errorf("%v to %v: a queue of %v, want at most %v", from, to, worst, most)
	}
}

func TestFindsTheCapacity(t *testing.T) {
	for _, capacity := range []int64{300_000, 1_000_000, 3_000_000, 10_000_000, 30_000_000} {
		t.Run(fmt.Sprint(capacity), func(t *testing.T) {
			l := newLink(capacity)
			f := newFlow(cc.Config{}, unlimited)
			run(t, l, 0, 3*time.Second, f)
			wantUse(t, l, 3*time.Second, 20*time.Second, 80, 101, f)
			wantQueue(t, l, 20*time.Second, 60*time.Second, 150*time.Millisecond, f)
		})
	}
}

func TestStaysWithinItsBounds(t *testing.T) {
	l := newLink(50_000_000)
	f := newFlow(cc.Config{Start: 500_000, Min: 200_000, Max: 2_000_000}, unlimited)
	if got := f.est.Target(); got != 500_000 {
		t.Errorf("starts at %d", got)
	}
	wantUse(t, l, 0, 10*time.Second, 2, 4, f)
	if got := f.est.Target(); got != 2_000_000 {
		t.Errorf("rises to %d, want the maximum", got)
	}
	l.capacity = 100_000
	run(t, l, 10*time.Second, 30*time.Second, f)
	if got := f.est.Target(); got != 200_000 {
		t.Errorf("falls to %d, want the minimum", got)
	}
	if got := cc.NewEstimator(cc.Config{Start: 50_000}).Target(); got != 100_000 {
		t.Errorf("starts at %d, below the minimum", got)
	}
}

func TestFollowsTheCapacity(t *testing.T) {
	for _, capacity := range []int64{1_000_000, 3_000_000, 10_000_000} {
		t.Run(fmt.Sprint(capacity), func(t *testing.T) {
			l := newLink(capacity)
			f := newFlow(cc.Config{}, unlimited)
			run(t, l, 0, 20*time.Second, f)
			l.capacity /= 2
			// What was sent until it noticed lies in the queue of 300 ms.
			run(t, l, 20*time.Second, 22*time.Second, f)
			if got := f.est.Target(); got > l.capacity {
				t.Errorf("two seconds after it halved: %d bit/s of %d", got, l.capacity)
			}
			wantQueue(t, l, 22*time.Second, 40*time.Second, 150*time.Millisecond, f)
			wantUse(t, l, 40*time.Second, 50*time.Second, 80, 101, f)
			l.capacity *= 2
			run(t, l, 50*time.Second, 60*time.Second, f)
			wantUse(t, l, 60*time.Second, 70*time.Second, 80, 101, f)
		})
	}
}

func TestLeavesHalfToItsLike(t *testing.T) {
	for _, n := range []int{2, 3, 5} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			l := newLink(4_000_000)
			var flows []*flow
			for i := range n {
				f := newFlow(cc.Config{}, unlimited)
				f.start = time.Duration(i) * 5 * time.Second
				flows = append(flows, f)
			}
			run(t, l, 0, 30*time.Second, flows...)
			rates, worst, mean := run(t, l, 30*time.Second, 90*time.Second, flows...)
			var sum int64
			for _, r := range rates {
				sum += r
				if fair := l.capacity / int64(n); r < fair/2 || r > fair*2 {
					t.Errorf("%d bit/s, the fair share is %d", r, fair)
				}
			}
			if sum < l.capacity*8/10 {
				t.Errorf("%d of %d bit/s used", sum, l.capacity)
			}
			if worst > 200*time.Millisecond || mean > 50*time.Millisecond {
				t.Errorf("a queue of %v, %v in the mean", worst, mean)
			}
		})
	}
}

// Packets that overtake others by the whole delay of the way are no sign of a
// queue: one picture goes on as it is.
func TestOvertaking(t *testing.T) {
	for _, loss := range []float64{0, 0.05} {
		t.Run(fmt.Sprint(loss), func(t *testing.T) {
			l := newLink(3_000_000)
			l.delay, l.loss, l.overtake = 100*time.Millisecond, loss, 0.02
			f := newFlow(cc.Config{Start: 3_500_000}, 300_000)
			for at := time.Duration(0); at < 60*time.Second; at += time.Second {
				run(t, l, at, at+time.Second, f)
				if got := f.est.Target(); got < 300_000 {
					t.Fatalf("%d bit/s after %v", got, at)
				}
			}
		})
	}
}

// A radio link loses what it loses; that is no reason to stay low.
func TestSurvivesRandomLoss(t *testing.T) {
	for _, capacity := range []int64{1_000_000, 3_000_000, 10_000_000} {
		for _, loss := range []float64{0.01, 0.05, 0.08} {
			t.Run(fmt.Sprint(capacity, loss), func(t *testing.T) {
				l := newLink(capacity)
				l.loss = loss
				f := newFlow(cc.Config{}, unlimited)
				run(t, l, 0, 5*time.Second, f)
				wantUse(t, l, 5*time.Second, 60*time.Second, 60, 101, f)
			})
		}
	}
}

// A policer drops what is too much and delays nothing. Most of it must arrive.
func TestYieldsToAPolicer(t *testing.T) {
	for _, loss := range []float64{0, 0.04} {
		l := newLink(2_000_000)
		l.police, l.loss = true, loss
		f := newFlow(cc.Config{}, unlimited)
		run(t, l, 0, 5*time.Second, f)
		wantUse(t, l, 5*time.Second, 60*time.Second, 80, 101, f)
		if lost := 1 - float64(f.delivered)/float64(f.sent); lost > 0.14+loss {
			t.Errorf("%.3f lost, %v of it by chance", lost, loss)
		}
	}
}

func TestBearsJitterAndReordering(t *testing.T) {
	for _, jitter := range []time.Duration{5 * time.Millisecond, 20 * time.Millisecond, 50 * time.Millisecond} {
		l := newLink(3_000_000)
		l.jitter = jitter
		f := newFlow(cc.Config{}, unlimited)
		run(t, l, 0, 10*time.Second, f)
		wantUse(t, l, 10*time.Second, 40*time.Second, 75, 101, f)
	}
}

// Layers are discrete: little is sent while more is wanted. Probes find out
// whether the way carries it, and cost little.
func TestProbesForWhatIsWanted(t *testing.T) {
	l := newLink(5_000_000)
	f := newFlow(cc.Config{}, 500_000)
	f.est.SetWanted(3_000_000)
	run(t, l, 0, 20*time.Second, f)
	if got := f.est.Target(); got < 3_000_000 || got > 5_000_000 {
		t.Errorf("finds %d bit/s, wanted are 3,000,000 of 5,000,000", got)
	}
	if f.padded*8 > 20*500_000/10 {
		t.Errorf("%d bytes of padding in 20 s", f.padded)
	}
	// There is no search for more than is wanted.
	if run(t, l, 20*time.Second, 80*time.Second, f); f.padded != 0 {
		t.Errorf("%d bytes of padding with all that is wanted", f.padded)
	}
	f.limit = 3_000_000
	wantQueue(t, l, 80*time.Second, 90*time.Second, 100*time.Millisecond, f)
}

// The way does not carry what is wanted: probes become rare and hurt nobody.
func TestProbesInVain(t *testing.T) {
	l := newLink(1_000_000)
	f := newFlow(cc.Config{}, 400_000)
	f.est.SetWanted(3_000_000)
	run(t, l, 0, 30*time.Second, f)
	_, worst, _ := run(t, l, 30*time.Second, 150*time.Second, f)
	if got := f.est.Target(); got < 600_000 || got > 1_300_000 {
		t.Errorf("finds %d bit/s of 1,000,000", got)
	}
	if worst > 100*time.Millisecond {
		t.Errorf("a queue of %v", worst)
	}
	if f.padded > 120*1000 {
		t.Errorf("%d bytes of padding in two minutes", f.padded)
	}
}

func TestFallsWithoutFeedback(t *testing.T) {
	l := newLink(5_000_000)
	f := newFlow(cc.Config{}, unlimited)
	run(t, l, 0, 10*time.Second, f)
	f.mute = true
	run(t, l, 10*time.Second, 15*time.Second, f)
	if got := f.est.Target(); got > 500_000 {
		t.Errorf("five seconds without feedback: %d bit/s", got)
	}
	f.mute = false
	run(t, l, 15*time.Second, 25*time.Second, f)
	wantUse(t, l, 25*time.Second, 35*time.Second, 70, 101, f)
}

// Nothing is sent while a meeting is silent: that is no loss of feedback.
func TestSilenceChangesNothing(t *testing.T) {
	l := newLink(5_000_000)
	f := newFlow(cc.Config{}, unlimited)
	run(t, l, 0, 10*time.Second, f)
	before := f.est.Target()
	f.limit = 0
	run(t, l, 10*time.Second, 11*time.Second, f) // what was on its way arrives
	f.start = 40 * time.Second
	run(t, l, 11*time.Second, 40*time.Second, f)
	f.limit = unlimited
	run(t, l, 40*time.Second, 41*time.Second, f)
	if got := f.est.Target(); got < before*8/10 {
		t.Errorf("%d bit/s after silence, %d before", got, before)
	}
}

func TestChangedTellsOnce(t *testing.T) {
	l := newLink(5_000_000)
	f := newFlow(cc.Config{}, unlimited)
	if f.est.Changed() {
		t.Error("changed before anything happened")
	}
	run(t, l, 0, 5*time.Second, f)
	if !f.est.Changed() || f.est.Changed() {
		t.Error("want a change to be told once")
	}
}

func TestRoundTrip(t *testing.T) {
	l := newLink(5_000_000)
	f := newFlow(cc.Config{}, 300_000)
	run(t, l, 0, 10*time.Second, f)
	// 50 ms both ways; feedback waits for up to 50 ms more.
	if got := f.est.RTT(); got < 50*time.Millisecond || got > 90*time.Millisecond {
		t.Errorf("by feedback %v", got)
	}
	f.est.Report(10*time.Second, cc.Report{}, 55*time.Millisecond)
	if got := f.est.RTT(); got != 55*time.Millisecond {
		t.Errorf("by a report %v", got)
	}
}

// sendFor sends at the target for a time, without transport-wide feedback.
func sendFor(e *cc.Estimator, from, to time.Duration) {
	for now := from; now < to; now += 10 * time.Millisecond {
		e.Sent(now, int(e.Target()/800))
	}
}

func TestFallsBackToREMB(t *testing.T) {
	e := cc.NewEstimator(cc.Config{})
	now := time.Duration(0)
	for range 20 {
		sendFor(e, now, now+500*time.Millisecond)
		now += 500 * time.Millisecond
		e.REMB(now, 3_000_000)
	}
	if got := e.Target(); got != 3_000_000 {
		t.Errorf("%d bit/s after REMB of 3,000,000", got)
	}
	e.REMB(now, 700_000)
	if got := e.Target(); got != 700_000 {
		t.Errorf("%d bit/s after REMB of 700,000", got)
	}
	if n := e.Padding(now); n != 0 {
		t.Errorf("probes with %d bytes, though nobody would tell of them", n)
	}
}

func TestFallsBackToReports(t *testing.T) {
	e := cc.NewEstimator(cc.Config{Max: 5_000_000})
	now, highest := time.Duration(0), uint32(0)
	report := func(n int, fraction uint8) {
		for range n {
			sendFor(e, now, now+time.Second)
			now += time.Second
			highest += 100
			e.Report(now, cc.Report{SSRC: 1, Highest: highest, Fraction: fraction}, 0)
		}
	}
	report(10, 0)
	if got := e.Target(); got < 1_500_000 || got > 2_600_000 {
		t.Errorf("ten seconds without loss: %d bit/s, want some 8 %% more each", got)
	}
	before := e.Target()
	report(10, 64)
	if got := e.Target(); got > before/2 {
		t.Errorf("ten seconds with a quarter lost: %d of %d bit/s", got, before)
	}
	low := e.Target()
	report(20, 0)
	if got := e.Target(); got < 2*low {
		t.Errorf("does not recover: %d bit/s", got)
	}
}

func TestFeedbackOverridesREMB(t *testing.T) {
	l := newLink(5_000_000)
	f := newFlow(cc.Config{}, unlimited)
	f.est.REMB(0, 200_000)
	run(t, l, 0, 5*time.Second, f)
	f.est.REMB(5*time.Second, 200_000)
	if got := f.est.Target(); got < 2_000_000 {
		t.Errorf("%d bit/s, though feedback tells of more than REMB", got)
	}
}

// Feedback costs work by its statuses; there is a limit of them.
func TestFeedbackIsLimited(t *testing.T) {
	e := cc.NewEstimator(cc.Config{})
	b := []byte{
		0x8f, 205, 0, 5, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0x20, 0,
		0, 0, 0, 1, 0x1f, 0xff, 0, 1,
	}
	p, _, err := cc.Split(b)
	if err != nil {
		t.Fatal(err)
	}
	taken := 0
	for i := range 1000 {
		if e.Feedback(time.Duration(i)*time.Millisecond, p) == nil {
			taken++
		}
	}
	// 16,384 at once and 20,000 in the second, 8,192 in each.
	if taken < 3 || taken > 4 {
		t.Errorf("%d of 1,000 were taken", taken)
	}
}

// Whatever a subscriber claims, the target stays within bounds, and soon recovers
// when the claims end.
func TestLiesAboutArrivals(t *testing.T) {
	l := newLink(5_000_000)
	f := newFlow(cc.Config{Max: 20_000_000}, unlimited)
	run(t, l, 0, 5*time.Second, f)
	for i := range 600 {
		now := 5*time.Second + time.Duration(i)*5*time.Millisecond
		var a cc.Arrivals
		for j := range 50 {
			leap := time.Duration(l.rng.Int64N(int64(1000 * time.Hour)))
			a.Add(leap, uint16(l.rng.IntN(3000)*i+j), 1000)
		}
		buf := make([]byte, 1200)
		p, _, err := cc.Split(buf[:a.Build(0, buf, 1, 2)])
		if err != nil {
			t.Fatal(err)
		}
		if err := f.est.Feedback(now, p); err != nil {
			t.Fatal(err)
		}
		if got := f.est.Target(); got < 100_000 || got > 20_000_000 {
			t.Fatalf("target %d", got)
		}
	}
	run(t, l, 8*time.Second, 25*time.Second, f)
	wantUse(t, l, 25*time.Second, 35*time.Second, 60, 101, f)
}
