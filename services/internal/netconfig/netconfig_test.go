package netconfig

import (
	"net/netip"
	"strings"
	"testing"
)

func TestCheckAddress(t *testing.T) {
	for _, s := range []string{"10.0.2.15/24", "192.0.2.1/31", "192.0.2.0/31", "192.0.2.7/32", "10.255.255.254/8"} {
		if err := CheckAddress(netip.MustParsePrefix(s)); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	for s, want := range map[string]string{
		"0.0.0.0/24":         "0.0.0.0/8",
		"0.1.2.3/24":         "0.0.0.0/8",
		"127.0.0.1/8":        "loopback",
		"169.254.3.4/16":     "link-local",
		"224.0.0.1/24":       "multicast",
		"255.255.255.255/32": "multicast or reserved",
		"10.0.0.1/7":         "want 8 to 32",
		"10.0.0.1/0":         "want 8 to 32",
		"192.0.2.0/24":       "network itself",
		"192.0.2.255/24":     "broadcast address",
		"2001:db8::1/64":     "no IPv4",
	} {
		if err := CheckAddress(netip.MustParsePrefix(s)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", s, err, want)
		}
	}
	if CheckAddress(netip.Prefix{}) == nil {
		t.Error("no address at all is taken")
	}
}

func TestLast(t *testing.T) {
	for in, want := range map[string]string{
		"10.0.2.15/24": "10.0.2.255", "10.1.2.3/8": "10.255.255.255", "192.0.2.9/29": "192.0.2.15", "192.0.2.9/32": "192.0.2.9",
	} {
		if got := Last(netip.MustParsePrefix(in)); got != netip.MustParseAddr(want) {
			t.Errorf("Last(%s) = %v, want %s", in, got, want)
		}
	}
}

func TestCheckRoute(t *testing.T) {
	self := netip.MustParseAddr("10.0.2.15")
	gw := netip.MustParseAddr("10.0.2.2")
	for _, r := range []Route{
		{Default, gw},
		{netip.MustParsePrefix("192.0.2.0/24"), gw},
		{netip.MustParsePrefix("10.0.2.2/32"), netip.Addr{}},
		{Default, netip.MustParseAddr("203.0.113.1")}, // beside the network
	} {
		if err := CheckRoute(r, self); err != nil {
			t.Errorf("%v: %v", r, err)
		}
	}
	for _, r := range []Route{
		{},
		{Default, netip.Addr{}},
		{Default, self},
		{Default, netip.MustParseAddr("224.0.0.1")},
		{netip.MustParsePrefix("127.0.0.0/8"), gw},
		{netip.MustParsePrefix("224.0.0.0/4"), gw},
		{netip.MustParsePrefix("0.0.0.0/1"), gw},
		{netip.MustParsePrefix("192.0.2.1/24"), gw},
		{netip.MustParsePrefix("2001:db8::/32"), gw},
	} {
		if CheckRoute(r, self) == nil {
			t.Errorf("%v is taken", r)
		}
	}
}

func TestCheckName(t *testing.T) {
	long := strings.Repeat("a", 63)
	for _, s := range []string{"a", "example.org", "x-1.EXAMPLE", "_tcp.example.org", long + ".org"} {
		if err := CheckName(s); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, s := range []string{"", ".", "a..b", "a.", "-a", "a-", "a b", "a\nnameserver 192.0.2.1", "a\x00", "é", long + "a",
		strings.Repeat("a.", 127) + "a"} {
		if CheckName(s) == nil {
			t.Errorf("%q is taken", s)
		}
	}
}

func TestResolver(t *testing.T) {
	a := netip.MustParseAddr
	r := Resolver{
		DNS:    []netip.Addr{a("192.0.2.1"), a("192.0.2.2"), a("192.0.2.3"), a("192.0.2.4")},
		Search: []string{"example.org", "example.net"},
	}
	want := "# written by the network service\nnameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\nsearch example.org example.net\n"
	if got := string(r.File()); got != want {
		t.Errorf("got %q\nwant %q", got, want)
	}
	if got := string(Resolver{}.File()); strings.Contains(got, "nameserver") || strings.Contains(got, "search") {
		t.Errorf("without servers: %q", got)
	}
}
