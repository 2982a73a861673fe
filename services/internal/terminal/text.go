package terminal

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// clean makes text from outside harmless on a terminal: control characters,
// formatting characters and bytes that are not UTF-8 are spelled out, and what
// is longer than limit bytes is cut off.
func clean(s string, limit int) string {
	cut := len(s) > limit
	if cut {
		n := limit
		for n > max(0, limit-utf8.UTFMax) && !utf8.RuneStart(s[n]) {
			n-- // not within a letter
		}
		s = s[:n]
	}
	bad := func(r rune) bool { return r == utf8.RuneError || r != ' ' && !unicode.IsPrint(r) }
	if strings.IndexFunc(s, bad) >= 0 {
		var b strings.Builder
		for i := 0; i < len(s); {
			r, n := utf8.DecodeRuneInString(s[i:])
			switch {
			case r == '\t':
				b.WriteByte(' ')
			case r == utf8.RuneError && n == 1:
				fmt.Fprintf(&b, `\x%02x`, s[i])
			case bad(r):
				fmt.Fprintf(&b, `\u%04x`, r)
			default:
				b.WriteRune(r)
			}
			i += n
		}
		s = b.String()
	}
	if cut {
		s += "…"
	}
	return s
}

// pad fills s up to n columns, or cuts it to n.
func pad(s string, n int) string {
	if l := utf8.RuneCountInString(s); l <= n {
		return s + strings.Repeat(" ", n-l)
	}
	r := []rune(s)
	return string(r[:n-1]) + "…"
}

// wrap breaks text between words into lines of at most width columns. A word
// that is longer than a line is broken too.
func wrap(s string, width int) []string {
	var lines []string
	var line []rune
	for _, word := range strings.Fields(s) {
		w := []rune(word)
		if len(line) > 0 && len(line)+1+len(w) > width {
			lines, line = append(lines, string(line)), nil
		}
		if len(line) > 0 {
			line = append(line, ' ')
		}
		for len(w) > width {
			lines, w = append(lines, string(w[:width])), w[width:]
		}
		line = append(line, w...)
	}
	if len(line) > 0 || len(lines) == 0 {
		lines = append(lines, string(line))
	}
	return lines
}

// hang is wrap with every line after the first indented.
func hang(s string, width, indent int) string {
	lines := wrap(s, width-indent)
	return strings.Join(lines, "\n"+strings.Repeat(" ", indent))
}

// splitPrompt cuts a prompt between words so that its end has room columns: the
// editor keeps the other half of a line for what is typed. What is before it is
// for a line of its own.
func splitPrompt(prompt string, room int) (head, tail string) {
	r := []rune(prompt)
	if len(r) <= room {
		return "", prompt
	}
	from := len(r) - room
	for i := from; i < len(r)-1; i++ {
		if r[i-1] == ' ' {
			return strings.TrimRight(string(r[:i]), " "), string(r[i:])
		}
	}
	return "", prompt // one word: its end is shown
}
