package mmr

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/parley-meet/parley/services/internal/connector"
	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/member"
	"github.com/parley-meet/parley/services/internal/sfu/sdp"
	"github.com/parley-meet/parley/services/internal/sfu/wire"
)

// The ports of an appliance's router (MISSION: 8801 is the media's; 3478 is that of
// STUN, which some networks let out).
var mediaPorts = []uint16{8801, 3478}

const (
	httpsPort = 443
	maxIPv6   = 4 // addresses of IPv6 on which there is media
)

// plan is where a router listens, and how clients reach it.
type plan struct {
	Controller netip.Addr       // of this machine, that pages come to; zero on a router VM
	Media      []netip.AddrPort // UDP
	Web        []netip.AddrPort // TCP of its own; none: the controller hands connections over
	Candidates []sdp.Candidate
	TURN       netip.AddrPort // as clients reach TURN
}

// machineAddresses are those by which others reach the machine, in the kernel's
// order: of an interface the first one before those that were added to it.
func machineAddresses() ([]netip.Addr, error) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("addresses of the machine: %w", err)
	}
	var out []netip.Addr
	for _, a := range list {
		if p, err := netip.ParsePrefix(a.String()); err == nil && connector.Reachable(p.Addr()) {
			out = append(out, p.Addr())
		}
	}
	return out, nil
}

// planFor says where a router listens on a machine that has addresses. On a
// controller VM the router has the second address where there is one, and shares
// the only one otherwise; addresses of IPv6 count for that where there is no other. An address that settings name and the machine has not is
// as if it was not named: DHCP may have given another one.
func planFor(st member.State, machine []netip.Addr, media []uint16, https uint16) plan {
	var v4, v6 []netip.Addr
	for _, a := range machine {
		switch a = a.Unmap(); {
		case a.Is4():
			v4 = append(v4, a)
		case len(v6) < maxIPv6:
			v6 = append(v6, a)
		}
	}
	main := v4
	if len(v4) == 0 {
		main = v6
	}
	named := func(a netip.Addr, n int) netip.Addr {
		if slices.Contains(main, a) {
			return a
		}
		if n = min(n, len(main)-1); n < 0 {
			return netip.Addr{}
		}
		return main[n]
	}
	var p plan
	var router netip.Addr
	if st.Credentials != nil && st.Credentials.Role == link.Controller {
		p.Controller = named(st.Settings.ZoneController, 0)
		if router = named(st.Settings.Router, 1); router == p.Controller && !slices.Contains(main, st.Settings.Router) {
			// The setting puts the controller on the second address.
			for _, a := range main {
				if a != p.Controller {
					router = a
					break
				}
			}
		}
	} else {
		router = named(st.Settings.Router, 0)
	}
	var locals []netip.Addr
	if router.IsValid() {
		locals = append(locals, router)
	}
	for _, a := range v6 {
		if a != router && a != p.Controller || len(v4) > 0 {
			locals = append(locals, a)
		}
	}
	web := locals
	if p.Controller.IsValid() {
		web = locals[:1] // IPv6's 443 is the controller's
	}
	shared := p.Controller.IsValid() && router == p.Controller
	udp := func(a netip.Addr, port uint16) {
		p.Candidates = append(p.Candidates, sdp.Candidate{Addr: a, Port: port, Kind: "host"})
	}
	outside := func(a netip.Addr) netip.Addr { return outside(st, a, shared) }
	for _, port := range media {
		for _, a := range locals {
			p.Media = append(p.Media, netip.AddrPortFrom(a, port))
			udp(a, port)
			if o := outside(a); o != a {
				udp(o, port)
			}
		}
	}
	for _, a := range web {
		if !shared {
			p.Web = append(p.Web, netip.AddrPortFrom(a, https))
		}
		for _, x := range slices.Compact([]netip.Addr{a, outside(a)}) {
			p.Candidates = append(p.Candidates, sdp.Candidate{TCP: true, Addr: x, Port: https, Kind: "host"})
			p.TURN = netip.AddrPortFrom(x, https)
		}
	}
	if len(web) > 1 { // TURN by the first address, IPv4 where there is one
		p.TURN = netip.AddrPortFrom(outside(web[0]), https)
	}
	return p
}

// outside returns the address by which the outside knows a local one: as the
// settings say, or the portal, which knows no local addresses: the first one that
// it names is the controller's, the last one the router's.
func outside(st member.State, local netip.Addr, shared bool) netip.Addr {
	if o := st.Settings.Outside(local); o != local || st.Config == nil {
		return o
	}
	var list []netip.Addr
	for _, text := range st.Config.External {
		if a, err := netip.ParseAddr(text); err == nil && connector.Reachable(a) && a.Is4() == local.Is4() {
			list = append(list, a)
		}
	}
	switch {
	case len(list) == 0:
		return local
	case shared:
		return list[0]
	}
	return list[len(list)-1]
}

// addresses are those of a plan's candidates, each once.
func (p *plan) addresses() []netip.Addr {
	var list []netip.Addr
	for _, c := range p.Candidates {
		if !slices.Contains(list, c.Addr) {
			list = append(list, c.Addr)
		}
	}
	return list
}

// ports are the open ones.
type ports struct {
	mux *wire.Mux
	log *slog.Logger

	mu      sync.Mutex
	plan    plan
	media   map[netip.AddrPort]*wire.Socket
	web     map[netip.AddrPort]net.Listener
	problem map[netip.AddrPort]string // why one is not open
}

func newPorts(log *slog.Logger) *ports {
	return &ports{mux: wire.NewMux(log), log: log, media: map[netip.AddrPort]*wire.Socket{}, web: map[netip.AddrPort]net.Listener{}, problem: map[netip.AddrPort]string{}}
}

// apply opens what a plan has and closes what it has not; accept gets new
// listeners. One that cannot be opened yet, as an address of IPv6 that is still
// being tried, is tried again at the next call. It reports whether clients reach
// the router otherwise than before.
func (p *ports) apply(next plan, accept func(net.Listener)) (changed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for at, s := range p.media {
		if !slices.Contains(next.Media, at) {
			p.log.Info("media: address is gone", "address", at)
			s.Close()
			delete(p.media, at)
			changed = true
		}
	}
	for at, l := range p.web {
		if !slices.Contains(next.Web, at) {
			p.log.Info("https: address is gone", "address", at)
			l.Close()
			delete(p.web, at)
			changed = true
		}
	}
	for _, at := range next.Media {
		if p.media[at] != nil {
			continue
		}
		s, err := p.mux.Listen(at)
		if p.failed(at, err) {
			continue
		}
		p.log.Info("media: listening", "address", at)
		p.media[at] = s
		changed = true
	}
	for _, at := range next.Web {
		if p.web[at] != nil {
			continue
		}
		l, err := listen(at)
		if p.failed(at, err) {
			continue
		}
		p.log.Info("https: listening", "address", at)
		p.web[at] = l
		accept(l)
		changed = true
	}
	if !slices.Equal(p.plan.Candidates, next.Candidates) {
		changed = true
	}
	p.plan = next
	return changed
}

// failed notes why a port is not open, and logs it once.
func (p *ports) failed(at netip.AddrPort, err error) bool {
	if err == nil {
		delete(p.problem, at)
		return false
	}
	if text := err.Error(); p.problem[at] != text {
		p.problem[at] = text
		p.log.Warn("port not open, tried again", "address", at, "error", err)
	}
	return true
}

// candidates are those that lead to an open port.
func (p *ports) candidates() []sdp.Candidate {
	p.mu.Lock()
	defer p.mu.Unlock()
	open := map[uint16]bool{}
	for at := range p.media {
		open[at.Port()] = true
	}
	return slices.DeleteFunc(slices.Clone(p.plan.Candidates), func(c sdp.Candidate) bool { return !c.TCP && !open[c.Port] })
}

// now returns the plan that was applied last, the UDP ports that are open, and what
// is wrong.
func (p *ports) now() (plan, []uint16, []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var open []uint16
	for at := range p.media {
		if !slices.Contains(open, at.Port()) {
			open = append(open, at.Port())
		}
	}
	slices.Sort(open)
	var problems []string
	for at, text := range p.problem {
		if slices.Contains(p.plan.Media, at) || slices.Contains(p.plan.Web, at) {
			problems = append(problems, text)
		} else {
			delete(p.problem, at)
		}
	}
	slices.Sort(problems)
	return p.plan, open, problems
}

// close ends all of them.
func (p *ports) close() error { return errors.Join(p.closeWeb(), p.mux.Close()) }

// closeWeb ends the TCP ports.
func (p *ports) closeWeb() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for at, l := range p.web {
		errs = append(errs, l.Close())
		delete(p.web, at)
	}
	return errors.Join(errs...)
}

// turnHost returns the name or address by which clients reach TURN over TLS, "" if
// no certificate is good for any: a name of its own, "turn." before the public
// one, by which a controller on a shared address tells it from its pages; or the
// router's own address.
func turnHost(public string, at netip.Addr, shared bool, certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)) string {
	good := func(name string) bool {
		c, err := certificate(&tls.ClientHelloInfo{ServerName: name})
		if err != nil {
			return false
		}
		leaf := c.Leaf
		if leaf == nil && len(c.Certificate) > 0 {
			leaf, err = x509.ParseCertificate(c.Certificate[0])
		}
		return err == nil && leaf != nil && leaf.VerifyHostname(name) == nil
	}
	if name := TURNName(public); public != "" && good(name) {
		return name
	}
	if !shared && at.IsValid() && good(at.String()) {
		return at.String()
	}
	return ""
}

// TURNName is the name of TURN over TLS beside a public name. It needs a
// certificate that has it, and a record of DNS with the router's address.
func TURNName(public string) string { return "turn." + public }
