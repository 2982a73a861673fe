package web

import (
	"slices"
	"strings"

	"github.com/parley-meet/parley/services/internal/portal/identity"
	"github.com/parley-meet/parley/services/internal/portal/people"
)

// Pages of whoever has signed in, about himself.
func (p *Portal) profilePages() []page {
	return []page{
		{Path: "/profile", Section: "profile", Title: "profile.title", Template: "profile", Need: needPerson, Scripts: []string{"zones.js"}, Load: func(k *call) (any, error) {
			return profileData{User: k.session.User, Languages: []option{{"", k.words.T("profile.language.auto"), ""}, {"en", "English", ""}, {"ru", "Русский", ""}}}, nil
		}},
		{Path: "/profile/password", Section: "profile", Title: "profile.password", Template: "ownpassword", Need: needPerson, Scripts: []string{"reveal.js"}, Load: func(k *call) (any, error) {
			return profileData{User: k.session.User}, nil
		}},
		{Path: "/profile/security", Section: "profile", Title: "profile.security", Template: "security", Need: needPerson, Scripts: []string{"qr.js"}, Load: func(k *call) (any, error) {
			f, err := k.p.id.people.Factor(k.ctx(), k.who.User)
			return securityData{User: k.session.User, Factor: f, Owner: k.who.At(people.Owner)}, err
		}},
		{Path: "/profile/sessions", Section: "profile", Title: "profile.sessions", Template: "sessions", Need: needPerson, Load: func(k *call) (any, error) {
			list, err := k.p.id.people.Sessions(k.ctx(), k.who, k.session.ID)
			var d sessionsData
			for _, s := range list {
				d.Rows = append(d.Rows, sessionRow{s, when(s.Made), when(s.Used)})
			}
			return d, err
		}},
		{Path: "/profile/tokens", Section: "profile", Title: "profile.tokens", Template: "tokens", Need: needPerson, Load: func(k *call) (any, error) {
			list, err := k.p.id.people.Tokens(k.ctx(), k.who)
			d := tokensData{}
			for _, t := range list {
				d.Rows = append(d.Rows, tokenRow{t, when(t.Created), when(t.Expires), when(t.Used)})
			}
			for _, s := range k.p.scopes() {
				d.Scopes = append(d.Scopes, option{s, s, k.words.Or("scope.", s)})
			}
			return d, err
		}},
	}
}

type profileData struct {
	User      people.User
	Languages []option
}

type securityData struct {
	User   people.User
	Factor identity.FactorState
	Owner  bool
}

type sessionsData struct{ Rows []sessionRow }

type sessionRow struct {
	identity.SessionInfo
	MadeAt, UsedAt moment
}

// browsers and systems by what agents have in them; the first that is found
// counts, because most also name those after it.
var (
	browsers = [][2]string{{"Edg", "Edge"}, {"OPR/", "Opera"}, {"YaBrowser", "Yandex"}, {"Firefox/", "Firefox"}, {"FxiOS", "Firefox"}, {"Chrome/", "Chrome"}, {"CriOS", "Chrome"}, {"Safari/", "Safari"}}
	systems  = [][2]string{{"Android", "Android"}, {"iPhone", "iPhone"}, {"iPad", "iPad"}, {"Windows", "Windows"}, {"Mac OS X", "macOS"}, {"CrOS", "ChromeOS"}, {"Linux", "Linux"}}
)

// Browser is what the agent says in two words, "Firefox · Linux", or "".
func (r sessionRow) Browser() string {
	find := func(list [][2]string) string {
		for _, x := range list {
			if strings.Contains(r.Agent, x[0]) {
				return x[1]
			}
		}
		return ""
	}
	return strings.Trim(find(browsers)+" · "+find(systems), " ·")
}

type tokensData struct {
	Rows   []tokenRow
	Scopes []option
}

type tokenRow struct {
	identity.Token
	CreatedAt, ExpiresAt, UsedAt moment
}

// scopes lists what tokens may be made for: what endpoints ask for.
func (p *Portal) scopes() []string {
	var out []string
	for _, e := range p.api {
		if e.Scope != "" && !e.NoToken && !slices.Contains(out, e.Scope) {
			out = append(out, e.Scope)
		}
	}
	slices.Sort(out)
	return out
}
