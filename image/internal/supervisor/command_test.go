package supervisor

import (
	"context"
	"errors"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-meet/parley/image/config"
	"github.com/parley-meet/parley/image/control"
)

// timed runs a command and returns its error and how long it took.
func timed(f func(context.Context, string) error, name string) (time.Duration, error) {
	at := time.Now()
	err := f(context.Background(), name)
	return time.Since(at), err
}

// later runs a command beside the test.
func later(f func(context.Context, string) error, name string) <-chan error {
	c := make(chan error, 1)
	go func() { c <- f(context.Background(), name) }()
	synctest.Wait()
	return c
}

func answered(c <-chan error) bool {
	synctest.Wait()
	return len(c) > 0
}

func TestStopAndStart(t *testing.T) {
	s := script{ready: 300 * ms, end: never, term: 700 * ms}
	supervise(t, Options{Services: services("mmr", "other")}, always(s), func(b *bench) {
		b.pass(time.Second)
		took, err := timed(b.Start, "mmr")
		if took != 0 || err != nil {
			t.Errorf("start of a ready one: %v after %v", err, took)
		}
		took, err = timed(b.Stop, "mmr")
		if took != 700*ms || err != nil {
			t.Errorf("stop: %v after %v", err, took)
		}
		if got := b.fakes.last("mmr").got(); !slices.Equal(got, []syscall.Signal{syscall.SIGTERM, syscall.SIGCONT}) {
			t.Errorf("signals %v", got)
		}
		st := b.want(control.StateStopped, "mmr")
		if st.PID != 0 || st.LastExit == nil || st.LastExit.Signal != "terminated" || st.Restarts != 0 || st.Detail != "" {
			t.Errorf("%+v", st)
		}
		b.pass(time.Hour)
		b.want(control.StateStopped, "mmr")
		b.want(control.StateReady, "other")
		if took, err = timed(b.Stop, "mmr"); took != 0 || err != nil {
			t.Errorf("stop of a stopped one: %v after %v", err, took)
		}
		if took, err = timed(b.Start, "mmr"); took != 300*ms || err != nil {
			t.Errorf("start: %v after %v", err, took)
		}
		if took, err = timed(b.Stop, "mmr"); err != nil {
			t.Error(err)
		}
		// Restart starts a stopped one too.
		if took, err = timed(b.Restart, "mmr"); took != 300*ms || err != nil {
			t.Errorf("restart of a stopped one: %v after %v", err, took)
		}
		if took, err = timed(b.Restart, "mmr"); took != time.Second || err != nil {
			t.Errorf("restart: %v after %v, want stop and start", err, took)
		}
		if st := b.want(control.StateReady, "mmr"); st.Restarts != 0 {
			t.Errorf("restarts that were asked for are counted: %d", st.Restarts)
		}
	})
}

func TestUnknownService(t *testing.T) {
	supervise(t, Options{Services: services("mmr")}, always(good), func(b *bench) {
		for _, f := range []func(context.Context, string) error{b.Start, b.Stop, b.Restart} {
			_, err := timed(f, "mmr2")
			code(t, err, control.CodeUnknown)
			_, err = timed(f, "")
			code(t, err, control.CodeUnknown)
		}
	})
}

func TestStopDeadline(t *testing.T) {
	list := services("mmr", "own")
	list[1].Stop = config.Duration(2 * time.Second)
	supervise(t, Options{Services: list}, always(script{end: never, term: never}), func(b *bench) {
		b.pass(time.Second)
		took, err := timed(b.Stop, "mmr")
		if took != config.DefaultStop || err != nil {
			t.Errorf("stop: %v after %v, want %v", err, took, config.DefaultStop)
		}
		if took, _ := timed(b.Stop, "own"); took != 2*time.Second {
			t.Errorf("stop: after %v, want 2s", took)
		}
		st := b.want(control.StateStopped, "mmr")
		if want := []syscall.Signal{syscall.SIGTERM, syscall.SIGCONT, syscall.SIGKILL}; !slices.Equal(b.fakes.last("mmr").got(), want) {
			t.Errorf("signals %v, want %v", b.fakes.last("mmr").got(), want)
		}
		b.wantStory(st, "starting: starting", "ready: ready after 0s", "stopping: stop asked for",
			"stopped: killed by PID 1: still there 5s after SIGTERM")
	})
}

// A process that is asked to stop has its whole stop deadline, even when the
// deadline for being ready passes in between.
func TestStopWhileStarting(t *testing.T) {
	for name, stop := range map[string]func(b *bench) func(context.Context, string) error{
		"stop":    func(b *bench) func(context.Context, string) error { return b.Stop },
		"restart": func(b *bench) func(context.Context, string) error { return b.Restart },
	} {
		t.Run(name, func(t *testing.T) {
			f := first(script{ready: never, end: never, term: 4 * time.Second})
			supervise(t, Options{Services: services("mmr")}, f, func(b *bench) {
				b.pass(config.DefaultReady - time.Second)
				took, err := timed(stop(b), "mmr")
				if took != 4*time.Second || err != nil {
					t.Errorf("%v after %v, want after 4s: it was killed before its deadline", err, took)
				}
			})
		})
	}
}

func TestCommandsWhileStopping(t *testing.T) {
	supervise(t, Options{Services: services("mmr")}, always(script{end: never, term: 2 * time.Second}), func(b *bench) {
		b.pass(time.Second)
		stop := later(b.Stop, "mmr")
		b.want(control.StateStopping)
		for _, f := range []func(context.Context, string) error{b.Start, b.Restart} {
			took, err := timed(f, "mmr")
			code(t, err, control.CodeState)
			if took != 0 {
				t.Errorf("the refusal took %v", took)
			}
		}
		if answered(stop) {
			t.Error("the stop was answered before the process was gone")
		}
		again := later(b.Stop, "mmr")
		b.pass(2 * time.Second)
		if !answered(stop) || !answered(again) || <-stop != nil || <-again != nil {
			t.Error("not both stops were answered")
		}
		if got := b.fakes.last("mmr").got(); !slices.Equal(got, []syscall.Signal{syscall.SIGTERM, syscall.SIGCONT}) {
			t.Errorf("signals %v, want one SIGTERM", got)
		}
	})
}

func TestCommandsWhileRestarting(t *testing.T) {
	supervise(t, Options{Services: services("mmr")}, always(script{ready: time.Second, end: never, term: 2 * time.Second}), func(b *bench) {
		b.pass(5 * time.Second)
		one := later(b.Restart, "mmr")
		two := later(b.Restart, "mmr")
		start := later(b.Start, "mmr")
		b.pass(2 * time.Second)
		b.want(control.StateStarting)
		if answered(one) || answered(two) || answered(start) {
			t.Error("answered before it is ready")
		}
		b.pass(time.Second)
		for _, c := range []<-chan error{one, two, start} {
			if !answered(c) || <-c != nil {
				t.Error("not answered when it is ready")
			}
		}
		if n := len(b.fakes.starts("mmr", b.began)); n != 2 {
			t.Errorf("%d starts, want that the two restarts are one", n)
		}
		// A stop wins over a restart.
		one = later(b.Restart, "mmr")
		stop := later(b.Stop, "mmr")
		if !answered(one) {
			t.Fatal("the restart waits although it will not happen")
		}
		code(t, <-one, control.CodeFailed)
		b.pass(2 * time.Second)
		if !answered(stop) || <-stop != nil {
			t.Error("the stop was not answered")
		}
		b.want(control.StateStopped)
	})
}

func TestStartThatFails(t *testing.T) {
	f := func(_ string, n int) script {
		switch n {
		case 0:
			return good
		case 1:
			return script{ready: never, end: 3 * time.Second, exit: Exit{Code: 7}}
		}
		return script{startErr: errors.New("no memory")}
	}
	supervise(t, Options{Services: services("mmr")}, f, func(b *bench) {
		took, err := timed(b.Restart, "mmr")
		code(t, err, control.CodeFailed)
		if took != 3*time.Second || err == nil || err.Error() != "mmr ended before it was ready: exit status 7" {
			t.Errorf("%v after %v", err, took)
		}
		_, err = timed(b.Restart, "mmr")
		if code(t, err, control.CodeFailed); err == nil || err.Error() != "mmr ended before it was ready: start: no memory" {
			t.Error(err)
		}
	})
}

// A command while the service waits for its next start.
func TestCommandsWhileWaiting(t *testing.T) {
	f := func(_ string, n int) script {
		if n < 8 {
			return script{ready: never, end: 0, exit: Exit{Code: 1}}
		}
		return good
	}
	supervise(t, Options{Services: services("mmr")}, f, func(b *bench) {
		b.pass(3200 * ms) // six starts: at 0, 0, 0.1, 0.3, 0.7, 1.5, 3.1 s; the next is at 6.3 s
		st := b.want(control.StateWaiting)
		if st.NextStart != b.began.Add(6300*ms) {
			t.Errorf("the next start is at %v", st.NextStart.Sub(b.began))
		}
		took, err := timed(b.Stop, "mmr")
		if took != 0 || err != nil {
			t.Errorf("stop: %v after %v", err, took)
		}
		b.pass(time.Hour)
		if st := b.want(control.StateStopped); !st.NextStart.IsZero() {
			t.Errorf("a stopped service has a next start: %+v", st)
		}
		// The eighth fails, the ninth is good.
		if took, err = timed(b.Start, "mmr"); took != 0 || err == nil {
			t.Errorf("start: %v after %v", err, took)
		}
		b.want(control.StateWaiting)
		if took, err = timed(b.Start, "mmr"); took != 0 || err != nil {
			t.Errorf("start: %v after %v, want that it does not wait for the pause", err, took)
		}
		if st := b.want(control.StateReady); !st.NextStart.IsZero() {
			t.Errorf("%+v", st)
		}
	})
}

// A caller that gives up does not hold anything up; its wish is carried out.
func TestCallerGivesUp(t *testing.T) {
	supervise(t, Options{Services: services("mmr")}, always(script{end: never, term: 3 * time.Second}), func(b *bench) {
		b.pass(time.Second)
		ctx, cancel := context.WithTimeout(b.Context(), time.Second)
		defer cancel()
		if err := b.Stop(ctx, "mmr"); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		b.pass(2 * time.Second)
		b.want(control.StateStopped)
	})
}

func TestShutdown(t *testing.T) {
	f := func(name string, _ int) script {
		switch name {
		case "stubborn":
			return script{end: never, term: never}
		case "looping":
			return script{ready: never, end: 0}
		}
		return script{end: never, term: time.Second}
	}
	supervise(t, Options{Services: services("first", "stubborn", "looping", "stopped", "last")}, f, func(b *bench) {
		b.pass(3 * time.Second)
		if err := b.Stop(b.Context(), "stopped"); err != nil {
			t.Fatal(err)
		}
		at := time.Now()
		c := make(chan error, 1)
		go func() { c <- b.Shutdown(b.Context()) }()
		synctest.Wait()
		b.want(control.StateStopping, "last")
		b.want(control.StateReady, "stubborn")
		for _, f := range []func(context.Context, string) error{b.Start, b.Restart, b.Stop} {
			_, err := timed(f, "first")
			code(t, err, control.CodeState)
		}
		if err := <-c; err != nil {
			t.Error(err)
		}
		if took := time.Since(at); took != time.Second+config.DefaultStop+time.Second {
			t.Errorf("it took %v", took)
		}
		b.fakes.mu.Lock()
		order := slices.DeleteFunc(slices.Clone(b.fakes.ended), func(n string) bool { return n == "looping" })
		b.fakes.mu.Unlock()
		if want := []string{"stopped", "last", "stubborn", "first"}; !slices.Equal(order, want) {
			t.Errorf("ended in the order %q, want %q", order, want)
		}
		b.pass(time.Hour)
		for _, s := range b.Supervisor.Status() {
			if s.State != control.StateStopped || s.PID != 0 {
				t.Errorf("%s is %s after the shutdown", s.Name, s.State)
			}
		}
	})
}

// A process that cannot be killed is left behind; the others end in order.
func TestShutdownPastUnkillable(t *testing.T) {
	f := func(name string, _ int) script {
		return script{end: never, term: map[bool]time.Duration{true: never}[name == "b"], immortal: name == "b"}
	}
	supervise(t, Options{Services: services("a", "b", "c")}, f, func(b *bench) {
		ctx, cancel := context.WithTimeout(b.Context(), 20*time.Second)
		defer cancel()
		at := time.Now()
		if err := b.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, want that b is missed", err)
		}
		if took := time.Since(at); took != config.DefaultStop+goneAfter {
			t.Errorf("it took %v", took)
		}
		b.want(control.StateStopped, "a")
		b.want(control.StateStopping, "b")
		b.want(control.StateStopped, "c")
	})
}

// A start that was on its way when the shutdown began starts nothing.
func TestNothingStartsAfterShutdown(t *testing.T) {
	for name, s := range map[string]script{
		"running": {end: never},
		"waiting": {ready: never, end: 0},
	} {
		t.Run(name, func(t *testing.T) {
			supervise(t, Options{Services: services("mmr")}, always(s), func(b *bench) {
				b.pass(3200 * ms)
				if err := b.Shutdown(b.Context()); err != nil {
					t.Fatal(err)
				}
				n := len(b.fakes.starts("mmr", b.began))
				for _, k := range []kind{cmdStart, cmdRestart} {
					c := command{kind: k, done: make(chan error, 1)}
					b.units[0].commands <- c
					synctest.Wait()
					if len(c.done) == 0 {
						t.Fatal("no answer")
					}
					code(t, <-c.done, control.CodeState)
				}
				if b.pass(time.Hour); len(b.fakes.starts("mmr", b.began)) != n {
					t.Error("started after the shutdown")
				}
				if err := b.Shutdown(b.Context()); err != nil {
					t.Errorf("a second shutdown: %v", err)
				}
			})
		})
	}
}

// Run leaves the processes alone when its context ends, and Guard wraps each
// service's goroutine.
func TestRunEnds(t *testing.T) {
	guarded := 0
	opt := Options{Services: services("a", "b"), Guard: func(f func()) func() {
		guarded++
		return f
	}}
	var fs *fakes
	supervise(t, opt, always(good), func(b *bench) { fs = b.fakes })
	if guarded != 2 {
		t.Errorf("%d goroutines are guarded, want 2", guarded)
	}
	for _, p := range fs.runs {
		if len(p.got()) != 0 {
			t.Errorf("%s got %v", p.name, p.got())
		}
	}
}
