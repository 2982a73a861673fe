package server

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parley-meet/parley/internal/judge"
)

// systemd itself understands every line of the unit; of one with mistakes it says
// so, though it would go on without those lines.
func TestUnit(t *testing.T) {
	judge.Need(t, "systemd-analyze")
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	verify := func(unit string) string {
		t.Helper()
		out, err := judge.Try(t, "systemd-analyze", "verify", "--man=no", write(t, unit))
		if err != nil {
			out += err.Error()
		}
		return out
	}
	unit := Unit(program)
	if out := verify(unit); out != "" {
		t.Errorf("systemd-analyze verify: %s", out)
	}
	for was, is := range map[string]string{
		"ProtectHome=":      "ProtectHom=",
		"@system-service":   "@system-servic",
		"TimeoutStopSec=20": "TimeoutStopSec=soon",
		program + " ":       program + "-is-not-there ",
	} {
		wrong := strings.Replace(unit, was, is, 1)
		if wrong == unit || verify(wrong) == "" {
			t.Errorf("%q instead of %q is not noticed", is, was)
		}
	}
	// 25 is 2.5 of systemd's 10: the less, the less the service may do.
	if out := judge.Run(t, "systemd-analyze", "security", "--offline=yes", "--threshold=25", write(t, unit)); !strings.Contains(out, "OK") {
		t.Errorf("exposure: %s", out)
	}
}

// write writes a unit to a file.
func write(t *testing.T, unit string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "parley-portal.service")
	if err := os.WriteFile(path, []byte(unit), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
