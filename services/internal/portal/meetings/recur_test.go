package meetings

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/fault"
)

// Meetings keep their time of day by the clocks of their zone when those are
// put forward or back.
func TestOccurrences(t *testing.T) {
	for _, c := range []struct {
		name, start, zone string
		repeat            Repeat
		want              []string // UTC
	}{
		{"once", "2026-03-27T09:00", "Europe/Berlin", Repeat{}, []string{"2026-03-27T08:00"}},
		{"Berlin, forward", "2026-03-28T09:00", "Europe/Berlin", Repeat{Every: "daily", Ends: "count", Count: 3}, []string{"2026-03-28T08:00", "2026-03-29T07:00", "2026-03-30T07:00"}},
		{"Berlin, back", "2026-10-24T09:00", "Europe/Berlin", Repeat{Every: "daily", Ends: "count", Count: 3}, []string{"2026-10-24T07:00", "2026-10-25T08:00", "2026-10-26T08:00"}},
		{"Berlin, left out", "2026-03-28T02:30", "Europe/Berlin", Repeat{Every: "daily", Ends: "count", Count: 3}, []string{"2026-03-28T01:30", "2026-03-29T01:30", "2026-03-30T00:30"}},
		{"Berlin, twice", "2026-10-24T02:30", "Europe/Berlin", Repeat{Every: "daily", Ends: "count", Count: 3}, []string{"2026-10-24T00:30", "2026-10-25T00:30", "2026-10-26T01:30"}},
		{"New York, left out", "2026-03-08T02:30", "America/New_York", Repeat{}, []string{"2026-03-08T07:30"}},
		{"New York, twice", "2026-11-01T01:30", "America/New_York", Repeat{}, []string{"2026-11-01T05:30"}},
		{"New York, weekly", "2026-10-26T18:00", "America/New_York", Repeat{Every: "weekly", Weekdays: []string{"WE", "MO"}, Ends: "until", Until: "2026-11-04"},
			[]string{"2026-10-26T22:00", "2026-10-28T22:00", "2026-11-02T23:00", "2026-11-04T23:00"}},
		{"Moscow", "2026-03-28T23:00", "Europe/Moscow", Repeat{Every: "weekly", Ends: "count", Count: 2}, []string{"2026-03-28T20:00", "2026-04-04T20:00"}},
		{"Kolkata", "2026-10-24T09:15", "Asia/Kolkata", Repeat{Every: "daily", Interval: 2, Ends: "count", Count: 2}, []string{"2026-10-24T03:45", "2026-10-26T03:45"}},
		{"monthly, on the 31st", "2026-01-31T10:00", "UTC", Repeat{Every: "monthly", Ends: "until", Until: "2026-06-01"}, []string{"2026-01-31T10:00", "2026-03-31T10:00", "2026-05-31T10:00"}},
		{"the last day counts", "2026-01-01T23:59", "Europe/Berlin", Repeat{Every: "daily", Ends: "until", Until: "2026-01-02"}, []string{"2026-01-01T22:59", "2026-01-02T22:59"}},
		{"a start on another day moves", "2026-03-24T10:00", "UTC", Repeat{Every: "weekly", Weekdays: []string{"FR"}, Ends: "count", Count: 2}, []string{"2026-03-27T10:00", "2026-04-03T10:00"}},
	} {
		in := Input{Topic: "T", Start: c.start, Timezone: c.zone, Duration: 60, Repeat: c.repeat}
		p, err := in.check()
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		m := &Meeting{}
		m.fill(in, p)
		list, err := m.occurrences()
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var got []string
		for _, o := range list {
			got = append(got, o.Start.Format(wallFormat))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s (%s):\n got %v\nwant %v", c.name, m.Rule, got, c.want)
		}
		// What is read back is what was written.
		back, err := parseRule(m.Rule)
		if err != nil || back.Every != in.Repeat.Every || back.Count != in.Repeat.Count || back.Until != in.Repeat.Until || !slices.Equal(back.Weekdays, in.Repeat.Weekdays) {
			t.Errorf("%s: %s is %+v, was %+v (%v)", c.name, m.Rule, back, in.Repeat, err)
		}
	}
}

func TestInputRefused(t *testing.T) {
	good := func() Input {
		return Input{Topic: "T", Start: "2026-03-28T09:00", Timezone: "Europe/Berlin", Duration: 30, Repeat: Repeat{Every: "daily", Ends: "count", Count: 3}}
	}
	for field, change := range map[string]func(*Input){
		"topic":            func(in *Input) { in.Topic = " \u200b\n" },
		"agenda":           func(in *Input) { in.Agenda = strings.Repeat("ж", maxAgenda+1) },
		"start":            func(in *Input) { in.Start = "28.3.2026" },
		"timezone":         func(in *Input) { in.Timezone = "Mars/Base" },
		"duration":         func(in *Input) { in.Duration = maxDuration + 1 },
		"passcode":         func(in *Input) { in.Passcode = "12 34 56" },
		"alternativeHosts": func(in *Input) { in.AltHosts = []string{"no address"} },
		"repeat.every":     func(in *Input) { in.Repeat.Every = "secondly" },
		"repeat.interval":  func(in *Input) { in.Repeat.Interval = -1 },
		"repeat.weekdays":  func(in *Input) { in.Repeat.Every, in.Repeat.Weekdays = "weekly", []string{"XX"} },
		"repeat.ends":      func(in *Input) { in.Repeat.Ends = "never" },
		"repeat.count":     func(in *Input) { in.Repeat.Count = maxOccurrences + 1 },
		"repeat.until":     func(in *Input) { in.Repeat.Ends, in.Repeat.Until = "until", "2026-03-27" },
		"repeat.until ":    func(in *Input) { in.Repeat.Ends, in.Repeat.Until = "until", "2028-03-27" }, // 730 occurrences
		"repeat.count ":    func(in *Input) { in.Repeat.Every, in.Repeat.Count = "monthly", 100 },       // 8 years
	} {
		in := good()
		change(&in)
		_, err := in.check()
		if l := fault.Of(err); !l.Has(strings.TrimSpace(field)) {
			t.Errorf("%s: %v", field, err)
		}
	}
	for _, zone := range []string{"", "Local", "../../etc/passwd"} {
		in := good()
		in.Timezone = zone
		if _, err := in.check(); err == nil {
			t.Errorf("time zone %q is taken", zone)
		}
	}
	in := good()
	if _, err := in.check(); err != nil {
		t.Error(err)
	}
}

func TestNumbers(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		d := digits(newDigits)
		if len(d) != newDigits || d[0] == '0' || ParseNumber(d) != d || ParseNumber(FormatNumber(d)) != d || seen[d] {
			t.Fatalf("%q", d)
		}
		seen[d] = true
	}
	for in, want := range map[string]string{"123 456 789": "123456789", "123-4567-8901": "12345678901", "12345678": "", "123456789012": "", "12345678a": "", "１２３４５６７８９": "", "": ""} {
		if got := ParseNumber(in); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
	for in, want := range map[string]string{"123456789": "123 456 789", "1234567890": "123 456 7890", "12345678901": "123 4567 8901"} {
		if got := FormatNumber(in); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}

func FuzzParseRule(f *testing.F) {
	f.Add("FREQ=WEEKLY;INTERVAL=2;COUNT=5;BYDAY=MO,WE")
	f.Add("FREQ=DAILY;UNTIL=20260704T235959Z")
	f.Fuzz(func(t *testing.T, s string) {
		if r, err := parseRule(s); err == nil && s != "" {
			_ = r
			if _, err := calendarRule(s, time.UTC); err != nil {
				t.Errorf("%q: %v", s, err)
			}
		}
	})
}
