package api

import (
	"encoding"
	"encoding/json"
	"maps"
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

// PathParam is a wildcard of http.ServeMux.
var PathParam = regexp.MustCompile(`\{(\w+)\}`)

// Info is what a description says of the API as a whole.
type Info struct {
	Title, Description, Licence string
	Cookie, CookieText          string // of a session: its name, and what it is
	TokenText                   string
	Package                     reflect.Type // a type of the product's package: its types have short names
}

// Describe returns the OpenAPI 3.1 description of a table.
func Describe[K Call](list []Endpoint[K], about Info) []byte {
	s := &schemas{types: object{}, short: about.Package.PkgPath()}
	paths := object{}
	for _, e := range list {
		p, _ := paths[e.Path].(object)
		if p == nil {
			p = object{}
			paths[e.Path] = p
		}
		p[strings.ToLower(e.Method)] = operation(s, e)
	}
	s.of(reflect.TypeFor[ErrorAnswer]())
	doc := object{
		"openapi": "3.1.0",
		"info": object{
			"title": about.Title, "version": "1",
			"description": about.Description,
			"license":     object{"name": about.Licence},
		},
		"servers": []object{{"url": "/"}},
		"paths":   paths,
		"components": object{"schemas": s.types, "securitySchemes": object{
			"session": object{"type": "apiKey", "in": "cookie", "name": about.Cookie, "description": about.CookieText},
			"token":   object{"type": "http", "scheme": "bearer", "description": about.TokenText},
		}},
		"tags": tags(list),
	}
	b, err := json.MarshalIndent(doc, "", " ")
	if err != nil {
		panic(err) // maps, lists and text
	}
	return append(b, '\n')
}

// Topic is what an endpoint is about: the first part of its path.
func (e Endpoint[K]) Topic() string {
	p := strings.TrimPrefix(e.Path, "/api/v1/")
	if p == e.Path {
		return "api"
	}
	p, _, _ = strings.Cut(p, "/")
	return p
}

func tags[K Call](list []Endpoint[K]) []object {
	seen := map[string]bool{}
	for _, e := range list {
		seen[e.Topic()] = true
	}
	out := []object{}
	for _, t := range slices.Sorted(maps.Keys(seen)) {
		out = append(out, object{"name": t})
	}
	return out
}

func operation[K Call](s *schemas, e Endpoint[K]) object {
	op := object{"operationId": e.ID, "summary": e.Summary, "tags": []string{e.Topic()}}
	var params []object
	for _, m := range PathParam.FindAllStringSubmatch(e.Path, -1) {
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
	case e.Need == Anybody:
		op["security"] = []object{}
	case e.NoToken:
		op["security"] = []object{{"session": []string{}}}
	default:
		op["security"] = []object{{"session": []string{}}, {"token": []string{}}}
	}
	op["x-authority"] = string(e.Need)
	if e.Scope != "" {
		op["x-scope"] = e.Scope
	}
	return op
}

// schemas are the named types that endpoints use.
type schemas struct {
	types object
	short string // path of the package whose types have short names
}

// of returns the schema of a type: a reference for one that has a name.
func (s *schemas) of(t reflect.Type) object {
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
		if t.PkgPath() == s.short || t.PkgPath() == reflect.TypeFor[ErrorAnswer]().PkgPath() {
			name = t.Name()
		}
		if _, ok := s.types[name]; !ok {
			s.types[name] = object{} // a type may hold itself
			s.types[name] = s.fields(t)
		}
		return object{"$ref": "#/components/schemas/" + name}
	}
	return object{"type": "integer"}
}

// fields describes a struct as encoding/json writes it.
func (s *schemas) fields(t reflect.Type) object {
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

// Sample is a body of that type, with what is empty.
func Sample(t reflect.Type) string {
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
