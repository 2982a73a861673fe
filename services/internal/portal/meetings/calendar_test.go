package meetings

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	ical "github.com/arran4/golang-ical"
	"github.com/teambition/rrule-go"
)

func calendarOf(t *testing.T, in Input, changes ...change) (*Meeting, []byte) {
	t.Helper()
	p, err := in.check()
	if err != nil {
		t.Fatal(err)
	}
	m := &Meeting{ID: "m1", Link: "https://portal.example/j/12345678901#p=12345678", Host: Person{Name: `Ann "A" Ж`, Email: "ann@example.com"}, sequence: 3, changes: changes,
		changed: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	m.fill(in, p)
	b, err := m.calendar("portal.example", "Line one\nLine; two, three \\ four "+strings.Repeat("ж", 80))
	if err != nil {
		t.Fatal(err)
	}
	return m, b
}

// Somebody else's library reads the file and comes to the same occurrences,
// with nothing but what the file says.
func TestCalendar(t *testing.T) {
	// Near midnight the last day is another one in UTC.
	for zone, clock := range map[string]string{"Europe/Berlin": "00:30", "America/New_York": "22:00", "Europe/Moscow": "09:00", "Asia/Kolkata": "00:15", "UTC": "23:59"} {
		in := Input{Topic: "Weekly, and; more", Start: "2026-10-19T" + clock, Timezone: zone, Duration: 45, Repeat: Repeat{Every: "weekly", Weekdays: []string{"MO", "TH"}, Ends: "until", Until: "2026-11-12"}}
		plain, _ := calendarOf(t, in)
		list, err := plain.occurrences()
		if err != nil {
			t.Fatal(err)
		}
		moved := list[3].Start.Add(3 * time.Hour)
		m, text := calendarOf(t, in, change{at: list[2].at, cancelled: true}, change{at: list[3].at, topic: "Moved", start: moved, duration: 20})
		for _, l := range strings.Split(string(text), "\r\n") {
			if len(l) > 75 || strings.Contains(l, "\n") {
				t.Errorf("line %q", l)
			}
		}
		cal, err := ical.ParseCalendar(bytes.NewReader(text))
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		events := cal.Events()
		if len(events) != 2 {
			t.Fatalf("%d events", len(events))
		}
		prop := func(e *ical.VEvent, p ical.ComponentProperty) string {
			if v := e.GetProperty(p); v != nil {
				return v.Value
			}
			return ""
		}
		e, o := events[0], events[1]
		if e.Id() != "m1@portal.example" || o.Id() != e.Id() || prop(e, ical.ComponentPropertySequence) != "3" || prop(e, ical.ComponentPropertySummary) != in.Topic ||
			prop(o, ical.ComponentPropertySummary) != "Moved" || !strings.HasPrefix(prop(e, ical.ComponentPropertyDescription), "Line one\nLine; two, three \\ four жж") {
			t.Errorf("%q %q %q", e.Id(), prop(e, ical.ComponentPropertySummary), prop(e, ical.ComponentPropertyDescription))
		}
		start, err := e.GetStartAt()
		if err != nil || !start.Equal(list[0].Start) {
			t.Errorf("%s: starts %v, want %v (%v)", zone, start, list[0].Start, err)
		}
		// The rule by RFC 5545, in the zone that DTSTART names.
		loc, _ := time.LoadLocation(zone)
		set, err := rrule.StrToRRuleSet(fmt.Sprintf("DTSTART;TZID=%s:%s\nRRULE:%s", zone, prop(e, ical.ComponentPropertyDtStart), prop(e, ical.ComponentPropertyRrule)))
		if err != nil {
			t.Fatal(err)
		}
		ex, err := time.ParseInLocation(icsLocal, prop(e, ical.ComponentPropertyExdate), loc)
		if err != nil {
			t.Fatal(err)
		}
		set.ExDate(ex)
		id, err := time.ParseInLocation(icsLocal, prop(o, ical.ComponentPropertyRecurrenceId), loc)
		if err != nil || !id.Equal(list[3].at) {
			t.Errorf("%v %v", id, err)
		}
		var got, want []string
		for _, at := range set.All() {
			if at.Equal(id) {
				at, err = o.GetStartAt()
				if err != nil {
					t.Fatal(err)
				}
			}
			got = append(got, at.UTC().Format(time.RFC3339))
		}
		now, err := m.occurrences()
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range now {
			if !o.Cancelled {
				want = append(want, o.Start.Format(time.RFC3339))
			}
		}
		if len(want) != 7 || !slices.Equal(got, want) {
			t.Errorf("%s:\n got %v\nwant %v", zone, got, want)
		}
		checkZone(t, cal, loc, list)
	}
}

// checkZone compares the offsets that the file's VTIMEZONE gives with the time
// zone database's.
func checkZone(t *testing.T, cal *ical.Calendar, loc *time.Location, list []Occurrence) {
	t.Helper()
	type period struct {
		from   time.Time // UTC
		offset int
	}
	var periods []period
	for _, c := range cal.Components {
		z, ok := c.(*ical.VTimezone)
		if !ok {
			continue
		}
		for _, sub := range z.SubComponents() {
			var props []ical.IANAProperty
			switch s := sub.(type) {
			case *ical.Standard:
				props = s.Properties
			case *ical.Daylight:
				props = s.Properties
			}
			get := func(name string) string {
				for _, p := range props {
					if p.IANAToken == name {
						return p.Value
					}
				}
				t.Fatalf("no %s", name)
				return ""
			}
			offset := func(s string) int {
				var h, m int
				if _, err := fmt.Sscanf(s[1:], "%02d%02d", &h, &m); err != nil {
					t.Fatal(err)
				}
				if s[0] == '-' {
					return -(h*3600 + m*60)
				}
				return h*3600 + m*60
			}
			at, err := time.Parse(icsLocal, get("DTSTART"))
			if err != nil {
				t.Fatal(err)
			}
			periods = append(periods, period{at.Add(-time.Duration(offset(get("TZOFFSETFROM"))) * time.Second), offset(get("TZOFFSETTO"))})
		}
	}
	for _, o := range list {
		_, want := o.Start.In(loc).Zone()
		got, latest := -1, time.Time{}
		for _, p := range periods {
			if !p.from.After(o.Start) && !p.from.Before(latest) {
				got, latest = p.offset, p.from
			}
		}
		if got != want {
			t.Errorf("%s at %v: offset %d, want %d", loc, o.Start, got, want)
		}
	}
}

func TestCalendarOnce(t *testing.T) {
	m, text := calendarOf(t, Input{Topic: "Once", Start: "2026-07-01T09:00", Timezone: "America/New_York", Duration: 30})
	cal, err := ical.ParseCalendar(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	start, err := cal.Events()[0].GetStartAt()
	if err != nil || !start.Equal(time.Date(2026, 7, 1, 13, 0, 0, 0, time.UTC)) || bytes.Contains(text, []byte("VTIMEZONE")) {
		t.Errorf("%v %v\n%s", start, err, text)
	}
	if url := cal.Events()[0].GetProperty(ical.ComponentPropertyUrl); url == nil || url.Value != m.Link {
		t.Errorf("%v", url)
	}
}
