package supervisor

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/parley-meet/parley/image/config"
	"github.com/parley-meet/parley/image/control"
)

const ms = time.Millisecond

// A service that never gets ready: at once, then the pauses double up to Max,
// and it never gives up.
func TestBackoff(t *testing.T) {
	s := script{ready: never, end: 0, exit: Exit{Code: 1}}
	supervise(t, Options{Services: services("mmr")}, always(s), func(b *bench) {
		b.pass(24 * time.Hour)
		at := b.fakes.starts("mmr", b.began)
		want := []time.Duration{0, 0, 100 * ms}
		for p := 200 * ms; p < 30*time.Second; p *= 2 {
			want = append(want, want[len(want)-1]+p)
		}
		for len(want) < 100 {
			want = append(want, want[len(want)-1]+30*time.Second)
		}
		if len(at) < 24*60*2 {
			t.Fatalf("%d starts in a day, want one each 30 s at least", len(at))
		}
		if !slices.Equal(at[:100], want) {
			t.Errorf("starts\n got %v\nwant %v", at[:100], want)
		}
		st := b.want(control.StateWaiting)
		if st.Restarts != len(at) || !st.CrashLoop || st.NextStart.IsZero() || st.PID != 0 {
			t.Errorf("%+v: want %d restarts in a crash loop and the next start", st, len(at))
		}
		if len(st.Events) != historyLen {
			t.Errorf("%d events, want the newest %d", len(st.Events), historyLen)
		}
		if last := st.Events[historyLen-1]; last.State != control.StateWaiting || last.Text != "exit status 1" || last.At != st.Since {
			t.Errorf("the last event is %+v", last)
		}
	})
}

func TestBackoffPure(t *testing.T) {
	b := newBackoff(config.Restart{})
	for i, want := range []time.Duration{0, 80 * ms, 160 * ms, 320 * ms} {
		if got := b.ended(0, 0); got != want {
			t.Errorf("short run %d, least jitter: %v, want %v", i, got, want)
		}
	}
	b = newBackoff(config.Restart{Min: config.Duration(time.Second), Max: config.Duration(3 * time.Second)})
	for i, want := range []time.Duration{0, time.Second, 2 * time.Second, 3 * time.Second, 3 * time.Second} {
		if got := b.ended(0, 0.5); got != want {
			t.Errorf("short run %d: %v, want %v", i, got, want)
		}
	}
	// The largest values that config takes overflow nothing, for ever.
	b = newBackoff(config.Restart{Min: config.Duration(time.Hour), Max: config.Duration(time.Hour)})
	rnd := rand.New(rand.NewPCG(1, 2))
	var low, high time.Duration = 2 * time.Hour, 0
	for i := range 10000 {
		got := b.ended(0, rnd.Float64())
		if i == 0 {
			continue
		}
		low, high = min(low, got), max(high, got)
	}
	if low < 48*time.Minute || low > 49*time.Minute || high < 71*time.Minute || high >= 72*time.Minute {
		t.Errorf("pauses from %v to %v, want a fifth around an hour", low, high)
	}
}

// A run of settled length is not punished, and one of calm length forgets.
func TestBackoffForgets(t *testing.T) {
	b := newBackoff(config.Restart{})
	for range 4 {
		b.ended(0, 0.5)
	}
	if got := b.ended(settled, 0.5); got != 0 {
		t.Errorf("after a settled run: %v, want no pause", got)
	}
	if got := b.ended(settled-1, 0.5); got != 800*ms {
		t.Errorf("and short again: %v, want that the short ones still count: 800ms", got)
	}
	if !b.crashLoop(0) || !b.crashLoop(config.DefaultCalm-1) || b.crashLoop(config.DefaultCalm) {
		t.Error("six ends are a crash loop until a calm run")
	}
	if got := b.ended(config.DefaultCalm, 0.5); got != 0 || b.crashLoop(0) {
		t.Errorf("after a calm run: %v, crash loop %v", got, b.crashLoop(0))
	}
	for i, want := range []time.Duration{0, 100 * ms} {
		if got := b.ended(0, 0.5); got != want {
			t.Errorf("short run %d after the calm one: %v, want %v", i, got, want)
		}
	}
	if b.crashLoop(0) {
		t.Error("three ends since the calm run are called a crash loop")
	}
}

// What each end looks like, and that exit 0 is an end like others.
func TestEnds(t *testing.T) {
	for name, x := range map[string]struct {
		exit Exit
		want control.Exit
	}{
		"exit 0":   {Exit{Code: 0}, control.Exit{Code: 0, Reason: "exit status 0"}},
		"exit 3":   {Exit{Code: 3}, control.Exit{Code: 3, Reason: "exit status 3"}},
		"signal":   {Exit{Code: -1, Signal: syscall.SIGSEGV}, control.Exit{Code: -1, Signal: "segmentation fault", Reason: "signal: segmentation fault"}},
		"confined": {Exit{Code: 125}, control.Exit{Code: 125, Reason: "exit status 125: could not be confined or executed, see its log"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := func(_ string, n int) script {
				if n == 0 {
					return script{ready: 10 * ms, end: 2 * time.Second, exit: x.exit}
				}
				return good
			}
			supervise(t, Options{Services: services("mmr")}, f, func(b *bench) {
				b.pass(3 * time.Second)
				st := b.want(control.StateReady)
				x.want.At = b.began.Add(2 * time.Second)
				if st.LastExit == nil || *st.LastExit != x.want {
					t.Errorf("last exit %+v, want %+v", st.LastExit, x.want)
				}
				if st.Restarts != 1 || st.CrashLoop || !st.NextStart.IsZero() || st.PID != 1001 {
					t.Errorf("%+v: want one restart and the second process", st)
				}
				b.wantStory(st, "starting: starting", "ready: ready after 10ms", "waiting: "+x.want.Reason,
					"starting: starting", "ready: ready after 0s")
				// What Status hands out is a copy.
				st.Events[0].Text, st.LastExit.Reason = "x", "x"
				if again := b.one(); again.Events[0].Text == "x" || again.LastExit.Reason == "x" {
					t.Error("a status shares memory with the supervisor")
				}
			})
		})
	}
}

func TestStartFails(t *testing.T) {
	f := func(_ string, n int) script {
		if n < 3 {
			return script{startErr: errors.New("no such file")}
		}
		return good
	}
	supervise(t, Options{Services: services("mmr")}, f, func(b *bench) {
		if want := []time.Duration{0, 0}; !slices.Equal(b.fakes.starts("mmr", b.began), want) {
			t.Errorf("starts at %v, want %v", b.fakes.starts("mmr", b.began), want)
		}
		b.pass(time.Minute)
		st := b.want(control.StateReady)
		if st.LastExit.Reason != "start: no such file" || st.LastExit.Code != -1 || st.Restarts != 3 {
			t.Errorf("%+v, last exit %+v", st, st.LastExit)
		}
	})
}

// The crash loop shows from the fifth end on and until the first calm run.
func TestCrashLoop(t *testing.T) {
	f := func(_ string, n int) script {
		if n < 5 {
			return script{ready: 0, end: 2 * time.Second, exit: Exit{Code: 2}}
		}
		return good
	}
	list := services("mmr")
	list[0].Essential = true
	supervise(t, Options{Services: list, Watchdog: true}, f, func(b *bench) {
		for n := range 5 {
			if st := b.one(); st.CrashLoop || st.Restarts != n {
				t.Errorf("after %d ends: crash loop %v, %d restarts", n, st.CrashLoop, st.Restarts)
			}
			b.pass(2 * time.Second)
		}
		if st := b.want(control.StateReady); !st.CrashLoop || st.Restarts != 5 {
			t.Errorf("after the fifth: %+v, want a crash loop although it is ready", st)
		}
		if s := b.Starving(); len(s) != 0 {
			t.Errorf("a crash loop starves the watchdog: %q", s)
		}
		b.pass(config.DefaultCalm - 2*time.Second)
		if st := b.one(); !st.CrashLoop {
			t.Error("the crash loop is over before a calm run")
		}
		b.pass(3 * time.Second)
		if st := b.want(control.StateReady); st.CrashLoop {
			t.Error("still a crash loop after a calm run")
		}
	})
}

func TestReadyDeadline(t *testing.T) {
	list := services("slow", "hasty")
	list[1].Ready = config.Duration(2 * time.Second)
	f := func(string, int) script { return script{ready: never, end: never} }
	supervise(t, Options{Services: list}, f, func(b *bench) {
		b.pass(2*time.Second - 1)
		b.want(control.StateStarting, "hasty")
		b.pass(1)
		st := b.one("hasty")
		if st.LastExit == nil || st.LastExit.Reason != "killed by PID 1: not ready after 2s" || st.LastExit.Signal != "killed" {
			t.Errorf("last exit %+v", st.LastExit)
		}
		if st.Restarts != 1 {
			t.Errorf("%d restarts, want 1: the first pause is none", st.Restarts)
		}
		b.pass(config.DefaultReady - 2*time.Second - 1)
		b.want(control.StateStarting, "slow")
		if st := b.one("slow"); st.Restarts != 0 {
			t.Errorf("the deadline of %v is shorter: %+v", config.DefaultReady, st)
		}
		b.pass(1)
		if st := b.one("slow"); st.Restarts != 1 {
			t.Errorf("not killed after %v: %+v", config.DefaultReady, st)
		}
		select {
		case <-b.AllReady():
			t.Error("all are ready although none was")
		default:
		}
	})
	// Ready in the last moment is ready.
	supervise(t, Options{Services: list[1:]}, always(script{ready: 2*time.Second - 1, end: never}), func(b *bench) {
		b.pass(time.Minute)
		if st := b.want(control.StateReady); st.Restarts != 0 || st.ReadyIn != 2*time.Second-1 {
			t.Errorf("%+v", st)
		}
	})
}

func TestAllReady(t *testing.T) {
	f := func(name string, n int) script {
		if name == "late" && n == 0 {
			return script{ready: never, end: 5 * time.Second}
		}
		return script{ready: 10 * ms, end: never}
	}
	supervise(t, Options{Services: services("late", "soon")}, f, func(b *bench) {
		b.pass(5 * time.Second)
		select {
		case <-b.AllReady():
			t.Error("ready before the late one")
		default:
		}
		<-b.AllReady()
		if got := time.Since(b.began); got != 5*time.Second+10*ms {
			t.Errorf("all were ready after %v", got)
		}
		// Being ready a second time is nothing new (a second close would panic).
		if err := b.Restart(b.Context(), "soon"); err != nil {
			t.Error(err)
		}
	})
	supervise(t, Options{}, always(good), func(b *bench) { <-b.AllReady() })
}

// Services start together, not one after the other.
func TestStartTogether(t *testing.T) {
	supervise(t, Options{Services: services("a", "b", "c")}, always(script{ready: time.Second, end: never}), func(b *bench) {
		for _, n := range []string{"a", "b", "c"} {
			if at := b.fakes.starts(n, b.began); len(at) != 1 || at[0] != 0 {
				t.Errorf("%s was started at %v", n, at)
			}
		}
		var names []string
		for _, s := range b.Supervisor.Status() {
			names = append(names, s.Name+"/"+s.Title)
		}
		if got := strings.Join(names, " "); got != "a/the a b/the b c/the c" {
			t.Errorf("status in the order %q", got)
		}
	})
}
