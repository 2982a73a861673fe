package portaltest

import (
	"net"
	"sync"
)

// cord is a network cable that can be pulled.
type cord struct {
	net.Listener
	mu     sync.Mutex
	pulled bool
	conns  map[net.Conn]bool
}

func (c *cord) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pulled {
		conn.Close()
		return nil, net.ErrClosed
	}
	w := &wire{conn, c}
	c.conns[w] = true
	return w, nil
}

// wire is a connection that goes through the cable.
type wire struct {
	net.Conn
	c *cord
}

func (w *wire) Close() error {
	w.c.mu.Lock()
	delete(w.c.conns, w)
	w.c.mu.Unlock()
	return w.Conn.Close()
}

// Kill has the instance be gone as its clients and appliances see it: nothing
// listens, and all connections break, links too. Nobody is told before.
func (p *Portal) Kill() {
	c := p.cord
	c.mu.Lock()
	c.pulled = true
	var all []net.Conn
	for conn := range c.conns {
		all = append(all, conn)
	}
	c.mu.Unlock()
	c.Listener.Close()
	for _, conn := range all {
		conn.Close()
	}
}
