package diskformat

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/internal/judge"
)

func TestParse(t *testing.T) {
	for list, want := range map[string][]Format{
		"": nil, "raw": {Raw}, "raw,qcow2,vhd": {Raw, QCOW2, VHD}, "vhd,raw": {VHD, Raw},
	} {
		if got, err := Parse(list); err != nil || !slices.Equal(got, want) {
			t.Errorf("Parse(%q): %q, %v", list, got, err)
		}
	}
	for _, list := range []string{"vmdk", "raw,", ",", "raw,raw", "RAW", "raw, vhd"} {
		if got, err := Parse(list); err == nil {
			t.Errorf("Parse(%q) passed: %q", list, got)
		}
	}
}

// rawDisk makes a sparse file with noise of 4 KiB at each of the offsets.
func rawDisk(t testing.TB, capacity int64, at ...int64) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk.raw"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(capacity); err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, uint64(capacity)))
	b := make([]byte, 4096)
	for _, off := range at {
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		if _, err := f.WriteAt(b, off); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func convert(t testing.TB, f Format, disk io.ReaderAt, capacity int64) (name string, size int64) {
	t.Helper()
	name = filepath.Join(t.TempDir(), "disk."+string(f))
	out, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := out.WriteString("what was here before"); err != nil {
		t.Fatal(err)
	}
	size, err = Write(t.Context(), f, out, disk, capacity, [32]byte{1, 2, 3})
	if err != nil {
		t.Fatal(err)
	}
	if st, err := out.Stat(); err != nil || st.Size() != size {
		t.Fatalf("Write says %d bytes, file has %d (%v)", size, st.Size(), err)
	}
	return name, size
}

var disks = []struct {
	name     string
	capacity int64
	at       []int64
}{
	{"one MiB", mib, []int64{0}},
	{"empty", 3 * mib, nil},
	{"odd size, full ends", 77 * mib, []int64{0, 76*mib + mib - 4096, 20 * mib, 20*mib + 64<<10}},
	{"around table borders", 1100 * mib, []int64{0, 512*mib - 4096, 512 * mib, 1024*mib - 4096, 1099 * mib}},
	{"large", 300<<30 + mib, []int64{4096, 100 << 30, 300 << 30}},
}

// TestForeignReaders compares every format with the raw disk by qemu-img, and checks what it can check.
func TestForeignReaders(t *testing.T) {
	for _, f := range formats {
		for _, d := range disks {
			t.Run(fmt.Sprintf("%s, %s", f, d.name), func(t *testing.T) {
				raw := rawDisk(t, d.capacity, d.at...)
				name, _ := convert(t, f, raw, d.capacity)
				driver := map[Format]string{Raw: "raw", QCOW2: "qcow2", VHD: "vpc"}[f]
				judge.Run(t, "qemu-img", "compare", "-f", "raw", "-F", driver, raw.Name(), name)
				info := judge.Run(t, "qemu-img", "info", "-f", driver, "--output=json", name)
				if want := fmt.Sprintf(`"virtual-size": %d`, d.capacity); !strings.Contains(info, want) {
					t.Errorf("qemu-img info lacks %s:\n%s", want, info)
				}
				if f == QCOW2 {
					out := judge.Run(t, "qemu-img", "check", "-f", driver, name)
					if !strings.Contains(out, "No errors were found") || strings.Contains(out, "leaked") {
						t.Errorf("qemu-img check:\n%s", out)
					}
				}
			})
		}
	}
}

// TestVHDArchiver reads a VHD by a second implementation.
func TestVHDArchiver(t *testing.T) {
	name, _ := convert(t, VHD, rawDisk(t, 77*mib, 0, 40*mib), 77*mib)
	if out := judge.Run(t, "7zz", "t", name); !strings.Contains(out, "Everything is Ok") || strings.Contains(out, "WARNING") {
		t.Errorf("7zz:\n%s", out)
	}
}

// TestFilledDisk: many refcount blocks and no hole.
func TestFilledDisk(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 150 MiB")
	}
	const capacity = 50 * mib
	disk := make([]byte, capacity)
	r := rand.New(rand.NewPCG(2, 2))
	for i := 0; i < capacity; i += 8 {
		binary.LittleEndian.PutUint64(disk[i:], r.Uint64())
	}
	raw := rawDisk(t, capacity)
	if _, err := raw.WriteAt(disk, 0); err != nil {
		t.Fatal(err)
	}
	for _, f := range formats {
		name, _ := convert(t, f, bytes.NewReader(disk), capacity)
		judge.Run(t, "qemu-img", "compare", raw.Name(), name)
	}
}

// TestSameBytes: no clock, no chance, and holes look like zeros.
func TestSameBytes(t *testing.T) {
	const capacity = 9 * mib
	raw := rawDisk(t, capacity, 0, 5*mib, 8*mib)
	plain, err := io.ReadAll(io.NewSectionReader(raw, 0, capacity))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range formats {
		a, _ := convert(t, f, raw, capacity)
		b, _ := convert(t, f, bytes.NewReader(plain), capacity)
		if sum(t, a) != sum(t, b) {
			t.Errorf("%s: a second file of the same disk differs", f)
		}
	}
}

func sum(t testing.TB, name string) [32]byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(b)
}

func TestRefcountsOfManyClusters(t *testing.T) {
	// More clusters than one block counts: sizes at which the blocks' own clusters need one block more.
	for _, used := range []int64{1, refcountEntries - 3, refcountEntries - 2, refcountEntries - 1, refcountEntries, 5*refcountEntries - 6, 5 * refcountEntries} {
		var m memory
		table, n, size, err := putRefcounts(&m, used*clusterSize)
		if err != nil {
			t.Fatal(err)
		}
		total := size / clusterSize
		if total != used+(table-used*clusterSize)/clusterSize+n {
			t.Errorf("%d clusters used: table at %d, %d clusters, total %d", used, table, n, total)
		}
		var ones int64
		for i := int64(0); i < table-used*clusterSize; i += 2 {
			ones += int64(m[used*clusterSize+i]) + int64(m[used*clusterSize+i+1])
		}
		if ones != total {
			t.Errorf("%d clusters used: %d are counted, want %d", used, ones, total)
		}
	}
}

// memory is a File that keeps single bytes.
type memory map[int64]byte

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	if *m == nil {
		*m = memory{}
	}
	for i, c := range p {
		if c != 0 {
			(*m)[off+int64(i)] = c
		}
	}
	return len(p), nil
}

func (m *memory) Truncate(int64) error { return nil }

func TestVHDGeometry(t *testing.T) {
	for _, c := range []struct {
		sectors int64
		c       uint16
		h, s    uint8
	}{
		{2048, 30, 4, 17}, {204800, 1003, 12, 17}, {8 << 21, 16644, 16, 63}, {127 << 21, 65278, 16, 255}, {2040 << 21, 65535, 16, 255},
	} {
		if cyl, h, s := vhdGeometry(c.sectors); cyl != c.c || h != c.h || s != c.s {
			t.Errorf("%d sectors: %d/%d/%d, want %d/%d/%d", c.sectors, cyl, h, s, c.c, c.h, c.s)
		}
	}
}

func TestWrongInput(t *testing.T) {
	for _, f := range formats {
		out, err := os.Create(filepath.Join(t.TempDir(), "out"))
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		disk := bytes.NewReader(bytes.Repeat([]byte{1}, 3*mib))
		for _, capacity := range []int64{0, -mib, mib + 512, maxCapacity + mib} {
			if _, err := Write(t.Context(), f, out, disk, capacity, [32]byte{}); err == nil {
				t.Errorf("%s: capacity %d passed", f, capacity)
			}
		}
		if _, err := Write(t.Context(), f, out, disk, 4*mib, [32]byte{}); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: short reader: %v", f, err)
		}
		if _, err := Write(t.Context(), f, out, rawDisk(t, 3*mib), 4*mib, [32]byte{}); err == nil {
			t.Errorf("%s: short file passed", f)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := Write(ctx, f, out, disk, 3*mib, [32]byte{}); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v, want canceled", f, err)
		}
	}
	if _, err := Write(t.Context(), VHD, &memory{}, rawDisk(t, mib), maxVHD+mib, [32]byte{}); err == nil {
		t.Error("a VHD above 2,040 GiB passed")
	}
	if _, err := Write(t.Context(), "vdi", &memory{}, rawDisk(t, mib), mib, [32]byte{}); err == nil {
		t.Error("an unknown format passed")
	}
}

type touching struct {
	*os.File
	t testing.TB
}

func (d touching) ReadAt(p []byte, off int64) (int, error) {
	if err := os.Chtimes(d.Name(), time.Time{}, time.Unix(1234, off)); err != nil {
		d.t.Error(err)
	}
	return d.File.ReadAt(p, off)
}

func TestDiskChangedDuringRead(t *testing.T) {
	for _, f := range formats {
		_, err := Write(t.Context(), f, &memory{}, touching{rawDisk(t, mib, 0), t}, mib, [32]byte{})
		if err == nil || !strings.Contains(err.Error(), "changed") {
			t.Errorf("%s: got %v, want that the disk changed", f, err)
		}
	}
}

// failing is a File whose nth call fails.
type failing struct {
	memory
	calls int
}

var errFull = errors.New("no space")

func (f *failing) WriteAt(p []byte, off int64) (int, error) {
	if f.calls--; f.calls < 0 {
		return 0, errFull
	}
	return f.memory.WriteAt(p, off)
}

func (f *failing) Truncate(size int64) error {
	if f.calls--; f.calls < 0 {
		return errFull
	}
	return nil
}

// TestEveryCallFails lets each write and truncation fail in turn.
func TestEveryCallFails(t *testing.T) {
	const capacity = 600 * mib
	disk := rawDisk(t, capacity, 0, 512*mib, 599*mib)
	for _, f := range formats {
		for calls := 0; ; calls++ {
			_, err := Write(t.Context(), f, &failing{calls: calls}, disk, capacity, [32]byte{})
			if err == nil {
				if calls < 4 {
					t.Errorf("%s needs only %d calls", f, calls)
				}
				break
			}
			if !errors.Is(err, errFull) {
				t.Errorf("%s: call %d: %v", f, calls, err)
			}
		}
	}
}
