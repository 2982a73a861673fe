package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/parley-meet/parley/image/config"
	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/image/internal/identity"
	"github.com/parley-meet/parley/image/internal/kernel"
	"github.com/parley-meet/parley/image/internal/wipe"
	"github.com/parley-meet/parley/image/layout"
)

// copyHold is why services that must be unique are not started.
const copyHold = "this machine may be a copy; answer on the console"

// unique is what a copy of a machine must not share with it, by the folder that
// it is in: TLS keys, the token, the address lease. Names may be patterns.
var unique = map[string][]string{
	layout.ConnectorDir:                   {"certificates", "connector.json"},
	layout.PermDir + "/" + webService:     {"*.pem"},
	layout.PermDir + "/" + networkService: {"lease.json"},
	// All that they keep is of the zone: its keys, what the portal told.
	layout.PermDir + "/zctrl": {"*"},
	layout.PermDir + "/mmr":   {"*"},
}

// The services that hold something of unique, beside those that are held.
const (
	networkService = "network"
	webService     = "console-web"
)

// knowMachine compares the machine with the one that /perm was used with.
func (m *machine) knowMachine() {
	id, err := identity.UUID("/sys")
	if err != nil {
		m.log.Error("machine identity", "error", err)
	}
	m.knowMachineAs(id)
}

func (m *machine) knowMachineAs(id string) {
	k, err := identity.Open(layout.MachinePath, id, m.perm.Writable(), time.Now())
	m.identity = k
	m.tellMachine(err)
}

// tellMachine says what a comparison found. err is its error.
func (m *machine) tellMachine(err error) {
	note := ""
	if err != nil {
		m.log.Error("machine identity", "error", err)
		if m.identity.Asks() && !m.identity.Machine().Changed {
			note = fmt.Sprintf("%v; whether this machine is a copy cannot be told until it is answered that it is the same", err)
		}
	}
	m.note("identity", note)
	if c := m.identity.Machine(); c.Changed {
		m.log.Warn("this machine is another one than /perm was used with", "was", c.Was, "now", c.Now, "since", c.Since)
	}
}

// repaired looks again at what depends on the file system, after another one was
// mounted: on an empty one nothing is left that must be unique, or be reset.
func (m *machine) repaired() {
	if _, err := os.Lstat(layout.ResetPath); errors.Is(err, fs.ErrNotExist) {
		m.note("reset", "")
	}
	if _, err := os.Lstat(layout.AppliancePath); errors.Is(err, fs.ErrNotExist) {
		m.note("role", "")
	}
	m.tellMachine(m.identity.Compare(m.perm.Writable(), time.Now()))
	if m.identity.Machine().Changed || len(m.supervisor.Held()) == 0 {
		return
	}
	m.later(func() {
		if err := m.supervisor.Release(context.Background()); err != nil {
			m.log.Error("start after repair", "error", err)
		}
	})
}

// held is supervisor.Options.Held.
func (m *machine) held(s *config.Service) string {
	if s.Unique && m.identity.Machine().Changed {
		return copyHold
	}
	return ""
}

// answerIdentity carries out the administrator's answer. What must be unique is
// removed before the machine is remembered, so that a power cut in between leaves
// the question open.
func (m *machine) answerIdentity(answer control.Identity) error {
	m.answerMu.Lock()
	defer m.answerMu.Unlock()
	if !m.identity.Asks() {
		return &control.Error{Code: control.CodeState, Message: "identity: this is the machine that the appliance was used with before, there is nothing to answer"}
	}
	if !m.perm.Writable() {
		return &control.Error{Code: control.CodeState, Message: "the answer cannot be kept: /perm is " + string(m.perm.Status().State) + ", repair it first"}
	}
	copied := answer == control.IdentityCopy
	if copied {
		if err := m.wipeUnique(); err != nil {
			return &control.Error{Code: control.CodeFailed, Message: err.Error()}
		}
	}
	was := m.identity.Machine()
	if err := m.identity.Remember(); err != nil {
		return &control.Error{Code: control.CodeFailed, Message: err.Error()}
	}
	m.note("identity", "")
	m.log.Warn("machine identity", "answer", string(answer), "was", was.Was, "now", was.Now)
	m.later(func() {
		ctx := context.Background()
		if copied {
			m.restartWithout(ctx, networkService, webService)
		}
		if err := m.supervisor.Release(ctx); err != nil {
			m.log.Error("start after the answer", "error", err)
		}
	})
	return nil
}

// restartWithout restarts services and removes what must be unique once more
// while they are down: they may have written it when they ended.
func (m *machine) restartWithout(ctx context.Context, names ...string) {
	var stopped []string
	for _, s := range m.supervisor.Status() {
		if !slices.Contains(names, s.Name) || s.State == control.StateStopped {
			continue
		}
		if err := m.supervisor.Stop(ctx, s.Name); err != nil {
			m.log.Error("stop after the answer", "service", s.Name, "error", err)
			continue
		}
		stopped = append(stopped, s.Name)
	}
	if err := m.wipeUnique(); err != nil {
		m.log.Error("machine identity", "error", err)
	}
	for _, name := range stopped {
		if err := m.supervisor.Start(ctx, name); err != nil {
			m.log.Error("start after the answer", "service", name, "error", err)
		}
	}
}

func (m *machine) wipeUnique() error {
	var w wipe.Wiper
	var r wipe.Report
	for _, dir := range slices.Sorted(maps.Keys(unique)) {
		var names []string
		for _, n := range unique[dir] {
			// A pattern of this file is never bad, and one folder has no others in it.
			found, _ := filepath.Glob(filepath.Join(dir, n))
			for _, f := range found {
				names = append(names, filepath.Base(f))
			}
			// What a write that was cut off left (package durable).
			found, _ = filepath.Glob(filepath.Join(dir, "."+n+".tmp"))
			for _, f := range found {
				names = append(names, filepath.Base(f))
			}
		}
		r = w.Names(dir, names...)
	}
	if err := r.Err(); err != nil {
		return err
	}
	if r.Files > 0 {
		m.log.Warn("removed what must be unique", "files", r.Files, "folders", r.Folders)
	}
	return nil
}

// setHostname sets the host name until the next boot.
func (m *machine) setHostname(name string) error {
	if err := config.CheckHostname(name); err != nil {
		return &control.Error{Code: control.CodeInvalid, Message: "hostname: " + err.Error()}
	}
	if was, err := os.Hostname(); err == nil && was == name {
		return nil
	}
	if err := kernel.SetHostname(name); err != nil {
		return &control.Error{Code: control.CodeFailed, Message: err.Error()}
	}
	m.log.Info("host name", "name", name)
	return nil
}
