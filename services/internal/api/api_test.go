package api

import (
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/parley-meet/parley/services/internal/fault"
)

type call struct {
	w    http.ResponseWriter
	r    *http.Request
	read bool
}

func (c *call) HTTP() (http.ResponseWriter, *http.Request) { return c.w, c.r }
func (c *call) HasRead()                                   { c.read = true }

type in struct {
	Name  string   `json:"name"`
	Count int      `json:"count"`
	List  []string `json:"list"`
}

func endpoint() Endpoint[*call] {
	return Send("PUT", "/api/v1/things/{id}", "putThing", "Change a thing.", "member", func(_ *call, v in) (in, error) { return v, nil })
}

// answer sends a body to the endpoint.
func answer(kind, body string) (*httptest.ResponseRecorder, *call, error) {
	w := httptest.NewRecorder()
	r := httptest.NewRequest("PUT", "/api/v1/things/1", strings.NewReader(body))
	r.Header.Set("Content-Type", kind)
	k := &call{w: w, r: r}
	return w, k, endpoint().Answer(k)
}

func TestSend(t *testing.T) {
	w, k, err := answer("application/json; charset=utf-8", `{"name":"a","count":2}`)
	if err != nil || !k.read || strings.TrimSpace(w.Body.String()) != `{"name":"a","count":2,"list":null}` {
		t.Errorf("%v %v %s", err, k.read, w.Body)
	}
	for _, x := range []struct{ kind, body, code, field string }{
		{"text/plain", `{}`, "content-type", ""},
		{"application/json", `null`, "type", ""},
		{"application/json", `{"name":1}`, "type", "name"},
		{"application/json", `{"no\u200bpe":1}`, "unknown-field", "nope"},
		{"application/json", `{"name":"a"} x`, "json-more", ""},
		{"application/json", `{"name"`, "json", ""},
		{"application/json", `{"name":"` + strings.Repeat("x", MaxBody) + `"}`, "too-large", ""},
	} {
		_, _, err := answer(x.kind, x.body)
		code, field := "", ""
		if l := fault.Of(err); l != nil {
			code, field = l[0].Code, l[0].Field
		} else if err != nil {
			code = err.Error()
		}
		if code != x.code || field != x.field {
			t.Errorf("%.40s: %q of %q, want %q of %q", x.body, code, field, x.code, x.field)
		}
	}
}

// Somebody else's library reads the description.
func TestDescribe(t *testing.T) {
	list := []Endpoint[*call]{endpoint().With(func(e *Endpoint[*call]) { e.Scope = "things:write" }),
		Get("/api/v1/things", "listThings", "", Anybody, func(*call) ([]in, error) { return nil, nil })}
	b := Describe(list, Info{Title: "x", Licence: "y", Cookie: "c", Package: reflect.TypeFor[call]()})
	doc, err := openapi3.NewLoader().LoadFromData(b)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	op := doc.Paths.Value("/api/v1/things/{id}").Put
	if op == nil || op.Extensions["x-scope"] != "things:write" || len(op.Parameters) != 1 || doc.Components.Schemas["in"] == nil {
		t.Errorf("%+v", op)
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{`{"name":"a"}`, `null`, `{"count":1e99}`, `{"list":[null]}`, `{"x":1}`, `[`, `{"name":"a"}{}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var v in
		if err := Decode(b, &v); err != nil && fault.Of(err) == nil {
			t.Fatalf("%q: %v is not a fault", b, err)
		}
	})
}

func TestCut(t *testing.T) {
	for s, want := range map[string]string{"abc": "abc", "abcdef": "abcd…", "a\x1b[2Jb": "a[2J…", "a\u202eb": "ab"} {
		if got := Cut(s, 4); got != want {
			t.Errorf("%q: %q, want %q", s, got, want)
		}
	}
}
