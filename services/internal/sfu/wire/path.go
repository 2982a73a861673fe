package wire

import (
	"net"
	"net/netip"
	"sync/atomic"
	"time"
)

// Kind is how packets travel.
type Kind uint8

// The kinds.
const (
	UDP   Kind = iota
	TCP        // ICE-TCP (RFC 6544)
	Relay      // TURN over TLS: the relay is in this process
)

func (k Kind) String() string { return [...]string{"udp", "tcp", "turn"}[k] }

// Path is a way to a peer.
type Path struct {
	Kind   Kind
	Remote netip.AddrPort // as it is outside

	id     uint64
	ice    *net.UDPAddr // as ICE sees it
	sock   *Socket      // of UDP
	name   sockaddr     // of UDP
	stream *stream      // of the others
	valid  atomic.Bool
	conn   atomic.Pointer[Conn]
}

func (m *Mux) newPath(k Kind, remote netip.AddrPort) *Path {
	id := m.nextID.Add(1)
	return &Path{Kind: k, Remote: remote, id: id, ice: &net.UDPAddr{IP: pathIP(id), Port: pathPort}}
}

// validate opens the path for DTLS and media.
func (p *Path) validate(c *Conn) {
	p.conn.Store(c)
	p.valid.Store(true)
	if p.sock != nil {
		p.sock.routes(func(m map[netip.AddrPort]*Path) {
			if old := m[p.Remote]; old != nil && old != p {
				old.valid.Store(false)
			}
			m[p.Remote] = p
			delete(p.sock.pending, p.Remote)
		})
	}
}

// forget closes it.
func (p *Path) forget() {
	p.valid.Store(false)
	p.conn.Store(nil)
	if p.sock != nil {
		p.sock.routes(func(m map[netip.AddrPort]*Path) {
			if m[p.Remote] == p {
				delete(m, p.Remote)
			}
			if p.sock.pending[p.Remote] == p {
				delete(p.sock.pending, p.Remote)
			}
		})
	}
	// After an ICE restart another path has the stream.
	if p.stream != nil && p.stream.path.Load() == p {
		p.stream.close()
	}
}

// write sends a single packet at once.
func (p *Path) write(b []byte) error {
	if p.stream != nil {
		p.stream.put(b)
		return nil
	}
	_, err := p.sock.conn.WriteToUDPAddrPort(b, p.Remote)
	return err
}

// SetDeadline implements net.PacketConn. An agent sets one only to end its reader.
func (c *Conn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

// SetReadDeadline implements net.PacketConn.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch past := !t.IsZero() && !t.After(time.Now()); {
	case past && !c.woken:
		c.woken = true
		close(c.unblock)
	case !past && c.woken:
		c.woken = false
		c.unblock = make(chan struct{})
	}
	return nil
}

// SetWriteDeadline implements net.PacketConn; writes do not wait.
func (c *Conn) SetWriteDeadline(time.Time) error { return nil }
