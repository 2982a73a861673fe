package console

import (
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// What is put by takes space, is there once, and comes again.
func TestReserve(t *testing.T) {
	r := &reserve{path: filepath.Join(t.TempDir(), "reserve"), log: slog.New(slog.DiscardHandler)}
	if r.Free() {
		t.Error("something is freed that was never there")
	}
	for range 2 {
		r.fill()
		info, err := os.Stat(r.path)
		if err != nil || info.Size() != reserveSize || info.Sys().(*syscall.Stat_t).Blocks*512 < reserveSize {
			t.Fatalf("%+v, %v", info, err)
		}
		r.fill()
		if again, err := os.Stat(r.path); err != nil || !os.SameFile(info, again) {
			t.Error("it is written at every start")
		}
		if !r.Free() || r.Free() {
			t.Error("it is not freed once")
		}
	}
}
