// Package netconfig is what is known about the appliance's addresses: the
// configuration an interface is to have, the state that the network service
// publishes in its folder, and the resolver's file. It is plain types, their
// file formats and their rules; package ethernet makes Linux agree with them.
//
// Limits: one interface, with one IPv4 address and one alias of it.
package netconfig

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/parley-meet/parley/image/layout"
)

// Names of the network service's files. RunDir's two are readable by every
// service; a service that only wants names resolved reads /etc/resolv.conf,
// which is a link to ResolvPath.
const (
	RunDir     = layout.RunDir + "/network"
	PermDir    = layout.PermDir + "/network"
	StateFile  = "state.json"
	ResolvFile = "resolv.conf"
	LeaseFile  = "lease.json"
)

// StatePath is where the network service publishes its State.
var StatePath = filepath.Join(RunDir, StateFile)

// ResolvPath is the resolver's configuration.
var ResolvPath = filepath.Join(RunDir, ResolvFile)

// Bounds of an interface's MTU in bytes that are taken from outside. IPv4 needs
// 576 (RFC 791, 3.1); 9000 is the usual jumbo frame.
const (
	MinMTU = 576
	MaxMTU = 9000
)

// Route is a way to a network.
type Route struct {
	Destination netip.Prefix `json:"destination"`
	Gateway     netip.Addr   `json:"gateway,omitzero"` // none: on the link itself
}

// Default is the destination of a default route.
var Default = netip.PrefixFrom(netip.IPv4Unspecified(), 0)

// Address is an interface's own address.
type Address struct {
	netip.Prefix
	Until time.Time // zero: for ever
	Label string    // of an alias, "eth0:0"; "": the interface's own address
}

// Interface is the IPv4 configuration that an interface is to have.
type Interface struct {
	Addresses []Address // the master's first
	Routes    []Route   // of DHCP
	Static    []Route   // of the configuration, before those of DHCP
	MTU       int       // bytes; 0: as it is
}

// Interface6 is the IPv6 configuration that an interface is to have.
type Interface6 struct {
	Mode      string    // ModeAuto, ModeStatic or ModeOff
	Addresses []Address // beside those that the kernel takes from router advertisements
	Routes    []Route
}

// Default6 is the destination of a default route of IPv6.
var Default6 = netip.PrefixFrom(netip.IPv6Unspecified(), 0)

// Resolver is what the resolver's file says.
type Resolver struct {
	DNS    []netip.Addr
	Search []string
}

// maxResolvers is how many name servers resolvers read (resolv.conf(5)).
const maxResolvers = 3

// File returns the resolver's file.
func (r Resolver) File() []byte {
	var b strings.Builder
	b.WriteString("# written by the network service\n")
	for _, a := range r.DNS[:min(len(r.DNS), maxResolvers)] {
		fmt.Fprintf(&b, "nameserver %v\n", a)
	}
	if len(r.Search) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(r.Search, " "))
	}
	return []byte(b.String())
}

// CheckHost returns an error unless a is an IPv4 address that a host can have:
// not 0.0.0.0/8, loopback, link-local, multicast, reserved or broadcast.
func CheckHost(a netip.Addr) error {
	switch {
	case !a.Is4():
		return fmt.Errorf("%v is no IPv4 address", a)
	case a.As4()[0] == 0:
		return fmt.Errorf("%v is in 0.0.0.0/8", a)
	case a.IsLoopback():
		return fmt.Errorf("%v is a loopback address", a)
	case a.IsLinkLocalUnicast():
		return fmt.Errorf("%v is a link-local address", a)
	case a.As4()[0] >= 224:
		return fmt.Errorf("%v is a multicast or reserved address", a)
	}
	return nil
}

// CheckAddress returns an error unless p is an address that an interface can
// have: a host's (CheckHost), in a network of /8 to /32, and neither the
// network's first nor its last address.
func CheckAddress(p netip.Prefix) error {
	if err := CheckHost(p.Addr()); err != nil {
		return err
	}
	if p.Bits() < 8 || p.Bits() > 32 {
		return fmt.Errorf("%v: prefix length %d, want 8 to 32", p, p.Bits())
	}
	if p.Bits() >= 31 { // RFC 3021: both addresses are hosts
		return nil
	}
	if p.Addr() == p.Masked().Addr() {
		return fmt.Errorf("%v is the address of the network itself", p)
	}
	if p.Addr() == Last(p) {
		return fmt.Errorf("%v is the broadcast address of the network", p)
	}
	return nil
}

// Last returns the last address of the IPv4 network.
func Last(p netip.Prefix) netip.Addr {
	a := p.Masked().Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		a[bit/8] |= 0x80 >> (bit % 8)
	}
	return netip.AddrFrom4(a)
}

// CheckRoute returns an error unless r can be a route of an interface whose own
// address is self.
func CheckRoute(r Route, self netip.Addr) error {
	d := r.Destination
	if !d.IsValid() || !d.Addr().Is4() || d != d.Masked() {
		return fmt.Errorf("route to %v: no IPv4 network", d)
	}
	if d.Bits() > 0 {
		if first := d.Addr().As4()[0]; first == 127 || first == 0 || first >= 224 {
			return fmt.Errorf("route to %v: no network of hosts", d)
		}
	}
	if !r.Gateway.IsValid() {
		if d.Bits() == 0 {
			return fmt.Errorf("route to %v without a gateway", d)
		}
		return nil
	}
	if err := CheckHost(r.Gateway); err != nil {
		return fmt.Errorf("route to %v: gateway: %w", d, err)
	}
	if r.Gateway == self {
		return fmt.Errorf("route to %v: gateway %v is the own address", d, r.Gateway)
	}
	return nil
}

// CheckName returns an error unless s is a domain name as RFC 1123, 2.1 allows
// them (and underscores, which real ones have), without a dot at its end. The
// error quotes only the beginning of a long one.
func CheckName(s string) error {
	if len(s) == 0 || len(s) > 253 {
		return fmt.Errorf("name %.80q: %d bytes, want 1 to 253", s, len(s))
	}
	for label := range strings.SplitSeq(s, ".") {
		if len(label) == 0 || len(label) > 63 {
			return fmt.Errorf("name %.80q: label of %d bytes, want 1 to 63", s, len(label))
		}
		if label[0] == '-' || label[len(label)-1] == '-' {
			return fmt.Errorf("name %.80q: label %.80q begins or ends with a hyphen", s, label)
		}
		for i := range len(label) {
			if c := label[i]; !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
				return fmt.Errorf("name %.80q: byte %#02x, want letters, digits, hyphens", s, c)
			}
		}
	}
	return nil
}

// Gateway returns the gateway of the default route; the zero Addr is none.
func Gateway(routes []Route) netip.Addr {
	i := slices.IndexFunc(routes, func(r Route) bool { return r.Destination == Default })
	if i < 0 {
		return netip.Addr{}
	}
	return routes[i].Gateway
}
