package webconsole

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/nic"
	"github.com/parley-meet/parley/services/internal/portalctl"
	"github.com/parley-meet/parley/services/internal/zonectl"
)

const (
	statusLimit = 3 * time.Second // for PID 1's answer
	fresh       = 700 * time.Millisecond
)

// state is the appliance as it was at a moment. It is read-only.
type state struct {
	at         time.Time
	status     *control.Status // nil when PID 1 does not answer
	err        error           // then
	interfaces []nic.Interface
	zone       zonectl.State
	pending    string // the change of the network that waits to be confirmed
}

// source asks for the state on behalf of everybody at once: however many look,
// PID 1 is asked once at a time.
type source struct {
	appliance  Appliance
	interfaces func() ([]nic.Interface, error)
	zone       func(context.Context) zonectl.State
	turn       chan struct{} // holds a token while one asks
	last       *state        // guarded by turn
}

func newSource(a Appliance, interfaces func() ([]nic.Interface, error), zone func(context.Context) zonectl.State) *source {
	return &source{appliance: a, interfaces: interfaces, zone: zone, turn: make(chan struct{}, 1)}
}

// get returns the state, which is at most maxAge old.
func (s *source) get(ctx context.Context, maxAge time.Duration) *state {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return &state{at: time.Now(), err: ctx.Err()}
	}
	defer func() { <-s.turn }()
	if s.last != nil && time.Since(s.last.at) < maxAge {
		return s.last
	}
	// Not ctx: others wait for the answer too.
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), statusLimit)
	defer cancel()
	n := &state{}
	var asked sync.WaitGroup
	asked.Go(func() { n.zone = s.zone(limit) })
	n.status, n.err = s.appliance.Status(limit)
	asked.Wait()
	if list, err := s.interfaces(); err == nil {
		for _, i := range list {
			// The kernel's tunnels (sit0) are there whether somebody uses them
			// or not.
			if !i.Loopback && (len(i.MAC) == 6 || len(i.Addresses) > 0) {
				n.interfaces = append(n.interfaces, i)
			}
		}
	}
	n.at = time.Now()
	s.last = n
	return n
}

// now is the state with the change of the network that waits, which is asked for
// each time: a page that has its banner must not be loaded anew for it.
func (c *Console) now(ctx context.Context) *state {
	s := *c.source.get(ctx, fresh)
	s.pending = pendingOf(ctx, c.cfg.Admin)
	return &s
}

// portal reports whether the machine is a portal, which is in no zone.
func (s *state) portal() bool { return s.status != nil && s.status.Role == "portal" }

// unowned reports whether the machine is a portal without an operator.
func (s *state) unowned() bool {
	return s.portal() && slices.ContainsFunc(s.status.Services, func(v control.Service) bool { return v.Detail == portalctl.NoOperator })
}

// host returns the machine's name, or "".
func (s *state) host() string {
	if s.status == nil {
		return ""
	}
	return api.Cut(s.status.Hostname, 63)
}
