package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"unicode/utf8"
)

// MaxSize is the longest file in bytes that is read.
const MaxSize = 1 << 20

// Load reads and decodes the file at path. What the file says wrong is an
// *Error; a file that cannot be read is the os package's error.
func Load(path string) (*Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return nil, err
	}
	return Decode(path, data)
}

// Decode reads a config.json; name stands in errors, each of which is an *Error.
// The syntax is judged first (RFC 8259), then names and types, then values; of
// several impossible values the one that stands first in the file is told.
func Decode(name string, data []byte) (*Config, error) {
	fail := func(offset int, format string, args ...any) error {
		e := &Error{File: name, Problem: fmt.Sprintf(format, args...)}
		e.Line, e.Column = position(data, offset)
		return e
	}
	if len(data) > MaxSize {
		return nil, &Error{File: name, Problem: fmt.Sprintf("longer than %d bytes", MaxSize)}
	}
	if bytes.HasPrefix(data, []byte("\ufeff")) {
		return nil, fail(0, "byte order mark: want UTF-8 without one")
	}
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && n == 1 {
			return nil, fail(i, "byte 0x%02x: want UTF-8", data[i])
		}
		i += n
	}
	var whole json.RawMessage
	if err := json.Unmarshal(data, &whole); err != nil {
		var syntax *json.SyntaxError
		if !errors.As(err, &syntax) {
			return nil, fail(0, "%v", err)
		}
		// Offset counts the bytes read, the offending one included.
		return nil, fail(max(int(syntax.Offset)-1, 0), "%v", syntax)
	}
	d := &decoder{data: data, dec: json.NewDecoder(bytes.NewReader(data)), at: make(map[string]int)}
	d.dec.UseNumber()
	c := new(Config)
	if err := d.value(reflect.ValueOf(c).Elem(), ""); err != nil {
		return nil, d.locate(name, err)
	}
	if err := validate(c, d.at); err != nil {
		return nil, d.locate(name, err)
	}
	return c, nil
}

// locate makes an *Error of a problem.
func (d *decoder) locate(name string, p *problem) *Error {
	e := &Error{File: name, Field: p.field, Problem: p.text}
	e.Line, e.Column = position(d.data, p.offset)
	return e
}

// Canonical returns c as JSON in the one form that this package writes: every
// field in the schema's order, optional ones that are absent left out. It
// decodes to a value equal to c. A c that Decode would refuse is an *Error.
func (c *Config) Canonical() ([]byte, error) {
	full := *c
	// A list that must be there but may be empty is [], never null.
	if full.Kernel.Arguments == nil {
		full.Kernel.Arguments = []string{}
	}
	if full.Update.Keys == nil {
		full.Update.Keys = []string{}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(&full); err != nil {
		return nil, fmt.Errorf("canonical form: %w", err)
	}
	if _, err := Decode("canonical form", b.Bytes()); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// problem is an Error before its offset has become a line.
type problem struct {
	offset int
	field  string
	text   string
}

// join returns the path of a field in the object at path.
func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// parent returns the path of what holds the value at path.
func parent(path string) string {
	return path[:max(strings.LastIndexAny(path, ".["), 0)]
}
