package ethernet

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/labtest"
	"github.com/parley-meet/parley/services/internal/netconfig"
)

// box is a host with eth0 on a link with a neighbour at 192.0.2.1.
func box(t *testing.T) (server, b *labtest.Host) {
	t.Helper()
	t.Parallel()
	server, b = labtest.NewHost(t, "server"), labtest.NewHost(t, "box")
	server.Bridge(netip.MustParsePrefix("192.0.2.1/24"))
	server.Join(b, "p1", testMAC)
	return server, b
}

// Linux itself: what is wanted comes into force, the second time changes
// nothing, and so on from each state to each.
func TestLinuxApply(t *testing.T) {
	_, b := box(t)
	k := Linux("eth0")
	until := func(s string, d time.Duration) netconfig.Address {
		return netconfig.Address{Prefix: netip.MustParsePrefix(s), Until: time.Now().Add(d)}
	}
	forever := netconfig.Address{Prefix: netip.MustParsePrefix("192.0.2.9/24")}
	states := []netconfig.Interface{
		{},
		{Addresses: []netconfig.Address{until("192.0.2.7/24", time.Hour)}, Routes: []netconfig.Route{route("0.0.0.0/0", "192.0.2.1")}, MTU: 1400},
		{Addresses: []netconfig.Address{until("192.0.2.7/24", 2*time.Hour)}, Routes: []netconfig.Route{route("0.0.0.0/0", "192.0.2.2"), route("198.51.100.0/24", "192.0.2.1")}, MTU: 1500},
		{Addresses: []netconfig.Address{until("203.0.113.7/32", time.Hour)}, Routes: []netconfig.Route{route("0.0.0.0/0", "192.0.2.1"), route("198.51.100.0/24", "")}},
		{Addresses: []netconfig.Address{forever, until("192.0.2.10/24", time.Hour)}, Routes: []netconfig.Route{route("10.0.0.0/8", "203.0.113.1")}},
		{Addresses: []netconfig.Address{until("192.0.2.10/24", time.Hour)}},
		{Addresses: []netconfig.Address{until("192.0.2.10/25", 50*365*24*time.Hour)}, Routes: []netconfig.Route{route("0.0.0.0/0", "192.0.2.1")}},
	}
	for from := range states {
		for to, want := range states {
			for _, i := range []int{from, to} {
				b.Must(func() error { _, err := Apply(k, states[i]); return err })
			}
			b.Must(func() error {
				if changes, err := Apply(k, want); len(changes) != 0 || err != nil {
					return fmt.Errorf("from %d to %d: the second time changed %q, %w", from, to, changes, err)
				}
				addrs, err := k.Addresses()
				if err != nil || len(addrs) != len(want.Addresses) {
					return fmt.Errorf("from %d to %d: addresses %v, %w", from, to, addrs, err)
				}
				routes, err := k.Routes()
				if err != nil || len(routes) != len(want.Routes) {
					return fmt.Errorf("from %d to %d: routes %v, %w", from, to, routes, err)
				}
				return nil
			})
		}
	}
	b.Must(func() error {
		// What came to an end by itself, or by another hand, is no error.
		gone := netconfig.Address{Prefix: netip.MustParsePrefix("192.0.2.99/24")}
		if err := k.RemoveAddress(gone); err != nil {
			return err
		}
		return k.RemoveRoute(Route{Route: route("172.16.0.0/12", "192.0.2.1")})
	})
	for _, f := range []func(Linux) error{
		Linux.SetUp, func(n Linux) error { return n.SetMTU(1500) }, func(n Linux) error { _, err := n.Link(); return err },
		func(n Linux) error { _, err := n.Addresses(); return err }, func(n Linux) error { _, err := n.Routes(); return err },
		func(n Linux) error { return n.SetAddress(forever) }, func(n Linux) error { return n.SetRoute(Route{Route: route("10.0.0.0/8", "192.0.2.1")}) },
		func(n Linux) error { _, err := n.Probe(context.Background(), forever.Addr()); return err }, func(n Linux) error { return n.Announce(forever.Addr()) },
	} {
		if err := b.Do(func() error { return f("eth7") }); err == nil {
			t.Error("an interface that is not there is no error")
		}
		if err := b.Do(func() error { return f("lo") }); err != nil {
			t.Logf("lo: %v", err) // only must not panic
		}
	}
}

func TestLinuxProbe(t *testing.T) {
	server, b := box(t)
	b.Must(func() error {
		owner, err := Linux("eth0").Probe(context.Background(), netip.MustParseAddr("192.0.2.1"))
		if err != nil || owner.String() != "02:00:00:00:00:ff" {
			return fmt.Errorf("the neighbour's address: %v, %w", owner, err)
		}
		owner, err = Linux("eth0").Probe(context.Background(), netip.MustParseAddr("192.0.2.2"))
		if err != nil || owner != nil {
			return fmt.Errorf("nobody's address: %v, %w", owner, err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err = Linux("eth0").Probe(ctx, netip.MustParseAddr("192.0.2.2")); ctx.Err() == nil || err == nil {
			return fmt.Errorf("given up: %w", err)
		}
		return nil
	})
	// Two that probe for the same address at once see each other.
	second := labtest.NewHost(t, "second")
	server.Join(second, "p2", other)
	found := make(chan net.HardwareAddr, 2)
	for _, h := range []*labtest.Host{b, second} {
		go h.Do(func() error {
			owner, _ := Linux("eth0").Probe(context.Background(), netip.MustParseAddr("192.0.2.3"))
			found <- owner
			return nil
		})
	}
	if a, b := <-found, <-found; a == nil && b == nil {
		t.Error("two machines take the same address at once")
	}
}

// Each change of the link is told once, and nothing else is.
func TestLinuxWatch(t *testing.T) {
	server, b := box(t)
	ctx, cancel := context.WithCancel(t.Context())
	links, done := make(chan Link, 100), make(chan error, 1)
	go func() {
		done <- b.Do(func() error {
			return Linux("eth0").Watch(ctx, func(l Link, err error) {
				if err == nil {
					links <- l
				}
			})
		})
	}()
	if l := <-links; !l.Up || !l.Carrier || l.HardwareAddr.String() != testMAC.String() || l.MTU != 1500 {
		t.Errorf("at first %+v", l)
	}
	for _, up := range []bool{false, true, false, true} {
		server.SetUp("p1", up)
		for l := range links {
			if l.Carrier == up {
				break
			}
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Watch: %v", err)
	}
}
