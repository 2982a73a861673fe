// Package membertest is a membership for tests of those who have one.
package membertest

import (
	"encoding/json"
	"slices"
	"sync"

	"github.com/parley-meet/parley/services/internal/member"
	"github.com/parley-meet/parley/services/internal/ticket"
)

// Event is one that the portal would have been told of.
type Event struct {
	Name string
	Data json.RawMessage
}

// Zone is a member.Zone that knows what a test sets. The zero value knows
// nothing. It is safe for concurrent use.
type Zone struct {
	mu       sync.Mutex
	state    member.State
	key      *ticket.Key
	err      error
	events   []Event
	usage    member.Usage
	watchers []chan struct{}
}

var _ member.Zone = (*Zone)(nil)

// New returns a zone that knows s.
func New(s member.State) *Zone { return &Zone{state: s} }

// Set changes what it knows, and tells those who watch.
func (z *Zone) Set(change func(*member.State)) {
	z.mu.Lock()
	defer z.mu.Unlock()
	change(&z.state)
	for _, ch := range z.watchers {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

// SetKey has Sign sign with a key; nil: it returns member.ErrNoKey.
func (z *Zone) SetKey(k *ticket.Key) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.key = k
}

// SetError has Event fail with err.
func (z *Zone) SetError(err error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.err = err
}

// Events returns the events that were taken.
func (z *Zone) Events() []Event {
	z.mu.Lock()
	defer z.mu.Unlock()
	return slices.Clone(z.events)
}

// Usage returns what was reported last.
func (z *Zone) Usage() member.Usage {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.usage
}

// State is member.Zone's.
func (z *Zone) State() member.State {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.state
}

// Watch is member.Zone's.
func (z *Zone) Watch() (<-chan struct{}, func()) {
	ch := make(chan struct{}, 1)
	z.mu.Lock()
	defer z.mu.Unlock()
	z.watchers = append(z.watchers, ch)
	return ch, func() {
		z.mu.Lock()
		defer z.mu.Unlock()
		z.watchers = slices.DeleteFunc(z.watchers, func(o chan struct{}) bool { return o == ch })
	}
}

// Event is member.Zone's.
func (z *Zone) Event(name string, data any) error {
	b, err := json.Marshal(data)
	if err != nil {
		return err
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.err != nil {
		return z.err
	}
	z.events = append(z.events, Event{name, b})
	return nil
}

// Sign is member.Zone's.
func (z *Zone) Sign(c ticket.Claims) (string, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.key == nil {
		return "", member.ErrNoKey
	}
	return ticket.Sign(*z.key, c)
}

// Report is member.Zone's.
func (z *Zone) Report(u member.Usage) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.usage = u
}
