package ethernet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/parley-meet/parley/services/internal/netconfig"
)

// ErrNoLink says that there is no such interface.
var ErrNoLink = errors.New("no such interface")

// Link is an interface as it is.
type Link struct {
	Index        int
	HardwareAddr net.HardwareAddr
	MTU          int
	Up           bool // administratively
	Carrier      bool
}

// Kernel is what this package needs of Linux: one interface and what belongs
// to it. Its times are counted from the call on.
type Kernel interface {
	// Link returns the interface, or ErrNoLink.
	Link() (Link, error)
	SetUp() error
	SetMTU(bytes int) error

	// Addresses returns the IPv4 addresses, all of them.
	Addresses() ([]netconfig.Address, error)
	SetAddress(netconfig.Address) error // adds it, or changes its end
	RemoveAddress(netconfig.Address) error

	// Routes returns the routes that SetRoute has made, in this process or an
	// earlier one.
	Routes() ([]Route, error)
	SetRoute(Route) error
	RemoveRoute(Route) error

	// Watch calls f with the link's state, and again whenever it changes,
	// until ctx ends (then it returns nil) or watching fails. f is not called
	// with a state that equals the last one.
	Watch(ctx context.Context, f func(Link, error)) error

	// Probe asks for a second by ARP who has the address (RFC 5227, 2.1.1);
	// nil is nobody else.
	Probe(ctx context.Context, a netip.Addr) (net.HardwareAddr, error)
	// Announce tells the link that the address is here (RFC 5227, 2.3).
	Announce(a netip.Addr) error
}

// Route is a route and the own address that is used on it.
type Route struct {
	netconfig.Route
	Source netip.Addr
	OnLink bool // the gateway is on the link whatever the addresses say
}

// Linux is the Kernel's interface with this name.
type Linux string

// forever is the kernel's lifetime of an address without an end, in seconds.
const forever = 0xffffffff

// Link implements Kernel.
func (n Linux) Link() (Link, error) {
	l, err := n.link()
	if err != nil {
		return Link{}, err
	}
	return newLink(l.Attrs()), nil
}

func (n Linux) link() (netlink.Link, error) {
	l, err := netlink.LinkByName(string(n))
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil, ErrNoLink
	}
	if err != nil {
		return nil, fmt.Errorf("LinkByName(%s): %w", string(n), err)
	}
	return l, nil
}

func newLink(a *netlink.LinkAttrs) Link {
	return Link{
		Index:        a.Index,
		HardwareAddr: a.HardwareAddr,
		MTU:          a.MTU,
		Up:           a.RawFlags&unix.IFF_UP != 0,
		Carrier:      a.RawFlags&unix.IFF_LOWER_UP != 0,
	}
}

// SetUp implements Kernel.
func (n Linux) SetUp() error {
	l, err := n.link()
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return fmt.Errorf("LinkSetUp(%s): %w", string(n), err)
	}
	return nil
}

// SetMTU implements Kernel.
func (n Linux) SetMTU(bytes int) error {
	l, err := n.link()
	if err != nil {
		return err
	}
	if err := netlink.LinkSetMTU(l, bytes); err != nil {
		return fmt.Errorf("LinkSetMTU(%s, %d): %w", string(n), bytes, err)
	}
	return nil
}

// Addresses implements Kernel.
func (n Linux) Addresses() ([]netconfig.Address, error) {
	l, err := n.link()
	if err != nil {
		return nil, err
	}
	list, err := netlink.AddrList(l, netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("AddrList(%s): %w", string(n), err)
	}
	now := time.Now()
	var out []netconfig.Address
	for _, a := range list {
		p, ok := prefix(a.IPNet)
		if !ok {
			continue
		}
		addr := netconfig.Address{Prefix: p}
		if a.ValidLft != forever {
			addr.Until = now.Add(time.Duration(a.ValidLft) * time.Second)
		}
		out = append(out, addr)
	}
	return out, nil
}

// prefix converts an IPv4 network, with its host bits.
func prefix(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	a, ok := netip.AddrFromSlice(n.IP.To4())
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(a, bits), ok
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)}
}

// SetAddress implements Kernel. The kernel removes the address by itself at its
// end, even when this process is gone.
func (n Linux) SetAddress(a netconfig.Address) error {
	l, err := n.link()
	if err != nil {
		return err
	}
	seconds := forever
	if !a.Until.IsZero() {
		seconds = min(max(int(time.Until(a.Until)/time.Second), 1), forever-1)
	}
	err = netlink.AddrReplace(l, &netlink.Addr{IPNet: ipNet(a.Prefix), ValidLft: seconds, PreferedLft: seconds})
	if err != nil {
		return fmt.Errorf("AddrReplace(%s, %v): %w", string(n), a.Prefix, err)
	}
	return nil
}

// RemoveAddress implements Kernel.
func (n Linux) RemoveAddress(a netconfig.Address) error {
	l, err := n.link()
	if err != nil {
		return err
	}
	err = netlink.AddrDel(l, &netlink.Addr{IPNet: ipNet(a.Prefix)})
	if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) { // its end came first
		return fmt.Errorf("AddrDel(%s, %v): %w", string(n), a.Prefix, err)
	}
	return nil
}

// protocol marks the routes that this package makes.
const protocol = unix.RTPROT_DHCP

// Routes implements Kernel.
func (n Linux) Routes() ([]Route, error) {
	l, err := n.link()
	if err != nil {
		return nil, err
	}
	filter := &netlink.Route{LinkIndex: l.Attrs().Index, Protocol: protocol, Table: unix.RT_TABLE_MAIN}
	list, err := netlink.RouteListFiltered(netlink.FAMILY_V4, filter,
		netlink.RT_FILTER_OIF|netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, fmt.Errorf("RouteList(%s): %w", string(n), err)
	}
	var out []Route
	for _, r := range list {
		dst := netconfig.Default
		if r.Dst != nil {
			dst, _ = prefix(r.Dst)
		}
		gw, _ := netip.AddrFromSlice(r.Gw.To4())
		src, _ := netip.AddrFromSlice(r.Src.To4())
		out = append(out, Route{
			Route:  netconfig.Route{Destination: dst, Gateway: gw},
			Source: src,
			OnLink: r.Flags&int(netlink.FLAG_ONLINK) != 0,
		})
	}
	return out, nil
}

// SetRoute implements Kernel.
func (n Linux) SetRoute(r Route) error {
	nr, err := n.route(r)
	if err != nil {
		return err
	}
	if err := netlink.RouteReplace(nr); err != nil {
		return fmt.Errorf("RouteReplace(%s, %v via %v): %w", string(n), r.Destination, r.Gateway, err)
	}
	return nil
}

// RemoveRoute implements Kernel.
func (n Linux) RemoveRoute(r Route) error {
	nr, err := n.route(r)
	if err != nil {
		return err
	}
	err = netlink.RouteDel(nr)
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("RouteDel(%s, %v via %v): %w", string(n), r.Destination, r.Gateway, err)
	}
	return nil
}

func (n Linux) route(r Route) (*netlink.Route, error) {
	l, err := n.link()
	if err != nil {
		return nil, err
	}
	nr := &netlink.Route{
		LinkIndex: l.Attrs().Index,
		Dst:       ipNet(r.Destination),
		Src:       r.Source.AsSlice(),
		Gw:        r.Gateway.AsSlice(),
		Protocol:  protocol,
		Table:     unix.RT_TABLE_MAIN,
	}
	if !r.Gateway.IsValid() {
		nr.Scope = netlink.SCOPE_LINK
	}
	if r.OnLink {
		nr.Flags = int(netlink.FLAG_ONLINK)
	}
	return nr, nil
}

// Watch implements Kernel.
func (n Linux) Watch(ctx context.Context, f func(Link, error)) error {
	done := make(chan struct{})
	updates := make(chan netlink.LinkUpdate)
	var failed error
	err := netlink.LinkSubscribeWithOptions(updates, done, netlink.LinkSubscribeOptions{
		ErrorCallback: func(err error) { failed = err },
	})
	if err != nil {
		close(done)
		return fmt.Errorf("LinkSubscribe: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { close(done) })
	defer func() {
		if stop() {
			close(done)
		}
		for range updates { // until the sender is gone
		}
	}()
	var last Link
	var lastErr error
	report := func() {
		l, err := n.Link()
		same := l.Index == last.Index && l.MTU == last.MTU && l.Up == last.Up && l.Carrier == last.Carrier &&
			l.HardwareAddr.String() == last.HardwareAddr.String() && errors.Is(err, lastErr)
		if last, lastErr = l, err; !same {
			f(l, err)
		}
	}
	lastErr = errors.New("nothing reported yet")
	report()
	for u := range updates {
		if ctx.Err() != nil {
			return nil
		}
		// Updates only say that there is something to look at: of a row of
		// them, and after lost ones, the present counts.
		if u.Attrs().Name == string(n) || u.Attrs().Index == last.Index {
			report()
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("link updates ended: %w", failed)
}
