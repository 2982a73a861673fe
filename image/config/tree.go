package config

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"
)

// decoder fills a value from data, whose syntax is known to be right, and notes
// where each field stands.
type decoder struct {
	data []byte
	dec  *json.Decoder
	at   map[string]int // path of a value → its offset
}

// field is what a struct's field is in JSON.
type field struct {
	name     string
	index    int
	optional bool
}

// fields returns those of a struct type. Every field of the schema is tagged
// with its name.
func fields(t reflect.Type) []field {
	fs := make([]field, t.NumField())
	for i := range fs {
		name, options, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		fs[i] = field{name, i, options != ""}
	}
	return fs
}

// next returns the offset of the next token.
func (d *decoder) next() int {
	i := int(d.dec.InputOffset())
	for i < len(d.data) && strings.IndexByte(" \t\r\n,:", d.data[i]) >= 0 {
		i++
	}
	return i
}

// token reads one token. The syntax has been checked, so it cannot fail.
func (d *decoder) token() json.Token {
	t, err := d.dec.Token()
	if err != nil {
		panic(fmt.Sprintf("config: token at byte %d of checked JSON: %v", d.dec.InputOffset(), err))
	}
	return t
}

// kind names the kind of value that starts with the byte.
func kind(first byte) string {
	switch first {
	case '{':
		return "an object"
	case '[':
		return "a list"
	case '"':
		return "a string"
	case 't', 'f':
		return "true or false"
	case 'n':
		return "null"
	}
	return "a number"
}

var (
	durationType = reflect.TypeFor[Duration]()
	offType      = reflect.TypeFor[Off]()
)

// wanted names the kind of value that fills a t.
func wanted(t reflect.Type) string {
	switch {
	case t == durationType:
		return "a string"
	case t.Kind() == reflect.Struct:
		return "an object"
	case t.Kind() == reflect.Slice:
		return "a list"
	case t.Kind() == reflect.String:
		return "a string"
	case t.Kind() == reflect.Bool:
		return "true or false"
	}
	return "a number"
}

// value decodes the next value into v.
func (d *decoder) value(v reflect.Value, path string) *problem {
	start := d.next()
	d.at[path] = start
	fail := func(format string, args ...any) *problem {
		return &problem{start, path, fmt.Sprintf(format, args...)}
	}
	got, want := kind(d.data[start]), wanted(v.Type())
	if got != want {
		return fail("is %s, want %s", got, want)
	}
	if v.Type() == durationType {
		s := d.token().(string)
		b, err := json.Marshal(s)
		if err == nil {
			err = v.Addr().Interface().(*Duration).UnmarshalJSON(b)
		}
		if err != nil {
			return fail("%v", err)
		}
		return nil
	}
	switch v.Kind() {
	case reflect.Struct:
		return d.object(v, path, start)
	case reflect.Slice:
		return d.list(v, path)
	case reflect.String:
		s := d.token().(string)
		// The decoder's sign of half a surrogate pair: another text than was meant.
		if strings.ContainsRune(s, utf8.RuneError) {
			return fail("%s holds U+FFFD: want text that is not broken", quote(s))
		}
		v.SetString(s)
	case reflect.Bool:
		b := d.token().(bool)
		v.SetBool(b != (v.Type() == offType))
	case reflect.Int:
		n := d.token().(json.Number).String()
		i, err := strconv.ParseInt(n, 10, v.Type().Bits())
		if err != nil {
			return fail("%.40s: want a whole number", n)
		}
		v.SetInt(i)
	case reflect.Uint16, reflect.Uint32:
		n, bits := d.token().(json.Number).String(), v.Type().Bits()
		u, err := strconv.ParseUint(n, 10, bits)
		if err != nil {
			return fail("%.40s: want a whole number from 0 to %d", n, uint64(1)<<bits-1)
		}
		v.SetUint(u)
	default:
		panic("config: no JSON for " + v.Type().String())
	}
	return nil
}

// object decodes into a struct. start is where its brace stands.
func (d *decoder) object(v reflect.Value, path string, start int) *problem {
	d.token()
	known := fields(v.Type())
	seen := make([]int, len(known)) // offset of the name + 1
	for d.dec.More() {
		offset := d.next()
		name := d.token().(string)
		at := join(path, name)
		i := indexOf(known, name)
		if i < 0 {
			text := "unknown field " + quote(name)
			if near := nearest(name, known); near != "" {
				text += fmt.Sprintf(", did you mean %q?", near)
			}
			return &problem{offset, path, text}
		}
		if seen[i] > 0 {
			line, _ := position(d.data, seen[i]-1)
			return &problem{offset, at, fmt.Sprintf("given twice, first in line %d", line)}
		}
		seen[i] = offset + 1
		if p := d.value(v.Field(known[i].index), at); p != nil {
			return p
		}
		// Absent and empty are one where a field may be left out.
		if f := v.Field(known[i].index); known[i].optional && f.Kind() == reflect.Slice && f.Len() == 0 {
			f.SetZero()
		}
	}
	d.token()
	for i, f := range known {
		if seen[i] == 0 && !f.optional {
			return &problem{start, join(path, f.name), "is missing"}
		}
	}
	return nil
}

// list decodes into a slice, which is never nil afterwards.
func (d *decoder) list(v reflect.Value, path string) *problem {
	d.token()
	v.Set(reflect.MakeSlice(v.Type(), 0, 0))
	for i := 0; d.dec.More(); i++ {
		item := reflect.New(v.Type().Elem()).Elem()
		if p := d.value(item, path+"["+strconv.Itoa(i)+"]"); p != nil {
			return p
		}
		v.Set(reflect.Append(v, item))
	}
	d.token()
	return nil
}

func indexOf(fs []field, name string) int {
	for i, f := range fs {
		if f.name == name {
			return i
		}
	}
	return -1
}

// nearest returns the field that name is probably a slip for, or "".
func nearest(name string, known []field) string {
	const most = 40 // longer than any field: no use comparing
	if len(name) > most {
		return ""
	}
	best, at := "", 1+max(1, len(name)/3)
	for _, f := range known {
		if n := distance(strings.ToLower(name), strings.ToLower(f.name)); n < at {
			best, at = f.name, n
		}
	}
	return best
}

// distance is Levenshtein's: how many bytes to insert, delete or replace.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
