// Package zonetest is a whole zone for tests: controllers and routers as processes
// of their own, as on appliances, with certificates of a real portal and tickets
// of the test's; and the people in it, by the meeting page in real browsers or as
// light clients.
//
//	controllers  127.0.0.2, 127.0.0.3, …   page, signalling, bus
//	routers      127.0.0.11, 127.0.0.12, … media, own TCP port
//
// A process is the test's program again; TestMain of a package that uses zonetest
// calls Main first. Killing one is what the kernel does to a process, and to its
// sockets.
package zonetest

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/internal/judge"
	"github.com/parley-meet/parley/services/internal/bus/bustest"
	"github.com/parley-meet/parley/services/internal/connector"
	"github.com/parley-meet/parley/services/internal/labtest"
	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/load"
	"github.com/parley-meet/parley/services/internal/meetpage"
	"github.com/parley-meet/parley/services/internal/member"
	"github.com/parley-meet/parley/services/internal/member/membertest"
	"github.com/parley-meet/parley/services/internal/mmr"
	"github.com/parley-meet/parley/services/internal/ticket"
	"github.com/parley-meet/parley/services/internal/zctrl"
)

// Issuer of the tickets.
const Issuer = "https://portal.test"

// environment says that this program is a process of a zone.
const environment = "PARLEY_ZONETEST"

// task is what a process is told on its standard input.
type task struct {
	Controller  bool
	Credentials link.Credentials
	Config      link.Config
	At          netip.AddrPort // of a controller; of a router's TCP
	Port        uint16         // of controllers
	Media       []uint16
	Origins     []string
	Certificate string // for browsers and TURN, PEM
	Key         string
}

// Main runs this program as a process of a zone, if it was started as one, and
// does not return then.
func Main() {
	if os.Getenv(environment) == "" {
		return
	}
	if err := run(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func run(in io.Reader) error {
	b, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	var k task
	if err := json.Unmarshal(b, &k); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stdout, nil))
	cert, err := tls.X509KeyPair([]byte(k.Certificate), []byte(k.Key))
	if err != nil {
		return err
	}
	certificate := func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil }
	zone := membertest.New(member.State{Settings: connector.New(), Credentials: &k.Credentials, Config: &k.Config})
	if k.Controller {
		s, err := zctrl.New(zctrl.Config{
			Zone: zone, Listen: func() []netip.AddrPort { return []netip.AddrPort{k.At} }, Port: k.Port, Certificate: certificate,
			Page: meetpage.New(meetpage.Config{Origins: func() []string { return k.Origins }, Portal: func() string { return Issuer }, Log: log}),
			Log:  log,
		})
		if err != nil {
			return err
		}
		return s.Run(context.Background())
	}
	a, err := mmr.NewAppliance(mmr.ApplianceConfig{
		Zone: zone, Version: "1.2.3", Host: k.Credentials.Appliance, Certificate: certificate, Log: log,
		Addresses: func() ([]netip.Addr, error) { return []netip.Addr{k.At.Addr()}, nil },
		Media:     k.Media, HTTPS: k.At.Port(), Bus: k.Port,
	})
	if err != nil {
		return err
	}
	return a.Run(context.Background())
}

// Zone is one that runs.
type Zone struct {
	t           testing.TB
	key         ticket.Key
	id          string
	do          func(func() error) error // runs a function where the processes start
	Controllers []*Process
	Routers     []*Process
}

// Process is a controller or a router.
type Process struct {
	zone    *Zone
	t       testing.TB
	task    task
	process *judge.Process
}

// New starts a zone of so many controllers and routers on the loopback, and waits
// until every controller takes meetings.
func New(t testing.TB, controllers, routers int) *Zone {
	t.Helper()
	z := &Zone{t: t, do: func(f func() error) error { return f() }}
	port := freePort(t, "127.0.0.2")
	for i := range controllers {
		z.controller(netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, byte(2 + i)}), port))
	}
	for i := range routers {
		host := fmt.Sprint("127.0.0.", 11+i)
		z.router(netip.AddrPortFrom(netip.MustParseAddr(host), freePort(t, host)), freePort(t, host))
	}
	z.start()
	return z
}

// NewOn starts a zone of one controller and one router on a host of a lab, at an
// address of it.
func NewOn(t testing.TB, h *labtest.Host, at netip.Addr) *Zone {
	t.Helper()
	z := &Zone{t: t, do: h.Do}
	z.controller(netip.AddrPortFrom(at, 443))
	z.router(netip.AddrPortFrom(at, 8443), 8801)
	z.start()
	return z
}

func (z *Zone) controller(at netip.AddrPort) {
	z.Controllers = append(z.Controllers, &Process{zone: z, t: z.t, task: task{Controller: true, At: at}})
}

func (z *Zone) router(at netip.AddrPort, media uint16) {
	z.Routers = append(z.Routers, &Process{zone: z, t: z.t, task: task{At: at, Media: []uint16{media}}})
}

// start enrols all and starts them.
func (z *Zone) start() {
	z.t.Helper()
	b := bustest.New(z.t)
	key, set, err := load.NewKey()
	if err != nil {
		z.t.Fatal(err)
	}
	keys, err := set.Format()
	if err != nil {
		z.t.Fatal(err)
	}
	z.key = key
	var at []*bustest.Controller
	var origins []string
	for i, p := range z.Controllers {
		p.task.Credentials = b.Enrol(link.Controller, fmt.Sprint("zc", i))
		at = append(at, &bustest.Controller{Member: &bustest.Member{Cred: p.task.Credentials}, At: p.task.At})
		origins = append(origins, p.Origin())
	}
	for i, p := range z.Routers {
		p.task.Credentials = b.Enrol(link.Router, fmt.Sprint("mmr", i))
	}
	for _, p := range slices.Concat(z.Controllers, z.Routers) {
		z.id = p.task.Credentials.Zone
		p.task.Port = z.Controllers[0].task.At.Port()
		p.task.Config = b.Told(p.task.Credentials.Appliance, at...)
		p.task.Config.Portal, p.task.Config.Keys, p.task.Origins = Issuer, keys, origins
		p.certify()
		p.Start()
	}
	z.Ready()
}

// certify gives it a certificate that has its address.
func (p *Process) certify() {
	p.t.Helper()
	dir := p.t.TempDir()
	if err := load.Trial(dir, p.task.At.Addr().String()); err != nil {
		p.t.Fatal(err)
	}
	for name, to := range map[string]*string{"cert.pem": &p.task.Certificate, "key.pem": &p.task.Key} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			p.t.Fatal(err)
		}
		*to = string(b)
	}
}

// freePort is one that nobody has at an address, as far as can be known.
func freePort(t testing.TB, host string) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

// ID is the appliance's.
func (p *Process) ID() string { return p.task.Credentials.Appliance }

// Origin is where browsers reach a controller.
func (p *Process) Origin() string { return "https://" + p.task.At.String() }

// Kill kills the process; it says goodbye to nobody.
func (p *Process) Kill() { p.process.Kill() }

// Stop stops the process as a power cut does: what is connected to it hears nothing.
func (p *Process) Stop() {
	p.t.Helper()
	if err := p.process.Stop(); err != nil {
		p.t.Fatal(err)
	}
}

// Start starts it, for the first time or again.
func (p *Process) Start() {
	p.t.Helper()
	b, err := json.Marshal(p.task)
	if err != nil {
		p.t.Fatal(err)
	}
	kind := "router"
	if p.task.Controller {
		kind = "controller"
	}
	if err := p.zone.do(func() (err error) {
		p.process, err = judge.Self(p.t, string(b), environment+"="+kind+" "+p.ID())
		return err
	}); err != nil {
		p.t.Fatal(err)
	}
}

// Said reports whether the process has logged a text since it was started.
func (p *Process) Said(text string) bool { return strings.Contains(p.process.String(), text) }

// Ready waits until each controller that runs hears each router.
func (z *Zone) Ready() {
	z.t.Helper()
	for _, c := range z.Controllers {
		for _, r := range z.Routers {
			bustest.Eventually(z.t, c.ID()+" hears "+r.ID(), func() bool { return c.hears(r) })
		}
	}
}

// hears says whether a controller's last word on a router is that it is there.
func (p *Process) hears(r *Process) bool {
	log := p.process.String()
	last := func(text string) int { return strings.LastIndex(log, text+r.ID()+" ") }
	there := strings.LastIndex(log, "msg=router id="+r.ID()+" state=ready")
	return there > last(`msg="a router is lost" router=`) && there > last(`msg="a router has begun anew" router=`) && there == last("msg=router id=")
}

// Ticket makes somebody's; each is used once.
func (z *Zone) Ticket(meeting, name string, role ticket.Role) string {
	z.t.Helper()
	now := time.Now()
	text, err := ticket.Sign(z.key, ticket.Claims{
		Issuer: Issuer, Zone: z.id, Subject: name, ID: ticket.NewID(), Account: "a", Name: name, Role: role,
		Meeting: ticket.Meeting{ID: meeting, Number: "123456789", Topic: "Weekly call", JoinBeforeHost: true},
		Issued:  now, Expires: now.Add(ticket.TTL),
	})
	if err != nil {
		z.t.Fatal(err)
	}
	return text
}

// Link is where the portal sends a browser.
func (z *Zone) Link(c *Process, text string) string {
	var list []string
	for _, o := range z.Controllers {
		list = append(list, o.Origin())
	}
	return c.Origin() + "/m#" + url.Values{"t": {text}, "c": {strings.Join(list, ",")}}.Encode()
}

// At is the router that has a meeting, or nil.
func (z *Zone) At(meeting string) *Process {
	for _, r := range z.Routers {
		log := r.process.String()
		if strings.LastIndex(log, `msg="meeting begins" meeting=`+meeting) > strings.LastIndex(log, `msg="meeting ends" meeting=`+meeting) {
			return r
		}
	}
	return nil
}
