package config

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// checker looks for impossible values. at holds the offsets of the fields that
// the file gives; without one a problem stands where the field's parent is.
type checker struct {
	at    map[string]int
	first *problem
}

// fail notes a problem; the one that stands first in the file is kept.
func (c *checker) fail(path, format string, args ...any) {
	offset, ok := c.at[path]
	for up := path; !ok; offset, ok = c.at[up] {
		up = parent(up)
	}
	if c.first == nil || offset < c.first.offset {
		c.first = &problem{offset, path, fmt.Sprintf(format, args...)}
	}
}

// given reports whether the file has the field.
func (c *checker) given(path string) bool {
	_, ok := c.at[path]
	return ok
}

// item returns the path of element i of the list at path.
func item(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }

func (c *checker) within(path string, n, low, high int64) {
	switch {
	case n >= low && n <= high:
	case low == high:
		c.fail(path, "%d: want %d", n, low)
	default:
		c.fail(path, "%d: want %d to %d", n, low, high)
	}
}

func (c *checker) count(path string, n, low, high int, what string) {
	switch {
	case n < low:
		c.fail(path, "%d %s: want at least %d", n, what, low)
	case n > high:
		c.fail(path, "%d %s: want at most %d", n, what, high)
	}
}

func (c *checker) oneOf(path, s string, wanted ...string) {
	if !slices.Contains(wanted, s) {
		c.fail(path, "%s: want %s", quote(s), either(wanted))
	}
}

// either spells a choice: "a", "b" or "c".
func either(wanted []string) string {
	quoted := make([]string, len(wanted))
	for i, w := range wanted {
		quoted[i] = fmt.Sprintf("%q", w)
	}
	last := len(quoted) - 1
	if last == 0 {
		return quoted[0]
	}
	return strings.Join(quoted[:last], ", ") + " or " + quoted[last]
}

// duration checks one that may be left out. Zero is refused when it is written
// down: it would read like "at once" and mean the default.
func (c *checker) duration(path string, d Duration, low, high, def time.Duration) {
	if d == 0 && !c.given(path) {
		return
	}
	if t := time.Duration(d); t < low || t > high {
		c.fail(path, "%v: want %v to %v (%v when left out)", t, low, high, def)
	}
}

// text checks words for people: one line, nothing invisible.
func (c *checker) text(path, s string, most int) {
	switch n := utf8.RuneCountInString(s); {
	case n == 0 || n > most:
		c.fail(path, "%s: want 1 to %d characters, has %d", quote(s), most, n)
	case strings.TrimSpace(s) != s || !printable(s):
		c.fail(path, "%s: want printable characters with no space around them", quote(s))
	}
}

// printable reports whether s holds spaces and visible characters alone.
func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// visible reports whether s holds printable ASCII without spaces alone.
func visible(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// unique remembers which field has a value first.
type unique[T comparable] map[T]string

// take fails when another field has the value already.
func take[T comparable](c *checker, u unique[T], path string, v T) {
	if first, ok := u[v]; ok {
		shown := fmt.Sprint(v)
		if s, ok := any(v).(string); ok {
			shown = quote(s)
		}
		c.fail(path, "%s: is %s already", shown, first)
		return
	}
	u[v] = path
}
