package meeting

import (
	"errors"
	"slices"
	"time"

	"github.com/parley-meet/parley/services/internal/signal"
	"github.com/parley-meet/parley/services/internal/ticket"
)

// rank orders roles; hosts and cohosts lead.
func rank(r ticket.Role) int {
	switch r {
	case ticket.Host:
		return 3
	case ticket.Cohost:
		return 2
	case ticket.Participant:
		return 1
	}
	return 0
}

func leads(r ticket.Role) bool { return rank(r) >= 2 }

// Join takes somebody whose ticket is good for this zone, now (ticket.Verify).
// The ticket is used up when he enters or waits, and not when he is refused: a
// locked meeting may be unlocked while it lives.
//
// Whoever has lost his link and comes with a new ticket for the same person takes
// his old place, with role, hand and permissions.
func (m *Meeting) Join(c ticket.Claims, now time.Time) (Entry, []Effect) {
	var e Entry
	if m.over {
		return Entry{Code: signal.Ended}, nil
	}
	effects := m.call(now, func() { e = m.join(c, now) })
	return e, effects
}

func (m *Meeting) join(c ticket.Claims, now time.Time) Entry {
	refuse := func(code signal.Code) Entry { return Entry{Code: code} }
	if c.Meeting.ID != m.cfg.Meeting.ID || c.Zone != m.cfg.Zone {
		return refuse(signal.Elsewhere)
	}
	// Tickets remembers a ticket until it expires, so an older one must stop here,
	// however long ago it was found good.
	if !now.Before(c.Expires.Add(ticket.Skew)) {
		return refuse(signal.BadTicket)
	}
	if m.removed[c.Subject] {
		return refuse(signal.Removed)
	}
	old := m.find(func(p *person) bool { return p.subject == c.Subject && !p.away.IsZero() })
	back := old == nil && len(m.missing[c.Subject]) > 0
	place, why := Inside, signal.Code("")
	switch {
	case old != nil && old.place == Inside, back, leads(c.Role):
	case m.set.Locked:
		return refuse(signal.Locked)
	case !m.led() && (m.set.WaitingRoom || !m.cfg.Meeting.JoinBeforeHost):
		place, why = Waiting, signal.WaitHost
	case m.set.WaitingRoom:
		place, why = Waiting, signal.WaitAdmission
	}
	switch _, waiting := m.Count(); {
	case place == Inside && (old == nil || old.place != Inside) && m.cfg.Free() <= 0:
		return refuse(signal.Full)
	case place == Waiting && old == nil && waiting >= MaxWaiting:
		return refuse(signal.Crowded)
	}
	switch err := m.cfg.Tickets.Use(c, now); {
	case errors.Is(err, ticket.ErrUsed):
		return refuse(signal.Used)
	case err != nil:
		return refuse(signal.Crowded)
	}
	p := m.newcomer(c, now)
	if old != nil {
		m.inherit(p, old, now)
	}
	if back {
		m.recall(p)
	}
	m.people[p.ID] = p
	if place == Waiting {
		p.place, p.why = Waiting, why
		m.send(p.ID, &signal.Waiting{Why: why})
		m.pending.lobbySet(p.ID)
		return Entry{ID: p.ID, Place: Waiting}
	}
	m.enter(p, now)
	return Entry{ID: p.ID, Place: Inside}
}

// newcomer is the person of a ticket. A host by ticket is a cohost until enter
// finds that the place is free.
func (m *Meeting) newcomer(c ticket.Claims, now time.Time) *person {
	m.last++
	role := c.Role
	if role == ticket.Host {
		role = ticket.Cohost
	}
	name := signal.Plain(c.Name, signal.MaxName)
	if name == "" {
		name = "?"
	}
	return &person{Person: signal.Person{ID: m.last, Name: name, Role: role}, subject: c.Subject, claims: c, base: role, since: now,
		talks: bucket{every: time.Second / 20, burst: 100}, offers: bucket{every: time.Second, burst: 15}}
}

// inherit gives p what old had, who goes.
func (m *Meeting) inherit(p, old *person, now time.Time) {
	if old.place == Inside {
		p.Hand, p.asked, p.stopped = old.Hand, old.asked, old.stopped
		p.acting = old.acting && p.claims.Role != ticket.Host
		if rank(old.base) > rank(p.base) {
			p.base = old.base
		}
		p.Role = p.base
		if old.Role == ticket.Host {
			p.Role = ticket.Host
		}
		if i := slices.Index(m.set.Spotlight, old.ID); i >= 0 {
			m.set.Spotlight[i] = p.ID
			m.spot()
		}
	}
	old.Role = old.base // p is host after him, nobody else
	m.drop(old, signal.Taken, now)
}

// enter lets p in, who is in people.
func (m *Meeting) enter(p *person, now time.Time) {
	p.place, p.why, p.since = Inside, "", now
	h := m.host()
	switch {
	case p.Role == ticket.Host: // inherited
	case p.claims.Role != ticket.Host:
	case h == nil:
		p.Role, p.acting = ticket.Host, false
	case h.acting:
		h.Role, h.acting = h.base, false
		m.send(h.ID, &signal.Notice{Code: signal.NotHost, By: p.ID})
		m.demoted(h)
		p.Role, p.acting = ticket.Host, false
	}
	m.empty = time.Time{}
	m.book.enter(p, now)
	m.do(Enter{p.ID})
	m.welcome(p, now)
	m.pending.set(p.ID)
	if leads(p.Role) {
		m.hostCame(now)
	}
}

// welcome tells p all there is to know; the roster comes with the next flush.
func (m *Meeting) welcome(p *person, now time.Time) {
	m.send(p.ID, &signal.Joined{You: p.ID, Role: p.Role, Number: m.cfg.Meeting.Number, Topic: m.cfg.Meeting.Topic, Test: m.cfg.Meeting.Test, Started: m.started, Now: now})
	s := m.Settings()
	m.send(p.ID, &s)
	if m.set.History && len(m.history) > 0 {
		m.send(p.ID, &signal.Chat{Past: true, Lines: slices.Clone(m.history)})
	}
	m.pending.fresh(p.ID)
	if leads(p.Role) {
		m.pending.freshLobby(p.ID)
	}
}

// hostCame lets in, or lets wait for admission, those who waited for him.
func (m *Meeting) hostCame(now time.Time) {
	free := m.cfg.Free() - m.entered()
	for _, p := range m.sorted(Waiting) {
		if p.why != signal.WaitHost {
			continue
		}
		if !m.set.WaitingRoom && free > 0 {
			free--
			m.admit(p, now)
			continue
		}
		p.why = signal.WaitAdmission
		m.send(p.ID, &signal.Waiting{Why: p.why})
	}
}

// admit lets in somebody who waits.
func (m *Meeting) admit(p *person, now time.Time) {
	m.pending.lobbyGone(p.ID)
	m.enter(p, now)
}

// entered is how many have entered in this call: Free does not know them yet.
func (m *Meeting) entered() int {
	n := 0
	for _, e := range m.out {
		if _, ok := e.(Enter); ok {
			n++
		}
	}
	return n
}

// led reports whether a host or cohost is inside, or away for a moment.
func (m *Meeting) led() bool {
	return m.find(func(p *person) bool { return p.place == Inside && leads(p.Role) }) != nil
}

func (m *Meeting) host() *person {
	return m.find(func(p *person) bool { return p.place == Inside && p.Role == ticket.Host })
}

// find returns the first one, in the order of ids, or nil.
func (m *Meeting) find(want func(*person) bool) *person {
	var found *person
	for _, p := range m.people {
		if want(p) && (found == nil || p.ID < found.ID) {
			found = p
		}
	}
	return found
}

// sorted returns those in a place in the order of ids, which is that of coming.
func (m *Meeting) sorted(place Place) []*person {
	var out []*person
	for _, p := range m.people {
		if p.place == place {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b *person) int { return int(int64(a.ID) - int64(b.ID)) })
	return out
}
