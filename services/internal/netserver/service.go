// Package netserver carries out what package netclient's callers ask of the
// network: it keeps the configuration, has the interface, the firewall and the
// clock follow it, and takes a change back that nobody confirms.
//
// Files, in Config.Dir: netconfig.ConfigFile is what was saved, and changes only
// when a change is confirmed or set without hold. NoteFile is written before a
// change is applied and removed when it is decided: with it, a process that
// starts after a crash or a power cut knows that what it finds saved is what
// was there before.
//
// A folder that cannot be written to refuses every change before anything is
// applied, with hold or without: a change that could not be kept would be gone
// after the next restart, when nobody thinks of it any more. Where /perm is
// missing PID 1 puts a RAM disk in its place, so that there changes work.
//
// A netconfig.ConfigFile that cannot be read: the default configuration is in
// force, which every status says, and the next change replaces the file.
package netserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/netclient"
	"github.com/parley-meet/parley/services/internal/netconfig"
)

// Daemon keeps the interface.
type Daemon interface {
	// Set makes cfg what is wanted; it comes into force soon.
	Set(cfg netconfig.Config)
	// Applied waits until what was set last is in force, or returns why it cannot
	// be, or ctx's error.
	Applied(ctx context.Context) error
	State() netconfig.State
	Detail() string
}

// Firewall keeps the rules of the host's firewall.
type Firewall interface {
	// Apply brings the rules into force, all or none.
	Apply(cfg netconfig.Config) error
	Status() netclient.Firewall
}

// Clock keeps the time.
type Clock interface {
	Set(cfg netconfig.NTP)
	// Sync asks the servers now, and waits for the result.
	Sync(ctx context.Context) error
	Status() netclient.Clock
}

// Times.
const (
	// applyLimit is how long a change may take until it is in force: an address
	// is first probed for. One that waits longer, for a DHCP server that does
	// not answer, is no failure yet.
	applyLimit = 8 * time.Second
	syncLimit  = 20 * time.Second
	// retryPause is between attempts to bring a firewall into force that the
	// kernel refused.
	retryPause = 15 * time.Second
	// stuckLimit is far more than a change takes: two times applyLimit.
	stuckLimit = time.Minute
)

// Config is what a Service works with.
type Config struct {
	Dir      string // of the files
	Daemon   Daemon
	Firewall Firewall
	Clock    Clock
	Hostname func(name string)     // makes it the machine's; "": the image's. It does not wait.
	Proxy    func(netconfig.Proxy) // tells the services of the site's proxy
	ID       func() string         // of a change, unguessable
	Hold     time.Duration         // netclient.Hold; tests do not wait that long
	Log      *slog.Logger
}

// Service does it. Make it with New.
type Service struct {
	cfg   Config
	store store
	// changing holds one token: who has it changes the network.
	changing chan struct{}
	wake     chan struct{} // Run looks at the deadline again

	mu      sync.Mutex
	m       machine
	begun   time.Time // since when somebody changes the network; zero: nobody does
	damaged string    // why the saved configuration is not in force; "": it is
}

// New reads the files. Nothing is applied yet.
func New(cfg Config) *Service {
	s := &Service{
		cfg: cfg, store: store{cfg.Dir},
		changing: make(chan struct{}, 1), wake: make(chan struct{}, 1),
	}
	saved, err := s.store.load()
	if err != nil {
		s.damaged = fmt.Sprintf("%s cannot be read, the default is in force: %v", netconfig.ConfigFile, err)
		cfg.Log.Error("saved configuration is damaged: the default is in force", "file", s.store.path(netconfig.ConfigFile), "kept", DamagedFile, "err", err)
	}
	s.m.saved, s.m.hold = saved, cfg.Hold
	n, err := s.store.readNote()
	if n == nil {
		return s
	}
	// The process may have ended between saving the change and removing its note.
	if err != nil || !same(n.Config, saved) {
		s.m.propose(n.ID, n.Config, n.By, time.Now())
		s.m.revert(netclient.RevertedRestart, time.Now())
		cfg.Log.Warn("a change was not confirmed before a restart: the saved configuration is in force", "by", n.By, "err", err)
	}
	s.dropNote()
	return s
}

// Start has everything follow the saved configuration: the firewall first, so
// that nothing gets in before it stands.
func (s *Service) Start() {
	cfg := s.m.wanted()
	if err := s.cfg.Firewall.Apply(cfg); err != nil {
		s.cfg.Log.Error("firewall", "err", err)
	}
	s.follow(cfg)
}

// follow sets everything but the firewall.
func (s *Service) follow(cfg netconfig.Config) {
	s.cfg.Hostname(cfg.Hostname)
	s.cfg.Proxy(cfg.Proxy)
	s.cfg.Daemon.Set(cfg)
	s.cfg.Clock.Set(cfg.NTP)
}

// sameAddresses reports whether two configurations want the same of the
// interface.
func sameAddresses(a, b netconfig.Config) bool {
	return a.Eth0 == b.Eth0 && a.IPv6 == b.IPv6 && a.Slave == b.Slave && slices.Equal(a.Routes, b.Routes)
}

// apply brings cfg into force.
func (s *Service) apply(ctx context.Context, cfg netconfig.Config) error {
	if err := s.cfg.Firewall.Apply(cfg); err != nil {
		return fmt.Errorf("firewall: %w", err)
	}
	s.follow(cfg)
	wait, cancel := context.WithTimeout(ctx, applyLimit)
	defer cancel()
	err := s.cfg.Daemon.Applied(wait)
	if err == nil || ctx.Err() == nil && wait.Err() != nil {
		return nil // or it goes on; Status shows what is in force
	}
	return &daemonError{err}
}

// daemonError is what the interface does not take.
type daemonError struct{ error }

func (e *daemonError) Unwrap() error { return e.error }

// begin waits until nobody else changes the network.
func (s *Service) begin(ctx context.Context) (end func(), err error) {
	select {
	case s.changing <- struct{}{}:
		s.mu.Lock()
		s.begun = time.Now()
		s.mu.Unlock()
		return func() {
			s.mu.Lock()
			s.begun = time.Time{}
			s.mu.Unlock()
			<-s.changing
		}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Run takes changes back that nobody confirms, until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	retry := time.NewTicker(retryPause)
	defer retry.Stop()
	deadline := time.NewTimer(0)
	defer deadline.Stop()
	for {
		deadline.Stop()
		s.mu.Lock()
		if left, pending := s.m.left(time.Now()); pending {
			deadline.Reset(left)
		}
		s.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
		case <-deadline.C:
			s.expire(ctx)
		case <-retry.C:
			s.retry(ctx)
		}
	}
}

// expire undoes the pending change if its time is over.
func (s *Service) expire(ctx context.Context) {
	end, err := s.begin(ctx)
	if err != nil {
		return
	}
	defer end()
	s.mu.Lock()
	left, pending := s.m.left(time.Now())
	s.mu.Unlock()
	if pending && left <= 0 {
		s.undo(ctx, netclient.RevertedTimeout)
	}
}

// retry tries a firewall again that was refused.
func (s *Service) retry(ctx context.Context) {
	if s.cfg.Firewall.Status().Active {
		return
	}
	end, err := s.begin(ctx)
	if err != nil {
		return
	}
	defer end()
	s.mu.Lock()
	cfg := s.m.wanted()
	s.mu.Unlock()
	if err := s.cfg.Firewall.Apply(cfg); err != nil {
		s.cfg.Log.Error("firewall", "err", err)
	}
}

// set carries out OpSet.
func (s *Service) set(ctx context.Context, req netclient.Request) error {
	cfg, err := req.Config.Check()
	if err != nil {
		return err
	}
	end, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	s.mu.Lock()
	cfg = cfg.Keep(s.m.saved)
	back := s.damaged == "" && same(cfg, s.m.saved)
	moves := !sameAddresses(cfg, s.m.wanted())
	pending := s.m.pending != nil
	again := pending && same(cfg, s.m.pending.Config)
	s.mu.Unlock()
	if back { // nothing to confirm, and nothing to save
		if pending {
			return s.undo(ctx, netclient.RevertedOperator)
		}
		return applied(s.apply(ctx, cfg), cfg)
	}
	if again { // it keeps its deadline: setting it again and again is no confirmation
		if err := s.apply(ctx, cfg); err != nil && ctx.Err() == nil {
			s.cfg.Log.Warn("a change that pends is set again, and is not in force", "err", err)
		}
		if req.Hold || ctx.Err() != nil {
			return ctx.Err()
		}
		return s.keep(ctx, true)
	}
	id := s.cfg.ID()
	if err := s.store.writeNote(note{ID: id, By: req.By, Config: cfg}); err != nil {
		return &refusal{netclient.CodeReadOnly, fmt.Errorf("nothing was changed, because it cannot be saved: %w", err)}
	}
	s.mu.Lock()
	s.m.propose(id, cfg, req.By, time.Now())
	s.mu.Unlock()
	s.cfg.Log.Info("configuration is changed", "by", req.By, "hold", req.Hold, "id", id)
	if err = s.apply(ctx, cfg); err != nil && !moves && errors.As(err, new(*daemonError)) {
		// The addresses were not in force before either: other values can be
		// changed meanwhile.
		s.cfg.Log.Warn("addresses are not in force", "err", err)
		err = nil
	}
	if ctx.Err() != nil {
		return ctx.Err() // the process ends: the next one finds the note
	}
	if err != nil {
		s.undo(ctx, netclient.RevertedFailed)
		return applied(err, cfg)
	}
	if req.Hold {
		s.mu.Lock()
		s.m.inForce(time.Now())
		s.mu.Unlock()
		s.look()
		return nil
	}
	return s.keep(ctx, true)
}

// applied tells the caller why cfg is not in force: beside the field where that
// is known.
func applied(err error, cfg netconfig.Config) error {
	if err == nil {
		return nil
	}
	var taken netconfig.DuplicateError
	var faults fault.List
	if errors.As(err, &taken) {
		for _, d := range taken {
			for field, a := range map[string]netip.Addr{"eth0.address": cfg.Eth0.Address.Addr(), "slave": cfg.Slave.Addr(), "ipv6.address": cfg.IPv6.Address.Addr()} {
				switch {
				case a != d.Address:
				case d.HardwareAddress == "":
					faults.Add(field, "address-taken", a.String())
				default:
					faults.Add(field, "address-taken-by", a.String(), d.HardwareAddress)
				}
			}
		}
		err = errors.Join(err, faults.Err())
	}
	return &refusal{netclient.CodeFailed, fmt.Errorf("it could not be applied, and the saved configuration is back: %w", err)}
}

// keep saves what is pending. When that fails it stays pending, or is undone.
func (s *Service) keep(ctx context.Context, orUndo bool) error {
	s.mu.Lock()
	cfg := s.m.pending.Config
	s.mu.Unlock()
	if err := s.store.save(cfg); err != nil {
		if orUndo {
			s.undo(ctx, netclient.RevertedFailed)
		}
		return &refusal{netclient.CodeReadOnly, fmt.Errorf("it cannot be saved: %w", err)}
	}
	s.mu.Lock()
	s.cfg.Log.Info("configuration is saved", "by", s.m.pending.By, "id", s.m.pending.ID)
	s.m.confirm()
	s.damaged = ""
	s.mu.Unlock()
	s.dropNote()
	s.look()
	return nil
}

// confirm carries out OpConfirm.
func (s *Service) confirm(ctx context.Context, id string) error {
	return s.decide(ctx, id, func() error { return s.keep(ctx, false) })
}

// revert carries out OpRevert.
func (s *Service) revert(ctx context.Context, id string) error {
	return s.decide(ctx, id, func() error { return s.undo(ctx, netclient.RevertedOperator) })
}

// decide ends the pending change id with f.
func (s *Service) decide(ctx context.Context, id string, f func() error) error {
	end, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	s.mu.Lock()
	err = s.m.named(id)
	s.mu.Unlock()
	if err != nil {
		return &refusal{netclient.CodeState, err}
	}
	return f()
}

// undo brings what is saved back into force. Its error is for who asked: what
// does not come into force now is tried again by whoever keeps it.
func (s *Service) undo(ctx context.Context, why string) error {
	s.mu.Lock()
	by, id := s.m.pending.By, s.m.pending.ID
	s.m.revert(why, time.Now())
	cfg := s.m.saved
	s.mu.Unlock()
	s.cfg.Log.Warn("a change is undone", "why", why, "by", by, "id", id)
	err := s.cfg.Firewall.Apply(cfg)
	if err != nil {
		s.cfg.Log.Error("firewall", "err", err)
	}
	s.follow(cfg)
	wait, cancel := context.WithTimeout(ctx, applyLimit)
	defer cancel()
	if aerr := s.cfg.Daemon.Applied(wait); aerr != nil && wait.Err() == nil {
		s.cfg.Log.Error("saved configuration is not in force", "err", aerr)
		err = errors.Join(err, aerr)
	}
	s.dropNote()
	s.look()
	if err != nil {
		return &refusal{netclient.CodeFailed, fmt.Errorf("the change is undone, but the saved configuration is not in force: %w", err)}
	}
	return nil
}

// dropNote removes the note. When that fails the next start may speak of a
// change that was undone; what is in force then is right all the same.
func (s *Service) dropNote() {
	if err := s.store.removeNote(); err != nil {
		s.cfg.Log.Error("note of the pending change cannot be removed", "err", err)
	}
}

func (s *Service) look() {
	select {
	case s.wake <- struct{}{}:
	default: // it has not looked since the last time
	}
}

// Status tells how things are.
func (s *Service) Status() *netclient.Status {
	st := &netclient.Status{State: s.cfg.Daemon.State(), Clock: s.cfg.Clock.Status(), Firewall: s.cfg.Firewall.Status()}
	s.mu.Lock()
	defer s.mu.Unlock()
	st.Config, st.Pending, st.Reverted = s.m.saved.Public(), s.m.shown(time.Now()), s.m.reverted
	st.State.Problem = joined(s.damaged, st.State.Problem)
	return st
}

// Detail says in one line what the network is doing.
func (s *Service) Detail() string {
	fw := ""
	if f := s.cfg.Firewall.Status(); !f.Active {
		fw = joined("no firewall", f.Problem)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return joined(joined(s.cfg.Daemon.Detail(), fw), s.damaged)
}

// Check returns an error when a change takes far longer than it may.
func (s *Service) Check() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.begun.IsZero() && time.Since(s.begun) > stuckLimit {
		return fmt.Errorf("a change of the network has been stuck for %v", time.Since(s.begun).Round(time.Second))
	}
	return nil
}

func joined(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "; " + b
}
