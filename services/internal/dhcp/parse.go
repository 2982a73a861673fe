package dhcp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/parley-meet/parley/services/internal/netconfig"
)

// Parse reads the lease that a server's OFFER or ACK gives to a request that
// was sent at the time acquired. Without a usable address, mask, server
// identifier or length it is an error; any other option that cannot be used is
// left out, and named in the second result. prev is the lease that is being
// renewed, or nil: its mask and length stand in for missing ones, which some
// servers leave out then.
func Parse(m *dhcpv4.DHCPv4, acquired time.Time, prev *Lease) (*Lease, []error, error) {
	p := &parser{m: m}
	l, err := p.lease(acquired, prev)
	return l, p.problems, err
}

type parser struct {
	m        *dhcpv4.DHCPv4
	problems []error
}

func (p *parser) lease(acquired time.Time, prev *Lease) (*Lease, error) {
	addr, ok := netip.AddrFromSlice(p.m.YourIPAddr.To4())
	if !ok {
		return nil, errors.New("no address")
	}
	if prev != nil && prev.Address.Addr() != addr {
		prev = nil
	}
	bits, err := p.mask(addr, prev)
	if err != nil {
		return nil, err
	}
	l := &Lease{Address: netip.PrefixFrom(addr, bits), Acquired: acquired}
	server, ok := p.get(dhcpv4.OptionServerIdentifier)
	if !ok {
		return nil, errors.New("no server identifier")
	}
	if len(server) != 4 {
		return nil, fmt.Errorf("server identifier of %d bytes, want 4", len(server))
	}
	l.Server = netip.AddrFrom4([4]byte(server))
	if err := p.times(l, prev); err != nil {
		return nil, err
	}
	l.Routes = p.routes(addr)
	l.DNS = p.addresses(dhcpv4.OptionDomainNameServer, maxAddresses)
	l.NTP = p.addresses(dhcpv4.OptionNTPServers, maxAddresses)
	l.Hostname = p.name(dhcpv4.OptionHostName)
	l.Domain = p.name(dhcpv4.OptionDomainName)
	l.Search = p.search(l.Domain)
	l.MTU = p.mtu()
	if err := l.check(); err != nil {
		return nil, err
	}
	return l, nil
}

// maxProblems is how many problems of one message are told: it can have
// hundreds.
const maxProblems = 16

// skip notes why an option, or a part of it, is not used.
func (p *parser) skip(code dhcpv4.OptionCode, err error) {
	if len(p.problems) == maxProblems {
		return
	}
	p.problems = append(p.problems, fmt.Errorf("option %d (%v): %w", code.Code(), code, err))
}

// get returns the option's value and whether the option is there.
func (p *parser) get(code dhcpv4.OptionCode) ([]byte, bool) {
	return p.m.Options.Get(code), p.m.Options.Has(code)
}

// mask returns the prefix length of addr's network.
func (p *parser) mask(addr netip.Addr, prev *Lease) (int, error) {
	v, ok := p.get(dhcpv4.OptionSubnetMask)
	if !ok {
		if prev != nil {
			return prev.Address.Bits(), nil
		}
		bits, _ := p.m.YourIPAddr.DefaultMask().Size()
		p.skip(dhcpv4.OptionSubnetMask, fmt.Errorf("missing: /%d by the class of %v", bits, addr))
		return bits, nil
	}
	if len(v) != 4 {
		return 0, fmt.Errorf("subnet mask of %d bytes, want 4", len(v))
	}
	bits := 0
	n := binary.BigEndian.Uint32(v)
	for ; n&(1<<31) != 0; n <<= 1 {
		bits++
	}
	if n != 0 {
		return 0, fmt.Errorf("subnet mask %d.%d.%d.%d is no row of ones", v[0], v[1], v[2], v[3])
	}
	return bits, nil
}

// addresses returns the first limit usable hosts' addresses in the option.
func (p *parser) addresses(code dhcpv4.OptionCode, limit int) []netip.Addr {
	v, ok := p.get(code)
	if !ok {
		return nil
	}
	if len(v) == 0 || len(v)%4 != 0 {
		p.skip(code, fmt.Errorf("%d bytes, want a multiple of 4", len(v)))
		return nil
	}
	var list []netip.Addr
	for ; len(v) > 0; v = v[4:] {
		a := netip.AddrFrom4([4]byte(v))
		if err := netconfig.CheckHost(a); err != nil {
			p.skip(code, err)
		} else if !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	if len(list) > limit {
		p.skip(code, fmt.Errorf("%d addresses: the first %d are used", len(list), limit))
		list = list[:limit]
	}
	return list
}

// times sets the lease's times (RFC 2131, 4.4.5).
func (p *parser) times(l *Lease, prev *Lease) error {
	length, ok := p.seconds(dhcpv4.OptionIPAddressLeaseTime)
	switch {
	case ok:
		l.Length = length
	case prev != nil:
		l.Length = prev.Length
	default:
		return errors.New("no lease time")
	}
	whole := func(d time.Duration) time.Duration { return d.Truncate(time.Second) }
	l.Renew, l.Rebind = whole(l.Length/2), whole(l.Length/8*7)
	t1, ok1 := p.seconds(dhcpv4.OptionRenewTimeValue)
	t2, ok2 := p.seconds(dhcpv4.OptionRebindingTimeValue)
	renew, rebind := l.Renew, l.Rebind
	if ok1 {
		renew = t1
	}
	if ok2 {
		rebind = t2
	}
	if 0 < renew && renew < rebind && rebind < l.Length {
		l.Renew, l.Rebind = renew, rebind
	} else {
		p.skip(dhcpv4.OptionRenewTimeValue, fmt.Errorf("renew after %v, rebind after %v, end after %v: %v and %v are used",
			renew, rebind, l.Length, l.Renew, l.Rebind))
	}
	return l.checkTimes()
}

func (p *parser) seconds(code dhcpv4.OptionCode) (time.Duration, bool) {
	v, ok := p.get(code)
	if !ok {
		return 0, false
	}
	if len(v) != 4 {
		p.skip(code, fmt.Errorf("%d bytes, want 4", len(v)))
		return 0, false
	}
	return time.Duration(binary.BigEndian.Uint32(v)) * time.Second, true
}

// routes returns the classless static routes; only without that option the
// default route to the first router (RFC 3442).
func (p *parser) routes(self netip.Addr) []netconfig.Route {
	var list []netconfig.Route
	add := func(code dhcpv4.OptionCode, r netconfig.Route) {
		same := func(o netconfig.Route) bool { return o.Destination == r.Destination }
		switch err := netconfig.CheckRoute(r, self); {
		case err != nil:
			p.skip(code, err)
		case slices.ContainsFunc(list, same):
			p.skip(code, fmt.Errorf("another route to %v", r.Destination))
		case len(list) == maxRoutes:
			p.skip(code, fmt.Errorf("route to %v: more than %d", r.Destination, maxRoutes))
		default:
			list = append(list, r)
		}
	}
	if v, ok := p.get(dhcpv4.OptionClasslessStaticRoute); ok {
		var routes dhcpv4.Routes
		err := routes.FromBytes(v)
		if err == nil && len(routes) > 0 {
			for _, r := range routes {
				add(dhcpv4.OptionClasslessStaticRoute, classless(r))
			}
			return list
		}
		p.skip(dhcpv4.OptionClasslessStaticRoute, fmt.Errorf("%d bytes: not a list of routes", len(v)))
	}
	if routers := p.addresses(dhcpv4.OptionRouter, maxAddresses); len(routers) > 0 {
		add(dhcpv4.OptionRouter, netconfig.Route{Destination: netconfig.Default, Gateway: routers[0]})
	}
	return list
}

// classless converts a route that Routes.FromBytes has read. Bits behind the
// mask do not count, and the router 0.0.0.0 stands for the link (RFC 3442).
func classless(r *dhcpv4.Route) netconfig.Route {
	bits, _ := r.Dest.Mask.Size()
	dst, _ := netip.AddrFromSlice(r.Dest.IP)
	out := netconfig.Route{Destination: netip.PrefixFrom(dst, bits).Masked()}
	if gw, _ := netip.AddrFromSlice(r.Router.To4()); !gw.IsUnspecified() {
		out.Gateway = gw
	}
	return out
}

// search returns the domain search list (RFC 3397), or else the domain.
func (p *parser) search(domain string) []string {
	var list []string
	if v, ok := p.get(dhcpv4.OptionDNSDomainSearchList); ok {
		if labels := p.m.DomainSearch(); labels != nil {
			list = labels.Labels
		} else {
			p.skip(dhcpv4.OptionDNSDomainSearchList, fmt.Errorf("%d bytes: not a list of names", len(v)))
		}
	}
	var good []string
	for _, s := range list {
		s = strings.TrimSuffix(s, ".")
		if err := netconfig.CheckName(s); err != nil {
			p.skip(dhcpv4.OptionDNSDomainSearchList, err)
		} else if len(good) == maxSearch {
			p.skip(dhcpv4.OptionDNSDomainSearchList, fmt.Errorf("%d names: the first %d are used", len(list), maxSearch))
			break
		} else if !slices.Contains(good, s) {
			good = append(good, s)
		}
	}
	if len(good) == 0 && domain != "" {
		good = []string{domain}
	}
	return good
}

// name returns the option's name; "" is none. Some servers end it with a NUL or
// a dot.
func (p *parser) name(code dhcpv4.OptionCode) string {
	v, ok := p.get(code)
	if !ok {
		return ""
	}
	s := strings.TrimSuffix(strings.TrimRight(string(v), "\x00"), ".")
	if err := netconfig.CheckName(s); err != nil {
		p.skip(code, err)
		return ""
	}
	return s
}

func (p *parser) mtu() int {
	v, ok := p.get(dhcpv4.OptionInterfaceMTU)
	if !ok {
		return 0
	}
	if len(v) != 2 {
		p.skip(dhcpv4.OptionInterfaceMTU, fmt.Errorf("%d bytes, want 2", len(v)))
		return 0
	}
	n := int(binary.BigEndian.Uint16(v))
	if err := checkMTU(n); err != nil {
		p.skip(dhcpv4.OptionInterfaceMTU, err)
		return 0
	}
	return n
}
