package wire

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of streams.
const (
	// streamQueue is what waits for a slow stream, bytes. Over it the packet that
	// comes is dropped: video asks for it again, or for a keyframe.
	streamQueue = 256 << 10
	// firstWord is how long a connection may wait before it shows a fragment.
	firstWord = 10 * time.Second
	// streamIdle ends a stream that is silent; ICE asks for consent every few
	// seconds (RFC 7675, 5.1).
	streamIdle = 60 * time.Second
	// streamWrite ends one that takes nothing.
	streamWrite = 10 * time.Second
)

// stream is a connection of packets, each with its length before it (RFC 4571).
type stream struct {
	conn net.Conn
	path atomic.Pointer[Path]

	mu     sync.Mutex
	queue  []byte // frames
	spare  []byte
	wake   chan struct{}
	closed bool
	Drops  atomic.Uint64
}

// put queues a packet, or drops it.
func (s *stream) put(b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	if len(s.queue)+2+len(b) > streamQueue {
		s.Drops.Add(1)
		return
	}
	s.queue = binary.BigEndian.AppendUint16(s.queue, uint16(len(b)))
	s.queue = append(s.queue, b...)
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *stream) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		close(s.wake)
		s.conn.Close()
	}
}

// write sends what is queued until the stream ends.
func (s *stream) write() {
	for range s.wake {
		for {
			s.mu.Lock()
			b := s.queue
			s.queue, s.spare = s.spare[:0], nil
			s.mu.Unlock()
			if len(b) == 0 {
				s.give(b)
				break
			}
			s.conn.SetWriteDeadline(time.Now().Add(streamWrite))
			if _, err := s.conn.Write(b); err != nil {
				s.close()
				return
			}
			s.give(b)
		}
	}
}

// give returns a buffer.
func (s *stream) give(b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spare = b[:0]
}

// errNoFragment ends a connection that does not begin as ICE-TCP does.
var errNoFragment = errors.New("stream: the first packet is no request with a user name that is known here")

// Serve takes a TCP connection of ICE (RFC 6544) or of a relay, and returns when
// it has ended. Its first packet must be a request with the fragment of a conn.
func (m *Mux) Serve(c net.Conn, kind Kind) error {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		c.Close()
		return errClosed
	}
	m.tasks.Add(1)
	m.mu.Unlock()
	defer m.tasks.Done()
	remote, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		c.Close()
		return fmt.Errorf("stream: %w", err)
	}
	s := &stream{conn: c, wake: make(chan struct{}, 1)}
	defer s.close()
	var writer sync.WaitGroup
	writer.Go(s.write)
	defer writer.Wait()
	defer s.close()
	out := NewOutSize(32 << 10)
	in := bufio.NewReaderSize(c, 16<<10)
	buf := make([]byte, MTU)
	one := make([][]byte, 1)
	c.SetReadDeadline(time.Now().Add(firstWord))
	for {
		b, err := readFrame(in, buf)
		if err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return fmt.Errorf("stream from %s: %w", remote, err)
		}
		p := s.path.Load()
		switch {
		case isSTUN(b):
			if stunType(b) == stunRequest {
				c := m.find(stunUser(b))
				if c == nil {
					return errNoFragment
				}
				if c.replayed(p, b) {
					return errNoFragment
				}
				if p == nil || p.conn.Load() != c {
					p = m.newPath(kind, remote)
					p.stream = s
					p.conn.Store(c)
					s.path.Store(p)
					if !c.add(p) {
						return errNoFragment
					}
				}
			}
			if p == nil {
				return errNoFragment
			}
			if c := p.conn.Load(); c != nil {
				c.push(p, b)
			}
		case p == nil:
			return errNoFragment
		case !p.valid.Load():
		case IsDTLS(b):
			if c := p.conn.Load(); c != nil {
				c.push(p, b)
			}
		case isMedia(b):
			one[0] = b
			p.media(out, one)
			if in.Buffered() < 2 {
				out.Flush()
			}
		}
		c.SetReadDeadline(time.Now().Add(streamIdle))
	}
}

// readFrame reads a packet into buf. A frame of no bytes is skipped.
func readFrame(in *bufio.Reader, buf []byte) ([]byte, error) {
	for {
		var l [2]byte
		if _, err := io.ReadFull(in, l[:]); err != nil {
			return nil, err
		}
		n := int(binary.BigEndian.Uint16(l[:]))
		if n == 0 {
			continue
		}
		if n > len(buf) {
			return nil, fmt.Errorf("a packet of %d bytes", n)
		}
		if _, err := io.ReadFull(in, buf[:n]); err != nil {
			return nil, err
		}
		return buf[:n], nil
	}
}
