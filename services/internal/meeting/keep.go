package meeting

import (
	"maps"
	"slices"
	"time"

	"github.com/parley-meet/parley/services/internal/signal"
	"github.com/parley-meet/parley/services/internal/ticket"
)

// Kept is what outlives a router: a few hundred bytes, and about a hundred for
// each person. It holds no names and no chat. Run and Passes are its router's to
// fill.
type Kept struct {
	Run      string          `json:"run"` // of this meeting, in events to the portal; stays when it moves
	Started  time.Time       `json:"started"`
	Settings signal.Settings `json:"settings"` // without spotlights: ids are of one router
	Removed  []string        `json:"removed,omitempty"`
	People   []Member        `json:"people,omitempty"`
	Passes   []PassKey       `json:"passes,omitempty"` // the running router's first
}

// Member is somebody inside.
type Member struct {
	Subject string      `json:"subject"`
	Role    ticket.Role `json:"role"`
	Base    ticket.Role `json:"base,omitempty"`   // when he is no more acting
	Acting  bool        `json:"acting,omitempty"` // host because the other one went
	Asked   bool        `json:"asked,omitempty"`  // to unmute
	Stopped bool        `json:"stopped,omitempty"`
}

// Keep returns what another router needs to go on.
func (m *Meeting) Keep() Kept {
	k := Kept{Started: m.started, Settings: m.Settings(), Removed: slices.Sorted(maps.Keys(m.removed))}
	k.Settings.Spotlight = []signal.ID{}
	for _, p := range m.sorted(Inside) {
		k.People = append(k.People, Member{p.subject, p.Role, p.base, p.acting, p.asked, p.stopped})
	}
	for _, subject := range slices.Sorted(maps.Keys(m.missing)) {
		k.People = append(k.People, m.missing[subject]...)
	}
	return k
}

// restore begins with what another router kept. Its people have AwayFor to come.
func (m *Meeting) restore(k *Kept, now time.Time) {
	m.started, m.set = k.Started, k.Settings
	m.set.Spotlight = []signal.ID{}
	for _, subject := range k.Removed {
		m.removed[subject] = true
	}
	m.missing, m.until = map[string][]Member{}, now.Add(AwayFor)
	for _, p := range k.People {
		m.missing[p.Subject] = append(m.missing[p.Subject], p)
	}
}

// recall makes p what he was.
func (m *Meeting) recall(p *person) {
	list := m.missing[p.subject]
	was := list[0]
	if list = list[1:]; len(list) == 0 {
		delete(m.missing, p.subject)
	} else {
		m.missing[p.subject] = list
	}
	p.base, p.asked, p.stopped = was.Base, was.Asked, was.Stopped
	p.Role = p.base
	if was.Role == ticket.Host && m.host() == nil {
		p.Role, p.acting = ticket.Host, was.Acting
	}
}

// forget gives up those who did not come back. If the host is one of them,
// somebody else becomes host.
func (m *Meeting) forget() {
	led := false
	for _, list := range m.missing {
		led = led || slices.ContainsFunc(list, func(p Member) bool { return p.Role == ticket.Host })
	}
	m.missing, m.until = nil, time.Time{}
	if led && m.host() == nil {
		m.succeed()
	}
}
