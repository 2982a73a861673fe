package web

import (
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/portal/identity"
	"github.com/parley-meet/parley/services/internal/portal/people"
)

// PasswordInput changes the own password.
type PasswordInput struct {
	Current string `json:"current"`
	New     string `json:"new"`
	Confirm string `json:"confirm"`
}

// ProofInput is the own password, for what a session alone must not do.
type ProofInput struct {
	Password string `json:"password"`
}

// NewEmailInput asks for another address.
type NewEmailInput struct {
	Email    string `json:"email"`
	Password string `json:"password"`
}

// LinkOnly is a link from a mail.
type LinkOnly struct {
	Link string `json:"link"`
}

// CodeInput is a code of an authenticator app.
type CodeInput struct {
	Code string `json:"code"`
}

// FactorSetup is a second factor that waits for its first code, with the QR code
// for authenticator apps: rows of modules, "1" is dark.
type FactorSetup struct {
	Secret string   `json:"secret"`
	URI    string   `json:"uri"`
	QR     []string `json:"qr"`
}

// RecoveryCodes are shown once.
type RecoveryCodes struct {
	Codes []string `json:"codes"`
}

// RequireInput says whether an account demands a second factor.
type RequireInput struct {
	Required bool `json:"required"`
}

// MadeToken is a token with its secret, which is shown once.
type MadeToken struct {
	Token  identity.Token `json:"token"`
	Secret string         `json:"secret"`
}

func (p *Portal) profileEndpoints() []endpoint {
	id := p.id.people
	return []endpoint{
		api.Send("PUT", "/api/v1/profile", "setProfile", "Change the own name, language and time zone.", needPerson,
			func(k *call, in identity.Profile) (none, error) { return none{}, id.SetProfile(k.ctx(), k.who, in) }).With(person),
		api.Send("PUT", "/api/v1/profile/password", "setPassword", "Change the own password. All other sessions end.", needPerson,
			func(k *call, in PasswordInput) (none, error) {
				if in.New != in.Confirm {
					return none{}, fault.New("confirm", "password-differs")
				}
				if _, err := k.proven("current", func() error { return id.SetPassword(k.ctx(), k.who, in.Current, in.New) }); err != nil {
					return none{}, err
				}
				return none{}, k.p.enter(k.w, k.r, k.session.User)
			}).With(person),
		api.Send("POST", "/api/v1/profile/email", "askEmail", "Ask for another address: a link goes to it, and a warning to the one before.", needPerson,
			func(k *call, in NewEmailInput) (none, error) {
				return k.proven("password", func() error {
					return id.AskEmail(k.ctx(), k.who, in.Email, in.Password, string(k.words.Language()))
				})
			}).With(person),
		api.Send("POST", "/api/v1/profile/email/confirm", "confirmEmail", "Confirm a new address with the link from its mail. All sessions end.", needNobody,
			func(k *call, in LinkOnly) (none, error) {
				return none{}, id.ConfirmEmail(k.ctx(), in.Link, remote(k.r).String())
			}),
		api.Send("POST", "/api/v1/profile/factor", "beginFactor", "Begin a second factor.", needPerson,
			func(k *call, in ProofInput) (FactorSetup, error) {
				if _, err := k.proven("password", func() error { return id.Prove(k.ctx(), k.who.User, in.Password) }); err != nil {
					return FactorSetup{}, err
				}
				secret, uri, err := id.BeginFactor(k.ctx(), k.who.User, k.p.cfg.URL.Hostname(), false)
				return FactorSetup{secret, uri, qrRows(uri)}, err
			}).With(person),
		api.Send("POST", "/api/v1/profile/factor/confirm", "confirmFactor", "Turn the second factor on with its first code. The recovery codes are shown once.", needPerson,
			func(k *call, in CodeInput) (RecoveryCodes, error) {
				return holding(k, "factor "+k.who.User, "code", func() (RecoveryCodes, error) {
					c, err := id.ConfirmFactor(k.ctx(), k.who, in.Code)
					return RecoveryCodes{c}, err
				})
			}).With(person),
		api.Send("POST", "/api/v1/profile/factor/recovery", "renewRecovery", "Make new recovery codes; those before them are not good any more.", needPerson,
			func(k *call, in ProofInput) (RecoveryCodes, error) {
				var c []string
				_, err := k.proven("password", func() (err error) { c, err = id.RenewRecovery(k.ctx(), k.who, in.Password); return err })
				return RecoveryCodes{c}, err
			}).With(person),
		api.Send("POST", "/api/v1/profile/factor/remove", "removeFactor", "Turn the own second factor off.", needPerson,
			func(k *call, in ProofInput) (none, error) {
				return k.proven("password", func() error { return id.RemoveFactor(k.ctx(), k.who, in.Password) })
			}).With(person),
		api.Send("PUT", "/api/v1/account/factor", "requireFactor", "Say whether everybody in the account needs a second factor.", needOwner,
			func(k *call, in RequireInput) (none, error) {
				return none{}, id.RequireFactor(k.ctx(), k.who, in.Required)
			}).With(person),
		api.Act("DELETE", "/api/v1/users/{id}/factor", "dropFactor", "Take a person's second factor away, who has lost his phone and the recovery codes. His sessions end.", needAdmin,
			func(k *call) (none, error) { return none{}, id.DropFactor(k.ctx(), k.who, k.r.PathValue("id"), false) }).With(person),
		api.Act("DELETE", "/api/v1/operator/users/{id}/factor", "dropFactorAnywhere", "The same, of anybody on the portal.", needOperator,
			func(k *call) (none, error) { return none{}, id.DropFactor(k.ctx(), k.who, k.r.PathValue("id"), true) }).With(person),
		api.Get("/api/v1/profile/sessions", "listSessions", "The own sessions.", needPerson,
			func(k *call) ([]identity.SessionInfo, error) { return id.Sessions(k.ctx(), k.who, k.session.ID) }).With(person),
		api.Act("DELETE", "/api/v1/profile/sessions/{id}", "endSession", "End one of the own sessions.", needPerson,
			func(k *call) (none, error) { return none{}, id.EndSession(k.ctx(), k.who, k.r.PathValue("id")) }).With(person),
		api.Act("DELETE", "/api/v1/profile/sessions", "endOtherSessions", "End all own sessions but the one that asks.", needPerson,
			func(k *call) (none, error) { return none{}, id.EndOthers(k.ctx(), k.who, k.session.ID) }).With(person),
		api.Get("/api/v1/profile/tokens", "listTokens", "The own API tokens, without their secrets.", needPerson,
			func(k *call) ([]identity.Token, error) { return id.Tokens(k.ctx(), k.who) }).With(person),
		api.Send("POST", "/api/v1/profile/tokens", "addToken", "Make an API token. Its secret is shown once. It may do what its owner may at the time, within its scopes.", needPerson,
			func(k *call, in identity.TokenInput) (MadeToken, error) {
				t, secret, err := id.AddToken(k.ctx(), k.who, in, k.p.scopes())
				return MadeToken{t, secret}, err
			}).With(person),
		api.Act("DELETE", "/api/v1/profile/tokens/{id}", "removeToken", "Remove one of the own API tokens.", needPerson,
			func(k *call) (none, error) { return none{}, id.RemoveToken(k.ctx(), k.who, k.r.PathValue("id")) }).With(person),
	}
}

// proven carries out what the person's own password allows; guesses of whoever
// holds the session are slowed down.
func (k *call) proven(field string, do func() error) (none, error) {
	return holding(k, "session "+k.who.User, field, func() (none, error) { return none{}, do() })
}

// tokenActor returns who an API token stands for. Wrong ones are counted by
// address; a good one is never held up: of 256 random bits nobody guesses any,
// and whoever sends wrong ones may share the address with a program that has a
// good one.
func (p *Portal) tokenActor(r *http.Request, secret string) (people.Actor, error) {
	from := remote(r)
	who, err := p.id.people.TokenActor(r.Context(), secret, from.String())
	if errors.Is(err, people.ErrUnknown) {
		if wait := p.id.guard.TokenWait(from, time.Now()); wait > 0 {
			return people.Actor{}, api.Throttled{Wait: wait}
		}
		p.id.guard.TokenFailed(from, time.Now())
		p.id.log.Line(slog.LevelWarn, "token refused", "from", from)
		return people.Actor{}, errUnauthorized
	}
	return who, err
}
