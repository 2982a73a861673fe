package web_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/apitest"
	"github.com/parley-meet/parley/services/internal/portal/portaltest"
)

// bodyOf is a body that an operation works with, or one of its form.
func bodyOf(w *world, o operation) (caller, string, any) {
	if s, ok := sampleOf(w, o); ok {
		return *s.who, o.at(append(s.path, "none")...), s.body
	}
	who := w.owner
	if o.Need == "operator" {
		who = w.operator
	}
	if o.Body == nil {
		return who, o.at("none"), nil
	}
	return who, o.at("none"), blank(o.Body)
}

// rowsOf are all rows but those that appliances write.
func rowsOf(t *testing.T, p *portaltest.Portal) []string { return texts(dump(t, p)) }

// Another site's page changes nothing with somebody's cookie: by no form and by
// no script.
func TestAttackCrossSite(t *testing.T) {
	p := portaltest.New(t)
	w := newWorld(t, p, "Quagga")
	list := slices.DeleteFunc(table(t, p), func(o operation) bool { return !o.writes() })
	sites := apitest.Sites(p.Server.URL)
	type try struct {
		c            caller
		method, path string
		body         any
		json         bool
	}
	var tries []try
	for _, o := range list {
		c, path, body := bodyOf(w, o)
		tries = append(tries, try{c, o.Method, path, body, o.Body != nil})
	}
	for _, path := range []string{"/login", "/login/code", "/logout", "/language"} {
		tries = append(tries, try{w.owner, http.MethodPost, path, []byte("language=ru"), false})
	}
	before := rowsOf(t, p)
	for _, x := range tries {
		o := operation{Method: x.method}
		for name, h := range sites {
			if a := x.c.call(o, x.path, x.body, h); a.status != http.StatusForbidden {
				t.Errorf("%s %s, %s: status %d, want 403", x.method, x.path, name, a.status)
			}
		}
		if !x.json {
			continue
		}
		// What a form can send without asking first is no JSON, wherever it comes
		// from: also where a browser says nothing about that.
		for _, kind := range []string{"text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""} {
			if a := x.c.call(o, x.path, x.body, http.Header{"Content-Type": {kind}}); a.status != http.StatusUnsupportedMediaType {
				t.Errorf("%s %s as %q: status %d, want 415", x.method, x.path, kind, a.status)
			}
		}
	}
	same(t, "other sites tried everything", before, rowsOf(t, p))
}

// No page and no answer lets another site read or frame it; reading changes
// nothing.
func TestAttackReading(t *testing.T) {
	p := portaltest.New(t)
	w := newWorld(t, p, "Quagga")
	w.appliance.Stop()
	paths := map[string]operation{"/login": {}, "/none": {}, "/api/none": {}}
	for _, q := range p.All.Web.Pages() {
		paths[operation{Path: q.Path}.at("none")] = operation{}
	}
	before := rowsOf(t, p)
	for _, o := range table(t, p) {
		if o.writes() {
			continue
		}
		if s, ok := sampleOf(w, o); ok {
			paths[o.at(s.path...)] = o
		}
	}
	for _, o := range table(t, p) {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			if a := w.owner.send(context.Background(), method, o.at("none"), nil, nil); o.writes() && a.failed() {
				t.Errorf("%s %s: %d", method, o.Path, a.status)
			}
		}
	}
	for path, o := range paths {
		o.Method = http.MethodGet
		for _, c := range []caller{w.owner, w.operator} {
			a := c.call(o, path, nil, http.Header{"Origin": {"https://evil.example"}})
			csp := a.header.Get("Content-Security-Policy")
			for _, want := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"} {
				if !strings.Contains(csp, want) {
					t.Errorf("GET %s: policy %q lacks %s", path, csp, want)
				}
			}
			if strings.Contains(csp, "unsafe") || strings.Contains(csp, "data:") {
				t.Errorf("GET %s: policy %q", path, csp)
			}
			cache := a.header.Get("Cache-Control")
			if a.header.Get("X-Frame-Options") != "DENY" || a.header.Get("X-Content-Type-Options") != "nosniff" || cache != "no-store" && !public[path] {
				t.Errorf("GET %s: headers %v", path, a.header)
			}
			for name := range a.header {
				if strings.HasPrefix(name, "Access-Control-") {
					t.Errorf("GET %s: %s: %s", path, name, a.header.Get(name))
				}
			}
			if a.failed() {
				t.Errorf("GET %s: status %d %.300s", path, a.status, a.text)
			}
		}
	}
	same(t, "everything was looked at", before, rowsOf(t, p))
}

// public are answers that anybody may keep.
var public = map[string]bool{"/.well-known/jwks.json": true}

// Bodies that are too large, too deep, or no JSON of the right form are refused
// by every operation with an error of the API; nothing changes.
func TestAttackBodies(t *testing.T) {
	p := portaltest.New(t)
	w := newWorld(t, p, "Quagga")
	bodies := apitest.Bodies()
	type at struct {
		c    caller
		path string
	}
	list := slices.DeleteFunc(table(t, p), func(o operation) bool { return !o.writes() || rawBody[o.ID] })
	places := map[string]at{}
	for _, o := range list {
		c, path, _ := bodyOf(w, o)
		places[o.ID] = at{c, path}
	}
	before := rowsOf(t, p)
	for _, o := range list {
		c, path := places[o.ID].c, places[o.ID].path
		if o.ID == "enrol" { // what is wrong with a token is said first
			c = caller{p: p, label: "appliance", bearer: w.ids["enrolmentSecret"]}
		}
		for name, body := range bodies {
			if o.Body == nil && body == "" {
				continue
			}
			a := c.call(o, path, []byte(body), nil)
			if a.status < 400 || a.failed() {
				t.Errorf("%s with %s: status %d, want 4xx\n%.300s", o, name, a.status, a.text)
				continue
			}
			var answer api.ErrorAnswer
			if err := json.Unmarshal([]byte(a.text), &answer); err != nil || answer.Error.Code == "" || answer.Error.Message == "" {
				t.Errorf("%s with %s: %v %.300s", o, name, err, a.text)
			}
			if o.Body != nil && strings.Contains(name, "too long") && a.status != http.StatusRequestEntityTooLarge && a.status != http.StatusTooManyRequests {
				t.Errorf("%s with %s: status %d, want 413", o, name, a.status)
			}
			if name == "unknown field" && o.Body != nil && a.status == http.StatusUnprocessableEntity && !strings.Contains(a.text, "nothing-of-that-name") {
				t.Errorf("%s with an unknown field does not name it: %s", o, a.text)
			}
		}
	}
	same(t, "wrong bodies were sent", before, rowsOf(t, p))
}

// rawBody are operations whose body is a file's bytes.
var rawBody = map[string]bool{"putReleaseFile": true}

// dear are operations that make a hash of each password that they get; they are
// tried with fewer texts.
var dear = map[string]bool{"signUp": true, "setPassword": true, "askEmail": true, "beginFactor": true, "removeFactor": true, "setUp": true, "verifySignup": true, "resetPassword": true, "acceptInvitation": true}

// In every field of every operation that changes something, in every part of its
// path, and in every parameter, hostile text is refused, or kept and shown as the
// text that it is.
func TestAttackInjection(t *testing.T) {
	t.Parallel()
	p := portaltest.New(t)
	for _, o := range table(t, p) {
		if o.ID == "closeAccount" || forAll[o.ID] {
			continue
		}
		w := newWorld(t, p, "W"+o.ID)
		c, path, body := bodyOf(w, o)
		texts := apitest.Hostile
		if dear[o.ID] {
			texts = []string{"<script>alert(1)</script>", "a\x00b", strings.Repeat("A", 10<<10), "x\r\nSet-Cookie: a=b"}
		}
		if _, raw := body.([]byte); body != nil && !raw {
			inject(t, c, o, path, body, texts)
			if o.ID == "setMailSettings" { // no mail goes anywhere
				c.works(o.Method, path, body, nil)
			}
		}
		for n := range o.Params {
			for _, h := range texts {
				values := make([]string, len(o.Params))
				for i := range values {
					values[i] = "none"
				}
				values[n] = h[:min(len(h), 2000)]
				if a := c.call(o, o.at(values...), body, nil); a.status < 300 && o.Params[n] != "version" || a.failed() {
					t.Errorf("%s with %q in its path: status %d\n%.300s", o, api.Cut(h, 40), a.status, a.text)
				}
			}
		}
		for _, q := range o.Query {
			for _, h := range texts {
				if a := c.call(o, path+"?"+q+"="+url.QueryEscape(h[:min(len(h), 2000)]), body, nil); a.failed() {
					t.Errorf("%s with %q as %s: status %d\n%.300s", o, api.Cut(h, 40), q, a.status, a.text)
				}
			}
		}
		if o.writes() {
			for _, c := range []caller{w.owner, w.member, w.operator} {
				shownAsText(t, w, c, o)
			}
		}
		w.appliance.Stop()
	}
}

// inject puts each text into each field of a body that works.
func inject(t *testing.T, c caller, o operation, path string, body any, texts []string) {
	t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	for _, place := range apitest.StringPaths(v) {
		parts := make([]string, len(place))
		for i, k := range place {
			parts[i] = fmt.Sprint(k)
		}
		field := strings.Join(parts, ".")
		for _, h := range texts {
			a := c.call(o, path, apitest.With(v, place, h), nil)
			if a.failed() {
				t.Errorf("%s with %q in %s: status %d\n%.300s", o, api.Cut(h, 40), field, a.status, a.text)
			}
			if a.status == http.StatusUnprocessableEntity {
				var answer api.ErrorAnswer
				if err := json.Unmarshal([]byte(a.text), &answer); err != nil || len(answer.Error.Fields) == 0 {
					t.Errorf("%s with %q in %s: %v %.300s", o, api.Cut(h, 40), field, err, a.text)
				}
				for _, f := range answer.Error.Fields {
					if strings.HasPrefix(f.Message, "fault.") || strings.Contains(f.Message, "%!") || f.Message == "" {
						t.Errorf("%s with %q in %s: the message is %q", o, api.Cut(h, 40), field, f.Message)
					}
				}
			}
			if strings.Contains(a.text, "<script>") {
				t.Errorf("%s: the answer gives %q back as it was", o, api.Cut(h, 40))
			}
			for name, values := range a.header {
				if name == "Set-Cookie" && strings.Contains(strings.Join(values, ""), "a=b") {
					t.Errorf("%s: %q made a header", o, api.Cut(h, 40))
				}
			}
		}
	}
}

// shownAsText fails when a page shows text of somebody as markup, or with
// characters that rule a terminal.
func shownAsText(t *testing.T, w *world, c caller, o operation) {
	t.Helper()
	for _, path := range pathsOf(w) {
		a := c.get(path)
		if a.failed() {
			t.Errorf("after %s: GET %s: status %d", o, path, a.status)
		}
		for _, bad := range []string{"<script>alert", "<img src=x", `href="javascript:`, "\x00", "\x1b", "\u009b"} {
			if strings.Contains(a.text, bad) {
				t.Errorf("after %s: %s has %q", o, path, bad)
			}
		}
	}
}

// ids of a world that a page's wildcards stand for, by the page's path.
var pageIDs = map[string][]string{
	"/users/{id}": {"user"}, "/users/groups/{id}": {"group"}, "/operator/accounts/{id}": {"account"}, "/j/{number}": {"number"},
	"/meetings/{id}": {"meeting"}, "/meetings/{id}/edit": {"meeting"}, "/meetings/{id}/occurrences/{occurrence}": {"meeting", "occurrence"},
}

// pathsOf are all pages, with the world's ids.
func pathsOf(w *world) []string {
	w.t.Helper()
	var out []string
	for _, q := range w.p.All.Web.Pages() {
		var ids []string
		for _, name := range pageIDs[q.Path] {
			ids = append(ids, w.ids[name])
		}
		if len(ids) == 0 && strings.Contains(q.Path, "{") {
			w.t.Errorf("the page %s has no ids: name them in pageIDs", q.Path)
			ids = []string{"none"}
		}
		out = append(out, operation{Path: q.Path}.at(append(ids, "")...))
	}
	return out
}

// Methods that an address does not know are refused with those that it knows.
func TestAttackMethods(t *testing.T) {
	p := portaltest.New(t)
	w := newWorld(t, p, "Quagga")
	before := rowsOf(t, p)
	known := map[string][]string{}
	list := table(t, p)
	for _, o := range list {
		known[o.Path] = append(known[o.Path], o.Method)
	}
	for path, has := range known {
		for _, method := range []string{"GET", "POST", "PUT", "DELETE", "PATCH", "BREW", "OPTIONS", "TRACE"} {
			if slices.Contains(has, method) {
				continue
			}
			a := w.owner.send(t.Context(), method, operation{Path: path}.at("none"), nil, nil)
			shared := slices.ContainsFunc(list, func(o operation) bool { return o.Method == method && o.Path != path && likely(o.Path, path) })
			if a.status != http.StatusMethodNotAllowed && !shared && strings.HasPrefix(path, "/api/") {
				t.Errorf("%s %s: status %d, want 405", method, path, a.status)
			}
		}
	}
	same(t, "other methods were tried", before, rowsOf(t, p))
}

// likely reports whether a pattern may match another one's paths.
func likely(pattern, path string) bool {
	a, b := strings.Split(pattern, "/"), strings.Split(path, "/")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] && !strings.HasPrefix(a[i], "{") && !strings.HasPrefix(b[i], "{") {
			return false
		}
	}
	return len(a) == len(b)
}

// raw sends bytes over TLS and returns the answer's status, 0 when there is none.
func raw(t *testing.T, p *portaltest.Portal, request string) (int, string) {
	t.Helper()
	c, err := tls.Dial("tcp", p.Server.Listener.Addr().String(), &tls.Config{RootCAs: p.Roots(), ServerName: "127.0.0.1", NextProtos: []string{"http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	go io.WriteString(c, request) // the answer may come before all is sent
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

// Paths that lead out of where they begin find nothing, for strangers and for
// those inside; files of the machine are not served.
func TestAttackPaths(t *testing.T) {
	p := portaltest.New(t)
	w := newWorld(t, p, "Quagga")
	w.p.Import(w.p.Output("1.2.3"), "1.2.3", false)
	for _, begin := range []string{"/", "/assets/", "/api/", "/api/v1/", "/api/v1/meetings/", "/users/", "/j/", "/download/1.2.3/", "/download/", "/download/by/x/1.2.3/"} {
		for _, rest := range apitest.Climbs {
			for _, who := range []string{"", "Cookie: " + w.owner.cookie + "\r\n"} {
				status, text := raw(t, p, "GET "+begin+rest+" HTTP/1.1\r\nHost: x\r\n"+who+"Connection: close\r\n\r\n")
				if status >= 500 || status == 0 || status == 200 && begin != "/" && begin != "/j/" {
					t.Errorf("GET %s%s (session: %v): status %d\n%.300s", begin, rest, who != "", status, text)
				}
				if strings.Contains(text, "root:") || strings.Contains(text, "SQLite format") {
					t.Errorf("GET %s%s: served a file", begin, rest)
				}
			}
		}
	}
	// A stranger may send what he likes as the host; it comes back nowhere.
	for _, path := range []string{"/login", "/join", "/signup", "/api/openapi.json"} {
		status, text := raw(t, p, "GET "+path+" HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: evil.example\r\nConnection: close\r\n\r\n")
		if status != 200 || strings.Contains(text, "evil.example") {
			t.Errorf("another host's name: GET %s: status %d\n%.300s", path, status, text)
		}
	}
}
