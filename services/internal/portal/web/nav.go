package web

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/look"
)

// sections are the entries of the navigation in their order; their titles are
// "nav."+NAME. One without a page that the person may look at is not shown.
// "connector" is Advanced > Meeting Connector.
var sections = []string{"home", "meetings", "users", "connector", "account", "operator", "profile"}

// page is a page.
type page struct {
	Path     string // a pattern of http.ServeMux without the method
	Section  string // of sections; "" is none
	Title    string // key of a text
	Template string
	NoTab    bool // not among the section's tabs
	Need     api.Need
	Edit     api.Need // who may change things on it; "" is Need
	Scripts  []string // assets beside form.js and time.js
	Narrow   bool
	// Load returns what the template gets as .Data. errNotFound is a page that
	// is not there; a redirect (below) goes elsewhere.
	Load func(*call) (any, error)
}

// redirect is an error of Load: go to the path instead.
type redirect string

func (r redirect) Error() string { return "redirect to " + string(r) }

// titled is data that has the page's title.
type titled interface{ PageTitle() string }

// pattern is for the mux: "/" alone would be everything.
func (q page) pattern() string {
	if q.Path == "/" {
		return "/{$}"
	}
	return q.Path
}

// allPages lists every page, in the order of the tabs.
func (p *Portal) allPages() []page {
	var out []page
	for _, list := range [][]page{
		p.homePages(),
		p.usersPages(),
		p.connectorPages(),
		p.downloadPages(),
		p.configurePages(),
		p.monitorPages(),
		p.activatePages(),
		p.accountPages(),
		p.operatorPages(),
		p.signupPages(),
		p.signinPages(),
		p.mailPages(),
		p.releasePages(),
		p.ticketKeyPages(),
		p.meetingPages(),
		p.joinPages(),
		p.profilePages(),
		p.apiPages(),
	} {
		out = append(out, list...)
	}
	return out
}

// endpoints lists the API.
func (p *Portal) endpoints() []endpoint {
	var out []endpoint
	for _, list := range [][]endpoint{
		p.homeEndpoints(),
		p.usersEndpoints(),
		p.accountEndpoints(),
		p.operatorEndpoints(),
		p.signupEndpoints(),
		p.signinEndpoints(),
		p.mailEndpoints(),
		p.meetingEndpoints(),
		p.profileEndpoints(),
		p.connectorEndpoints(),
		p.nameEndpoints(),
		p.linkEndpoints(),
		p.downloadEndpoints(),
		p.monitorEndpoints(),
		p.apiEndpoints(),
	} {
		out = append(out, list...)
	}
	return out
}

// page serves one.
func (p *Portal) page(q page) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		k, why, err := p.caller(w, r, true)
		if err == nil && k.who.User == "" && q.Need != needNobody {
			to := url.Values{}
			if why != "" {
				to.Set("ended", string(why))
			}
			if r.URL.Path != "/" {
				to.Set("to", r.URL.Path)
			}
			http.Redirect(w, r, strings.TrimSuffix("/login?"+to.Encode(), "?"), http.StatusSeeOther)
			return
		}
		if err == nil && k.who.Token != "" {
			err = errNoToken // pages have no scopes: a token would read all of them
		}
		if err == nil {
			err = k.allowed(q.Need)
		}
		var data any
		if err == nil {
			data, err = q.Load(k)
		}
		if to, ok := err.(redirect); ok {
			http.Redirect(w, r, string(to), http.StatusSeeOther)
			return
		}
		if err != nil {
			f := k.failure(err)
			if f.Status == http.StatusInternalServerError {
				p.cfg.Log.Error("page", "path", api.Cut(r.URL.Path, 100), "error", err)
			}
			k.show(f.Status, page{Path: q.Path, Section: q.Section, Title: q.Title, Template: "message", NoTab: q.NoTab}, messageData{f.Message})
			return
		}
		k.show(http.StatusOK, q, data)
	}
}

// show answers with a page in the frame.
func (k *call) show(status int, q page, data any) {
	title := k.words.T(q.Title)
	if t, ok := data.(titled); ok {
		title = t.PageTitle()
	}
	edit := q.Edit
	if edit == "" {
		edit = q.Need
	}
	out := look.Page{Words: k.words, Title: title, Path: k.r.URL.Path, Scripts: append([]string{"form.js", "time.js"}, q.Scripts...),
		Narrow: q.Narrow, Operate: k.allowed(edit) == nil, Data: data}
	if k.session != nil {
		out.User, out.Account = k.who.Name, "/profile"
		if !q.Narrow {
			out.Nav = k.nav(q)
		}
	}
	k.p.render(k.w, status, q.Template, out)
}

// nav is the navigation with q as the current page: what the person may look at.
func (k *call) nav(q page) []look.Section {
	var out []look.Section
	for _, name := range sections {
		s := look.Section{Title: k.words.T("nav." + name), Current: q.Section == name}
		tab := k.p.tabOf(q)
		for _, o := range k.p.pages {
			if o.Section != name || o.NoTab || k.allowed(o.Need) != nil {
				continue
			}
			if s.Path == "" {
				s.Path = o.Path
			}
			s.Items = append(s.Items, look.Item{Title: k.words.T(o.Title), Path: o.Path, Current: o.Path == tab})
		}
		if s.Path != "" {
			out = append(out, s)
		}
	}
	return out
}

// tabOf returns the path of the tab that a page belongs to: its own, or the
// nearest one above it.
func (p *Portal) tabOf(q page) string {
	if !q.NoTab {
		return q.Path
	}
	best := ""
	for _, o := range p.pages {
		if o.Section == q.Section && !o.NoTab && strings.HasPrefix(q.Path, o.Path+"/") && len(o.Path) > len(best) {
			best = o.Path
		}
	}
	return best
}

// place returns to when it is a page of the portal, and else the first: a form
// may name where to go on, but not another site.
func (p *Portal) place(to string) string {
	return look.Place(p.mux, to, func(pattern string) bool {
		_, ok := p.byPath[pattern]
		return ok
	})
}
