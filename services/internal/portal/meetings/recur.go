package meetings

import (
	"fmt"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // a static program may run where there is none

	"github.com/teambition/rrule-go"
)

// Bounds of recurrence.
const (
	maxInterval    = 99
	maxOccurrences = 400
	maxYears       = 5 // from the first occurrence to the last
)

// wallFormat is a local time, as <input type="datetime-local"> has it.
const (
	wallFormat = "2006-01-02T15:04"
	dayFormat  = "2006-01-02"
)

// Repeat is how a meeting recurs: what of RFC 5545's RRULE people can choose. It
// ends after Count occurrences, or on the day Until.
type Repeat struct {
	Every    string   `json:"every"`              // "", daily, weekly, monthly
	Interval int      `json:"interval,omitempty"` // each nth day, week, month
	Weekdays []string `json:"weekdays,omitempty"` // of weekly: MO, TU, WE, TH, FR, SA, SU
	Ends     string   `json:"ends,omitempty"`     // "count" or "until"
	Count    int      `json:"count,omitempty"`
	Until    string   `json:"until,omitempty"` // day, 2006-01-02, by the meeting's clocks
}

var (
	weekdays    = []string{"MO", "TU", "WE", "TH", "FR", "SA", "SU"}
	rruleDays   = []rrule.Weekday{rrule.MO, rrule.TU, rrule.WE, rrule.TH, rrule.FR, rrule.SA, rrule.SU}
	frequencies = map[string]rrule.Frequency{"daily": rrule.DAILY, "weekly": rrule.WEEKLY, "monthly": rrule.MONTHLY}
)

// option makes it RFC 5545's, by clocks that are taken for UTC.
func (r Repeat) option(wall time.Time) (rrule.ROption, error) {
	o := rrule.ROption{Freq: frequencies[r.Every], Interval: r.Interval, Dtstart: wall}
	if r.Every == "weekly" {
		for _, d := range r.Weekdays {
			o.Byweekday = append(o.Byweekday, rruleDays[slices.Index(weekdays, d)])
		}
	}
	if r.Ends == "count" {
		o.Count = r.Count
		return o, nil
	}
	day, err := time.Parse(dayFormat, r.Until)
	o.Until = day.Add(24*time.Hour - time.Second)
	return o, err
}

// parseRule reads what rule wrote.
func parseRule(text string) (Repeat, error) {
	if text == "" {
		return Repeat{}, nil
	}
	o, err := rrule.StrToROption(text)
	if err != nil {
		return Repeat{}, fmt.Errorf("rule %q: %w", text, err)
	}
	r := Repeat{Interval: max(o.Interval, 1), Count: o.Count, Ends: "count"}
	for name, f := range frequencies {
		if o.Freq == f {
			r.Every = name
		}
	}
	for _, d := range o.Byweekday {
		r.Weekdays = append(r.Weekdays, weekdays[d.Day()])
	}
	if !o.Until.IsZero() {
		r.Ends, r.Until = "until", o.Until.Format(dayFormat)
	}
	return r, nil
}

// walls returns the starts by the clocks, taken for UTC, at most one more than
// maxOccurrences.
func walls(wall time.Time, rule string) ([]time.Time, error) {
	if rule == "" {
		return []time.Time{wall}, nil
	}
	o, err := rrule.StrToROption(rule)
	if err != nil {
		return nil, fmt.Errorf("rule %q: %w", rule, err)
	}
	o.Dtstart = wall
	r, err := rrule.NewRRule(*o)
	if err != nil {
		return nil, fmt.Errorf("rule %q: %w", rule, err)
	}
	var out []time.Time
	for next := r.Iterator(); len(out) <= maxOccurrences; {
		t, ok := next()
		if !ok {
			break
		}
		out = append(out, t)
	}
	return out, nil
}

// resolve returns when clocks of a zone show a time. A time that comes twice is
// the first one; one that is left out is counted with the offset from before
// (RFC 5545, 3.3.5).
func resolve(wall time.Time, loc *time.Location) time.Time {
	wall = time.Date(wall.Year(), wall.Month(), wall.Day(), wall.Hour(), wall.Minute(), wall.Second(), 0, time.UTC)
	offset := func(t time.Time) time.Duration {
		_, s := t.In(loc).Zone()
		return time.Duration(s) * time.Second
	}
	before, after := offset(wall.Add(-24*time.Hour)), offset(wall.Add(24*time.Hour))
	first, second := wall.Add(-before), wall.Add(-after)
	if offset(first) != before && offset(second) == after {
		return second
	}
	return first
}

// Occurrence is one time that a meeting takes place.
type Occurrence struct {
	ID        string    `json:"id"` // its start by the rule, 20060102T150405Z
	Start     time.Time `json:"start"`
	End       time.Time `json:"end"`
	Topic     string    `json:"topic"`
	Cancelled bool      `json:"cancelled,omitempty"`
	Changed   bool      `json:"changed,omitempty"`

	at time.Time
}

const idFormat = "20060102T150405Z"

// change is a row of meeting_changes.
type change struct {
	at        time.Time
	cancelled bool
	topic     string
	start     time.Time
	duration  int
}

// occurrences returns all, in the order of the rule.
func (m *Meeting) occurrences() ([]Occurrence, error) {
	if m.Start == "" {
		return nil, nil
	}
	wall, err := time.Parse(wallFormat, m.Start)
	if err != nil {
		return nil, err
	}
	loc, err := time.LoadLocation(m.Timezone)
	if err != nil {
		return nil, err
	}
	list, err := walls(wall, m.Rule)
	if err != nil {
		return nil, err
	}
	out := make([]Occurrence, 0, len(list))
	for _, w := range list {
		at := resolve(w, loc).UTC()
		o := Occurrence{ID: at.Format(idFormat), Start: at, End: at.Add(time.Duration(m.Duration) * time.Minute), Topic: m.Topic, at: at}
		for _, c := range m.changes {
			if !c.at.Equal(at) {
				continue
			}
			o.Cancelled, o.Changed = c.cancelled, !c.cancelled
			if !c.cancelled {
				o.Start, o.End = c.start.UTC(), c.start.UTC().Add(time.Duration(c.duration)*time.Minute)
				if c.topic != "" {
					o.Topic = c.topic
				}
			}
		}
		out = append(out, o)
	}
	return out, nil
}

// span sets First, Last and Next from the occurrences.
func (m *Meeting) span(now time.Time) error {
	list, err := m.occurrences()
	if err != nil {
		return err
	}
	m.First, m.Last, m.Next = time.Time{}, time.Time{}, nil
	for _, o := range list {
		if o.Cancelled {
			continue
		}
		if m.First.IsZero() || o.Start.Before(m.First) {
			m.First = o.Start
		}
		if o.End.After(m.Last) {
			m.Last = o.End
		}
		if o.End.After(now) && (m.Next == nil || o.Start.Before(m.Next.Start)) {
			m.Next = &o
		}
	}
	if m.First.IsZero() && len(list) > 0 { // all are cancelled
		m.First, m.Last = list[0].Start, list[0].End
	}
	return nil
}

// ruleText writes an option without its start.
func ruleText(o rrule.ROption) string { return strings.TrimPrefix(o.RRuleString(), "RRULE:") }
