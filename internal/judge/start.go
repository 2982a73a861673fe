package judge

import (
	"os/exec"
	"strings"
	"testing"
)

// Start starts name, which Need has asked for, and returns what it writes. It is
// killed when the test ends; what it wrote is shown when the test fails.
func Start(t testing.TB, name string, args ...string) *Output {
	t.Helper()
	log := &Output{}
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s %s: %v", name, strings.Join(args, " "), err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("%s wrote:\n%s", name, log)
		}
	})
	return log
}
