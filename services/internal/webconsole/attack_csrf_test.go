package webconsole

import (
	"net/http"
	"strings"
	"testing"

	"github.com/parley-meet/parley/services/internal/apitest"
)

// Another site's page, or one of another port of this machine, changes nothing
// with the administrator's cookie: by no form and by no script. Every endpoint
// of the table that changes something is tried.
func TestAttackCrossSite(t *testing.T) {
	r := newRig(t, testPassword)
	admin := r.loggedIn()
	before := r.kept(t)
	list := writes(r.c)
	if len(list) < 20 {
		t.Fatalf("%d endpoints change something: the table was not found", len(list))
	}
	sites := apitest.Sites(r.base)
	try := func(method, path string, body []byte) {
		for name, h := range sites {
			if a := admin.call(method, path, body, h); a.status != http.StatusForbidden {
				t.Errorf("%s %s, %s: status %d, want 403", method, path, name, a.status)
			}
		}
	}
	for _, e := range list {
		try(e.Method, concrete(e.Path), bodyOf(e))
		if e.Request == nil {
			continue
		}
		// What a form can send without asking first is no JSON, wherever it comes
		// from: also where a browser says nothing about that.
		for _, kind := range []string{"text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""} {
			for _, method := range []string{e.Method, http.MethodPost} {
				a := admin.call(method, concrete(e.Path), bodyOf(e), http.Header{"Content-Type": {kind}})
				if a.status != http.StatusUnsupportedMediaType && !(method != e.Method && (a.status == http.StatusMethodNotAllowed || sharesOf(e, list, method))) {
					t.Errorf("%s %s as %q: status %d, want 415", method, e.Path, kind, a.status)
				}
			}
		}
	}
	for _, path := range []string{"/login", "/login/code", "/logout", "/language"} {
		try(http.MethodPost, path, []byte("language=ru"))
	}
	r.unchanged(t, before)
	if a := admin.get("/"); a.status != http.StatusOK {
		t.Errorf("the session is gone: %d", a.status)
	}
	quiet(t, r)
}

// shares reports whether another endpoint of the list has the path by method.
func sharesOf(e endpoint, list []endpoint, method string) bool {
	for _, o := range list {
		if o.Path == e.Path && o.Method == method {
			return true
		}
	}
	return false
}

// No page and no answer lets another site read or frame it.
func TestAttackFraming(t *testing.T) {
	r := newRig(t, testPassword)
	admin := r.loggedIn()
	paths := []string{"/login", "/api/openapi.json", "/none"}
	for _, p := range r.c.pages {
		paths = append(paths, concrete(p.Path))
	}
	for _, e := range r.c.api {
		if e.Method == http.MethodGet && !strings.Contains(e.Path, "stream") {
			paths = append(paths, concrete(e.Path))
		}
	}
	for _, path := range paths {
		a := admin.call("GET", path, nil, http.Header{"Origin": {"https://evil.example"}})
		h := a.header
		csp := h.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"} {
			if !strings.Contains(csp, want) {
				t.Errorf("GET %s: policy %q lacks %s", path, csp, want)
			}
		}
		if strings.Contains(csp, "unsafe") || strings.Contains(csp, "data:") {
			t.Errorf("GET %s: policy %q", path, csp)
		}
		if h.Get("X-Frame-Options") != "DENY" || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Cache-Control") != "no-store" {
			t.Errorf("GET %s: headers %v", path, h)
		}
		for name := range h {
			if strings.HasPrefix(name, "Access-Control-") {
				t.Errorf("GET %s: %s: %s", path, name, h.Get(name))
			}
		}
	}
}

// Reading changes nothing.
func TestAttackReading(t *testing.T) {
	r := newRig(t, testPassword)
	admin := r.loggedIn()
	before := r.kept(t)
	for _, p := range r.c.pages {
		if a := admin.get(concrete(p.Path)); a.failed() {
			t.Errorf("GET %s: %d", p.Path, a.status)
		}
	}
	for _, e := range writes(r.c) {
		for _, method := range []string{"GET", "HEAD"} {
			if a := admin.call(method, concrete(e.Path), nil, nil); a.failed() {
				t.Errorf("%s %s: %d", method, e.Path, a.status)
			}
		}
	}
	r.unchanged(t, before)
}
