package disk

import (
	"bytes"
	"context"
	"fmt"
	"io"
)

const (
	chunkSize = 1 << 20
	blockSize = 4 << 10 // blocks of zeros of this size stay holes
)

var zeroBlock [blockSize]byte

func section(b []byte) *io.SectionReader {
	return io.NewSectionReader(bytes.NewReader(b), 0, int64(len(b)))
}

// copier copies contents to the disk.
type copier struct {
	ctx         context.Context
	w           io.WriterAt
	progress    func(done, total int64)
	done, total int64
	buf         []byte
}

// copy places a content that counts for the progress.
func (c *copier) copy(r *io.SectionReader, at int64) error {
	return c.chunks(r, at, func(n int) {
		c.done += int64(n)
		if c.progress != nil {
			c.progress(c.done, c.total)
		}
	})
}

// place writes r at an offset of the disk.
func (c *copier) place(r *io.SectionReader, at int64) error { return c.chunks(r, at, func(int) {}) }

func (c *copier) chunks(r *io.SectionReader, at int64, written func(n int)) error {
	if c.buf == nil {
		c.buf = make([]byte, chunkSize)
	}
	for off := int64(0); off < r.Size(); {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		b := c.buf[:min(chunkSize, r.Size()-off)]
		if n, err := r.ReadAt(b, off); n < len(b) {
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("read at byte %d of %d: %w", off+int64(n), r.Size(), err)
		}
		if err := writeSparse(c.w, b, at+off); err != nil {
			return err
		}
		off += int64(len(b))
		written(len(b))
	}
	return nil
}

// writeSparse writes the runs of blocks that are not zero.
func writeSparse(w io.WriterAt, b []byte, at int64) error {
	for i := 0; i < len(b); {
		end := i
		for end < len(b) && !zero(b[end:min(end+blockSize, len(b))]) {
			end = min(end+blockSize, len(b))
		}
		if end == i {
			i += blockSize
			continue
		}
		if _, err := w.WriteAt(b[i:end], at+int64(i)); err != nil {
			return fmt.Errorf("write at byte %d: %w", at+int64(i), err)
		}
		i = end
	}
	return nil
}

func zero(b []byte) bool { return bytes.Equal(b, zeroBlock[:len(b)]) }
