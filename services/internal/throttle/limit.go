package throttle

import (
	"net"
	"net/netip"
	"sync"
)

// Limit is a listener that closes new connections beyond a bound: the newest is
// turned away, because those that stand may be long-lived and are within the bounds.
type Limit struct {
	net.Listener
	Bounds

	mu      sync.Mutex
	n       int
	refused [2]uint64
	peers   map[netip.Prefix]int
}

// Bounds are how many connections may stand. A site may share one address behind
// NAT, so the bound of a peer is wide; a stranger who fills it keeps out himself
// alone.
type Bounds struct {
	All  int
	Peer int // of what Peer counts by
	// Four and Six are the bits by which peers are told apart.
	Four, Six int
}

// NewLimit bounds a listener.
func NewLimit(l net.Listener, b Bounds) *Limit {
	return &Limit{Listener: l, Bounds: b, peers: map[netip.Prefix]int{}}
}

// Accept returns the next connection that is within the bounds.
func (l *Limit) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		p := Peer(c.RemoteAddr(), l.Four, l.Six)
		if l.enter(p) {
			return &limited{Conn: c, l: l, peer: p}, nil
		}
		c.Close()
	}
}

// Len returns how many connections stand.
func (l *Limit) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.n
}

// Refused returns how many connections were closed at once: because of the bound
// of all, and of the one of a peer.
func (l *Limit) Refused() [2]uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refused
}

func (l *Limit) enter(p netip.Prefix) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.n >= l.Bounds.All:
		l.refused[0]++
		return false
	case l.peers[p] >= l.Bounds.Peer:
		l.refused[1]++
		return false
	}
	l.n++
	l.peers[p]++
	return true
}

func (l *Limit) leave(p netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.n--
	if l.peers[p]--; l.peers[p] == 0 {
		delete(l.peers, p)
	}
}

// limited makes room when it is closed.
type limited struct {
	net.Conn
	l    *Limit
	peer netip.Prefix
	once sync.Once
}

func (c *limited) Close() error {
	c.once.Do(func() { c.l.leave(c.peer) })
	return c.Conn.Close()
}
