package wire

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// socketBuffer is asked of the kernel for each direction, bytes: a tenth of a
// second at 300 Mbit/s. The kernel may give less (net.core.rmem_max).
const socketBuffer = 4 << 20

// maxPending bounds the addresses of a socket that have shown a user name and
// were not answered yet.
const maxPending = 4096

// Socket is a UDP port of one address: one socket of the kernel, and others beside
// it where there are processors for them. The kernel gives all packets of a client to
// the same one (SO_REUSEPORT hashes the addresses), and each has a reader.
type Socket struct {
	mux  *Mux
	rest []*Socket // the others
	conn *net.UDPConn
	raw  syscall.RawConn
	v6   bool
	addr netip.AddrPort

	mu      sync.RWMutex
	valid   map[netip.AddrPort]*Path
	pending map[netip.AddrPort]*Path

	answers allowance // the reader's

	Stats SocketStats
}

// SocketStats counts what a socket did.
type SocketStats struct {
	Reads, Received, Calls, Messages, Sent, Segmented atomic.Uint64 // packets but Reads and Calls
	Bytes, ReceivedBytes                              atomic.Uint64
	Unknown                                           atomic.Uint64 // from nobody: no path, no fragment
	Refused                                           atomic.Uint64 // the kernel did not take them
}

// Listen opens a UDP port. The address is one of the machine's, not "all": the
// answer must leave from where the request came to.
func (m *Mux) Listen(addr netip.AddrPort) (*Socket, error) {
	s, err := m.open(addr)
	for err == nil && 1+len(s.rest) < m.readers {
		var other *Socket
		if other, err = m.open(s.addr); err == nil {
			s.rest = append(s.rest, other)
		}
	}
	if err != nil {
		if s != nil {
			err = errors.Join(err, s.each(func(s *Socket) error { return s.conn.Close() }))
		}
		return nil, fmt.Errorf("open %s: %w", addr, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, errors.Join(errClosed, s.each(func(s *Socket) error { return s.conn.Close() }))
	}
	return s, s.each(func(s *Socket) error {
		m.sockets = append(m.sockets, s)
		m.tasks.Go(s.run)
		return nil
	})
}

// each does something to all sockets of the port.
func (s *Socket) each(f func(*Socket) error) error {
	err := f(s)
	for _, o := range s.rest {
		err = errors.Join(err, f(o))
	}
	return err
}

// open opens one socket, which nobody reads yet.
func (m *Mux) open(addr netip.AddrPort) (*Socket, error) {
	network, v6 := "udp4", false
	if addr.Addr().Is6() && !addr.Addr().Is4In6() {
		network, v6 = "udp6", true
	}
	var how net.ListenConfig
	if m.readers > 1 {
		how.Control = shared
	}
	pc, err := how.ListenPacket(context.Background(), network, addr.String())
	if err != nil {
		return nil, err
	}
	c := pc.(*net.UDPConn)
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	// A smaller buffer works, and loses packets sooner.
	if err := errors.Join(c.SetReadBuffer(socketBuffer), c.SetWriteBuffer(socketBuffer)); err != nil {
		m.log.Warn("socket buffer", "address", addr, "error", err)
	}
	return &Socket{
		mux: m, conn: c, raw: raw, v6: v6,
		addr:    netip.MustParseAddrPort(c.LocalAddr().String()),
		valid:   map[netip.AddrPort]*Path{},
		pending: map[netip.AddrPort]*Path{},
	}, nil
}

// Addr is where the socket is.
func (s *Socket) Addr() netip.AddrPort { return s.addr }

// routes changes the tables.
func (s *Socket) routes(change func(valid map[netip.AddrPort]*Path)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s.valid)
}

// Close ends a socket: its address is no more the machine's, or it gets another
// port. What its peers' ways were leads nowhere; ICE finds others.
func (s *Socket) Close() error {
	return s.each(func(s *Socket) error {
		m := s.mux
		m.mu.Lock()
		i := slices.Index(m.sockets, s)
		if i < 0 {
			m.mu.Unlock()
			return nil
		}
		m.sockets = slices.Delete(m.sockets, i, i+1)
		m.past.add(&s.Stats)
		m.mu.Unlock()
		return s.conn.Close()
	})
}

// Close ends all sockets, conns and streams.
func (m *Mux) Close() error {
	m.mu.Lock()
	m.closed = true
	var errs []error
	for _, s := range m.sockets {
		errs = append(errs, s.conn.Close())
	}
	conns := make([]*Conn, 0, len(m.ufrags))
	for _, c := range m.ufrags {
		conns = append(conns, c)
	}
	m.mu.Unlock()
	for _, c := range conns {
		c.Close()
	}
	m.tasks.Wait()
	return errors.Join(errs...)
}

// run reads until the socket is closed.
func (s *Socket) run() {
	r := newReceiver()
	out := NewOut()
	for {
		n, err := r.read(s.raw)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// ENOMEM and the like pass; a socket that is broken must not spin.
			s.mux.log.Warn("read", "address", s.addr, "error", err)
			time.Sleep(10 * time.Millisecond)
			continue
		}
		// What has come while the packets before were sealed leaves with them: a
		// frame's packets come one by one, and go out as one message.
		for total := 0; n > 0; n = r.more(s.raw) {
			s.batch(r, out, n)
			if total += n; total >= flushAfter {
				break
			}
		}
		out.Flush()
	}
}

// flushAfter packets that were read, what they made leaves.
const flushAfter = 2 * receiveBatch

// batch takes packets that were read together.
func (s *Socket) batch(r *receiver, out *Out, n int) {
	paths, packets := &r.paths, &r.packets
	s.Stats.Reads.Add(1)
	s.Stats.Received.Add(uint64(n))
	total := 0
	s.mu.RLock()
	for i := range n {
		packets[i] = r.packet(i)
		total += len(packets[i])
		paths[i] = s.valid[r.from(i)]
	}
	s.mu.RUnlock()
	s.Stats.ReceivedBytes.Add(uint64(total))
	for i := 0; i < n; {
		b, p := packets[i], paths[i]
		if !isMedia(b) {
			s.control(r.from(i), p, b)
			i++
			continue
		}
		end := i + 1
		for end < n && paths[end] == p && isMedia(packets[end]) {
			end++
		}
		if p == nil {
			s.Stats.Unknown.Add(uint64(end - i))
		} else {
			p.media(out, packets[i:end])
		}
		i = end
	}
}

// media gives packets to the peer's handler.
func (p *Path) media(out *Out, packets [][]byte) {
	c := p.conn.Load()
	if c == nil || !p.valid.Load() {
		return
	}
	if h := c.handler.Load(); h != nil {
		(*h).Media(out, p, packets)
	}
}

// isMedia tells RTP and RTCP from the rest (RFC 7983, 7).
func isMedia(b []byte) bool { return len(b) >= 8 && b[0] >= 128 && b[0] <= 191 }

// IsDTLS likewise.
func IsDTLS(b []byte) bool { return len(b) > 0 && b[0] >= 20 && b[0] <= 63 }

// control takes what is not media.
func (s *Socket) control(from netip.AddrPort, p *Path, b []byte) {
	switch {
	case isSTUN(b):
		s.stun(from, p, b)
	case IsDTLS(b) && p != nil:
		if c := p.conn.Load(); c != nil {
			c.push(p, b)
		}
	default:
		s.Stats.Unknown.Add(1)
	}
}

func (s *Socket) stun(from netip.AddrPort, p *Path, b []byte) {
	if stunType(b) != stunRequest {
		// An answer to a check of the agent's, or an indication: only from where it
		// has been before.
		if p != nil {
			if c := p.conn.Load(); c != nil {
				c.push(p, b)
			}
		}
		return
	}
	user := stunUser(b)
	if user == nil {
		// Somebody asks for his own address.
		if !s.answers.take(time.Now(), answerRate, answerBurst) {
			s.Stats.Unknown.Add(1)
			return
		}
		var buf [64]byte
		if _, err := s.conn.WriteToUDPAddrPort(stunAnswer(buf[:0], b, from), from); err != nil {
			s.Stats.Refused.Add(1)
		}
		return
	}
	c := s.mux.find(user)
	if c == nil {
		s.Stats.Unknown.Add(1)
		return
	}
	if c.replayed(p, b) {
		s.Stats.Unknown.Add(1)
		return
	}
	if p == nil || p.conn.Load() != c {
		if p = s.meet(from, c); p == nil {
			return
		}
	}
	c.push(p, b)
}

// meet makes the path of an address that shows c's fragment.
func (s *Socket) meet(from netip.AddrPort, c *Conn) *Path {
	s.mu.Lock()
	p := s.pending[from]
	if p != nil && p.conn.Load() == c {
		s.mu.Unlock()
		return p
	}
	if p == nil && len(s.pending) >= maxPending {
		for a := range s.pending { // any: what is genuine asks again
			delete(s.pending, a)
			break
		}
	}
	p = s.mux.newPath(UDP, from)
	p.sock, p.name = s, newSockaddr(from, s.v6)
	p.conn.Store(c)
	s.pending[from] = p
	s.mu.Unlock()
	if !c.add(p) {
		p.forget()
		return nil
	}
	return p
}

// refused says whether an error of sending concerns the message alone.
func refused(err error) bool {
	var errno syscall.Errno
	return errors.As(err, &errno) && errno != unix.EBADF
}
