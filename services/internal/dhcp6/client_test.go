package dhcp6

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
)

var (
	mac      = net.HardwareAddr{0x52, 0x54, 0, 1, 2, 3}
	self     = Identity{mac}
	router   = netip.MustParseAddrPort("[fe80::1%eth0]:547")
	first    = netip.MustParseAddr("2001:db8::10")
	serverID = &dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: net.HardwareAddr{2, 0, 0, 0, 0, 1}}
	otherID  = &dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: net.HardwareAddr{2, 0, 0, 0, 0, 2}}
)

// testServer is a DHCPv6 server and the wire to it.
type testServer struct {
	mu      sync.Mutex
	gone    bool
	address netip.Addr
	valid   time.Duration
	id      dhcpv6.DUID
	status  map[dhcpv6.MessageType]iana.StatusCode // of the answers to these
	spoil   func(*dhcpv6.Message)
	fail    error
	log     []string
	open    int
}

func newServer() *testServer {
	return &testServer{address: first, valid: time.Hour, id: serverID, status: map[dhcpv6.MessageType]iana.StatusCode{}}
}

func (s *testServer) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

type testConn struct {
	s      *testServer
	in     chan []byte
	closed chan struct{}
}

func (s *testServer) Open() (Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return nil, s.fail
	}
	s.open++
	return &testConn{s, make(chan []byte, 100), make(chan struct{})}, nil
}

func (c *testConn) Close() error {
	c.s.set(func() { c.s.open-- })
	close(c.closed)
	return nil
}

func (c *testConn) Receive(b []byte) (int, netip.AddrPort, error) {
	select {
	case m := <-c.in:
		return copy(b, m), router, nil
	case <-c.closed:
		return 0, netip.AddrPort{}, io.EOF
	}
}

func (c *testConn) Send(b []byte) error {
	req, err := dhcpv6.MessageFromBytes(b)
	if err != nil {
		return err
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	word := req.MessageType.String()
	if ia := req.Options.OneIANA(); ia != nil && ia.Options.OneAddress() != nil {
		word += " " + ia.Options.OneAddress().IPv6Addr.String()
	}
	c.s.log = append(c.s.log, word)
	if !c.s.gone {
		if m := c.s.answer(req); m != nil {
			c.in <- m.ToBytes()
		}
	}
	return nil
}

func (s *testServer) answer(req *dhcpv6.Message) *dhcpv6.Message {
	m := &dhcpv6.Message{MessageType: dhcpv6.MessageTypeReply, TransactionID: req.TransactionID}
	m.AddOption(dhcpv6.OptClientID(req.Options.ClientID()))
	m.AddOption(dhcpv6.OptServerID(s.id))
	m.AddOption(dhcpv6.OptDNS(net.ParseIP("2001:db8::53"), net.ParseIP("fe80::53")))
	code := s.status[req.MessageType]
	switch req.MessageType {
	case dhcpv6.MessageTypeSolicit:
		m.MessageType = dhcpv6.MessageTypeAdvertise
	case dhcpv6.MessageTypeRelease, dhcpv6.MessageTypeDecline:
		return nil
	case dhcpv6.MessageTypeInformationRequest, dhcpv6.MessageTypeConfirm:
		m.AddOption(&dhcpv6.OptStatusCode{StatusCode: code})
		if s.spoil != nil {
			s.spoil(m)
		}
		return m
	}
	ia := &dhcpv6.OptIANA{IaId: self.iaid()}
	if code == 0 {
		ia.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: s.address.AsSlice(), PreferredLifetime: s.valid, ValidLifetime: s.valid})
	} else {
		ia.Options.Add(&dhcpv6.OptStatusCode{StatusCode: code, StatusMessage: "no"})
	}
	m.AddOption(ia)
	if s.spoil != nil {
		s.spoil(m)
	}
	return m
}

// world is a client in a bubble with a server.
type world struct {
	*testServer
	client *Client
	logs   *bytes.Buffer
	events []string
	emu    sync.Mutex
	last   *Lease
	stop   func()
}

func (w *world) Bind(l *Lease) {
	w.emu.Lock()
	defer w.emu.Unlock()
	w.last = l
	w.events = append(w.events, fmt.Sprintf("bind %v", l.Address))
}

func (w *world) Unbind() {
	w.emu.Lock()
	defer w.emu.Unlock()
	w.last = nil
	w.events = append(w.events, "unbind")
}

func run(t *testing.T, s *testServer, mode Mode) *world {
	t.Helper()
	w := &world{testServer: s, logs: &bytes.Buffer{}}
	w.client = New(Config{Identity: self, Wire: s, Host: w, Rand: rand.New(rand.NewPCG(1, 2)), Log: slog.New(slog.NewTextHandler(w.logs, nil))})
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
	w.client.Follow(true, mode)
	synctest.Wait()
	return w
}

// expect lets d pass and compares what was sent and done then.
func (w *world) expect(t *testing.T, d time.Duration, words, events string) {
	t.Helper()
	time.Sleep(d)
	synctest.Wait()
	w.mu.Lock()
	got := strings.Join(w.log, "; ")
	w.log = nil
	w.mu.Unlock()
	w.emu.Lock()
	did := strings.Join(w.events, "; ")
	w.events = nil
	w.emu.Unlock()
	if got != words || did != events {
		t.Fatalf("%v later sent %q, did %q\nwant %q, %q\nlog:\n%s", d, got, did, words, events, w.logs)
	}
}

const (
	acquired = "SOLICIT; REQUEST 2001:db8::10"
	bound    = "bind 2001:db8::10"
)

func TestStateful(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := run(t, newServer(), Stateful)
		w.expect(t, 0, acquired, bound)
		if l := w.last; len(l.DNS) != 1 || l.DNS[0] != netip.MustParseAddr("2001:db8::53") || l.Server != netip.MustParseAddr("fe80::1") ||
			l.Renew != 30*time.Minute || !l.Expires().Equal(time.Now().Add(time.Hour)) {
			t.Errorf("lease %+v", l)
		}
		w.set(func() {
			if w.open != 0 {
				t.Error("a socket is open while nothing is awaited")
			}
		})
		w.expect(t, 30*time.Minute, "RENEW 2001:db8::10", bound)
		w.expect(t, 30*time.Minute, "RENEW 2001:db8::10", bound)

		// The cable is pulled and comes back: the address is confirmed; on another
		// link it goes.
		w.client.Follow(false, Stateful)
		w.expect(t, time.Minute, "", "")
		w.client.Follow(true, Stateful)
		w.expect(t, time.Second, "CONFIRM 2001:db8::10", "")
		w.set(func() { w.status[dhcpv6.MessageTypeConfirm] = iana.StatusNotOnLink })
		w.client.Follow(false, Stateful)
		synctest.Wait()
		w.client.Follow(true, Stateful)
		w.expect(t, time.Second, "CONFIRM 2001:db8::10; "+acquired, "unbind; "+bound)

		// Nobody answers: it is used until it ends.
		w.set(func() { w.gone = true })
		w.client.Follow(false, Stateful)
		synctest.Wait()
		w.client.Follow(true, Stateful)
		w.expect(t, 12*time.Second, "CONFIRM 2001:db8::10; CONFIRM 2001:db8::10; CONFIRM 2001:db8::10; CONFIRM 2001:db8::10", "")

		// Not wanted any more: it is given back.
		w.client.Follow(true, Off)
		w.expect(t, time.Hour, "RELEASE 2001:db8::10", "unbind")
		w.client.Follow(true, Stateful)
		w.set(func() { w.gone = false })
		w.expect(t, 119*time.Minute, strings.Join(append([]string{acquired}, repeat("RENEW 2001:db8::10", 3)...), "; "),
			strings.Join(repeat(bound, 4), "; "))
		w.stop()
		w.expect(t, 2*time.Hour, "", "") // the address stays
	})
}

func repeat(s string, n int) (out []string) {
	for range n {
		out = append(out, s)
	}
	return out
}

// The server is gone: it is asked from T1, everybody from T2 on, and at the end
// the address goes and all begins anew.
func TestServerGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := run(t, newServer(), Stateful)
		w.expect(t, 0, acquired, bound)
		w.set(func() { w.gone = true })
		time.Sleep(59 * time.Minute)
		synctest.Wait()
		w.set(func() {
			all := strings.Join(w.log, "; ")
			renews, rebinds := strings.Count(all, "RENEW"), strings.Count(all, "REBIND")
			if renews < 5 || renews > 8 || rebinds < 4 || rebinds > 8 || strings.LastIndex(all, "RENEW") > strings.Index(all, "REBIND") {
				t.Errorf("sent %s", all)
			}
			w.log = nil
		})
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		w.set(func() { w.gone, w.address, w.id, w.log = false, netip.MustParseAddr("2001:db8::20"), otherID, nil })
		w.expect(t, 3*time.Minute, "SOLICIT; REQUEST 2001:db8::20", "unbind; bind 2001:db8::20")
	})
}

func TestAnswers(t *testing.T) {
	for name, test := range map[string]struct {
		status map[dhcpv6.MessageType]iana.StatusCode
		spoil  func(*dhcpv6.Message)
		words  string
		events string
	}{
		"no addresses":      {status: map[dhcpv6.MessageType]iana.StatusCode{dhcpv6.MessageTypeSolicit: iana.StatusNoAddrsAvail}, words: "SOLICIT; SOLICIT; SOLICIT"},
		"none at last":      {status: map[dhcpv6.MessageType]iana.StatusCode{dhcpv6.MessageTypeRequest: iana.StatusNoAddrsAvail}, words: acquired},
		"another exchange":  {spoil: func(m *dhcpv6.Message) { m.TransactionID[0] ^= 1 }, words: "SOLICIT; SOLICIT; SOLICIT"},
		"another client":    {spoil: func(m *dhcpv6.Message) { m.UpdateOption(dhcpv6.OptClientID(otherID)) }, words: "SOLICIT; SOLICIT; SOLICIT"},
		"too short":         {spoil: lifetime(2 * time.Second), words: "SOLICIT; SOLICIT; SOLICIT"},
		"a multicast group": {spoil: address("ff02::1"), words: "SOLICIT; SOLICIT; SOLICIT"},
		"link-local":        {spoil: address("fe80::7"), words: "SOLICIT; SOLICIT; SOLICIT"},
		"no server":         {spoil: func(m *dhcpv6.Message) { m.Options.Del(dhcpv6.OptionServerID) }, words: "SOLICIT; SOLICIT; SOLICIT"},
		"late T1":           {spoil: func(m *dhcpv6.Message) { m.Options.OneIANA().T1, m.Options.OneIANA().T2 = time.Hour, time.Minute }, words: "SOLICIT; SOLICIT; SOLICIT"},
		"for ever":          {spoil: lifetime(Forever), words: acquired, events: bound},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer()
				s.spoil = test.spoil
				if test.status != nil {
					s.status = test.status
				}
				w := run(t, s, Stateful)
				w.expect(t, 5*time.Second, test.words, test.events)
				w.stop()
			})
		})
	}
}

func lifetime(d time.Duration) func(*dhcpv6.Message) {
	return func(m *dhcpv6.Message) {
		a := m.Options.OneIANA().Options.OneAddress()
		a.PreferredLifetime, a.ValidLifetime = d, d
	}
}

func address(s string) func(*dhcpv6.Message) {
	return func(m *dhcpv6.Message) { m.Options.OneIANA().Options.OneAddress().IPv6Addr = net.ParseIP(s) }
}

// A server that has forgotten the address is asked for it anew.
func TestNoBinding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := run(t, newServer(), Stateful)
		w.expect(t, 0, acquired, bound)
		w.set(func() { w.status[dhcpv6.MessageTypeRenew] = iana.StatusNoBinding })
		w.expect(t, 30*time.Minute, "RENEW 2001:db8::10; REQUEST 2001:db8::10", bound)
	})
}

func TestDuplicate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := run(t, newServer(), Stateful)
		w.expect(t, 0, acquired, bound)
		w.client.Duplicate(netip.MustParseAddr("2001:db8::99")) // not ours
		w.client.Duplicate(first)
		synctest.Wait()
		w.client.Duplicate(first)
		w.set(func() { w.address = netip.MustParseAddr("2001:db8::11") })
		w.expect(t, 11*time.Second, "DECLINE 2001:db8::10; SOLICIT; REQUEST 2001:db8::11", "unbind; bind 2001:db8::11")
	})
}

func TestStateless(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := run(t, newServer(), Stateless)
		w.expect(t, 0, "INFORMATION-REQUEST", "bind invalid IP")
		if l := w.last; len(l.DNS) != 1 || !l.Expires().IsZero() {
			t.Errorf("lease %+v", l)
		}
		w.expect(t, 23*time.Hour, "", "")
		w.expect(t, time.Hour, "INFORMATION-REQUEST", "bind invalid IP")
		w.client.Follow(true, Stateful) // a router says so now
		w.expect(t, time.Second, acquired, bound)
	})
}

// Garbage and a socket that does not open cost nothing but lines in the log.
func TestTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer()
		s.fail = io.ErrClosedPipe
		w := run(t, s, Stateful)
		w.expect(t, 10*time.Second, "", "")
		s.set(func() { s.fail = nil })
		time.Sleep(time.Minute)
		w.expect(t, 0, acquired, bound)
	})
}

func FuzzReceive(f *testing.F) {
	s := newServer()
	req := &dhcpv6.Message{MessageType: dhcpv6.MessageTypeSolicit}
	req.AddOption(dhcpv6.OptClientID(self.duid()))
	f.Add(s.answer(req).ToBytes())
	req.MessageType = dhcpv6.MessageTypeRequest
	f.Add(s.answer(req).ToBytes())
	f.Add([]byte{7, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		msg, err := dhcpv6.MessageFromBytes(b)
		if err != nil {
			return
		}
		now := time.Unix(1e9, 0)
		for _, p := range []Phase{Soliciting, Requesting, Confirming, Renewing, Rebinding, Asking} {
			m := NewMachine(self, rand.New(rand.NewPCG(1, 2)), slog.New(slog.DiscardHandler))
			m.mode, m.up, m.phase = Stateful, true, p
			m.offer = &Lease{Address: first, Acquired: now, Length: time.Hour, server: serverID.ToBytes()}
			m.lease, m.started, m.xid = m.offer, now, msg.TransactionID
			out := m.Receive(now, router.Addr(), msg)
			if l := out.Bind; l != nil && l.Address.IsValid() && (!usable(l.Address) || l.Length < MinLease || l.Renew <= 0 || l.Rebind < l.Renew) {
				t.Fatalf("%s: %+v", p, l)
			}
		}
	})
}
