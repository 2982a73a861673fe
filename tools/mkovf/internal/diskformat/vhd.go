package diskformat

import (
	"context"
	"encoding/binary"
	"io"
)

// The VHD (Microsoft's "Virtual Hard Disk Image Format Specification", 2006) is a dynamic one: copy of the footer,
// header, block allocation table, blocks of 2 MiB each behind a sector bitmap, footer. Blocks of zeros are left out.
const (
	maxVHD       = 2040 << 30
	vhdBlock     = 2 << 20
	vhdUnused    = 1<<32 - 1
	vhdHeaderAt  = 512
	vhdTableAt   = vhdHeaderAt + 1024
	vhdBitmap    = vhdBlock / sectorSize / 8 // bytes: one sector
	vhdDynamic   = 3
	vhdMaxSector = 65535 * 16 * 255
)

type vhdFooter struct {
	Cookie         [8]byte
	Features       uint32
	Version        uint32
	DataOffset     uint64
	Timestamp      uint32 // seconds since 2000; 0: the file is reproducible
	CreatorApp     [4]byte
	CreatorVersion uint32
	CreatorOS      [4]byte
	OriginalSize   uint64
	CurrentSize    uint64
	Cylinders      uint16
	Heads          uint8
	Sectors        uint8
	Type           uint32
	Checksum       uint32
	ID             [16]byte
	SavedState     uint8
	Reserved       [427]byte
}

type vhdHeader struct {
	Cookie      [8]byte
	DataOffset  uint64
	TableOffset uint64
	Version     uint32
	Entries     uint32
	BlockSize   uint32
	Checksum    uint32
	Parent      [16 + 4 + 4 + 512 + 8*24]byte
	Reserved    [256]byte
}

func writeVHD(ctx context.Context, dst File, disk io.ReaderAt, capacity int64, id [32]byte) (int64, error) {
	table := make([]uint32, divUp(divUp(capacity, vhdBlock), sectorSize/4)*(sectorSize/4))
	for i := range table {
		table[i] = vhdUnused
	}
	bitmap := make([]byte, vhdBitmap)
	for i := range bitmap {
		bitmap[i] = 0xff
	}
	next := vhdTableAt + int64(len(table))*4
	for p, err := range pieces(ctx, disk, capacity, vhdBlock) {
		if err != nil {
			return 0, err
		}
		table[p.off/vhdBlock] = uint32(next / sectorSize)
		if _, err := dst.WriteAt(bitmap, next); err != nil {
			return 0, err
		}
		if _, err := dst.WriteAt(p.data, next+vhdBitmap); err != nil {
			return 0, err
		}
		next += vhdBitmap + vhdBlock // a block has its full length even at the disk's end
	}
	f := newVHDFooter(capacity, id)
	h := vhdHeader{
		Cookie: [8]byte([]byte("cxsparse")), DataOffset: 1<<64 - 1, TableOffset: vhdTableAt, Version: 1 << 16,
		Entries: uint32(divUp(capacity, vhdBlock)), BlockSize: vhdBlock,
	}
	h.Checksum = vhdChecksum(h)
	for _, part := range []struct {
		v   any
		off int64
	}{{f, 0}, {h, vhdHeaderAt}, {table, vhdTableAt}, {f, next}} {
		if err := putBE(dst, part.v, part.off); err != nil {
			return 0, err
		}
	}
	return next + sectorSize, nil
}

func newVHDFooter(capacity int64, id [32]byte) vhdFooter {
	c, h, s := vhdGeometry(capacity / sectorSize)
	f := vhdFooter{
		Cookie: [8]byte([]byte("conectix")), Features: 2, Version: 1 << 16, DataOffset: vhdHeaderAt,
		// Of readers that know both, only what Windows made is read with the size of the footer; for other creators
		// the geometry counts, which cannot express most sizes.
		CreatorApp: [4]byte([]byte("win ")), CreatorVersion: 6<<16 | 1, CreatorOS: [4]byte([]byte("Wi2k")),
		OriginalSize: uint64(capacity), CurrentSize: uint64(capacity),
		Cylinders: c, Heads: h, Sectors: s, Type: vhdDynamic, ID: [16]byte(id[:16]),
	}
	f.ID[6] = f.ID[6]&0x0f | 0x80 // RFC 9562 version 8: made from the contents
	f.ID[8] = f.ID[8]&0x3f | 0x80
	f.Checksum = vhdChecksum(f)
	return f
}

// vhdChecksum is the complement of the sum of all bytes while the checksum itself is 0.
func vhdChecksum(v any) uint32 {
	b, err := binary.Append(nil, binary.BigEndian, v)
	if err != nil {
		panic("diskformat: " + err.Error()) // a programming error: the types are fixed
	}
	var sum uint32
	for _, c := range b {
		sum += uint32(c)
	}
	return ^sum
}

// vhdGeometry is the algorithm of the specification's appendix; total is in sectors.
func vhdGeometry(total int64) (cylinders uint16, heads, sectors uint8) {
	total = min(total, vhdMaxSector)
	var s, h, tracks int64
	if total >= 65535*16*63 {
		s, h = 255, 16
		tracks = total / s
	} else {
		s = 17
		tracks = total / s
		h = max(4, divUp(tracks, 1024))
		if tracks >= h*1024 || h > 16 {
			s, h = 31, 16
			tracks = total / s
		}
		if tracks >= h*1024 {
			s, h = 63, 16
			tracks = total / s
		}
	}
	return uint16(tracks / h), uint8(h), uint8(s)
}
