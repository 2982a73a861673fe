package disk

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/image/layout"
)

// journal is a disk that notes what is written, and can fail.
type journal struct {
	bytes.Buffer
	writes int
	fail   int // number of the write that fails, from 1
}

var errBroken = errors.New("broken")

func (j *journal) WriteAt(p []byte, off int64) (int, error) {
	if j.writes++; j.writes == j.fail {
		return 0, errBroken
	}
	fmt.Fprintf(j, "%d+%d:", off, len(p))
	j.Write(p)
	return len(p), nil
}

// TestPlaces reads the disk as the loaders do: by sector.
func TestPlaces(t *testing.T) {
	s := spec(layout.MinDiskSize)
	name, info := write(t, s)
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	at := func(lba layout.LBA, n int64) []byte {
		t.Helper()
		b := make([]byte, n)
		if _, err := f.ReadAt(b, lba.Bytes()); err != nil {
			t.Fatal(err)
		}
		return b
	}
	same := func(what string, got []byte, want *io.SectionReader) {
		t.Helper()
		w := make([]byte, want.Size())
		if _, err := want.ReadAt(w, 0); err != nil && err != io.EOF {
			t.Fatal(err)
		}
		if !bytes.Equal(got[:len(w)], w) {
			t.Errorf("%s is another", what)
		}
		if !allZero(got[len(w):]) {
			t.Errorf("there is something behind %s", what)
		}
	}
	mbr := at(0, layout.SectorSize)
	if !bytes.Equal(mbr[:layout.MBRKernelLBAOffset], s.MBRCode[:layout.MBRKernelLBAOffset]) {
		t.Error("the boot code is another")
	}
	kernel := layout.LBA(binary.LittleEndian.Uint32(mbr[layout.MBRKernelLBAOffset:]))
	cmdline := layout.LBA(binary.LittleEndian.Uint32(mbr[layout.MBRCmdlineLBAOffset:]))
	if kernel != info.KernelLBA[layout.SlotA] || cmdline != layout.CmdlineA.Start {
		t.Errorf("the boot code loads %d with the line at %d, want %d and %d", kernel, cmdline, info.KernelLBA[layout.SlotA], layout.CmdlineA.Start)
	}
	same("kernel A", at(kernel, layout.KernelSize), s.Kernel)
	same("kernel B", at(info.KernelLBA[layout.SlotB], layout.KernelSize), section(nil))
	parts, err := layout.Partitions(s.Size)
	if err != nil {
		t.Fatal(err)
	}
	same("root A", at(parts[layout.RootA-1].Start, layout.RootSize), s.Root)
	same("root B", at(parts[layout.RootB-1].Start, layout.RootSize), section(nil))
	same("the reserved partition", at(parts[layout.Reserved-1].Start, parts[layout.Reserved-1].Bytes()), section(nil))
	for _, slot := range slots {
		same("the command line of "+slot.String(), at(slot.Cmdline().Start, layout.SectorSize), section([]byte(s.Cmdline(slot))))
		want, err := Entry(slot, s.Version, s.Cmdline(slot))
		if err != nil {
			t.Fatal(err)
		}
		same("the entry of "+slot.String(), at(info.EntryLBA[slot], EntrySize), section(want))
		for _, lba := range []layout.LBA{info.KernelLBA[slot], info.EntryLBA[slot]} {
			if lba.Bytes()%4096 != 0 {
				t.Errorf("sector %d does not start a block of 4096 bytes", lba)
			}
		}
	}
	// What later versions will use is free.
	for _, r := range []layout.Region{layout.Stage2A, layout.Stage2B, layout.BootRecordA, layout.BootRecordB, layout.IdentityA, layout.IdentityB, layout.TrialLog} {
		same(fmt.Sprintf("the region at %d", r.Start), at(r.Start, r.Bytes()), section(nil))
	}
}

func allZero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }

func TestEntry(t *testing.T) {
	e, err := Entry(layout.SlotB, "1.2.3", "root=x")
	if err != nil || len(e) != EntrySize {
		t.Fatalf("%d bytes, %v", len(e), err)
	}
	want := "title Parley 1.2.3 (slot b)\nversion 1.2.3\nlinux /parley/b/vmlinuz\noptions root=x\n"
	if text := strings.TrimRight(string(e), "\n") + "\n"; text != want {
		t.Errorf("%q, want %q", text, want)
	}
	if _, err := Entry(layout.SlotA, strings.Repeat("v", maxVersion), strings.Repeat("c", layout.MaxCmdline)); err != nil {
		t.Errorf("the longest: %v", err)
	}
	for _, bad := range [][2]string{{"", "x"}, {"1\n", "x"}, {"1", ""}, {"1", "a\nb"}, {strings.Repeat("v", maxVersion+1), "x"}, {"1", strings.Repeat("c", layout.MaxCmdline+1)}} {
		if _, err := Entry(layout.SlotA, bad[0], bad[1]); err == nil {
			t.Errorf("%.20q, %.20q passed", bad[0], bad[1])
		}
	}
}

// TestFirmware: without a part, the disk does not pretend to have it.
func TestFirmware(t *testing.T) {
	head := func(s Spec) (mbr []byte, all string) {
		t.Helper()
		name, _ := write(t, s)
		b := make([]byte, 16<<20) // the small files and the folders
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.ReadAt(b, 0); err != nil {
			t.Fatal(err)
		}
		return b[:512], string(b)
	}
	s := spec(layout.MinDiskSize)
	s.MBRCode = nil
	mbr, all := head(s)
	if !allZero(mbr[:layout.MBRCodeSize]) || !strings.Contains(all, "BOOTX64 EFI") {
		t.Error("a UEFI disk has boot code or no loader")
	}
	s = spec(layout.MinDiskSize)
	s.EFILoader = nil
	if mbr, all = head(s); allZero(mbr[:layout.MBRCodeSize]) || strings.Contains(all, "BOOTX64 EFI") {
		t.Error("a BIOS disk has no boot code, or a loader")
	}
}

func TestSameBytes(t *testing.T) {
	var a, b journal
	for _, j := range []*journal{&a, &b} {
		if _, err := Write(t.Context(), j, spec(layout.MinDiskSize), nil); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Error("two disks of one spec differ")
	}
}

func TestWriteErrors(t *testing.T) {
	var whole journal
	s := spec(layout.MinDiskSize)
	if _, err := Write(t.Context(), &whole, s, nil); err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= whole.writes; n++ {
		j := journal{fail: n}
		if _, err := Write(t.Context(), &j, s, nil); !errors.Is(err, errBroken) {
			t.Fatalf("write %d of %d fails: %v", n, whole.writes, err)
		}
	}
	s.Kernel = io.NewSectionReader(bytes.NewReader(make([]byte, 10)), 0, 20)
	if _, err := Write(t.Context(), &journal{}, s, nil); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a short kernel: %v", err)
	}
}

func TestProgressAndCancel(t *testing.T) {
	s := spec(layout.MinDiskSize)
	want, last := s.Kernel.Size()+s.Root.Size(), int64(0)
	if _, err := Write(t.Context(), &journal{}, s, func(done, total int64) {
		if done <= last || done > total || total != want {
			t.Errorf("%d of %d after %d", done, total, last)
		}
		last = done
	}); err != nil || last != want {
		t.Errorf("%v after %d of %d bytes", err, last, want)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := Write(ctx, &journal{}, s, func(done, _ int64) {
		if done > 1<<20 {
			cancel()
		}
	}); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	cancel()
}

func TestBadSpecs(t *testing.T) {
	for name, change := range map[string]func(s *Spec){
		"size":            func(s *Spec) { s.Size++ },
		"small":           func(s *Spec) { s.Size -= layout.Alignment },
		"boot code":       func(s *Spec) { s.MBRCode = make([]byte, layout.MBRCodeSize+1) },
		"no firmware":     func(s *Spec) { s.MBRCode, s.EFILoader = nil, nil },
		"empty loader":    func(s *Spec) { s.EFILoader = []byte{} },
		"huge loader":     func(s *Spec) { s.EFILoader = make([]byte, 40<<20) },
		"no kernel":       func(s *Spec) { s.Kernel = nil },
		"empty kernel":    func(s *Spec) { s.Kernel = section(nil) },
		"big kernel":      func(s *Spec) { s.Kernel = io.NewSectionReader(nil, 0, layout.KernelSize+1) },
		"no root":         func(s *Spec) { s.Root = nil },
		"big root":        func(s *Spec) { s.Root = io.NewSectionReader(nil, 0, layout.RootSize+1) },
		"no command line": func(s *Spec) { s.Cmdline = nil },
		"long line": func(s *Spec) {
			s.Cmdline = func(layout.Slot) string { return strings.Repeat("x", layout.MaxCmdline+1) }
		},
		"two lines":        func(s *Spec) { s.Cmdline = func(layout.Slot) string { return "a\nb" } },
		"empty line of b":  func(s *Spec) { s.Cmdline = func(s layout.Slot) string { return strings.Repeat("x", 1-int(s)) } },
		"no version":       func(s *Spec) { s.Version = "" },
		"version, newline": func(s *Spec) { s.Version = "1\ntitle x" },
		"1979":             func(s *Spec) { s.SourceDate = time.Date(1979, 12, 31, 23, 59, 59, 0, time.UTC) },
		"2108":             func(s *Spec) { s.SourceDate = time.Date(2108, 1, 1, 0, 0, 0, 0, time.UTC) },
	} {
		s := spec(layout.MinDiskSize)
		change(&s)
		var j journal
		if _, err := Write(t.Context(), &j, s, nil); err == nil {
			t.Errorf("%s: no error", name)
		} else if j.writes > 0 {
			t.Errorf("%s: %d writes before %v", name, j.writes, err)
		}
	}
}
