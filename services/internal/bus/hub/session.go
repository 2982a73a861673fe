package hub

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/parley-meet/parley/services/internal/bus"
)

// session is a connection of an appliance, and the pipe that stands for it in the
// server.
type session struct {
	hub    *Hub
	who    bus.Identity
	conn   net.Conn // nil: this controller's own
	pipe   net.Conn
	number uint64
	key    netip.Addr // by which the server calls it
	since  time.Time
	pace   *pace

	once sync.Once
	mu   sync.Mutex
	why  error // of a cut
}

// cut ends a session. The first reason counts.
func (x *session) cut(why error) {
	x.once.Do(func() {
		x.mu.Lock()
		x.why = why
		x.mu.Unlock()
		if x.conn != nil {
			// tls.Conn.Close waits for a peer that does not read, for seconds.
			if t, ok := x.conn.(interface{ NetConn() net.Conn }); ok {
				t.NetConn().Close()
			}
			x.conn.Close()
		}
		x.pipe.Close()
	})
}

func (x *session) alive() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.why == nil
}

// key is the address of the nth session. It is of a prefix for documentation
// (RFC 3849): nobody comes from there.
func key(n uint64) netip.Addr {
	b := [16]byte{0: 0x20, 1: 0x01, 2: 0x0d, 3: 0xb8}
	binary.BigEndian.PutUint64(b[8:], n)
	return netip.AddrFrom16(b)
}

// header is what the server reads before anything else: the PROXY protocol,
// version 2 (haproxy.org, proxy-protocol.txt, 2.2), TCP over IPv6.
func header(source netip.Addr) []byte {
	b := append([]byte("\r\n\r\n\x00\r\nQUIT\n"), 0x21, 0x21, 0, 36)
	a := source.As16()
	b = append(b, a[:]...)
	b = append(b, a[:]...)
	return binary.BigEndian.AppendUint32(b, 1<<16|1) // both ports
}

// run copies both ways until one end is gone, and returns why.
func (x *session) run() error {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	end := time.AfterFunc(time.Until(x.who.Expires), func() { x.cut(errExpired) })
	defer end.Stop()
	out := make(chan error, 1)
	go func() {
		// The server speaks first, and reads the header after that.
		err := x.out()
		stop()
		x.cut(err)
		out <- err
	}()
	_, err := x.pipe.Write(header(x.key))
	if err == nil {
		err = x.in(ctx)
	}
	x.cut(err)
	<-out
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.why
}

// errClosed is where an end closed in order.
var errClosed = errors.New("closed")

// chunk is how much is copied at a time, in bytes.
const chunk = 16 << 10

// out copies what the server says. A peer that does not take it within writeLimit
// is gone; until then the server holds maxPending bytes for it at most.
func (x *session) out() error {
	b := make([]byte, chunk)
	for {
		n, err := x.pipe.Read(b)
		if n > 0 {
			if err := x.conn.SetWriteDeadline(time.Now().Add(writeLimit)); err != nil {
				return err
			}
			if _, err := x.conn.Write(b[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return errClosed
		}
		if err != nil {
			return err
		}
	}
}

// in copies what the appliance says, at its pace.
func (x *session) in(ctx context.Context) error {
	b := make([]byte, chunk)
	for {
		n, err := x.conn.Read(b)
		if n > 0 {
			if err := x.pace.wait(ctx, b[:n]); err != nil {
				return err
			}
			if _, err := x.pipe.Write(b[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return errClosed
		}
		if err != nil {
			return err
		}
	}
}

// local makes the pipe ready for this controller's own client.
func (x *session) local() net.Conn {
	c := &ownConn{Conn: x.pipe, session: x, ready: make(chan struct{})}
	go func() { // ends when the server has read it, or the pipe is closed
		defer close(c.ready)
		_, c.err = x.pipe.Write(header(x.key))
	}()
	return c
}

// ownConn is the client's end of this controller's own session.
type ownConn struct {
	net.Conn
	session *session
	ready   chan struct{} // the header was written, or
	err     error
}

func (c *ownConn) Write(b []byte) (int, error) {
	<-c.ready
	if c.err != nil {
		return 0, c.err
	}
	return c.Conn.Write(b)
}

// Close also tells the hub.
func (c *ownConn) Close() error {
	c.session.cut(errClosed)
	c.session.hub.leave(c.session)
	<-c.ready
	return nil
}

// Pace of an appliance, over all its sessions.
const (
	paceBytes = 8 << 20 // a second
	paceBurst = 8 << 20
	// lineCost is what a line costs beside its bytes. A message has two, and
	// package bus sends few messages with line ends in them. So an appliance gets
	// about 13,000 messages a second through.
	lineCost = 256
	// Connections. One that comes back after a break tries less often.
	comeBurst = 16
	comeEvery = time.Second
	tellEvery = 10 * time.Second // a refusal is logged
)

// pace bounds what an appliance may say. One that says more is read later, so its
// own end has to wait.
type pace struct{ limit, come, tell *rate.Limiter }

func newPace() *pace {
	return &pace{rate.NewLimiter(paceBytes, paceBurst), rate.NewLimiter(rate.Every(comeEvery), comeBurst), rate.NewLimiter(rate.Every(tellEvery), 3)}
}

func (p *pace) wait(ctx context.Context, b []byte) error {
	// Less than paceBurst, as a chunk is: the limiter would refuse more.
	return p.limit.WaitN(ctx, len(b)+bytes.Count(b, []byte{'\n'})*lineCost)
}
