package layout

import (
	"cmp"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// named is a region for messages.
type named struct {
	name string
	Region
}

// before returns what stands before partition 1.
func before() []named {
	return []named{
		{"protective MBR", Region{0, 1}},
		{"primary GPT", Region{1, GPTSectors}},
		{"second stage A", Stage2A}, {"second stage B", Stage2B},
		{"boot record A", BootRecordA}, {"boot record B", BootRecordB},
		{"command line A", CmdlineA}, {"command line B", CmdlineB},
		{"identity A", IdentityA}, {"identity B", IdentityB},
		{"trial log", TrialLog},
	}
}

func partitions(t *testing.T, size int64) []Partition {
	t.Helper()
	ps, err := Partitions(size)
	if err != nil {
		t.Fatal(err)
	}
	return ps
}

// sizes are disks whose tables differ: the smallest, config.json's, one where
// sector numbers pass 32 bits.
var sizes = []int64{MinDiskSize, MinDiskSize + Alignment, 2 * GiB, 4096 * GiB}

func TestNothingOverlaps(t *testing.T) {
	for _, size := range sizes {
		all := before()
		for _, p := range partitions(t, size) {
			all = append(all, named{p.Name, p.Region})
		}
		end := LBA(size / SectorSize)
		all = append(all, named{"backup GPT", Region{end - GPTSectors, GPTSectors}})
		slices.SortStableFunc(all, func(a, b named) int { return cmp.Compare(a.Start, b.Start) })
		for i, r := range all {
			if r.Sectors <= 0 || r.Start < 0 || r.End() > end {
				t.Errorf("disk of %d: %s is %+v, outside the disk's %d sectors", size, r.name, r.Region, end)
			}
			if i > 0 && all[i-1].End() > r.Start {
				t.Errorf("disk of %d: %s %+v and %s %+v overlap", size, all[i-1].name, all[i-1].Region, r.name, r.Region)
			}
		}
	}
}

// The table of the package comment is what people build loaders and tools from.
func TestDocumentedPlaces(t *testing.T) {
	want := map[string]LBA{
		"second stage A": 64, "second stage B": 96, "boot record A": 128, "boot record B": 136,
		"command line A": 160, "command line B": 161, "identity A": 2048, "identity B": 2560, "trial log": 4096,
		"primary GPT": 1, "protective MBR": 0,
	}
	for _, r := range before() {
		if r.Start != want[r.name] {
			t.Errorf("%s starts at %d, the package comment says %d", r.name, r.Start, want[r.name])
		}
	}
	ps := partitions(t, MinDiskSize)
	if ps[0].Start != 8192 {
		t.Errorf("partition 1 starts at %d, the package comment says 8192", ps[0].Start)
	}
	// Sectors 0 and 1–33 are promised to be enough for MBR and GPT.
	if free := ps[0].Start.Bytes(); free < 1*MiB {
		t.Errorf("%d bytes before partition 1, want at least 1 MiB", free)
	}
	if MBRKernelLBAOffset+4 != MBRCmdlineLBAOffset || MBRCmdlineLBAOffset+4 != MBRCodeSize {
		t.Errorf("MBR offsets %d, %d, %d: want two words at the code's end",
			MBRKernelLBAOffset, MBRCmdlineLBAOffset, MBRCodeSize)
	}
}

func TestCopiesAreAlike(t *testing.T) {
	for _, x := range []struct {
		name string
		a, b Region
	}{
		{"second stage", Stage2A, Stage2B}, {"boot record", BootRecordA, BootRecordB},
		{"command line", CmdlineA, CmdlineB}, {"identity", IdentityA, IdentityB},
	} {
		if x.a.Sectors != x.b.Sectors {
			t.Errorf("%s: copies of %d and %d sectors", x.name, x.a.Sectors, x.b.Sectors)
		}
	}
	// A torn 4096-byte write of a disk with such sectors must not hit both.
	for _, x := range [][2]Region{{BootRecordA, BootRecordB}, {IdentityA, IdentityB}, {Stage2A, Stage2B}} {
		if x[0].Start.Bytes()/4096 == x[1].Start.Bytes()/4096 {
			t.Errorf("copies %+v and %+v share a physical sector", x[0], x[1])
		}
	}
}

func TestPartitions(t *testing.T) {
	guid := regexp.MustCompile(`^[0-9A-F]{8}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{12}$`)
	for _, size := range sizes {
		seen := map[string]bool{DiskGUID: true}
		names := map[string]bool{}
		for i, p := range partitions(t, size) {
			if p.Number != i+1 {
				t.Errorf("partition %d has number %d", i+1, p.Number)
			}
			if p.Start.Bytes()%Alignment != 0 || p.Bytes()%Alignment != 0 {
				t.Errorf("%s: %+v is not aligned to %d bytes", p.Name, p.Region, Alignment)
			}
			if !guid.MatchString(p.GUID) || !guid.MatchString(p.Type) {
				t.Errorf("%s: GUID %q, type %q: want the upper-case form", p.Name, p.GUID, p.Type)
			}
			if seen[p.GUID] || names[p.Name] {
				t.Errorf("%s: GUID %s or the name is another's", p.Name, p.GUID)
			}
			seen[p.GUID], names[p.Name] = true, true
			// Unicode in the table has 36 places (UEFI 2.10, 5.3.3).
			if n := len(p.Name); n == 0 || n > 36 {
				t.Errorf("name %q has %d characters", p.Name, n)
			}
		}
	}
	if !guid.MatchString(DiskGUID) {
		t.Errorf("disk GUID %q: want the upper-case form", DiskGUID)
	}
}

func TestPartitionSizes(t *testing.T) {
	ps := partitions(t, MinDiskSize)
	if got := ps[RootA-1].Bytes(); got != RootSize {
		t.Errorf("root A has %d bytes, RootSize says %d", got, RootSize)
	}
	if a, b := ps[RootA-1], ps[RootB-1]; a.Sectors != b.Sectors || a.Type != b.Type {
		t.Errorf("the roots differ: %+v, %+v", a, b)
	}
	if got := ps[Perm-1].Bytes(); got != MinPermSize {
		t.Errorf("/perm of the smallest disk has %d bytes, want MinPermSize %d", got, MinPermSize)
	}
	// Both kernels, the loader and FAT's own tables.
	if got, want := ps[ESP-1].Bytes(), 2*KernelSize+4*MiB; got < want {
		t.Errorf("the EFI system partition has %d bytes, want at least %d", got, want)
	}
	if ps[ESP-1].Type != TypeESP || ps[Perm-1].Type != TypeLinux {
		t.Errorf("types %s and %s", ps[ESP-1].Type, ps[Perm-1].Type)
	}
	for _, n := range []struct{ value, unit int64 }{
		{RootSize, ChunkSize}, {KernelSize, ChunkSize}, {Alignment, ChunkSize}, {ChunkSize, SectorSize},
	} {
		if n.value%n.unit != 0 {
			t.Errorf("%d is not a multiple of %d", n.value, n.unit)
		}
	}
}

// A larger disk changes /perm's length and nothing else, so that it can grow.
func TestOnlyPermGrows(t *testing.T) {
	small, large := partitions(t, MinDiskSize), partitions(t, MinDiskSize+5*Alignment)
	for i := range small {
		if small[i].Number == Perm {
			if got := large[i].Bytes() - small[i].Bytes(); got != 5*Alignment || small[i].Start != large[i].Start {
				t.Errorf("/perm grew by %d bytes from %d to %d", got, small[i].Start, large[i].Start)
			}
			continue
		}
		if small[i] != large[i] {
			t.Errorf("%s moved: %+v, %+v", small[i].Name, small[i], large[i])
		}
	}
}

func TestDiskSizes(t *testing.T) {
	for _, size := range []int64{
		MinDiskSize - Alignment, MinDiskSize - 1, MinDiskSize + 1, MinDiskSize + SectorSize, 0, -1, -MinDiskSize,
	} {
		if ps, err := Partitions(size); err == nil {
			t.Errorf("a disk of %d bytes was laid out: %+v", size, ps)
		} else if !strings.Contains(err.Error(), fmt.Sprint(size)) || !strings.Contains(err.Error(), fmt.Sprint(MinDiskSize)) {
			t.Errorf("%v: names neither the size nor the bound", err)
		}
	}
	if MinDiskSize%Alignment != 0 {
		t.Errorf("MinDiskSize %d is no multiple of %d: no disk has it", MinDiskSize, Alignment)
	}
}

// gokrazy takes the root as a GUID with hyphens and a distance of one digit;
// Linux compares the GUID without regard to case.
func TestRootParameter(t *testing.T) {
	form := regexp.MustCompile(`^PARTUUID=[0-9a-fA-F-]{36}/PARTNROFF=[123]$`)
	esp := partitions(t, MinDiskSize)[ESP-1]
	for slot, root := range map[Slot]int{SlotA: RootA, SlotB: RootB} {
		got := slot.RootParameter()
		if want := fmt.Sprintf("PARTUUID=%s/PARTNROFF=%d", esp.GUID, root-ESP); got != want {
			t.Errorf("slot %s: %s, want %s", slot, got, want)
		}
		line := "root=" + got
		if !form.MatchString(got) {
			t.Errorf("slot %s: %q, want the form %s", slot, got, form)
		}
		if len(line) > MaxCmdline/2 {
			t.Errorf("slot %s: %d bytes leave too little of %d", slot, len(line), MaxCmdline)
		}
	}
	if MaxCmdline+1 != int(CmdlineA.Bytes()) {
		t.Errorf("MaxCmdline %d and its NUL do not fill %d bytes", MaxCmdline, CmdlineA.Bytes())
	}
}

func TestSlots(t *testing.T) {
	if SlotA.String() != "a" || SlotB.String() != "b" {
		t.Errorf("slots are called %q and %q", SlotA, SlotB)
	}
	if SlotA.Root() == SlotB.Root() || SlotA.Cmdline() == SlotB.Cmdline() || SlotA.KernelPath() == SlotB.KernelPath() {
		t.Error("the slots share a root, a command line or a kernel")
	}
	for _, s := range []Slot{SlotA, SlotB} {
		// Names that FAT takes without long entries, which a loader need not read.
		for _, part := range strings.Split(s.KernelPath(), "/") {
			if len(part) > 8 || strings.ContainsAny(part, ". ") {
				t.Errorf("%s: %q is no short FAT name", s.KernelPath(), part)
			}
		}
	}
}

func TestPaths(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range []string{
		InitPath, ServiceDir, ConfigPath, VersionPath, FontPath, RunDir, ControlSocket,
		PermMount, PermDir, PermLogDir, AppliancePath, CredentialDir, CredentialRunDir,
	} {
		if !path.IsAbs(p) || path.Clean(p) != p || seen[p] {
			t.Errorf("%q: want an absolute clean path of its own", p)
		}
		seen[p] = true
	}
	for dir, inside := range map[string][]string{
		RunDir:    {ControlSocket, CredentialRunDir},
		PermDir:   {PermLogDir, AppliancePath, CredentialDir},
		PermMount: {PermDir},
	} {
		for _, p := range inside {
			if !strings.HasPrefix(p, dir+"/") {
				t.Errorf("%s is not inside %s", p, dir)
			}
		}
	}
	// The longest address of a unix socket, its NUL included, is 108 bytes.
	if len(ControlSocket) > 107 {
		t.Errorf("%s: %d bytes", ControlSocket, len(ControlSocket))
	}
}
