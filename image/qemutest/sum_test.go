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
)

// The kernel itself mounts the root and the EFI system partition and reads every
// file: a second root, in slot B, holds one program that does so and prints what
// it found.
func TestKernelReadsEveryFile(t *testing.T) {
	need(t, "go")
	disk := copyDisk(t)
	bin := filepath.Join(t.TempDir(), "sum")
	run(t, "go", "build", "-o", bin, "./sum")
	entries := []squashfs.Entry{
		{Path: "dev", Mode: fs.ModeDir | 0o755}, {Path: "mnt", Mode: fs.ModeDir | 0o755},
		{Path: "sum", Mode: 0o755, Open: func() (io.ReadCloser, error) { return os.Open(bin) }},
	}
	st, err := os.Stat(bin)
	if err != nil {
		t.Fatal(err)
	}
	entries[2].Size = st.Size()
	f, err := os.OpenFile(disk, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := squashfs.Write(t.Context(), &offsetFile{f, partition(t, layout.RootB).Start.Bytes()}, entries, squashfs.Options{
		ModTime: built.version.Time, MaxSize: layout.RootSize,
	}); err != nil {
		t.Fatal(err)
	}
	withArguments(t, disk, "root="+layout.SlotB.RootParameter(), "init=/sum")
	v := boot(t, qemutest.Options{Disk: disk})
	v.expect("sum: end", bootTime)
	if err := v.WaitExit(stepTime); err != nil {
		t.Fatal(err)
	}
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

// offsetFile is a part of a file.
type offsetFile struct {
	f  *os.File
	at int64
}

func (o *offsetFile) WriteAt(p []byte, off int64) (int, error) { return o.f.WriteAt(p, o.at+off) }
