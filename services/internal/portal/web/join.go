package web

import (
	"errors"

	"github.com/parley-meet/parley/services/internal/portal/meetings"
	"github.com/parley-meet/parley/services/internal/portal/people"
)

// Pages on which people enter meetings. A link's passcode is in the fragment,
// which no server sees, until join.js sends it in a body; the page of a number
// that there is not looks like any other.
func (p *Portal) joinPages() []page {
	m := p.cfg.Meetings
	load := func(k *call) (any, error) {
		d := joinData{Number: k.r.PathValue("number")}
		if d.Number != "" {
			d.Number = meetings.ParseNumber(d.Number)
			if d.Number == "" {
				return nil, errNotFound
			}
			d.Digits = meetings.FormatNumber(d.Number)
		}
		if k.who.User != "" {
			d.Name = k.who.Name
		}
		for _, why := range []string{"kind", "test", "zone", "off", "suspended"} {
			d.Whys = append(d.Whys, option{why, k.words.T("fault.host-" + why), ""})
		}
		if d.Number == "" || k.who.Account == "" {
			return d, nil
		}
		one, err := m.Mine(k.ctx(), k.who, d.Number)
		if errors.Is(err, people.ErrUnknown) {
			return d, nil
		}
		d.Host = one
		return d, err
	}
	return []page{
		{Path: "/join", Title: "join.title", Template: "join", Need: needNobody, NoTab: true, Narrow: true, Scripts: []string{"join.js"}, Load: load},
		{Path: "/j/{number}", Title: "join.title", Template: "join", Need: needNobody, NoTab: true, Narrow: true, Scripts: []string{"join.js"}, Load: load},
	}
}

type joinData struct {
	Number string            // digits alone; "": asked for
	Digits string            // grouped
	Name   string            // of who has signed in
	Host   *meetings.Meeting // the caller may start it
	Whys   []option          // why a host may not
}
