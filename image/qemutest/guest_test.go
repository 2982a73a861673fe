package qemutest_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parley-meet/parley/image/layout"
	"github.com/parley-meet/parley/image/qemutest"
	"github.com/parley-meet/parley/image/squashfs"
	"github.com/parley-meet/parley/internal/judge"
)

// guest boots the appliance's kernel from the real disk into another root, which
// stands in slot B and holds the program guest and the files given.
func guest(t *testing.T, files map[string]string, args ...string) *vm {
	t.Helper()
	judge.Need(t, "go")
	disk := copyDisk(t)
	init := filepath.Join(t.TempDir(), "guest")
	judge.Run(t, "go", "build", "-o", init, "./guest")
	entries := []squashfs.Entry{program(t, "guest", init)}
	for _, dir := range []string{"dev", "proc", "tmp", "mnt", "stage", "programs"} {
		entries = append(entries, squashfs.Entry{Path: dir, Mode: fs.ModeDir | 0o755})
	}
	for path, from := range files {
		entries = append(entries, program(t, path, from))
	}
	f, err := os.OpenFile(disk, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := squashfs.Write(t.Context(), io.NewOffsetWriter(f, partition(t, layout.RootB).Start.Bytes()), entries, squashfs.Options{
		ModTime: built.version.Time, MaxSize: layout.RootSize,
	}); err != nil {
		t.Fatal(err)
	}
	withArguments(t, disk, append(args, "root="+layout.SlotB.RootParameter(), "init=/guest")...)
	v := boot(t, qemutest.Options{Disk: disk})
	v.expect("guest: end", bootTime)
	if err := v.WaitExit(stepTime); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(v.Serial.Text(), "guest: error") {
		t.Error("the guest could not do what it was told")
	}
	return v
}

func program(t *testing.T, path, from string) squashfs.Entry {
	t.Helper()
	st, err := os.Stat(from)
	if err != nil {
		t.Fatal(err)
	}
	return squashfs.Entry{Path: path, Mode: 0o755, Size: st.Size(), Open: func() (io.ReadCloser, error) { return os.Open(from) }}
}

// What confines the services does so on the appliance's kernel, whose Landlock
// may be newer than that of the machine where the tests run.
func TestConfinementOnTheAppliancesKernel(t *testing.T) {
	dir := t.TempDir()
	const confine = "../internal/confine"
	files := map[string]string{}
	for path, pkg := range map[string]string{"programs/probe": confine + "/testdata/probe", "programs/init": "../init"} {
		files[path] = filepath.Join(dir, filepath.Base(path))
		judge.Run(t, "go", "build", "-o", files[path], pkg)
	}
	// Something that is there and must not be read.
	files["etc/passwd"] = filepath.Join(dir, "passwd")
	if err := os.WriteFile(files["etc/passwd"], []byte("root:x:0:0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	files["confine.test"] = filepath.Join(dir, "confine.test")
	judge.Run(t, "go", "test", "-c", "-o", files["confine.test"], confine)
	v := guest(t, files, "GUEST=test", "RUN=^TestLandlock|^TestCredentials$|^TestSurroundings$|^TestNoProcesses$|^TestNoSharedMemory$")
	text := strings.ReplaceAll(v.Serial.Text(), "\r", "")
	for _, name := range []string{"Credentials", "Surroundings", "NoProcesses", "NoSharedMemory", "LandlockPorts", "LandlockScopes", "LandlockSockets", "LandlockOtherSockets"} {
		if !strings.Contains(text, "--- PASS: Test"+name+" ") {
			t.Errorf("Test%s did not pass", name)
		}
	}
}

// The kernel itself mounts the root and the EFI system partition and reads every
// file.
func TestKernelReadsEveryFile(t *testing.T) {
	v := guest(t, nil, "GUEST=sum")
	seen := map[string]string{}
	for line := range strings.Lines(strings.ReplaceAll(v.Serial.Text(), "\r", "")) {
		if f := strings.Fields(line); len(f) >= 3 && f[0] == "sum:" {
			seen[f[2]] = f[1]
		}
	}
	want := map[string]string{}
	for _, f := range built.result.Files {
		path := "root/" + f.Path
		switch {
		case f.Mode.IsDir():
			want[path] = "dir"
		case f.Mode&fs.ModeSymlink != 0:
			want[path] = "link:" + f.Target
		default:
			r, err := f.Open()
			if err != nil {
				t.Fatal(err)
			}
			h := sha256.New()
			if _, err := io.Copy(h, r); err != nil {
				t.Fatal(err)
			}
			r.Close()
			want[path] = fmt.Sprintf("%o:%s", f.Mode.Perm(), hex.EncodeToString(h.Sum(nil)))
		}
	}
	// The kernel's file in the EFI system partition has a fixed size.
	k := sha256.New()
	k.Write(built.result.Parts.Kernel.Data)
	k.Write(make([]byte, layout.KernelSize-int64(len(built.result.Parts.Kernel.Data))))
	want["esp/"+layout.SlotA.KernelPath()] = "755:" + hex.EncodeToString(k.Sum(nil))
	for path, sum := range want {
		if seen[path] != sum {
			t.Errorf("%s: the kernel reads %q, want %q", path, seen[path], sum)
		}
	}
	for path := range seen {
		if strings.HasPrefix(path, "root/") && want[path] == "" {
			if _, parent := want[path]; !parent && !isParent(path, want) {
				t.Errorf("%s is in the root and was not put there", path)
			}
		}
	}
}

// isParent reports whether path is a folder above one that was asked for.
func isParent(path string, want map[string]string) bool {
	for w := range want {
		if strings.HasPrefix(w, path+"/") {
			return true
		}
	}
	return false
}
