package meetings

import (
	"crypto/rand"
	"math/big"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/portal/people"
)

// Bounds of values.
const (
	maxTopic    = 200  // characters
	maxAgenda   = 4000 // characters
	maxName     = 60   // characters, of a guest
	maxDuration = 24 * 60
	minPasscode = 6
	maxPasscode = 16
	maxAltHosts = 20
	maxMeetings = 1000 // of a person, that have not ended
	roomDigits  = 10
	newDigits   = 11
)

// Options are what all meetings have.
type Options struct {
	Passcode       string `json:"passcode,omitempty"` // "": made, or left as it is
	WaitingRoom    bool   `json:"waitingRoom"`
	JoinBeforeHost bool   `json:"joinBeforeHost"`
}

// Input is a meeting to be scheduled, or what becomes of one.
type Input struct {
	Topic    string   `json:"topic"`
	Agenda   string   `json:"agenda"`
	Start    string   `json:"start"`    // 2006-01-02T15:04, by the clocks of Timezone
	Timezone string   `json:"timezone"` // IANA name
	Duration int      `json:"duration"` // minutes
	Repeat   Repeat   `json:"repeat"`
	Zone     string   `json:"zone,omitempty"`             // id; "": chosen when it starts
	AltHosts []string `json:"alternativeHosts,omitempty"` // e-mail addresses of people of the account
	Options
}

// plan is what an Input comes to.
type plan struct {
	wall time.Time
	rule string
}

// line makes one line of text and checks its length.
func line(l *fault.List, field, s string, most int, required bool) string {
	s = strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return ' '
		}
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s))
	switch n := utf8.RuneCountInString(s); {
	case n == 0 && required:
		l.Add(field, "required")
	case n > most:
		l.Add(field, "long", most)
	}
	return s
}

// text is line for several lines.
func text(l *fault.List, field, s string, most int) string {
	s = strings.TrimSpace(strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return -1
	}, s))
	if utf8.RuneCountInString(s) > most {
		l.Add(field, "long", most)
	}
	return s
}

func (o *Options) check(l *fault.List) {
	o.Passcode = strings.TrimSpace(o.Passcode)
	if o.Passcode == "" {
		return
	}
	if len(o.Passcode) < minPasscode || len(o.Passcode) > maxPasscode || strings.Trim(o.Passcode, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		l.Add("passcode", "meeting-passcode", minPasscode, maxPasscode)
	}
}

// check returns what the input comes to, or faults. It corrects what is only
// written differently.
func (in *Input) check() (plan, error) {
	var l fault.List
	var p plan
	in.Topic = line(&l, "topic", in.Topic, maxTopic, true)
	in.Agenda = text(&l, "agenda", in.Agenda, maxAgenda)
	in.Options.check(&l)
	in.Timezone = strings.TrimSpace(in.Timezone)
	_, err := time.LoadLocation(in.Timezone)
	if err != nil || in.Timezone == "" || in.Timezone == "Local" {
		l.Add("timezone", "timezone", api.Cut(in.Timezone, 60))
	}
	if p.wall, err = time.Parse(wallFormat, in.Start); err != nil || p.wall.Year() < 2000 || p.wall.Year() > 2200 {
		l.Add("start", "meeting-start")
	}
	if in.Duration < 1 || in.Duration > maxDuration {
		l.Add("duration", "meeting-duration", maxDuration)
	}
	if len(in.AltHosts) > maxAltHosts {
		l.Add("alternativeHosts", "meeting-hosts", maxAltHosts)
	}
	var hosts []string
	for _, a := range in.AltHosts {
		a, err := people.NormalizeEmail("alternativeHosts", a)
		if err != nil {
			l.Under("", fault.Of(err))
			continue
		}
		if !slices.Contains(hosts, a) {
			hosts = append(hosts, a)
		}
	}
	in.AltHosts = hosts
	if err := l.Err(); err != nil {
		return p, err
	}
	if in.Repeat.Every == "" {
		in.Repeat = Repeat{}
		return p, nil
	}
	in.Repeat.check(&l, &p)
	return p, l.Err()
}

// check checks a recurrence whose start is right, and sets the rule. A first
// occurrence on a weekday that is not chosen moves to the next chosen one, as
// RFC 5545 would count it beside the others.
func (r *Repeat) check(l *fault.List, p *plan) {
	if _, ok := frequencies[r.Every]; !ok {
		l.Add("repeat.every", "meeting-choice", api.Cut(r.Every, 20))
		return
	}
	if r.Interval == 0 {
		r.Interval = 1
	}
	if r.Interval < 1 || r.Interval > maxInterval {
		l.Add("repeat.interval", "meeting-interval", maxInterval)
	}
	if r.Every != "weekly" {
		r.Weekdays = nil
	} else if len(r.Weekdays) == 0 {
		r.Weekdays = []string{weekdayOf(p.wall)}
	}
	for _, d := range r.Weekdays {
		if !slices.Contains(weekdays, d) {
			l.Add("repeat.weekdays", "meeting-choice", api.Cut(d, 20))
			return
		}
	}
	slices.SortFunc(r.Weekdays, func(a, b string) int { return slices.Index(weekdays, a) - slices.Index(weekdays, b) })
	r.Weekdays = slices.Compact(r.Weekdays)
	switch r.Ends {
	case "count":
		r.Until = ""
		if r.Count < 1 || r.Count > maxOccurrences {
			l.Add("repeat.count", "meeting-count", maxOccurrences)
		}
	case "until":
		r.Count = 0
		if day, err := time.Parse(dayFormat, r.Until); err != nil || day.Add(24*time.Hour).Before(p.wall) {
			l.Add("repeat.until", "meeting-until")
		}
	default:
		l.Add("repeat.ends", "meeting-choice", api.Cut(r.Ends, 20))
	}
	if len(*l) > 0 {
		return
	}
	for n := 0; r.Every == "weekly" && n < 7 && !slices.Contains(r.Weekdays, weekdayOf(p.wall)); n++ {
		p.wall = p.wall.AddDate(0, 0, 1)
	}
	o, err := r.option(p.wall)
	if err != nil {
		l.Add("repeat.until", "meeting-until")
		return
	}
	o.Dtstart = time.Time{}
	p.rule = ruleText(o)
	list, err := walls(p.wall, p.rule)
	field := "repeat." + r.Ends
	switch {
	case err != nil || len(list) == 0:
		l.Add(field, "meeting-until")
	case len(list) > maxOccurrences:
		l.Add(field, "meeting-count", maxOccurrences)
	case list[len(list)-1].After(list[0].AddDate(maxYears, 0, 0)):
		l.Add(field, "meeting-years", maxYears)
	}
}

func weekdayOf(t time.Time) string { return weekdays[(int(t.Weekday())+6)%7] }

// digits returns a random number of n digits that does not begin with 0.
func digits(n int) string {
	low := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n-1)), nil)
	r, err := rand.Int(rand.Reader, new(big.Int).Mul(low, big.NewInt(9)))
	if err != nil {
		panic(err) // never fails (crypto/rand)
	}
	return r.Add(r, low).String()
}

// newPasscode returns one that is made: digits, which every keyboard has.
func newPasscode() string { return digits(8) }

// ParseNumber returns the digits of a number that a person typed, or "": 9 to
// 11, with spaces or dashes between them.
func ParseNumber(s string) string {
	if len(s) > 40 {
		return ""
	}
	s = strings.Map(func(r rune) rune {
		if r == ' ' || r == '-' || r == '\u00a0' {
			return -1
		}
		return r
	}, s)
	if len(s) < 9 || len(s) > 11 || strings.Trim(s, "0123456789") != "" {
		return ""
	}
	return s
}

// FormatNumber groups the digits: 123 456 789, 123 456 7890, 123 4567 8901.
func FormatNumber(n string) string {
	if len(n) < 9 {
		return n
	}
	second := 6
	if len(n) == 11 {
		second = 7
	}
	return n[:3] + " " + n[3:second] + " " + n[second:]
}
