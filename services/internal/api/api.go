// Package api is an HTTP API as a table: a line names the method, the path, who
// may call, and the function that does it. The mux, strict decoding of bodies,
// errors of fields, and the OpenAPI description all come from the line.
//
// It is generic in the product's call, which knows who calls and in which
// language: the console's and the portal's differ.
package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/parley-meet/parley/services/internal/fault"
)

// Longest bodies in bytes.
const (
	MaxBody      = 64 << 10
	MaxLargeBody = 512 << 10 // of certificates
)

// Need says who may call an endpoint: a word of the product. "" is anybody,
// without a login.
type Need string

// Anybody may call, without a login.
const Anybody Need = ""

// Call is a request that the product has found the caller of.
type Call interface {
	HTTP() (http.ResponseWriter, *http.Request)
	// HasRead is called when the body has been read.
	HasRead()
}

// Endpoint is a line of the table.
type Endpoint[K Call] struct {
	Method, Path string
	ID           string // operationId
	Summary      string
	Need         Need
	Scope        string // that a token must have; the product's own words
	Forced       bool   // reachable while something must be done first, as changing the password
	// NoToken: a token for automation does not stand for a person.
	NoToken bool
	// Bearer: the request's bearer token is for the endpoint, and stands for nobody.
	Bearer   bool
	Query    []Param
	Request  reflect.Type // nil: no body
	Response reflect.Type // nil: 204, or Type
	Type     string       // content type of what is not JSON
	Large    bool         // body up to MaxLargeBody
	Do       func(K) (any, error)
}

// Param is a parameter of the query.
type Param struct {
	Name, Summary, Schema string // Schema: "integer", "string", "boolean"
}

// None is the type of no answer.
type None struct{}

// Written is the answer of Raw, which has been sent.
type Written struct{}

// Get is an endpoint that answers with a T.
func Get[K Call, T any](path, id, summary string, n Need, do func(K) (T, error)) Endpoint[K] {
	return Endpoint[K]{Method: http.MethodGet, Path: path, ID: id, Summary: summary, Need: n, Response: answerType[T](),
		Do: func(k K) (any, error) { return do(k) }}
}

// Act is an endpoint that changes something without a body.
func Act[K Call, T any](method, path, id, summary string, n Need, do func(K) (T, error)) Endpoint[K] {
	return Endpoint[K]{Method: method, Path: path, ID: id, Summary: summary, Need: n, Response: answerType[T](),
		Do: func(k K) (any, error) {
			if err := NoBody(k); err != nil {
				return nil, err
			}
			return do(k)
		}}
}

// Send is an endpoint that changes something with a body.
func Send[K Call, In, T any](method, path, id, summary string, n Need, do func(K, In) (T, error)) Endpoint[K] {
	return sendLimit(method, path, id, summary, n, MaxBody, do)
}

// SendLarge is Send with a longer body.
func SendLarge[K Call, In, T any](method, path, id, summary string, n Need, do func(K, In) (T, error)) Endpoint[K] {
	e := sendLimit(method, path, id, summary, n, MaxLargeBody, do)
	e.Large = true
	return e
}

func sendLimit[K Call, In, T any](method, path, id, summary string, n Need, limit int64, do func(K, In) (T, error)) Endpoint[K] {
	return Endpoint[K]{Method: method, Path: path, ID: id, Summary: summary, Need: n, Request: reflect.TypeFor[In](), Response: answerType[T](),
		Do: func(k K) (any, error) {
			var in In
			if err := Read(k, &in, limit); err != nil {
				return nil, err
			}
			return do(k, in)
		}}
}

// Raw is an endpoint that writes its answer itself, after a nil error and
// nothing else.
func Raw[K Call](method, path, id, summary string, n Need, kind string, do func(K) error) Endpoint[K] {
	return Endpoint[K]{Method: method, Path: path, ID: id, Summary: summary, Need: n, Type: kind,
		Do: func(k K) (any, error) { return Written{}, do(k) }}
}

func answerType[T any]() reflect.Type {
	if t := reflect.TypeFor[T](); t != reflect.TypeFor[None]() {
		return t
	}
	return nil
}

// With returns the endpoint with a change.
func (e Endpoint[K]) With(change func(*Endpoint[K])) Endpoint[K] {
	change(&e)
	return e
}

// Answer carries the endpoint out and sends what it returned; an error it leaves
// to the caller.
func (e Endpoint[K]) Answer(k K) error {
	v, err := e.Do(k)
	if err != nil {
		return err
	}
	w, _ := k.HTTP()
	switch v.(type) {
	case Written:
	case None:
		w.WriteHeader(http.StatusNoContent)
	default:
		WriteJSON(w, http.StatusOK, v)
	}
	return nil
}

// StatusError is an error of the request's form.
type StatusError struct {
	Status int
	Code   string
}

func (e StatusError) Error() string { return e.Code }

// Throttled is an error that says how long to wait.
type Throttled struct{ Wait time.Duration }

func (t Throttled) Error() string { return fmt.Sprintf("wait %v", t.Wait) }

// Problem is an error as the API tells it, in the request's language.
type Problem struct {
	Code    string         `json:"code"`
	Message string         `json:"message"`
	Fields  []FieldProblem `json:"fields,omitempty"`

	Status int           `json:"-"`
	After  time.Duration `json:"-"` // to wait before the next try
	Close  bool          `json:"-"` // the connection
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

// Refuse answers with a problem.
func Refuse(w http.ResponseWriter, language string, p Problem) {
	if p.After > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(Seconds(p.After)))
	}
	if p.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="parley"`)
	}
	if p.Close {
		w.Header().Set("Connection", "close")
	}
	w.Header().Set("Content-Language", language)
	WriteJSON(w, p.Status, ErrorAnswer{p})
}

// Seconds rounds up: whoever comes back then does not come too early.
func Seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

// Methods returns which of the API's methods the mux has at the request's path.
func Methods(mux *http.ServeMux, r *http.Request) []string {
	var out []string
	for _, m := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
		if m == r.Method {
			continue
		}
		if _, pattern := mux.Handler(&http.Request{Method: m, URL: r.URL}); strings.HasPrefix(pattern, m+" ") {
			out = append(out, m)
		}
	}
	return out
}

// Read decodes the body of a call strictly into v.
func Read(k Call, v any, limit int64) error {
	w, r := k.HTTP()
	kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	if !strings.EqualFold(strings.TrimSpace(kind), "application/json") {
		return StatusError{http.StatusUnsupportedMediaType, "content-type"}
	}
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err != nil {
		var long *http.MaxBytesError
		if errors.As(err, &long) {
			return StatusError{http.StatusRequestEntityTooLarge, "too-large"}
		}
		return StatusError{http.StatusBadRequest, "bad-body"}
	}
	k.HasRead()
	return Decode(b, v)
}

// NoBody refuses a body where none is expected.
func NoBody(k Call) error {
	w, r := k.HTTP()
	var b [1]byte
	if n, _ := io.ReadFull(http.MaxBytesReader(w, r.Body, 1), b[:]); n > 0 {
		return fault.New("", "no-body")
	}
	k.HasRead()
	return nil
}

// Decode reads one JSON value without fields that v does not have.
func Decode(b []byte, v any) error {
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
		return fault.New(Cut(name, 100), "unknown-field")
	case errors.As(err, &kind):
		return fault.New(kind.Field, "type", jsonKind(kind.Type))
	case errors.As(err, &syntax):
		return fault.New("", "json", fmt.Sprintf("byte %d", syntax.Offset))
	}
	return fault.New("", "json", Cut(err.Error(), 100))
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

// WriteJSON answers with v.
func WriteJSON(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // these types always encode
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n'))
}

// Bearer returns the request's token for automation.
func Bearer(r *http.Request) (string, bool) {
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return "", false
	}
	return strings.TrimSpace(token), true
}

// Cut makes one line of text from outside that cannot reorder what stands
// beside it: formatting and control characters are dropped, and what is longer
// than limit characters is cut off.
func Cut(s string, limit int) string {
	var b strings.Builder
	n := 0
	for _, r := range s {
		if n == limit {
			b.WriteString("…")
			break
		}
		switch {
		case r == '\n' || r == '\t':
			r = ' '
		case !unicode.IsPrint(r):
			continue
		}
		b.WriteRune(r)
		n++
	}
	return b.String()
}

// Invalid adds what is wrong with values to a problem, in the words of a
// dictionary.
func (p Problem) Invalid(l fault.List, words fault.Texts) Problem {
	for _, f := range l {
		p.Fields = append(p.Fields, FieldProblem{f.Field, f.Code, Cut(f.Text(words), 500)})
	}
	return p
}
