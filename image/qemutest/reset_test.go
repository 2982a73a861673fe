package qemutest_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/image/layout"
	"github.com/parley-meet/parley/image/qemutest"
	"github.com/parley-meet/parley/internal/judge"
)

// onPerm carries out a command of debugfs on the /perm of a disk that no machine
// uses.
func onPerm(t *testing.T, disk, command string) string {
	t.Helper()
	at := partition(t, layout.Perm).Start.Bytes()
	return judge.Run(t, "debugfs", "-w", "-R", command, fmt.Sprintf("%s?offset=%d", disk, at))
}

// putOnPerm puts files on it. The names are relative to /perm.
func putOnPerm(t *testing.T, disk string, files map[string][]byte) {
	t.Helper()
	made := map[string]bool{".": true}
	for name, content := range files {
		from := filepath.Join(t.TempDir(), "content")
		if err := os.WriteFile(from, content, 0o600); err != nil {
			t.Fatal(err)
		}
		for i, c := range name {
			if c == '/' && !made[name[:i]] {
				made[name[:i]] = true
				onPerm(t, disk, "mkdir "+name[:i])
			}
		}
		if out := onPerm(t, disk, "write "+from+" "+name); !strings.Contains(out, "Allocated inode") {
			t.Fatalf("debugfs: %s", out)
		}
	}
}

// contains looks for a text anywhere on the partition of /perm, in files or not.
func contains(t *testing.T, disk, text string) bool {
	t.Helper()
	f, err := os.Open(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := partition(t, layout.Perm)
	buf := make([]byte, 4*layout.MiB)
	for at := int64(0); at < p.Bytes(); at += int64(len(buf)) - 4096 {
		n, err := f.ReadAt(buf[:min(int64(len(buf)), p.Bytes()-at)], p.Start.Bytes()+at)
		if err != nil && err != io.EOF {
			t.Fatal(err)
		}
		if bytes.Contains(buf[:n], []byte(text)) {
			return true
		}
	}
	return false
}

// A factory reset whose power is cut goes on at the next boot, and leaves an
// appliance as it was when it was new.
func TestFactoryReset(t *testing.T) {
	const secret = "a secret of the appliance's first owner"
	disk := copyDisk(t)
	files := map[string][]byte{
		"reset.json":                     []byte(`{"version":1,"asked":"2026-03-01T12:00:00Z"}`),
		"parley/appliance.json":          []byte(`{"version":1,"role":"router"}`),
		"parley/machine.json":            []byte(`{"version":1,"uuid":"11111111-2222-3333-4444-555555555551"}`),
		"parley/console/admin.json":      []byte(secret),
		"parley/console/deep/er/key.pem": []byte(secret),
		"stray":                          []byte(secret),
	}
	for i := range 4 {
		files[fmt.Sprintf("parley/mmr/%d", i)] = bytes.Repeat([]byte(secret), 12<<20/len(secret))
	}
	putOnPerm(t, disk, files)
	if !contains(t, disk, secret) {
		t.Fatal("the secret is not on the disk")
	}
	cut := boot(t, qemutest.Options{Disk: disk})
	cut.expect("factory reset: wiping /perm, do not switch off", bootTime)
	time.Sleep(300 * time.Millisecond) // anywhere in the wipe will do
	cut.Kill()
	if out := onPerm(t, disk, "stat reset.json"); !strings.Contains(out, "Type: regular") {
		t.Fatalf("the wipe was over when the power was cut: %s", out)
	}

	v := boot(t, qemutest.Options{Disk: disk, Extra: []string{"-uuid", "11111111-2222-3333-4444-555555555552"}})
	m := v.expect(`factory reset: wiped (\d+) files .* the appliance is as new`, bootTime)
	t.Log(m[0])
	v.up() // with a generated password
	v.login()
	v.want("role", `(?i)controller`)
	v.want("services", `(?s)network.*console-serial.*console-web.*zctrl.*running.*mmr.*running`)
	v.wantLog("logs init -n 300", `factory reset: wiped \d+ files`)
	v.off()
	judge.Run(t, "e2fsck", "-fn", extract(t, disk, layout.Perm))
	if contains(t, disk, secret) {
		t.Error("the secret is still on the disk")
	}
	for _, name := range []string{"reset.json", "stray", "parley/appliance.json", "parley/console/admin.json"} {
		if out := onPerm(t, disk, "stat "+name); !strings.Contains(out, "File not found") {
			t.Errorf("%s is still there: %s", name, out)
		}
	}
}
