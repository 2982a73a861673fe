package webconsole

import (
	"strings"
	"time"

	"github.com/parley-meet/parley/services/internal/admin"
	"github.com/parley-meet/parley/services/internal/api"
)

// certificatePages are the console's certificate and the authorities that the
// appliance trusts.
func (c *Console) certificatePages() []page {
	return []page{
		{Path: "/certificates", Section: "certificates", Title: "certs.title", Template: "certificates", Load: c.certificatesPage},
		{Path: "/certificates/authorities", Section: "certificates", Title: "certs.authorities", Template: "authorities", Load: c.authoritiesPage},
	}
}

// soon is how long before a certificate's end an administrator is told.
const soon = 30 * 24 * time.Hour

type certificatesData struct {
	admin.Certificate
	State       field
	Facts       []fact
	Fingerprint []string
	Names       string // for the request, one a line
	Notes       []string
}

func (c *Console) certificatesPage(k *call) (any, error) {
	cert, err := k.admin().Certificate(k.ctx())
	if err != nil {
		return nil, err
	}
	w, now := k.words, time.Now()
	d := certificatesData{Certificate: cert, Fingerprint: groups(cert.SHA256), State: field{Text: w.T("certs.good"), State: fieldGood}}
	left := cert.NotAfter.Sub(now)
	switch {
	case left <= 0:
		d.State = field{Text: w.T("certs.expired"), State: fieldBad}
	case left < soon:
		d.State = field{Text: w.T("certs.soon"), State: fieldWarn}
	case cert.SelfSigned:
		d.State = field{Text: w.T("certs.self"), State: fieldWarn}
	}
	f := facts{w: w}
	f.text("certs.subject", cert.Subject)
	f.text("certs.issuer", cert.Issuer)
	f.text("certs.names", strings.Join(cert.Names, ", "))
	f.add("certs.from", timeField(cert.NotBefore, exact(cert.NotBefore)))
	f.add("certs.until", timeField(cert.NotAfter, w.T("certs.until.in", exact(cert.NotAfter), w.Duration(left))))
	f.text("certs.key", cert.Key)
	f.text("certs.chain", strings.Join(cert.Chain, " → "))
	d.Facts = f.list
	if cert.Fault != nil {
		d.Notes = append(d.Notes, w.T("certs.problem", api.Cut(cert.Fault.Text(w), 300)))
	}
	for _, code := range cert.Warnings {
		d.Notes = append(d.Notes, w.T("certificate.warning."+code))
	}
	if !cert.CoversName {
		d.Notes = append(d.Notes, w.T("conf.odd.name-certificate"))
	}
	d.Names = strings.Join(cert.Names, "\n")
	if n, err := k.admin().Connector(k.ctx()); err == nil && n.PublicName != "" && !strings.Contains("\n"+d.Names+"\n", "\n"+n.PublicName+"\n") {
		d.Names = n.PublicName + "\n" + d.Names
	}
	return d, nil
}

type authoritiesData struct{ Rows []authorityRow }

type authorityRow struct {
	ID, Subject, SHA256 string
	Until               field
}

func (c *Console) authoritiesPage(k *call) (any, error) {
	list, err := k.admin().Authorities(k.ctx())
	if err != nil {
		return nil, err
	}
	w, now := k.words, time.Now()
	d := authoritiesData{}
	for _, a := range list {
		until := timeField(a.NotAfter, w.T("net.in", w.Duration(a.NotAfter.Sub(now))))
		if now.After(a.NotAfter) {
			until = timeField(a.NotAfter, w.T("certs.expired"))
		}
		d.Rows = append(d.Rows, authorityRow{ID: strings.ReplaceAll(a.SHA256, ":", ""), Subject: api.Cut(a.Subject, 200), SHA256: a.SHA256, Until: until})
	}
	return d, nil
}
