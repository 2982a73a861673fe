package webconsole

import (
	"strconv"
	"time"

	"github.com/parley-meet/parley/services/internal/admin"
	"github.com/parley-meet/parley/services/internal/connector"
	"github.com/parley-meet/parley/services/internal/fault"
)

// configurePages is what the meeting connector is told.
func (c *Console) configurePages() []page {
	return []page{{Path: "/configure", Section: "configure", Title: "nav.configure", Template: "configure", Scripts: []string{"live.js"}, Load: c.configurePage}}
}

type configureData struct {
	statusData
	admin.Connector
	// Zone and Router are the saved addresses, or else those that the network has.
	Zone, RouterIPv4, Other string
	Most                    string // participants; "": as many as by default
	Usual                   int    // what that is
	Suggested               bool   // a field shows an address that is not saved
	Needs, Odd              []string
	Rows                    []natRow
	Blank                   natRow
	Trials                  []trialRow
	TrialsFault             string // why they cannot be shown
}

// natRow is an external address as text.
type natRow struct{ Local, External string }

func (c *Console) configurePage(k *call) (any, error) {
	if k.c.source.get(k.ctx(), fresh).portal() {
		return nil, errNotFound
	}
	n, err := k.admin().Connector(k.ctx())
	if err != nil {
		return nil, err
	}
	d := configureData{statusData: k.c.statusData(k), Connector: n, Usual: connector.DefaultLimit, Zone: addrText(n.ZoneController), RouterIPv4: addrText(n.Router), Other: addrText(n.OtherZoneController)}
	if n.Limit != 0 {
		d.Most = strconv.Itoa(n.Limit)
	}
	if d.Zone == "" {
		d.Zone = addrText(n.Suggested.ZoneController)
		d.Suggested = d.Zone != ""
	}
	if d.RouterIPv4 == "" {
		d.RouterIPv4 = addrText(n.Suggested.Router)
		d.Suggested = d.Suggested || d.RouterIPv4 != ""
	}
	for _, e := range n.External {
		d.Rows = append(d.Rows, natRow{addrText(e.Local), addrText(e.External)})
	}
	if d.Trials, err = trialRows(k, time.Now()); err != nil {
		d.TrialsFault = k.failure(err).Message
		if l := fault.Of(err); l != nil {
			d.TrialsFault = l[0].Text(k.words)
		}
	}
	for _, m := range n.Missing {
		d.Needs = append(d.Needs, k.words.T("conf.missing."+m))
	}
	for _, m := range n.Warnings {
		d.Odd = append(d.Odd, k.words.T("conf.odd."+m))
	}
	return d, nil
}
