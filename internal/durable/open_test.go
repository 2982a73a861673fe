package durable

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := errors.Join(
		os.WriteFile(at("file"), []byte("x"), 0o600),
		os.Symlink("file", at("link")),
		syscall.Mkfifo(at("fifo"), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	f, err := Open(at("file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if b, err := io.ReadAll(f); err != nil || string(b) != "x" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := Open(at("none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	for _, name := range []string{"link", "fifo", "."} {
		done := make(chan error, 1)
		go func() {
			_, err := Open(at(name))
			done <- err
		}()
		select {
		case err := <-done:
			if !errors.Is(err, ErrKind) {
				t.Errorf("%s: %v, want %v", name, err, ErrKind)
			}
		case <-time.After(5 * time.Second):
			t.Errorf("%s: waits for ever", name)
		}
	}
}
