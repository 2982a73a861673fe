//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package main

import (
	"errors"
	"io/fs"
	"os"
)

// createLocked makes the file. While it is open, Windows does not remove it.
func createLocked(path string) (*os.File, error) { return os.Create(path) }

// locked reports whether another process has the file open.
func locked(path string) (bool, error) {
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	return err != nil, nil
}
