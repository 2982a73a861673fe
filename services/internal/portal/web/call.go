package web

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"time"

	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/credential"
	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/guard"
	"github.com/parley-meet/parley/services/internal/look"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/store"
)

// Who may look at a page, or call an endpoint.
const (
	needNobody            = api.Anybody
	needPerson   api.Need = "person"   // whoever has signed in
	needMember   api.Need = "member"   // of an account
	needAdmin    api.Need = "admin"    // admin or owner of an account
	needOwner    api.Need = "owner"    // of an account
	needOperator api.Need = "operator" // of the portal
)

// endpoint is a line of the API's table.
type endpoint = api.Endpoint[*call]

// none is no answer.
type none = api.None

// scope adds the scope that a token needs.
func scope(name string) func(*endpoint) { return func(e *endpoint) { e.Scope = name } }

// person keeps tokens out: one that leaked must not make a way in that outlives
// it.
func person(e *endpoint) { e.NoToken = true }

// call is a request, with who makes it.
type call struct {
	p       *Portal
	w       http.ResponseWriter
	r       *http.Request
	words   *look.Words
	session *people.Session // nil: nobody, or a token
	who     people.Actor
}

func (k *call) ctx() context.Context { return k.r.Context() }

// HTTP and HasRead are for package api.
func (k *call) HTTP() (http.ResponseWriter, *http.Request) { return k.w, k.r }

// HasRead does nothing here.
func (k *call) HasRead() {}

// allowed returns why the caller may not, or nil.
func (k *call) allowed(n api.Need) error {
	switch {
	case n == needNobody:
		return nil
	case k.who.User == "":
		return errUnauthorized
	case n == needPerson,
		n == needMember && k.who.At(people.Member), n == needAdmin && k.who.At(people.Admin), n == needOwner && k.who.At(people.Owner),
		n == needOperator && k.who.Operator:
		return nil
	}
	return people.ErrDenied
}

// caller finds out who makes a request: the session's person, or a token's.
func (p *Portal) caller(w http.ResponseWriter, r *http.Request, touch bool) (*call, look.Ended, error) {
	k := &call{p: p, w: w, r: r, words: p.words(r)}
	if secret, ok := api.Bearer(r); ok {
		who, err := p.tokenActor(r, secret)
		k.who = who
		return k, "", err
	}
	t := token(r)
	if t == "" {
		return k, "", nil
	}
	s, why, err := people.GetSession(r.Context(), p.cfg.DB, t, time.Now(), touch)
	if s != nil {
		k.session = s
		k.who = people.Actor{User: s.User.ID, Account: s.User.Account, Name: s.User.Name, Email: s.User.Email, Role: s.User.Role,
			Operator: s.User.Operator, From: remote(r).String(), Via: "web"}
	}
	return k, why, err
}

// Errors of the API itself.
var (
	errUnauthorized = errors.New("sign in, or send a token")
	errNoToken      = errors.New("a token does not stand for a person")
	errScope        = errors.New("the token has not the scope")
	errNotFound     = errors.New("there is no such thing")
)

// endpoint serves one line of the table.
func (p *Portal) endpoint(e endpoint) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		k, err := &call{p: p, w: w, r: r, words: p.words(r)}, error(nil)
		if !e.Bearer {
			k, _, err = p.caller(w, r, true)
		}
		if err == nil {
			err = k.allowed(e.Need)
		}
		if err == nil && k.who.Token != "" && e.Need != needNobody {
			switch {
			case e.NoToken:
				err = errNoToken
			case !k.who.Scoped(e.Scope):
				err = errScope
			}
		}
		if e.Need == needOperator {
			// What an operator does is the portal's, and not of the account that he may
			// be in: so is the audit log that tells of it.
			k.who.Account, k.who.Role = "", ""
		}
		if err == nil {
			err = e.Answer(k)
		}
		if err != nil {
			k.fail(err)
		}
	}
}

// failure puts an error into words and a status.
func (k *call) failure(err error) api.Problem {
	p := func(status int, code string) api.Problem {
		return api.Problem{Code: code, Message: k.words.T("error." + code), Status: status}
	}
	if l := fault.Of(err); l != nil {
		return p(http.StatusUnprocessableEntity, "invalid").Invalid(l, k.words)
	}
	if errors.Is(err, credential.ErrBusy) {
		err = api.Throttled{Wait: guard.BusyWait}
	}
	if status, code := connectorProblem(err); status != 0 {
		return p(status, code)
	}
	var form api.StatusError
	var wait api.Throttled
	switch {
	case errors.As(err, &form):
		return p(form.Status, form.Code)
	case errors.As(err, &wait):
		out := p(http.StatusTooManyRequests, "throttled")
		out.Message, out.After = k.words.T("error.throttled", api.Seconds(wait.Wait)), wait.Wait
		return out
	case errors.Is(err, errUnauthorized):
		return p(http.StatusUnauthorized, "unauthorized")
	case errors.Is(err, errNoToken):
		return p(http.StatusForbidden, "no-token")
	case errors.Is(err, errScope):
		return p(http.StatusForbidden, "scope")
	case errors.Is(err, people.ErrDenied):
		return p(http.StatusForbidden, "denied")
	case errors.Is(err, people.ErrUnknown), errors.Is(err, errNotFound), errors.Is(err, store.ErrNotFound):
		return p(http.StatusNotFound, "not-found")
	case errors.Is(err, context.DeadlineExceeded):
		return p(http.StatusGatewayTimeout, "timeout")
	}
	return p(http.StatusInternalServerError, "internal")
}

// fail answers with an error.
func (k *call) fail(err error) {
	problem := k.failure(err)
	if problem.Status == http.StatusInternalServerError {
		k.p.cfg.Log.Error("api", "method", k.r.Method, "path", api.Cut(k.r.URL.Path, 100), "error", err)
	}
	api.Refuse(k.w, string(k.words.Language()), problem)
}

// noEndpoint answers for what is not in the table.
func (p *Portal) noEndpoint(w http.ResponseWriter, r *http.Request) {
	k := &call{p: p, w: w, r: r, words: p.words(r)}
	if list := api.Methods(p.mux, r); list != nil {
		w.Header()["Allow"] = list
		k.fail(api.StatusError{Status: http.StatusMethodNotAllowed, Code: "method"})
		return
	}
	k.fail(errNotFound)
}

// describe returns the OpenAPI description of the table.
func (p *Portal) describe() []byte {
	return api.Describe(p.api, api.Info{
		Title:       "Parley portal",
		Description: "What the portal's own pages call. Values are checked one by one; an error names the field. Texts come in the language of Accept-Language. An endpoint reaches what belongs to the caller's account, and nothing else.",
		Licence:     "see the portal's licences",
		Cookie:      sessionCookie,
		CookieText:  "of a sign-in in a browser; a request that changes something must come from the portal's own pages",
		TokenText:   "made in the portal under Profile > Tokens; x-scope names the scope that it needs",
		Package:     reflect.TypeFor[Portal](),
	})
}
