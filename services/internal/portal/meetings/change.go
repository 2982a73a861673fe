package meetings

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/store"
)

// listLimit is how many meetings a list has.
const listLimit = 200

// List returns the caller's meetings, or with all those of the account: upcoming
// ones, the next first, or past ones, the latest first; listLimit at most.
func (s *Service) List(ctx context.Context, who people.Actor, past, all bool) ([]*Meeting, error) {
	out := []*Meeting{}
	where, args, err := visible(who, all)
	if err != nil {
		return nil, err
	}
	now := s.cfg.Now()
	end := " AND m.last > ? ORDER BY m.first, m.id LIMIT ?"
	if past {
		end = " AND m.last <= ? ORDER BY m.last DESC, m.id LIMIT ?"
	}
	limit := listLimit
	if !past {
		limit = maxMeetings // the next are known only when all are
	}
	err = s.cfg.DB.Read(ctx, func(tx *store.Tx) error {
		list, err := query(tx, now, "WHERE m.kind <> ? AND "+where+end, append(append([]any{string(Room)}, args...), store.Millis(now), limit)...)
		out = list
		return err
	})
	if err != nil {
		return nil, err
	}
	if !past {
		out = slices.DeleteFunc(out, func(m *Meeting) bool { return m.Next == nil })
		slices.SortStableFunc(out, func(a, b *Meeting) int { return a.Next.Start.Compare(b.Next.Start) })
		out = out[:min(len(out), listLimit)]
	}
	for _, m := range out {
		if err := s.show(m, who); err != nil {
			return nil, err
		}
	}
	if out == nil {
		out = []*Meeting{}
	}
	return out, nil
}

// Upcoming returns the caller's next n meetings, for an overview.
func (s *Service) Upcoming(ctx context.Context, who people.Actor, n int) ([]*Meeting, error) {
	list, err := s.List(ctx, who, false, false)
	return list[:min(n, len(list))], err
}

// Get returns a meeting.
func (s *Service) Get(ctx context.Context, who people.Actor, id string) (m *Meeting, err error) {
	err = s.cfg.DB.Read(ctx, func(tx *store.Tx) error {
		m, err = s.get(tx, who, id)
		return err
	})
	return m, err
}

// Occurrences returns all of a meeting's.
func (s *Service) Occurrences(ctx context.Context, who people.Actor, id string) ([]Occurrence, error) {
	m, err := s.Get(ctx, who, id)
	if err != nil {
		return nil, err
	}
	list, err := m.occurrences()
	slices.SortStableFunc(list, func(a, b Occurrence) int { return a.Start.Compare(b.Start) })
	if list == nil {
		list = []Occurrence{}
	}
	return list, err
}

// host returns the caller, who must be one that may host; zone is one that he
// wants, or "".
func (s *Service) host(tx *store.Tx, who people.Actor, zone string) (people.User, error) {
	u, err := people.GetUser(tx, who.User)
	if err != nil || u.Account != who.Account {
		return u, cmp.Or(err, people.ErrUnknown)
	}
	h, err := hosting(tx, u)
	if err != nil {
		return u, err
	}
	if !h.Allowed {
		return u, fault.New("", "host-"+h.Why)
	}
	if zone != "" && !slices.ContainsFunc(h.Zones, func(z Zone) bool { return z.ID == zone }) {
		return u, fault.New("zone", "meeting-zone")
	}
	return u, nil
}

// altHosts returns the ids of people of the account by their addresses.
func altHosts(tx *store.Tx, host people.User, emails []string) ([]string, error) {
	var l fault.List
	var ids []string
	for _, e := range emails {
		u, err := people.FindUser(tx, e)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
		switch {
		case err != nil || u.Account != host.Account:
			l.Add("alternativeHosts", "meeting-host", api.Cut(e, 100))
		case u.ID != host.ID:
			ids = append(ids, u.ID)
		}
	}
	return ids, l.Err()
}

// number returns one that no meeting has.
func number(tx *store.Tx, n int) (string, error) {
	for {
		d := digits(n)
		var have int
		if err := tx.Row("SELECT COUNT(*) FROM meetings WHERE number = ?", d).Scan(&have); err != nil || have == 0 {
			return d, err
		}
	}
}

func nullable(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// insert writes a new meeting; ID, Number and Passcode are filled in.
func (s *Service) insert(tx *store.Tx, m *Meeting, now time.Time) (err error) {
	m.ID = store.NewID()
	n := newDigits
	if m.Kind == Room {
		n = roomDigits
	}
	if m.Number, err = number(tx, n); err != nil {
		return err
	}
	m.Passcode = cmp.Or(m.Passcode, newPasscode())
	_, err = tx.Exec(`INSERT INTO meetings (id, account_id, host_id, kind, number, topic, agenda, wall, timezone, duration, rule, first, last, zone_id, passcode, waiting_room, join_before, created, changed)
VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)`, m.ID, m.account, m.Host.ID, string(m.Kind), m.Number, m.Topic, m.Agenda, m.Start, m.Timezone, m.Duration, m.Rule,
		store.Millis(m.First), store.Millis(m.Last), nullable(m.Zone), s.cfg.Vault.Seal(purposePasscode, m.ID, []byte(m.Passcode)), m.WaitingRoom, m.JoinBeforeHost, store.Millis(now), store.Millis(now))
	return err
}

func setAltHosts(tx *store.Tx, id string, users []string) error {
	if _, err := tx.Exec("DELETE FROM meeting_hosts WHERE meeting_id = ?", id); err != nil {
		return err
	}
	for _, u := range users {
		if _, err := tx.Exec("INSERT INTO meeting_hosts (meeting_id, user_id) VALUES (?,?)", id, u); err != nil {
			return err
		}
	}
	return nil
}

// fill puts what was checked into a meeting.
func (m *Meeting) fill(in Input, p plan) {
	m.Topic, m.Agenda, m.Timezone, m.Duration, m.Zone, m.WaitingRoom, m.JoinBeforeHost = in.Topic, in.Agenda, in.Timezone, in.Duration, in.Zone, in.WaitingRoom, in.JoinBeforeHost
	m.Start, m.Rule = p.wall.Format(wallFormat), p.rule
}

// Schedule adds a meeting of the caller.
func (s *Service) Schedule(ctx context.Context, who people.Actor, in Input) (*Meeting, error) {
	p, err := in.check()
	if err != nil {
		return nil, err
	}
	var out *Meeting
	err = s.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		now := s.cfg.Now()
		u, err := s.host(tx, who, in.Zone)
		if err != nil {
			return err
		}
		alts, err := altHosts(tx, u, in.AltHosts)
		if err != nil {
			return err
		}
		m := &Meeting{Kind: Scheduled, account: u.Account, Host: Person{ID: u.ID}, Passcode: in.Passcode}
		m.fill(in, p)
		if err := m.span(now); err != nil {
			return err
		}
		if m.Next == nil {
			return fault.New("start", "meeting-past")
		}
		if err := s.room(tx, u, now); err != nil {
			return err
		}
		if err := s.insert(tx, m, now); err != nil {
			return err
		}
		if err := setAltHosts(tx, m.ID, alts); err != nil {
			return err
		}
		if err := people.Audit(tx, who, "meeting.create", m.ID, map[string]any{"topic": m.Topic, "number": m.Number}); err != nil {
			return err
		}
		out, err = s.get(tx, who, m.ID)
		return err
	})
	return out, err
}

// room refuses a meeting more than a person may have.
func (s *Service) room(tx *store.Tx, u people.User, now time.Time) error {
	var n int
	err := tx.Row("SELECT COUNT(*) FROM meetings WHERE host_id = ? AND last > ?", u.ID, store.Millis(now)).Scan(&n)
	if err == nil && n >= maxMeetings {
		return fault.New("", "meeting-many", maxMeetings)
	}
	return err
}

// Begin makes a meeting that starts now. It is listed for a day.
func (s *Service) Begin(ctx context.Context, who people.Actor, topic string) (*Meeting, error) {
	var l fault.List
	topic = line(&l, "topic", topic, maxTopic, true)
	if err := l.Err(); err != nil {
		return nil, err
	}
	var out *Meeting
	err := s.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		now := s.cfg.Now()
		u, err := s.host(tx, who, "")
		if err != nil {
			return err
		}
		if err := s.room(tx, u, now); err != nil {
			return err
		}
		m := &Meeting{Kind: Instant, account: u.Account, Host: Person{ID: u.ID}, Topic: topic, Timezone: "UTC", Duration: maxDuration,
			Start: now.UTC().Format(wallFormat), WaitingRoom: true}
		if err := m.span(now); err != nil {
			return err
		}
		if err := s.insert(tx, m, now); err != nil {
			return err
		}
		if err := people.Audit(tx, who, "meeting.create", m.ID, map[string]any{"topic": m.Topic, "number": m.Number}); err != nil {
			return err
		}
		out, err = s.get(tx, who, m.ID)
		return err
	})
	return out, err
}

// MyRoom returns the caller's personal room, which is made when it is first
// asked for.
func (s *Service) MyRoom(ctx context.Context, who people.Actor) (*Meeting, error) {
	var out *Meeting
	find := func(tx *store.Tx) error {
		var id string
		err := tx.Row("SELECT id FROM meetings WHERE host_id = ? AND account_id = ? AND kind = ?", who.User, who.Account, string(Room)).Scan(&id)
		if err == nil {
			out, err = s.get(tx, who, id)
		}
		return err
	}
	if err := s.cfg.DB.Read(ctx, find); !errors.Is(err, store.ErrNotFound) {
		return out, err
	}
	err := s.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		if err := find(tx); !errors.Is(err, store.ErrNotFound) {
			return err // made meanwhile
		}
		u, err := s.host(tx, who, "")
		if err != nil {
			return err
		}
		m := &Meeting{Kind: Room, account: u.Account, Host: Person{ID: u.ID}, Topic: u.Name, Timezone: "UTC", WaitingRoom: true}
		if err := s.insert(tx, m, s.cfg.Now()); err != nil {
			return err
		}
		return find(tx)
	})
	return out, err
}

// RoomInput is what can be changed of a room.
type RoomInput struct {
	Topic string `json:"topic"`
	Options
}

// SetRoom changes the caller's room.
func (s *Service) SetRoom(ctx context.Context, who people.Actor, in RoomInput) (*Meeting, error) {
	var l fault.List
	in.Topic = line(&l, "topic", in.Topic, maxTopic, true)
	in.Options.check(&l)
	if err := l.Err(); err != nil {
		return nil, err
	}
	room, err := s.MyRoom(ctx, who)
	if err != nil {
		return nil, err
	}
	err = s.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		m, err := s.own(tx, who, room.ID)
		if err != nil {
			return err
		}
		m.Topic, m.WaitingRoom, m.JoinBeforeHost = in.Topic, in.WaitingRoom, in.JoinBeforeHost
		m.Passcode = cmp.Or(in.Passcode, m.Passcode)
		if err := s.update(tx, m); err != nil {
			return err
		}
		if err := people.Audit(tx, who, "meeting.change", m.ID, map[string]any{"topic": m.Topic}); err != nil {
			return err
		}
		room, err = s.get(tx, who, m.ID)
		return err
	})
	return room, err
}

// update writes a meeting that was changed; its calendar file becomes a newer
// one.
func (s *Service) update(tx *store.Tx, m *Meeting) error {
	_, err := tx.Exec(`UPDATE meetings SET topic = ?, agenda = ?, wall = ?, timezone = ?, duration = ?, rule = ?, first = ?, last = ?, zone_id = ?, passcode = ?,
waiting_room = ?, join_before = ?, sequence = sequence + 1, changed = ? WHERE id = ?`, m.Topic, m.Agenda, m.Start, m.Timezone, m.Duration, m.Rule, store.Millis(m.First), store.Millis(m.Last),
		nullable(m.Zone), s.cfg.Vault.Seal(purposePasscode, m.ID, []byte(m.Passcode)), m.WaitingRoom, m.JoinBeforeHost, store.Millis(s.cfg.Now()), m.ID)
	return err
}

// Change makes one of the caller's scheduled meetings another. Changes of single
// occurrences stay where the rule still has them.
func (s *Service) Change(ctx context.Context, who people.Actor, id string, in Input) (*Meeting, error) {
	p, err := in.check()
	if err != nil {
		return nil, err
	}
	var out *Meeting
	err = s.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		m, err := s.own(tx, who, id)
		if err != nil {
			return err
		}
		if m.Kind != Scheduled {
			return people.ErrDenied
		}
		u, err := s.host(tx, who, in.Zone)
		if err != nil {
			return err
		}
		alts, err := altHosts(tx, u, in.AltHosts)
		if err != nil {
			return err
		}
		m.fill(in, p)
		m.Passcode = cmp.Or(in.Passcode, m.Passcode)
		kept := m.changes
		m.changes = nil
		list, err := m.occurrences()
		if err != nil {
			return err
		}
		for _, c := range kept {
			if slices.ContainsFunc(list, func(o Occurrence) bool { return o.at.Equal(c.at) }) {
				m.changes = append(m.changes, c)
			} else if _, err := tx.Exec("DELETE FROM meeting_changes WHERE meeting_id = ? AND at = ?", m.ID, store.Millis(c.at)); err != nil {
				return err
			}
		}
		if err := m.span(s.cfg.Now()); err != nil {
			return err
		}
		if err := s.update(tx, m); err != nil {
			return err
		}
		if err := setAltHosts(tx, m.ID, alts); err != nil {
			return err
		}
		if err := people.Audit(tx, who, "meeting.change", m.ID, map[string]any{"topic": m.Topic, "number": m.Number}); err != nil {
			return err
		}
		out, err = s.get(tx, who, m.ID)
		return err
	})
	return out, err
}

// Delete removes one of the caller's meetings.
func (s *Service) Delete(ctx context.Context, who people.Actor, id string) error {
	return s.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		m, err := s.own(tx, who, id)
		if err != nil {
			return err
		}
		if _, err := tx.Exec("DELETE FROM meetings WHERE id = ?", m.ID); err != nil {
			return err
		}
		return people.Audit(tx, who, "meeting.delete", m.ID, map[string]any{"topic": m.Topic, "number": m.Number})
	})
}

// OccurrenceInput changes one occurrence.
type OccurrenceInput struct {
	Topic    string `json:"topic"` // "": the meeting's
	Start    string `json:"start"` // by the meeting's clocks
	Duration int    `json:"duration"`
}

// ChangeOccurrence makes one occurrence of a meeting another; in nil cancels it.
func (s *Service) ChangeOccurrence(ctx context.Context, who people.Actor, id, occurrence string, in *OccurrenceInput) error {
	var l fault.List
	var wall time.Time
	if in != nil {
		var err error
		in.Topic = line(&l, "topic", in.Topic, maxTopic, false)
		if wall, err = time.Parse(wallFormat, in.Start); err != nil || wall.Year() < 2000 || wall.Year() > 2200 {
			l.Add("start", "meeting-start")
		}
		if in.Duration < 1 || in.Duration > maxDuration {
			l.Add("duration", "meeting-duration", maxDuration)
		}
	}
	if err := l.Err(); err != nil {
		return err
	}
	return s.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		m, err := s.own(tx, who, id)
		if err != nil {
			return err
		}
		if m.Rule == "" {
			return people.ErrUnknown
		}
		list, err := m.occurrences()
		if err != nil {
			return err
		}
		n := slices.IndexFunc(list, func(o Occurrence) bool { return o.ID == occurrence })
		if n < 0 {
			return people.ErrUnknown
		}
		c := change{at: list[n].at, cancelled: in == nil}
		action := "meeting.cancel"
		if in != nil {
			loc, err := time.LoadLocation(m.Timezone)
			if err != nil {
				return err
			}
			c.topic, c.start, c.duration = in.Topic, resolve(wall, loc), in.Duration
			action = "meeting.change"
		}
		if _, err := tx.Exec("DELETE FROM meeting_changes WHERE meeting_id = ? AND at = ?", m.ID, store.Millis(c.at)); err != nil {
			return err
		}
		if _, err := tx.Exec("INSERT INTO meeting_changes (meeting_id, at, cancelled, topic, start, duration) VALUES (?,?,?,?,?,?)",
			m.ID, store.Millis(c.at), c.cancelled, c.topic, store.Millis(c.start), c.duration); err != nil {
			return err
		}
		m.changes = slices.DeleteFunc(m.changes, func(o change) bool { return o.at.Equal(c.at) })
		m.changes = append(m.changes, c)
		if err := m.span(s.cfg.Now()); err != nil {
			return err
		}
		if err := s.update(tx, m); err != nil {
			return err
		}
		return people.Audit(tx, who, action, m.ID, map[string]any{"topic": m.Topic, "occurrence": occurrence})
	})
}
