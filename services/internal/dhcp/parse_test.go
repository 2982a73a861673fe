package dhcp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/parley-meet/parley/services/internal/netconfig"
)

func ack(options ...dhcpv4.Option) *dhcpv4.DHCPv4 {
	return answer(&dhcpv4.DHCPv4{ClientHWAddr: mac}, dhcpv4.MessageTypeAck, first, options...)
}

// full is an ACK with every option that is used.
func full() *dhcpv4.DHCPv4 {
	return ack(
		option(3, 192, 0, 2, 1, 192, 0, 2, 2),
		option(6, 192, 0, 2, 3, 198, 51, 100, 1),
		option(12, []byte("parley-7")...),
		option(15, []byte("example.net")...),
		option(26, 0x05, 0x78),
		option(42, 192, 0, 2, 4),
		option(58, 0, 0, 0, 100),
		option(59, 0, 0, 0, 200),
		option(119, []byte("\x07example\x03org\x00\x03lab\xc0\x00")...),
	)
}

func TestParse(t *testing.T) {
	l, problems, err := Parse(full(), noon, nil)
	if err != nil || len(problems) != 0 {
		t.Fatalf("%v, %v", problems, err)
	}
	a := netip.MustParseAddr
	want := &Lease{
		Address:  netip.MustParsePrefix("192.0.2.10/24"),
		Server:   server,
		Routes:   []netconfig.Route{{Destination: netconfig.Default, Gateway: a("192.0.2.1")}},
		DNS:      []netip.Addr{a("192.0.2.3"), a("198.51.100.1")},
		Search:   []string{"example.org", "lab.example.org"},
		NTP:      []netip.Addr{a("192.0.2.4")},
		MTU:      1400,
		Hostname: "parley-7", Domain: "example.net",
		Acquired: noon,
		Renew:    100 * time.Second, Rebind: 200 * time.Second, Length: time.Hour,
	}
	if !reflect.DeepEqual(l, want) {
		t.Errorf("got  %+v\nwant %+v", l, want)
	}
	i := l.Interface()
	if i.MTU != 1400 || len(i.Addresses) != 1 || i.Addresses[0].Prefix != l.Address || !i.Addresses[0].Until.Equal(noon.Add(time.Hour)) {
		t.Errorf("interface %+v", i)
	}
	s := l.State()
	if s.Server != server || !s.Renew.Equal(noon.Add(100*time.Second)) || !s.Rebind.Equal(noon.Add(200*time.Second)) || !s.Expires.Equal(noon.Add(time.Hour)) {
		t.Errorf("state %+v", s)
	}
}

// words is a lease in short.
func words(l *Lease) string {
	var routes []string
	for _, r := range l.Routes {
		if r.Gateway.IsValid() {
			routes = append(routes, fmt.Sprintf("%v>%v", r.Destination, r.Gateway))
		} else {
			routes = append(routes, r.Destination.String())
		}
	}
	return fmt.Sprintf("%v %v dns%v ntp%v %v %q mtu%d %v/%v/%v", l.Address, routes, l.DNS, l.NTP, l.Search, l.Hostname, l.MTU,
		l.Renew, l.Rebind, l.Length)
}

// An option that cannot be used is left out and named; the rest counts.
func TestParseOptions(t *testing.T) {
	const plain = `192.0.2.10/24 [] dns[] ntp[] [] "" mtu0 30m0s/52m30s/1h0m0s`
	with := func(old, new string) string { return strings.Replace(plain, old, new, 1) }
	long := strings.Repeat("x", 64)
	for _, test := range []struct {
		name    string
		o       []dhcpv4.Option
		want    string
		problem string
	}{
		{"none", nil, plain, ""},
		{"no mask", []dhcpv4.Option{option(1)}, plain, "missing: /24 by the class"},
		{"host mask", []dhcpv4.Option{option(1, 255, 255, 255, 255)}, with("/24", "/32"), ""},

		{"router", []dhcpv4.Option{option(3, 192, 0, 2, 1)}, with("[]", "[0.0.0.0/0>192.0.2.1]"), ""},
		{"router outside the network", []dhcpv4.Option{option(3, 10, 0, 0, 1)}, with("[]", "[0.0.0.0/0>10.0.0.1]"), ""},
		{"router of 3 bytes", []dhcpv4.Option{option(3, 192, 0, 2)}, plain, "3 bytes, want a multiple of 4"},
		{"router of 5 bytes", []dhcpv4.Option{option(3, 192, 0, 2, 1, 9)}, plain, "5 bytes, want a multiple of 4"},
		{"router is the own address", []dhcpv4.Option{option(3, 192, 0, 2, 10)}, plain, "is the own address"},
		{"router 0.0.0.0", []dhcpv4.Option{option(3, 0, 0, 0, 0)}, plain, "0.0.0.0/8"},
		{"bad router, good router", []dhcpv4.Option{option(3, 127, 0, 0, 1, 192, 0, 2, 1)}, with("[]", "[0.0.0.0/0>192.0.2.1]"), "loopback"},

		{"classless routes instead of the router", []dhcpv4.Option{option(121, 8, 10, 192, 0, 2, 2, 0, 192, 0, 2, 3, 24, 198, 51, 100, 0, 0, 0, 0), option(3, 192, 0, 2, 1)},
			with("[]", "[10.0.0.0/8>192.0.2.2 0.0.0.0/0>192.0.2.3 198.51.100.0/24]"), ""},
		{"classless routes without a default", []dhcpv4.Option{option(121, 8, 10, 192, 0, 2, 2), option(3, 192, 0, 2, 1)}, with("[]", "[10.0.0.0/8>192.0.2.2]"), ""},
		{"bits behind the mask", []dhcpv4.Option{option(121, 20, 10, 1, 0xff, 192, 0, 2, 2)}, with("[]", "[10.1.240.0/20>192.0.2.2]"), ""},
		{"two routes to one network", []dhcpv4.Option{option(121, 8, 10, 192, 0, 2, 2, 8, 10, 192, 0, 2, 3)}, with("[]", "[10.0.0.0/8>192.0.2.2]"), "another route to 10.0.0.0/8"},
		{"mask of 33 bits", []dhcpv4.Option{option(121, 33, 10, 0, 0, 0, 0, 192, 0, 2, 2), option(3, 192, 0, 2, 1)}, with("[]", "[0.0.0.0/0>192.0.2.1]"), "not a list of routes"},
		{"half a route", []dhcpv4.Option{option(121, 8, 10, 192, 0), option(3, 192, 0, 2, 1)}, with("[]", "[0.0.0.0/0>192.0.2.1]"), "not a list of routes"},
		{"default route to the link", []dhcpv4.Option{option(121, 0, 0, 0, 0, 0)}, plain, "without a gateway"},
		{"route to loopback", []dhcpv4.Option{option(121, 8, 127, 192, 0, 2, 2)}, plain, "no network of hosts"},
		{"route to multicast", []dhcpv4.Option{option(121, 4, 224, 192, 0, 2, 2)}, plain, "no network of hosts"},
		{"gateway is a broadcast", []dhcpv4.Option{option(121, 8, 10, 255, 255, 255, 255)}, plain, "gateway"},

		{"DNS twice", []dhcpv4.Option{option(6, 192, 0, 2, 3, 192, 0, 2, 3)}, with("dns[]", "dns[192.0.2.3]"), ""},
		{"DNS multicast", []dhcpv4.Option{option(6, 224, 0, 0, 1, 192, 0, 2, 3)}, with("dns[]", "dns[192.0.2.3]"), "multicast"},
		{"DNS of 6 bytes", []dhcpv4.Option{option(6, 192, 0, 2, 3, 1, 1)}, plain, "6 bytes"},
		{"NTP of 1 byte", []dhcpv4.Option{option(42, 1)}, plain, "1 bytes"},
		{"NTP link-local", []dhcpv4.Option{option(42, 169, 254, 1, 1)}, plain, "link-local"},

		{"domain alone", []dhcpv4.Option{option(15, []byte("example.net.\x00\x00")...)}, with("ntp[] []", "ntp[] [example.net]"), ""},
		{"domain with a line break", []dhcpv4.Option{option(15, []byte("a\nnameserver 203.0.113.66")...)}, plain, `byte 0x0a`},
		{"domain with a space", []dhcpv4.Option{option(15, []byte("example.net example.org")...)}, plain, `byte 0x20`},
		{"search with a bad name", []dhcpv4.Option{option(119, []byte("\x03a b\x00\x03org\x00")...)}, with("ntp[] []", "ntp[] [org]"), "byte 0x20"},
		{"search with bad names only", []dhcpv4.Option{option(119, []byte("\x03a b\x00")...), option(15, []byte("example.net")...)}, with("ntp[] []", "ntp[] [example.net]"), "byte 0x20"},
		{"search with a dot in a label", []dhcpv4.Option{option(119, []byte("\x03a.b\x00")...)}, with("ntp[] []", "ntp[] [a.b]"), ""},
		{"search cut off", []dhcpv4.Option{option(119, []byte("\x30abc")...)}, plain, "not a list of names"},
		{"search that points to itself", []dhcpv4.Option{option(119, 0xc0, 0)}, plain, "not a list of names"},
		{"search that points nowhere", []dhcpv4.Option{option(119, []byte("\x01a\xc0\xff")...)}, with("ntp[] []", "ntp[] [a]"), ""},
		{"search of seven names", []dhcpv4.Option{option(119, []byte("\x01a\x00\x01b\x00\x01c\x00\x01d\x00\x01e\x00\x01f\x00\x01g\x00")...)},
			with("ntp[] []", "ntp[] [a b c d e f]"), "the first 6 are used"},

		{"host name with a NUL", []dhcpv4.Option{option(12, []byte("parley\x00")...)}, with(`""`, `"parley"`), ""},
		{"host name of control characters", []dhcpv4.Option{option(12, []byte("\x1b[2J")...)}, plain, `byte 0x1b`},
		{"host name of a long label", []dhcpv4.Option{option(12, []byte(long)...)}, plain, "label of 64 bytes"},
		{"host name of NULs", []dhcpv4.Option{option(12, 0, 0, 0)}, plain, "0 bytes, want 1 to 253"},

		{"smallest MTU", []dhcpv4.Option{option(26, 2, 0x40)}, with("mtu0", "mtu576"), ""},
		{"too small MTU", []dhcpv4.Option{option(26, 2, 0x3f)}, plain, "MTU 575"},
		{"too large MTU", []dhcpv4.Option{option(26, 0xff, 0xff)}, plain, "MTU 65535"},
		{"MTU of 1 byte", []dhcpv4.Option{option(26, 5)}, plain, "1 bytes, want 2"},
		{"MTU of 4 bytes", []dhcpv4.Option{option(26, 0, 0, 5, 0x78)}, plain, "4 bytes, want 2"},

		{"T1 alone", []dhcpv4.Option{option(58, 0, 0, 0, 60)}, with("30m0s", "1m0s"), ""},
		{"T2 before the default T1", []dhcpv4.Option{option(59, 0, 0, 0, 60)}, plain, "are used"},
		{"T1 of 0", []dhcpv4.Option{option(58, 0, 0, 0, 0)}, plain, "are used"},
		{"T1 behind the end", []dhcpv4.Option{option(58, 0xff, 0xff, 0xff, 0xff)}, plain, "are used"},
		{"T1 is T2", []dhcpv4.Option{option(58, 0, 0, 0, 9), option(59, 0, 0, 0, 9)}, plain, "are used"},
		{"T2 is the end", []dhcpv4.Option{option(59, 0, 0, 0x0e, 0x10)}, plain, "are used"},
		{"T1 of 2 bytes", []dhcpv4.Option{option(58, 1, 1)}, plain, "2 bytes, want 4"},
		{"shortest", []dhcpv4.Option{lasting(4 * time.Second)}, with("30m0s/52m30s/1h0m0s", "2s/3s/4s"), ""},
		{"for ever", []dhcpv4.Option{lasting(Forever)}, with("30m0s/52m30s/1h0m0s", "596523h14m7s/1043915h39m43s/1193046h28m15s"), ""},
	} {
		l, problems, err := Parse(ack(test.o...), noon, nil)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if got := words(l); got != test.want {
			t.Errorf("%s:\n got %s\nwant %s", test.name, got, test.want)
		}
		if got := errors.Join(problems...); (test.problem == "") != (got == nil) || got != nil && !strings.Contains(got.Error(), test.problem) {
			t.Errorf("%s: problems %v, want %q", test.name, got, test.problem)
		}
	}
}

// Without these there is no lease.
func TestParseErrors(t *testing.T) {
	for want, o := range map[string][]dhcpv4.Option{
		"subnet mask of 3 bytes":             {option(1, 255, 255, 255)},
		"subnet mask of 8 bytes":             {option(1, 255, 255, 255, 0, 255, 255, 255, 0)},
		"is no row of ones":                  {option(1, 0, 255, 255, 0)},
		"prefix length 0":                    {option(1, 0, 0, 0, 0)},
		"prefix length 7":                    {option(1, 254, 0, 0, 0)},
		"no server identifier":               {option(54)},
		"server identifier of 8 bytes":       {option(54, 192, 0, 2, 1, 192, 0, 2, 2)},
		"server: 0.0.0.0 is":                 {option(54, 0, 0, 0, 0)},
		"no lease time":                      {option(51, 1, 2, 3)},
		"lease of 0s, want 4s to 1193046h28": {option(51, 0, 0, 0, 0)},
	} {
		if l, _, err := Parse(ack(o...), noon, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v, %v, want %q", l, err, want)
		}
	}
	m := ack()
	m.YourIPAddr = nil
	if _, _, err := Parse(m, noon, nil); err == nil {
		t.Error("no address is taken")
	}
	// Another lease's values do not stand in.
	m = ack(option(51))
	prev := knownLease(noon)
	prev.Address = netip.PrefixFrom(second, 24)
	if _, _, err := Parse(m, noon, prev); err == nil {
		t.Error("the length of another address's lease is taken")
	}
}

// What is told of a message that is all problems stays short.
func TestProblemsAreBounded(t *testing.T) {
	var servers, names []byte
	for range 300 {
		servers = append(servers, 127, 0, 0, 1)
		names = append(names, 3, 'a', ' ', 'b', 0)
	}
	m := ack(option(6, servers...), option(42, servers...), option(119, names...), option(12, names...), option(54, servers...))
	_, problems, err := Parse(m, noon, nil)
	if len(problems) > maxProblems || err == nil || len(err.Error()) > 200 {
		t.Errorf("%d problems, %.300v", len(problems), err)
	}
	m.UpdateOption(serverID(server))
	l, problems, err := Parse(m, noon, nil)
	if err != nil || len(l.DNS) != 0 || len(problems) != maxProblems {
		t.Errorf("%+v, %d problems, %v", l, len(problems), err)
	}
	for _, p := range problems {
		if len(p.Error()) > 500 {
			t.Errorf("a problem of %d bytes: %.100v", len(p.Error()), p)
		}
	}
	var good, routes []byte
	for i := range 100 {
		good = append(good, 192, 0, 2, byte(i+1))
		routes = append(routes, 32, 10, 0, 0, byte(i+1), 192, 0, 2, 1)
	}
	l, problems, err = Parse(ack(option(6, good...), option(42, good...), option(121, routes...)), noon, nil)
	if err != nil || len(l.DNS) != maxAddresses || len(l.NTP) != maxAddresses || len(l.Routes) != maxRoutes || len(problems) == 0 {
		t.Errorf("%+v, %d problems, %v", l, len(problems), err)
	}
}

// Whatever a server sends, a lease that comes out may be used, can be kept, and
// is the same when it is read again.
func FuzzParse(f *testing.F) {
	for _, m := range []*dhcpv4.DHCPv4{
		full(), ack(), ack(option(119, 0xc0, 0, 1, 'a', 0xc0, 0)),
		ack(option(121, 8, 10, 192, 0, 2, 2, 0, 192, 0, 2, 3), option(1), option(51)),
	} {
		f.Add(uint32(0xc000020a), m.Options.ToBytes())
	}
	f.Fuzz(func(t *testing.T, a uint32, options []byte) {
		m := ack()
		m.YourIPAddr = binary.BigEndian.AppendUint32(nil, a)
		m.Options = dhcpv4.Options{}
		if err := m.Options.FromBytes(options); err != nil {
			return
		}
		for _, prev := range []*Lease{nil, knownLease(noon)} {
			l, problems, err := Parse(m, noon, prev)
			if len(problems) > maxProblems || err != nil && len(err.Error()) > 1000 {
				t.Fatalf("%d problems, %v", len(problems), err)
			}
			if err != nil {
				continue
			}
			if err := l.check(); err != nil {
				t.Fatalf("%+v: %v", l, err)
			}
			b, err := l.Encode(mac)
			if err != nil {
				t.Fatal(err)
			}
			again, err := Decode(b, mac, noon)
			if err != nil {
				t.Fatalf("what was kept is refused: %v\n%s", err, b)
			}
			if words(again) != words(l) || again.Server != l.Server || !again.Acquired.Equal(l.Acquired) {
				t.Fatalf("kept %s\nread %s", words(l), words(again))
			}
			file := string(netconfig.Resolver{DNS: l.DNS, Search: l.Search}.File())
			for _, line := range strings.Split(strings.TrimSuffix(file, "\n"), "\n")[1:] {
				if f := strings.Fields(line); f[0] != "nameserver" && f[0] != "search" {
					t.Fatalf("resolver's file:\n%s", file)
				}
			}
		}
	})
}

// The lease file of each released version is read for ever.
func TestLeaseFile(t *testing.T) {
	b, err := os.ReadFile("testdata/lease-v1.json")
	if err != nil {
		t.Fatal(err)
	}
	l, err := Decode(b, mac, noon.Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	want, _, err := Parse(full(), noon, nil)
	if err != nil {
		t.Fatal(err)
	}
	if words(l) != words(want) || !l.Acquired.Equal(noon) || l.Server != server {
		t.Errorf("read %s\nwant %s", words(l), words(want))
	}
	again, err := l.Encode(mac)
	if err != nil || string(again) != string(b) {
		t.Errorf("written again, %v:\n%s", err, again)
	}
}

func TestDecodeErrors(t *testing.T) {
	b, err := os.ReadFile("testdata/lease-v1.json")
	if err != nil {
		t.Fatal(err)
	}
	with := func(old, new string) string {
		if !strings.Contains(string(b), old) {
			t.Fatalf("the file has no %s", old)
		}
		return strings.Replace(string(b), old, new, 1)
	}
	for in, want := range map[string]string{
		"":                                     "unexpected end",
		"{}":                                   "version 0, want 1",
		with(`"version": 1`, `"version": 2`):   "version 2, want 1",
		with(`"version": 1`, `"version": "1"`): "cannot unmarshal",
		with(`"mtu"`, `"mtus"`):                "unknown field",
		string(b[:len(b)/2]):                   "unexpected end",
		with("52:54:00:01:02:03", "52:54:00:01:02:04"):                  "lease of hardware address",
		with("2026-03-01T12:00:00Z", "2026-03-01T12:00:01Z"):            "in the future",
		with("192.0.2.10/24", "192.0.2.255/24"):                         "broadcast address",
		with("192.0.2.10/24", "2001:db8::1/64"):                         "no IPv4 address",
		with("192.0.2.10/24", "::ffff:192.0.2.10/120"):                  "address",
		with("192.0.2.10/24", "192.0.2.10"):                             "no '/'",
		with(`"server": "192.0.2.1"`, `"server": ""`):                   "server",
		with(`"gateway": "192.0.2.1"`, `"gateway": "192.0.2.10"`):       "own address",
		with(`"192.0.2.3"`, `"127.0.0.1"`):                              "loopback",
		with(`"example.org"`, `"example.org\nnameserver 203.0.113.66"`): "byte 0x0a",
		with(`"parley-7"`, `"\u001b[2J"`):                               "byte 0x1b",
		with(`"mtu": 1400`, `"mtu": 100`):                               "MTU 100",
		with(`"mtu": 1400`, `"mtu": -1`):                                "MTU -1",
		with(`"renewSeconds": 100`, `"renewSeconds": 0`):                "want them to rise",
		with(`"renewSeconds": 100`, `"renewSeconds": 200`):              "want them to rise",
		with(`"lengthSeconds": 3600`, `"lengthSeconds": 200`):           "want them to rise",
		with(`"lengthSeconds": 3600`, `"lengthSeconds": 1`):             "lease of 1s",
		with(`"lengthSeconds": 3600`, `"lengthSeconds": 4294967296`):    "cannot unmarshal",
		with(`"dns": [`, `"dns": [`+strings.Repeat(`"192.0.2.99",`, 8)): "10 DNS",
		strings.Repeat(" ", MaxFileSize+1):                              "want at most",
	} {
		if l, err := Decode([]byte(in), mac, noon); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.50q: %+v, %v, want %q", in, l, err, want)
		}
	}
}

// The lease's end is a duration from now on: a wall clock that steps later does
// not move it.
func TestDecodeCountsFromNow(t *testing.T) {
	now := time.Now()
	kept := knownLease(now)
	b, err := kept.Encode(mac)
	if err != nil {
		t.Fatal(err)
	}
	l, err := Decode(b, mac, now)
	if err != nil {
		t.Fatal(err)
	}
	if d := l.Expires().Sub(now); d != 50*time.Minute {
		t.Errorf("ends in %v, want 50 minutes", d)
	}
	if !strings.Contains(l.Acquired.String(), "m=") {
		t.Errorf("acquired at %v: no reading of the monotonic clock", l.Acquired)
	}
}

func FuzzDecode(f *testing.F) {
	b, err := os.ReadFile("testdata/lease-v1.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"version":1,"hardwareAddress":"52:54:00:01:02:03","acquired":"0001-01-01T00:00:00Z"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := Decode(b, mac, noon)
		if err != nil {
			return
		}
		m := newBench(l, true)
		m.Carrier(m.now, true)
		for range 10 {
			m.due(t)
		}
	})
}
