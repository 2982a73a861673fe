package drill

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/parley-meet/parley/image/control"
)

// Target is the appliance as a drill sees it.
type Target struct {
	Status func() []control.Service
	Signal func(pid int, sig syscall.Signal) error
	Say    func(line string)
}

const (
	// poll is how often a killed service is looked at. The times that are told
	// are the supervisor's own and do not depend on it.
	poll = 5 * time.Millisecond
	// rest is how long a service is left alone between two kills: longer than
	// the supervisor wants to see it ready before it starts it again at once.
	rest = 1500 * time.Millisecond
	// patience is how long a service may take to come back, its backoff included.
	patience = time.Minute
)

// Run carries out a drill of the kind Stop or Kill; the time to wait before it
// has passed.
func (d *Drill) Run(ctx context.Context, t Target) error {
	if d.Kind == Stop {
		s, err := find(t, d.Service)
		if err != nil {
			return err
		}
		t.Say(fmt.Sprintf("%s (pid %d) is stopped and hangs now", s.Name, s.PID))
		return t.Signal(s.PID, syscall.SIGSTOP)
	}
	names := []string{d.Service}
	if d.Service == All {
		names = nil
		for _, s := range t.Status() {
			names = append(names, s.Name)
		}
	}
	for _, name := range names {
		if err := d.kill(ctx, t, name); err != nil {
			return err
		}
	}
	if d.Service == All {
		t.Say(fmt.Sprintf("%d services killed %d times each and ready again", len(names), d.Rounds))
	}
	return nil
}

func find(t Target, name string) (control.Service, error) {
	all := t.Status()
	i := slices.IndexFunc(all, func(s control.Service) bool { return s.Name == name })
	if i < 0 {
		return control.Service{}, fmt.Errorf("no service %q runs here", name)
	}
	if all[i].PID == 0 {
		return control.Service{}, fmt.Errorf("%s is %s and has no process", name, all[i].State)
	}
	return all[i], nil
}

// kill kills one service Rounds times and tells how long it was away, from the
// signal to the moment it said it was ready again.
func (d *Drill) kill(ctx context.Context, t Target, name string) error {
	var times []time.Duration
	failed := 0 // starts that came to nothing
	for range d.Rounds {
		if err := sleep(ctx, rest); err != nil {
			return err
		}
		before := t.Status()
		victim, err := find(t, name)
		if err != nil {
			return err
		}
		at := time.Now()
		if err := t.Signal(victim.PID, syscall.SIGKILL); err != nil {
			return fmt.Errorf("kill %s (pid %d): %w", name, victim.PID, err)
		}
		again, err := back(ctx, t, victim, at)
		if err != nil {
			return err
		}
		times = append(times, again.Since.Sub(at))
		failed += again.Restarts - victim.Restarts - 1
		if err := undisturbed(before, t.Status(), name); err != nil {
			return err
		}
	}
	slices.Sort(times)
	quantile := func(q float64) int64 { return times[min(int(q*float64(len(times))), len(times)-1)].Milliseconds() }
	t.Say(fmt.Sprintf("%s killed %d times: ready again after %d ms (p50), %d ms (p99), %d ms (longest); %d starts failed; no other service noticed",
		name, len(times), quantile(0.5), quantile(0.99), times[len(times)-1].Milliseconds(), failed))
	return nil
}

// back waits until the service is ready in another process.
func back(ctx context.Context, t Target, victim control.Service, at time.Time) (control.Service, error) {
	for time.Since(at) < patience {
		if err := sleep(ctx, poll); err != nil {
			return victim, err
		}
		for _, s := range t.Status() {
			if s.Name == victim.Name && s.State == control.StateReady && s.PID != victim.PID {
				return s, nil
			}
		}
	}
	return victim, fmt.Errorf("%s was killed and is not ready again after %v", victim.Name, patience)
}

// undisturbed compares the processes of the services that were not killed.
func undisturbed(before, after []control.Service, killed string) error {
	for i, s := range before {
		if s.Name != killed && (after[i].PID != s.PID || after[i].Restarts != s.Restarts) {
			return fmt.Errorf("%s was killed, and %s ended too", killed, s.Name)
		}
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Stall makes this whole process hang, as a deadlock in the runtime or a CPU
// that is lost would: every processor that Go schedules on waits in a system
// call that the runtime does not know of and no signal ends. It returns while
// that begins.
func Stall() {
	for range runtime.GOMAXPROCS(0) + 1 {
		go func() {
			runtime.LockOSThread()
			all := ^uint64(0)
			for {
				// RawSyscall keeps the processor; with all signals blocked the
				// runtime cannot take it away.
				_, _, _ = unix.RawSyscall6(unix.SYS_PPOLL, 0, 0, 0, uintptr(unsafe.Pointer(&all)), unsafe.Sizeof(all), 0)
			}
		}()
	}
}
