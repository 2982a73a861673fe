// Package sparse finds the parts of a disk image that can be skipped because they are zero.
//
// Holes are asked of the file system where it can answer (Linux, regular files); everywhere else the whole disk counts
// as data and IsZero has to look. Both ways give the same disk, only the cost differs. Snapshot notices a source file
// that somebody writes while it is read; it trusts size and modification time and cannot see more than these.
package sparse

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
)

// Extent is a range of a disk in bytes.
type Extent struct {
	Off, Len int64
}

// Extents yields in ascending order the ranges of [0, size) that may hold anything but zeros. Starts and ends are
// rounded outwards to multiples of align (ends are cut at size), and ranges that then touch are joined. A failing
// query of the file system is yielded as an error and ends the sequence.
//
// When r is an *os.File its seek position is moved.
func Extents(r io.ReaderAt, size, align int64) iter.Seq2[Extent, error] {
	return func(yield func(Extent, error) bool) {
		var open Extent
		for e, err := range dataRanges(r, size) {
			if err != nil {
				yield(Extent{}, err)
				return
			}
			start := e.Off / align * align
			end := min((e.Off+e.Len+align-1)/align*align, size)
			if open.Len > 0 && start <= open.Off+open.Len {
				open.Len = max(open.Len, end-open.Off)
				continue
			}
			if open.Len > 0 && !yield(open, nil) {
				return
			}
			open = Extent{start, end - start}
		}
		if open.Len > 0 {
			yield(open, nil)
		}
	}
}

// dataRanges yields the unrounded ranges.
func dataRanges(r io.ReaderAt, size int64) iter.Seq2[Extent, error] {
	return func(yield func(Extent, error) bool) {
		f, ok := r.(*os.File)
		if !ok || size <= 0 {
			if size > 0 {
				yield(Extent{0, size}, nil)
			}
			return
		}
		for off := int64(0); off < size; {
			start, end, err := nextData(f, off, size)
			if err != nil {
				yield(Extent{}, fmt.Errorf("seek data of %q at %d: %w", f.Name(), off, err))
				return
			}
			if start >= size {
				return
			}
			end = min(end, size)
			if !yield(Extent{start, end - start}, nil) {
				return
			}
			off = end
		}
	}
}

// zeros is small enough to stay in the first-level cache beside the data it is compared with.
var zeros [4096]byte

// IsZero reports whether every byte of p is zero.
func IsZero(p []byte) bool {
	for len(p) > len(zeros) {
		if !bytes.Equal(p[:len(zeros)], zeros[:]) {
			return false
		}
		p = p[len(zeros):]
	}
	return bytes.Equal(p, zeros[:len(p)])
}

// Snapshot checks that the regular file r is exactly size bytes long and returns a function that reports an error if
// the file's size or modification time has changed since. Readers that are not regular files pass both checks: their
// length shows when they are read.
func Snapshot(r io.ReaderAt, size int64) (changed func() error, err error) {
	st, ok := r.(interface{ Stat() (fs.FileInfo, error) })
	if !ok {
		return func() error { return nil }, nil
	}
	before, err := st.Stat()
	if err != nil {
		return nil, fmt.Errorf("stat disk: %w", err)
	}
	if !before.Mode().IsRegular() {
		return func() error { return nil }, nil
	}
	if before.Size() != size {
		return nil, fmt.Errorf("disk %q is %d bytes, want %d", before.Name(), before.Size(), size)
	}
	return func() error {
		after, err := st.Stat()
		if err != nil {
			return fmt.Errorf("stat disk: %w", err)
		}
		if after.Size() != before.Size() || !after.ModTime().Equal(before.ModTime()) {
			return fmt.Errorf("disk %q changed while it was read (%d bytes at %v, now %d bytes at %v)",
				before.Name(), before.Size(), before.ModTime(), after.Size(), after.ModTime())
		}
		return nil
	}, nil
}

// ReadFull reads len(p) bytes at off. A reader that ends early gives io.ErrUnexpectedEOF.
func ReadFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read disk at %d: %d of %d bytes: %w", off, n, len(p), err)
}
