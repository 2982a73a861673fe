package web

import (
	"slices"
	"time"

	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/portal/directory"
	"github.com/parley-meet/parley/services/internal/portal/live"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/zones"
)

// connectorPages are the tabs of the meeting connector that come first; those of
// downloads and of monitoring stand among them in allPages.
func (p *Portal) connectorPages() []page {
	return []page{
		{Path: "/connector", Section: "connector", Title: "connector.title", Template: "connector", Need: needAdmin, Load: func(k *call) (any, error) { return k.connector() }},
	}
}

func (p *Portal) configurePages() []page {
	return []page{
		{Path: "/connector/token", Section: "connector", Title: "enrol-tokens.title", Template: "connector-token", Need: needAdmin, Load: func(k *call) (any, error) { return k.enrolTokens() }},
		{Path: "/connector/configure", Section: "connector", Title: "configure.title", Template: "connector-configure", Need: needAdmin, Load: func(k *call) (any, error) { return k.configure() }},
	}
}

func (p *Portal) activatePages() []page {
	return []page{
		{Path: "/connector/activate", Section: "connector", Title: "activate.title", Template: "connector-activate", Need: needAdmin, Load: func(k *call) (any, error) { return k.activate() }},
	}
}

// connectorHead is what every tab knows.
type connectorHead struct {
	Account people.Account
	Zones   []zones.Zone
	May, On bool
	Type    string
	Since   moment // that it is on
	Live    bool   // in production
}

func (k *call) connectorHead() (connectorHead, error) {
	c, err := k.p.cfg.Zones.Get(k.ctx(), k.who)
	a := c.Account
	return connectorHead{Account: a, Zones: c.Zones, May: a.Type.Connector(), On: !a.Enabled.IsZero(), Type: k.words.T("type." + string(a.Type)),
		Since: when(a.Enabled), Live: !a.Production.IsZero()}, err
}

type connectorData struct {
	connectorHead
	Steps []step
}

func (k *call) connector() (connectorData, error) {
	h, err := k.connectorHead()
	d := connectorData{connectorHead: h}
	if err != nil || !h.On {
		return d, err
	}
	list, err := k.p.cfg.Zones.Appliances(k.ctx(), k.who)
	if err != nil {
		return d, err
	}
	tokens, err := k.p.cfg.Zones.Tokens(k.ctx(), k.who)
	if err != nil {
		return d, err
	}
	good := slices.ContainsFunc(tokens, func(t zones.Token) bool { return t.Good(time.Now()) })
	named := slices.ContainsFunc(list, func(a zones.Appliance) bool { return a.PublicName != "" })
	next := true
	for _, s := range []struct {
		name, path string
		done       bool
	}{
		{"download", "/connector/download", len(list) > 0},
		{"token", "/connector/token", good || len(list) > 0},
		{"appliance", "/connector/monitor", len(list) > 0},
		{"configure", "/connector/configure", named},
		{"activate", "/connector/activate", h.Live},
	} {
		d.Steps = append(d.Steps, step{Title: k.words.T("connector.step." + s.name), Text: k.words.T("connector.step." + s.name + ".text"), Path: k.page(s.path), Done: s.done, Next: next && !s.done})
		next = next && s.done
	}
	return d, nil
}

type enrolTokensData struct {
	connectorHead
	Rows  []enrolTokenRow
	Zones []option
}

type enrolTokenRow struct {
	zones.Token
	ZoneName, StateText, Mark string
	Good                      bool
	ExpiresAt, UsedAt         moment
	Revokable                 bool // it is good, or appliances came by it
}

func (k *call) enrolTokens() (enrolTokensData, error) {
	h, err := k.connectorHead()
	d := enrolTokensData{connectorHead: h}
	if err != nil {
		return d, err
	}
	names := map[string]string{}
	for _, z := range h.Zones {
		names[z.ID] = z.Name
		d.Zones = append(d.Zones, option{Value: z.ID, Label: z.Name})
	}
	list, err := k.p.cfg.Zones.Tokens(k.ctx(), k.who)
	now := time.Now()
	for _, t := range list {
		r := enrolTokenRow{Token: t, ZoneName: names[t.Zone], Good: t.Good(now), ExpiresAt: when(t.Expires), UsedAt: when(t.Used)}
		state := "good"
		switch {
		case !t.Revoked.IsZero():
			state, r.ExpiresAt = "revoked", when(t.Revoked)
		case !r.Good:
			state = "ended"
		case !t.Expires.IsZero():
			state = "ends"
		}
		r.StateText = k.words.T("enrol-tokens.state." + state)
		r.Mark = map[string]string{"good": "ready", "ends": "ready", "ended": "stopped", "revoked": "stopped"}[state]
		r.Revokable = r.Good || t.Appliances > 0
		d.Rows = append(d.Rows, r)
	}
	return d, err
}

type configureData struct {
	connectorHead
	Rows  []zoneRow
	Names namesData
}

type zoneRow struct {
	zones.Zone
	Appliances []applianceRow
	Everybody  bool
	Emails     []string
	Groups     []groupChoice
	Accounts   []groupChoice
	Who        string // in words
}

type applianceRow struct {
	zones.Appliance
	RoleText, StateText, Mark string
	Controller                bool
	Browsers                  string // state of the certificate for browsers
	BrowsersMark              string
	BrowsersUntil             moment
	Certificate               moment // end of the link's
}

func (k *call) configure() (configureData, error) {
	h, err := k.connectorHead()
	d := configureData{connectorHead: h}
	if err != nil || !h.On {
		return d, err
	}
	z := k.p.cfg.Zones
	list, err := z.Appliances(k.ctx(), k.who)
	if err != nil {
		return d, err
	}
	states, err := k.p.cfg.Live.Appliances(k.ctx(), k.who.Account)
	if err != nil {
		return d, err
	}
	groups, err := k.dir().Groups(k.ctx(), k.who)
	if err != nil {
		return d, err
	}
	var subs []directory.Sub
	if k.who.At(people.Owner) && directory.MayHaveSubs(h.Account) { // others do not see them
		s, err := k.dir().Subs(k.ctx(), k.who)
		if err != nil {
			return d, err
		}
		subs = s.Subs
	}
	for _, zone := range h.Zones {
		a, err := z.Allowed(k.ctx(), k.who, zone.ID)
		if err != nil {
			return d, err
		}
		r := zoneRow{Zone: zone, Everybody: len(a.Users)+len(a.Groups) == 0, Emails: a.Emails}
		r.Who = k.words.T("configure.everybody")
		if !r.Everybody {
			r.Who = k.words.T("configure.chosen", len(a.Users), len(a.Groups))
		}
		for _, g := range groups {
			r.Groups = append(r.Groups, groupChoice{ID: g.ID, Name: g.Name, In: slices.Contains(a.Groups, g.ID)})
		}
		for _, s := range subs {
			r.Accounts = append(r.Accounts, groupChoice{ID: s.ID, Name: s.Name, In: slices.Contains(a.Accounts, s.ID)})
		}
		for _, one := range list {
			if one.Zone == zone.ID {
				r.Appliances = append(r.Appliances, k.applianceRow(one, states))
			}
		}
		d.Rows = append(d.Rows, r)
	}
	d.Names, err = k.namesData(list)
	return d, err
}

func (k *call) applianceRow(a zones.Appliance, states []live.State) applianceRow {
	r := applianceRow{Appliance: a, RoleText: k.words.T("configure.role." + string(a.Role)), Controller: a.Role == link.Controller, Certificate: when(a.Expires)}
	running := "silent"
	r.Mark = "unhealthy"
	i := slices.IndexFunc(states, func(s live.State) bool { return s.Appliance == a.ID })
	if i >= 0 && states[i].Running(time.Now()) {
		running, r.Mark = "running", "ready"
	}
	r.StateText = k.words.T("configure.state." + running)
	if !r.Controller {
		return r
	}
	state := "unknown"
	if i >= 0 {
		c := states[i].Status.Certificate
		if state = zones.BrowserCertificate(c, a.PublicName, time.Now()); c != nil {
			r.BrowsersUntil = when(c.Expires)
		}
	}
	r.Browsers = k.words.T("configure.cert." + state)
	r.BrowsersMark = map[string]string{"good": "ready", "unknown": "stopped"}[state]
	if r.BrowsersMark == "" {
		r.BrowsersMark = "starting"
	}
	return r
}

type activateData struct {
	connectorHead
	zones.Readiness
	Rows    []checkRow
	LiveAt  moment
	Missing bool // something that must be good is not
}

type checkRow struct {
	Title, Text, StateText, Mark, Detail, Path string
}

func (k *call) activate() (activateData, error) {
	h, err := k.connectorHead()
	d := activateData{connectorHead: h}
	if err != nil || !h.On {
		return d, err
	}
	if d.Readiness, err = k.p.cfg.Zones.Readiness(k.ctx(), k.who); err != nil {
		return d, err
	}
	d.LiveAt, d.Missing = when(d.Production), !d.Ready
	where := map[string]string{"controller": "/connector/token", "router": "/connector/token", "ports": "/connector/monitor", "clock": "/connector/monitor", "certificate": "/connector/configure"}
	for _, c := range d.Checks {
		r := checkRow{Title: k.words.T("activate.check." + c.Code), StateText: k.words.T("activate.state." + c.State), Detail: c.Detail,
			Mark: map[string]string{"good": "ready", "warn": "starting", "bad": "unhealthy", "unknown": "stopped"}[c.State]}
		r.Text = k.words.T("activate.check." + c.Code + ".good")
		if c.State != "good" {
			r.Text, r.Path = k.words.T("activate.check."+c.Code+".do"), k.page(where[c.Code])
		}
		d.Rows = append(d.Rows, r)
	}
	return d, nil
}
