// Package fat lays out FAT32 file systems whose files never move: each file is
// contiguous and its place is known, so that others can read and overwrite it
// by sector.
//
// Write writes the metadata only; the contents are the caller's, at the offsets
// that it returns. An update that keeps a file's size changes no metadata.
//
// Limits: FAT32 with 512-byte sectors, 40 MiB to 8 GiB, files below 4 GiB,
// names of ASCII letters, digits, "-", "_" and "." (up to 255 of them), no
// empty files, times from 1980 to 2107 in UTC. The data area begins at a
// multiple of 1 MiB in the volume.
//
// The layout is that of Microsoft's "FAT32 File System Specification" 1.03.
package fat

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// Sizes in bytes.
const (
	MinSize    int64 = 40 << 20
	MaxSize    int64 = 8 << 30
	sectorSize int64 = 512
	dataAlign  int64 = 1 << 20
)

const (
	minReserved    = 32    // sectors before the first table
	minClusters    = 65525 // fewer would make it FAT16
	maxPerCluster  = 8     // sectors
	infoSector     = 1
	backupSector   = 6
	rootCluster    = 2
	media          = 0xf8 // fixed disk
	endOfChain     = 0x0fffffff
	maxFileSize    = 1<<32 - 1
	maxLabel       = 11
	entrySize      = 32
	tables         = 2
	bytesPerTable  = 4 // of one entry of a table
	maxNameLetters = 255
)

var le = binary.LittleEndian

// Params describe a volume.
type Params struct {
	Size   int64     // bytes, a multiple of 4 KiB
	Label  string    // up to 11 capital letters, digits, spaces
	Serial uint32    // volume serial number
	Hidden uint32    // sectors of the disk before the volume
	Time   time.Time // of everything in it; two seconds are the grain
}

// File is one file. Folders come from the paths.
type File struct {
	Path  string // "EFI/BOOT/BOOTX64.EFI"
	Size  int64  // bytes, from 1
	Align int64  // its offset is a multiple of this many bytes, a power of two; 0 when that does not matter
}

// Write writes a volume's metadata to w, which has to read as zeros, and
// returns the offset of each file's content in bytes from the start of w. Files
// are laid out in the given order.
func Write(w io.WriterAt, p Params, files []File) ([]int64, error) {
	if p.Size < MinSize || p.Size > MaxSize || p.Size%4096 != 0 {
		return nil, fmt.Errorf("FAT32 volume of %d bytes: want a multiple of 4096 from %d to %d", p.Size, MinSize, MaxSize)
	}
	if err := checkLabel(p.Label); err != nil {
		return nil, err
	}
	if y := p.Time.UTC().Year(); y < 1980 || y > 2107 {
		return nil, fmt.Errorf("FAT time %v: want a year from 1980 to 2107", p.Time)
	}
	root, err := tree(files)
	if err != nil {
		return nil, err
	}
	v := newVolume(p)
	for _, d := range root.all() {
		d.start = v.take(d.bytes(), 0)
	}
	offsets := make([]int64, len(files))
	for i, f := range files {
		start := v.take(f.Size, f.Align)
		root.find(f.Path).start = start
		offsets[i] = v.offset(start)
	}
	if over := v.next - rootCluster - v.clusters; over > 0 {
		return nil, fmt.Errorf("FAT32 volume of %d bytes is %d bytes too small for its files", p.Size, over*v.clusterSize)
	}
	return offsets, v.write(w, root)
}

func checkLabel(label string) error {
	if len(label) == 0 || len(label) > maxLabel {
		return fmt.Errorf("FAT label %q has %d letters, want 1 to %d", label, len(label), maxLabel)
	}
	for _, c := range label {
		if (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != ' ' {
			return fmt.Errorf("FAT label %q: want capital letters, digits and spaces", label)
		}
	}
	return nil
}

// volume is the geometry and the allocation table that grows with take.
type volume struct {
	Params
	clusterSize  int64
	tableSectors int64
	dataStart    int64 // bytes
	clusters     int64
	next         int64 // first cluster that is not taken
	chains       []chain
}

// chain is a run of clusters in use.
type chain struct{ start, length int64 }

func newVolume(p Params) *volume {
	v := &volume{Params: p, next: rootCluster}
	// The tables' length depends on the data area's and the other way round.
	for perCluster := int64(maxPerCluster); perCluster > 0; perCluster /= 2 {
		v.clusterSize = perCluster * sectorSize
		for v.dataStart = dataAlign; ; v.dataStart += dataAlign {
			v.clusters = (p.Size - v.dataStart) / v.clusterSize
			v.tableSectors = ((v.clusters+rootCluster)*bytesPerTable + sectorSize - 1) / sectorSize
			if v.reserved() >= minReserved {
				break
			}
		}
		if v.clusters >= minClusters {
			break
		}
	}
	return v
}

// reserved returns the number of sectors before the first table. They take what
// the alignment of the data area leaves.
func (v *volume) reserved() int64 { return v.dataStart/sectorSize - tables*v.tableSectors }

func (v *volume) offset(cluster int64) int64 {
	return v.dataStart + (cluster-rootCluster)*v.clusterSize
}

// take allocates a run of clusters.
func (v *volume) take(size, align int64) int64 {
	if align > v.clusterSize {
		perUnit := align / v.clusterSize
		at := v.offset(v.next) / v.clusterSize
		v.next += (perUnit - at%perUnit) % perUnit
	}
	c := chain{v.next, (size + v.clusterSize - 1) / v.clusterSize}
	v.chains = append(v.chains, c)
	v.next += c.length
	return c.start
}

func (v *volume) write(w io.WriterAt, root *node) error {
	var errs []error
	put := func(what string, b []byte, offset int64) {
		if _, err := w.WriteAt(b, offset); err != nil {
			errs = append(errs, fmt.Errorf("FAT32 %s at byte %d: %w", what, offset, err))
		}
	}
	head := make([]byte, 0, 3*sectorSize)
	head = append(head, v.bootSector()...)
	head = append(head, v.info()...)
	head = append(head, v.thirdSector()...)
	put("boot sector", head, 0)
	put("backup boot sector", head, backupSector*sectorSize)
	table := v.table()
	for i := range int64(tables) {
		put("table", table, (v.reserved()+i*v.tableSectors)*sectorSize)
	}
	for _, d := range root.all() {
		put("folder", v.folder(d), v.offset(d.start))
	}
	return errors.Join(errs...)
}

// bootSector returns the boot sector, whose code halts: nothing starts it.
func (v *volume) bootSector() []byte {
	b := make([]byte, sectorSize)
	copy(b, []byte{0xeb, 0x58, 0x90}) // jump behind the parameters
	copy(b[3:], "MSWIN4.1")           // the name the specification advises
	le.PutUint16(b[11:], uint16(sectorSize))
	b[13] = byte(v.clusterSize / sectorSize)
	le.PutUint16(b[14:], uint16(v.reserved()))
	b[16] = tables
	b[21] = media
	le.PutUint16(b[24:], 63)  // sectors per track
	le.PutUint16(b[26:], 255) // heads
	le.PutUint32(b[28:], v.Hidden)
	le.PutUint32(b[32:], uint32(v.Size/sectorSize))
	le.PutUint32(b[36:], uint32(v.tableSectors))
	le.PutUint32(b[44:], rootCluster)
	le.PutUint16(b[48:], infoSector)
	le.PutUint16(b[50:], backupSector)
	b[64] = 0x80 // BIOS drive
	b[66] = 0x29 // the next three fields are there
	le.PutUint32(b[67:], v.Serial)
	copy(b[71:], padded(v.Label, maxLabel))
	copy(b[82:], "FAT32   ")
	copy(b[90:], []byte{0xfa, 0xf4, 0xeb, 0xfd}) // cli; hlt; again
	return sign(b)
}

// info returns the FSInfo sector.
func (v *volume) info() []byte {
	b := make([]byte, sectorSize)
	copy(b, "RRaA")
	copy(b[484:], "rrAa")
	used := int64(0)
	for _, c := range v.chains {
		used += c.length
	}
	le.PutUint32(b[488:], uint32(v.clusters-used))
	le.PutUint32(b[492:], uint32(v.next-1)) // the last one taken
	return sign(b)
}

// thirdSector returns the last of the three sectors that belong to the boot
// sector.
func (v *volume) thirdSector() []byte { return sign(make([]byte, sectorSize)) }

func sign(b []byte) []byte {
	b[510], b[511] = 0x55, 0xaa
	return b
}

func (v *volume) table() []byte {
	b := make([]byte, v.tableSectors*sectorSize)
	le.PutUint32(b[0:], 0x0fffff00|media)
	le.PutUint32(b[4:], endOfChain) // cleanly unmounted, no errors
	for _, c := range v.chains {
		for n := c.start; n < c.start+c.length; n++ {
			following := uint32(n + 1)
			if n == c.start+c.length-1 {
				following = endOfChain
			}
			le.PutUint32(b[n*bytesPerTable:], following)
		}
	}
	return b
}
