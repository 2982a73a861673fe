package web_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/portal/identity"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/portaltest"
	"github.com/parley-meet/parley/services/internal/portal/store"
)

// tokenOf makes a token of a person with scopes, whatever the API has.
func tokenOf(t *testing.T, p *portaltest.Portal, u people.User, days string, scopes ...string) string {
	t.Helper()
	s := identity.New(p.DB, p.Vault, nil)
	_, secret, err := s.AddToken(t.Context(), identity.ActorOf(u, "192.0.2.1", "web"), identity.TokenInput{Title: "T", Scopes: scopes, Days: days}, scopes)
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

func TestTokenActor(t *testing.T) {
	p := portaltest.New(t)
	acc, _ := p.Account("Acme", people.Business)
	admin := p.User(acc.ID, "Admin", people.Admin, "")
	s := identity.New(p.DB, p.Vault, nil)
	secret := tokenOf(t, p, admin, "", "meetings:read", "meetings:read", "users:read")
	who, err := s.TokenActor(t.Context(), secret, "192.0.2.9")
	if err != nil || who.User != admin.ID || who.Account != acc.ID || who.Role != people.Admin || !who.Scoped("users:read") || who.Scoped("users:write") || who.Via != "api" || who.From != "192.0.2.9" || len(who.Scopes) != 2 {
		t.Fatalf("%+v %v", who, err)
	}
	// The secret is kept nowhere.
	var n int
	if err := p.DB.Read(t.Context(), func(tx *store.Tx) error {
		return tx.Row("SELECT COUNT(*) FROM api_tokens WHERE sum LIKE ? OR title LIKE ?", "%"+strings.TrimPrefix(secret, identity.TokenPrefix)+"%", "%"+secret+"%").Scan(&n)
	}); err != nil || n != 0 {
		t.Errorf("%d %v", n, err)
	}
	list, err := s.Tokens(t.Context(), who)
	if err != nil || len(list) != 1 || list[0].Used.IsZero() || list[0].Used.Second() != 0 {
		t.Errorf("%+v %v", list, err)
	}
	// What the person may now counts.
	for _, c := range []struct {
		set, unset string
		arg        string
		good       func(people.Actor, error) bool
	}{
		{"UPDATE users SET role = 'member' WHERE id = ?", "UPDATE users SET role = 'admin' WHERE id = ?", admin.ID, func(a people.Actor, err error) bool { return err == nil && a.Role == people.Member }},
		{"UPDATE users SET state = 'suspended' WHERE id = ?", "UPDATE users SET state = 'active' WHERE id = ?", admin.ID, func(_ people.Actor, err error) bool { return err != nil }},
		{"UPDATE accounts SET suspended = 1 WHERE id = ?", "UPDATE accounts SET suspended = 0 WHERE id = ?", acc.ID, func(_ people.Actor, err error) bool { return err != nil }},
		{"UPDATE users SET account_id = NULL WHERE id = ?", "UPDATE users SET account_id = '" + acc.ID + "' WHERE id = ?", admin.ID, func(_ people.Actor, err error) bool { return err != nil }},
		{"UPDATE users SET operator = TRUE WHERE id = ?", "UPDATE users SET operator = FALSE WHERE id = ?", admin.ID, func(a people.Actor, err error) bool { return err == nil && !a.Operator }},
	} {
		exec(t, p, c.set, c.arg)
		if a, err := s.TokenActor(t.Context(), secret, ""); !c.good(a, err) {
			t.Errorf("%s: %+v %v", c.set, a, err)
		}
		exec(t, p, c.unset, c.arg)
	}
	exec(t, p, "UPDATE api_tokens SET expires = ?", store.Millis(time.Now()))
	if _, err := s.TokenActor(t.Context(), secret, ""); err == nil {
		t.Error("a token that has expired is good")
	}
}

func TestTokens(t *testing.T) {
	p := portaltest.New(t)
	acc, owner := p.Account("Acme", people.Business)
	other := p.User(acc.ID, "Other", people.Member, "")
	c := p.Client(owner)
	for field, in := range map[string]obj{
		"title": {"title": "", "scopes": []string{"x:y"}, "days": ""}, "scopes": {"title": "T", "scopes": []string{"everything"}, "days": "1"}, "days": {"title": "T", "scopes": []string{}, "days": "0"},
	} {
		if a := c.Do("POST", "/api/v1/profile/tokens", in); a.Status != http.StatusUnprocessableEntity || !strings.Contains(string(a.Body), `"field":"`+field+`"`) {
			t.Errorf("%s: %d %s", field, a.Status, a.Body)
		}
	}
	secret := tokenOf(t, p, owner, "30", "meetings:read")
	var list []identity.Token
	c.JSON("GET", "/api/v1/profile/tokens", nil, &list)
	if len(list) != 1 || list[0].Expires.Before(time.Now().AddDate(0, 0, 29)) {
		t.Fatalf("%+v", list)
	}
	// A token is no person: it makes no way in that outlives it.
	prog := p.Stranger()
	prog.Token = secret
	for _, path := range []string{"/api/v1/profile/tokens", "/api/v1/profile/sessions"} {
		if a := prog.Do("GET", path, nil); a.Status != http.StatusForbidden {
			t.Errorf("%s: %d", path, a.Status)
		}
	}
	// Another person, of the same account too, does not remove it.
	if a := p.Client(other).Do("DELETE", "/api/v1/profile/tokens/"+list[0].ID, nil); a.Status != http.StatusNotFound {
		t.Errorf("%d", a.Status)
	}
	c.JSON("DELETE", "/api/v1/profile/tokens/"+list[0].ID, nil, nil)
	if a := prog.Do("GET", "/api/v1/profile/tokens", nil); a.Status != http.StatusUnauthorized {
		t.Errorf("%d", a.Status)
	}
	// Wrong ones are slowed down; a good one from the same address is not.
	good := p.Stranger()
	good.Token = tokenOf(t, p, owner, "", "meetings:read")
	var got []int
	for range 8 {
		got = append(got, prog.Do("GET", "/api/v1/profile/tokens", nil).Status)
	}
	if !slices.Contains(got, http.StatusTooManyRequests) {
		t.Errorf("%v", got)
	}
	if a := good.Do("GET", "/api/v1/profile/tokens", nil); a.Status != http.StatusForbidden {
		t.Errorf("%d", a.Status)
	}
}

// An address that nobody has costs what a wrong password costs: a hash.
func TestUnknownAddressCostsAsMuch(t *testing.T) {
	p := portaltest.New(t)
	acc, owner := p.Account("Acme", people.Business)
	invited := p.User(acc.ID, "No password", people.Member, "")
	setPassword(t, p, owner, testPassword)
	s := identity.New(p.DB, p.Vault, nil)
	best := func(email string) time.Duration {
		least := time.Hour
		for range 4 {
			began := time.Now()
			if _, err := s.CheckPassword(t.Context(), email, "a wrong password"); err != identity.ErrWrong {
				t.Errorf("%s: %v", email, err)
			}
			least = min(least, time.Since(began))
		}
		return least
	}
	known := best(owner.Email)
	for _, email := range []string{"nobody@example.com", invited.Email, "no address at all"} {
		// A look into the database without a hash takes a hundredth; a busy machine
		// makes either slower.
		if took := best(email); took < known/10 {
			t.Errorf("%s takes %v, a wrong password %v", email, took, known)
		}
	}
}
