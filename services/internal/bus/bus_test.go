package bus

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/parley-meet/parley/services/internal/link"
)

var (
	c1 = Peer{link.Controller, "c1"}
	r1 = Peer{link.Router, "r1"}
	r2 = Peer{link.Router, "r2"}
)

func TestSubject(t *testing.T) {
	for _, to := range []Peer{c1, r1, AllControllers, AllRouters} {
		s := subject("z7", r2, to, "signal.m42")
		from, back, topic, ok := parseSubject(s, "z7")
		if !ok || from != r2 || back != to || topic != "signal.m42" {
			t.Errorf("%s: %v %v %q %v", s, from, back, topic, ok)
		}
	}
	for _, s := range []string{
		"", "parley", "parley.z7.router.r1.controller.c1", "parley.z8.router.r1.controller.c1.x", "parley.z7.router..controller.c1.x",
		"parley.z7.router.all.controller.c1.x", "parley.z7.portal.r1.controller.c1.x", "parley.z7.router.r1.portal.c1.x", "parley.z7.router.r1.controller.c1.*",
		"parley.z7.router.r1.controller.c1.", "parley.z7.router.r1.controller.c1.a..b", "parley.z7.router.r>.controller.c1.x",
		"parley.z7.router." + strings.Repeat("r", maxID+1) + ".controller.c1.x", "parley.z7.router.r1.controller.c1." + strings.Repeat("t", MaxTopic+1),
	} {
		if from, to, topic, ok := parseSubject(s, "z7"); ok {
			t.Errorf("%q: %v %v %q", s, from, to, topic)
		}
	}
}

// matches is NATS's rule for subjects, for two wildcards.
func matches(pattern, s string) bool {
	p, w := strings.Split(pattern, "."), strings.Split(s, ".")
	for i := range p {
		switch {
		case p[i] == ">":
			return len(w) > i
		case i >= len(w) || p[i] != "*" && p[i] != w[i]:
			return false
		}
	}
	return len(p) == len(w)
}

func TestRights(t *testing.T) {
	everybody := []Peer{c1, {link.Controller, "c2"}, r1, r2}
	may := func(patterns []string, s string) bool {
		return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, s) })
	}
	for _, who := range everybody {
		publish, subscribe := Rights("z7", who)
		for _, from := range everybody {
			for _, to := range append(everybody, AllControllers, AllRouters) {
				s := subject("z7", from, to, "x")
				if may(publish, s) != (from == who) {
					t.Errorf("%v publishes %s: %v", who, s, may(publish, s))
				}
				mine := to == who || to == Peer{who.Role, all}
				if want := mine && (who.Role == link.Controller || from.Role == link.Controller); may(subscribe, s) != want {
					t.Errorf("%v subscribes to %s: %v", who, s, !want)
				}
				if may(publish, "parley.z8"+strings.TrimPrefix(s, "parley.z7")) {
					t.Errorf("%v publishes in another zone", who)
				}
			}
		}
	}
}

func FuzzFrame(f *testing.F) {
	f.Add(frame{kindPlain, 1, 2, 0, []byte("x")}.bytes(), "parley.z7.router.r1.controller.all.announce")
	f.Add(frame{kindRequest, 1, 2, 0, nil}.bytes(), "parley.z7.controller.c1.router.r1.signal.m42")
	f.Add(frame{kindReply, 1<<64 - 1, 1<<64 - 1, 7, []byte{0}}.bytes(), "parley.z7.router.r1.controller.c1.signal")
	f.Add([]byte{2, 1}, "parley..")
	f.Fuzz(func(t *testing.T, b []byte, s string) {
		if fr, err := parseFrame(b); err == nil {
			if !bytes.Equal(fr.bytes(), b) {
				t.Errorf("%x became %x", b, fr.bytes())
			}
			if fr.number == 0 || len(fr.data) > MaxData {
				t.Errorf("%+v", fr)
			}
		}
		if from, to, topic, ok := parseSubject(s, "z7"); ok && subject("z7", from, to, topic) != s {
			t.Errorf("%q is %v %v %q", s, from, to, topic)
		}
	})
}

func TestFrame(t *testing.T) {
	good := frame{kindPlain, 5, 6, 0, []byte("data")}
	if b := good.bytes(); len(b) != headerSize+4 {
		t.Errorf("%d bytes", len(b))
	}
	for name, f := range map[string]frame{
		"no number":                 {kindPlain, 5, 0, 0, nil},
		"reply to nothing":          {kindReply, 5, 6, 0, nil},
		"request that is an answer": {kindRequest, 5, 6, 7, nil},
		"kind 0":                    {0, 5, 6, 0, nil},
		"kind 4":                    {4, 5, 6, 0, nil},
		"too long":                  {kindPlain, 5, 6, 0, make([]byte, MaxData+1)},
	} {
		if _, err := parseFrame(f.bytes()); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	b := good.bytes()
	b[0] = 2
	if _, err := parseFrame(b); err == nil {
		t.Error("another version is taken")
	}
	if _, err := parseFrame(good.bytes()[:headerSize-1]); err == nil {
		t.Error("a short one is taken")
	}
}

// A window against the plain rule: a number is new if it was not seen and is not
// far behind.
func TestWindow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var w window
		seen := make(map[uint64]bool)
		top := uint64(0)
		steps := rapid.SliceOfN(rapid.IntRange(-windowBits-100, windowBits+100), 1, 200).Draw(t, "steps")
		for _, d := range steps {
			n := uint64(max(int64(top)+int64(d), 1))
			want := !seen[n] && (n > top || top-n < windowBits)
			if got := w.first(n); got != want {
				t.Fatalf("%d after %d: %v, want %v", n, top, got, want)
			}
			seen[n] = true
			top = max(top, n)
		}
	})
}

func TestSeen(t *testing.T) {
	s := make(seen)
	for _, step := range []struct {
		from         Peer
		boot, number uint64
		want         bool
	}{
		{r1, 1, 1, true}, {r1, 1, 1, false}, {r2, 1, 1, true}, {r1, 1, 2, true},
		{r1, 2, 1, true}, {r1, 1, 2, false}, {r1, 1, 3, true}, {r1, 2, 1, false}, // a restart, and copies from before it
		{r1, 3, 1, true}, {r1, 2, 1, false},
	} {
		if got := s.first(step.from, step.boot, step.number); got != step.want {
			t.Errorf("%+v: %v", step, got)
		}
	}
	for i := range 2 * maxAuthors {
		s.first(Peer{link.Router, fmt.Sprint("x", i)}, 1, 1)
	}
	if len(s) > maxAuthors {
		t.Errorf("%d authors are remembered", len(s))
	}
}

// Copies by several connections, each with messages in order, lost ones and one
// that comes later: the first of each number arrives, once, and in order where no
// connection loses any.
func TestMerge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const count = 300
		lossy := rapid.Bool().Draw(t, "lossy")
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		var paths [][]uint64
		sent := make(map[uint64]bool)
		for range rapid.IntRange(1, 4).Draw(t, "paths") {
			var p []uint64
			for n := uint64(1); n <= count; n++ {
				if !lossy || r.IntN(3) > 0 {
					p = append(p, n)
					sent[n] = true
				}
			}
			paths = append(paths, p)
		}
		s := make(seen)
		var got []uint64
		for {
			var some []int
			for i, p := range paths {
				if len(p) > 0 {
					some = append(some, i)
				}
			}
			if len(some) == 0 {
				break
			}
			i := some[r.IntN(len(some))]
			if s.first(r1, 7, paths[i][0]) {
				got = append(got, paths[i][0])
			}
			paths[i] = paths[i][1:]
		}
		if len(got) != len(sent) {
			t.Fatalf("%d of %d came", len(got), len(sent))
		}
		if !lossy && !slices.IsSorted(got) {
			t.Fatalf("out of order: %v", got)
		}
	})
}

// An inbox against plain lists: order for each author, bounds, nobody starves.
func TestInbox(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := newInbox()
		want := make(map[Peer][]byte)
		passed := make(map[Peer]int) // how often others came while one waited
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				from := Peer{link.Router, rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "author")}
				n := byte(rapid.IntRange(0, 255).Draw(t, "data"))
				if !b.push(Message{From: from, Data: []byte{n}}) {
					t.Fatal("refused")
				}
				want[from] = append(want[from], n)
			},
			"pop": func(t *rapid.T) {
				m, ok := b.pop()
				waiting := 0
				for _, l := range want {
					if len(l) > 0 {
						waiting++
					}
				}
				if ok != (waiting > 0) {
					t.Fatalf("%v with %d authors waiting", ok, waiting)
				}
				if !ok {
					return
				}
				if l := want[m.From]; len(l) == 0 || l[0] != m.Data[0] {
					t.Fatalf("%v of %v, want the first of %v", m.Data, m.From, l)
				}
				want[m.From] = want[m.From][1:]
				for from, l := range want {
					if from == m.From || len(l) == 0 {
						passed[from] = 0
					} else if passed[from]++; passed[from] > 2 {
						t.Fatalf("%v waits while %d others come", from, passed[from])
					}
				}
			},
		})
	})
}

func TestInboxBounds(t *testing.T) {
	b := newInbox()
	for range 10 * authorMessages {
		b.push(Message{From: r1})
	}
	if !b.push(Message{From: r2, Data: []byte("x")}) {
		t.Error("a flood takes another's room")
	}
	if b.dropped != 9*authorMessages {
		t.Errorf("%d dropped", b.dropped)
	}
	if m, _ := b.pop(); m.From != r1 {
		t.Errorf("first %v", m.From)
	}
	if m, _ := b.pop(); m.From != r2 {
		t.Errorf("second %v: the flood stands before it", m.From)
	}
	b = newInbox()
	n := 0
	for b.push(Message{From: r1, Data: make([]byte, MaxData)}) {
		n++
	}
	if n != authorBytes/(MaxData+messageCost) {
		t.Errorf("%d long messages of one author", n)
	}
	for i := range 1000 {
		b.push(Message{From: Peer{link.Router, fmt.Sprint(i)}, Data: make([]byte, MaxData)})
	}
	if b.bytes > inboxBytes {
		t.Errorf("%d bytes of all", b.bytes)
	}
	b.close()
	if b.push(Message{From: r2}) || b.bytes != 0 {
		t.Error("a closed one takes messages")
	}
}

func TestOutbox(t *testing.T) {
	o := outbox{wake: make(chan struct{}, 1)}
	if err := o.push(envelope{}); !errors.Is(err, ErrNoPath) {
		t.Errorf("closed: %v", err)
	}
	o.set(true)
	n := 0
	for o.push(envelope{"s", make([]byte, MaxPayload)}) == nil {
		n++
	}
	if n != outBytes/(MaxPayload+messageCost) || o.dropped != 1 {
		t.Errorf("%d long ones, %d dropped", n, o.dropped)
	}
	if list := o.take(); len(list) != n {
		t.Errorf("took %d", len(list))
	}
	for n = 0; o.push(envelope{"s", nil}) == nil; n++ {
	}
	if n != outMessages {
		t.Errorf("%d short ones", n)
	}
	o.set(true) // a new connection: what waited for the one before is stale
	if len(o.take()) != 0 {
		t.Error("stale messages are sent")
	}
}

func TestBackoff(t *testing.T) {
	for _, c := range []struct {
		attempt int
		r       float64
		want    time.Duration
	}{{0, 0, 0}, {0, 0.5, 250 * time.Millisecond}, {1, 0.5, 500 * time.Millisecond}, {3, 1, 4 * time.Second}, {5, 1, backoffMost}, {1e6, 1, backoffMost}} {
		if got := backoff(c.attempt, c.r); got != c.want {
			t.Errorf("%d %v: %v, want %v", c.attempt, c.r, got, c.want)
		}
	}
}
