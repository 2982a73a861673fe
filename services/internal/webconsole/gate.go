package webconsole

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/parley-meet/parley/services/internal/throttle"
)

// Bounds of connections. For a new one beyond a bound one is closed that waits
// for a request, or for the rest of one: of those who have most of such, the one
// that has waited longest. Where all are at work, the new one is turned away.
const (
	maxConns     = 256
	maxPeerConns = 32 // of an IPv4 address, of an IPv6 /64
	stuckAfter   = 10 * time.Second
)

// gate is the server's listener: it bounds the connections that come by TCP, and
// takes others from within the process.
type gate struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once

	mu      sync.Mutex
	addr    net.Addr
	all     map[*conn]bool
	peers   map[netip.Prefix]int
	err     error     // of accept, until it works again
	errFrom time.Time // of err
}

func newGate() *gate {
	return &gate{conns: make(chan net.Conn), done: make(chan struct{}), all: map[*conn]bool{}, peers: map[netip.Prefix]int{}}
}

// conn is a connection that was let in.
type conn struct {
	net.Conn
	g    *gate
	peer netip.Prefix // what it is counted by
	host netip.Prefix // its address alone
	made time.Time
	once sync.Once
	// begun: the first byte has been read. Used by the reader alone.
	begun bool
	// Guarded by the gate's lock:
	waits bool // between requests, before the first, or for a body
	since time.Time
}

// Close makes room for another.
func (c *conn) Close() error {
	c.once.Do(func() {
		c.g.mu.Lock()
		defer c.g.mu.Unlock()
		delete(c.g.all, c)
		if c.g.peers[c.peer]--; c.g.peers[c.peer] <= 0 {
			delete(c.g.peers, c.peer)
		}
	})
	return c.Conn.Close()
}

// accept lets connections from l in until it is closed.
func (g *gate) accept(l net.Listener) {
	g.mu.Lock()
	g.addr = l.Addr()
	g.mu.Unlock()
	pause := 10 * time.Millisecond
	for {
		nc, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			g.fail(err)
			return
		}
		g.fail(err)
		if err != nil { // no file descriptors, or the peer was quick: try again
			select {
			case <-time.After(pause):
			case <-g.done:
				return
			}
			pause = min(2*pause, time.Second)
			continue
		}
		pause = 10 * time.Millisecond
		c := g.admit(nc)
		if c == nil {
			nc.Close()
			continue
		}
		select {
		case g.conns <- c:
		case <-g.done:
			c.Close()
			return
		}
	}
}

func (g *gate) fail(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil && g.err == nil {
		g.errFrom = time.Now()
	}
	g.err = err
}

// trouble returns why no connections are accepted, when that lasts.
func (g *gate) trouble() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err == nil || time.Since(g.errFrom) < stuckAfter && !errors.Is(g.err, net.ErrClosed) {
		return nil
	}
	return fmt.Errorf("accept: %w", g.err)
}

// admit counts a connection in, or returns nil.
func (g *gate) admit(nc net.Conn) *conn {
	now := time.Now()
	c := &conn{Conn: nc, g: g, peer: throttle.Peer(nc.RemoteAddr(), 32, 64), host: throttle.Peer(nc.RemoteAddr(), 32, 128), made: now, waits: true, since: now}
	g.mu.Lock()
	var victim *conn
	full := false
	switch {
	case g.peers[c.peer] >= maxPeerConns:
		// In a /64 of IPv6 each address counts, so that who takes all with one does
		// not push its neighbours out.
		full, victim = true, g.waitingLocked(func(o *conn) bool { return o.peer == c.peer }, func(o *conn) netip.Prefix { return o.host })
	case len(g.all) >= maxConns:
		full, victim = true, g.waitingLocked(func(*conn) bool { return true }, func(o *conn) netip.Prefix { return o.peer })
	}
	if full && victim == nil {
		g.mu.Unlock()
		return nil
	}
	g.all[c] = true
	g.peers[c.peer]++
	g.mu.Unlock()
	if victim != nil {
		victim.Close()
	}
	return c
}

// waitingLocked returns, of such connections of whoever has most that wait, the
// one that has waited longest; nil when none waits.
func (g *gate) waitingLocked(which func(*conn) bool, whose func(*conn) netip.Prefix) *conn {
	count := map[netip.Prefix]int{}
	for c := range g.all {
		if c.waits && which(c) {
			count[whose(c)]++
		}
	}
	var victim *conn
	for c := range g.all {
		if !c.waits || !which(c) {
			continue
		}
		if victim == nil {
			victim = c
			continue
		}
		if mine, most := count[whose(c)], count[whose(victim)]; mine > most || mine == most && c.since.Before(victim.since) {
			victim = c
		}
	}
	return victim
}

// connState is for http.Server.
func (g *gate) connState(nc net.Conn, s http.ConnState) {
	if c := admitted(nc); c != nil {
		g.mu.Lock()
		defer g.mu.Unlock()
		c.waits, c.since = s == http.StateNew || s == http.StateIdle, time.Now()
	}
}

// admitted returns the connection below TLS that admit let in, or nil.
func admitted(nc net.Conn) *conn {
	if t, ok := nc.(*tls.Conn); ok {
		if c, ok := t.NetConn().(*conn); ok {
			return c
		}
	}
	return nil
}

type connKey struct{}

// connContext is for http.Server: a request knows its connection.
func connContext(ctx context.Context, nc net.Conn) context.Context {
	if c := admitted(nc); c != nil {
		return context.WithValue(ctx, connKey{}, c)
	}
	return ctx
}

// setWaits says whether the request's connection waits: for a body that trickles
// in, or that no handler reads, no work is done.
func setWaits(r *http.Request, waits bool) {
	if c, ok := r.Context().Value(connKey{}).(*conn); ok {
		c.g.mu.Lock()
		defer c.g.mu.Unlock()
		c.waits = waits
	}
}

// dial connects from within the process.
func (g *gate) dial(ctx context.Context) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case g.conns <- far:
		return near, nil
	case <-g.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept is for http.Server.
func (g *gate) Accept() (net.Conn, error) {
	select {
	case c := <-g.conns:
		return c, nil
	case <-g.done:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (g *gate) Close() error {
	g.once.Do(func() { close(g.done) })
	return nil
}

// Addr is for http.Server.
func (g *gate) Addr() net.Addr {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.addr == nil {
		return &net.TCPAddr{}
	}
	return g.addr
}

func (g *gate) address() string {
	if a, ok := g.Addr().(*net.TCPAddr); ok {
		return fmt.Sprintf("port %d", a.Port)
	}
	return g.Addr().String()
}
