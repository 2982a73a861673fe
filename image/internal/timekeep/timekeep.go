// Package timekeep keeps the machine's clock for PID 1: it carries out what the
// network service and administrators ask (a step, or a slew of at most MaxSlew),
// never to before a floor, and knows by how much the clock was stepped, so that
// times that were noted before still mean what they meant.
//
// The floor is the image's time and, once time servers have been followed, the
// last saved time less Slack. Only a clock that follows servers is saved: one
// that somebody set wrongly by hand must not be the floor of the next boot.
package timekeep

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/image/internal/statefile"
)

const (
	// MaxSlew is the longest change that is slewed: the kernel's rate of 0.5 ms a
	// second needs 17 minutes for it.
	MaxSlew = 500 * time.Millisecond
	// Slack is how far before the last saved time the clock may be set: servers
	// may have been wrong by some minutes when it was saved.
	Slack = time.Hour
	// SaveEvery is how often Save is to be called.
	SaveEvery = time.Hour
	// syncedFor is how long after the network service's last word the clock
	// counts as one that follows servers.
	syncedFor = 3 * time.Hour
	// maxSteps is how many steps are remembered; beyond it the oldest two are
	// taken for one.
	maxSteps = 64
)

// ceiling is what a real-time clock of a PC cannot hold any more.
var ceiling = time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)

// Clocks are the machine's.
type Clocks interface {
	Now() time.Time // with its monotonic part
	Step(by time.Duration) error
	Slew(by time.Duration) error
	// Follow tells other processes that the clock follows servers, for so long.
	Follow(time.Duration) error
	// SaveRTC writes the time into the real-time clock; an error that wraps
	// fs.ErrNotExist says that there is none.
	SaveRTC(time.Time) error
}

// Keeper keeps the clock. Its methods may be called from several goroutines.
type Keeper struct {
	Clocks Clocks
	Path   string // of the file with the saved time
	Log    *slog.Logger

	mu     sync.Mutex
	image  time.Time
	saved  time.Time // zero: never
	synced time.Time // when the network service spoke last; zero: never
	steps  []step
}

type step struct {
	at time.Time // just after it
	by time.Duration
}

type file struct {
	Version int       `json:"version"`
	Time    time.Time `json:"time"`
}

const version = 1

// Start sets the clock to the image's time if it is before it: a machine cannot
// run before its image was made, and certificates are checked against the clock.
func (k *Keeper) Start(image time.Time) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.image = image
	return k.raiseLocked(image, "the image's time")
}

// Restore reads the saved time and sets the clock to it if it is before it.
func (k *Keeper) Restore() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	var f file
	found, err := statefile.Load(k.Path, version, &f)
	if err != nil || !found {
		return err
	}
	if !f.Time.Before(ceiling) {
		return fmt.Errorf("%s: time %v: want one before %v", k.Path, f.Time, ceiling)
	}
	k.saved = f.Time
	return k.raiseLocked(f.Time, "the last saved time")
}

func (k *Keeper) raiseLocked(floor time.Time, what string) error {
	now := k.Clocks.Now()
	by := floor.Round(0).Sub(now.Round(0))
	if by <= 0 {
		return nil
	}
	if err := k.stepLocked(by); err != nil {
		return err
	}
	k.Log.Warn("the clock was before "+what+" and was set to it", "was", now.UTC().Format(time.RFC3339), "to", floor.UTC().Format(time.RFC3339))
	return nil
}

func (k *Keeper) stepLocked(by time.Duration) error {
	if err := k.Clocks.Step(by); err != nil {
		return err
	}
	k.steps = append(k.steps, step{k.Clocks.Now(), by})
	if len(k.steps) > maxSteps {
		k.steps[1].by += k.steps[0].by
		k.steps = append(k.steps[:0], k.steps[1:]...)
	}
	return nil
}

// floorLocked returns what the clock is not set before.
func (k *Keeper) floorLocked() time.Time {
	if saved := k.saved.Add(-Slack); !k.saved.IsZero() && saved.After(k.image) {
		return saved
	}
	return k.image
}

// Adjust carries out a change. Errors are *control.Error.
func (k *Keeper) Adjust(c control.Clock) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.Clocks.Now().Round(0)
	to := now.Add(c.Offset)
	floor := k.floorLocked()
	switch {
	case c.Offset < 0 && to.Before(floor):
		return refuse(control.CodeState, "clock: an offset of %v would lead to %s, which is before %s: the image or the last known time is not older",
			c.Offset, to.UTC().Format(time.RFC3339), floor.UTC().Format(time.RFC3339))
	case c.Offset > 0 && !to.Before(ceiling):
		return refuse(control.CodeInvalid, "clock: an offset of %v would lead to %s, want one before %s",
			c.Offset, to.UTC().Format(time.RFC3339), ceiling.Format(time.RFC3339))
	case !c.Step && c.Offset.Abs() > MaxSlew:
		return refuse(control.CodeInvalid, "clock: an offset of %v is too much to slew, want at most %v, or a step", c.Offset, MaxSlew)
	}
	var err error
	switch {
	case !c.Step:
		err = k.Clocks.Slew(c.Offset)
	case c.Offset != 0:
		if err = k.stepLocked(c.Offset); err == nil {
			k.Log.Info("the clock was stepped", "by", c.Offset, "was", now.UTC().Format(time.RFC3339))
		}
	}
	if err != nil {
		return refuse(control.CodeFailed, "clock: %v", err)
	}
	if !c.Save {
		return nil
	}
	if err := k.Clocks.SaveRTC(k.Clocks.Now()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return refuse(control.CodeFailed, "clock: the time was set, but not in the real-time clock: %v", err)
	}
	return nil
}

func refuse(code control.Code, format string, args ...any) error {
	return &control.Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Synced says that the network service follows servers.
func (k *Keeper) Synced() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.synced = k.Clocks.Now()
	if err := k.Clocks.Follow(syncedFor); err != nil {
		k.Log.Warn("clock: that it follows servers is not told", "error", err)
	}
}

// Save writes the time to the file if the clock follows servers.
func (k *Keeper) Save() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.Clocks.Now()
	if k.synced.IsZero() || now.Sub(k.synced) > syncedFor {
		return nil
	}
	at := now.UTC().Truncate(time.Second)
	if err := statefile.Save(k.Path, file{version, at}); err != nil {
		return err
	}
	k.saved = at
	return nil
}

// Wall returns a time that was noted in this boot, with its monotonic part, as
// the clock shows it now: steps since then are added.
func (k *Keeper) Wall(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	var by time.Duration
	for _, s := range k.steps {
		if t.Before(s.at) {
			by += s.by
		}
	}
	return t.Round(0).Add(by)
}
