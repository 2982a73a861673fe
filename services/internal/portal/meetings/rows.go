package meetings

import (
	"errors"
	"net/url"
	"time"

	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/store"
)

const columns = `m.id, m.kind, m.number, m.topic, m.agenda, m.host_id, u.name, u.email, m.wall, m.timezone, m.duration, m.rule, m.first, m.last,
COALESCE(m.zone_id, ''), m.passcode, m.waiting_room, m.join_before, m.created, m.account_id, m.sequence, m.changed, m.auto_zone, m.auto_at`

const from = " FROM meetings m JOIN users u ON u.id = m.host_id "

func scanMeeting(scan func(...any) error) (*Meeting, error) {
	m := &Meeting{AltHosts: []Person{}}
	var first, last, created, changed, auto int64
	err := scan(&m.ID, &m.Kind, &m.Number, &m.Topic, &m.Agenda, &m.Host.ID, &m.Host.Name, &m.Host.Email, &m.Start, &m.Timezone, &m.Duration, &m.Rule, &first, &last,
		&m.Zone, &m.sealed, &m.WaitingRoom, &m.JoinBeforeHost, &created, &m.account, &m.sequence, &changed, &m.autoZone, &auto)
	m.First, m.Last, m.Created, m.changed, m.autoAt = store.FromMillis(first), store.FromMillis(last), store.FromMillis(created), store.FromMillis(changed), store.FromMillis(auto)
	return m, err
}

// query returns meetings with everything that belongs to them; where is about m
// and u.
func query(tx *store.Tx, now time.Time, where string, args ...any) ([]*Meeting, error) {
	var out []*Meeting
	err := tx.Each(func(scan func(...any) error) error {
		m, err := scanMeeting(scan)
		out = append(out, m)
		return err
	}, "SELECT "+columns+from+where, args...)
	for _, m := range out {
		if err == nil {
			err = m.load(tx, now)
		}
	}
	return out, err
}

// load reads a meeting's alternative hosts, changes, and last run.
func (m *Meeting) load(tx *store.Tx, now time.Time) error {
	err := tx.Each(func(scan func(...any) error) error {
		var p Person
		err := scan(&p.ID, &p.Name, &p.Email)
		m.AltHosts = append(m.AltHosts, p)
		return err
	}, "SELECT u.id, u.name, u.email FROM meeting_hosts h JOIN users u ON u.id = h.user_id WHERE h.meeting_id = ? ORDER BY u.name, u.id", m.ID)
	if err != nil {
		return err
	}
	err = tx.Each(func(scan func(...any) error) error {
		var c change
		var at, start int64
		err := scan(&at, &c.cancelled, &c.topic, &start, &c.duration)
		c.at, c.start = store.FromMillis(at), store.FromMillis(start)
		m.changes = append(m.changes, c)
		return err
	}, "SELECT at, cancelled, topic, start, duration FROM meeting_changes WHERE meeting_id = ? ORDER BY at", m.ID)
	if err != nil {
		return err
	}
	var r Run
	var started, ended int64
	err = tx.Row("SELECT started, ended, peak FROM meeting_runs WHERE meeting_id = ? ORDER BY started DESC, id LIMIT 1", m.ID).Scan(&started, &ended, &r.Peak)
	switch {
	case err == nil:
		r.Started, r.Ended = store.FromMillis(started), store.FromMillis(ended)
		m.Run = &r
	case !errors.Is(err, store.ErrNotFound):
		return err
	}
	if m.Repeat, err = parseRule(m.Rule); err != nil {
		return err
	}
	return m.span(now)
}

// rights are what the actor may do with a meeting; "" is nothing.
func (m *Meeting) rights(who people.Actor) Rights {
	if who.User == "" || who.Account != m.account {
		return ""
	}
	if who.User == m.Host.ID {
		return Own
	}
	for _, p := range m.AltHosts {
		if p.ID == who.User {
			return Alternative
		}
	}
	if who.At(people.Admin) {
		return Look
	}
	return ""
}

// show fills in what the actor may see, and takes away the rest.
func (s *Service) show(m *Meeting, who people.Actor) error {
	m.Rights = m.rights(who)
	link := s.cfg.URL.JoinPath("j", m.Number)
	if m.Rights == Look || m.Rights == "" {
		m.Agenda, m.Link = "", link.String()
		return nil
	}
	p, err := s.cfg.Vault.Open(purposePasscode, m.ID, m.sealed)
	m.Passcode = string(p)
	m.Link = link.String() + "#p=" + url.QueryEscape(m.Passcode)
	return err
}

// get returns a meeting that the actor may see.
func (s *Service) get(tx *store.Tx, who people.Actor, id string) (*Meeting, error) {
	list, err := query(tx, s.cfg.Now(), "WHERE m.id = ? AND m.account_id = ?", id, who.Account)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 || list[0].rights(who) == "" {
		return nil, people.ErrUnknown
	}
	return list[0], s.show(list[0], who)
}

// own returns a meeting that the actor may change.
func (s *Service) own(tx *store.Tx, who people.Actor, id string) (*Meeting, error) {
	m, err := s.get(tx, who, id)
	if err == nil && m.Rights != Own {
		return nil, people.ErrDenied
	}
	return m, err
}

// visible is a condition on m with its arguments: the meetings of the actor
// himself, or with all those of the account, for admins.
func visible(who people.Actor, all bool) (string, []any, error) {
	if all {
		if !who.At(people.Admin) {
			return "", nil, people.ErrDenied
		}
		return "m.account_id = ?", []any{who.Account}, nil
	}
	return "m.account_id = ? AND (m.host_id = ? OR EXISTS (SELECT 1 FROM meeting_hosts h WHERE h.meeting_id = m.id AND h.user_id = ?))",
		[]any{who.Account, who.User, who.User}, nil
}
