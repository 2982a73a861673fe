package qemutest_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/parley-meet/parley/internal/judge"
)

// The clock is stepped and slewed, and the real-time clock written, on the
// appliance's kernel: a test's machine must not be touched so.
func TestClocksOnTheAppliancesKernel(t *testing.T) {
	program := filepath.Join(t.TempDir(), "kernel.test")
	judge.Run(t, "go", "test", "-c", "-tags", "appliance", "-o", program, "../internal/kernel")
	v := guest(t, map[string]string{"confine.test": program}, "GUEST=test", "RUN=^TestClocksOfTheAppliance$")
	if text := v.Serial.Text(); !strings.Contains(text, "--- PASS: TestClocksOfTheAppliance ") {
		t.Error("the test did not pass")
	}
}
