package gpt

import (
	"fmt"
	"hash/crc32"

	"github.com/parley-meet/parley/image/layout"
)

// Disk is the whole disk. Writes are on the disk when they return, and a write
// of one sector happens as a whole or not at all.
type Disk interface {
	Sectors() int64
	ReadSectors(at layout.LBA, p []byte) error
	WriteSectors(at layout.LBA, p []byte) error
}

// Grow lets the partition number, the last one on the disk, reach the last
// multiple of layout.Alignment before the backup table of a disk that became
// longer. It returns the partition as it stands afterwards and whether anything
// was changed. It also finishes what an earlier Grow was cut off from. A disk
// that became shorter is an error and nothing is written.
func Grow(d Disk, number int) (Partition, bool, error) {
	t, err := Read(d)
	if err != nil {
		return Partition{}, false, err
	}
	p, ok := t.Partition(number)
	if !ok {
		return Partition{}, false, fmt.Errorf("partition %d: %w", number, ErrTable)
	}
	last := layout.LBA(d.Sectors() - 1)
	if last < t.backup() {
		return p, false, fmt.Errorf("the disk has %d sectors, but its partition table was made for %d", last+1, t.backup()+1)
	}
	for n := 1; n <= entries; n++ {
		if q, ok := t.Partition(n); ok && n != number && q.End() > p.Start {
			return p, false, fmt.Errorf("partition %d lies behind partition %d", n, number)
		}
	}
	align := layout.Alignment / layout.SectorSize
	end := layout.LBA((d.Sectors() - layout.GPTSectors) / align * align)
	moved := t.table() != usualTable
	w := writer{disk: d}
	if last == t.backup() && !moved {
		changed, err := w.finish()
		return p, changed, err
	}
	grown := *t
	if end > p.End() {
		p.Sectors = int64(end - p.Start)
		le.PutUint64(grown.entries[(number-1)*entrySize+40:], uint64(end-1))
	}
	if last != t.backup() {
		w.write(last-layout.LBA(tableSectors), grown.entries[:])
		w.write(last, grown.headerAt(last, primaryLBA, last-layout.LBA(tableSectors), last))
		if !moved {
			w.write(spareTable, grown.entries[:])
			w.write(primaryLBA, grown.headerAt(primaryLBA, last, spareTable, last))
		}
	}
	// Nothing points at the usual place now. (A disk that grew again after a cut
	// has its old table in the spare place and goes straight to the new one.)
	w.write(usualTable, grown.entries[:])
	w.write(primaryLBA, grown.headerAt(primaryLBA, last, usualTable, last))
	w.write(spareTable, make([]byte, tableSize))
	_, err = w.finish()
	return p, true, err
}

// headerAt returns a header sector for the table: its own place, the other
// header's, the entries', and the disk's last sector.
func (t *Table) headerAt(self, other, table, last layout.LBA) []byte {
	b := append([]byte(nil), t.header[:]...)
	le.PutUint64(b[24:], uint64(self))
	le.PutUint64(b[32:], uint64(other))
	le.PutUint64(b[48:], uint64(last)-uint64(tableSectors)-1) // last usable sector
	le.PutUint64(b[72:], uint64(table))
	le.PutUint32(b[88:], crc32.ChecksumIEEE(t.entries[:]))
	le.PutUint32(b[16:], headerCRC(b))
	return b
}

// writer stops at the first error.
type writer struct {
	disk Disk
	err  error
}

func (w *writer) write(at layout.LBA, p []byte) {
	if w.err == nil {
		w.err = w.disk.WriteSectors(at, p)
	}
}

// finish clears the spare place and sets the protective MBR's length: the boot
// code and everything else in sector 0 stay. It reports whether the length was
// wrong; it is written last, so while it is wrong an earlier finish was cut off.
func (w *writer) finish() (changed bool, err error) {
	if w.err != nil {
		return false, w.err
	}
	mbr := make([]byte, layout.SectorSize)
	if err := w.disk.ReadSectors(0, mbr); err != nil {
		return false, err
	}
	const record = 446
	length := uint32(min(w.disk.Sectors()-1, 0xffffffff))
	if mbr[record+4] != 0xee || le.Uint32(mbr[record+12:]) == length || le.Uint32(mbr[record+12:]) == 0xffffffff {
		return false, nil
	}
	w.write(spareTable, make([]byte, tableSize))
	le.PutUint32(mbr[record+12:], length)
	w.write(0, mbr)
	return true, w.err
}
