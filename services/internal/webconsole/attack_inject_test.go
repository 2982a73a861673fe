package webconsole

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/apitest"
)

// valid are bodies to put one hostile text into. An endpoint that is not named
// gets its sample, with every other field empty.
var valid = map[string]string{
	"setNetwork":         `{"hostname":"box","eth0":{"mode":"static","address":"10.0.0.5/24","netmask":"","gateway":"10.0.0.1","mtu":"1500"},"ipv6":{"mode":"static","address":"2001:db8::5/64","gateway":"2001:db8::1"},"slave":"10.0.0.6/24","routes":[{"destination":"10.9.0.0/16","gateway":"10.0.0.2"}],"dns":{"servers":["10.0.0.3"],"search":["example.org"]},"ntp":{"servers":["ntp.example.org"],"off":false},"proxy":{"host":"proxy.example.org","port":"3128","user":"u","password":"p","except":["example.org"]},"firewall":{"allow":{"console":["10.0.0.0/8"]}}}`,
	"changeNetwork":      `{"hostname":"box","eth0":{"mode":"static","address":"10.0.0.5/24","netmask":"","gateway":"10.0.0.1","mtu":"1500"},"ipv6":{"mode":"static","address":"2001:db8::5/64","gateway":"2001:db8::1"},"slave":"10.0.0.6/24","routes":[{"destination":"10.9.0.0/16","gateway":"10.0.0.2"}],"dns":{"servers":["10.0.0.3"],"search":["example.org"]},"ntp":{"servers":["ntp.example.org"],"off":false},"proxy":{"host":"proxy.example.org","port":"3128","user":"u","password":"p","except":["example.org"]},"firewall":{"allow":{"console":["10.0.0.0/8"]}}}`,
	"setConnector":       `{"token":"","zoneController":"10.0.0.5","router":"10.0.0.5","otherZoneController":"10.0.0.9","publicName":"meet.example.org","external":[{"local":"10.0.0.5","external":"192.0.2.1"}],"limit":"250"}`,
	"addAccount":         `{"name":"olga","authority":"operate","password":"a good long password"}`,
	"addToken":           `{"title":"monitoring","authority":"view","days":"30"}`,
	"requestCertificate": `{"names":["meet.example.org"],"organization":"Example","country":"DE"}`,
	"diagnose":           `{"tool":"lookup","host":"localhost","port":"443","server":"127.0.0.1","type":"A","proxy":false}`,
	"changePassword":     `{"current":"wrong","new":"another good password","confirm":"another good password"}`,
}

// freely are fields that take nearly any text.
var freely = []string{"password", "title", "organization", "proxy.user", "proxy.password", "current", "new", "confirm"}

// In every field of every endpoint that changes something, and in every part of
// its path, hostile text is refused with the field's name, or kept and shown as
// the text that it is.
func TestAttackInjection(t *testing.T) {
	for _, e := range writes(newRig(t, testPassword).c) {
		t.Run(e.ID, func(t *testing.T) {
			r := newRig(t, testPassword)
			admin := r.loggedIn()
			if e.Request != nil {
				body := bodyOf(e)
				if v, ok := valid[e.ID]; ok {
					body = []byte(v)
				}
				if e.ID == "installCertificate" {
					body = r.pair(t)
				}
				r.injectFields(t, admin, e, body)
			}
			r.injectPath(t, admin, e)
			r.shownAsText(t, admin)
			quiet(t, r)
			for _, q := range r.server.Asked() {
				if s := fmt.Sprintf("%+v", q); apitest.HostileIn(s) {
					t.Errorf("PID 1 was asked for %s", s)
				}
			}
		})
	}
}

// pair is a certificate and its key as the API takes them.
func (r *rig) pair(t *testing.T) []byte {
	t.Helper()
	c, err := r.certs.Certificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(Pair{
		Chain: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]})),
		Key:   string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})),
	})
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func (r *rig) injectFields(t *testing.T, admin *browser, e endpoint, body []byte) {
	t.Helper()
	var v any
	if err := json.Unmarshal(body, &v); err != nil {
		t.Fatal(err)
	}
	fields := apitest.StringPaths(v)
	if len(fields) == 0 {
		t.Errorf("%s takes a body and no text was found in it: %s", e.ID, body)
	}
	for _, path := range fields {
		parts := make([]string, len(path))
		for i, p := range path {
			parts[i] = fmt.Sprint(p)
		}
		field := strings.Join(parts, ".")
		for _, h := range apitest.Hostile {
			b, err := json.Marshal(apitest.With(v, path, h))
			if err != nil {
				t.Fatal(err)
			}
			a := admin.call(e.Method, concrete(e.Path), b, nil)
			switch {
			case a.failed():
				t.Errorf("%s with %q in %s: status %d\n%.300s", e.ID, api.Cut(h, 40), field, a.status, a.body)
			case a.status == http.StatusUnprocessableEntity:
				p, named := a.problem(t), false
				for _, f := range p.Fields {
					// A list is told by its name or by the number of its line.
					named = named || f.Field == field || strings.HasPrefix(field, f.Field+".") || strings.HasPrefix(f.Field, field+".")
				}
				if !named && !freeField(field) && !harmless(h) && !otherFault(e, p, field) {
					t.Errorf("%s with %q in %s: the field is not among %+v", e.ID, api.Cut(h, 40), field, p.Fields)
				}
				if strings.Contains(a.body, "<script>") {
					t.Errorf("%s: the error gives %q back as it was", e.ID, h)
				}
			}
		}
	}
}

func freeField(field string) bool {
	for _, f := range freely {
		if field == f {
			return true
		}
	}
	return false
}

// harmless are texts that may be right where an address, a number or a name is
// expected.
func harmless(h string) bool {
	switch h {
	case "169.254.169.254", "::ffff:127.0.0.1", "1.2.3.4/0", "127.0.0.1", "255.255.255.255", "-1", "1e9", "NaN", "admin ", "0x7f.1", "АДМИН", "--help":
		return true
	}
	return strings.HasPrefix(h, "999")
}

// otherFault reports whether what is wrong is another field, which is checked
// first: a wrong password hides what else is wrong.
func otherFault(e endpoint, p api.Problem, field string) bool {
	for _, f := range p.Fields {
		if f.Field == "current" || f.Field == "tool" {
			return true
		}
	}
	return false
}

func (r *rig) injectPath(t *testing.T, admin *browser, e endpoint) {
	t.Helper()
	for _, m := range api.PathParam.FindAllStringIndex(e.Path, -1) {
		for _, h := range apitest.Hostile {
			if len(h) > 2000 {
				h = h[:2000]
			}
			path := concrete(e.Path[:m[0]]) + url.PathEscape(h) + concrete(e.Path[m[1]:])
			a := admin.call(e.Method, path, bodyOf(e), nil)
			if a.status < 300 || a.failed() {
				t.Errorf("%s %s: status %d\n%.300s", e.Method, api.Cut(path, 100), a.status, a.body)
			}
		}
	}
}

// shownAsText fails when a page shows text of somebody as markup, or with
// characters that rule a terminal.
func (r *rig) shownAsText(t *testing.T, admin *browser) {
	t.Helper()
	for _, p := range r.c.pages {
		a := admin.get(concrete(p.Path))
		if a.failed() {
			t.Errorf("GET %s: %d", p.Path, a.status)
		}
		for _, bad := range []string{"<script>alert", "<img src=x", `href="javascript:`, "\x00", "\x1b", "\u009b"} {
			if strings.Contains(a.body, bad) {
				t.Errorf("%s has %q", p.Path, bad)
			}
		}
	}
}
