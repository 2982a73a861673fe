package timesync

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/services/internal/netconfig"
)

// world is a machine whose clock is behind by wrong, and servers that are off
// by what their entry says.
type world struct {
	mu      sync.Mutex
	wrong   time.Duration
	servers map[string]time.Duration
	fail    map[string]error
	asked   map[string]int
	moves   []control.Clock
	refuse  error
}

func (w *world) query(ctx context.Context, server string) (Sample, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked[server]++
	off, ok := w.servers[server]
	if err := w.fail[server]; err != nil || !ok {
		return Sample{}, errors.Join(err, ctx.Err(), errors.New("i/o timeout"))
	}
	return Sample{server, w.wrong + off, 5 * time.Millisecond}, nil
}

func (w *world) adjust(_ context.Context, c control.Clock) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.refuse != nil {
		return w.refuse
	}
	if !c.Step && max(c.Offset, -c.Offset) > slewMax {
		return fmt.Errorf("%v is too much to slew", c.Offset)
	}
	w.moves = append(w.moves, c)
	w.wrong -= c.Offset
	return nil
}

func (w *world) change(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// moved returns the moves so far, and n how often a server was asked.
func (w *world) moved() []control.Clock {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.moves)
}

func (w *world) n(server string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.asked[server]
}

// keep runs a keeper of the world's clock in a bubble.
func keep(t *testing.T, w *world, marker string, servers ...string) *Keeper {
	w.change(func() { w.asked = map[string]int{} })
	k := New(Config{Query: w.query, Adjust: w.adjust, Marker: marker, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	k.Set(netconfig.NTP{Servers: servers})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	synctest.Wait()
	return k
}

func marker(t *testing.T) string { return filepath.Join(t.TempDir(), "synced") }

// After boot a clock that is years off is stepped at once; afterwards it is
// slewed, and the servers are asked less and less.
func TestBoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{wrong: 20 * 365 * 24 * time.Hour, servers: map[string]time.Duration{"a": 0}}
		m := marker(t)
		k := keep(t, w, m, "a")
		want := []control.Clock{{Offset: 20 * 365 * 24 * time.Hour, Step: true, Save: true}}
		if !slices.Equal(w.moved(), want) {
			t.Fatalf("moves %+v, want %+v", w.moved(), want)
		}
		if s := k.Status(); !s.Synced || s.Server != "a" || s.Problem != "" || s.Offset != 0 || time.Since(s.Last) > time.Second {
			t.Errorf("status %+v", s)
		}
		w.change(func() { w.wrong = 3 * time.Millisecond })
		time.Sleep(pollMin + time.Second)
		if len(w.moved()) != 2 || w.moved()[1] != (control.Clock{Offset: 3 * time.Millisecond}) {
			t.Errorf("moves %+v", w.moved()[1:])
		}
		n := w.n("a")
		time.Sleep(24 * time.Hour)
		if n = w.n("a") - n; n < 80 || n > 95 {
			t.Errorf("asked %d times in a day, want every %v", n, pollMax)
		}
		saves := 0
		for _, c := range w.moved()[2:] {
			if !c.Save || c.Step || c.Offset != 0 {
				t.Errorf("move %+v of a clock that is right", c)
			}
			saves++
		}
		if saves < 3 || saves > 5 {
			t.Errorf("the RTC was set %d times in a day, want every %v", saves, saveEach)
		}

		// The next process of this boot knows that the clock was set.
		w.change(func() { w.wrong, w.moves = 2*time.Hour, nil })
		k = keep(t, w, m, "a")
		time.Sleep(time.Hour)
		if len(w.moved()) != 0 || !strings.Contains(k.Status().Problem, "alone") {
			t.Errorf("one server alone: moves %+v, status %+v", w.moved(), k.Status())
		}
	})
}

// A clock that was right and is found wrong: small steps of one server at the
// second time, large ones only by two.
func TestLaterSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{servers: map[string]time.Duration{"a": 0, "b": 5 * time.Millisecond}}
		k := keep(t, w, marker(t), "a")
		w.change(func() { w.wrong, w.moves = 30*time.Minute, nil })
		time.Sleep(pollMin + retryMin + time.Second)
		if len(w.moved()) != 1 || !w.moved()[0].Step {
			t.Errorf("moves %+v, want a step", w.moved())
		}
		w.change(func() { w.servers["a"], w.moves = 10*time.Second, nil }) // one late packet
		for n := w.n("a"); w.n("a") == n; {
			time.Sleep(time.Second)
		}
		w.change(func() { w.servers["a"] = 0 })
		time.Sleep(time.Hour)
		if len(w.moved()) != 0 {
			t.Errorf("one late packet moves the clock by %+v", w.moved())
		}
		w.change(func() { w.wrong = -10 * time.Hour })
		time.Sleep(2 * pollMax)
		if len(w.moved()) != 0 || k.Status().Problem == "" {
			t.Errorf("one server alone moves the clock by %+v", w.moved())
		}
		if err := k.Sync(t.Context()); err == nil || !strings.Contains(err.Error(), "a alone says") {
			t.Errorf("Sync: %v", err)
		}
		k.Set(netconfig.NTP{Servers: []string{"a", "b"}})
		time.Sleep(retryMin + time.Second)
		if len(w.moved()) == 0 || !w.moved()[0].Step || k.Status().Problem != "" {
			t.Errorf("two servers: moves %+v, %+v", w.moved(), k.Status())
		}
	})
}

// Nobody answers: it says so, asks less and less, and at once when there is a
// network again. What PID 1 refuses counts as not set.
func TestProblems(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{wrong: 5 * time.Hour, servers: map[string]time.Duration{}}
		k := keep(t, w, marker(t))
		if s := k.Status(); s.Problem != "no time server is known" || len(s.Servers) != 0 || s.Synced {
			t.Errorf("status %+v", s)
		}
		k.SetDHCP([]netip.Addr{netip.MustParseAddr("192.0.2.123")})
		time.Sleep(time.Second)
		if s := k.Status(); !strings.Contains(s.Problem, "no time server answers (192.0.2.123: ") || strings.Contains(s.Problem, "\n") && len(s.Servers) != 1 {
			t.Errorf("status %+v", s)
		}
		time.Sleep(time.Hour)
		if n := w.n("192.0.2.123"); n < 8 || n > 18 {
			t.Errorf("asked %d times in an hour in vain", n)
		}
		w.change(func() { w.servers["192.0.2.123"], w.refuse = 0, errors.New("before the image was built") })
		k.Nudge()
		synctest.Wait()
		if s := k.Status(); !strings.Contains(s.Problem, "before the image was built") || s.Synced {
			t.Errorf("status %+v", s)
		}
		w.change(func() { w.refuse = nil })
		if err := k.Sync(t.Context()); err != nil || len(w.moved()) != 1 || !w.moved()[0].Step {
			t.Errorf("Sync: %v, moves %+v", err, w.moved())
		}
		n := w.n("192.0.2.123")
		k.Nudge() // nothing is wrong: nothing to ask
		synctest.Wait()
		if w.n("192.0.2.123") != n {
			t.Error("a nudge asks though nothing is wrong")
		}
		k.Set(netconfig.NTP{Off: true})
		time.Sleep(time.Hour)
		if s := k.Status(); !s.Off || s.Synced || s.Problem != "" || w.n("192.0.2.123") != n {
			t.Errorf("switched off: %+v, asked %d times", s, w.n("192.0.2.123")-n)
		}
		if err := k.Sync(t.Context()); err == nil {
			t.Error("Sync though it is switched off")
		}
	})
}

func TestKiss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{servers: map[string]time.Duration{}, fail: map[string]error{"rate": &kiss{"RATE"}, "deny": &kiss{"DENY"}}}
		k := keep(t, w, marker(t), "rate", "deny")
		time.Sleep(10 * pollMin)
		if w.n("rate") != 1 || w.n("deny") != 1 {
			t.Errorf("asked %d and %d times", w.n("rate"), w.n("deny"))
		}
		time.Sleep(10 * time.Hour)
		if n := w.n("rate"); n < 10 || n > 40 || w.n("deny") != 1 {
			t.Errorf("asked %d and %d times in ten hours", n, w.n("deny"))
		}
		if k.Status().Problem == "" {
			t.Error("no problem is told")
		}
		k.Set(netconfig.NTP{Servers: []string{"deny"}})
		synctest.Wait()
		if w.n("deny") != 2 {
			t.Error("a new configuration does not ask again")
		}
	})
}

func TestChoose(t *testing.T) {
	s := func(offsets ...int) (out []Sample) { // in seconds
		for i, o := range offsets {
			out = append(out, Sample{fmt.Sprint(i), time.Duration(o) * time.Second, time.Duration(i+1) * 20 * time.Millisecond})
		}
		return out
	}
	for _, c := range []struct {
		in     []Sample
		server string
		agree  int
		err    string
	}{
		{nil, "", 0, "no time server answers"},
		{s(7), "0", 1, ""},
		{s(7, 7), "0", 2, ""},
		{s(7, 9), "", 0, "disagree: 0 +7.000 s, 1 +9.000 s"},
		{s(900, 7, 7), "1", 2, ""},
		{s(7, 7, 900, 900), "", 0, "disagree"},
		{s(7, 900, 7, 900, 7), "0", 3, ""},
		{s(1, 2, 3), "", 0, "disagree"},
	} {
		best, n, err := choose(c.in)
		if best.Server != c.server || n != c.agree || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("choose(%v) = %v, %d, %v, want %+v", c.in, best, n, err, c)
		}
	}
}
