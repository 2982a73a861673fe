// Package fault is what is wrong with values that a person gave: the field, a
// code, and what the text of the code needs. Whoever talks to the person puts
// it into words of his language: the text of the key "fault.CODE", formatted
// with Args. The texts are in this package's Words, one pair of files for each
// topic, words/en-TOPIC.json and words/ru-TOPIC.json.
package fault

import (
	"embed"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Words are the texts of all codes, for look.LoadDictionary.
//
//go:embed words
var Words embed.FS

// Fault is one thing that is wrong.
type Fault struct {
	// Field is the way to the value in the JSON of the request, "eth0.address"
	// or "routes.2.gateway"; "" is the request as a whole.
	Field string
	Code  string
	Args  []any // of the text; strings and numbers alone
}

// List is what is wrong with a request. It is an error when it has elements.
type List []Fault

// New returns a list of one.
func New(field, code string, args ...any) List { return List{{field, code, args}} }

// Add adds one.
func (l *List) Add(field, code string, args ...any) { *l = append(*l, Fault{field, code, args}) }

// Under adds those of o, whose fields are below prefix.
func (l *List) Under(prefix string, o List) {
	for _, f := range o {
		f.Field = strings.Trim(prefix+"."+f.Field, ".")
		*l = append(*l, f)
	}
}

// Err returns the list as an error, or nil when it is empty.
func (l List) Err() error {
	if len(l) == 0 {
		return nil
	}
	return l
}

// Has reports whether something is wrong with the field.
func (l List) Has(field string) bool {
	return slices.ContainsFunc(l, func(f Fault) bool { return f.Field == field })
}

// Error is for logs: fields and codes, without what the person typed.
func (l List) Error() string {
	var b strings.Builder
	for i, f := range l {
		if i > 0 {
			b.WriteString("; ")
		}
		if f.Field != "" {
			b.WriteString(f.Field + ": ")
		}
		b.WriteString(f.Code)
	}
	return b.String()
}

// Of returns the faults that err carries, or nil.
func Of(err error) List {
	var l List
	if errors.As(err, &l) {
		return l
	}
	return nil
}

// Texts is a dictionary; *look.Words is one.
type Texts interface {
	Has(key string) bool
	T(key string, args ...any) string
}

// Text puts the fault into words.
func (f Fault) Text(t Texts) string {
	if key := "fault." + f.Code; t.Has(key) {
		return t.T(key, f.Args...)
	}
	return strings.TrimSpace(f.Code + " " + fmt.Sprint(f.Args...))
}
