package meetings

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/teambition/rrule-go"

	"github.com/parley-meet/parley/services/internal/portal/people"
)

// Calendar returns a meeting as an iCalendar file (RFC 5545) that calendars take
// in: its UID stays the same, its SEQUENCE grows with each change. A meeting that
// recurs is by the clocks of its zone, which the file describes for as long as
// the meeting recurs; another is in UTC. describe returns the text of the
// invitation.
func (s *Service) Calendar(ctx context.Context, who people.Actor, id string, describe func(*Meeting) string) ([]byte, error) {
	m, err := s.Get(ctx, who, id)
	if err != nil {
		return nil, err
	}
	if m.Start == "" {
		return nil, people.ErrUnknown // a room has no time
	}
	return m.calendar(s.cfg.URL.Hostname(), describe(m))
}

const (
	icsUTC   = "20060102T150405Z"
	icsLocal = "20060102T150405"
)

func (m *Meeting) calendar(host, description string) ([]byte, error) {
	loc, err := time.LoadLocation(m.Timezone)
	if err != nil {
		return nil, err
	}
	list, err := m.occurrences()
	if err != nil {
		return nil, err
	}
	var w ics
	w.line("BEGIN", "VCALENDAR")
	w.line("VERSION", "2.0")
	w.line("PRODID", "-//Parley//Portal//EN")
	w.line("CALSCALE", "GREGORIAN")
	w.line("METHOD", "PUBLISH")
	// at writes a time: of a meeting that recurs by the clocks of its zone.
	at := func(name string, t time.Time) {
		if m.Rule == "" {
			w.line(name, t.UTC().Format(icsUTC))
		} else {
			w.line(name+";TZID="+m.Timezone, t.In(loc).Format(icsLocal))
		}
	}
	event := func(o Occurrence) {
		w.line("BEGIN", "VEVENT")
		w.line("UID", m.ID+"@"+host)
		w.line("DTSTAMP", m.changed.UTC().Format(icsUTC))
		w.line("SEQUENCE", fmt.Sprint(m.sequence))
		w.text("SUMMARY", o.Topic)
		w.text("DESCRIPTION", description)
		w.text("LOCATION", m.Link)
		w.line("URL", m.Link)
		w.line("ORGANIZER;CN="+quoted(m.Host.Name), "mailto:"+m.Host.Email)
		at("DTSTART", o.Start)
		w.line("DURATION", fmt.Sprintf("PT%dM", int(o.End.Sub(o.Start)/time.Minute)))
	}
	if m.Rule != "" && len(list) > 0 {
		first, last := list[0].at, list[len(list)-1].at
		for _, c := range m.changes {
			if !c.cancelled && c.start.Before(first) {
				first = c.start
			}
			if c.start.After(last) {
				last = c.start
			}
		}
		w.zone(m.Timezone, loc, first.Add(-24*time.Hour), last.Add(24*time.Hour))
	}
	if len(list) > 0 {
		base := list[0]
		base.Start, base.End, base.Topic = base.at, base.at.Add(time.Duration(m.Duration)*time.Minute), m.Topic
		event(base)
	}
	if m.Rule != "" {
		rule, err := calendarRule(m.Rule, loc)
		if err != nil {
			return nil, err
		}
		w.line("RRULE", rule)
		for _, o := range list {
			if o.Cancelled {
				at("EXDATE", o.at)
			}
		}
	}
	w.line("END", "VEVENT")
	for _, o := range list {
		if !o.Changed {
			continue
		}
		event(o)
		at("RECURRENCE-ID", o.at)
		w.line("END", "VEVENT")
	}
	w.line("END", "VCALENDAR")
	return w.b.Bytes(), nil
}

// calendarRule is the rule with its end in UTC, which RFC 5545, 3.3.10 wants
// where the start names a zone.
func calendarRule(rule string, loc *time.Location) (string, error) {
	o, err := rrule.StrToROption(rule)
	if err != nil {
		return "", err
	}
	if !o.Until.IsZero() {
		o.Until = resolve(o.Until, loc).UTC()
	}
	o.Dtstart = time.Time{}
	return ruleText(*o), nil
}

// ics writes lines of iCalendar, folded after 75 octets (RFC 5545, 3.1).
type ics struct{ b bytes.Buffer }

func (w *ics) line(name, value string) {
	s := name + ":" + value
	for limit := 75; len(s) > limit; limit = 74 { // a folded line begins with a space
		n := limit
		for !utf8.RuneStart(s[n]) {
			n--
		}
		w.b.WriteString(s[:n] + "\r\n ")
		s = s[n:]
	}
	w.b.WriteString(s + "\r\n")
}

// text writes a value of type TEXT (RFC 5545, 3.3.11).
func (w *ics) text(name, value string) {
	w.line(name, strings.NewReplacer(`\`, `\\`, ";", `\;`, ",", `\,`, "\r", "", "\n", `\n`).Replace(value))
}

// quoted is a parameter's value, which knows no escapes.
func quoted(s string) string { return `"` + strings.ReplaceAll(s, `"`, "'") + `"` }

// zone describes a time zone from one time to another: each period of a
// constant offset with its start, and without rules for others.
func (w *ics) zone(name string, loc *time.Location, first, last time.Time) {
	w.line("BEGIN", "VTIMEZONE")
	w.line("TZID", name)
	for t := first; ; {
		start, end := t.In(loc).ZoneBounds()
		abbreviation, to := t.In(loc).Zone()
		from, begin := to, time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC)
		if !start.IsZero() {
			_, from = start.Add(-time.Second).Zone()
			begin = start.UTC().Add(time.Duration(from) * time.Second)
		}
		kind := "STANDARD"
		if t.In(loc).IsDST() {
			kind = "DAYLIGHT"
		}
		w.line("BEGIN", kind)
		w.line("DTSTART", begin.Format(icsLocal))
		w.line("TZOFFSETFROM", icsOffset(from))
		w.line("TZOFFSETTO", icsOffset(to))
		w.line("TZNAME", abbreviation)
		w.line("END", kind)
		if end.IsZero() || end.After(last) {
			break
		}
		t = end
	}
	w.line("END", "VTIMEZONE")
}

func icsOffset(seconds int) string {
	sign := "+"
	if seconds < 0 {
		sign, seconds = "-", -seconds
	}
	return fmt.Sprintf("%s%02d%02d", sign, seconds/3600, seconds/60%60)
}
