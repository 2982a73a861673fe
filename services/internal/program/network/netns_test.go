package network

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/parley-meet/parley/services/internal/ethernet"
	"github.com/parley-meet/parley/services/internal/labtest"
	"github.com/parley-meet/parley/services/internal/netconfig"
)

// everything is what an ordinary server gives.
var everything = []string{
	"--dhcp-host=02:00:00:00:00:01,parley-7", "--domain=example.net",
	"--dhcp-option=option:router,192.0.2.1", "--dhcp-option=option:dns-server,192.0.2.53,192.0.2.54",
	"--dhcp-option=option:domain-search,example.org,lab.example.org", "--dhcp-option=option:ntp-server,192.0.2.123",
	"--dhcp-option=option:mtu,1400", "--dhcp-option=option:T1,3s", "--log-dhcp",
}

// An ordinary server: everything it says is in force and published, the lease
// is renewed, PID 1 hears that, and SIGTERM ends the service and not the
// network. The next service goes on without a gap.
func TestOrdinary(t *testing.T) {
	l := newLab(t)
	d := l.dnsmasq("192.0.2.100", "192.0.2.110", everything...)
	l.start()
	s := l.address("192.0.2.100/24")
	if s.Link != netconfig.LinkUp || s.Interface != "eth0" || s.HardwareAddress != clientMAC.String() || s.Gateway != serverIP || s.Problem != "" {
		t.Errorf("state %+v", s)
	}
	if got := fmt.Sprint(s.DNS, s.Search, s.NTP, s.Hostname); got != "[192.0.2.53 192.0.2.54] [example.org lab.example.org] [192.0.2.123]parley-7" {
		t.Errorf("options %s", got)
	}
	s = l.until("the MTU", func(s netconfig.State) bool { return s.MTU == 1400 })
	if k := l.link(); k.MTU != 1400 || s.LinkMTU != 1500 {
		t.Errorf("MTU %d, of the interface itself %d", k.MTU, s.LinkMTU)
	}
	want := ethernet.Route{Route: netconfig.Route{Destination: netconfig.Default, Gateway: serverIP}, Source: netip.MustParseAddr("192.0.2.100")}
	if got := l.routes(); len(got) != 1 || got[0] != want {
		t.Errorf("routes %v, want %v", got, want)
	}
	b, err := os.ReadFile(l.path("run/resolv.conf"))
	if text := "# written by the network service\nnameserver 192.0.2.53\nnameserver 192.0.2.54\nsearch example.org lab.example.org\n"; err != nil || string(b) != text {
		t.Errorf("resolv.conf %q, %v", b, err)
	}
	for name, mode := range map[string]os.FileMode{"run/state.json": 0o644, "run/resolv.conf": 0o644, "perm/lease.json": 0o640} {
		if fi, err := os.Stat(l.path(name)); err != nil || fi.Mode() != mode {
			t.Errorf("%s: %v, %v, want %v", name, fi, err, mode)
		}
	}
	// The kernel ends the address by itself, should the service be gone.
	if until := l.addresses()[0].Until; until.IsZero() || until.Sub(s.Lease.Expires).Abs() > 3*time.Second {
		t.Errorf("the kernel's address ends %v, the lease %v", until, s.Lease.Expires)
	}
	l.logged(d.log, "client provides name: parley-box")
	if m := l.ask(); m.Seq != 7 || m.Detail != "eth0: 192.0.2.100/24 by DHCP" || m.Error != "" {
		t.Errorf("to PID 1: %+v", m)
	}

	acquired := s.Lease.Acquired
	lost := l.losses()
	l.until("a renewal", func(s netconfig.State) bool { return s.Lease != nil && s.Lease.Acquired.After(acquired) })
	l.stop()
	before := strings.Count(d.log.String(), "DHCPACK")
	if got := l.addresses(); len(got) != 1 {
		t.Errorf("after the service ended: addresses %v", got)
	}
	l.start()
	l.wait("the lease to be confirmed", func() error {
		if n := strings.Count(d.log.String(), "DHCPACK"); n <= before {
			return fmt.Errorf("%d times confirmed", n)
		}
		return nil
	})
	s = l.address("192.0.2.100/24")
	if n := lost(); n != 0 {
		t.Errorf("the address was lost %d times", n)
	}
	if n := strings.Count(d.log.String(), "DHCPDISCOVER"); n != 1 {
		t.Errorf("%d times discovered, want 1", n)
	}
	if s.LinkMTU != 1500 || l.link().MTU != 1400 {
		t.Errorf("MTU %d, of the interface itself %d after a restart", l.link().MTU, s.LinkMTU)
	}
	l.stop()
}

// The server's range has changed: NAK, and a new address at once. First while
// the service runs, then while it does not.
func TestRangeChanges(t *testing.T) {
	l := newLab(t)
	d := l.dnsmasq("192.0.2.100", "192.0.2.110")
	l.start()
	l.address("192.0.2.100/24")
	d.stop()
	d = l.dnsmasq("192.0.2.200", "192.0.2.210")
	l.server.SetUp("p1", false)
	l.until("no carrier", func(s netconfig.State) bool { return s.Link == netconfig.LinkNoCarrier })
	l.server.SetUp("p1", true)
	l.address("192.0.2.200/24")
	l.logged(d.log, "DHCPNAK")
	l.stop()
	d.stop()
	d = l.dnsmasq("192.0.2.150", "192.0.2.160")
	l.start()
	l.address("192.0.2.150/24")
	l.logged(d.log, "DHCPNAK")
	l.logged(l.log, "request refused by the server")
	l.stop()
}

// Another machine has the address already.
func TestConflict(t *testing.T) {
	l := newLab(t)
	other := labtest.NewHost(t, "other")
	l.server.Join(other, "p2", net.HardwareAddr{2, 0, 0, 0, 0, 2}, netip.MustParsePrefix("192.0.2.100/24"))
	d := l.dnsmasq("192.0.2.100", "192.0.2.101")
	lost := l.losses()
	l.start()
	l.logged(l.log, "address is in use by another machine")
	l.logged(l.log, "machine=02:00:00:00:00:02")
	l.logged(d.log, "DHCPDECLINE(br0) 192.0.2.100")
	l.address("192.0.2.101/24")
	if n := lost(); n != 0 {
		t.Errorf("%d addresses were taken and lost, want that the first was never used", n)
	}
	l.stop()
}

// The cable: without it the address stays and is said to be useless; with it
// the lease is asked about again. An interface that is set down comes back with
// its route.
func TestLink(t *testing.T) {
	l := newLab(t)
	d := l.dnsmasq("192.0.2.100", "192.0.2.110")
	l.server.SetUp("p1", false)
	l.start()
	l.until("no carrier", func(s netconfig.State) bool { return s.Link == netconfig.LinkNoCarrier && len(s.Addresses) == 0 })
	if m := l.ask(); m.Detail != "eth0: no carrier" || m.Error != "" {
		t.Errorf("to PID 1: %+v", m)
	}
	l.server.SetUp("p1", true)
	l.address("192.0.2.100/24")
	lost := l.losses()
	l.server.SetUp("p1", false)
	s := l.until("no carrier", func(s netconfig.State) bool { return s.Link == netconfig.LinkNoCarrier })
	if len(s.Addresses) != 1 {
		t.Errorf("state without carrier: %+v", s)
	}
	if m := l.ask(); m.Detail != "eth0: 192.0.2.100/24 by DHCP, no carrier" {
		t.Errorf("to PID 1: %+v", m)
	}
	before := strings.Count(d.log.String(), "DHCPREQUEST")
	l.server.SetUp("p1", true)
	l.until("carrier", func(s netconfig.State) bool { return s.Link == netconfig.LinkUp })
	l.wait("a question about the lease", func() error {
		if n := strings.Count(d.log.String(), "DHCPREQUEST"); n <= before {
			return fmt.Errorf("%d requests", n)
		}
		return nil
	})
	l.box.SetUp("eth0", false)
	l.wait("the interface to be up again", func() error {
		if k := l.link(); !k.Up || len(l.routes()) != 1 {
			return fmt.Errorf("link %+v, routes %v", k, l.routes())
		}
		return nil
	})
	l.address("192.0.2.100/24")
	if n := lost(); n != 0 {
		t.Errorf("the address was lost %d times", n)
	}
	l.stop()
}

// A lease of six seconds from a server that goes silent: asked, then everybody
// asked, then the address goes, and comes when the server does.
func TestServerGone(t *testing.T) {
	l := newLab(t)
	v := l.scripted(netip.MustParsePrefix("192.0.2.77/24"), 6*time.Second, dhcpv4.OptRouter(serverIP.AsSlice()))
	l.start()
	l.address("192.0.2.77/24")
	v.until("two renewals", func(heard []string) bool {
		return len(slices.DeleteFunc(heard, func(h string) bool { return h != "REQUEST as 192.0.2.77" })) >= 2
	})
	v.silence(true)
	v.until("a message to everybody", func(heard []string) bool { return heard[len(heard)-1] == "REQUEST as 192.0.2.77 to everybody" })
	l.until("the address to go", func(s netconfig.State) bool { return len(s.Addresses) == 0 && s.Lease == nil && !s.Gateway.IsValid() })
	if got := l.addresses(); len(got) != 0 {
		t.Errorf("the kernel has %v", got)
	}
	if got := l.routes(); len(got) != 0 {
		t.Errorf("the kernel has routes %v", got)
	}
	if b, err := os.ReadFile(l.path("run/resolv.conf")); err != nil || strings.Contains(string(b), "nameserver") {
		t.Errorf("resolv.conf %q, %v", b, err)
	}
	if _, err := os.Stat(l.path("perm/lease.json")); !os.IsNotExist(err) {
		t.Errorf("the lease is still remembered: %v", err)
	}
	l.logged(l.log, "lease ended")
	v.silence(false)
	l.address("192.0.2.77/24")
	l.stop()
}

// The kernel ends a lease that nobody renews any more: the service is gone.
func TestServiceGone(t *testing.T) {
	l := newLab(t)
	l.scripted(netip.MustParsePrefix("192.0.2.77/24"), 5*time.Second)
	l.start()
	l.address("192.0.2.77/24")
	l.service.Process.Kill()
	l.service.Wait()
	l.wait("the address to go", func() error {
		if have := l.addresses(); len(have) > 0 {
			return fmt.Errorf("it has %v", have)
		}
		return nil
	})
	l.start()
	l.address("192.0.2.77/24")
	l.stop()
}

// What some providers give: a /32, a router beside it, and routes.
func TestUnusualRoutes(t *testing.T) {
	l := newLab(t)
	l.scripted(netip.MustParsePrefix("203.0.113.5/32"), time.Minute,
		dhcpv4.OptClasslessStaticRoute(
			&dhcpv4.Route{Dest: &net.IPNet{IP: net.IP{0, 0, 0, 0}, Mask: net.CIDRMask(0, 32)}, Router: serverIP.AsSlice()},
			&dhcpv4.Route{Dest: &net.IPNet{IP: net.IP{198, 51, 100, 0}, Mask: net.CIDRMask(24, 32)}, Router: net.IP{0, 0, 0, 0}}),
		dhcpv4.OptGeneric(dhcpv4.OptionInterfaceMTU, []byte{0x23, 0x28}))
	l.server.Assign("br0", netip.MustParsePrefix("203.0.113.5/32")) // and gone again: nobody must answer ARP for it
	l.server.Must(func() error {
		return ethernet.Linux("br0").RemoveAddress(netconfig.Address{Prefix: netip.MustParsePrefix("203.0.113.5/32")})
	})
	l.start()
	s := l.address("203.0.113.5/32")
	source := netip.MustParseAddr("203.0.113.5")
	want := []ethernet.Route{
		{Route: netconfig.Route{Destination: netconfig.Default, Gateway: serverIP}, Source: source, OnLink: true},
		{Route: netconfig.Route{Destination: netip.MustParsePrefix("198.51.100.0/24")}, Source: source},
	}
	l.wait("the routes", func() error {
		have := l.routes()
		for _, w := range want {
			if !slices.Contains(have, w) {
				return fmt.Errorf("it has %v, want %v", have, want)
			}
		}
		return nil
	})
	if s.Gateway != serverIP || len(s.Routes) != 2 || s.Problem != "" {
		t.Errorf("state %+v", s)
	}
	l.until("the MTU", func(s netconfig.State) bool { return s.MTU == 9000 })
	l.stop()
}

// Bytes of every kind from the link: the service survives, names them, and gets
// its address and renews it in between.
func TestHostile(t *testing.T) {
	l := newLab(t)
	v := l.scripted(netip.MustParsePrefix("192.0.2.77/24"), 6*time.Second)
	v.hostile(true)
	l.start()
	l.address("192.0.2.77/24")
	v.until("a renewal", func(heard []string) bool { return strings.Contains(heard[len(heard)-1], "REQUEST as 192.0.2.77") })
	s, err := l.state()
	if err != nil {
		t.Fatal(err)
	}
	l.until("a renewal to be in force", func(n netconfig.State) bool { return n.Lease != nil && n.Lease.Acquired.After(s.Lease.Acquired) })
	for _, words := range []string{"message cannot be read", "offer refused", "lease refused", "no row of ones", "option of the lease is not used"} {
		l.logged(l.log, words)
	}
	if text := l.log.String(); strings.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\n' || r == 0x7f }) {
		t.Errorf("control characters in the log")
	}
	if m := l.ask(); m.Error != "" {
		t.Errorf("to PID 1: %+v", m)
	}
	l.stop()
}
