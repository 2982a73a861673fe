package terminal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Device is a terminal.
type Device interface {
	io.ReadWriteCloser
	// Size returns columns and lines; 0 where the terminal does not say.
	Size() (columns, lines int)
	// Screen reports whether it is a screen of the machine that can be
	// cleared, and not a line to somewhere.
	Screen() bool
}

// writeTimeout is how long a write may wait for a terminal that does not take
// bytes; what is left is dropped then.
const writeTimeout = 3 * time.Second

type tty struct {
	f      *os.File
	screen bool
}

// Open opens a terminal by its name in /dev. It never becomes the process's
// controlling terminal, and opening does not wait for a carrier.
func Open(name string) (Device, error) {
	if name == "" || filepath.Base(name) != name {
		return nil, fmt.Errorf("terminal %q: want a name in /dev, like ttyS0", name)
	}
	return open(filepath.Join("/dev", name), len(name) > 3 && name[3] >= '0' && name[3] <= '9')
}

func open(path string, screen bool) (Device, error) {
	// Go's poller takes a terminal that is opened non-blocking, so that Close
	// ends a Read and writes can have a deadline.
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	t := &tty{f: f, screen: screen}
	if err := t.control(setRaw); err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return t, nil
}

func (t *tty) control(f func(fd int) error) error {
	raw, err := t.f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = f(int(fd)) }); err != nil {
		return err
	}
	return failed
}

// setRaw sets the line discipline: bytes as they come, eight bits, no parity,
// no flow control (a byte of noise that stops the output would look like a hung
// machine), no hang-up when the cable is pulled. The speed stays as the kernel
// set it. New lines get a carriage return, also those that others write.
func setRaw(fd int) error {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return fmt.Errorf("TCGETS: %w", err)
	}
	t.Iflag = unix.IGNBRK | unix.IGNPAR
	t.Oflag = unix.OPOST | unix.ONLCR
	t.Lflag = 0
	t.Cflag &^= unix.CSIZE | unix.PARENB | unix.CSTOPB | unix.CRTSCTS | unix.HUPCL
	t.Cflag |= unix.CS8 | unix.CREAD | unix.CLOCAL
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, t); err != nil {
		return fmt.Errorf("TCSETS: %w", err)
	}
	return nil
}

func (t *tty) Read(p []byte) (int, error) { return t.f.Read(p) }
func (t *tty) Close() error               { return t.f.Close() }
func (t *tty) Screen() bool               { return t.screen }

// Write drops what the terminal does not take in time: output must not hold up
// a session for ever.
func (t *tty) Write(p []byte) (int, error) {
	if err := t.f.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	n, err := t.f.Write(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return len(p), nil
	}
	return n, err
}

func (t *tty) Size() (columns, lines int) {
	t.control(func(fd int) error {
		ws, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ)
		if err == nil {
			columns, lines = int(ws.Col), int(ws.Row)
		}
		return err
	})
	return columns, lines
}
