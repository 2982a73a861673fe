package meeting

import (
	"time"

	"github.com/parley-meet/parley/services/internal/signal"
	"github.com/parley-meet/parley/services/internal/ticket"
)

// Handle takes a message of a participant that signal.ParseUp found good. A
// refusal is among the effects, as signal.Error to the sender, and its code is
// returned. The media's messages (offer, candidate, view, stats) have no effect
// here: the router goes on with them when the code is "".
func (m *Meeting) Handle(id signal.ID, message signal.Message, now time.Time) (effects []Effect, code signal.Code) {
	p := m.people[id]
	if p == nil {
		return nil, signal.NoSuch
	}
	effects = m.call(now, func() {
		var field string
		if code, field = m.handle(p, message, now); code != "" {
			m.send(id, &signal.Error{Of: message.Kind(), Ref: signal.Ref(message), Code: code, Field: field})
		}
	})
	return effects, code
}

func (m *Meeting) handle(p *person, message signal.Message, now time.Time) (code signal.Code, field string) {
	if _, leave := message.(*signal.Leave); leave {
		m.drop(p, signal.Left, now)
		return "", ""
	}
	if !p.talks.take(now) {
		return signal.TooFast, ""
	}
	if p.place != Inside {
		return signal.NotInside, ""
	}
	switch x := message.(type) {
	case *signal.State:
		return m.state(p, x)
	case *signal.Say:
		return m.say(p, x, now)
	case *signal.React:
		return m.react(p, x)
	case *signal.Command:
		return m.command(p, x, now)
	case *signal.Offer:
		if !p.offers.take(now) {
			return signal.TooFast, ""
		}
		return "", ""
	case *signal.Candidate, *signal.View, *signal.Stats:
		return "", ""
	}
	return signal.NotAllowed, "" // of a router
}

// state is what p changes of himself: all of it, or nothing.
func (m *Meeting) state(p *person, s *signal.State) (signal.Code, string) {
	is := func(v *bool, now bool) bool { return v != nil && *v && !now } // goes on
	if is(s.Microphone, p.Microphone) && !m.mayUnmute(p) {
		return signal.HostMuted, "microphone"
	}
	if is(s.Camera, p.Camera) {
		if p.stopped {
			return signal.HostStopped, "camera"
		}
		if !leads(p.Role) && !m.set.Video {
			return signal.NotOpen, "camera"
		}
	}
	if is(s.Screen, p.Screen) && !leads(p.Role) {
		if !m.set.Share {
			return signal.NotOpen, "screen"
		}
		if m.sharer != 0 {
			return signal.Sharing, "screen"
		}
	}
	if s.Microphone != nil && *s.Microphone != p.Microphone {
		m.gate(p, signal.Microphone, *s.Microphone)
	}
	if s.Camera != nil && *s.Camera != p.Camera {
		m.gate(p, signal.Camera, *s.Camera)
	}
	if s.Screen != nil && *s.Screen != p.Screen {
		// Who leads takes the share over.
		if other := m.people[m.sharer]; *s.Screen && other != nil {
			m.gate(other, signal.Screen, false)
			m.send(other.ID, &signal.Notice{Code: signal.ShareStopped, By: p.ID})
		}
		m.gate(p, signal.Screen, *s.Screen)
	}
	if s.Hand != nil && *s.Hand != (p.Hand > 0) {
		p.Hand = 0
		if *s.Hand {
			m.hands++
			p.Hand = m.hands
		}
		m.changed(p)
	}
	return "", ""
}

func (m *Meeting) mayUnmute(p *person) bool { return leads(p.Role) || m.set.Unmute || p.asked }

// say is a line of chat. The sender gets it too, so that all have one order.
func (m *Meeting) say(p *person, s *signal.Say, now time.Time) (signal.Code, string) {
	to := m.people[s.To]
	if s.To != 0 && (to == nil || to.place != Inside || to == p) {
		return signal.NoSuch, "to"
	}
	if !leads(p.Role) {
		open := false
		switch m.set.Chat {
		case signal.ChatHosts:
			open = to != nil && leads(to.Role)
		case signal.ChatPublic:
			open = to == nil || leads(to.Role)
		case signal.ChatAll:
			open = true
		}
		if !open {
			return signal.NotOpen, "to"
		}
	}
	// One flood would be two hundred.
	if !m.lines.take(now) {
		return signal.TooFast, ""
	}
	line := signal.Line{From: p.ID, Name: p.Name, To: s.To, At: now, Text: s.Text}
	chat := &signal.Chat{Lines: []signal.Line{line}}
	if to != nil {
		m.tell([]signal.ID{p.ID, to.ID}, chat)
		return "", ""
	}
	var all []signal.ID
	for _, q := range m.sorted(Inside) {
		all = append(all, q.ID)
	}
	m.tell(all, chat)
	if m.set.History {
		m.remember(line)
	}
	return "", ""
}

// remember keeps a line for who comes later; the oldest go when there is too much.
func (m *Meeting) remember(line signal.Line) {
	m.history = append(m.history, line)
	m.kept += len(line.Text) + len(line.Name)
	for len(m.history) > maxHistory || m.kept > historySize {
		m.kept -= len(m.history[0].Text) + len(m.history[0].Name)
		m.history = m.history[1:]
	}
}

func (m *Meeting) react(p *person, r *signal.React) (signal.Code, string) {
	if !leads(p.Role) && !m.set.React {
		return signal.NotOpen, ""
	}
	if len(m.pending.reactions) < maxReactions {
		m.pending.reactions = append(m.pending.reactions, signal.Reacted{From: p.ID, Code: r.Code})
	}
	return "", ""
}

// Speaks says who speaks, as the media side finds; 0: nobody.
func (m *Meeting) Speaks(id signal.ID, now time.Time) []Effect {
	return m.call(now, func() {
		if id == m.speaker || id != 0 && (m.people[id] == nil || m.people[id].place != Inside) {
			return
		}
		m.speaker, m.pending.speaker = id, true
	})
}

// may is who may give a command, and to whom.
type may struct {
	least  ticket.Role // of who gives it
	target Place       // where ID must be; Nowhere: it has none
	below  bool        // ID must rank below, but for hosts
	others bool        // ID must be somebody else
}

// The table of permissions. Claim and Rename have rules of their own beside it.
var permissions = map[signal.Do]may{
	signal.Admit:      {least: ticket.Cohost, target: Waiting},
	signal.AdmitAll:   {least: ticket.Cohost},
	signal.Deny:       {least: ticket.Cohost, target: Waiting},
	signal.Mute:       {least: ticket.Cohost, target: Inside},
	signal.MuteAll:    {least: ticket.Cohost},
	signal.AskUnmute:  {least: ticket.Cohost, target: Inside},
	signal.StopVideo:  {least: ticket.Cohost, target: Inside, below: true},
	signal.AskVideo:   {least: ticket.Cohost, target: Inside},
	signal.StopShare:  {least: ticket.Cohost, target: Inside},
	signal.LowerHand:  {least: ticket.Cohost, target: Inside},
	signal.LowerHands: {least: ticket.Cohost},
	signal.Rename:     {least: ticket.Guest, target: Inside},
	signal.Remove:     {least: ticket.Cohost, target: Inside, below: true, others: true},
	signal.Spotlight:  {least: ticket.Cohost, target: Inside},
	signal.MakeCohost: {least: ticket.Host, target: Inside, others: true},
	signal.MakeHost:   {least: ticket.Host, target: Inside, others: true},
	signal.Claim:      {least: ticket.Guest},
	signal.Set:        {least: ticket.Cohost},
	signal.End:        {least: ticket.Host},
}
