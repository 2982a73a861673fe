package durable

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestWriteFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	for _, want := range []string{"one", "two, which is longer", ""} {
		if err := WriteFile(path, []byte(want), 0o640); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != want {
			t.Fatalf("read %q, %v; want %q", got, err, want)
		}
		fi, err := os.Stat(path)
		if err != nil || fi.Mode() != 0o640 {
			t.Fatalf("mode %v, %v; want 0640", fi.Mode(), err)
		}
	}
}

// Each step that fails leaves whole content: the old one, or after the rename
// the new one, and no temporary file.
func TestWriteFileFailures(t *testing.T) {
	fault := errors.New("fault")
	var seen []string
	end := Fault(func(name string) error { seen = append(seen, name); return nil })
	if err := WriteFile(filepath.Join(t.TempDir(), "state"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if end(); !slices.Equal(seen, Steps) {
		t.Errorf("steps %q, want %q", seen, Steps)
	}
	for _, failing := range Steps {
		t.Run(failing, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "state")
			if err := WriteFile(path, []byte("old"), 0o600); err != nil {
				t.Fatal(err)
			}
			defer Fault(func(name string) error {
				if name == failing {
					return fault
				}
				return nil
			})()
			if err := WriteFile(path, []byte("new"), 0o600); !errors.Is(err, fault) {
				t.Fatalf("error %v, want the fault", err)
			}
			want := "old"
			if failing == "fsync directory" {
				want = "new"
			}
			if got, _ := os.ReadFile(path); string(got) != want {
				t.Errorf("content %q, want %q", got, want)
			}
			names, _ := os.ReadDir(dir)
			if len(names) != 1 {
				t.Errorf("%d files left, want 1", len(names))
			}
		})
	}
}

func TestWriteFileAfterInterruptedWrite(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state")
	if err := os.WriteFile(filepath.Join(dir, ".state.tmp"), []byte("half"), 0o400); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(path, []byte("whole"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestRemove(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	if err := Remove(path); err != nil {
		t.Fatalf("missing file: %v", err)
	}
	for _, names := range [][]string{{"state"}, {".state.tmp"}, {"state", ".state.tmp"}} {
		for _, name := range names {
			if err := os.WriteFile(filepath.Join(filepath.Dir(path), name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := Remove(path); err != nil {
			t.Fatal(err)
		}
		if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 0 {
			t.Errorf("%q: %v is left", names, left)
		}
	}
}

// In a folder that others write in too, theirs are no obstacle: a folder with
// something in it, where the file or its next content is to be.
func TestObstacles(t *testing.T) {
	for _, name := range []string{"state", ".state.tmp"} {
		for _, kind := range []string{"folder", "full folder", "link"} {
			dir := t.TempDir()
			path, at := filepath.Join(dir, "state"), filepath.Join(dir, name)
			place := func() {
				t.Helper()
				var err error
				switch kind {
				case "folder":
					err = os.Mkdir(at, 0o700)
				case "full folder":
					err = os.MkdirAll(filepath.Join(at, "x"), 0o700)
				case "link":
					err = os.Symlink("elsewhere", at)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			place()
			if err := WriteFile(path, []byte("new"), 0o600); err != nil {
				t.Errorf("%s at %s: %v", kind, name, err)
			}
			if got, err := os.ReadFile(path); string(got) != "new" {
				t.Errorf("%s at %s: %q, %v", kind, name, got, err)
			}
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			place()
			if err := Remove(path); err != nil {
				t.Errorf("%s at %s: remove: %v", kind, name, err)
			}
			if _, err := os.Lstat(at); !os.IsNotExist(err) {
				t.Errorf("%s at %s is still there", kind, name)
			}
		}
	}
}
