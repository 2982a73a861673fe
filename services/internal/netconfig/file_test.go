package netconfig

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestWriteFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	for _, content := range []string{"first", "second, longer", "3"} {
		if err := WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		b, err := ReadFile(path, 100)
		if err != nil || string(b) != content {
			t.Fatalf("%q, %v, want %q", b, err, content)
		}
	}
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if fi.Mode().Perm() != 0o644 {
		t.Errorf("mode %v, want 0644 whatever the umask", fi.Mode().Perm())
	}
	if _, err := ReadFile(path, 0); err == nil {
		t.Error("a file that is too large is read")
	}
	if err := os.WriteFile(path+".tmp", []byte("left by a crash, long"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(path, []byte("4"), 0o644); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(path); string(b) != "4" {
		t.Errorf("after a crash: %q", b)
	}
}

// brokenDir fails in one call, and notes all of them.
type brokenDir struct {
	osDir
	fail  string
	calls []string
}

var errBroken = errors.New("broken")

func (d *brokenDir) call(name string) error {
	d.calls = append(d.calls, name)
	if name == d.fail {
		return errBroken
	}
	return nil
}

func (d *brokenDir) Create(name string) (file, error) {
	if err := d.call("create"); err != nil {
		return nil, err
	}
	f, err := d.osDir.Create(name)
	return &brokenFile{f, d, ""}, err
}

func (d *brokenDir) Open(name string) (file, error) {
	if err := d.call("open folder"); err != nil {
		return nil, err
	}
	f, err := d.osDir.Open(name)
	return &brokenFile{f, d, " folder"}, err
}

func (d *brokenDir) Rename(from, to string) error {
	if err := d.call("rename"); err != nil {
		return err
	}
	return d.osDir.Rename(from, to)
}

type brokenFile struct {
	file
	d    *brokenDir
	what string
}

func (f *brokenFile) Write(b []byte) (int, error) {
	if err := f.d.call("write"); err != nil {
		n, _ := f.file.Write(b[:len(b)/2])
		return n, err
	}
	return f.file.Write(b)
}

func (f *brokenFile) Chmod(m fs.FileMode) error {
	if err := f.d.call("chmod"); err != nil {
		return err
	}
	return f.file.Chmod(m)
}

func (f *brokenFile) Sync() error {
	if err := f.d.call("sync" + f.what); err != nil {
		return err
	}
	return f.file.Sync()
}

func (f *brokenFile) Close() error {
	if err := f.d.call("close" + f.what); err != nil {
		f.file.Close()
		return err
	}
	return f.file.Close()
}

func TestWriteFileFaults(t *testing.T) {
	sound := &brokenDir{}
	if err := writeFile(sound, filepath.Join(t.TempDir(), "f"), []byte("new"), 0o644); err != nil {
		t.Fatal(err)
	}
	want := "create write chmod sync close rename open folder sync folder close folder"
	if got := strings.Join(sound.calls, " "); got != want {
		t.Fatalf("calls: %s\nwant:  %s", got, want)
	}
	for _, call := range sound.calls {
		t.Run(call, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "f")
			if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := writeFile(&brokenDir{fail: call}, path, []byte("new"), 0o644); !errors.Is(err, errBroken) {
				t.Fatalf("%v, want %v", err, errBroken)
			}
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if renamed := strings.HasSuffix(call, "folder"); renamed != (string(b) == "new") {
				t.Errorf("content %q", b)
			}
			if list, _ := os.ReadDir(dir); len(list) != 1 {
				t.Errorf("%d files are left, want 1", len(list))
			}
		})
	}
}
