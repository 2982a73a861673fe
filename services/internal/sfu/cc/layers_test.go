package cc_test

import (
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/sfu/cc"
)

// viewer is a subscriber as the router has it: a speaker in three layers and some
// thumbnails, chosen anew when the estimate changes and each half second.
type viewer struct {
	*flow
	slots    []cc.Slot
	out      []int
	switches int // of the speaker's layer
	since    time.Duration
}

func newViewer(thumbnails int) *viewer {
	v := &viewer{flow: newFlow(cc.Config{}, 0)}
	v.slots = append(v.slots, slot(1280, 720, 2, cc.Fresh))
	wanted := camera[2].Rate
	for range thumbnails {
		v.slots = append(v.slots, slot(320, 180, 1, cc.Fresh))
		wanted += camera[0].Rate
	}
	v.out = make([]int, len(v.slots))
	v.est.SetWanted(wanted)
	return v
}

func (v *viewer) run(t *testing.T, l *bottleneck, from, to time.Duration, others ...*viewer) {
	all := append([]*viewer{v}, others...)
	var flows []*flow
	for _, v := range all {
		flows = append(flows, v.flow)
		v.switches = 0
	}
	const step = 50 * time.Millisecond
	for now := from; now < to; now += step {
		run(t, l, now, now+step, flows...)
		for _, v := range all {
			if v.est.Changed() || now >= v.since+500*time.Millisecond {
				v.choose(now)
			}
		}
	}
}

func (v *viewer) choose(now time.Duration) {
	v.since = now
	v.limit = cc.Allocate(v.est.Target(), v.slots, v.out)
	if v.slots[0].Current != cc.Fresh && v.out[0] != v.slots[0].Current {
		v.switches++
	}
	for i := range v.slots {
		v.slots[i].Current = v.out[i]
	}
}

// What the viewer gets follows the way: a layer that fits, soon, and no flapping.
func TestLayersFollowTheWay(t *testing.T) {
	l := newLink(5_000_000)
	v := newViewer(3)
	v.run(t, l, 0, 3*time.Second)
	if v.out[0] != 2 {
		t.Errorf("layer %d after 3 s at 5 Mbit/s, estimate %d", v.out[0], v.est.Target())
	}
	v.run(t, l, 3*time.Second, 60*time.Second)
	if v.out[0] != 2 || v.switches > 0 {
		t.Errorf("layer %d, %d switches in a minute at 5 Mbit/s", v.out[0], v.switches)
	}
	l.capacity = 1_300_000
	v.run(t, l, 60*time.Second, 63*time.Second)
	if v.out[0] > 1 {
		t.Errorf("layer %d 3 s after the way shrank to 1.3 Mbit/s", v.out[0])
	}
	v.run(t, l, 63*time.Second, 120*time.Second)
	if v.out[0] != 1 || v.switches > 2 {
		t.Errorf("layer %d, %d switches in a minute at 1.3 Mbit/s, estimate %d", v.out[0], v.switches, v.est.Target())
	}
	for i, o := range v.out[1:] {
		if o != 0 {
			t.Errorf("thumbnail %d: layer %d", i, o)
		}
	}
	l.capacity = 5_000_000
	v.run(t, l, 120*time.Second, 150*time.Second)
	if v.out[0] != 2 || v.switches > 1 {
		t.Errorf("layer %d, %d switches in the half minute after the way grew, estimate %d", v.out[0], v.switches, v.est.Target())
	}
}

// Two viewers behind one line that carries one of the large pictures.
func TestLayersShareALine(t *testing.T) {
	l := newLink(3_000_000)
	a, b := newViewer(2), newViewer(2)
	a.run(t, l, 0, 30*time.Second, b)
	a.run(t, l, 30*time.Second, 150*time.Second, b)
	if a.out[0] < 1 || b.out[0] < 1 {
		t.Errorf("layers %d and %d", a.out[0], b.out[0])
	}
	if a.switches+b.switches > 24 {
		t.Errorf("%d and %d switches in two minutes", a.switches, b.switches)
	}
	t.Logf("layers %d and %d, %d and %d switches in two minutes", a.out[0], b.out[0], a.switches, b.switches)
}
