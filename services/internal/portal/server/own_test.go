package server

import (
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/parley-meet/parley/services/internal/portal/portaltest"
)

// What root's commands leave in the folder of a portal with a user of its own is
// that user's.
func TestHandOver(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "" {
			t.Skip("giving files away needs root")
		}
		t.Fatal("giving files away needs root")
	}
	const user = 64321
	log := slog.New(slog.DiscardHandler)
	base := t.TempDir()
	folder := func(name string) string {
		dir := filepath.Join(base, name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(dir, user, user); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	owners := func(dir string) (n int) {
		t.Helper()
		if err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := e.Info()
			if err != nil {
				return err
			}
			if s := info.Sys().(*syscall.Stat_t); s.Uid != user || s.Gid != user {
				t.Errorf("%s is of %d:%d", path, s.Uid, s.Gid)
			}
			n++
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return n
	}
	one := config(t, "")
	one.Dir = folder("one")
	if err := AddOperator(t.Context(), one, "a@example.com", io.Discard, log); err != nil {
		t.Fatal(err)
	}
	owners(one.Dir)
	if err := Publish(t.Context(), one, portaltest.New(t).Output("1.4.0"), "", Notes{}, Out{io.Discard, false}, log); err != nil {
		t.Fatal(err)
	}
	if n := owners(one.Dir); n < 12 {
		t.Errorf("%d files", n)
	}
	backup := filepath.Join(base, "b.gz")
	if err := Backup(t.Context(), one, backup, io.Discard, log); err != nil {
		t.Fatal(err)
	}
	owners(one.Dir)
	two := config(t, "")
	two.Dir = folder("two")
	link := filepath.Join(base, "link")
	if err := os.Symlink(two.Dir, link); err != nil {
		t.Fatal(err)
	}
	// What leads elsewhere is let alone.
	other := filepath.Join(base, "other")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	real := two.Dir
	two.Dir = link
	if err := Restore(t.Context(), two, backup, io.Discard, log); err != nil {
		t.Fatal(err)
	}
	if n := owners(real); n < 3 {
		t.Errorf("%d files", n)
	}
	for name, make := range map[string]func(string, string) error{"hard": os.Link, "soft": os.Symlink} {
		if err := make(other, filepath.Join(real, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := handOver(real); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(other)
	if err != nil || info.Sys().(*syscall.Stat_t).Uid != 0 {
		t.Errorf("another's file was given away: %v", err)
	}
}
