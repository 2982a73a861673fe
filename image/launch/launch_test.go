package launch_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/parley-meet/parley/image/internal/confine"
)

// start runs PID 1's program under a name, with the text on descriptor
// confine.SpecFD, and returns the packages that it initialised and the lines
// that it wrote beside.
func start(t *testing.T, program, name, spec string) (packages, lines []string, code int) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "spec")
	if err := os.WriteFile(path, []byte(spec), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd := exec.CommandContext(t.Context(), program)
	cmd.Args = []string{name, "mmr"}
	cmd.Env = []string{"GODEBUG=inittrace=1"}
	cmd.ExtraFiles = []*os.File{f, f} // 3 and 4
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	var ended *exec.ExitError
	if err := cmd.Run(); !errors.As(err, &ended) {
		t.Fatalf("%s: %v, want a failure", name, err)
	}
	for line := range strings.Lines(stderr.String()) {
		if f := strings.Fields(line); len(f) > 2 && f[0] == "init" && strings.HasPrefix(f[2], "@") {
			packages = append(packages, f[1])
			continue
		}
		lines = append(lines, strings.TrimSuffix(line, "\n"))
	}
	return packages, lines, ended.ExitCode()
}

// The process that becomes a service is over before what PID 1 consists of is
// initialised; the same program under another name gets there.
func TestNothingOfPID1Begins(t *testing.T) {
	program := filepath.Join(t.TempDir(), "init")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "../init")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	of := []string{
		"main", "net", "net/http", "crypto/tls", "html/template", "github.com/gokrazy/gokrazy",
		"github.com/parley-meet/parley/image/config", "github.com/parley-meet/parley/image/internal/perm",
	}
	packages, lines, code := start(t, program, confine.LaunchName, "no spec")
	if code != confine.FailedCode || len(lines) != 1 || !strings.HasPrefix(lines[0], "launch: spec: ") {
		t.Errorf("exit code %d, %q; want %d and why", code, lines, confine.FailedCode)
	}
	if len(packages) == 0 {
		t.Error("no package was traced")
	}
	for _, p := range packages {
		if slices.Contains(of, p) {
			t.Errorf("%s is initialised in a process that becomes a service", p)
		}
	}
	for _, name := range []string{"/init", "launcher", ""} {
		packages, lines, code := start(t, program, name, "no spec")
		if code != 2 || len(lines) != 1 || !strings.HasPrefix(lines[0], "init: ") {
			t.Errorf("%q: exit code %d, %q; want 2 and that it is PID 1", name, code, lines)
		}
		for _, p := range of {
			if !slices.Contains(packages, p) {
				t.Errorf("%q does not initialise %s", name, p)
			}
		}
	}
}
