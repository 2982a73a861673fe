package supervisor

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-meet/parley/image/config"
	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/image/liveness"
)

// never is a time that no test waits for.
const never = time.Duration(1<<63 - 1)

// script is how a fake process behaves.
type script struct {
	startErr error
	ready    time.Duration // from start; never: it does not say so
	end      time.Duration // from start; never: it runs on
	exit     Exit          // at end
	term     time.Duration // from SIGTERM to its end; never: it ignores it
	immortal bool          // SIGKILL does nothing: it hangs in the kernel
	pingErr  error         // the line is broken in one direction
	lineEnds bool          // the line is closed as soon as it is ready
	// answer is asked at each ping; nil: it answers that all is well.
	answer func(at time.Duration, seq uint64) (m liveness.Message, says bool)
}

// good is a service as it should be.
var good = script{end: never}

// fakes is a Starter of fake processes. All times are those of the test's
// bubble.
type fakes struct {
	mu     sync.Mutex
	script func(name string, n int) script // n counts the starts of the service
	count  map[string]int
	runs   []*fakeProcess
	alive  map[string]int
	most   int // processes of one service at once
	ended  []string
}

type fakeProcess struct {
	of       *fakes
	name     string
	pid      int
	script   script
	started  time.Time
	messages chan liveness.Message
	exited   chan Exit
	signals  chan syscall.Signal
	pings    chan uint64
	closed   chan struct{}

	mu       sync.Mutex
	received []syscall.Signal
}

func (f *fakes) Start(s *config.Service) (Process, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.count == nil {
		f.count, f.alive = make(map[string]int), make(map[string]int)
	}
	n := f.count[s.Name]
	f.count[s.Name]++
	p := &fakeProcess{
		of: f, name: s.Name, pid: 1000 + len(f.runs), script: f.script(s.Name, n), started: time.Now(),
		messages: make(chan liveness.Message, 4), exited: make(chan Exit, 1),
		signals: make(chan syscall.Signal, 16), pings: make(chan uint64, 16), closed: make(chan struct{}),
	}
	f.runs = append(f.runs, p)
	if p.script.startErr != nil {
		return nil, p.script.startErr
	}
	f.alive[s.Name]++
	f.most = max(f.most, f.alive[s.Name])
	go p.live()
	return p, nil
}

// starts returns when the service was started, from the test's start.
func (f *fakes) starts(name string, since time.Time) (at []time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.runs {
		if p.name == name {
			at = append(at, p.started.Sub(since))
		}
	}
	return at
}

// last returns the newest process of the service.
func (f *fakes) last(name string) *fakeProcess {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range slices.Backward(f.runs) {
		if p.name == name {
			return p
		}
	}
	return nil
}

func (p *fakeProcess) live() {
	after := func(d time.Duration) <-chan time.Time {
		if d == never {
			return nil
		}
		return time.After(d)
	}
	ready, end, exit := after(p.script.ready), after(p.script.end), p.script.exit
	open := true
	for {
		select {
		case <-ready:
			p.messages <- liveness.Message{Ready: true, Detail: "up"}
			if p.script.lineEnds {
				open = false
				close(p.messages)
			}
		case s := <-p.signals:
			switch {
			case s == syscall.SIGKILL && !p.script.immortal:
				end, exit = after(0), Exit{Code: -1, Signal: syscall.SIGKILL}
			case s == syscall.SIGTERM && p.script.term != never:
				end, exit = after(p.script.term), Exit{Code: -1, Signal: syscall.SIGTERM}
			}
		case seq := <-p.pings:
			m, says := liveness.Message{Seq: seq, Detail: "fine"}, true
			if p.script.answer != nil {
				m, says = p.script.answer(time.Since(p.started), seq)
			}
			if says && open {
				p.messages <- m
			}
		case <-end:
			p.of.mu.Lock()
			p.of.alive[p.name]--
			p.of.ended = append(p.of.ended, p.name)
			p.of.mu.Unlock()
			p.exited <- exit
			<-p.closed
			return
		case <-p.closed: // the test is over
			return
		}
	}
}

func (p *fakeProcess) PID() int                          { return p.pid }
func (p *fakeProcess) Messages() <-chan liveness.Message { return p.messages }
func (p *fakeProcess) Exited() <-chan Exit               { return p.exited }
func (p *fakeProcess) Close()                            { close(p.closed) }

func (p *fakeProcess) Ping(seq uint64) error {
	if p.script.pingErr != nil {
		return p.script.pingErr
	}
	p.pings <- seq
	return nil
}

func (p *fakeProcess) Signal(s syscall.Signal) error {
	p.mu.Lock()
	p.received = append(p.received, s)
	p.mu.Unlock()
	p.signals <- s
	return nil
}

func (p *fakeProcess) got() []syscall.Signal {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.received)
}

// bench is a supervisor under test.
type bench struct {
	*testing.T
	*Supervisor
	fakes *fakes
	began time.Time
}

func services(names ...string) (list []config.Service) {
	for _, n := range names {
		list = append(list, config.Service{Name: n, Title: "the " + n})
	}
	return list
}

// always gives every process the same script.
func always(s script) func(string, int) script { return func(string, int) script { return s } }

// supervise runs the test in a bubble, where time passes only while everybody
// waits. The jitter is in the middle unless opt says otherwise.
func supervise(t *testing.T, opt Options, f func(string, int) script, test func(b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		fs := &fakes{script: f}
		opt.Starter = fs
		opt.Log = slog.New(slog.DiscardHandler)
		if opt.Jitter == nil {
			opt.Jitter = func() float64 { return 0.5 }
		}
		ctx, cancel := context.WithCancel(t.Context())
		b := &bench{T: t, Supervisor: New(opt), fakes: fs, began: time.Now()}
		done := make(chan struct{})
		go func() {
			defer close(done)
			b.Supervisor.Run(ctx)
		}()
		synctest.Wait()
		test(b)
		cancel()
		<-done
	})
}

// pass lets time pass and everything settle.
func (b *bench) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// one returns the only service, or the named one.
func (b *bench) one(name ...string) control.Service {
	b.Helper()
	for _, s := range b.Supervisor.Status() {
		if len(name) == 0 || s.Name == name[0] {
			return s
		}
	}
	b.Fatalf("no service %q", name)
	return control.Service{}
}

func (b *bench) want(state control.State, name ...string) control.Service {
	b.Helper()
	s := b.one(name...)
	if s.State != state {
		b.Errorf("after %v: %s is %s (%+v), want %s", time.Since(b.began), s.Name, s.State, s.LastExit, state)
	}
	return s
}

// story returns the states and texts of the events.
func story(s control.Service) (out []string) {
	for _, e := range s.Events {
		out = append(out, string(e.State)+": "+e.Text)
	}
	return out
}

func (b *bench) wantStory(s control.Service, want ...string) {
	b.Helper()
	if got := story(s); !slices.Equal(got, want) {
		b.Errorf("story\n got %q\nwant %q", got, want)
	}
}

// code checks the kind of a refusal.
func code(t testing.TB, err error, want control.Code) {
	t.Helper()
	var e *control.Error
	if !errors.As(err, &e) || e.Code != want || e.Message == "" {
		t.Errorf("%v (%T): want a refusal with the code %s", err, err, want)
	}
}
