package web_test

import (
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/account"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/portaltest"
)

func code(t *testing.T, secret string, at time.Time) string {
	t.Helper()
	c, err := account.Code(secret, at)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// enrolled turns the second factor of a person on and returns its secret and
// recovery codes. The code of the step before this one is used up.
func enrolled(t *testing.T, c *portaltest.Client) (secret string, recovery []string) {
	t.Helper()
	var setup struct {
		Secret string
		QR     []string
	}
	c.JSON("POST", "/api/v1/profile/factor", obj{"password": testPassword}, &setup)
	if len(setup.QR) < 21 {
		t.Errorf("a QR code of %d rows", len(setup.QR))
	}
	if a := c.Do("POST", "/api/v1/profile/factor/confirm", obj{"code": "000000x"}); a.Status != http.StatusUnprocessableEntity {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	var made struct{ Codes []string }
	c.JSON("POST", "/api/v1/profile/factor/confirm", obj{"code": code(t, setup.Secret, time.Now().Add(-30*time.Second))}, &made)
	if len(made.Codes) != account.RecoveryCodes {
		t.Errorf("%q", made.Codes)
	}
	return setup.Secret, made.Codes
}

func TestPagesOfProfile(t *testing.T) {
	p := portaltest.New(t)
	_, owner := p.Account("Acme", people.Business)
	for _, c := range []*portaltest.Client{p.Client(owner), p.Client(p.Operator())} {
		for _, path := range []string{"/profile", "/profile/password", "/profile/security", "/profile/sessions", "/profile/tokens"} {
			if a := c.Do("GET", path, nil); a.Status != http.StatusOK {
				t.Errorf("%s: %d %s", path, a.Status, a.Body)
			}
		}
	}
	c := p.Client(owner)
	c.JSON("PUT", "/api/v1/profile", obj{"name": "Anna", "language": "ru", "timezone": "Europe/Minsk"}, nil)
	for field, in := range map[string]obj{
		"name": {"name": ""}, "language": {"name": "A", "language": "xx"}, "timezone": {"name": "A", "timezone": "../../etc/passwd"},
	} {
		if a := c.Do("PUT", "/api/v1/profile", in); a.Status != http.StatusUnprocessableEntity || !strings.Contains(string(a.Body), `"field":"`+field+`"`) {
			t.Errorf("%s: %d %s", field, a.Status, a.Body)
		}
	}
}

func TestOwnPassword(t *testing.T) {
	p := portaltest.New(t)
	_, owner := p.Account("Acme", people.Business)
	setPassword(t, p, owner, testPassword)
	c, other := p.Client(owner), p.Client(owner)
	fresh := "eight green bottles"
	for field, in := range map[string]obj{
		"current": {"current": "wrong", "new": fresh, "confirm": fresh},
		"confirm": {"current": testPassword, "new": fresh, "confirm": "x"},
		"new":     {"current": testPassword, "new": "short", "confirm": "short"},
	} {
		if a := c.Do("PUT", "/api/v1/profile/password", in); a.Status != http.StatusUnprocessableEntity || !strings.Contains(string(a.Body), `"field":"`+field+`"`) {
			t.Errorf("%s: %d %s", field, a.Status, a.Body)
		}
	}
	c.JSON("PUT", "/api/v1/profile/password", obj{"current": testPassword, "new": fresh, "confirm": fresh}, nil)
	c.JSON("GET", "/api/v1/self", nil, nil)
	if a := other.Do("GET", "/api/v1/self", nil); a.Status != http.StatusUnauthorized {
		t.Errorf("another session goes on: %d", a.Status)
	}
	// Whoever holds a session does not have the password guessed.
	slowed := false
	for range 6 {
		slowed = slowed || c.Do("PUT", "/api/v1/profile/password", obj{"current": "a guess", "new": fresh, "confirm": fresh}).Status == http.StatusTooManyRequests
	}
	if !slowed {
		t.Error("guesses are not slowed down")
	}
}

func TestSecondFactor(t *testing.T) {
	// Two instances: one begins, the other goes on.
	db := "sqlite:" + filepath.Join(t.TempDir(), "p.db")
	p, q := portaltest.On(t, db, make([]byte, 32)), portaltest.On(t, db, make([]byte, 32))
	_, owner := p.Account("Acme", people.Business)
	setPassword(t, p, owner, testPassword)
	c := p.Client(owner)
	if a := c.Do("POST", "/api/v1/profile/factor", obj{"password": "wrong"}); a.Status != http.StatusUnprocessableEntity {
		t.Errorf("%d", a.Status)
	}
	secret, recovery := enrolled(t, c)

	b := p.Stranger()
	if a := signIn(t, b, owner.Email, testPassword, "/profile"); a.Status != http.StatusSeeOther || a.Header.Get("Location") != "/login/code" {
		t.Fatalf("%d %v", a.Status, a.Header)
	}
	if cookieOf(b, sessionCookie) != "" {
		t.Error("there is a session before the code")
	}
	if a := b.Do("GET", "/login/code", nil); a.Status != http.StatusOK {
		t.Errorf("%d", a.Status)
	}
	if a := post(t, b, "/login/code", url.Values{"code": {"123"}}); a.Status != http.StatusForbidden {
		t.Errorf("%d", a.Status)
	}
	// The other instance, with this browser's cookie.
	other := q.Stranger()
	u, _ := url.Parse(q.Server.URL)
	other.HTTP.Jar.SetCookies(u, []*http.Cookie{{Name: "__Host-parley-step", Value: cookieOf(b, "__Host-parley-step"), Path: "/", Secure: true}})
	now := code(t, secret, time.Now())
	if a := post(t, other, "/login/code", url.Values{"code": {now[:3] + " " + now[3:]}}); a.Status != http.StatusSeeOther || a.Header.Get("Location") != "/profile" {
		t.Fatalf("%d %v %s", a.Status, a.Header, a.Body)
	}
	other.JSON("GET", "/api/v1/self", nil, nil)
	// Neither the step nor the code is good again.
	if a := post(t, b, "/login/code", url.Values{"code": {now}}); a.Header.Get("Location") != "/login?ended=step" {
		t.Errorf("%d %v", a.Status, a.Header)
	}
	signIn(t, b, owner.Email, testPassword, "/")
	if a := post(t, b, "/login/code", url.Values{"code": {now}}); a.Status != http.StatusForbidden {
		t.Errorf("a code was taken twice: %d", a.Status)
	}
	if a := post(t, b, "/login/code", url.Values{"code": {strings.ToUpper(recovery[0])}}); a.Status != http.StatusSeeOther {
		t.Errorf("a recovery code: %d", a.Status)
	}
	// A change of the password ends a sign-in that waits.
	w := p.Stranger()
	signIn(t, w, owner.Email, testPassword, "/")
	exec(t, p, "UPDATE users SET stamp = stamp + 1 WHERE id = ?", owner.ID)
	if a := post(t, w, "/login/code", url.Values{"code": {recovery[1]}}); a.Header.Get("Location") != "/login?ended=step" {
		t.Errorf("%d %v", a.Status, a.Header)
	}
	c = p.Client(owner)
	var made struct{ Codes []string }
	c.JSON("POST", "/api/v1/profile/factor/recovery", obj{"password": testPassword}, &made)
	c.JSON("POST", "/api/v1/profile/factor/remove", obj{"password": testPassword}, nil)
	if a := signIn(t, p.Stranger(), owner.Email, testPassword, "/"); a.Header.Get("Location") != "/" {
		t.Errorf("%v", a.Header)
	}
}

// An account that demands a second factor lets nobody in before it is set up.
func TestDemandedFactor(t *testing.T) {
	p := portaltest.New(t)
	acc, owner := p.Account("Acme", people.Business)
	member := p.User(acc.ID, "Member", people.Member, "")
	setPassword(t, p, member, testPassword)
	if a := p.Client(member).Do("PUT", "/api/v1/account/factor", obj{"required": true}); a.Status != http.StatusForbidden {
		t.Errorf("a member demands it: %d", a.Status)
	}
	p.Client(owner).JSON("PUT", "/api/v1/account/factor", obj{"required": true}, nil)
	c := p.Stranger()
	if a := signIn(t, c, member.Email, testPassword, "/profile"); a.Header.Get("Location") != "/login/enrol" || cookieOf(c, sessionCookie) != "" {
		t.Fatalf("%d %v", a.Status, a.Header)
	}
	secretIn := func(a portaltest.Answer) string {
		_, rest, _ := strings.Cut(string(a.Body), `<code class="secret">`)
		s, _, _ := strings.Cut(rest, "<")
		return s
	}
	first := c.Do("GET", "/login/enrol", nil)
	secret := secretIn(first)
	if again := secretIn(c.Do("GET", "/login/enrol", nil)); secret == "" || again != secret {
		t.Errorf("a page that is loaded anew shows another secret: %q %q", secret, again)
	}
	if a := c.Do("GET", "/login", nil); a.Header.Get("Location") != "/login/enrol" {
		t.Errorf("%v", a.Header)
	}
	if a := post(t, c, "/login/enrol", url.Values{"code": {"000"}}); a.Status != http.StatusUnprocessableEntity || secretIn(a) != secret {
		t.Errorf("%d", a.Status)
	}
	a := post(t, c, "/login/enrol", url.Values{"code": {code(t, secret, time.Now())}})
	if a.Status != http.StatusOK || !strings.Contains(string(a.Body), `href="/profile"`) {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	c.JSON("GET", "/api/v1/self", nil, nil)
	if a := c.Do("POST", "/api/v1/profile/factor/remove", obj{"password": testPassword}); a.Status != http.StatusUnprocessableEntity {
		t.Errorf("it can be turned off: %d", a.Status)
	}
}

func TestOwnSessions(t *testing.T) {
	p := portaltest.New(t)
	_, owner := p.Account("Acme", people.Business)
	_, stranger := p.Account("Other", people.Business)
	c, second, third := p.Client(owner), p.Client(owner), p.Client(owner)
	type session struct {
		ID  string
		Own bool
	}
	list := func(c *portaltest.Client) (own string, others []string) {
		var l []session
		c.JSON("GET", "/api/v1/profile/sessions", nil, &l)
		for _, s := range l {
			if s.Own {
				own = s.ID
			} else {
				others = append(others, s.ID)
			}
		}
		return own, others
	}
	own, others := list(c)
	if own == "" || len(others) != 2 {
		t.Fatalf("%s %q", own, others)
	}
	if a := p.Client(stranger).Do("DELETE", "/api/v1/profile/sessions/"+own, nil); a.Status != http.StatusNotFound {
		t.Errorf("a stranger ends it: %d", a.Status)
	}
	of2, _ := list(second)
	c.JSON("DELETE", "/api/v1/profile/sessions/"+of2, nil, nil)
	if a := second.Do("GET", "/api/v1/self", nil); a.Status != http.StatusUnauthorized {
		t.Errorf("%d", a.Status)
	}
	c.JSON("DELETE", "/api/v1/profile/sessions", nil, nil)
	if a := third.Do("GET", "/api/v1/self", nil); a.Status != http.StatusUnauthorized {
		t.Errorf("%d", a.Status)
	}
	c.JSON("GET", "/api/v1/self", nil, nil)
}

func TestNewEmail(t *testing.T) {
	p := portaltest.New(t)
	_, owner := p.Account("Acme", people.Business)
	setPassword(t, p, owner, testPassword)
	c := p.Client(owner)
	c.JSON("POST", "/api/v1/profile/email", obj{"email": "New@Example.com", "password": testPassword}, nil)
	if got := links(t, p, owner.Email, "moved"); len(got) != 1 {
		t.Errorf("the old address is not warned: %q", got)
	}
	secret := secretOf(t, p, links(t, p, "new@example.com", "email")[0], "/email")
	p.Stranger().JSON("POST", "/api/v1/profile/email/confirm", obj{"link": secret}, nil)
	if a := c.Do("GET", "/api/v1/self", nil); a.Status != http.StatusUnauthorized {
		t.Errorf("%d", a.Status)
	}
	if a := signIn(t, c, "new@example.com", testPassword, "/"); a.Status != http.StatusSeeOther {
		t.Errorf("%d", a.Status)
	}
	if a := p.Stranger().Do("POST", "/api/v1/profile/email/confirm", obj{"link": secret}); a.Status != http.StatusUnprocessableEntity {
		t.Errorf("twice: %d", a.Status)
	}
}

// Whoever has lost his phone is let in again by one who may do at least as much.
func TestDropFactor(t *testing.T) {
	p := portaltest.New(t)
	acc, owner := p.Account("Acme", people.Business)
	_, stranger := p.Account("Other", people.Business)
	admin, member := p.User(acc.ID, "Admin", people.Admin, ""), p.User(acc.ID, "Member", people.Member, "")
	for _, u := range []people.User{owner, member} {
		setPassword(t, p, u, testPassword)
		enrolled(t, p.Client(u))
	}
	before := p.Client(member)
	for _, c := range []struct {
		by, of people.User
		want   int
	}{
		{stranger, member, http.StatusNotFound}, {member, owner, http.StatusForbidden}, {admin, owner, http.StatusForbidden},
		{admin, people.User{ID: "nobody"}, http.StatusNotFound}, {admin, member, http.StatusNoContent},
	} {
		if a := p.Client(c.by).Do("DELETE", "/api/v1/users/"+c.of.ID+"/factor", nil); a.Status != c.want {
			t.Errorf("%s of %s: %d, want %d", c.by.Name, c.of.Name, a.Status, c.want)
		}
	}
	if a := before.Do("GET", "/api/v1/self", nil); a.Status != http.StatusUnauthorized {
		t.Errorf("a session goes on: %d", a.Status)
	}
	if a := signIn(t, p.Stranger(), member.Email, testPassword, "/"); a.Header.Get("Location") != "/" {
		t.Errorf("%v", a.Header)
	}
	if a := signIn(t, p.Stranger(), owner.Email, testPassword, "/"); a.Header.Get("Location") != "/login/code" {
		t.Errorf("%v", a.Header)
	}
	if a := p.Client(admin).Do("DELETE", "/api/v1/operator/users/"+owner.ID+"/factor", nil); a.Status != http.StatusForbidden {
		t.Errorf("%d", a.Status)
	}
	p.Client(p.Operator()).JSON("DELETE", "/api/v1/operator/users/"+owner.ID+"/factor", nil, nil)
}
