package disk

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/image/layout"
	"github.com/parley-meet/parley/internal/judge"
)

const gib = 1 << 30

// noise returns bytes that stand for a kernel or a root: no zeros to skip.
func noise(seed uint64, n int64) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed)})
	r.Read(b)
	return b
}

func spec(size int64) Spec {
	return Spec{
		Size: size, SourceDate: time.Date(2026, 7, 1, 12, 30, 15, 0, time.UTC), Version: "1.2.3",
		MBRCode: bytes.Repeat([]byte{0x90}, layout.MBRCodeSize), EFILoader: noise(3, 150_001),
		Kernel: section(noise(1, 3<<20+5)), Root: section(noise(2, 2<<20+4096)),
		Cmdline: func(s layout.Slot) string { return "console=ttyS0 root=" + s.RootParameter() },
	}
}

// write makes a sparse image file.
func write(t testing.TB, s Spec) (name string, info Info) {
	t.Helper()
	name = filepath.Join(t.TempDir(), "disk")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(s.Size); err != nil {
		t.Fatal(err)
	}
	info, err = Write(context.Background(), f, s, nil)
	if err != nil {
		t.Fatal(err)
	}
	return name, info
}

// partition copies a partition into a file of its own, keeping holes.
func partition(t testing.TB, name string, p layout.Partition) string {
	t.Helper()
	src, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	out := filepath.Join(t.TempDir(), p.Name)
	dst, err := os.Create(out)
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	if err := dst.Truncate(p.Bytes()); err != nil {
		t.Fatal(err)
	}
	c := &copier{ctx: t.Context(), w: dst}
	if err := c.place(io.NewSectionReader(src, p.Start.Bytes(), p.Bytes()), 0); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestJudges(t *testing.T) {
	judge.Need(t, "sgdisk", "fsck.fat", "e2fsck")
	for _, size := range []int64{layout.MinDiskSize, gib, 2 * gib} {
		t.Run(fmt.Sprint(size>>20), func(t *testing.T) {
			name, _ := write(t, spec(size))
			if out := judge.Run(t, "sgdisk", "-v", name); !strings.Contains(out, "No problems found") {
				t.Error(out)
			}
			parts, err := layout.Partitions(size)
			if err != nil {
				t.Fatal(err)
			}
			t.Log(judge.Run(t, "fsck.fat", "-n", "-v", partition(t, name, parts[layout.ESP-1])))
			judge.Run(t, "e2fsck", "-fn", partition(t, name, parts[layout.Perm-1]))
			t.Log(judge.Run(t, "sgdisk", "-v", "-p", name))
		})
	}
}
