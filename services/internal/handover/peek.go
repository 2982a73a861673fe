package handover

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// HandshakeByte is the first byte of TLS (RFC 8446, 5.1).
const HandshakeByte = 0x16

const (
	recordHeader = 5
	// maxHello is a record's longest plaintext (RFC 8446, 5.1) and its header.
	maxHello = recordHeader + 1<<14
)

// Peek returns the first n bytes of what has come on a connection and takes
// nothing from it. It waits for them until the connection's read deadline.
func Peek(c syscall.Conn, n int) ([]byte, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("peek: %w", err)
	}
	var (
		b    = make([]byte, n)
		got  int
		fail error
	)
	// The runtime's poller tells of each arrival once, so waiting for more than is
	// there is no busy loop. An end that comes before n bytes is a deadline's.
	err = raw.Read(func(fd uintptr) bool {
		for {
			got, _, fail = unix.Recvfrom(int(fd), b, unix.MSG_PEEK|unix.MSG_DONTWAIT)
			if !errors.Is(fail, unix.EINTR) {
				break
			}
		}
		if errors.Is(fail, unix.EAGAIN) {
			return false
		}
		return fail != nil || got == 0 || got >= n
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("peek: %w", err)
	case fail != nil:
		return nil, fmt.Errorf("peek: %w", os.NewSyscallError("recvfrom", fail))
	case got == 0:
		return nil, io.EOF
	}
	return b, nil
}

// ServerName returns for which host a client of TLS asks, "" if it names none or
// its first record is not a whole ClientHello. It takes nothing from the
// connection, and waits until its read deadline.
func ServerName(c syscall.Conn) (string, error) {
	head, err := Peek(c, recordHeader)
	if err != nil {
		return "", err
	}
	n := recordHeader + int(binary.BigEndian.Uint16(head[3:]))
	if head[0] != HandshakeByte || n > maxHello {
		return "", nil
	}
	b, err := Peek(c, n)
	if err != nil {
		return "", err
	}
	return serverName(b), nil
}

// errSeen ends the handshake of a hello that was only to be read.
var errSeen = errors.New("seen")

// serverName reads a ClientHello with the parser of crypto/tls.
func serverName(hello []byte) (name string) {
	c := &replay{hello}
	err := tls.Server(c, &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		name = h.ServerName
		return nil, errSeen
	}}).Handshake()
	if !errors.Is(err, errSeen) {
		return ""
	}
	return name
}

// replay is a connection from which bytes are read again, and to which nothing goes.
type replay struct{ left []byte }

func (r *replay) Read(b []byte) (int, error) {
	if len(r.left) == 0 {
		return 0, io.EOF
	}
	n := copy(b, r.left)
	r.left = r.left[n:]
	return n, nil
}

func (*replay) Write(b []byte) (int, error)      { return len(b), nil }
func (*replay) Close() error                     { return nil }
func (*replay) LocalAddr() net.Addr              { return nil }
func (*replay) RemoteAddr() net.Addr             { return nil }
func (*replay) SetDeadline(time.Time) error      { return nil }
func (*replay) SetReadDeadline(time.Time) error  { return nil }
func (*replay) SetWriteDeadline(time.Time) error { return nil }
