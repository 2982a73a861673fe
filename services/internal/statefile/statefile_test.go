package statefile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-meet/parley/internal/durable"
)

type content struct {
	Version int      `json:"version"`
	Words   []string `json:"words"`
}

func file(dir string) *File[content] {
	return &File[content]{Folder: New(dir), Name: "x.json", Mode: 0o660, Version: 1, Limit: 1000, Check: func(c *content) error {
		if len(c.Words) > 50 {
			return errors.New("too many words")
		}
		return nil
	}}
}

func add(word string) func(*content) error {
	return func(c *content) error {
		c.Words = append(c.Words, word)
		return nil
	}
}

var start = content{Version: 1}

func words(t *testing.T, f *File[content]) string {
	t.Helper()
	c, err := f.Read()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(c.Words, " ")
}

func TestChange(t *testing.T) {
	dir := t.TempDir()
	one, two := file(dir), file(dir) // two processes
	if _, err := one.Read(); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("%v, want that there is none", err)
	}
	for i, f := range []*File[content]{one, two, one} {
		if damaged, err := f.Change(t.Context(), start, add(fmt.Sprint(i))); damaged != nil || err != nil {
			t.Fatal(damaged, err)
		}
	}
	if a, b := words(t, one), words(t, two); a != "0 1 2" || b != a {
		t.Errorf("%q and %q, want each other's changes", a, b)
	}
	no := errors.New("no")
	if _, err := one.Change(t.Context(), start, func(c *content) error { c.Words = nil; return no }); err != no {
		t.Errorf("%v, want the caller's error", err)
	}
	if _, err := one.Change(t.Context(), start, func(c *content) error { c.Words = make([]string, 51); return nil }); err == nil {
		t.Error("what cannot be read again was written")
	}
	if got := words(t, one); got != "0 1 2" {
		t.Errorf("%q after refused changes", got)
	}
	for name, want := range map[string]fs.FileMode{"x.json": 0o660, lockName: 0o660} {
		if info, err := os.Stat(one.Folder.Path(name)); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v, want %v", name, info.Mode(), err, want)
		}
	}
}

// A file that nobody changed is not read again.
func TestReadIsCheap(t *testing.T) {
	f := file(t.TempDir())
	if _, err := f.Change(t.Context(), start, add("x")); err != nil {
		t.Fatal(err)
	}
	words(t, f)
	n := testing.AllocsPerRun(100, func() { f.Read() })
	if n > 8 {
		t.Errorf("%v allocations, want those of one lstat", n)
	}
}

func TestDamage(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"empty":   func(p string) error { return os.WriteFile(p, nil, 0o660) },
		"half":    func(p string) error { return os.WriteFile(p, []byte(`{"version":1,"wor`), 0o660) },
		"version": func(p string) error { return os.WriteFile(p, []byte(`{"version":2,"words":[]}`), 0o660) },
		"field":   func(p string) error { return os.WriteFile(p, []byte(`{"version":1,"x":0}`), 0o660) },
		"more":    func(p string) error { return os.WriteFile(p, []byte(`{"version":1}{}`), 0o660) },
		"long":    func(p string) error { return os.WriteFile(p, []byte(`{"version":1}`+strings.Repeat(" ", 1000)), 0o660) },
		"check": func(p string) error {
			return os.WriteFile(p, []byte(`{"version":1,"words":[`+strings.Repeat(`"",`, 50)+`""]}`), 0o660)
		},
		"link":      func(p string) error { return os.Symlink("/etc/passwd", p) },
		"fifo":      func(p string) error { return syscall.Mkfifo(p, 0o660) },
		"other end": func(p string) error { return os.Symlink("nowhere", p) },
	} {
		t.Run(name, func(t *testing.T) {
			f := file(t.TempDir())
			if err := spoil(f.Path()); err != nil {
				t.Fatal(err)
			}
			for range 2 { // the second from memory
				if _, err := f.Read(); !IsDamaged(err) {
					t.Fatalf("%v, want that it is damaged", err)
				}
			}
			var before []byte
			plain := name != "link" && name != "fifo" && name != "other end"
			if plain {
				var err error
				if before, err = os.ReadFile(f.Path()); err != nil {
					t.Fatal(err)
				}
			}
			damaged, err := f.Change(t.Context(), start, add("new"))
			if !IsDamaged(damaged) || err != nil {
				t.Fatalf("%v, %v, want the damage alone", damaged, err)
			}
			if got := words(t, f); got != "new" {
				t.Errorf("%q, want a new beginning", got)
			}
			kept, err := os.ReadFile(f.Path() + ".damaged")
			if plain && (err != nil || !strings.HasPrefix(string(before), string(kept))) {
				t.Errorf("kept %q, %v, want what was there", kept, err)
			} else if !plain && err == nil {
				t.Errorf("kept %q of what is no file", kept)
			}
			if b, err := os.ReadFile("/etc/passwd"); err != nil || len(b) == 0 {
				t.Error("the link's target was written")
			}
		})
	}
}

// A process without file descriptors must not take the file for damaged.
func TestNoDescriptors(t *testing.T) {
	f := file(t.TempDir())
	for err, damaged := range map[error]bool{
		&fs.PathError{Err: syscall.EMFILE}: false, &fs.PathError{Err: syscall.ENFILE}: false, &fs.PathError{Err: syscall.ENOMEM}: false,
		&fs.PathError{Err: syscall.EACCES}: true, // a chmod by the other console must not keep everybody out
		&fs.PathError{Err: syscall.EIO}:    true, &fs.PathError{Err: syscall.EUCLEAN}: true,
	} {
		if got := f.class(err); IsDamaged(got) != damaged || !errors.Is(got, err) {
			t.Errorf("%v: damaged is %v", err, !damaged)
		}
	}
}

// Whatever step fails, the file has the old or the new content, whole.
func TestFaults(t *testing.T) {
	for _, failing := range durable.Steps {
		f := file(t.TempDir())
		if _, err := f.Change(t.Context(), start, add("old")); err != nil {
			t.Fatal(err)
		}
		broken := errors.New("broken")
		end := durable.Fault(func(step string) error {
			if step == failing {
				return broken
			}
			return nil
		})
		_, err := f.Change(t.Context(), start, add("new"))
		end()
		if !errors.Is(err, broken) {
			t.Errorf("%s: %v, want the fault", failing, err)
		}
		want := "old"
		if failing == "fsync directory" {
			want = "old new"
		}
		if got := words(t, f); got != want {
			t.Errorf("%s: %q, want %q", failing, got, want)
		}
		if _, err := f.Change(t.Context(), start, add("next")); err != nil || words(t, f) != want+" next" {
			t.Errorf("%s: afterwards %v, %q", failing, err, words(t, f))
		}
	}
}

// Nothing is lost when many change the file at once.
func TestTogether(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	for p := range 3 {
		f := file(dir) // a process: its lock is a descriptor of its own
		for g := range 2 {
			wg.Go(func() {
				for i := range 4 {
					if _, err := f.Change(t.Context(), start, add(fmt.Sprint(p, g, i))); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	wg.Wait()
	c, err := file(dir).Read()
	if err != nil || len(c.Words) != 3*2*4 {
		t.Errorf("%d words, %v, want all", len(c.Words), err)
	}
	slices.Sort(c.Words)
	if n := len(slices.Compact(c.Words)); n != 24 {
		t.Errorf("%d different words, want all", n)
	}
}

// A process that keeps the lock makes the others wait, and not for ever.
func TestLockIsKept(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		mine, other := New(dir), New(dir)
		unlock, err := other.Lock(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if _, err := mine.Lock(t.Context()); !errors.Is(err, ErrLocked) {
			t.Errorf("%v, want ErrLocked", err)
		}
		if took := time.Since(began); took < lockWait || took > lockWait+time.Second {
			t.Errorf("waited %v, want %v", took, lockWait)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := mine.Lock(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("%v, want that of the context", err)
		}
		go func() {
			time.Sleep(time.Second)
			unlock()
		}()
		free, err := mine.Lock(t.Context())
		if err != nil {
			t.Fatalf("after the other is done: %v", err)
		}
		free()
	})
}

// One who insists goes on without a lock that another process never gives back;
// the first time he waits, then not for long, and the lock counts again later.
func TestInsist(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		mine, other := New(dir), New(dir)
		told := 0
		mine.Insist = func(err error) {
			if !errors.Is(err, ErrLocked) {
				t.Error(err)
			}
			told++
		}
		unlock, err := other.Lock(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i, most := range []time.Duration{lockWait, shortWait, shortWait} {
			began := time.Now()
			free, err := mine.Lock(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			free()
			if took := time.Since(began); took > most || told != i+1 {
				t.Errorf("wait %d took %v, told %d times", i+1, took, told)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := mine.Lock(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, want that of the context", err)
		}
		unlock()
		free, err := mine.Lock(t.Context())
		if err != nil || told != 3 {
			t.Fatal(err, told)
		}
		go func() {
			time.Sleep(5 * time.Second)
			free()
		}()
		if free, err := other.Lock(t.Context()); err != nil {
			t.Error(err)
		} else {
			free()
		}
	})
}

// The lock is a link, a FIFO or a folder: somebody else's doing, who must not
// keep the others from changing anything.
func TestStrangeLock(t *testing.T) {
	for name, make := range map[string]func(string) error{
		"link":   func(p string) error { return os.Symlink("x.json", p) },
		"fifo":   func(p string) error { return syscall.Mkfifo(p, 0o660) },
		"folder": func(p string) error { return os.MkdirAll(p+"/x", 0o700) },
	} {
		f := New(t.TempDir())
		if err := make(f.Path(lockName)); err != nil {
			t.Fatal(err)
		}
		unlock, err := f.Lock(t.Context())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		if _, err := New(f.Dir).Lock(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: another has the lock too: %v", name, err)
		}
		cancel()
		unlock()
	}
}
