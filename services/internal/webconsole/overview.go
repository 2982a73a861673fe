package webconsole

import (
	"errors"
	"net/netip"
	"strings"
	"time"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/services/internal/admin"
	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/look"
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
	Fingerprint []string
	Certificate []fact   // until when it is valid, who signed it
	Notices     []string // what every operator must be told
	Missing     string   // of the connector's settings
	Unowned     bool     // a portal runs here, and has no operator
	Clone       bool     // the question whether this machine is a copy is open
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
	d := c.statusData(k)
	if st, err := k.admin().Connector(k.ctx()); err == nil && !k.c.source.get(k.ctx(), fresh).portal() {
		var missing []string
		for _, code := range st.Missing {
			missing = append(missing, k.words.T("missing."+code))
		}
		d.Missing = strings.Join(missing, ", ")
	}
	if list, err := k.admin().Notices(k.ctx()); err == nil {
		for _, n := range list {
			d.Notices = append(d.Notices, notice(k.words, n))
		}
	}
	if cert, err := k.admin().Certificate(k.ctx()); err == nil {
		d.Certificate = certificateFacts(k.words, cert, time.Now())
	}
	return d, nil
}

// notice puts "CODE TIME" into words.
func notice(w *look.Words, text string) string {
	code, at, _ := strings.Cut(text, " ")
	if t, err := time.Parse(time.RFC3339, at); err == nil {
		at = exact(t)
	}
	if key := "notice." + code; w.Has(key) {
		return w.T(key, api.Cut(at, 40))
	}
	return api.Cut(text, 200)
}

// expiring is how long before its end a certificate is warned of.
const expiring = 30 * 24 * time.Hour

func certificateFacts(w *look.Words, cert admin.Certificate, now time.Time) []fact {
	left := cert.NotAfter.Sub(now)
	until := field{Text: w.T("cert.left", cert.NotAfter.UTC().Format(time.DateOnly), w.Duration(left)), State: fieldGood}
	switch {
	case left <= 0:
		until = field{Text: w.T("cert.expired", cert.NotAfter.UTC().Format(time.DateOnly)), State: fieldBad}
	case left < expiring:
		until.State = fieldWarn
	}
	issuer := api.Cut(cert.Issuer, 120)
	if cert.SelfSigned {
		issuer = w.T("cert.self")
	}
	return []fact{{w.T("cert.expires"), until}, {w.T("cert.issuer"), field{Text: issuer}}}
}

// statusData is what the pages that stay fresh show.
func (c *Console) statusData(k *call) statusData {
	now := c.now(k.ctx())
	d := statusData{
		view: newView(now, k.words), Known: now.status != nil, Shape: shape(now),
		At:          timeField(now.at, exact(now.at)),
		Fingerprint: groups(c.cfg.Certificate.Fingerprint()),
		Unowned:     now.unowned(),
		Clone:       now.status != nil && now.status.Machine.Changed,
	}
	for _, v := range ordered(now.status) {
		d.Services = append(d.Services, row{Name: v.Name, Title: k.words.Title(api.Cut(v.Title, 60))})
	}
	for _, i := range now.interfaces {
		d.Ports = append(d.Ports, port{Name: i.Name})
	}
	return d
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
