package supervisor

import (
	"errors"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/image/liveness"
)

// silentFrom answers until the process is that old.
func silentFrom(d time.Duration) script {
	return script{end: never, answer: func(at time.Duration, seq uint64) (liveness.Message, bool) {
		return liveness.Message{Seq: seq, Detail: "fine"}, at < d
	}}
}

// first gives the first process a script and good ones to those after it.
func first(s script) func(string, int) script {
	return func(_ string, n int) script {
		if n == 0 {
			return s
		}
		return good
	}
}

func TestPings(t *testing.T) {
	var seqs []uint64
	s := script{ready: 500 * ms, end: never, answer: func(at time.Duration, seq uint64) (liveness.Message, bool) {
		seqs = append(seqs, seq)
		return liveness.Message{Seq: seq, Detail: "meetings: 3"}, true
	}}
	supervise(t, Options{Services: services("mmr")}, always(s), func(b *bench) {
		b.pass(10 * time.Second)
		if want := []uint64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}; !slices.Equal(seqs, want) {
			t.Errorf("pings %v, want %v", seqs, want)
		}
		if st := b.want(control.StateReady); st.Detail != "meetings: 3" || st.PID != 1000 || st.ReadyIn != 500*ms {
			t.Errorf("%+v", st)
		}
		if st := b.one(); len(st.Events) != 2 {
			t.Errorf("an answer that changes nothing is an event: %q", story(st))
		}
	})
}

// The first unanswered ping is sent at 3 s.
func TestHungIsKilled(t *testing.T) {
	supervise(t, Options{Services: services("mmr"), Watchdog: true}, first(silentFrom(3*time.Second)), func(b *bench) {
		b.pass(3*time.Second + UnhealthyAfter - 1)
		b.want(control.StateReady)
		b.pass(1)
		if st := b.want(control.StateUnhealthy); st.Detail != "does not answer" {
			t.Errorf("%+v", st)
		}
		b.pass(HungAfter - UnhealthyAfter - 1)
		b.want(control.StateUnhealthy)
		b.pass(1)
		st := b.want(control.StateReady)
		b.wantStory(st, "starting: starting", "ready: ready after 0s", "unhealthy: no answer for 5s",
			"waiting: killed by PID 1: no answer for 10s", "starting: starting", "ready: ready after 0s")
		if len(b.Starving()) != 0 {
			t.Error("a service that is not essential starves the watchdog")
		}
		b.pass(time.Minute)
		if st := b.want(control.StateReady); st.Restarts != 1 || st.Detail != "fine" {
			t.Errorf("%+v", st)
		}
	})
}

func TestHungEssentialStarves(t *testing.T) {
	list := services("mmr", "other")
	list[0].Essential = true
	f := func(name string, n int) script {
		if name == "mmr" && n == 0 {
			return silentFrom(3 * time.Second)
		}
		return good
	}
	supervise(t, Options{Services: list, Watchdog: true}, f, func(b *bench) {
		b.pass(3*time.Second + StarveAfter - 1)
		if s := b.Starving(); len(s) != 0 {
			t.Errorf("starving too early: %q", s)
		}
		b.pass(1)
		if s := b.Starving(); !slices.Equal(s, []string{"mmr"}) {
			t.Errorf("starving %q, want mmr", s)
		}
		b.pass(time.Hour)
		if st := b.want(control.StateUnhealthy, "mmr"); st.Restarts != 0 {
			t.Error("a hung essential service was killed although there is a watchdog")
		}
		if got := b.fakes.last("mmr").got(); len(got) != 0 {
			t.Errorf("it got %v", got)
		}
		// An operator may still restart it, which ends the starving.
		if err := b.Restart(b.Context(), "mmr"); err != nil {
			t.Error(err)
		}
		if s := b.Starving(); len(s) != 0 {
			t.Errorf("still starving: %q", s)
		}
		b.pass(time.Minute)
		b.want(control.StateReady, "mmr")
	})
}

func TestHungEssentialWithoutWatchdog(t *testing.T) {
	list := services("mmr")
	list[0].Essential = true
	supervise(t, Options{Services: list}, first(silentFrom(3*time.Second)), func(b *bench) {
		b.pass(3*time.Second + StarveAfter - 1)
		b.want(control.StateUnhealthy)
		if s := b.Starving(); len(s) != 0 {
			t.Errorf("starving without a watchdog: %q", s)
		}
		b.pass(1)
		st := b.want(control.StateReady)
		if st.LastExit == nil || st.LastExit.Reason != "killed by PID 1: no answer for 15s, and there is no hardware watchdog" {
			t.Errorf("last exit %+v", st.LastExit)
		}
	})
}

// A late answer ends the silence: the watchdog is fed and the service is ready.
func TestLateAnswer(t *testing.T) {
	list := services("mmr")
	list[0].Essential = true
	late := make(chan uint64, 1)
	s := script{end: never, answer: func(at time.Duration, seq uint64) (liveness.Message, bool) {
		if at < 3*time.Second || at > 10*time.Second {
			return liveness.Message{Seq: seq}, true
		}
		late <- seq
		return liveness.Message{}, false
	}}
	supervise(t, Options{Services: list, Watchdog: true}, always(s), func(b *bench) {
		b.pass(30 * time.Second)
		b.want(control.StateUnhealthy)
		if len(b.Starving()) != 1 {
			t.Error("not starving")
		}
		p, seq := b.fakes.last("mmr"), <-late
		// Answers to other pings are none.
		p.messages <- liveness.Message{Seq: seq - 1}
		p.messages <- liveness.Message{Seq: seq + 1}
		p.messages <- liveness.Message{Seq: 0}
		p.messages <- liveness.Message{Ready: true}
		b.pass(ms)
		b.want(control.StateUnhealthy)
		if len(b.Starving()) != 1 {
			t.Error("an answer to another ping feeds the watchdog")
		}
		p.messages <- liveness.Message{Seq: seq, Detail: "slow disk"}
		b.pass(ms)
		st := b.want(control.StateReady)
		if len(b.Starving()) != 0 || st.Detail != "slow disk" {
			t.Errorf("starving %q, %+v", b.Starving(), st)
		}
		b.wantStory(st, "starting: starting", "ready: ready after 0s", "unhealthy: no answer for 5s", "ready: works again")
		b.pass(time.Hour)
		if st := b.want(control.StateReady); st.Restarts != 0 {
			t.Errorf("%+v", st)
		}
	})
}

// A service that says an error answers: nobody kills it, the watchdog is fed.
func TestUnhealthyByItself(t *testing.T) {
	var trouble atomic.Value // of string
	trouble.Store("no licence")
	s := script{end: never, answer: func(at time.Duration, seq uint64) (liveness.Message, bool) {
		return liveness.Message{Seq: seq, Detail: "fine", Error: trouble.Load().(string)}, true
	}}
	list := services("mmr")
	list[0].Essential = true
	supervise(t, Options{Services: list, Watchdog: true}, always(s), func(b *bench) {
		b.pass(time.Hour)
		if st := b.want(control.StateUnhealthy); st.Detail != "no licence" || st.Restarts != 0 || len(st.Events) != 3 {
			t.Errorf("%+v", st)
		}
		trouble.Store("disk full")
		b.pass(time.Second)
		if st := b.want(control.StateUnhealthy); st.Detail != "disk full" {
			t.Errorf("detail %q, want the newest error", st.Detail)
		}
		if s := b.Starving(); len(s) != 0 {
			t.Errorf("starving: %q", s)
		}
		trouble.Store("")
		b.pass(time.Second)
		st := b.want(control.StateReady)
		b.wantStory(st, "starting: starting", "ready: ready after 0s", "unhealthy: no licence", "ready: works again")
		if st.Detail != "fine" {
			t.Errorf("detail %q", st.Detail)
		}
	})
}

// A ping is answered once: a service that answers it again and again, each time
// otherwise, does not fill the history and PID 1's log.
func TestAnswersAgain(t *testing.T) {
	var seq atomic.Uint64
	s := script{end: never, answer: func(at time.Duration, n uint64) (liveness.Message, bool) {
		seq.Store(n)
		return liveness.Message{Seq: n, Detail: "fine"}, true
	}}
	supervise(t, Options{Services: services("mmr")}, always(s), func(b *bench) {
		b.pass(3*PingEvery + PingEvery/2)
		for range 1000 {
			for _, trouble := range []string{"yes", ""} {
				b.fakes.last("mmr").messages <- liveness.Message{Seq: seq.Load(), Error: trouble}
			}
		}
		synctest.Wait()
		st := b.want(control.StateReady)
		b.wantStory(st, "starting: starting", "ready: ready after 0s")
		if st.Detail != "fine" {
			t.Errorf("detail %q, want that of the first answer", st.Detail)
		}
	})
}

// A service that says an error and then nothing is shown as one that does not
// answer, not by the error that it said last.
func TestUnhealthyThenSilent(t *testing.T) {
	s := script{end: never, answer: func(at time.Duration, seq uint64) (liveness.Message, bool) {
		return liveness.Message{Seq: seq, Error: "no licence"}, at < 3*time.Second
	}}
	list := services("mmr")
	list[0].Essential = true
	supervise(t, Options{Services: list, Watchdog: true}, always(s), func(b *bench) {
		b.pass(time.Minute)
		st := b.want(control.StateUnhealthy)
		if st.Detail != "does not answer" {
			t.Errorf("detail %q, want that it does not answer", st.Detail)
		}
		b.wantStory(st, "starting: starting", "ready: ready after 0s", "unhealthy: no licence", "unhealthy: no answer for 5s")
	})
}

// A line that is broken, in either direction, is silence.
func TestBrokenLine(t *testing.T) {
	for name, s := range map[string]script{
		"ping fails": {end: never, pingErr: errors.New("broken pipe")},
		"it hung up": {end: never, lineEnds: true},
	} {
		t.Run(name, func(t *testing.T) {
			supervise(t, Options{Services: services("mmr")}, first(s), func(b *bench) {
				b.pass(time.Second + HungAfter - 1)
				b.want(control.StateUnhealthy)
				b.pass(1)
				if st := b.want(control.StateReady); st.Restarts != 1 {
					t.Errorf("%+v", st)
				}
			})
		})
	}
}

// A process that SIGKILL does not reach (it hangs in the kernel) gets it once,
// and its successor is not started beside it.
func TestUnkillable(t *testing.T) {
	s := silentFrom(0)
	s.immortal = true
	supervise(t, Options{Services: services("mmr")}, always(s), func(b *bench) {
		b.pass(time.Hour)
		if got := b.fakes.last("mmr").got(); !slices.Equal(got, []syscall.Signal{syscall.SIGKILL}) {
			t.Errorf("signals %v, want one SIGKILL", got)
		}
		if at := b.fakes.starts("mmr", b.began); len(at) != 1 {
			t.Errorf("started %d times", len(at))
		}
	})
}
