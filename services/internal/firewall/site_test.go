package firewall

import (
	"encoding/csv"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/parley-meet/parley/services/internal/look"
	"github.com/parley-meet/parley/services/internal/netconfig"
)

var update = flag.Bool("update", false, "write the golden files anew")

// full uses everything that a configuration can say.
func full() (netconfig.Config, netconfig.State) {
	p, a := netip.MustParsePrefix, netip.MustParseAddr
	cfg := netconfig.DefaultConfig()
	cfg.Slave = p("192.0.2.8/24")
	cfg.DNS.Servers = []netip.Addr{a("192.0.2.53"), a("2001:db8::53")}
	cfg.NTP.Servers = []string{"time.example.org", "192.0.2.123"}
	cfg.Proxy.Host, cfg.Proxy.Port = "proxy.example.org", 3128
	cfg.Firewall.Allow = map[string][]netip.Prefix{Console: {p("10.0.0.0/8"), p("2001:db8:1::/48")}, Media: {p("203.0.113.0/24")}}
	return cfg, netconfig.State{
		Addresses: []netip.Prefix{p("192.0.2.7/24")}, Slave: p("192.0.2.8/24"), IPv6: []netip.Prefix{p("2001:db8::7/64")},
		DNS: []netip.Addr{a("192.0.2.99")}, NTP: []netip.Addr{a("192.0.2.98")},
		Lease: &netconfig.Lease{Server: a("192.0.2.1")},
	}
}

// The list, whole: who changes the table sees here what administrators get.
func TestSiteGolden(t *testing.T) {
	words := look.MustLoad(fstest.MapFS{"words/en.json": {Data: []byte("{}")}, "words/ru.json": {Data: []byte("{}")}}, "words")
	cfg, st := full()
	plain := netconfig.DefaultConfig()
	plain.Eth0 = netconfig.Master{Mode: netconfig.ModeStatic, Address: netip.MustParsePrefix("192.0.2.7/24")}
	plain.IPv6.Mode = netconfig.ModeOff
	plain.NTP.Off = true
	for name, text := range map[string]string{
		"full-en.txt":  Text(Site(cfg, roleController, st), words[look.English]),
		"full-ru.txt":  Text(Site(cfg, roleController, st), words[look.Russian]),
		"full-en.csv":  string(CSV(Site(cfg, roleController, st), words[look.English])),
		"plain-en.txt": Text(Site(plain, roleRouter, netconfig.State{}), words[look.English]),
	} {
		path := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if text != string(want) {
			t.Errorf("%s is now\n%s\nwant\n%s", name, text, want)
		}
		if strings.Contains(text, "firewall.") {
			t.Errorf("%s: a text is missing:\n%s", name, text)
		}
	}
	rows, err := csv.NewReader(strings.NewReader(string(CSV(Site(cfg, roleController, st), words[look.Russian])))).ReadAll()
	if err != nil || len(rows) != 1+len(Site(cfg, roleController, st)) {
		t.Errorf("CSV: %d rows, %v", len(rows), err)
	}
}

// What the deployment's table of ports says is in the list.
func TestSiteComplete(t *testing.T) {
	rules := Site(netconfig.DefaultConfig(), roleController, netconfig.State{})
	for _, want := range []Rule{
		{Direction: In, Protocol: TCP, Ports: []uint16{5480}, Purpose: "console"},
		{Direction: In, Protocol: TCP, Ports: []uint16{443}, Purpose: "meeting-controller"},
		{Direction: In, Protocol: TCP, Ports: []uint16{443}, Purpose: "meeting-router"},
		{Direction: In, Protocol: TCP, Ports: []uint16{443}, Purpose: "router-controller"},
		{Direction: In, Protocol: TCP, Ports: []uint16{80}, Purpose: "certificate"},
		{Direction: Out, Protocol: TCP, Ports: []uint16{443}, Purpose: "router-router"},
		{Direction: In, Protocol: UDP, Ports: []uint16{3478, 3479, 8801}, Purpose: "media"},
		{Direction: Out, Protocol: TCP, Ports: []uint16{443}, Purpose: "portal"},
		{Direction: Out, Protocol: UDP, Ports: []uint16{123}, Purpose: "ntp"},
	} {
		found := false
		for _, r := range rules {
			found = found || r.Direction == want.Direction && r.Protocol == want.Protocol && r.Purpose == want.Purpose && len(r.Ports) == len(want.Ports) && r.Ports[0] == want.Ports[0]
		}
		if !found {
			t.Errorf("%+v is not in the list", want)
		}
	}
	for _, r := range Site(netconfig.DefaultConfig(), roleRouter, netconfig.State{}) {
		if r.Source.Who == Controller || r.Destination.Who == Controller {
			t.Errorf("a router without a zone controller has %+v", r)
		}
	}
	if !slices.Equal(Names, netconfig.AllowNames) {
		t.Errorf("names %q, a configuration may have %q", Names, netconfig.AllowNames)
	}
	for _, n := range Names {
		if proto, ports := listens(n, ""); proto == "" || (proto != ICMP) != (len(ports) > 0) {
			t.Errorf("%s: %s %v", n, proto, ports)
		}
	}
}

// A portal has no media, and every appliance has its console.
func TestRolesListen(t *testing.T) {
	for role, media := range map[string]bool{roleController: true, roleRouter: true, rolePortal: false} {
		https := []uint16{PortHTTPS}
		if role == roleController {
			https = append(https, PortHTTP)
		}
		for name, want := range map[string][]uint16{Console: {PortConsole}, HTTPS: https, Media: mediaPorts} {
			if name == Media && !media {
				want = nil
			}
			if _, ports := listens(name, role); !slices.Equal(ports, want) {
				t.Errorf("%s of a %s: %v, want %v", name, role, ports, want)
			}
		}
		r := compile(netconfig.Firewall{}, role)
		if tracked := len(r.prerouting) == 0 && len(r.output) == 0; tracked == media {
			t.Errorf("a %s has %d rules about media", role, len(r.prerouting))
		}
	}
}
