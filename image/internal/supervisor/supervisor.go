// Package supervisor keeps the services of an appliance running: it starts
// them, restarts those that end, asks them whether they still work, and stops
// them in order. Processes are behind the Starter interface.
//
// The state machine of a service is drawn at control.State. Its rules:
//
//   - A service that does not say it is ready within its deadline is killed and
//     counts as ended.
//   - It is asked every PingEvery. Unanswered for UnhealthyAfter it is shown as
//     unhealthy. A hung service that is not essential is killed after
//     HungAfter and started again. A hung essential service is left alone, and
//     after StarveAfter Starving names it: PID 1 then stops feeding the hardware
//     watchdog, which resets the machine, because what hangs an essential
//     service may be below it (a driver, the disk). Without a hardware watchdog
//     it is killed and started again instead; that is all that can be done.
//   - A service that says an error in its answer answers: it is unhealthy and
//     neither killed nor does it starve the watchdog.
//   - A service that ends again and again does not starve the watchdog either:
//     a reset would not cure it, and the consoles must stay usable.
//
// When to start again is in type backoff.
package supervisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/parley-meet/parley/image/config"
	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/image/liveness"
)

// Times of the liveness line.
const (
	PingEvery      = time.Second
	UnhealthyAfter = 5 * time.Second
	HungAfter      = 10 * time.Second
	StarveAfter    = 15 * time.Second
)

// Exit is how a process ended.
type Exit struct {
	Code   int            // exit status, -1 by signal
	Signal syscall.Signal // 0 by exit
}

// Process is a running service.
type Process interface {
	PID() int
	// Messages carries what the service says. It is closed at the end of the line.
	Messages() <-chan liveness.Message
	// Ping asks. It does not wait.
	Ping(seq uint64) error
	// Signal sends a signal; nothing when the process has ended.
	Signal(sig syscall.Signal) error
	// Exited receives one value when the process has ended.
	Exited() <-chan Exit
	// Close lets go of what the process had. It is called once, after its end.
	Close()
}

// Starter starts processes.
type Starter interface {
	Start(s *config.Service) (Process, error)
}

// Options are a Supervisor's.
type Options struct {
	Services []config.Service // in the order they are started
	Starter  Starter
	Log      *slog.Logger
	// Watchdog says that hardware resets the machine when it is not fed.
	Watchdog bool
	// Jitter returns a number in [0, 1). Several goroutines call it.
	Jitter func() float64
	// Held says why a service is not to be started until Release; "": it is.
	// nil: none is held. A held one is stopped, an operator cannot start it, and
	// AllReady does not wait for it.
	Held func(s *config.Service) string
	// Guard wraps the top of each goroutine; nil: not.
	Guard func(func()) func()
}

// Supervisor supervises. Run must be called once.
type Supervisor struct {
	opt   Options
	units []*unit

	mu       sync.Mutex
	stopping bool
	allReady chan struct{} // closed when every service was ready once
	waiting  int           // services that were not
}

// New returns a Supervisor that supervises nothing yet.
func New(opt Options) *Supervisor {
	s := &Supervisor{opt: opt, allReady: make(chan struct{}), waiting: len(opt.Services)}
	for i := range opt.Services {
		u := newUnit(s, &opt.Services[i])
		if opt.Held != nil {
			u.hold(opt.Held(u.cfg))
		}
		if u.held != "" {
			s.waiting--
		}
		s.units = append(s.units, u)
	}
	if s.waiting == 0 {
		close(s.allReady)
	}
	return s
}

// Run starts every service, all at once, and supervises them until ctx ends.
// Services that run then go on running: Shutdown stops them first.
func (s *Supervisor) Run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, u := range s.units {
		run := func() { u.run(ctx) }
		if s.opt.Guard != nil {
			run = s.opt.Guard(run)
		}
		wg.Go(run)
	}
	wg.Wait()
}

// AllReady is closed when every service has been ready once since the boot.
func (s *Supervisor) AllReady() <-chan struct{} { return s.allReady }

func (s *Supervisor) firstReady() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting--; s.waiting == 0 {
		close(s.allReady)
	}
}

// Status returns the services as they stand, in order.
func (s *Supervisor) Status() []control.Service {
	out := make([]control.Service, 0, len(s.units))
	for _, u := range s.units {
		out = append(out, u.status())
	}
	return out
}

// Starving names the essential services that do not answer, because of which
// the hardware watchdog must not be fed.
func (s *Supervisor) Starving() []string {
	var names []string
	for _, u := range s.units {
		if u.starves() {
			names = append(names, u.cfg.Name)
		}
	}
	return names
}

// Start starts a stopped or waiting service and returns when it is ready.
func (s *Supervisor) Start(ctx context.Context, name string) error {
	return s.command(ctx, name, cmdStart)
}

// Stop stops a service and returns when it is gone.
func (s *Supervisor) Stop(ctx context.Context, name string) error {
	return s.command(ctx, name, cmdStop)
}

// Restart stops a service if it runs, starts it and returns when it is ready.
func (s *Supervisor) Restart(ctx context.Context, name string) error {
	return s.command(ctx, name, cmdRestart)
}

// Held names the services that are held.
func (s *Supervisor) Held() (names []string) {
	for _, u := range s.units {
		if u.holding() != "" {
			names = append(names, u.cfg.Name)
		}
	}
	return names
}

// Release starts the held services, and returns when each is ready or has ended.
func (s *Supervisor) Release(ctx context.Context) error {
	var wg sync.WaitGroup
	errs := make([]error, len(s.units))
	for i, u := range s.units {
		if u.release() {
			wg.Go(func() { errs[i] = s.command(ctx, u.cfg.Name, cmdStart) })
		}
	}
	wg.Wait()
	return errors.Join(errs...)
}

// command hands an operator's wish to the service's goroutine. Errors are
// *control.Error, or ctx's: the wish is then still carried out.
func (s *Supervisor) command(ctx context.Context, name string, k kind) error {
	i := slices.IndexFunc(s.units, func(u *unit) bool { return u.cfg.Name == name })
	if i < 0 {
		return &control.Error{Code: control.CodeUnknown, Message: fmt.Sprintf("no service %q runs on this appliance", name)}
	}
	s.mu.Lock()
	stopping := s.stopping
	s.mu.Unlock()
	if stopping && k != cmdShutdown {
		return errShutdown
	}
	c := command{kind: k, done: make(chan error, 1)}
	select {
	case s.units[i].commands <- c:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-c.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// errShutdown refuses what would start a service again.
var errShutdown = &control.Error{Code: control.CodeState, Message: "the appliance is shutting down"}

// goneAfter is how long Shutdown waits for a process that was killed: one that
// hangs in the kernel must not keep the others from their orderly end.
const goneAfter = time.Second

// Shutdown stops every service for good, in reverse order, each under its stop
// deadline, and returns when all are gone or cannot be killed. Start and Restart
// are refused from now on.
func (s *Supervisor) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.stopping = true
	s.mu.Unlock()
	var first error
	for _, u := range slices.Backward(s.units) {
		c, cancel := context.WithTimeout(ctx, u.cfg.Stop.Or(config.DefaultStop)+goneAfter)
		if err := s.command(c, u.cfg.Name, cmdShutdown); err != nil && first == nil {
			first = fmt.Errorf("%s: %w", u.cfg.Name, err)
		}
		cancel()
	}
	return first
}
