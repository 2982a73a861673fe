package gpt

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/image/disk"
	disktable "github.com/parley-meet/parley/image/disk/gpt"
	"github.com/parley-meet/parley/image/layout"
)

// sparse is a disk in memory that can lose power: it takes a number of writes,
// and of the next one only what tear lets through.
type sparse struct {
	size    int64
	sectors map[layout.LBA][layout.SectorSize]byte
	left    int // writes until the cut; negative: no cut
	tear    func(sector, of int) bool
	read    error
	writes  int
}

var errCut = errors.New("power cut")

func (d *sparse) Sectors() int64 { return d.size }

func (d *sparse) ReadSectors(at layout.LBA, p []byte) error {
	if d.read != nil {
		return d.read
	}
	if at < 0 || int64(at)+int64(len(p))/layout.SectorSize > d.size {
		return fmt.Errorf("read at sector %d of %d", at, d.size)
	}
	for i := 0; i < len(p); i += int(layout.SectorSize) {
		s := d.sectors[at+layout.LBA(i)/layout.LBA(layout.SectorSize)]
		copy(p[i:], s[:])
	}
	return nil
}

func (d *sparse) WriteSectors(at layout.LBA, p []byte) error {
	n := len(p) / int(layout.SectorSize)
	if len(p)%int(layout.SectorSize) != 0 || at < 0 || int64(at)+int64(n) > d.size {
		return fmt.Errorf("write of %d bytes at sector %d of %d", len(p), at, d.size)
	}
	cut := d.left == 0
	if d.left > 0 {
		d.left--
	}
	d.writes++
	for i := range n {
		// A sector is written as a whole or not at all.
		if !cut || n > 1 && d.tear(i, n) {
			d.sectors[at+layout.LBA(i)] = [layout.SectorSize]byte(p[i*int(layout.SectorSize):])
		}
	}
	if cut {
		return errCut
	}
	return nil
}

func (d *sparse) WriteAt(p []byte, off int64) (int, error) {
	// The image's writer may start anywhere.
	for i := range p {
		at := layout.LBA((off + int64(i)) / layout.SectorSize)
		s := d.sectors[at]
		s[(off+int64(i))%layout.SectorSize] = p[i]
		d.sectors[at] = s
	}
	return len(p), nil
}

func (d *sparse) copy() *sparse {
	c := *d
	c.sectors = make(map[layout.LBA][layout.SectorSize]byte, len(d.sectors))
	for k, v := range d.sectors {
		c.sectors[k] = v
	}
	return &c
}

// fresh is a disk as the builder makes it, without what is in the partitions.
func fresh(t testing.TB, size int64) *sparse {
	t.Helper()
	d := &sparse{size: size / layout.SectorSize, sectors: make(map[layout.LBA][layout.SectorSize]byte), left: -1}
	parts, err := layout.Partitions(size)
	if err != nil {
		t.Fatal(err)
	}
	mbr, err := disktable.MBR(size, bytes.Repeat([]byte{0x90}, layout.MBRCodeSize), layout.DiskSignature)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.WriteSectors(0, mbr), disktable.Write(d, size, layout.DiskGUID, parts)); err != nil {
		t.Fatal(err)
	}
	for _, r := range reserved {
		if err := d.WriteSectors(r.Start, bytes.Repeat([]byte{0x77}, int(layout.SectorSize))); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// reserved is what Grow must leave alone before partition 1.
var reserved = []layout.Region{layout.Stage2A, layout.Stage2B, layout.BootRecordA, layout.BootRecordB, layout.CmdlineA, layout.CmdlineB, layout.IdentityA, layout.IdentityB}

// grown checks that the disk is as the builder would have made it with the size.
func grown(t testing.TB, d *sparse) {
	t.Helper()
	want := fresh(t, d.size*layout.SectorSize)
	for at := range layout.LBA(4096) {
		if d.sectors[at] != want.sectors[at] {
			t.Fatalf("sector %d is not that of a fresh disk", at)
		}
	}
	for at := layout.LBA(d.size - layout.GPTSectors); at < layout.LBA(d.size); at++ {
		if d.sectors[at] != want.sectors[at] {
			t.Fatalf("sector %d from the end is not that of a fresh disk", layout.LBA(d.size)-at)
		}
	}
}

func TestRead(t *testing.T) {
	for _, size := range []int64{layout.MinDiskSize, 2 * layout.GiB, 3000 * layout.GiB} {
		d := fresh(t, size)
		table, err := Read(d)
		if err != nil {
			t.Fatal(err)
		}
		parts, err := layout.Partitions(size)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range parts {
			got, ok := table.Partition(want.Number)
			if !ok || got != (Partition{want.Number, want.GUID, want.Region}) {
				t.Errorf("partition %d is %+v, want %+v", want.Number, got, want)
			}
		}
		for _, n := range []int{-1, 0, 6, 128, 129} {
			if p, ok := table.Partition(n); ok {
				t.Errorf("partition %d is %+v", n, p)
			}
		}
	}
}

// Each flipped bit of header and entries is found.
func TestReadRefuses(t *testing.T) {
	d := fresh(t, layout.MinDiskSize)
	flip := func(at layout.LBA, byte int) *sparse {
		c := d.copy()
		s := c.sectors[at]
		s[byte] ^= 1
		c.sectors[at] = s
		return c
	}
	for i := range headerSize {
		if _, err := Read(flip(1, i)); !errors.Is(err, ErrTable) {
			t.Errorf("header byte %d: %v", i, err)
		}
	}
	for _, at := range []layout.LBA{2, 17, 33} {
		if _, err := Read(flip(at, 100)); !errors.Is(err, ErrTable) {
			t.Errorf("sector %d: %v", at, err)
		}
	}
	if _, err := Read(&sparse{size: 100, left: -1}); !errors.Is(err, ErrTable) {
		t.Errorf("an empty disk: %v", err)
	}
	fault := errors.New("fault")
	if _, err := Read(&sparse{read: fault}); !errors.Is(err, fault) || errors.Is(err, ErrTable) {
		t.Errorf("a disk that cannot be read: %v", err)
	}
}

func TestGrow(t *testing.T) {
	const small = 2 * layout.GiB
	for name, size := range map[string]int64{
		"as it was": small, "1 MiB": small + layout.MiB, "twice": 2 * small, "past what an MBR counts": 3000 * layout.GiB,
	} {
		t.Run(name, func(t *testing.T) {
			d := fresh(t, small)
			d.size = size / layout.SectorSize
			d.writes = 0
			p, changed, err := Grow(d, layout.Perm)
			if err != nil || changed != (size != small) || (d.writes > 0) != changed {
				t.Fatalf("changed %v, %d writes, %v", changed, d.writes, err)
			}
			parts, err := layout.Partitions(size)
			if err != nil {
				t.Fatal(err)
			}
			if p.Region != parts[layout.Perm-1].Region {
				t.Errorf("%+v, want %+v", p, parts[layout.Perm-1].Region)
			}
			grown(t, d)
			d.writes = 0
			if p2, changed, err := Grow(d, layout.Perm); changed || err != nil || p2 != p || d.writes != 0 {
				t.Errorf("a second time: %+v, changed %v, %d writes, %v", p2, changed, d.writes, err)
			}
		})
	}
	// Sizes that are no whole number of MiB: the partition still ends at one.
	d := fresh(t, small)
	d.size += 12345
	if p, changed, err := Grow(d, layout.Perm); err != nil || !changed || p.End().Bytes()%layout.Alignment != 0 || int64(p.End()) > d.size-layout.GPTSectors {
		t.Errorf("%+v, %v", p, err)
	}
	d = fresh(t, small)
	d.size++
	if p, changed, err := Grow(d, layout.Perm); err != nil || !changed || p.End().Bytes()%layout.Alignment != 0 {
		t.Errorf("a sector more: %+v, %v, %v", p, changed, err)
	}
}

func TestGrowRefuses(t *testing.T) {
	const size = 2 * layout.GiB
	d := fresh(t, size)
	d.size -= 2048
	d.left = 0
	if _, changed, err := Grow(d, layout.Perm); err == nil || changed || !strings.Contains(err.Error(), "made for 4194304") {
		t.Errorf("a disk that became shorter: %v", err)
	}
	d = fresh(t, size)
	d.size *= 2
	d.left = 0 // each write would be an error
	for number, want := range map[int]string{layout.RootA: "partition 3 lies behind partition 2", 7: "partition 7", 0: "partition 0", 200: "partition 200"} {
		if _, changed, err := Grow(d, number); err == nil || changed || errors.Is(err, errCut) || !strings.Contains(err.Error(), want) {
			t.Errorf("partition %d: %v", number, err)
		}
	}
}

// At whatever write the power is cut, and however the sectors of that write are
// torn: the primary table is whole, the next Grow ends as if nothing had been,
// also when the disk was enlarged once more in between.
func TestGrowPowerCut(t *testing.T) {
	const small = 2 * layout.GiB
	rnd := rand.New(rand.NewPCG(7, 7))
	tears := map[string]func(int, int) bool{
		"none of it": func(int, int) bool { return false },
		"the first":  func(i, n int) bool { return i < n/2 },
		"the last":   func(i, n int) bool { return i >= n/2 },
		"any":        func(int, int) bool { return rnd.IntN(2) == 0 },
		"all of it":  func(int, int) bool { return true },
	}
	cuts := 0
	for name, tear := range tears {
		for _, again := range []int64{0, 5 * layout.GiB} {
			for left := 0; ; left++ {
				d := fresh(t, small)
				before, err := Read(d)
				if err != nil {
					t.Fatal(err)
				}
				d.size *= 2
				d.left, d.tear = left, tear
				if _, _, err = Grow(d, layout.Perm); err == nil {
					break
				}
				if !errors.Is(err, errCut) {
					t.Fatal(err)
				}
				cuts++
				table, err := Read(d)
				if err != nil {
					t.Fatalf("%s of write %d: the disk does not boot: %v", name, left, err)
				}
				for n := 1; n < layout.Perm; n++ {
					was, _ := before.Partition(n)
					if is, ok := table.Partition(n); !ok || is != was {
						t.Fatalf("%s of write %d: partition %d was %+v, is %+v", name, left, n, was, is)
					}
				}
				// A second cut, at each place, and then to the end.
				d.left = -1
				if again != 0 {
					d.size = again / layout.SectorSize
				}
				for second := 0; ; second++ {
					c := d.copy()
					c.left = second
					if _, _, err := Grow(c, layout.Perm); err == nil {
						break
					}
					if _, err := Read(c); err != nil {
						t.Fatalf("%s of write %d and then of %d: the disk does not boot: %v", name, left, second, err)
					}
					c.left = -1
					if _, _, err := Grow(c, layout.Perm); err != nil {
						t.Fatal(err)
					}
					grown(t, c)
				}
				if _, _, err := Grow(d, layout.Perm); err != nil {
					t.Fatal(err)
				}
				grown(t, d)
			}
		}
	}
	if cuts < 50 {
		t.Errorf("%d cuts", cuts)
	}
}

// file is an image file as Disk.
type file struct{ *os.File }

func (f file) Sectors() int64 {
	fi, err := f.Stat()
	if err != nil {
		panic(err)
	}
	return fi.Size() / layout.SectorSize
}
func (f file) ReadSectors(at layout.LBA, p []byte) error {
	_, err := f.ReadAt(p, at.Bytes())
	return err
}
func (f file) WriteSectors(at layout.LBA, p []byte) error {
	_, err := f.WriteAt(p, at.Bytes())
	return err
}

// The builder's whole disk, grown, before somebody else's judge.
func TestSgdisk(t *testing.T) {
	tool, err := exec.LookPath("sgdisk")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	name := filepath.Join(t.TempDir(), "disk")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size := layout.MinDiskSize
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	content := bytes.Repeat([]byte{1}, 4096)
	if _, err := disk.Write(context.Background(), f, disk.Spec{
		Size: size, SourceDate: time.Unix(1_780_000_000, 0), Version: "1", MBRCode: []byte{0x90},
		Kernel: io.NewSectionReader(bytes.NewReader(content), 0, 4096), Root: io.NewSectionReader(bytes.NewReader(content), 0, 4096),
		Cmdline: func(layout.Slot) string { return "quiet" },
	}, nil); err != nil {
		t.Fatal(err)
	}
	verify := func() {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), tool, "-v", name).CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("No problems found")) {
			t.Errorf("%d MiB: %v\n%s", size>>20, err, out)
		}
	}
	verify()
	for _, more := range []int64{layout.MiB, layout.GiB, 5*layout.GiB + 512, 3000 * layout.GiB} {
		size += more
		if err := f.Truncate(size); err != nil {
			t.Fatal(err)
		}
		if _, changed, err := Grow(file{f}, layout.Perm); !changed || err != nil {
			t.Fatalf("%d MiB: %v, %v", size>>20, changed, err)
		}
		verify()
	}
}

// Whatever stands in the table's sectors, with or without right checksums: no
// panic, no partition outside of what numbers can say, and a Grow that is
// refused writes nothing.
func FuzzTable(f *testing.F) {
	d := fresh(f, layout.MinDiskSize)
	h, e := make([]byte, layout.SectorSize), make([]byte, 2*layout.SectorSize)
	if err := errors.Join(d.ReadSectors(1, h), d.ReadSectors(2, e)); err != nil {
		f.Fatal(err)
	}
	h, e = h[:headerSize], e[:5*entrySize]
	f.Add(h, e, true, int64(1<<22))
	f.Add(h, e, false, int64(1))
	f.Add(h, []byte{}, true, d.size)
	huge := bytes.Clone(e)
	binary.LittleEndian.PutUint64(huge[4*entrySize+40:], 1<<63)
	f.Add(h, huge, true, int64(1<<40))
	f.Fuzz(func(t *testing.T, header, entries []byte, sums bool, size int64) {
		if size < 40 || size > 1<<50 {
			return
		}
		d := &sparse{size: size, sectors: make(map[layout.LBA][layout.SectorSize]byte), left: -1}
		var table [tableSize]byte
		copy(table[:], entries)
		var sector [layout.SectorSize]byte
		copy(sector[:], header)
		if sums {
			tab := Table{header: sector, entries: table}
			copy(sector[:], tab.headerAt(tab.headerLBA(24), tab.headerLBA(32), tab.table(), layout.LBA(size)))
		}
		d.sectors[1] = sector
		for i := range tableSectors {
			d.sectors[2+layout.LBA(i)] = [layout.SectorSize]byte(table[i*layout.SectorSize:])
		}
		d.writes = 0
		tab, err := Read(d)
		if err == nil {
			for n := range 130 {
				if p, ok := tab.Partition(n); ok && (p.Start < 0 || p.Sectors < 1 || p.End() < p.Start || p.Bytes() < 0) {
					t.Fatalf("%+v", p)
				}
			}
		}
		_, changed, err := Grow(d, layout.Perm)
		if err != nil && !changed && d.writes > 0 {
			t.Fatalf("refused after %d writes: %v", d.writes, err)
		}
	})
}

func (t *Table) headerLBA(at int) layout.LBA { return layout.LBA(le.Uint64(t.header[at:])) }
