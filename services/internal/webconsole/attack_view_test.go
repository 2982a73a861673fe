package webconsole

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// operator adds one who has set a password of his own, and logs him in.
func (r *rig) operator(admin *browser, name, authority string) *browser {
	r.t.Helper()
	const first, second = "first good password", "second good password"
	if a := admin.call("POST", "/api/v1/accounts", []byte(`{"name":"`+name+`","authority":"`+authority+`","password":"`+first+`"}`), nil); a.status >= 300 {
		r.t.Fatalf("new account: %d %s", a.status, a.body)
	}
	b := r.loginAs(name, first)
	if a := b.call("PUT", "/api/v1/account/password", []byte(`{"current":"`+first+`","new":"`+second+`","confirm":"`+second+`"}`), nil); a.status >= 300 {
		r.t.Fatalf("new password: %d %s", a.status, a.body)
	}
	return b
}

// program returns a client with a token for automation, made by b.
func (r *rig) program(b *browser, authority string) *browser {
	r.t.Helper()
	a := b.call("POST", "/api/v1/tokens", []byte(`{"title":"a program","authority":"`+authority+`","days":""}`), nil)
	var made MadeToken
	if err := json.Unmarshal([]byte(a.body), &made); err != nil || made.Secret == "" {
		r.t.Fatalf("new token: %d %v\n%s", a.status, err, a.body)
	}
	p := r.browser()
	p.header.Set("Authorization", "Bearer "+made.Secret)
	return p
}

// Who may only look changes nothing: every endpoint of the table that changes
// something answers 403, to a session and to a token, whatever is sent.
func TestAttackView(t *testing.T) {
	r := newRig(t, testPassword)
	admin := r.loggedIn()
	vera := r.operator(admin, "vera", "view")
	eye := r.program(admin, "view")
	if a := eye.get("/api/v1/status"); a.status != http.StatusOK { // that a token is used is kept, to the hour
		t.Fatalf("status with View's token: %d", a.status)
	}
	before := r.kept(t)
	tried := 0
	for _, e := range r.c.api {
		if e.Need != needOperate {
			continue
		}
		for name, who := range map[string]*browser{"session": vera, "token": eye} {
			for _, body := range [][]byte{bodyOf(e), []byte(`{}`), nil} {
				a := who.call(e.Method, concrete(e.Path), body, nil)
				if a.status != http.StatusForbidden {
					t.Errorf("%s %s by View's %s: status %d, want 403\n%s", e.Method, e.Path, name, a.status, a.body)
				} else if code := a.problem(t).Code; code != "denied" && code != "no-token" {
					t.Errorf("%s %s by View's %s: code %q", e.Method, e.Path, name, code)
				}
				tried++
			}
		}
	}
	if tried < 100 {
		t.Fatalf("%d attempts: the table was not found", tried)
	}
	// What changes something and needs less is one's own.
	own := map[string]bool{"changePassword": true, "beginTOTP": true, "confirmTOTP": true, "removeOwnTOTP": true, "endSession": true}
	for _, e := range writes(r.c) {
		if e.Need == needOperate {
			continue
		}
		if !own[e.ID] {
			t.Errorf("%s %s (%s): whoever has logged in may change something", e.Method, e.Path, e.ID)
		}
		if a := eye.call(e.Method, concrete(e.Path), bodyOf(e), nil); a.status != http.StatusForbidden && a.status != http.StatusNotFound {
			t.Errorf("%s %s by a token: status %d", e.Method, e.Path, a.status)
		}
	}
	r.unchanged(t, before)
	for _, p := range r.c.pages {
		a := vera.get(concrete(p.Path))
		if p.Need == "operate" && a.status != http.StatusForbidden {
			t.Errorf("GET %s by View: %d, want 403", p.Path, a.status)
		}
		if a.failed() {
			t.Errorf("GET %s by View: %d", p.Path, a.status)
		}
	}
	// Nobody ends another's session who may only look.
	var list []struct {
		ID, Name string
	}
	if err := json.Unmarshal([]byte(admin.get("/api/v1/sessions").body), &list); err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		if s.Name == "admin" {
			if a := vera.call("DELETE", "/api/v1/sessions/"+s.ID, nil, nil); a.status != http.StatusForbidden {
				t.Errorf("View ends the administrator's session: %d", a.status)
			}
		}
	}
	if a := vera.get("/api/v1/sessions"); strings.Contains(a.body, `"admin"`) {
		t.Error("View sees the administrator's sessions")
	}
	if a := admin.get("/"); a.status != http.StatusOK {
		t.Errorf("the administrator's session is gone: %d", a.status)
	}
}

// Strangers get 401 and nothing else.
func TestAttackStranger(t *testing.T) {
	r := newRig(t, testPassword)
	before := r.kept(t)
	b := r.browser()
	for _, e := range r.c.api {
		if e.Need == needNobody {
			continue
		}
		if a := b.call(e.Method, concrete(e.Path), bodyOf(e), nil); a.status != http.StatusUnauthorized || a.problem(t).Code != "unauthorized" {
			t.Errorf("%s %s: status %d, want 401\n%s", e.Method, e.Path, a.status, a.body)
		}
	}
	for _, p := range r.c.pages {
		if a := b.get(concrete(p.Path)); a.status != http.StatusSeeOther || !strings.HasPrefix(a.header.Get("Location"), "/login") {
			t.Errorf("GET %s: %d to %q, want the login", p.Path, a.status, a.header.Get("Location"))
		}
	}
	r.unchanged(t, before)
}

// A token for automation opens the API and nothing else, as far as it says, and
// no longer than it is kept.
func TestAttackBearer(t *testing.T) {
	r := newRig(t, testPassword)
	admin := r.loggedIn()
	hand := r.program(admin, "operate")
	secret := strings.TrimPrefix(hand.header.Get("Authorization"), "Bearer ")
	if a := hand.get("/api/v1/status"); a.status != http.StatusOK {
		t.Errorf("status: %d", a.status)
	}
	for _, p := range r.c.pages {
		if a := hand.get(concrete(p.Path)); a.status != http.StatusSeeOther {
			t.Errorf("GET %s with a token: %d, want the login", p.Path, a.status)
		}
	}
	for _, e := range r.c.api {
		if !e.NoToken {
			continue
		}
		if a := hand.call(e.Method, concrete(e.Path), bodyOf(e), nil); a.status != http.StatusForbidden || a.problem(t).Code != "no-token" {
			t.Errorf("%s %s with a token: %d %s", e.Method, e.Path, a.status, a.body)
		}
	}
	b := r.browser()
	for _, query := range []string{"?token=", "?access_token=", "?authorization=Bearer%20"} {
		if a := b.get("/api/v1/status" + query + secret); a.status != http.StatusUnauthorized {
			t.Errorf("a token in the address: %d", a.status)
		}
	}
	// A cookie does not help a wrong token.
	if a := admin.call("GET", "/api/v1/status", nil, http.Header{"Authorization": {"Bearer parley_wrong"}}); a.status == http.StatusOK {
		t.Error("a wrong token counts as the cookie's session")
	}
	var list []struct{ ID, Title string }
	if err := json.Unmarshal([]byte(admin.get("/api/v1/tokens").body), &list); err != nil || len(list) != 1 {
		t.Fatalf("tokens %+v, %v", list, err)
	}
	if a := admin.get("/api/v1/tokens"); strings.Contains(a.body, secret) || strings.Contains(r.logs.String(), secret) {
		t.Error("the secret is kept")
	}
	if a := admin.call("DELETE", "/api/v1/tokens/"+list[0].ID, nil, nil); a.status >= 300 {
		t.Fatalf("removing the token: %d %s", a.status, a.body)
	}
	if a := hand.get("/api/v1/status"); a.status != http.StatusUnauthorized {
		t.Errorf("a token that was removed: %d", a.status)
	}
	// Whoever tries tokens waits.
	guesser := r.browser().from("127.60.0.1")
	slowed := false
	for range 40 {
		a := guesser.call("GET", "/api/v1/status", nil, http.Header{"Authorization": {"Bearer parley_" + strings.Repeat("x", 40)}})
		if a.status == http.StatusTooManyRequests && a.header.Get("Retry-After") != "" {
			slowed = true
		} else if a.status != http.StatusUnauthorized {
			t.Errorf("a guess: %d", a.status)
		}
	}
	if !slowed {
		t.Error("tokens can be tried without end")
	}
}
