// Package perm brings up /perm, the persistent partition, by a ladder, and
// repairs it on demand:
//
//	read-write   the normal state
//	read-only    salvage: the journal is damaged, so it is not replayed. What can
//	             be read is there, nothing that is written is kept
//	missing      nothing can be mounted; a RAM disk stands in
//
// The appliance boots on every rung: the consoles must always be there. A rung
// is left upwards only by Repair or at the next boot, and downwards when the
// kernel finds the file system damaged and makes it read-only.
//
// A file system is never made without being asked for: a partition that cannot
// be read today may be a cable that is plugged in tomorrow.
package perm

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"github.com/parley-meet/parley/image/control"
)

// Mode is a way to mount.
type Mode int

// The modes.
const (
	ReadWrite Mode = iota
	Salvage        // read-only, without the journal
	StandIn        // a RAM disk
)

// Usage is what statfs says about a mounted file system.
type Usage struct {
	Size, Free int64 // bytes
	ReadOnly   bool
}

// Volume is the partition and its mount point.
type Volume interface {
	Mount(Mode) error
	Unmount() error
	// MakeReadOnly writes everything out and takes no more.
	MakeReadOnly() error
	// Format makes a new, empty file system on the unmounted partition.
	Format() error
	Usage() (Usage, error)
	// Grow makes the mounted file system as long as its partition and reports
	// whether it was shorter.
	Grow() (bool, error)
}

// Perm is the ladder. Its methods may be called from several goroutines.
type Perm struct {
	vol Volume
	log *slog.Logger

	mu     sync.Mutex
	state  control.PermState
	reason string // why not read-write
	note   string // of the owner, see Note
	usage  Usage
}

// New returns a ladder that stands nowhere yet.
func New(v Volume, log *slog.Logger) *Perm {
	return &Perm{vol: v, log: log, state: control.PermMissing}
}

// hints say what to do, by state.
var hints = map[control.PermState]string{
	control.PermReadOnly: `copy what you need, then "repair retry", or "repair format!" to start with an empty one`,
	control.PermMissing:  `check the virtual disk, then "repair retry", or "repair format" to start with an empty one`,
}

// Up climbs the ladder from the top.
func (p *Perm) Up() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.upLocked()
}

func (p *Perm) upLocked() {
	err := p.vol.Mount(ReadWrite)
	if err == nil {
		p.state, p.reason = control.PermReadWrite, ""
		p.usageLocked()
		p.log.Info("/perm is mounted", "state", p.state)
		return
	}
	if err2 := p.vol.Mount(Salvage); err2 == nil {
		p.state = control.PermReadOnly
		p.reason = fmt.Sprintf("the file system cannot be used as it is (%v): it is mounted read-only, nothing is kept", err)
	} else {
		p.state = control.PermMissing
		p.reason = fmt.Sprintf("no file system can be mounted (%v): a RAM disk stands in, nothing is kept", err)
		if err3 := p.vol.Mount(StandIn); err3 != nil {
			p.reason += fmt.Sprintf("; and not even that (%v)", err3)
		}
	}
	p.usageLocked()
	p.log.Error("/perm is degraded", "state", p.state, "reason", p.reason)
}

// Grow makes the file system as long as its partition.
func (p *Perm) Grow() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state != control.PermReadWrite {
		return
	}
	grown, err := p.vol.Grow()
	if err != nil {
		// It works as before, only smaller.
		p.log.Error("/perm cannot grow", "error", err)
		return
	}
	if grown {
		p.usageLocked()
		p.log.Info("/perm has grown", "bytes", p.usage.Size)
	}
}

// Check looks whether the kernel has made the file system read-only, which it
// does when it finds it damaged.
func (p *Perm) Check() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.checkLocked()
}

func (p *Perm) checkLocked() {
	p.usageLocked()
	if p.state == control.PermReadWrite && p.usage.ReadOnly {
		p.state = control.PermReadOnly
		p.reason = "the kernel found the file system damaged and made it read-only: nothing is kept from now on"
		p.log.Error("/perm is degraded", "state", p.state, "reason", p.reason)
	}
}

func (p *Perm) usageLocked() {
	u, err := p.vol.Usage()
	if err != nil {
		p.log.Error("/perm", "error", err)
		return
	}
	p.usage = u
}

// Note sets a message about what is wrong on /perm although it is mounted.
func (p *Perm) Note(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.note = text
}

// Status returns the rung.
func (p *Perm) Status() control.Perm {
	p.mu.Lock()
	defer p.mu.Unlock()
	st := control.Perm{State: p.state}
	if p.reason != "" {
		st.Message = p.reason + "; " + hints[p.state]
	}
	if p.note != "" {
		st.Message = strings.TrimPrefix(st.Message+"; "+p.note, "; ")
	}
	if p.state != control.PermMissing {
		st.Size, st.Free = p.usage.Size, p.usage.Free
	}
	return st
}

// Writable reports whether what is written is kept.
func (p *Perm) Writable() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state == control.PermReadWrite
}

// Confirmed is the suffix by which a step that loses something is confirmed.
const Confirmed = "!"

// Repair carries out a step. changed says that what is mounted is another than
// before, so the folders must be made and the services started again: their
// Landlock rules are for the old one. An error is a *control.Error.
func (p *Perm) Repair(step control.Repair) (changed bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	// The kernel may have made it read-only since the last Check: there are then
	// files that a format must not take without being asked twice.
	if p.checkLocked(); p.state == control.PermReadWrite {
		return false, refuse(control.CodeState, "/perm is mounted read-write: there is nothing to repair")
	}
	bare := control.Repair(strings.TrimSuffix(string(step), Confirmed))
	switch bare {
	case control.RepairRetry:
	case control.RepairFormat:
		if p.state == control.PermReadOnly && step == bare {
			return false, refuse(control.CodeState, `there are files that can still be read, and they would be lost: to go on, ask for %q`, step+Confirmed)
		}
	default:
		return false, refuse(control.CodeInvalid, "repair %q: want %q or %q", step, control.RepairRetry, control.RepairFormat)
	}
	if err := p.vol.Unmount(); err != nil {
		return false, refuse(control.CodeFailed, "/perm is in use (%v): stop the services that have files open there, or reboot", err)
	}
	if bare == control.RepairFormat {
		p.log.Warn("/perm is formatted")
		if err := p.vol.Format(); err != nil {
			p.upLocked()
			return true, refuse(control.CodeFailed, "format: %v", err)
		}
	}
	p.upLocked()
	if p.state != control.PermReadWrite {
		return true, refuse(control.CodeFailed, "%s", p.reason)
	}
	return true, nil
}

// Down unmounts for good. What is still in use is made read-only, so that the
// file system is clean all the same; the error is that of the unmounting.
func (p *Perm) Down() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.vol.Unmount()
	if err != nil {
		err = errors.Join(err, p.vol.MakeReadOnly())
	}
	return err
}

func refuse(code control.Code, format string, args ...any) error {
	return &control.Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// ErrNoDisk is wrapped by a Volume's errors when the appliance's disk was not
// found.
var ErrNoDisk = errors.New("the appliance's disk was not found")
