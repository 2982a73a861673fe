package squashfs

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"math"
)

var le = binary.LittleEndian

// metaRef is a place in a metadata table: the stored block's offset from the
// table's start, and in the low 16 bits the offset in the uncompressed block.
type metaRef uint64

func (r metaRef) block() uint64 { return uint64(r) >> 16 }
func (r metaRef) offset() int   { return int(r & 0xffff) }

// metaWriter collects a table of metadata blocks in memory. Its first error
// sticks and is for the owner of the table to look at.
type metaWriter struct {
	zip    *compressor
	stored []byte // complete blocks
	plain  []byte // the block being filled, always shorter than metaSize
	packed [metaSize]byte
	err    error
}

func (m *metaWriter) ref() metaRef { return metaRef(len(m.stored)<<16 | len(m.plain)) }

func (m *metaWriter) write(p []byte) {
	for len(p) > 0 {
		n := min(len(p), metaSize-len(m.plain))
		m.plain = append(m.plain, p[:n]...)
		p = p[n:]
		// At once, so that ref always names the block that the next byte is in.
		if len(m.plain) == metaSize {
			m.flush()
		}
	}
}

func (m *metaWriter) flush() {
	b, smaller, err := m.zip.block(m.packed[:], m.plain)
	if err != nil && m.err == nil {
		m.err = err
	}
	header := uint16(len(b))
	if !smaller {
		header |= metaStored
	}
	m.stored = le.AppendUint16(m.stored, header)
	m.stored = append(m.stored, b...)
	m.plain = m.plain[:0]
}

// finish returns the table as it is stored.
func (m *metaWriter) finish() []byte {
	if len(m.plain) > 0 {
		m.flush()
	}
	return m.stored
}

// writeLookup stores a table of fixed-size records followed by the index of
// its metadata blocks, and returns the index's position.
func writeLookup(out *output, zip *compressor, records []byte) (uint64, error) {
	m := metaWriter{zip: zip}
	var index []byte
	for start := out.pos; len(records) > 0; {
		n := min(len(records), metaSize)
		index = le.AppendUint64(index, uint64(start)+m.ref().block())
		m.write(records[:n])
		records = records[n:]
	}
	table := m.finish()
	if m.err != nil {
		return 0, m.err
	}
	if err := out.write(table); err != nil {
		return 0, err
	}
	at := uint64(out.pos)
	return at, out.write(index)
}

// tables builds the inode, directory and owner tables.
type tables struct {
	opt    Options
	zip    *compressor
	inodes metaWriter
	dirs   metaWriter
	ids    []uint32
	idNums map[uint32]uint16
	stats  Stats
	buf    []byte // scratch of one inode
}

func newTables(opt Options) *tables {
	zip := newCompressor(opt.Level)
	return &tables{
		opt: opt, zip: zip, inodes: metaWriter{zip: zip}, dirs: metaWriter{zip: zip},
		idNums: map[uint32]uint16{},
	}
}

// writeTree writes every inode and directory below and with root, whose place
// it returns.
func (t *tables) writeTree(root *node) (metaRef, error) {
	// A directory's inode comes after its listing, and the listing after the
	// inodes that it names; a directory's inode also has its parent's number.
	// So numbers are dealt first, in the order of writing. It keeps the inodes
	// of one listing together, which makes for few directory headers.
	var order []*node
	var place func(dir *node)
	place = func(dir *node) {
		for _, c := range dir.sorted {
			if c.Mode.IsDir() {
				place(c)
			}
		}
		order = append(order, dir.sorted...)
	}
	place(root)
	order = append(order, root)
	if len(order) >= math.MaxUint32 {
		return 0, fmt.Errorf("squashfs: %d inodes, at most %d", len(order), uint32(math.MaxUint32-1))
	}
	for i, n := range order {
		n.num = uint32(i + 1)
	}
	for _, n := range order {
		if err := t.writeInode(n, len(order)); err != nil {
			return 0, fmt.Errorf("squashfs: entry %q: %w", n.Path, err)
		}
		if t.inodes.err != nil {
			return 0, t.inodes.err
		}
		if t.dirs.err != nil {
			return 0, t.dirs.err
		}
		// Directory headers and inodes have 32 bits for these.
		if size := max(len(t.inodes.stored), len(t.dirs.stored)); size > math.MaxUint32 {
			return 0, fmt.Errorf("squashfs: metadata table of %d bytes, at most %d", size, uint32(math.MaxUint32))
		}
	}
	return root.ref, nil
}

func (t *tables) id(id uint32) (uint16, error) {
	num, ok := t.idNums[id]
	if !ok {
		if len(t.ids) == maxIDs {
			return 0, fmt.Errorf("more than %d different owners", maxIDs)
		}
		num = uint16(len(t.ids))
		t.ids = append(t.ids, id)
		t.idNums[id] = num
	}
	return num, nil
}

func (t *tables) idTable() []byte {
	b := make([]byte, 0, 4*len(t.ids))
	for _, id := range t.ids {
		b = le.AppendUint32(b, id)
	}
	return b
}

// writeInode writes n's inode, and before it n's listing if it is a directory.
// inodes is their number in the image.
func (t *tables) writeInode(n *node, inodes int) error {
	var listing listing
	if n.Mode.IsDir() {
		var err error
		if listing, err = t.writeListing(n); err != nil {
			return err
		}
	}
	uid, err := t.id(n.UID)
	if err != nil {
		return err
	}
	gid, err := t.id(n.GID)
	if err != nil {
		return err
	}
	header := func(kind uint16) {
		t.buf = le.AppendUint16(t.buf[:0], kind)
		t.buf = le.AppendUint16(t.buf, n.permissions())
		t.buf = le.AppendUint16(t.buf, uid)
		t.buf = le.AppendUint16(t.buf, gid)
		t.u32(uint32(t.opt.ModTime.Unix()), n.num)
	}
	const links = 1 // of everything but directories

	switch kind := n.kind(); kind {
	case typeDir:
		t.stats.Dirs++
		nlink := uint32(2)
		for _, c := range n.sorted {
			if c.Mode.IsDir() {
				nlink++
			}
		}
		parent := uint32(inodes + 1) // of the root, as mksquashfs has it
		if n.parent != nil {
			parent = n.parent.num
		}
		block, offset := uint32(listing.ref.block()), uint16(listing.ref.offset())
		// Without an index the last header is in the first block, and its run
		// ends in the second: the size fits 16 bits.
		if listing.indexes == 0 {
			header(typeDir)
			t.u32(block, nlink)
			t.buf = le.AppendUint16(t.buf, uint16(listing.size))
			t.buf = le.AppendUint16(t.buf, offset)
			t.u32(parent)
		} else {
			header(typeExtDir)
			t.u32(nlink, uint32(listing.size), block, parent)
			t.buf = le.AppendUint16(t.buf, uint16(listing.indexes))
			t.buf = le.AppendUint16(t.buf, offset)
			t.u32(noXattr)
			t.buf = append(t.buf, listing.index...)
		}
	case typeFile:
		t.stats.Files++
		d := &n.data
		if d.same != nil {
			d = &d.same.data
		}
		if max(d.start, n.Size) <= math.MaxUint32 && d.sparse == 0 {
			header(typeFile)
			t.u32(uint32(d.start), d.fragment, d.offset, uint32(n.Size))
		} else {
			header(typeExtFile)
			t.buf = le.AppendUint64(t.buf, uint64(d.start))
			t.buf = le.AppendUint64(t.buf, uint64(n.Size))
			t.buf = le.AppendUint64(t.buf, uint64(d.sparse))
			t.u32(links, d.fragment, d.offset, noXattr)
		}
		t.u32(d.blocks...)
	case typeSymlink:
		t.stats.Symlinks++
		header(kind)
		t.u32(links, uint32(len(n.Target)))
		t.buf = append(t.buf, n.Target...)
	default:
		t.stats.Devices++
		header(kind)
		// The kernel's new_encode_dev.
		t.u32(links, n.Minor&0xff|n.Major<<8|n.Minor&^0xff<<12)
	}
	n.ref = t.inodes.ref()
	t.inodes.write(t.buf)
	return nil
}

func (t *tables) u32(v ...uint32) {
	for _, x := range v {
		t.buf = le.AppendUint32(t.buf, x)
	}
}

// kind is the basic inode type.
func (n *node) kind() uint16 {
	switch n.Mode.Type() {
	case fs.ModeDir:
		return typeDir
	case fs.ModeSymlink:
		return typeSymlink
	case fs.ModeDevice:
		return typeBlock
	case fs.ModeDevice | fs.ModeCharDevice:
		return typeChar
	}
	return typeFile
}

func (n *node) permissions() uint16 {
	if n.Mode.Type() == fs.ModeSymlink {
		return 0o777
	}
	p := uint16(n.Mode.Perm())
	for _, b := range specialBits {
		if n.Mode&b.mode != 0 {
			p |= b.bit
		}
	}
	return p
}

var specialBits = []struct {
	mode fs.FileMode
	bit  uint16
}{{fs.ModeSetuid, 0o4000}, {fs.ModeSetgid, 0o2000}, {fs.ModeSticky, 0o1000}}

// listing is what a directory's inode says of its entries.
type listing struct {
	ref     metaRef
	size    int64  // as the inode has it
	index   []byte // one record for each metadata block after the first
	indexes int
}

// writeListing writes dir's entries. They come in runs under a common header;
// a run ends at 256 entries, when an inode lies in another metadata block, and
// where the listing enters a new metadata block, so that the index can name a
// header there: a lookup in a large directory then reads one block instead of
// all. The numbers in a listing are consecutive (writeTree), so their distance
// from the header's number always fits its 16 signed bits.
func (t *tables) writeListing(dir *node) (listing, error) {
	l := listing{ref: t.dirs.ref()}
	pos, indexed := 0, 0 // bytes written, and the last block that has a header's record
	blockOf := func(pos int) int { return (l.ref.offset() + pos) / metaSize }
	var run []byte
	for rest := dir.sorted; len(rest) > 0; {
		first := rest[0]
		end := pos + dirHeaderSize
		n := 0
		for _, c := range rest {
			if n == dirRun || c.ref.block() != first.ref.block() || n > 0 && blockOf(end) != blockOf(pos) {
				break
			}
			end += dirEntrySize + len(c.name)
			n++
		}
		if b := blockOf(pos); b > indexed {
			l.index = le.AppendUint32(l.index, uint32(pos))
			l.index = le.AppendUint32(l.index, uint32(t.dirs.ref().block()))
			l.index = le.AppendUint32(l.index, uint32(len(first.name)-1))
			l.index = append(l.index, first.name...)
			l.indexes++
			indexed = b
		}
		run = le.AppendUint32(run[:0], uint32(n-1))
		run = le.AppendUint32(run, uint32(first.ref.block()))
		run = le.AppendUint32(run, first.num)
		for _, c := range rest[:n] {
			run = le.AppendUint16(run, uint16(c.ref.offset()))
			run = le.AppendUint16(run, uint16(c.num-first.num))
			run = le.AppendUint16(run, c.kind())
			run = le.AppendUint16(run, uint16(len(c.name)-1))
			run = append(run, c.name...)
		}
		t.dirs.write(run)
		pos, rest = end, rest[n:]
	}
	l.size = int64(pos) + dirSizeBias
	if l.indexes > math.MaxUint16 || l.size > math.MaxInt32 {
		return l, fmt.Errorf("directory of %d entries: its listing of %d bytes is too long", len(dir.sorted), l.size)
	}
	return l, nil
}
