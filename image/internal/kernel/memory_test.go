package kernel

import (
	"os"
	"path/filepath"
	"testing"
)

func TestPrivate(t *testing.T) {
	n, err := Private("/proc", os.Getpid())
	if err != nil || n < 1<<20 || n > 1<<30 {
		t.Errorf("this process: %d bytes, %v", n, err)
	}
	dir := t.TempDir()
	if _, err := Private(dir, 1); err == nil {
		t.Error("a process that is gone has memory")
	}
	if err := os.Mkdir(filepath.Join(dir, "7"), 0o755); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]int64{
		"900 3 1 1 0 5 0\n": 2 * int64(os.Getpagesize()), "900 1 3 1 0 5 0\n": 0,
		"": -1, "900": -1, "900 3": -1, "900 x 1": -1, "900 3 x": -1,
	} {
		if err := os.WriteFile(filepath.Join(dir, "7", "statm"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		n, err := Private(dir, 7)
		if want < 0 && err == nil || want >= 0 && (err != nil || n != want) {
			t.Errorf("%q: %d, %v", text, n, err)
		}
	}
}
