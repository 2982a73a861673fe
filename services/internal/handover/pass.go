package handover

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/parley-meet/parley/internal/localsocket"
)

// passTime is how long a connection's handover may take: the other process only
// has to have room in its socket's queue.
const passTime = time.Second

// maxSenders bounds the processes that hand connections over at a time: there is
// one, and the one before it.
const maxSenders = 4

// Sender hands connections to another process by their file descriptors
// (SCM_RIGHTS, unix(7)): what comes on them later does not go through this one, and
// its end does not end them. It is safe for concurrent use.
type Sender struct {
	path string

	mu   sync.Mutex
	conn *net.UnixConn
}

// NewSender returns one for the socket on which Receive listens. It connects with
// the first connection.
func NewSender(path string) *Sender { return &Sender{path: path} }

// Send hands a connection over as it is: what was not read of it is the other
// process's. The connection is closed here in each case; after an error it is
// closed for good. It takes a second at most.
func (s *Sender) Send(c interface {
	net.Conn
	syscall.Conn
}) error {
	defer c.Close()
	raw, err := c.SyscallConn()
	if err != nil {
		return fmt.Errorf("hand over to %s: %w", s.path, err)
	}
	var fail error
	if err := raw.Control(func(fd uintptr) { fail = s.send(int(fd)) }); err != nil {
		fail = err
	}
	if fail != nil {
		return fmt.Errorf("hand over to %s: %w", s.path, fail)
	}
	return nil
}

func (s *Sender) send(fd int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	// A connection to a process that has gone fails once.
	for range 2 {
		if s.conn == nil {
			d := net.Dialer{Timeout: passTime}
			c, err := d.Dial("unix", s.path)
			if err != nil {
				return err
			}
			s.conn = c.(*net.UnixConn)
		}
		if err = s.conn.SetWriteDeadline(time.Now().Add(passTime)); err == nil {
			if _, _, err = s.conn.WriteMsgUnix([]byte{1}, unix.UnixRights(fd), nil); err == nil {
				return nil
			}
		}
		s.conn.Close()
		s.conn = nil
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
	}
	return err
}

// Close ends it. What was sent stays with the other process.
func (s *Sender) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil {
		return nil
	}
	err := s.conn.Close()
	s.conn = nil
	return err
}

// Receive takes the connections of Senders on a unix socket and puts them into l,
// until ctx ends; it returns nil then. The socket is made anew, with mode 0660, in
// a folder that decides who comes that far; of those the users uid alone are
// heard, all if there is none. What is not a stream of TCP is closed.
func Receive(ctx context.Context, path string, uids []int, l *Listener, log *slog.Logger) error {
	in, err := localsocket.Listen(path, localsocket.KeepGroup)
	if err != nil {
		return fmt.Errorf("take over at %s: %w", path, err)
	}
	room := make(chan struct{}, maxSenders)
	localsocket.Serve(ctx, in, log, func(c *net.UnixConn) {
		defer c.Close()
		select {
		case room <- struct{}{}:
			defer func() { <-room }()
		default:
			log.Warn("take over: too many senders")
			return
		}
		stop := context.AfterFunc(ctx, func() { c.Close() })
		defer stop()
		if who, err := localsocket.Peer(c); err != nil || len(uids) > 0 && !slices.Contains(uids, int(who.Uid)) {
			log.Warn("take over: refused", "who", who, "want", uids, "error", err)
			return
		}
		for {
			conn, err := take(c)
			if errors.Is(err, errNoConn) {
				log.Warn("take over", "error", err)
				continue
			}
			if err != nil {
				return // the sender has gone, or ctx has ended
			}
			l.Put(conn)
		}
	})
	return nil
}

// errNoConn is of a message that brings no connection.
var errNoConn = errors.New("no connection")

// take receives one connection.
func take(c *net.UnixConn) (net.Conn, error) {
	// One byte comes with each connection, and the kernel joins no two of them. Room
	// for two: a message with more than one is found out, and nothing leaks.
	b, oob := make([]byte, 1), make([]byte, unix.CmsgSpace(2*4))
	n, more, flags, _, err := c.ReadMsgUnix(b, oob)
	if err != nil {
		return nil, err
	}
	var fds []int
	list, err := unix.ParseSocketControlMessage(oob[:more])
	if err != nil && more > 0 {
		return nil, fmt.Errorf("%w: %w", errNoConn, err)
	}
	for _, m := range list {
		if got, err := unix.ParseUnixRights(&m); err == nil {
			fds = append(fds, got...)
		}
	}
	if n == 0 && len(fds) == 0 {
		return nil, net.ErrClosed
	}
	if len(fds) != 1 || flags&unix.MSG_CTRUNC != 0 {
		for _, fd := range fds {
			unix.Close(fd)
		}
		return nil, fmt.Errorf("%w: %d descriptors in a message", errNoConn, len(fds))
	}
	f := os.NewFile(uintptr(fds[0]), "connection")
	defer f.Close()
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoConn, err)
	}
	if _, ok := conn.(*net.TCPConn); !ok {
		conn.Close()
		return nil, fmt.Errorf("%w: it is a %T", errNoConn, conn)
	}
	return conn, nil
}
