package health

import (
	"container/list"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync"
	"syscall"
)

// listener keeps at most MaxConns connections open. When one more comes, the
// oldest is closed: a client that is slow, or that opens many, cannot keep
// PID 1's question out.
type listener struct {
	*net.UnixListener

	mu    sync.Mutex
	conns list.List // of *conn, oldest first
}

type conn struct {
	net.Conn
	ln   *listener
	elem *list.Element // nil when no longer counted; guarded by ln.mu
}

// listen makes the socket path, mode 0660.
func listen(path string) (*listener, error) {
	if err := removeDead(path); err != nil {
		return nil, err
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o660); err != nil {
		ln.Close()
		return nil, err
	}
	return &listener{UnixListener: ln}, nil
}

// removeDead removes a socket that nobody listens on any more.
func removeDead(path string) error {
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if fi.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s is a %v, want a socket or nothing", path, fi.Mode().Type())
	}
	c, err := net.Dial("unix", path)
	if err == nil {
		c.Close()
		return fmt.Errorf("%s: another process answers there", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}
	return os.Remove(path)
}

// Accept waits for the next connection.
func (l *listener) Accept() (net.Conn, error) {
	nc, err := l.UnixListener.Accept()
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: nc, ln: l}
	var oldest *conn
	l.mu.Lock()
	c.elem = l.conns.PushBack(c)
	if l.conns.Len() > MaxConns {
		oldest = l.conns.Front().Value.(*conn)
	}
	l.mu.Unlock()
	if oldest != nil {
		oldest.Close()
	}
	return c, nil
}

// Close closes the connection and gives its place back; it may be called twice.
func (c *conn) Close() error {
	c.ln.mu.Lock()
	if c.elem != nil {
		c.ln.conns.Remove(c.elem)
		c.elem = nil
	}
	c.ln.mu.Unlock()
	return c.Conn.Close()
}
