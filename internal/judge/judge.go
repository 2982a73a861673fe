// Package judge runs foreign programs as judges in tests. On a desk that lacks a program its tests are skipped; where
// CI is set in the environment a missing judge is a failure, so that nothing passes there for want of a reader.
package judge

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Need skips the test (fails it in CI) unless the programs are installed.
func Need(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := exec.LookPath(name); err == nil {
			continue
		}
		if os.Getenv("CI") != "" {
			t.Fatalf("%s is not installed", name)
		}
		t.Skipf("%s is not installed", name)
	}
}

// Run starts name, which Need has asked for, and returns its output. Any exit status but 0 fails the test.
func Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := Try(t, name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

// Try is Run for a verdict that may be bad: the exit status comes back as err.
func Try(t testing.TB, name string, args ...string) (out string, err error) {
	t.Helper()
	Need(t, name)
	cmd := exec.CommandContext(t.Context(), name, args...)
	// virt-v2v reaches for a libvirt daemon unless told not to; messages and times
	// are compared, so one language and one zone.
	cmd.Env = append(os.Environ(), "LIBGUESTFS_BACKEND=direct", "LC_ALL=C.UTF-8", "TZ=UTC")
	b, err := cmd.CombinedOutput()
	return string(b), err
}
