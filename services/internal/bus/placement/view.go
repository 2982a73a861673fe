package placement

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/parley-meet/parley/services/internal/bus"
	"github.com/parley-meet/parley/services/internal/link"
)

// View is a controller's Table, filled from the bus. Its methods are safe for
// concurrent use and never wait.
type View struct {
	log     *slog.Logger
	changed chan struct{}

	mu     sync.Mutex
	table  *Table
	states map[string]State // as it was logged
	bad    map[string]string
}

// NewView returns an empty one. It starts nothing; log may be nil.
func NewView(log *slog.Logger) *View {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &View{log: log, changed: make(chan struct{}, 1), table: NewTable(), states: make(map[string]State), bad: make(map[string]string)}
}

// Hear takes a message of the bus: bus.Conn.Subscribe(Topic, view.Hear).
func (v *View) Hear(m bus.Message) {
	if m.From.Role != link.Router {
		return
	}
	a, err := Decode(m.Data)
	v.mu.Lock()
	defer v.mu.Unlock()
	if err != nil {
		if text := err.Error(); v.bad[m.From.ID] != text && len(v.bad) < MaxRouters {
			v.bad[m.From.ID] = text
			v.log.Warn("bus: announcement refused", "router", m.From.ID, "error", fmt.Sprintf("%.200q", text))
		}
		return
	}
	delete(v.bad, m.From.ID)
	v.table.Put(time.Now(), m.From.ID, a)
	v.lookLocked(time.Now())
	select {
	case v.changed <- struct{}{}:
	default:
	}
}

// Changed gets a value soon after something was heard, or a router fell silent. One
// value may stand for several.
func (v *View) Changed() <-chan struct{} { return v.changed }

// Run notes routers that fall silent until ctx ends; it returns nil then.
func (v *View) Run(ctx context.Context) error {
	tick := time.NewTicker(Every / 4)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			v.mu.Lock()
			if v.lookLocked(time.Now()) {
				select {
				case v.changed <- struct{}{}:
				default:
				}
			}
			v.mu.Unlock()
		case <-ctx.Done():
			return nil
		}
	}
}

// lookLocked logs what has changed and reports whether something has.
func (v *View) lookLocked(now time.Time) (changed bool) {
	there := make(map[string]bool)
	for _, r := range v.table.Routers(now) {
		there[r.ID] = true
		if s := r.State(now); v.states[r.ID] != s {
			v.states[r.ID], changed = s, true
			v.log.Info("router", "id", r.ID, "state", s, "host", fmt.Sprintf("%q", r.Host), "participants", r.Participants, "limit", r.Limit, "meetings", len(r.Meetings))
		}
	}
	for id := range v.states {
		if !there[id] {
			delete(v.states, id)
			changed = true
		}
	}
	return changed
}

// SetZone forgets routers that are not in the zone.
func (v *View) SetZone(z bus.Zone) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, r := range v.table.Routers(time.Now()) {
		if !z.Has(bus.Peer{Role: link.Router, ID: r.ID}) {
			v.table.Remove(r.ID)
		}
	}
	v.lookLocked(time.Now())
}

// Forget forgets a router of which is known that it has ended, until it is heard
// again.
func (v *View) Forget(id string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.table.Remove(id)
	v.lookLocked(time.Now())
}

// Place is Table.Place.
func (v *View) Place(meeting string, expected int) (Place, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.table.Place(time.Now(), meeting, expected)
}

// Find is Table.Find.
func (v *View) Find(meeting string) (Place, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.table.Find(time.Now(), meeting)
}

// Twices is Table.Twices.
func (v *View) Twices() []Twice {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.table.Twices(time.Now())
}

// Routers is Table.Routers.
func (v *View) Routers() []Router {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.table.Routers(time.Now())
}
