package firewall

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"github.com/parley-meet/parley/services/internal/labtest"
	"github.com/parley-meet/parley/services/internal/netconfig"
)

// lab is an appliance with services on ports, and two neighbours.
type lab struct {
	t             *testing.T
	box, one, two *labtest.Host
	fw            *Linux
}

// Addresses of the appliance and its neighbours, and of IPv6.
var (
	boxAddr  = []netip.Prefix{netip.MustParsePrefix("192.0.2.7/24"), netip.MustParsePrefix("2001:db8::7/64")}
	oneAddr  = []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("2001:db8::1/64")}
	twoAddr  = []netip.Prefix{netip.MustParsePrefix("192.0.2.2/24"), netip.MustParsePrefix("2001:db8::2/64")}
	versions = []string{"IPv4", "IPv6"}
)

func newLab(t *testing.T) *lab {
	t.Helper()
	t.Parallel()
	l := &lab{t: t, fw: &Linux{Log: slog.New(slog.NewTextHandler(io.Discard, nil))}}
	bridge := labtest.NewHost(t, "bridge")
	l.box, l.one, l.two = labtest.NewHost(t, "box"), labtest.NewHost(t, "one"), labtest.NewHost(t, "two")
	bridge.Bridge()
	for _, h := range []*labtest.Host{l.box, l.one, l.two} {
		h.Must(func() error { // an address at once, not when its uniqueness was proved
			return os.WriteFile("/proc/sys/net/ipv6/conf/default/accept_dad", []byte("0"), 0o600)
		})
	}
	bridge.Join(l.box, "p0", net.HardwareAddr{2, 0, 0, 0, 0, 1}, boxAddr...)
	bridge.Join(l.one, "p1", net.HardwareAddr{2, 0, 0, 0, 0, 2}, oneAddr...)
	bridge.Join(l.two, "p2", net.HardwareAddr{2, 0, 0, 0, 0, 3}, twoAddr...)
	for _, port := range []string{"443", "5480", "8080"} {
		l.box.Must(func() error {
			ln, err := net.Listen("tcp", "[::]:"+port)
			if err == nil {
				go echoTCP(ln)
				t.Cleanup(func() { ln.Close() })
			}
			return err
		})
	}
	for _, port := range []string{"3478", "8801", "9999"} {
		l.box.Must(func() error {
			c, err := net.ListenPacket("udp", "[::]:"+port)
			if err == nil {
				go echoUDP(c)
				t.Cleanup(func() { c.Close() })
			}
			return err
		})
	}
	return l
}

func echoTCP(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			io.Copy(c, c)
		}()
	}
}

func echoUDP(c net.PacketConn) {
	b := make([]byte, 2000)
	for {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return
		}
		c.WriteTo(b[:n], from)
	}
}

func (l *lab) apply(allow map[string][]netip.Prefix) {
	l.t.Helper()
	cfg := netconfig.DefaultConfig()
	cfg.Firewall.Allow = allow
	l.box.Must(func() error { return l.fw.Apply(cfg) })
}

func (l *lab) dropped() (n int64) {
	l.t.Helper()
	l.box.Must(func() error {
		s := l.fw.Status()
		if n = s.Dropped; !s.Active || s.Problem != "" {
			return fmt.Errorf("status %+v", s)
		}
		return nil
	})
	return n
}

// Patience with what must come, and with what must not: nothing fails because
// it took longer than the second.
const (
	patience   = 30 * time.Second
	impatience = 300 * time.Millisecond
)

// echo tries whether what is sent through c comes back.
func echo(c net.Conn, wait time.Duration) error {
	c.SetDeadline(time.Now().Add(wait))
	b := make([]byte, 3)
	if _, err := c.Write([]byte("abc")); err != nil {
		return err
	}
	_, err := io.ReadFull(c, b)
	return err
}

// try tries a port of the appliance from h: "tcp", "udp" or "icmp".
func (l *lab) try(h *labtest.Host, version, protocol, port string, wait time.Duration) error {
	a := boxAddr[slices.Index(versions, version)].Addr()
	return h.Do(func() error {
		if protocol == ICMP {
			return ping(a, wait)
		}
		c, err := net.DialTimeout(protocol, net.JoinHostPort(a.String(), port), wait)
		if err != nil {
			return err
		}
		defer c.Close()
		return echo(c, wait)
	})
}

func (l *lab) allowed(h *labtest.Host, version, protocol, port string) {
	l.t.Helper()
	if err := l.try(h, version, protocol, port, patience); err != nil {
		l.t.Errorf("%s %s %s is not let through: %v", version, protocol, port, err)
	}
}

func (l *lab) denied(h *labtest.Host, version, protocol, port string) {
	l.t.Helper()
	before := l.dropped()
	if err := l.try(h, version, protocol, port, impatience); err == nil {
		l.t.Errorf("%s %s %s is let through", version, protocol, port)
	} else if n := l.dropped(); n <= before {
		l.t.Errorf("%s %s %s fails (%v), but nothing is counted as dropped", version, protocol, port, err)
	}
}

// ping sends an echo request and waits for its reply.
func ping(to netip.Addr, wait time.Duration) error {
	network, request, protocol := "ip4:icmp", icmp.Type(ipv4.ICMPTypeEcho), 1
	if to.Is6() {
		network, request, protocol = "ip6:ipv6-icmp", ipv6.ICMPTypeEchoRequest, 58
	}
	c, err := icmp.ListenPacket(network, "")
	if err != nil {
		return err
	}
	defer c.Close()
	m := icmp.Message{Type: request, Body: &icmp.Echo{ID: 7, Seq: 1, Data: []byte("abc")}}
	b, err := m.Marshal(nil)
	if err != nil {
		return err
	}
	if _, err := c.WriteTo(b, &net.IPAddr{IP: to.AsSlice()}); err != nil {
		return err
	}
	c.SetDeadline(time.Now().Add(wait))
	b = make([]byte, 2000)
	for {
		n, _, err := c.ReadFrom(b)
		if err != nil {
			return err
		}
		if m, err := icmp.ParseMessage(protocol, b[:n]); err == nil {
			if m.Type == ipv4.ICMPTypeEchoReply || m.Type == ipv6.ICMPTypeEchoReply {
				return nil
			}
		}
	}
}

// The table's ports, and nothing else, from everywhere; connections outwards.
func TestLinuxOpen(t *testing.T) {
	l := newLab(t)
	l.apply(nil)
	for _, v := range versions {
		for _, p := range []string{"443", "5480"} {
			l.allowed(l.one, v, TCP, p)
		}
		for _, p := range []string{"3478", "8801"} {
			l.allowed(l.one, v, UDP, p)
		}
		l.allowed(l.two, v, ICMP, "")
		l.denied(l.one, v, TCP, "8080")
		l.denied(l.one, v, UDP, "9999")
		// The other way everything is open, and answers come in.
		a := oneAddr[slices.Index(versions, v)].Addr()
		l.one.Must(func() error {
			ln, err := net.Listen("tcp", net.JoinHostPort(a.String(), "7"))
			if err == nil {
				go echoTCP(ln)
				t.Cleanup(func() { ln.Close() })
			}
			return err
		})
		l.box.Must(func() error {
			c, err := net.DialTimeout("tcp", net.JoinHostPort(a.String(), "7"), patience)
			if err != nil {
				return err
			}
			defer c.Close()
			return errors.Join(echo(c, patience), ping(a, patience))
		})
	}
	l.box.Must(func() error { // loopback is not restricted
		c, err := net.DialTimeout("tcp", "127.0.0.1:8080", patience)
		if err != nil {
			return err
		}
		defer c.Close()
		return echo(c, patience)
	})
	// UDP to a closed port of a neighbour: its error comes in, also from a port
	// of media, which is not tracked.
	for _, own := range []int{0, 3479} {
		l.box.Must(func() error {
			c, err := net.DialUDP("udp", &net.UDPAddr{IP: boxAddr[0].Addr().AsSlice(), Port: own}, &net.UDPAddr{IP: oneAddr[0].Addr().AsSlice(), Port: 9})
			if err != nil {
				return err
			}
			defer c.Close()
			c.Write([]byte("x"))
			c.SetReadDeadline(time.Now().Add(patience))
			if _, err = c.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) || err == nil {
				return fmt.Errorf("from port %d: the neighbour's error does not come in: %w", own, err)
			}
			return nil
		})
	}
}

// Lists: who is on them, who is not, and who is taken off in the middle of it.
func TestLinuxLists(t *testing.T) {
	l := newLab(t)
	p := netip.MustParsePrefix
	only := []netip.Prefix{p("192.0.2.1/32"), p("10.0.0.0/8"), p("2001:db8::1/128"), p("255.255.255.255/32"), p("0.0.0.0/32")}
	all := map[string][]netip.Prefix{}
	for _, n := range Names {
		all[n] = only
	}
	l.apply(all)
	tries := [][2]string{{TCP, "443"}, {TCP, "5480"}, {UDP, "3478"}, {UDP, "8801"}, {ICMP, ""}}
	for _, v := range versions {
		for _, x := range tries {
			l.allowed(l.one, v, x[0], x[1])
			l.denied(l.two, v, x[0], x[1])
		}
	}
	l.apply(map[string][]netip.Prefix{Console: only})
	for _, v := range versions {
		l.allowed(l.two, v, TCP, "443")
		l.allowed(l.two, v, UDP, "8801")
		l.denied(l.two, v, TCP, "5480")
	}
	// A list of one version of IP closes the other.
	l.apply(map[string][]netip.Prefix{Console: {p("192.0.2.0/24"), p("192.0.2.128/25"), p("192.0.3.0/24")}})
	l.allowed(l.two, "IPv4", TCP, "5480")
	l.denied(l.one, "IPv6", TCP, "5480")
	l.apply(map[string][]netip.Prefix{Console: {p("0.0.0.0/0"), p("::/0")}})
	for _, v := range versions {
		l.allowed(l.two, v, TCP, "5480")
	}

	var c net.Conn
	l.two.Must(func() (err error) {
		c, err = net.DialTimeout("tcp", "192.0.2.7:5480", patience)
		if err == nil {
			err = echo(c, patience)
		}
		return err
	})
	defer c.Close()
	l.apply(map[string][]netip.Prefix{Console: only})
	if err := echo(c, impatience); err == nil {
		t.Error("a connection outlives its maker's permission")
	}
	l.apply(nil)
	b := make([]byte, 3)
	c.SetDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(c, b); err != nil {
		t.Errorf("a connection does not go on when its maker is allowed again: %v", err)
	}
}

// The second time changes nothing, also from another process; other rules do.
func TestLinuxTwice(t *testing.T) {
	l := newLab(t)
	lists := map[string][]netip.Prefix{Console: {netip.MustParsePrefix("192.0.2.1/32")}}
	l.apply(lists)
	l.denied(l.two, "IPv4", TCP, "5480")
	before := l.dropped()
	l.box.Must(func() error {
		if changed, err := replace(compile(netconfig.Firewall{Allow: lists}, "")); changed || err != nil {
			return fmt.Errorf("changed %v, %w", changed, err)
		}
		return nil
	})
	if n := l.dropped(); n < before {
		t.Errorf("%d packets were dropped, now %d", before, n)
	}
	l.box.Must(func() error {
		if changed, err := replace(compile(netconfig.Firewall{}, "")); !changed || err != nil {
			return fmt.Errorf("changed %v, %w", changed, err)
		}
		return nil
	})
	// What the kernel refuses leaves what is there.
	l.box.Must(func() error {
		r := compile(netconfig.Firewall{}, "")
		r.input = append(r.input, notIn("nowhere", false))
		if _, err := replace(r); err == nil {
			return errors.New("rules of a list that is not there are taken")
		}
		return nil
	})
	l.allowed(l.two, "IPv4", TCP, "5480")
	l.denied(l.two, "IPv4", TCP, "8080")
}

// A fingerprint is of what the rules say, so that it is the same in the next
// process, and another one for each change.
func TestFingerprint(t *testing.T) {
	seen := map[string]int{}
	for i, list := range []string{"", "192.0.2.1/32", "192.0.2.0/24", "2001:db8::/32"} {
		var cfg netconfig.Firewall
		if list != "" {
			cfg.Allow = map[string][]netip.Prefix{Console: {netip.MustParsePrefix(list)}}
		}
		for range 2 {
			f, err := compile(cfg, "").fingerprint()
			if err != nil {
				t.Fatal(err)
			}
			if j, ok := seen[f]; ok && j != i {
				t.Errorf("%q has the fingerprint of another list", list)
			}
			seen[f] = i
		}
	}
	if len(seen) != 4 {
		t.Errorf("%d fingerprints of 4 lists: %v", len(seen), seen)
	}
	if f, _ := compile(netconfig.Firewall{}, "").fingerprint(); f != openFingerprint {
		t.Errorf("the fingerprint without lists is %s: it depends on the process, or the rules changed", f)
	}
}

// openFingerprint is that of the rules without lists.
const openFingerprint = "670f746fdda9278ec7f0a470"

// Without the right to it.
func TestLinuxDenied(t *testing.T) {
	h := labtest.NewHost(t, "box")
	l := &Linux{Log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	h.Must(func() error { // the host's thread alone
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		if err := unix.Capget(&header, &data[0]); err != nil {
			return err
		}
		data[0].Effective &^= 1 << unix.CAP_NET_ADMIN
		return unix.Capset(&header, &data[0])
	})
	h.Must(func() error {
		if err := l.Apply(netconfig.DefaultConfig()); err == nil || l.Status().Active || l.Status().Problem == "" {
			return fmt.Errorf("%w, %+v", err, l.Status())
		}
		return nil
	})
}

func TestMerge(t *testing.T) {
	p := netip.MustParsePrefix
	for _, c := range []struct {
		in   []netip.Prefix
		six  bool
		want string
	}{
		{nil, false, "[]"},
		{[]netip.Prefix{p("10.0.1.0/24"), p("10.0.0.0/24"), p("::/0")}, false, "[10.0.0.0-10.0.1.255]"},
		{[]netip.Prefix{p("10.0.0.0/8"), p("10.1.0.0/16"), p("12.0.0.0/8")}, false, "[10.0.0.0-10.255.255.255 12.0.0.0-12.255.255.255]"},
		{[]netip.Prefix{p("0.0.0.0/0"), p("255.255.255.255/32")}, false, "[0.0.0.0-255.255.255.255]"},
		{[]netip.Prefix{p("10.0.0.0/8"), p("2001:db8::/32"), p("2001:db8:1::/48")}, true, "[2001:db8::-2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]"},
	} {
		if got := fmt.Sprint(merge(c.in, c.six)); got != c.want {
			t.Errorf("merge(%v) = %s, want %s", c.in, got, c.want)
		}
	}
}
