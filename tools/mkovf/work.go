package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// workPrefix begins the names of work folders in the output folder. They are
// inside it so that the renames at the end stay on one file system.
const workPrefix = ".mkovf-"

// lockName is the file in a work folder that its run holds locked.
const lockName = "lock"

// work is the folder that a run writes into. Other runs leave it alone while
// this one lives; when it was killed, the next one removes it.
type work struct {
	dir     string
	out     string
	madeOut bool
	lock    *os.File
}

// newWork makes a work folder in the output folder out, which is made too, and
// removes those of runs that are dead.
func newWork(out string) (*work, error) {
	w := &work{out: out}
	if _, err := os.Stat(out); errors.Is(err, fs.ErrNotExist) {
		w.madeOut = true
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return nil, err
	}
	if err := sweep(out); err != nil {
		return nil, err
	}
	var err error
	if w.dir, err = os.MkdirTemp(out, workPrefix); err != nil {
		return nil, err
	}
	if w.lock, err = createLocked(filepath.Join(w.dir, lockName)); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", w.dir, err), os.RemoveAll(w.dir))
	}
	return w, nil
}

// startup is how old a work folder without a lock is at least when its run is
// called dead: making the folder and its lock are two steps.
const startup = time.Minute

// sweep removes what killed runs have left in out. What cannot be removed is
// left to the next run: a compiler may outlive its run by a moment.
func sweep(out string) error {
	entries, err := os.ReadDir(out)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), workPrefix) {
			continue
		}
		dir := filepath.Join(out, e.Name())
		alive, err := locked(filepath.Join(dir, lockName))
		if err != nil {
			st, serr := e.Info()
			alive = serr != nil || time.Since(st.ModTime()) < startup
		}
		if !alive {
			_ = os.RemoveAll(dir)
		}
	}
	return nil
}

// remove takes the work folder away, and the output folder if this run made it
// and nothing came of it.
func (w *work) remove() error {
	// Windows removes no open file.
	err := errors.Join(w.lock.Close(), os.RemoveAll(w.dir))
	if w.madeOut {
		_ = os.Remove(w.out) // fails when it is not empty, as it should
	}
	return err
}

// rename is os.Rename; tests make it fail.
var rename = os.Rename

// publish moves the named files from the work folder to the output folder. Each
// appears whole; when one cannot be moved, the old ones come back. Only a kill
// between two of the renames, which take microseconds, leaves files of two
// builds, each whole; the manifests tell.
func (w *work) publish(names []string) (err error) {
	old := filepath.Join(w.dir, "old")
	if err := os.Mkdir(old, 0o755); err != nil {
		return err
	}
	var moved []string
	defer func() {
		if err == nil {
			return
		}
		for _, name := range moved {
			target := filepath.Join(w.out, name)
			// A file that had no predecessor goes.
			rerr := os.Rename(filepath.Join(old, name), target)
			if errors.Is(rerr, fs.ErrNotExist) {
				rerr = os.Remove(target)
			}
			err = errors.Join(err, rerr)
		}
	}()
	for _, name := range names {
		target := filepath.Join(w.out, name)
		// A link keeps the old file in place until the rename replaces it.
		if err := os.Link(target, filepath.Join(old, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			// A folder, or a file system without links: there the old file has
			// to step aside.
			if st, serr := os.Lstat(target); serr != nil || !st.Mode().IsRegular() {
				return fmt.Errorf("replace %s: it is no file", target)
			}
			if err := os.Rename(target, filepath.Join(old, name)); err != nil {
				return err
			}
		}
		moved = append(moved, name)
		if err := rename(filepath.Join(w.dir, name), target); err != nil {
			if _, serr := os.Lstat(filepath.Join(old, name)); serr != nil {
				moved = moved[:len(moved)-1]
			}
			return err
		}
	}
	return syncDir(w.out)
}

// syncDir makes renames durable where a folder can be synced (not on Windows).
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}
