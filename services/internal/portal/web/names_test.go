package web_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"strings"
	"testing"

	"github.com/parley-meet/parley/services/internal/link"
	orders "github.com/parley-meet/parley/services/internal/portal/names"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/portaltest"
	"github.com/parley-meet/parley/services/internal/portal/zones"
)

// A controller asks over its link; its account sees the order, nobody else does,
// and no setting leads into the operator's network.
func TestNames(t *testing.T) {
	p := portaltest.New(t)
	acme, owner := p.Account("Acme", people.Business)
	_, other := p.Account("Other", people.Business)
	o, foreign, member := p.Client(owner), p.Client(other), p.Client(p.User(acme.ID, "M", people.Member, people.KindBasic))
	o.JSON("POST", "/api/v1/connector/enable", map[string]any{"zone": "Berlin"}, nil)
	var c zones.Connector
	o.JSON("GET", "/api/v1/connector", nil, &c)
	var m zones.MadeToken
	o.JSON("POST", "/api/v1/connector/tokens", zones.TokenInput{Zone: c.Zones[0].ID, Title: "T", Days: 1}, &m)
	page := func(want ...string) {
		t.Helper()
		a := o.Do("GET", "/connector/configure", nil)
		for _, w := range want {
			if !strings.Contains(string(a.Body), w) {
				t.Errorf("the page has no %q", w)
			}
		}
	}
	page("No controller has asked yet", orders.LetsEncrypt)
	a := p.Appliance(m.Secret, "zc-1", link.Controller)
	a.Linked()
	o.JSON("PUT", "/api/v1/connector/appliances/"+a.Credentials.Appliance, zones.NamesInput{PublicName: "meet.example.com", External: []string{}}, nil)
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{"meet.example.com"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	a.Client.AskForBrowsers(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})))
	var list []orders.Order
	portaltest.Wait(t, "the order", func() bool {
		o.JSON("GET", "/api/v1/connector/certificates", nil, &list)
		return len(list) == 1
	})
	if list[0].Name != "meet.example.com" || list[0].State != orders.Asked {
		t.Errorf("%+v", list[0])
	}
	page("Waits for the settings")
	foreign.JSON("GET", "/api/v1/connector/certificates", nil, &list)
	if len(list) != 0 {
		t.Errorf("another account sees %+v", list)
	}
	in := map[string]any{"directory": p.Server.URL + "/directory", "email": "ops@example.com", "terms": true, "method": "http-01"}
	for _, path := range []string{"/api/v1/connector/certificates", "/api/v1/connector/names"} {
		if a := member.Do("GET", path, nil); a.Status != http.StatusForbidden {
			t.Errorf("a member, %s: %d", path, a.Status)
		}
	}
	if a := member.Do("PUT", "/api/v1/connector/names", in); a.Status != http.StatusForbidden {
		t.Errorf("a member: %d", a.Status)
	}
	o.JSON("PUT", "/api/v1/connector/names", in, nil)
	portaltest.Wait(t, "a refusal", func() bool {
		o.JSON("GET", "/api/v1/connector/certificates", nil, &list)
		return list[0].State == orders.Failed
	})
	if !strings.Contains(list[0].Problem, "not public") {
		t.Errorf("%+v", list[0])
	}
	page("Failed", "not public", "Next try")
}
