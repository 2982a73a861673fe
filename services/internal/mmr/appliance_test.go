package mmr

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/bus"
	"github.com/parley-meet/parley/services/internal/bus/bustest"
	"github.com/parley-meet/parley/services/internal/bus/placement"
	"github.com/parley-meet/parley/services/internal/carrier"
	"github.com/parley-meet/parley/services/internal/connector"
	"github.com/parley-meet/parley/services/internal/labtest"
	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/load"
	"github.com/parley-meet/parley/services/internal/meeting"
	"github.com/parley-meet/parley/services/internal/member"
	"github.com/parley-meet/parley/services/internal/member/membertest"
	"github.com/parley-meet/parley/services/internal/signal"
	"github.com/parley-meet/parley/services/internal/ticket"
)

const issuer = "https://portal.test"

// office is a zone with a controller, and routers of appliances.
type office struct {
	*bustest.Zone
	t        *testing.T
	ctrl     *bustest.Controller
	carrier  *carrier.Controller
	view     *placement.View
	key      ticket.Key
	keys     []byte // JWKS
	cert     tls.Certificate
	shown    atomic.Pointer[tls.Certificate]
	cpu      func() float64
	limit    int
	machines []link.Credentials
}

// machine is an appliance with a router.
type machine struct {
	id    string
	zone  *membertest.Zone
	a     *Appliance
	dir   string
	web   uint16
	mu    sync.Mutex
	addrs []netip.Addr
	told  []string
}

func newOffice(t *testing.T, routers int) *office {
	t.Helper()
	o := &office{Zone: bustest.New(t), t: t, cpu: func() float64 { return 0 }}
	cred := o.Enrol(link.Controller, "zc")
	for i := range routers {
		o.machines = append(o.machines, o.Enrol(link.Router, fmt.Sprint("mmr", i)))
	}
	o.ctrl = o.Controller(cred, 2)
	o.Tell([]*bustest.Controller{o.ctrl})
	key, set, err := load.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	o.key = key
	if o.keys, err = set.Format(); err != nil {
		t.Fatal(err)
	}
	if o.cert, err = tls.X509KeyPair([]byte(cred.Certificate), []byte(cred.Key)); err != nil {
		t.Fatal(err)
	}
	o.show(o.cert)
	o.carrier = carrier.NewController(carrier.ControllerConfig{Bus: o.ctrl.Conn, Log: bustest.Logger(t, "carrier")})
	o.view = placement.NewView(bustest.Logger(t, "view"))
	o.ctrl.Conn.Subscribe(carrier.Topic, o.carrier.Hear)
	o.ctrl.Conn.Subscribe(placement.Topic, o.view.Hear)
	bustest.Running(t, o.carrier.Run)
	bustest.Running(t, o.view.Run)
	return o
}

// show has routers show a certificate from now on.
func (o *office) show(c tls.Certificate) { o.shown.Store(&c) }

// machine makes the nth appliance; nothing of it runs.
func (o *office) machine(n int) *machine {
	o.t.Helper()
	return o.machineOf(o.machines[n], o.Told(o.machines[n].Appliance, o.ctrl), n)
}

// machineOf makes one with credentials and what the portal has told of the zone.
func (o *office) machineOf(cred link.Credentials, cfg link.Config, n int) *machine {
	o.t.Helper()
	cfg.Portal, cfg.Keys = issuer, o.keys
	m := &machine{id: cred.Appliance, dir: o.t.TempDir(), addrs: []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, byte(11 + n)})}}
	settings := connector.New()
	settings.Limit = o.limit
	m.zone = membertest.New(member.State{Settings: settings, Credentials: &cred, Config: &cfg})
	m.web = labtest.FreePort(o.t, "tcp").Port()
	var err error
	m.a, err = NewAppliance(ApplianceConfig{
		Zone: m.zone, Version: "1.2.3", Host: fmt.Sprint("mmr", n),
		Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return o.shown.Load(), nil },
		Figures:     filepath.Join(m.dir, "figures.sock"),
		Handover:    filepath.Join(m.dir, "handover.sock"),
		Log:         bustest.Logger(o.t, fmt.Sprint("mmr", n)),
		Status: func(status, detail string) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.told = append(m.told, status+": "+detail)
		},
		Addresses: func() ([]netip.Addr, error) {
			m.mu.Lock()
			defer m.mu.Unlock()
			return slices.Clone(m.addrs), nil
		},
		Media: []uint16{labtest.FreePort(o.t, "udp").Port()}, HTTPS: m.web, Bus: o.Port, Controller: netip.AddrFrom4([4]byte{127, 0, 0, 2}), CPU: o.cpu,
	})
	if err != nil {
		o.t.Fatal(err)
	}
	return m
}

// router runs the nth appliance until the test ends, and waits until it is known.
func (o *office) router(n int) (*machine, func()) {
	o.t.Helper()
	m := o.machine(n)
	stop := bustest.Running(o.t, m.a.Run)
	o.known(m)
	return m, stop
}

func (o *office) known(m *machine) {
	o.t.Helper()
	bustest.Eventually(o.t, m.id+" is announced", func() bool {
		return slices.ContainsFunc(o.view.Routers(), func(r placement.Router) bool { return r.ID == m.id && r.State(time.Now()) == placement.Ready })
	})
}

// claims are somebody's ticket.
func (o *office) claims(id, who string, role ticket.Role) ticket.Claims {
	now := time.Now()
	return ticket.Claims{
		Issuer: issuer, Zone: o.machines[0].Zone, Subject: who, ID: ticket.NewID(), Account: "a", Name: who, Role: role,
		Meeting: ticket.Meeting{ID: id, Number: "100000001", JoinBeforeHost: true},
		// passBefore and a moment: so that a pass comes soon.
		Issued: now, Expires: now.Add(passSoon),
	}
}

// passSoon is how long tickets of these tests live: a pass comes a minute before.
const passSoon = 62 * time.Second

func (o *office) ticket(c ticket.Claims) string {
	o.t.Helper()
	text, err := ticket.Sign(o.key, c)
	if err != nil {
		o.t.Fatal(err)
	}
	return text
}

// dial is a page's link to the router that has a meeting, or gets it.
func (o *office) dial(id string) func(func([]byte), func()) (func([]byte), func()) {
	return func(frame func([]byte), down func()) (func([]byte), func()) {
		at, err := o.view.Place(id, 1)
		if err != nil {
			o.t.Error(err)
			return func([]byte) {}, down
		}
		frames := make(chan []byte, 1024)
		var once sync.Once
		end := func() { once.Do(func() { close(frames) }) }
		var mu sync.Mutex
		l, err := o.carrier.Open(id, at, func(b []byte, last bool) {
			mu.Lock()
			defer mu.Unlock()
			if len(b) > 0 {
				frames <- slices.Clone(b)
			}
			if last {
				end()
			}
		})
		if err != nil {
			o.t.Error(err)
		}
		go func() {
			defer down()
			for b := range frames {
				frame(b)
			}
		}()
		return func(b []byte) { _ = l.Send(b) }, func() { l.Cut(); mu.Lock(); defer mu.Unlock(); end() } // what is lost is sent again
	}
}

// join has somebody come into a meeting.
func (o *office) join(id, who string, role ticket.Role) *page {
	o.t.Helper()
	p := begin(o.t, o.ticket(o.claims(id, who, role)), o.dial(id))
	p.joined()
	return p
}

// heard are the beginnings and ends that the portal is told of.
func heard(m *machine) []membertest.Event {
	return slices.DeleteFunc(m.zone.Events(), func(e membertest.Event) bool { return e.Name == eventParticipants })
}

// A meeting whose links a controller carries: two people see each other, the zone
// hears of it, the portal is told, and a link that breaks costs nothing.
func TestCarried(t *testing.T) {
	o := newOffice(t, 1)
	m, stop := o.router(0)
	anna, boris := o.join("m1", "anna", ticket.Host), o.join("m1", "boris", ticket.Participant)
	await(boris, "saw Anna in the roster", func(r *signal.Roster) bool { return r.Full && len(r.People) == 2 })
	if anna.turn != nil {
		t.Errorf("no certificate is good for TURN, and pages are told of it: %+v", anna.turn)
	}
	boris.cut()
	anna.send(&signal.Say{Text: "are you there?"})
	boris.link()
	await(boris, "got the line of chat", func(m *signal.Chat) bool { return len(m.Lines) == 1 && m.Lines[0].Text == "are you there?" })

	bustest.Eventually(t, "the meeting is announced with its epoch", func() bool {
		p, ok := o.view.Find("m1")
		return ok && p.Router == m.id && p.Epoch > 0 && p.Runs
	})
	bustest.Eventually(t, "it is kept by the controller", func() bool { n, _ := o.carrier.Keeps(); return n == 1 })
	bustest.Eventually(t, "the membership knows what the router does", func() bool {
		u := m.zone.Usage()
		return u.Meetings == 1 && u.Participants == 2 && u.Limit == 200 && len(u.Media) == 1
	})
	bustest.Eventually(t, "the portal is told how many there are", func() bool {
		return slices.ContainsFunc(m.zone.Events(), func(e membertest.Event) bool {
			return e.Name == eventParticipants && strings.Contains(string(e.Data), `"participants":2`)
		})
	})
	anna.send(&signal.Command{Do: signal.End})
	if code := boris.closed(); code != signal.Ended {
		t.Errorf("closed by %s", code)
	}
	bustest.Eventually(t, "the portal is told", func() bool { return len(heard(m)) == 2 })
	var begun started
	var over ended
	e := heard(m)
	if err := json.Unmarshal(e[0].Data, &begun); err != nil || e[0].Name != eventStarted {
		t.Fatal(e[0].Name, err)
	}
	if err := json.Unmarshal(e[1].Data, &over); err != nil || e[1].Name != eventEnded {
		t.Fatal(e[1].Name, err)
	}
	if begun.Meeting != "m1" || begun.Run == "" || over.Run != begun.Run || over.Participants != 2 || len(over.People) != 2 || over.Why != signal.Ended {
		t.Errorf("%+v %+v", begun, over)
	}
	bustest.Eventually(t, "nothing is kept any more", func() bool { n, _ := o.carrier.Keeps(); return n == 0 })

	// Whoever is here when the router stops joins again.
	carla := o.join("m2", "carla", ticket.Host)
	stop()
	if code := carla.closed(); code != signal.Moved {
		t.Errorf("closed by %s", code)
	}
	bustest.Eventually(t, "the router takes nothing more", func() bool { _, err := o.view.Place("m2", 1); return err != nil })
	if n := len(heard(m)); n != 3 {
		t.Errorf("%d events: a meeting that goes on elsewhere has not ended", n)
	}
}

// A router is killed. Another one goes on with what was kept: roles and lock hold,
// who was removed stays out, people come in by their passes, and the run in the
// portal's list is the same. Nobody else's pass is good.
func TestKilled(t *testing.T) {
	o := newOffice(t, 2)
	// One that can be killed: nothing of it says goodbye.
	first := o.machine(0)
	st := first.zone.State()
	p, err := first.a.plan(st)
	if err != nil {
		t.Fatal(err)
	}
	l, err := first.a.start(st, p)
	if err != nil {
		t.Fatal(err)
	}
	killed := false
	kill := func() {
		killed = true
		l.stopWork()
		l.work.Wait() // no controller hears it any more
		l.stopAnnouncing()
		l.announcing.Wait()
		l.taken.Close()
		l.figures.Close()
		if err := l.ports.closeWeb(); err != nil {
			t.Error(err)
		}
		if err := l.core.end(signal.Stopping); err != nil {
			t.Error(err)
		}
		if err := l.ports.mux.Close(); err != nil {
			t.Error(err)
		}
	}
	defer func() {
		if !killed {
			kill()
		}
	}()
	o.known(first)
	kept := make(chan struct{}) // that all of what follows is kept
	var once sync.Once
	o.ctrl.Conn.Subscribe(carrier.Topic, func(m bus.Message) {
		has := func(text string) bool { return bytes.Contains(m.Data, []byte(text)) }
		if has(`"locked":true`) && has(`"removed":["clara"]`) && has(`"subject":"boris","role":"cohost"`) {
			once.Do(func() { close(kept) })
		}
	})
	anna, boris, clara := o.join("m1", "anna", ticket.Host), o.join("m1", "boris", ticket.Participant), o.join("m1", "clara", ticket.Participant)
	yes := true
	anna.send(&signal.Command{Do: signal.Set, Settings: &signal.Change{Locked: &yes}})
	anna.send(&signal.Command{Do: signal.MakeCohost, ID: boris.you, On: &yes})
	anna.send(&signal.Command{Do: signal.Remove, ID: clara.you})
	if code := clara.closed(); code != signal.Removed {
		t.Fatalf("closed by %s", code)
	}
	for _, p := range []*page{anna, boris} {
		await(p, "got a pass", func(*signal.Pass) bool { return true })
	}
	second, _ := o.router(1)
	select {
	case <-kept:
	case <-time.After(bustest.Patience):
		t.Fatal("what matters is not kept")
	}
	kill()
	bustest.Eventually(t, "the meeting is placed at the other router", func() bool {
		at, err := o.view.Place("m1", 1)
		return err == nil && at.Router == second.id
	})
	// A pass of a meeting is none for another, though the router knows its key.
	if code := begin(t, boris.pass, o.dial("m2")).closed(); code != signal.BadTicket {
		t.Errorf("a pass without its meeting's link: %s", code)
	}
	again := begin(t, boris.pass, o.dial("m1"))
	again.joined()
	if again.role != ticket.Cohost {
		t.Errorf("Boris is %s, was cohost", again.role)
	}
	s := await(again, "got the settings", func(*signal.Settings) bool { return true })
	if !s.Locked {
		t.Error("the lock is open")
	}
	host := begin(t, anna.pass, o.dial("m1"))
	host.joined()
	if host.role != ticket.Host {
		t.Errorf("Anna is %s, was host", host.role)
	}
	if code := begin(t, anna.pass, o.dial("m1")).closed(); code != signal.Used {
		t.Errorf("a pass for the second time: %s", code)
	}
	if code := begin(t, o.ticket(o.claims("m1", "clara", ticket.Participant)), o.dial("m1")).closed(); code != signal.Removed {
		t.Errorf("who was removed: %s", code)
	}
	if code := begin(t, o.ticket(o.claims("m1", "dora", ticket.Participant)), o.dial("m1")).closed(); code != signal.Locked {
		t.Errorf("who is new, at a locked door: %s", code)
	}
	// Passes that nobody of the zone has signed, and those of another zone.
	own, err := meeting.NewPassKey()
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*ticket.Claims){
		"own key":      func(*ticket.Claims) {},
		"other zone":   func(c *ticket.Claims) { c.Issuer, c.Zone = meeting.PassIssuer("z9"), "z9" },
		"other issuer": func(c *ticket.Claims) { c.Issuer = meeting.PassIssuer("z9") },
	} {
		c := o.claims("m1", "eve", ticket.Host)
		c.Issuer = meeting.PassIssuer(c.Zone)
		change(&c)
		text, err := ticket.Sign(own, c)
		if err != nil {
			t.Fatal(err)
		}
		if code := begin(t, text, o.dial("m1")).closed(); code != signal.BadTicket {
			t.Errorf("%s: %s", name, code)
		}
	}
	bustest.Eventually(t, "the portal is told of the same run", func() bool { return len(heard(second)) == 1 })
	var before, after started
	if err := json.Unmarshal(heard(first)[0].Data, &before); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(heard(second)[0].Data, &after); err != nil {
		t.Fatal(err)
	}
	if before.Run != after.Run || before.Again || !after.Again {
		t.Errorf("%+v %+v", before, after)
	}
}

// A meeting that runs twice ends where it has the lower epoch, and its people are
// told to join again.
func TestTwice(t *testing.T) {
	o := newOffice(t, 1)
	m, _ := o.router(0)
	anna := o.join("m1", "anna", ticket.Host)
	var at placement.Place
	bustest.Eventually(t, "the meeting is announced", func() bool {
		var ok bool
		at, ok = o.view.Find("m1")
		return ok
	})
	if err := o.carrier.End(m.id, "m1", at.Epoch-1); err != nil {
		t.Fatal(err)
	}
	anna.send(&signal.Say{Text: "still here"})
	await(anna, "went on under the higher epoch", func(m *signal.Chat) bool { return len(m.Lines) == 1 })
	if err := o.carrier.End(m.id, "m1", at.Epoch+1); err != nil {
		t.Fatal(err)
	}
	if code := anna.closed(); code != signal.Moved {
		t.Errorf("closed by %s", code)
	}
}

// The router of a controller VM takes part with the controller's credentials, in the
// role of a router. It finds its own controller though the portal has not told where
// that is; and it opens no 443 where both have one address.
func TestControllerVM(t *testing.T) {
	o := newOffice(t, 1)
	cfg := o.Told(o.ctrl.Cred.Appliance)
	for i := range cfg.Appliances {
		cfg.Appliances[i].Addresses = nil
	}
	m := o.machineOf(o.ctrl.Cred, cfg, 5)
	bustest.Running(t, m.a.Run)
	o.known(m)
	anna := o.join("m1", "anna", ticket.Host)
	if anna.role != ticket.Host {
		t.Errorf("Anna is %s", anna.role)
	}
	if c, err := net.Dial("tcp", netip.AddrPortFrom(m.addrs[0], m.web).String()); err == nil {
		c.Close()
		t.Error("443 of the shared address is open")
	}
}

// The one too many is told so, by limit and by load, and the meeting that runs does
// not notice.
func TestFull(t *testing.T) {
	o := newOffice(t, 1)
	var mu sync.Mutex
	share := 0.0
	o.limit = 11
	o.cpu = func() float64 { mu.Lock(); defer mu.Unlock(); return share }
	set := func(v float64) { mu.Lock(); defer mu.Unlock(); share = v }
	m, _ := o.router(0)
	anna := o.join("m1", "anna", ticket.Host)
	set(1) // of a machine that is slow, but not by people
	for i := range 9 {
		o.join("m1", fmt.Sprint("guest", i), ticket.Guest)
	}
	refused := func(why, who string) {
		t.Helper()
		if code := begin(t, o.ticket(o.claims("m1", who, ticket.Guest)), o.dial("m1")).closed(); code != signal.Full {
			t.Errorf("%s: %s", why, code)
		}
	}
	refused("a machine that is busy", "busy")
	set(0)
	o.join("m1", "eleventh", ticket.Guest)
	refused("over the limit", "twelfth")
	// The administrator sets others: fewer than are inside stay, one more comes in.
	limit := func(n int) {
		t.Helper()
		m.zone.Set(func(s *member.State) { s.Settings.Limit = n })
		if n == 0 {
			n = 200
		}
		bustest.Eventually(t, fmt.Sprint("a limit of ", n, " is announced and reported"), func() bool {
			return m.zone.Usage().Limit == n && slices.ContainsFunc(o.view.Routers(), func(r placement.Router) bool {
				return r.ID == m.id && r.Limit == n && r.Participants == 11
			})
		})
	}
	limit(5)
	refused("over a smaller limit", "thirteenth")
	limit(0)
	limit(12)
	o.join("m1", "fourteenth", ticket.Guest)
	refused("over a larger limit", "fifteenth")
	anna.send(&signal.Say{Text: "all well"})
	await(anna, "went on", func(m *signal.Chat) bool { return len(m.Lines) == 1 })
	text := figures(t, m, "/metrics")
	for _, want := range []string{"parley_router_full_total 4", "parley_router_participants 12", "parley_router_participants_limit 12", "parley_router_full 1", "parley_router_meetings 1"} {
		if !strings.Contains(text, "\n"+want+"\n") {
			t.Errorf("no %q in the metrics", want)
		}
	}
}

// Without a zone, or an address, a router waits; in another zone it begins anew;
// with another address it goes on, and pages are told.
func TestFollow(t *testing.T) {
	o := newOffice(t, 2)
	m := o.machine(0)
	cred := m.zone.State().Credentials
	m.zone.Set(func(s *member.State) { s.Credentials = nil })
	m.mu.Lock()
	addrs := m.addrs
	m.addrs = nil
	m.mu.Unlock()
	bustest.Running(t, m.a.Run)
	says := func(want string) {
		t.Helper()
		bustest.Eventually(t, "it says "+want, func() bool {
			m.mu.Lock()
			defer m.mu.Unlock()
			return slices.ContainsFunc(m.told, func(s string) bool { return strings.HasPrefix(s, want) })
		})
	}
	says("waiting: not in a zone yet")
	m.zone.Set(func(s *member.State) { s.Credentials = cred })
	says("waiting: the machine has no address")
	m.mu.Lock()
	m.addrs = addrs
	m.mu.Unlock()
	o.known(m)
	says("ready")
	anna := o.join("m1", "anna", ticket.Host)
	// The lease is another.
	next := netip.MustParseAddr("127.0.0.77")
	m.mu.Lock()
	m.addrs = []netip.Addr{next}
	m.mu.Unlock()
	m.zone.Set(func(s *member.State) {
		s.Settings.External = []connector.External{{Local: next, External: netip.MustParseAddr("192.0.2.7")}}
	})
	bustest.Eventually(t, "the new address is announced, and the one outside", func() bool {
		return slices.ContainsFunc(o.view.Routers(), func(r placement.Router) bool {
			return slices.Equal(r.Addresses, []netip.Addr{next, netip.MustParseAddr("192.0.2.7")})
		})
	})
	// Anna has no media yet: she is not asked to restart it. Boris has.
	anna.send(&signal.Say{Text: "here"})
	await(anna, "went on", func(m *signal.Chat) bool { return len(m.Lines) == 1 })
	// Somebody else's credentials.
	other := o.machines[1]
	m.zone.Set(func(s *member.State) { s.Credentials = &other })
	if code := anna.closed(); code != signal.Moved {
		t.Errorf("closed by %s", code)
	}
	o.known(&machine{id: other.Appliance})
}
