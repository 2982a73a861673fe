package look

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"
)

func testAssets(t *testing.T) *Assets {
	t.Helper()
	a, err := NewAssets(fstest.MapFS{"own.js": {Data: []byte("1")}})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestAssets(t *testing.T) {
	a := testAssets(t)
	for name, kind := range map[string]string{"style.css": "text/css; charset=utf-8", "favicon.svg": "image/svg+xml", "own.js": "text/javascript; charset=utf-8"} {
		p, err := a.Path(name)
		if err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		Secure(a).ServeHTTP(w, httptest.NewRequest("GET", p, nil))
		h := w.Header()
		if w.Code != http.StatusOK || h.Get("Content-Type") != kind || !strings.Contains(h.Get("Cache-Control"), "immutable") || w.Body.Len() == 0 {
			t.Errorf("%s at %s: %d, %q, %q, %d bytes", name, p, w.Code, h.Get("Content-Type"), h.Get("Cache-Control"), w.Body.Len())
		}
		if strings.Contains(w.Body.String(), "https://") {
			t.Errorf("%s refers to another site", name)
		}
	}
	if _, err := a.Path("none.css"); err == nil {
		t.Error("an unknown asset has a path")
	}
	for _, p := range []string{"/assets/", "/assets/style.css", "/assets/style.000000000000.css", "/assets/../look.go"} {
		w := httptest.NewRecorder()
		a.ServeHTTP(w, httptest.NewRequest("GET", p, nil))
		if w.Code != http.StatusNotFound {
			t.Errorf("%s: %d, want 404", p, w.Code)
		}
	}
	if _, err := NewAssets(fstest.MapFS{"x.html": {}}); err == nil {
		t.Error("a kind of asset that has no type is taken")
	}
	// Another content has another address.
	b, err := NewAssets(fstest.MapFS{"own.js": {Data: []byte("2")}})
	if err != nil || a.paths["own.js"] == b.paths["own.js"] {
		t.Errorf("two contents at %s: %v", a.paths["own.js"], err)
	}
}

func TestPages(t *testing.T) {
	fsys := fstest.MapFS{
		"good.html":   {Data: []byte(`{{define "content"}}<h1>{{.Title}}</h1>{{.Data}}{{end}}`)},
		"broken.html": {Data: []byte(`{{define "content"}}<h1>{{.Nothing}}</h1>{{end}}`)},
	}
	p, err := NewPages(fsys, testAssets(t))
	if err != nil {
		t.Fatal(err)
	}
	page := Page{Words: load(t)[Russian], Title: "<T>", Host: `h"`, User: "admin", Path: "/x", Scripts: []string{"own.js"}, Refresh: 5, Data: "<b>"}
	w := httptest.NewRecorder()
	if err := p.Render(w, http.StatusTeapot, "good", page); err != nil {
		t.Fatal(err)
	}
	out := w.Body.String()
	for _, want := range []string{`<html lang="ru">`, "<h1>&lt;T&gt;</h1>&lt;b&gt;", `action="/logout"`, "/assets/own.", `content="5; url=/x"`, `value="ru" lang="ru" aria-pressed="true"`} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	if w.Code != http.StatusTeapot || w.Header().Get("Content-Language") != "ru" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	for name, page := range map[string]Page{"broken": page, "none": page} {
		w := httptest.NewRecorder()
		if err := p.Render(w, http.StatusOK, name, page); err == nil || w.Body.Len() > 0 {
			t.Errorf("%s: %v, %d bytes: want an error and nothing", name, err, w.Body.Len())
		}
	}
	page.Scripts = []string{"none.js"}
	if err := p.Render(httptest.NewRecorder(), http.StatusOK, "good", page); err == nil {
		t.Error("a page with an unknown script is sent")
	}
	if _, err := NewPages(fstest.MapFS{"x.html": {Data: []byte("{{")}}, testAssets(t)); err == nil {
		t.Error("a broken template is taken")
	}
}

func TestSecure(t *testing.T) {
	w := httptest.NewRecorder()
	Secure(http.NotFoundHandler()).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	h := w.Header()
	for name, want := range map[string]string{
		"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Cross-Origin-Opener-Policy": "same-origin",
		"Cross-Origin-Resource-Policy": "same-origin", "Referrer-Policy": "same-origin", "X-Frame-Options": "DENY",
	} {
		if h.Get(name) != want {
			t.Errorf("%s: %q, want %q", name, h.Get(name), want)
		}
	}
	csp := h.Get("Content-Security-Policy")
	if !strings.HasPrefix(csp, "default-src 'none';") || strings.Contains(csp, "unsafe") || strings.Contains(csp, "*") {
		t.Errorf("policy %q", csp)
	}
}
