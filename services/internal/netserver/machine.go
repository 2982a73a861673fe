package netserver

import (
	"bytes"
	"fmt"
	"time"

	"github.com/parley-meet/parley/services/internal/netclient"
	"github.com/parley-meet/parley/services/internal/netconfig"
)

// machine is the state of the configuration. It is pure.
//
//	             set with hold           confirm
//	┌─ saved ─────────────────▶ pending ─────────▶ saved (the new one)
//	│   ▲ ▲                      │  │ ▲
//	│   │ └──────────────────────┘  └─┘ set with hold: the other one pends,
//	│   │  timeout: nobody confirmed    and what is saved stays as it is
//	│   │  operator: asked for
//	│   │  failed: it could not be applied
//	│   │  restart: of the service or the machine
//	└───┘
//	 set without hold: saved once it is applied
//
// What is in force is wanted(): the pending configuration, or the saved one.
type machine struct {
	saved    netconfig.Config
	pending  *netclient.Pending
	reverted *netclient.Reverted
	hold     time.Duration // how long a change waits to be confirmed
}

func (m *machine) wanted() netconfig.Config {
	if m.pending != nil {
		return m.pending.Config
	}
	return m.saved
}

// propose makes cfg pending, in the place of what was.
func (m *machine) propose(id string, cfg netconfig.Config, by string, now time.Time) {
	m.pending = &netclient.Pending{ID: id, Config: cfg, By: by}
	m.inForce(now)
}

// inForce begins the time in which the change must be confirmed.
func (m *machine) inForce(now time.Time) {
	p := *m.pending // earlier answers hold the last one
	p.Since, p.Deadline = now, now.Add(m.hold)
	m.pending = &p
}

// named returns an error unless the change id is pending.
func (m *machine) named(id string) error {
	switch {
	case m.pending == nil:
		return fmt.Errorf("no change is pending")
	case m.pending.ID != id:
		return fmt.Errorf("the change %q is no longer pending: another one is", id)
	}
	return nil
}

// confirm saves the pending configuration.
func (m *machine) confirm() {
	m.saved, m.pending = m.pending.Config, nil
}

// revert undoes the pending configuration.
func (m *machine) revert(why string, now time.Time) {
	m.reverted = &netclient.Reverted{At: now.UTC(), Why: why, By: m.pending.By}
	m.pending = nil
}

// left is how long a change may still be confirmed.
func (m *machine) left(now time.Time) (d time.Duration, pending bool) {
	if m.pending == nil {
		return 0, false
	}
	return m.pending.Deadline.Sub(now), true
}

// shown returns the pending change with the times by the clock as it goes now:
// the clock may have been set since, and only its monotonic part was counted.
func (m *machine) shown(now time.Time) *netclient.Pending {
	if m.pending == nil {
		return nil
	}
	p := *m.pending
	p.Config = p.Config.Public()
	wall := now.Round(0)
	if since := wall.Add(-now.Sub(p.Since)); since.Sub(p.Since.Round(0)).Abs() > time.Second {
		p.Deadline = since.Add(p.Deadline.Sub(p.Since))
		p.Since = since
	}
	p.Since, p.Deadline = p.Since.UTC(), p.Deadline.UTC()
	return &p
}

// same reports whether two configurations say the same, passwords included.
func same(a, b netconfig.Config) bool {
	x, err := a.Encode()
	y, err2 := b.Encode()
	return err == nil && err2 == nil && bytes.Equal(x, y)
}
