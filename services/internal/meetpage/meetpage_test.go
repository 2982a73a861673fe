package meetpage

import (
	"io/fs"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/parley-meet/parley/services/internal/look"
	"github.com/parley-meet/parley/services/internal/looktest"
)

var (
	inScripts = regexp.MustCompile(`"(js\.[a-z-]+)"`)
	puts      = regexp.MustCompile("[`\"](js\\.[a-z-]+-)[$\"]")
	imports   = regexp.MustCompile(`from "\./([a-z]+\.js)"`)
)

// Both languages have every text that the page and its scripts name, and no text
// is left that nobody names.
func TestWords(t *testing.T) {
	keys := looktest.Pages(t, pages)
	var prefixes []string
	used := map[string]bool{}
	for name, b := range scripts(t) {
		for _, m := range inScripts.FindAllStringSubmatch(b, -1) {
			if strings.HasSuffix(m[1], "-") {
				continue
			}
			keys = append(keys, m[1])
			used[m[1]] = true
		}
		for _, m := range puts.FindAllStringSubmatch(b, -1) {
			prefixes = append(prefixes, m[1])
		}
		for _, m := range imports.FindAllStringSubmatch(b, -1) {
			if _, ok := scripts(t)[m[1]]; !ok {
				t.Errorf("%s imports %s, which is not there", name, m[1])
			}
		}
	}
	looktest.Complete(t, look.MustLoad(words, "words"), keys)
	for _, k := range scriptKeys() {
		put := false
		for _, p := range prefixes {
			put = put || strings.HasPrefix(k, p)
		}
		// One for several people is named by the one for one.
		if !used[strings.TrimSuffix(k, "-many")] && !put {
			t.Errorf("no script names %q", k)
		}
	}
	if len(scriptKeys()) < 50 || len(prefixes) < 3 {
		t.Errorf("%d keys, %d prefixes: the test looks at the wrong thing", len(scriptKeys()), len(prefixes))
	}
}

func scripts(t *testing.T) map[string]string {
	t.Helper()
	list, err := fs.Glob(assets, "assets/*.js")
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]string{}
	for _, p := range list {
		b, err := fs.ReadFile(assets, p)
		if err != nil {
			t.Fatal(err)
		}
		m[strings.TrimPrefix(p, "assets/")] = string(b)
	}
	return m
}

func get(h http.Handler, path string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestHandler(t *testing.T) {
	others := []string{"https://c2.example", "https://192.0.2.1:8443", "https://[2001:db8::1]", "http://c3.example", "https://evil.example/path", "https://a b", "https://x.example;script-src", "javascript:alert(1)"}
	h := New(Config{Log: quiet(), Origins: func() []string { return others }, Portal: func() string { return "https://portal.example" }})
	for _, path := range []string{"/", "/m"} {
		w := get(h, path, "Accept-Language", "ru")
		if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `<html lang="ru">`) {
			t.Fatalf("%s: %d %.200s", path, w.Code, w.Body)
		}
		header := w.Header()
		csp := header.Get("Content-Security-Policy")
		if !strings.Contains(csp, "; connect-src 'self' wss://c2.example wss://192.0.2.1:8443; ") || strings.Contains(csp, "unsafe") || !strings.HasPrefix(csp, "default-src 'none'; ") {
			t.Errorf("policy %q", csp)
		}
		if got := header.Get("Permissions-Policy"); !strings.Contains(got, "camera=(self), microphone=(self), display-capture=(self)") || !strings.Contains(got, "geolocation=()") {
			t.Errorf("permissions %q", got)
		}
		if got := header.Get("Cache-Control"); got != "no-store" {
			t.Errorf("the page is kept: %q", got)
		}
		body := w.Body.String()
		if !strings.Contains(body, `data-origins="https://c2.example https://192.0.2.1:8443 "`) || !strings.Contains(body, `data-portal="https://portal.example"`) {
			t.Errorf("%.2000s", body)
		}
		for _, m := range regexp.MustCompile(`(?:href|src)="(/assets/[^"]+)"`).FindAllStringSubmatch(body, -1) {
			a := get(h, m[1])
			kind := map[bool]string{true: "text/javascript; charset=utf-8", false: ""}[strings.HasSuffix(m[1], ".js")]
			if a.Code != http.StatusOK || !strings.Contains(a.Header().Get("Cache-Control"), "immutable") || kind != "" && a.Header().Get("Content-Type") != kind {
				t.Errorf("%s: %d %v", m[1], a.Code, a.Header())
			}
		}
		if n := strings.Count(body, "modulepreload"); n != len(scripts(t)) {
			t.Errorf("%d scripts are loaded ahead, of %d", n, len(scripts(t)))
		}
	}
	for path, want := range map[string]int{"/x": 404, "/m/x": 404, "/assets/page.js": 404, "/assets/meet-000000000000/page.js": 404} {
		if w := get(h, path); w.Code != want {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	p := get(h, "/m").Body.String()
	folder := regexp.MustCompile(`/assets/meet-[0-9a-f]{12}/`).FindString(p)
	for _, name := range []string{"", "none.js", "../style.css", "%2e%2e/x"} {
		if w := get(h, folder+name); w.Code == http.StatusOK {
			t.Errorf("%q: %d", name, w.Code)
		}
	}
}

func TestPortal(t *testing.T) {
	for portal, want := range map[string]string{"https://portal.example": "https://portal.example", "standalone": "", "": "", "javascript:alert(1)": "", "http://portal.example": ""} {
		h := New(Config{Log: quiet(), Portal: func() string { return portal }})
		if got := get(h, "/m").Body.String(); !strings.Contains(got, `data-portal="`+want+`"`) {
			t.Errorf("%q: %.1500s", portal, got)
		}
	}
}

func TestLanguage(t *testing.T) {
	h := New(Config{Log: quiet()})
	post := func(body, site string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodPost, "/language", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Sec-Fetch-Site", site)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	w := post("language=ru", "same-origin")
	if w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/m" || len(w.Result().Cookies()) != 1 {
		t.Fatalf("%d %v", w.Code, w.Header())
	}
	c := w.Result().Cookies()[0]
	if got := get(h, "/m", "Cookie", c.Name+"="+c.Value, "Accept-Language", "en").Body.String(); !strings.Contains(got, `<html lang="ru">`) {
		t.Errorf("%.200s", got)
	}
	if w := post("language=xx", "same-origin"); w.Code != http.StatusBadRequest {
		t.Errorf("%d", w.Code)
	}
	if w := post("language=ru", "cross-site"); w.Code != http.StatusForbidden {
		t.Errorf("another site changes the language: %d", w.Code)
	}
}
