package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/image/internal/perm"
	"github.com/parley-meet/parley/image/internal/power"
	"github.com/parley-meet/parley/image/internal/statefile"
	"github.com/parley-meet/parley/image/internal/watchdog"
	"github.com/parley-meet/parley/image/internal/wipe"
	"github.com/parley-meet/parley/image/layout"
	"github.com/parley-meet/parley/internal/durable"
)

// resetMark is the content of layout.ResetPath. Only that the file is there
// counts: a mark that cannot be read was asked for all the same.
type resetMark struct {
	Version int       `json:"version"`
	Asked   time.Time `json:"asked"`
}

// lostAndFound is ext4's own folder, which stays.
const lostAndFound = "lost+found"

// askReset marks /perm to be wiped by the next boot, before any service has a
// file open there, and reboots.
func (m *machine) askReset() error {
	if !m.perm.Writable() {
		return &control.Error{Code: control.CodeState, Message: fmt.Sprintf(
			"/perm is %s and cannot be wiped: make an empty one with \"repair %s\" or \"repair %s%s\"",
			m.perm.Status().State, control.RepairFormat, control.RepairFormat, perm.Confirmed)}
	}
	if err := statefile.Save(layout.ResetPath, resetMark{1, time.Now().UTC()}); err != nil {
		return &control.Error{Code: control.CodeFailed, Message: "the reset was not begun: " + err.Error()}
	}
	m.later(func() { m.end(power.Reboot, "factory reset") })
	return nil
}

// resetIfAsked wipes /perm where a boot before this one was asked to. The mark
// goes last, so that a wipe that is cut off goes on at the next boot.
func (m *machine) resetIfAsked() {
	if _, err := os.Lstat(layout.ResetPath); errors.Is(err, fs.ErrNotExist) {
		return
	}
	if !m.perm.Writable() {
		m.log.Error("factory reset", "error", "/perm is not writable")
		m.note("reset", "a factory reset was asked for and waits until /perm can be written to: \"repair format!\" makes an empty one")
		return
	}
	m.log.Warn("factory reset: wiping /perm")
	m.console.Print("parley: factory reset: wiping /perm, do not switch off")
	r, err := m.wipePerm()
	if err != nil {
		m.log.Error("factory reset: not complete, the next boot goes on", "error", err)
		m.console.Print("parley: factory reset: not complete, the next boot goes on: " + err.Error())
		m.note("reset", fmt.Sprintf("the factory reset is not complete (%v): reboot to go on, or \"repair format!\" once /perm is not mounted", err))
		return
	}
	line := fmt.Sprintf("factory reset: wiped %d files (%d KiB overwritten) and %d folders; the appliance is as new", r.Files, r.Bytes>>10, r.Folders)
	m.log.Warn(line)
	m.console.Print("parley: " + line)
}

func (m *machine) wipePerm() (wipe.Report, error) {
	// The watchdog runs and nothing else feeds it yet.
	fed := time.Now()
	w := wipe.Wiper{Tick: func() {
		if m.watchdog == nil || time.Since(fed) < watchdog.FeedEvery {
			return
		}
		fed = time.Now()
		if err := m.watchdog.Feed(); err != nil {
			m.log.Error("watchdog", "error", err)
		}
	}}
	found := filepath.Join(layout.PermMount, lostAndFound)
	r := w.Folder(layout.PermMount, filepath.Base(layout.ResetPath), lostAndFound)
	if _, err := os.Lstat(found); err == nil {
		r = w.Folder(found)
	}
	if err := r.Err(); err != nil {
		return r, err
	}
	m.makePermDirs()
	return r, durable.Remove(layout.ResetPath)
}
