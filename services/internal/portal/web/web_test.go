package web_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/portaltest"
	"github.com/parley-meet/parley/services/internal/portal/web"
)

func TestPages(t *testing.T) {
	p := portaltest.New(t)
	_, owner := p.Account("Acme", people.Business)
	if a := p.Stranger().Do("GET", "/", nil); a.Status != http.StatusSeeOther || a.Header.Get("Location") != "/login" {
		t.Errorf("%d %v", a.Status, a.Header)
	}
	c := p.Client(owner)
	if a := c.Do("GET", "/", nil); a.Status != http.StatusOK || !strings.Contains(string(a.Body), "Acme Owner") {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	var self web.Self
	c.JSON("GET", "/api/v1/self", nil, &self)
	if self.User.ID != owner.ID {
		t.Errorf("%+v", self)
	}
	if a := c.Do("GET", "/healthz", nil); a.Status != http.StatusOK || string(a.Body) != "ok\n" {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	if a := c.Do("POST", "/logout", nil); a.Status != http.StatusSeeOther {
		t.Errorf("%d", a.Status)
	}
	if a := c.Do("GET", "/api/v1/self", nil); a.Status != http.StatusUnauthorized {
		t.Errorf("%d %s", a.Status, a.Body)
	}
}

// Somebody else's library reads the description, and finds every endpoint
// guarded.
func TestDescription(t *testing.T) {
	p := portaltest.New(t)
	doc, err := openapi3.NewLoader().LoadFromData(p.Stranger().Do("GET", "/api/openapi.json", nil).Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			tokens := false
			if op.Security != nil {
				for _, s := range *op.Security {
					_, ok := s["token"]
					tokens = tokens || ok
				}
			}
			if scope := op.Extensions["x-scope"]; tokens && scope == nil {
				t.Errorf("%s %s takes tokens and names no scope", method, path)
			}
		}
	}
}
