package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func put(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func get(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, e := range entries {
		if e.IsDir() {
			files[e.Name()] = "(folder)"
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = string(b)
	}
	return files
}

func same(t *testing.T, got, want map[string]string) {
	t.Helper()
	for name := range want {
		if got[name] != want[name] {
			t.Errorf("%s is %q, want %q", name, got[name], want[name])
		}
	}
	if len(got) != len(want) {
		t.Errorf("the folder holds %q, want %q", got, want)
	}
}

// TestPublish makes each rename fail in turn: the folder is the old one then,
// and the new one when none fails.
func TestPublish(t *testing.T) {
	names := []string{"a", "b", "c"}
	for fail := 0; fail <= len(names); fail++ {
		out := filepath.Join(t.TempDir(), "out")
		w, err := newWork(out)
		if err != nil {
			t.Fatal(err)
		}
		before := map[string]string{"a": "old a", "c": "old c", "other": "stays"} // b is new
		put(t, out, before)
		put(t, w.dir, map[string]string{"a": "new a", "b": "new b", "c": "new c"})
		n, broken := 0, errors.New("broken")
		rename = func(from, to string) error {
			if n++; n == fail+1 {
				return broken
			}
			return os.Rename(from, to)
		}
		err = w.publish(names)
		rename = os.Rename
		if rerr := w.remove(); rerr != nil {
			t.Fatal(rerr)
		}
		if fail == len(names) {
			if err != nil {
				t.Fatal(err)
			}
			same(t, get(t, out), map[string]string{"a": "new a", "b": "new b", "c": "new c", "other": "stays"})
			continue
		}
		if !errors.Is(err, broken) {
			t.Errorf("rename %d fails: %v", fail, err)
		}
		same(t, get(t, out), before)
	}
}

func TestPublishOverFolder(t *testing.T) {
	out := t.TempDir()
	w, err := newWork(out)
	if err != nil {
		t.Fatal(err)
	}
	defer w.remove()
	put(t, out, map[string]string{"a": "old a"})
	put(t, w.dir, map[string]string{"a": "new a", "b": "new b"})
	if err := os.Mkdir(filepath.Join(out, "b"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := w.publish([]string{"a", "b"}); err == nil || !strings.Contains(err.Error(), "no file") {
		t.Errorf("got %v", err)
	}
	same(t, get(t, out), map[string]string{"a": "old a", "b": "(folder)", filepath.Base(w.dir): "(folder)"})
}

// TestSweep: what a dead run left goes, what lives or has just begun stays.
func TestSweep(t *testing.T) {
	out := t.TempDir()
	alive, err := newWork(out)
	if err != nil {
		t.Fatal(err)
	}
	defer alive.remove()
	dead, young, old := filepath.Join(out, workPrefix+"dead"), filepath.Join(out, workPrefix+"young"), filepath.Join(out, workPrefix+"old")
	for _, dir := range []string{dead, young, old} {
		if err := os.MkdirAll(filepath.Join(dir, "bin"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	put(t, dead, map[string]string{lockName: ""})
	put(t, out, map[string]string{workPrefix + "file": "not a folder"})
	hour := time.Now().Add(-time.Hour)
	if err := os.Chtimes(old, hour, hour); err != nil {
		t.Fatal(err)
	}
	second, err := newWork(out)
	if err != nil {
		t.Fatal(err)
	}
	same(t, get(t, out), map[string]string{
		filepath.Base(alive.dir): "(folder)", filepath.Base(second.dir): "(folder)",
		filepath.Base(young): "(folder)", workPrefix + "file": "not a folder",
	})
	if err := second.remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(out); err != nil {
		t.Errorf("a folder that was there is gone: %v", err)
	}
}

// TestOutMade: a folder that a failed run made goes with it.
func TestOutMade(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	w, err := newWork(out)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("the folder is still there")
	}
}
