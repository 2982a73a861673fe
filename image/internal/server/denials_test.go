package server

import (
	"testing"
	"time"
)

// Lines of one user are few and count what was left out; another's are written.
func TestDenials(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	var d denials
	written := 0
	for range 1000 {
		if left, write := d.count(103, now); write {
			written++
			if left != 0 {
				t.Errorf("%d were left out before", left)
			}
		}
	}
	if written != deniedLines {
		t.Errorf("%d lines, want %d", written, deniedLines)
	}
	if _, write := d.count(104, now); !write {
		t.Error("another user's line is left out")
	}
	if left, write := d.count(103, now.Add(deniedEvery)); !write || left != 1000-deniedLines {
		t.Errorf("a minute later: %v, %d left out", write, left)
	}
	if left, write := d.count(103, now.Add(-time.Hour)); !write || left != 0 {
		t.Errorf("after the clock was set back: %v, %d left out", write, left)
	}
}
