package process

import (
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/parley-meet/parley/image/internal/supervisor"
)

// Table holds the running processes by number and reaps every child.
type Table struct {
	Log *slog.Logger

	// mu is held from fork to entry, and from wait4 to removal: a number in the
	// table is never one that the kernel has given to another process.
	mu      sync.Mutex
	running map[int]*process
}

// start forks and executes the program, and enters p.
func (t *Table) start(p *process, path string, argv []string, attr *syscall.ProcAttr) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	pid, err := syscall.ForkExec(path, argv, attr)
	if err != nil {
		return err
	}
	if t.running == nil {
		t.running = make(map[int]*process)
	}
	p.pid = pid
	t.running[pid] = p
	return nil
}

func (t *Table) signal(p *process, sig syscall.Signal) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.running[p.pid] != p {
		return nil
	}
	return unix.Kill(p.pid, sig)
}

// Reap collects children until stop is closed.
func (t *Table) Reap(stop <-chan struct{}) {
	// One pending notice is enough: each is answered by collecting all there are.
	c := make(chan os.Signal, 1)
	signal.Notify(c, unix.SIGCHLD)
	defer signal.Stop(c)
	for {
		t.collect()
		select {
		case <-c:
		case <-stop:
			return
		}
	}
}

func (t *Table) collect() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, unix.WNOHANG, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil || pid == 0:
			return // ECHILD, or none has ended
		}
		p := t.running[pid]
		if p == nil {
			t.Log.Info("reaped orphan", "pid", pid)
			continue
		}
		delete(t.running, pid)
		e := supervisor.Exit{Code: ws.ExitStatus()}
		if ws.Signaled() {
			e = supervisor.Exit{Code: -1, Signal: syscall.Signal(ws.Signal())}
		}
		p.exited <- e
	}
}
