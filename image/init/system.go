package main

import (
	"context"
	"fmt"
	"time"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/image/internal/appliance"
	"github.com/parley-meet/parley/image/internal/power"
	"github.com/parley-meet/parley/image/layout"
)

// answerTime is how long an operation that ends the caller waits, so that its
// answer arrives first.
const answerTime = 300 * time.Millisecond

// Do implements server.System.
func (m *machine) Do(ctx context.Context, req control.Request) error {
	select {
	case <-m.ended:
		return &control.Error{Code: control.CodeState, Message: "the appliance is shutting down"}
	default:
	}
	switch req.Op {
	case control.OpStart:
		return m.supervisor.Start(ctx, req.Service)
	case control.OpStop:
		return m.supervisor.Stop(ctx, req.Service)
	case control.OpRestart:
		return m.supervisor.Restart(ctx, req.Service)
	case control.OpReboot:
		m.later(func() { m.end(power.Reboot, "asked for") })
		return nil
	case control.OpPowerOff:
		m.later(func() { m.end(power.PowerOff, "asked for") })
		return nil
	case control.OpRole:
		return m.setRole(req.Role)
	case control.OpRepair:
		return m.repair(req.Repair)
	case control.OpReset:
		return m.askReset()
	case control.OpIdentity:
		return m.answerIdentity(req.Identity)
	case control.OpClock:
		return m.clock.Adjust(*req.Clock)
	case control.OpHostname:
		return m.setHostname(req.Hostname)
	}
	return &control.Error{Code: control.CodeInvalid, Message: fmt.Sprintf("unknown operation %q", req.Op)}
}

func (m *machine) later(f func()) { time.AfterFunc(answerTime, m.guard(f)) }

func (m *machine) setRole(role string) error {
	if !m.config.HasRole(role) {
		return &control.Error{Code: control.CodeInvalid, Message: fmt.Sprintf("there is no role %q", role)}
	}
	if !m.perm.Writable() {
		return &control.Error{Code: control.CodeState, Message: "the role cannot be kept: /perm is " + string(m.perm.Status().State) + ", repair it first"}
	}
	if err := appliance.SetRole(layout.AppliancePath, role); err != nil {
		return &control.Error{Code: control.CodeFailed, Message: err.Error()}
	}
	m.nextRole.Store(&role)
	m.note("role", "") // the bad file that it was about is replaced
	return nil
}

// repair carries out a step of the /perm ladder. When another file system is
// mounted afterwards the services start again: they may touch only the folders
// that were there when they started.
func (m *machine) repair(step control.Repair) error {
	m.holdMu.Lock()
	defer m.holdMu.Unlock()
	m.releasePerm()
	changed, err := m.perm.Repair(step)
	if changed {
		m.makePermDirs()
		m.repaired()
		m.later(func() {
			for _, s := range m.supervisor.Status() {
				if s.State == control.StateStopped {
					continue
				}
				if err := m.supervisor.Restart(context.Background(), s.Name); err != nil {
					m.log.Error("restart after repair", "service", s.Name, "error", err)
				}
			}
		})
	}
	m.holdPermLocked()
	return err
}
