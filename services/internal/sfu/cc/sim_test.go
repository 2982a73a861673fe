package cc_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/sfu/cc"
)

// bottleneck is a link with a capacity, a queue that drops at its end, a delay and
// losses that have nothing to do with the load. Time is virtual, chance seeded.
type bottleneck struct {
	rng      *rand.Rand
	capacity int64 // bit/s
	queue    time.Duration
	delay    time.Duration
	jitter   time.Duration
	loss     float64
	overtake float64 // share of packets that come by a way without delay
	police   bool    // drops what exceeds the capacity instead of queueing it

	busy   time.Duration
	tokens float64
	filled time.Duration
}

// pass gives when the packet arrives, and whether it does.
func (l *bottleneck) pass(now time.Duration, size int) (time.Duration, bool) {
	if l.rng.Float64() < l.loss {
		return 0, false
	}
	if l.overtake > 0 && l.rng.Float64() < l.overtake {
		return now + time.Millisecond, true
	}
	if l.police {
		l.tokens = min(l.tokens+float64(l.capacity)*(now-l.filled).Seconds(), float64(l.capacity)/20)
		l.filled = now
		if l.tokens < float64(size*8) {
			return 0, false
		}
		l.tokens -= float64(size * 8)
		return now + l.delay, true
	}
	if l.busy-now > l.queue {
		return 0, false
	}
	l.busy = max(l.busy, now) + time.Duration(int64(size)*8*int64(time.Second)/l.capacity)
	at := l.busy + l.delay
	if l.jitter > 0 {
		at += time.Duration(l.rng.Int64N(int64(l.jitter)))
	}
	return at, true
}

type onWay struct {
	at   time.Duration
	seq  uint16
	size int
}

// flow is one subscriber: an estimator and a pacer that send, what receives, and
// an application that fills the target up to a limit.
type flow struct {
	est   *cc.Estimator
	pacer *cc.Pacer[int]
	arr   cc.Arrivals
	way   []onWay
	back  []struct {
		at time.Duration
		b  []byte
	}
	limit     int64 // bit/s of the application
	frame     time.Duration
	start     time.Duration
	delivered int64 // bytes since measure
	sent      int64
	mute      bool // feedback is lost

	padded int64
}

func newFlow(c cc.Config, limit int64) *flow {
	f := &flow{est: cc.NewEstimator(c), limit: limit}
	f.pacer = cc.NewPacer[int](cc.PacerLimits{}, f.est.Target())
	return f
}

func (f *flow) send(l *bottleneck, now time.Duration, size int) {
	seq := f.est.Sent(now, size)
	f.sent += int64(size)
	if at, ok := l.pass(now, size); ok {
		f.way = append(f.way, onWay{at, seq, size})
	}
}

func (f *flow) step(t testing.TB, l *bottleneck, now time.Duration) {
	const clock = 1000 * time.Hour // the receiver's clock is another
	for i := 0; i < len(f.way); {
		// Jitter reorders; so look at all that is on the way.
		p := f.way[i]
		if p.at > now {
			if l.jitter == 0 && l.overtake == 0 {
				break
			}
			i++
			continue
		}
		f.way = append(f.way[:i], f.way[i+1:]...)
		f.arr.Add(clock+p.at, p.seq, p.size)
		f.delivered += int64(p.size)
	}
	if f.arr.Due(clock + now) {
		buf := make([]byte, 1200)
		for n := f.arr.Build(clock+now, buf, 1, 2); n > 0; n = f.arr.Build(clock+now, buf, 1, 2) {
			if l.rng.Float64() >= l.loss && !f.mute {
				f.back = append(f.back, struct {
					at time.Duration
					b  []byte
				}{now + l.delay, append([]byte(nil), buf[:n]...)})
			}
		}
	}
	for len(f.back) > 0 && f.back[0].at <= now {
		p, _, err := cc.Split(f.back[0].b)
		if err == nil {
			err = f.est.Feedback(now, p)
		}
		if err != nil {
			t.Fatal(err)
		}
		f.back = f.back[1:]
	}
	if now < f.start {
		return
	}
	f.pacer.SetRate(now, f.est.Target())
	if now >= f.frame {
		f.frame = now + 33*time.Millisecond
		rate := min(f.est.Target(), f.limit)
		for left := int(rate * 33 / 8000); left > 0; left -= 1200 {
			it := cc.Item[int]{Size: min(left, 1200) + 40, Class: cc.Video, Stream: 1}
			if f.pacer.Offer(now, it) == cc.Send {
				f.send(l, now, it.Size)
			}
		}
		if s, ok := f.pacer.Broken(); ok {
			f.pacer.Forget(s)
		}
	}
	for at := f.pacer.Next(); at > 0 && at <= now; at = f.pacer.Next() {
		it, ok := f.pacer.Pop(now)
		if !ok {
			break
		}
		f.send(l, now, it.Size)
	}
	for n := f.est.Padding(now); n > 0; n = f.est.Padding(now) {
		n = min(max(n, 80), 1100)
		f.send(l, now, n)
		f.padded += int64(n)
	}
}

// run lets the flows share a link from one time to another, in steps of half a
// millisecond, and gives what each received in bit/s and the longest and mean
// queue.
func run(t testing.TB, l *bottleneck, from, to time.Duration, flows ...*flow) (rates []int64, worst, mean time.Duration) {
	for _, f := range flows {
		f.delivered, f.sent, f.padded = 0, 0, 0
	}
	var sum time.Duration
	n := 0
	for now := from; now < to; now += 500 * time.Microsecond {
		for _, f := range flows {
			f.step(t, l, now)
		}
		q := max(l.busy-now, 0)
		worst = max(worst, q)
		sum += q
		n++
	}
	for _, f := range flows {
		rates = append(rates, f.delivered*8*int64(time.Second)/int64(to-from))
	}
	return rates, worst, sum / time.Duration(n)
}

func newLink(capacity int64) *bottleneck {
	return &bottleneck{
		rng: rand.New(rand.NewPCG(1, uint64(capacity))), capacity: capacity,
		queue: 300 * time.Millisecond, delay: 25 * time.Millisecond,
	}
}
