package netconfig

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// WriteFile replaces the file path by one with the content b and the mode,
// atomically and durably: after a power cut it is the old one or the new one.
// The mode does not depend on the umask. On an error the old file is untouched.
func WriteFile(path string, b []byte, mode fs.FileMode) error {
	return writeFile(osDir{}, path, b, mode)
}

// directory is the file system's part in WriteFile.
type directory interface {
	Create(name string) (file, error) // truncates what a crash left
	Rename(from, to string) error
	Remove(name string) error
	Open(name string) (file, error)
}

type file interface {
	io.WriteCloser
	Chmod(fs.FileMode) error
	Sync() error
}

type osDir struct{}

func (osDir) Create(name string) (file, error) {
	return os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
}
func (osDir) Rename(from, to string) error   { return os.Rename(from, to) }
func (osDir) Remove(name string) error       { return os.Remove(name) }
func (osDir) Open(name string) (file, error) { return os.Open(name) }

// writeFile uses one temporary name for each path: the network service alone
// writes these, and one that a crash left is used up by the next write.
func writeFile(d directory, path string, b []byte, mode fs.FileMode) error {
	tmp := path + ".tmp"
	f, err := d.Create(tmp)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := fill(f, b, mode); err != nil {
		return fmt.Errorf("write %s: %w", path, errors.Join(err, d.Remove(tmp)))
	}
	if err := d.Rename(tmp, path); err != nil {
		return fmt.Errorf("write %s: %w", path, errors.Join(err, d.Remove(tmp)))
	}
	dir, err := d.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
		return fmt.Errorf("write %s: folder: %w", path, err)
	}
	return nil
}

// fill writes f and closes it.
func fill(f file, b []byte, mode fs.FileMode) error {
	_, err := f.Write(b)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// ReadFile reads a file of at most limit bytes.
func ReadFile(path string, limit int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err != nil {
		return nil, err
	}
	if len(b) > limit {
		return nil, fmt.Errorf("%s: more than %d bytes", path, limit)
	}
	return b, nil
}
