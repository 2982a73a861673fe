// Package layout is the only home of the appliance disk's numbers: sectors,
// sizes, partitions and GUIDs. Everything else derives from it.
//
//	sector    what
//	0         protective MBR; BIOS boot code in its first 440 bytes
//	1–33      primary GPT
//	64, 96    second stage of the boot loader, two copies (reserved, empty)
//	128, 136  boot-control record, two copies (reserved, empty)
//	160, 161  BIOS kernel command line of slot A and of slot B
//	2048      identity and configuration, copy 1 (reserved, empty)
//	2560      identity and configuration, copy 2 (reserved, empty)
//	4096      log of the last trial boot (reserved, empty)
//	8192      partition 1: EFI system partition (FAT32), both kernels
//	…         partition 2: root A (squashfs)
//	…         partition 3: root B (squashfs; empty in a fresh image)
//	…         partition 4: reserved (gokrazy would mount it as /perm)
//	…         partition 5: /perm (ext4) up to the backup GPT
//
// A change of any number here is an incompatible change of the disk layout.
package layout

import "fmt"

// LBA is a logical block address: a count of 512-byte sectors from the start
// of the disk.
type LBA int64

// Bytes returns the byte offset of the sector.
func (l LBA) Bytes() int64 { return int64(l) * SectorSize }

// SectorSize is the only logical sector size the disk is made for. The BIOS
// interface counts in it, and OVF disks always have it.
const SectorSize int64 = 512

// Binary multiples, in bytes.
const (
	KiB int64 = 1 << 10
	MiB int64 = 1 << 20
	GiB int64 = 1 << 30
)

// Region is a range of sectors.
type Region struct {
	Start   LBA
	Sectors int64
}

// End returns the first sector behind the region.
func (r Region) End() LBA { return r.Start + LBA(r.Sectors) }

// Bytes returns the region's length in bytes.
func (r Region) Bytes() int64 { return r.Sectors * SectorSize }

// sectors converts a size in bytes, a multiple of SectorSize.
func sectors(bytes int64) int64 { return bytes / SectorSize }

// Offsets into sector 0. The boot loader of github.com/gokrazy/internal/mbr
// reads its two targets there.
const (
	MBRKernelLBAOffset  = 432
	MBRCmdlineLBAOffset = 436
	MBRCodeSize         = 440
)

// GPTSectors is the length of one copy of the partition table: header and 128
// entries of 128 bytes.
const GPTSectors = 1 + 32

// The area before partition 1. Only the command lines are filled in today; the
// rest is kept free from the first image on, because moving a partition later
// would need a new installation.
var (
	Stage2A     = Region{64, 16}
	Stage2B     = Region{96, 16}
	BootRecordA = Region{128, 1}
	BootRecordB = Region{136, 1}
	CmdlineA    = Region{160, 1}
	CmdlineB    = Region{161, 1}
	IdentityA   = Region{2048, sectors(256 * KiB)}
	IdentityB   = Region{2560, sectors(256 * KiB)}
	TrialLog    = Region{4096, sectors(1 * MiB)}
)

// MaxCmdline is the longest kernel command line in bytes: one sector less the
// terminating NUL.
const MaxCmdline = int(SectorSize) - 1

// KernelSize is the fixed size in bytes of each slot's kernel file in the EFI
// system partition. A kernel is written into it in place; the rest is zero.
const KernelSize = 32 * MiB

// Alignment is what every partition starts at a multiple of, in bytes.
const Alignment = 1 * MiB

// ChunkSize is the size of an update's chunk in bytes. Large files in a root
// file system start at a multiple of it from the root's start, so that an
// unchanged file has unchanged chunks wherever else it moves to.
const ChunkSize = 256 * KiB

// Partition numbers, from 1. gokrazy expects 1 to 4 in these places.
const (
	ESP      = 1
	RootA    = 2
	RootB    = 3
	Reserved = 4
	Perm     = 5
)

// Sizes of the partitions in bytes; /perm takes the rest.
const (
	espSize      = 96 * MiB
	rootSize     = 256 * MiB
	reservedSize = 1 * MiB
	// MinPermSize is the smallest /perm that is built.
	MinPermSize = 64 * MiB
)

// RootSize is the room for one root file system in bytes.
const RootSize = rootSize

// espStart leaves 4 MiB for what stands before partition 1.
const espStart LBA = 8192

// DiskGUID identifies the appliance's partition table.
const DiskGUID = "5041524C-4559-4D45-8554-000000000000"

// DiskSignature is the MBR's 32-bit disk signature at byte 440.
const DiskSignature uint32 = 0x504c5259

// GPT partition types (UEFI Specification 2.10, 5.3.3, and the Discoverable
// Partitions Specification).
const (
	TypeESP   = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
	TypeLinux = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
)

// Partition is one entry of the partition table.
type Partition struct {
	Number int
	Name   string
	Type   string // GPT type GUID
	GUID   string // unique partition GUID
	Region
}

// MinDiskSize is the smallest disk in bytes that Partitions accepts.
var MinDiskSize = espStart.Bytes() + espSize + 2*rootSize + reservedSize + MinPermSize + Alignment

// Partitions returns the partition table of a disk of diskSize bytes, a
// multiple of Alignment and at least MinDiskSize. /perm ends at the last
// multiple of Alignment that leaves room for the backup GPT.
func Partitions(diskSize int64) ([]Partition, error) {
	if diskSize < MinDiskSize || diskSize%Alignment != 0 {
		return nil, fmt.Errorf("disk size %d bytes: want a multiple of %d, at least %d", diskSize, Alignment, MinDiskSize)
	}
	permEnd := (diskSize - GPTSectors*SectorSize) / Alignment * Alignment
	parts := []Partition{
		{Number: ESP, Name: "esp", Type: TypeESP, Region: Region{Sectors: sectors(espSize)}},
		{Number: RootA, Name: "root-a", Type: TypeLinux, Region: Region{Sectors: sectors(rootSize)}},
		{Number: RootB, Name: "root-b", Type: TypeLinux, Region: Region{Sectors: sectors(rootSize)}},
		{Number: Reserved, Name: "reserved", Type: TypeLinux, Region: Region{Sectors: sectors(reservedSize)}},
		{Number: Perm, Name: "perm", Type: TypeLinux},
	}
	next := espStart
	for i := range parts {
		p := &parts[i]
		p.GUID = fmt.Sprintf("%s%012d", DiskGUID[:24], p.Number)
		p.Start = next
		if p.Number == Perm {
			p.Sectors = sectors(permEnd) - int64(next)
		}
		next = p.End()
	}
	return parts, nil
}

// Slot is one of the two systems a disk holds.
type Slot int

// The two slots.
const (
	SlotA Slot = iota
	SlotB
)

// String returns "a" or "b", as the kernel command line spells it.
func (s Slot) String() string {
	if s == SlotA {
		return "a"
	}
	return "b"
}

// Root returns the number of the slot's root partition.
func (s Slot) Root() int {
	if s == SlotA {
		return RootA
	}
	return RootB
}

// Cmdline returns where the slot's BIOS command line is.
func (s Slot) Cmdline() Region {
	if s == SlotA {
		return CmdlineA
	}
	return CmdlineB
}

// KernelPath returns the slot's kernel file in the EFI system partition.
func (s Slot) KernelPath() string { return "parley/" + s.String() + "/vmlinuz" }

// RootParameter returns the kernel's root= value for the slot: relative to
// partition 1's GUID, the one form that both the kernel and gokrazy take on
// every kind of disk.
func (s Slot) RootParameter() string {
	return fmt.Sprintf("PARTUUID=%s%012d/PARTNROFF=%d", DiskGUID[:24], ESP, s.Root()-ESP)
}
