package meeting

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/parley-meet/parley/services/internal/ticket"
)

// Report says who was there.
type Report struct {
	Meeting string       `json:"meeting"` // id
	Started time.Time    `json:"started"`
	Ended   time.Time    `json:"ended"`
	Peak    int          `json:"peak"`           // most people at a time
	People  []Attendance `json:"people"`         // by when they first came
	More    int          `json:"more,omitempty"` // who came when there were too many to write down
}

// Attendance is of one person, in however many visits.
type Attendance struct {
	Subject string        `json:"subject"` // of his ticket
	Name    string        `json:"name"`    // the last one
	Role    ticket.Role   `json:"role"`    // of his ticket, the highest
	First   time.Time     `json:"first"`   // came
	Last    time.Time     `json:"last"`    // went
	Present time.Duration `json:"present"` // ns; two devices at a time count twice
	Visits  int           `json:"visits"`
}

// book keeps the report.
type book struct {
	people    map[string]*Attendance
	now, peak int
	more      int
}

func (b *book) enter(p *person, now time.Time) {
	b.now++
	b.peak = max(b.peak, b.now)
	a := b.people[p.subject]
	if a == nil {
		if len(b.people) >= maxReport {
			b.more++
			return
		}
		a = &Attendance{Subject: p.subject, Role: p.claims.Role, First: now}
		b.people[p.subject] = a
	}
	if rank(p.claims.Role) > rank(a.Role) {
		a.Role = p.claims.Role
	}
	a.Name, a.Last = p.Name, now
	a.Visits++
}

func (b *book) leave(p *person, now time.Time) {
	b.now--
	if a := b.people[p.subject]; a != nil {
		a.Name, a.Last = p.Name, now
		a.Present += now.Sub(p.since)
	}
}

// Report says who was there until now.
func (m *Meeting) Report(now time.Time) Report {
	r := Report{Meeting: m.cfg.Meeting.ID, Started: m.started, Ended: now, Peak: m.book.peak, People: []Attendance{}, More: m.book.more}
	for _, key := range slices.Sorted(maps.Keys(m.book.people)) {
		r.People = append(r.People, *m.book.people[key])
	}
	slices.SortStableFunc(r.People, func(a, b Attendance) int {
		if c := a.First.Compare(b.First); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	for _, p := range m.sorted(Inside) {
		if i := slices.IndexFunc(r.People, func(a Attendance) bool { return a.Subject == p.subject }); i >= 0 {
			r.People[i].Present += now.Sub(p.since)
			r.People[i].Last = now
		}
	}
	return r
}
