//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package main

import (
	"errors"
	"os"
	"syscall"
)

// createLocked makes the file and locks it until it is closed or the process
// ends. A file system without locks is no error: there nothing is swept.
func createLocked(path string) (*os.File, error) {
	f, err := os.Create(path)
	if err == nil {
		_ = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	}
	return f, err
}

// locked reports whether another process holds the file locked. Where that
// cannot be told it says yes.
func locked(path string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EINTR) {
			return err != nil, nil
		}
	}
}
