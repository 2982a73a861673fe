package lineedit

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// screen is a one-line terminal, enough to judge what the editor draws.
type screen struct {
	cells []rune
	col   int
	lines []string // finished ones
	bells int
	width int
	wraps int
	rest  []byte
}

func (s *screen) Write(p []byte) (int, error) {
	b := append(s.rest, p...)
	s.rest = nil
	for len(b) > 0 {
		if !utf8.FullRune(b) {
			s.rest = b
			break
		}
		r, n := utf8.DecodeRune(b)
		if r == 0x1b {
			end := 2
			for end < len(b) && (b[end] < 0x40 || b[end] > 0x7e) {
				end++
			}
			if string(b[:end+1]) == "\x1b[K" {
				s.cells = s.cells[:min(s.col, len(s.cells))]
			} else if b[end] == 'D' {
				n := 0
				for _, d := range b[2:end] {
					n = n*10 + int(d-'0')
				}
				s.col -= n
			}
			b = b[end+1:]
			continue
		}
		b = b[n:]
		switch r {
		case '\r':
			s.col = 0
		case '\n':
			s.lines = append(s.lines, string(s.cells))
			s.cells, s.col = nil, 0
		case '\a':
			s.bells++
		default:
			if s.col >= s.width {
				s.wraps++
			}
			for len(s.cells) <= s.col {
				s.cells = append(s.cells, ' ')
			}
			s.cells[s.col] = r
			s.col++
		}
	}
	return len(p), nil
}

func feed(e *Editor, s string) (last Event) {
	for i := range len(s) {
		if ev := e.Feed(s[i]); ev != None {
			last = ev
		}
	}
	return last
}

func TestEditing(t *testing.T) {
	for _, test := range []struct{ name, keys, line, shown string }{
		{"plain", "services", "services", "> services"},
		{"backspace", "servixx\x7f\bces", "services", "> services"},
		{"insert", "sevices\x1b[D\x1b[D\x1b[D\x1b[D\x1b[Dr", "services", "> services"},
		{"home and end", "b\x01a\x05c", "abc", "> abc"},
		{"home and end keys", "b\x1b[Ha\x1b[4~c", "abc", "> abc"},
		{"application keys", "b\x1bODa\x1bOFc", "abc", "> abc"},
		{"delete", "xabc\x1b[1~\x1b[3~", "abc", "> abc"},
		{"kill line", "abc def\x15x", "x", "> x"},
		{"kill word", "abc def \x17x", "abc x", "> abc x"},
		{"kill to end", "abcdef\x1b[D\x1b[D\x0b", "abcd", "> abcd"},
		{"russian", "роль\x7fь", "роль", "> роль"},
		{"NUL bytes", "a\x00\x00b", "ab", "> ab"},
		{"broken UTF-8", "a\xff\xd0b\xc3", "ab", "> ab"},
		{"function key of the Linux console", "a\x1b[[Ab", "ab", "> ab"},
		{"unknown sequence", "a\x1b[200~b", "ab", "> ab"},
		{"sequence cut by a control byte", "a\x1b[12\x01b", "ba", "> ba"},
		{"sequence without end", "a\x1b[" + strings.Repeat("1", 17) + "b", "ab", "> ab"},
		{"C1 control as UTF-8", "a\u009bb", "ab", "> ab"},
		{"right-to-left override", "a\u202eb", "ab", "> ab"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := &screen{width: 80}
			e := New(s, 80)
			e.Start("> ", false)
			feed(e, test.keys)
			if got := string(s.cells); got != test.shown {
				t.Errorf("shown %q, want %q", got, test.shown)
			}
			if ev := feed(e, "\r\n"); ev != Enter {
				t.Errorf("event %v, want Enter", ev)
			}
			if got := e.Line(); got != test.line {
				t.Errorf("line %q, want %q", got, test.line)
			}
		})
	}
}

func TestEnterIsOneEvent(t *testing.T) {
	for _, keys := range []string{"\r", "\n", "\r\n", "\r\x00"} {
		e := New(&screen{width: 80}, 80)
		e.Start("> ", false)
		n := 0
		for i := range len(keys) {
			if e.Feed(keys[i]) == Enter {
				n++
			}
		}
		if n != 1 {
			t.Errorf("%q: %d events, want 1", keys, n)
		}
	}
}

func TestHidden(t *testing.T) {
	s := &screen{width: 80}
	e := New(s, 80)
	e.Start("Password: ", true)
	feed(e, "secret\x7ft\x1b[A\t")
	if got := string(s.cells); got != "Password: " {
		t.Errorf("shown %q", got)
	}
	feed(e, "\r")
	if got := e.Line(); got != "secret" {
		t.Errorf("line %q", got)
	}
	e.Start("> ", false)
	feed(e, "\x1b[A")
	if !e.Empty() {
		t.Error("the password is in the history")
	}
}

func TestHistory(t *testing.T) {
	s := &screen{width: 80}
	e := New(s, 80)
	for _, l := range []string{"one", "two", "two", "  "} {
		e.Start("> ", false)
		feed(e, l+"\r")
		e.Line()
	}
	e.Start("> ", false)
	feed(e, "half")
	for _, step := range []struct{ key, want string }{
		{"\x1b[A", "two"}, {"\x1b[A", "one"}, {"\x1b[A", "one"}, {"\x1b[B", "two"}, {"\x1b[B", "half"}, {"\x1b[B", "half"},
	} {
		feed(e, step.key)
		if got := string(e.line); got != step.want {
			t.Errorf("after %q: %q, want %q", step.key, got, step.want)
		}
	}
	e.Reset()
	e.Start("> ", false)
	feed(e, "\x1b[A")
	if !e.Empty() {
		t.Error("history survives Reset")
	}
}

func TestCompletion(t *testing.T) {
	s := &screen{width: 80}
	e := New(s, 80)
	e.Complete = func(head string) []string {
		var out []string
		for _, w := range []string{"start", "status", "stop"} {
			if strings.HasPrefix(w, head[strings.LastIndexByte(head, ' ')+1:]) {
				out = append(out, w)
			}
		}
		return out
	}
	e.Start("> ", false)
	feed(e, "s\t")
	if got := string(e.line); got != "st" {
		t.Errorf("line %q, want st", got)
	}
	feed(e, "\t")
	if want := "start  status  stop"; len(s.lines) == 0 || s.lines[len(s.lines)-1] != want {
		t.Errorf("listed %q, want %q", s.lines, want)
	}
	feed(e, "o\t")
	if got := string(e.line); got != "stop " {
		t.Errorf("line %q", got)
	}
	feed(e, "x\t")
	if got := string(e.line); got != "stop x" {
		t.Errorf("line %q", got)
	}
}

func TestLongLine(t *testing.T) {
	s := &screen{width: 80}
	e := New(s, 80)
	e.Start("> ", false)
	if ev := feed(e, strings.Repeat("x", 1<<20)); ev != None {
		t.Errorf("event %v", ev)
	}
	if s.wraps != 0 || s.bells != 1 {
		t.Errorf("%d wraps, %d bells; want 0 and 1", s.wraps, s.bells)
	}
	if ev := feed(e, "\r"); ev != Overflow {
		t.Errorf("event %v, want Overflow", ev)
	}
	e.Start("> ", false)
	feed(e, "ok\r")
	if got := e.Line(); got != "ok" {
		t.Errorf("line %q after the long one", got)
	}
}

func TestScrollsSideways(t *testing.T) {
	s := &screen{width: 24}
	e := New(s, 24)
	e.Start("> ", false)
	feed(e, strings.Repeat("abcdefghij", 5)+"\x01")
	if got := string(s.cells); got != "> abcdefghijabcdefghija" {
		t.Errorf("shown %q", got)
	}
	if s.wraps != 0 {
		t.Errorf("%d wraps", s.wraps)
	}
}

func TestHideAndRedraw(t *testing.T) {
	s := &screen{width: 80}
	e := New(s, 80)
	e.Start("> ", false)
	feed(e, "abc\x1b[D")
	e.Hide()
	s.Write([]byte("news\n"))
	e.Redraw()
	if got := s.lines[0]; got != "news" {
		t.Errorf("printed %q", got)
	}
	if string(s.cells) != "> abc" || s.col != 4 {
		t.Errorf("shown %q with the cursor at %d", string(s.cells), s.col)
	}
}

// Whatever comes in, the screen shows the window of the line the editor keeps,
// nothing wraps, and Enter works.
func FuzzFeed(f *testing.F) {
	for _, s := range []string{"help\r", "\x1b[A\x1b[B", "\x1b[[A", "\x1bOA", "пароль\x7f\x7f", "\x00\xff\xfe\x1b[99999999999999999999",
		strings.Repeat("long ", 30) + "\x01\x06\x17\x0b", "a\tb\t", "a\x1b[24;80Rb\x1b[8;50;132t", "\x1b\x1b[D", "\u0301\u200b中"} {
		f.Add([]byte(s), false)
		f.Add([]byte(s), true)
	}
	f.Fuzz(func(t *testing.T, in []byte, hidden bool) {
		s := &screen{width: 30}
		e := New(s, 30)
		e.Complete = func(string) []string { return []string{"start", "status"} }
		e.Start("> ", hidden)
		for _, b := range in {
			event := e.Feed(b)
			s.width = max(s.width, e.width) // as if it were the terminal that told it
			switch event {
			case Enter:
				if l := e.Line(); !utf8.ValidString(l) || strings.ContainsFunc(l, func(r rune) bool { return r < ' ' || r == 0x7f }) {
					t.Fatalf("line %q", l)
				}
				e.Start("> ", hidden)
			case Interrupt, EOF, Overflow:
				e.Start("> ", hidden)
			}
			if len(e.line) > MaxLine || e.pos < 0 || e.pos > len(e.line) {
				t.Fatalf("line of %d, cursor at %d", len(e.line), e.pos)
			}
		}
		if s.wraps != 0 {
			t.Fatalf("%d wraps", s.wraps)
		}
		e.Redraw()
		want := "> "
		if !hidden {
			want += string(e.line[e.off:min(len(e.line), e.off+e.room())])
		}
		if got := strings.TrimRight(string(s.cells), " "); got != strings.TrimRight(want, " ") {
			t.Fatalf("shown %q, want %q", got, want)
		}
		if e.afterCR {
			e.Feed('x')
		}
		if ev := e.Feed('\r'); ev != Enter && ev != Overflow {
			t.Fatalf("Enter gave %v", ev)
		}
	})
}

// What a terminal says of its size is not typed, and holds until Reset; what
// cannot be one does not count.
func TestSize(t *testing.T) {
	s := &screen{width: 200}
	e := New(s, 80)
	for _, test := range []struct {
		report         string
		columns, lines int
	}{
		{"\x1b[1;5R", 0, 0}, // F3 with Control
		{"\x1b[9999;9999R", 0, 0},
		{"\x1b[;R", 0, 0},
		{"\x1b[24;80;1R", 0, 0},
		{"\x1b[3;24;80t", 0, 0},
		{"\x1b[50;132R", 132, 50},
		{"\x1b[8;24;100t", 100, 24},
		{"\x1b[24R", 100, 24},
	} {
		e.Start("> ", false)
		feed(e, "ab"+test.report+"c\r")
		if got := e.Line(); got != "abc" {
			t.Errorf("%q: line %q", test.report, got)
		}
		if c, l := e.Size(); c != test.columns || l != test.lines {
			t.Errorf("%q: %d×%d, want %d×%d", test.report, c, l, test.columns, test.lines)
		}
	}
	e.Start("> ", false)
	feed(e, strings.Repeat("x", 99))
	if len(s.cells) != 99 { // the last column stays free
		t.Errorf("%d columns are used of 100", len(s.cells))
	}
	e.Reset()
	if c, l := e.Size(); c != 0 || l != 0 || e.width != 80 {
		t.Errorf("after Reset: %d×%d, width %d", c, l, e.width)
	}
}

func TestKey(t *testing.T) {
	e := New(&screen{width: 80}, 80)
	var got []rune
	for _, b := range []byte("q\r\n \x1b[A\x1b[24;80R\x03д\xffz\x00") {
		if r, ok := e.Key(b); ok {
			got = append(got, r)
		}
	}
	if want := "q\r \x03дz"; string(got) != want {
		t.Errorf("%q, want %q", string(got), want)
	}
}
