package ethernet

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/parley-meet/parley/internal/judge"
	"github.com/parley-meet/parley/services/internal/dhcp"
	"github.com/parley-meet/parley/services/internal/labtest"
	"github.com/parley-meet/parley/services/internal/netconfig"
)

// asDaemon makes this binary a daemon on eth0, with the files in that folder. It
// follows each configuration that comes as a line, and answers with what Applied
// says.
const asDaemon = "PARLEY_TEST_AS_DAEMON"

func TestMain(m *testing.M) {
	if dir := os.Getenv(asDaemon); dir != "" {
		if err := daemon(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func daemon(dir string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	d := New(Config{
		Interface: "eth0", RunDir: dir, PermDir: dir, Kernel: Linux("eth0"), Wire: dhcp.Sockets{Interface: "eth0"},
		Rand: rand.New(rand.NewPCG(1, 2)), Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Started: func(string) error { return nil },
	})
	in := bufio.NewReader(os.Stdin)
	next := func() error {
		b, err := in.ReadBytes('\n')
		if err != nil {
			return err
		}
		c, err := netconfig.ParseConfig(b)
		if err == nil {
			d.Set(c)
		}
		return err
	}
	if err := next(); err != nil {
		return err
	}
	go func() {
		for {
			text := "applied"
			if err := d.Applied(ctx); err != nil {
				text = strings.ReplaceAll(err.Error(), "\n", "; ")
			}
			fmt.Println(text)
			if next() != nil {
				return
			}
		}
	}()
	return d.Run(ctx)
}

// lab is an appliance on a link with others.
type lab struct {
	t           *testing.T
	server, box *labtest.Host
	dir         string
	log         *judge.Output
	cmd         *exec.Cmd
	in          *os.File
	out         *bufio.Reader
}

func newLab(t *testing.T) *lab {
	server, b := box(t)
	server.Assign("br0", netip.MustParsePrefix("2001:db8:1::1/64"))
	l := &lab{t: t, server: server, box: b, dir: t.TempDir(), log: &judge.Output{}}
	if err := errors.Join(os.Chown(l.dir, 101, 101), os.Chmod(filepath.Dir(l.dir), 0o755)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the daemon's log:\n%s", l.log)
		}
	})
	return l
}

// spawn starts a process on a host; it ends with the test.
func (l *lab) spawn(h *labtest.Host, cmd *exec.Cmd) {
	l.t.Helper()
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	}
	h.Must(cmd.Start)
	l.t.Cleanup(func() {
		if cmd.ProcessState == nil {
			cmd.Process.Kill()
			cmd.Wait()
		}
	})
}

// asService is the user and the privileges that the network service has on the
// appliance.
func asService() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		Pdeathsig:   syscall.SIGKILL,
		Credential:  &syscall.Credential{Uid: 101, Gid: 101},
		AmbientCaps: []uintptr{unix.CAP_NET_ADMIN, unix.CAP_NET_RAW, unix.CAP_NET_BIND_SERVICE},
	}
}

// start starts the daemon with a configuration, and returns what Applied says.
func (l *lab) start(c netconfig.Config) string {
	l.t.Helper()
	path, err := os.Executable()
	if err != nil {
		l.t.Fatal(err)
	}
	exe, err := os.Open(path) // which the service's user cannot
	if err != nil {
		l.t.Fatal(err)
	}
	defer exe.Close()
	ours, theirs, err1 := os.Pipe()
	stdin, in, err2 := os.Pipe()
	if err := errors.Join(err1, err2); err != nil {
		l.t.Fatal(err)
	}
	l.cmd = exec.Command("/proc/self/fd/3")
	l.cmd.ExtraFiles = []*os.File{exe}
	l.cmd.SysProcAttr = asService()
	l.cmd.Env = append(os.Environ(), asDaemon+"="+l.dir)
	l.cmd.Stdin, l.cmd.Stdout, l.cmd.Stderr = stdin, theirs, l.log
	l.spawn(l.box, l.cmd)
	stdin.Close()
	theirs.Close()
	l.t.Cleanup(func() { in.Close(); ours.Close() })
	l.in, l.out = in, bufio.NewReader(ours)
	return l.set(c)
}

// set sets a configuration, and returns what Applied says.
func (l *lab) set(c netconfig.Config) string {
	l.t.Helper()
	b, err := json.Marshal(c)
	if err == nil {
		_, err = l.in.Write(append(b, '\n'))
	}
	if err != nil {
		l.t.Fatal(err)
	}
	answer, err := l.out.ReadString('\n')
	if err != nil {
		l.t.Fatalf("the daemon is gone: %v\n%s", err, l.log)
	}
	return strings.TrimSpace(answer)
}

func (l *lab) must(c netconfig.Config) {
	l.t.Helper()
	if got := l.set(c); got != "applied" {
		l.t.Fatalf("Applied: %s", got)
	}
}

func (l *lab) stop() {
	l.t.Helper()
	if err := l.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		l.t.Fatal(err)
	}
	if err := l.cmd.Wait(); err != nil {
		l.t.Fatalf("after SIGTERM: %v", err)
	}
}

// until waits for a published state. A minute is far more than anything here
// takes: nothing is judged by it.
func (l *lab) until(what string, good func(netconfig.State) bool) (s netconfig.State) {
	l.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		b, err := os.ReadFile(filepath.Join(l.dir, netconfig.StateFile))
		if err == nil {
			s, err = netconfig.DecodeState(b)
		}
		if err == nil && good(s) {
			return s
		}
		if time.Now().After(deadline) {
			l.t.Fatalf("waiting for %s: %+v, %v", what, s, err)
		}
	}
}

// kernel is what the box's kernel has: addresses, in its order, and routes.
func (l *lab) kernel() string {
	l.t.Helper()
	var b strings.Builder
	l.box.Must(func() error {
		k := Linux("eth0")
		have, err := k.Addresses()
		if err != nil {
			return err
		}
		for _, a := range have {
			fmt.Fprintf(&b, "%v %s\n", a.Prefix, a.Label)
		}
		have6, err := k.Addresses6()
		if err != nil {
			return err
		}
		for _, a := range have6 {
			fmt.Fprintf(&b, "%v auto=%v\n", a.Prefix, a.Auto)
		}
		routes, err := k.Routes()
		for _, r := range routes {
			fmt.Fprintf(&b, "%v via %v from %v static=%v\n", r.Destination, r.Gateway, r.Source, r.Static)
		}
		return err
	})
	return b.String()
}

// same holds that a second daemon, which applies all again, changes nothing: no
// address goes, and no route comes or goes.
func (l *lab) same(c netconfig.Config, good func(netconfig.State) bool) {
	l.t.Helper()
	before := l.kernel()
	addrs, routes, done := make(chan netlink.AddrUpdate, 1000), make(chan netlink.RouteUpdate, 1000), make(chan struct{})
	l.box.Must(func() error {
		return errors.Join(netlink.AddrSubscribe(addrs, done), netlink.RouteSubscribe(routes, done))
	})
	defer close(done)
	l.stop()
	if err := os.Remove(filepath.Join(l.dir, netconfig.StateFile)); err != nil {
		l.t.Fatal(err)
	}
	if got := l.start(c); got != "applied" {
		l.t.Fatalf("the second time: %s", got)
	}
	l.until("the second daemon", good)
	if after := l.kernel(); after != before {
		l.t.Errorf("before\n%safter\n%s", before, after)
	}
	for {
		select {
		case u := <-addrs:
			if !u.NewAddr {
				l.t.Errorf("the address %v went", u.LinkAddress)
			}
		case u := <-routes:
			// Routers renew theirs by themselves.
			if u.Protocol == protocolDHCP || u.Protocol == protocolStatic || u.Type == syscall.RTM_DELROUTE {
				l.t.Errorf("route %+v, type %d", u.Route, u.Type)
			}
		default:
			return
		}
	}
}

// dnsmasq starts one on the server.
func (l *lab) dnsmasq(args ...string) *judge.Output {
	l.t.Helper()
	cmd, log := judge.Dnsmasq(l.t, filepath.Join(l.dir, "dnsmasq.leases"), args...)
	l.spawn(l.server, cmd)
	l.says(log, "DHCP")
	return log
}

func (l *lab) says(log *judge.Output, words string) {
	l.t.Helper()
	for deadline := time.Now().Add(time.Minute); !strings.Contains(log.String(), words); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			l.t.Fatalf("%q is not in the log:\n%s", words, log)
		}
	}
}

// neighbour is another machine with these addresses.
func (l *lab) neighbour(addresses ...string) *labtest.Host {
	l.t.Helper()
	h := labtest.NewHost(l.t, "neighbour")
	var list []netip.Prefix
	for _, a := range addresses {
		list = append(list, netip.MustParsePrefix(a))
	}
	l.server.Join(h, "p9", other, list...)
	return h
}

func has(a string) func(netconfig.State) bool {
	return func(s netconfig.State) bool {
		return len(s.Addresses) == 1 && s.Addresses[0] == netip.MustParsePrefix(a)
	}
}

// without IPv6, where it is not what is tested.
func only4(c netconfig.Config) netconfig.Config {
	c.IPv6.Mode = netconfig.ModeOff
	return c
}

func TestLabStatic(t *testing.T) {
	l := newLab(t)
	c := only4(static("192.0.2.7/24", "192.0.2.1", "192.0.2.8/24"))
	c.Routes = []netconfig.Route{route("10.0.0.0/8", "192.0.2.2")}
	if got := l.start(c); got != "applied" {
		t.Fatal(got)
	}
	l.until("the slave", func(s netconfig.State) bool { return s.Slave == c.Slave })
	routes := "0.0.0.0/0 via 192.0.2.1 from 192.0.2.7 static=true\n10.0.0.0/8 via 192.0.2.2 from 192.0.2.7 static=true\n"
	expect := func(what, want string) {
		t.Helper()
		if got := l.kernel(); got != want {
			t.Fatalf("%s: the kernel has\n%swant\n%s", what, got, want)
		}
	}
	expect("both in one network", "192.0.2.7/24 \n192.0.2.8/24 eth0:0\n"+routes)
	l.same(c, has("192.0.2.7/24"))

	// The slave goes, and comes elsewhere; then the master goes from beside it.
	slave := c.Slave
	c.Slave = netip.Prefix{}
	l.must(c)
	expect("without a slave", "192.0.2.7/24 \n"+routes)
	c.Slave = netip.MustParsePrefix("203.0.113.8/24")
	l.must(c)
	expect("in two networks", "192.0.2.7/24 \n203.0.113.8/24 eth0:0\n"+routes)
	l.same(c, has("192.0.2.7/24"))
	c.Slave = slave
	l.must(c)
	c.Eth0.Address = netip.MustParsePrefix("192.0.2.6/24")
	l.must(c)
	l.until("another master", has("192.0.2.6/24"))
	expect("another master", "192.0.2.6/24 \n192.0.2.8/24 eth0:0\n"+strings.ReplaceAll(routes, "from 192.0.2.7", "from 192.0.2.6"))
	l.same(c, has("192.0.2.6/24"))

	// Somebody has the address: of the slave, of the master, and later on.
	n := l.neighbour("192.0.2.20/24", "192.0.2.21/24")
	c.Slave = netip.MustParsePrefix("192.0.2.21/24")
	if got := l.set(c); !strings.Contains(got, "192.0.2.21 is in use by another machine, "+other.String()) {
		t.Errorf("a slave that somebody has: %s", got)
	}
	if s := l.until("the duplicate", func(s netconfig.State) bool { return len(s.Duplicates) == 1 }); s.Slave.IsValid() || !has("192.0.2.6/24")(s) {
		t.Errorf("state %+v", s)
	}
	c.Slave = netip.Prefix{}
	c.Eth0.Address = netip.MustParsePrefix("192.0.2.20/24")
	if got := l.set(c); !strings.Contains(got, "192.0.2.20 is in use by another machine") {
		t.Errorf("a master that somebody has: %s", got)
	}
	expect("a master that somebody has", "")
	c.Eth0.Address = netip.MustParsePrefix("192.0.2.7/24")
	l.must(c)
	l.until("no duplicate", func(s netconfig.State) bool { return len(s.Duplicates) == 0 && has("192.0.2.7/24")(s) })
	for range 100 { // until the daemon listens
		n.Must(func() error { return Linux("eth0").Announce(netip.MustParseAddr("192.0.2.7")) })
		time.Sleep(50 * time.Millisecond)
		if strings.Contains(l.log.String(), "another machine uses this address too") {
			break
		}
	}
	s := l.until("a later conflict", func(s netconfig.State) bool { return len(s.Duplicates) == 1 })
	if s.Duplicates[0].HardwareAddress != other.String() || !has("192.0.2.7/24")(s) {
		t.Errorf("state %+v", s)
	}
	l.stop()
}

func TestLabStaticAndDHCP(t *testing.T) {
	l := newLab(t)
	l.neighbour("192.0.2.100/24") // that the server gives first
	log := l.dnsmasq("--dhcp-range=192.0.2.100,192.0.2.110,255.255.255.0,2m", "--dhcp-option=option:dns-server,192.0.2.53",
		"--dhcp-option=option:ntp-server,192.0.2.123", "--domain=example.org", "--dhcp-option=option:domain-search,a.example,b.example")
	c := only4(static("192.0.2.7/24", "192.0.2.1", "203.0.113.8/24"))
	if got := l.start(c); got != "applied" {
		t.Fatal(got)
	}
	d := only4(netconfig.DefaultConfig())
	d.Slave = c.Slave
	l.must(d)
	s := l.until("the declined address", func(s netconfig.State) bool { return len(s.Duplicates) == 1 })
	if s.Duplicates[0].Address != netip.MustParseAddr("192.0.2.100") || s.Slave != d.Slave {
		t.Errorf("state %+v", s)
	}
	s = l.until("a lease", func(s netconfig.State) bool { return s.Lease != nil })
	l.says(log, "DHCPDECLINE")
	if !has("192.0.2.101/24")(s) || s.Slave != d.Slave || s.DNSSource != netconfig.FromDHCP || s.Domain != "example.org" ||
		len(s.Search) != 2 || len(s.NTP) != 1 || s.Gateway != netip.MustParseAddr("192.0.2.1") {
		t.Errorf("state %+v", s)
	}
	want := "192.0.2.101/24 \n203.0.113.8/24 eth0:0\n0.0.0.0/0 via 192.0.2.1 from 192.0.2.101 static=false\n"
	if got := l.kernel(); got != want && got != "203.0.113.8/24 eth0:0\n192.0.2.101/24 \n0.0.0.0/0 via 192.0.2.1 from 192.0.2.101 static=false\n" {
		t.Errorf("the kernel has\n%s", got)
	}
	l.same(d, func(s netconfig.State) bool { return s.Lease != nil })

	// What is configured wins over the server.
	d.DNS.Servers = []netip.Addr{netip.MustParseAddr("192.0.2.54")}
	d.Eth0.MTU = 1400
	l.must(d)
	s = l.until("the configured MTU", func(s netconfig.State) bool { return s.MTU == 1400 && s.Lease != nil })
	if b, _ := os.ReadFile(filepath.Join(l.dir, netconfig.ResolvFile)); !strings.Contains(string(b), "nameserver 192.0.2.54\nsearch a.example b.example") {
		t.Errorf("resolv.conf %s", b)
	}
	l.must(c)
	l.until("static again", has("192.0.2.7/24"))
	l.says(log, "DHCPRELEASE")
	if b, err := os.ReadFile(filepath.Join(l.dir, netconfig.LeaseFile)); !os.IsNotExist(err) {
		t.Errorf("the lease is remembered: %s, %v", b, err)
	}
	// Static with the very address of a lease: it never goes.
	l.must(d)
	s = l.until("a lease", func(s netconfig.State) bool { return s.Lease != nil })
	addrs, done := make(chan netlink.AddrUpdate, 1000), make(chan struct{})
	l.box.Must(func() error { return netlink.AddrSubscribe(addrs, done) })
	l.must(only4(static(s.Addresses[0].String(), "192.0.2.1", "203.0.113.8/24")))
	l.until("static", func(s netconfig.State) bool { return s.Mode == netconfig.ModeStatic && len(s.Addresses) == 1 })
	l.box.Must(func() error {
		have, err := Linux("eth0").Addresses()
		if err == nil && slices.ContainsFunc(have, func(a netconfig.Address) bool { return !a.Until.IsZero() }) {
			err = fmt.Errorf("a static address ends: %v", have)
		}
		return err
	})
	close(done)
	for len(addrs) > 0 {
		if u := <-addrs; !u.NewAddr {
			t.Errorf("the address %v went", u.LinkAddress)
		}
	}
	l.stop()
}

func TestLabIPv6(t *testing.T) {
	l := newLab(t)
	n := l.neighbour()
	n.Assign("eth0", netip.MustParsePrefix("2001:db8:1::99/64"))
	l.dnsmasq("--enable-ra", "--dhcp-range=2001:db8:1::100,2001:db8:1::1ff,slaac,64,2m",
		"--dhcp-option=option6:dns-server,[2001:db8:1::53]", "--dhcp-option=option6:domain-search,six.example")
	c := static("192.0.2.7/24", "192.0.2.1", "")
	if got := l.start(c); got != "applied" {
		t.Fatal(got)
	}
	auto := func(s netconfig.State) bool { return s.Lease6 != nil && len(s.IPv6) == 2 && s.Gateway6.IsValid() }
	s := l.until("SLAAC and DHCPv6", auto)
	if s.DNSSource != netconfig.FromDHCP6 || s.Search[0] != "six.example" || s.DNS[0] != netip.MustParseAddr("2001:db8:1::53") || !s.Gateway6.IsLinkLocalUnicast() {
		t.Errorf("state %+v", s)
	}
	kernel := l.kernel()
	for _, want := range []string{"2001:db8:1::", "/128 auto=false", "/64 auto=true"} {
		if !strings.Contains(kernel, want) {
			t.Errorf("the kernel has\n%swithout %s", kernel, want)
		}
	}
	l.same(c, auto)

	c.IPv6 = netconfig.IPv6{Mode: netconfig.ModeStatic, Address: netip.MustParsePrefix("2001:db8:1::7/64"), Gateway: netip.MustParseAddr("2001:db8:1::1")}
	c.Routes = []netconfig.Route{{Destination: netip.MustParsePrefix("2001:db8:9::/48"), Gateway: netip.MustParseAddr("2001:db8:1::2")}}
	l.must(c)
	fixed := func(s netconfig.State) bool {
		return len(s.IPv6) == 1 && s.IPv6[0] == c.IPv6.Address && s.Gateway6 == c.IPv6.Gateway && s.Lease6 == nil
	}
	l.until("a static address", fixed)
	want := "192.0.2.7/24 \n2001:db8:1::7/64 auto=false\n0.0.0.0/0 via 192.0.2.1 from 192.0.2.7 static=true\n" +
		"2001:db8:9::/48 via 2001:db8:1::2 from invalid IP static=true\n::/0 via 2001:db8:1::1 from invalid IP static=true\n"
	if got := l.kernel(); got != want {
		t.Errorf("the kernel has\n%swant\n%s", got, want)
	}
	l.same(c, fixed)

	c.IPv6.Address = netip.MustParsePrefix("2001:db8:1::99/64")
	if got := l.set(c); !strings.Contains(got, "2001:db8:1::99 is in use by another machine") {
		t.Errorf("an address of IPv6 that somebody has: %s", got)
	}
	l.until("a duplicate of IPv6", func(s netconfig.State) bool {
		return strings.Contains(s.Problem, "2001:db8:1::99 is in use by another machine") && len(s.IPv6) == 0
	})

	c.IPv6, c.Routes = netconfig.IPv6{Mode: netconfig.ModeOff}, nil
	l.must(c)
	l.until("no IPv6", func(s netconfig.State) bool {
		return len(s.IPv6) == 0 && s.IPv6Mode == netconfig.ModeOff && s.Problem == ""
	})
	l.box.Must(func() error {
		ifc, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		addrs, err := ifc.Addrs()
		for _, a := range addrs {
			if strings.Contains(a.String(), ":") {
				err = errors.Join(err, fmt.Errorf("IPv6 is off, and there is %v", a))
			}
		}
		return err
	})
	off := func(s netconfig.State) bool { return s.IPv6Mode == netconfig.ModeOff && len(s.Addresses) == 1 }
	l.same(c, off)
	c.IPv6.Mode = netconfig.ModeAuto
	l.must(c)
	l.until("automatic again", auto)
	l.stop()
}

// Settings by DHCPv6, or by routers alone, and the address by SLAAC.
func TestLabStateless(t *testing.T) {
	l := newLab(t)
	l.dnsmasq("--enable-ra", "--dhcp-range=2001:db8:1::,ra-stateless,64,2m", "--dhcp-option=option6:dns-server,[2001:db8:1::53]")
	c := static("192.0.2.7/24", "", "")
	if got := l.start(c); got != "applied" {
		t.Fatal(got)
	}
	s := l.until("settings by DHCPv6", func(s netconfig.State) bool { return s.DNSSource == netconfig.FromDHCP6 && len(s.IPv6) == 1 })
	if s.Lease6 != nil || s.DNS[0] != netip.MustParseAddr("2001:db8:1::53") {
		t.Errorf("state %+v", s)
	}
	l.box.Must(func() error {
		if v, err := Linux("eth0").Sysctl("ipv6", "accept_ra_min_hop_limit"); err != nil || v != "64" {
			return fmt.Errorf("accept_ra_min_hop_limit %s, %w", v, err)
		}
		return nil
	})
	l.stop()
}

func TestLabRouterAlone(t *testing.T) {
	l := newLab(t)
	l.dnsmasq("--enable-ra", "--dhcp-range=2001:db8:1::,ra-only,64,2m", "--dhcp-option=option6:dns-server,[2001:db8:1::54]")
	if got := l.start(static("192.0.2.7/24", "", "")); got != "applied" {
		t.Fatal(got)
	}
	s := l.until("a router's name server", func(s netconfig.State) bool { return s.DNSSource == netconfig.FromRouter && len(s.IPv6) == 1 })
	if s.DNS[0] != netip.MustParseAddr("2001:db8:1::54") || !s.Gateway6.IsValid() {
		t.Errorf("state %+v", s)
	}
	l.stop()
}
