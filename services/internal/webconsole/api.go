package webconsole

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/services/internal/account"
	"github.com/parley-meet/parley/services/internal/admin"
	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/look"
)

// Longest bodies in bytes.
const (
	maxBody      = 64 << 10
	maxLargeBody = 512 << 10 // of certificates
)

// need says who may call an endpoint.
type need string

const (
	needNobody  need = ""        // anybody, without a login
	needView    need = "view"    // whoever has logged in
	needOperate need = "operate" // who may change things
)

// endpoint is a line of the API's table.
type endpoint struct {
	Method, Path string
	ID           string // operationId
	Summary      string
	Need         need
	Forced       bool // reachable while the password must be changed
	// NoToken: a token for automation does not stand for a person.
	NoToken  bool
	Query    []param
	Request  reflect.Type // nil: no body
	Response reflect.Type // nil: 204, or Type
	Type     string       // content type of what is not JSON
	Large    bool         // body up to maxLargeBody
	do       func(*call) (any, error)
}

// param is a parameter of the query.
type param struct {
	Name, Summary, Schema string // Schema: "integer", "string", "boolean"
}

// none is the type of no answer.
type none struct{}

// get is an endpoint that answers with a T.
func get[T any](path, id, summary string, n need, do func(*call) (T, error)) endpoint {
	return endpoint{Method: http.MethodGet, Path: path, ID: id, Summary: summary, Need: n, Response: answerType[T](),
		do: func(k *call) (any, error) { return do(k) }}
}

// act is an endpoint that changes something without a body.
func act[T any](method, path, id, summary string, n need, do func(*call) (T, error)) endpoint {
	return endpoint{Method: method, Path: path, ID: id, Summary: summary, Need: n, Response: answerType[T](),
		do: func(k *call) (any, error) {
			if err := k.noBody(); err != nil {
				return nil, err
			}
			return do(k)
		}}
}

// send is an endpoint that changes something with a body.
func send[In, T any](method, path, id, summary string, n need, do func(*call, In) (T, error)) endpoint {
	e := endpoint{Method: method, Path: path, ID: id, Summary: summary, Need: n, Request: reflect.TypeFor[In](), Response: answerType[T]()}
	e.do = func(k *call) (any, error) {
		var in In
		if err := k.read(&in, maxBody); err != nil {
			return nil, err
		}
		return do(k, in)
	}
	return e
}

// sendLarge is send with a longer body.
func sendLarge[In, T any](method, path, id, summary string, n need, do func(*call, In) (T, error)) endpoint {
	e := send(method, path, id, summary, n, do)
	e.Large = true
	e.do = func(k *call) (any, error) {
		var in In
		if err := k.read(&in, maxLargeBody); err != nil {
			return nil, err
		}
		return do(k, in)
	}
	return e
}

// raw is an endpoint that writes its answer itself, after a nil error and
// nothing else.
func raw(method, path, id, summary string, n need, kind string, do func(*call) error) endpoint {
	return endpoint{Method: method, Path: path, ID: id, Summary: summary, Need: n, Type: kind,
		do: func(k *call) (any, error) { return written{}, do(k) }}
}

// written is the answer of raw.
type written struct{}

func answerType[T any]() reflect.Type {
	if t := reflect.TypeFor[T](); t != reflect.TypeFor[none]() {
		return t
	}
	return nil
}

func (e endpoint) with(change func(*endpoint)) endpoint {
	change(&e)
	return e
}

// endpoint serves one line of the table.
func (c *Console) endpoint(e endpoint) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		k, err := c.apiCaller(w, r, e)
		if err == nil {
			var v any
			if v, err = e.do(k); err == nil {
				switch v.(type) {
				case written:
				case none:
					w.WriteHeader(http.StatusNoContent)
				default:
					writeJSON(w, http.StatusOK, v)
				}
				return
			}
		}
		k.fail(err)
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

// throttled is an error that says how long to wait.
type throttled struct{ wait time.Duration }

func (t throttled) Error() string { return fmt.Sprintf("wait %v", t.wait) }

// statusError is an error of the request's form.
type statusError struct {
	status int
	code   string
}

func (e statusError) Error() string { return e.code }

// apiCaller says who calls an endpoint. The call is never nil.
func (c *Console) apiCaller(w http.ResponseWriter, r *http.Request, e endpoint) (*call, error) {
	k := &call{c: c, w: w, r: r, words: c.words(r)}
	if secret, ok := bearer(r); ok {
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
		if wait := c.guard.tokenWait(from, time.Now()); wait > 0 {
			return admin.Actor{}, throttled{wait}
		}
		c.guard.tokenFailed(from, time.Now())
		c.stranger.line(slog.LevelWarn, "token refused", "from", from)
		return admin.Actor{}, errUnauthorized
	}
	if err != nil {
		return admin.Actor{}, err
	}
	who.From, who.Via = from.String(), "api"
	return who, nil
}

// read decodes the body strictly into v.
func (k *call) read(v any, limit int64) error {
	kind, _, _ := strings.Cut(k.r.Header.Get("Content-Type"), ";")
	if !strings.EqualFold(strings.TrimSpace(kind), "application/json") {
		return statusError{http.StatusUnsupportedMediaType, "content-type"}
	}
	b, err := io.ReadAll(http.MaxBytesReader(k.w, k.r.Body, limit))
	if err != nil {
		var long *http.MaxBytesError
		if errors.As(err, &long) {
			return statusError{http.StatusRequestEntityTooLarge, "too-large"}
		}
		return statusError{http.StatusBadRequest, "bad-body"}
	}
	setWaits(k.r, false)
	return decode(b, v)
}

// noBody refuses a body where none is expected.
func (k *call) noBody() error {
	var b [1]byte
	if n, _ := io.ReadFull(http.MaxBytesReader(k.w, k.r.Body, 1), b[:]); n > 0 {
		return fault.New("", "no-body")
	}
	setWaits(k.r, false)
	return nil
}

// decode reads one JSON value without fields that v does not have.
func decode(b []byte, v any) error {
	if bytes.Equal(bytes.TrimSpace(b), []byte("null")) { // encoding/json takes it for anything
		return fault.New("", "type", jsonKind(reflect.TypeOf(v).Elem()))
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil {
		if _, err := d.Token(); err != io.EOF {
			return fault.New("", "json-more")
		}
		return nil
	}
	var kind *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch name, unknown := strings.CutPrefix(err.Error(), "json: unknown field "); {
	case unknown:
		if s, err := strconv.Unquote(name); err == nil {
			name = s
		}
		return fault.New(cut(name, 100), "unknown-field")
	case errors.As(err, &kind):
		return fault.New(kind.Field, "type", jsonKind(kind.Type))
	case errors.As(err, &syntax):
		return fault.New("", "json", fmt.Sprintf("byte %d", syntax.Offset))
	}
	return fault.New("", "json", cut(err.Error(), 100))
}

// jsonKind names what JSON a Go type is.
func jsonKind(t reflect.Type) string {
	if t == nil {
		return "value"
	}
	switch t.Kind() {
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "boolean"
	case reflect.Slice, reflect.Array:
		return "array"
	case reflect.Struct, reflect.Map:
		return "object"
	}
	return "number"
}

// Problem is an error as the API tells it, in the request's language.
type Problem struct {
	Code    string         `json:"code"`
	Message string         `json:"message"`
	Fields  []FieldProblem `json:"fields,omitempty"`

	status int
	after  time.Duration
	close  bool // the connection
}

// FieldProblem is what is wrong with a value of the request.
type FieldProblem struct {
	Field   string `json:"field"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

// ErrorAnswer is the body of every answer that is an error.
type ErrorAnswer struct {
	Error Problem `json:"error"`
}

// failure puts an error into words and a status.
func (k *call) failure(err error) Problem {
	p := func(status int, code string) Problem {
		return Problem{Code: code, Message: k.words.T("error." + code), status: status}
	}
	var refusal *control.Error
	var wait throttled
	var form statusError
	if l := fault.Of(err); l != nil {
		out := p(http.StatusUnprocessableEntity, "invalid")
		for _, f := range l {
			out.Fields = append(out.Fields, FieldProblem{f.Field, f.Code, cut(f.Text(k.words), 500)})
		}
		return out
	}
	switch {
	case errors.As(err, &form):
		return p(form.status, form.code)
	case errors.As(err, &wait):
		out := p(http.StatusTooManyRequests, "throttled")
		out.Message, out.after = k.words.T("error.throttled", seconds(wait.wait)), wait.wait
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
		out.after = busyWait
		return out
	case errors.Is(err, admin.ErrSameConnection):
		// The browser is to make another one for its next request.
		out := p(http.StatusConflict, "same-connection")
		out.close = true
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
		out.Message = k.words.T("error.refused", cut(refusal.Message, 300))
		return out
	case errors.Is(err, context.DeadlineExceeded):
		return p(http.StatusGatewayTimeout, "timeout")
	}
	out := p(http.StatusInternalServerError, "internal")
	if k.who.Name != "" { // whoever has logged in may know
		out.Message = k.words.T("error.internal.why", cut(err.Error(), 300))
	}
	return out
}

// fail answers with an error.
func (k *call) fail(err error) {
	p := k.failure(err)
	if p.status == http.StatusInternalServerError {
		k.c.cfg.Log.Error("api", "method", k.r.Method, "path", cut(k.r.URL.Path, 100), "error", err)
	}
	if p.after > 0 {
		k.w.Header().Set("Retry-After", strconv.Itoa(seconds(p.after)))
	}
	if p.status == http.StatusUnauthorized {
		k.w.Header().Set("WWW-Authenticate", `Bearer realm="parley"`)
	}
	if p.close {
		k.w.Header().Set("Connection", "close")
	}
	k.w.Header().Set("Content-Language", string(k.words.Language()))
	writeJSON(k.w, p.status, ErrorAnswer{p})
}

// noEndpoint answers for what is not in the table.
func (c *Console) noEndpoint(w http.ResponseWriter, r *http.Request) {
	k := &call{c: c, w: w, r: r, words: c.words(r)}
	for _, m := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
		if m == r.Method {
			continue
		}
		if _, pattern := c.mux.Handler(&http.Request{Method: m, URL: r.URL}); strings.HasPrefix(pattern, m+" ") {
			w.Header().Add("Allow", m)
		}
	}
	if w.Header().Get("Allow") != "" {
		k.fail(statusError{http.StatusMethodNotAllowed, "method"})
		return
	}
	k.fail(errNotFound)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // these types always encode
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n'))
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
