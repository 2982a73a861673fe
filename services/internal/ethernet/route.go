package ethernet

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/parley-meet/parley/services/internal/netconfig"
)

// Marks of the routes that this package makes, by where they come from. Nobody
// else makes routes on the appliance but the kernel, which has its own marks.
const (
	protocolDHCP   = unix.RTPROT_DHCP
	protocolStatic = unix.RTPROT_STATIC
)

// Routes implements Kernel.
func (n Linux) Routes() ([]Route, error) {
	var out []Route
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		list, err := n.routes(family)
		if err != nil {
			return out, err
		}
		for _, r := range list {
			if r.Protocol != protocolDHCP && r.Protocol != protocolStatic {
				continue
			}
			gw, _ := netip.AddrFromSlice(r.Gw)
			src, _ := netip.AddrFromSlice(r.Src)
			out = append(out, Route{
				Route:  netconfig.Route{Destination: destination(r, family), Gateway: gw.Unmap()},
				Source: src.Unmap(),
				OnLink: r.Flags&int(netlink.FLAG_ONLINK) != 0,
				Static: r.Protocol == protocolStatic,
			})
		}
	}
	return out, nil
}

func (n Linux) routes(family int) ([]netlink.Route, error) {
	l, err := n.link()
	if err != nil {
		return nil, err
	}
	filter := &netlink.Route{LinkIndex: l.Attrs().Index, Table: unix.RT_TABLE_MAIN}
	list, err := netlink.RouteListFiltered(family, filter, netlink.RT_FILTER_OIF|netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, fmt.Errorf("RouteList(%s): %w", string(n), err)
	}
	return list, nil
}

func destination(r netlink.Route, family int) netip.Prefix {
	if p, ok := prefix(r.Dst); ok {
		return p
	}
	if family == netlink.FAMILY_V6 {
		return netconfig.Default6
	}
	return netconfig.Default
}

// Gateway6 implements Kernel.
func (n Linux) Gateway6() (netip.Addr, error) {
	list, err := n.routes(netlink.FAMILY_V6)
	list = slices.DeleteFunc(list, func(r netlink.Route) bool {
		return destination(r, netlink.FAMILY_V6) != netconfig.Default6 || len(r.Gw) == 0
	})
	if len(list) == 0 {
		return netip.Addr{}, err
	}
	best := slices.MinFunc(list, func(a, b netlink.Route) int { return a.Priority - b.Priority })
	gw, _ := netip.AddrFromSlice(best.Gw)
	return gw, nil
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
		Protocol:  protocolDHCP,
		Table:     unix.RT_TABLE_MAIN,
	}
	if r.Static {
		nr.Protocol = protocolStatic
	}
	if !r.Gateway.IsValid() {
		nr.Scope = netlink.SCOPE_LINK
	}
	if r.OnLink {
		nr.Flags = int(netlink.FLAG_ONLINK)
	}
	return nr, nil
}
