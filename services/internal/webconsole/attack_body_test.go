package webconsole

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/parley-meet/parley/services/internal/api"
)

// Bodies that are too large, too deep, or no JSON of the right form are refused
// by every endpoint of the table with an error of the API; nothing changes.
func TestAttackBodies(t *testing.T) {
	r := newRig(t, testPassword)
	admin := r.loggedIn()
	before := r.kept(t)
	var many strings.Builder
	many.WriteString("{")
	for i := range 4000 {
		fmt.Fprintf(&many, `"f%d":"x",`, i)
	}
	many.WriteString(`"z":1}`)
	bodies := map[string]string{
		"nothing":          "",
		"null":             "null",
		"a text":           `"text"`,
		"a list":           "[]",
		"half":             `{"a":`,
		"two values":       "{}{}",
		"more behind":      `{} x`,
		"deep":             strings.Repeat("[", 20000) + strings.Repeat("]", 20000),
		"deep object":      strings.Repeat(`{"a":`, 10000) + "1" + strings.Repeat("}", 10000),
		"many fields":      many.String(),
		"unknown field":    `{"nothing-of-that-name":1}`,
		"prototype":        `{"__proto__":{"admin":true}}`,
		"number for text":  `{"name":1,"typed":1,"id":1,"token":1,"password":1,"pem":1,"chain":1,"code":1,"answer":1,"role":1,"time":1,"tool":1,"title":1,"current":1,"hostname":1,"names":1,"authority":1,"lines":"x"}`,
		"large number":     `{"name":1e999999}`,
		"noise":            "\x00\xff\xfe\x80",
		"UTF-16":           "\xff\xfe{\x00}\x00",
		"byte order mark":  "\ufeff{}",
		"a form":           "name=x&password=y",
		"XML":              `<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><x>&e;</x>`,
		"exactly too long": `{"a":"` + strings.Repeat("x", api.MaxLargeBody) + `"}`,
		"far too long":     strings.Repeat(" ", 4<<20) + "{}",
	}
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
