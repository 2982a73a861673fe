package netconfig

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/parley-meet/parley/services/internal/fault"
)

// Bounds of a configuration.
const (
	MaxHostname   = 63 // bytes; Linux takes 64
	MaxDNS        = maxResolvers
	MaxSearch     = 6 // domains (resolv.conf(5))
	MaxNTP        = 8
	MaxRoutes     = 32
	MaxExcept     = 64
	MaxAllow      = 64 // networks for each port
	MaxPassword   = 255
	MinMTUIPv6    = 1280 // RFC 8200, 5
	maxUser       = 255  // bytes
	maxText       = 300  // bytes of any other value: more is not looked at
	minLengthIPv6 = 8
)

// AllowNames are the ports of the table that Firewall.Allow may name.
var AllowNames = []string{"console", "https", "media", "icmp"}

// Config checks what a person gave. The error is a fault.List that names each
// value that cannot be used. old supplies the proxy's password when Input has
// none. What belongs to a mode that is not chosen is left out unchecked: forms
// send it along.
func (in Input) Config(old Config) (Config, error) {
	k := &checker{}
	c := DefaultConfig()
	c.Hostname = k.hostname("hostname", in.Hostname)
	c.Eth0 = k.master(in.Eth0)
	c.IPv6 = k.ipv6(in.IPv6)
	if text := strings.TrimSpace(in.Slave); text != "" {
		c.Slave = k.own4("slave", text, "")
		if c.Slave.IsValid() && c.Eth0.Address.IsValid() && c.Slave.Addr() == c.Eth0.Address.Addr() {
			k.Add("slave", "slave-is-master", c.Slave.Addr().String())
		}
	}
	if m := c.Eth0.MTU; m != 0 && m < MinMTUIPv6 && c.IPv6.Mode != ModeOff {
		k.Add("eth0.mtu", "mtu-ipv6", MinMTUIPv6)
	}
	c.Routes = k.routes(in, c)
	c.DNS.Servers = list(k, "dns.servers", in.DNS.Servers, MaxDNS, k.server)
	c.DNS.Search = list(k, "dns.search", in.DNS.Search, MaxSearch, k.domain)
	c.NTP.Off = in.NTP.Off
	c.NTP.Servers = list(k, "ntp.servers", in.NTP.Servers, MaxNTP, k.timeServer)
	c.Proxy = k.proxy(in, old.Proxy)
	c.Firewall.Allow = k.allow(in.Firewall.Allow)
	if err := k.Err(); err != nil {
		return Config{}, err
	}
	return c, nil
}

// checker collects what is wrong.
type checker struct{ fault.List }

// plain reports whether the text may be looked at: short and printable. It is
// shown to people again, so it must be.
func (k *checker) plain(field, text string, limit int) bool {
	if len(text) > limit {
		k.Add(field, "long", limit)
		return false
	}
	if strings.ContainsFunc(text, func(r rune) bool {
		return r < ' ' || 0x7f <= r && r < 0xa0 || r == '\u2028' || r == '\u2029' || r == '\ufffd'
	}) {
		k.Add(field, "control-character")
		return false
	}
	return true
}

// list checks the lines of a list; empty ones do not count, but keep their
// number in the names of fields.
func list[T comparable](k *checker, field string, lines []string, limit int, check func(field, text string) (T, bool)) []T {
	out := []T{}
	for i, line := range lines {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		if len(out) == limit {
			k.Add(field, "many", limit)
			break
		}
		at := fmt.Sprintf("%s.%d", field, i)
		if !k.plain(at, line, maxText) {
			continue
		}
		v, ok := check(at, line)
		switch {
		case !ok:
		case slices.Contains(out, v):
			k.Add(at, "in-list-already", line)
		default:
			out = append(out, v)
		}
	}
	return out
}

func (k *checker) hostname(field, text string) string {
	text = strings.TrimSpace(text)
	if text == "" || !k.plain(field, text, maxText) {
		return ""
	}
	if len(text) > MaxHostname {
		k.Add(field, "long", MaxHostname)
		return ""
	}
	if !isHostname(text) {
		k.Add(field, "host-name", text)
		return ""
	}
	return text
}

// isHostname reports whether s is a host name by RFC 1123, 2.1: no underscores,
// and not to be taken for an address.
func isHostname(s string) bool {
	last := s[strings.LastIndexByte(s, '.')+1:]
	return CheckName(s) == nil && !strings.Contains(s, "_") && strings.Trim(last, "0123456789") != ""
}

func (k *checker) master(in MasterInput) Master {
	m := Master{Mode: in.Mode, MTU: k.mtu("eth0.mtu", in.MTU)}
	switch in.Mode {
	case ModeDHCP:
	case ModeStatic:
		if strings.TrimSpace(in.Address) == "" {
			k.Add("eth0.address", "required")
		} else {
			m.Address = k.own4("eth0.address", in.Address, in.Netmask)
		}
		m.Gateway = k.gateway4("eth0.gateway", in.Gateway, m.Address)
	default:
		k.choice("eth0.mode", in.Mode, ModeDHCP, ModeStatic)
	}
	return m
}

func (k *checker) choice(field, text string, choices ...string) {
	if k.plain(field, text, maxText) {
		k.Add(field, "choice", text, strings.Join(choices, ", "))
	}
}

func (k *checker) mtu(field, text string) int {
	text = strings.TrimSpace(text)
	if text == "" || text == "0" || !k.plain(field, text, maxText) {
		return 0
	}
	n, ok := decimal(text)
	if !ok || n < MinMTU || n > MaxMTU {
		k.Add(field, "number", text, MinMTU, MaxMTU)
		return 0
	}
	return n
}

// decimal reads digits alone: no signs, no other bases.
func decimal(text string) (int, bool) {
	if text == "" || strings.Trim(text, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.Atoi(text)
	return n, err == nil
}

// own4 reads an address of the own interface, with its length or with a netmask.
func (k *checker) own4(field, text, mask string) netip.Prefix {
	text, mask = strings.TrimSpace(text), strings.TrimSpace(mask)
	if !k.plain(field, text, maxText) {
		return netip.Prefix{}
	}
	if mask != "" {
		maskField := strings.TrimSuffix(field, "address") + "netmask"
		if !k.plain(maskField, mask, maxText) {
			return netip.Prefix{}
		}
		bits, ok := maskBits(mask)
		if !ok {
			k.Add(maskField, "netmask", mask)
			return netip.Prefix{}
		}
		if addr, length, both := strings.Cut(text, "/"); !both {
			text = fmt.Sprintf("%s/%d", addr, bits)
		} else if length != strconv.Itoa(bits) {
			k.Add(maskField, "netmask-differs", mask, text)
			return netip.Prefix{}
		}
	}
	p, err := netip.ParsePrefix(text)
	if err != nil || !p.Addr().Is4() {
		k.Add(field, "address-with-length", text)
		return netip.Prefix{}
	}
	if !k.host4(field, p.Addr()) {
		return netip.Prefix{}
	}
	switch {
	case p.Bits() < 8:
		k.Add(field, "length", p.Bits(), 8, 32)
	case p.Bits() < 31 && p.Addr() == p.Masked().Addr():
		k.Add(field, "network-address", p.String())
	case p.Bits() < 31 && p.Addr() == Last(p):
		k.Add(field, "broadcast-address", p.String())
	default:
		return p
	}
	return netip.Prefix{}
}

// maskBits returns the length that a netmask says.
func maskBits(text string) (int, bool) {
	if n, ok := decimal(strings.TrimPrefix(text, "/")); ok {
		return n, n <= 32
	}
	a, err := netip.ParseAddr(text)
	if err != nil || !a.Is4() {
		return 0, false
	}
	m := a.As4()
	n := uint32(m[0])<<24 | uint32(m[1])<<16 | uint32(m[2])<<8 | uint32(m[3])
	bits := 0
	for ; n&(1<<31) != 0; n <<= 1 {
		bits++
	}
	return bits, n == 0
}

// host4 notes why an IPv4 address cannot be a machine's.
func (k *checker) host4(field string, a netip.Addr) bool {
	code := ""
	switch {
	case a.As4()[0] == 0:
		code = "address-zero"
	case a.IsLoopback():
		code = "address-loopback"
	case a.IsLinkLocalUnicast():
		code = "address-link-local"
	case a.As4()[0] >= 224:
		code = "address-multicast"
	default:
		return true
	}
	k.Add(field, code, a.String())
	return false
}

// host6 notes why an IPv6 address cannot be a machine's.
func (k *checker) host6(field string, a netip.Addr, linkLocal bool) bool {
	code := ""
	switch {
	case a.IsUnspecified():
		code = "address-zero"
	case a.IsLoopback():
		code = "address-loopback"
	case a.IsMulticast():
		code = "address-multicast"
	case a.IsLinkLocalUnicast() && !linkLocal:
		code = "address-link-local"
	default:
		return true
	}
	k.Add(field, code, a.String())
	return false
}

// gateway4 reads a gateway in the network of own, where that is known.
func (k *checker) gateway4(field, text string, own netip.Prefix) netip.Addr {
	text = strings.TrimSpace(text)
	if text == "" || !k.plain(field, text, maxText) {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(text)
	if err != nil || !a.Is4() {
		k.Add(field, "address-ipv4", text)
		return netip.Addr{}
	}
	if !k.host4(field, a) || own.IsValid() && !k.within(field, a, own) {
		return netip.Addr{}
	}
	return a
}

// within notes when a cannot be a gateway in the network of own.
func (k *checker) within(field string, a netip.Addr, own netip.Prefix) bool {
	switch {
	case !own.Contains(a):
		k.Add(field, "gateway-outside", a.String(), own.String())
	case a == own.Addr():
		k.Add(field, "gateway-is-own", a.String())
	case a.Is4() && own.Bits() < 31 && a == own.Masked().Addr():
		k.Add(field, "network-address", a.String())
	case a.Is4() && own.Bits() < 31 && a == Last(own):
		k.Add(field, "broadcast-address", a.String())
	default:
		return true
	}
	return false
}

func (k *checker) ipv6(in IPv6Input) IPv6 {
	v := IPv6{Mode: in.Mode}
	switch in.Mode {
	case ModeAuto, ModeOff:
		return v
	case ModeStatic:
	default:
		k.choice("ipv6.mode", in.Mode, ModeAuto, ModeStatic, ModeOff)
		return v
	}
	if text := strings.TrimSpace(in.Address); text == "" {
		k.Add("ipv6.address", "required")
	} else if k.plain("ipv6.address", text, maxText) {
		v.Address = k.own6("ipv6.address", text)
	}
	text := strings.TrimSpace(in.Gateway)
	if text == "" || !k.plain("ipv6.gateway", text, maxText) {
		return v
	}
	a, err := netip.ParseAddr(text)
	switch {
	case err != nil || !a.Is6() || a.Is4In6() || a.Zone() != "":
		k.Add("ipv6.gateway", "address-ipv6", text)
	case !k.host6("ipv6.gateway", a, true):
	case a.IsLinkLocalUnicast() || !v.Address.IsValid() || k.within("ipv6.gateway", a, v.Address):
		v.Gateway = a
	}
	return v
}

func (k *checker) own6(field, text string) netip.Prefix {
	p, err := netip.ParsePrefix(text)
	if err != nil || !p.Addr().Is6() || p.Addr().Is4In6() {
		k.Add(field, "address-with-length-ipv6", text)
		return netip.Prefix{}
	}
	if !k.host6(field, p.Addr(), false) {
		return netip.Prefix{}
	}
	switch {
	case p.Bits() < minLengthIPv6:
		k.Add(field, "length", p.Bits(), minLengthIPv6, 128)
	case p.Bits() < 127 && p.Addr() == p.Masked().Addr(): // RFC 4291, 2.6.1: of the routers
		k.Add(field, "network-address", p.String())
	default:
		return p
	}
	return netip.Prefix{}
}

// routes reads the static routes. Those of IPv6 need IPv6.
func (k *checker) routes(in Input, c Config) []Route {
	out := []Route{}
	for i, r := range in.Routes {
		r.Destination, r.Gateway = strings.TrimSpace(r.Destination), strings.TrimSpace(r.Gateway)
		if r.Destination == "" && r.Gateway == "" {
			continue
		}
		if len(out) == MaxRoutes {
			k.Add("routes", "many", MaxRoutes)
			break
		}
		at := fmt.Sprintf("routes.%d.", i)
		dst, gw := k.destination(at+"destination", r.Destination), k.routeGateway(at+"gateway", r.Gateway)
		if !dst.IsValid() || !gw.IsValid() {
			continue
		}
		own := []netip.Prefix{c.Eth0.Address, c.Slave}
		if dst.Addr().Is6() {
			own = []netip.Prefix{c.IPv6.Address}
		}
		own = slices.DeleteFunc(own, func(p netip.Prefix) bool { return !p.IsValid() })
		reaches := func(p netip.Prefix) bool { return p.Contains(gw) && p.Addr() != gw }
		known := dst.Addr().Is4() && c.Eth0.Address.IsValid() || dst.Addr().Is6() && c.IPv6.Address.IsValid()
		switch {
		case dst.Addr().Is4() != gw.Is4():
			k.Add(at+"gateway", "route-families", gw.String(), dst.String())
		case dst.Addr().Is6() && c.IPv6.Mode == ModeOff:
			k.Add(at+"destination", "route-ipv6-off", dst.String())
		case slices.ContainsFunc(own, func(p netip.Prefix) bool { return p.Addr() == gw }):
			k.Add(at+"gateway", "gateway-is-own", gw.String())
		case known && !gw.IsLinkLocalUnicast() && !slices.ContainsFunc(own, reaches):
			k.Add(at+"gateway", "route-gateway-outside", gw.String())
		case slices.ContainsFunc(own, func(p netip.Prefix) bool { return p.Contains(dst.Addr()) && p.Bits() <= dst.Bits() }):
			k.Add(at+"destination", "route-is-own", dst.String())
		case slices.ContainsFunc(out, func(o Route) bool { return o.Destination == dst }):
			k.Add(at+"destination", "in-list-already", dst.String())
		default:
			out = append(out, Route{dst, gw})
		}
	}
	return out
}

func (k *checker) destination(field, text string) netip.Prefix {
	if text == "" {
		k.Add(field, "required")
		return netip.Prefix{}
	}
	if !k.plain(field, text, maxText) {
		return netip.Prefix{}
	}
	p, ok := network(text)
	switch {
	case !ok:
		k.Add(field, "network", text)
	case p.Bits() == 0:
		k.Add(field, "route-default")
	case p != p.Masked():
		k.Add(field, "network-host-bits", p.String(), p.Masked().String())
	case p.Addr().IsMulticast() || p.Addr().IsLoopback() || p.Addr().IsLinkLocalUnicast() || p.Addr().Is4() && (p.Addr().As4()[0] == 0 || p.Addr().As4()[0] >= 224):
		k.Add(field, "route-no-hosts", p.String())
	default:
		return p
	}
	return netip.Prefix{}
}

// network reads ADDRESS/LENGTH, or an address alone for one machine.
func network(text string) (netip.Prefix, bool) {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		a, err := netip.ParseAddr(text)
		if err != nil || a.Zone() != "" {
			return netip.Prefix{}, false
		}
		p = netip.PrefixFrom(a, a.BitLen())
	}
	return p, !p.Addr().Is4In6()
}

func (k *checker) routeGateway(field, text string) netip.Addr {
	if text == "" {
		k.Add(field, "required")
		return netip.Addr{}
	}
	if !k.plain(field, text, maxText) {
		return netip.Addr{}
	}
	a, ok := k.address(field, text)
	if !ok || a.Is4() && !k.host4(field, a) || a.Is6() && !k.host6(field, a, true) {
		return netip.Addr{}
	}
	return a
}

// address reads an address of either family.
func (k *checker) address(field, text string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" || a.Is4In6() {
		k.Add(field, "address-any", text)
		return netip.Addr{}, false
	}
	return a, true
}

// server reads the address of a name server; none runs on this machine.
func (k *checker) server(field, text string) (netip.Addr, bool) {
	a, ok := k.address(field, text)
	if !ok {
		return a, false
	}
	if a.Is4() {
		return a, k.host4(field, a)
	}
	return a, k.host6(field, a, false)
}

func (k *checker) domain(field, text string) (string, bool) {
	name := strings.ToLower(strings.TrimSuffix(text, "."))
	if CheckName(name) != nil {
		k.Add(field, "domain-name", text)
		return "", false
	}
	return name, true
}

func (k *checker) timeServer(field, text string) (string, bool) {
	s, ok := hostOrAddress(text)
	if !ok {
		k.Add(field, "time-server", text)
	}
	return s, ok
}

// hostOrAddress reads the name or the address of another machine.
func hostOrAddress(text string) (string, bool) {
	if a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]")); err == nil {
		good := a.Zone() == "" && !a.Is4In6() && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLinkLocalUnicast() && a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
		return a.String(), good
	}
	name := strings.ToLower(strings.TrimSuffix(text, "."))
	return name, name != "" && isHostname(name)
}

// visible is what a user's name for a proxy may hold: Basic authentication
// parts it from the password by a colon (RFC 7617, 2).
var visible = regexp.MustCompile(`^[^:\s]+$`)

func (k *checker) proxy(in Input, old Proxy) Proxy {
	p := Proxy{Except: list(k, "proxy.except", in.Proxy.Except, MaxExcept, k.except)}
	host, port, user := strings.TrimSpace(in.Proxy.Host), strings.TrimSpace(in.Proxy.Port), strings.TrimSpace(in.Proxy.User)
	if host == "" {
		if port != "" && port != "0" || user != "" {
			k.Add("proxy.host", "required")
		}
		return p
	}
	if k.plain("proxy.host", host, maxText) {
		s, ok := hostOrAddress(host)
		if !ok {
			k.Add("proxy.host", "proxy-host", host)
		}
		p.Host = s
	}
	if port == "" {
		k.Add("proxy.port", "required")
	} else if k.plain("proxy.port", port, maxText) {
		n, ok := decimal(port)
		if !ok || n < 1 || n > 65535 {
			k.Add("proxy.port", "number", port, 1, 65535)
		}
		p.Port = n
	}
	if user != "" && k.plain("proxy.user", user, maxUser) {
		if !visible.MatchString(user) {
			k.Add("proxy.user", "proxy-user")
		}
		p.User = user
	}
	if in.Proxy.Password == nil {
		had := old.PasswordSet || hasPassword(old.Password)
		switch {
		case user == "" || !had:
		case sameProxy(p, old):
			p.Password, p.PasswordSet = old.Password, true
		default:
			// Whoever may change the server must not have a password that he does
			// not know sent to one of his own.
			k.Add("proxy.password", "proxy-password-again")
		}
		return p
	}
	if secret := *in.Proxy.Password; k.plain("proxy.password", secret, MaxPassword) {
		if secret != "" && user == "" {
			k.Add("proxy.user", "required")
		}
		p.Password, p.PasswordSet = &secret, secret != ""
	}
	return p
}

// sameProxy reports whether a password of one is good for the other.
func sameProxy(a, b Proxy) bool { return a.Host == b.Host && a.Port == b.Port && a.User == b.User }

func hasPassword(p *string) bool { return p != nil && *p != "" }

// except reads what is reached without the proxy: a network, an address, or a
// domain with all below it, with or without ".", "*." before it.
func (k *checker) except(field, text string) (string, bool) {
	if p, ok := network(text); ok {
		if p != p.Masked() {
			k.Add(field, "network-host-bits", p.String(), p.Masked().String())
			return "", false
		}
		if p.IsSingleIP() && !strings.Contains(text, "/") {
			return p.Addr().String(), true
		}
		return p.String(), true
	}
	name := strings.ToLower(strings.TrimPrefix(strings.TrimPrefix(text, "*"), "."))
	if CheckName(name) != nil || strings.Contains(text, "/") || strings.HasPrefix(text, "*") && !strings.HasPrefix(text, "*.") ||
		strings.Trim(name, "0123456789.") == "" {
		k.Add(field, "proxy-except", text)
		return "", false
	}
	return name, true
}

// allow reads who may connect. A port without networks is open to all: a list
// that lets nobody in cannot be said.
func (k *checker) allow(in map[string][]string) map[string][]netip.Prefix {
	out := map[string][]netip.Prefix{}
	for _, name := range slices.SortedFunc(maps.Keys(in), cmp.Compare) {
		if !slices.Contains(AllowNames, name) {
			if k.plain("firewall.allow", name, maxText) {
				k.Add("firewall.allow", "firewall-port", name, strings.Join(AllowNames, ", "))
			}
			continue
		}
		at := "firewall.allow." + name
		if nets := list(k, at, in[name], MaxAllow, k.source); len(nets) > 0 {
			out[name] = nets
		}
	}
	return out
}

func (k *checker) source(field, text string) (netip.Prefix, bool) {
	p, ok := network(text)
	switch {
	case !ok:
		k.Add(field, "network", text)
	case p != p.Masked():
		k.Add(field, "network-host-bits", p.String(), p.Masked().String())
	case p.Addr().IsMulticast():
		k.Add(field, "address-multicast", p.String())
	default:
		return p, true
	}
	return netip.Prefix{}, false
}
