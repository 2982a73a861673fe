// Package handover is a net.Listener whose connections somebody else has accepted:
// one port serves several protocols, and each server takes what is its own.
//
// Where that is another process, Peek and ServerName tell what a connection is
// without taking anything from it, and a Sender hands it over by its file
// descriptor to Receive.
package handover

import (
	"net"
	"sync"
)

// Listener is one. Close it, or Put waits for ever.
type Listener struct {
	addr  net.Addr
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

// New makes one that says it is at an address.
func New(addr net.Addr) *Listener {
	return &Listener{addr: addr, conns: make(chan net.Conn), done: make(chan struct{})}
}

// Put hands a connection over. It waits for Accept, and closes the connection when
// the listener is closed.
func (l *Listener) Put(c net.Conn) {
	select {
	case l.conns <- c:
	case <-l.done:
		c.Close()
	}
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

// Addr implements net.Listener.
func (l *Listener) Addr() net.Addr { return l.addr }
