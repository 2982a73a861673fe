package sparse

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// nextData returns the first data range at or after off (lseek(2), SEEK_DATA and SEEK_HOLE). Without one start is
// size. A file system that knows no holes answers with the whole rest.
func nextData(f *os.File, off, size int64) (start, end int64, err error) {
	start, err = f.Seek(off, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return size, size, nil
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOTSUP), errors.Is(err, unix.ESPIPE):
		return off, size, nil
	case err != nil:
		return 0, 0, err
	}
	end, err = f.Seek(start, unix.SEEK_HOLE)
	if err != nil {
		return 0, 0, err
	}
	if end <= start {
		end = size
	}
	return start, end, nil
}
