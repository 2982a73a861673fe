package web_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/portaltest"
	"github.com/parley-meet/parley/services/internal/portal/zones"
)

var connectorTabs = []string{"/connector", "/connector/token", "/connector/configure", "/connector/activate"}

// The way from an account without the connector to production and back, through
// the API that the pages use; each page is there at each step.
func TestConnectorWay(t *testing.T) {
	p := portaltest.New(t)
	_, owner := p.Account("Acme", people.Business)
	o := p.Client(owner)
	pages := func(when string) string {
		t.Helper()
		var all strings.Builder
		for _, tab := range connectorTabs {
			a := o.Do("GET", tab, nil)
			if a.Status != http.StatusOK {
				t.Fatalf("%s %s: %d", tab, when, a.Status)
			}
			all.Write(a.Body)
		}
		return all.String()
	}
	refuse := func(method, path string, body any, status int, want string) {
		t.Helper()
		if a := o.Do(method, path, body); a.Status != status || !strings.Contains(string(a.Body), want) {
			t.Errorf("%s %s: %d %s, want %d with %s", method, path, a.Status, a.Body, status, want)
		}
	}
	pages("before")
	refuse("POST", "/api/v1/connector/tokens", zones.TokenInput{Title: "T"}, http.StatusConflict, "connector-off")
	refuse("POST", "/api/v1/connector/enable", map[string]any{"zone": " "}, http.StatusUnprocessableEntity, "required")
	o.JSON("POST", "/api/v1/connector/enable", map[string]any{"zone": "Berlin"}, nil)
	var c zones.Connector
	o.JSON("GET", "/api/v1/connector", nil, &c)
	if len(c.Zones) != 1 || c.Zones[0].Name != "Berlin" || c.Account.Enabled.IsZero() {
		t.Fatalf("%+v", c)
	}
	zone := c.Zones[0].ID
	var m zones.MadeToken
	o.JSON("POST", "/api/v1/connector/tokens", zones.TokenInput{Zone: zone, Title: "Rack 3", Days: 30}, &m)
	if body := pages("with a token"); strings.Contains(body, m.Secret) || !strings.Contains(body, "Rack 3") {
		t.Error("the list shows the secret, or no token")
	}
	refuse("PUT", "/api/v1/connector/production", map[string]any{"on": true, "accept": true}, http.StatusUnprocessableEntity, "not-ready")
	a := p.Appliance(m.Secret, "zc-1", link.Controller)
	a.Linked()
	portaltest.Wait(t, "a controller that is ready", func() bool {
		var r zones.Readiness
		o.JSON("GET", "/api/v1/connector/readiness", nil, &r)
		return r.Ready
	})
	o.JSON("PUT", "/api/v1/connector/appliances/"+a.Credentials.Appliance, zones.NamesInput{PublicName: "meet.acme.example", External: []string{"203.0.113.10"}}, nil)
	a.Config(func(c link.Config) bool { return c.PublicName == "meet.acme.example" && len(c.External) == 1 })
	o.JSON("PUT", "/api/v1/connector/production", map[string]any{"on": true, "accept": true}, nil)
	a.Config(func(c link.Config) bool { return c.Production })
	if body := pages("in production"); !strings.Contains(body, "meet.acme.example") || !strings.Contains(body, "203.0.113.10") {
		t.Error("Configure does not show how the controller is reached")
	}
	refuse("DELETE", "/api/v1/connector/zones/"+zone, nil, http.StatusUnprocessableEntity, "zone-in-use")
	o.JSON("PUT", "/api/v1/connector/production", map[string]any{"on": false}, nil)
	a.Config(func(c link.Config) bool { return !c.Production })

	var next zones.MadeToken
	o.JSON("POST", "/api/v1/connector/tokens/"+m.Token.ID+"/rotate", map[string]any{"hours": 0}, &next)
	if next.Secret == m.Secret || next.Token.ID == m.Token.ID {
		t.Error("the token is the old one")
	}
	refuse("POST", "/api/v1/connector/tokens/"+m.Token.ID+"/rotate", map[string]any{"hours": 0}, http.StatusUnprocessableEntity, "token-ended")
	o.JSON("POST", "/api/v1/connector/tokens/"+m.Token.ID+"/revoke", map[string]any{"appliances": true}, nil)
	var left []zones.Appliance
	o.JSON("GET", "/api/v1/connector/appliances", nil, &left)
	if len(left) != 0 {
		t.Errorf("still enrolled: %+v", left)
	}
	portaltest.Wait(t, "the end of its link", func() bool { return !a.Client.Connection().Connected })
	o.JSON("POST", "/api/v1/connector/disable", nil, nil)
	pages("after")
}

// Who may use a zone: nobody chosen is not everybody, and people are named by
// address.
func TestConnectorAllow(t *testing.T) {
	p := portaltest.New(t)
	a, owner := p.Account("Acme", people.Business)
	b, _ := p.Account("Other", people.Business)
	inside, outside := p.User(a.ID, "In", people.Member, people.KindOnPrem), p.User(b.ID, "Out", people.Member, people.KindOnPrem)
	o := p.Client(owner)
	o.JSON("POST", "/api/v1/connector/enable", map[string]any{"zone": "Z"}, nil)
	var c zones.Connector
	o.JSON("GET", "/api/v1/connector", nil, &c)
	path := "/api/v1/connector/zones/" + c.Zones[0].ID + "/allowed"
	for _, body := range []map[string]any{{}, {"everybody": false, "users": []string{}}, {"users": []string{outside.Email}}, {"users": []string{outside.ID}}, {"groups": []string{"x"}}} {
		if got := o.Do("PUT", path, body); got.Status != http.StatusUnprocessableEntity {
			t.Errorf("%v: %d %s", body, got.Status, got.Body)
		}
	}
	o.JSON("PUT", path, map[string]any{"users": []string{" " + strings.ToUpper(inside.Email), inside.ID}}, nil)
	var got zones.Allowed
	o.JSON("GET", path, nil, &got)
	if len(got.Users) != 1 || got.Users[0] != inside.ID {
		t.Errorf("%+v", got)
	}
	if body := string(o.Do("GET", "/connector/configure", nil).Body); !strings.Contains(body, inside.Email) {
		t.Error("Configure does not show who was chosen")
	}
	o.JSON("PUT", path, map[string]any{"everybody": true, "users": []string{inside.ID}}, nil)
	o.JSON("GET", path, nil, &got)
	if len(got.Users) != 0 {
		t.Errorf("%+v", got)
	}
}

// The use of a zone by sub-accounts is the owner's matter: an admin, and a token
// without the scope, change nothing of it, and what is left out stays.
func TestConnectorAllowSubaccounts(t *testing.T) {
	p := portaltest.New(t)
	a, owner := p.Account("Acme", people.Business)
	admin := p.User(a.ID, "Admin", people.Admin, "")
	o, c := p.Client(owner), p.Client(admin)
	var sub, other people.Account
	o.JSON("POST", "/api/v1/account/subaccounts", map[string]any{"name": "Sub", "ownerName": "S", "ownerEmail": "s@example.com"}, &sub)
	o.JSON("POST", "/api/v1/account/subaccounts", map[string]any{"name": "Other", "ownerName": "O", "ownerEmail": "o@example.com"}, &other)
	o.JSON("POST", "/api/v1/connector/enable", map[string]any{"zone": "Z"}, nil)
	var got struct{ Zones []zones.Zone }
	o.JSON("GET", "/api/v1/connector", nil, &got)
	path := "/api/v1/connector/zones/" + got.Zones[0].ID + "/allowed"
	is := func(what string, want ...string) {
		t.Helper()
		var now zones.Allowed
		o.JSON("GET", path, nil, &now)
		if !slices.Equal(now.Accounts, want) {
			t.Errorf("%s: %v, want %v", what, now.Accounts, want)
		}
	}
	o.JSON("PUT", path, map[string]any{"everybody": true, "accounts": []string{sub.ID}}, nil)
	is("given by the owner", sub.ID)
	o.JSON("PUT", path, map[string]any{"users": []string{admin.ID}}, nil)
	c.JSON("PUT", path, map[string]any{"everybody": true}, nil)
	is("left out", sub.ID)
	for _, ids := range [][]string{{}, {other.ID}, {sub.ID, other.ID}, {"nobody"}} {
		if a := c.Do("PUT", path, map[string]any{"users": []string{admin.ID}, "accounts": ids}); a.Status != http.StatusForbidden {
			t.Errorf("an admin with %v: %d %s", ids, a.Status, a.Body)
		}
	}
	is("an admin tried", sub.ID)
	c.JSON("PUT", path, map[string]any{"everybody": true, "accounts": []string{sub.ID}}, nil)
	if body := string(c.Do("GET", "/connector/configure", nil).Body); strings.Contains(body, sub.ID) {
		t.Error("Configure has the sub-account's id for an admin")
	}
	token := p.Stranger()
	token.Token = tokenOf(t, p, owner, "", "connector:write")
	if a := token.Do("PUT", path, map[string]any{"everybody": true, "accounts": []string{}}); a.Status != http.StatusForbidden {
		t.Errorf("a token without account:write: %d %s", a.Status, a.Body)
	}
	is("a token tried", sub.ID)
	o.JSON("PUT", path, map[string]any{"everybody": true, "accounts": []string{}}, nil)
	is("taken by the owner")
}

// Accounts without the connector are told why, and whoever is no admin, or is
// another account's, reaches nothing.
func TestConnectorRoles(t *testing.T) {
	p := portaltest.New(t)
	_, basic := p.Account("Basic", people.Basic)
	if body := string(p.Client(basic).Do("GET", "/connector", nil).Body); !strings.Contains(body, "operator can change the type") {
		t.Error("a Basic account is not told why")
	}
	if got := p.Client(basic).Do("POST", "/api/v1/connector/enable", map[string]any{"zone": "Z"}); got.Status != http.StatusConflict {
		t.Errorf("Basic enables: %d", got.Status)
	}
	a, owner := p.Account("Acme", people.Business)
	_, other := p.Account("Other", people.Enterprise)
	o, f := p.Client(owner), p.Client(other)
	for _, c := range []*portaltest.Client{o, f} {
		c.JSON("POST", "/api/v1/connector/enable", map[string]any{"zone": "Z"}, nil)
		c.JSON("POST", "/api/v1/connector/zones", map[string]any{"name": "Y"}, nil)
	}
	var c zones.Connector
	o.JSON("GET", "/api/v1/connector", nil, &c)
	var m zones.MadeToken
	o.JSON("POST", "/api/v1/connector/tokens", zones.TokenInput{Zone: c.Zones[0].ID, Title: "T"}, &m)
	one := p.Appliance(m.Secret, "zc-1", link.Controller)
	member := p.Client(p.User(a.ID, "Member", people.Member, ""))
	zone, token, machine := "/api/v1/connector/zones/"+c.Zones[0].ID, "/api/v1/connector/tokens/"+m.Token.ID, "/api/v1/connector/appliances/"+one.Credentials.Appliance
	for _, r := range []struct {
		method, path string
		body         any
	}{
		{"PUT", zone, map[string]any{"name": "Stolen"}}, {"DELETE", zone, nil}, {"GET", zone + "/allowed", nil}, {"PUT", zone + "/allowed", map[string]any{"everybody": true}},
		{"POST", token + "/rotate", map[string]any{"hours": 1}}, {"POST", token + "/revoke", map[string]any{"appliances": true}},
		{"PUT", machine, map[string]any{"publicName": "a.example.com", "external": []string{}}}, {"DELETE", machine, nil},
	} {
		for status, by := range map[int]*portaltest.Client{http.StatusNotFound: f, http.StatusForbidden: member, http.StatusUnauthorized: p.Stranger()} {
			if got := by.Do(r.method, r.path, r.body); got.Status != status {
				t.Errorf("%s %s: %d %s, want %d", r.method, r.path, got.Status, got.Body, status)
			}
		}
	}
	if got := f.Do("POST", "/api/v1/connector/tokens", zones.TokenInput{Zone: c.Zones[0].ID, Title: "T"}); got.Status != http.StatusUnprocessableEntity {
		t.Errorf("a token for a foreign zone: %d %s", got.Status, got.Body)
	}
	var left []zones.Appliance
	o.JSON("GET", "/api/v1/connector/appliances", nil, &left)
	if len(left) != 1 {
		t.Errorf("enrolled: %+v", left)
	}
}
