package ext4

import (
	"crypto/sha256"
	"encoding/binary"
	"hash/crc32"
)

var le = binary.LittleEndian

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// crc32c continues a CRC-32C without the final inversion, as ext4 uses it.
func crc32c(crc uint32, b []byte) uint32 { return ^crc32.Update(^crc, castagnoli, b) }

// superblockOffset is where the superblock is in block 0; copies begin a block.
const superblockOffset = 1024

const superblockSize = 1024

const (
	compatFeatures   = 0x0004 | 0x0008 | 0x0010 | 0x0020                   // has_journal ext_attr resize_inode dir_index
	incompatFeatures = 0x0002 | 0x0040 | 0x0080                            // filetype extent 64bit
	readOnlyFeatures = 0x0001 | 0x0002 | 0x0008 | 0x0020 | 0x0040 | 0x0400 // sparse_super large_file huge_file dir_nlink extra_isize metadata_csum
)

// superblock returns the block that begins the group, with the superblock at
// its start.
func (f *formatter) superblock(group int64) []byte {
	b := make([]byte, BlockSize)
	seconds := uint64(f.Time.Unix())
	now, nowHigh := uint32(seconds), byte(seconds>>32)
	free := f.free()
	privileged := f.blocks / 50 // so that PID 1 can still write when a service has filled /perm
	compat := uint32(compatFeatures)
	if f.reserved == 0 {
		compat &^= 0x0010
	}
	le.PutUint32(b[0x00:], uint32(f.groups*inodesPerGroup))
	le.PutUint32(b[0x04:], uint32(f.blocks))
	le.PutUint32(b[0x08:], uint32(privileged))
	le.PutUint32(b[0x0c:], uint32(free))
	le.PutUint32(b[0x10:], uint32(f.groups*inodesPerGroup-lastInode))
	le.PutUint32(b[0x18:], 2) // block size 1024<<2
	le.PutUint32(b[0x1c:], 2) // cluster size
	le.PutUint32(b[0x20:], blocksPerGroup)
	le.PutUint32(b[0x24:], blocksPerGroup)
	le.PutUint32(b[0x28:], inodesPerGroup)
	le.PutUint32(b[0x30:], now)    // last write
	le.PutUint16(b[0x36:], 0xffff) // no check after a number of mounts
	le.PutUint16(b[0x38:], 0xef53)
	le.PutUint16(b[0x3a:], 1) // clean
	le.PutUint16(b[0x3c:], 2) // on errors: remount read-only
	le.PutUint32(b[0x40:], now)
	le.PutUint32(b[0x4c:], 1) // dynamic revision
	le.PutUint32(b[0x54:], lostFoundInode)
	le.PutUint16(b[0x58:], inodeSize)
	le.PutUint16(b[0x5a:], uint16(group))
	le.PutUint32(b[0x5c:], compat)
	le.PutUint32(b[0x60:], incompatFeatures)
	le.PutUint32(b[0x64:], readOnlyFeatures)
	copy(b[0x68:], f.UUID[:])
	copy(b[0x78:], f.Label)
	le.PutUint16(b[0xce:], uint16(f.reserved))
	le.PutUint32(b[0xe0:], journalInode)
	seed := sha256.Sum256(append([]byte("ext4 directory hash seed "), f.UUID[:]...))
	copy(b[0xec:0xfc], seed[:])
	b[0xfc] = 1 // half MD4
	b[0xfd] = 1 // the journal's place follows
	le.PutUint16(b[0xfe:], descriptorSize)
	le.PutUint32(b[0x100:], 0x000c) // mount with user_xattr, acl
	le.PutUint32(b[0x108:], now)    // made
	f.journalMap().put(b[0x10c:0x148])
	le.PutUint32(b[0x14c:], uint32(f.journalBlocks*BlockSize))
	le.PutUint16(b[0x15c:], extraSize)
	le.PutUint16(b[0x15e:], extraSize)
	le.PutUint32(b[0x160:], 1) // directory hashes take bytes as signed
	b[0x175] = 1               // CRC-32C
	le.PutUint32(b[0x248:], uint32(f.overhead()))
	b[0x274], b[0x276], b[0x277] = nowHigh, nowHigh, nowHigh // of last write, made, checked
	le.PutUint32(b[superblockSize-4:], crc32c(^uint32(0), b[:superblockSize-4]))
	return b
}

// Flags of a group descriptor.
const (
	inodesUnused = 1 // no inode bitmap, the table was never used
	blocksUnused = 2 // no block bitmap, only metadata is taken
	tableZeroed  = 4
)

// writeGroups writes the bitmaps and returns the descriptors.
func (f *formatter) writeGroups() []byte {
	table := make([]byte, f.descriptors*BlockSize)
	for g := range f.groups {
		var flags uint16
		var blockSum, inodeSum uint32
		freeInodes, unusedInodes, directories := int64(inodesPerGroup), int64(inodesPerGroup), 0
		if f.Zeroed {
			flags |= tableZeroed
		}
		if g > 0 && g < f.groups-1 {
			flags |= blocksUnused
		} else {
			b := bitmap(f.used(g), f.groupBlocks(g))
			f.put(f.bitmaps(g), b)
			blockSum = crc32c(f.seed, b)
		}
		if g > 0 {
			flags |= inodesUnused
		} else {
			freeInodes -= lastInode
			unusedInodes -= lastInode
			directories = 2
			b := bitmap(lastInode, inodesPerGroup)
			f.put(f.bitmaps(g)+1, b)
			inodeSum = crc32c(f.seed, b[:inodesPerGroup/8])
		}
		freeBlocks := f.groupBlocks(g) - f.used(g)
		d := table[g*descriptorSize:][:descriptorSize]
		le.PutUint32(d[0x00:], uint32(f.bitmaps(g)))
		le.PutUint32(d[0x04:], uint32(f.bitmaps(g)+1))
		le.PutUint32(d[0x08:], uint32(f.inodeTable(g)))
		le.PutUint16(d[0x0c:], uint16(freeBlocks))
		le.PutUint16(d[0x0e:], uint16(freeInodes))
		le.PutUint16(d[0x10:], uint16(directories))
		le.PutUint16(d[0x12:], flags)
		le.PutUint16(d[0x18:], uint16(blockSum))
		le.PutUint16(d[0x1a:], uint16(inodeSum))
		le.PutUint16(d[0x1c:], uint16(unusedInodes))
		le.PutUint16(d[0x38:], uint16(blockSum>>16))
		le.PutUint16(d[0x3a:], uint16(inodeSum>>16))
		number := le.AppendUint32(nil, uint32(g))
		le.PutUint16(d[0x1e:], uint16(crc32c(crc32c(f.seed, number), d)))
	}
	return table
}

// bitmap returns a block with the first used bits set, and those behind valid.
func bitmap(used, valid int64) []byte {
	b := make([]byte, BlockSize)
	for i := range b {
		for bit := range 8 {
			if n := int64(i*8 + bit); n < used || n >= valid {
				b[i] |= 1 << bit
			}
		}
	}
	return b
}
