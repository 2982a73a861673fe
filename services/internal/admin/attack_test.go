package admin_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/parley-meet/parley/internal/durable"
	"github.com/parley-meet/parley/services/internal/admin"
	"github.com/parley-meet/parley/services/internal/admintest"
)

var keeperOfTheConsole = admin.Actor{Name: "recover", From: "ttyS0", Via: "serial"}

// Whatever the other console puts into the shared folder, in the place of a
// file, of what a file is replaced by, or of the lock: who holds the machine's
// console sets a new password, and comes in with it.
func TestRecoverAmongObstacles(t *testing.T) {
	kinds := map[string]func(string) error{
		"folder":  func(p string) error { return os.MkdirAll(filepath.Join(p, "x"), 0o700) },
		"link":    func(p string) error { return os.Symlink("/etc/hostname", p) },
		"loop":    func(p string) error { return os.Symlink(filepath.Base(p), p) },
		"fifo":    func(p string) error { return syscall.Mkfifo(p, 0o660) },
		"garbage": func(p string) error { return os.WriteFile(p, []byte("{\"version\":9"), 0o660) },
		"huge": func(p string) error {
			return errors.Join(os.WriteFile(p, []byte("{"), 0o660), os.Truncate(p, 1<<30))
		},
	}
	for kind, place := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			r := admintest.New(t)
			r.Config.Insist = true
			a := admin.New(r.Config)
			defer a.Close()
			for _, name := range []string{"admin.json", "accounts.json", "notices.json", "audit.jsonl", "tokens.json", "lock"} {
				for _, name := range []string{name, "." + name + ".tmp"} {
					path := filepath.Join(r.Dir, name)
					if err := errors.Join(os.RemoveAll(path), place(path)); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := a.RecoverPassword(t.Context(), keeperOfTheConsole, words); err != nil {
				t.Fatal(err)
			}
			if _, _, err := a.Login(t.Context(), "admin", words, ""); err != nil {
				t.Errorf("the new password: %v", err)
			}
			if _, _, err := r.Login(t.Context(), "admin", words, ""); err != nil {
				t.Errorf("the new password on the other console: %v", err)
			}
		})
	}
}

// A full disk: what was put by for that day is used, once and only then.
func TestRecoverOnFullDisk(t *testing.T) {
	r := admintest.New(t)
	full, freed := true, 0
	r.Config.MakeRoom = func() bool {
		freed++
		full = false
		return true
	}
	a := admin.New(r.Config)
	defer a.Close()
	defer durable.Fault(func(step string) error {
		if full && step == "write" {
			return syscall.ENOSPC
		}
		return nil
	})()
	if err := a.RecoverPassword(t.Context(), keeperOfTheConsole, words); err != nil {
		t.Fatal(err)
	}
	if _, _, err := a.Login(t.Context(), "admin", words, ""); err != nil {
		t.Errorf("the new password: %v", err)
	}
	if err := a.RecoverPassword(t.Context(), keeperOfTheConsole, "and some others"); err != nil || freed != 1 {
		t.Errorf("%v; room was made %d times", err, freed)
	}
	full, r.Config.MakeRoom = true, func() bool { return false }
	b := admin.New(r.Config)
	defer b.Close()
	if err := b.RecoverPassword(t.Context(), keeperOfTheConsole, words); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("without room: %v", err)
	}
}
