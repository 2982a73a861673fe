// Package gpt reads the GUID partition table of the running appliance's disk
// and makes its last partition longer when the virtual disk was enlarged (UEFI
// Specification 2.10, section 5.3).
//
// It takes tables as package layout makes them and nothing more exotic: 512-byte
// sectors, a 92-byte header, 128 entries of 128 bytes.
//
// Linux does not look at the backup table unless it is told to, so a machine
// whose primary table is torn does not boot. Grow therefore never has a moment
// without a whole primary table: each step that matters is the write of one
// sector, and the steps are such that the disk is right after each.
//
//	1  backup entries and header at the disk's new end
//	2  new entries in a spare place before partition 1
//	3  primary header: points at the spare entries  ← one sector, the switch
//	4  new entries in their usual place (nothing points there)
//	5  primary header: points at the usual place    ← one sector
//	6  protective MBR's length                      ← one sector, nobody relies on it
//
// A cut after 3 leaves a header that points at the spare place; Grow then goes
// on with step 4.
package gpt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/parley-meet/parley/image/layout"
)

const (
	headerSize = 92
	entrySize  = 128
	entries    = 128
	tableSize  = entries * entrySize
	// tableSectors is the length of the entries.
	tableSectors = int64(tableSize) / layout.SectorSize
	primaryLBA   = layout.LBA(1)
	usualTable   = layout.LBA(2)
)

// spareTable is where the entries stand between steps 3 and 5: in the area
// before partition 1 that layout leaves unused.
var spareTable = layout.CmdlineB.End() + 2

// ErrTable is wrapped by errors about a table that is not whole.
var ErrTable = errors.New("no valid partition table")

// Partition is an entry in use.
type Partition struct {
	Number int
	GUID   string // unique partition GUID, upper case
	layout.Region
}

// Table is a partition table that was read.
type Table struct {
	header  [layout.SectorSize]byte
	entries [tableSize]byte
}

var le = binary.LittleEndian

// Read reads the primary table. Errors wrap ErrTable when there is none.
func Read(d Disk) (*Table, error) {
	var t Table
	if err := d.ReadSectors(primaryLBA, t.header[:]); err != nil {
		return nil, err
	}
	h := t.header[:headerSize]
	if string(h[:8]) != "EFI PART" || le.Uint32(h[8:]) != 0x10000 || le.Uint32(h[12:]) != headerSize {
		return nil, fmt.Errorf("%w: header signature, revision or size", ErrTable)
	}
	if got, want := headerCRC(h), le.Uint32(h[16:]); got != want {
		return nil, fmt.Errorf("%w: header CRC32 %08x, want %08x", ErrTable, got, want)
	}
	if n, size := le.Uint32(h[80:]), le.Uint32(h[84:]); n != entries || size != entrySize {
		return nil, fmt.Errorf("%w: %d entries of %d bytes, want %d of %d", ErrTable, n, size, entries, entrySize)
	}
	if got := le.Uint64(h[24:]); got != uint64(primaryLBA) {
		return nil, fmt.Errorf("%w: header says it is at sector %d", ErrTable, got)
	}
	at := t.table()
	if at != usualTable && at != spareTable {
		return nil, fmt.Errorf("%w: entries at sector %d, want %d or %d", ErrTable, at, usualTable, spareTable)
	}
	if err := d.ReadSectors(at, t.entries[:]); err != nil {
		return nil, err
	}
	if got, want := crc32.ChecksumIEEE(t.entries[:]), le.Uint32(h[88:]); got != want {
		return nil, fmt.Errorf("%w: entries' CRC32 %08x, want %08x", ErrTable, got, want)
	}
	return &t, nil
}

func (t *Table) table() layout.LBA  { return layout.LBA(le.Uint64(t.header[72:])) }
func (t *Table) backup() layout.LBA { return layout.LBA(le.Uint64(t.header[32:])) }

// Partition returns the entry with the number, counted from 1. It is not ok
// when the entry is unused or its sectors are in the wrong order.
func (t *Table) Partition(number int) (p Partition, ok bool) {
	if number < 1 || number > entries {
		return Partition{}, false
	}
	e := t.entries[(number-1)*entrySize:][:entrySize]
	if [16]byte(e[:16]) == [16]byte{} {
		return Partition{}, false
	}
	first, last := le.Uint64(e[32:]), le.Uint64(e[40:])
	if first > last || last >= 1<<55 {
		return Partition{}, false
	}
	return Partition{
		Number: number,
		GUID:   guid(e[16:32]),
		Region: layout.Region{Start: layout.LBA(first), Sectors: int64(last - first + 1)},
	}, true
}

// guid spells the 16 bytes of a GUID (UEFI Specification 2.10, appendix A).
func guid(b []byte) string {
	return fmt.Sprintf("%08X-%04X-%04X-%X-%X", le.Uint32(b), le.Uint16(b[4:]), le.Uint16(b[6:]), b[8:10], b[10:16])
}

// headerCRC returns the checksum of a header, its own field taken as zero.
func headerCRC(h []byte) uint32 {
	b := append([]byte(nil), h[:headerSize]...)
	clear(b[16:20])
	return crc32.ChecksumIEEE(b)
}
