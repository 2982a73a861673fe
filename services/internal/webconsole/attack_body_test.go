package webconsole

import (
	"net/http"
	"strings"
	"testing"

	"github.com/parley-meet/parley/services/internal/apitest"
)

// Bodies that are too large, too deep, or no JSON of the right form are refused
// by every endpoint of the table with an error of the API; nothing changes.
func TestAttackBodies(t *testing.T) {
	r := newRig(t, testPassword)
	admin := r.loggedIn()
	before := r.kept(t)
	bodies := apitest.Bodies()
	for _, e := range writes(r.c) {
		if e.Request == nil {
			for name, body := range bodies {
				if body == "" {
					continue
				}
				if a := admin.call(e.Method, concrete(e.Path), []byte(body), nil); a.status < 400 || a.failed() {
					t.Errorf("%s %s, which takes no body, with %s: %d", e.Method, e.Path, name, a.status)
				}
			}
			continue
		}
		for name, body := range bodies {
			a := admin.call(e.Method, concrete(e.Path), []byte(body), nil)
			if a.status < 400 || a.failed() {
				t.Errorf("%s %s with %s: status %d, want 4xx\n%.300s", e.Method, e.Path, name, a.status, a.body)
				continue
			}
			a.problem(t)
			if strings.Contains(name, "too long") && a.status != http.StatusRequestEntityTooLarge {
				t.Errorf("%s %s with %s: status %d, want 413", e.Method, e.Path, name, a.status)
			}
			if name == "unknown field" && !strings.Contains(a.body, "nothing-of-that-name") && a.status == http.StatusUnprocessableEntity {
				t.Errorf("%s %s with an unknown field does not name it: %s", e.Method, e.Path, a.body)
			}
		}
	}
	for name, body := range map[string]string{"long": "name=admin&password=" + strings.Repeat("x", 1<<20), "many": strings.Repeat("a=b&", 2000), "broken": "name=%zz&password=%", "NUL": "name=admin%00&password=x%00"} {
		a := admin.call("POST", "/login", []byte(body), http.Header{"Content-Type": {"application/x-www-form-urlencoded"}})
		if a.status < 400 || a.failed() {
			t.Errorf("login with a %s form: %d", name, a.status)
		}
	}
	r.unchanged(t, before)
	if a := r.browser().from("127.61.0.1").login(testPassword); a.status != http.StatusSeeOther {
		t.Errorf("login afterwards: %d", a.status)
	}
	quiet(t, r)
}
