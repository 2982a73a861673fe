package netconfig

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/parley-meet/parley/services/internal/fault"
)

// full is an Input with something in every field.
func full(t testing.TB) Input {
	t.Helper()
	var in Input
	err := json.Unmarshal([]byte(`{
		"hostname": "parley-1.example.org",
		"eth0": {"mode": "static", "address": "192.0.2.10/24", "netmask": "", "gateway": "192.0.2.1", "mtu": "1400"},
		"ipv6": {"mode": "static", "address": "2001:db8::10/64", "gateway": "fe80::1"},
		"slave": "192.0.2.11/24",
		"routes": [{"destination": "10.20.0.0/16", "gateway": "192.0.2.2"}, {"destination": "2001:db8:1::/48", "gateway": "2001:db8::2"}],
		"dns": {"servers": ["192.0.2.53", " 2001:db8::53 ", ""], "search": ["example.org", "Example.NET."]},
		"ntp": {"servers": ["192.0.2.123", "time.example.org"], "off": true},
		"proxy": {"host": "proxy.example.org", "port": "3128", "user": "box", "password": "secret", "except": ["10.0.0.0/8", "*.example.org", "192.0.2.7"]},
		"firewall": {"allow": {"console": ["192.0.2.0/24", "2001:db8::7"], "https": ["", " "]}}
	}`), &in)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func TestInput(t *testing.T) {
	c, err := full(t).Config(DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	secret := "secret"
	p, a := netip.MustParsePrefix, netip.MustParseAddr
	want := Config{
		Version: ConfigVersion, Hostname: "parley-1.example.org",
		Eth0:   Master{Mode: ModeStatic, Address: p("192.0.2.10/24"), Gateway: a("192.0.2.1"), MTU: 1400},
		IPv6:   IPv6{Mode: ModeStatic, Address: p("2001:db8::10/64"), Gateway: a("fe80::1")},
		Slave:  p("192.0.2.11/24"),
		Routes: []Route{{p("10.20.0.0/16"), a("192.0.2.2")}, {p("2001:db8:1::/48"), a("2001:db8::2")}},
		DNS:    DNS{Servers: []netip.Addr{a("192.0.2.53"), a("2001:db8::53")}, Search: []string{"example.org", "example.net"}},
		NTP:    NTP{Servers: []string{"192.0.2.123", "time.example.org"}, Off: true},
		Proxy: Proxy{Host: "proxy.example.org", Port: 3128, User: "box", Password: &secret, PasswordSet: true,
			Except: []string{"10.0.0.0/8", "example.org", "192.0.2.7"}},
		Firewall: Firewall{Allow: map[string][]netip.Prefix{"console": {p("192.0.2.0/24"), p("2001:db8::7/128")}}},
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
	if c, err := DefaultConfig().Input().Config(DefaultConfig()); err != nil || !reflect.DeepEqual(c, DefaultConfig()) {
		t.Errorf("the default configuration comes back as %+v, %v", c, err)
	}
}

// Each wrong value is told at its field, with the code of its text, and nothing
// else is.
func TestInputBad(t *testing.T) {
	long := strings.Repeat("a", 400)
	set := func(f func(in *Input)) func(*Input) { return f }
	address := func(s string) func(*Input) { return func(in *Input) { in.Eth0.Address = s } }
	route := func(dst, gw string) func(*Input) {
		return func(in *Input) { in.Routes[0].Destination, in.Routes[0].Gateway = dst, gw }
	}
	for _, test := range []struct {
		spoil func(*Input)
		want  string
	}{
		{set(func(in *Input) { in.Hostname = "a b" }), "hostname: host-name"},
		{set(func(in *Input) { in.Hostname = "a_b" }), "hostname: host-name"},
		{set(func(in *Input) { in.Hostname = "192.0.2.1" }), "hostname: host-name"},
		{set(func(in *Input) { in.Hostname = "a;reboot" }), "hostname: host-name"},
		{set(func(in *Input) { in.Hostname = "$(reboot)" }), "hostname: host-name"},
		{set(func(in *Input) { in.Hostname = "a\x00b" }), "hostname: control-character"},
		{set(func(in *Input) { in.Hostname = strings.Repeat("a.", 40) + "b" }), "hostname: long"},
		{set(func(in *Input) { in.Hostname = long }), "hostname: long"},
		{set(func(in *Input) { in.Eth0.Mode = "" }), "eth0.mode: choice"},
		{set(func(in *Input) { in.Eth0.Mode = "auto\n" }), "eth0.mode: control-character"},
		{address(""), "eth0.address: required"},
		{address("300.1.1.1/24"), "eth0.address: address-with-length"},
		{address("192.0.2.10"), "eth0.address: address-with-length"},
		{address("192.0.2.10/33"), "eth0.address: address-with-length"},
		{address("192.0.2.010/24"), "eth0.address: address-with-length"},
		{address("2001:db8::1/64"), "eth0.address: address-with-length"},
		{address("192.0.2.10/24; reboot"), "eth0.address: address-with-length"},
		{address("192.0.2.10/24\x1b[2J"), "eth0.address: control-character"},
		{address("192.0.2.10/24\xff"), "eth0.address: control-character"},
		{address(long), "eth0.address: long"},
		{address("192.0.2.0/24"), "eth0.address: network-address"},
		{address("192.0.2.255/24"), "eth0.address: broadcast-address"},
		{address("192.0.2.10/4"), "eth0.address: length"},
		{address("0.0.0.0/24"), "eth0.address: address-zero"},
		{address("127.0.0.1/8"), "eth0.address: address-loopback"},
		{address("169.254.1.1/16"), "eth0.address: address-link-local"},
		{address("224.0.0.5/24"), "eth0.address: address-multicast"},
		{set(func(in *Input) { in.Eth0.Netmask = "255.0.255.0" }), "eth0.netmask: netmask"},
		{set(func(in *Input) { in.Eth0.Netmask = "255.255.0.0" }), "eth0.netmask: netmask-differs"},
		{set(func(in *Input) { in.Eth0.Gateway = "192.0.2" }), "eth0.gateway: address-ipv4"},
		{set(func(in *Input) { in.Eth0.Gateway = "fe80::1" }), "eth0.gateway: address-ipv4"},
		{set(func(in *Input) { in.Eth0.Gateway = "192.0.3.1" }), "eth0.gateway: gateway-outside"},
		{set(func(in *Input) { in.Eth0.Gateway = "192.0.2.10" }), "eth0.gateway: gateway-is-own"},
		{set(func(in *Input) { in.Eth0.Gateway = "192.0.2.0" }), "eth0.gateway: network-address"},
		{set(func(in *Input) { in.Eth0.Gateway = "192.0.2.255" }), "eth0.gateway: broadcast-address"},
		{set(func(in *Input) { in.Eth0.MTU = "100" }), "eth0.mtu: number"},
		{set(func(in *Input) { in.Eth0.MTU = "9001" }), "eth0.mtu: number"},
		{set(func(in *Input) { in.Eth0.MTU = "+1400" }), "eth0.mtu: number"},
		{set(func(in *Input) { in.Eth0.MTU = "99999999999999999999" }), "eth0.mtu: number"},
		{set(func(in *Input) { in.Eth0.MTU = "1000" }), "eth0.mtu: mtu-ipv6"},
		{set(func(in *Input) { in.IPv6.Mode = "on" }), "ipv6.mode: choice"},
		{set(func(in *Input) { in.IPv6.Address = "" }), "ipv6.address: required"},
		{set(func(in *Input) { in.IPv6.Address = "2001:db8::10" }), "ipv6.address: address-with-length-ipv6"},
		{set(func(in *Input) { in.IPv6.Address = "::ffff:192.0.2.1/96" }), "ipv6.address: address-with-length-ipv6"},
		{set(func(in *Input) { in.IPv6.Address = "2001:db8::/64" }), "ipv6.address: network-address"},
		{set(func(in *Input) { in.IPv6.Address = "fe80::7/64" }), "ipv6.address: address-link-local"},
		{set(func(in *Input) { in.IPv6.Gateway = "2001:db9::1" }), "ipv6.gateway: gateway-outside"},
		{set(func(in *Input) { in.IPv6.Gateway = "fe80::1%eth0" }), "ipv6.gateway: address-ipv6"},
		{set(func(in *Input) { in.IPv6.Gateway = "ff02::1" }), "ipv6.gateway: address-multicast"},
		{set(func(in *Input) { in.Slave = "192.0.2.10/24" }), "slave: slave-is-master"},
		{set(func(in *Input) { in.Slave = "192.0.2.11" }), "slave: address-with-length"},
		{route("", "192.0.2.2"), "routes.0.destination: required"},
		{route("10.20.0.0/16", ""), "routes.0.gateway: required"},
		{route("10.20.0.1/16", "192.0.2.2"), "routes.0.destination: network-host-bits"},
		{route("0.0.0.0/0", "192.0.2.2"), "routes.0.destination: route-default"},
		{route("ten", "192.0.2.2"), "routes.0.destination: network"},
		{route("224.0.0.0/8", "192.0.2.2"), "routes.0.destination: route-no-hosts"},
		{route("192.0.2.128/25", "192.0.2.2"), "routes.0.destination: route-is-own"},
		{route("10.20.0.0/16", "203.0.113.1"), "routes.0.gateway: route-gateway-outside"},
		{route("10.20.0.0/16", "192.0.2.11"), "routes.0.gateway: gateway-is-own"},
		{route("10.20.0.0/16", "2001:db8::2"), "routes.0.gateway: route-families"},
		{route("10.20.0.0/16", "gw"), "routes.0.gateway: address-any"},
		{set(func(in *Input) { in.Routes = append(in.Routes, in.Routes[0]) }), "routes.2.destination: in-list-already"},
		{set(func(in *Input) {
			for i := range 40 {
				r := in.Routes[0]
				r.Destination = fmt.Sprintf("10.%d.0.0/16", 30+i)
				in.Routes = append(in.Routes, r)
			}
		}), "routes: many"},
		{set(func(in *Input) { in.IPv6.Mode = ModeOff }), "routes.1.destination: route-ipv6-off"},
		{set(func(in *Input) { in.DNS.Servers[1] = "dns.example.org" }), "dns.servers.1: address-any"},
		{set(func(in *Input) { in.DNS.Servers[1] = "127.0.0.53" }), "dns.servers.1: address-loopback"},
		{set(func(in *Input) { in.DNS.Servers = append(in.DNS.Servers, "192.0.2.53") }), "dns.servers.3: in-list-already"},
		{set(func(in *Input) { in.DNS.Servers = []string{"1.1.1.1", "1.1.1.2", "1.1.1.3", "1.1.1.4"} }), "dns.servers: many"},
		{set(func(in *Input) { in.DNS.Search[0] = "example.org\nnameserver 6.6.6.6" }), "dns.search.0: control-character"},
		{set(func(in *Input) { in.DNS.Search[0] = "example..org" }), "dns.search.0: domain-name"},
		{set(func(in *Input) { in.NTP.Servers[1] = "http://time" }), "ntp.servers.1: time-server"},
		{set(func(in *Input) { in.NTP.Servers[1] = "0.0.0.0" }), "ntp.servers.1: time-server"},
		{set(func(in *Input) { in.Proxy.Host = "http://proxy" }), "proxy.host: proxy-host"},
		{set(func(in *Input) { in.Proxy.Host = "" }), "proxy.host: required"},
		{set(func(in *Input) { in.Proxy.Port = "" }), "proxy.port: required"},
		{set(func(in *Input) { in.Proxy.Port = "70000" }), "proxy.port: number"},
		{set(func(in *Input) { in.Proxy.User = "a:b" }), "proxy.user: proxy-user"},
		{set(func(in *Input) { in.Proxy.User = "" }), "proxy.user: required"},
		{set(func(in *Input) { s := "a\r\nb"; in.Proxy.Password = &s }), "proxy.password: control-character"},
		{set(func(in *Input) { in.Proxy.Except[0] = "10.0.0.1/8" }), "proxy.except.0: network-host-bits"},
		{set(func(in *Input) { in.Proxy.Except[0] = "*example" }), "proxy.except.0: proxy-except"},
		{set(func(in *Input) { in.Proxy.Except[0] = "10.0.0.256" }), "proxy.except.0: proxy-except"},
		{set(func(in *Input) { in.Firewall.Allow["ssh"] = []string{"10.0.0.0/8"} }), "firewall.allow: firewall-port"},
		{set(func(in *Input) { in.Firewall.Allow["console"][1] = "10.0.0.1/8" }), "firewall.allow.console.1: network-host-bits"},
		{set(func(in *Input) { in.Firewall.Allow["console"][1] = "all" }), "firewall.allow.console.1: network"},
	} {
		in := full(t)
		test.spoil(&in)
		_, err := in.Config(DefaultConfig())
		if err == nil || err.Error() != test.want {
			t.Errorf("got %v, want %s", err, test.want)
		}
	}
}

// Every code has its text in both languages, and the text takes its values.
func TestFaultTexts(t *testing.T) {
	for _, lang := range []string{"en", "ru"} {
		texts := map[string]string{}
		for _, topic := range []string{"general", "network"} {
			b, err := fs.ReadFile(fault.Words, "words/"+lang+"-"+topic+".json")
			if err == nil {
				err = json.Unmarshal(b, &texts)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		in := full(t)
		in.Eth0, in.IPv6, in.Slave = MasterInput{Mode: ModeStatic, Address: "192.0.2.10/2", Gateway: "x", MTU: "7"}, IPv6Input{Mode: "no"}, "192.0.2.0/24"
		in.Hostname, in.Routes[0].Destination, in.Routes[1].Gateway, in.DNS.Servers[0] = "a b", "0.0.0.0/0", "192.0.2.2", "127.0.0.1"
		in.Firewall.Allow["ssh"], in.NTP.Servers[0], in.Proxy.Port = nil, "a b", "x"
		_, err := in.Config(DefaultConfig())
		if len(fault.Of(err)) < 10 {
			t.Fatalf("only %v", err)
		}
		for _, f := range fault.Of(err) {
			text, ok := texts["fault."+f.Code]
			if got := fmt.Sprintf(text, f.Args...); !ok || strings.Contains(got, "%!") {
				t.Errorf("%s: %s: %q", lang, f.Code, got)
			}
		}
	}
}

// The password stays when nothing is said of it, goes when an empty one is
// given, and is told to nobody.
func TestProxyPassword(t *testing.T) {
	saved, err := full(t).Config(DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	public := saved.Public()
	if b, _ := json.Marshal(public); strings.Contains(string(b), "secret") || !public.Proxy.PasswordSet || saved.Proxy.Password == nil {
		t.Errorf("public %s", b)
	}
	in := public.Input()
	for name, old := range map[string]Config{"saved": saved, "public": public} {
		c, err := in.Config(old)
		if err != nil || !reflect.DeepEqual(c.Keep(saved), saved) {
			t.Errorf("%s: %+v, %v", name, c.Keep(saved), err)
		}
	}
	for _, c := range []Config{saved, public} {
		if got, err := c.Check(); err != nil || !reflect.DeepEqual(got, c) {
			t.Errorf("checked: %+v, %v\nwant %+v", got, err, c)
		}
	}
	other := in
	other.Proxy.Host = "proxy.attacker.example"
	if _, err := other.Config(public); !fault.Of(err).Has("proxy.password") {
		t.Errorf("another server: %v, want that the password is asked for", err)
	}
	stolen := public
	stolen.Proxy.Host = "proxy.attacker.example"
	if c := stolen.Keep(saved); c.Proxy.Password != nil || c.Proxy.PasswordSet {
		t.Error("another server gets the saved password")
	}
	none := ""
	in.Proxy.Password = &none
	if c, err := in.Config(saved); err != nil || c.Keep(saved).Proxy.Password != nil || c.Keep(saved).Proxy.PasswordSet {
		t.Errorf("taken away: %+v, %v", c.Proxy, err)
	}
	in.Proxy.Password, in.Proxy.User = nil, ""
	if c, err := in.Config(saved); err != nil || c.Keep(saved).Proxy.PasswordSet {
		t.Errorf("without a user: %+v, %v", c.Proxy, err)
	}
}

func TestSaveConfig(t *testing.T) {
	path := filepath.Join(t.TempDir(), ConfigFile)
	c, err := LoadConfig(path)
	if !errors.Is(err, fs.ErrNotExist) || !reflect.DeepEqual(c, DefaultConfig()) {
		t.Errorf("without a file: %+v, %v", c, err)
	}
	want, err := full(t).Config(DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	if err := SaveConfig(path, want); err != nil {
		t.Fatal(err)
	}
	got, err := LoadConfig(path)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
	if i, err := os.Stat(path); err != nil || i.Mode() != 0o640 {
		t.Errorf("mode %v, %v", i.Mode(), err)
	}
	want.Eth0.Mode = "no"
	if err := SaveConfig(path, want); fault.Of(err) == nil {
		t.Errorf("what cannot be read again is saved: %v", err)
	}
}

func TestParseConfigBad(t *testing.T) {
	for in, want := range map[string]string{
		``:              "unexpected end",
		`{}`:            "version 0, want 1",
		`{"version":2}`: "version 2, want 1",
		`{"version":1}`: "eth0.mode: choice",
		`{"version":1,"eth0":{"mode":"dhcp"},"ipv6":{"mode":"auto"},"gateway":""}`:                            "unknown field",
		`{"version":1,"eth0":{"mode":"dhcp"},"ipv6":{"mode":"auto"},"slave":"x"}`:                             "netip.ParsePrefix",
		`{"version":1,"eth0":{"mode":"static","address":"192.0.2.0/24","mtu":0},"ipv6":{"mode":"auto"}}`:      "eth0.address: network-address",
		`{"version":1,"eth0":{"mode":"dhcp"},"ipv6":{"mode":"auto"},"routes":[{"destination":"10.0.0.0/8"}]}`: "routes.0.gateway: required",
		strings.Repeat(" ", MaxConfigSize+1):                                                                  "want at most",
	} {
		if _, err := ParseConfig([]byte(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v, want %q", in, err, want)
		}
	}
}

// survives holds that an accepted configuration comes back from its file and
// from its text as it was.
func survives(t interface{ Fatalf(string, ...any) }, c Config) {
	b, err := c.Encode()
	if err != nil {
		t.Fatalf("Encode(%+v): %v", c, err)
	}
	want := c.settled()
	if got, err := ParseConfig(b); err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("from the file %+v, %v\nwant %+v", got, err, want)
	}
	if got, err := c.Input().Config(c); err != nil || !reflect.DeepEqual(got.Keep(c), want) {
		t.Fatalf("from the text %+v, %v\nwant %+v", got, err, want)
	}
}

func TestRoundTrips(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v4 := rapid.Custom(func(t *rapid.T) string {
			return fmt.Sprintf("192.0.%d.%d", rapid.IntRange(0, 3).Draw(t, "net"), rapid.IntRange(0, 255).Draw(t, "host"))
		})
		v6 := rapid.Custom(func(t *rapid.T) string { return fmt.Sprintf("2001:db8::%x", rapid.IntRange(0, 9).Draw(t, "host")) })
		prefix := func(a *rapid.Generator[string], lengths ...int) *rapid.Generator[string] {
			return rapid.Custom(func(t *rapid.T) string {
				return a.Draw(t, "address") + fmt.Sprintf("/%d", rapid.SampledFrom(lengths).Draw(t, "length"))
			})
		}
		nets := rapid.OneOf(prefix(v4, 24, 32), prefix(v6, 64, 128), v4, v6, rapid.SampledFrom([]string{"10.0.0.0/8", "192.0.2.0/24", "2001:db8:7::/48", ""}))
		names := rapid.OneOf(v4, v6, rapid.SampledFrom([]string{"a.example", "B.Example.", "*.example", "x", " y ", ""}), rapid.String())
		var in Input
		in.Hostname = names.Draw(t, "hostname")
		in.Eth0 = MasterInput{Mode: rapid.SampledFrom([]string{"dhcp", "static"}).Draw(t, "mode"), Address: prefix(v4, 24, 31, 32).Draw(t, "address"),
			Gateway: rapid.OneOf(rapid.Just(""), v4).Draw(t, "gateway"), MTU: rapid.SampledFrom([]string{"", "0", "1400", "1000"}).Draw(t, "mtu")}
		in.IPv6 = IPv6Input{Mode: rapid.SampledFrom([]string{"auto", "static", "off"}).Draw(t, "mode6"), Address: prefix(v6, 64, 128).Draw(t, "address6"),
			Gateway: rapid.OneOf(rapid.SampledFrom([]string{"", "fe80::1"}), v6).Draw(t, "gateway6")}
		in.Slave = rapid.OneOf(rapid.Just(""), prefix(v4, 24)).Draw(t, "slave")
		in.Routes = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) (r struct {
			Destination string `json:"destination"`
			Gateway     string `json:"gateway"`
		}) {
			r.Destination, r.Gateway = nets.Draw(t, "destination"), rapid.OneOf(v4, v6).Draw(t, "via")
			return r
		}), 0, 2).Draw(t, "routes")
		in.DNS.Servers = rapid.SliceOfN(rapid.OneOf(v4, v6), 0, 2).Draw(t, "dns")
		in.DNS.Search = rapid.SliceOfN(names, 0, 2).Draw(t, "search")
		in.NTP.Servers = rapid.SliceOfN(names, 0, 2).Draw(t, "ntp")
		if rapid.Bool().Draw(t, "proxy") {
			in.Proxy.Host, in.Proxy.Port, in.Proxy.User = names.Draw(t, "host"), "3128", rapid.SampledFrom([]string{"", "u"}).Draw(t, "user")
			in.Proxy.Password = rapid.SampledFrom([]*string{nil, new(string), &in.Eth0.MTU}).Draw(t, "password")
		}
		in.Proxy.Except = rapid.SliceOfN(rapid.OneOf(names, nets), 0, 2).Draw(t, "except")
		in.Firewall.Allow = map[string][]string{"console": rapid.SliceOfN(nets, 0, 2).Draw(t, "console")}
		c, err := in.Config(DefaultConfig())
		if err != nil {
			if fault.Of(err) == nil {
				t.Fatalf("%v is no list of faults", err)
			}
			return
		}
		survives(t, c)
	})
}

func FuzzInput(f *testing.F) {
	b, err := json.Marshal(full(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"eth0":{"mode":"static","address":"192.0.2.7","netmask":"255.255.255.0"},"ipv6":{"mode":"off"},"proxy":{"host":"[::1]","port":"1"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var in Input
		if json.Unmarshal(b, &in) != nil {
			return
		}
		if c, err := in.Config(DefaultConfig()); err == nil {
			survives(t, c)
		}
	})
}

func FuzzParseConfig(f *testing.F) {
	c, err := full(f).Config(DefaultConfig())
	if err != nil {
		f.Fatal(err)
	}
	for _, c := range []Config{c, DefaultConfig()} {
		b, err := c.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := ParseConfig(b); err == nil {
			survives(t, c)
		}
	})
}
