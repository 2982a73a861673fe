package ethernet

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"time"

	"github.com/parley-meet/parley/services/internal/netconfig"
)

// slack is by how much an address's end may differ from the wanted one: the
// kernel counts whole seconds.
const slack = 2 * time.Second

// Apply makes the interface what want says, and returns what it changed, one
// line each: nothing when it already was so. What want does not name is
// removed: all other IPv4 addresses, and all other IPv4 routes of ours. An error
// does not keep the rest from being applied.
func Apply(k Kernel, want netconfig.Interface) ([]string, error) {
	a := applier{Kernel: k}
	a.mtu(want.MTU)
	a.addresses(want.Addresses)
	a.routes(wantedRoutes(want), netip.Addr.Is4)
	return a.changes, errors.Join(a.errs...)
}

// Apply6 is Apply for IPv6. Addresses that the kernel makes after router
// advertisements are left alone in ModeAuto, and go in the others.
func Apply6(k Kernel, want netconfig.Interface6) ([]string, error) {
	a := applier{Kernel: k}
	switch {
	case a.mode6(want.Mode):
		a.addresses6(want)
		a.routes(wantedRoutes6(want), netip.Addr.Is6)
	case want.Mode == netconfig.ModeStatic && len(a.errs) == 0:
		a.errs = append(a.errs, errors.New("this kernel has no IPv6"))
	}
	return a.changes, errors.Join(a.errs...)
}

type applier struct {
	Kernel
	changes []string
	errs    []error
}

// did notes a change and its result.
func (a *applier) did(err error, format string, args ...any) {
	if err != nil {
		a.errs = append(a.errs, err)
		return
	}
	a.changes = append(a.changes, fmt.Sprintf(format, args...))
}

func (a *applier) mtu(want int) {
	if want == 0 {
		return
	}
	l, err := a.Link()
	if err != nil {
		a.errs = append(a.errs, err)
		return
	}
	if l.MTU != want {
		a.did(a.SetMTU(want), "mtu %d", want)
	}
}

// addresses removes before it adds: when the first address of a network goes,
// the kernel may take the network's others with it. The wanted order is that of
// the kernel, too, as connections within a network are made from its first: one
// that came early is taken away and comes again.
func (a *applier) addresses(want []netconfig.Address) {
	have, err := a.Addresses()
	if err != nil {
		a.errs = append(a.errs, err)
		return
	}
	removed := false
	for _, h := range have {
		same := func(w netconfig.Address) bool { return w.Prefix == h.Prefix && w.Label == h.Label }
		if i := slices.IndexFunc(want, same); i < 0 || early(want[:i], have, h) {
			a.did(a.RemoveAddress(h), "address %v removed", h.Prefix)
			removed = true
		}
	}
	if removed {
		if have, err = a.Addresses(); err != nil {
			a.errs = append(a.errs, err)
			return
		}
	}
	for _, w := range want {
		same := func(h netconfig.Address) bool { return w.Prefix == h.Prefix && sameEnd(w.Until, h.Until) }
		if !slices.ContainsFunc(have, same) {
			a.did(a.SetAddress(w), "address %v", w.Prefix)
		}
	}
}

// early reports whether one of the addresses before h, of the same network, is
// not there or comes after it.
func early(before, have []netconfig.Address, h netconfig.Address) bool {
	at := func(p netip.Prefix) int {
		return slices.IndexFunc(have, func(a netconfig.Address) bool { return a.Prefix == p })
	}
	return slices.ContainsFunc(before, func(b netconfig.Address) bool {
		return b.Masked() == h.Masked() && (at(b.Prefix) < 0 || at(b.Prefix) > at(h.Prefix))
	})
}

// mode6 sets the kernel's parameters and reports whether there is IPv6. Off is
// off altogether: with a link-local address left, neighbours could still reach
// what listens here. Where routers are not listened to any more, what they said
// before goes with IPv6 being switched off for a moment.
func (a *applier) mode6(mode string) bool {
	switch mode {
	case netconfig.ModeOff:
		a.sysctl("disable_ipv6", "1")
		return false
	case netconfig.ModeAuto:
		a.sysctl("autoconf", "1")
		a.sysctl("accept_ra", "1")
		return a.sysctl("disable_ipv6", "0")
	}
	a.sysctl("autoconf", "0")
	was, _ := a.Sysctl("ipv6", "accept_ra")
	if a.sysctl("accept_ra", "0") && was != "0" {
		a.sysctl("disable_ipv6", "1")
	}
	return a.sysctl("disable_ipv6", "0")
}

// sysctl sets a parameter of IPv6 and reports whether it is set. A kernel
// without IPv6 is as good as one in which it is off.
func (a *applier) sysctl(name, value string) bool {
	have, err := a.Sysctl("ipv6", name)
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	if err != nil {
		a.errs = append(a.errs, err)
		return false
	}
	if have == value {
		return true
	}
	n := len(a.errs)
	a.did(a.SetSysctl("ipv6", name, value), "%s %s", name, value)
	return len(a.errs) == n
}

func (a *applier) addresses6(want netconfig.Interface6) {
	have, err := a.Addresses6()
	if err != nil {
		a.errs = append(a.errs, err)
		return
	}
	for _, h := range have {
		same := func(w netconfig.Address) bool { return w.Prefix == h.Prefix }
		if !slices.ContainsFunc(want.Addresses, same) && !(h.Auto && want.Mode == netconfig.ModeAuto) {
			a.did(a.RemoveAddress(h.Address), "address %v removed", h.Prefix)
		}
	}
	for _, w := range want.Addresses {
		same := func(h Address6) bool { return w.Prefix == h.Prefix && sameEnd(w.Until, h.Until) }
		if !slices.ContainsFunc(have, same) {
			a.did(a.SetAddress(w), "address %v", w.Prefix)
		}
	}
}

func sameEnd(a, b time.Time) bool {
	if a.IsZero() || b.IsZero() {
		return a.IsZero() && b.IsZero()
	}
	return a.Sub(b).Abs() <= slack
}

// routes adds before it removes, so that a changed default route leaves no
// moment without one. It looks at the routes of one family.
func (a *applier) routes(want []Route, family func(netip.Addr) bool) {
	have, err := a.Routes()
	if err != nil {
		a.errs = append(a.errs, err)
		return
	}
	have = slices.DeleteFunc(have, func(r Route) bool { return !family(r.Destination.Addr()) })
	for _, w := range want {
		if !slices.Contains(have, w) {
			a.did(a.SetRoute(w), "route to %v via %v", w.Destination, w.Gateway)
		}
	}
	for _, h := range have {
		same := func(w Route) bool { return w.Destination == h.Destination }
		if !slices.ContainsFunc(want, same) {
			a.did(a.RemoveRoute(h), "route to %v via %v removed", h.Destination, h.Gateway)
		}
	}
}

// wantedRoutes adds to the routes what the kernel needs. For DHCP's that is the
// first address as source, and the mark of a gateway that is in none of the
// networks (some servers give a /32 and a gateway beside it). Those of the
// configuration start from the address whose network has the gateway, and wait
// until there is one.
func wantedRoutes(want netconfig.Interface) []Route {
	if len(want.Addresses) == 0 {
		return nil
	}
	var out []Route
	for _, r := range want.Static {
		if i := within(want, r.Gateway); i >= 0 {
			out = append(out, Route{Route: r, Source: want.Addresses[i].Addr(), Static: true})
		}
	}
	for _, r := range want.Routes {
		same := func(o Route) bool { return o.Destination == r.Destination }
		if !slices.ContainsFunc(out, same) {
			out = append(out, Route{Route: r, Source: want.Addresses[0].Addr(), OnLink: r.Gateway.IsValid() && within(want, r.Gateway) < 0})
		}
	}
	return out
}

// within returns which of the addresses has the gateway in its network, or -1.
func within(want netconfig.Interface, gw netip.Addr) int {
	return slices.IndexFunc(want.Addresses, func(a netconfig.Address) bool { return a.Bits() < 32 && a.Contains(gw) })
}

// wantedRoutes6 leaves out routes to gateways that no address is beside. Where
// routers tell the networks, which may come later, the gateway is told to be on
// the link.
func wantedRoutes6(want netconfig.Interface6) []Route {
	var out []Route
	for _, r := range want.Routes {
		reach := func(a netconfig.Address) bool { return a.Bits() < 128 && a.Contains(r.Gateway) }
		if want.Mode == netconfig.ModeAuto || r.Gateway.IsLinkLocalUnicast() || slices.ContainsFunc(want.Addresses, reach) {
			out = append(out, Route{Route: r, Static: true, OnLink: want.Mode == netconfig.ModeAuto && !r.Gateway.IsLinkLocalUnicast()})
		}
	}
	return out
}
