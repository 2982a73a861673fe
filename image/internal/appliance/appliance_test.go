package appliance

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parley-meet/parley/internal/durable"
)

func TestRole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "appliance.json")
	if s, err := Load(path); s != nil || err != nil {
		t.Errorf("no file: %+v, %v", s, err)
	}
	for _, role := range []string{"router", "controller", "controller"} {
		if err := SetRole(path, role); err != nil {
			t.Fatal(err)
		}
		s, err := Load(path)
		if err != nil || *s != (State{1, role}) {
			t.Errorf("%+v, %v; want %s", s, err, role)
		}
	}
	for _, role := range []string{"", "Router", "admin", "router "} {
		if err := SetRole(path, role); err == nil || ValidRole(role) {
			t.Errorf("%q is taken", role)
		}
	}
	if s, err := Load(path); err != nil || s.Role != "controller" {
		t.Errorf("a refused role changed it: %+v, %v", s, err)
	}
	if b, err := os.ReadFile(path); string(b) != `{"version":1,"role":"controller"}`+"\n" {
		t.Errorf("%q, %v", b, err)
	}
}

// Another version is refused by its number, before its fields can confuse.
func TestParseRefuses(t *testing.T) {
	for content, want := range map[string]string{
		"": "unexpected end", "null": "version 0, want 1", "{}": "version 0, want 1", "[]": "cannot unmarshal", "\x00": "invalid character",
		`{"version":2,"role":"router","peer":"x"}`:                   "version 2, want 1: it was written by another release",
		`{"version":2,"role":7}`:                                     "version 2, want 1",
		`{"version":"1","role":"router"}`:                            "cannot unmarshal",
		`{"version":1}`:                                              `role "": want "controller", "router" or "portal"`,
		`{"version":1,"role":"both"}`:                                `role "both"`,
		`{"version":1,"role":7}`:                                     "cannot unmarshal",
		`{"version":1,"role":"router","peer":"x"}`:                   `unknown field "peer"`,
		`{"version":1,"role":"router"}{}`:                            "after top-level value",
		`{"version":1,"role":"router"`:                               "unexpected end",
		`{"version":1,"role":"` + strings.Repeat("x", 64<<10) + `"}`: "longer than 65536",
	} {
		path := filepath.Join(t.TempDir(), "appliance.json")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Load(path)
		if s != nil || err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), path) {
			t.Errorf("%.60q: %+v, %v; want an error with the path about %q", content, s, err, want)
		}
	}
	if _, err := Load(t.TempDir()); err == nil {
		t.Error("a folder was read")
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "{}", `{"version":1,"role":"router"}`, `{"VERSION":1,"role":"controller","version":1}`, `{"version":1e0,"role":"router"}`, `{"version":2}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := Parse(b); (s == nil) == (err == nil) || s != nil && (s.Version != Version || !ValidRole(s.Role)) {
			t.Fatalf("%q: %+v, %v", b, s, err)
		}
	})
}

// Whatever step fails, the role is the old or the new one.
func TestSetRoleFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "appliance.json")
	for _, failing := range durable.Steps {
		if err := SetRole(path, "router"); err != nil {
			t.Fatal(err)
		}
		fault := errors.New("fault")
		end := durable.Fault(func(step string) error {
			if step == failing {
				return fault
			}
			return nil
		})
		err := SetRole(path, "controller")
		end()
		if !errors.Is(err, fault) {
			t.Errorf("%s: %v", failing, err)
		}
		want := "router"
		if failing == "fsync directory" {
			want = "controller"
		}
		if s, err := Load(path); err != nil || s.Role != want {
			t.Errorf("%s: %+v, %v; want %s", failing, s, err, want)
		}
	}
}
