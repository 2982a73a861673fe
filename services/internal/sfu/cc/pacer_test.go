package cc_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/parley-meet/parley/services/internal/sfu/cc"
)

func video(id int, stream uint32, size int, flags string) cc.Item[int] {
	it := cc.Item[int]{Packet: id, Stream: stream, Size: size, Class: cc.Video}
	for _, c := range flags {
		it.Key = it.Key || c == 'k'
		it.First = it.First || c == '1'
	}
	return it
}

// pops takes all that may leave now.
func pops(p *cc.Pacer[int], now time.Duration) (ids []int) {
	for it, ok := p.Pop(now); ok; it, ok = p.Pop(now) {
		ids = append(ids, it.Packet)
	}
	return ids
}

func TestPacerLetsAFramePass(t *testing.T) {
	// A frame of a stream at two thirds of the rate: 33 ms of it.
	p := cc.NewPacer[int](cc.PacerLimits{}, 3_000_000)
	for frame := range 100 {
		now := time.Duration(frame) * 33 * time.Millisecond
		for i := range 7 {
			if v := p.Offer(now, video(i, 1, 1200, "")); v != cc.Send {
				t.Fatalf("packet %d of frame %d: %d", i, frame, v)
			}
		}
	}
	if p.Next() != 0 {
		t.Error("a timer with nothing queued")
	}
}

func TestPacerSpreads(t *testing.T) {
	const rate = 1_000_000
	p := cc.NewPacer[int](cc.PacerLimits{Wait: time.Hour}, rate)
	for i := range 500 {
		p.Offer(0, video(i, 1, 1000, ""))
	}
	// What leaves in any 100 ms is at most 2.5 times the rate and a burst.
	sent, want := 0, 0
	for now := time.Duration(0); now < 100*time.Millisecond; now += time.Millisecond {
		sent += len(pops(p, now)) * 1000
	}
	if sent > 1.6*rate/8/10 {
		t.Errorf("%d bytes in the first 100 ms", sent)
	}
	for now := 100 * time.Millisecond; now < 200*time.Millisecond; now += time.Millisecond {
		want += len(pops(p, now)) * 1000
	}
	if want < 2.3*rate/8/10 || want > 2.6*rate/8/10 {
		t.Errorf("%d bytes in the next 100 ms, want 2.5 times the rate", want)
	}
}

func TestPacerAudioNeverWaits(t *testing.T) {
	p := cc.NewPacer[int](cc.PacerLimits{}, 100_000)
	for i := range 100 {
		p.Offer(0, video(i, 1, 1200, ""))
	}
	for i := range 50 {
		if v := p.Offer(0, cc.Item[int]{Packet: i, Size: 200, Class: cc.Audio}); v != cc.Send {
			t.Fatalf("audio packet %d: %d", i, v)
		}
	}
	// Video pays back its 10,000 bytes, but not more than 600 ms at 1.5 times the rate.
	if p.Next() < 390*time.Millisecond || p.Next() > 410*time.Millisecond {
		t.Errorf("video goes on at %v", p.Next())
	}
}

func TestPacerResendsFirst(t *testing.T) {
	p := cc.NewPacer[int](cc.PacerLimits{}, 1_000_000)
	id := 0
	for p.Offer(0, video(id, 1, 1200, "")) == cc.Send {
		id++
	}
	if v := p.Offer(0, cc.Item[int]{Packet: 1000, Size: 1200, Class: cc.Resend}); v != cc.Queued {
		t.Fatalf("resend: %d", v)
	}
	if got := pops(p, 20*time.Millisecond); len(got) < 2 || got[0] != 1000 || got[1] != id {
		t.Errorf("leave %v, want 1000 and then %d", got, id)
	}
}

// A keyframe may overdraw: it is the picture that somebody waits for.
func TestPacerKeyframe(t *testing.T) {
	const rate = 1_000_000
	fits := func(flags string) (n int) {
		p := cc.NewPacer[int](cc.PacerLimits{}, rate)
		for p.Offer(0, video(n, 1, 1000, flags)) == cc.Send {
			n++
		}
		return n
	}
	plain, key := fits(""), fits("k")
	if extra := (key - plain) * 1000; extra < rate/8/10-1000 || extra > rate/8/10+1000 {
		t.Errorf("a keyframe bursts %d bytes more, want 100 ms of the rate", extra)
	}
}

func TestPacerNextIsHonest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := cc.NewPacer[int](cc.PacerLimits{Wait: time.Hour}, rapid.Int64Range(50_000, 50_000_000).Draw(t, "rate"))
		now := time.Duration(rapid.Int64Range(0, 1e12).Draw(t, "now"))
		n, next := 0, 0
		for range rapid.IntRange(1, 200).Draw(t, "packets") {
			if p.Offer(now, video(n, 1, rapid.IntRange(1, 1500).Draw(t, "size"), "")) == cc.Queued {
				next++
			}
			n++
		}
		for next > 0 {
			at := p.Next()
			if at == 0 {
				t.Fatalf("no time, %d packets queued", next)
			}
			if at > now+450*time.Millisecond {
				t.Fatalf("%v to wait", at-now)
			}
			now = max(now, at)
			it, ok := p.Pop(now)
			if !ok {
				t.Fatalf("nothing at the time that Next gave")
			}
			if it.Packet != n-next {
				t.Fatalf("packet %d, want %d", it.Packet, n-next)
			}
			next--
		}
		if p.Next() != 0 {
			t.Fatal("a time with nothing queued")
		}
	})
}

// Stream 1 has queued the rest of a frame, a frame, a keyframe and a frame; stream
// 2 a frame. The oldest goes, up to the keyframe.
func TestPacerDropsWholeFrames(t *testing.T) {
	p := cc.NewPacer[int](cc.PacerLimits{Bytes: 9000}, 100_000)
	for p.Offer(0, video(0, 1, 1000, "")) == cc.Send {
	}
	// One packet of the above is queued too.
	for i, f := range []struct {
		stream uint32
		flags  string
	}{{1, ""}, {1, "1"}, {2, "1"}, {2, ""}, {1, "1k"}, {1, "k"}, {1, "1"}, {1, ""}} {
		if v := p.Offer(0, video(i+1, f.stream, 1000, f.flags)); v != cc.Queued {
			t.Fatalf("packet %d: %d", i+1, v)
		}
	}
	if v := p.Offer(0, video(9, 1, 1000, "")); v != cc.Queued {
		t.Errorf("the packet that was too much: %d", v)
	}
	if _, ok := p.Broken(); ok {
		t.Error("broken, though a keyframe is queued")
	}
	if s := p.Stats(); s.Dropped != 3 || s.Packets != 7 || s.Bytes != 7000 {
		t.Errorf("%+v", s)
	}
	var got []int
	for at := p.Next(); at > 0; at = p.Next() {
		got = append(got, pops(p, min(at, 499*time.Millisecond))...)
		if len(got) == 4 {
			break
		}
		if at > 499*time.Millisecond {
			t.Fatalf("left %v by %v", got, at)
		}
	}
	for i, want := range []int{3, 4, 5, 6} {
		if got[i] != want {
			t.Fatalf("left %v", got)
		}
	}
}

func TestPacerBreaksAndHeals(t *testing.T) {
	p := cc.NewPacer[int](cc.PacerLimits{Bytes: 5000}, 100_000)
	for p.Offer(0, video(0, 7, 1000, "")) == cc.Send {
	}
	var last cc.Verdict
	for i := range 5 {
		last = p.Offer(0, video(i, 7, 1000, "1"))
	}
	if last != cc.Dropped {
		t.Errorf("the packet that was too much: %d", last)
	}
	if s, ok := p.Broken(); !ok || s != 7 {
		t.Errorf("broken is %d, %v", s, ok)
	}
	if _, ok := p.Broken(); ok {
		t.Error("told twice")
	}
	for _, c := range []struct {
		flags string
		want  cc.Verdict
	}{{"1", cc.Dropped}, {"k", cc.Dropped}, {"1k", cc.Queued}, {"k", cc.Queued}, {"1", cc.Queued}} {
		if v := p.Offer(0, video(1, 7, 500, c.flags)); v != c.want && (v != cc.Send || c.want != cc.Queued) {
			t.Errorf("%q of a broken stream: %d, want %d", c.flags, v, c.want)
		}
	}
	// Other streams do not suffer.
	if v := p.Offer(0, video(1, 8, 500, "1")); v == cc.Dropped {
		t.Error("a stream that is whole was dropped")
	}
}

func TestPacerDropsWhatWaitedTooLong(t *testing.T) {
	p := cc.NewPacer[int](cc.PacerLimits{Wait: 200 * time.Millisecond}, 100_000)
	for p.Offer(0, video(0, 1, 1000, "")) == cc.Send {
	}
	for i := range 50 {
		p.Offer(0, video(i+1, 1, 1000, ""))
	}
	p.Offer(150*time.Millisecond, video(100, 2, 1000, "1"))
	if got := pops(p, 300*time.Millisecond); len(got) == 0 || got[0] != 100 {
		t.Errorf("left %v, want the fresh stream", got)
	}
	if s, ok := p.Broken(); !ok || s != 1 {
		t.Errorf("broken is %d, %v", s, ok)
	}
	p.Forget(1)
	if v := p.Offer(time.Second, video(1, 1, 100, "")); v != cc.Send {
		t.Errorf("a slot that shows something else: %d", v)
	}
}

// Whatever is offered, the bounds hold, nothing is lost without account, and every
// stream leaves in its order without holes before a keyframe.
func TestPacerHoldsItsBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limits := cc.PacerLimits{
			Bytes:   rapid.IntRange(3000, 50_000).Draw(t, "bytes"),
			Packets: rapid.IntRange(4, 100).Draw(t, "packets"),
			Wait:    time.Duration(rapid.IntRange(10, 500).Draw(t, "wait")) * time.Millisecond,
		}
		p := cc.NewPacer[int](limits, rapid.Int64Range(100_000, 5_000_000).Draw(t, "rate"))
		now := time.Duration(0)
		var offered, left, gone uint64
		next := make(map[uint32]int) // id to offer
		last := make(map[uint32]int) // id that left
		keys := make(map[uint32]map[int]bool)
		leaves := func(it cc.Item[int]) {
			left++
			if it.Class != cc.Video {
				return
			}
			if it.Packet <= last[it.Stream] {
				t.Fatalf("stream %d: %d after %d", it.Stream, it.Packet, last[it.Stream])
			}
			if it.Packet != last[it.Stream]+1 && !keys[it.Stream][it.Packet] {
				t.Fatalf("stream %d: %d after %d is no keyframe", it.Stream, it.Packet, last[it.Stream])
			}
			last[it.Stream] = it.Packet
		}
		for range rapid.IntRange(1, 300).Draw(t, "steps") {
			now += time.Duration(rapid.IntRange(0, 30).Draw(t, "ms")) * time.Millisecond
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0:
				p.SetRate(now, rapid.Int64Range(100_000, 5_000_000).Draw(t, "rate"))
			case 1, 2:
				for it, ok := p.Pop(now); ok; it, ok = p.Pop(now) {
					leaves(it)
				}
			default:
				it := cc.Item[int]{
					Stream: rapid.Uint32Range(1, 3).Draw(t, "stream"),
					Size:   rapid.IntRange(1, 1400).Draw(t, "size"),
					Class:  rapid.SampledFrom([]cc.Class{cc.Audio, cc.Resend, cc.Video, cc.Video, cc.Video, cc.Video}).Draw(t, "class"),
				}
				if it.Class == cc.Video {
					next[it.Stream]++
					it.Packet = next[it.Stream]
					it.First = rapid.Bool().Draw(t, "first")
					it.Key = it.First && rapid.IntRange(0, 5).Draw(t, "key") == 0
					if it.Key {
						if keys[it.Stream] == nil {
							keys[it.Stream] = make(map[int]bool)
						}
						keys[it.Stream][it.Packet] = true
					}
				}
				offered++
				switch v := p.Offer(now, it); {
				case v == cc.Send:
					leaves(it)
				case it.Class == cc.Audio:
					t.Fatal("audio waits")
				}
			}
			s := p.Stats()
			gone = s.Dropped
			if s.Bytes > limits.Bytes+limits.Bytes/4 || s.Packets > limits.Packets+limits.Packets/4 {
				t.Fatalf("%+v exceeds %+v", s, limits)
			}
			if offered != left+gone+uint64(s.Packets) {
				t.Fatalf("%d offered, %d left, %d dropped, %d queued", offered, left, gone, s.Packets)
			}
			if s.Packets > 0 && p.Next() == 0 || s.Packets == 0 && p.Next() != 0 {
				t.Fatalf("%d queued, next %v", s.Packets, p.Next())
			}
		}
	})
}
