package firewall

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/parley-meet/parley/services/internal/netconfig"
)

// Echo requests that are answered: all senders together.
const (
	echoPerSecond = 50
	echoBurst     = 100
)

// ruleset is what the kernel is to have, of the family inet.
//
//	prerouting, output (raw): media is not tracked: it needs no state, costs less
//	                          without, and cannot fill the table of connections
//	input (policy drop):
//	  loopback                                     accept
//	  errors of ICMP; neighbours, routers and groups of IPv6
//	                                               accept
//	  echo requests                                allowed, within the limit: accept
//	  a port with a list, and the sender not in it drop
//	  invalid                                      drop
//	  established, related                         accept
//	  answers of DHCP                              accept
//	  ports of the table                           accept
//	  the rest                                     drop
//	forward (policy drop): nothing
//	output: open
//
// The lists stand before "established": who is taken off a list is cut off at
// once, and a change that would lock its maker out shows that within the time
// in which it must be confirmed. Errors of ICMP stand before "invalid": those
// about media that is not tracked count as such, and "packet too big" is one.
type ruleset struct {
	input, prerouting, output [][]expr.Any
	sets                      []set
}

// chain returns the rules of the chain of that name.
func (r ruleset) chain(name string) [][]expr.Any {
	return map[string][][]expr.Any{"input": r.input, "prerouting": r.prerouting, "output": r.output}[name]
}

// set is a list of addresses of one family.
type set struct {
	name   string
	six    bool
	ranges []addrRange
}

// addrRange is what lies from first to last, both included.
type addrRange struct{ first, last netip.Addr }

// String is what fingerprints are made of, too.
func (r addrRange) String() string { return r.first.String() + "-" + r.last.String() }

// compile makes the rules from the table and the configuration's lists, for an
// appliance of the role; "" opens what any role needs.
func compile(cfg netconfig.Firewall, role string) ruleset {
	var r ruleset
	add := func(parts ...[]expr.Any) { r.input = append(r.input, slices.Concat(parts...)) }
	add(meta(expr.MetaKeyIIFNAME, ifname("lo")), accept())
	for _, t := range []byte{3, 11, 12} { // RFC 792: unreachable (too big), time exceeded, parameter problem
		add(icmp4(t), accept())
	}
	for _, t := range []byte{1, 2, 3, 4} { // RFC 4443: the same, and packet too big
		add(icmp6(t), accept())
	}
	for _, t := range []byte{134, 135, 136} { // RFC 4861: advertisements, solicitations; 255: from the link itself
		add(icmp6(t), network(7, []byte{255}), accept())
	}
	for _, t := range []byte{130, 131, 132, 143} { // RFC 2710, RFC 3810: groups, from the link itself
		add(icmp6(t), linkLocal(), accept())
	}
	for _, name := range Names {
		if list, ok := cfg.Allow[name]; ok {
			r.sets = append(r.sets, set{name + "4", false, merge(list, false)}, set{name + "6", true, merge(list, true)})
		}
	}
	// foreign drops what match finds of senders that are not on the list.
	foreign := func(name string, match []expr.Any, six bool) {
		if _, ok := cfg.Allow[name]; ok {
			add(family(six), match, source(six), notIn(name, six), drop())
		}
	}
	foreign(Ping, icmp4(8), false)
	foreign(Ping, icmp6(128), true)
	limit := []expr.Any{&expr.Limit{Type: expr.LimitTypePkts, Rate: echoPerSecond, Unit: expr.LimitTimeSecond, Burst: echoBurst}}
	for _, echo := range [][]expr.Any{icmp4(8), icmp6(128)} {
		add(echo, limit, accept())
		add(echo, drop())
	}
	open := [][]expr.Any{}
	for _, name := range Names {
		protocol, ports := listens(name, role)
		for _, p := range ports {
			foreign(name, port(protocol, p), false)
			foreign(name, port(protocol, p), true)
			open = append(open, port(protocol, p))
			if name == Media {
				r.prerouting = append(r.prerouting, slices.Concat(port(UDP, p), []expr.Any{&expr.Notrack{}}))
				r.output = append(r.output, slices.Concat(from(UDP, p), []expr.Any{&expr.Notrack{}}))
			}
		}
	}
	add(state(expr.CtStateBitINVALID), drop())
	add(state(expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED), accept())
	// An answer to a broadcast or multicast comes from an address that was not
	// asked (RFC 2131, 4.1; RFC 8415, 18).
	add(family(false), from(UDP, 67), transport(2, be16(68)), accept())
	add(family(true), port(UDP, 546), linkLocal(), accept())
	for _, match := range open {
		add(match, accept())
	}
	add(drop())
	return r
}

// merge returns what the prefixes of one family cover, in order, with gaps
// between: the kernel takes no overlaps.
func merge(list []netip.Prefix, six bool) (out []addrRange) {
	var all []addrRange
	for _, p := range list {
		if p.Addr().Is6() == six {
			all = append(all, addrRange{p.Masked().Addr(), last(p)})
		}
	}
	slices.SortFunc(all, func(a, b addrRange) int { return a.first.Compare(b.first) })
	for _, r := range all {
		if n := len(out); n > 0 {
			end := &out[n-1].last
			// Next of the highest address is none, and less than every other.
			if r.first.Compare(*end) <= 0 || end.Next() == r.first {
				if r.last.Compare(*end) > 0 {
					*end = r.last
				}
				continue
			}
		}
		out = append(out, r)
	}
	return out
}

// last returns the last address of p.
func last(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for bit := p.Bits(); bit < 8*len(b); bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// elements returns the set's content as the kernel takes it: the first address
// of a range, and the first after it.
func (s set) elements() (out []nftables.SetElement) {
	for _, r := range s.ranges {
		out = append(out, nftables.SetElement{Key: r.first.AsSlice()})
		if next := r.last.Next(); next.IsValid() {
			out = append(out, nftables.SetElement{Key: next.AsSlice(), IntervalEnd: true})
		}
	}
	return out
}

// fingerprint is another one for other rules.
func (r ruleset) fingerprint() (string, error) {
	h := sha256.New()
	for i, chain := range [][][]expr.Any{r.input, r.prerouting, r.output} {
		fmt.Fprintln(h, "chain", i, len(chain))
		for _, rule := range chain {
			fmt.Fprintln(h, "rule", len(rule))
			for _, e := range rule {
				b, err := expr.Marshal(unix.NFPROTO_INET, e)
				if err != nil {
					return "", fmt.Errorf("rule %T: %w", e, err)
				}
				binary.Write(h, binary.BigEndian, uint32(len(b)))
				h.Write(b)
			}
		}
	}
	for _, s := range r.sets {
		fmt.Fprintln(h, "set", s.name, s.ranges)
	}
	return hex.EncodeToString(h.Sum(nil)[:12]), nil
}

// What follows are the parts of rules. Register 1 is all that they use.

func compare(data []byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: data}
}

func meta(key expr.MetaKey, data []byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, compare(data)}
}

func payload(base expr.PayloadBase, offset, size uint32) expr.Any {
	return &expr.Payload{DestRegister: 1, Base: base, Offset: offset, Len: size}
}

func network(offset uint32, data []byte) []expr.Any {
	return []expr.Any{payload(expr.PayloadBaseNetworkHeader, offset, uint32(len(data))), compare(data)}
}

func transport(offset uint32, data []byte) []expr.Any {
	return []expr.Any{payload(expr.PayloadBaseTransportHeader, offset, uint32(len(data))), compare(data)}
}

func family(six bool) []expr.Any {
	f := byte(unix.NFPROTO_IPV4)
	if six {
		f = unix.NFPROTO_IPV6
	}
	return meta(expr.MetaKeyNFPROTO, []byte{f})
}

func icmp4(kind byte) []expr.Any {
	return slices.Concat(family(false), meta(expr.MetaKeyL4PROTO, []byte{unix.IPPROTO_ICMP}), transport(0, []byte{kind}))
}

func icmp6(kind byte) []expr.Any {
	return slices.Concat(family(true), meta(expr.MetaKeyL4PROTO, []byte{unix.IPPROTO_ICMPV6}), transport(0, []byte{kind}))
}

// linkLocal matches senders of IPv6 in fe80::/10.
func linkLocal() []expr.Any {
	return []expr.Any{
		payload(expr.PayloadBaseNetworkHeader, 8, 2),
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 2, Mask: []byte{0xff, 0xc0}, Xor: []byte{0, 0}},
		compare([]byte{0xfe, 0x80}),
	}
}

func number(protocol string) []byte {
	if protocol == TCP {
		return []byte{unix.IPPROTO_TCP}
	}
	return []byte{unix.IPPROTO_UDP}
}

// port matches the destination.
func port(protocol string, p uint16) []expr.Any {
	return slices.Concat(meta(expr.MetaKeyL4PROTO, number(protocol)), transport(2, be16(p)))
}

// from matches the source.
func from(protocol string, p uint16) []expr.Any {
	return slices.Concat(meta(expr.MetaKeyL4PROTO, number(protocol)), transport(0, be16(p)))
}

// source loads the sender's address.
func source(six bool) []expr.Any {
	if six {
		return []expr.Any{payload(expr.PayloadBaseNetworkHeader, 8, 16)}
	}
	return []expr.Any{payload(expr.PayloadBaseNetworkHeader, 12, 4)}
}

func notIn(name string, six bool) []expr.Any {
	set := name + "4"
	if six {
		set = name + "6"
	}
	return []expr.Any{&expr.Lookup{SourceRegister: 1, SetName: set, Invert: true}}
}

func state(bits uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

func accept() []expr.Any { return []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}} }

// drop counts too.
func drop() []expr.Any {
	return []expr.Any{&expr.Objref{Type: unix.NFT_OBJECT_COUNTER, Name: counterName}, &expr.Verdict{Kind: expr.VerdictDrop}}
}

func be16(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }

// ifname is a name as the kernel compares it.
func ifname(s string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, s)
	return b
}
