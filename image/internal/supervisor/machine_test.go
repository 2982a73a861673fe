package supervisor

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/image/liveness"
	"pgregory.net/rapid"
)

// The same cases each time; -rapid.seed=0 draws others.
func TestMain(m *testing.M) {
	if err := flag.Set("rapid.seed", "1"); err != nil {
		panic(err)
	}
	m.Run()
}

// action is something that an operator does, or time that passes.
type action struct {
	Kind    int // 0 start, 1 stop, 2 restart, 3 nothing
	Service int
	Then    time.Duration // passes after it
}

// life is a process's fate, drawn.
type life struct {
	Ready, End, Term, Silent time.Duration
	Fails, Sick              bool
}

func (l life) script() script {
	s := script{ready: l.Ready, end: l.End, term: l.Term, exit: Exit{Code: 1}}
	if l.Fails {
		s.startErr = errors.New("no")
	}
	s.answer = func(at time.Duration, seq uint64) (liveness.Message, bool) {
		m := liveness.Message{Seq: seq}
		if l.Sick {
			m.Error = "sick"
		}
		return m, at < l.Silent
	}
	return s
}

// Whatever processes and operators do: one process of a service at a time, every
// command is answered, what the status says is what the processes are, the
// watchdog starves for essential services alone, and in the end a shutdown
// leaves none.
func TestAnything(t *testing.T) {
	span := rapid.OneOf(rapid.Just(time.Duration(0)), rapid.Just(never),
		rapid.Map(rapid.IntRange(1, 40_000), func(n int) time.Duration { return time.Duration(n) * ms }))
	lives := rapid.Custom(func(rt *rapid.T) life {
		return life{
			Ready: span.Draw(rt, "ready"), End: span.Draw(rt, "end"), Term: span.Draw(rt, "term"), Silent: span.Draw(rt, "silent"),
			Fails: rapid.IntRange(0, 9).Draw(rt, "fails") == 0, Sick: rapid.IntRange(0, 4).Draw(rt, "sick") == 0,
		}
	})
	actions := rapid.Custom(func(rt *rapid.T) action {
		return action{
			Kind: rapid.IntRange(0, 3).Draw(rt, "kind"), Service: rapid.IntRange(0, 2).Draw(rt, "service"),
			Then: time.Duration(rapid.IntRange(0, 20_000).Draw(rt, "then")) * ms,
		}
	})
	rapid.Check(t, func(rt *rapid.T) {
		fates := rapid.SliceOfN(lives, 1, 8).Draw(rt, "fates")
		plan := rapid.SliceOfN(actions, 0, 20).Draw(rt, "plan")
		watchdog := rapid.Bool().Draw(rt, "watchdog")
		// A failure inside the bubble would not be rapid's, so it comes out.
		var problem error
		synctest.Test(t, func(t *testing.T) { problem = act(t, fates, plan, watchdog) })
		if problem != nil {
			rt.Fatal(problem)
		}
	})
}

func act(t *testing.T, fates []life, plan []action, watchdog bool) error {
	var names = []string{"essential", "b", "c"}
	list := services(names...)
	list[0].Essential = true
	fs := &fakes{}
	total := 0
	fs.script = func(string, int) script {
		total++
		return fates[total%len(fates)].script()
	}
	sup := New(Options{Services: list, Starter: fs, Log: slog.New(slog.DiscardHandler), Watchdog: watchdog,
		Jitter: func() float64 { return 0.9 }})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		sup.Run(ctx)
	}()
	defer func() {
		cancel()
		<-done
	}()
	var answers []chan error
	for i, a := range plan {
		f := []func(context.Context, string) error{sup.Start, sup.Stop, sup.Restart, nil}[a.Kind]
		if f != nil {
			c := make(chan error, 1)
			answers = append(answers, c)
			go func() { c <- f(context.Background(), names[a.Service]) }()
		}
		time.Sleep(a.Then)
		synctest.Wait()
		if err := check(sup, fs, watchdog); err != nil {
			return fmt.Errorf("after action %d: %w", i, err)
		}
	}
	if err := sup.Shutdown(context.Background()); err != nil {
		return fmt.Errorf("shutdown: %w", err)
	}
	synctest.Wait()
	for i, c := range answers {
		if len(c) == 0 {
			return fmt.Errorf("command %d was not answered although all is over", i)
		}
	}
	time.Sleep(time.Hour)
	synctest.Wait()
	for _, s := range sup.Status() {
		if s.State != control.StateStopped || fs.alive[s.Name] != 0 {
			return fmt.Errorf("after the shutdown %s is %s with %d processes", s.Name, s.State, fs.alive[s.Name])
		}
	}
	return check(sup, fs, watchdog)
}

func check(sup *Supervisor, fs *fakes, watchdog bool) error {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.most > 1 {
		return errors.New("two processes of a service at once")
	}
	for _, s := range sup.Status() {
		runs := slices.Contains([]control.State{control.StateStarting, control.StateReady, control.StateUnhealthy, control.StateStopping}, s.State)
		switch {
		case runs != (fs.alive[s.Name] == 1):
			return fmt.Errorf("%s is %s with %d processes", s.Name, s.State, fs.alive[s.Name])
		case runs != (s.PID != 0):
			return fmt.Errorf("%s is %s with PID %d", s.Name, s.State, s.PID)
		case (s.State == control.StateWaiting) == s.NextStart.IsZero():
			return fmt.Errorf("%s is %s, its next start %v", s.Name, s.State, s.NextStart)
		case len(s.Events) > historyLen:
			return fmt.Errorf("%s has %d events", s.Name, len(s.Events))
		case len(s.Events) > 0 && s.Events[len(s.Events)-1].State != s.State:
			return fmt.Errorf("%s is %s, its last event %+v", s.Name, s.State, s.Events[len(s.Events)-1])
		}
	}
	if names := sup.Starving(); len(names) > 0 && (!watchdog || !slices.Equal(names, []string{"essential"})) {
		return fmt.Errorf("starving %q, watchdog %v", names, watchdog)
	}
	return nil
}
