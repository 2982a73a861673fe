package mmr

import (
	"context"
	"fmt"
	"math"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// How load is judged.
const (
	cpuEvery = time.Second
	cpuShare = 0.2 // of a new sample in the mean
	// Over busyAbove nobody more is let in, until the mean is under busyBelow: what
	// is left is for keyframes, and for those who are inside.
	busyAbove = 0.92
	busyBelow = 0.80
)

// cpu measures how busy the machine's processors are.
type cpu struct {
	read func() (busy, all float64, err error) // seconds, or any unit, since some time
	mean atomic.Uint64                         // bits of a float64
	busy atomic.Bool
}

// newCPU reads the kernel's account of the whole machine where that is allowed
// (proc_stat(5)), and else the process's own (getrusage(2)).
func newCPU() *cpu {
	if _, _, err := machineTime(); err == nil {
		return &cpu{read: machineTime}
	}
	began := time.Now()
	return &cpu{read: func() (float64, float64, error) {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			return 0, 0, err
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds(), time.Since(began).Seconds() * float64(runtime.NumCPU()), nil
	}}
}

// machineTime reads the first line of /proc/stat: user, nice, system, idle, iowait,
// irq, softirq, steal. What a hypervisor takes away counts as busy: it is not there.
func machineTime() (busy, all float64, err error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, err
	}
	return parseStat(string(b))
}

func parseStat(text string) (busy, all float64, err error) {
	line, _, _ := strings.Cut(text, "\n")
	f := strings.Fields(line)
	if len(f) < 9 || f[0] != "cpu" {
		return 0, 0, fmt.Errorf("/proc/stat begins with %.40q", line)
	}
	for i, s := range f[1:9] {
		n, err := strconv.ParseFloat(s, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("/proc/stat: %w", err)
		}
		all += n
		if i != 3 && i != 4 {
			busy += n
		}
	}
	return busy, all, nil
}

// run measures until ctx ends.
func (c *cpu) run(ctx context.Context) {
	t := time.NewTicker(cpuEvery)
	defer t.Stop()
	busy, all, _ := c.read()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		b, a, err := c.read()
		if err != nil || a <= all {
			continue
		}
		c.take((b - busy) / (a - all))
		busy, all = b, a
	}
}

// take adds a sample.
func (c *cpu) take(share float64) {
	m := c.share()
	m += (min(max(share, 0), 1) - m) * cpuShare
	c.mean.Store(math.Float64bits(m))
	if c.busy.Load() {
		c.busy.Store(m > busyBelow)
	} else {
		c.busy.Store(m > busyAbove)
	}
}

// share is the mean, 0 to 1.
func (c *cpu) share() float64 { return math.Float64frombits(c.mean.Load()) }
