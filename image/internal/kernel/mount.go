package kernel

import (
	"errors"
	"fmt"
	"log/slog"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/parley-meet/parley/image/layout"
)

const (
	nosuid = unix.MS_NOSUID
	nodev  = unix.MS_NODEV
	noexec = unix.MS_NOEXEC
)

// Mount is a file system of the kernel's.
type Mount struct {
	Type, Target string
	Flags        uintptr
	Data         string
}

// EarlyMounts come before gokrazy.Boot, which leaves alone what is there.
var EarlyMounts = []Mount{
	{"devtmpfs", "/dev", nosuid | noexec, ""},
	{"proc", "/proc", nosuid | nodev | noexec, ""},
	{"sysfs", "/sys", nosuid | nodev | noexec, ""},
}

// Hardened is how the mounts stand when the services start: gokrazy.Boot makes
// most of them without any restriction. Other users' processes are hidden, but
// not from the consoles, which show what services use.
var Hardened = []Mount{
	{"devtmpfs", "/dev", nosuid | noexec, ""},
	{"devpts", "/dev/pts", nosuid | noexec, ""}, // nobody needs a pseudo terminal
	{"tmpfs", "/dev/shm", nosuid | nodev | noexec, "size=16m,mode=1777"},
	{"tmpfs", "/run", nosuid | nodev | noexec, "size=64m,mode=0755"},
	{"tmpfs", "/tmp", nosuid | nodev | noexec, "size=64m,mode=1777"},
	{"proc", "/proc", nosuid | nodev | noexec, "hidepid=invisible,gid=" + strconv.Itoa(layout.ConsoleGroup)},
	{"sysfs", "/sys", nosuid | nodev | noexec, ""},
	{"cgroup2", "/sys/fs/cgroup", nosuid | nodev | noexec, ""},
}

// MountAll mounts what is not mounted yet.
func MountAll(list []Mount) error {
	var errs []error
	for _, m := range list {
		err := unix.Mount(m.Type, m.Target, m.Type, m.Flags, m.Data)
		if err != nil && !errors.Is(err, unix.EBUSY) {
			errs = append(errs, fmt.Errorf("mount %s on %s: %w", m.Type, m.Target, err))
		}
	}
	return errors.Join(errs...)
}

// Harden mounts again, with restrictions, what is mounted, and mounts what is
// not. An error is logged: an appliance with a lax mount is better than none.
func Harden(list []Mount, log *slog.Logger) {
	for _, m := range list {
		err := unix.Mount("", m.Target, "", unix.MS_REMOUNT|m.Flags, m.Data)
		if errors.Is(err, unix.EINVAL) {
			err = unix.Mount(m.Type, m.Target, m.Type, m.Flags, m.Data)
		}
		if err != nil {
			log.Error("harden mount", "target", m.Target, "error", err)
		}
	}
}
