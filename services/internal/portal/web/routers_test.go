package web_test

import (
	"net/http"
	"testing"

	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/portal/live"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/portaltest"
	"github.com/parley-meet/parley/services/internal/portal/zones"
)

// An account's administrator sees the routers of its zones, and of no other's.
func TestRouters(t *testing.T) {
	p := portaltest.New(t)
	zone := map[string]string{}
	owner := map[string]people.User{}
	for _, name := range []string{"Acme", "Other"} {
		_, u := p.Account(name, people.Business)
		who := people.Actor{User: u.ID, Account: u.Account, Name: u.Name, Role: people.Owner}
		if err := p.All.Zones.Enable(t.Context(), who, "Office"); err != nil {
			t.Fatal(err)
		}
		c, err := p.All.Zones.Get(t.Context(), who)
		if err != nil {
			t.Fatal(err)
		}
		zone[name], owner[name] = c.Zones[0].ID, u
		if name == "Acme" {
			m, err := p.All.Zones.AddToken(t.Context(), who, zones.TokenInput{Zone: zone[name], Title: "t"})
			if err != nil {
				t.Fatal(err)
			}
			p.Appliance(m.Secret, "router-1", link.Router).Linked()
		}
	}
	path := func(name string) string { return "/api/v1/connector/zones/" + zone[name] + "/routers" }
	var list []live.Router
	portaltest.Wait(t, "the router", func() bool {
		p.Client(owner["Acme"]).JSON("GET", path("Acme"), nil, &list)
		return len(list) == 1
	})
	if list[0].Host != "router-1" || list[0].Limit != 200 {
		t.Errorf("%+v", list)
	}
	if a := p.Client(owner["Other"]).Do("GET", path("Acme"), nil); a.Status != http.StatusNotFound {
		t.Errorf("another account: %d %s", a.Status, a.Body)
	}
	if a := p.Client(owner["Other"]).Do("GET", path("Other"), nil); a.Status != http.StatusOK || string(a.Body) != "[]\n" && string(a.Body) != "[]" {
		t.Errorf("none: %d %q", a.Status, a.Body)
	}
}
