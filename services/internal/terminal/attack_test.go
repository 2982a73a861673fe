package terminal

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/parley-meet/parley/services/internal/look"
)

// The web console's process may write where the generated password's hash is:
// whatever it puts there, the password on the screen opens the terminal, and a
// new one can be set.
func TestShownPasswordCounts(t *testing.T) {
	kinds := map[string]func(r *rig, path string) error{
		"gone": func(*rig, string) error { return nil },
		"another's hash": func(r *rig, path string) error {
			h, err := r.keeper.Hasher.Hash(t.Context(), "a password of mallory")
			if err != nil {
				return err
			}
			return os.WriteFile(path, []byte(`{"version":1,"user":"admin","hash":"`+h.String()+`","set":"2026-11-25T03:00:00Z"}`), 0o640)
		},
		"folder": func(_ *rig, path string) error { return os.MkdirAll(filepath.Join(path, "x"), 0o700) },
		"fifo":   func(_ *rig, path string) error { return syscall.Mkfifo(path, 0o640) },
	}
	for kind, place := range kinds {
		for _, damaged := range []bool{false, true} {
			name := kind
			if damaged {
				name += ", and a damaged one"
			}
			t.Run(name, func(t *testing.T) {
				r := newRig(t)
				r.expect("login: ")
				generated := r.keeper.Plain()
				r.login(generated)
				r.send("logout\r")
				r.expect("login: ")
				path := filepath.Join(r.admin.Store.RunDir, "admin.json")
				if err := errors.Join(os.RemoveAll(path), place(r, path)); err != nil {
					t.Fatal(err)
				}
				if damaged {
					if err := os.MkdirAll(filepath.Join(r.admin.Dir, "admin.json", "x"), 0o700); err != nil {
						t.Fatal(err)
					}
				}
				r.login(generated)
				r.send("passwd\r")
				for _, answer := range []string{generated, "correct horse battery", "correct horse battery"} {
					r.expect(`: \x1b\[K$`)
					r.send(answer + "\r")
				}
				r.expect(strings.Fields(look.MustLoad(words, "words")[look.English].T("passwd.done"))[0])
				r.send("logout\r")
				r.expect("login: ")
				r.login("correct horse battery")
			})
		}
	}
}

// The generated password ends with the first that is set, also on the terminal.
func TestShownPasswordEnds(t *testing.T) {
	r := newRig(t)
	r.expect("login: ")
	generated := r.keeper.Plain()
	r.admin.SetPassword(t, "correct horse battery")
	if r.keeper.Shown(generated) {
		t.Error("the generated password counts beside the one that was set")
	}
}

// A login with the password on the screen, before its hash was there, ends when
// another process sets one: at the next key.
func TestShownLoginEnds(t *testing.T) {
	r := newRig(t)
	r.expect("login: ")
	generated := r.keeper.Plain()
	if err := os.RemoveAll(filepath.Join(r.admin.Store.RunDir, "admin.json")); err != nil {
		t.Fatal(err)
	}
	r.login(generated)
	r.send("\r")
	r.expect("parley> ") // nothing has changed
	r.admin.SetPassword(t, "set in a browser meanwhile")
	r.send("\r")
	r.expect("login: ")
}
