// Package durable replaces small files so that after a power cut either the old
// or the new content is there, whole: temporary file, fsync, rename, fsync of
// the directory.
//
// It is for state of a few KiB with one writer process. Two writers at once
// leave one of the two contents.
package durable

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
)

// step is called before each system call of WriteFile; tests make it fail.
var step = func(name string) error { return nil }

// Steps are the names that a function given to Fault sees, in their order.
var Steps = []string{"create", "chmod", "write", "fsync", "close", "rename", "fsync directory"}

// Fault is for tests of the packages that keep state here, and no program calls
// it: f is asked before each step of every write, and its error is the step's.
// The returned function ends that. Tests that use it must not run in parallel.
func Fault(f func(step string) error) (end func()) {
	before := step
	step = f
	return func() { step = before }
}

// WriteFile replaces path's content and gives the file exactly mode, whatever
// the umask. On an error the old content is still there, unless only the last
// step, the directory's fsync, went wrong: then the new one is, but may be lost
// by a power cut.
func WriteFile(path string, data []byte, mode os.FileMode) (err error) {
	dir := filepath.Dir(path)
	if err := step("create"); err != nil {
		return fmt.Errorf("replace %s: %w", path, err)
	}
	tmp := temporary(path)
	if err := clearAway(tmp); err != nil {
		return fmt.Errorf("replace %s: %w", path, err)
	}
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return fmt.Errorf("replace %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(tmp)
			err = fmt.Errorf("replace %s: %w", path, err)
		}
	}()
	for _, s := range []struct {
		name string
		do   func() error
	}{
		{"chmod", func() error { return f.Chmod(mode) }},
		{"write", func() error { _, err := f.Write(data); return err }},
		{"fsync", f.Sync},
		{"close", f.Close},
		{"rename", func() error { return put(tmp, path) }},
	} {
		if err := step(s.name); err != nil {
			return err
		}
		if err := s.do(); err != nil {
			return err
		}
	}
	if err := syncDir(dir); err != nil {
		return err
	}
	return nil
}

// temporary is where path's next content is written. The name is fixed: what an
// interrupted write left is overwritten.
func temporary(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".tmp")
}

// put renames tmp to path, also where a folder stands in its place: a folder
// that several processes write in must not be blocked by one of them.
func put(tmp, path string) error {
	err := os.Rename(tmp, path)
	if info, lerr := os.Lstat(path); err == nil || lerr != nil || !info.IsDir() {
		return err
	}
	if err := clearAway(path); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// clearAway removes what is at path. A folder that cannot be removed, because
// something is in it, is moved aside.
func clearAway(path string) error {
	err := os.Remove(path)
	if err == nil || os.IsNotExist(err) {
		return nil
	}
	if info, lerr := os.Lstat(path); lerr != nil || !info.IsDir() {
		return err
	}
	return os.Rename(path, filepath.Join(filepath.Dir(path), ".aside-"+rand.Text()))
}

// Remove deletes path durably, and what an interrupted write left of it: it may
// be a secret. A file that is not there is no error.
func Remove(path string) error {
	gone := false
	for _, p := range []string{path, temporary(path)} {
		_, missing := os.Lstat(p)
		if err := clearAway(p); err != nil {
			return err
		}
		gone = gone || missing == nil
	}
	if !gone {
		return nil
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	if err := step("fsync directory"); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("fsync %s: %w", dir, err)
	}
	return nil
}
