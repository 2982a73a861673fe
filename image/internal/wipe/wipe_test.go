package wipe

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// fill makes a tree, and a hard link of each file outside of it, which shows
// what its blocks hold afterwards.
func fill(t *testing.T) (dir, links string) {
	t.Helper()
	dir, links = t.TempDir(), t.TempDir()
	for i, name := range []string{"a", "b/c", "b/d/e", "b/d/keep", "keep", "z"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		content := bytes.Repeat([]byte("secret"), 1+i*chunk/7)
		if err := errors.Join(os.WriteFile(path, content, 0o400), os.Link(path, filepath.Join(links, strings.ReplaceAll(name, "/", "-")))); err != nil {
			t.Fatal(err)
		}
	}
	return dir, links
}

func left(t *testing.T, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if path != dir {
			rel, _ := filepath.Rel(dir, path)
			names = append(names, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func zeros(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) == 0 || len(bytes.Trim(b, "\x00")) != 0 {
		t.Errorf("%s: %d bytes, not all zero", path, len(b))
	}
}

func TestFolder(t *testing.T) {
	dir, links := fill(t)
	outside := filepath.Join(t.TempDir(), "outside")
	if err := errors.Join(
		os.WriteFile(outside, []byte("outside"), 0o600), os.Symlink(outside, dir+"/link"), os.Symlink(filepath.Dir(outside), dir+"/b/link"),
		syscall.Mkfifo(dir+"/fifo", 0o600), os.Mkdir(dir+"/empty", 0o700), os.WriteFile(dir+"/nothing", nil, 0o600),
	); err != nil {
		t.Fatal(err)
	}
	ticks := 0
	w := Wiper{Tick: func() { ticks++ }}
	r := w.Folder(dir, "keep", "not there")
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	if got := left(t, dir); len(got) != 1 || got[0] != "keep" {
		t.Errorf("left are %q", got)
	}
	// Five files, three links and fifo, one empty file.
	if r.Files != 9 || r.Folders != 3 || r.Bytes < 2*chunk || ticks < r.Files {
		t.Errorf("%+v, %d ticks", r, ticks)
	}
	for _, name := range []string{"a", "b-c", "b-d-e", "b-d-keep", "z"} {
		zeros(t, filepath.Join(links, name))
	}
	if b, err := os.ReadFile(links + "/keep"); err != nil || !bytes.HasPrefix(b, []byte("secret")) {
		t.Errorf("what is kept was overwritten: %v", err)
	}
	if b, err := os.ReadFile(outside); err != nil || string(b) != "outside" {
		t.Errorf("a link was followed: %q, %v", b, err)
	}
	if r := new(Wiper).Folder(dir, "keep"); r.Err() != nil || r.Files != 0 {
		t.Errorf("a second time: %+v", r)
	}
	if r := new(Wiper).Folder(dir + "/none"); !errors.Is(r.Err(), fs.ErrNotExist) {
		t.Error(r.Err())
	}
}

func TestNames(t *testing.T) {
	dir, links := fill(t)
	outside := t.TempDir()
	if err := errors.Join(os.WriteFile(outside+"/x", []byte("outside"), 0o600), os.Symlink(outside, dir+"/way")); err != nil {
		t.Fatal(err)
	}
	r := new(Wiper).Names(dir, "a", "b/d", "none", "way/x")
	if got := strings.Join(left(t, dir), " "); got != "b b/c keep way z" {
		t.Errorf("left are %q", got)
	}
	zeros(t, links+"/a")
	zeros(t, links+"/b-d-e")
	// The way out is refused and told.
	if b, err := os.ReadFile(outside + "/x"); err != nil || string(b) != "outside" || r.Failed != 1 {
		t.Errorf("%q, %v, %+v", b, err, r)
	}
	if r := new(Wiper).Names(dir+"/none", "a"); r.Err() != nil {
		t.Error(r.Err())
	}
}

// A sparse file is not filled up.
func TestHoles(t *testing.T) {
	dir, links := t.TempDir(), t.TempDir()
	f, err := os.Create(dir + "/sparse")
	if err != nil {
		t.Fatal(err)
	}
	const size = 1 << 40
	_, err = f.WriteAt([]byte("secret"), 3<<20)
	if err := errors.Join(err, f.Truncate(size), f.Close(), os.Link(dir+"/sparse", links+"/sparse")); err != nil {
		t.Fatal(err)
	}
	if r := new(Wiper).Folder(dir); r.Err() != nil || r.Bytes == 0 || r.Bytes > 1<<20 {
		t.Errorf("%+v", r)
	}
	var st unix.Stat_t
	if err := unix.Stat(links+"/sparse", &st); err != nil || st.Size != size || st.Blocks*512 > 1<<20 {
		t.Errorf("%d bytes in %d blocks, %v", st.Size, st.Blocks, err)
	}
	b := make([]byte, 6)
	if f, err = os.Open(links + "/sparse"); err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.ReadAt(b, 3<<20); err != nil || !bytes.Equal(b, make([]byte, 6)) {
		t.Errorf("%q, %v", b, err)
	}
}

// Folders in folders without end are removed too.
func TestDeep(t *testing.T) {
	dir := t.TempDir()
	deep := filepath.Join(dir, strings.Repeat("d/", 3*maxDepth))
	if err := errors.Join(os.MkdirAll(deep, 0o700), os.WriteFile(deep+"/f", []byte("x"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if r := new(Wiper).Folder(dir); r.Err() != nil || len(left(t, dir)) != 0 {
		t.Errorf("%+v, left %q", r, left(t, dir))
	}
}

// errCut ends a wipe in a test as a power cut does.
var errCut = errors.New("cut")

// Whatever a wipe was about to do when it was cut off, the next one ends it.
func TestCut(t *testing.T) {
	defer func() { step = func(string, string) error { return nil } }()
	for n := 0; ; n++ {
		dir, links := fill(t)
		count := 0
		step = func(string, string) error {
			if count++; count > n {
				panic(errCut)
			}
			return nil
		}
		cut := func() (cut bool) {
			defer func() { cut = recover() == errCut }()
			new(Wiper).Folder(dir, "keep")
			return false
		}()
		step = func(string, string) error { return nil }
		if r := new(Wiper).Folder(dir, "keep"); r.Err() != nil {
			t.Fatalf("after a cut at step %d: %v", n, r.Err())
		}
		if got := left(t, dir); len(got) != 1 {
			t.Fatalf("after a cut at step %d: left are %q", n, got)
		}
		for _, name := range []string{"a", "b-c", "b-d-e", "b-d-keep", "z"} {
			zeros(t, filepath.Join(links, name))
		}
		if !cut {
			if n < 10 {
				t.Errorf("the whole took %d steps", n)
			}
			return
		}
	}
}

// An error at one file is told and keeps the others from nothing; the file is
// removed although it could not be overwritten.
func TestErrors(t *testing.T) {
	defer func() { step = func(string, string) error { return nil } }()
	for _, failing := range []string{"overwrite", "flush", "remove"} {
		dir, _ := fill(t)
		step = func(what, name string) error {
			if what == failing && name == "c" {
				return unix.EIO
			}
			return nil
		}
		r := new(Wiper).Folder(dir)
		if !errors.Is(r.Err(), unix.EIO) || !strings.Contains(r.Err().Error(), "/b/c: ") {
			t.Errorf("%s: %v", failing, r.Err())
		}
		if got, want := fmt.Sprint(left(t, dir)), "[]"; got != want && failing != "remove" {
			t.Errorf("%s: left are %s", failing, got)
		}
	}
	var r Report
	for range 100 {
		r.fail(errors.New("x"))
	}
	if r.Failed != 100 || len(r.Errors) != maxErrors || !strings.HasPrefix(r.Err().Error(), "100 files or folders") {
		t.Errorf("%+v", r)
	}
}
