package gpt

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/diskfs/go-diskfs/backend/file"
	foreign "github.com/diskfs/go-diskfs/partition/gpt"

	"github.com/parley-meet/parley/image/layout"
)

const size = 2 << 30

func partitions(t testing.TB, diskSize int64) []layout.Partition {
	t.Helper()
	parts, err := layout.Partitions(diskSize)
	if err != nil {
		t.Fatal(err)
	}
	return parts
}

// write makes a sparse disk with nothing but MBR and partition table.
func write(t testing.TB, code []byte) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	mbr, err := MBR(size, code, layout.DiskSignature)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(mbr, 0); err != nil {
		t.Fatal(err)
	}
	if err := Write(f, size, layout.DiskGUID, partitions(t, size)); err != nil {
		t.Fatal(err)
	}
	return f
}

func sgdisk(t testing.TB, args ...string) string {
	t.Helper()
	name, err := exec.LookPath("sgdisk")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("sgdisk %q: %v\n%s", args, err, out)
	}
	return string(out)
}

// wantSound fails on any remark of sgdisk, not only on a problem.
func wantSound(t testing.TB, name string) {
	t.Helper()
	out := strings.TrimSpace(sgdisk(t, "-v", name))
	if !strings.HasPrefix(out, "No problems found.") || strings.Contains(out, "Warning") {
		t.Error(out)
	}
}

func TestSgdisk(t *testing.T) {
	for _, code := range [][]byte{nil, {0xeb, 0xfe}} {
		f := write(t, code)
		wantSound(t, f.Name())
		list := sgdisk(t, "-p", f.Name())
		if !strings.Contains(list, layout.DiskGUID) {
			t.Errorf("no disk GUID %s:\n%s", layout.DiskGUID, list)
		}
		for _, p := range partitions(t, size) {
			info := sgdisk(t, "-i", string(rune('0'+p.Number)), f.Name())
			for _, want := range []string{"GUID code: " + p.Type, "unique GUID: " + p.GUID, "'" + p.Name + "'"} {
				if !strings.Contains(info, want) {
					t.Errorf("partition %d: no %q:\n%s", p.Number, want, info)
				}
			}
		}
	}
}

// The table has to survive the loss of its first copy.
func TestSgdiskBackup(t *testing.T) {
	f := write(t, nil)
	if _, err := f.WriteAt(make([]byte, layout.GPTSectors*layout.SectorSize), layout.SectorSize); err != nil {
		t.Fatal(err)
	}
	if out := sgdisk(t, "-p", f.Name()); !strings.Contains(out, "root-b") {
		t.Error(out)
	}
}

// A disk that an administrator has enlarged gets a new table, twice.
func TestSgdiskGrown(t *testing.T) {
	f := write(t, nil)
	const grown = 5<<30 + 512*1000 // a size that is not a whole MiB
	if err := f.Truncate(grown); err != nil {
		t.Fatal(err)
	}
	parts := partitions(t, grown/layout.Alignment*layout.Alignment)
	for range 2 {
		if err := Write(f, grown, layout.DiskGUID, parts); err != nil {
			t.Fatal(err)
		}
	}
	wantSound(t, f.Name())
}

func TestMmls(t *testing.T) {
	name, err := exec.LookPath("mmls")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	out, err := exec.CommandContext(t.Context(), name, "-t", "gpt", write(t, []byte{1}).Name()).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, p := range partitions(t, size) {
		if !strings.Contains(string(out), p.Name) {
			t.Errorf("no %s:\n%s", p.Name, out)
		}
	}
}

func TestForeignReader(t *testing.T) {
	f := write(t, nil)
	table, err := foreign.Read(file.New(f, true), int(layout.SectorSize), int(layout.SectorSize))
	if err != nil {
		t.Fatal(err)
	}
	parts := partitions(t, size)
	if table.GUID != layout.DiskGUID || !table.ProtectiveMBR || len(table.Partitions) != len(parts) {
		t.Errorf("GUID %s, protective MBR %v, %d partitions", table.GUID, table.ProtectiveMBR, len(table.Partitions))
	}
	for i, p := range parts {
		q := table.Partitions[i]
		if q.Name != p.Name || q.GUID != p.GUID || string(q.Type) != p.Type || q.Start != uint64(p.Start) || q.Size != uint64(p.Bytes()) {
			t.Errorf("read %+v, want %+v", q, p)
		}
	}
}

func TestMBR(t *testing.T) {
	code := bytes.Repeat([]byte{0xaa}, layout.MBRCodeSize)
	for _, c := range []struct {
		code    []byte
		size    int64
		entry   string
		active4 byte
	}{
		{nil, size, "\x00\x00\x02\x00\xee\xff\xff\xff\x01\x00\x00\x00\xff\xff\x3f\x00", 0},
		{code, size, "\x00\x00\x02\x00\xee\xff\xff\xff\x01\x00\x00\x00\xff\xff\x3f\x00", 0x80},
		{code, 3 << 40, "\x00\x00\x02\x00\xee\xff\xff\xff\x01\x00\x00\x00\xff\xff\xff\xff", 0x80},
	} {
		b, err := MBR(c.size, c.code, 0x01020304)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(b, c.code) || string(b[440:446]) != "\x04\x03\x02\x01\x00\x00" || string(b[510:]) != "\x55\xaa" {
			t.Errorf("%x", b)
		}
		rest := make([]byte, 48)
		rest[32] = c.active4
		if string(b[446:462]) != c.entry || !bytes.Equal(b[462:510], rest) {
			t.Errorf("entries %x", b[446:510])
		}
	}
	if _, err := MBR(size, append(code, 0), 0); err == nil {
		t.Error("took 441 bytes of boot code")
	}
}

type faulty struct{ writes int }

var errFault = errors.New("fault")

func (f *faulty) WriteAt(b []byte, off int64) (int, error) {
	if f.writes--; f.writes < 0 {
		return 0, errFault
	}
	return len(b), nil
}

// The backup copy goes first: whatever happens, one copy is whole.
func TestWriteErrors(t *testing.T) {
	for n := range 2 {
		if err := Write(&faulty{n}, size, layout.DiskGUID, partitions(t, size)); !errors.Is(err, errFault) {
			t.Errorf("write %d fails: %v", n, err)
		}
	}
}

func TestBadTables(t *testing.T) {
	good := func() []layout.Partition { return partitions(t, size) }
	for name, bad := range map[string]func(p []layout.Partition){
		"number 0":       func(p []layout.Partition) { p[0].Number = 0 },
		"number 129":     func(p []layout.Partition) { p[0].Number = 129 },
		"same number":    func(p []layout.Partition) { p[0].Number = 2 },
		"empty":          func(p []layout.Partition) { p[0].Sectors = 0 },
		"overlap":        func(p []layout.Partition) { p[1].Start-- },
		"in the table":   func(p []layout.Partition) { p[0].Start = 33 },
		"in the backup":  func(p []layout.Partition) { p[4].Sectors = size/512 - 33 - int64(p[4].Start) + 1 },
		"type":           func(p []layout.Partition) { p[0].Type = "linux" },
		"GUID":           func(p []layout.Partition) { p[0].GUID = strings.Replace(p[0].GUID, "5", "g", 1) },
		"long name":      func(p []layout.Partition) { p[0].Name = strings.Repeat("x", 37) },
		"name not ASCII": func(p []layout.Partition) { p[0].Name = "корень" },
	} {
		parts := good()
		bad(parts)
		if err := Write(&faulty{9}, size, layout.DiskGUID, parts); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := Write(&faulty{9}, size, "5041524C", good()); err == nil {
		t.Error("accepted a bad disk GUID")
	}
	if err := Write(&faulty{9}, size+1, layout.DiskGUID, good()); err == nil {
		t.Error("accepted half a sector")
	}
}

func TestParseGUID(t *testing.T) {
	g, err := ParseGUID("01234567-89ab-CDEF-0123-456789ABCDEF")
	if err != nil || g != [16]byte{0x67, 0x45, 0x23, 0x01, 0xab, 0x89, 0xef, 0xcd, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef} {
		t.Errorf("%x, %v", g, err)
	}
	for _, s := range []string{"", "0123456789abCDEF0123456789ABCDEF", "01234567-89ab-CDEF-01234-56789ABCDEF", "0123456-789ab-CDEF-0123-456789ABCDEF", "x1234567-89ab-CDEF-0123-456789ABCDEF"} {
		if _, err := ParseGUID(s); err == nil {
			t.Errorf("%q accepted", s)
		}
	}
}
