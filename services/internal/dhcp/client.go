package dhcp

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// Host is what a client does to the machine it runs on.
type Host interface {
	// Bind has the lease's address and options used. It is called again with
	// each renewal. It must not block.
	Bind(*Lease)
	// Unbind has nothing of the last lease used any more, nor remembered. It
	// must not block.
	Unbind()
	// Probe finds out whether another machine has the address; nil is none. It
	// ends early when ctx does.
	Probe(ctx context.Context, a netip.Addr) (net.HardwareAddr, error)
}

// Config is what a Client is made of.
type Config struct {
	Identity Identity
	Wire     Wire
	Host     Host
	Known    *Lease // of earlier, or nil
	Held     bool   // the host has Known's address
	Rand     *rand.Rand
	Log      *slog.Logger
}

// Client keeps a lease while its Run runs.
type Client struct {
	cfg     Config
	machine *Machine
	carrier chan bool // holds the last word only
	alive   chan chan struct{}
	release chan chan struct{}
	packets chan *dhcpv4.DHCPv4
	broken  chan Conn // whose Receive has ended
	probed  chan probeResult

	conn   Conn // nil: none
	from   netip.Addr
	cancel context.CancelFunc // of the probe
	wg     sync.WaitGroup     // receivers and probes
}

type probeResult struct {
	ctx   context.Context // of this probe
	addr  netip.Addr
	owner net.HardwareAddr
}

// receiveQueue is how many messages wait for the loop.
const receiveQueue = 16

// New returns a client that does nothing yet.
func New(cfg Config) *Client {
	return &Client{
		cfg:     cfg,
		machine: NewMachine(cfg.Identity, cfg.Known, cfg.Held, cfg.Rand, cfg.Log),
		carrier: make(chan bool, 1),
		alive:   make(chan chan struct{}),
		release: make(chan chan struct{}),
		packets: make(chan *dhcpv4.DHCPv4, receiveQueue),
		broken:  make(chan Conn),
		probed:  make(chan probeResult),
		cancel:  func() {},
	}
}

// Carrier tells the client that the link has come or gone. It must be called
// from one goroutine, and does not block.
func (c *Client) Carrier(up bool) {
	select {
	case <-c.carrier: // not read yet, and not true any more
	default:
	}
	c.carrier <- up
}

// Alive returns when the loop has answered, or with ctx's error.
func (c *Client) Alive(ctx context.Context) error {
	done := make(chan struct{})
	select {
	case c.alive <- done:
	case <-ctx.Done():
		return ctx.Err()
	}
	<-done
	return nil
}

// releaseWait is how long the address stays after a RELEASE was sent: when the
// server's hardware address is not known, the kernel asks for it first.
const releaseWait = 200 * time.Millisecond

// Release gives the lease back and has its address not used any more; it
// returns when that is done, or with ctx's error. Run is to be ended then.
func (c *Client) Release(ctx context.Context) error {
	done := make(chan struct{})
	select {
	case c.release <- done:
	case <-ctx.Done():
		return ctx.Err()
	}
	<-done
	return nil
}

func (c *Client) giveBack(ctx context.Context) {
	out := c.machine.Release(time.Now())
	if out.Send != nil {
		c.send(ctx, out.Send)
		select {
		case <-time.After(releaseWait):
		case <-ctx.Done():
		}
		out.Send = nil
	}
	c.do(ctx, out)
}

// Run keeps a lease until ctx ends, and returns nil. The address stays: the
// next Run takes it up again.
func (c *Client) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer c.wg.Wait()
	defer c.close()
	defer cancel()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	if l := c.machine.Lease(); l != nil {
		c.cfg.Host.Bind(l)
	}
	for {
		if next := c.machine.Next(); next.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(next))
		}
		select {
		case <-ctx.Done():
			return nil
		case done := <-c.alive:
			close(done)
		case done := <-c.release:
			c.giveBack(ctx)
			close(done)
		case up := <-c.carrier:
			c.do(ctx, c.machine.Carrier(time.Now(), up))
		case <-timer.C:
			c.do(ctx, c.machine.Tick(time.Now()))
		case m := <-c.packets:
			c.do(ctx, c.machine.Receive(time.Now(), m))
		case r := <-c.probed:
			if r.ctx.Err() == nil {
				c.do(ctx, c.machine.Probed(time.Now(), r.addr, r.owner))
			}
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
	if c.machine.Phase() != Probing {
		c.cancel()
	}
	if out.Probe.IsValid() {
		c.probe(ctx, out.Probe)
	}
	// Between exchanges no socket is open: nothing outside can wake the
	// process up.
	if !c.machine.Listening() {
		c.close()
	}
}

// send sends a message. When that does not work, the machine's next message
// tries again with a new socket.
func (c *Client) send(ctx context.Context, m *Message) {
	if c.conn != nil && c.from != m.From {
		c.close()
	}
	if c.conn == nil {
		conn, err := c.cfg.Wire.Open(m.From)
		if err != nil {
			c.cfg.Log.Warn("message not sent", "type", m.MessageType(), "err", err)
			return
		}
		c.conn, c.from = conn, m.From
		c.wg.Go(func() { c.receive(ctx, conn) })
	}
	c.cfg.Log.Debug("sent", "type", m.MessageType(), "to", m.To, "xid", m.TransactionID)
	if err := c.conn.Send(m.ToBytes(), m.To); err != nil {
		c.cfg.Log.Warn("message not sent", "type", m.MessageType(), "to", m.To, "err", err)
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
		n, err := conn.Receive(buf)
		if err != nil {
			select {
			case c.broken <- conn:
			case <-ctx.Done():
			}
			return
		}
		m, err := dhcpv4.FromBytes(buf[:n])
		if err != nil { // anybody can send anything to this port
			if bad++; bad <= maxComplaints {
				c.cfg.Log.Warn("message cannot be read", "bytes", n, "err", err)
			}
			continue
		}
		select {
		case c.packets <- m:
		default: // dropped: the exchange is repeated
		}
	}
}

func (c *Client) probe(ctx context.Context, a netip.Addr) {
	c.cancel()
	ctx, c.cancel = context.WithCancel(ctx)
	c.wg.Go(func() {
		owner, err := c.cfg.Host.Probe(ctx, a)
		if err != nil && ctx.Err() == nil {
			// No reason to stay without an address.
			c.cfg.Log.Warn("address not probed", "address", a, "err", err)
		}
		select {
		case c.probed <- probeResult{ctx, a, owner}:
		case <-ctx.Done():
		}
	})
}
