package web_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"golang.org/x/net/html"

	"github.com/parley-meet/parley/services/internal/browsertest"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/portaltest"
)

// asWord is text that is the key of a text, or what fmt and templates write when
// something is missing.
var asWord = regexp.MustCompile(`%!|<no value>|&lt;no value|\bundefined\b|^[a-z][a-z-]*(\.[a-z0-9-]+)+$`)

// Every page of the table is there for whom it is for and for nobody else, in
// both languages, with words for everything.
func TestEveryPage(t *testing.T) {
	p := portaltest.New(t)
	w := newWorld(t, p, "Quagga")
	_, basic := p.Account("Basic", people.Basic)
	callers := []struct {
		caller
		role string
	}{
		{caller{p: p, label: "stranger"}, ""}, {w.member, "member"}, {w.admin, "admin"}, {w.owner, "owner"}, {w.operator, "operator"}, {as(t, p, "owner of a Basic account", basic), "owner"},
	}
	ranks := []string{"", "person", "member", "admin", "owner"}
	rank := func(s string) int {
		for i, r := range ranks {
			if r == s {
				return i
			}
		}
		return -1
	}
	paths := pathsOf(w)
	for i, q := range p.All.Web.Pages() {
		for _, c := range callers {
			may := rank(c.role) >= rank(q.Need)
			switch {
			case q.Need == "operator":
				may = c.role == "operator"
			case c.role == "operator":
				may = rank(q.Need) <= rank("person")
			}
			for _, language := range []string{"en", "ru"} {
				a := c.send(t.Context(), http.MethodGet, paths[i], nil, http.Header{"Accept-Language": {language}})
				where := c.label + ", " + language + ": GET " + paths[i]
				switch {
				case c.role == "" && !may:
					if a.status != http.StatusSeeOther || !strings.HasPrefix(a.header.Get("Location"), "/login") {
						t.Errorf("%s: status %d to %q, want the sign-in", where, a.status, a.header.Get("Location"))
					}
					continue
				case !may && a.status != http.StatusForbidden:
					t.Errorf("%s: status %d, want 403", where, a.status)
				case may && c.label == "owner of a Basic account": // what it has not, it is told
				case may && a.status != http.StatusOK && a.status != http.StatusSeeOther && !(strings.HasPrefix(q.Path, "/meetings/{id}") && c.role != "member"):
					t.Errorf("%s: status %d", where, a.status)
				}
				if a.failed() {
					t.Errorf("%s: status %d", where, a.status)
				}
				if a.status != http.StatusSeeOther {
					checkPage(t, where, language, a.text)
				}
			}
		}
	}
}

// checkPage reads a page as a browser does.
func checkPage(t *testing.T, where, language, text string) {
	t.Helper()
	doc, err := html.Parse(strings.NewReader(text))
	if err != nil {
		t.Errorf("%s: %v", where, err)
		return
	}
	headings, mains, lang := 0, 0, ""
	var walk func(*html.Node)
	walk = func(n *html.Node) {
		switch {
		case n.Type == html.TextNode && n.Parent.Data != "script" && n.Parent.Data != "style":
			if s := strings.TrimSpace(n.Data); asWord.MatchString(s) && !strings.Contains(s, "example.") && n.Parent.Data != "code" {
				t.Errorf("%s: the text %.100q", where, s)
			}
		case n.Type == html.ElementNode:
			switch n.Data {
			case "h1":
				headings++
			case "main":
				mains++
			}
			for _, a := range n.Attr {
				switch {
				case n.Data == "html" && a.Key == "lang":
					lang = a.Val
				case a.Key == "style" || strings.HasPrefix(a.Key, "on"):
					t.Errorf("%s: <%s %s>, which the policy forbids", where, n.Data, a.Key)
				case a.Key == "aria-label" || a.Key == "title" || a.Key == "placeholder" || a.Key == "alt":
					if asWord.MatchString(a.Val) && !strings.Contains(a.Val, "example.") {
						t.Errorf("%s: %s=%q", where, a.Key, a.Val)
					}
				}
			}
		}
		for c := n.FirstChild; c != nil; c = c.NextSibling {
			walk(c)
		}
	}
	walk(doc)
	if headings != 1 || mains != 1 || lang != language {
		t.Errorf("%s: %d h1, %d main, language %q", where, headings, mains, lang)
	}
}

// heavy are pages that may weigh more than others, in bytes: they draw.
var heavy = map[string]int{"/connector/monitor": 250 << 10}

// Every page in the longer language fits all screens, reads well and is not
// heavier than it may be; those of single topics are judged in English by their
// own tests.
func TestBrowserPages(t *testing.T) {
	t.Parallel()
	p := portaltest.New(t)
	w := newWorld(t, p, "Quagga")
	p.Import(p.Output("1.2.3"), "1.2.3", false)
	b := browsertest.New(t, "ru")
	who := map[string]people.User{"operator": p.Operator(), "member": w.memberUser, "": w.ownerUser}
	paths := pathsOf(w)
	for _, role := range []string{"", "member", "operator"} {
		become(t, b, p, who[role])
		for i, q := range p.All.Web.Pages() {
			if (q.Need == "operator") != (role == "operator") || (q.Need == "member") != (role == "member") {
				continue
			}
			b.Run(chromedp.Navigate("about:blank"), chromedp.Navigate(p.Server.URL+paths[i]), chromedp.WaitVisible("#main"))
			weight := heavy[q.Path]
			if weight == 0 {
				weight = 200 << 10
			}
			b.Judge("portal", "ru "+q.Path, weight)
		}
	}
}
