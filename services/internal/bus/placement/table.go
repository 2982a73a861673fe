package placement

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// Bounds of a Table.
const (
	MaxRouters = 512 // routers that are remembered
	// keep is how long a silent router, and the epochs of its meetings, are
	// remembered.
	keep = 10 * time.Minute
)

// Router is one of the zone as a controller knows it.
type Router struct {
	ID string
	Announcement
	Heard time.Time // the last announcement
}

// Silent reports whether nothing was heard for too long.
func (r Router) Silent(now time.Time) bool { return now.Sub(r.Heard) > Expiry }

// State is why a router takes meetings or not.
type State string

// The states.
const (
	Ready    State = "ready"
	Full     State = "full" // of participants, or its processors are busy
	Draining State = "draining"
	Silent   State = "silent"
)

// State returns how a router is.
func (r Router) State(now time.Time) State {
	switch {
	case r.Silent(now):
		return Silent
	case r.Draining:
		return Draining
	case r.Room() < 1:
		return Full
	}
	return Ready
}

// Table is what a controller knows of the zone's routers. Time comes in with each
// call. It is not safe for concurrent use.
type Table struct {
	routers map[string]*Router
	// at is which routers have said that they run a meeting; it follows from
	// routers.
	at map[string]map[string]uint64 // meeting → router → epoch
}

// NewTable returns an empty one.
func NewTable() *Table {
	return &Table{routers: make(map[string]*Router), at: make(map[string]map[string]uint64)}
}

// Put takes an announcement that Decode has read, from the router of an id. The
// last one counts. An epoch further ahead than a controller gives counts as 1.
func (t *Table) Put(now time.Time, id string, a Announcement) {
	ahead := uint64(now.Add(maxAhead).UnixMilli())
	t.sweep(now)
	if t.routers[id] == nil && len(t.routers) >= MaxRouters {
		// The one not heard for longest makes room.
		oldest := slices.MinFunc(slices.Collect(maps.Values(t.routers)), func(a, b *Router) int { return a.Heard.Compare(b.Heard) })
		t.forget(oldest.ID)
	}
	t.forget(id)
	t.routers[id] = &Router{id, a, now}
	for _, m := range a.Meetings {
		if m.Epoch > ahead {
			m.Epoch = 1
		}
		if t.at[m.ID] == nil {
			t.at[m.ID] = make(map[string]uint64)
		}
		t.at[m.ID][id] = m.Epoch
	}
}

// Remove forgets a router: it is no longer in the zone.
func (t *Table) Remove(id string) { t.forget(id) }

func (t *Table) forget(id string) {
	r := t.routers[id]
	if r == nil {
		return
	}
	for _, m := range r.Meetings {
		delete(t.at[m.ID], id)
		if len(t.at[m.ID]) == 0 {
			delete(t.at, m.ID)
		}
	}
	delete(t.routers, id)
}

// sweep forgets routers that have been silent for long.
func (t *Table) sweep(now time.Time) {
	for id, r := range t.routers {
		if now.Sub(r.Heard) > keep {
			t.forget(id)
		}
	}
}

// Routers returns all that are remembered, by id, silent ones too.
func (t *Table) Routers(now time.Time) []Router {
	t.sweep(now)
	var out []Router
	for _, r := range t.routers {
		out = append(out, *r)
	}
	slices.SortFunc(out, func(a, b Router) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// Router returns one of them.
func (t *Table) Router(now time.Time, id string) (Router, bool) {
	t.sweep(now)
	r := t.routers[id]
	if r == nil {
		return Router{}, false
	}
	return *r, true
}

// Place is where a meeting runs, or should.
type Place struct {
	Router string
	Epoch  uint64
	Runs   bool // a router says that it runs there
}

// Find returns where a meeting runs: at the router with the highest epoch, then
// the highest hash, of those that are not silent.
func (t *Table) Find(now time.Time, meeting string) (Place, bool) {
	best, ok := Place{}, false
	for id, epoch := range t.at[meeting] {
		if t.routers[id].Silent(now) {
			continue
		}
		if !ok || epoch > best.Epoch || epoch == best.Epoch && before(meeting, id, best.Router) {
			best, ok = Place{id, epoch, true}, true
		}
	}
	return best, ok
}

// Twice is a meeting that several routers run.
type Twice struct {
	Meeting string
	Keeps   Place   // as Find returns it
	Others  []Place // those that have to give it up
}

// Twices returns the meetings that run more than once, by id. Their controllers
// tell the others to end them, and their people to move.
func (t *Table) Twices(now time.Time) []Twice {
	var out []Twice
	for meeting, at := range t.at {
		if len(at) < 2 {
			continue
		}
		keeps, ok := t.Find(now, meeting)
		if !ok {
			continue
		}
		w := Twice{Meeting: meeting, Keeps: keeps}
		for id, epoch := range at {
			if id != keeps.Router && !t.routers[id].Silent(now) {
				w.Others = append(w.Others, Place{id, epoch, true})
			}
		}
		if len(w.Others) > 0 {
			slices.SortFunc(w.Others, func(a, b Place) int { return strings.Compare(a.Router, b.Router) })
			out = append(out, w)
		}
	}
	slices.SortFunc(out, func(a, b Twice) int { return strings.Compare(a.Meeting, b.Meeting) })
	return out
}
