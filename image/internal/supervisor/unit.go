package supervisor

import (
	"context"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/parley-meet/parley/image/config"
	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/image/internal/confine"
	"github.com/parley-meet/parley/image/liveness"
)

// historyLen is how many events of a service are kept.
const historyLen = 32

// kind of an operator's command.
type kind int

const (
	cmdStart kind = iota
	cmdStop
	cmdRestart
	cmdShutdown // like stop, and nothing starts it again
)

type command struct {
	kind kind
	done chan error // buffered: the answer is never waited for
}

// unit is one service. Its goroutine is run; what others read is under mu.
type unit struct {
	sup      *Supervisor
	cfg      *config.Service
	commands chan command

	// Of the goroutine alone.
	back    backoff
	waiters []chan error // of start and restart: answered when ready or ended
	readyOn bool         // it was ready once
	final   bool         // stopped by a shutdown: nothing starts it again

	mu      sync.Mutex
	held    string // why it is not to be started; "": it may be
	st      control.Service
	readyAt time.Time // zero while not ready
	asked   bool      // a ping was sent and not answered
	silent  int       // ticks since then
}

func newUnit(s *Supervisor, cfg *config.Service) *unit {
	u := &unit{sup: s, cfg: cfg, commands: make(chan command), back: newBackoff(cfg.Restart)}
	u.st = control.Service{
		Name: cfg.Name, Title: cfg.Title, Essential: cfg.Essential,
		State: control.StateWaiting, Since: time.Now(),
	}
	return u
}

// hold keeps a unit that does not run yet from being started; "" does nothing.
func (u *unit) hold(why string) {
	if why == "" {
		return
	}
	u.held = why
	u.st.State, u.st.Detail = control.StateStopped, "held: "+why
	u.readyOn = true // AllReady does not wait for it
}

// holding returns why the unit is held.
func (u *unit) holding() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.held
}

// release ends the hold and reports whether there was one.
func (u *unit) release() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	was := u.held
	u.held = ""
	if was != "" {
		u.st.Detail = ""
	}
	return was != ""
}

// run is the service's life: alternately a process and a pause.
func (u *unit) run(ctx context.Context) {
	if u.holding() != "" && !u.down(ctx) {
		return
	}
	for ctx.Err() == nil {
		p, err := u.start()
		if err != nil {
			u.ended(control.Exit{At: time.Now(), Code: -1, Reason: err.Error()}, 0)
		} else if next := u.supervise(ctx, p); next == stayDown {
			if !u.down(ctx) {
				return
			}
			continue
		} else if next == again {
			continue
		}
		if ctx.Err() == nil && !u.pause(ctx) {
			return
		}
	}
}

// what follows a process.
type next int

const (
	waitThen next = iota // pause, then start again
	again                // start again now
	stayDown             // stopped by an operator
)

func (u *unit) start() (Process, error) {
	u.transition(control.StateStarting, "starting", func(st *control.Service) {
		st.Detail, st.NextStart, st.ReadyIn = "", time.Time{}, 0
	})
	p, err := u.sup.opt.Starter.Start(u.cfg)
	if err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	u.mu.Lock()
	u.st.PID = p.PID()
	u.mu.Unlock()
	return p, nil
}

// supervise watches a process until its end.
func (u *unit) supervise(ctx context.Context, p Process) next {
	defer p.Close()
	started := time.Now()
	var (
		seq      uint64 // of the last ping
		ping     = time.NewTicker(PingEvery)
		deadline = time.NewTimer(u.cfg.Ready.Or(config.DefaultReady))
		kill     = time.NewTimer(time.Hour) // from SIGTERM to SIGKILL
		messages = p.Messages()
		after    = waitThen
		stoppers []chan error
		reason   string // why it was killed, when PID 1 did it
		killed   bool
	)
	defer ping.Stop()
	defer deadline.Stop()
	kill.Stop()
	defer kill.Stop()
	sigkill := func(why string) {
		if killed {
			return
		}
		killed = true
		reason = why
		u.sup.opt.Log.Warn("killing service", "service", u.cfg.Name, "reason", why)
		if err := p.Signal(syscall.SIGKILL); err != nil {
			u.sup.opt.Log.Error("kill", "service", u.cfg.Name, "error", err)
		}
	}
	done := ctx.Done()
	for {
		select {
		case m, ok := <-messages:
			if !ok {
				messages = nil
				continue
			}
			u.message(m, seq, started)
			if !u.since().IsZero() {
				deadline.Stop()
			}
		case <-deadline.C:
			sigkill(fmt.Sprintf("not ready after %v", u.cfg.Ready.Or(config.DefaultReady)))
		case <-kill.C:
			sigkill(fmt.Sprintf("still there %v after SIGTERM", u.cfg.Stop.Or(config.DefaultStop)))
		case <-ping.C:
			if after == waitThen && !killed && !u.since().IsZero() {
				seq = u.ping(p, seq, sigkill)
			}
		case c := <-u.commands:
			switch c.kind {
			case cmdStart:
				if after == stayDown {
					c.done <- &control.Error{Code: control.CodeState, Message: u.cfg.Name + " is being stopped"}
					continue
				}
				if after == waitThen && !u.since().IsZero() {
					c.done <- nil
					continue
				}
				u.waiters = append(u.waiters, c.done)
			case cmdRestart:
				if after == stayDown {
					c.done <- &control.Error{Code: control.CodeState, Message: u.cfg.Name + " is being stopped"}
					continue
				}
				u.waiters = append(u.waiters, c.done)
				if after == waitThen {
					after = again
					deadline.Stop() // from now on the stop deadline counts
					u.terminate(p, kill, "restart asked for")
				}
			case cmdStop, cmdShutdown:
				u.final = u.final || c.kind == cmdShutdown
				stoppers = append(stoppers, c.done)
				u.refuseWaiters("was stopped")
				if after == waitThen {
					deadline.Stop()
					u.terminate(p, kill, "stop asked for")
				}
				after = stayDown
			}
		case e := <-p.Exited():
			// What it said last may still be queued: an answer of a process
			// that is gone changes nothing.
			x := exit(e, time.Now(), reason)
			if after == waitThen {
				ready := time.Duration(0)
				if at := u.since(); !at.IsZero() {
					ready = time.Since(at)
				}
				u.ended(x, ready)
				return after
			}
			u.transition(control.StateStopped, x.Reason, func(st *control.Service) {
				st.PID, st.Detail, st.LastExit = 0, "", &x
			})
			for _, c := range stoppers {
				c <- nil
			}
			return after
		case <-done:
			return stayDown
		}
	}
}

// terminate asks the process to end.
func (u *unit) terminate(p Process, kill *time.Timer, why string) {
	u.transition(control.StateStopping, why, nil)
	if err := p.Signal(syscall.SIGTERM); err != nil {
		u.sup.opt.Log.Error("terminate", "service", u.cfg.Name, "error", err)
	}
	// A process that was stopped by SIGSTOP sees SIGTERM only when it goes on.
	_ = p.Signal(syscall.SIGCONT)
	kill.Reset(u.cfg.Stop.Or(config.DefaultStop))
}

// ping asks the process, or judges it by the ping that it has not answered.
// At most one ping is unanswered, so a hung process does not fill its socket.
//
// Silence is counted in ticks and not in time, so that a pause of the whole
// virtual machine, or of PID 1, is not held against the services.
func (u *unit) ping(p Process, seq uint64, sigkill func(string)) uint64 {
	u.mu.Lock()
	asked := u.asked
	if asked {
		u.silent++
	} else {
		u.asked, u.silent = true, 0
	}
	silent := time.Duration(u.silent) * PingEvery
	calm := u.st.CrashLoop && !u.back.crashLoop(time.Since(u.readyAt))
	if calm {
		u.st.CrashLoop = false
	}
	u.mu.Unlock()
	if calm {
		u.sup.opt.Log.Info("crash loop is over", "service", u.cfg.Name)
	}
	if !asked {
		if err := p.Ping(seq + 1); err != nil {
			// The line is broken: that is the same as no answer.
			u.sup.opt.Log.Warn("ping", "service", u.cfg.Name, "error", err)
		}
		return seq + 1
	}
	// Said once for each silence, also of a service that was unhealthy before.
	if silent == UnhealthyAfter {
		u.transition(control.StateUnhealthy, fmt.Sprintf("no answer for %v", UnhealthyAfter), func(st *control.Service) {
			st.Detail = "does not answer"
		})
	}
	switch {
	case !u.cfg.Essential && silent >= HungAfter:
		sigkill(fmt.Sprintf("no answer for %v", HungAfter))
	case u.cfg.Essential && silent >= StarveAfter && !u.sup.opt.Watchdog:
		sigkill(fmt.Sprintf("no answer for %v, and there is no hardware watchdog", StarveAfter))
	case u.cfg.Essential && silent == StarveAfter:
		u.sup.opt.Log.Error("essential service hangs: the hardware watchdog is no longer fed", "service", u.cfg.Name)
	}
	return seq
}

// message takes what the process said.
func (u *unit) message(m liveness.Message, seq uint64, started time.Time) {
	now := time.Now()
	if u.since().IsZero() {
		if !m.Ready || u.state() != control.StateStarting {
			return
		}
		took := now.Sub(started)
		u.mu.Lock()
		u.readyAt, u.asked, u.silent = now, false, 0
		u.mu.Unlock()
		u.transition(control.StateReady, fmt.Sprintf("ready after %v", took.Round(time.Millisecond)), func(st *control.Service) {
			st.ReadyIn, st.Detail = took, m.Detail
		})
		if !u.readyOn {
			u.readyOn = true
			u.sup.firstReady()
		}
		for _, c := range u.waiters {
			c <- nil
		}
		u.waiters = nil
		return
	}
	if m.Seq != seq || seq == 0 {
		return // an answer to nothing that was asked
	}
	u.mu.Lock()
	first := u.asked
	u.asked, u.silent = false, 0
	u.mu.Unlock()
	// Another answer to the same ping changes nothing: each change is a line in
	// PID 1's log, which has no rate.
	if !first {
		return
	}
	switch st := u.state(); {
	case st == control.StateStopping:
	case m.Error != "" && st == control.StateReady:
		u.transition(control.StateUnhealthy, m.Error, func(st *control.Service) { st.Detail = m.Error })
	case m.Error != "":
		u.mu.Lock()
		u.st.Detail = m.Error
		u.mu.Unlock()
	case st == control.StateUnhealthy:
		u.transition(control.StateReady, "works again", func(st *control.Service) { st.Detail = m.Detail })
	default:
		u.mu.Lock()
		u.st.Detail = m.Detail
		u.mu.Unlock()
	}
}

// ended records the end of a process (or of the attempt to start one) that
// nobody asked for, and when the next start is.
func (u *unit) ended(x control.Exit, ready time.Duration) {
	pause := u.back.ended(ready, u.sup.opt.Jitter())
	u.transition(control.StateWaiting, x.Reason, func(st *control.Service) {
		st.PID, st.Detail, st.LastExit = 0, "", &x
		st.Restarts++
		st.CrashLoop = u.back.crashLoop(0)
		st.NextStart = time.Now().Add(pause)
	})
	u.refuseWaiters("ended before it was ready: " + x.Reason)
}

func (u *unit) refuseWaiters(why string) {
	for _, c := range u.waiters {
		c <- &control.Error{Code: control.CodeFailed, Message: u.cfg.Name + " " + why}
	}
	u.waiters = nil
}

// pause waits until the next start. It reports whether there is one.
func (u *unit) pause(ctx context.Context) bool {
	u.mu.Lock()
	until := u.st.NextStart
	u.mu.Unlock()
	t := time.NewTimer(time.Until(until))
	defer t.Stop()
	for {
		select {
		case <-t.C:
			return true
		case <-ctx.Done():
			return false
		case c := <-u.commands:
			switch c.kind {
			case cmdStart, cmdRestart:
				u.waiters = append(u.waiters, c.done)
				return true
			default:
				u.final = u.final || c.kind == cmdShutdown
				u.transition(control.StateStopped, "stop asked for", func(st *control.Service) { st.NextStart = time.Time{} })
				c.done <- nil
				return u.down(ctx)
			}
		}
	}
}

// down waits for an operator's start. It reports whether it came.
func (u *unit) down(ctx context.Context) bool {
	for {
		select {
		case <-ctx.Done():
			return false
		case c := <-u.commands:
			switch {
			case c.kind == cmdStop || c.kind == cmdShutdown:
				u.final = u.final || c.kind == cmdShutdown
				c.done <- nil
			case u.final: // the wish was on its way when the shutdown began
				c.done <- errShutdown
			case u.holding() != "":
				c.done <- &control.Error{Code: control.CodeState, Message: u.cfg.Name + " is held: " + u.holding()}
			default:
				u.waiters = append(u.waiters, c.done)
				return true
			}
		}
	}
}

// transition changes the state, writes history and log.
func (u *unit) transition(to control.State, text string, change func(*control.Service)) {
	now := time.Now()
	u.mu.Lock()
	from := u.st.State
	u.st.State, u.st.Since = to, now
	if to != control.StateReady && to != control.StateUnhealthy {
		u.readyAt, u.asked, u.silent = time.Time{}, false, 0
	}
	if change != nil {
		change(&u.st)
	}
	u.st.Events = append(u.st.Events, control.Event{At: now, State: to, Text: text})
	if n := len(u.st.Events) - historyLen; n > 0 {
		u.st.Events = append(u.st.Events[:0:0], u.st.Events[n:]...)
	}
	pid, pause := u.st.PID, time.Until(u.st.NextStart)
	u.mu.Unlock()
	args := []any{"name", u.cfg.Name, "from", from, "to", to, "text", text}
	if pid != 0 {
		args = append(args, "pid", pid)
	}
	if to == control.StateWaiting {
		args = append(args, "pause", max(0, pause).Round(time.Millisecond))
	}
	u.sup.opt.Log.Info("service", args...)
}

// since returns when the process became ready; zero: it is not.
func (u *unit) since() time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.readyAt
}

func (u *unit) state() control.State {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.st.State
}

func (u *unit) status() control.Service {
	u.mu.Lock()
	defer u.mu.Unlock()
	st := u.st
	st.Events = append([]control.Event(nil), st.Events...)
	if st.LastExit != nil {
		x := *st.LastExit
		st.LastExit = &x
	}
	return st
}

// starves reports whether the watchdog must not be fed because of the service.
func (u *unit) starves() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.cfg.Essential && u.sup.opt.Watchdog && time.Duration(u.silent)*PingEvery >= StarveAfter
}

// exit puts the end into words. why is PID 1's reason for killing it, or "".
func exit(e Exit, at time.Time, why string) control.Exit {
	x := control.Exit{At: at, Code: e.Code}
	if e.Signal != 0 {
		x.Code, x.Signal = -1, e.Signal.String()
		x.Reason = "signal: " + x.Signal
	} else {
		x.Reason = fmt.Sprintf("exit status %d", e.Code)
	}
	if e.Code == confine.FailedCode {
		x.Reason += ": could not be confined or executed, see its log"
	}
	if why != "" {
		x.Reason = "killed by PID 1: " + why
	}
	return x
}
