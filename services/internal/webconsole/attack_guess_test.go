package webconsole

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/parley-meet/parley/services/internal/guard"
)

// Who sits at another's session finds the password no sooner by sending, between
// two guesses, what is refused before it is looked at.
func TestAttackOwnPassword(t *testing.T) {
	r := newRig(t, testPassword)
	b := r.loggedIn()
	const next = "a new password, long"
	form := func(current, confirm string) answer {
		return b.api("PUT", "/api/v1/account/password", fmt.Sprintf(`{"current":%q,"new":%q,"confirm":%q}`, current, next, confirm))
	}
	guesses := 0
	for i := range 12 {
		if a := form(fmt.Sprint("guess ", i), next); a.status == http.StatusUnprocessableEntity {
			guesses++
		} else if a.status != http.StatusTooManyRequests {
			t.Fatalf("guess %d: %d %s", i, a.status, a.body)
		}
		if a := form("guess", "something else"); a.status == http.StatusUnprocessableEntity && !strings.Contains(a.body, "confirm") {
			t.Fatalf("the form that is not looked at: %s", a.body)
		}
	}
	if guesses > 6 {
		t.Errorf("%d of 12 guesses were looked at", guesses)
	}
}

// A program's token is good also where somebody tries wrong ones.
func TestAttackTokenNeighbour(t *testing.T) {
	r := newRig(t, testPassword)
	hand := r.program(r.loggedIn(), "view")
	guesser, slowed := r.browser(), false
	for range 20 {
		a := guesser.call("GET", "/api/v1/status", nil, http.Header{"Authorization": {"Bearer parley_" + strings.Repeat("x", 43)}})
		slowed = slowed || a.status == http.StatusTooManyRequests
		if a := hand.get("/api/v1/status"); a.status != http.StatusOK {
			t.Fatalf("the good token: %d", a.status)
		}
	}
	if !slowed {
		t.Error("a good token makes wrong ones free")
	}
}

// Whoever guesses from the administrator's own address, behind the same router,
// does not keep out a browser in which the administrator has logged in before;
// the mark is good for that account alone, and opens nothing.
func TestAttackSameAddress(t *testing.T) {
	r := newRig(t, testPassword)
	home := r.loggedIn()
	home.do("POST", "/logout", url.Values{})
	guesser := r.browser()
	for range 8 {
		guesser.login("a guess")
	}
	if a := guesser.login("a guess"); a.status != http.StatusTooManyRequests {
		t.Fatalf("guesses are not slowed down: %d", a.status)
	}
	if a := home.login(testPassword); a.status != http.StatusSeeOther {
		t.Errorf("the administrator's browser: %d", a.status)
	}
	// The mark itself is counted.
	home.do("POST", "/logout", url.Values{})
	slowed := false
	for range 8 {
		slowed = slowed || home.login("a guess").status == http.StatusTooManyRequests
	}
	if !slowed {
		t.Error("a marked browser guesses without end")
	}

	mark := func(value, name string) string {
		q := httptest.NewRequest("GET", "/", nil)
		q.AddCookie(&http.Cookie{Name: guard.DeviceCookie, Value: value})
		return r.c.devices.Known(q, name)
	}
	w := httptest.NewRecorder()
	r.c.devices.Mark(w, httptest.NewRequest("GET", "/", nil), "admin")
	set := w.Header().Get("Set-Cookie")
	good := strings.TrimPrefix(strings.Split(set, ";")[0], guard.DeviceCookie+"=")
	if mark(good, " Admin ") == "" {
		t.Error("the mark is not known")
	}
	for _, x := range [][2]string{{good, "vera"}, {good + "A", "admin"}, {"-_" + good[2:], "admin"}, {good[:16], "admin"}, {"", "admin"}, {".", "admin"}, {"%00.", "admin"}} {
		if mark(x[0], x[1]) != "" {
			t.Errorf("%q is a mark of %s", x[0], x[1])
		}
	}
	for _, want := range []string{"; Path=/", "; HttpOnly", "; Secure", "; SameSite=Strict"} {
		if !strings.Contains(set, want) {
			t.Errorf("the cookie %q lacks %s", set, want)
		}
	}
	b := r.browser()
	b.header.Set("Cookie", guard.DeviceCookie+"="+good)
	if a := b.get("/api/v1/status"); a.status != http.StatusUnauthorized {
		t.Errorf("the mark opens the API: %d", a.status)
	}
}

// Whoever finds a session, and not the password, neither takes the second factor
// away nor puts one of his own on, which would keep the owner out.
func TestAttackFactorOfSession(t *testing.T) {
	r := newRig(t, testPassword)
	b := r.loggedIn()
	before := r.kept(t)
	for _, path := range []string{"/api/v1/account/totp", "/api/v1/account/totp/remove"} {
		guesses := 0
		for _, password := range []string{"", "a guess", "another", "a third", "a fourth", "a fifth"} {
			a := b.api("POST", path, fmt.Sprintf(`{"password":%q}`, password))
			switch {
			case a.status == http.StatusUnprocessableEntity && len(a.problem(t).Fields) == 1 && a.problem(t).Fields[0].Field == "password":
				guesses++
			case a.status != http.StatusTooManyRequests:
				t.Errorf("%s with %q: %d %s", path, password, a.status, a.body)
			}
		}
		if guesses > 4 {
			t.Errorf("%s: %d guesses were looked at", path, guesses)
		}
		if a := b.api("POST", path, ""); a.status < 400 {
			t.Errorf("%s without a body: %d", path, a.status)
		}
	}
	r.unchanged(t, before)
}
