package webconsole

import (
	"errors"
	"net/netip"
	"strings"
	"time"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/services/internal/admin"
	"github.com/parley-meet/parley/services/internal/nic"
)

// statusData is what status.html gets.
type statusData struct {
	view        view
	Services    []row
	Ports       []port
	Known       bool // PID 1 answers
	At          field
	Shape       string
	Generated   bool // the password has not been set yet
	Fingerprint []string
}

// live is a field with its key.
type live struct {
	Key string
	field
}

// Verbs are the operations in the order of their buttons.
func (statusData) Verbs() []string { return []string{"start", "stop", "restart"} }

// Live returns the field of that key, for a template to show.
func (d statusData) Live(parts ...string) live {
	k := strings.Join(parts, "")
	return live{k, d.view[k]}
}

// overviewPages is the first page: the appliance at a glance.
func (c *Console) overviewPages() []page {
	return []page{{Path: "/", Section: "overview", Title: "overview.title", Template: "overview", Scripts: []string{"live.js"}, Load: c.overview}}
}

func (c *Console) overview(k *call) (any, error) {
	now := c.source.get(k.ctx(), fresh)
	d := statusData{
		view: newView(now, k.words), Known: now.status != nil, Shape: shape(now),
		At: timeField(now.at, exact(now.at)), Generated: k.account.Generated,
		Fingerprint: groups(c.cfg.Certificate.Fingerprint()),
	}
	for _, v := range ordered(now.status) {
		d.Services = append(d.Services, row{Name: v.Name, Title: k.words.Title(cut(v.Title, 60))})
	}
	for _, i := range now.interfaces {
		d.Ports = append(d.Ports, port{Name: i.Name})
	}
	return d, nil
}

// groups cuts a fingerprint into four lines' worth that can be compared.
func groups(fingerprint string) []string {
	b := strings.Split(fingerprint, ":")
	var out []string
	for len(b) > 0 {
		n := min(8, len(b))
		out = append(out, strings.Join(b[:n], ":"))
		b = b[n:]
	}
	return out
}

// Report is the answer of GET /api/v1/status.
type Report struct {
	At          time.Time       `json:"at"`
	Appliance   *control.Status `json:"appliance"`
	Interfaces  []Interface     `json:"interfaces"` // without the loopback
	Certificate struct {
		SHA256 string `json:"sha256"`
	} `json:"certificate"`
}

// Interface is a network interface in a Report.
type Interface struct {
	Name      string         `json:"name"`
	MAC       string         `json:"mac,omitempty"`
	MTU       int            `json:"mtu"`
	State     string         `json:"state"`
	Addresses []netip.Prefix `json:"addresses"`
	RX        nic.Counters   `json:"rx"`
	TX        nic.Counters   `json:"tx"`
}

// report answers GET /api/v1/status.
func (c *Console) report(k *call) (Report, error) {
	now := c.source.get(k.ctx(), fresh)
	if now.status == nil {
		return Report{}, errors.Join(admin.ErrAway, now.err)
	}
	rep := Report{At: now.at.UTC(), Appliance: now.status, Interfaces: []Interface{}}
	for _, i := range now.interfaces {
		rep.Interfaces = append(rep.Interfaces, Interface{Name: i.Name, MAC: i.MAC.String(), MTU: i.MTU, State: i.State,
			Addresses: append([]netip.Prefix{}, i.Addresses...), RX: i.RX, TX: i.TX})
	}
	rep.Certificate.SHA256 = c.cfg.Certificate.Fingerprint()
	return rep, nil
}
