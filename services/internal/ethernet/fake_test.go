package ethernet

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/parley-meet/parley/services/internal/netconfig"
)

var testMAC = net.HardwareAddr{0x52, 0x54, 0, 1, 2, 3}

// fakeKernel is a Kernel in memory. An address that goes takes along what
// needs it, as Linux has it: the routes from it, and the network's other
// addresses when it was the first.
type fakeKernel struct {
	mu     sync.Mutex
	link   Link
	err    error // of Link
	addrs  []netconfig.Address
	routes []Route
	fail   map[string]error // by method
	block  chan struct{}    // SetAddress waits for it
	ops    []string
	change chan struct{} // closed when the link changes
	broken chan error    // ends Watch
	owners map[netip.Addr]net.HardwareAddr
	addrs6 []Address6
	gw6    netip.Addr
	sysctl map[string]string
	clash  chan clashing // Conflicts hears it
	router chan Advertisement
}

type clashing struct {
	a     netip.Addr
	owner net.HardwareAddr
}

func newKernel() *fakeKernel {
	return &fakeKernel{
		link:   Link{Index: 2, HardwareAddr: testMAC, MTU: 1500, Up: true, Carrier: true},
		fail:   map[string]error{},
		change: make(chan struct{}),
		broken: make(chan error),
		owners: map[netip.Addr]net.HardwareAddr{},
		clash:  make(chan clashing),
		router: make(chan Advertisement),
		sysctl: map[string]string{"promote_secondaries": "0", "accept_ra_min_hop_limit": "1", "accept_ra": "1", "autoconf": "1", "disable_ipv6": "0"},
	}
}

// set changes what the kernel has, as if from outside.
func (k *fakeKernel) set(f func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f()
	close(k.change)
	k.change = make(chan struct{})
}

// did returns the operations since the last call.
func (k *fakeKernel) did() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := strings.Join(k.ops, "; ")
	k.ops = nil
	return out
}

func (k *fakeKernel) opLocked(method, format string, args ...any) error {
	k.ops = append(k.ops, strings.TrimSpace(method+" "+fmt.Sprintf(format, args...)))
	return k.fail[method]
}

func (k *fakeKernel) Link() (Link, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err != nil {
		return Link{}, k.err
	}
	return k.link, k.fail["Link"]
}

func (k *fakeKernel) SetUp() (err error) {
	k.set(func() {
		if err = k.opLocked("SetUp", ""); err == nil {
			k.link.Up, k.link.Carrier = true, true
		}
	})
	return err
}

func (k *fakeKernel) SetMTU(n int) (err error) {
	k.set(func() {
		if err = k.opLocked("SetMTU", "%d", n); err == nil {
			k.link.MTU = n
		}
	})
	return err
}

func (k *fakeKernel) Addresses() ([]netconfig.Address, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.addrs), k.fail["Addresses"]
}

func (k *fakeKernel) Addresses6() ([]Address6, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.addrs6), k.fail["Addresses6"]
}

func (k *fakeKernel) Gateway6() (netip.Addr, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.gw6, k.fail["Gateway6"]
}

func (k *fakeKernel) Sysctl(family, name string) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.sysctl[name], k.fail["Sysctl"]
}

func (k *fakeKernel) SetSysctl(family, name, value string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.fail["SetSysctl"]; err != nil {
		return err
	}
	k.sysctl[name] = value
	if name == "disable_ipv6" && value == "1" {
		k.addrs6, k.gw6 = nil, netip.Addr{}
		k.routes = slices.DeleteFunc(k.routes, func(r Route) bool { return r.Destination.Addr().Is6() })
	}
	return nil
}

func (k *fakeKernel) WatchAddresses(ctx context.Context, f func()) error {
	for {
		k.mu.Lock()
		change := k.change
		k.mu.Unlock()
		f()
		select {
		case <-change:
		case <-ctx.Done():
			return nil
		}
	}
}

func (k *fakeKernel) Advertisements(ctx context.Context, f func(Advertisement)) error {
	for {
		select {
		case a := <-k.router:
			f(a)
		case <-ctx.Done():
			return nil
		}
	}
}

func (k *fakeKernel) Conflicts(ctx context.Context, own []netip.Addr, f func(netip.Addr, net.HardwareAddr)) error {
	for {
		select {
		case c := <-k.clash:
			if slices.Contains(own, c.a) {
				f(c.a, c.owner)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

func (k *fakeKernel) SetAddress(a netconfig.Address) error {
	if k.block != nil {
		<-k.block
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.opLocked("SetAddress", "%v", a.Prefix); err != nil {
		return err
	}
	if a.Addr().Is6() {
		k.addrs6 = slices.DeleteFunc(k.addrs6, func(h Address6) bool { return h.Prefix == a.Prefix })
		k.addrs6 = append(k.addrs6, Address6{Address: a})
		return nil
	}
	if i := slices.IndexFunc(k.addrs, func(h netconfig.Address) bool { return h.Prefix == a.Prefix }); i >= 0 {
		k.addrs[i] = a
	} else {
		k.addrs = append(k.addrs, a)
	}
	return nil
}

func (k *fakeKernel) RemoveAddress(a netconfig.Address) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.opLocked("RemoveAddress", "%v", a.Prefix); err != nil {
		return err
	}
	k.addrs6 = slices.DeleteFunc(k.addrs6, func(h Address6) bool { return h.Prefix == a.Prefix })
	i := slices.IndexFunc(k.addrs, func(h netconfig.Address) bool { return h.Prefix == a.Prefix })
	if i < 0 {
		return nil
	}
	first := k.sysctl["promote_secondaries"] != "1" && !slices.ContainsFunc(k.addrs[:i], func(h netconfig.Address) bool { return h.Masked() == a.Masked() })
	k.addrs = slices.DeleteFunc(k.addrs, func(h netconfig.Address) bool {
		return h.Prefix == a.Prefix || first && h.Masked() == a.Masked()
	})
	k.routes = slices.DeleteFunc(k.routes, func(r Route) bool {
		return r.Source.IsValid() && !slices.ContainsFunc(k.addrs, func(h netconfig.Address) bool { return h.Addr() == r.Source })
	})
	return nil
}

func (k *fakeKernel) Routes() ([]Route, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.routes), k.fail["Routes"]
}

func (k *fakeKernel) SetRoute(r Route) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.opLocked("SetRoute", "%v via %v", r.Destination, r.Gateway); err != nil {
		return err
	}
	if r.Destination.Addr().Is4() && !slices.ContainsFunc(k.addrs, func(h netconfig.Address) bool { return h.Addr() == r.Source }) {
		return fmt.Errorf("source %v is not an own address", r.Source)
	}
	k.routes = append(slices.DeleteFunc(k.routes, func(h Route) bool { return h.Destination == r.Destination }), r)
	return nil
}

func (k *fakeKernel) RemoveRoute(r Route) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.opLocked("RemoveRoute", "%v via %v", r.Destination, r.Gateway); err != nil {
		return err
	}
	k.routes = slices.DeleteFunc(k.routes, func(h Route) bool { return h == r })
	return nil
}

func (k *fakeKernel) Watch(ctx context.Context, f func(Link, error)) error {
	for {
		k.mu.Lock()
		change := k.change
		k.mu.Unlock()
		f(k.Link())
		select {
		case <-change:
		case err := <-k.broken:
			return err
		case <-ctx.Done():
			return nil
		}
	}
}

func (k *fakeKernel) Probe(ctx context.Context, a netip.Addr) (net.HardwareAddr, error) {
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.owners[a], k.fail["Probe"]
}

func (k *fakeKernel) Announce(a netip.Addr) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.opLocked("Announce", "%v", a)
}
