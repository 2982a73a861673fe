package diskformat

import (
	"context"
	"encoding/binary"
	"io"
)

// The qcow2 file (QEMU's docs/interop/qcow2.txt, version 3, no features) is laid out as: header, L1 table, then per L1
// entry its data clusters and its L2 table, then refcount blocks and refcount table. Every cluster is used once.
const (
	clusterBits     = 16
	clusterSize     = 1 << clusterBits
	l2Entries       = clusterSize / 8
	l2Span          = int64(l2Entries) * clusterSize // bytes of the disk that an L2 table covers
	refcountEntries = clusterSize / 2                // 16-bit refcounts in a block
	copied          = 1 << 63                        // "refcount is exactly one"
)

// qcow2Header is the header of version 3 with the empty extension that ends the list.
type qcow2Header struct {
	Magic             [4]byte
	Version           uint32
	BackingOffset     uint64
	BackingSize       uint32
	ClusterBits       uint32
	Size              uint64
	Crypt             uint32
	L1Size            uint32
	L1Offset          uint64
	RefTableOffset    uint64
	RefTableClusters  uint32
	Snapshots         uint32
	SnapshotsOffset   uint64
	Incompatible      uint64
	Compatible        uint64
	Autoclear         uint64
	RefcountOrder     uint32
	HeaderLength      uint32
	LastExtension     uint32
	LastExtensionSize uint32
}

const qcow2HeaderLength = 104

// divUp is a/b rounded up.
func divUp(a, b int64) int64 { return (a + b - 1) / b }

func writeQCOW2(ctx context.Context, dst File, disk io.ReaderAt, capacity int64) (int64, error) {
	l1 := make([]uint64, divUp(capacity, l2Span))
	l1Clusters := divUp(int64(len(l1))*8, clusterSize)
	next := (1 + l1Clusters) * clusterSize
	l2 := make([]uint64, l2Entries)
	open := int64(-1) // the L1 entry that l2 belongs to
	flush := func() error {
		if open < 0 {
			return nil
		}
		if err := putBE(dst, l2, next); err != nil {
			return err
		}
		l1[open] = uint64(next) | copied
		next += clusterSize
		clear(l2)
		return nil
	}
	for p, err := range pieces(ctx, disk, capacity, clusterSize) {
		if err != nil {
			return 0, err
		}
		if i := p.off / l2Span; i != open {
			if err := flush(); err != nil {
				return 0, err
			}
			open = i
		}
		if _, err := dst.WriteAt(p.data, next); err != nil {
			return 0, err
		}
		l2[p.off/clusterSize%l2Entries] = uint64(next) | copied
		next += clusterSize
	}
	if err := flush(); err != nil {
		return 0, err
	}
	if err := putBE(dst, l1, clusterSize); err != nil {
		return 0, err
	}
	table, tableClusters, size, err := putRefcounts(dst, next)
	if err != nil {
		return 0, err
	}
	if err := dst.Truncate(size); err != nil {
		return 0, err
	}
	return size, putBE(dst, qcow2Header{
		Magic: [4]byte{'Q', 'F', 'I', 0xfb}, Version: 3, ClusterBits: clusterBits, Size: uint64(capacity),
		L1Size: uint32(len(l1)), L1Offset: clusterSize,
		RefTableOffset: uint64(table), RefTableClusters: uint32(tableClusters),
		RefcountOrder: 4, HeaderLength: qcow2HeaderLength,
	}, 0)
}

// putRefcounts writes at end the refcounts of all clusters, its own among them, and their table.
func putRefcounts(dst File, end int64) (table, tableClusters, size int64, err error) {
	// Blocks count themselves and the table: go round until the number is stable.
	blocks := int64(1)
	for {
		tableClusters = divUp(blocks*8, clusterSize)
		n := divUp(end/clusterSize+blocks+tableClusters, refcountEntries)
		if n == blocks {
			break
		}
		blocks = n
	}
	total := end/clusterSize + blocks + tableClusters
	refs := make([]uint64, blocks)
	counts := make([]uint16, refcountEntries)
	for i := range blocks {
		for j := range counts {
			counts[j] = 0
			if i*refcountEntries+int64(j) < total {
				counts[j] = 1
			}
		}
		refs[i] = uint64(end + i*clusterSize)
		if err := putBE(dst, counts, int64(refs[i])); err != nil {
			return 0, 0, 0, err
		}
	}
	table = end + blocks*clusterSize
	return table, tableClusters, total * clusterSize, putBE(dst, refs, table)
}

// putBE writes v, of fixed size, big endian.
func putBE(dst File, v any, off int64) error {
	b, err := binary.Append(nil, binary.BigEndian, v)
	if err != nil {
		return err
	}
	_, err = dst.WriteAt(b, off)
	return err
}
