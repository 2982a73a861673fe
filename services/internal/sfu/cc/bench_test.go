package cc_test

import (
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/sfu/cc"
)

// wantNoAllocs fails when an operation of a warm object allocates.
func wantNoAllocs(t *testing.T, name string, f func()) {
	t.Helper()
	if n := testing.AllocsPerRun(1000, f); n != 0 {
		t.Errorf("%s: %v allocations", name, n)
	}
}

// warm is an estimator with a second of traffic, and the feedback for a step of
// 50 ms with 50 packets.
type warm struct {
	est *cc.Estimator
	arr cc.Arrivals
	now time.Duration
	buf [1200]byte
	n   int
}

func newWarm() *warm {
	w := &warm{est: cc.NewEstimator(cc.Config{Max: 10_000_000})}
	for range 20 {
		w.step()
	}
	return w
}

func (w *warm) send() {
	for range 50 {
		w.now += time.Millisecond
		w.arr.Add(w.now, w.est.Sent(w.now, 1200), 1200)
	}
}

func (w *warm) build() { w.n = w.arr.Build(w.now, w.buf[:], 1, 2) }

func (w *warm) feedback() {
	p, _, err := cc.Split(w.buf[:w.n])
	if err == nil {
		err = w.est.Feedback(w.now, p)
	}
	if err != nil {
		panic(err)
	}
}

func (w *warm) step() {
	w.send()
	w.build()
	w.feedback()
}

func TestNothingIsAllocatedPerPacket(t *testing.T) {
	w := newWarm()
	wantNoAllocs(t, "send, record, build, read", w.step)

	p := cc.NewPacer[*warm](cc.PacerLimits{}, 1_000_000)
	now := time.Duration(0)
	it := cc.Item[*warm]{Packet: w, Size: 1200, Class: cc.Video, Stream: 1}
	burst := func() {
		for range 30 {
			p.Offer(now, it)
		}
		for at := p.Next(); at != 0; at = p.Next() {
			now = max(now, at)
			p.Pop(now)
		}
		now += time.Second
	}
	burst()
	wantNoAllocs(t, "pacer", burst)

	var n cc.Nacks
	r := cc.NewReception(90_000)
	seq := uint16(0)
	buf := make([]byte, 1200)
	lose := func() {
		for range 20 {
			seq++
			if seq%10 != 0 {
				n.Received(now, seq, false)
				r.Received(now, seq, uint32(seq)*3000)
			}
		}
		now += 20 * time.Millisecond
		n.Build(now, 10*time.Millisecond, buf, 1, 2)
		r.Report(now, 1)
		if seq%100 == 0 {
			n.Received(now, seq, true)
		}
	}
	for range 1000 {
		lose()
	}
	wantNoAllocs(t, "receiver", lose)

	slots, out := screenful()
	wantNoAllocs(t, "allocate", func() { cc.Allocate(6_000_000, slots, out) })
}

// screenful is a speaker and 24 thumbnails.
func screenful() ([]cc.Slot, []int) {
	slots := make([]cc.Slot, 25)
	for i := range slots {
		slots[i] = slot(320, 180, 1, cc.Fresh)
	}
	slots[0] = slot(1280, 720, 2, cc.Fresh)
	return slots, make([]int, len(slots))
}

func BenchmarkSent(b *testing.B) {
	e := cc.NewEstimator(cc.Config{})
	now := time.Duration(0)
	b.ReportAllocs()
	for range b.N {
		now += time.Millisecond
		e.Sent(now, 1200)
	}
}

// Per packet, of 50 in a feedback.
func BenchmarkFeedback(b *testing.B) {
	w := newWarm()
	b.ReportAllocs()
	for i := 0; i < b.N; i += 50 {
		b.StopTimer()
		w.send()
		w.build()
		b.StartTimer()
		w.feedback()
	}
}

func BenchmarkArrivalsAdd(b *testing.B) {
	var a cc.Arrivals
	now := time.Duration(0)
	b.ReportAllocs()
	for i := range b.N {
		now += time.Millisecond
		a.Add(now, uint16(i), 1200)
	}
}

// Per packet, of 50 in a feedback.
func BenchmarkArrivalsBuild(b *testing.B) {
	w := newWarm()
	b.ReportAllocs()
	for i := 0; i < b.N; i += 50 {
		b.StopTimer()
		w.send()
		b.StartTimer()
		w.build()
	}
}

// The budget is ample: the packet goes straight through.
func BenchmarkPacerPass(b *testing.B) {
	p := cc.NewPacer[*int](cc.PacerLimits{}, 50_000_000)
	it := cc.Item[*int]{Size: 1200, Class: cc.Video, Stream: 1}
	now := time.Duration(0)
	b.ReportAllocs()
	for range b.N {
		now += time.Millisecond
		if p.Offer(now, it) != cc.Send {
			b.Fatal("queued")
		}
	}
}

// The packet waits.
func BenchmarkPacerQueue(b *testing.B) {
	p := cc.NewPacer[*int](cc.PacerLimits{}, 10_000_000)
	it := cc.Item[*int]{Size: 1200, Class: cc.Video, Stream: 1}
	now := time.Duration(0)
	b.ReportAllocs()
	for i := range b.N {
		p.Offer(now, it)
		if i%32 == 31 {
			for at := p.Next(); at != 0; at = p.Next() {
				now = max(now, at)
				p.Pop(now)
			}
		}
	}
}

func BenchmarkNacksReceived(b *testing.B) {
	var n cc.Nacks
	b.ReportAllocs()
	for i := range b.N {
		n.Received(time.Duration(i)*time.Millisecond, uint16(i), false)
	}
}

func BenchmarkReceptionReceived(b *testing.B) {
	r := cc.NewReception(90_000)
	b.ReportAllocs()
	for i := range b.N {
		r.Received(time.Duration(i)*time.Millisecond, uint16(i), uint32(i/10)*3000)
	}
}

func BenchmarkAllocate(b *testing.B) {
	slots, out := screenful()
	b.ReportAllocs()
	for range b.N {
		cc.Allocate(6_000_000, slots, out)
	}
}
