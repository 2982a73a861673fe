package dhcp6

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"golang.org/x/sys/unix"
)

// Host is what a client does to the machine it runs on. Its methods must not
// block.
type Host interface {
	// Bind has the lease's address and settings used, again with each renewal.
	Bind(*Lease)
	// Unbind has nothing of the last lease used any more.
	Unbind()
}

// Wire opens a way to the servers of the link.
type Wire interface {
	Open() (Conn, error)
}

// Conn carries DHCPv6 messages. Receive may be called while Send is; Close ends
// both.
type Conn interface {
	Send(b []byte) error                           // to all servers and relays
	Receive(b []byte) (int, netip.AddrPort, error) // the length of the next message, and of whom
	Close() error
}

// Config is what a Client is made of.
type Config struct {
	Identity Identity
	Wire     Wire
	Host     Host
	Rand     *rand.Rand
	Log      *slog.Logger
}

// Client keeps a lease while its Run runs.
type Client struct {
	cfg     Config
	machine *Machine
	follow  chan wish // holds the last word only
	double  chan netip.Addr
	packets chan packet
	broken  chan Conn

	conn Conn
	wg   sync.WaitGroup
}

type wish struct {
	up   bool
	mode Mode
}

type packet struct {
	from netip.Addr
	msg  *dhcpv6.Message
}

const (
	receiveQueue = 16   // messages that wait for the loop
	maxMessage   = 1500 // bytes
)

// New returns a client that does nothing yet.
func New(cfg Config) *Client {
	return &Client{
		cfg:     cfg,
		machine: NewMachine(cfg.Identity, cfg.Rand, cfg.Log),
		follow:  make(chan wish, 1),
		double:  make(chan netip.Addr, 1),
		packets: make(chan packet, receiveQueue),
		broken:  make(chan Conn),
	}
}

// Follow tells the client whether the link works and what is wanted. It must be
// called from one goroutine, and does not block.
func (c *Client) Follow(up bool, mode Mode) {
	select {
	case <-c.follow: // not read yet, and not true any more
	default:
	}
	c.follow <- wish{up, mode}
}

// Duplicate tells the client that another machine has the address. It does not
// block: what the loop has not read yet will be said again.
func (c *Client) Duplicate(a netip.Addr) {
	select {
	case c.double <- a:
	default:
	}
}

// Run keeps a lease until ctx ends, and returns nil. The address stays.
func (c *Client) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer c.wg.Wait()
	defer c.close()
	defer cancel()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		if next := c.machine.Next(); next.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(next))
		}
		select {
		case <-ctx.Done():
			return nil
		case w := <-c.follow:
			c.do(ctx, c.machine.Follow(time.Now(), w.up, w.mode))
		case a := <-c.double:
			c.do(ctx, c.machine.Duplicate(time.Now(), a))
		case <-timer.C:
			c.do(ctx, c.machine.Tick(time.Now()))
		case p := <-c.packets:
			c.do(ctx, c.machine.Receive(time.Now(), p.from, p.msg))
		case conn := <-c.broken:
			if conn == c.conn {
				c.close()
			}
		}
	}
}

// do carries out what the machine wants.
func (c *Client) do(ctx context.Context, out Output) {
	if out.Unbind {
		c.cfg.Host.Unbind()
	}
	if out.Bind != nil {
		c.cfg.Host.Bind(out.Bind)
	}
	if out.Send != nil {
		c.send(ctx, out.Send)
	}
	// Between exchanges no socket is open: nothing outside can wake the process
	// up.
	if !c.machine.Listening() {
		c.close()
	}
}

// send sends a message. When that does not work, the machine's repetition tries
// again with a new socket.
func (c *Client) send(ctx context.Context, m *dhcpv6.Message) {
	if c.conn == nil {
		conn, err := c.cfg.Wire.Open()
		if err != nil {
			c.cfg.Log.Warn("message not sent", "type", m.MessageType, "err", err)
			return
		}
		c.conn = conn
		c.wg.Go(func() { c.receive(ctx, conn) })
	}
	c.cfg.Log.Debug("sent", "type", m.MessageType, "xid", m.TransactionID)
	if err := c.conn.Send(m.ToBytes()); err != nil {
		c.cfg.Log.Warn("message not sent", "type", m.MessageType, "err", err)
		c.close()
	}
}

func (c *Client) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

// receive hands messages to the loop until the connection ends.
func (c *Client) receive(ctx context.Context, conn Conn) {
	buf := make([]byte, maxMessage)
	for bad := 0; ; {
		n, from, err := conn.Receive(buf)
		if err != nil {
			select {
			case c.broken <- conn:
			case <-ctx.Done():
			}
			return
		}
		m, err := dhcpv6.MessageFromBytes(buf[:n])
		if err != nil { // anybody can send anything to this port
			if bad++; bad <= maxComplaints {
				c.cfg.Log.Warn("message cannot be read", "bytes", n, "err", err)
			}
			continue
		}
		select {
		case c.packets <- packet{from.Addr(), m}:
		default: // dropped: the exchange is repeated
		}
	}
}

// Sockets is the Wire of the named interface: a UDP socket on port 546
// (CAP_NET_BIND_SERVICE).
type Sockets struct{ Interface string }

type udpConn struct {
	*net.UDPConn
	to netip.AddrPort
}

// Open implements Wire.
func (s Sockets) Open() (Conn, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		cerr := c.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), s.Interface) })
		if cerr != nil {
			return cerr
		}
		return err
	}}
	pc, err := lc.ListenPacket(context.Background(), "udp6", fmt.Sprintf("[::]:%d", dhcpv6.DefaultClientPort))
	if err != nil {
		return nil, fmt.Errorf("UDP socket on %s: %w", s.Interface, err)
	}
	to := netip.AddrPortFrom(netip.MustParseAddr("ff02::1:2").WithZone(s.Interface), dhcpv6.DefaultServerPort)
	return &udpConn{pc.(*net.UDPConn), to}, nil
}

func (c *udpConn) Send(b []byte) error {
	_, err := c.WriteToUDPAddrPort(b, c.to)
	return err
}

func (c *udpConn) Receive(b []byte) (int, netip.AddrPort, error) {
	return c.ReadFromUDPAddrPort(b)
}
