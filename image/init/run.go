package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/parley-meet/parley/image/config"
	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/image/drill"
	"github.com/parley-meet/parley/image/internal/font"
	"github.com/parley-meet/parley/image/internal/kernel"
	"github.com/parley-meet/parley/image/internal/lastboot"
	"github.com/parley-meet/parley/image/internal/power"
	"github.com/parley-meet/parley/image/internal/process"
	"github.com/parley-meet/parley/image/internal/ring"
	"github.com/parley-meet/parley/image/internal/server"
	"github.com/parley-meet/parley/image/internal/supervisor"
	"github.com/parley-meet/parley/image/internal/timekeep"
	"github.com/parley-meet/parley/image/internal/watchdog"
	"github.com/parley-meet/parley/image/layout"
)

// running is what a machine has once its services are started.
type running struct {
	supervisor *supervisor.Supervisor
	feeder     *watchdog.Feeder       // nil: no watchdog
	bootTime   atomic.Int64           // ns, 0 until all services are ready
	nextRole   atomic.Pointer[string] // that was set since the boot; nil: none
	ending     sync.Once
	ended      chan struct{} // closed when the end has begun

	answerMu  sync.Mutex // held while the question about the machine is answered
	clockOnce sync.Once  // the first time that servers confirmed is saved at once

	holdMu  sync.Mutex // held while /perm is taken into use or repaired
	storeMu sync.Mutex
	store   *ring.Store // nil: not opened, or given up
	stored  *ring.Store // the last that was opened in this boot
}

const (
	permEvery  = 30 * time.Second
	storeEvery = 5 * time.Second
	// storedTail is how much of the last boot's log comes back, in bytes.
	storedTail = 256 << 10
)

// run starts the services, first of all, then everything that can wait for them,
// and returns never.
func (m *machine) run() {
	var list []config.Service
	for _, s := range m.config.Services {
		if s.RunsIn(m.role) {
			list = append(list, s)
		}
	}
	m.ended = make(chan struct{})
	table := &process.Table{Log: m.log}
	if err := process.ShareCPU(process.Cgroups); err != nil {
		m.log.Error("services may starve one another", "error", err)
	}
	for _, s := range list {
		if err := process.Pin(append(process.Spec(&s, m.role).Read, s.Access.Write...)...); err != nil {
			m.log.Error("a service may lose its rights", "service", s.Name, "error", err)
		}
	}
	m.supervisor = supervisor.New(supervisor.Options{
		Services: list,
		Starter:  &process.Starter{Launch: layout.InitPath, Role: m.role, Cgroups: process.Cgroups, Table: table, Ring: m.ring, Log: m.log, Guard: m.guard},
		Log:      m.log,
		Watchdog: m.watchdog != nil,
		Jitter:   rand.Float64,
		Guard:    m.guard,
		Held:     m.held,
	})
	if m.watchdog != nil {
		m.feeder = &watchdog.Feeder{Device: m.watchdog, Starving: m.supervisor.Starving, Log: m.log}
	}
	ctx := context.Background()
	m.serve(ctx) // from here on others look at m
	m.spawn(func() { table.Reap(nil) })
	m.spawn(func() { m.supervisor.Run(ctx) })
	if m.feeder != nil {
		m.spawn(func() { m.feeder.Run(ctx) })
	}
	for _, b := range m.buttons {
		m.spawn(func() {
			err := power.Watch(b, func() { m.end(power.PowerOff, "the power button was pressed") })
			m.log.Error("power button", "error", err)
		})
	}
	m.handleSignals()
	m.drill(ctx)

	// One virtual CPU is common, and what comes now would only take it from the
	// services' start.
	select {
	case <-m.supervisor.AllReady():
	case <-time.After(config.DefaultReady):
	}
	m.announce(len(list))
	kernel.SetSysctls("/proc/sys", kernel.LastSysctls, m.log)
	m.holdPerm()
	m.spawn(m.keepLog)
	m.spawn(m.keepTime)
	m.spawn(func() {
		err := kernel.ReadLog("/dev/kmsg", func(text string) { m.ring.Add(time.Now(), "kernel", text) })
		m.log.Error("kernel log", "error", err)
	})
	m.spawn(m.loadFont)
	m.perm.Grow()
	m.watchPerm()
}

// spawn runs f for as long as PID 1 lives; its panic is PID 1's end.
func (m *machine) spawn(f func()) { go m.guard(f)() }

func (m *machine) serve(ctx context.Context) {
	l, err := server.Listen(layout.ControlSocket, layout.ControlGroup)
	if err != nil {
		// The services do their work without it.
		m.log.Error("control socket", "error", err)
		return
	}
	srv := &server.Server{System: m, Ring: m.ring, Services: m.config.Services, Log: m.log, Guard: m.guard, Synced: m.synced}
	m.spawn(func() { _ = srv.Serve(ctx, l) }) // it ends with ctx, which does not
}

// handleSignals takes ctrl-alt-del (SIGINT from the kernel), a stop of the
// virtual machine's host (SIGPWR), and SIGTERM.
func (m *machine) handleSignals() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, unix.SIGINT, unix.SIGTERM, unix.SIGPWR)
	m.spawn(func() {
		for s := range c {
			kind := power.Reboot
			if s == unix.SIGPWR {
				kind = power.PowerOff
			}
			m.end(kind, "signal: "+s.String())
		}
	})
}

// announce prints how long the boot took and what is wrong.
func (m *machine) announce(n int) {
	var notReady int
	held := m.supervisor.Held()
	n -= len(held)
	for _, s := range m.supervisor.Status() {
		if s.ReadyIn == 0 && !slices.Contains(held, s.Name) {
			notReady++
		}
	}
	if notReady == 0 {
		took := time.Since(m.started)
		m.bootTime.Store(int64(took))
		line := fmt.Sprintf("parley: all %d services ready %d ms after PID 1 started (%.1f s after power-on by the kernel's clock)", n, took.Milliseconds(), kernel.Uptime().Seconds())
		m.log.Info(line)
		m.console.Print(line)
	} else {
		m.console.Print(fmt.Sprintf("parley: %d of %d services are not ready after %v, see \"services\"", notReady, n, config.DefaultReady))
	}
	m.shout()
}

// shout says on the consoles what an operator must know.
func (m *machine) shout() {
	if m.lastBoot != "" {
		m.console.Print("parley: " + m.lastBoot)
	}
	if c := m.identity.Machine(); c.Changed {
		m.console.Print("", "*** THIS MACHINE MAY BE A COPY ***",
			"*** It is "+c.Now+", the appliance was used on "+c.Was+".",
			"*** "+strings.Join(m.supervisor.Held(), ", ")+" wait until an administrator says which it is.", "")
	}
	if st := m.perm.Status(); st.Message != "" {
		m.console.Print("", "*** DEGRADED: /perm is "+string(st.State)+" ***", "*** "+st.Message, "")
	}
}

// drill breaks what the kernel's command line asks for.
func (m *machine) drill(ctx context.Context) {
	d, err := drill.Parse(m.cmdline.Get(drill.Key))
	if err != nil {
		m.log.Error("drill", "error", err)
	}
	if d == nil {
		return
	}
	m.log.Warn("a recovery drill was asked for", drill.Key, m.cmdline.Get(drill.Key))
	time.AfterFunc(d.After, m.guard(func() {
		switch d.Kind {
		case drill.Panic:
			panic("recovery drill: " + drill.Key + " on the kernel's command line")
		case drill.Hang:
			drill.Stall()
		default:
			say := func(line string) {
				m.log.Warn("drill: " + line)
				m.console.Print("parley: drill: " + line)
			}
			err := d.Run(ctx, drill.Target{Status: m.supervisor.Status, Signal: syscall.Kill, Say: say})
			if err != nil {
				say("failed: " + err.Error())
			}
		}
	}))
}

func (m *machine) loadFont() {
	b, err := os.ReadFile(layout.FontPath)
	if err != nil {
		m.log.Error("font", "error", err)
		return
	}
	f, err := font.Parse(b)
	if err == nil {
		err = font.Load("/dev/tty1", f)
	}
	switch {
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS):
		m.log.Info("there is no screen that takes a font", "error", err)
	case err != nil:
		m.log.Error("font", "error", err)
	}
}

// watchPerm looks after /perm.
func (m *machine) watchPerm() {
	for range time.Tick(permEvery) {
		before := m.perm.Writable()
		m.perm.Check()
		if before && !m.perm.Writable() {
			m.shout()
		}
	}
}

// holdPerm begins to use /perm for PID 1's own: the mark that a boot is running,
// and the file that the Go runtime writes a fatal error to. The file is
// synchronous, because the kernel panics when PID 1 is gone and writes nothing
// any more. A second time in one boot (after a repair) goes on where the first
// stopped.
func (m *machine) holdPerm() {
	m.holdMu.Lock()
	defer m.holdMu.Unlock()
	m.holdPermLocked()
}

func (m *machine) holdPermLocked() {
	if !m.perm.Writable() {
		return
	}
	if err := lastboot.Told(layout.PermLogDir); err != nil {
		m.log.Error("panic report", "error", err)
	}
	if err := lastboot.Mark(layout.PermLogDir, m.bootID, false); err != nil {
		m.log.Error("boot mark", "error", err)
	}
	f, err := os.OpenFile(panicPath, os.O_WRONLY|os.O_CREATE|os.O_APPEND|os.O_SYNC, 0o600)
	if err == nil {
		err = debug.SetCrashOutput(f, debug.CrashOptions{})
		f.Close() // SetCrashOutput has a descriptor of its own
	}
	if err != nil {
		m.log.Error("panic report", "error", err)
	}
	store, old, err := ring.OpenStore(layout.PermLogDir, storedTail)
	if err != nil {
		m.log.Error("stored log", "error", err)
		return
	}
	m.storeMu.Lock()
	defer m.storeMu.Unlock()
	if m.stored != nil && len(old) > 0 {
		store.Continue(m.stored)
	} else {
		m.ring.Prepend(old)
	}
	m.store, m.stored = store, store
}

// releasePerm lets go of what holdPerm opened, so that /perm can be unmounted.
func (m *machine) releasePerm() {
	_ = debug.SetCrashOutput(nil, debug.CrashOptions{}) // it fails only with a file
	m.storeMu.Lock()
	m.store = nil
	m.storeMu.Unlock()
}

// synced takes the network service's word that it follows time servers.
func (m *machine) synced() {
	m.clock.Synced()
	m.clockOnce.Do(m.saveTime)
}

// keepTime saves the time.
func (m *machine) keepTime() {
	for range time.Tick(timekeep.SaveEvery) {
		m.saveTime()
	}
}

func (m *machine) saveTime() {
	if !m.perm.Writable() {
		return
	}
	if err := m.clock.Save(); err != nil {
		m.log.Error("clock", "error", err)
	}
}

// keepLog stores the log every few seconds.
func (m *machine) keepLog() {
	for range time.Tick(storeEvery) {
		m.storeLog()
	}
}

func (m *machine) storeLog() {
	m.storeMu.Lock()
	defer m.storeMu.Unlock()
	if m.store == nil {
		return
	}
	if err := m.store.Append(m.ring); err != nil {
		// Logging this each time would make the next line to store.
		m.store = nil
		m.log.Error("stored log: given up until the next boot", "error", err)
	}
}

// Status implements server.System.
func (m *machine) Status() *control.Status {
	st := &control.Status{
		Version:  m.version.String,
		Kernel:   kernel.Release(),
		Role:     m.role,
		Slot:     m.slot(),
		Firmware: firmware(),
		Booted:   m.clock.Wall(m.started),
		BootTime: time.Duration(m.bootTime.Load()),
		LastBoot: m.lastBoot,
		Watchdog: "none",
		Perm:     m.perm.Status(),
		Services: m.supervisor.Status(),
		Machine:  m.identity.Machine(),
		Recovery: !bool(m.config.Serial.NoRecovery),
		Baud:     m.config.Serial.Baud,
	}
	// What was noted before the clock was stepped is shown as it would have been
	// after it, so that "since" and "in" stay right.
	for i := range st.Services {
		s := &st.Services[i]
		s.Since, s.NextStart = m.clock.Wall(s.Since), m.clock.Wall(s.NextStart)
		if s.LastExit != nil {
			s.LastExit.At = m.clock.Wall(s.LastExit.At)
		}
	}
	for i, s := range st.Services {
		if s.PID != 0 { // 0 bytes when it has just ended
			st.Services[i].Memory, _ = kernel.Private("/proc", s.PID)
		}
	}
	st.Hostname, _ = os.Hostname() // "" when the kernel does not say
	if r := m.nextRole.Load(); r != nil && *r != m.role {
		st.NextRole = *r
	}
	if m.feeder != nil {
		st.Watchdog = m.feeder.Status()
	}
	return st
}
