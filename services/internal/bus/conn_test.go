package bus_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/bus"
	"github.com/parley-meet/parley/services/internal/bus/bustest"
	"github.com/parley-meet/parley/services/internal/link"
)

// echo has a member answer.
func echo(m *bustest.Member) {
	m.Conn.Subscribe("echo", func(m bus.Message) { _ = m.Reply(m.Data) })
}

func ask(t testing.TB, from, to *bustest.Member, text string) time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), bustest.Patience)
	defer cancel()
	began := time.Now()
	if got, err := from.Conn.Request(ctx, to.Conn.Self(), "echo", []byte(text)); err != nil || string(got) != text {
		t.Errorf("%.40q, %v", got, err)
	}
	return time.Since(began)
}

func TestSending(t *testing.T) {
	z := bustest.New(t)
	k := z.Controller(z.Enrol(link.Controller, "c1"), 2)
	cred := z.Enrol(link.Router, "r1")
	lone := z.Router(cred, z.View(cred, nil))
	if err := lone.Conn.Publish(bus.AllControllers, "x", nil); !errors.Is(err, bus.ErrNoPath) {
		t.Errorf("without a controller: %v", err)
	}
	z.Tell([]*bustest.Controller{k}, lone)
	bustest.Up(t, lone, 1)
	bustest.Up(t, k.Member, 1)
	for name, err := range map[string]error{
		"too long":     lone.Conn.Publish(bus.AllControllers, "x", make([]byte, bus.MaxData+1)),
		"no topic":     lone.Conn.Publish(bus.AllControllers, "", nil),
		"a wildcard":   lone.Conn.Publish(bus.AllControllers, "x.*", nil),
		"nobody":       lone.Conn.Publish(bus.Peer{}, "x", nil),
		"another role": lone.Conn.Publish(bus.Peer{Role: "portal", ID: "x"}, "x", nil),
		"a word":       lone.Conn.Publish(bus.Peer{Role: link.Router, ID: "x.y"}, "x", nil),
		"no request":   bus.Message{From: k.Conn.Self(), Topic: "x"}.Reply(nil),
	} {
		if err == nil {
			t.Errorf("%s: it is sent", name)
		}
	}
	echo(lone)
	ask(t, k.Member, lone, strings.Repeat("x", bus.MaxData)) // the longest

	// Topics below, and beside.
	below, beside, other := bustest.Collect(k.Member, "signal"), bustest.Collect(k.Member, "sig"), bustest.Collect(k.Member, "signal.m1")
	for _, topic := range []string{"signals", "signal.m1", "signal.m2.x", "signal"} {
		if err := lone.Conn.Publish(k.Conn.Self(), topic, []byte(topic)); err != nil {
			t.Fatal(err)
		}
	}
	self := lone.Conn.Self().String()
	bustest.Eventually(t, "the last came", func() bool { return below.Has(self + ": signal") })
	if got, want := fmt.Sprint(below.Texts(), beside.Texts(), other.Texts()), fmt.Sprintf("[%s: signal.m1 %s: signal.m2.x %s: signal] [] [%s: signal.m1]", self, self, self, self); got != want {
		t.Errorf("%s, want %s", got, want)
	}

	// Nobody answers.
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := k.Conn.Request(ctx, bus.Peer{Role: link.Router, ID: "nobody"}, "echo", nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("nobody answers: %v", err)
	}
	// A subscription that is cancelled hears no more.
	var calls atomic.Int32
	s := lone.Conn.Subscribe("late", func(bus.Message) { calls.Add(1) })
	s.Cancel()
	if err := k.Conn.Publish(lone.Conn.Self(), "late", nil); err != nil {
		t.Fatal(err)
	}
	ask(t, k.Member, lone, "x") // it came after
	if calls.Load() != 0 {
		t.Error("a cancelled subscription is called")
	}
	lone.Stop()
	if err := lone.Conn.Publish(bus.AllControllers, "x", nil); !errors.Is(err, bus.ErrNoPath) {
		t.Errorf("after its end: %v", err)
	}
}

// Controllers come, move, lose their address at the portal, and go.
func TestAddresses(t *testing.T) {
	z := bustest.New(t)
	k1 := z.Controller(z.Enrol(link.Controller, "c1"), 2)
	k2 := z.Controller(z.Enrol(link.Controller, "c2"), 3)
	cred := z.Enrol(link.Router, "r1")
	r := z.Router(cred, z.View(cred, nil))
	z.Tell([]*bustest.Controller{k1, k2})
	tell := func(addresses map[string][]netip.Addr) {
		t.Helper()
		c := z.Told(cred.Appliance)
		var list []link.Peer
		for _, p := range c.Appliances {
			a, ok := addresses[p.ID]
			if p.Addresses = a; ok || p.Role == link.Router {
				list = append(list, p)
			}
		}
		c.Appliances = list
		r.Conn.SetZone(z.View(cred, &c))
	}
	nowhere := netip.MustParseAddr("127.0.0.250")
	tell(map[string][]netip.Addr{k1.Cred.Appliance: {nowhere}, k2.Cred.Appliance: nil})
	bustest.Eventually(t, "the one with an address is tried", func() bool {
		s := r.Conn.Servers()
		return len(s) == 1 && s[0].Controller == k1.Cred.Appliance && strings.Contains(s[0].Problem, "refused")
	})
	tell(map[string][]netip.Addr{k1.Cred.Appliance: {nowhere, k1.At.Addr()}, k2.Cred.Appliance: {k2.At.Addr()}})
	bustest.Up(t, r, 2)
	// Silent towards the portal, and without an address there.
	tell(map[string][]netip.Addr{k1.Cred.Appliance: nil, k2.Cred.Appliance: {}})
	if n := bustest.Connected(r); n != 2 {
		t.Errorf("%d connections", n)
	}
	tell(map[string][]netip.Addr{k2.Cred.Appliance: {}})
	bustest.Eventually(t, "one is gone", func() bool {
		s := r.Conn.Servers()
		return len(s) == 1 && s[0].Controller == k2.Cred.Appliance && s[0].Connected && len(k1.Hub.Sessions()) == 1 // the other controller's
	})
}

// A new certificate is shown soon, by itself.
func TestRenewal(t *testing.T) {
	z := bustest.New(t)
	k := z.Controller(z.Enrol(link.Controller, "c1"), 2)
	cred := z.Enrol(link.Router, "r1")
	var mu sync.Mutex
	now := cred
	conn, err := bus.New(bus.Config{Port: z.Port, Log: bustest.Logger(t, "router"), Credentials: func() link.Credentials {
		mu.Lock()
		defer mu.Unlock()
		return now
	}}, z.View(cred, nil))
	if err != nil {
		t.Fatal(err)
	}
	bus.SetRenewWithin(conn, 100*time.Millisecond)
	bustest.Running(t, conn.Run)
	r := &bustest.Member{Cred: cred, Conn: conn}
	z.Tell([]*bustest.Controller{k}, r)
	bustest.Up(t, r, 1)
	was := k.Hub.Sessions()[0].Serial

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	got, err := z.Portal.All.Zones.Renew(t.Context(), cred.Appliance, was, link.Renew{For: "link", Request: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr}))})
	if err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	now.Certificate, now.Key = got.Certificate, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
	mu.Unlock()
	bustest.Eventually(t, "the new one is shown", func() bool {
		s := k.Hub.Sessions()
		return len(s) == 1 && s[0].Serial != was
	})
}

// hole is a way to a controller that can stop carrying anything, as a machine
// does that loses its power.
type hole struct {
	net.Listener
	to     string
	closed atomic.Bool
}

func (h *hole) run() {
	for {
		a, err := h.Accept()
		if err != nil {
			return
		}
		b, err := net.Dial("tcp", h.to)
		if err != nil {
			a.Close()
			continue
		}
		for _, pair := range [][2]net.Conn{{a, b}, {b, a}} {
			go func() {
				defer pair[0].Close()
				buf := make([]byte, 32<<10)
				for {
					n, err := pair[0].Read(buf)
					if h.closed.Load() {
						if err != nil {
							return
						}
						continue
					}
					if n > 0 {
						if _, err := pair[1].Write(buf[:n]); err != nil {
							return
						}
					}
					if err != nil {
						pair[1].Close()
						return
					}
				}
			}()
		}
	}
}

// A controller that is gone without a word holds nothing up, and is found out.
func TestSilent(t *testing.T) {
	z := bustest.New(t)
	k1 := z.Controller(z.Enrol(link.Controller, "c1"), 2)
	k2 := z.Controller(z.Enrol(link.Controller, "c2"), 3)
	cred := z.Enrol(link.Router, "r1")
	r := z.Router(cred, z.View(cred, nil))
	echo(r)
	l, err := net.Listen("tcp", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.9"), z.Port).String())
	if err != nil {
		t.Fatal(err)
	}
	h := &hole{Listener: l, to: k1.At.String()}
	go h.run()
	defer h.Close()
	z.Tell([]*bustest.Controller{k1, k2})
	c := z.Told(cred.Appliance, &bustest.Controller{Member: k1.Member, At: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.9"), z.Port)}, k2)
	r.Conn.SetZone(z.View(cred, &c))
	bustest.Up(t, r, 2)
	bustest.Up(t, k2.Member, 2)
	h.closed.Store(true)
	began := time.Now()
	for bustest.Connected(r) == 2 {
		if took := ask(t, k2.Member, r, "x"); took > bustest.Patience/10 {
			t.Errorf("an answer took %v", took)
		}
		// More than what sockets hold.
		for range 4 {
			_ = r.Conn.Publish(bus.AllControllers, "x", make([]byte, 100<<10))
		}
		time.Sleep(20 * time.Millisecond)
		if time.Since(began) > bustest.Patience {
			t.Fatal("the connection is still thought to stand")
		}
	}
	t.Logf("found out after %v", time.Since(began).Round(time.Millisecond))
	h.closed.Store(false)
	bustest.Up(t, r, 2)
}

// two is a router and a controller, joined by so many controllers' servers.
func two(b *testing.B, servers int) (k *bustest.Controller, r *bustest.Member) {
	z := bustest.New(b)
	var ks []*bustest.Controller
	for i := range servers {
		ks = append(ks, z.Controller(z.Enrol(link.Controller, fmt.Sprint("c", i)), byte(2+i)))
	}
	cred := z.Enrol(link.Router, "r1")
	r = z.Router(cred, z.View(cred, nil))
	echo(r)
	z.Tell(ks, r)
	bustest.Up(b, r, servers)
	for _, k := range ks {
		bustest.Up(b, k.Member, servers)
	}
	return ks[0], r
}

func BenchmarkRequest(b *testing.B) {
	for _, servers := range []int{1, 2} {
		b.Run(fmt.Sprint("servers=", servers), func(b *testing.B) {
			k, r := two(b, servers)
			text := strings.Repeat("x", 500)
			for b.Loop() {
				ask(b, k.Member, r, text)
			}
		})
	}
}

// A controller's messages to a router, as many as arrive. (The other way a server
// has a bound for each appliance.)
func BenchmarkPublish(b *testing.B) {
	for _, servers := range []int{1, 2} {
		b.Run(fmt.Sprint("servers=", servers), func(b *testing.B) {
			k, r := two(b, servers)
			got := make(chan struct{}, 1<<20)
			r.Conn.Subscribe("x", func(bus.Message) { got <- struct{}{} })
			data := bytes.Repeat([]byte("x"), 500)
			b.SetBytes(500)
			ahead := 0
			for b.Loop() {
				if err := k.Conn.Publish(r.Conn.Self(), "x", data); err != nil {
					b.Fatal(err)
				}
				if ahead++; ahead > 500 {
					<-got
					ahead--
				}
			}
		})
	}
}
