package web_test

import (
	"net/http"
	"testing"

	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/portaltest"
	"github.com/parley-meet/parley/services/internal/portal/store/storetest"
)

// What one instance begins another one ends, on either database: a sign-up, a
// reset, a session, a token, a suspension.
func TestIdentityOnTwoInstances(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db string) {
		p, q := portaltest.On(t, db, make([]byte, 32)), portaltest.On(t, db, make([]byte, 32))
		p.Stranger().JSON("POST", "/api/v1/signup", signUp("anna@example.com"), nil)
		// Each instance puts its own URL before a link; they share one when they
		// are not in a test.
		secret := secretOf(t, q, links(t, q, "anna@example.com", "verify")[0], "/verify")
		q.Stranger().JSON("POST", "/api/v1/signup/verify", obj{"link": secret, "password": testPassword}, nil)
		if a := p.Stranger().Do("POST", "/api/v1/signup/verify", obj{"link": secret, "password": testPassword}); a.Status != http.StatusUnprocessableEntity {
			t.Errorf("the link is good at the other instance: %d", a.Status)
		}
		c := p.Stranger()
		if a := signIn(t, c, "anna@example.com", testPassword, "/"); a.Status != http.StatusSeeOther {
			t.Fatalf("%d", a.Status)
		}
		var self struct{ User people.User }
		c.JSON("GET", "/api/v1/self", nil, &self)
		there := q.Client(self.User) // a session that the other instance shows and ends
		token := tokenOf(t, q, self.User, "", "meetings:read")
		prog := p.Stranger()
		prog.Token = token
		if a := prog.Do("GET", "/api/v1/profile/tokens", nil); a.Status != http.StatusForbidden { // known, and no person
			t.Errorf("%d", a.Status)
		}
		c.JSON("DELETE", "/api/v1/profile/sessions", nil, nil)
		if a := there.Do("GET", "/api/v1/self", nil); a.Status != http.StatusUnauthorized {
			t.Errorf("%d", a.Status)
		}
		q.Stranger().JSON("POST", "/api/v1/reset", obj{"email": "anna@example.com"}, nil)
		secret = secretOf(t, p, links(t, p, "anna@example.com", "reset")[0], "/reset")
		p.Stranger().JSON("POST", "/api/v1/reset/password", obj{"link": secret, "password": "eight green bottles"}, nil)
		if a := signIn(t, q.Stranger(), "anna@example.com", "eight green bottles", "/"); a.Status != http.StatusSeeOther {
			t.Errorf("%d", a.Status)
		}
		if len(links(t, p, "anna@example.com", "password")) != 1 {
			t.Error("nobody told her that the password was changed")
		}
		exec(t, q, "UPDATE accounts SET suspended = 1 WHERE id = ?", self.User.Account)
		if a := prog.Do("GET", "/api/v1/profile/tokens", nil); a.Status != http.StatusUnauthorized {
			t.Errorf("a token of a suspended account: %d", a.Status)
		}
	})
}
