package guard

import (
	"log/slog"
	"strings"
	"testing"
)

// What was left out is counted in the next line.
func TestStrangers(t *testing.T) {
	var log strings.Builder
	s := NewStrangers(slog.New(slog.NewTextHandler(&log, nil)))
	for range StrangerBurst + 7 {
		s.Line(slog.LevelWarn, "again")
	}
	if n := strings.Count(log.String(), "\n"); n != StrangerBurst || s.left != 7 {
		t.Errorf("%d lines, %d left out", n, s.left)
	}
	s.bucket.Return()
	s.Line(slog.LevelWarn, "next")
	if !strings.Contains(log.String(), "msg=next left-out-before=7") {
		t.Error("what was left out is not counted")
	}
}
