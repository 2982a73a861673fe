// Package squashfs writes and reads squashfs 4.0 images whose blocks are
// compressed with zlib ("gzip"), the one form every Linux kernel of the
// appliance can mount.
//
// Contract of the writer: the same entries, file contents and Options give the
// same bytes, whatever the number of workers, the time or the machine. File
// data lies in the image in the order of the entries, so the caller decides
// what stands beside what; a file with AlignTo set is contiguous and shares no
// block with another file. Identical files are stored once, blocks of zeros
// not at all. The superblock is written last: an interrupted image has no
// magic and cannot be mounted.
//
// Limits: directories, regular files, symbolic links and device nodes; no hard
// links, no extended attributes, no export table (the image cannot be served
// by NFS), one modification time for everything, at most 65,535 different
// owners. Memory grows with the number of entries and with Workers×BlockSize,
// not with the size of the files.
//
// Source of the layout: Documentation/filesystems/squashfs.rst and
// fs/squashfs/squashfs_fs.h of Linux.
package squashfs

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/bits"
	"runtime"
	"time"
)

// The numbers of the format.
const (
	magic          = 0x73717368
	superSize      = 96
	compressorZlib = 1
	versionMajor   = 4

	flagDuplicates = 0x0040 // identical files were stored once
	flagNoXattrs   = 0x0200

	metaSize      = 8192    // uncompressed bytes of a full metadata block
	metaStored    = 1 << 15 // in a metadata header: the block is not compressed
	blockStored   = 1 << 24 // in a data block's size: the block is not compressed
	noFragment    = math.MaxUint32
	noXattr       = math.MaxUint32
	noTable       = math.MaxUint64
	maxIDs        = math.MaxUint16
	maxName       = 256
	maxTarget     = 4095 // the kernel refuses a link that does not fit a page
	dirHeaderSize = 12
	dirEntrySize  = 8   // without the name
	dirRun        = 256 // entries under one directory header
	dirSizeBias   = 3   // a directory's size counts "." and ".." as three bytes
)

// Inode types; a directory entry names the basic type even when the inode is
// an extended one.
const (
	typeDir = 1 + iota
	typeFile
	typeSymlink
	typeBlock
	typeChar
	_ // FIFO
	_ // socket
	typeExtDir
	typeExtFile
)

// Bounds and defaults of Options.
const (
	MinBlockSize     int64 = 4 << 10
	MaxBlockSize     int64 = 1 << 20
	DefaultBlockSize int64 = 128 << 10
	DefaultLevel           = 7 // 8 and 9 gain under 1 % for 1.4 and 5 times the work
	DefaultPadTo     int64 = 4 << 10
)

// Options of Write. The zero value is usable except that it dates everything
// to ModTime's zero, which is out of range: ModTime has to be given.
type Options struct {
	ModTime   time.Time // of the image and of every inode, whole seconds, 1970 to 2106
	BlockSize int64     // bytes, power of two from MinBlockSize to MaxBlockSize; 0: DefaultBlockSize
	Level     int       // compression, 1 (fast) to 9 (small); 0: DefaultLevel
	Workers   int       // goroutines that compress; 0: GOMAXPROCS
	PadTo     int64     // the image's size becomes a multiple of this many bytes; 0: DefaultPadTo
	MaxSize   int64     // Write stops with an error before it passes this many bytes; 0: no bound

	// Progress is told the bytes of file content read and their sum, always
	// from one goroutine at a time; it must not block.
	Progress func(done, total int64)
}

// Stats says what Write has put into an image.
type Stats struct {
	Dirs, Files, Symlinks, Devices int
	Duplicates                     int   // files that share another file's blocks
	Blocks, Fragments              int   // data blocks and fragment blocks stored
	Holes                          int   // data blocks of zeros, not stored
	Content                        int64 // bytes of all regular files
	Used                           int64 // bytes of the image, without padding at its end
	Size                           int64 // bytes of the image
}

func (o Options) withDefaults() (Options, error) {
	if o.BlockSize == 0 {
		o.BlockSize = DefaultBlockSize
	}
	if o.Level == 0 {
		o.Level = DefaultLevel
	}
	if o.Workers == 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.PadTo == 0 {
		o.PadTo = DefaultPadTo
	}
	if o.Progress == nil {
		o.Progress = func(int64, int64) {}
	}
	switch {
	case o.BlockSize < MinBlockSize || o.BlockSize > MaxBlockSize || !powerOfTwo(o.BlockSize):
		return o, fmt.Errorf("squashfs: block size %d: want a power of two from %d to %d", o.BlockSize, MinBlockSize, MaxBlockSize)
	case o.Level < 1 || o.Level > 9:
		return o, fmt.Errorf("squashfs: level %d: want 1 to 9", o.Level)
	case o.Workers < 1:
		return o, fmt.Errorf("squashfs: %d workers: want at least 1", o.Workers)
	case o.PadTo < 1:
		return o, fmt.Errorf("squashfs: pad to %d bytes: want at least 1", o.PadTo)
	case o.MaxSize < 0:
		return o, fmt.Errorf("squashfs: size bound %d is negative", o.MaxSize)
	case o.ModTime.Unix() < 0 || o.ModTime.Unix() > math.MaxUint32:
		return o, fmt.Errorf("squashfs: modification time %v: want 1970 to 2106", o.ModTime)
	}
	return o, nil
}

func powerOfTwo(n int64) bool { return n > 0 && n&(n-1) == 0 }

// Write packs entries into a new image at offset 0 of w. It needs a WriterAt
// and not a Writer because the superblock, at the front, names positions that
// are known only at the end; every other byte is written once and in order,
// padding included, so w may hold old bytes.
//
// An error leaves w without a superblock. Write returns ctx's error when ctx
// ends first.
func Write(ctx context.Context, w io.WriterAt, entries []Entry, opt Options) (Stats, error) {
	opt, err := opt.withDefaults()
	if err != nil {
		return Stats{}, err
	}
	return write(ctx, w, entries, opt)
}

func write(ctx context.Context, w io.WriterAt, entries []Entry, opt Options) (Stats, error) {
	root, files, err := buildTree(entries)
	if err != nil {
		return Stats{}, err
	}
	out := &output{w: w, max: opt.MaxSize}
	// An old superblock would vouch for a new image that is half written.
	if err := out.write(make([]byte, superSize)); err != nil {
		return Stats{}, err
	}
	data := newDataWriter(out, opt, files)
	if err := data.run(ctx); err != nil {
		return Stats{}, err
	}

	meta := newTables(opt)
	rootRef, err := meta.writeTree(root)
	if err != nil {
		return Stats{}, err
	}
	sb := superblock{
		Magic: magic, Inodes: uint32(meta.stats.inodes()), ModTime: uint32(opt.ModTime.Unix()),
		BlockSize: uint32(opt.BlockSize), Fragments: uint32(len(data.fragments)),
		Compressor: compressorZlib, BlockLog: uint16(bits.TrailingZeros64(uint64(opt.BlockSize))),
		Flags: flagDuplicates | flagNoXattrs, IDs: uint16(len(meta.ids)), Major: versionMajor,
		Root: uint64(rootRef), XattrTable: noTable, ExportTable: noTable,
	}
	sb.InodeTable = uint64(out.pos)
	if err := out.write(meta.inodes.finish()); err != nil {
		return Stats{}, err
	}
	sb.DirTable = uint64(out.pos)
	if err := out.write(meta.dirs.finish()); err != nil {
		return Stats{}, err
	}
	if sb.FragmentTable, err = writeLookup(out, meta.zip, data.fragmentTable()); err != nil {
		return Stats{}, err
	}
	if sb.IDTable, err = writeLookup(out, meta.zip, meta.idTable()); err != nil {
		return Stats{}, err
	}
	sb.Used = uint64(out.pos)
	if err := out.align(opt.PadTo); err != nil {
		return Stats{}, err
	}
	b, err := binary.Append(nil, binary.LittleEndian, &sb)
	if err != nil {
		return Stats{}, fmt.Errorf("squashfs: superblock: %w", err)
	}
	if _, err := w.WriteAt(b, 0); err != nil {
		return Stats{}, fmt.Errorf("squashfs: write of the superblock: %w", err)
	}

	stats := meta.stats
	stats.Duplicates, stats.Holes, stats.Blocks = data.duplicates, data.holes, data.blocks
	stats.Fragments, stats.Content = len(data.fragments), data.total
	stats.Used, stats.Size = int64(sb.Used), out.pos
	return stats, nil
}

func (s Stats) inodes() int { return s.Dirs + s.Files + s.Symlinks + s.Devices }

// superblock is struct squashfs_super_block, little endian.
type superblock struct {
	Magic, Inodes, ModTime, BlockSize, Fragments uint32
	Compressor, BlockLog, Flags, IDs             uint16
	Major, Minor                                 uint16
	Root, Used                                   uint64
	IDTable, XattrTable, InodeTable, DirTable    uint64
	FragmentTable, ExportTable                   uint64
}

// output writes the image front to back.
type output struct {
	w   io.WriterAt
	pos int64
	max int64 // 0: no bound
}

func (o *output) write(p []byte) error {
	if o.max > 0 && int64(len(p)) > o.max-o.pos {
		return fmt.Errorf("squashfs: image passes its bound of %d bytes", o.max)
	}
	if _, err := o.w.WriteAt(p, o.pos); err != nil {
		return fmt.Errorf("squashfs: write of %d bytes at %d: %w", len(p), o.pos, err)
	}
	o.pos += int64(len(p))
	return nil
}

var zeros [64 << 10]byte

// align writes zeros up to the next multiple of n bytes.
func (o *output) align(n int64) error {
	for gap := (n - o.pos%n) % n; gap > 0; {
		step := min(gap, int64(len(zeros)))
		if err := o.write(zeros[:step]); err != nil {
			return err
		}
		gap -= step
	}
	return nil
}
