package webconsole

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/guard"
	"github.com/parley-meet/parley/services/internal/look"
)

// token returns the session's token that the browser holds.
func (b *browser) token() string { return strings.TrimPrefix(b.cookie(), sessionCookie+"=") }

// inside reports whether a token opens the console.
func (r *rig) inside(token string) bool {
	r.t.Helper()
	b := r.browser()
	b.header.Set("Cookie", sessionCookie+"="+token)
	page, api := b.get("/"), b.get("/api/v1/status")
	if (page.status == http.StatusOK) != (api.status == http.StatusOK) {
		r.t.Errorf("the page says %d and the API %d", page.status, api.status)
	}
	return page.status == http.StatusOK
}

// A token that somebody planted before the login is not the session after it.
func TestAttackFixation(t *testing.T) {
	r := newRig(t, testPassword)
	for _, planted := range []string{"planted", strings.Repeat("A", 43), r.loggedIn().token()} {
		b := r.browser()
		b.header.Set("Cookie", sessionCookie+"="+planted)
		a := b.login(testPassword)
		if a.status != http.StatusSeeOther {
			t.Fatalf("login: %d", a.status)
		}
		set := slices.DeleteFunc(slices.Clone(a.header.Values("Set-Cookie")), func(s string) bool { return strings.HasPrefix(s, guard.DeviceCookie+"=") })
		if len(set) != 1 || strings.Contains(set[0], planted) {
			t.Fatalf("after a login with a planted token: %q", set)
		}
		for _, want := range []string{sessionCookie + "=", "; Path=/", "; HttpOnly", "; Secure", "; SameSite=Strict"} {
			if !strings.Contains(set[0], want) {
				t.Errorf("the cookie %q lacks %s", set[0], want)
			}
		}
		if strings.Contains(set[0], "Domain") || strings.Contains(set[0], "Expires") || strings.Contains(set[0], "Max-Age") {
			t.Errorf("the cookie %q outlives the browser, or goes elsewhere", set[0])
		}
		if r.inside(planted) {
			t.Error("a planted token opens the console")
		}
	}
	// Two tokens in a header: neither is taken for the other's session.
	b := r.loggedIn()
	good := b.token()
	c := r.browser()
	c.header.Set("Cookie", sessionCookie+"=planted; "+sessionCookie+"="+good)
	if a := c.get("/"); a.status == http.StatusOK {
		t.Error("the second of two tokens counts")
	}
}

// A session that was ended is: by logout, from another session, by a new
// password.
func TestAttackEndedSessions(t *testing.T) {
	r := newRig(t, testPassword)
	a, b, c := r.loggedIn(), r.loggedIn(), r.loggedIn()
	ta, tb, tc := a.token(), b.token(), c.token()
	for _, token := range []string{ta, tb, tc} {
		if !r.inside(token) {
			t.Fatal("a session does not open the console")
		}
	}
	if got := a.do("POST", "/logout", nil); got.status != http.StatusSeeOther {
		t.Errorf("logout: %d", got.status)
	}
	if r.inside(ta) {
		t.Error("the session goes on after its logout")
	}

	var list []look.SessionInfo
	if err := json.Unmarshal([]byte(c.get("/api/v1/sessions").body), &list); err != nil {
		t.Fatal(err)
	}
	revoked := 0
	for _, s := range list {
		if s.Own {
			continue
		}
		if got := c.call("DELETE", "/api/v1/sessions/"+s.ID, nil, nil); got.status != http.StatusNoContent {
			t.Errorf("revoking a session: %d %s", got.status, got.body)
		}
		revoked++
	}
	if revoked != 1 {
		t.Errorf("%d sessions were revoked, want 1 of %+v", revoked, list)
	}
	if r.inside(tb) {
		t.Error("the session goes on after it was revoked")
	}
	if !r.inside(tc) {
		t.Error("the session that revoked another is gone")
	}

	d := r.loggedIn()
	td := d.token()
	body := `{"current":"` + testPassword + `","new":"another good password","confirm":"another good password"}`
	if got := c.call("PUT", "/api/v1/account/password", []byte(body), nil); got.status >= 300 {
		t.Fatalf("new password: %d %s", got.status, got.body)
	}
	if r.inside(td) || r.inside(tc) {
		t.Error("tokens from before the new password open the console")
	}
	if got := c.get("/"); got.status != http.StatusOK {
		t.Errorf("who changed the password is logged out: %d", got.status)
	}
}

// Tokens cannot be guessed, and none is in a page, an address or the log.
func TestAttackTokens(t *testing.T) {
	r := newRig(t, testPassword)
	b := r.loggedIn()
	token := b.token()
	if len(token) < 43 {
		t.Errorf("the token has %d characters", len(token))
	}
	for _, p := range r.c.pages {
		if a := b.get(concrete(p.Path)); strings.Contains(a.body, token) {
			t.Errorf("%s: the page has the session's token", p.Path)
		}
	}
	if a := b.get("/api/v1/sessions"); strings.Contains(a.body, token) {
		t.Error("the list of sessions has a token")
	}
	if a := r.browser().get("/?" + sessionCookie + "=" + token); a.status == http.StatusOK {
		t.Error("a token in an address opens the console")
	}
	if strings.Contains(r.logs.String(), token) {
		t.Error("the log has a token")
	}
	for _, other := range []string{token[:len(token)-1], token + "A", strings.ToUpper(token), token + "=", " " + token, "\"" + token + "x\""} {
		if other != token && r.inside(other) {
			t.Errorf("a token that is not %q opens the console", other)
		}
	}
}

// Nobody who must change the password reaches anything else before.
func TestAttackMustChange(t *testing.T) {
	r := newRig(t, testPassword)
	admin := r.loggedIn()
	const first = "first good password"
	if a := admin.call("POST", "/api/v1/accounts", []byte(`{"name":"nina","authority":"operate","password":"`+first+`"}`), nil); a.status >= 300 {
		t.Fatalf("new account: %d %s", a.status, a.body)
	}
	before := r.kept(t)
	nina := r.loginAs("nina", first)
	for _, p := range r.c.pages {
		a := nina.get(concrete(p.Path))
		if p.Forced {
			if a.status != http.StatusOK {
				t.Errorf("GET %s: %d", p.Path, a.status)
			}
		} else if a.status != http.StatusSeeOther || a.header.Get("Location") != "/password" {
			t.Errorf("GET %s: %d to %q, want the form for a new password", p.Path, a.status, a.header.Get("Location"))
		}
	}
	for _, e := range r.c.api {
		if e.Forced || e.Need == needNobody {
			continue
		}
		if a := nina.call(e.Method, concrete(e.Path), bodyOf(e), nil); a.status != http.StatusForbidden || a.problem(t).Code != "must-change" {
			t.Errorf("%s %s: %d %s", e.Method, e.Path, a.status, a.body)
		}
	}
	for _, path := range []string{"/events", "/services/zctrl/log"} {
		if text := nina.beginning(path); strings.Contains(text, "event: status") || strings.Contains(text, "not configured") {
			t.Errorf("GET %s sends %.200q", path, text)
		}
	}
	r.unchanged(t, before)
	// The same password is no new one.
	for body, want := range map[string]int{
		`{"current":"` + first + `","new":"` + first + `","confirm":"` + first + `"}`:         http.StatusUnprocessableEntity,
		`{"current":"wrong","new":"another good password","confirm":"another good password"}`: http.StatusUnprocessableEntity,
	} {
		if a := nina.call("PUT", "/api/v1/account/password", []byte(body), nil); a.status != want {
			t.Errorf("%s: %d %s", body, a.status, a.body)
		}
	}
	if a := nina.get("/"); a.status != http.StatusSeeOther {
		t.Errorf("a refused change opens the console: %d", a.status)
	}
	time.Sleep(1100 * time.Millisecond) // a wrong password costs a moment
	body := `{"current":"` + first + `","new":"another good password","confirm":"another good password"}`
	if a := nina.call("PUT", "/api/v1/account/password", []byte(body), nil); a.status >= 300 {
		t.Fatalf("new password: %d %s", a.status, a.body)
	}
	if a := nina.get("/"); a.status != http.StatusOK {
		t.Errorf("after the change: %d", a.status)
	}
}
