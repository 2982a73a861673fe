package ethernet

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/parley-meet/parley/services/internal/dhcp"
	"github.com/parley-meet/parley/services/internal/netconfig"
)

// wire is a server that gives one address for an hour, or says no.
type wire struct {
	mu      sync.Mutex
	address string
	no      bool
	more    []dhcpv4.Option
	back    []string // addresses that were given back
}

func (w *wire) released(a string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Contains(w.back, a)
}

type wireConn struct {
	w      *wire
	in     chan []byte
	closed chan struct{}
}

func (w *wire) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

func (w *wire) Open(netip.Addr) (dhcp.Conn, error) {
	return &wireConn{w, make(chan []byte, 10), make(chan struct{})}, nil
}

func (c *wireConn) Close() error { close(c.closed); return nil }

func (c *wireConn) Receive(b []byte) (int, error) {
	select {
	case m := <-c.in:
		return copy(b, m), nil
	case <-c.closed:
		return 0, io.EOF
	}
}

func (c *wireConn) Send(b []byte, _ netip.Addr) error {
	req, err := dhcpv4.FromBytes(b)
	if err != nil {
		return err
	}
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	kind := dhcpv4.MessageTypeAck
	switch {
	case req.MessageType() == dhcpv4.MessageTypeRelease:
		c.w.back = append(c.w.back, req.ClientIPAddr.String())
		return nil
	case req.MessageType() == dhcpv4.MessageTypeDecline:
		return nil
	case req.MessageType() == dhcpv4.MessageTypeDiscover:
		kind = dhcpv4.MessageTypeOffer
	case c.w.no:
		kind = dhcpv4.MessageTypeNak
	}
	m, err := dhcpv4.NewReplyFromRequest(req, dhcpv4.WithMessageType(kind), dhcpv4.WithYourIP(netip.MustParseAddr(c.w.address).AsSlice()),
		dhcpv4.WithNetmask([]byte{255, 255, 255, 0}), dhcpv4.WithLeaseTime(3600), dhcpv4.WithRouter([]byte{192, 0, 2, 1}), dhcpv4.WithDNS([]byte{192, 0, 2, 53}),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier([]byte{192, 0, 2, 1})))
	if err != nil {
		return err
	}
	for _, o := range c.w.more {
		m.UpdateOption(o)
	}
	c.in <- m.ToBytes()
	return nil
}

// place is a daemon in a bubble, with its world.
type place struct {
	t       *testing.T
	kernel  *fakeKernel
	wire    *wire
	wire6   *wire6
	dir     string
	logs    *bytes.Buffer // to be read after synctest.Wait
	daemon  *Daemon
	started []string
	next    netconfig.Config // of the next start; its zero is none
	stop    func()
}

func newPlace(t *testing.T) *place {
	p := &place{t: t, kernel: newKernel(), wire: &wire{address: "192.0.2.7"}, wire6: &wire6{}, dir: t.TempDir(), logs: &bytes.Buffer{}}
	for _, d := range []string{"run", "perm"} {
		if err := os.Mkdir(filepath.Join(p.dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// start starts a process and lets it settle for a few seconds.
func (p *place) start() {
	p.t.Helper()
	p.daemon = New(Config{
		Interface: "eth0", Hostname: "parley", RunDir: filepath.Join(p.dir, "run"), PermDir: filepath.Join(p.dir, "perm"),
		Kernel: p.kernel, Wire: p.wire, Wire6: p.wire6, Rand: rand.New(rand.NewPCG(1, 2)), Log: slog.New(slog.NewTextHandler(p.logs, nil)),
		Started: func(detail string) error { p.started = append(p.started, detail); return nil },
	})
	if p.next.Version != 0 {
		p.daemon.Set(p.next)
	}
	ctx, cancel := context.WithCancel(p.t.Context())
	done := make(chan error, 1)
	go func() { done <- p.daemon.Run(ctx) }()
	p.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			p.t.Errorf("Run: %v", err)
		}
	})
	p.t.Cleanup(p.stop)
	p.pass(5 * time.Second)
}

func (p *place) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (p *place) state() netconfig.State {
	p.t.Helper()
	b, err := os.ReadFile(filepath.Join(p.dir, "run", netconfig.StateFile))
	if err != nil {
		p.t.Fatal(err)
	}
	s, err := netconfig.DecodeState(b)
	if err != nil {
		p.t.Fatal(err)
	}
	return s
}

// expect compares what the kernel was told since the last call, and what the
// service says of itself.
func (p *place) expect(ops, detail string) {
	p.t.Helper()
	if got := p.kernel.did(); got != ops {
		p.t.Errorf("did  %q\nwant %q", got, ops)
	}
	got, err := p.daemon.Check()
	if err != nil || got != detail {
		p.t.Errorf("says %q, %v, want %q", got, err, detail)
	}
	if p.t.Failed() {
		p.t.Fatalf("log:\n%s", p.logs)
	}
}

// bubble runs a test in a bubble.
func bubble(t *testing.T, f func(t *testing.T, p *place)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, newPlace(t)) })
}

const (
	bringUp = "SetAddress 192.0.2.7/24; SetRoute 0.0.0.0/0 via 192.0.2.1; Announce 192.0.2.7"
	running = "eth0: 192.0.2.7/24 by DHCP"
)

func TestDaemon(t *testing.T) {
	bubble(t, func(t *testing.T, p *place) {
		p.kernel.link.Up, p.kernel.link.Carrier = false, false
		p.kernel.addrs = []netconfig.Address{addr("10.9.9.9/8")} // of nobody
		p.start()
		if got := p.kernel.did(); got != "SetUp; RemoveAddress 10.9.9.9/8; "+bringUp && got != "RemoveAddress 10.9.9.9/8; SetUp; "+bringUp {
			t.Errorf("did %q", got)
		}
		p.expect("", running)
		if len(p.started) != 1 || p.started[0] != "eth0: no carrier" {
			t.Errorf("started %q, want once", p.started)
		}
		s := p.state()
		if s.Link != netconfig.LinkUp || len(s.Addresses) != 1 || s.Gateway != netip.MustParseAddr("192.0.2.1") || s.Lease == nil || s.LinkMTU != 1500 || s.Mode != netconfig.ModeDHCP {
			t.Errorf("state %+v", s)
		}
		b, _ := os.ReadFile(filepath.Join(p.dir, "run", netconfig.ResolvFile))
		if !strings.Contains(string(b), "nameserver 192.0.2.53\n") {
			t.Errorf("resolv.conf %q", b)
		}
		// Renewed: the address lasts longer, the rest is as it was, and files that
		// have not changed are not written again.
		os.Remove(filepath.Join(p.dir, "run", netconfig.ResolvFile))
		p.pass(30 * time.Minute)
		p.expect("SetAddress 192.0.2.7/24", running)
		if _, err := os.Stat(filepath.Join(p.dir, "run", netconfig.ResolvFile)); !os.IsNotExist(err) {
			t.Errorf("an unchanged file was written again: %v", err)
		}

		// A second process goes on where the first was, and so does a third
		// that finds no server.
		for range 2 {
			p.stop()
			p.pass(time.Minute)
			p.start()
			if got := p.kernel.did(); got != "SetAddress 192.0.2.7/24; Announce 192.0.2.7" && got != "Announce 192.0.2.7; SetAddress 192.0.2.7/24" {
				t.Errorf("after a restart did %q", got)
			}
		}
		p.stop()
	})
}

// A server takes the address back: it goes, and so does the memory of it.
func TestDaemonNAK(t *testing.T) {
	bubble(t, func(t *testing.T, p *place) {
		p.start()
		p.expect(bringUp, running)
		lease := filepath.Join(p.dir, "perm", netconfig.LeaseFile)
		if _, err := os.Stat(lease); err != nil {
			t.Fatal(err)
		}
		p.wire.set(func() { p.wire.no = true })
		p.pass(30 * time.Minute)
		p.expect("RemoveAddress 192.0.2.7/24", "eth0: waiting for DHCP")
		if _, err := os.Stat(lease); !os.IsNotExist(err) {
			t.Errorf("the lease is still remembered: %v", err)
		}
		if s := p.state(); len(s.Addresses) != 0 || s.Lease != nil || s.DNS != nil || s.Gateway.IsValid() {
			t.Errorf("state %+v", s)
		}
		p.wire.set(func() { p.wire.no, p.wire.address = false, "192.0.2.8" })
		p.pass(2 * time.Minute)
		p.expect("SetAddress 192.0.2.8/24; SetRoute 0.0.0.0/0 via 192.0.2.1; Announce 192.0.2.8", "eth0: 192.0.2.8/24 by DHCP")
		p.stop()
	})
}

// A server that has its lease renewed every other second does not have the disk
// written to as often, and what is remembered of before goes.
func TestDaemonShortLease(t *testing.T) {
	bubble(t, func(t *testing.T, p *place) {
		p.wire.more = []dhcpv4.Option{dhcpv4.OptIPAddressLeaseTime(dhcp.MinLease)}
		lease := filepath.Join(p.dir, "perm", netconfig.LeaseFile)
		if err := os.WriteFile(lease, []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
		p.start()
		p.pass(time.Minute)
		if p.kernel.did(); p.state().Lease == nil {
			t.Fatal("no lease")
		}
		if b, err := os.ReadFile(lease); !os.IsNotExist(err) {
			t.Errorf("a lease of %v is remembered: %s, %v", dhcp.MinLease, b, err)
		}
		p.wire.set(func() { p.wire.more = nil })
		p.pass(time.Minute)
		if _, err := os.Stat(lease); err != nil {
			t.Errorf("a lease of an hour: %v", err)
		}
		p.stop()
	})
}

// No interface, then one, then another, then one that is no Ethernet.
func TestDaemonInterfaces(t *testing.T) {
	bubble(t, func(t *testing.T, p *place) {
		p.kernel.err = ErrNoLink
		p.start()
		if len(p.started) != 1 {
			t.Errorf("started %q, want once: a missing interface is no reason to be restarted", p.started)
		}
		p.kernel.did()
		p.expect("", "eth0: no such interface")
		if s := p.state(); s.Link != netconfig.LinkMissing || s.HardwareAddress != "" {
			t.Errorf("state %+v", s)
		}
		p.kernel.set(func() { p.kernel.err = nil })
		p.pass(5 * time.Second)
		p.expect(bringUp, running)

		p.kernel.set(func() { p.kernel.link.HardwareAddr, p.kernel.addrs, p.kernel.routes = other, nil, nil })
		p.pass(5 * time.Second)
		p.kernel.did()
		p.expect("", running)
		if s := p.state(); s.HardwareAddress != other.String() {
			t.Errorf("state %+v", s)
		}
		b, _ := os.ReadFile(filepath.Join(p.dir, "perm", netconfig.LeaseFile))
		if !strings.Contains(string(b), other.String()) {
			t.Errorf("the lease is remembered as another's:\n%s", b)
		}

		p.kernel.set(func() { p.kernel.link.HardwareAddr = nil })
		p.pass(5 * time.Second)
		p.kernel.did()
		p.expect("", `eth0: hardware address "" is not of an Ethernet`)
		p.kernel.set(func() { p.kernel.err = errTest })
		p.pass(5 * time.Second)
		p.expect("", "eth0: broken")
		p.kernel.set(func() { p.kernel.err, p.kernel.link.HardwareAddr = nil, testMAC })
		p.pass(5 * time.Second)
		p.kernel.did()
		p.expect("", running)
		if len(p.started) != 1 {
			t.Errorf("started %d times", len(p.started))
		}
		p.stop()
	})
}

// What the kernel refuses is published, told once, tried again more and more
// seldom, and at last in force.
func TestDaemonKernelRefuses(t *testing.T) {
	bubble(t, func(t *testing.T, p *place) {
		p.kernel.fail["SetAddress"] = errTest
		p.start()
		p.pass(time.Hour)
		if s := p.state(); s.Problem != "broken\nsource 192.0.2.7 is not an own address" || len(s.Addresses) != 0 {
			t.Errorf("state %+v", s)
		}
		if n := strings.Count(p.logs.String(), "configuration is not in force"); n != 1 {
			t.Errorf("told %d times, want once", n)
		}
		// 5 s, and an hour of pauses up to 30 s.
		if n := strings.Count(p.kernel.did(), "SetAddress"); n < 120 || n > 130 {
			t.Errorf("tried %d times", n)
		}
		if detail, err := p.daemon.Check(); err != nil || !strings.Contains(detail, "broken") {
			t.Errorf("says %q, %v", detail, err)
		}
		p.kernel.set(func() { delete(p.kernel.fail, "SetAddress") })
		p.pass(30 * time.Second)
		p.expect(bringUp, running)
		if s := p.state(); s.Problem != "" {
			t.Errorf("state %+v", s)
		}
		p.stop()
	})
}

// A server's MTU that the interface cannot have is no reason to be without an
// address; one that goes gives the interface its own back, after a restart too.
func TestDaemonMTU(t *testing.T) {
	bubble(t, func(t *testing.T, p *place) {
		p.wire.more = []dhcpv4.Option{dhcpv4.OptGeneric(dhcpv4.OptionInterfaceMTU, []byte{0x23, 0x28})}
		p.kernel.fail["SetMTU"] = errTest
		p.start()
		p.expect("SetMTU 9000; "+bringUp, running)
		p.pass(2 * time.Hour)
		if n := strings.Count(p.kernel.did(), "SetMTU"); n != 0 {
			t.Errorf("tried %d times more", n)
		}
		p.stop()
		delete(p.kernel.fail, "SetMTU")
		p.start()
		p.pass(30 * time.Minute)
		if p.kernel.link.MTU != 9000 || p.state().MTU != 9000 {
			t.Errorf("MTU %d, state %+v", p.kernel.link.MTU, p.state())
		}
		p.stop()
		p.wire.more = nil
		p.start()
		p.pass(30 * time.Minute)
		if p.kernel.link.MTU != 1500 || p.state().LinkMTU != 1500 {
			t.Errorf("MTU %d, want the interface's own; state %+v", p.kernel.link.MTU, p.state())
		}
		p.stop()
	})
}

// Files that cannot be read or written cost nothing but a line in the log.
func TestDaemonFiles(t *testing.T) {
	for name, spoil := range map[string]func(p *place) error{
		"damaged lease": func(p *place) error {
			return os.WriteFile(filepath.Join(p.dir, "perm", netconfig.LeaseFile), []byte("{"), 0o600)
		},
		"newer lease": func(p *place) error {
			return os.WriteFile(filepath.Join(p.dir, "perm", netconfig.LeaseFile), []byte(`{"version":9}`), 0o600)
		},
		"huge lease": func(p *place) error {
			return os.WriteFile(filepath.Join(p.dir, "perm", netconfig.LeaseFile), make([]byte, 1<<20), 0o600)
		},
		"damaged state": func(p *place) error {
			return os.WriteFile(filepath.Join(p.dir, "run", netconfig.StateFile), []byte("{"), 0o600)
		},
		"no perm folder": func(p *place) error { return os.Remove(filepath.Join(p.dir, "perm")) },
		"no run folder":  func(p *place) error { return os.Remove(filepath.Join(p.dir, "run")) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, p *place) {
				if err := spoil(p); err != nil {
					t.Fatal(err)
				}
				p.start()
				p.expect(bringUp, running)
				if name != "damaged state" && !strings.Contains(p.logs.String(), "level=WARN") && !strings.Contains(p.logs.String(), "level=ERROR") {
					t.Errorf("log:\n%s", p.logs)
				}
				p.stop()
			})
		})
	}
}

// Updates that end are begun again; a kernel call that hangs is noticed; an end
// of Started is an end of the service.
func TestDaemonTrouble(t *testing.T) {
	bubble(t, func(t *testing.T, p *place) {
		p.start()
		p.expect(bringUp, running)
		p.kernel.broken <- errTest
		p.pass(2 * time.Second)
		p.kernel.set(func() { p.kernel.link.Carrier = false })
		p.pass(time.Second)
		p.expect("", running+", no carrier")
		if s := p.state(); s.Link != netconfig.LinkNoCarrier || len(s.Addresses) != 1 {
			t.Errorf("state %+v", s)
		}
		p.stop()
	})
	bubble(t, func(t *testing.T, p *place) {
		p.kernel.block = make(chan struct{})
		p.start()
		if _, err := p.daemon.Check(); err == nil || !strings.Contains(err.Error(), "stuck") {
			t.Errorf("%v, want that a task is stuck", err)
		}
		close(p.kernel.block)
		p.pass(time.Second)
		p.expect(bringUp, running)
		p.stop()
	})
	bubble(t, func(t *testing.T, p *place) {
		d := New(Config{Kernel: p.kernel, Wire: p.wire, Rand: rand.New(rand.NewPCG(1, 2)), Log: slog.New(slog.DiscardHandler), RunDir: p.dir, PermDir: p.dir,
			Started: func(string) error { return errTest }})
		if err := d.Run(t.Context()); !errors.Is(err, errTest) {
			t.Errorf("%v, want what Started said", err)
		}
	})
}
