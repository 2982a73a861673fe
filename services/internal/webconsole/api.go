package webconsole

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/services/internal/account"
	"github.com/parley-meet/parley/services/internal/admin"
	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/guard"
	"github.com/parley-meet/parley/services/internal/look"
)

// Who may call an endpoint.
const (
	needNobody           = api.Anybody
	needView    api.Need = "view"    // whoever has logged in
	needOperate api.Need = "operate" // who may change things
)

// endpoint is a line of the API's table.
type endpoint = api.Endpoint[*call]

// none is no answer.
type none = api.None

// HTTP is for package api.
func (k *call) HTTP() (http.ResponseWriter, *http.Request) { return k.w, k.r }

// HasRead tells the gate that the connection waits for nothing any more.
func (k *call) HasRead() { setWaits(k.r, false) }

// endpoint serves one line of the table.
func (c *Console) endpoint(e endpoint) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		k, err := c.apiCaller(w, r, e)
		if err == nil {
			err = e.Answer(k)
		}
		if err != nil {
			k.fail(err)
		}
	}
}

// Errors of the API itself.
var (
	errUnauthorized = errors.New("log in, or send a token")
	errMustChange   = errors.New("the password must be changed first")
	errNoToken      = errors.New("a token does not stand for a person")
	errNotFound     = errors.New("there is no such thing")
	errBusy         = errors.New("too many operations are under way")
)

// apiCaller says who calls an endpoint. The call is never nil.
func (c *Console) apiCaller(w http.ResponseWriter, r *http.Request, e endpoint) (*call, error) {
	k := &call{c: c, w: w, r: r, words: c.words(r)}
	if secret, ok := api.Bearer(r); ok {
		who, err := c.tokenActor(r, secret)
		if err != nil {
			return k, err
		}
		k.who = who
		k.account = account.Account{Name: who.Name, Authority: who.Authority}
		if e.NoToken {
			return k, errNoToken
		}
	} else if s, a, _ := c.session(r, true); s != nil {
		k = c.caller(w, r, s, a, "web")
		if !e.Forced && c.mustChange(r.Context(), a) && e.Need != needNobody {
			return k, errMustChange
		}
	} else if e.Need != needNobody {
		return k, errUnauthorized
	}
	if e.Need == needOperate && !k.may() {
		return k, admin.ErrDenied
	}
	return k, nil
}

// tokenActor returns who the token stands for. Wrong ones are counted like
// wrong passwords, by address, and are not an account's. A good one is never
// held up: of 256 random bits nobody guesses any, and whoever sends wrong ones
// may share the address with a program that has a good one.
func (c *Console) tokenActor(r *http.Request, secret string) (admin.Actor, error) {
	from := remote(r)
	who, err := c.cfg.Admin.TokenActor(secret)
	if errors.Is(err, admin.ErrUnknown) {
		if wait := c.guard.TokenWait(from, time.Now()); wait > 0 {
			return admin.Actor{}, api.Throttled{Wait: wait}
		}
		c.guard.TokenFailed(from, time.Now())
		c.stranger.Line(slog.LevelWarn, "token refused", "from", from)
		return admin.Actor{}, errUnauthorized
	}
	if err != nil {
		return admin.Actor{}, err
	}
	who.From, who.Via = from.String(), "api"
	return who, nil
}

// failure puts an error into words and a status.
func (k *call) failure(err error) api.Problem {
	p := func(status int, code string) api.Problem {
		return api.Problem{Code: code, Message: k.words.T("error." + code), Status: status}
	}
	var refusal *control.Error
	var wait api.Throttled
	var form api.StatusError
	if l := fault.Of(err); l != nil {
		return p(http.StatusUnprocessableEntity, "invalid").Invalid(l, k.words)
	}
	switch {
	case errors.As(err, &form):
		return p(form.Status, form.Code)
	case errors.As(err, &wait):
		out := p(http.StatusTooManyRequests, "throttled")
		out.Message, out.After = k.words.T("error.throttled", api.Seconds(wait.Wait)), wait.Wait
		return out
	case errors.Is(err, errUnauthorized):
		return p(http.StatusUnauthorized, "unauthorized")
	case errors.Is(err, errMustChange):
		return p(http.StatusForbidden, "must-change")
	case errors.Is(err, errNoToken):
		return p(http.StatusForbidden, "no-token")
	case errors.Is(err, admin.ErrDenied):
		return p(http.StatusForbidden, "denied")
	case errors.Is(err, admin.ErrUnknown), errors.Is(err, errNotFound):
		return p(http.StatusNotFound, "not-found")
	case errors.Is(err, errBusy):
		out := p(http.StatusServiceUnavailable, "busy")
		out.After = guard.BusyWait
		return out
	case errors.Is(err, admin.ErrSameConnection):
		// The browser is to make another one for its next request.
		out := p(http.StatusConflict, "same-connection")
		out.Close = true
		return out
	case errors.Is(err, admin.ErrReadOnly):
		return p(http.StatusInsufficientStorage, "read-only")
	case errors.Is(err, admin.ErrAway):
		return p(http.StatusBadGateway, "away")
	case errors.As(err, &refusal):
		out := p(http.StatusConflict, "refused")
		if refusal.Code == control.CodeUnknown {
			out = p(http.StatusNotFound, "not-found")
		}
		out.Message = k.words.T("error.refused", api.Cut(refusal.Message, 300))
		return out
	case errors.Is(err, context.DeadlineExceeded):
		return p(http.StatusGatewayTimeout, "timeout")
	}
	out := p(http.StatusInternalServerError, "internal")
	if k.who.Name != "" { // whoever has logged in may know
		out.Message = k.words.T("error.internal.why", api.Cut(err.Error(), 300))
	}
	return out
}

// fail answers with an error.
func (k *call) fail(err error) {
	p := k.failure(err)
	if p.Status == http.StatusInternalServerError {
		k.c.cfg.Log.Error("api", "method", k.r.Method, "path", api.Cut(k.r.URL.Path, 100), "error", err)
	}
	api.Refuse(k.w, string(k.words.Language()), p)
}

// noEndpoint answers for what is not in the table.
func (c *Console) noEndpoint(w http.ResponseWriter, r *http.Request) {
	k := &call{c: c, w: w, r: r, words: c.words(r)}
	for _, m := range api.Methods(c.mux, r) {
		w.Header().Add("Allow", m)
	}
	if w.Header().Get("Allow") != "" {
		k.fail(api.StatusError{Status: http.StatusMethodNotAllowed, Code: "method"})
		return
	}
	k.fail(errNotFound)
}

// jsonText is s as it stands between quotes in JSON.
func jsonText(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string always encodes
	}
	return string(b[1 : len(b)-1])
}

// patient gives the request's answer until limit from now: some operations
// take longer than a request may.
func (k *call) patient(limit time.Duration) {
	rc := http.NewResponseController(k.w)
	_ = rc.SetReadDeadline(time.Time{})
	_ = rc.SetWriteDeadline(time.Now().Add(limit + writeTimeout))
}

// flash leaves a result for the next page of a session.
func (k *call) flash(key string, args ...any) {
	if k.session != nil {
		k.c.sessions.SetFlash(k.session, &look.Flash{Text: k.words.T(key, args...)})
	}
}
