package power

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Kind is how the system ends.
type Kind int

// The kinds.
const (
	Reboot Kind = iota
	PowerOff
)

func (k Kind) String() string {
	if k == PowerOff {
		return "poweroff"
	}
	return "reboot"
}

// trigger does what a key with SysRq does; tests put a file in its place.
var trigger = "/proc/sysrq-trigger"

// DeadMan forces the end after a time, whatever hangs: through the kernel's
// SysRq trigger, which works without regard to kernel.sysrq and runs no driver's
// shutdown. It returns at once.
func DeadMan(k Kind, after time.Duration) {
	key := []byte("b")
	if k == PowerOff {
		key = []byte("o")
	}
	// Opened now: it may not be possible later.
	f, err := os.OpenFile(trigger, os.O_WRONLY, 0)
	if err != nil {
		return // the hardware watchdog is what is left
	}
	time.AfterFunc(after, func() { _, _ = f.Write(key) })
}

// InterfacesDown takes every network interface but loopback down: their drivers'
// shutdown must not meet packets on the way.
func InterfacesDown() error {
	ifs, err := net.Interfaces()
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var errs []error
	for _, i := range ifs {
		if i.Flags&net.FlagUp == 0 || i.Flags&net.FlagLoopback != 0 {
			continue
		}
		if err := down(fd, i.Name); err != nil {
			errs = append(errs, fmt.Errorf("interface %s: %w", i.Name, err))
		}
	}
	return errors.Join(errs...)
}

func down(fd int, name string) error {
	req, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, req); err != nil {
		return err
	}
	req.SetUint16(req.Uint16() &^ unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req)
}

// Now writes what is left in memory and ends the system. It returns only an
// error.
func Now(k Kind) error {
	unix.Sync()
	cmd := unix.LINUX_REBOOT_CMD_RESTART
	if k == PowerOff {
		cmd = unix.LINUX_REBOOT_CMD_POWER_OFF
	}
	return fmt.Errorf("reboot(%v): %w", k, unix.Reboot(cmd))
}
