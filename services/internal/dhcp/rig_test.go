package dhcp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
)

var (
	noon     = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	mac      = net.HardwareAddr{0x52, 0x54, 0, 1, 2, 3}
	identity = Identity{HardwareAddr: mac, Hostname: "parley"}
	server   = netip.MustParseAddr("192.0.2.1")
	first    = netip.MustParseAddr("192.0.2.10")
	second   = netip.MustParseAddr("192.0.2.11")
)

func generator() *rand.Rand { return rand.New(rand.NewPCG(1, 2)) }

// option is one of any content.
func option(code uint8, value ...byte) dhcpv4.Option {
	return dhcpv4.OptGeneric(dhcpv4.GenericOptionCode(code), value)
}

// answer is a server's answer to a request: an hour in 192.0.2.0/24. An option
// without a value takes one away.
func answer(req *dhcpv4.DHCPv4, kind dhcpv4.MessageType, a netip.Addr, options ...dhcpv4.Option) *dhcpv4.DHCPv4 {
	m := &dhcpv4.DHCPv4{
		OpCode:        dhcpv4.OpcodeBootReply,
		HWType:        iana.HWTypeEthernet,
		TransactionID: req.TransactionID,
		ClientHWAddr:  slices.Clone(req.ClientHWAddr),
		Options:       dhcpv4.OptionsFromList(dhcpv4.OptMessageType(kind), serverID(server)),
	}
	if kind != dhcpv4.MessageTypeNak {
		m.YourIPAddr = a.AsSlice()
		m.UpdateOption(option(1, 255, 255, 255, 0))
		m.UpdateOption(option(51, 0, 0, 0x0e, 0x10))
	}
	for _, o := range options {
		if len(o.Value.ToBytes()) == 0 {
			m.Options.Del(o.Code)
		} else {
			m.UpdateOption(o)
		}
	}
	return m
}

// lasting are the options of a lease's length.
func lasting(d time.Duration) dhcpv4.Option {
	s := uint32(d / time.Second)
	return option(51, byte(s>>24), byte(s>>16), byte(s>>8), byte(s))
}

// testServer is a DHCP server and the wire to it.
type testServer struct {
	mu     sync.Mutex
	gone   bool
	length time.Duration
	pool   []netip.Addr // the first free one is given
	taken  map[netip.Addr]bool
	more   []dhcpv4.Option
	fail   error         // of Open
	raw    func() []byte // sent before each answer
	log    []string      // messages, as words
	opens  int
	open   int
}

func newServer(length time.Duration) *testServer {
	return &testServer{length: length, pool: []netip.Addr{first, second}, taken: map[netip.Addr]bool{}}
}

func (s *testServer) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// words returns what was sent since the last call.
func (s *testServer) words() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := strings.Join(s.log, "; ")
	s.log = nil
	return out
}

type testConn struct {
	s      *testServer
	from   netip.Addr
	in     chan []byte
	closed chan struct{}
}

func (s *testServer) Open(from netip.Addr) (Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return nil, s.fail
	}
	s.opens++
	s.open++
	return &testConn{s, from, make(chan []byte, 100), make(chan struct{})}, nil
}

func (c *testConn) Receive(b []byte) (int, error) {
	select {
	case m := <-c.in:
		return copy(b, m), nil
	case <-c.closed:
		return 0, io.EOF
	}
}

func (c *testConn) Close() error {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.s.open--
	close(c.closed)
	return nil
}

// Send has the server answer, unless it is gone.
func (c *testConn) Send(b []byte, to netip.Addr) error {
	req, err := dhcpv4.FromBytes(b)
	if err != nil {
		return err
	}
	s := c.s
	s.mu.Lock()
	defer s.mu.Unlock()
	want, _ := netip.AddrFromSlice(req.RequestedIPAddress().To4())
	ciaddr, _ := netip.AddrFromSlice(req.ClientIPAddr.To4())
	word := req.MessageType().String()
	if want.IsValid() {
		word += " " + want.String()
	}
	if !ciaddr.IsUnspecified() {
		word += " as " + ciaddr.String()
	}
	if req.ServerIdentifier() != nil {
		word += " of " + req.ServerIdentifier().String()
	}
	if to != broadcast {
		word += " to " + to.String()
	}
	if c.from.IsValid() != !ciaddr.IsUnspecified() || c.from.IsValid() && c.from != ciaddr {
		word += fmt.Sprintf(" BUT FROM %v", c.from)
	}
	s.log = append(s.log, word)
	if s.gone {
		return nil
	}
	if s.raw != nil {
		c.in <- s.raw()
	}
	options := append([]dhcpv4.Option{lasting(s.length)}, s.more...)
	reply := func(kind dhcpv4.MessageType, a netip.Addr) {
		c.in <- answer(req, kind, a, options...).ToBytes()
	}
	free := func(a netip.Addr) bool { return slices.Contains(s.pool, a) && !s.taken[a] }
	switch req.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		if !free(want) {
			i := slices.IndexFunc(s.pool, free)
			if i < 0 {
				return nil
			}
			want = s.pool[i]
		}
		reply(dhcpv4.MessageTypeOffer, want)
	case dhcpv4.MessageTypeRequest:
		if !ciaddr.IsUnspecified() {
			want = ciaddr
		}
		if free(want) {
			reply(dhcpv4.MessageTypeAck, want)
		} else {
			c.in <- answer(req, dhcpv4.MessageTypeNak, netip.Addr{}).ToBytes()
		}
	case dhcpv4.MessageTypeDecline:
		s.taken[want] = true
	}
	return nil
}

// testHost records what the client does to the machine, and how late.
type testHost struct {
	start  time.Time
	mu     sync.Mutex
	events []string
	owners map[netip.Addr]net.HardwareAddr
	err    error // of Probe
}

func (h *testHost) note(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, fmt.Sprintf(format, args...))
}

func (h *testHost) take() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := strings.Join(h.events, "; ")
	h.events = nil
	return out
}

// conflict is what probes for a say from now on.
func (h *testHost) conflict(a netip.Addr, owner net.HardwareAddr, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.owners[a], h.err = owner, err
}

func (h *testHost) Bind(l *Lease) { h.note("bind %v", l.Address) }
func (h *testHost) Unbind()       { h.note("unbind") }
func (h *testHost) Probe(ctx context.Context, a netip.Addr) (net.HardwareAddr, error) {
	select {
	case <-time.After(time.Second):
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.owners[a], h.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// world is a client in a bubble with a server, a host and a log.
type world struct {
	*testServer
	*testHost
	client *Client
	logs   *bytes.Buffer // to be read after synctest.Wait
	stop   func()
}

// run starts a client that knows a lease, with carrier.
func run(t *testing.T, s *testServer, known *Lease, held bool) *world {
	t.Helper()
	w := &world{testServer: s, testHost: &testHost{start: time.Now(), owners: map[netip.Addr]net.HardwareAddr{}}, logs: &bytes.Buffer{}}
	w.client = New(Config{Identity: identity, Wire: s, Host: w.testHost, Known: known, Held: held, Rand: generator(),
		Log: slog.New(slog.NewTextHandler(w.logs, nil))})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.client.Run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		s.set(func() {
			if s.open != 0 {
				t.Errorf("%d sockets are left open", s.open)
			}
		})
	})
	t.Cleanup(w.stop)
	w.client.Carrier(true)
	synctest.Wait()
	return w
}

// expect lets d pass and compares what happened then.
func (w *world) expect(t *testing.T, d time.Duration, words, events string) {
	t.Helper()
	time.Sleep(d)
	synctest.Wait()
	if got := w.words(); got != words {
		t.Errorf("%v later sent  %q\nwant %q", d, got, words)
	}
	if got := w.take(); got != events {
		t.Errorf("%v later did   %q\nwant %q", d, got, events)
	}
	if t.Failed() {
		t.Fatalf("log:\n%s", w.logs)
	}
}

var errTest = errors.New("broken")
