package meetings

import (
	"context"
	"crypto/subtle"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/portal/live"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/store"
	"github.com/parley-meet/parley/services/internal/ticket"
)

var errNoKey = errors.New("there is no key that signs tickets yet")

// State says what came of an attempt to join.
type State string

// The states.
const (
	Ready        State = "ready"         // there is a ticket
	Waiting      State = "waiting"       // for the host
	NoController State = "no-controller" // none of the zone runs
	NotAllowed   State = "not-allowed"   // the host may not host now
)

// RetryAfter is when to try again where a try may succeed later.
const RetryAfter = 5 * time.Second

// maxOrigins bounds what a page gets.
const maxOrigins = 8

// autoLimit is how long the zone that was chosen for a meeting stays chosen, so
// that everybody comes to the same.
const autoLimit = 12 * time.Hour

// JoinInput is who wants in.
type JoinInput struct {
	Number   string `json:"number"`
	Passcode string `json:"passcode,omitempty"`
	Name     string `json:"name,omitempty"` // of a guest
}

// Joined is what came of it. The ticket goes to the controller in a fragment or
// a body, never in a query.
type Joined struct {
	State   State       `json:"state"`
	Why     string      `json:"why,omitempty"` // of not-allowed, for hosts: Hosting.Why
	Topic   string      `json:"topic"`
	Role    ticket.Role `json:"role"`
	Ticket  string      `json:"ticket,omitempty"`
	Expires time.Time   `json:"expires,omitzero"`
	Origins []string    `json:"origins,omitempty"` // of controllers that run, https
	Again   int         `json:"again,omitempty"`   // seconds until the next try makes sense
}

// Join lets somebody in by number and passcode. who may be nobody. A number that
// there is not and a passcode that is wrong are the same fault.
func (s *Service) Join(ctx context.Context, who people.Actor, from netip.Addr, in JoinInput) (Joined, error) {
	var l fault.List
	digits := ParseNumber(in.Number)
	if digits == "" {
		l.Add("number", "meeting-number")
	}
	in.Name = line(&l, "name", in.Name, maxName, false)
	in.Passcode = strings.TrimSpace(in.Passcode)
	if err := l.Err(); err != nil {
		return Joined{}, err
	}
	var m *Meeting
	err := s.cfg.DB.Read(ctx, func(tx *store.Tx) error {
		m = nil
		list, err := query(tx, s.cfg.Now(), "WHERE m.number = ? AND u.state = ?", digits, string(people.Active))
		if len(list) == 1 {
			m = list[0]
		}
		return err
	})
	if err != nil {
		return Joined{}, err
	}
	role := ticket.Guest
	if m != nil {
		role = m.role(who)
	}
	if role != ticket.Host {
		wait, done := s.guard.enter(from, digits, s.cfg.Now())
		if wait > 0 {
			return Joined{}, api.Throttled{Wait: wait}
		}
		right := s.passes(m, in.Passcode)
		// A form without a passcode asks whether one is needed; it is no guess.
		done(right || in.Passcode == "")
		if !right {
			return Joined{}, fault.New("passcode", "meeting-wrong")
		}
	}
	if role == ticket.Guest {
		if in.Name == "" {
			return Joined{}, fault.New("name", "required")
		}
	} else {
		in.Name = who.Name
	}
	return s.admit(ctx, who, m, role, in.Name)
}

// passes compares a passcode; a meeting that is not there takes as long.
func (s *Service) passes(m *Meeting, passcode string) bool {
	row, sealed := "", s.decoy
	if m != nil {
		row, sealed = m.ID, m.sealed
	}
	want, err := s.cfg.Vault.Open(purposePasscode, row, sealed)
	same := subtle.ConstantTimeCompare(want, []byte(passcode)) == 1
	return err == nil && same && m != nil
}

// role is what somebody is in a meeting.
func (m *Meeting) role(who people.Actor) ticket.Role {
	switch {
	case who.User == "" || who.Token != "" || who.Account != m.account:
		return ticket.Guest
	case m.rights(who) == Own, m.rights(who) == Alternative:
		return ticket.Host
	}
	return ticket.Participant
}

// Mine returns the meeting of a number that the caller may start, or
// people.ErrUnknown.
func (s *Service) Mine(ctx context.Context, who people.Actor, number string) (*Meeting, error) {
	var m *Meeting
	err := s.cfg.DB.Read(ctx, func(tx *store.Tx) error {
		m = nil
		list, err := query(tx, s.cfg.Now(), "WHERE m.number = ? AND m.account_id = ?", number, who.Account)
		if err != nil {
			return err
		}
		if len(list) != 1 || list[0].role(who) != ticket.Host {
			return people.ErrUnknown
		}
		m = list[0]
		return s.show(m, who)
	})
	return m, err
}

// Start lets a host into his meeting.
func (s *Service) Start(ctx context.Context, who people.Actor, id string) (Joined, error) {
	m, err := s.Get(ctx, who, id)
	if err != nil {
		return Joined{}, err
	}
	if m.Rights != Own && m.Rights != Alternative {
		return Joined{}, people.ErrDenied
	}
	return s.admit(ctx, who, m, ticket.Host, who.Name)
}

// admit makes the ticket of somebody who may enter, when the meeting can be held.
func (s *Service) admit(ctx context.Context, who people.Actor, m *Meeting, role ticket.Role, name string) (Joined, error) {
	out := Joined{Topic: m.Topic, Role: role}
	now := s.cfg.Now()
	var h Hosting
	var started string
	err := s.cfg.DB.Read(ctx, func(tx *store.Tx) error {
		u, err := people.GetUser(tx, m.Host.ID)
		if err != nil {
			return err
		}
		if h, err = hosting(tx, u); err != nil {
			return err
		}
		started, err = Started(tx, m.ID, now)
		return err
	})
	if err != nil {
		return out, err
	}
	candidates := m.candidates(h, started, now)
	if len(candidates) == 0 {
		out.State, out.Again = NotAllowed, api.Seconds(6*RetryAfter)
		if role == ticket.Host {
			out.Why = h.Why
		}
		return out, nil
	}
	zone, running := "", []live.Controller(nil)
	for _, z := range candidates {
		if running, err = s.controllers(ctx, z); err != nil {
			return out, err
		}
		if len(running) > 0 {
			zone = z
			break
		}
	}
	switch {
	case zone == "":
		out.State, out.Again = NoController, api.Seconds(RetryAfter)
		return out, nil
	case role != ticket.Host && !m.JoinBeforeHost && started == "":
		out.State, out.Again = Waiting, api.Seconds(RetryAfter)
		return out, nil
	}
	c := ticket.Claims{Issuer: s.cfg.URL.String(), Zone: zone, Subject: who.User, ID: ticket.NewID(), Account: m.account, Name: name, Role: role,
		Meeting: ticket.Meeting{ID: m.ID, Number: m.Number, Topic: m.Topic, WaitingRoom: m.WaitingRoom, JoinBeforeHost: m.JoinBeforeHost, Test: slices.ContainsFunc(h.Zones, func(z Zone) bool { return z.ID == zone && z.Test })},
		Issued:  now, Expires: now.Add(ticket.TTL)}
	if role == ticket.Guest {
		c.Subject = "guest-" + ticket.NewID()
	}
	var key ticket.Key
	err = s.cfg.DB.Write(ctx, func(tx *store.Tx) (err error) {
		if m.Zone == "" && (m.autoZone != zone || now.Sub(m.autoAt) > autoLimit/2) {
			if _, err := tx.Exec("UPDATE meetings SET auto_zone = ?, auto_at = ? WHERE id = ?", zone, store.Millis(now), m.ID); err != nil {
				return err
			}
		}
		if role == ticket.Host && started == "" {
			if err := people.Audit(tx, who, "meeting.start", m.ID, map[string]any{"topic": m.Topic, "number": m.Number}); err != nil {
				return err
			}
		}
		if key, err = s.signer(tx, now); errors.Is(err, errNoKey) {
			if _, err = s.turn(tx, now); err == nil {
				if err = touchAll(tx); err == nil {
					key, err = s.signer(tx, now)
				}
			}
		}
		return err
	})
	if err != nil {
		return out, err
	}
	if out.Ticket, err = ticket.Sign(key, c); err != nil {
		return out, err
	}
	out.State, out.Expires = Ready, c.Expires
	for _, r := range running {
		for _, o := range r.Origins() {
			if len(out.Origins) < maxOrigins && !slices.Contains(out.Origins, o) {
				out.Origins = append(out.Origins, o)
			}
		}
	}
	s.cfg.Log.Info("ticket", "meeting", m.ID, "zone", zone, "role", string(role), "subject", c.Subject, "id", c.ID)
	return out, nil
}

// candidates are the zones in which the meeting may be held, the best first: of
// those that its host may use the one where it runs already, the one that was
// chosen for it, the others.
func (m *Meeting) candidates(h Hosting, started string, now time.Time) []string {
	if !h.Allowed {
		return nil
	}
	usable := func(id string) bool {
		return id != "" && slices.ContainsFunc(h.Zones, func(z Zone) bool { return z.ID == id })
	}
	if m.Zone != "" {
		if usable(m.Zone) {
			return []string{m.Zone}
		}
		return nil
	}
	var out []string
	if usable(started) {
		return []string{started}
	}
	if usable(m.autoZone) && now.Sub(m.autoAt) < autoLimit {
		out = append(out, m.autoZone)
	}
	for _, z := range h.Zones {
		if !slices.Contains(out, z.ID) {
			out = append(out, z.ID)
		}
	}
	return out
}

// controllers returns those of a zone that run and that browsers can reach.
func (s *Service) controllers(ctx context.Context, zone string) ([]live.Controller, error) {
	if s.cfg.Controllers == nil {
		return nil, nil
	}
	list, err := s.cfg.Controllers(ctx, zone)
	return slices.DeleteFunc(list, func(c live.Controller) bool { return len(c.Origins()) == 0 }), err
}
