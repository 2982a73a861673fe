package ethernet

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/parley-meet/parley/services/internal/netconfig"
)

// static returns a configuration with a static master, and a slave unless it is "".
func static(master, gateway, slave string) netconfig.Config {
	c := netconfig.DefaultConfig()
	c.Eth0 = netconfig.Master{Mode: netconfig.ModeStatic, Address: netip.MustParsePrefix(master)}
	if gateway != "" {
		c.Eth0.Gateway = netip.MustParseAddr(gateway)
	}
	if slave != "" {
		c.Slave = netip.MustParsePrefix(slave)
	}
	return c
}

// set sets a configuration and waits until it is applied, or not.
func (p *place) set(c netconfig.Config) error {
	p.t.Helper()
	p.daemon.Set(c)
	err := p.daemon.Applied(p.t.Context())
	p.pass(0)
	return err
}

func (p *place) sysctl(name string) string {
	v, _ := p.kernel.Sysctl("", name)
	return v
}

// again has the tasks look at all once more: nothing may change.
func (p *place) again() {
	p.t.Helper()
	p.daemon.Set(p.daemon.next)
	poke(p.daemon.steer)
	p.pass(time.Second)
	if did := p.kernel.did(); did != "" {
		p.t.Errorf("applied twice it did %q", did)
	}
}

func TestStatic(t *testing.T) {
	bubble(t, func(t *testing.T, p *place) {
		p.start()
		p.expect(bringUp, running)
		c := static("198.51.100.7/24", "198.51.100.1", "198.51.100.8/24")
		c.Routes = []netconfig.Route{route("10.0.0.0/8", "198.51.100.2")}
		c.DNS = netconfig.DNS{Servers: []netip.Addr{netip.MustParseAddr("198.51.100.53")}, Search: []string{"example.org"}}
		c.Eth0.MTU = 1400
		if err := p.set(c); err != nil {
			t.Fatal(err)
		}
		p.expect("RemoveAddress 192.0.2.7/24; SetMTU 1400; SetAddress 198.51.100.7/24; SetRoute 0.0.0.0/0 via 198.51.100.1; "+
			"SetRoute 10.0.0.0/8 via 198.51.100.2; Announce 198.51.100.7; SetAddress 198.51.100.8/24; Announce 198.51.100.8",
			"eth0: 198.51.100.7/24, 198.51.100.8/24 (slave)")
		if have, _ := p.kernel.Addresses(); have[1].Label != "eth0:0" || have[0].Label != "" {
			t.Errorf("addresses %+v", have)
		}
		if _, err := os.Stat(filepath.Join(p.dir, "perm", netconfig.LeaseFile)); !os.IsNotExist(err) {
			t.Errorf("the lease is remembered: %v", err)
		}
		if !p.wire.released("192.0.2.7") {
			t.Error("the lease was not given back")
		}
		s := p.state()
		if s.Mode != netconfig.ModeStatic || s.Lease != nil || s.Slave != c.Slave || s.MTU != 1400 || s.DNSSource != netconfig.FromConfig ||
			s.Gateway != c.Eth0.Gateway || len(s.Routes) != 2 || s.Search[0] != "example.org" || s.Problem != "" {
			t.Errorf("state %+v", s)
		}
		p.again()

		// A restart: the addresses are in use all the time.
		p.stop()
		p.pass(time.Hour)
		p.next = c
		p.start()
		if got := p.kernel.did(); strings.Contains(got, "Address") || strings.Contains(got, "Route") {
			t.Errorf("after a restart did %q", got)
		}

		// The slave goes, the master stays; then the master changes beside it.
		c.Slave = netip.Prefix{}
		if err := p.set(c); err != nil {
			t.Fatal(err)
		}
		p.expect("RemoveAddress 198.51.100.8/24", "eth0: 198.51.100.7/24")
		c.Slave = netip.MustParsePrefix("203.0.113.8/24")
		if err := p.set(c); err != nil {
			t.Fatal(err)
		}
		p.expect("SetAddress 203.0.113.8/24; Announce 203.0.113.8", "eth0: 198.51.100.7/24, 203.0.113.8/24 (slave)")

		// And back to DHCP.
		d := netconfig.DefaultConfig()
		d.Slave = c.Slave
		if err := p.set(d); err != nil {
			t.Fatal(err)
		}
		p.pass(5 * time.Second)
		p.expect("SetMTU 1500; RemoveAddress 198.51.100.7/24; "+bringUp, "eth0: 192.0.2.7/24 by DHCP, 203.0.113.8/24 (slave)")
		p.stop()
	})
}

// Somebody has the address: it is not used, he is named, and when he is gone it
// is.
func TestStaticDuplicate(t *testing.T) {
	bubble(t, func(t *testing.T, p *place) {
		p.kernel.owners[netip.MustParseAddr("198.51.100.7")] = other
		p.kernel.owners[netip.MustParseAddr("198.51.100.8")] = other
		p.next = static("198.51.100.7/24", "198.51.100.1", "198.51.100.8/24")
		p.start()
		err := p.daemon.Applied(t.Context())
		if err == nil || !strings.Contains(err.Error(), "198.51.100.7 is in use by another machine, "+other.String()) {
			t.Errorf("Applied: %v", err)
		}
		p.expect("", "eth0: 198.51.100.7 is in use by another machine, "+other.String()+"; 198.51.100.8 is in use by another machine, "+other.String())
		if s := p.state(); len(s.Duplicates) != 2 || len(s.Addresses) != 0 || s.Slave.IsValid() || !strings.Contains(s.Problem, other.String()) {
			t.Errorf("state %+v", s)
		}
		p.kernel.set(func() { clear(p.kernel.owners) })
		p.pass(time.Minute)
		p.expect("SetAddress 198.51.100.7/24; SetRoute 0.0.0.0/0 via 198.51.100.1; Announce 198.51.100.7; SetAddress 198.51.100.8/24; Announce 198.51.100.8",
			"eth0: 198.51.100.7/24, 198.51.100.8/24 (slave)")
		if err := p.daemon.Applied(t.Context()); err != nil {
			t.Errorf("Applied at last: %v", err)
		}

		// Later somebody takes it: that is told for a while, and defended.
		for range 3 {
			p.kernel.clash <- clashing{netip.MustParseAddr("198.51.100.7"), other}
		}
		p.pass(time.Second)
		p.expect("Announce 198.51.100.7", "eth0: 198.51.100.7/24, 198.51.100.8/24 (slave); 198.51.100.7 is in use by another machine, "+other.String())
		if s := p.state(); len(s.Duplicates) != 1 || len(s.Addresses) != 1 {
			t.Errorf("state %+v", s)
		}
		p.pass(6 * time.Minute)
		p.expect("", "eth0: 198.51.100.7/24, 198.51.100.8/24 (slave)")

		// On another link the address is somebody's.
		p.kernel.set(func() { p.kernel.link.Carrier = false })
		p.pass(time.Second)
		p.kernel.set(func() {
			p.kernel.link.Carrier, p.kernel.owners[netip.MustParseAddr("198.51.100.8")] = true, other
		})
		p.pass(5 * time.Second)
		p.expect("RemoveAddress 198.51.100.8/24", "eth0: 198.51.100.7/24; 198.51.100.8 is in use by another machine, "+other.String())
		p.stop()
	})
}

// A DHCP server's address that somebody has is declined, and told.
func TestDeclinedIsTold(t *testing.T) {
	bubble(t, func(t *testing.T, p *place) {
		p.kernel.owners[netip.MustParseAddr("192.0.2.7")] = other
		p.start()
		if s := p.state(); len(s.Duplicates) != 1 || s.Duplicates[0].HardwareAddress != other.String() || len(s.Addresses) != 0 {
			t.Errorf("state %+v", s)
		}
		p.stop()
	})
}

// Without a carrier nobody can be asked, and the address is in use.
func TestStaticWithoutCarrier(t *testing.T) {
	bubble(t, func(t *testing.T, p *place) {
		p.kernel.link.Carrier = false
		p.next = static("198.51.100.7/24", "", "")
		p.start()
		if err := p.daemon.Applied(t.Context()); err != nil {
			t.Error(err)
		}
		p.expect("SetAddress 198.51.100.7/24; Announce 198.51.100.7", "eth0: 198.51.100.7/24, no carrier")
		p.stop()
	})
	bubble(t, func(t *testing.T, p *place) {
		p.kernel.err = ErrNoLink
		p.next = static("198.51.100.7/24", "", "")
		p.start()
		if err := p.daemon.Applied(t.Context()); err == nil || !strings.Contains(err.Error(), ErrNoLink.Error()) {
			t.Errorf("without an interface: %v", err)
		}
		p.stop()
	})
}

// What the kernel does not take is the answer of Applied.
func TestAppliedError(t *testing.T) {
	bubble(t, func(t *testing.T, p *place) {
		p.start()
		p.kernel.set(func() { p.kernel.fail["SetAddress"] = errTest })
		if err := p.set(static("198.51.100.7/24", "", "")); err == nil || !strings.Contains(err.Error(), "broken") {
			t.Errorf("Applied: %v", err)
		}
		if err := p.set(netconfig.DefaultConfig()); err != nil { // only that the client runs
			t.Errorf("DHCP: %v", err)
		}
		p.stop()
	})
}

// The configured MTU, DNS and routes win over the server's.
func TestConfiguredWins(t *testing.T) {
	bubble(t, func(t *testing.T, p *place) {
		p.wire.more = []dhcpv4.Option{dhcpv4.OptGeneric(dhcpv4.OptionInterfaceMTU, []byte{0x05, 0x78}),
			dhcpv4.OptClasslessStaticRoute(&dhcpv4.Route{Dest: &net.IPNet{IP: net.IP{10, 0, 0, 0}, Mask: net.CIDRMask(8, 32)}, Router: net.IP{192, 0, 2, 1}})}
		c := netconfig.DefaultConfig()
		c.Eth0.MTU = 1450
		c.DNS.Servers = []netip.Addr{netip.MustParseAddr("9.9.9.9")}
		c.Routes = []netconfig.Route{route("10.0.0.0/8", "192.0.2.9")}
		p.next = c
		p.start()
		p.expect("SetMTU 1450; SetAddress 192.0.2.7/24; SetRoute 10.0.0.0/8 via 192.0.2.9; Announce 192.0.2.7", running)
		if s := p.state(); s.MTU != 1450 || s.DNS[0] != c.DNS.Servers[0] || len(s.Routes) != 1 {
			t.Errorf("state %+v", s)
		}
		p.again()
		c.Routes[0].Gateway = netip.MustParseAddr("203.0.113.9")
		c.Hostname = "other" // the client asks again under the new name, and keeps the lease
		if err := p.set(c); err == nil || !strings.Contains(err.Error(), "203.0.113.9") {
			t.Errorf("a gateway in no network: %v", err)
		}
		p.pass(2 * time.Second)
		if did := p.kernel.did(); strings.Contains(did, "RemoveAddress") {
			t.Errorf("a new name: %q", did)
		}
		p.stop()
	})
}

// IPv6 in each mode, twice.
func TestIPv6Modes(t *testing.T) {
	slaac := Address6{Address: addr("2001:db8::5054/64"), Auto: true}
	fixed := netconfig.IPv6{Mode: netconfig.ModeStatic, Address: netip.MustParsePrefix("2001:db8::7/64"), Gateway: netip.MustParseAddr("fe80::1")}
	bubble(t, func(t *testing.T, p *place) {
		p.kernel.addrs6, p.kernel.gw6 = []Address6{slaac}, netip.MustParseAddr("fe80::2")
		p.start()
		p.kernel.did()
		if s := p.state(); len(s.IPv6) != 1 || !s.Gateway6.IsLinkLocalUnicast() || s.IPv6Mode != netconfig.ModeAuto {
			t.Errorf("auto: %+v", s)
		}
		c := netconfig.DefaultConfig()
		c.IPv6 = fixed
		if err := p.set(c); err != nil {
			t.Fatal(err)
		}
		p.expect("SetAddress 2001:db8::7/64; SetRoute ::/0 via fe80::1", running)
		if p.sysctl("accept_ra") != "0" || p.sysctl("disable_ipv6") != "0" {
			t.Error("static: the parameters are not set")
		}
		if s := p.state(); len(s.IPv6) != 1 || s.IPv6[0] != fixed.Address {
			t.Errorf("static: %+v", s)
		}
		p.again()
		// Somebody has it: told, and tried again now and then.
		p.kernel.set(func() { p.kernel.addrs6[0].Duplicate = true })
		p.pass(2 * time.Second)
		if s := p.state(); !strings.Contains(s.Problem, "2001:db8::7 is in use") {
			t.Errorf("duplicate: %+v", s)
		}
		p.pass(time.Minute)
		if did := p.kernel.did(); !strings.Contains(did, "RemoveAddress 2001:db8::7/64; SetAddress 2001:db8::7/64") {
			t.Errorf("duplicate: did %q", did)
		}
		c.IPv6 = netconfig.IPv6{Mode: netconfig.ModeOff}
		if err := p.set(c); err != nil {
			t.Fatal(err)
		}
		have, _ := p.kernel.Addresses6()
		if s := p.state(); p.sysctl("disable_ipv6") != "1" || len(s.IPv6) != 0 || len(have) != 0 {
			t.Errorf("off: %v, %+v", have, s)
		}
		p.kernel.did()
		p.again()
		p.kernel.set(func() { p.kernel.fail["SetSysctl"] = errTest })
		c.IPv6 = fixed
		if err := p.set(c); err == nil {
			t.Error("a parameter that cannot be set is no error")
		}
		p.stop()
	})
}
