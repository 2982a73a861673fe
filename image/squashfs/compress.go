package squashfs

import (
	"errors"
	"fmt"

	"github.com/klauspost/compress/zlib"
)

// errNoGain stops the compression of a block that does not get smaller.
var errNoGain = errors.New("no gain")

// compressor compresses one block after another without allocating. The
// result depends on the block and the level only, not on the blocks before.
type compressor struct {
	level int
	zip   *zlib.Writer
	out   []byte // filled up to its capacity
}

func newCompressor(level int) *compressor { return &compressor{level: level} }

// Write takes zlib's output as long as it is shorter than the input.
func (c *compressor) Write(p []byte) (int, error) {
	if len(p) > cap(c.out)-len(c.out) {
		return 0, errNoGain
	}
	c.out = append(c.out, p...)
	return len(p), nil
}

// block returns src compressed into dst, whose capacity is at least src's
// length, or src itself and false when compressing would not make it shorter.
func (c *compressor) block(dst, src []byte) ([]byte, bool, error) {
	c.out = dst[:0:max(len(src)-1, 0)]
	var err error
	if c.zip == nil {
		c.zip, err = zlib.NewWriterLevel(c, c.level)
	} else {
		c.zip.Reset(c)
	}
	if err == nil {
		_, err = c.zip.Write(src)
	}
	if err == nil {
		err = c.zip.Close()
	}
	switch {
	case errors.Is(err, errNoGain):
		return src, false, nil
	case err != nil:
		return nil, false, fmt.Errorf("squashfs: compression of %d bytes: %w", len(src), err)
	}
	return c.out, true, nil
}
