// Package statefile keeps the small JSON files of a folder in which more than
// one process may write, and which therefore none of them trusts more than it
// needs to: nothing follows a link or waits for a FIFO, what is read is bounded
// and decoded strictly, and whoever changes something holds the folder's lock.
//
// Each file is an object with a field version. It is replaced atomically and
// durably (package durable), so that reading needs no lock.
package statefile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/parley-meet/parley/internal/durable"
	"github.com/parley-meet/parley/services/internal/netconfig"
)

// lockName is the file whose flock everybody holds who changes something.
const lockName = "lock"

// lockWait is how long Lock waits at most: the other process may be stopped, or
// mean harm.
const lockWait = 10 * time.Second

// shortWait is lockWait for one who goes on without the lock, and did so before.
const shortWait = time.Second

// lockPoll is how often the lock is tried.
const lockPoll = 10 * time.Millisecond

// ErrLocked means that another process has held the folder's lock for too long.
var ErrLocked = errors.New("another process is changing the settings: try again")

// Folder is a folder with a lock.
type Folder struct {
	Dir string
	// Insist, when it is not nil, has Lock go on without the lock when another
	// process keeps it for too long, and is called then. It is for the one process
	// that must be able to set things right whatever another does; what both
	// change at the same moment may be lost.
	Insist func(error)

	turn    chan struct{} // holds a token while this process has the lock, or tries
	without bool          // the last one was not given; guarded by turn
}

// New returns the folder dir, which must be there when it is used.
func New(dir string) *Folder { return &Folder{Dir: dir, turn: make(chan struct{}, 1)} }

// Path returns the path of a file in the folder.
func (f *Folder) Path(name string) string { return filepath.Join(f.Dir, name) }

// Lock waits until nobody else changes something in the folder. On a read-only
// file system that has no lock yet nobody can, and it returns at once.
func (f *Folder) Lock(ctx context.Context) (unlock func(), err error) {
	asked := ctx
	ctx, cancel := context.WithTimeoutCause(ctx, lockWait, ErrLocked)
	defer cancel()
	select {
	case f.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	free := func() { <-f.turn }
	if f.Insist != nil {
		if f.without {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeoutCause(ctx, shortWait, ErrLocked)
			defer cancel()
		}
		f.without = false
	}
	l, err := f.openLock()
	if errors.Is(err, syscall.EROFS) {
		return free, nil
	}
	if err != nil {
		free()
		return nil, fmt.Errorf("lock %s: %w", f.Dir, err)
	}
	// failed ends a wait in vain.
	failed := func(err error) (func(), error) {
		l.Close()
		if f.Insist != nil && asked.Err() == nil {
			f.without = true
			f.Insist(err)
			return free, nil
		}
		free()
		return nil, err
	}
	for {
		err := syscall.Flock(int(l.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { l.Close(); free() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return failed(fmt.Errorf("lock %s: %w", f.Dir, err))
		}
		select {
		case <-time.After(lockPoll):
		case <-ctx.Done():
			return failed(context.Cause(ctx))
		}
	}
}

// openLock opens the lock, or makes it. What is there and is no file that
// everybody of the folder's group can open, another process has put there: it
// goes.
func (f *Folder) openLock() (*os.File, error) {
	path := f.Path(lockName)
	l, err := durable.Open(path)
	if errors.Is(err, durable.ErrKind) || errors.Is(err, fs.ErrPermission) {
		if err := durable.Remove(path); err != nil {
			return nil, err
		}
		l, err = durable.Open(path)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return l, err
	}
	l, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o660)
	if errors.Is(err, fs.ErrExist) { // the other process was faster
		return durable.Open(path)
	}
	if err != nil {
		return nil, err
	}
	if err := l.Chmod(0o660); err != nil { // whatever the umask
		l.Close()
		return nil, err
	}
	return l, nil
}

// DamagedError means that a file is there and cannot be what was written.
type DamagedError struct {
	Path string
	Err  error
}

func (e *DamagedError) Error() string { return fmt.Sprintf("%s is damaged: %v", e.Path, e.Err) }

// Unwrap returns the reason.
func (e *DamagedError) Unwrap() error { return e.Err }

// IsDamaged reports whether err is a DamagedError.
func IsDamaged(err error) bool {
	var d *DamagedError
	return errors.As(err, &d)
}

// File is a file of the folder that holds a T, whose JSON has a field version.
// It is safe for concurrent use.
type File[T any] struct {
	Folder  *Folder
	Name    string
	Mode    fs.FileMode
	Version int
	Limit   int            // bytes
	Check   func(*T) error // what JSON cannot say; nil: nothing

	mu    sync.Mutex
	info  os.FileInfo // of the file that value and err are of
	value T
	err   error
}

// Path returns the file's path.
func (f *File[T]) Path() string { return f.Folder.Path(f.Name) }

// Parse reads the content of a file.
func (f *File[T]) Parse(b []byte) (T, error) {
	var v, none T
	if err := netconfig.DecodeVersion(b, f.Version, f.Limit, &v); err != nil {
		return none, err
	}
	if f.Check != nil {
		if err := f.Check(&v); err != nil {
			return none, err
		}
	}
	return v, nil
}

// Read returns what the file holds: fs.ErrNotExist, a *DamagedError, or another
// error when it could not be read now. A file that has not changed is not read
// again; the value is shared, and must not be changed.
func (f *File[T]) Read() (T, error) {
	var none T
	info, err := os.Lstat(f.Path())
	if err != nil {
		return none, f.class(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.info != nil && same(f.info, info) {
		return f.value, f.err
	}
	v, err := f.Load()
	if err == nil || IsDamaged(err) {
		f.info, f.value, f.err = info, v, err
	}
	return v, err
}

// same reports whether a file has not changed. A replaced one may get the number
// of one that was deleted, hence the times.
func same(a, b os.FileInfo) bool {
	if !os.SameFile(a, b) || !a.ModTime().Equal(b.ModTime()) || a.Size() != b.Size() {
		return false
	}
	x, ok1 := a.Sys().(*syscall.Stat_t)
	y, ok2 := b.Sys().(*syscall.Stat_t)
	return ok1 == ok2 && (!ok1 || x.Ctim == y.Ctim)
}

// Load is Read that always reads, and whose value is the caller's own.
func (f *File[T]) Load() (T, error) {
	var none T
	info, err := os.Lstat(f.Path())
	if err != nil {
		return none, f.class(err)
	}
	if !info.Mode().IsRegular() {
		return none, &DamagedError{f.Path(), fmt.Errorf("%v is no regular file", info.Mode())}
	}
	r, err := durable.Open(f.Path())
	if err != nil {
		return none, f.class(err)
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, int64(f.Limit)+1))
	if err != nil {
		return none, f.class(err)
	}
	v, err := f.Parse(b)
	if err != nil {
		return none, &DamagedError{f.Path(), err}
	}
	return v, nil
}

// class tells a disk that has lost the file, or a process that took it from the
// others, from a process that has no file descriptors left just now. Only the
// first may count as damage: what is laid down in the file (a second factor) must
// not be got round by the other. Whoever could take the file away could as well
// change it.
func (f *File[T]) class(err error) error {
	for _, e := range []error{syscall.EIO, syscall.EUCLEAN, syscall.EBADMSG, syscall.EACCES, syscall.EPERM} {
		if errors.Is(err, e) {
			return &DamagedError{f.Path(), err}
		}
	}
	return err
}

// Write replaces the file. The caller holds the folder's lock.
func (f *File[T]) Write(v T) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", f.Path(), err)
	}
	b = append(b, '\n')
	// What cannot be read again must not replace what can.
	if _, err := f.Parse(b); err != nil {
		return fmt.Errorf("write %s: %w", f.Path(), err)
	}
	err = durable.WriteFile(f.Path(), b, f.Mode)
	f.mu.Lock()
	f.info = nil
	f.mu.Unlock()
	return err
}

// Keep copies what a damaged file holds to NAME.damaged, before it is replaced.
// The caller holds the folder's lock.
func (f *File[T]) Keep() error {
	r, err := durable.Open(f.Path())
	if err != nil {
		return nil // there is nothing to keep of what cannot be read
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, int64(f.Limit)))
	if err != nil && len(b) == 0 {
		return nil
	}
	return durable.WriteFile(f.Path()+".damaged", b, f.Mode)
}

// Change replaces the file by what change makes of its content, under the lock.
// A file that is not there is start. A damaged one is kept beside, and is start
// too: the first result is then its error. When change returns an error nothing is written.
func (f *File[T]) Change(ctx context.Context, start T, change func(*T) error) (damaged, err error) {
	unlock, err := f.Folder.Lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	v, err := f.Load()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		v = start
	case IsDamaged(err):
		v, damaged = start, err
	case err != nil:
		return nil, err
	}
	if err := change(&v); err != nil {
		return nil, err
	}
	if damaged != nil {
		if err := f.Keep(); err != nil {
			return nil, err
		}
	}
	return damaged, f.Write(v)
}
