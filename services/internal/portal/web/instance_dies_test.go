package web_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/portal/directory"
	"github.com/parley-meet/parley/services/internal/portal/identity"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/portaltest"
	"github.com/parley-meet/parley/services/internal/portal/store/storetest"
	"github.com/parley-meet/parley/services/internal/portal/zones"
)

// One of two instances on PostgreSQL is gone from one moment to the next, while
// somebody works and a controller is linked to it: the same session goes on at
// the other, everything that was acknowledged is there, and the Monitor there
// has the controller running again.
func TestInstanceDies(t *testing.T) {
	db := storetest.Postgres(t)
	p, q := portaltest.On(t, db, make([]byte, 32)), portaltest.On(t, db, make([]byte, 32))
	_, owner := p.Account("Acme", people.Enterprise)
	actor := identity.ActorOf(owner, "192.0.2.1", "web")
	if err := p.All.Zones.Enable(t.Context(), actor, "Zone"); err != nil {
		t.Fatal(err)
	}
	c, err := p.All.Zones.Get(t.Context(), actor)
	if err != nil {
		t.Fatal(err)
	}
	token, err := p.All.Zones.AddToken(t.Context(), actor, zones.TokenInput{Zone: c.Zones[0].ID, Title: "T"})
	if err != nil {
		t.Fatal(err)
	}
	a := p.Appliance(token.Secret, "zc1.example.com", link.Controller)
	a.Linked()
	a.Stop()
	both := a.Credentials
	both.Portals = append(both.Portals, "wss://"+q.Server.Listener.Addr().String()+"/link")
	a = p.Resume(both, "zc1.example.com")
	running := func(after time.Time) func() bool {
		return func() bool {
			states, err := q.All.Live.Appliances(t.Context(), owner.Account)
			return err == nil && len(states) == 1 && states[0].Running(time.Now()) && states[0].Contact.After(after)
		}
	}
	portaltest.Wait(t, "the controller at the other instance", running(time.Time{}))

	was := ""
	for _, r := range dump(t, q) {
		if r.table == "appliance_live" {
			was = r.values["instance"]
		}
	}

	// A browser has one session, whichever instance answers.
	browser := p.Client(owner)
	session := http.Cookie{Name: sessionCookie, Value: cookieOf(browser, sessionCookie)}
	bases := []string{p.Server.URL, q.Server.URL}
	const groups, dies = 120, 40
	var died time.Time
	acknowledged := 0
	for n := range groups {
		if n == dies {
			died = time.Now()
			go p.Kill() // in the middle of a request, or of none
		}
		body, err := json.Marshal(directory.GroupInput{Name: fmt.Sprintf("Group %03d", n)})
		if err != nil {
			t.Fatal(err)
		}
		for _, base := range bases {
			req, err := http.NewRequest("POST", base+"/api/v1/groups", bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/json")
			req.AddCookie(&session)
			browser.HTTP.Jar = nil
			resp, err := browser.HTTP.Do(req)
			if err != nil {
				bases = bases[1:] // the other one from now on
				continue
			}
			resp.Body.Close()
			// Who tries again may find that it was done.
			if resp.StatusCode != http.StatusOK && (len(bases) == 2 || resp.StatusCode != http.StatusUnprocessableEntity) {
				t.Errorf("group %d at %s: status %d", n, base, resp.StatusCode)
				continue
			}
			acknowledged++
			break
		}
	}
	if acknowledged != groups || len(bases) != 1 {
		t.Errorf("%d of %d groups were acknowledged, %d instances are left", acknowledged, groups, len(bases))
	}
	var list []directory.Group
	q.Client(owner).JSON("GET", "/api/v1/groups", nil, &list)
	if len(list) != groups {
		t.Errorf("there are %d groups, %d were acknowledged", len(list), acknowledged)
	}
	portaltest.Wait(t, "the controller at the instance that is left", running(died.Add(link.Heartbeat)))
	instances := map[string]bool{}
	for _, r := range dump(t, q) {
		if r.table == "appliance_live" {
			instances[r.values["instance"]] = true
		}
	}
	if was == "" || len(instances) != 1 || instances[was] {
		t.Errorf("the controller is linked to %v, was to %v", instances, was)
	}
}
