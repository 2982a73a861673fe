package portaltest

import (
	"testing"
	"time"
)

// Wait waits until something is so.
func Wait(t testing.TB, what string, so func() bool) {
	t.Helper()
	for begin := time.Now(); !so(); time.Sleep(20 * time.Millisecond) {
		if time.Since(begin) > patience {
			t.Fatalf("still waiting for %s", what)
		}
	}
}
