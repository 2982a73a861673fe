package webconsole

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/parley-meet/parley/services/internal/account"
	"github.com/parley-meet/parley/services/internal/admin"
	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/look"
	"github.com/parley-meet/parley/services/internal/netclient"
)

// sections are the entries of the navigation in their order; their titles are
// "nav."+NAME. One without a page is not shown.
var sections = []string{"overview", "network", "configure", "services", "users", "certificates", "diagnostics", "system"}

// page is a page behind the login.
type page struct {
	Path     string // a pattern of http.ServeMux without the method
	Section  string // of sections; "" is none
	Title    string // key of a text
	Template string
	NoTab    bool              // not among the section's tabs
	Need     account.Authority // account.Operate: View may not look either
	Scripts  []string          // assets beside form.js
	Narrow   bool
	Forced   bool // reachable while the password must be changed
	// Load returns what the template gets as .Data. errNotFound is a page that
	// is not there.
	Load func(*call) (any, error)
}

// pattern is for the mux: "/" alone would be everything.
func (p page) pattern() string {
	if p.Path == "/" {
		return "/{$}"
	}
	return p.Path
}

// allPages lists every page, in the order of the tabs.
func (c *Console) allPages() []page {
	var out []page
	for _, list := range [][]page{
		c.overviewPages(),
		c.networkPages(),
		c.configurePages(),
		c.servicePages(),
		c.userPages(),
		c.certificatePages(),
		c.diagnosePages(),
		c.systemPages(),
		c.ownPages(),
		c.apiPages(),
	} {
		out = append(out, list...)
	}
	return out
}

// page serves one.
func (c *Console) page(p page) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s, a, why := c.session(r, true)
		if s == nil {
			to := "/login"
			if why != "" {
				to += "?ended=" + string(why)
			}
			http.Redirect(w, r, to, http.StatusSeeOther)
			return
		}
		if !p.Forced && c.mustChange(r.Context(), a) {
			http.Redirect(w, r, "/password", http.StatusSeeOther)
			return
		}
		k := c.caller(w, r, s, a, "web")
		if p.Need == account.Operate && !k.may() {
			k.show(http.StatusForbidden, page{Section: p.Section, Title: "denied.title", Template: "denied"}, messageData{k.words.T("denied")})
			return
		}
		data, err := p.Load(k)
		if err != nil {
			k.failPage(p, err)
			return
		}
		k.show(http.StatusOK, p, data)
	}
}

// show answers with a page in the frame.
func (k *call) show(status int, p page, data any) {
	k.c.render(k.w, status, p.Template, k.frame(p, data))
}

// failPage says why a page cannot be shown.
func (k *call) failPage(p page, err error) {
	f := k.failure(err)
	if f.Status == http.StatusInternalServerError {
		k.c.cfg.Log.Error("page", "path", api.Cut(k.r.URL.Path, 100), "error", err)
	}
	k.show(f.Status, page{Path: p.Path, Section: p.Section, Title: p.Title, Template: "failed", NoTab: p.NoTab}, f.Message)
}

// frame fills in what every page has. A title with a colon is followed by what
// Load said it is about, when that is a titled.
func (k *call) frame(p page, data any) look.Page {
	host := k.c.source.get(k.ctx(), fresh).host()
	title := k.words.T(p.Title)
	if t, ok := data.(titled); ok {
		title = t.PageTitle()
	}
	out := look.Page{
		Words: k.words, Title: title, Host: host, User: k.account.Name, Badge: k.words.T("authority." + string(k.account.Authority)),
		Account: "/account", Path: k.r.URL.Path, Scripts: append([]string{"form.js"}, p.Scripts...), Narrow: p.Narrow,
		Flash: k.c.sessions.TakeFlash(k.session), Operate: k.may(), Data: data,
	}
	if p.Narrow { // nothing else is reachable
		out.Account = ""
		return out
	}
	out.Nav = k.c.nav(p, k.words, k.c.source.get(k.ctx(), fresh).portal())
	out.Banner = k.banner()
	return out
}

// titled is data that has the page's title.
type titled interface{ PageTitle() string }

// nav is the navigation with p as the current page. A portal has no connector to
// configure.
func (c *Console) nav(p page, w *look.Words, portal bool) []look.Section {
	var out []look.Section
	for _, name := range sections {
		if portal && name == "configure" {
			continue
		}
		s := look.Section{Title: w.T("nav." + name), Current: p.Section == name}
		for _, q := range c.pages {
			if q.Section != name || q.NoTab {
				continue
			}
			if s.Path == "" {
				s.Path = q.Path
			}
			s.Items = append(s.Items, look.Item{Title: w.T(q.Title), Path: q.Path, Current: q.Path == p.Path || p.NoTab && strings.HasPrefix(p.Path, q.Path+"/")})
		}
		if s.Path != "" {
			out = append(out, s)
		}
	}
	return out
}

// banner tells of a change of the network that waits to be confirmed, on every
// page: an administrator who comes from the new address may land anywhere.
func (k *call) banner() *look.Banner {
	st, err := k.admin().Network(k.ctx())
	if err != nil || st == nil || st.Pending == nil {
		return nil // the pages of the network say why
	}
	return pendingBanner(st.Pending, k.words, time.Now())
}

// pendingOf asks for the id of the change that waits, for pages that stay fresh.
// They do not wait long for a service that hangs.
func pendingOf(ctx context.Context, a admin.Administrator) string {
	ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	st, err := a.Network(ctx)
	if err != nil || st == nil || st.Pending == nil {
		return ""
	}
	return api.Cut(st.Pending.ID, 64)
}

func pendingBanner(p *netclient.Pending, w *look.Words, now time.Time) *look.Banner {
	body := `{"id":"` + jsonText(p.ID) + `"}`
	return &look.Banner{
		Title: w.T("pending.title"), Text: w.T("pending.text", changedBy(w, p.By)), Until: p.Deadline.UTC().Format(time.RFC3339),
		Left: max(0, api.Seconds(p.Deadline.Sub(now))),
		Yes:  look.Action{Label: w.T("pending.confirm"), API: "POST /api/v1/network/confirm", Body: body, Done: w.T("pending.confirmed")},
		No:   look.Action{Label: w.T("pending.revert"), API: "POST /api/v1/network/revert", Body: body, Done: w.T("pending.reverted")},
	}
}

// changedBy puts "NAME from PLACE" into words.
func changedBy(w *look.Words, by string) string {
	if name, from, ok := strings.Cut(api.Cut(by, 100), " from "); ok {
		return w.T("pending.by", name, from)
	}
	return api.Cut(by, 100)
}

// place returns to when it is a page of the console, and else the first: a form
// may name where to go on, but not another site.
func (c *Console) place(to string) string {
	if to == "/login" || to == "/login/code" {
		return to
	}
	return look.Place(c.mux, to, func(pattern string) bool {
		_, ok := c.byPath[pattern]
		return ok
	})
}
