// Package gpt writes GUID partition tables and the MBR in front of them.
//
// Limits: 512-byte sectors, 128 entries of 128 bytes (what every tool writes),
// no attributes, names of ASCII letters. The layout is that of the UEFI
// Specification 2.10, chapter 5.
package gpt

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"io"
	"strings"

	"github.com/parley-meet/parley/image/layout"
)

const (
	entries    = 128
	entrySize  = 128
	headerSize = 92
	maxName    = 36 // UTF-16 code units
)

var le = binary.LittleEndian

// GUID is in the byte order of a partition table: the first three groups of
// the text are little endian.
type GUID [16]byte

// ParseGUID reads the form 01234567-89AB-CDEF-0123-456789ABCDEF.
func ParseGUID(s string) (GUID, error) {
	u, err := ParseUUID(s)
	if err != nil {
		return GUID{}, err
	}
	return GUID{u[3], u[2], u[1], u[0], u[5], u[4], u[7], u[6], u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]}, nil
}

// ParseUUID reads the same form into the bytes as they are spelled, which is
// how file systems keep them.
func ParseUUID(s string) (u [16]byte, err error) {
	plain := strings.ReplaceAll(s, "-", "")
	if len(s) != 36 || len(plain) != 32 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return u, fmt.Errorf("GUID %q: want the form 01234567-89AB-CDEF-0123-456789ABCDEF", s)
	}
	if _, err := hex.Decode(u[:], []byte(plain)); err != nil {
		return u, fmt.Errorf("GUID %q: %w", s, err)
	}
	return u, nil
}

// Write writes both copies of the partition table: the primary one from sector
// 1, the backup one at the end of the diskSize bytes of w. The MBR is not
// touched. After a disk has grown, Write with the new size is what moves the
// backup copy.
func Write(w io.WriterAt, diskSize int64, diskGUID string, parts []layout.Partition) error {
	if diskSize%layout.SectorSize != 0 {
		return fmt.Errorf("disk size %d bytes: want a multiple of %d", diskSize, layout.SectorSize)
	}
	guid, err := ParseGUID(diskGUID)
	if err != nil {
		return err
	}
	end := layout.LBA(diskSize / layout.SectorSize)
	first, last := layout.LBA(1+layout.GPTSectors), end-layout.GPTSectors-1
	array, err := encodeEntries(parts, first, last)
	if err != nil {
		return err
	}
	header := func(self, other, array1 layout.LBA, array []byte) []byte {
		h := make([]byte, layout.SectorSize)
		copy(h, "EFI PART")
		le.PutUint32(h[8:], 1<<16) // revision 1.0
		le.PutUint32(h[12:], headerSize)
		le.PutUint64(h[24:], uint64(self))
		le.PutUint64(h[32:], uint64(other))
		le.PutUint64(h[40:], uint64(first))
		le.PutUint64(h[48:], uint64(last))
		copy(h[56:], guid[:])
		le.PutUint64(h[72:], uint64(array1))
		le.PutUint32(h[80:], entries)
		le.PutUint32(h[84:], entrySize)
		le.PutUint32(h[88:], crc32.ChecksumIEEE(array))
		le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:headerSize]))
		return h
	}
	backup := append(array[:len(array):len(array)], header(end-1, 1, last+1, array)...)
	if _, err := w.WriteAt(backup, (last + 1).Bytes()); err != nil {
		return fmt.Errorf("backup partition table at sector %d: %w", last+1, err)
	}
	primary := append(header(1, end-1, 2, array), array...)
	if _, err := w.WriteAt(primary, layout.LBA(1).Bytes()); err != nil {
		return fmt.Errorf("partition table at sector 1: %w", err)
	}
	return nil
}

func encodeEntries(parts []layout.Partition, first, last layout.LBA) ([]byte, error) {
	array := make([]byte, entries*entrySize)
	for i, p := range parts {
		if p.Number < 1 || p.Number > entries || p.Sectors < 1 || p.Start < first || p.End()-1 > last {
			return nil, fmt.Errorf("partition %d at sectors %d to %d: want a number from 1 to %d and sectors %d to %d", p.Number, p.Start, p.End()-1, entries, first, last)
		}
		for _, q := range parts[:i] {
			if q.Number == p.Number || q.Start < p.End() && p.Start < q.End() {
				return nil, fmt.Errorf("partitions %d (sectors %d to %d) and %d (%d to %d) collide", q.Number, q.Start, q.End()-1, p.Number, p.Start, p.End()-1)
			}
		}
		kind, err := ParseGUID(p.Type)
		if err != nil {
			return nil, fmt.Errorf("partition %d: type %w", p.Number, err)
		}
		guid, err := ParseGUID(p.GUID)
		if err != nil {
			return nil, fmt.Errorf("partition %d: %w", p.Number, err)
		}
		if len(p.Name) > maxName {
			return nil, fmt.Errorf("partition %d: name %q has more than %d letters", p.Number, p.Name, maxName)
		}
		e := array[(p.Number-1)*entrySize:]
		copy(e[0:], kind[:])
		copy(e[16:], guid[:])
		le.PutUint64(e[32:], uint64(p.Start))
		le.PutUint64(e[40:], uint64(p.End()-1))
		for k, c := range []byte(p.Name) {
			if c < ' ' || c > '~' {
				return nil, fmt.Errorf("partition %d: name %q is not ASCII", p.Number, p.Name)
			}
			e[56+2*k] = c
		}
	}
	return array, nil
}

// MBR returns sector 0 of a disk of diskSize bytes: boot code (up to
// layout.MBRCodeSize bytes), disk signature and the protective partition, which
// ends at the last sector that 32 bits can count.
//
// Some BIOSes start no disk without an active partition, while older UEFI
// firmware takes no protective partition that is active. With boot code the
// fourth entry, otherwise unused (type 0), is therefore marked active.
func MBR(diskSize int64, code []byte, signature uint32) ([]byte, error) {
	if len(code) > layout.MBRCodeSize {
		return nil, fmt.Errorf("boot code of %d bytes, at most %d fit", len(code), layout.MBRCodeSize)
	}
	b := make([]byte, layout.SectorSize)
	copy(b, code)
	le.PutUint32(b[layout.MBRCodeSize:], signature)
	p := b[446:510]                                               // four entries of 16 bytes
	copy(p[1:], []byte{0x00, 0x02, 0x00, 0xee, 0xff, 0xff, 0xff}) // first sector in CHS, type, no CHS for the end
	le.PutUint32(p[8:], 1)
	le.PutUint32(p[12:], uint32(min(diskSize/layout.SectorSize-1, 1<<32-1)))
	if len(code) > 0 {
		p[3*16] = 0x80
	}
	b[510], b[511] = 0x55, 0xaa
	return b, nil
}
