package kernel

import (
	"strings"

	"golang.org/x/sys/unix"
)

// Console is where PID 1 says the little that it says itself: the serial line
// and the screen. They belong to a service, so each message starts with a line
// break and is whole lines, and nothing ever waits for a terminal that does not
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

// Print writes lines. What a terminal does not take at once is lost.
func (c *Console) Print(lines ...string) {
	b := []byte("\r\n" + strings.Join(lines, "\r\n") + "\r\n")
	for _, fd := range c.fds {
		_, _ = unix.Write(fd, b)
	}
}

// Quiet keeps messages below an emergency off the console, before there is a
// /proc to say it through.
func Quiet() {
	const consoleLevel = 8 // SYSLOG_ACTION_CONSOLE_LEVEL of syslog(2); the level is the length
	_, _ = unix.Klogctl(consoleLevel, make([]byte, 1))
}
