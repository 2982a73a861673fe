// Package bustest is a zone for tests: a real portal that makes its certificates,
// controllers that listen on 127.0.0.2 and up with a page beside the bus, and
// routers.
package bustest

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/bus"
	"github.com/parley-meet/parley/services/internal/bus/hub"
	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/portaltest"
	"github.com/parley-meet/parley/services/internal/portal/zones"
)

// Patience is how long tests wait for what happens soon on a quiet machine.
const Patience = 60 * time.Second

// Zone is a zone of a real portal.
type Zone struct {
	t      testing.TB
	Portal *portaltest.Portal
	Who    people.Actor // owner of the account
	Token  string
	Port   uint16 // of the controllers
}

// New makes a portal, an account and its zone.
func New(t testing.TB) *Zone {
	t.Helper()
	z := &Zone{t: t, Portal: portaltest.New(t)}
	z.Account("Acme")
	return z
}

// Account goes on with another account of the portal.
func (z *Zone) Account(name string) {
	z.t.Helper()
	_, owner := z.Portal.Account(name, people.Business)
	z.Who = people.Actor{User: owner.ID, Account: owner.Account, Name: owner.Name, Role: people.Owner}
	if err := z.Portal.All.Zones.Enable(z.t.Context(), z.Who, "Office"); err != nil {
		z.t.Fatal(err)
	}
	c, err := z.Portal.All.Zones.Get(z.t.Context(), z.Who)
	if err != nil {
		z.t.Fatal(err)
	}
	m, err := z.Portal.All.Zones.AddToken(z.t.Context(), z.Who, zones.TokenInput{Zone: c.Zones[0].ID, Title: "test"})
	if err != nil {
		z.t.Fatal(err)
	}
	z.Token = m.Secret
}

// Enrol makes an appliance's credentials.
func (z *Zone) Enrol(role link.Role, host string) link.Credentials {
	z.t.Helper()
	c, err := link.Enrol(context.Background(), link.EnrolOptions{Token: z.Token, Role: role, Host: host, Version: "1.2.3", Roots: z.Portal.Roots()})
	if err != nil {
		z.t.Fatal(err)
	}
	return c
}

// Told asks the portal for the configuration of an appliance, and adds where the
// controllers listen.
func (z *Zone) Told(id string, controllers ...*Controller) link.Config {
	z.t.Helper()
	c, err := z.Portal.All.Zones.Config(z.t.Context(), id)
	if err != nil {
		z.t.Fatal(err)
	}
	for i := range c.Appliances {
		for _, k := range controllers {
			if k.Cred.Appliance == c.Appliances[i].ID {
				c.Appliances[i].Addresses = []netip.Addr{k.At.Addr()}
			}
		}
	}
	return c
}

// View is the zone as an appliance knows it.
func (z *Zone) View(cred link.Credentials, c *link.Config) bus.Zone {
	z.t.Helper()
	v, err := bus.NewZone(cred, c)
	if err != nil {
		z.t.Fatal(err)
	}
	return v
}

// Logger writes to the output of a test.
func Logger(t testing.TB, who string) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})).With("who", who)
}

// Member is an appliance's end of the bus that runs.
type Member struct {
	Cred link.Credentials
	Conn *bus.Conn
	Stop func() // ends it, and waits
}

// Join has an appliance take part until the test ends.
func (z *Zone) Join(cfg bus.Config, v bus.Zone) *Member {
	z.t.Helper()
	c, err := bus.New(cfg, v)
	if err != nil {
		z.t.Fatal(err)
	}
	m := &Member{Cred: cfg.Credentials(), Conn: c}
	m.Stop = Running(z.t, c.Run)
	return m
}

// Running runs f in the background until the test ends or what it returns is
// called.
func Running(t testing.TB, f func(context.Context) error) func() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// Fixed returns credentials that stay.
func Fixed(c link.Credentials) func() link.Credentials { return func() link.Credentials { return c } }

// Router has an appliance take part as a router.
func (z *Zone) Router(cred link.Credentials, v bus.Zone) *Member {
	return z.Join(bus.Config{Credentials: Fixed(cred), Role: link.Router, Port: z.Port, Log: Logger(z.t, "router")}, v)
}

// Controller is one that listens.
type Controller struct {
	*Member
	Hub *hub.Hub
	At  netip.AddrPort

	mu    sync.Mutex
	conns map[net.Conn]bool // that it has accepted
	dead  bool
	Kill  func() // ends its listener and all connections, without a word
}

// cord is a listener whose connections the controller knows, to cut them.
type cord struct {
	net.Listener
	k *Controller
}

func (c cord) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c.k.mu.Lock()
	defer c.k.mu.Unlock()
	if c.k.dead {
		conn.Close()
	}
	c.k.conns[conn] = true
	return conn, nil
}

// Controller starts one on 127.0.0.n, with a page beside the bus.
func (z *Zone) Controller(cred link.Credentials, n byte) *Controller {
	z.t.Helper()
	k := &Controller{conns: make(map[net.Conn]bool)}
	v := z.View(cred, nil)
	h, err := hub.New(hub.Config{Credentials: Fixed(cred), Log: Logger(z.t, fmt.Sprint("hub ", n))}, v)
	if err != nil {
		z.t.Fatal(err)
	}
	k.Hub = h
	stopHub := Running(z.t, h.Run)
	l, err := net.Listen("tcp", netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, n}), z.Port).String())
	if err != nil {
		z.t.Fatal(err)
	}
	k.At = l.Addr().(*net.TCPAddr).AddrPort()
	z.Port = k.At.Port()
	page, err := tls.X509KeyPair([]byte(cred.Certificate), []byte(cred.Key))
	if err != nil {
		z.t.Fatal(err)
	}
	s := &http.Server{
		Handler:   http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "page") }),
		TLSConfig: h.TLS(&tls.Config{Certificates: []tls.Certificate{page}, NextProtos: []string{"http/1.1"}}),
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){
			bus.ALPN: func(_ *http.Server, c *tls.Conn, _ http.Handler) { _ = h.Serve(c) }, // it logs
		},
		ErrorLog: slog.NewLogLogger(Logger(z.t, fmt.Sprint("http ", n)).Handler(), slog.LevelInfo),
	}
	served := make(chan error, 1)
	go func() { served <- s.ServeTLS(cord{l, k}, "", "") }()
	k.Member = z.Join(bus.Config{Credentials: Fixed(cred), Local: h.Dial, Port: z.Port, Log: Logger(z.t, fmt.Sprint("controller ", n))}, v)
	k.Kill = sync.OnceFunc(func() {
		k.mu.Lock()
		k.dead = true
		for c := range k.conns {
			// A process that is killed sends what the kernel sends for it.
			if t, ok := c.(*net.TCPConn); ok {
				_ = t.SetLinger(0)
			}
			c.Close()
		}
		k.mu.Unlock()
		s.Close()
		<-served
		k.Member.Stop()
		stopHub()
	})
	z.t.Cleanup(k.Kill)
	return k
}

// Tell gives all of them a configuration.
func (z *Zone) Tell(ks []*Controller, members ...*Member) {
	z.t.Helper()
	for _, k := range ks {
		c := z.Told(k.Cred.Appliance, ks...)
		v := z.View(k.Cred, &c)
		k.Hub.SetZone(v)
		k.Conn.SetZone(v)
	}
	for _, m := range members {
		c := z.Told(m.Cred.Appliance, ks...)
		m.Conn.SetZone(z.View(m.Cred, &c))
	}
}

// Eventually waits for something.
func Eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for limit := time.Now().Add(Patience); !f(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("not within %v: %s", Patience, what)
		}
	}
}

// Up waits until a member is connected to so many servers.
func Up(t testing.TB, m *Member, n int) {
	t.Helper()
	Eventually(t, fmt.Sprintf("%s has %d connections: %+v", m.Conn.Self(), n, m.Conn.Servers()), func() bool { return Connected(m) == n })
}

// Connected returns to how many servers a member is connected.
func Connected(m *Member) (n int) {
	for _, s := range m.Conn.Servers() {
		if s.Connected {
			n++
		}
	}
	return n
}

// Inbox keeps what a subscription gets.
type Inbox struct {
	mu   sync.Mutex
	list []bus.Message
}

// Collect subscribes to a topic.
func Collect(m *Member, topic string) *Inbox {
	b := &Inbox{}
	m.Conn.Subscribe(topic, func(m bus.Message) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.list = append(b.list, m)
	})
	return b
}

// Texts returns what came, as "router r1: data".
func (b *Inbox) Texts() (out []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range b.list {
		out = append(out, m.From.String()+": "+string(m.Data))
	}
	return out
}

// Has reports whether a text came.
func (b *Inbox) Has(text string) bool { return slices.Contains(b.Texts(), text) }
