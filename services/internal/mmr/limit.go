package mmr

import (
	"net"
	"net/netip"
	"sync"

	"github.com/parley-meet/parley/services/internal/throttle"
)

// limited is a listener that holds so many connections, and so many of one network
// (throttle.Network). What is more is closed at once, so that who opens thousands
// waits in nobody's way.
type limited struct {
	net.Listener
	most, each int

	mu  sync.Mutex
	all int
	of  map[string]int
}

func limit(l net.Listener, most, each int) *limited {
	return &limited{Listener: l, most: most, each: each, of: map[string]int{}}
}

// Accept implements net.Listener.
func (l *limited) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		network := ""
		if a, err := netip.ParseAddrPort(c.RemoteAddr().String()); err == nil {
			network = throttle.Network(a.Addr().Unmap())
		}
		if l.take(network) {
			return &admitted{Conn: c, l: l, network: network}, nil
		}
		c.Close()
	}
}

func (l *limited) take(network string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all >= l.most || l.of[network] >= l.each {
		return false
	}
	l.all++
	l.of[network]++
	return true
}

func (l *limited) give(network string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all--
	if l.of[network]--; l.of[network] == 0 {
		delete(l.of, network)
	}
}

// admitted is a connection of it.
type admitted struct {
	net.Conn
	l       *limited
	network string
	once    sync.Once
}

// Close implements net.Conn.
func (c *admitted) Close() error {
	c.once.Do(func() { c.l.give(c.network) })
	return c.Conn.Close()
}
