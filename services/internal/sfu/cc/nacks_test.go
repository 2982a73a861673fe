package cc_test

import (
	"slices"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"pgregory.net/rapid"

	"github.com/parley-meet/parley/services/internal/sfu/cc"
)

// asked builds a NACK and gives what pion reads in it.
func asked(t interface{ Fatal(...any) }, n *cc.Nacks, now, rtt time.Duration) (seqs []uint16) {
	buf := make([]byte, 1200)
	size := n.Build(now, rtt, buf, 5, 6)
	if size == 0 {
		return nil
	}
	var p rtcp.TransportLayerNack
	if err := p.Unmarshal(buf[:size]); err != nil {
		t.Fatal(err)
	}
	if p.SenderSSRC != 5 || p.MediaSSRC != 6 {
		t.Fatal("SSRCs", p.SenderSSRC, p.MediaSSRC)
	}
	for _, pair := range p.Nacks {
		seqs = append(seqs, pair.PacketList()...)
	}
	return seqs
}

func TestNacksAskAtOnceAndAgain(t *testing.T) {
	var n cc.Nacks
	const rtt = 50 * time.Millisecond
	at := time.Second
	n.Received(at, 65530, true)
	n.Received(at, 65532, false)
	n.Received(at, 20, false)
	want := []uint16{65531, 65533, 65534, 65535}
	for s := range uint16(20) {
		want = append(want, s)
	}
	if got := asked(t, &n, at, rtt); !slices.Equal(got, want) {
		t.Errorf("asks for %v, want %v", got, want)
	}
	if got := asked(t, &n, at+rtt, rtt); got != nil {
		t.Errorf("asks within a round trip for %v", got)
	}
	n.Recovered(65533)
	n.Received(at+rtt, 65535, false)
	for s := range uint16(19) {
		n.Recovered(s)
	}
	if next := n.Next(); next != at+60*time.Millisecond {
		t.Errorf("next at %v", next)
	}
	if got := asked(t, &n, n.Next(), rtt); !slices.Equal(got, []uint16{65531, 65534, 19}) {
		t.Errorf("asks again for %v", got)
	}
}

func TestNacksGiveUp(t *testing.T) {
	for _, rtt := range []time.Duration{time.Millisecond, 30 * time.Millisecond, 300 * time.Millisecond, 0} {
		var n cc.Nacks
		at, tries := time.Second, 0
		n.Received(at, 1, true)
		n.Received(at, 3, false)
		for next := n.Next(); next != 0; next = n.Next() {
			at = max(at, next)
			if asked(t, &n, at, rtt) != nil {
				tries++
			}
			if at > 3*time.Second {
				t.Fatal("asks for ever")
			}
		}
		if tries > 10 || tries < 3 || at > 2*time.Second+400*time.Millisecond {
			t.Errorf("round trip %v: %d tries until %v", rtt, tries, at-time.Second)
		}
		if !n.NeedKeyframe() {
			t.Errorf("round trip %v: no keyframe needed", rtt)
		}
		n.Received(at, 4, false)
		if !n.NeedKeyframe() {
			t.Error("healed by no keyframe")
		}
		if n.Received(at, 5, true); n.NeedKeyframe() {
			t.Error("not healed by a keyframe")
		}
	}
}

func TestNacksForgetBeforeAKeyframe(t *testing.T) {
	var n cc.Nacks
	n.Received(0, 1, true)
	n.Received(0, 5, false)
	n.Received(0, 10, true)
	n.Received(0, 12, false)
	if got := asked(t, &n, 0, 0); !slices.Equal(got, []uint16{11}) {
		t.Errorf("asks for %v, want 11 alone", got)
	}
}

// A way that reorders is not asked for what is only late.
func TestNacksLearnReordering(t *testing.T) {
	var n cc.Nacks
	now, seq, questions := time.Duration(0), uint16(0), 0
	for i := range 300 {
		// Three packets overtake a fourth.
		for _, d := range []uint16{1, 2, 3, 0} {
			n.Received(now, seq+d, false)
			if i > 2 {
				questions += len(asked(t, &n, now, 50*time.Millisecond))
			} else {
				asked(t, &n, now, 50*time.Millisecond)
			}
			now += time.Millisecond
		}
		seq += 4
	}
	if questions > 5 {
		t.Errorf("%d questions for 300 late packets", questions)
	}
	// What is really lost is asked for soon nevertheless: after 20 ms, or as many
	// packets as may overtake.
	n.Received(now, seq+1, false)
	if got := asked(t, &n, now, 50*time.Millisecond); got != nil {
		t.Errorf("asks at once for %v", got)
	}
	if next := n.Next(); next != now+20*time.Millisecond {
		t.Errorf("asks after %v", next-now)
	}
	for d := range uint16(4) {
		n.Received(now, seq+2+d, false)
	}
	if got := asked(t, &n, now, 50*time.Millisecond); !slices.Equal(got, []uint16{seq}) {
		t.Errorf("asks for %v, want %d", got, seq)
	}
}

func TestNacksAfterABreak(t *testing.T) {
	var n cc.Nacks
	n.Received(0, 1, true)
	n.Received(0, 1500, false)
	if n.Missing() != 0 || !n.NeedKeyframe() {
		t.Errorf("%d missing after a break, keyframe %v", n.Missing(), n.NeedKeyframe())
	}
	// Back, for good.
	for i := range uint16(40) {
		n.Received(0, 60000+i, i == 39)
	}
	n.Received(0, 60041, false)
	if got := asked(t, &n, 0, 0); !slices.Equal(got, []uint16{60040}) {
		t.Errorf("asks for %v, want 60040", got)
	}
}

func TestNacksInASmallBuffer(t *testing.T) {
	var n cc.Nacks
	n.Received(0, 0, true)
	n.Received(0, 900, false)
	buf := make([]byte, 12+4*10)
	total := 0
	for size := n.Build(0, 0, buf, 1, 2); size > 0; size = n.Build(0, 0, buf, 1, 2) {
		p, _, err := cc.Split(buf[:size])
		if err != nil {
			t.Fatal(err)
		}
		total += len(p.Nacks(nil, 1000))
	}
	if total != 899 {
		t.Errorf("asked for %d packets, want 899", total)
	}
}

// A model: the set of what is missing. Whatever comes, the list is bounded and
// names nothing that arrived.
func TestNacksNameOnlyWhatIsMissing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var n cc.Nacks
		seen := make(map[uint16]bool)
		seq := rapid.Uint16().Draw(t, "first")
		now := time.Duration(0)
		n.Received(now, seq, true)
		seen[seq] = true
		for range rapid.IntRange(1, 300).Draw(t, "steps") {
			now += time.Duration(rapid.IntRange(0, 40).Draw(t, "ms")) * time.Millisecond
			step := rapid.SampledFrom([]int{1, 1, 1, 2, 3, 17, 200, -1, -5, -40}).Draw(t, "step")
			if step > 0 {
				for i := range uint16(step) {
					delete(seen, seq+i+1+30000) // so long ago that it may come again
				}
				seq += uint16(step)
				n.Received(now, seq, rapid.IntRange(0, 20).Draw(t, "key") == 0)
				seen[seq] = true
			} else {
				late := seq + uint16(step)
				if rapid.Bool().Draw(t, "resent") {
					n.Recovered(late)
				} else {
					n.Received(now, late, false)
				}
				seen[late] = true
			}
			if n.Missing() > 1000 {
				t.Fatalf("%d entries", n.Missing())
			}
			for _, s := range asked(t, &n, now, 40*time.Millisecond) {
				if seen[s] {
					t.Fatalf("asks for %d, which came", s)
				}
				if int16(s-seq) > 0 {
					t.Fatalf("asks for %d, the highest is %d", s, seq)
				}
			}
			if (n.Next() == 0) != (n.Missing() == 0) {
				t.Fatalf("%d missing, next %v", n.Missing(), n.Next())
			}
		}
	})
}

// A publisher that leaps at will: the list stays bounded, and so does what is asked.
func TestNacksHostile(t *testing.T) {
	var n cc.Nacks
	r := cc.NewReception(90_000)
	x, now, questions := uint32(1), time.Duration(0), 0
	const packets = 100_000
	for range packets {
		x = x*1664525 + 1013904223
		seq := uint16(x >> 16)
		if x&0x300 != 0 {
			seq = seq&0x3ff | 0x8000 // mostly within reach of each other
		}
		now += time.Duration(x % 2_000_000)
		n.Received(now, seq, x&0xfc00 == 0)
		r.Received(now, seq, x)
		if n.Missing() > 1000 {
			t.Fatalf("%d entries", n.Missing())
		}
		if at := n.Next(); at != 0 && at <= now {
			questions += len(asked(t, &n, now, 50*time.Millisecond))
		}
	}
	// Each of 1,000 entries is asked for once in a round trip and 10 ms.
	if most := 1000 * int(now/(60*time.Millisecond)); questions > most {
		t.Errorf("%d questions in %v, want at most %d", questions, now, most)
	}
	if rep, ok := r.Report(now, 1); !ok || rep.Jitter > 10*90_000 {
		t.Errorf("%+v", rep)
	}
}
