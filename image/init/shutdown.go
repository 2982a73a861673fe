package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"github.com/parley-meet/parley/image/internal/lastboot"
	"github.com/parley-meet/parley/image/internal/power"
	"github.com/parley-meet/parley/image/layout"
)

const (
	// deadManTime bounds a shutdown, servicesTime the part of it that is theirs:
	// all parts and the kernel's own end fit into the whole, or a shutdown in
	// which everything is late would be cut off before it has written all.
	deadManTime  = 30 * time.Second
	servicesTime = 18 * time.Second

	panicPath = layout.PermLogDir + "/" + lastboot.PanicFile
)

// end takes the machine down in order. Only the first call does anything, and it
// does not return. The watchdog stays armed and is fed until the end: the
// dead-man timer is earlier, and a PID 1 that hangs is reset.
func (m *machine) end(kind power.Kind, why string) {
	m.ending.Do(func() {
		close(m.ended)
		power.DeadMan(kind, deadManTime)
		m.log.Info("shutdown", "kind", kind.String(), "why", why)
		m.console.Print(fmt.Sprintf("parley: %v: %s", kind, why))
		power.Run(m.steps(), m.log)
		err := power.Now(kind)
		m.log.Error("shutdown", "error", err)
		select {} // the dead-man timer ends it
	})
	select {}
}

// steps are an orderly shutdown.
func (m *machine) steps() []power.Step {
	return []power.Step{
		{Name: "stop services", Limit: servicesTime, Do: m.supervisor.Shutdown},
		{Name: "store log", Limit: 3 * time.Second, Do: m.markClean},
		{Name: "unmount /perm", Limit: 5 * time.Second, Do: func(context.Context) error { return m.perm.Down() }},
		{Name: "network interfaces", Limit: 2 * time.Second, Do: func(context.Context) error { return power.InterfacesDown() }},
	}
}

// markClean stores the log and writes that this boot ended in order.
func (m *machine) markClean(context.Context) error {
	defer m.releasePerm()
	m.saveTime()
	m.storeLog()
	if !m.perm.Writable() {
		return nil
	}
	m.storeMu.Lock()
	var err error
	if m.store != nil {
		err = m.store.Sync()
	}
	m.storeMu.Unlock()
	return errors.Join(err, lastboot.Mark(layout.PermLogDir, m.bootID, true))
}

// guard wraps the top of a goroutine: its panic is written down and the machine
// rebooted, because a PID 1 that lost a part of itself cannot be trusted with the
// rest. What the runtime itself calls fatal does not pass here; it is written by
// debug.SetCrashOutput, and the kernel reboots (kernel.panic) when PID 1 is gone.
func (m *machine) guard(f func()) func() {
	return func() {
		defer func() {
			if r := recover(); r != nil {
				m.die(fmt.Sprintf("panic: %v\n\n%s", r, debug.Stack()))
			}
		}()
		f()
	}
}

// die reports and reboots at once. It takes no lock that the panicking goroutine
// may hold, and waits for nothing without a bound.
func (m *machine) die(report string) {
	power.DeadMan(power.Reboot, 10*time.Second)
	m.console.Print("parley: PID 1 failed, rebooting", report)
	done := make(chan struct{})
	go func() {
		defer close(done)
		writePanic(report)
		unix.Sync()
	}()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
	}
	_ = power.InterfacesDown()
	_ = power.Now(power.Reboot)
	select {}
}

func writePanic(report string) {
	f, err := os.OpenFile(panicPath, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return // /perm is not there: the console has shown it
	}
	defer f.Close()
	_, _ = f.WriteString(report)
	_ = f.Sync()
}
