// Package ext4 makes empty ext4 file systems: /perm in a disk image, and /perm
// on the running appliance when it has to be made anew.
//
// The output depends on Params alone, so an image with it is reproducible. The
// root directory holds an empty lost+found; files come in through the kernel.
//
// Limits: 4 KiB blocks, 256-byte inodes, one inode for each 16 KiB, 16 MiB to
// just below 16 TiB, an internal journal. Features: has_journal ext_attr
// resize_inode dir_index filetype extent 64bit sparse_super large_file
// huge_file dir_nlink extra_isize metadata_csum; no flex_bg: each group holds
// its own bitmaps and inode table, which keeps the writer small and costs
// nothing at these sizes. Descriptor blocks are reserved for a growth to 2 TiB
// with EXT4_IOC_RESIZE_FS; beyond it the kernel changes over to meta_bg.
//
// The layout is that of the kernel's Documentation/filesystems/ext4.
package ext4

import (
	"bytes"
	"fmt"
	"io"
	"time"
)

// BlockSize is the size of a block in bytes.
const BlockSize = 4096

// MinSize and MaxSize bound a file system in bytes.
const (
	MinSize int64 = 16 << 20
	MaxSize int64 = 16<<40 - 1<<30
)

// MaxLabel is the longest volume label in bytes.
const MaxLabel = 16

// Params say everything that Format needs to know.
type Params struct {
	// Size is the room in bytes; what is less than a block, or too short a tail
	// to be a block group, stays unused behind the file system.
	Size int64

	// UUID names the file system and its journal. The seed of the directory
	// hash is derived from it. A file system made at run time has a random one.
	UUID [16]byte

	Label string    // up to MaxLabel bytes
	Time  time.Time // of creation, whole seconds are kept

	// Zeroed says that w reads as zeros so far. Only what is not zero is then
	// written, a few hundred KiB. Without it the journal is overwritten, and the
	// kernel clears the inode tables after the first mount.
	Zeroed bool
}

// Format writes an empty file system to w from offset 0. The superblock is
// written last, so an interrupted Format leaves nothing that mounts. When w has
// a Sync method it is called before and after the superblock.
func Format(w io.WriterAt, p Params) error {
	if p.Size < MinSize || p.Size > MaxSize {
		return fmt.Errorf("ext4 file system of %d bytes: want %d to %d", p.Size, MinSize, MaxSize)
	}
	if len(p.Label) > MaxLabel {
		return fmt.Errorf("ext4 label %q has %d bytes, at most %d fit", p.Label, len(p.Label), MaxLabel)
	}
	if s := p.Time.Unix(); s < 0 || s >= 1<<34-1<<31 {
		return fmt.Errorf("ext4 time %v: want 1970 to 2446", p.Time)
	}
	f := &formatter{Params: p, w: w, geometry: newGeometry(p.Size / BlockSize), seed: crc32c(^uint32(0), p.UUID[:])}
	return f.format()
}

// formatter is one run of Format. Its methods write until the first error,
// which stays in err.
type formatter struct {
	Params
	geometry
	w    io.WriterAt
	seed uint32 // of all metadata checksums
	err  error
}

func (f *formatter) format() error {
	if !f.Zeroed {
		f.put(0, make([]byte, BlockSize)) // whatever was here is no longer mounted
		f.sync()
		f.clearJournal()
	}
	f.writeDirectories()
	f.writeJournal()
	f.writeResizeInode()
	f.writeInodes()
	table := f.writeGroups()
	for g := int64(1); g < f.groups; g++ {
		if hasBackup(g) {
			start := g * blocksPerGroup
			f.put(start, f.superblock(g))
			f.put(start+1, table)
		}
	}
	f.put(1, table)
	f.sync()
	f.put(0, append(make([]byte, superblockOffset), f.superblock(0)[:BlockSize-superblockOffset]...))
	f.sync()
	return f.err
}

// put writes whole blocks.
func (f *formatter) put(block int64, b []byte) {
	if f.err != nil || f.Zeroed && len(bytes.Trim(b, "\x00")) == 0 {
		return
	}
	if _, err := f.w.WriteAt(b, block*BlockSize); err != nil {
		f.err = fmt.Errorf("ext4 block %d: %w", block, err)
	}
}

func (f *formatter) sync() {
	if s, ok := f.w.(interface{ Sync() error }); ok && f.err == nil {
		f.err = s.Sync()
	}
}

func (f *formatter) clearJournal() {
	zeros := make([]byte, 256*BlockSize)
	for n := int64(0); n < f.journalBlocks; n += 256 {
		f.put(f.journal+n, zeros[:min(256, f.journalBlocks-n)*BlockSize])
	}
}
