package ring

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/parley-meet/parley/image/control"
)

func open(t *testing.T, dir string, limit int64) (*Store, []control.Log) {
	t.Helper()
	s, old, err := OpenStore(dir, limit)
	if err != nil {
		t.Fatal(err)
	}
	return s, old
}

func store(t *testing.T, s *Store, r *Ring) {
	t.Helper()
	if err := s.Append(r); err != nil {
		t.Fatal(err)
	}
}

// Three boots: each finds what those before it stored.
func TestStore(t *testing.T) {
	dir := t.TempDir()
	var want []string
	for boot := range 3 {
		s, old := open(t, dir, 1<<20)
		wantTexts(t, old, want...)
		r := New(1 << 20)
		r.Prepend(old)
		store(t, s, r)
		for i := range 3 {
			text := fmt.Sprintf("boot %d\tline %d Ё", boot, i)
			want = append(want, "mmr:"+text)
			r.Add(noon.In(time.FixedZone("", 3600)), "mmr", text)
			store(t, s, r)
			store(t, s, r) // nothing new: nothing written
		}
		if err := s.Sync(); err != nil {
			t.Fatal(err)
		}
		wantTexts(t, r.Lines("", 0), want...)
		if old := r.Lines("", 1)[0]; !old.At.Equal(noon) {
			t.Errorf("its time is %v, want %v", old.At, noon)
		}
	}
	_, old := open(t, dir, 1<<20)
	if len(old) != 9 || !old[0].At.Equal(noon) || old[0].Seq != 0 {
		t.Errorf("%d lines, the first %+v", len(old), old[0])
	}
	if fi, err := os.Stat(filepath.Join(dir, "ring")); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}
}

// A store that is opened a second time in one boot writes and brings back
// nothing twice.
func TestStoreContinues(t *testing.T) {
	dir := t.TempDir()
	r := New(1 << 20)
	first, _ := open(t, dir, 1<<20)
	r.Add(noon, "a", "one")
	store(t, first, r)
	r.Add(noon, "a", "two")
	second, old := open(t, dir, 1<<20)
	wantTexts(t, old, "a:one")
	second.Continue(first)
	store(t, second, r)
	_, old = open(t, dir, 1<<20)
	wantTexts(t, old, "a:one", "a:two")
}

func TestRotation(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, dir, 1<<20)
	text := strings.Repeat("x", 1000)
	r := New(64 << 10)
	n := 0
	for range 5 * StoreSize / 50_000 {
		for range 50 {
			r.Add(noon, "a", fmt.Sprintf("%d %s", n, text))
			n++
		}
		store(t, s, r)
		for _, name := range []string{"ring", "ring.old"} {
			if fi, err := os.Stat(filepath.Join(dir, name)); err == nil && fi.Size() > StoreSize+60_000 {
				t.Fatalf("%s has %d bytes, want about %d", name, fi.Size(), StoreSize)
			}
		}
	}
	// Both files are read as one, the newest lines of them, within the limit.
	for _, limit := range []int64{0, 1, 10_000, 200_000, StoreSize, 1 << 30} {
		_, old := open(t, dir, limit)
		size := int64(0)
		for i, l := range old {
			size += int64(len(l.Text)) + Overhead
			if want := fmt.Sprintf("%d ", n-len(old)+i); !strings.HasPrefix(l.Text, want) {
				t.Fatalf("limit %d: line %d is %.10q, want %q", limit, i, l.Text, want)
			}
		}
		if size > limit || limit < StoreSize && size < limit-2200 {
			t.Errorf("limit %d: %d bytes in %d lines", limit, size, len(old))
		}
		if limit == 1<<30 && len(old) < StoreSize/1100 {
			t.Errorf("only %d lines are kept", len(old))
		}
	}
	names, err := os.ReadDir(dir)
	if err != nil || len(names) != 2 {
		t.Errorf("%d files, %v", len(names), err)
	}
}

// What a power cut leaves in the files costs the lines that it hit, and nothing
// that was stored before or after.
func TestDamagedStore(t *testing.T) {
	line := func(text string) string {
		return string(appendLine(nil, control.Log{At: noon, Service: "a", Text: text}))
	}
	for name, x := range map[string]struct {
		content string
		want    []string
	}{
		"empty":            {"", nil},
		"torn tail":        {line("one") + line("two")[:31], []string{"a:one"}},
		"torn, went on":    {line("one") + line("two")[:31] + line("three") + line("four"), []string{"a:one", "a:t" + line("three")[:len(line("three"))-1], "a:four"}},
		"zeros":            {line("one") + strings.Repeat("\x00", 4096) + line("two") + line("three"), []string{"a:one", "a:three"}},
		"many zeros":       {line("one") + strings.Repeat("\x00", 100_000) + line("two") + line("three"), []string{"a:one", "a:three"}},
		"zeros at the end": {line("one") + strings.Repeat("\x00", 100_000), []string{"a:one"}},
		"garbage":          {"garbage\n\n \n  \n2026 a x\n" + line("one"), []string{"a:one"}},
		"bad source":       {strings.Replace(line("x"), " a ", " \x1b ", 1) + strings.Replace(line("x"), " a ", "  ", 1) + line("one"), []string{"a:one"}},
		"long source":      {strings.Replace(line("x"), " a ", " "+strings.Repeat("a", 65)+" ", 1) + line("one"), []string{"a:one"}},
		"no text":          {line(""), []string{"a:"}},
		"cursor":           {line("\x1b[2J\xff"), []string{"a:\ufffd[2J\ufffd"}},
		"longest":          {line(strings.Repeat("x", MaxLine)) + line("one"), []string{"a:" + strings.Repeat("x", MaxLine), "a:one"}},
		"not UTF-8, long":  {line(strings.Repeat("\xff", MaxLine)) + line("one"), []string{"a:" + strings.Repeat("\ufffd", MaxLine/3), "a:one"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "ring"), []byte(x.content), 0o600); err != nil {
				t.Fatal(err)
			}
			s, old := open(t, dir, 1<<20)
			if got := texts(old); !slices.Equal(got, x.want) {
				t.Errorf("lines\n got %.100q\nwant %.100q", got, x.want)
			}
			r := New(1 << 20)
			r.Prepend(old)
			r.Add(noon, "a", "on\n")
			store(t, s, r)
		})
	}
}

// What a service wrote comes back as it was, whatever it was.
func TestHostileTextIsStored(t *testing.T) {
	dir := t.TempDir()
	s, _ := open(t, dir, 1<<20)
	r := New(1 << 20)
	for _, text := range hostile {
		r.Add(noon, "a", text)
	}
	store(t, s, r)
	_, old := open(t, dir, 1<<20)
	wantTexts(t, old, texts(r.Lines("", 0))...)
}

func TestStoreErrors(t *testing.T) {
	dir := t.TempDir()
	// A folder in the place of a file can be opened and not read.
	if err := os.Mkdir(filepath.Join(dir, "ring.old"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, _, err := OpenStore(dir, 100); err == nil {
		t.Error("a folder was read as a log")
	}
	s, _ := open(t, filepath.Join(dir, "none"), 100)
	r := New(1000)
	if err := s.Append(r); err != nil {
		t.Errorf("nothing to write: %v", err)
	}
	r.Add(noon, "a", "x")
	if err := s.Append(r); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("append without a folder: %v", err)
	}
	if err := s.Sync(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("sync without a file: %v", err)
	}
	s.size = StoreSize + 1
	if err := s.Append(r); err == nil || !strings.Contains(err.Error(), "log rotation") {
		t.Errorf("rotation without a file: %v", err)
	}
}

func FuzzParseLine(f *testing.F) {
	f.Add("2026-07-01T12:00:00.123456Z mmr text of it")
	f.Add("2026-07-01T12:00:00.123456+03:00 mmr ")
	f.Add("2026-07-01T12:00:00.123456Z \x1b x")
	f.Add("0000-01-01T00:00:00.000000Z a b")
	f.Add("9999-12-31T23:59:59.999999-23:59 a b")
	for _, s := range hostile {
		f.Add("2026-07-01T12:00:00.123456Z a " + s)
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		l, ok := parseLine(s)
		if !ok {
			if l != (control.Log{}) {
				t.Fatalf("a line beside not ok: %+v", l)
			}
			return
		}
		if err := errors.Join(cleaned(l.Text), cleaned(l.Service)); err != nil || l.Service == "" || len(l.Service) > 64 || strings.Contains(l.Service, " ") {
			t.Fatalf("%+v: %v", l, err)
		}
		stored := string(appendLine(nil, l))
		again, ok := parseLine(strings.TrimSuffix(stored, "\n"))
		if y := l.At.UTC().Year(); y < 0 || y > 9999 {
			return // its zone pushed it out of what RFC 3339 can say
		}
		if !ok || !again.At.Equal(l.At) || again.Text != l.Text || again.Service != l.Service || strings.Count(stored, "\n") != 1 {
			t.Fatalf("%+v, stored %q, read %+v %v", l, stored, again, ok)
		}
	})
}

func TestCopy(t *testing.T) {
	all := Rate{Burst: 1 << 30, PerSecond: 1}
	long := strings.Repeat("x", MaxLine)
	for name, x := range map[string]struct {
		in   string
		want []string
	}{
		"lines":          {"one\ntwo\r\n\n\r\nthree", []string{"one", "two", "three"}},
		"nothing":        {"", nil},
		"empty lines":    {"\n\n\n", nil},
		"exactly fits":   {long[1:] + "\nnext\n", []string{long[1:], "next"}},
		"a byte more":    {long + "\nnext\n", []string{long, "next"}},
		"much more":      {strings.Repeat(long, 5) + "tail\nnext", []string{long, "next"}},
		"long and ended": {long + long, []string{long}},
		"hostile":        {"\x1b[2J\n\xff\n", []string{"\ufffd[2J", "\ufffd"}},
	} {
		for how, rd := range map[string]io.Reader{
			"whole": strings.NewReader(x.in), "bytes": iotest.OneByteReader(strings.NewReader(x.in)), "with EOF": iotest.DataErrReader(strings.NewReader(x.in)),
		} {
			r := New(1 << 20)
			if err := r.Copy("a", rd, all); err != nil {
				t.Errorf("%s, %s: %v", name, how, err)
			}
			var want []string
			for _, w := range x.want {
				want = append(want, "a:"+w)
			}
			wantTexts(t, r.Lines("", 0), want...)
		}
	}
	fault := errors.New("fault")
	r := New(1 << 20)
	if err := r.Copy("a", io.MultiReader(strings.NewReader("one\ntw"), iotest.ErrReader(fault)), all); !errors.Is(err, fault) {
		t.Errorf("%v, want the reader's", err)
	}
	wantTexts(t, r.Lines("", 0), "a:one", "a:tw")
}

func TestCopyDropsAndCounts(t *testing.T) {
	r := New(1 << 20)
	in := strings.Repeat("x\n", 100)
	if err := r.Copy("a", strings.NewReader(in), Rate{Burst: 3, PerSecond: 1e-9}); err != nil {
		t.Fatal(err)
	}
	wantTexts(t, r.Lines("", 0), "a:x", "a:x", "a:x", "a:97 lines dropped: more than 1e-09 a second")
}

func TestWriter(t *testing.T) {
	r := New(1 << 20)
	w := r.Writer("init")
	for _, s := range []string{"one\n", "two\nthree\r\n\n", "", "four"} {
		if n, err := w.Write([]byte(s)); n != len(s) || err != nil {
			t.Errorf("%q: %d, %v", s, n, err)
		}
	}
	wantTexts(t, r.Lines("", 0), "init:one", "init:two", "init:three", "init:four")
}
