package webconsole

import (
	"encoding"
	"encoding/json"
	"maps"
	"net/http"
	"net/netip"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/parley-meet/parley/services/internal/fault"
)

// object is JSON that is written with its keys sorted.
type object map[string]any

var pathParam = regexp.MustCompile(`\{(\w+)\}`)

// describe returns the OpenAPI 3.1 description of the table.
func (c *Console) describe() []byte {
	s := schemas{}
	paths := object{}
	for _, e := range c.api {
		p, _ := paths[e.Path].(object)
		if p == nil {
			p = object{}
			paths[e.Path] = p
		}
		p[strings.ToLower(e.Method)] = s.operation(e)
	}
	s.of(reflect.TypeFor[ErrorAnswer]())
	doc := object{
		"openapi": "3.1.0",
		"info": object{
			"title": "Parley appliance", "version": "1",
			"description": "What the console's own pages call. Values are checked one by one; an error names the field. Texts come in the language of Accept-Language.",
			"license":     object{"name": "see the appliance's licences"},
		},
		"servers": []object{{"url": "/"}},
		"paths":   paths,
		"components": object{"schemas": object(s), "securitySchemes": object{
			"session": object{"type": "apiKey", "in": "cookie", "name": sessionCookie, "description": "of a login in a browser; a request that changes something must come from the console's own pages"},
			"token":   object{"type": "http", "scheme": "bearer", "description": "parley_…, made in the console under Users"},
		}},
		"tags": tags(c.api),
	}
	b, err := json.MarshalIndent(doc, "", " ")
	if err != nil {
		panic(err) // maps, lists and text
	}
	return append(b, '\n')
}

// topic is what an endpoint is about: the first part of its path.
func (e endpoint) topic() string {
	p := strings.TrimPrefix(e.Path, "/api/v1/")
	if p == e.Path {
		return "api"
	}
	p, _, _ = strings.Cut(p, "/")
	return p
}

func tags(list []endpoint) []object {
	seen := map[string]bool{}
	for _, e := range list {
		seen[e.topic()] = true
	}
	out := []object{}
	for _, t := range slices.Sorted(maps.Keys(seen)) {
		out = append(out, object{"name": t})
	}
	return out
}

func (s schemas) operation(e endpoint) object {
	op := object{"operationId": e.ID, "summary": e.Summary, "tags": []string{e.topic()}}
	var params []object
	for _, m := range pathParam.FindAllStringSubmatch(e.Path, -1) {
		params = append(params, object{"name": m[1], "in": "path", "required": true, "schema": object{"type": "string"}})
	}
	for _, q := range e.Query {
		params = append(params, object{"name": q.Name, "in": "query", "description": q.Summary, "schema": object{"type": q.Schema}})
	}
	if params != nil {
		op["parameters"] = params
	}
	if e.Request != nil {
		op["requestBody"] = object{"required": true, "content": object{"application/json": object{"schema": s.of(e.Request)}}}
	}
	answers := object{}
	switch {
	case e.Response != nil:
		answers["200"] = object{"description": "done", "content": object{"application/json": object{"schema": s.of(e.Response)}}}
	case e.Type != "":
		content := object{}
		for _, t := range strings.Split(e.Type, ", ") {
			content[t] = object{"schema": object{"type": "string"}}
		}
		answers["200"] = object{"description": "done", "content": content}
	default:
		answers["204"] = object{"description": "done"}
	}
	answers["default"] = object{"description": "what is wrong", "content": object{"application/json": object{"schema": s.of(reflect.TypeFor[ErrorAnswer]())}}}
	op["responses"] = answers
	switch {
	case e.Need == needNobody:
		op["security"] = []object{}
	case e.NoToken:
		op["security"] = []object{{"session": []string{}}}
	default:
		op["security"] = []object{{"session": []string{}}, {"token": []string{}}}
	}
	op["x-authority"] = string(e.Need)
	return op
}

// schemas are the named types that endpoints use.
type schemas object

// of returns the schema of a type: a reference for one that has a name.
func (s schemas) of(t reflect.Type) object {
	switch t {
	case reflect.TypeFor[time.Time]():
		return object{"type": "string", "format": "date-time"}
	case reflect.TypeFor[time.Duration]():
		return object{"type": "integer", "description": "ns"}
	case reflect.TypeFor[netip.Addr]():
		return object{"type": "string", "description": "IP address"}
	case reflect.TypeFor[netip.Prefix]():
		return object{"type": "string", "description": "ADDRESS/LENGTH"}
	case reflect.TypeFor[json.RawMessage](), reflect.TypeFor[any]():
		return object{}
	case reflect.TypeFor[fault.List]():
		return object{"type": "array", "items": object{}}
	}
	if t.Kind() != reflect.Struct && t.Implements(reflect.TypeFor[encoding.TextMarshaler]()) {
		return object{"type": "string"}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return s.of(t.Elem())
	case reflect.String:
		return object{"type": "string"}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Float32, reflect.Float64:
		return object{"type": "number"}
	case reflect.Slice, reflect.Array:
		return object{"type": "array", "items": s.of(t.Elem())}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": s.of(t.Elem())}
	case reflect.Struct:
		if t.Name() == "" {
			return s.fields(t)
		}
		name := strings.ToUpper(path.Base(t.PkgPath())[:1]) + path.Base(t.PkgPath())[1:] + "." + t.Name()
		if t.PkgPath() == reflect.TypeFor[Console]().PkgPath() {
			name = t.Name()
		}
		if _, ok := s[name]; !ok {
			s[name] = object{} // a type may hold itself
			s[name] = s.fields(t)
		}
		return object{"$ref": "#/components/schemas/" + name}
	}
	return object{"type": "integer"}
}

// fields describes a struct as encoding/json writes it.
func (s schemas) fields(t reflect.Type) object {
	props := object{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, opts, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case !f.IsExported() || name == "-":
			continue
		case f.Anonymous && name == "":
			inner := f.Type
			if inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			maps.Copy(props, s.fields(inner)["properties"].(object))
			continue
		case name == "":
			name = f.Name
		}
		p := s.of(f.Type)
		if f.Type.Kind() == reflect.Slice && !strings.Contains(opts, "omit") {
			p = object{"anyOf": []object{p, {"type": "null"}}} // a list without elements may be null
		}
		props[name] = p
	}
	return object{"type": "object", "properties": props}
}

// apiDocument is GET /api/openapi.json.
func (c *Console) apiDocument(k *call) error {
	k.w.Header().Set("Content-Type", "application/json")
	_, err := k.w.Write(c.openapi())
	if err != nil {
		return http.ErrAbortHandler
	}
	return nil
}

// apiPages is the readable description.
func (c *Console) apiPages() []page {
	return []page{{Path: "/api", Section: "system", Title: "api.title", Template: "api", Load: func(k *call) (any, error) {
		var out []apiTopic
		for _, e := range c.api {
			if len(out) == 0 || out[len(out)-1].Name != e.topic() {
				out = append(out, apiTopic{Name: e.topic()})
			}
			row := apiRow{Method: e.Method, Path: e.Path, Summary: e.Summary, Need: k.words.T("api.need." + string(e.Need)), Query: e.Query}
			if e.NoToken {
				row.Need += ", " + k.words.T("api.no-token")
			}
			if e.Request != nil {
				row.Request = sample(e.Request)
			}
			out[len(out)-1].Rows = append(out[len(out)-1].Rows, row)
		}
		return out, nil
	}}}
}

type apiTopic struct {
	Name string
	Rows []apiRow
}

type apiRow struct {
	Method, Path, Summary, Need string
	Query                       []param
	Request                     string
}

// sample is a body of that type, with what is empty.
func sample(t reflect.Type) string {
	v := reflect.New(t).Elem()
	fill(v, 0)
	b, err := json.MarshalIndent(v.Interface(), "", "  ")
	if err != nil {
		panic(err) // types of requests always encode
	}
	return string(b)
}

// fill gives lists and pointers an element, so that a sample shows their shape.
func fill(v reflect.Value, depth int) {
	if depth > 6 {
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), depth+1)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), depth+1)
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i), depth+1)
			}
		}
	}
}
