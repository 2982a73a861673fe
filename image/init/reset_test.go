package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/image/internal/perm"
	"github.com/parley-meet/parley/image/layout"
	"github.com/parley-meet/parley/internal/durable"
)

// used makes a /perm that has been lived in.
func used(t *testing.T, m *machine) {
	t.Helper()
	m.makePermDirs()
	for _, name := range []string{layout.CredentialDir + "/admin.json", layout.PermDir + "/mmr/state", layout.PermLogDir + "/ring", layout.AppliancePath, layout.PermMount + "/stray", layout.PermMount + "/lost+found/#12"} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, []byte("secret"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}

func files(t *testing.T) (names []string) {
	t.Helper()
	err := filepath.WalkDir(layout.PermMount, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			names = append(names, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestReset(t *testing.T) {
	empty(t)
	m := newTestMachine(&perm.Fake{})
	used(t, m)
	m.resetIfAsked()
	if n := len(files(t)); n != 6 {
		t.Fatalf("%d files without a mark, want all", n)
	}
	if err := os.WriteFile(layout.ResetPath, nil, 0o600); err != nil { // a mark that was cut off counts
		t.Fatal(err)
	}
	m.resetIfAsked()
	if got := files(t); len(got) != 0 {
		t.Errorf("left are %q", got)
	}
	for _, dir := range []string{layout.CredentialDir, layout.PermDir + "/mmr", layout.PermLogDir, layout.PermMount + "/lost+found"} {
		if st, err := os.Stat(dir); err != nil || !st.IsDir() {
			t.Errorf("%s: %v", dir, err)
		}
	}
	if m.said("wiped 6 files") != 1 || m.Status().Perm.Message != "" {
		t.Errorf("it says %+v", m.ring.Lines("", 0))
	}
}

// A wipe that cannot end keeps its mark, says so, and the next boot goes on.
func TestResetFails(t *testing.T) {
	empty(t)
	m := newTestMachine(&perm.Fake{})
	used(t, m)
	if err := os.WriteFile(layout.ResetPath, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	end := durable.Fault(func(s string) error { return errors.New("fault at " + s) })
	m.resetIfAsked()
	end()
	if got := files(t); len(got) != 1 && len(got) != 0 {
		t.Errorf("left are %q", got)
	}
	if st := m.Status().Perm; !strings.Contains(st.Message, "not complete") || !strings.Contains(st.Message, "fault at fsync directory") {
		t.Errorf("%+v", st)
	}
	if err := os.WriteFile(layout.ResetPath, nil, 0o600); err != nil { // a power cut would bring it back
		t.Fatal(err)
	}
	m = newTestMachine(&perm.Fake{})
	m.resetIfAsked()
	if got := files(t); len(got) != 0 || m.Status().Perm.Message != "" {
		t.Errorf("left are %q, %+v", got, m.Status().Perm)
	}
}

// A /perm that cannot be written to is not reset: it says so and what to do.
func TestResetReadOnly(t *testing.T) {
	empty(t)
	m := newTestMachine(&perm.Fake{})
	used(t, m)
	if err := os.WriteFile(layout.ResetPath, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	m = newTestMachine(&perm.Fake{ReadWriteErr: errors.New("damaged")})
	m.resetIfAsked()
	if n := len(files(t)); n != 7 {
		t.Errorf("%d files are left, want all", n)
	}
	if st := m.Status().Perm; !strings.Contains(st.Message, "a factory reset was asked for and waits") || !strings.Contains(st.Message, "repair") {
		t.Errorf("%+v", st)
	}
	err := m.Do(t.Context(), control.Request{Op: control.OpReset})
	var e *control.Error
	if !errors.As(err, &e) || e.Code != control.CodeState || !strings.Contains(e.Message, `"repair format!"`) {
		t.Errorf("%v", err)
	}
}

// The wish is durable before it is answered; one that cannot be kept is refused.
func TestResetAsked(t *testing.T) {
	empty(t)
	m := newTestMachine(&perm.Fake{})
	end := durable.Fault(func(s string) error {
		if s == "rename" {
			return errors.New("fault")
		}
		return nil
	})
	err := m.Do(t.Context(), control.Request{Op: control.OpReset})
	end()
	var e *control.Error
	if !errors.As(err, &e) || e.Code != control.CodeFailed || !strings.Contains(e.Message, "was not begun") {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(layout.ResetPath); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a mark is there: %v", err)
	}
}
