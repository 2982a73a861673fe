package ethernet

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/netconfig"
)

var (
	errTest = errors.New("broken")
	end     = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
)

func addr(s string) netconfig.Address {
	return netconfig.Address{Prefix: netip.MustParsePrefix(s), Until: end}
}

func route(to, via string) netconfig.Route {
	r := netconfig.Route{Destination: netip.MustParsePrefix(to)}
	if via != "" {
		r.Gateway = netip.MustParseAddr(via)
	}
	return r
}

func TestApply(t *testing.T) {
	plain := netconfig.Interface{Addresses: []netconfig.Address{addr("192.0.2.7/24")}, Routes: []netconfig.Route{route("0.0.0.0/0", "192.0.2.1")}}
	withAddr := func(a ...netconfig.Address) netconfig.Interface {
		return netconfig.Interface{Addresses: a, Routes: plain.Routes}
	}
	for _, test := range []struct {
		name         string
		before, want netconfig.Interface
		ops          string
	}{
		{"from nothing", netconfig.Interface{}, plain, "SetAddress 192.0.2.7/24; SetRoute 0.0.0.0/0 via 192.0.2.1"},
		{"to nothing", plain, netconfig.Interface{}, "RemoveAddress 192.0.2.7/24"},
		{"the same", plain, plain, ""},
		{"a second longer", plain, withAddr(netconfig.Address{Prefix: netip.MustParsePrefix("192.0.2.7/24"), Until: end.Add(time.Second)}), ""},
		{"an hour longer", plain, withAddr(netconfig.Address{Prefix: netip.MustParsePrefix("192.0.2.7/24"), Until: end.Add(time.Hour)}), "SetAddress 192.0.2.7/24"},
		{"for ever", plain, withAddr(netconfig.Address{Prefix: netip.MustParsePrefix("192.0.2.7/24")}), "SetAddress 192.0.2.7/24"},
		{"another address", plain, withAddr(addr("192.0.2.8/24")), "RemoveAddress 192.0.2.7/24; SetAddress 192.0.2.8/24; SetRoute 0.0.0.0/0 via 192.0.2.1"},
		{"another mask", plain, withAddr(addr("192.0.2.7/16")), "RemoveAddress 192.0.2.7/24; SetAddress 192.0.2.7/16; SetRoute 0.0.0.0/0 via 192.0.2.1"},
		// The kernel takes the second with the first, so it comes again.
		{"the second of two", withAddr(addr("192.0.2.7/24"), addr("192.0.2.8/24")), withAddr(addr("192.0.2.8/24")),
			"RemoveAddress 192.0.2.7/24; SetAddress 192.0.2.8/24; SetRoute 0.0.0.0/0 via 192.0.2.1"},
		{"another gateway", plain, netconfig.Interface{Addresses: plain.Addresses, Routes: []netconfig.Route{route("0.0.0.0/0", "192.0.2.2")}}, "SetRoute 0.0.0.0/0 via 192.0.2.2"},
		{"other routes", plain, netconfig.Interface{Addresses: plain.Addresses, Routes: []netconfig.Route{route("198.51.100.0/24", ""), route("10.0.0.0/8", "192.0.2.9")}},
			"SetRoute 198.51.100.0/24 via invalid IP; SetRoute 10.0.0.0/8 via 192.0.2.9; RemoveRoute 0.0.0.0/0 via 192.0.2.1"},
		{"MTU", plain, netconfig.Interface{Addresses: plain.Addresses, Routes: plain.Routes, MTU: 1400}, "SetMTU 1400"},
	} {
		k := newKernel()
		if _, err := Apply(k, test.before); err != nil {
			t.Fatal(err)
		}
		k.did()
		changes, err := Apply(k, test.want)
		if got := k.did(); err != nil || got != test.ops || len(changes) != strings.Count(got, "; ")+min(len(got), 1) {
			t.Errorf("%s: %q, %q, %v\nwant %q", test.name, got, changes, err, test.ops)
		}
		if changes, err := Apply(k, test.want); len(changes) != 0 || err != nil || k.did() != "" {
			t.Errorf("%s: the second time changed %q, %v", test.name, changes, err)
		}
	}
}

// A master that comes after its slave is put before it: connections within the
// network are made from the first.
func TestApplyOrder(t *testing.T) {
	slave := addr("192.0.2.8/24")
	slave.Label = "eth0:0"
	k := newKernel()
	k.sysctl["promote_secondaries"] = "1"
	for _, want := range []netconfig.Interface{
		{Addresses: []netconfig.Address{slave}},
		{Addresses: []netconfig.Address{addr("192.0.2.7/24"), slave}, Static: []netconfig.Route{route("0.0.0.0/0", "192.0.2.1"), route("10.0.0.0/8", "203.0.113.1")}},
		{Addresses: []netconfig.Address{addr("192.0.2.7/24")}},
		{Addresses: []netconfig.Address{slave}, Static: []netconfig.Route{route("0.0.0.0/0", "192.0.2.1")}},
		{Addresses: []netconfig.Address{addr("203.0.113.7/24"), slave}, Static: []netconfig.Route{route("0.0.0.0/0", "192.0.2.1")},
			Routes: []netconfig.Route{route("0.0.0.0/0", "203.0.113.1"), route("10.0.0.0/8", "203.0.113.1")}},
	} {
		if _, err := Apply(k, want); err != nil {
			t.Fatal(err)
		}
		same := slices.EqualFunc(k.addrs, want.Addresses, func(a, b netconfig.Address) bool { return a.Prefix == b.Prefix && a.Label == b.Label })
		if !same && want.Addresses[0].Masked() == slave.Masked() || len(k.addrs) != len(want.Addresses) {
			t.Errorf("wanted %v, it has %v", want.Addresses, k.addrs)
		}
		if got := k.routes; len(got) != len(wantedRoutes(want)) {
			t.Errorf("wanted %v, it has %v", wantedRoutes(want), got)
		}
		k.did()
		if changes, err := Apply(k, want); len(changes) != 0 || err != nil || k.did() != "" {
			t.Errorf("the second time changed %q, %v", changes, err)
		}
	}
	// The configuration's default route, from the slave, won over the server's.
	for _, r := range k.routes {
		if static := r.Destination == netconfig.Default; r.Static != static || static != (r.Source == slave.Addr()) {
			t.Errorf("route %+v", r)
		}
	}
}

// IPv6: what routers gave stays in the automatic mode and goes in the others.
func TestApply6(t *testing.T) {
	slaac := Address6{Address: addr("2001:db8::5054/64"), Auto: true}
	own := Address6{Address: addr("2001:db8::7/64")}
	for _, test := range []struct {
		want netconfig.Interface6
		ops  string
	}{
		{netconfig.Interface6{Mode: netconfig.ModeAuto}, "RemoveAddress 2001:db8::7/64; RemoveRoute ::/0 via fe80::1"},
		{netconfig.Interface6{Mode: netconfig.ModeStatic, Addresses: []netconfig.Address{own.Address}, Routes: []netconfig.Route{route("::/0", "fe80::1")}},
			"SetAddress 2001:db8::7/64; SetRoute ::/0 via fe80::1"}, // all went with what routers had said
		{netconfig.Interface6{Mode: netconfig.ModeStatic, Addresses: []netconfig.Address{addr("2001:db8:1::7/64")}, Routes: []netconfig.Route{route("::/0", "2001:db8::1")}},
			"SetAddress 2001:db8:1::7/64"},
		{netconfig.Interface6{Mode: netconfig.ModeOff}, ""},
		{netconfig.Interface6{Mode: netconfig.ModeAuto, Routes: []netconfig.Route{route("2001:db8:9::/48", "2001:db8::1")}},
			"RemoveAddress 2001:db8::7/64; SetRoute 2001:db8:9::/48 via 2001:db8::1; RemoveRoute ::/0 via fe80::1"},
	} {
		k := newKernel()
		k.addrs6, k.routes = []Address6{slaac, own}, []Route{{Route: route("::/0", "fe80::1"), Static: true}}
		changes, err := Apply6(k, test.want)
		if got := k.did(); err != nil || got != test.ops {
			t.Errorf("%+v: %q, %q, %v\nwant %q", test.want, got, changes, err, test.ops)
		}
		if changes, err := Apply6(k, test.want); len(changes) != 0 || err != nil || k.did() != "" {
			t.Errorf("%+v: the second time changed %q, %v", test.want, changes, err)
		}
	}
	// A kernel without IPv6 is one in which it is off.
	k := newKernel()
	k.fail["Sysctl"] = fs.ErrNotExist
	for _, mode := range []string{netconfig.ModeAuto, netconfig.ModeOff} {
		if changes, err := Apply6(k, netconfig.Interface6{Mode: mode}); len(changes) != 0 || err != nil {
			t.Errorf("%s: %q, %v", mode, changes, err)
		}
	}
	if _, err := Apply6(k, netconfig.Interface6{Mode: netconfig.ModeStatic, Addresses: []netconfig.Address{own.Address}}); err == nil {
		t.Error("an address of IPv6 in a kernel without: no error")
	}
}

func TestApplyOnLink(t *testing.T) {
	for gw, want := range map[string]bool{"192.0.2.1": false, "203.0.113.1": true} {
		k := newKernel()
		if _, err := Apply(k, netconfig.Interface{Addresses: []netconfig.Address{addr("192.0.2.7/24")}, Routes: []netconfig.Route{route("0.0.0.0/0", gw)}}); err != nil {
			t.Fatal(err)
		}
		if r := k.routes[0]; r.OnLink != want || r.Source != netip.MustParseAddr("192.0.2.7") {
			t.Errorf("%s: %+v", gw, r)
		}
	}
	k := newKernel() // nothing is in the network of a /32 but itself
	Apply(k, netconfig.Interface{Addresses: []netconfig.Address{addr("192.0.2.7/32")}, Routes: []netconfig.Route{route("0.0.0.0/0", "192.0.2.1")}})
	if !k.routes[0].OnLink {
		t.Errorf("%+v", k.routes)
	}
}

// From whatever to whatever: what is wanted is there, nothing else is, and the
// second time changes nothing.
func TestApplyAnything(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	random := func() (i netconfig.Interface) {
		used := map[netip.Prefix]bool{}
		for range r.IntN(4) {
			a := netconfig.Address{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(r.IntN(2)), byte(1 + r.IntN(3))}), 16+8*r.IntN(3))}
			if r.IntN(2) == 0 {
				a.Until = end.Add(time.Duration(r.IntN(10)) * time.Hour)
			}
			if !used[a.Prefix] {
				used[a.Prefix], i.Addresses = true, append(i.Addresses, a)
			}
		}
		for range r.IntN(4) {
			n := netconfig.Route{Destination: netip.PrefixFrom(netip.AddrFrom4([4]byte{20, byte(r.IntN(3))}), 16), Gateway: netip.AddrFrom4([4]byte{10, 0, byte(r.IntN(3)), 9})}
			if !used[n.Destination] {
				used[n.Destination], i.Routes = true, append(i.Routes, n)
			}
		}
		i.MTU = []int{0, 1400, 1500}[r.IntN(3)]
		return i
	}
	for n := range 2000 {
		k := newKernel()
		before, want := random(), random()
		_, err1 := Apply(k, before)
		_, err2 := Apply(k, want)
		if err1 != nil || err2 != nil {
			t.Fatalf("%d: %v, %v", n, err1, err2)
		}
		if len(k.addrs) != len(want.Addresses) || len(k.routes) != len(wantedRoutes(want)) {
			t.Fatalf("%d: from %v to %v: it has %v, %v", n, before, want, k.addrs, k.routes)
		}
		for _, w := range want.Addresses {
			if !slices.Contains(k.addrs, w) {
				t.Fatalf("%d: from %v to %v: it has %v", n, before, want, k.addrs)
			}
		}
		for _, w := range wantedRoutes(want) {
			if !slices.Contains(k.routes, w) {
				t.Fatalf("%d: from %v to %v: it has %v", n, before, want, k.routes)
			}
		}
		k.did()
		if changes, err := Apply(k, want); len(changes) != 0 || err != nil || k.did() != "" {
			t.Fatalf("%d: the second time changed %q, %v", n, changes, err)
		}
	}
}

// A call that fails is told and does not keep the rest; later it is made up for.
func TestApplyErrors(t *testing.T) {
	before := netconfig.Interface{Addresses: []netconfig.Address{addr("192.0.2.7/24"), addr("203.0.113.7/24")},
		Routes: []netconfig.Route{route("10.0.0.0/8", "192.0.2.1"), route("20.0.0.0/8", "192.0.2.1")}}
	want := netconfig.Interface{Addresses: []netconfig.Address{addr("192.0.2.7/24"), addr("198.51.100.7/24")},
		Routes: []netconfig.Route{route("0.0.0.0/0", "192.0.2.1"), route("10.0.0.0/8", "192.0.2.1")}, MTU: 1400}
	all := "SetMTU 1400; RemoveAddress 203.0.113.7/24; SetAddress 198.51.100.7/24; SetRoute 0.0.0.0/0 via 192.0.2.1; RemoveRoute 20.0.0.0/8 via 192.0.2.1"
	for method, ops := range map[string]string{
		"Link": all[len("SetMTU 1400; "):], "SetMTU": all, "RemoveAddress": all, "SetAddress": all, "SetRoute": all, "RemoveRoute": all,
		"Addresses": "SetMTU 1400; SetRoute 0.0.0.0/0 via 192.0.2.1; RemoveRoute 20.0.0.0/8 via 192.0.2.1",
		"Routes":    "SetMTU 1400; RemoveAddress 203.0.113.7/24; SetAddress 198.51.100.7/24",
	} {
		k := newKernel()
		if _, err := Apply(k, before); err != nil {
			t.Fatal(err)
		}
		k.did()
		k.fail[method] = fmt.Errorf("%s: %w", method, errTest)
		changes, err := Apply(k, want)
		if !errors.Is(err, errTest) || !strings.Contains(err.Error(), method) {
			t.Errorf("%s: %v", method, err)
		}
		if got := k.did(); got != ops {
			t.Errorf("%s: did %q\nwant %q", method, got, ops)
		}
		for _, c := range changes {
			if strings.Contains(ops, method+" ") && strings.Contains(c, strings.Fields(strings.SplitAfter(ops, method+" ")[1])[0]) {
				t.Errorf("%s: %q is told as done", method, c)
			}
		}
		delete(k.fail, method)
		if _, err := Apply(k, want); err != nil {
			t.Errorf("after %s: %v", method, err)
		}
		if changes, err := Apply(k, want); len(changes) != 0 || err != nil {
			t.Errorf("after %s: %q, %v", method, changes, err)
		}
	}
}
