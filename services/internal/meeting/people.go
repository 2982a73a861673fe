package meeting

import (
	"slices"
	"time"

	"github.com/parley-meet/parley/services/internal/signal"
	"github.com/parley-meet/parley/services/internal/ticket"
)

// Lost says that a participant's link is lost. His place is kept for AwayFor.
func (m *Meeting) Lost(id signal.ID, now time.Time) []Effect {
	return m.call(now, func() {
		if p := m.people[id]; p != nil && p.away.IsZero() {
			p.away, p.Away = now, true
			m.changed(p)
		}
	})
}

// Back says that he has a link again. A fresh one has forgotten everything, as a
// page that was reloaded: he is told all again, and sends nothing until he says.
func (m *Meeting) Back(id signal.ID, fresh bool, now time.Time) []Effect {
	return m.call(now, func() {
		p := m.people[id]
		if p == nil || p.away.IsZero() && !fresh {
			return
		}
		p.away, p.Away = time.Time{}, false
		m.changed(p)
		if leads(p.Role) && m.host() == nil {
			m.succeed() // he was away when the host went
		}
		switch {
		case p.place == Waiting && fresh:
			m.send(id, &signal.Waiting{Why: p.why})
		case p.place == Waiting:
		case fresh:
			m.silence(p)
			m.welcome(p, now)
		default:
			s := m.Settings()
			m.send(id, &s)
			m.pending.fresh(id)
			if leads(p.Role) {
				m.pending.freshLobby(id)
			}
		}
	})
}

// Gone says that a participant's session is over, with why.
func (m *Meeting) Gone(id signal.ID, why signal.Code, now time.Time) []Effect {
	return m.call(now, func() {
		if p := m.people[id]; p != nil {
			m.drop(p, why, now)
		}
	})
}

// Stop ends the meeting, as with signal.Moved or signal.Stopping.
func (m *Meeting) Stop(code signal.Code, now time.Time) []Effect {
	return m.call(now, func() { m.end(code, now) })
}

// Claims are what a pass for somebody says: the ticket he came with, under his
// name of now. It lives as long as tickets do; its id is the caller's. What he was
// made here is in Keep, so a pass makes nobody more than his ticket did.
func (m *Meeting) Claims(id signal.ID, pass string, now time.Time) (c ticket.Claims, ok bool) {
	p := m.people[id]
	if p == nil {
		return c, false
	}
	c = p.claims
	c.ID, c.Name, c.Issued, c.Expires = pass, p.Name, now, now.Add(ticket.TTL)
	return c, true
}

// changed gathers that others see p otherwise.
func (m *Meeting) changed(p *person) {
	if p.place == Inside {
		m.pending.set(p.ID)
	} else {
		m.pending.lobbySet(p.ID)
	}
}

// silence closes what p sends.
func (m *Meeting) silence(p *person) {
	if p.Microphone {
		m.gate(p, signal.Microphone, false)
	}
	if p.Camera {
		m.gate(p, signal.Camera, false)
	}
	if p.Screen {
		m.gate(p, signal.Screen, false)
	}
}

// gate opens or closes a source, and shows it to all.
func (m *Meeting) gate(p *person, s signal.Source, open bool) {
	m.do(Gate{p.ID, s, open})
	switch s {
	case signal.Microphone:
		p.Microphone = open
	case signal.Camera:
		p.Camera = open
	case signal.Screen:
		p.Screen = open
		m.do(Gate{p.ID, signal.ScreenAudio, open})
		switch {
		case open:
			m.sharer = p.ID
		case m.sharer == p.ID:
			m.sharer = 0
		}
	}
	m.changed(p)
}

// drop takes somebody out.
func (m *Meeting) drop(p *person, code signal.Code, now time.Time) {
	m.do(Out{p.ID, code})
	delete(m.people, p.ID)
	if p.place == Waiting {
		m.pending.lobbyGone(p.ID)
		return
	}
	m.book.leave(p, now)
	m.pending.left(p.ID)
	if m.sharer == p.ID {
		m.sharer = 0
	}
	if m.speaker == p.ID {
		m.speaker, m.pending.speaker = 0, true
	}
	if i := slices.Index(m.set.Spotlight, p.ID); i >= 0 {
		m.set.Spotlight = slices.Delete(m.set.Spotlight, i, i+1)
		m.spot()
	}
	if inside, _ := m.Count(); inside == 0 {
		m.empty = now
	}
	if p.Role == ticket.Host {
		m.succeed()
	}
}

// succeed finds a host after the one who went.
func (m *Meeting) succeed() {
	best, class := (*person)(nil), 0
	for _, p := range m.sorted(Inside) {
		c := 0
		switch {
		case !p.away.IsZero():
		case p.claims.Role == ticket.Host:
			c = 3
		case p.Role == ticket.Cohost:
			c = 2
		case m.cfg.Heir == HeirLongest && p.Role == ticket.Participant:
			c = 1
		}
		if c > class || c > 0 && c == class && p.since.Before(best.since) {
			best, class = p, c
		}
	}
	if best == nil {
		return
	}
	was := best.Role
	best.Role, best.acting = ticket.Host, class < 3
	m.send(best.ID, &signal.Notice{Code: signal.YouHost})
	m.promoted(best, was)
}

// promoted tells who leads now what those who lead know.
func (m *Meeting) promoted(p *person, was ticket.Role) {
	m.changed(p)
	if !leads(was) && leads(p.Role) {
		m.pending.freshLobby(p.ID)
	}
}

// demoted takes p from those who lead, if he leads no more.
func (m *Meeting) demoted(p *person) {
	m.changed(p)
	if !leads(p.Role) {
		delete(m.pending.lobbyNew, p.ID)
	}
}

// end ends the meeting for all.
func (m *Meeting) end(code signal.Code, now time.Time) {
	for _, place := range []Place{Waiting, Inside} {
		for _, p := range m.sorted(place) {
			m.do(Out{p.ID, code})
			if place == Inside {
				m.book.leave(p, now)
			}
			delete(m.people, p.ID)
		}
	}
	m.over = true
	m.history, m.kept = nil, 0
	m.pending.reset()
	m.do(Over{code, m.Report(now)})
}

// Next returns when Tick has something to do; zero: nothing by itself.
func (m *Meeting) Next() time.Time {
	var next time.Time
	if m.over {
		return next
	}
	at := func(t time.Time) {
		if next.IsZero() || t.Before(next) {
			next = t
		}
	}
	if m.pending.dirty() {
		at(m.pending.last.Add(Gather))
	}
	if !m.until.IsZero() {
		at(m.until)
	}
	hopeful := false
	for _, p := range m.people {
		if !p.away.IsZero() {
			at(p.away.Add(AwayFor))
		}
		if p.place == Waiting && p.why == signal.WaitHost {
			hopeful = true
			at(p.since.Add(HostWithin))
		}
	}
	if !m.empty.IsZero() && !hopeful {
		at(m.emptyUntil())
	}
	return next
}

// emptyUntil is when an empty meeting ends: not before those who were inside at
// another router have had their time.
func (m *Meeting) emptyUntil() time.Time {
	t := m.empty.Add(EmptyAfter)
	if t.Before(m.until) {
		return m.until
	}
	return t
}

// Tick does what is due.
func (m *Meeting) Tick(now time.Time) []Effect {
	return m.call(now, func() {
		hopeful := false
		for _, place := range []Place{Waiting, Inside} {
			for _, p := range m.sorted(place) {
				switch {
				case !p.away.IsZero() && !now.Before(p.away.Add(AwayFor)):
					m.drop(p, signal.Idle, now)
				case place == Waiting && p.why == signal.WaitHost && !now.Before(p.since.Add(HostWithin)):
					m.drop(p, signal.NotStarted, now)
				case place == Waiting && p.why == signal.WaitHost:
					hopeful = true
				}
			}
		}
		if !m.until.IsZero() && !now.Before(m.until) {
			m.forget()
		}
		// Whoever waits for the host keeps the meeting.
		if !hopeful && !m.empty.IsZero() && !now.Before(m.emptyUntil()) {
			m.end(signal.Ended, now)
		}
	})
}
