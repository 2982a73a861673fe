package meeting

import (
	"slices"
	"time"

	"github.com/parley-meet/parley/services/internal/signal"
	"github.com/parley-meet/parley/services/internal/ticket"
)

// command carries out what p wants, if the table lets him.
func (m *Meeting) command(p *person, c *signal.Command, now time.Time) (signal.Code, string) {
	rule, ok := permissions[c.Do]
	if !ok || rank(p.Role) < rank(rule.least) {
		return signal.NotAllowed, ""
	}
	var q *person // the one that it is about
	if rule.target != Nowhere {
		id := c.ID
		if c.Do == signal.Rename && id == 0 {
			id = p.ID
		}
		q = m.people[id]
		if q == nil || q.place != rule.target {
			return signal.NoSuch, "id"
		}
		if c.Do == signal.MakeHost && !q.away.IsZero() {
			return signal.NoSuch, "id"
		}
		if rule.others && q == p || rule.below && q != p && rank(q.Role) >= rank(p.Role) {
			return signal.NotAllowed, "id"
		}
	}
	switch c.Do {
	case signal.Admit:
		if m.cfg.Free() <= 0 {
			return signal.Full, "id"
		}
		m.admit(q, now)
	case signal.AdmitAll:
		return m.admitAll(now), ""
	case signal.Deny:
		m.drop(q, signal.Denied, now)
	case signal.Mute:
		m.mute(q, p)
	case signal.MuteAll:
		for _, q := range m.sorted(Inside) {
			if !leads(q.Role) {
				m.mute(q, p)
			}
		}
		if c.On != nil && *c.On != m.set.Unmute {
			m.set.Unmute, m.pending.settings = *c.On, true
		}
	case signal.AskUnmute:
		q.asked = true
		m.send(q.ID, &signal.Notice{Code: signal.PleaseUnmute, By: p.ID})
	case signal.StopVideo:
		q.stopped = q != p
		m.stopVideo(q, p)
	case signal.AskVideo:
		q.stopped = false
		m.send(q.ID, &signal.Notice{Code: signal.PleaseVideo, By: p.ID})
	case signal.StopShare:
		m.stopShare(q, p)
	case signal.LowerHand:
		m.lower(q, p)
	case signal.LowerHands:
		for _, q := range m.sorted(Inside) {
			m.lower(q, p)
		}
	case signal.Rename:
		return m.rename(q, p, c.Name)
	case signal.Remove:
		// Whose meeting it is is not shut out by who is host in his absence.
		if q.claims.Role == ticket.Host {
			return signal.NotAllowed, "id"
		}
		if len(m.removed) >= maxRemoved {
			return signal.TooMany, ""
		}
		m.removed[q.subject] = true
		m.removeAll(q.subject, now)
	case signal.Spotlight:
		return m.spotlight(q, *c.On)
	case signal.MakeCohost:
		m.cohost(q, p, *c.On)
	case signal.MakeHost:
		m.handOver(p, q)
	case signal.Claim:
		if p.claims.Role != ticket.Host {
			return signal.NotAllowed, ""
		}
		m.claim(p)
	case signal.Set:
		m.change(c.Settings, now)
	case signal.End:
		m.end(signal.Ended, now)
	}
	return "", ""
}

// removeAll takes out all that came with tickets of one person.
func (m *Meeting) removeAll(subject string, now time.Time) {
	for _, place := range []Place{Waiting, Inside} {
		for _, q := range m.sorted(place) {
			if q.subject == subject {
				m.drop(q, signal.Removed, now)
			}
		}
	}
}

// admitAll lets in who waits, as many as the router takes.
func (m *Meeting) admitAll(now time.Time) signal.Code {
	free := m.cfg.Free()
	for _, q := range m.sorted(Waiting) {
		if free <= 0 {
			return signal.Full
		}
		free--
		m.admit(q, now)
	}
	return ""
}

// mute mutes q. He who was asked to unmute is asked no more.
func (m *Meeting) mute(q, by *person) {
	q.asked = false
	if !q.Microphone {
		return
	}
	m.gate(q, signal.Microphone, false)
	if q != by {
		m.send(q.ID, &signal.Notice{Code: signal.WasMuted, By: by.ID})
	}
}

func (m *Meeting) stopVideo(q, by *person) {
	if !q.Camera {
		return
	}
	m.gate(q, signal.Camera, false)
	if q != by {
		m.send(q.ID, &signal.Notice{Code: signal.WasStopped, By: by.ID})
	}
}

func (m *Meeting) stopShare(q, by *person) {
	if !q.Screen {
		return
	}
	m.gate(q, signal.Screen, false)
	if q != by {
		m.send(q.ID, &signal.Notice{Code: signal.ShareStopped, By: by.ID})
	}
}

func (m *Meeting) lower(q, by *person) {
	if q.Hand == 0 {
		return
	}
	q.Hand = 0
	m.changed(q)
	if q != by {
		m.send(q.ID, &signal.Notice{Code: signal.HandLowered, By: by.ID})
	}
}

func (m *Meeting) rename(q, by *person, name string) (signal.Code, string) {
	switch {
	case q == by && !leads(by.Role) && !m.set.Rename:
		return signal.NotOpen, "name"
	case q != by && (!leads(by.Role) || rank(q.Role) > rank(by.Role)):
		return signal.NotAllowed, "id"
	}
	q.Name = name
	m.changed(q)
	if q != by {
		m.send(q.ID, &signal.Notice{Code: signal.WasRenamed, By: by.ID})
	}
	return "", ""
}

func (m *Meeting) spotlight(q *person, on bool) (signal.Code, string) {
	i := slices.Index(m.set.Spotlight, q.ID)
	switch {
	case on == (i >= 0):
		return "", ""
	case !on:
		m.set.Spotlight = slices.Delete(m.set.Spotlight, i, i+1)
	case len(m.set.Spotlight) >= signal.MaxSpotlight:
		return signal.TooMany, "id"
	default:
		m.set.Spotlight = append(m.set.Spotlight, q.ID)
	}
	m.spot()
	return "", ""
}

// cohost makes q a cohost, or no cohost.
func (m *Meeting) cohost(q, by *person, on bool) {
	was := q.Role
	q.Role = plain(q.claims.Role)
	code := signal.NotCohost
	if on {
		q.Role, code = ticket.Cohost, signal.YouCohost
	}
	if q.base = q.Role; q.Role == was {
		return
	}
	m.send(q.ID, &signal.Notice{Code: code, By: by.ID})
	if on {
		m.promoted(q, was)
	} else {
		m.demoted(q)
	}
}

// plain is what is left of a role when nobody leads.
func plain(r ticket.Role) ticket.Role {
	if leads(r) {
		return ticket.Participant
	}
	return r
}

// handOver makes q host. The one before stays a cohost, unless he was host for
// want of another.
func (m *Meeting) handOver(p, q *person) {
	was := q.Role
	if !p.acting {
		p.base = ticket.Cohost
	}
	p.Role, p.acting = p.base, false
	m.demoted(p)
	q.Role, q.acting = ticket.Host, false
	m.send(p.ID, &signal.Notice{Code: signal.NotHost, By: q.ID})
	m.send(q.ID, &signal.Notice{Code: signal.YouHost, By: p.ID})
	m.promoted(q, was)
}

// claim makes p host, whose ticket says that he is.
func (m *Meeting) claim(p *person) {
	h := m.host()
	if h == p {
		return
	}
	if h != nil {
		h.Role, h.acting = h.base, false
		m.send(h.ID, &signal.Notice{Code: signal.NotHost, By: p.ID})
		m.demoted(h)
	}
	was := p.Role
	p.Role, p.acting = ticket.Host, false
	m.send(p.ID, &signal.Notice{Code: signal.YouHost})
	m.promoted(p, was)
}

// change sets settings.
func (m *Meeting) change(c *signal.Change, now time.Time) {
	was := m.set
	for _, s := range []struct {
		to   *bool
		want *bool
	}{{&m.set.Locked, c.Locked}, {&m.set.WaitingRoom, c.WaitingRoom}, {&m.set.MuteOnJoin, c.MuteOnJoin}, {&m.set.Unmute, c.Unmute},
		{&m.set.Video, c.Video}, {&m.set.Share, c.Share}, {&m.set.Rename, c.Rename}, {&m.set.React, c.React}, {&m.set.History, c.History}} {
		if s.want != nil {
			*s.to = *s.want
		}
	}
	if c.Chat != nil {
		m.set.Chat = *c.Chat
	}
	m.pending.settings = true
	if !m.set.History {
		m.history, m.kept = nil, 0
	}
	if was.WaitingRoom && !m.set.WaitingRoom {
		m.admitAll(now)
	}
	// What is closed to people stops.
	for _, q := range m.sorted(Inside) {
		if leads(q.Role) {
			continue
		}
		if was.Video && !m.set.Video && q.Camera {
			m.gate(q, signal.Camera, false)
			m.send(q.ID, &signal.Notice{Code: signal.WasStopped})
		}
		if was.Share && !m.set.Share && q.Screen {
			m.gate(q, signal.Screen, false)
			m.send(q.ID, &signal.Notice{Code: signal.ShareStopped})
		}
	}
}
