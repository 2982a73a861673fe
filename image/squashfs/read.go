package squashfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/bits"
	"path"
	"sync"
	"time"

	"github.com/klauspost/compress/zlib"
)

// Bounds of the reader, against images made to exhaust memory.
const (
	maxReadInodes = 1 << 20
	maxReadTable  = 64 << 20  // uncompressed bytes
	maxReadPath   = 4 << 10   // bytes of one path
	maxReadText   = 256 << 20 // bytes of all paths and link targets
)

// Image reads an image of Write, or of another writer that leaves out the
// export table, extended attributes, hard links, FIFOs and sockets. It trusts
// nothing in the image: whatever a field says, reading ends in an error and
// never in a panic or in memory beyond a few times the bounds above. Several
// goroutines may read at once.
type Image struct {
	r         io.ReaderAt
	sb        superblock
	ids       []byte
	fragments []byte
	inodes    table
	dirs      table

	mu       sync.Mutex
	lastNum  uint32 // of the fragment block read last: small files come in rows
	lastData []byte // nil before the first
}

// File is one file of an image.
type File struct {
	Entry   // Open reads the content; AlignTo is not stored and so 0
	ModTime time.Time
	Start   int64 // of the first stored block, bytes from the image's start; 0: no block of its own
	Stored  int64 // bytes of those blocks; tails in fragments are not counted
}

var errCorrupt = errors.New("corrupt")

// corrupt makes an error that names the bad value.
func corrupt(format string, args ...any) error {
	return fmt.Errorf("squashfs: %w: %s", errCorrupt, fmt.Sprintf(format, args...))
}

// Open reads the superblock and the tables of an image of at most size bytes.
func Open(r io.ReaderAt, size int64) (*Image, error) {
	im := &Image{r: r}
	b := make([]byte, superSize)
	if size < superSize {
		return nil, corrupt("%d bytes, want at least %d", size, superSize)
	}
	if _, err := r.ReadAt(b, 0); err != nil {
		return nil, fmt.Errorf("squashfs: read of the superblock: %w", err)
	}
	if _, err := binary.Decode(b, le, &im.sb); err != nil {
		return nil, fmt.Errorf("squashfs: superblock: %w", err)
	}
	sb := &im.sb
	switch {
	case sb.Magic != magic || sb.Major != versionMajor || sb.Minor != 0:
		return nil, corrupt("magic %#x, version %d.%d", sb.Magic, sb.Major, sb.Minor)
	case sb.Compressor != compressorZlib:
		return nil, corrupt("compressor %d, want %d (zlib)", sb.Compressor, compressorZlib)
	case int64(sb.BlockSize) < MinBlockSize || int64(sb.BlockSize) > MaxBlockSize ||
		bits.OnesCount32(sb.BlockSize) != 1 || bits.TrailingZeros32(sb.BlockSize) != int(sb.BlockLog):
		return nil, corrupt("block size %d, logarithm %d", sb.BlockSize, sb.BlockLog)
	case sb.Used > uint64(size):
		return nil, corrupt("%d bytes used of %d", sb.Used, size)
	case sb.Inodes == 0 || sb.Inodes > maxReadInodes:
		return nil, corrupt("%d inodes, want 1 to %d", sb.Inodes, maxReadInodes)
	case sb.XattrTable != noTable || sb.ExportTable != noTable:
		return nil, corrupt("extended attributes at %#x, export table at %#x, want none", sb.XattrTable, sb.ExportTable)
	case sb.IDs == 0:
		return nil, corrupt("no owners")
	}
	var err error
	var first uint64
	if im.ids, first, err = im.lookup(sb.IDTable, 4*int64(sb.IDs)); err != nil {
		return nil, err
	}
	if sb.Fragments > 0 {
		if im.fragments, first, err = im.lookup(sb.FragmentTable, 16*int64(sb.Fragments)); err != nil {
			return nil, err
		}
	}
	if im.inodes, err = im.table(sb.InodeTable, sb.DirTable); err != nil {
		return nil, err
	}
	if im.dirs, err = im.table(sb.DirTable, first); err != nil {
		return nil, err
	}
	return im, nil
}

// at reads n bytes at off of the used part of the image.
func (im *Image) at(off uint64, n int) ([]byte, error) {
	if off > im.sb.Used || uint64(n) > im.sb.Used-off {
		return nil, corrupt("%d bytes at %d, image has %d", n, off, im.sb.Used)
	}
	b := make([]byte, n)
	if _, err := im.r.ReadAt(b, int64(off)); err != nil {
		return nil, fmt.Errorf("squashfs: read of %d bytes at %d: %w", n, off, err)
	}
	return b, nil
}

// inflaters are zlib readers at rest: a fresh one costs 40 KiB.
var inflaters sync.Pool

// inflate returns the at most limit bytes that b was compressed from.
func inflate(b []byte, limit int) ([]byte, error) {
	z, ok := inflaters.Get().(io.Reader)
	var err error
	if ok {
		err = z.(zlib.Resetter).Reset(bytes.NewReader(b), nil)
	} else {
		z, err = zlib.NewReader(bytes.NewReader(b))
	}
	if err != nil {
		return nil, corrupt("zlib: %v", err)
	}
	defer inflaters.Put(z)
	// From the start with room for a full block of metadata, or a typical one
	// of data; one byte over the limit shows that there is more.
	p := bytes.NewBuffer(make([]byte, 0, min(limit, max(metaSize, 4*len(b)))+bytes.MinRead))
	if _, err := p.ReadFrom(io.LimitReader(z, int64(limit)+1)); err != nil {
		return nil, corrupt("zlib: %v", err)
	}
	if p.Len() > limit {
		return nil, corrupt("block inflates past %d bytes", limit)
	}
	return p.Bytes(), nil
}

// metaBlock reads the metadata block at off and says where the next begins.
func (im *Image) metaBlock(off uint64) (plain []byte, next uint64, err error) {
	h, err := im.at(off, 2)
	if err != nil {
		return nil, 0, err
	}
	header := le.Uint16(h)
	n := int(header &^ metaStored)
	if n == 0 || n > metaSize {
		return nil, 0, corrupt("metadata block of %d bytes at %d", n, off)
	}
	b, err := im.at(off+2, n)
	if err == nil && header&metaStored == 0 {
		b, err = inflate(b, metaSize)
	}
	return b, off + 2 + uint64(n), err
}

// lookup reads a table of size bytes by its index at off; first is the place
// of its first metadata block.
func (im *Image) lookup(off uint64, size int64) (b []byte, first uint64, err error) {
	if size > maxReadTable {
		return nil, 0, corrupt("table of %d bytes, at most %d", size, maxReadTable)
	}
	index, err := im.at(off, 8*int((size+metaSize-1)/metaSize))
	if err != nil {
		return nil, 0, err
	}
	first = le.Uint64(index)
	for ; len(index) > 0; index = index[8:] {
		p, _, err := im.metaBlock(le.Uint64(index))
		if err != nil {
			return nil, 0, err
		}
		if want := min(size-int64(len(b)), metaSize); int64(len(p)) != want {
			return nil, 0, corrupt("table block of %d bytes, want %d", len(p), want)
		}
		b = append(b, p...)
	}
	return b, first, nil
}

// table is a metadata table in memory.
type table struct {
	plain  []byte
	blocks map[uint64]int // a block's offset when stored → in plain
}

func (im *Image) table(start, end uint64) (table, error) {
	t := table{blocks: map[uint64]int{}}
	for off := start; off < end; {
		if len(t.plain)%metaSize != 0 || len(t.plain) > maxReadTable-metaSize {
			return t, corrupt("metadata block at %d follows %d bytes", off, len(t.plain))
		}
		p, next, err := im.metaBlock(off)
		if err != nil {
			return t, err
		}
		t.blocks[off-start] = len(t.plain)
		t.plain = append(t.plain, p...)
		off = next
	}
	// An empty directory may point past the last block.
	t.blocks[end-start] = len(t.plain)
	return t, nil
}

// from returns the table from ref on.
func (t *table) from(ref metaRef) (*fields, error) {
	at, ok := t.blocks[ref.block()]
	if !ok || ref.offset() >= metaSize || at+ref.offset() > len(t.plain) {
		return nil, corrupt("reference %#x into a table of %d bytes", uint64(ref), len(t.plain))
	}
	return &fields{b: t.plain[at+ref.offset():]}, nil
}

// fields takes numbers off the front of b; short says that b ended early.
type fields struct {
	b     []byte
	short bool
}

func (f *fields) take(n int64) []byte {
	if n > int64(len(f.b)) {
		f.short, f.b = true, nil
		return make([]byte, min(n, 8))
	}
	p := f.b[:n]
	f.b = f.b[n:]
	return p
}

func (f *fields) u16() uint16 { return le.Uint16(f.take(2)) }
func (f *fields) u32() uint32 { return le.Uint32(f.take(4)) }
func (f *fields) u64() uint64 { return le.Uint64(f.take(8)) }

// inode is a decoded inode.
type inode struct {
	File
	num      uint32
	kind     uint16 // basic type
	listing  metaRef
	dirSize  int64
	blocks   []byte // the block list as stored
	fragment uint32
	offset   uint32
}

// List returns every file of the image: the root first, as ".", then each
// directory before its entries, which are sorted by name.
func (im *Image) List() ([]File, error) {
	root, err := im.inode(metaRef(im.sb.Root))
	if err != nil {
		return nil, err
	}
	if root.kind != typeDir {
		return nil, corrupt("root of type %d", root.kind)
	}
	root.Path = "."
	l := lister{im: im, seen: map[uint32]bool{root.num: true}, files: []File{root.File}}
	if err := l.dir(root); err != nil {
		return nil, err
	}
	return l.files, nil
}

type lister struct {
	im    *Image
	seen  map[uint32]bool // by inode number: no hard links, so no loops
	files []File
	text  int // bytes of paths and targets
}

func (l *lister) dir(dir *inode) error {
	f, err := l.im.dirs.from(dir.listing)
	if err != nil {
		return err
	}
	if dir.dirSize < dirSizeBias || dir.dirSize-dirSizeBias > int64(len(f.b)) {
		return corrupt("directory %q of %d bytes", dir.Path, dir.dirSize)
	}
	f.b = f.b[:dir.dirSize-dirSizeBias]
	for last := ""; len(f.b) > 0; {
		count, block, base := f.u32(), f.u32(), f.u32()
		if count >= dirRun {
			return corrupt("directory %q: %d entries under one header", dir.Path, count)
		}
		for range count + 1 {
			offset, delta, kind := f.u16(), int16(f.u16()), f.u16()
			name := string(f.take(int64(f.u16()) + 1))
			if f.short || len(name) > maxName || name <= last || !fs.ValidPath(name) || name == "." || path.Base(name) != name {
				return corrupt("directory %q: name %q after %q", dir.Path, name, last)
			}
			last = name
			n, err := l.im.inode(metaRef(block)<<16 | metaRef(offset))
			if err != nil {
				return err
			}
			n.Path = path.Join(dir.Path, name)
			l.text += len(n.Path) + len(n.Target)
			if len(n.Path) > maxReadPath || l.text > maxReadText {
				return corrupt("path of %d bytes, %d in all, at most %d and %d", len(n.Path), l.text, maxReadPath, maxReadText)
			}
			if n.kind != kind || int64(n.num) != int64(base)+int64(delta) {
				return corrupt("entry %q: inode %d of type %d, directory says %d of type %d", n.Path, n.num, n.kind, int64(base)+int64(delta), kind)
			}
			if l.seen[n.num] {
				return corrupt("entry %q: inode %d has another name", n.Path, n.num)
			}
			l.seen[n.num] = true
			l.files = append(l.files, n.File)
			if kind == typeDir {
				if err := l.dir(n); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (im *Image) inode(ref metaRef) (*inode, error) {
	f, err := im.inodes.from(ref)
	if err != nil {
		return nil, err
	}
	n := &inode{fragment: noFragment}
	kind, permissions, uid, gid := f.u16(), f.u16(), f.u16(), f.u16()
	n.ModTime, n.num = time.Unix(int64(f.u32()), 0).UTC(), f.u32()
	if uid >= im.sb.IDs || gid >= im.sb.IDs || n.num == 0 || n.num > im.sb.Inodes || permissions > 0o7777 {
		return nil, corrupt("inode %#x: number %d, owner %d, group %d, mode %#o", uint64(ref), n.num, uid, gid, permissions)
	}
	n.UID, n.GID = le.Uint32(im.ids[4*int(uid):]), le.Uint32(im.ids[4*int(gid):])
	n.Mode = fs.FileMode(permissions & 0o777)
	for _, b := range specialBits {
		if permissions&b.bit != 0 {
			n.Mode |= b.mode
		}
	}
	n.kind = kind
	switch kind {
	case typeDir:
		n.Mode |= fs.ModeDir
		block, _, size, offset := f.u32(), f.u32(), f.u16(), f.u16()
		n.listing, n.dirSize = metaRef(block)<<16|metaRef(offset), int64(size)
		f.u32()
	case typeExtDir:
		n.kind = typeDir
		n.Mode |= fs.ModeDir
		_, size, block, _ := f.u32(), f.u32(), f.u32(), f.u32()
		_, offset, _ := f.u16(), f.u16(), f.u32()
		n.listing, n.dirSize = metaRef(block)<<16|metaRef(offset), int64(size)
	case typeFile:
		n.Start = int64(f.u32())
		n.fragment, n.offset, n.Size = f.u32(), f.u32(), int64(f.u32())
	case typeExtFile:
		n.kind = typeFile
		start, size, _ := f.u64(), f.u64(), f.u64()
		_, n.fragment, n.offset, _ = f.u32(), f.u32(), f.u32(), f.u32()
		if start > im.sb.Used || size > math.MaxInt64 {
			return nil, corrupt("inode %d: %d bytes at %d", n.num, size, start)
		}
		n.Start, n.Size = int64(start), int64(size)
	case typeSymlink:
		n.Mode |= fs.ModeSymlink
		f.u32()
		size := f.u32()
		if size == 0 || size > maxTarget {
			return nil, corrupt("inode %d: link of %d bytes", n.num, size)
		}
		n.Target = string(f.take(int64(size)))
	case typeBlock, typeChar:
		n.Mode |= fs.ModeDevice
		if kind == typeChar {
			n.Mode |= fs.ModeCharDevice
		}
		f.u32()
		device := f.u32()
		n.Major, n.Minor = device>>8&0xfff, device&0xff|device>>12&0xfff00
	default:
		return nil, corrupt("inode %d of type %d", n.num, kind)
	}
	if n.kind == typeFile {
		if err := im.blockList(n, f); err != nil {
			return nil, err
		}
	}
	if f.short {
		return nil, corrupt("inode %d ends with its table", n.num)
	}
	return n, nil
}

// blockList takes the file n's block list off f.
func (im *Image) blockList(n *inode, f *fields) error {
	blockSize := int64(im.sb.BlockSize)
	blocks := n.Size / blockSize
	tail := n.Size % blockSize
	if n.fragment == noFragment && tail > 0 {
		blocks++
	}
	if blocks > int64(len(f.b))/4 || n.fragment != noFragment && (n.fragment >= im.sb.Fragments || tail == 0 || int64(n.offset)+tail > blockSize) {
		return corrupt("inode %d: %d bytes, fragment %d+%d", n.num, n.Size, n.fragment, n.offset)
	}
	n.blocks = f.take(4 * blocks)
	for b := n.blocks; len(b) > 0; b = b[4:] {
		n.Stored += int64(le.Uint32(b) &^ blockStored)
	}
	if n.Stored == 0 {
		n.Start = 0
	} else if n.Start < superSize || n.Stored > int64(im.sb.Used)-n.Start {
		return corrupt("inode %d: blocks of %d bytes at %d, image has %d", n.num, n.Stored, n.Start, im.sb.Used)
	}
	n.Open = func() (io.ReadCloser, error) {
		return io.NopCloser(&contentReader{im: im, inode: n, rest: n.blocks, pos: uint64(n.Start), left: n.Size}), nil
	}
	return nil
}

// dataBlock reads a data or fragment block of at most limit plain bytes.
func (im *Image) dataBlock(off uint64, word uint32, limit int) ([]byte, error) {
	size := word &^ blockStored
	if size == 0 || size > im.sb.BlockSize {
		return nil, corrupt("data block of %d bytes at %d", size, off)
	}
	b, err := im.at(off, int(size))
	if err == nil && word&blockStored == 0 {
		b, err = inflate(b, limit)
	}
	return b, err
}

// fragment returns the fragment block num, which nobody may change.
func (im *Image) fragment(num uint32) ([]byte, error) {
	im.mu.Lock()
	defer im.mu.Unlock()
	if im.lastData == nil || im.lastNum != num {
		record := im.fragments[16*int(num):]
		b, err := im.dataBlock(le.Uint64(record), le.Uint32(record[8:]), int(im.sb.BlockSize))
		if err != nil {
			return nil, err
		}
		im.lastNum, im.lastData = num, b
	}
	return im.lastData, nil
}

// contentReader reads a file block by block.
type contentReader struct {
	im    *Image
	inode *inode
	rest  []byte // of the block list
	pos   uint64 // of the next stored block
	left  int64  // bytes of the file not yet in plain
	plain []byte
}

func (c *contentReader) Read(p []byte) (int, error) {
	if len(c.plain) == 0 && len(p) > 0 {
		if c.left == 0 {
			return 0, io.EOF
		}
		if err := c.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, c.plain)
	c.plain = c.plain[n:]
	return n, nil
}

func (c *contentReader) next() error {
	want := int(min(c.left, int64(c.im.sb.BlockSize)))
	switch {
	case len(c.rest) == 0:
		b, err := c.im.fragment(c.inode.fragment)
		if err != nil {
			return err
		}
		if len(b) < int(c.inode.offset)+want {
			return corrupt("fragment %d of %d bytes, file wants %d from %d", c.inode.fragment, len(b), want, c.inode.offset)
		}
		c.plain = b[c.inode.offset:][:want]
	case le.Uint32(c.rest) == 0:
		c.plain = make([]byte, want)
	default:
		word := le.Uint32(c.rest)
		b, err := c.im.dataBlock(c.pos, word, want)
		if err != nil {
			return err
		}
		if len(b) != want {
			return corrupt("data block at %d has %d bytes, want %d", c.pos, len(b), want)
		}
		c.pos += uint64(word &^ blockStored)
		c.plain = b
	}
	if len(c.rest) > 0 {
		c.rest = c.rest[4:]
	}
	c.left -= int64(want)
	return nil
}
