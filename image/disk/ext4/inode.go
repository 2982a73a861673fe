package ext4

import "encoding/binary"

// Inode numbers; those up to 10 are reserved by the format.
const (
	rootInode      = 2
	resizeInode    = 7
	journalInode   = 8
	lostFoundInode = 11
	lastInode      = lostFoundInode
)

const (
	modeDir   = 0x4000
	modeFile  = 0x8000
	extents   = 0x80000 // inode flag
	extraSize = 32      // bytes of an inode behind the first 128 that are in use
)

// inode is what the reserved inodes and the two directories need.
type inode struct {
	mode   uint16
	links  uint16
	size   int64
	blocks int64 // taken, indirect blocks among them
	flags  uint32
	block  blockMap
}

// blockMap is i_block: block numbers, or the root of an extent tree.
type blockMap [15]uint32

func (m blockMap) put(b []byte) {
	for i, v := range m {
		le.PutUint32(b[4*i:], v)
	}
}

// contiguous returns an extent tree of one extent.
func contiguous(start, length int64) blockMap {
	return blockMap{
		0xf30a | 1<<16, // magic, one entry
		4,              // room for four, depth 0
		0,              // generation
		0,              // first block in the file
		uint32(length), // start's bits 32–47 above it are zero
		uint32(start),
	}
}

func file(mode, links uint16, start, length int64) inode {
	return inode{mode: mode, links: links, size: length * BlockSize, blocks: length, flags: extents, block: contiguous(start, length)}
}

func (f *formatter) journalMap() blockMap { return contiguous(f.journal, f.journalBlocks) }

// encode writes the inode into b, inodeSize zero bytes.
func (f *formatter) encode(b []byte, number uint32, n inode) {
	seconds := f.Time.Unix()
	// The low word counts as signed; the epoch bits say how many 2³² to add.
	now, epoch := uint32(seconds), uint32((seconds-int64(int32(seconds)))>>32)
	le.PutUint16(b[0x00:], n.mode)
	le.PutUint32(b[0x04:], uint32(n.size))
	le.PutUint32(b[0x08:], now)
	le.PutUint32(b[0x0c:], now)
	le.PutUint32(b[0x10:], now)
	le.PutUint16(b[0x1a:], n.links)
	le.PutUint32(b[0x1c:], uint32(n.blocks*BlockSize/512))
	le.PutUint32(b[0x20:], n.flags)
	n.block.put(b[0x28:0x64])
	le.PutUint32(b[0x6c:], uint32(n.size>>32))
	le.PutUint16(b[0x80:], extraSize)
	le.PutUint32(b[0x84:], epoch)
	le.PutUint32(b[0x88:], epoch)
	le.PutUint32(b[0x8c:], epoch)
	le.PutUint32(b[0x90:], now)
	le.PutUint32(b[0x94:], epoch)
	sum := crc32c(f.inodeSeed(number), b)
	le.PutUint16(b[0x7c:], uint16(sum))
	le.PutUint16(b[0x82:], uint16(sum>>16))
}

// inodeSeed is the seed of an inode's checksum and of its directory blocks;
// the generation is always zero.
func (f *formatter) inodeSeed(number uint32) uint32 {
	return crc32c(f.seed, append(le.AppendUint32(nil, number), 0, 0, 0, 0))
}

func (f *formatter) writeInodes() {
	inodes := map[uint32]inode{
		rootInode:      file(modeDir|0o755, 3, f.root, 1),
		journalInode:   file(modeFile|0o600, 1, f.journal, f.journalBlocks),
		lostFoundInode: file(modeDir|0o700, 2, f.lostFound, lostFoundBlocks),
	}
	if f.reserved > 0 {
		inodes[resizeInode] = f.resizeInode()
	}
	b := make([]byte, BlockSize)
	for number, n := range inodes {
		f.encode(b[(number-1)*inodeSize:number*inodeSize], number, n)
	}
	f.put(f.inodeTable(0), b)
}

// dirTail is the length of the checksum entry that ends a directory block.
const dirTail = 12

const typeDir = 2

type dirEntry struct {
	inode uint32
	name  string
}

// directory returns a directory block; the last entry takes all the room.
func (f *formatter) directory(number uint32, entries ...dirEntry) []byte {
	b := make([]byte, BlockSize)
	at, end := 0, BlockSize-dirTail
	for i, e := range entries {
		length := 8 + (len(e.name)+3)/4*4
		if i == len(entries)-1 {
			length = end - at
		}
		le.PutUint32(b[at:], e.inode)
		le.PutUint16(b[at+4:], uint16(length))
		if e.name != "" {
			b[at+6], b[at+7] = byte(len(e.name)), typeDir
			copy(b[at+8:], e.name)
		}
		at += length
	}
	le.PutUint16(b[end+4:], dirTail)
	b[end+7] = 0xde // marks the checksum
	le.PutUint32(b[end+8:], crc32c(f.inodeSeed(number), b[:end]))
	return b
}

func (f *formatter) writeDirectories() {
	f.put(f.root, f.directory(rootInode, dirEntry{rootInode, "."}, dirEntry{rootInode, ".."}, dirEntry{lostFoundInode, "lost+found"}))
	f.put(f.lostFound, f.directory(lostFoundInode, dirEntry{lostFoundInode, "."}, dirEntry{rootInode, ".."}))
	for n := int64(1); n < lostFoundBlocks; n++ {
		f.put(f.lostFound+n, f.directory(lostFoundInode, dirEntry{}))
	}
}

// writeJournal writes the superblock of an empty journal (JBD2, version 2; big
// endian).
func (f *formatter) writeJournal() {
	b := make([]byte, BlockSize)
	be := binary.BigEndian
	be.PutUint32(b[0x00:], 0xc03b3998)
	be.PutUint32(b[0x04:], 4) // superblock, version 2
	be.PutUint32(b[0x0c:], BlockSize)
	be.PutUint32(b[0x10:], uint32(f.journalBlocks))
	be.PutUint32(b[0x14:], 1) // first block of the log
	be.PutUint32(b[0x18:], 1) // first sequence number; the start 0 behind it says: empty
	copy(b[0x30:], f.UUID[:])
	be.PutUint32(b[0x40:], 1) // one user
	f.put(f.journal, b)
}

// backups returns how many groups besides 0 have copies of the descriptors.
func (f *formatter) backups() (groups []int64) {
	for g := int64(1); g < f.groups; g++ {
		if hasBackup(g) {
			groups = append(groups, g)
		}
	}
	return groups
}

// resizeInode owns the reserved descriptor blocks: its double indirect block
// points to those of group 0, and each of them, used as an indirect block,
// points to its copies.
func (f *formatter) resizeInode() inode {
	n := inode{mode: modeFile | 0o600, links: 1, size: (addressesPer*addressesPer + addressesPer + 12) * BlockSize}
	n.blocks = 1 + f.reserved*(1+int64(len(f.backups())))
	n.block[13] = uint32(f.resize)
	return n
}

func (f *formatter) writeResizeInode() {
	if f.reserved == 0 {
		return
	}
	double := make([]byte, BlockSize)
	for i := range f.reserved {
		primary := 1 + f.descriptors + i
		le.PutUint32(double[(f.descriptors+i)%addressesPer*4:], uint32(primary))
		single := make([]byte, BlockSize)
		for k, g := range f.backups() {
			le.PutUint32(single[4*k:], uint32(g*blocksPerGroup+primary))
		}
		f.put(primary, single)
	}
	f.put(f.resize, double)
}
