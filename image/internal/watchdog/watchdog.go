// Package watchdog feeds the hardware watchdog as long as it may. A watchdog
// that is open and not fed resets the machine after its timeout; it is never
// closed, so the end of PID 1 does not disarm it.
package watchdog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Timeout is after how long without food the machine is reset.
const Timeout = 30 * time.Second

// FeedEvery is how often the watchdog is fed. It leaves room for a PID 1 that
// waits for a slow disk.
const FeedEvery = 2 * time.Second

// Device is an open watchdog.
type Device interface {
	Feed() error
	// Name is the driver's name for it.
	Name() string
}

// setTimeout is WDIOC_SETTIMEOUT of linux/watchdog.h, _IOWR('W', 6, int).
const setTimeout = 0xc0045706

type device struct {
	fd   int
	name string
}

// Open opens the watchdog, which starts it, and sets its timeout. It returns
// fs.ErrNotExist (wrapped) when the machine has none. A timeout that the device
// refuses is an error beside a usable device.
func Open(path string) (Device, error) {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("watchdog: %w", &os.PathError{Op: "open", Path: path, Err: err})
	}
	d := &device{fd: fd, name: "watchdog"}
	if info, err := unix.IoctlGetWatchdogInfo(fd); err == nil {
		name, _, _ := strings.Cut(string(info.Identity[:]), "\x00")
		d.name = name
	}
	if err := unix.IoctlSetPointerInt(fd, setTimeout, int(Timeout/time.Second)); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return d, fmt.Errorf("watchdog: set timeout %v: %w", Timeout, err)
	}
	return d, nil
}

func (d *device) Feed() error  { return unix.IoctlWatchdogKeepalive(d.fd) }
func (d *device) Name() string { return d.name }

// Feeder feeds a device.
type Feeder struct {
	Device Device
	// Starving names who does not answer; nobody: the watchdog is fed.
	Starving func() []string
	Log      *slog.Logger

	mu     sync.Mutex
	hungry string // who kept the food away last time
	failed string // the device's last error, "" after a success
}

// Run feeds until ctx ends.
func (f *Feeder) Run(ctx context.Context) {
	t := time.NewTicker(FeedEvery)
	defer t.Stop()
	for {
		f.feed()
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

func (f *Feeder) feed() {
	who := strings.Join(f.Starving(), ", ")
	f.mu.Lock()
	was := f.hungry
	f.hungry = who
	f.mu.Unlock()
	if who != "" {
		if was != who {
			f.Log.Error("the watchdog is not fed", "hung", who, "reset-after", Timeout)
		}
		return
	}
	if was != "" {
		f.Log.Info("the watchdog is fed again", "hung", was)
	}
	failed := ""
	if err := f.Device.Feed(); err != nil {
		failed = err.Error()
	}
	// Said once, or it would push everything else out of the log.
	if failed != f.failed && failed != "" {
		f.Log.Error("watchdog", "error", failed)
	}
	f.failed = failed
}

// Status names the device, and who keeps the food away.
func (f *Feeder) Status() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.hungry != "" {
		return f.Device.Name() + ", not fed: " + f.hungry + " hangs"
	}
	return f.Device.Name()
}
