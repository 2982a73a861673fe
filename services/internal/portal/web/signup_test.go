package web_test

import (
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/parley-meet/parley/services/internal/portal/mail"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/portaltest"
	"github.com/parley-meet/parley/services/internal/portal/store"
)

type obj = map[string]any

// links returns the links of mails that wait for an address, newest first, as the
// portal's operator sees them.
func links(t *testing.T, p *portaltest.Portal, to, kind string) []string {
	t.Helper()
	c := p.Client(p.Operator())
	var list []mail.Waiting
	c.JSON("GET", "/api/v1/operator/mail", nil, &list)
	var out []string
	for _, m := range list {
		if m.To != to || m.Kind != kind {
			continue
		}
		var text struct{ Link string }
		c.JSON("POST", "/api/v1/operator/mail/"+m.ID+"/reveal", nil, &text)
		out = append(out, text.Link)
	}
	return out
}

// secretOf returns what stands behind the "#".
func secretOf(t *testing.T, p *portaltest.Portal, link, path string) string {
	t.Helper()
	s, ok := strings.CutPrefix(link, p.Server.URL+path+"#")
	if !ok || len(s) < 40 {
		t.Fatalf("link %q, want %s%s#…", link, p.Server.URL, path)
	}
	return s
}

func signUp(email string) obj {
	return obj{"name": "Anna", "account": "Acme", "type": "business", "email": email, "password": testPassword}
}

func TestSignUp(t *testing.T) {
	p := portaltest.New(t)
	c := p.Stranger()
	for _, path := range []string{"/signup", "/verify", "/reset", "/invite", "/setup", "/email"} {
		if a := c.Do("GET", path, nil); a.Status != http.StatusOK {
			t.Errorf("%s: %d", path, a.Status)
		}
	}
	if a := c.Do("POST", "/api/v1/signup", obj{"name": " ", "account": "A\u202eB", "type": "gold", "email": "anna@", "password": "short"}); a.Status != http.StatusUnprocessableEntity ||
		strings.Count(string(a.Body), `"field"`) != 5 {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	var first struct{ Handle string }
	c.JSON("POST", "/api/v1/signup", signUp(" Anna@Example.COM"), &first)
	c.JSON("POST", "/api/v1/signup/again", obj{"handle": first.Handle}, nil)
	c.JSON("POST", "/api/v1/signup/again", obj{"handle": strings.Repeat("0", 64)}, nil)
	got := links(t, p, "anna@example.com", "verify")
	if len(got) != 2 {
		t.Fatalf("%q", got)
	}
	secret := secretOf(t, p, got[1], "/verify")
	// Before the address is proven there is nobody.
	if a := signIn(t, c, "anna@example.com", testPassword, "/"); a.Status != http.StatusForbidden {
		t.Errorf("%d", a.Status)
	}
	var about struct{ Email, Account string }
	c.JSON("POST", "/api/v1/links", obj{"purpose": "verify", "link": secret}, &about)
	if about.Email != "anna@example.com" || about.Account != "Acme" {
		t.Errorf("%+v", about)
	}
	for _, purpose := range []string{"reset", "invite", "setup", "none", ""} {
		if a := c.Do("POST", "/api/v1/links", obj{"purpose": purpose, "link": secret}); a.Status != http.StatusUnprocessableEntity {
			t.Errorf("a link to verify is one to %s: %d", purpose, a.Status)
		}
	}
	// Whoever was made to follow somebody else's link does not know the password.
	if a := p.Stranger().Do("POST", "/api/v1/signup/verify", obj{"link": secret, "password": "another password"}); a.Status != http.StatusUnprocessableEntity {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	c.JSON("POST", "/api/v1/signup/verify", obj{"link": secret, "password": testPassword}, nil)
	var self struct{ User people.User }
	c.JSON("GET", "/api/v1/self", nil, &self)
	if self.User.Email != "anna@example.com" || self.User.Role != people.Owner || self.User.State != people.Active {
		t.Errorf("%+v", self)
	}
	if n := links(t, p, "anna@example.com", "verify"); len(n) != 0 {
		t.Errorf("%d mails wait for what is done", len(n))
	}
	// Neither link works again.
	for _, l := range got {
		if a := p.Stranger().Do("POST", "/api/v1/signup/verify", obj{"link": secretOf(t, p, l, "/verify"), "password": testPassword}); a.Status != http.StatusUnprocessableEntity {
			t.Errorf("a link works twice: %d %s", a.Status, a.Body)
		}
	}
	if a := signIn(t, p.Stranger(), "anna@example.com", testPassword, "/"); a.Status != http.StatusSeeOther {
		t.Errorf("%d", a.Status)
	}
}

// An address that is taken learns nothing from the page; its owner gets a mail.
func TestSignUpTellsNothing(t *testing.T) {
	p := portaltest.New(t)
	_, owner := p.Account("Acme", people.Business)
	c := p.Stranger()
	taken, free := c.Do("POST", "/api/v1/signup", signUp(owner.Email)), c.Do("POST", "/api/v1/signup", signUp("free@example.com"))
	handle := regexp.MustCompile(`[0-9a-f]{64}`)
	if taken.Status != free.Status || handle.ReplaceAllString(string(taken.Body), "") != handle.ReplaceAllString(string(free.Body), "") || !handle.Match(taken.Body) {
		t.Errorf("%d %s, %d %s", taken.Status, taken.Body, free.Status, free.Body)
	}
	if got := links(t, p, owner.Email, "taken"); len(got) != 1 || got[0] != p.Server.URL+"/reset" {
		t.Errorf("%q", got)
	}
	known, unknown := c.Do("POST", "/api/v1/reset", obj{"email": owner.Email}), c.Do("POST", "/api/v1/reset", obj{"email": "nobody@example.com"})
	if known.Status != http.StatusNoContent || unknown.Status != known.Status {
		t.Errorf("%d %d", known.Status, unknown.Status)
	}
	if len(links(t, p, owner.Email, "reset")) != 1 || links(t, p, "nobody@example.com", "reset") != nil {
		t.Error("mails")
	}
}

func TestReset(t *testing.T) {
	p := portaltest.New(t)
	_, owner := p.Account("Acme", people.Business)
	setPassword(t, p, owner, testPassword)
	old := p.Client(owner)
	c := p.Stranger()
	// The Host that a request names has no say in what a mail links to.
	req, _ := http.NewRequest("POST", p.Server.URL+"/api/v1/reset", strings.NewReader(`{"email":"`+owner.Email+`"}`))
	req.Host = "evil.example"
	req.Header.Set("X-Forwarded-Host", "evil.example")
	req.Header.Set("Content-Type", "application/json")
	if a := send(t, c, req); a.Status != http.StatusNoContent {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	c.JSON("POST", "/api/v1/reset", obj{"email": owner.Email}, nil)
	got := links(t, p, owner.Email, "reset")
	if len(got) != 2 {
		t.Fatal(got)
	}
	first, second := secretOf(t, p, got[1], "/reset"), secretOf(t, p, got[0], "/reset")
	// A scanner that follows the link uses nothing up.
	c.Do("GET", "/reset", nil)
	c.Do("HEAD", "/reset", nil)
	if a := c.Do("POST", "/api/v1/reset/password", obj{"link": first, "password": "short"}); a.Status != http.StatusUnprocessableEntity || !strings.Contains(string(a.Body), "password-short") {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	// Two at once: one of them.
	var g sync.WaitGroup
	var mu sync.Mutex
	good := 0
	for range 4 {
		g.Go(func() {
			a := p.Stranger().Do("POST", "/api/v1/reset/password", obj{"link": first, "password": "eight green bottles"})
			mu.Lock()
			defer mu.Unlock()
			if a.Status == http.StatusNoContent {
				good++
			}
		})
	}
	g.Wait()
	if good != 1 {
		t.Errorf("a link was good %d times", good)
	}
	if a := c.Do("POST", "/api/v1/reset/password", obj{"link": second, "password": "nine green bottles"}); a.Status != http.StatusUnprocessableEntity {
		t.Errorf("the other link is still good: %d", a.Status)
	}
	if a := old.Do("GET", "/api/v1/self", nil); a.Status != http.StatusUnauthorized {
		t.Errorf("a session outlived the reset: %d", a.Status)
	}
	if a := signIn(t, c, owner.Email, "eight green bottles", "/"); a.Status != http.StatusSeeOther {
		t.Errorf("%d", a.Status)
	}
}

// A link that is too old is not good.
func TestLinksExpire(t *testing.T) {
	p := portaltest.New(t)
	_, owner := p.Account("Acme", people.Business)
	p.Stranger().JSON("POST", "/api/v1/reset", obj{"email": owner.Email}, nil)
	secret := secretOf(t, p, links(t, p, owner.Email, "reset")[0], "/reset")
	exec(t, p, "UPDATE links SET expires = 1")
	if a := p.Stranger().Do("POST", "/api/v1/reset/password", obj{"link": secret, "password": "eight green bottles"}); a.Status != http.StatusUnprocessableEntity {
		t.Errorf("%d", a.Status)
	}
}

func TestSignupModes(t *testing.T) {
	p := portaltest.New(t)
	op := p.Client(p.Operator())
	if a := op.Do("PUT", "/api/v1/operator/signup", obj{"mode": "perhaps"}); a.Status != http.StatusUnprocessableEntity {
		t.Errorf("%d", a.Status)
	}
	op.JSON("PUT", "/api/v1/operator/signup", obj{"mode": "closed"}, nil)
	c := p.Stranger()
	if a := c.Do("POST", "/api/v1/signup", signUp("anna@example.com")); a.Status != http.StatusUnprocessableEntity {
		t.Errorf("closed: %d", a.Status)
	}
	if a := c.Do("GET", "/login", nil); strings.Contains(string(a.Body), "/signup") {
		t.Error("the sign-in page offers a sign-up")
	}
	op.JSON("PUT", "/api/v1/operator/signup", obj{"mode": "invited"}, nil)
	if a := c.Do("POST", "/api/v1/signup", signUp("anna@example.com")); a.Status != http.StatusUnprocessableEntity {
		t.Errorf("invited, without a link: %d", a.Status)
	}
	op.JSON("POST", "/api/v1/operator/signup/invitations", obj{"email": "anna@example.com"}, nil)
	in := signUp("anna@example.com")
	in["link"] = secretOf(t, p, links(t, p, "anna@example.com", "signup")[0], "/signup")
	c.JSON("POST", "/api/v1/signup", in, nil)
	if len(links(t, p, "anna@example.com", "verify")) != 1 {
		t.Error("no mail")
	}
}

func TestInvitation(t *testing.T) {
	p := portaltest.New(t)
	acc, _ := p.Account("Acme", people.Business)
	var secret string
	var u people.User
	if err := p.DB.Write(t.Context(), func(tx *store.Tx) (err error) {
		if u, err = people.InsertUser(tx, people.User{Account: acc.ID, Email: "boris@example.com", Name: "boris@example.com", Role: people.Member, State: people.Invited}); err != nil {
			return err
		}
		secret, err = people.MakeLink(tx, people.LinkInvite, u.ID, "", people.InviteTTL)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	c := p.Stranger()
	if a := signIn(t, c, u.Email, "", "/"); a.Status != http.StatusForbidden {
		t.Errorf("without a password: %d", a.Status)
	}
	c.JSON("POST", "/api/v1/invitation", obj{"link": secret, "name": "Boris", "password": testPassword}, nil)
	var self struct{ User people.User }
	c.JSON("GET", "/api/v1/self", nil, &self)
	if self.User.Name != "Boris" || self.User.Account != acc.ID || self.User.Role != people.Member {
		t.Errorf("%+v", self)
	}
	if a := p.Stranger().Do("POST", "/api/v1/invitation", obj{"link": secret, "name": "Mallory", "password": testPassword}); a.Status != http.StatusUnprocessableEntity {
		t.Errorf("twice: %d", a.Status)
	}
}

// An account that invites an address keeps it from nobody: who proves that it is
// his opens an account of his own, or comes by the provider of another. The zone
// that was for him alone stays closed.
func TestInvitedAddressIsNotKept(t *testing.T) {
	p := portaltest.New(t)
	_, evil := p.Account("Evil", people.Business)
	acc, _ := p.Account("Acme", people.Business)
	e := p.Client(evil)
	e.JSON("POST", "/api/v1/connector/enable", obj{"zone": "Z"}, nil)
	var c struct{ Zones []struct{ ID string } }
	e.JSON("GET", "/api/v1/connector", nil, &c)
	o := newProvider(t, p)
	id := o.add(t, p, acc.ID, "corp.example")
	for _, email := range []string{"victim@example.com", "victim@corp.example"} {
		var invited people.User
		e.JSON("POST", "/api/v1/users", obj{"email": email, "role": "admin"}, &invited)
		e.JSON("PUT", "/api/v1/connector/zones/"+c.Zones[0].ID+"/allowed", obj{"users": []string{email}}, nil)
		invitation := secretOf(t, p, links(t, p, email, "invite")[0], "/invite")
		victim := p.Stranger()
		if strings.HasSuffix(email, "@corp.example") {
			victim.Do("GET", o.away(t, victim, id, "/", who("1", email, true)), nil)
		} else {
			victim.JSON("POST", "/api/v1/signup", signUp(email), nil)
			if links(t, p, email, "taken") != nil {
				t.Error("the address is kept")
			}
			victim.JSON("POST", "/api/v1/signup/verify", obj{"link": secretOf(t, p, links(t, p, email, "verify")[0], "/verify"), "password": testPassword}, nil)
		}
		u := p.Find(email)
		if u.ID == invited.ID || u.Account == evil.Account || u.State != people.Active {
			t.Errorf("%+v", u)
		}
		if a := p.Stranger().Do("POST", "/api/v1/invitation", obj{"link": invitation, "name": "X", "password": testPassword}); a.Status != http.StatusUnprocessableEntity {
			t.Errorf("the invitation is good: %d %s", a.Status, a.Body)
		}
		var allowed struct{ Users []string }
		e.JSON("GET", "/api/v1/connector/zones/"+c.Zones[0].ID+"/allowed", nil, &allowed)
		if !slices.Equal(allowed.Users, []string{invited.ID}) {
			t.Errorf("the zone is for %v now", allowed.Users)
		}
		for _, path := range []string{"/connector/configure", "/users", "/account/audit"} {
			if a := e.Do("GET", path, nil); a.Status != http.StatusOK {
				t.Errorf("%s: %d", path, a.Status)
			}
		}
		if a := e.Do("GET", "/api/v1/account/audit", nil); !strings.Contains(string(a.Body), "user.elsewhere") {
			t.Error("the account is told nothing")
		}
	}
	// So does who is there, and changes to an address of his own.
	_, owner := p.Account("Other", people.Business)
	setPassword(t, p, owner, testPassword)
	e.JSON("POST", "/api/v1/users", obj{"email": "new@example.com"}, nil)
	p.Client(owner).JSON("POST", "/api/v1/profile/email", obj{"email": "new@example.com", "password": testPassword}, nil)
	p.Stranger().JSON("POST", "/api/v1/profile/email/confirm", obj{"link": secretOf(t, p, links(t, p, "new@example.com", "email")[0], "/email")}, nil)
	if u := p.Find("new@example.com"); u.ID != owner.ID {
		t.Errorf("%+v", u)
	}
	// One who is there already is not taken away.
	if a := p.Stranger().Do("POST", "/api/v1/signup", signUp(evil.Email)); a.Status != http.StatusOK || len(links(t, p, evil.Email, "taken")) != 1 {
		t.Errorf("%d %s", a.Status, a.Body)
	}
}

func TestFirstOperator(t *testing.T) {
	p := portaltest.New(t)
	stale, err := people.SetupLink(t.Context(), p.DB)
	if err != nil {
		t.Fatal(err)
	}
	path, err := people.SetupLink(t.Context(), p.DB)
	if err != nil {
		t.Fatal(err)
	}
	c := p.Stranger()
	if a := c.Do("GET", "/login", nil); !strings.Contains(string(a.Body), "has no operator") {
		t.Errorf("%s", a.Body)
	}
	in := func(path string) obj {
		return obj{"link": secretOf(t, p, p.Server.URL+path, "/setup"), "name": "Olga", "email": "olga@example.com", "password": testPassword}
	}
	if a := c.Do("POST", "/api/v1/setup", in(stale)); a.Status != http.StatusUnprocessableEntity {
		t.Errorf("a link of an earlier start: %d", a.Status)
	}
	c.JSON("POST", "/api/v1/setup", in(path), nil)
	var list []mail.Waiting
	c.JSON("GET", "/api/v1/operator/mail", nil, &list)
	if a := p.Stranger().Do("GET", "/login", nil); strings.Contains(string(a.Body), "has no operator") {
		t.Errorf("%s", a.Body)
	}
	if path, err := people.SetupLink(t.Context(), p.DB); err != nil || path != "" {
		t.Errorf("%q %v", path, err)
	}
	if a := c.Do("POST", "/api/v1/setup", in(path)); a.Status != http.StatusUnprocessableEntity {
		t.Errorf("twice: %d", a.Status)
	}
	// From the command line.
	link, err := people.MakeOperator(t.Context(), p.DB, "Pavel@example.com", "Pavel")
	if err != nil || !strings.HasPrefix(link, "/invite#") {
		t.Fatalf("%q %v", link, err)
	}
	_, owner := p.Account("Acme", people.Business)
	before := p.Client(owner)
	if link, err := people.MakeOperator(t.Context(), p.DB, owner.Email, ""); err != nil || link != "" {
		t.Errorf("%q %v", link, err)
	}
	if a := before.Do("GET", "/api/v1/self", nil); a.Status != http.StatusUnauthorized {
		t.Errorf("%d", a.Status)
	}
	p.Client(owner).JSON("GET", "/api/v1/operator/mail", nil, nil)
}

// Strangers do not make the portal send mails without end, and nobody's mailbox
// is flooded.
func TestMailsAreBounded(t *testing.T) {
	p := portaltest.New(t)
	_, owner := p.Account("Acme", people.Business)
	c := p.Stranger()
	throttled := false
	for range 25 {
		a := c.Do("POST", "/api/v1/reset", obj{"email": owner.Email})
		throttled = throttled || a.Status == http.StatusTooManyRequests
	}
	if !throttled {
		t.Error("25 requests at once are let through")
	}
	if n := len(links(t, p, owner.Email, "reset")); n != 6 {
		t.Errorf("%d mails to one address", n)
	}
	// Whoever floods a mailbox so keeps no warning from it.
	setPassword(t, p, owner, testPassword)
	p.Client(owner).JSON("PUT", "/api/v1/profile/password", obj{"current": testPassword, "new": "seven blue bottles", "confirm": "seven blue bottles"}, nil)
	if n := len(links(t, p, owner.Email, "password")); n != 1 {
		t.Errorf("%d mails tell that the password was changed", n)
	}
}

// The operator's pages of mail say what is wrong, show no password, and leave a
// line in the audit log when somebody looks at a link.
func TestOperatorsMail(t *testing.T) {
	p := portaltest.New(t)
	acc, owner := p.Account("Acme", people.Business)
	op := p.Client(p.Operator())
	if a := op.Do("POST", "/api/v1/operator/mail/test", nil); a.Status != http.StatusUnprocessableEntity || !strings.Contains(string(a.Body), "mail-off") {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	if a := op.Do("PUT", "/api/v1/operator/mail/settings", obj{"host": "mx.example", "port": 99999, "security": "none", "user": "", "from": "x", "passwordSet": false}); a.Status != http.StatusUnprocessableEntity ||
		strings.Count(string(a.Body), `"field"`) != 3 {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	op.JSON("PUT", "/api/v1/operator/mail/settings", obj{"host": "127.0.0.1", "port": 1, "security": "tls", "user": "u", "from": "parley@example.com", "password": "open sesame"}, nil)
	if a := op.Do("POST", "/api/v1/operator/mail/test", nil); a.Status != http.StatusUnprocessableEntity || !strings.Contains(string(a.Body), "mail-server") {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	for _, path := range []string{"/api/v1/operator/mail/settings", "/operator/mail"} {
		if a := op.Do("GET", path, nil); a.Status != http.StatusOK || strings.Contains(string(a.Body), "sesame") {
			t.Errorf("%s: %d %s", path, a.Status, a.Body)
		}
	}
	p.Stranger().JSON("POST", "/api/v1/reset", obj{"email": owner.Email}, nil)
	if n := len(links(t, p, owner.Email, "reset")); n != 1 {
		t.Fatal(n)
	}
	var n int
	if err := p.DB.Read(t.Context(), func(tx *store.Tx) error {
		return tx.Row("SELECT COUNT(*) FROM audit WHERE action = 'mail.reveal' AND target = ?", owner.Email).Scan(&n)
	}); err != nil || n != 1 {
		t.Errorf("%d lines of the audit log, %v", n, err)
	}
	var list []mail.Waiting
	op.JSON("GET", "/api/v1/operator/mail", nil, &list)
	for _, c := range []*portaltest.Client{p.Client(owner), p.Client(p.User(acc.ID, "M", people.Member, "")), p.Stranger()} {
		for _, req := range [][2]string{{"GET", ""}, {"POST", "/" + list[0].ID + "/reveal"}, {"DELETE", "/" + list[0].ID}, {"GET", "/settings"}, {"POST", "/test"}} {
			if a := c.Do(req[0], "/api/v1/operator/mail"+req[1], nil); a.Status != http.StatusForbidden && a.Status != http.StatusUnauthorized {
				t.Errorf("%v: %d", req, a.Status)
			}
		}
	}
	op.JSON("DELETE", "/api/v1/operator/mail/"+list[0].ID, nil, nil)
	if a := op.Do("POST", "/api/v1/operator/mail/"+list[0].ID+"/reveal", nil); a.Status != http.StatusNotFound {
		t.Errorf("%d", a.Status)
	}
}
