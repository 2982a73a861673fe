package ext4

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	backend "github.com/diskfs/go-diskfs/backend/file"
	foreign "github.com/diskfs/go-diskfs/filesystem/ext4"

	"github.com/parley-meet/parley/internal/judge"
)

func create(t testing.TB, size int64) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "image"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	return f
}

func wantClean(t testing.TB, name string) {
	t.Helper()
	out := judge.Run(t, "e2fsck", "-fn", name)
	if lines := strings.Count(out, "\n"); lines != 7 || !strings.Contains(out, "perm: 11/") { // version, five passes, summary
		t.Errorf("e2fsck:\n%s", out)
	}
}

// From one group to many, full and short last groups, and tails that are too
// short for a group.
func TestE2fsck(t *testing.T) {
	for _, size := range []int64{
		MinSize, 64 * mib, 127*mib + 8191, 128 * mib, 128*mib + 4096, 129 * mib, 131 * mib, 132 * mib, 255 * mib, 256*mib + 3*mib,
		410 * mib, 1023 * mib, gib, 1400 * mib, 8 * gib, 8*gib + 200*mib, 63 * gib, 100*gib + 1*mib,
	} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			f := create(t, size)
			if err := Format(f, params(size, true)); err != nil {
				t.Fatal(err)
			}
			wantClean(t, f.Name())
		})
	}
}

// A device that was in use before: nothing of it may show.
func TestE2fsckNotZeroed(t *testing.T) {
	const size = 160 * mib
	f := create(t, size)
	garbage := make([]byte, size)
	rand.NewChaCha8([32]byte{}).Read(garbage)
	if _, err := f.WriteAt(garbage, 0); err != nil {
		t.Fatal(err)
	}
	for range 2 { // over garbage, then over itself
		if err := Format(f, params(size, false)); err != nil {
			t.Fatal(err)
		}
		wantClean(t, f.Name())
	}
}

func TestDumpe2fs(t *testing.T) {
	judge.Need(t, "dumpe2fs")
	f := create(t, gib)
	p := params(gib, true)
	p.Time = time.Date(2040, 5, 6, 7, 8, 9, 0, time.UTC) // beyond 31 bits
	if err := Format(f, p); err != nil {
		t.Fatal(err)
	}
	info := strings.Join(strings.Fields(judge.Run(t, "dumpe2fs", "-h", f.Name())), " ")
	for _, want := range []string{
		"volume name: perm", "UUID: 5041524c-0000-0000-0000-000000000005", "Filesystem state: clean", "Errors behavior: Remount read-only",
		"Block count: 262144", "Block size: 4096", "Inode size: 256", "created: Sun May 6 07:08:09 2040", "Last write time: Sun May 6 07:08:09 2040",
		"Last checked: Sun May 6 07:08:09 2040", "Mount count: 0", "Maximum mount count: -1", "Check interval: 0", "Reserved GDT blocks: 255",
		"Total journal size: 32M", "Checksum type: crc32c",
		"has_journal ext_attr resize_inode dir_index filetype extent 64bit sparse_super large_file huge_file dir_nlink extra_isize metadata_csum",
	} {
		if !strings.Contains(info, want) {
			t.Errorf("no %q:\n%s", want, info)
		}
	}
}

// When superblock and descriptors are lost, each copy brings them back.
func TestBackupSuperblock(t *testing.T) {
	judge.Need(t, "e2fsck")
	f := create(t, gib)
	if err := Format(f, params(gib, true)); err != nil {
		t.Fatal(err)
	}
	for _, group := range []int{1, 3, 5, 7} {
		if _, err := f.WriteAt(make([]byte, 2*BlockSize), 0); err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), "e2fsck", "-fy", "-b", fmt.Sprint(group*blocksPerGroup), "-B", "4096", f.Name()).CombinedOutput()
		if e := new(exec.ExitError); !errors.As(err, &e) || e.ExitCode() != 1 { // 1: it was repaired
			t.Errorf("copy in group %d: %v\n%s", group, err, out)
		}
		wantClean(t, f.Name())
	}
}

// Growing offline uses the same reserved blocks as the kernel does online.
func TestResize(t *testing.T) {
	judge.Need(t, "resize2fs")
	for _, c := range []struct{ from, to int64 }{
		{64 * mib, 80 * mib}, {64 * mib, gib}, {410 * mib, 3 * gib}, {1400 * mib, 20 * gib}, {1400 * mib, 200*gib + 5*mib},
	} {
		t.Run(fmt.Sprint(c.from, c.to), func(t *testing.T) {
			f := create(t, c.from)
			if err := Format(f, params(c.from, true)); err != nil {
				t.Fatal(err)
			}
			if err := f.Truncate(c.to); err != nil {
				t.Fatal(err)
			}
			judge.Run(t, "resize2fs", f.Name())
			wantClean(t, f.Name())
			b := make([]byte, BlockSize)
			if _, err := f.ReadAt(b, 0); err != nil {
				t.Fatal(err)
			}
			if blocks := int64(le.Uint32(b[superblockOffset+4:])); c.to-blocks*BlockSize > 8*mib {
				t.Errorf("%d blocks for %d bytes", blocks, c.to)
			}
		})
	}
}

// Another implementation reads it, and writes into it what e2fsck accepts.
func TestForeignWriter(t *testing.T) {
	f := create(t, gib)
	if err := Format(f, params(gib, true)); err != nil {
		t.Fatal(err)
	}
	volume, err := foreign.Read(backend.New(f, false), gib, 0, 512)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := volume.ReadDir(".")
	if err != nil || volume.Label() != "perm" {
		t.Errorf("label %q, %v", volume.Label(), err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if got := strings.Join(names, " "); !strings.Contains(got, "lost+found") {
		t.Errorf("root holds %q", got)
	}
	want := bytes.Repeat([]byte("parley "), 100_000)
	if err := volume.Mkdir("folder"); err != nil {
		t.Fatal(err)
	}
	w, err := volume.OpenFile("folder/file", os.O_CREATE|os.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(want); err != nil {
		t.Fatal(err)
	}
	got, err := volume.ReadFile("folder/file")
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if out := judge.Run(t, "e2fsck", "-fn", f.Name()); !strings.Contains(out, "perm: 13/") {
		t.Error(out)
	}
}
