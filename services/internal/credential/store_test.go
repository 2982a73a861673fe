package credential

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/parley-meet/parley/internal/durable"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newStore(t *testing.T) *Store {
	t.Helper()
	return &Store{Dir: t.TempDir(), RunDir: t.TempDir()}
}

func write(t *testing.T, dir, name, content string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(content), 0o640); err != nil {
		t.Fatal(err)
	}
	return path
}

// failAt makes one step of every durable write fail until the test ends or end
// is called.
func failAt(t *testing.T, name string) (fault error, end func()) {
	fault = errors.New("fault at " + name)
	end = durable.Fault(func(step string) error {
		if step == name {
			return fault
		}
		return nil
	})
	t.Cleanup(end)
	return fault, end
}

func TestStore(t *testing.T) {
	s := newStore(t)
	if _, err := s.Current(); !errors.Is(err, ErrNone) {
		t.Errorf("without files: %v, want ErrNone", err)
	}
	generated := cheap(t, "generated")
	write(t, s.RunDir, hashName, string(encodeFile(generated, noon)))
	c, err := s.Current()
	if err != nil || !c.Generated || !c.Same(Credential{Hash: generated}) {
		t.Errorf("%+v, %v, want the generated one", c, err)
	}
	set := cheap(t, "set")
	if err := s.Set(set, noon); err != nil {
		t.Fatal(err)
	}
	c, err = s.Current()
	if err != nil || c.Generated || !c.Same(Credential{Hash: set}) || c.Same(Credential{Hash: generated}) {
		t.Errorf("%+v, %v, want the one that was set", c, err)
	}
	fi, err := os.Stat(filepath.Join(s.Dir, hashName))
	if err != nil || fi.Mode() != 0o640 {
		t.Errorf("mode %v, %v, want 0640", fi.Mode(), err)
	}
	b, _ := os.ReadFile(filepath.Join(s.Dir, hashName))
	if want := `"set": "2026-03-01T12:00:00Z"`; !strings.Contains(string(b), want) || !strings.Contains(string(b), `"version": 1`) {
		t.Errorf("file without %s:\n%s", want, b)
	}
	// The other console sets another one.
	other := cheap(t, "other")
	if err := (&Store{Dir: s.Dir, RunDir: s.RunDir}).Set(other, noon); err != nil {
		t.Fatal(err)
	}
	if c, err := s.Current(); err != nil || !c.Same(Credential{Hash: other}) {
		t.Errorf("%+v, %v, want what the other process set", c, err)
	}
	if err := os.Remove(filepath.Join(s.Dir, hashName)); err != nil {
		t.Fatal(err)
	}
	if c, err := s.Current(); err != nil || !c.Generated {
		t.Errorf("%+v, %v, want the generated one after a factory reset", c, err)
	}
}

// What has not changed is not read again: the web console asks at each request.
func TestStoreCache(t *testing.T) {
	s := newStore(t)
	path := write(t, s.Dir, hashName, string(encodeFile(cheap(t, "one"), noon)))
	at := time.Now().Add(-time.Hour)
	for _, password := range []string{"one", "two"} {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		f.Write(encodeFile(cheap(t, password), noon)) // as long as the other
		f.Close()
		os.Chtimes(path, at, at)
		if c, err := s.Current(); err != nil || !c.Same(Credential{Hash: cheap(t, "one")}) {
			t.Errorf("%s: %v, want what was read first", password, err)
		}
	}
	os.Chtimes(path, at, at.Add(time.Nanosecond))
	if c, err := s.Current(); err != nil || !c.Same(Credential{Hash: cheap(t, "two")}) {
		t.Errorf("%v, want the new content", err)
	}
}

func badFiles(t testing.TB) map[string]string {
	good := string(encodeFile(cheap(t, "x"), noon))
	return map[string]string{
		"":                    "unexpected end",
		"{":                   "unexpected end",
		"null":                "version 0, want 1",
		"{}":                  "version 0, want 1",
		good[:len(good)/2]:    "unexpected end",
		good + "x":            "invalid character",
		good + good:           "invalid character",
		"\x00\x00\x00\x00":    "invalid character",
		`{"version":2,"x":1}`: "version 2, want 1: another version of Parley wrote it",
		`{"version":"1"}`:     "cannot unmarshal",
		`{"version":1,"user":"admin","hash":"","salt":""}`: "unknown field",
		strings.Replace(good, `"admin"`, `"root"`, 1):      `user "root", want "admin"`,
		strings.Replace(good, `$argon2id`, `$argon2i`, 1):  "want argon2id",
		strings.Replace(good, `"set": "`, `"set": "x`, 1):  "parsing time",
		strings.Repeat(" ", maxFile+1):                     "want at most 4096",
		strings.Repeat("x", 1<<20):                         "want at most 4096",
	}
}

// A password that was set and cannot be read lets nobody in over the network,
// not even by the generated one.
func TestDamaged(t *testing.T) {
	for content, want := range badFiles(t) {
		s := newStore(t)
		path := write(t, s.Dir, hashName, content)
		write(t, s.RunDir, hashName, string(encodeFile(cheap(t, "generated"), noon)))
		c, err := s.Current()
		var damaged *DamagedError
		if !errors.As(err, &damaged) || damaged.Path != path || !strings.Contains(err.Error(), want) || !c.Same(Credential{}) {
			t.Errorf("%.60q: %+v, %v, want damage: %q", content, c, err, want)
			continue
		}
		k := &Keeper{Store: s}
		if c, err := k.Login(); err != nil || !c.Generated {
			t.Errorf("%.60q: the terminals take %+v, %v, want the generated one", content, c, err)
		}
		if err := s.Set(cheap(t, "new"), noon); err != nil {
			t.Fatalf("%.60q: %v", content, err)
		}
		if c, err := s.Current(); err != nil || !c.Same(Credential{Hash: cheap(t, "new")}) {
			t.Errorf("%.60q: %+v, %v after a new one was set", content, c, err)
		}
		kept, err := os.ReadFile(path + ".damaged")
		if err != nil || string(kept) != content[:min(len(content), maxDamaged)] {
			t.Errorf("%.60q: %.60q is kept, %v", content, kept, err)
		}
	}
}

func TestDamagedUnreadable(t *testing.T) {
	s := newStore(t)
	path := filepath.Join(s.Dir, hashName)
	if err := os.Symlink(hashName, path); err != nil { // ELOOP, for root too
		t.Fatal(err)
	}
	var damaged *DamagedError
	if _, err := s.Current(); !errors.As(err, &damaged) {
		t.Errorf("%v, want damage", err)
	}
	if err := s.Set(cheap(t, "new"), noon); err != nil {
		t.Fatal(err)
	}
	if c, err := s.Current(); err != nil || !c.Same(Credential{Hash: cheap(t, "new")}) {
		t.Errorf("%+v, %v after a new one was set", c, err)
	}
}

// Whatever step of Set fails, what was in force stays; damage stays damage.
func TestSetFaults(t *testing.T) {
	for _, before := range []string{"", "damaged", string(encodeFile(cheap(t, "before"), noon))} {
		for _, step := range durable.Steps {
			s := newStore(t)
			write(t, s.RunDir, hashName, string(encodeFile(cheap(t, "generated"), noon)))
			if before != "" {
				write(t, s.Dir, hashName, before)
			}
			was, wasErr := s.Current()
			fault, end := failAt(t, step)
			if err := s.Set(cheap(t, "new"), noon); !errors.Is(err, fault) {
				t.Errorf("%s: %v, want the fault", step, err)
			}
			end()
			is, isErr := s.Current()
			if step == "fsync directory" && before != "damaged" {
				was, wasErr = Credential{Hash: cheap(t, "new")}, nil // in force already, told as an error
			}
			if !is.Same(was) || is.Generated != was.Generated || (isErr == nil) != (wasErr == nil) {
				t.Errorf("before %.20q, fault at %s: %+v, %v, want %+v, %v", before, step, is, isErr, was, wasErr)
			}
		}
	}
}

func TestSetWithoutFolder(t *testing.T) {
	s := &Store{Dir: filepath.Join(t.TempDir(), "missing"), RunDir: t.TempDir()}
	if err := s.Set(cheap(t, "new"), noon); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v, want that there is no folder", err)
	}
}

func FuzzParseFile(f *testing.F) {
	f.Add(encodeFile(cheap(f, "x"), noon))
	for content := range badFiles(f) {
		if len(content) < 1000 {
			f.Add([]byte(content))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, _, err := parseFile(b)
		if err != nil {
			return
		}
		again, _, err := parseFile(encodeFile(h, noon))
		if err != nil || again.String() != h.String() {
			t.Errorf("%v, %v, want %v", again, err, h)
		}
	})
}

// What the other console may leave in the folders is refused, and nobody waits
// for it: a FIFO on /perm would stop the serial console at every start.
func TestStoreTrustsNoKind(t *testing.T) {
	for name, leave := range map[string]func(path string) error{
		"FIFO":   func(path string) error { return syscall.Mkfifo(path, 0o660) },
		"link":   func(path string) error { return os.Symlink("/etc/hostname", path) },
		"folder": func(path string) error { return os.Mkdir(path, 0o770) },
	} {
		s := &Store{Dir: t.TempDir(), RunDir: t.TempDir()}
		for _, dir := range []string{s.Dir, s.RunDir} {
			if err := leave(filepath.Join(dir, hashName)); err != nil {
				t.Fatal(err)
			}
		}
		done := make(chan [2]error, 1)
		go func() {
			_, current := s.Current()
			_, generated := s.Generated()
			done <- [2]error{current, generated}
		}()
		select {
		case errs := <-done:
			var damaged *DamagedError
			if !errors.As(errs[0], &damaged) || !errors.Is(errs[1], ErrNone) {
				t.Errorf("%s: %v", name, errs)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: reading waits for ever", name)
		}
	}
}
