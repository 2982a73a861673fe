package terminal

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/services/internal/look"
)

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"plain text":        "plain text",
		"пароль 中":          "пароль 中",
		"a\tb":              "a b",
		"a\nb\rc":           `a\u000ab\u000dc`,
		"\x1b[2J":           `\u001b[2J`,
		"\x1b]0;title\a":    `\u001b]0;title\u0007`,
		"\u009b2J":          `\u009b2J`, // CSI in one character
		"\x9b2J":            `\x9b2J`,
		"\x7f":              `\u007f`,
		"\x00":              `\u0000`,
		"\u202eevil":        `\u202eevil`, // right to left
		"\u200b\u2028":      `\u200b\u2028`,
		"\U000e0001":        `\ue0001`,
		"\ufffd":            `\ufffd`,
		"\xff":              `\xff`,
		"0123456789ABCDEF":  "0123456789ABCDEF",
		"0123456789ABCDEFG": "0123456789ABCDEF…",
		"0123456789ABCDEж":  "0123456789ABCDE…", // not cut within a letter
		"":                  "",
	} {
		if got := clean(in, 16); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// Text from outside, as it is printed: no controls, bounded, inside its columns.
func FuzzText(f *testing.F) {
	for _, s := range []string{"plain", "\x1b[2J\x9b", "пароль " + strings.Repeat("длинно", 50), "a\u202eb \xff\xfe", strings.Repeat("\x00", 300), "  a   b  "} {
		f.Add(s, 40)
	}
	f.Fuzz(func(t *testing.T, s string, width int) {
		width = 10 + (width%200+200)%200
		c := clean(s, 100)
		if len(c) > 6*100+3 || !utf8.ValidString(c) {
			t.Fatalf("%q: %d bytes", c, len(c))
		}
		for _, r := range c {
			if r != ' ' && !unicode.IsPrint(r) || r == utf8.RuneError {
				t.Fatalf("%q is printed as %q", s, c)
			}
		}
		lines := strings.Split(hang(c, width, 4), "\n")
		for i, l := range lines {
			if n := utf8.RuneCountInString(l); n > width || i > 0 && !strings.HasPrefix(l, "    ") {
				t.Fatalf("line %q of %d columns, want %d", l, n, width)
			}
		}
		words := strings.Join(strings.Fields(strings.Join(lines, "")), "")
		if words != strings.Join(strings.Fields(c), "") {
			t.Fatalf("%q became %q", c, words)
		}
		if n := utf8.RuneCountInString(pad(c, width)); n != width {
			t.Fatalf("padded to %d columns, want %d", n, width)
		}
	})
}

// A line that somebody typed is a command with as many arguments as it takes,
// or an error that can be told.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"help", "logs zctrl -f -n 5", "STOP mmr", "reboot now", "\x1b[2J", "  ", "logs -n", "перезагрузить", "log -n99999999999999999999 x", "r\x91" + strings.Repeat("\x03", 40)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		c, args, err := parse(line)
		switch {
		case err != nil:
			u, ok := err.(usageError)
			// 40 bytes, each of which may be spelled in six.
			if !ok || c != nil || clean(u.arg, 250) != u.arg {
				t.Fatalf("%q: %#v", line, err)
			}
		case c == nil:
			if strings.TrimSpace(line) != "" {
				t.Fatalf("%q is nothing", line)
			}
		case len(args) < c.min || len(args) > c.max:
			t.Fatalf("%q: %s with %d arguments", line, c.name, len(args))
		case c.name == "logs":
			if o, err := parseLogs(args); err == nil && (o.lines < 1 || o.lines > maxLines) {
				t.Fatalf("%q: %+v", line, o)
			}
		}
	})
}

// A role that was set and is not in force yet is told, or it could not be undone.
func TestRoles(t *testing.T) {
	dictionary := look.MustLoad(words, "words")
	en, ru := dictionary[look.English], dictionary[look.Russian]
	st := &control.Status{Role: "controller"}
	if got := roles(en, st); got != "controller" {
		t.Errorf("%q", got)
	}
	st.NextRole = "router"
	for _, x := range []struct{ got, want string }{
		{roles(en, st), "controller; after the restart: multimedia router"},
		{roles(ru, st), "контроллер; после перезагрузки: мультимедийный маршрутизатор"},
	} {
		if x.got != x.want {
			t.Errorf("%q, want %q", x.got, x.want)
		}
	}
}

// The time is told once, and the kernel's priority is not for people.
func TestLogText(t *testing.T) {
	for _, test := range []struct{ service, text, want string }{
		{"zctrl", `time=2026-01-02T03:04:05.678Z level=INFO msg="up"`, `level=INFO msg="up"`},
		{"zctrl", `the time=now stays`, `the time=now stays`},
		{"zctrl", `<6> stays`, `<6> stays`},
		{"kernel", `[1.000002] <6> eth0: link up`, `[1.000002] eth0: link up`},
		{"kernel", `<4>odd`, `odd`},
		{"kernel", `[1.000002] a <b> c`, `[1.000002] a <b> c`},
	} {
		if got := logText(control.Log{Service: test.service, Text: test.text}); got != test.want {
			t.Errorf("%s %q: %q, want %q", test.service, test.text, got, test.want)
		}
	}
}

func TestSplitPrompt(t *testing.T) {
	for in, want := range map[string][2]string{
		"Name: ": {"", "Name: "},
		"Введите имя машины parley: ":   {"Введите имя", "машины parley: "},
		"aaaa bbbb cccc dddd eeee ffff": {"aaaa bbbb cccc", "dddd eeee ffff"},
		"nowheretobreakthisatallreally": {"", "nowheretobreakthisatallreally"},
		"":                              {"", ""},
	} {
		if head, tail := splitPrompt(in, 16); head != want[0] || tail != want[1] {
			t.Errorf("%q: %q and %q, want %q", in, head, tail, want)
		}
	}
}
