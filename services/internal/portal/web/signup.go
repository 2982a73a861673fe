package web

import (
	"github.com/parley-meet/parley/services/internal/portal/identity"
	"github.com/parley-meet/parley/services/internal/portal/people"
)

// Pages of people who have no session yet. What they do goes through the API
// (api_signup.go). Links from mails have their secret in the fragment, which
// link.js puts into the form: to follow one changes nothing.
func (p *Portal) signupPages() []page {
	scripts := []string{"reveal.js", "link.js"}
	return []page{
		{Path: "/signup", Title: "signup.title", Template: "signup", Need: needNobody, Narrow: true, NoTab: true, Scripts: scripts, Load: func(k *call) (any, error) {
			mode, err := k.p.id.people.SignupMode(k.ctx())
			d := signupData{Mode: mode}
			for _, t := range people.Types {
				d.Types = append(d.Types, option{string(t), k.words.T("type." + string(t)), k.words.T("type." + string(t) + ".text")})
			}
			return d, err
		}},
		{Path: "/verify", Title: "verify.title", Template: "verify", Need: needNobody, Narrow: true, NoTab: true, Scripts: scripts, Load: nothing},
		{Path: "/reset", Title: "reset.title", Template: "reset", Need: needNobody, Narrow: true, NoTab: true, Scripts: scripts, Load: nothing},
		{Path: "/invite", Title: "invite.title", Template: "invite", Need: needNobody, Narrow: true, NoTab: true, Scripts: scripts, Load: nothing},
		{Path: "/setup", Title: "setup.title", Template: "setup", Need: needNobody, Narrow: true, NoTab: true, Scripts: scripts, Load: nothing},
		{Path: "/email", Title: "email.title", Template: "email", Need: needNobody, Narrow: true, NoTab: true, Scripts: scripts, Load: nothing},
	}
}

func nothing(*call) (any, error) { return nil, nil }

// option is one of a choice.
type option struct{ Value, Label, Hint string }

type signupData struct {
	Mode  identity.Mode
	Types []option
}
