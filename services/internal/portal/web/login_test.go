package web_test

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/credential"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/portaltest"
	"github.com/parley-meet/parley/services/internal/portal/store"
)

const testPassword = "seven green bottles"

// setPassword gives a person a password, as a sign-up does.
func setPassword(t *testing.T, p *portaltest.Portal, u people.User, password string) {
	t.Helper()
	h, err := credential.NewHasher(1).Hash(t.Context(), password)
	if err != nil {
		t.Fatal(err)
	}
	exec(t, p, "UPDATE users SET password = ?, password_set = ? WHERE id = ?", h.String(), store.Millis(time.Now()), u.ID)
}

func exec(t *testing.T, p *portaltest.Portal, query string, args ...any) {
	t.Helper()
	if err := p.DB.Write(t.Context(), func(tx *store.Tx) error { _, err := tx.Exec(query, args...); return err }); err != nil {
		t.Fatal(err)
	}
}

// post sends a form as a browser does.
func post(t *testing.T, c *portaltest.Client, path string, form url.Values) portaltest.Answer {
	t.Helper()
	req, err := http.NewRequest("POST", c.P.Server.URL+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return send(t, c, req)
}

func send(t *testing.T, c *portaltest.Client, req *http.Request) portaltest.Answer {
	t.Helper()
	resp, err := c.HTTP.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return portaltest.Answer{Status: resp.StatusCode, Header: resp.Header, Body: b}
}

func signIn(t *testing.T, c *portaltest.Client, email, password, to string) portaltest.Answer {
	t.Helper()
	return post(t, c, "/login", url.Values{"email": {email}, "password": {password}, "to": {to}})
}

func cookieOf(c *portaltest.Client, name string) string {
	u, _ := url.Parse(c.P.Server.URL)
	for _, k := range c.HTTP.Jar.Cookies(u) {
		if k.Name == name {
			return k.Value
		}
	}
	return ""
}

const sessionCookie = "__Host-parley-portal"

func TestSignIn(t *testing.T) {
	p := portaltest.New(t)
	acc, owner := p.Account("Acme", people.Business)
	setPassword(t, p, owner, testPassword)
	c := p.Stranger()
	if a := c.Do("GET", "/login?ended=idle&to=/", nil); a.Status != http.StatusOK || !strings.Contains(string(a.Body), "12 hours") {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	// An address that nobody has is answered as a wrong password is.
	wrong := signIn(t, c, owner.Email, "seven green battles", "/")
	unknown := signIn(t, c, "nobody@example.com", testPassword, "/")
	if wrong.Status != http.StatusForbidden || unknown.Status != wrong.Status ||
		strings.ReplaceAll(string(wrong.Body), owner.Email, "X") != strings.ReplaceAll(string(unknown.Body), "nobody@example.com", "X") {
		t.Errorf("%d %d\n%s\n%s", wrong.Status, unknown.Status, wrong.Body, unknown.Body)
	}
	a := signIn(t, c, " "+strings.ToUpper(owner.Email), testPassword, "/")
	if a.Status != http.StatusSeeOther || a.Header.Get("Location") != "/" {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	c.JSON("GET", "/api/v1/self", nil, nil)
	if a := c.Do("GET", "/login", nil); a.Status != http.StatusSeeOther {
		t.Errorf("whoever has signed in sees the form: %d", a.Status)
	}
	// Suspension ends it at once, of the person and of the account.
	for _, on := range [][2]string{{"UPDATE users SET state = 'suspended' WHERE id = ?", owner.ID}, {"UPDATE accounts SET suspended = 1 WHERE id = ?", acc.ID}} {
		exec(t, p, on[0], on[1])
		if a := c.Do("GET", "/api/v1/self", nil); a.Status != http.StatusUnauthorized {
			t.Errorf("%s: %d", on[0], a.Status)
		}
		if a := signIn(t, c, owner.Email, testPassword, "/"); a.Status != http.StatusForbidden || !strings.Contains(string(a.Body), "suspended") {
			t.Errorf("%s: %d %s", on[0], a.Status, a.Body)
		}
		if a := signIn(t, c, owner.Email, "wrong wrong wrong", "/"); strings.Contains(string(a.Body), "suspended") {
			t.Error("a stranger learns of the suspension")
		}
		exec(t, p, "UPDATE users SET state = 'active' WHERE id = ?", owner.ID)
	}
}

// What a form or a link names as the next page is never another site.
func TestSignInGoesNowhereElse(t *testing.T) {
	p := portaltest.New(t)
	_, owner := p.Account("Acme", people.Business)
	setPassword(t, p, owner, testPassword)
	for _, to := range []string{"https://evil.example/", "//evil.example", "/\\evil.example", "/%2f%2fevil.example", "javascript:alert(1)", "\\\\evil.example",
		"/login", "/logout", "/api/v1/self", "/\r\nSet-Cookie: a=b", "http:evil.example", "/..//evil.example", "https:/\tevil.example"} {
		a := signIn(t, p.Stranger(), owner.Email, testPassword, to)
		if a.Status != http.StatusSeeOther || a.Header.Get("Location") != "/" {
			t.Errorf("%q: %d %q", to, a.Status, a.Header.Get("Location"))
		}
		if a := p.Client(owner).Do("GET", "/login?to="+url.QueryEscape(to), nil); a.Header.Get("Location") != "/" {
			t.Errorf("%q: %q", to, a.Header.Get("Location"))
		}
	}
}

// A session's token is always new, and the one that the browser had is over.
func TestSessionFixation(t *testing.T) {
	p := portaltest.New(t)
	acc, owner := p.Account("Acme", people.Business)
	setPassword(t, p, owner, testPassword)
	other := p.User(acc.ID, "Other", people.Member, "")
	c := p.Client(other)
	planted := cookieOf(c, sessionCookie)
	if a := signIn(t, c, owner.Email, testPassword, "/"); a.Status != http.StatusSeeOther {
		t.Fatal(a.Status)
	}
	if now := cookieOf(c, sessionCookie); now == planted || now == "" {
		t.Error("the token that was there before is still used")
	}
	old := p.Stranger()
	u, _ := url.Parse(p.Server.URL)
	old.HTTP.Jar.SetCookies(u, []*http.Cookie{{Name: sessionCookie, Value: planted, Path: "/", Secure: true}})
	if a := old.Do("GET", "/api/v1/self", nil); a.Status != http.StatusUnauthorized {
		t.Errorf("the planted session lives: %d", a.Status)
	}
}

// A form of another site signs nobody in.
func TestSignInFromAnotherSite(t *testing.T) {
	p := portaltest.New(t)
	_, owner := p.Account("Acme", people.Business)
	setPassword(t, p, owner, testPassword)
	c := p.Stranger()
	req, _ := http.NewRequest("POST", p.Server.URL+"/login", strings.NewReader(url.Values{"email": {owner.Email}, "password": {testPassword}}.Encode()))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Origin", "https://evil.example")
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	if a := send(t, c, req); a.Status != http.StatusForbidden || cookieOf(c, sessionCookie) != "" {
		t.Errorf("%d %s", a.Status, a.Body)
	}
}

func TestSignInIsThrottled(t *testing.T) {
	p := portaltest.New(t)
	_, owner := p.Account("Acme", people.Business)
	setPassword(t, p, owner, testPassword)
	c := p.Stranger()
	slowed := false
	for range 8 {
		a := signIn(t, c, owner.Email, "a wrong password", "/")
		slowed = slowed || a.Status == http.StatusTooManyRequests && a.Header.Get("Retry-After") != ""
	}
	if !slowed {
		t.Error("eight wrong passwords in a row are not slowed down")
	}
}

// Who signs in before he has confirmed his address reads what to do, and so does
// who has no account here or mistypes: the answers are the same.
func TestWrongSignInTellsWhatToDo(t *testing.T) {
	for lang, want := range map[string]string{"en": "First follow the link in our mail", "ru": "Сначала перейдите по ссылке из нашего письма"} {
		p := portaltest.New(t) // one that has not counted yet
		_, owner := p.Account("Acme", people.Business)
		setPassword(t, p, owner, testPassword)
		p.Stranger().JSON("POST", "/api/v1/signup", signUp("early@example.com"), nil)
		ask := func(email, password string) string {
			t.Helper()
			req, err := http.NewRequest("POST", p.Server.URL+"/login", strings.NewReader(url.Values{"email": {email}, "password": {password}}.Encode()))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			req.Header.Set("Accept-Language", lang)
			a := send(t, p.Stranger(), req)
			if a.Status != http.StatusForbidden {
				t.Errorf("%s: %d", email, a.Status)
			}
			return strings.ReplaceAll(string(a.Body), email, "ADDRESS")
		}
		early, wrong, nobody := ask("early@example.com", testPassword), ask(owner.Email, "another password"), ask("nobody@example.com", testPassword)
		if early != wrong || wrong != nobody {
			t.Errorf("%s: the answers tell who has an account", lang)
		}
		if !strings.Contains(early, want) {
			t.Errorf("%s: no word of what to do: %s", lang, early)
		}
	}
	p := portaltest.New(t)
	p.Client(p.Operator()).JSON("PUT", "/api/v1/operator/signup", obj{"mode": "closed"}, nil)
	if a := signIn(t, p.Stranger(), "nobody@example.com", testPassword, "/"); a.Status != http.StatusForbidden || strings.Contains(string(a.Body), "Just signed up") {
		t.Errorf("nobody can sign up here: %d %s", a.Status, a.Body)
	}
}
