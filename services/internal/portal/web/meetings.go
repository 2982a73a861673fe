package web

import (
	"fmt"
	"strings"
	"time"

	"github.com/parley-meet/parley/services/internal/look"
	"github.com/parley-meet/parley/services/internal/portal/meetings"
	"github.com/parley-meet/parley/services/internal/portal/people"
)

// Pages of meetings. Whoever hosts starts on the page that guests join on
// (join.go), which knows what to do when no controller runs.
func (p *Portal) meetingPages() []page {
	m := p.cfg.Meetings
	list := func(past, all bool) func(*call) (any, error) {
		return func(k *call) (any, error) {
			h, err := m.Hosting(k.ctx(), k.who)
			if err != nil {
				return nil, err
			}
			rows, err := m.List(k.ctx(), k.who, past, all)
			d := meetingsData{Hosting: h, Past: past, All: all, Now: k.words.T("meetings.now.topic", k.who.Name)}
			if !h.Allowed {
				d.Why = k.words.T("fault.host-" + h.Why)
			}
			for _, r := range rows {
				d.Rows = append(d.Rows, k.meetingRow(r))
			}
			return d, err
		}
	}
	scripts := []string{"join.js"}
	form := []string{"zones.js", "meeting.js"}
	return []page{
		{Path: "/meetings", Section: "meetings", Title: "meetings.upcoming", Template: "meetings", Need: needMember, Scripts: scripts, Load: list(false, false)},
		{Path: "/meetings/past", Section: "meetings", Title: "meetings.past", Template: "meetings", Need: needMember, Scripts: scripts, Load: list(true, false)},
		{Path: "/meetings/room", Section: "meetings", Title: "meetings.room", Template: "room", Need: needMember, Scripts: scripts, Load: func(k *call) (any, error) {
			h, err := m.Hosting(k.ctx(), k.who)
			if err != nil {
				return nil, err
			}
			if !h.Allowed {
				return roomData{Why: k.words.T("fault.host-" + h.Why)}, nil
			}
			r, err := m.MyRoom(k.ctx(), k.who)
			if err != nil {
				return nil, err
			}
			return roomData{Meeting: r, Number: meetings.FormatNumber(r.Number), Invitations: k.invitations(r)}, nil
		}},
		{Path: "/meetings/all", Section: "meetings", Title: "meetings.all", Template: "meetings", Need: needAdmin, Scripts: scripts, Load: list(false, true)},
		{Path: "/meetings/new", Section: "meetings", Title: "meetings.new", Template: "meeting-form", Need: needMember, NoTab: true, Scripts: form, Load: func(k *call) (any, error) {
			return k.meetingForm(nil)
		}},
		{Path: "/meetings/{id}", Section: "meetings", Title: "meetings.one", Template: "meeting", Need: needMember, NoTab: true, Scripts: scripts, Load: func(k *call) (any, error) {
			one, err := m.Get(k.ctx(), k.who, k.r.PathValue("id"))
			if err != nil {
				return nil, err
			}
			if one.Kind == meetings.Room && one.Rights == meetings.Own {
				return nil, redirect("/meetings/room")
			}
			d := meetingData{meetingRow: k.meetingRow(one), Repeats: repeatText(k.words, one), Invitations: k.invitations(one)}
			if one.Rule == "" {
				return d, nil
			}
			all, err := m.Occurrences(k.ctx(), k.who, one.ID)
			if err != nil {
				return nil, err
			}
			loc, err := time.LoadLocation(one.Timezone)
			if err != nil {
				return nil, err
			}
			now := time.Now()
			for _, o := range all {
				if o.End.After(now) && len(d.Occurrences) < occurrencesShown {
					d.Occurrences = append(d.Occurrences, occurrenceRow{o, when(o.Start), o.Start.In(loc).Format(k.words.T("invitation.format")) + " (" + one.Timezone + ")"})
				}
			}
			return d, nil
		}},
		{Path: "/meetings/{id}/edit", Section: "meetings", Title: "meetings.edit", Template: "meeting-form", Need: needMember, NoTab: true, Scripts: form, Load: func(k *call) (any, error) {
			one, err := m.Get(k.ctx(), k.who, k.r.PathValue("id"))
			if err != nil {
				return nil, err
			}
			if one.Rights != meetings.Own || one.Kind != meetings.Scheduled {
				return nil, people.ErrDenied
			}
			return k.meetingForm(one)
		}},
		{Path: "/meetings/{id}/occurrences/{occurrence}", Section: "meetings", Title: "meetings.occurrence", Template: "occurrence", Need: needMember, NoTab: true, Load: func(k *call) (any, error) {
			one, err := m.Get(k.ctx(), k.who, k.r.PathValue("id"))
			if err != nil {
				return nil, err
			}
			if one.Rights != meetings.Own {
				return nil, people.ErrDenied
			}
			list, err := m.Occurrences(k.ctx(), k.who, one.ID)
			if err != nil {
				return nil, err
			}
			loc, err := time.LoadLocation(one.Timezone)
			if err != nil {
				return nil, err
			}
			for _, o := range list {
				if o.ID == k.r.PathValue("occurrence") {
					return occurrenceData{one, o, o.Start.In(loc).Format("2006-01-02T15:04"), int(o.End.Sub(o.Start) / time.Minute)}, nil
				}
			}
			return nil, errNotFound
		}},
	}
}

// ticketKeyPages are the portal's operator's.
func (p *Portal) ticketKeyPages() []page {
	return []page{{Path: "/operator/tickets", Section: "operator", Title: "ticketkeys.title", Template: "ticketkeys", Need: needOperator, Load: func(k *call) (any, error) {
		list, err := k.p.cfg.Meetings.Keys(k.ctx(), k.who)
		var d ticketKeysData
		for _, key := range list {
			d.Rows = append(d.Rows, ticketKeyRow{key, when(key.Signs)})
		}
		return d, err
	}}}
}

type ticketKeysData struct{ Rows []ticketKeyRow }

type ticketKeyRow struct {
	meetings.Key
	At moment
}

// occurrencesShown is how many a page lists.
const occurrencesShown = 60

type meetingsData struct {
	Hosting   meetings.Hosting
	Why       string // not to host
	Past, All bool
	Rows      []meetingRow
	Now       string // topic of a meeting that starts now
}

type meetingRow struct {
	*meetings.Meeting
	Digits string // of the number, grouped
	At     moment // of the next occurrence, or the last
	Ran    moment // when it was held last
	Length string
	Going  bool // held now
	Test   bool
	Hosts  bool // the caller may start it
}

func (k *call) meetingRow(m *meetings.Meeting) meetingRow {
	r := meetingRow{Meeting: m, Digits: meetings.FormatNumber(m.Number), At: when(m.Last), Length: length(k.words, m.Duration),
		Hosts: m.Rights == meetings.Own || m.Rights == meetings.Alternative}
	if m.Next != nil {
		r.At = when(m.Next.Start)
	}
	if m.Kind != meetings.Scheduled {
		r.At, r.Length = when(m.Created), ""
	}
	if m.Run != nil {
		r.Ran, r.Going = when(m.Run.Started), m.Run.Ended.IsZero()
	}
	return r
}

// length is a duration of minutes.
func length(w *look.Words, minutes int) string {
	if minutes%60 == 0 {
		return w.T("unit.h", minutes/60)
	}
	return w.Duration(time.Duration(minutes) * time.Minute)
}

type roomData struct {
	*meetings.Meeting
	Why         string
	Number      string
	Invitations []invitationText
}

type meetingData struct {
	meetingRow
	Repeats     string
	Invitations []invitationText
	Occurrences []occurrenceRow
}

// PageTitle is the meeting's topic.
func (d meetingData) PageTitle() string { return d.Topic }

type occurrenceRow struct {
	meetings.Occurrence
	At   moment
	Wall string // by the meeting's clocks
}

type occurrenceData struct {
	Meeting  *meetings.Meeting
	One      meetings.Occurrence
	Start    string
	Duration int
}

type meetingFormData struct {
	*meetings.Meeting // nil: a new one
	Why               string
	Hosting           meetings.Hosting
	In                meetings.Input
	Every, Zones      []option
	Weekdays          []weekdayOption
}

type weekdayOption struct {
	option
	On bool
}

// meetingForm is the form for a new meeting, or to change one.
func (k *call) meetingForm(m *meetings.Meeting) (any, error) {
	h, err := k.p.cfg.Meetings.Hosting(k.ctx(), k.who)
	if err != nil {
		return nil, err
	}
	d := meetingFormData{Meeting: m, Hosting: h}
	if !h.Allowed {
		d.Why = k.words.T("fault.host-" + h.Why)
	}
	d.In = meetings.Input{Duration: 60, Options: meetings.Options{WaitingRoom: true}, Repeat: meetings.Repeat{Interval: 1, Ends: "count", Count: 10}}
	if k.session != nil {
		d.In.Timezone = k.session.User.Timezone
	}
	if m != nil {
		d.In = meetings.Input{Topic: m.Topic, Agenda: m.Agenda, Start: m.Start, Timezone: m.Timezone, Duration: m.Duration, Repeat: m.Repeat, Zone: m.Zone,
			Options: meetings.Options{Passcode: m.Passcode, WaitingRoom: m.WaitingRoom, JoinBeforeHost: m.JoinBeforeHost}}
		if m.Rule == "" {
			d.In.Repeat = meetings.Repeat{Interval: 1, Ends: "count", Count: 10}
		}
		for _, p := range m.AltHosts {
			d.In.AltHosts = append(d.In.AltHosts, p.Email)
		}
	}
	for _, e := range []string{"", "daily", "weekly", "monthly"} {
		d.Every = append(d.Every, option{e, k.words.T("repeat.every." + e), ""})
	}
	for _, w := range []string{"MO", "TU", "WE", "TH", "FR", "SA", "SU"} {
		on := false
		for _, have := range d.In.Repeat.Weekdays {
			on = on || have == w
		}
		d.Weekdays = append(d.Weekdays, weekdayOption{option{w, k.words.T("weekday." + w), ""}, on})
	}
	d.Zones = []option{{"", k.words.T("meetings.zone.auto"), ""}}
	for _, z := range h.Zones {
		d.Zones = append(d.Zones, option{z.ID, z.Name, ""})
	}
	return d, nil
}

// repeatText says how a meeting recurs.
func repeatText(w *look.Words, m *meetings.Meeting) string {
	r := m.Repeat
	if r.Every == "" {
		return ""
	}
	text := w.T("repeat." + r.Every)
	if r.Interval > 1 {
		text = w.T("repeat.each."+r.Every, r.Interval)
	}
	if r.Every == "weekly" {
		var days []string
		for _, d := range r.Weekdays {
			days = append(days, w.T("weekday."+d))
		}
		text += " (" + strings.Join(days, ", ") + ")"
	}
	if r.Ends == "until" {
		return text + ", " + w.T("repeat.until-day", r.Until)
	}
	return text + ", " + w.T("repeat.times", r.Count)
}

// invitationText is an invitation to copy, in a language.
type invitationText struct{ Lang, Name, Text string }

// invitations are in the page's language first.
func (k *call) invitations(m *meetings.Meeting) []invitationText {
	var out []invitationText
	for _, l := range []look.Language{look.English, look.Russian} {
		t := invitationText{string(l), l.Native(), invitation(k.p.face().Dictionary[l], m, true)}
		if l == k.words.Language() {
			out = append([]invitationText{t}, out...)
		} else {
			out = append(out, t)
		}
	}
	return out
}

// invitation is the text that guests are sent; at says whether with the time,
// which a calendar shows by itself.
func invitation(w *look.Words, m *meetings.Meeting, at bool) string {
	var b strings.Builder
	fmt.Fprintln(&b, w.T("invitation.who", m.Host.Name))
	fmt.Fprintln(&b)
	if at {
		fmt.Fprintln(&b, w.T("invitation.topic", m.Topic))
	}
	if wall, err := time.Parse("2006-01-02T15:04", m.Start); at && err == nil && m.Kind == meetings.Scheduled {
		fmt.Fprintln(&b, w.T("invitation.time", wall.Format(w.T("invitation.format")), m.Timezone))
		if s := repeatText(w, m); s != "" {
			fmt.Fprintln(&b, w.T("invitation.repeats", s))
		}
	}
	if m.Agenda != "" {
		fmt.Fprintln(&b, m.Agenda)
	}
	fmt.Fprintln(&b)
	fmt.Fprintln(&b, w.T("invitation.link", m.Link))
	fmt.Fprintln(&b, w.T("invitation.number", meetings.FormatNumber(m.Number)))
	if m.Passcode != "" {
		fmt.Fprintln(&b, w.T("invitation.passcode", m.Passcode))
	}
	return strings.TrimSpace(b.String())
}
