package perm

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	disktable "github.com/parley-meet/parley/image/disk/gpt"
	"github.com/parley-meet/parley/image/internal/gpt"
	"github.com/parley-meet/parley/image/layout"
)

func TestPartitionPath(t *testing.T) {
	for disk, want := range map[string]string{
		"/dev/sda": "/dev/sda5", "/dev/vdb": "/dev/vdb5", "/dev/nvme0n1": "/dev/nvme0n1p5", "/dev/mmcblk0": "/dev/mmcblk0p5", "/dev/xvda": "/dev/xvda5",
	} {
		if got := PartitionPath(disk, layout.Perm); got != want {
			t.Errorf("%s: %s, want %s", disk, got, want)
		}
	}
}

// The disk is found over the root's device number, not by a GUID that a copy of
// the disk has too.
func TestFindDisk(t *testing.T) {
	sys := t.TempDir()
	for _, dir := range []string{"dev/block", "devices/pci/ata1/block/sda/sda2", "devices/pci/nvme/nvme0n1/nvme0n1p3", "devices/virtual/block/loop0"} {
		if err := os.MkdirAll(filepath.Join(sys, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{
		"8:2": "devices/pci/ata1/block/sda/sda2", "259:3": "devices/pci/nvme/nvme0n1/nvme0n1p3", "7:0": "devices/virtual/block/loop0", "9:9": "devices/gone",
	} {
		err := os.Symlink("../../"+to, filepath.Join(sys, "dev/block", link))
		if strings.Contains(to, "pci") {
			err = errors.Join(err, os.WriteFile(filepath.Join(sys, to, "partition"), []byte("2\n"), 0o644))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, x := range []struct {
		major, minor uint32
		want         string
	}{{8, 2, "/dev/sda"}, {259, 3, "/dev/nvme0n1"}, {7, 0, ""}, {9, 9, ""}, {0, 20, ""}} {
		got, err := FindDisk(sys, "/dev", x.major, x.minor)
		if got != x.want || (err == nil) != (x.want != "") || err != nil && !errors.Is(err, ErrNoDisk) {
			t.Errorf("%d:%d: %q, %v; want %q", x.major, x.minor, got, err, x.want)
		}
	}
	if _, _, err := RootDevice(); err != nil {
		t.Error(err)
	}
}

// image makes a disk's file with its tables.
func image(t *testing.T, size int64) (name string, perm layout.Partition) {
	t.Helper()
	name = filepath.Join(t.TempDir(), "sda")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	parts, err := layout.Partitions(size)
	if err != nil {
		t.Fatal(err)
	}
	mbr, err := disktable.MBR(size, nil, 1)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(mbr, 0)
	if err := errors.Join(err, f.Truncate(size), disktable.Write(f, size, layout.DiskGUID, parts)); err != nil {
		t.Fatal(err)
	}
	return name, parts[layout.Perm-1]
}

// Past the page cache, with every length and any buffer.
func TestDisk(t *testing.T) {
	name, _ := image(t, layout.MinDiskSize)
	d, err := OpenDisk(name)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if d.Sectors() != layout.MinDiskSize/layout.SectorSize {
		t.Errorf("%d sectors", d.Sectors())
	}
	for _, n := range []int{1, 3, 32, 4097} {
		want := bytes.Repeat([]byte{byte(n)}, n*int(layout.SectorSize)+1)[1:] // not aligned
		if err := d.WriteSectors(10_000, want); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(want)+1)[1:]
		if err := d.ReadSectors(10_000, got); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d sectors: %v", n, err)
		}
	}
	if err := d.ReadSectors(layout.LBA(d.Sectors()), make([]byte, 512)); err == nil {
		t.Error("read behind the end")
	}
	if err := d.WriteSectors(1, make([]byte, 100)); err == nil {
		t.Error("wrote a part of a sector")
	}
	if _, err := OpenDisk(name + "x"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func TestGrowPartition(t *testing.T) {
	name, before := image(t, layout.MinDiskSize)
	sys := t.TempDir()
	folder := filepath.Join(sys, "class/block/sda5")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	believes := func(sectors int64) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(folder, "size"), fmt.Appendf(nil, "%d\n", sectors), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	believes(before.Sectors)
	if changed, err := GrowPartition(name, sys); changed || err != nil {
		t.Errorf("a disk that is as it was: %v, %v", changed, err)
	}
	if err := os.Truncate(name, 2*layout.GiB); err != nil {
		t.Fatal(err)
	}
	// The kernel must be told, which is refused for a file.
	for range 2 { // also when the table was changed in an earlier boot
		if _, err := GrowPartition(name, sys); !errors.Is(err, unix.ENOTTY) || !strings.Contains(err.Error(), "resize partition 5") {
			t.Errorf("the kernel is not told: %v", err)
		}
	}
	d, err := OpenDisk(name)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	table, err := gpt.Read(d)
	if err != nil {
		t.Fatal(err)
	}
	after, _ := table.Partition(layout.Perm)
	if after.Start != before.Start || after.Bytes() < 2*layout.GiB-before.Start.Bytes()-2*layout.MiB {
		t.Errorf("%+v, was %+v", after, before)
	}
	believes(after.Sectors)
	if changed, err := GrowPartition(name, sys); changed || err != nil {
		t.Errorf("all is done: %v, %v", changed, err)
	}
	if err := os.WriteFile(filepath.Join(folder, "size"), []byte("many\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := GrowPartition(name, sys); err == nil || !strings.Contains(err.Error(), `size "many\n"`) {
		t.Error(err)
	}
	if err := os.Truncate(name, layout.MinDiskSize); err != nil {
		t.Fatal(err)
	}
	if _, err := GrowPartition(name, sys); err == nil || !strings.Contains(err.Error(), "made for") {
		t.Errorf("a disk that became shorter: %v", err)
	}
	if _, err := GrowPartition(name+"x", sys); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
