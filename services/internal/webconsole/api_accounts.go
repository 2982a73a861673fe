package webconsole

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/parley-meet/parley/services/internal/account"
	"github.com/parley-meet/parley/services/internal/admin"
	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/look"
)

// AuthorityInput is an account's new authority.
type AuthorityInput struct {
	Authority string `json:"authority"` // "operate" or "view"
}

// NewPassword is another's password.
type NewPassword struct {
	Password string `json:"password"`
}

// CurrentPassword proves that whoever is at a session is its owner, before he
// changes what the next login needs.
type CurrentPassword struct {
	Password string `json:"password"`
}

// CodeInput is a code of the second factor.
type CodeInput struct {
	Code string `json:"code"`
}

// RecoveryCodes are for the day the phone is lost, each good once.
type RecoveryCodes struct {
	Codes []string `json:"codes"`
}

// MadeToken is a new token with its secret, which is not kept.
type MadeToken struct {
	Token  account.Token `json:"token"`
	Secret string        `json:"secret"`
}

// Self is who calls.
type Self struct {
	Account account.Account `json:"account"`
	Via     string          `json:"via"` // "web" or "api"
}

func (c *Console) accountEndpoints() []endpoint {
	a := c.cfg.Admin
	// A token that leaked must not be able to make a way in that outlives it.
	person := func(e *endpoint) { e.NoToken = true }
	return []endpoint{
		api.Get("/api/v1/account", "getSelf", "Who calls.", needView,
			func(k *call) (Self, error) { return Self{k.account, k.who.Via}, nil }).With(func(e *endpoint) { e.Forced = true }),
		api.Send("PUT", "/api/v1/account/password", "changePassword", "Change the own password. Other sessions of the account end; this one gets a new cookie.", needView, c.changePassword).
			With(func(e *endpoint) { e.NoToken, e.Forced = true, true }),
		api.Send("POST", "/api/v1/account/totp", "beginTOTP", "Begin a second factor; it counts when its first code is confirmed.", needView,
			c.beginTOTP).With(person),
		api.Send("POST", "/api/v1/account/totp/confirm", "confirmTOTP", "Turn the second factor on with its first code.", needView,
			func(k *call, in CodeInput) (RecoveryCodes, error) {
				codes, err := guarded(k, "code", func() ([]string, error) { return a.ConfirmTOTP(k.ctx(), k.who, in.Code) })
				if err == nil {
					k.renew()
				}
				return RecoveryCodes{codes}, err
			}).With(person),
		api.Send("POST", "/api/v1/account/totp/remove", "removeOwnTOTP", "Turn the own second factor off.", needView,
			func(k *call, in CurrentPassword) (none, error) {
				if err := k.prove(in.Password); err != nil {
					return none{}, err
				}
				err := a.RemoveTOTP(k.ctx(), k.who, k.account.Name)
				if err == nil {
					k.renew()
				}
				return none{}, err
			}).With(person),
		api.Get("/api/v1/accounts", "listAccounts", "Who may log in.", needView,
			func(k *call) ([]account.Account, error) { return a.Accounts(k.ctx()) }),
		api.Send("POST", "/api/v1/accounts", "addAccount", "Add an operator.", needOperate,
			func(k *call, in admin.AccountInput) (none, error) { return none{}, a.AddAccount(k.ctx(), k.who, in) }).With(person),
		api.Act("DELETE", "/api/v1/accounts/{name}", "removeAccount", "Remove an operator. His sessions and tokens end.", needOperate,
			func(k *call) (none, error) { return none{}, a.RemoveAccount(k.ctx(), k.who, k.r.PathValue("name")) }),
		api.Send("PUT", "/api/v1/accounts/{name}/authority", "setAuthority", "Set what an operator may do.", needOperate,
			func(k *call, in AuthorityInput) (none, error) {
				return none{}, a.SetAuthority(k.ctx(), k.who, k.r.PathValue("name"), in.Authority)
			}).With(person),
		api.Send("PUT", "/api/v1/accounts/{name}/password", "resetPassword", "Set another's password, who must change it at the next login.", needOperate,
			func(k *call, in NewPassword) (none, error) {
				return none{}, a.ResetPassword(k.ctx(), k.who, k.r.PathValue("name"), in.Password)
			}).With(person),
		api.Act("DELETE", "/api/v1/accounts/{name}/totp", "removeTOTP", "Turn another's second factor off.", needOperate,
			func(k *call) (none, error) { return none{}, a.RemoveTOTP(k.ctx(), k.who, k.r.PathValue("name")) }).With(person),
		api.Get("/api/v1/tokens", "listTokens", "Tokens for automation, without their secrets.", needView,
			func(k *call) ([]account.Token, error) { return a.Tokens(k.ctx()) }),
		api.Send("POST", "/api/v1/tokens", "addToken", "Make a token. Its secret is in this answer and nowhere else.", needOperate,
			func(k *call, in admin.TokenInput) (MadeToken, error) {
				t, secret, err := a.AddToken(k.ctx(), k.who, in)
				return MadeToken{t, secret}, err
			}).With(person),
		api.Act("DELETE", "/api/v1/tokens/{id}", "removeToken", "Remove a token.", needOperate,
			func(k *call) (none, error) { return none{}, a.RemoveToken(k.ctx(), k.who, k.r.PathValue("id")) }),
		api.Get("/api/v1/sessions", "listSessions", "Who is logged in over the web. View sees his own sessions.", needView, c.listSessions),
		api.Act("DELETE", "/api/v1/sessions/{id}", "endSession", "End a session. View may end his own.", needView, c.endSession),
	}
}

// guarded slows down who tries values of a field that nobody else may know:
// whoever holds a session has not the right to guess its password.
func guarded[T any](k *call, field string, do func() (T, error)) (T, error) {
	var v T
	wait, err := k.c.guard.Holding("session "+k.who.Name, time.Now(), func() (wrong bool, err error) {
		v, err = do()
		return fault.Of(err).Has(field), err
	})
	if wait > 0 {
		err = api.Throttled{Wait: wait}
	}
	return v, err
}

// prove returns an error unless password is the account's own.
func (k *call) prove(password string) error {
	if password == "" {
		return fault.New("password", "required")
	}
	k.patient(checkWait)
	_, err := guarded(k, "password", func() (none, error) {
		// Right, and the code is missing: it is not asked for, because whoever
		// turns the factor off may have lost it.
		_, _, err := k.admin().Login(k.ctx(), k.account.Name, password, "")
		switch {
		case errors.Is(err, admin.ErrCode):
			err = nil
		case errors.Is(err, admin.ErrWrong):
			k.admin().Note(k.who, "login.failed", "current password", err)
			err = fault.New("password", "password-wrong")
		}
		return none{}, err
	})
	return err
}

func (c *Console) changePassword(k *call, in admin.PasswordInput) (none, error) {
	k.patient(checkWait)
	_, err := guarded(k, "current", func() (none, error) { return none{}, c.cfg.Admin.ChangePassword(k.ctx(), k.who, in) })
	if err == nil {
		k.renew()
		k.flash("password.changed")
	}
	return none{}, err
}

// renew goes on with the session under a new token and the account's new stamp,
// after the user changed his own password or second factor. Others of the
// account have ended with the old stamp.
func (k *call) renew() {
	if k.session == nil {
		return
	}
	_, stamp, err := k.c.cfg.Admin.Stamp(k.account.Name)
	if err != nil {
		return // the session ends at its next request, which says why
	}
	s := look.Session{Name: k.session.Name, Stamp: stamp, Address: k.session.Address, Agent: k.session.Agent, Made: k.session.Made}
	token := k.c.sessions.Create(s, time.Now())
	k.c.sessions.End(k.c.sessions.Token(k.r))
	k.c.sessions.SetCookie(k.w, token)
	// The flash belongs to the new one.
	k.session, _ = k.c.sessions.Get(token, time.Now(), true, func(string) (string, bool) { return stamp, true })
}

func (c *Console) listSessions(k *call) ([]look.SessionInfo, error) {
	list := c.sessions.List(k.session, time.Now())
	if k.may() {
		return list, nil
	}
	own := []look.SessionInfo{}
	for _, s := range list {
		if k.session != nil && s.Name == k.account.Name {
			own = append(own, s)
		}
	}
	return own, nil
}

func (c *Console) endSession(k *call) (none, error) {
	id := k.r.PathValue("id")
	owner, ok := c.sessions.Owner(id)
	if !ok {
		return none{}, errNotFound
	}
	if !k.may() && (k.session == nil || owner != k.account.Name) {
		return none{}, admin.ErrDenied
	}
	if _, ok := c.sessions.Revoke(id); !ok {
		return none{}, errNotFound
	}
	c.cfg.Admin.Note(k.who, "session.end", owner, nil)
	return none{}, nil
}

// agent is what a browser calls itself, for people to tell sessions apart.
func agent(r *http.Request) string { return api.Cut(strings.TrimSpace(r.UserAgent()), 160) }
