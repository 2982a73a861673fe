package web

import (
	"errors"
	"log/slog"
	"net/http"
	"strings"

	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/portal/identity"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/store"
)

// awayCookie is kept while somebody is at a provider of sign-in. It is Lax: the
// provider sends the browser back.
const awayCookie = "__Host-parley-away"

// awayURL is where a provider sends browsers back to.
func (p *Portal) awayURL(id string) string {
	return p.cfg.URL.Scheme + "://" + p.cfg.URL.Host + "/login/oidc/" + id + "/callback"
}

func setAway(w http.ResponseWriter, kept string) {
	c := &http.Cookie{Name: awayCookie, Value: kept, Path: "/", MaxAge: int(identity.ProviderTTL.Seconds()), Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode}
	if kept == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

// goAway sends the browser to a provider. It is a link and no form: the page's
// policy lets no form end at another site.
func (p *Portal) goAway(w http.ResponseWriter, r *http.Request) {
	to, kept, err := p.id.people.BeginProvider(r.Context(), r.PathValue("id"), p.awayURL(r.PathValue("id")), p.place(r.URL.Query().Get("to")))
	if err != nil {
		p.failAway(w, r, err)
		return
	}
	setAway(w, kept)
	http.Redirect(w, r, to, http.StatusSeeOther)
}

// comeBack takes the browser back from a provider.
func (p *Portal) comeBack(w http.ResponseWriter, r *http.Request) {
	kept := ""
	if c, err := r.Cookie(awayCookie); err == nil && len(c.Value) < 4096 {
		kept = c.Value
	}
	setAway(w, "")
	q := r.URL.Query()
	if said := q.Get("error"); said != "" {
		p.id.log.Line(slog.LevelInfo, "provider refused a sign-in", "from", remote(r), "error", api.Cut(said, 60))
	}
	id := r.PathValue("id")
	got := identity.Answer{Provider: id, Kept: kept, State: q.Get("state"), Code: q.Get("code"), Issuer: q.Get("iss")}
	u, to, err := p.id.people.FinishProvider(r.Context(), got, p.awayURL(id), string(p.words(r).Language()), remote(r).String())
	if err == nil {
		to, err = p.next(w, r, u, p.place(to))
	}
	if err != nil {
		p.failAway(w, r, err)
		return
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
}

func (p *Portal) failAway(w http.ResponseWriter, r *http.Request, err error) {
	why := "provider"
	switch {
	case errors.Is(err, identity.ErrStep):
		why = "step"
	case errors.Is(err, identity.ErrAddress):
		why = "address"
	case errors.Is(err, identity.ErrNobody):
		why = "nobody"
	case errors.Is(err, identity.ErrSuspended), errors.Is(err, identity.ErrUnverified):
		why = "suspended"
	case errors.Is(err, people.ErrUnknown):
		p.notFound(w, r)
		return
	}
	p.id.log.Line(slog.LevelWarn, "sign-in by a provider failed", "from", remote(r), "error", api.Cut(err.Error(), 300))
	http.Redirect(w, r, "/login?ended="+why, http.StatusSeeOther)
}

func (p *Portal) signinPages() []page {
	return []page{
		{Path: "/operator/signin", Section: "operator", Title: "signin.title", Template: "signin", Need: needOperator, Load: func(k *call) (any, error) {
			mode, err := k.p.id.people.SignupMode(k.ctx())
			if err != nil {
				return nil, err
			}
			list, err := k.p.id.people.Providers(k.ctx())
			if err != nil {
				return nil, err
			}
			id := store.NewID()
			d := signinData{Mode: string(mode), ID: id, Callback: k.p.awayURL(id), Accounts: []option{{"", k.words.T("signin.account.none"), ""}}}
			for _, m := range []identity.Mode{identity.SignupOpen, identity.SignupInvited, identity.SignupClosed} {
				d.Modes = append(d.Modes, option{string(m), k.words.T("signin.mode." + string(m)), k.words.T("signin.mode." + string(m) + ".text")})
			}
			err = k.p.cfg.DB.Read(k.ctx(), func(tx *store.Tx) error {
				d.Accounts, d.Rows = d.Accounts[:1], nil
				for _, q := range list {
					row := providerRow{Provider: q, Callback: k.p.awayURL(q.ID), For: k.words.T("signin.account.none")}
					if q.Account != "" {
						a, err := people.GetAccount(tx, q.Account)
						if err != nil {
							return err
						}
						row.For = a.Name
					}
					d.Rows = append(d.Rows, row)
				}
				return tx.Each(func(scan func(...any) error) error {
					var o option
					err := scan(&o.Value, &o.Label)
					d.Accounts = append(d.Accounts, o)
					return err
				}, "SELECT id, name FROM accounts ORDER BY name_key, id LIMIT 500")
			})
			return d, err
		}},
	}
}

type signinData struct {
	Mode     string
	Modes    []option
	ID       string // of the provider to add
	Callback string
	Rows     []providerRow
	Accounts []option
}

type providerRow struct {
	identity.Provider
	For      string
	Callback string
}

// DomainList is the row's domains.
func (r providerRow) DomainList() string { return strings.Join(r.Domains, ", ") }

func (p *Portal) signinEndpoints() []endpoint {
	id := p.id.people
	return []endpoint{
		api.Get("/api/v1/operator/providers", "listProviders", "Providers of sign-in by OpenID Connect, without their secrets.", needOperator,
			func(k *call) ([]identity.Provider, error) { return id.Providers(k.ctx()) }).With(person),
		api.Send("POST", "/api/v1/operator/providers", "addProvider", "Add a provider of sign-in, after it has answered.", needOperator,
			func(k *call, in identity.ProviderInput) (identity.Provider, error) {
				return id.AddProvider(k.ctx(), k.who, in)
			}).With(person),
		api.Act("DELETE", "/api/v1/operator/providers/{id}", "removeProvider", "Remove a provider of sign-in. People and sessions stay.", needOperator,
			func(k *call) (none, error) {
				return none{}, id.RemoveProvider(k.ctx(), k.who, k.r.PathValue("id"))
			}).With(person),
	}
}
