package meeting

import (
	"maps"
	"slices"
	"time"

	"github.com/parley-meet/parley/services/internal/signal"
)

// pending is what everybody will be told with the next flush.
type pending struct {
	last      time.Time // flush
	version   uint64    // of the roster
	changed   map[signal.ID]bool
	gone      map[signal.ID]bool
	newcomers map[signal.ID]bool // want all of it

	lobbyVersion uint64
	lobbyChanged map[signal.ID]bool
	lobbyLeft    map[signal.ID]bool
	lobbyNew     map[signal.ID]bool

	settings, speaker bool
	reactions         []signal.Reacted
}

func (p *pending) reset() {
	for _, m := range []*map[signal.ID]bool{&p.changed, &p.gone, &p.newcomers, &p.lobbyChanged, &p.lobbyLeft, &p.lobbyNew} {
		if *m == nil {
			*m = map[signal.ID]bool{}
		}
		clear(*m)
	}
	p.settings, p.speaker, p.reactions = false, false, nil
}

func (p *pending) set(id signal.ID)        { p.changed[id] = true }
func (p *pending) fresh(id signal.ID)      { p.newcomers[id] = true }
func (p *pending) freshLobby(id signal.ID) { p.lobbyNew[id] = true }
func (p *pending) lobbySet(id signal.ID)   { p.lobbyChanged[id] = true }

// left is about somebody who is inside no more.
func (p *pending) left(id signal.ID) {
	delete(p.changed, id)
	delete(p.newcomers, id)
	delete(p.lobbyNew, id)
	p.gone[id] = true
}

// lobbyGone is about somebody who waits no more.
func (p *pending) lobbyGone(id signal.ID) {
	delete(p.lobbyChanged, id)
	p.lobbyLeft[id] = true
}

func (p *pending) dirty() bool {
	return len(p.changed)+len(p.gone)+len(p.newcomers)+len(p.lobbyChanged)+len(p.lobbyLeft)+len(p.lobbyNew)+len(p.reactions) > 0 || p.settings || p.speaker
}

// flush tells what has gathered, Gather after the last time at the earliest.
func (m *Meeting) flush(now time.Time, force bool) {
	p := &m.pending
	if !p.dirty() || !force && now.Sub(p.last) < Gather {
		return
	}
	p.last = now
	var all, old, fresh, leaders, oldLeaders, freshLeaders []signal.ID
	inside := m.sorted(Inside)
	for _, q := range inside {
		// Who is away gets snapshots when he is back: changes would only pile up.
		if !q.away.IsZero() {
			continue
		}
		all = append(all, q.ID)
		if p.newcomers[q.ID] {
			fresh = append(fresh, q.ID)
		} else {
			old = append(old, q.ID)
		}
		if leads(q.Role) {
			leaders = append(leaders, q.ID)
			if p.lobbyNew[q.ID] {
				freshLeaders = append(freshLeaders, q.ID)
			} else {
				oldLeaders = append(oldLeaders, q.ID)
			}
		}
	}
	if len(p.changed)+len(p.gone) > 0 {
		p.version++
		r := &signal.Roster{Version: p.version, Gone: slices.Sorted(maps.Keys(p.gone))}
		for _, q := range inside {
			if p.changed[q.ID] {
				r.People = append(r.People, q.Person)
			}
		}
		m.tell(old, r)
	}
	if len(fresh) > 0 {
		r := &signal.Roster{Version: p.version, Full: true}
		for _, q := range inside {
			r.People = append(r.People, q.Person)
		}
		m.tell(fresh, r)
	}
	if p.settings {
		s := m.Settings()
		m.tell(all, &s)
	}
	switch {
	case p.speaker:
		m.tell(all, &signal.Speaker{ID: m.speaker})
	default:
		m.tell(fresh, &signal.Speaker{ID: m.speaker})
	}
	if len(p.reactions) > 0 {
		m.tell(all, &signal.Reactions{List: p.reactions})
	}
	m.flushLobby(oldLeaders, freshLeaders)
	p.reset()
}

// flushLobby tells those who lead who waits.
func (m *Meeting) flushLobby(old, fresh []signal.ID) {
	p := &m.pending
	waiting := m.sorted(Waiting)
	if len(p.lobbyChanged)+len(p.lobbyLeft) > 0 {
		p.lobbyVersion++
		l := &signal.Lobby{Version: p.lobbyVersion, Gone: slices.Sorted(maps.Keys(p.lobbyLeft))}
		for _, q := range waiting {
			if p.lobbyChanged[q.ID] {
				l.People = append(l.People, guest(q))
			}
		}
		m.tell(old, l)
	}
	if len(fresh) > 0 {
		l := &signal.Lobby{Version: p.lobbyVersion, Full: true}
		for _, q := range waiting {
			l.People = append(l.People, guest(q))
		}
		m.tell(fresh, l)
	}
}

func guest(p *person) signal.Guest {
	return signal.Guest{ID: p.ID, Name: p.Name, Role: p.claims.Role}
}

func (m *Meeting) tell(to []signal.ID, message signal.Message) {
	if len(to) > 0 {
		m.do(Send{to, message})
	}
}

// spot tells media and people of the spotlights.
func (m *Meeting) spot() {
	m.do(Spot{append([]signal.ID{}, m.set.Spotlight...)})
	m.pending.settings = true
}
