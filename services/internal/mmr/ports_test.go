package mmr

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/parley-meet/parley/services/internal/connector"
	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/member"
)

// Where a router listens and how it is reached, by the machine's addresses, its
// role, the settings and what the portal says.
func TestPlan(t *testing.T) {
	for _, test := range []struct {
		name                       string
		role                       link.Role
		machine                    string
		controller, router, ext    string // settings; ext: LOCAL=EXTERNAL
		portal                     string // external, by the portal
		ctrl, media, web, cand, at string
	}{
		{name: "router VM", role: link.Router, machine: "10.0.0.5",
			media: "10.0.0.5:8801", web: "10.0.0.5:443", cand: "udp 10.0.0.5:8801, tcp 10.0.0.5:443", at: "10.0.0.5:443"},
		{name: "one address", role: link.Controller, machine: "10.0.0.5",
			ctrl: "10.0.0.5", media: "10.0.0.5:8801", cand: "udp 10.0.0.5:8801, tcp 10.0.0.5:443", at: "10.0.0.5:443"},
		{name: "two addresses", role: link.Controller, machine: "10.0.0.5 10.0.0.6",
			ctrl: "10.0.0.5", media: "10.0.0.6:8801", web: "10.0.0.6:443", cand: "udp 10.0.0.6:8801, tcp 10.0.0.6:443", at: "10.0.0.6:443"},
		{name: "two, and settings that share one", role: link.Controller, machine: "10.0.0.5 10.0.0.6", router: "10.0.0.5", controller: "10.0.0.5",
			ctrl: "10.0.0.5", media: "10.0.0.5:8801", cand: "udp 10.0.0.5:8801, tcp 10.0.0.5:443", at: "10.0.0.5:443"},
		{name: "two the other way round", role: link.Controller, machine: "10.0.0.5 10.0.0.6", controller: "10.0.0.6",
			ctrl: "10.0.0.6", media: "10.0.0.5:8801", web: "10.0.0.5:443", cand: "udp 10.0.0.5:8801, tcp 10.0.0.5:443", at: "10.0.0.5:443"},
		{name: "settings of a lease that is gone", role: link.Controller, machine: "10.0.0.9", controller: "10.0.0.5", router: "10.0.0.6",
			ctrl: "10.0.0.9", media: "10.0.0.9:8801", cand: "udp 10.0.0.9:8801, tcp 10.0.0.9:443", at: "10.0.0.9:443"},
		{name: "1:1 NAT by settings", role: link.Controller, machine: "10.0.0.5 10.0.0.6", ext: "10.0.0.6=192.0.2.6",
			ctrl: "10.0.0.5", media: "10.0.0.6:8801", web: "10.0.0.6:443",
			cand: "udp 10.0.0.6:8801, udp 192.0.2.6:8801, tcp 10.0.0.6:443, tcp 192.0.2.6:443", at: "192.0.2.6:443"},
		{name: "1:1 NAT by the portal", role: link.Controller, machine: "10.0.0.5 10.0.0.6", portal: "192.0.2.5 192.0.2.6",
			ctrl: "10.0.0.5", media: "10.0.0.6:8801", web: "10.0.0.6:443",
			cand: "udp 10.0.0.6:8801, udp 192.0.2.6:8801, tcp 10.0.0.6:443, tcp 192.0.2.6:443", at: "192.0.2.6:443"},
		{name: "1:1 NAT by the portal, shared", role: link.Controller, machine: "10.0.0.5", portal: "192.0.2.5 junk",
			ctrl: "10.0.0.5", media: "10.0.0.5:8801",
			cand: "udp 10.0.0.5:8801, udp 192.0.2.5:8801, tcp 10.0.0.5:443, tcp 192.0.2.5:443", at: "192.0.2.5:443"},
		{name: "IPv6 of a router VM", role: link.Router, machine: "10.0.0.5 2001:db8::5", portal: "192.0.2.5",
			media: "10.0.0.5:8801 [2001:db8::5]:8801", web: "10.0.0.5:443 [2001:db8::5]:443",
			cand: "udp 10.0.0.5:8801, udp 192.0.2.5:8801, udp [2001:db8::5]:8801, tcp 10.0.0.5:443, tcp 192.0.2.5:443, tcp [2001:db8::5]:443", at: "192.0.2.5:443"},
		{name: "IPv6 of a controller VM", role: link.Controller, machine: "10.0.0.5 10.0.0.6 2001:db8::5",
			ctrl: "10.0.0.5", media: "10.0.0.6:8801 [2001:db8::5]:8801", web: "10.0.0.6:443",
			cand: "udp 10.0.0.6:8801, udp [2001:db8::5]:8801, tcp 10.0.0.6:443", at: "10.0.0.6:443"},
		{name: "IPv6 alone, two", role: link.Controller, machine: "2001:db8::5 2001:db8::6",
			ctrl: "2001:db8::5", media: "[2001:db8::6]:8801", web: "[2001:db8::6]:443", cand: "udp [2001:db8::6]:8801, tcp [2001:db8::6]:443", at: "[2001:db8::6]:443"},
		{name: "IPv6 alone, one", role: link.Controller, machine: "2001:db8::5",
			ctrl: "2001:db8::5", media: "[2001:db8::5]:8801", cand: "udp [2001:db8::5]:8801, tcp [2001:db8::5]:443", at: "[2001:db8::5]:443"},
		{name: "no address", role: link.Router},
		{name: "no address", role: link.Controller},
	} {
		addr := func(s string) (a netip.Addr) {
			if s != "" {
				a = netip.MustParseAddr(s)
			}
			return a
		}
		st := member.State{Settings: connector.New(), Credentials: &link.Credentials{Role: test.role}, Config: &link.Config{External: strings.Fields(test.portal)}}
		st.Settings.ZoneController, st.Settings.Router = addr(test.controller), addr(test.router)
		if l, e, ok := strings.Cut(test.ext, "="); ok {
			st.Settings.External = []connector.External{{Local: addr(l), External: addr(e)}}
		}
		var machine []netip.Addr
		for _, s := range strings.Fields(test.machine) {
			machine = append(machine, addr(s))
		}
		p := planFor(st, machine, []uint16{8801}, 443)
		var cand []string
		for _, c := range p.Candidates {
			kind := "udp"
			if c.TCP {
				kind = "tcp"
			}
			cand = append(cand, kind+" "+netip.AddrPortFrom(c.Addr, c.Port).String())
		}
		got := []string{strings.TrimPrefix(p.Controller.String(), "invalid IP"), fmt.Sprint(p.Media), fmt.Sprint(p.Web), strings.Join(cand, ", "), strings.TrimPrefix(p.TURN.String(), "invalid AddrPort")}
		want := []string{test.ctrl, "[" + test.media + "]", "[" + test.web + "]", test.cand, test.at}
		for i := range got {
			if got[i] != want[i] {
				t.Errorf("%s: %q, want %q", test.name, got[i], want[i])
			}
		}
	}
}

// TURN has a name of its own where a certificate is good for it, the address where
// one is good for that, and else there is none.
func TestTURNHost(t *testing.T) {
	at := netip.MustParseAddr("192.0.2.6")
	none := func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, errors.New("none") }
	with := func(c x509.Certificate) func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		return func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &tls.Certificate{Leaf: &c}, nil }
	}
	page := x509.Certificate{DNSNames: []string{"meet.example.com"}}
	wild := x509.Certificate{DNSNames: []string{"*.meet.example.com"}}
	address := x509.Certificate{IPAddresses: []net.IP{at.AsSlice()}}
	for _, test := range []struct {
		name   string
		shared bool
		cert   func(*tls.ClientHelloInfo) (*tls.Certificate, error)
		want   string
	}{
		{"nothing", false, none, ""},
		{"the page's name alone", false, with(page), ""},
		{"its own name", true, with(wild), "turn.meet.example.com"},
		{"the address", false, with(address), "192.0.2.6"},
		{"the address, which is the controller's", true, with(address), ""},
	} {
		if got := turnHost("meet.example.com", at, test.shared, test.cert); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}
