package kernel

import (
	"errors"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Console is where PID 1 says the little that it says itself: the serial line
// and the screen. They belong to a service, so each message starts with a line
// break and is whole lines, and nothing waits long for a terminal that does not
// take it.
type Console struct {
	fds []int
}

// OpenConsole opens the devices that there are.
func OpenConsole(paths ...string) *Console {
	c := &Console{}
	for _, p := range paths {
		fd, err := unix.Open(p, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
		if err == nil {
			c.fds = append(c.fds, fd)
		}
	}
	return c
}

// patience is how long Print waits for a terminal in all: as long as a serial
// line of 115200 baud needs to send the kernel's buffer of 4 KiB.
const patience = 400 * time.Millisecond

// Print writes lines. A terminal may be busy with what its service writes; what
// it has not taken after patience is lost.
func (c *Console) Print(lines ...string) {
	b := []byte("\r\n" + strings.Join(lines, "\r\n") + "\r\n")
	for _, fd := range c.fds {
		write(fd, b, time.Now().Add(patience))
	}
}

func write(fd int, b []byte, until time.Time) {
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		if n > 0 {
			b = b[n:]
		}
		left := time.Until(until)
		switch {
		case err == nil, errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN) && left > 0:
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, int(left/time.Millisecond)+1)
		default:
			return
		}
	}
}

// Quiet keeps messages below an emergency off the console, before there is a
// /proc to say it through.
func Quiet() {
	const consoleLevel = 8 // SYSLOG_ACTION_CONSOLE_LEVEL of syslog(2); the level is the length
	_, _ = unix.Klogctl(consoleLevel, make([]byte, 1))
}
