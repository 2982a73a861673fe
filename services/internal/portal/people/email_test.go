package people

import (
	"net/mail"
	"strings"
	"testing"
)

func TestNormalizeEmail(t *testing.T) {
	for in, want := range map[string]string{
		" Anna@Example.COM ":         "anna@example.com",
		"a.b+c@sub.example.co":       "a.b+c@sub.example.co",
		"o'brien@example.ie":         "o'brien@example.ie",
		"olga@пример.рф":             "olga@xn--e1afmkfd.xn--p1ai",
		"olga@xn--e1afmkfd.xn--p1ai": "olga@xn--e1afmkfd.xn--p1ai",
	} {
		if got, err := NormalizeEmail("email", in); err != nil || got != want {
			t.Errorf("%q: %q %v", in, got, err)
		}
	}
	for _, in := range []string{"", "a", "@", "a@", "@b.c", "a@b", "a@b@c.de", "a..b@c.de", ".a@c.de", "a.@c.de", `"a b"@c.de`, "a b@c.de", "a@c.de,b@c.de", "<a@c.de>",
		"a@10.0.0.1", "a@[10.0.0.1]", "a@-c.de", "a@c-.de", "a@c..de", "a@c.de.", "a@c.de\r\nBcc: x@y.de", "ан@c.de", "a@c。de", "a\x00@c.de", "a@c_d.de",
		strings.Repeat("a", 65) + "@c.de", "a@" + strings.Repeat("b", 64) + ".de", "a@" + strings.Repeat("bbbbbbb.", 40) + "de"} {
		if got, err := NormalizeEmail("email", in); err == nil {
			t.Errorf("%q is taken as %q", in, got)
		}
	}
}

// What is taken is one address in one form, and cannot be more than that in the
// header of a mail.
func FuzzNormalizeEmail(f *testing.F) {
	for _, s := range []string{"Anna@Example.COM", "olga@пример.рф", "a@b.c\r\nBcc: d@e.f", "\"a\"@b.c", "a@b.c, d@e.f", "ａ@ｂ.ｃ", "a@xn--.de", "ß@straße.de", "a@STRASSE.de", "İ@İ.com", "a@b\u200d.de", "k\u212a@b.de"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := NormalizeEmail("email", s)
		if err != nil {
			if got != "" {
				t.Errorf("%q: %q with an error", s, got)
			}
			return
		}
		again, err := NormalizeEmail("email", got)
		if err != nil || again != got {
			t.Errorf("%q: %q, and that %q %v", s, got, again, err)
		}
		if len(got) > maxEmail || strings.ToLower(got) != got || strings.ContainsFunc(got, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune(`,;:<>()[]\"`, r) }) || strings.Count(got, "@") != 1 {
			t.Errorf("%q: %q", s, got)
		}
		a, err := mail.ParseAddress(got)
		if err != nil || a.Address != got || a.Name != "" {
			t.Errorf("%q: net/mail reads %q as %+v %v", s, got, a, err)
		}
	})
}
