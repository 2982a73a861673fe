package ethernet

import (
	"errors"
	"fmt"
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
// removed: all other IPv4 addresses, and all other routes of ours. An error
// does not keep the rest from being applied.
func Apply(k Kernel, want netconfig.Interface) ([]string, error) {
	a := applier{Kernel: k}
	a.mtu(want.MTU)
	a.addresses(want.Addresses)
	a.routes(wantedRoutes(want))
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
// the kernel takes the network's others with it.
func (a *applier) addresses(want []netconfig.Address) {
	have, err := a.Addresses()
	if err != nil {
		a.errs = append(a.errs, err)
		return
	}
	removed := false
	for _, h := range have {
		same := func(w netconfig.Address) bool { return w.Prefix == h.Prefix }
		if !slices.ContainsFunc(want, same) {
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

func sameEnd(a, b time.Time) bool {
	if a.IsZero() || b.IsZero() {
		return a.IsZero() && b.IsZero()
	}
	return a.Sub(b).Abs() <= slack
}

// routes adds before it removes, so that a changed default route leaves no
// moment without one.
func (a *applier) routes(want []Route) {
	have, err := a.Routes()
	if err != nil {
		a.errs = append(a.errs, err)
		return
	}
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

// wantedRoutes adds to the routes what the kernel needs: the first address as
// source, and the mark of a gateway that is in none of the networks (some
// servers give a /32 and a gateway beside it).
func wantedRoutes(want netconfig.Interface) []Route {
	if len(want.Addresses) == 0 {
		return nil
	}
	source := want.Addresses[0].Addr()
	var out []Route
	for _, r := range want.Routes {
		out = append(out, Route{Route: r, Source: source, OnLink: r.Gateway.IsValid() && !within(want, r.Gateway)})
	}
	return out
}

func within(want netconfig.Interface, gw netip.Addr) bool {
	return slices.ContainsFunc(want.Addresses, func(a netconfig.Address) bool { return a.Bits() < 32 && a.Contains(gw) })
}
