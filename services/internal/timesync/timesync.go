// Package timesync keeps the clock right by NTP (RFC 5905, as a simple client).
// It asks all servers, follows those that agree, and has PID 1 move the clock:
// stepped when it was not set since boot, slewed later, and stepped later only
// when it is found wrong twice. What one server says alone moves a clock that
// was set by at most an hour.
package timesync

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/services/internal/netclient"
	"github.com/parley-meet/parley/services/internal/netconfig"
)

// Config is what a Keeper works with.
type Config struct {
	Query func(ctx context.Context, server string) (Sample, error)
	// Adjust has PID 1 move the clock.
	Adjust func(ctx context.Context, c control.Clock) error
	// Marker is a file in RAM that says that the clock was set since boot: a
	// service that starts again must not take it for the first time.
	Marker string
	Log    *slog.Logger
}

// adjustLimit is how long PID 1 may take.
const adjustLimit = 5 * time.Second

// maxServers bounds how many are asked.
const maxServers = 8

// restEnd is how long a server that is not to be asked for good is left alone.
const restEnd = 24 * time.Hour

// Keeper keeps the clock while its Run runs.
type Keeper struct {
	cfg   Config
	start time.Time // of the monotonic clock
	wake  chan struct{}

	mu      sync.Mutex
	ntp     netconfig.NTP
	dhcp    []netip.Addr
	ready   bool // Set was called
	waiting []chan error
	rests   map[string]time.Time // servers that do not want to be asked, until when
	status  netclient.Clock
	heard   time.Time // last answer, monotonic

	p policy // of Run alone
}

// New returns a keeper that asks nobody yet.
func New(cfg Config) *Keeper {
	k := &Keeper{cfg: cfg, start: time.Now(), wake: make(chan struct{}, 1), rests: map[string]time.Time{}}
	if _, err := os.Stat(cfg.Marker); err == nil {
		k.p.set = true
	}
	return k
}

// Set takes what the administrator wants.
func (k *Keeper) Set(c netconfig.NTP) {
	k.change(func() bool {
		same := k.ready && c.Off == k.ntp.Off && slices.Equal(c.Servers, k.ntp.Servers)
		k.ntp, k.ready = c, true
		return !same
	})
}

// SetDHCP takes the servers that DHCP named.
func (k *Keeper) SetDHCP(servers []netip.Addr) {
	k.change(func() bool {
		same := slices.Equal(servers, k.dhcp)
		k.dhcp = slices.Clone(servers)
		return !same
	})
}

// change asks anew when f says that something is another.
func (k *Keeper) change(f func() bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if f() {
		clear(k.rests)
		k.kick()
	}
}

func (k *Keeper) kick() {
	select {
	case k.wake <- struct{}{}:
	default: // it has not looked since the last time
	}
}

// Nudge asks the servers now if the last question was in vain: there is a
// network again.
func (k *Keeper) Nudge() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.status.Problem != "" {
		k.kick()
	}
}

// Sync asks the servers now, and returns why the clock could not be set by them.
func (k *Keeper) Sync(ctx context.Context) error {
	done := make(chan error, 1)
	k.mu.Lock()
	k.waiting = append(k.waiting, done)
	k.kick()
	k.mu.Unlock()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Status tells how the time is kept.
func (k *Keeper) Status() netclient.Clock {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.status
	s.Servers, s.Off = k.serversLocked(), k.ntp.Off
	s.Synced = !s.Off && !k.heard.IsZero() && time.Since(k.heard) < 3*pollMax
	return s
}

func (k *Keeper) serversLocked() []string {
	list := k.ntp.Servers
	if len(list) == 0 {
		for _, a := range k.dhcp {
			list = append(list, a.String())
		}
	}
	return append([]string{}, list[:min(len(list), maxServers)]...)
}

// Run asks until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	for {
		timer := time.NewTimer(k.round(ctx))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-k.wake:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// idle is the wait when there is nobody to ask: until something changes.
const idle = 24 * time.Hour

// round asks all servers once, and returns when to ask again.
func (k *Keeper) round(ctx context.Context) time.Duration {
	k.mu.Lock()
	select {
	case <-k.wake: // this is the look that was asked for
	default:
	}
	waiting := k.waiting
	k.waiting = nil
	servers, off, ready := k.serversLocked(), k.ntp.Off, k.ready
	asked := slices.DeleteFunc(slices.Clone(servers), func(s string) bool { return time.Now().Before(k.rests[s]) })
	k.mu.Unlock()

	next, err := idle, error(nil)
	switch {
	case off:
		err = errors.New("the clock is not kept by time servers: that is switched off")
	case !ready || len(servers) == 0:
		err = errors.New("no time server is known")
	case len(asked) == 0:
		next, err = pollMax, errors.New("the time servers do not want to be asked now")
	default:
		next, err = k.askAll(ctx, asked)
	}
	k.mu.Lock()
	before := k.status.Problem
	k.status.Problem = ""
	if err != nil && ctx.Err() == nil && !off && ready {
		k.status.Problem = err.Error()
	}
	if now := k.status.Problem; now != before && now != "" {
		k.cfg.Log.Warn("clock", "err", now)
	}
	k.mu.Unlock()
	for _, w := range waiting {
		w <- err
	}
	return next
}

// askAll asks the servers at once and follows what they say.
func (k *Keeper) askAll(ctx context.Context, servers []string) (time.Duration, error) {
	type answer struct {
		Sample
		err error
	}
	answers := make([]answer, len(servers))
	var wg sync.WaitGroup
	for i, s := range servers {
		wg.Go(func() { answers[i].Sample, answers[i].err = k.cfg.Query(ctx, s) })
	}
	wg.Wait()
	var samples []Sample
	var errs []error
	for i, a := range answers {
		if a.err == nil {
			samples = append(samples, a.Sample)
			continue
		}
		errs = append(errs, fmt.Errorf("%s: %w", servers[i], a.err))
		var ks *kiss
		if errors.As(a.err, &ks) {
			k.rest(servers[i], ks)
		}
	}
	best, v := k.p.answer(samples, time.Since(k.start))
	if len(samples) == 0 {
		return v.Next, fmt.Errorf("%w (%v)", v.Err, oneLine(errs))
	}
	if v.Err != nil {
		return v.Next, v.Err
	}
	if v.Clock != nil {
		actx, cancel := context.WithTimeout(ctx, adjustLimit)
		err := k.cfg.Adjust(actx, *v.Clock)
		cancel()
		if err != nil {
			return min(v.Next, pollMin), fmt.Errorf("the clock could not be set: %w", err)
		}
		k.p.done(v.Clock, time.Since(k.start))
		if v.Clock.Step {
			k.cfg.Log.Info("clock is stepped", "by", v.Clock.Offset, "server", best.Server)
		}
		k.mark()
	}
	left := best.Offset
	if v.Clock != nil && v.Clock.Step {
		left -= v.Clock.Offset
	}
	k.mu.Lock()
	k.heard = time.Now()
	k.status.Server, k.status.Offset, k.status.Last = best.Server, left, time.Now().UTC()
	k.mu.Unlock()
	return v.Next, nil
}

// rest leaves a server alone that does not want to be asked.
func (k *Keeper) rest(server string, ks *kiss) {
	d := pollMax
	if ks.forGood() {
		d = restEnd
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.rests[server] = time.Now().Add(d)
}

// mark notes that the clock was set since boot.
func (k *Keeper) mark() {
	if _, err := os.Stat(k.cfg.Marker); err == nil {
		return
	}
	if err := os.WriteFile(k.cfg.Marker, nil, 0o644); err != nil {
		k.cfg.Log.Error("marker of the clock", "err", err)
	}
}

func oneLine(errs []error) (s string) {
	for i, err := range errs {
		if i > 0 {
			s += "; "
		}
		s += err.Error()
	}
	return s
}
