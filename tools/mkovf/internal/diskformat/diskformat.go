// Package diskformat writes a raw disk image in the forms that hypervisors without OVF take: raw, qcow2, VHD.
//
// Every writer reads the disk once, skips holes and zeros, and gives the same bytes for the same disk and identity:
// no clock, no random UUID. Data is stored uncompressed: an appliance's disk is compressed already.
//
// Limits: the capacity is a whole number of MiB (Azure and VMware ask for it) up to 2 TiB, in VHD up to 2,040 GiB. The
// output is written from an empty file by offset, so it has to be a file or something like it.
package diskformat

import (
	"context"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"

	"github.com/parley-meet/parley/tools/mkovf/internal/diskformat/sparse"
)

// Format names a form of disk image; the name is the file's extension too.
type Format string

// The formats there are.
const (
	Raw   Format = "raw"
	QCOW2 Format = "qcow2"
	VHD   Format = "vhd"
)

const (
	mib         = 1 << 20
	sectorSize  = 512
	maxCapacity = 2 << 40
)

// formats is in the order in which they are named to people.
var formats = []Format{Raw, QCOW2, VHD}

// Parse reads a list as "raw,qcow2". An empty list is none; an unknown format and one that stands twice are errors.
func Parse(list string) ([]Format, error) {
	if list == "" {
		return nil, nil
	}
	var out []Format
	for name := range strings.SplitSeq(list, ",") {
		f := Format(name)
		if !slices.Contains(formats, f) {
			return nil, fmt.Errorf("disk format %q, want some of %q", name, formats)
		}
		if slices.Contains(out, f) {
			return nil, fmt.Errorf("disk format %q stands twice", name)
		}
		out = append(out, f)
	}
	return out, nil
}

// File is what an *os.File gives.
type File interface {
	io.WriterAt
	Truncate(size int64) error
}

// Write writes the first capacity bytes of disk to dst as f and returns the length of the file. What dst held is gone.
// id identifies the disk where the format wants a UUID; it is the contents' hash. A regular file as disk has to be
// exactly capacity bytes long and must not change meanwhile. After an error dst holds an unfinished file.
func Write(ctx context.Context, f Format, dst File, disk io.ReaderAt, capacity int64, id [32]byte) (size int64, err error) {
	limit := int64(maxCapacity)
	if f == VHD {
		limit = maxVHD
	}
	if capacity <= 0 || capacity%mib != 0 || capacity > limit {
		return 0, fmt.Errorf("%s: capacity %d bytes, want a whole number of MiB from 1 to %d", f, capacity, limit/mib)
	}
	changed, err := sparse.Snapshot(disk, capacity)
	if err == nil {
		err = dst.Truncate(0)
	}
	if err == nil {
		switch f {
		case Raw:
			size, err = writeRaw(ctx, dst, disk, capacity)
		case QCOW2:
			size, err = writeQCOW2(ctx, dst, disk, capacity)
		case VHD:
			size, err = writeVHD(ctx, dst, disk, capacity, id)
		default:
			err = fmt.Errorf("want one of %q", formats)
		}
	}
	if err == nil {
		err = changed()
	}
	if err != nil {
		return 0, fmt.Errorf("%s: %w", f, err)
	}
	return size, nil
}

// piece is a part of a disk that is not all zero.
type piece struct {
	off  int64
	data []byte // valid until the next piece
}

// pieces yields in ascending order the pieces of unit bytes, aligned to unit, that hold anything but zeros; the last one
// of the disk may be shorter.
func pieces(ctx context.Context, disk io.ReaderAt, capacity, unit int64) iter.Seq2[piece, error] {
	return func(yield func(piece, error) bool) {
		buf := make([]byte, max(unit, mib)) // units divide each other, so a read is a whole number of pieces
		for e, err := range sparse.Extents(disk, capacity, unit) {
			if err != nil {
				yield(piece{}, err)
				return
			}
			for off, end := e.Off, e.Off+e.Len; off < end; {
				b := buf[:min(int64(len(buf)), end-off)]
				err := ctx.Err()
				if err == nil {
					err = sparse.ReadFull(disk, b, off)
				}
				if err != nil {
					yield(piece{}, err)
					return
				}
				for len(b) > 0 {
					n := min(unit, int64(len(b)))
					if !sparse.IsZero(b[:n]) && !yield(piece{off, b[:n]}, nil) {
						return
					}
					b, off = b[n:], off+n
				}
			}
		}
	}
}

// writeRaw copies the disk; zeros become holes where the file system has them.
func writeRaw(ctx context.Context, dst File, disk io.ReaderAt, capacity int64) (int64, error) {
	for p, err := range pieces(ctx, disk, capacity, 64<<10) {
		if err != nil {
			return 0, err
		}
		if _, err := dst.WriteAt(p.data, p.off); err != nil {
			return 0, err
		}
	}
	return capacity, dst.Truncate(capacity)
}
