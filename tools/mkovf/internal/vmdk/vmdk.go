// Package vmdk writes and reads VMware's streamOptimized sparse disks ("Virtual Disk Format 5.0", the technical note;
// where importers ask for more than the note, they are followed).
//
// The one form that is written: header of version 3 with the grain directory announced at the end, a descriptor in
// the 64 KiB before the first grain, grains of 64 KiB as zlib streams in ascending order, zero grains omitted, each
// grain table right behind its last grain, then grain directory, footer and end-of-stream sector. The file ends with
// that sector: bytes behind it break the checksums some importers take while they stream. A grain table without
// grains is omitted too (its directory entry is 0).
//
// Limits: the capacity is a whole number of MiB up to 2 TiB; the file stays below 2 TiB (32-bit sector numbers); one
// extent, no parent. The same disk, options and compressor version give the same bytes, whatever Workers is.
//
// The reader takes what this writer writes and nothing else. It is for verification, not for foreign files.
package vmdk

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

const (
	sectorSize   = 512
	grainSize    = 64 << 10
	grainSectors = grainSize / sectorSize
	gtEntries    = 512
	gtSize       = gtEntries * 4
	gtSectors    = gtSize / sectorSize
	mib          = 1 << 20

	// MaxCapacity is the largest disk in bytes.
	MaxCapacity = 2 << 40

	// overhead is where the first grain starts; VirtualBox begins its import there.
	overhead          = 128 // sectors
	descriptorSector  = 1
	descriptorSectors = 20

	grainMarkerSize = 12
	// maxCompressed is above what any deflate encoder makes of one grain: stored blocks cost 5 bytes per 64 KiB.
	maxCompressed = grainSize + grainSize/16
)

// Marker types of the technical note; a grain's marker has a size instead.
const (
	markerEOS    = 0
	markerGT     = 1
	markerGD     = 2
	markerFooter = 3
)

const (
	magic            = 0x564d444b // "KDMV" in the file
	version          = 3          // ESXi refuses 1, VirtualBox knows 1 and 3
	flags            = 1 | 1<<16 | 1<<17
	compressDeflate  = 1
	gdAtEnd          = 1<<64 - 1
	noParent         = "ffffffff"
	createType       = "streamOptimized"
	headsPerCylinder = 255
	sectorsPerTrack  = 63
)

// header is SparseExtentHeader of the technical note, little endian and packed.
type header struct {
	Magic            uint32
	Version          uint32
	Flags            uint32
	Capacity         uint64 // sectors
	GrainSize        uint64 // sectors
	DescriptorOffset uint64 // sectors
	DescriptorSize   uint64 // sectors
	GTEsPerGT        uint32
	RGDOffset        uint64 // sectors
	GDOffset         uint64 // sectors
	Overhead         uint64 // sectors
	UncleanShutdown  uint8
	Newlines         [4]byte
	Compression      uint16
	Pad              [433]byte
}

// newHeader is the only header this package knows; gdOffset is gdAtEnd in front and a sector in the footer.
func newHeader(capacity int64, gdOffset uint64) header {
	return header{
		Magic: magic, Version: version, Flags: flags,
		Capacity: uint64(capacity / sectorSize), GrainSize: grainSectors,
		DescriptorOffset: descriptorSector, DescriptorSize: descriptorSectors,
		GTEsPerGT: gtEntries, GDOffset: gdOffset, Overhead: overhead,
		Newlines: [4]byte{'\n', ' ', '\r', '\n'}, Compression: compressDeflate,
	}
}

func (h header) sector() []byte {
	b, err := binary.Append(make([]byte, 0, sectorSize), binary.LittleEndian, h)
	if err != nil || len(b) != sectorSize {
		panic("vmdk: the header is not one sector") // a programming error: the type is fixed
	}
	return b
}

// metaMarker is the sector before a table or the footer; sectors is the length of what follows.
func metaMarker(sectors uint64, kind uint32) []byte {
	b := make([]byte, sectorSize)
	binary.LittleEndian.PutUint64(b, sectors)
	binary.LittleEndian.PutUint32(b[12:], kind)
	return b
}

// gdSectors is the length of the grain directory.
func gdSectors(tables int) int {
	return (tables*4 + sectorSize - 1) / sectorSize
}

// tablesFor is the number of grain tables (and directory entries) of a disk.
func tablesFor(capacity int64) int {
	const span = gtEntries * grainSize
	return int((capacity + span - 1) / span)
}

// descriptor is the text at the front of the file, as far as it varies.
type descriptor struct {
	contentID [16]byte
	extent    string
	capacity  int64 // bytes
}

// newContentID takes the identity from a content hash. The last four bytes become the CID, for which ffffffff (no
// parent) and 0 have other meanings.
func newContentID(hash [32]byte) (id [16]byte) {
	copy(id[:], hash[:])
	switch binary.BigEndian.Uint32(id[12:]) {
	case 0, 0xffffffff, 0xfffffffe:
		id[12] = 0x50
	}
	return id
}

func (d descriptor) cid() uint32 { return binary.BigEndian.Uint32(d.contentID[12:]) }

func (d descriptor) text() string {
	sectors := d.capacity / sectorSize
	lines := []string{
		"# Disk DescriptorFile",
		"version=1",
		`encoding="UTF-8"`,
		fmt.Sprintf("CID=%08x", d.cid()),
		"parentCID=" + noParent,
		fmt.Sprintf("createType=%q", createType),
		"",
		"# Extent description",
		fmt.Sprintf(`RW %d SPARSE "%s"`, sectors, d.extent),
		"",
		"# The Disk Data Base",
		"#DDB",
		"",
		`ddb.adapterType = "lsilogic"`,
		fmt.Sprintf(`ddb.geometry.cylinders = "%d"`, max(1, sectors/(headsPerCylinder*sectorsPerTrack))),
		fmt.Sprintf(`ddb.geometry.heads = "%d"`, headsPerCylinder),
		fmt.Sprintf(`ddb.geometry.sectors = "%d"`, sectorsPerTrack),
		fmt.Sprintf(`ddb.longContentID = "%x"`, d.contentID),
		`ddb.toolsInstallType = "4"`,
		`ddb.toolsVersion = "2147483647"`,
		`ddb.virtualHWVersion = "15"`,
	}
	return strings.Join(lines, "\n") + "\n"
}

// front is everything before the first grain.
func (d descriptor) front() []byte {
	b := make([]byte, overhead*sectorSize)
	copy(b, newHeader(d.capacity, gdAtEnd).sector())
	copy(b[descriptorSector*sectorSize:], d.text())
	return b
}

// parseDescriptor takes the descriptor's area apart. Only the text that descriptor.text makes passes.
func parseDescriptor(area []byte, capacity int64) (descriptor, error) {
	end := bytes.IndexByte(area, 0)
	if end < 0 {
		return descriptor{}, fmt.Errorf("descriptor fills its %d bytes", len(area))
	}
	text := string(area[:end])
	d := descriptor{capacity: capacity}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if v, ok := strings.CutPrefix(line, "ddb.longContentID = "); ok {
			id, err := hex.DecodeString(strings.Trim(v, `"`))
			if err != nil || len(id) != len(d.contentID) {
				return descriptor{}, fmt.Errorf("longContentID %q, want 32 hexadecimal digits", v)
			}
			copy(d.contentID[:], id)
		}
		if v, ok := strings.CutPrefix(line, "RW "+strconv.FormatInt(capacity/sectorSize, 10)+" SPARSE "); ok {
			d.extent = strings.Trim(v, `"`)
		}
	}
	if err := checkExtentName(d.extent); err != nil {
		return descriptor{}, err
	}
	if d.text() != text {
		return descriptor{}, fmt.Errorf("descriptor is not of this writer's form: %q", text)
	}
	return d, nil
}

// checkExtentName takes flat file names that need no quoting anywhere: importers open the name in the descriptor.
func checkExtentName(name string) error {
	const limit = 255
	if name == "" || len(name) > limit {
		return fmt.Errorf("extent name %q has %d bytes, want 1 to %d", name, len(name), limit)
	}
	for _, c := range name {
		if c < ' ' || c > '~' || strings.ContainsRune(`"/\`, c) {
			return fmt.Errorf("extent name %q: character %q is not allowed", name, c)
		}
	}
	return nil
}

func checkCapacity(capacity int64) error {
	if capacity <= 0 || capacity > MaxCapacity || capacity%mib != 0 {
		return fmt.Errorf("capacity %d bytes, want a whole number of MiB from 1 to %d", capacity, MaxCapacity/mib)
	}
	return nil
}
