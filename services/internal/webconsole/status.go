package webconsole

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/parley-meet/parley/image/control"
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
	Flash       *flash
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

func (c *Console) statusPage(w http.ResponseWriter, r *http.Request, s *session) {
	words := c.words(r)
	// After an operation its effect is to be seen, not the state before.
	f := c.sessions.takeFlash(s)
	age := fresh
	if f != nil {
		age = 0
	}
	now := c.source.get(r.Context(), age)
	d := statusData{
		view: newView(now, words), Known: now.status != nil, Shape: shape(now), Flash: f,
		At: timeField(now.at, exact(now.at)), Generated: s.cred.Generated,
		Fingerprint: groups(c.cfg.Certificate.Fingerprint()),
	}
	for _, v := range ordered(now.status) {
		d.Services = append(d.Services, row{Name: v.Name, Title: words.Title(cut(v.Title, 60))})
	}
	for _, i := range now.interfaces {
		d.Ports = append(d.Ports, port{Name: i.Name})
	}
	c.render(w, http.StatusOK, "status", look.Page{
		Words: words, Title: words.T("status.title"), Host: now.host(), User: s.user, Path: "/",
		Scripts: []string{"live.js"}, Data: d,
	})
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

// problem is an error in JSON.
type problem struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (c *Console) apiStatus(w http.ResponseWriter, r *http.Request) {
	if s, _ := c.session(r, true); s == nil {
		writeJSON(w, http.StatusUnauthorized, map[string]problem{"error": {"unauthorized", "log in first: POST /login"}})
		return
	}
	now := c.source.get(r.Context(), fresh)
	if now.status == nil {
		c.cfg.Log.Warn("status", "error", now.err)
		writeJSON(w, http.StatusBadGateway, map[string]problem{"error": {"unavailable", "the system process does not answer"}})
		return
	}
	rep := Report{At: now.at.UTC(), Appliance: now.status, Interfaces: []Interface{}}
	for _, i := range now.interfaces {
		rep.Interfaces = append(rep.Interfaces, Interface{Name: i.Name, MAC: i.MAC.String(), MTU: i.MTU, State: i.State,
			Addresses: append([]netip.Prefix{}, i.Addresses...), RX: i.RX, TX: i.TX})
	}
	rep.Certificate.SHA256 = c.cfg.Certificate.Fingerprint()
	writeJSON(w, http.StatusOK, rep)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // these types always encode
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n'))
}
