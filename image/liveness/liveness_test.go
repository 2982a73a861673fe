package liveness

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/parley-meet/parley/image/layout"
)

func TestCut(t *testing.T) {
	long := strings.Repeat("a", MaxText)
	for _, x := range []struct{ in, want string }{
		{"", ""},
		{"not configured", "not configured"},
		{long, long},
		{long + "b", long},
		{"ёж", "ёж"},
		{strings.Repeat("ж", MaxText), strings.Repeat("ж", MaxText/2)}, // never half a character
		{"two\nlines\x00\x7f\u2028\u202e", "two lines    "},
		{`dial "a\b": <nil> & co`, `dial "a\b": <nil> & co`},
		{"\xff!", "\ufffd!"},
		{strings.Repeat(`"`, MaxText), strings.Repeat(`"`, MaxText/2)},
	} {
		if got := cut(x.in); got != x.want {
			t.Errorf("cut(%q) = %q, want %q", x.in, got, x.want)
		}
	}
}

// Whatever a service says fits into a packet, is one line, and says the same
// after the way over JSON.
func FuzzCut(f *testing.F) {
	for _, s := range []string{
		"ready", "\x00", "\xff", `"`, `\`, "<", "\u2028", "\ufffd", "ж", "\U0001f600", "\xf0\x9f\x98", "\u00a0", "\x7f", "\u202e",
	} {
		f.Add(s)
		f.Add(strings.Repeat(s, MaxText))
	}
	f.Fuzz(func(t *testing.T, s string) {
		text := cut(s)
		b, err := json.Marshal(Message{Ready: true, Seq: math.MaxUint64, Detail: text, Error: text})
		if err != nil || len(b) > MaxMessage {
			t.Fatalf("packet of %d bytes, %v; most is %d", len(b), err, MaxMessage)
		}
		if q, _ := json.Marshal(text); len(q) > MaxText+2 {
			t.Fatalf("%d bytes in JSON, most is %d", len(q)-2, MaxText)
		}
		var m Message
		if err := json.Unmarshal(b, &m); err != nil || m.Detail != text {
			t.Fatalf("arrives as %q (%v), sent %q", m.Detail, err, text)
		}
		if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) || !utf8.ValidString(text) {
			t.Fatalf("%q is not printable", text)
		}
		if cut(text) != text {
			t.Fatalf("cut twice: %q, %q", text, cut(text))
		}
	})
}

func TestOpenWithout(t *testing.T) {
	t.Setenv(layout.LivenessEnv, "")
	l, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Ready("nobody hears"); err != nil {
		t.Error(err)
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, v := range []string{"0", "2", "-1", "3x", "x", "65536", " 3", "64999"} {
		t.Setenv(layout.LivenessEnv, v)
		if l, err := Open(); err == nil {
			t.Errorf("%s=%q opened %+v", layout.LivenessEnv, v, l)
		} else if !strings.Contains(err.Error(), layout.LivenessEnv) {
			t.Errorf("%q: %v does not name the variable", v, err)
		}
	}
}
