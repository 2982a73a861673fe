package ethernet

import (
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/mdlayher/ndp"

	"github.com/parley-meet/parley/services/internal/dhcp6"
	"github.com/parley-meet/parley/services/internal/netconfig"
)

// wire6 is a DHCPv6 server that gives one address for an hour.
type wire6 struct {
	mu   sync.Mutex
	gone bool
	sent []string
}

// words are the kinds of messages that were sent.
func (w *wire6) words() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.sent)
}

func (w *wire6) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

type wire6Conn struct {
	w      *wire6
	in     chan []byte
	closed chan struct{}
}

func (w *wire6) Open() (dhcp6.Conn, error) {
	return &wire6Conn{w, make(chan []byte, 10), make(chan struct{})}, nil
}

func (c *wire6Conn) Close() error { close(c.closed); return nil }

func (c *wire6Conn) Receive(b []byte) (int, netip.AddrPort, error) {
	select {
	case m := <-c.in:
		return copy(b, m), netip.MustParseAddrPort("[fe80::1%eth0]:547"), nil
	case <-c.closed:
		return 0, netip.AddrPort{}, io.EOF
	}
}

func (c *wire6Conn) Send(b []byte) error {
	req, err := dhcpv6.MessageFromBytes(b)
	if err != nil {
		return err
	}
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	c.w.sent = append(c.w.sent, req.MessageType.String())
	kind := dhcpv6.MessageTypeReply
	switch req.MessageType {
	case dhcpv6.MessageTypeSolicit:
		kind = dhcpv6.MessageTypeAdvertise
	case dhcpv6.MessageTypeRelease, dhcpv6.MessageTypeDecline:
		return nil
	}
	if c.w.gone {
		return nil
	}
	m := &dhcpv6.Message{MessageType: kind, TransactionID: req.TransactionID}
	m.AddOption(dhcpv6.OptClientID(req.Options.ClientID()))
	m.AddOption(dhcpv6.OptServerID(&dhcpv6.DUIDLL{HWType: 1, LinkLayerAddr: other}))
	m.AddOption(dhcpv6.OptDNS(net.ParseIP("2001:db8::53")))
	if ia := req.Options.OneIANA(); ia != nil {
		answer := &dhcpv6.OptIANA{IaId: ia.IaId}
		answer.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: net.ParseIP("2001:db8::77"), PreferredLifetime: time.Hour, ValidLifetime: time.Hour})
		m.AddOption(answer)
	}
	c.in <- m.ToBytes()
	return nil
}

// A router says that addresses are managed: one is asked for; name servers come
// from the configuration, DHCP, DHCPv6 and routers, in this order.
func TestRouterAndDHCPv6(t *testing.T) {
	bubble(t, func(t *testing.T, p *place) {
		c := static("198.51.100.7/24", "198.51.100.1", "")
		p.next = c
		p.start()
		p.kernel.did()
		said := Advertisement{DNS: []Timed[netip.Addr]{{netip.MustParseAddr("fe80::53%eth0"), time.Minute}}, Search: []Timed[string]{{"example.org", ndp.Infinity}}}
		p.kernel.router <- said
		p.pass(time.Second)
		if s := p.state(); s.DNSSource != netconfig.FromRouter || s.DNS[0].Zone() != "eth0" || s.Search[0] != "example.org" || len(p.wire6.words()) != 0 {
			t.Errorf("state %+v, sent %q", s, p.wire6.words())
		}
		p.pass(time.Minute)
		if s := p.state(); len(s.DNS) != 0 || len(s.Search) != 1 {
			t.Errorf("a minute later: %+v", s)
		}
		said.Managed = true
		p.kernel.router <- said
		p.pass(time.Second)
		p.expect("SetAddress 2001:db8::77/128", "eth0: 198.51.100.7/24")
		if s := p.state(); s.DNSSource != netconfig.FromDHCP6 || s.Lease6 == nil || len(s.IPv6) != 1 || s.IPv6[0] != netip.MustParsePrefix("2001:db8::77/128") {
			t.Errorf("DHCPv6: %+v", s)
		}
		p.again()

		// After a restart the address stays while nobody is heard.
		p.stop()
		p.wire6.set(func() { p.wire6.gone = true })
		p.start()
		p.kernel.router <- said
		p.pass(20 * time.Second)
		if did := p.kernel.did(); strings.Contains(did, "2001:db8::77") {
			t.Errorf("after a restart did %q", did)
		}
		p.wire6.set(func() { p.wire6.gone = false })
		p.pass(2 * time.Minute)
		if s := p.state(); s.Lease6 == nil {
			t.Errorf("after a restart: %+v", s)
		}
		// Somebody else has it: declined.
		p.kernel.set(func() { p.kernel.addrs6[0].Duplicate = true })
		p.pass(time.Second)
		if have, _ := p.kernel.Addresses6(); !slices.Contains(p.wire6.words(), "DECLINE") || len(have) != 0 {
			t.Errorf("sent %q, has %v", p.wire6.words(), have)
		}
		p.pass(time.Minute)
		p.kernel.did()

		// Off: given back and gone.
		c.IPv6.Mode = netconfig.ModeOff
		if err := p.set(c); err != nil {
			t.Fatal(err)
		}
		p.pass(time.Second)
		if s := p.state(); len(s.IPv6) != 0 || s.Lease6 != nil || len(s.DNS) != 0 || !slices.Contains(p.wire6.words(), "RELEASE") {
			t.Errorf("off: %+v, sent %q", s, p.wire6.words())
		}
		p.stop()
	})
}

func TestAdvertisement(t *testing.T) {
	long := &ndp.DNSSearchList{Lifetime: time.Minute}
	for range 20 {
		long.DomainNames = append(long.DomainNames, "Example.org.")
	}
	a := advertisement(&ndp.RouterAdvertisement{OtherConfiguration: true, Options: []ndp.Option{
		&ndp.RecursiveDNSServer{Lifetime: time.Minute, Servers: []netip.Addr{netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("ff02::1"),
			netip.MustParseAddr("::1"), netip.MustParseAddr("fe80::1"), netip.MustParseAddr("::ffff:192.0.2.1")}},
		&ndp.DNSSearchList{Lifetime: time.Minute, DomainNames: []string{"bad name", "a\nb"}}, long,
	}}, "eth0")
	if len(a.DNS) != 2 || a.DNS[1].Value.Zone() != "eth0" || len(a.Search) != maxRouterSearch || a.Search[0].Value != "example.org" || a.Managed || !a.Other {
		t.Errorf("%+v", a)
	}
}

// What routers say is bounded, renewed, taken back, and ends.
func TestHeard(t *testing.T) {
	var h heard
	now := time.Unix(1e9, 0)
	for i := range 50 {
		h.add(now, Advertisement{DNS: []Timed[netip.Addr]{{netip.AddrFrom16([16]byte{0x20, 1, 15: byte(i)}), time.Minute}}})
	}
	if len(h.dns) != maxRouterDNS || h.mode() != dhcp6.Off {
		t.Errorf("%+v", h)
	}
	h.add(now.Add(30*time.Second), Advertisement{Managed: true, DNS: []Timed[netip.Addr]{{h.dns[0].value, time.Minute}, {h.dns[1].value, 0}}})
	h.add(now, Advertisement{Other: true})
	if next := h.prune(now.Add(time.Minute)); len(h.dns) != 1 || !next.Equal(now.Add(90*time.Second)) || h.mode() != dhcp6.Stateful {
		t.Errorf("%+v, next %v", h, next)
	}
}

func FuzzAdvertisement(f *testing.F) {
	b, err := ndp.MarshalMessage(&ndp.RouterAdvertisement{ManagedConfiguration: true, Options: []ndp.Option{
		&ndp.RecursiveDNSServer{Lifetime: time.Minute, Servers: []netip.Addr{netip.MustParseAddr("2001:db8::1")}},
		&ndp.DNSSearchList{Lifetime: time.Minute, DomainNames: []string{"example.org"}},
	}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ndp.ParseMessage(b)
		ra, ok := m.(*ndp.RouterAdvertisement)
		if err != nil || !ok {
			return
		}
		a := advertisement(ra, "eth0")
		for _, s := range a.Search {
			if netconfig.CheckName(s.Value) != nil {
				t.Fatalf("%q", s.Value)
			}
		}
		if len(a.DNS) > maxRouterDNS || len(a.Search) > maxRouterSearch {
			t.Fatalf("%+v", a)
		}
	})
}
