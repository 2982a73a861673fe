package ext4

// The fixed part of the geometry.
const (
	blocksPerGroup  = 8 * BlockSize // what one bitmap block covers
	inodeSize       = 256
	inodesPerGroup  = blocksPerGroup * BlockSize / (16 << 10)
	inodesPerBlock  = BlockSize / inodeSize
	tableBlocks     = inodesPerGroup / inodesPerBlock
	descriptorSize  = 64
	groupsPerBlock  = BlockSize / descriptorSize
	addressesPer    = BlockSize / 4 // block numbers in an indirect block
	lostFoundBlocks = 4             // room for e2fsck to put inodes without allocating
	minTail         = 50            // data blocks that make a short last group worth having, as in mke2fs

	// growBlocks is the number of descriptor blocks that a file system can grow
	// to in place: 2 TiB.
	growBlocks = (2 << 40) / BlockSize / blocksPerGroup / groupsPerBlock
)

// geometry says where everything is, in blocks. Group 0 holds, in this order:
// superblock, descriptors, reserved descriptors, both bitmaps, inode table, the
// root directory, lost+found, the resize inode's indirect block, the journal.
type geometry struct {
	blocks        int64 // of the whole file system
	groups        int64
	descriptors   int64 // blocks of group descriptors
	reserved      int64 // descriptor blocks kept for growth
	root          int64
	lostFound     int64
	resize        int64
	journal       int64
	journalBlocks int64
}

func newGeometry(blocks int64) geometry {
	g := geometry{blocks: blocks}
	for {
		g.groups = (g.blocks + blocksPerGroup - 1) / blocksPerGroup
		g.descriptors = (g.groups + groupsPerBlock - 1) / groupsPerBlock
		g.reserved = max(0, growBlocks-g.descriptors)
		last := g.groups - 1
		tail := g.blocks - last*blocksPerGroup
		if last == 0 || tail >= g.metadata(last)+minTail {
			break
		}
		g.blocks = last * blocksPerGroup
	}
	g.root = g.metadata(0)
	g.lostFound = g.root + 1
	g.resize = g.lostFound + lostFoundBlocks
	g.journal = g.resize
	if g.reserved > 0 {
		g.journal++
	}
	switch size := g.blocks * BlockSize; {
	case size < 256<<20:
		g.journalBlocks = 4 << 20 / BlockSize
	case size < 1<<30:
		g.journalBlocks = 16 << 20 / BlockSize
	case size < 8<<30:
		g.journalBlocks = 32 << 20 / BlockSize
	default:
		g.journalBlocks = 64 << 20 / BlockSize
	}
	return g
}

// hasBackup reports whether a group begins with a copy of the superblock and
// the descriptors (feature sparse_super: 0, 1 and the powers of 3, 5 and 7).
func hasBackup(group int64) bool {
	if group <= 1 {
		return true
	}
	for _, base := range []int64{3, 5, 7} {
		n := base
		for n < group {
			n *= base
		}
		if n == group {
			return true
		}
	}
	return false
}

// bitmaps returns the block of the group's block bitmap; that of its inode
// bitmap and its inode table follow.
func (g *geometry) bitmaps(group int64) int64 {
	b := group * blocksPerGroup
	if hasBackup(group) {
		b += 1 + g.descriptors + g.reserved
	}
	return b
}

func (g *geometry) inodeTable(group int64) int64 { return g.bitmaps(group) + 2 }

// metadata returns how many blocks of the group are not for data.
func (g *geometry) metadata(group int64) int64 {
	return g.inodeTable(group) + tableBlocks - group*blocksPerGroup
}

// groupBlocks returns the length of the group.
func (g *geometry) groupBlocks(group int64) int64 {
	return min(blocksPerGroup, g.blocks-group*blocksPerGroup)
}

// used returns how many blocks of the group are taken, from its start on.
func (g *geometry) used(group int64) int64 {
	if group == 0 {
		return g.journal + g.journalBlocks
	}
	return g.metadata(group)
}

// free returns the number of free blocks.
func (g *geometry) free() int64 {
	n := g.blocks
	for group := range g.groups {
		n -= g.used(group)
	}
	return n
}

// overhead returns the number of blocks that never hold data, the journal
// among them.
func (g *geometry) overhead() int64 {
	n := g.journalBlocks
	for group := range g.groups {
		n += g.metadata(group)
	}
	return n
}
