package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/internal/judge"
)

// A portal that was killed leaves no lock; one that runs keeps a second off.
func TestKilledUnlocks(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program = linkName(t, program)
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	if err := os.WriteFile(key, []byte(strings.Repeat("ab", 32)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	database := "sqlite:" + filepath.Join(dir, "p.db")
	start := func() *instance {
		t.Helper()
		addr := freePort(t)
		i := launch(t, program, dir, key, database, addr, "https://"+addr)
		for begin := time.Now(); newUser(t, addr).call("GET", "/readyz", nil, nil) != nil; time.Sleep(50 * time.Millisecond) {
			if time.Since(begin) > time.Minute {
				t.Fatalf("the instance on %s does not answer", addr)
			}
		}
		return i
	}
	one := start()
	out, err := judge.Try(t, program, "-dir", dir, "-key-file", key, "-database", database, "-listen", "127.0.0.1:0", "-metrics-listen", "")
	if err == nil || !strings.Contains(out, "another portal runs on it") {
		t.Errorf("%v: %s", err, out)
	}
	if err := one.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = one.cmd.Wait()
	start()
}
