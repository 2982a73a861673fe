package web_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/portaltest"
)

// operation is a line of the API's table, as its description tells it to
// strangers.
type operation struct {
	Method, Path, ID string
	Need             string   // x-authority
	Scope            string   // x-scope; "": none
	Token            bool     // takes tokens
	Params           []string // of the path
	Query            []string
	Body             *openapi3.Schema // nil: none
	Type             string           // content type of the answer
}

func (o operation) String() string { return o.ID + " (" + o.Method + " " + o.Path + ")" }

// writes reports whether it may change something.
func (o operation) writes() bool { return o.Method != http.MethodGet }

// stream reports whether its answer does not end.
func (o operation) stream() bool { return strings.Contains(o.Type, "event-stream") }

// at fills the path's wildcards in, in their order.
func (o operation) at(values ...string) string {
	n := 0
	return api.PathParam.ReplaceAllStringFunc(o.Path, func(string) string {
		n++
		return url.PathEscape(values[min(n, len(values))-1])
	})
}

// table reads the description.
func table(t *testing.T, p *portaltest.Portal) []operation {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(p.Stranger().Do("GET", "/api/openapi.json", nil).Body)
	if err != nil {
		t.Fatal(err)
	}
	var out []operation
	for _, path := range slices.Sorted(maps.Keys(doc.Paths.Map())) {
		operations := doc.Paths.Value(path).Operations()
		for _, method := range slices.Sorted(maps.Keys(operations)) {
			op := operations[method]
			o := operation{Method: method, Path: path, ID: op.OperationID}
			o.Need, _ = op.Extensions["x-authority"].(string)
			o.Scope, _ = op.Extensions["x-scope"].(string)
			if op.Security != nil {
				for _, s := range *op.Security {
					_, ok := s["token"]
					o.Token = o.Token || ok
				}
			}
			for _, m := range api.PathParam.FindAllStringSubmatch(path, -1) {
				o.Params = append(o.Params, m[1])
			}
			for _, q := range op.Parameters {
				if q.Value.In == "query" {
					o.Query = append(o.Query, q.Value.Name)
				}
			}
			if op.RequestBody != nil {
				if c := op.RequestBody.Value.Content.Get("application/json"); c != nil && c.Schema != nil {
					o.Body = c.Schema.Value
				}
			}
			if a := op.Responses.Status(http.StatusOK); a != nil {
				o.Type = strings.Join(slices.Sorted(maps.Keys(a.Value.Content)), ", ")
			}
			out = append(out, o)
		}
	}
	if len(out) < 2 {
		t.Fatalf("the description has %d operations", len(out))
	}
	return out
}

// blank is a body of the schema's form: texts are empty, lists have one element.
func blank(s *openapi3.Schema) any { return blankAt(s, 0) }

func blankAt(s *openapi3.Schema, depth int) any {
	if s == nil || depth > 8 {
		return nil
	}
	for _, a := range s.AnyOf {
		return blankAt(a.Value, depth+1)
	}
	switch {
	case s.Type == nil:
		return nil
	case s.Type.Is("string"):
		return ""
	case s.Type.Is("boolean"):
		return false
	case s.Type.Is("integer"), s.Type.Is("number"):
		return 0
	case s.Type.Is("array"):
		return []any{blankAt(s.Items.Value, depth+1)}
	}
	out := map[string]any{}
	for name, p := range s.Properties {
		out[name] = blankAt(p.Value, depth+1)
	}
	return out
}

// caller is somebody who sends requests. They go to the portal's handler itself,
// for there are many.
type caller struct {
	p      *portaltest.Portal
	label  string
	cookie string
	bearer string
	child  bool // of a sub-account
}

// as returns a person with a session.
func as(t *testing.T, p *portaltest.Portal, label string, u people.User) caller {
	t.Helper()
	secret, err := people.CreateSession(t.Context(), p.DB, u.ID, "192.0.2.1", "test", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return caller{p: p, label: label, cookie: sessionCookie + "=" + secret}
}

// reply is what came back.
type reply struct {
	status int
	header http.Header
	text   string
}

func (r reply) failed() bool { return r.status >= 500 && r.status != http.StatusServiceUnavailable }

// streamed is how long an answer that does not end is read.
const streamed = 150 * time.Millisecond

// callers have addresses of their own each time: what is slowed down by address
// is tested elsewhere.
var address atomic.Uint32

// call sends a request with a body of JSON; nil is none.
func (c caller) call(o operation, path string, body any, header http.Header) reply {
	var b []byte
	switch v := body.(type) {
	case nil:
	case []byte:
		b = v
	default:
		var err error
		if b, err = json.Marshal(v); err != nil {
			c.p.T.Fatal(err)
		}
	}
	limit := time.Minute
	if o.stream() {
		limit = streamed
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return c.send(ctx, o.Method, path, b, header)
}

func (c caller) get(path string) reply {
	return c.send(context.Background(), http.MethodGet, path, nil, nil)
}

func (c caller) send(ctx context.Context, method, path string, body []byte, header http.Header) reply {
	var r io.Reader
	if body != nil {
		r = bytes.NewReader(body)
	}
	req := httptest.NewRequestWithContext(ctx, method, c.p.Server.URL+path, r)
	n := address.Add(1)
	req.RemoteAddr = fmt.Sprintf("10.%d.%d.%d:9", byte(n>>16), byte(n>>8), byte(n))
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.cookie != "" {
		req.Header.Set("Cookie", c.cookie)
	}
	if c.bearer != "" {
		req.Header.Set("Authorization", "Bearer "+c.bearer)
	}
	maps.Copy(req.Header, header)
	w := &recorder{ResponseRecorder: httptest.NewRecorder()}
	func() {
		defer func() {
			if v := recover(); v != nil && v != http.ErrAbortHandler {
				panic(v)
			}
		}()
		c.p.All.ServeHTTP(w, req)
	}()
	return reply{w.Code, w.Result().Header, w.Body.String()}
}

// recorder takes deadlines, which streams set.
type recorder struct{ *httptest.ResponseRecorder }

func (recorder) SetWriteDeadline(time.Time) error { return nil }
func (recorder) SetReadDeadline(time.Time) error  { return nil }
func (recorder) EnableFullDuplex() error          { return nil }

// works sends a request that must succeed, and decodes its answer.
func (c caller) works(method, path string, body, to any) {
	c.p.T.Helper()
	a := c.call(operation{Method: method}, path, body, nil)
	if a.status != http.StatusOK && a.status != http.StatusNoContent {
		c.p.T.Fatalf("%s: %s %s: %d %s", c.label, method, path, a.status, a.text)
	}
	if to != nil {
		if err := json.Unmarshal([]byte(a.text), to); err != nil {
			c.p.T.Fatalf("%s %s: %v: %s", method, path, err, a.text)
		}
	}
}
