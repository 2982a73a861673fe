// Package wipe removes files so that their content is not left in the blocks
// that they had: each regular file is overwritten in place with zeros and
// flushed, and then removed.
//
// Limits: what was in files that were removed or shortened before is not
// reached, nor what a virtual disk's snapshot, a copying file system below it or
// a flash disk's spare blocks still hold. Below maxDepth folders files are
// removed without being overwritten.
package wipe

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

const (
	maxDepth = 64
	chunk    = 256 << 10
	// flushEvery bounds how long one flush takes: Tick is not called meanwhile.
	flushEvery = 16 << 20
)

// step is called before each change; tests make it fail, or end there.
var step = func(what, name string) error { return nil }

// Report is what was done.
type Report struct {
	Files, Folders int
	Bytes          int64   // overwritten
	Errors         []error // the first few
	Failed         int     // files and folders that are still there, or were not overwritten
}

// maxErrors bounds Report.Errors.
const maxErrors = 4

func (r *Report) fail(err error) {
	r.Failed++
	if len(r.Errors) < maxErrors {
		r.Errors = append(r.Errors, err)
	}
}

// Err returns the first errors, joined; nil: everything was done.
func (r *Report) Err() error {
	if r.Failed == 0 {
		return nil
	}
	return fmt.Errorf("%d files or folders could not be wiped: %w", r.Failed, errors.Join(r.Errors...))
}

// Wiper wipes.
type Wiper struct {
	Tick func() // called after each piece of work, for a watchdog; nil: not

	report Report
}

// Folder wipes what is in dir but the names keep, which may be absent, and
// leaves dir itself. It goes on after an error. Links are removed, never followed
// out of dir.
func (w *Wiper) Folder(dir string, keep ...string) Report {
	root, err := os.OpenRoot(dir)
	if err != nil {
		w.report.fail(err)
		return w.report
	}
	defer root.Close()
	w.folder(root, 0, keep)
	w.flush(root)
	return w.report
}

// Names wipes files and folders with all that is in them, named relative to dir.
// One that is not there is no error.
func (w *Wiper) Names(dir string, names ...string) Report {
	root, err := os.OpenRoot(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return w.report
	}
	if err != nil {
		w.report.fail(err)
		return w.report
	}
	defer root.Close()
	for _, n := range names {
		w.entry(root, n, 0)
	}
	w.flush(root)
	return w.report
}

// flush writes out the whole file system, folders included.
func (w *Wiper) flush(root *os.Root) {
	f, err := root.Open(".")
	if err == nil {
		err = unix.Syncfs(int(f.Fd()))
		f.Close()
	}
	if err != nil {
		w.report.fail(fmt.Errorf("flush %s: %w", root.Name(), err))
	}
}

func (w *Wiper) folder(root *os.Root, depth int, keep []string) {
	f, err := root.Open(".")
	if err != nil {
		w.report.fail(err)
		return
	}
	names, err := f.Readdirnames(-1)
	f.Close()
	if err != nil {
		w.report.fail(fmt.Errorf("list %s: %w", root.Name(), err))
	}
	slices.Sort(names)
	for _, n := range names {
		if !slices.Contains(keep, n) {
			w.entry(root, n, depth)
		}
	}
}

// entry wipes one name of the folder.
func (w *Wiper) entry(root *os.Root, name string, depth int) {
	st, err := root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err == nil {
		switch {
		case st.Mode().IsRegular():
			if err := w.overwrite(root, name); err != nil {
				// It is removed all the same: that is better than to leave it.
				w.report.fail(fmt.Errorf("overwrite %s/%s: %w", root.Name(), name, err))
			}
		case st.IsDir() && depth < maxDepth:
			sub, serr := root.OpenRoot(name)
			if serr == nil {
				w.folder(sub, depth+1, nil)
				sub.Close()
			}
			err = serr
		}
	}
	if err == nil {
		err = step("remove", name)
	}
	switch {
	case err != nil:
	case st.IsDir():
		w.report.Folders++
		err = root.RemoveAll(name)
	default:
		w.report.Files++
		err = root.Remove(name)
	}
	if err != nil {
		w.report.fail(fmt.Errorf("remove %s/%s: %w", root.Name(), name, err))
	}
	w.tick()
}

func (w *Wiper) tick() {
	if w.Tick != nil {
		w.Tick()
	}
}

// overwrite puts zeros where the file has blocks, so that one with holes is not
// made larger than it is.
func (w *Wiper) overwrite(root *os.Root, name string) error {
	if err := step("overwrite", name); err != nil {
		return err
	}
	f, err := root.OpenFile(name, os.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	zeros, unflushed := make([]byte, chunk), 0
	for at := int64(0); ; {
		from, err := f.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break // nothing but a hole is left
		}
		if err != nil {
			return err
		}
		to, err := f.Seek(from, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		if _, err := f.Seek(from, io.SeekStart); err != nil {
			return err
		}
		for left := to - from; left > 0; {
			n, err := f.Write(zeros[:min(left, chunk)])
			w.report.Bytes += int64(n)
			if err != nil {
				return err
			}
			left -= int64(n)
			if unflushed += n; unflushed >= flushEvery {
				unflushed = 0
				if err := f.Sync(); err != nil {
					return err
				}
			}
			w.tick()
		}
		at = to
	}
	if err := step("flush", name); err != nil {
		return err
	}
	return f.Sync()
}
