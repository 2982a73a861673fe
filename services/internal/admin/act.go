package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/services/internal/account"
	"github.com/parley-meet/parley/services/internal/connector"
	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/netclient"
	"github.com/parley-meet/parley/services/internal/statefile"
)

// New returns an Admin. It starts nothing; Close waits for what its methods
// left to be done.
func New(cfg Config) *Admin {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	folder := func(dir string) *statefile.Folder {
		f := statefile.New(dir)
		if cfg.Insist {
			f.Insist = func(err error) {
				cfg.Log.Error("another process keeps the lock of the settings: they are changed without", "folder", dir, "error", err)
			}
		}
		return f
	}
	f := folder(cfg.Dir)
	return &Admin{
		cfg:       cfg,
		folder:    f,
		accounts:  account.Books(f),
		tokens:    account.TokenBooks(f),
		connector: connector.File(folder(cfg.ConnectorDir)),
		notices:   noticeFile(f),
		audit:     auditLog{folder: f},
		used:      map[string]account.Factor{},
		hours:     map[string]time.Time{},
	}
}

// Close waits until what is written lazily has been written.
func (a *Admin) Close() { a.later.Wait() }

// act is the frame of every method that changes something: who may only look is
// refused, what was done or failed is recorded. do checks the values, acts, and
// returns what the audit log tells about it. A fault of a value is for the person
// alone: nothing was tried.
func (a *Admin) act(ctx context.Context, who Actor, what string, do func() (detail string, err error)) error {
	if who.Authority != account.Operate {
		a.Note(who, what, "", ErrDenied)
		return ErrDenied
	}
	return a.own(ctx, who, what, do)
}

// own is act for what one who may only look may do too, because it concerns
// himself.
func (a *Admin) own(ctx context.Context, who Actor, what string, do func() (detail string, err error)) error {
	detail, err := do()
	if errors.Is(err, syscall.ENOSPC) && a.cfg.MakeRoom != nil && a.cfg.MakeRoom() {
		a.cfg.Log.Warn("the disk is full: space that was put by is used", "what", what)
		detail, err = do()
	}
	if fault.Of(err) != nil {
		return err
	}
	err = a.explain(ctx, err)
	a.Note(who, what, detail, err)
	return err
}

// explain gives an error the kind that callers tell apart.
func (a *Admin) explain(ctx context.Context, err error) error {
	var refusal *control.Error
	var network *netclient.Error
	var broken net.Error
	switch {
	case err == nil, errors.Is(err, ErrDenied), errors.Is(err, ErrUnknown), errors.Is(err, ErrAway),
		errors.Is(err, ErrReadOnly), errors.Is(err, ErrSameConnection), errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	case errors.As(err, &refusal):
		if refusal.Code == control.CodeUnknown {
			return fmt.Errorf("%w: %w", ErrUnknown, err)
		}
		return err
	case errors.As(err, &network) && network.Code == netclient.CodeReadOnly:
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	case errors.As(err, &network) && network.Code == netclient.CodeState:
		return fmt.Errorf("%w: %w", ErrUnknown, err)
	case errors.Is(err, netclient.ErrAway), errors.As(err, &broken), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w: %w", ErrAway, err)
	}
	// A service that could not save says so in its own words.
	if st, serr := a.cfg.Appliance.Status(ctx); serr == nil && st.Perm.State != control.PermReadWrite {
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	}
	return err
}

// savable returns ErrReadOnly when what is written now would be gone after a
// restart: then a RAM disk stands in for /perm, and writing itself succeeds. When
// PID 1 does not answer, writing will tell.
func (a *Admin) savable(ctx context.Context) error {
	st, err := a.cfg.Appliance.Status(ctx)
	if err == nil && st.Perm.State != control.PermReadWrite {
		return fmt.Errorf("%w: /perm is %s", ErrReadOnly, st.Perm.State)
	}
	return nil
}

// change changes a file of the shared folder. One that was damaged is kept
// beside, begins afresh, and a notice tells.
func change[T any](ctx context.Context, a *Admin, f *statefile.File[T], start T, do func(*T) error) error {
	damaged, err := f.Change(ctx, start, do)
	if damaged != nil {
		a.cfg.Log.Error("state file was damaged: it is kept beside, and begins afresh", "error", damaged)
		if err := a.AddNotice(noticeDamaged(f.Name)); err != nil {
			a.cfg.Log.Error("notice", "error", err)
		}
	}
	return err
}

// empty reports whether err means that a file counts as empty: it is damaged,
// or not there.
func empty(err error) bool { return errors.Is(err, fs.ErrNotExist) || statefile.IsDamaged(err) }

// choice returns a fault unless value is one of the words.
func choice(field, value string, words ...string) fault.List {
	if value == "" {
		return fault.New(field, "required")
	}
	if slices.Contains(words, value) {
		return nil
	}
	return fault.New(field, "choice", clean(value, 40), strings.Join(words, ", "))
}
