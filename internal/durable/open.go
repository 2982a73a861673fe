package durable

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// ErrKind means that something else than a regular file was found.
var ErrKind = errors.New("is no regular file")

// Open opens a regular file for reading. It is for a folder in which another
// process may write that is not trusted as far: it follows no link at the
// path's end, and never waits, as opening a FIFO would for ever.
func Open(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, syscall.ELOOP) {
		return nil, fmt.Errorf("%s: %w", path, ErrKind)
	}
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = fmt.Errorf("%s: %w", path, ErrKind)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
