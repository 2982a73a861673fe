package zctrl

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/parley-meet/parley/services/internal/bus"
	"github.com/parley-meet/parley/services/internal/bus/bustest"
	"github.com/parley-meet/parley/services/internal/bus/placement"
	"github.com/parley-meet/parley/services/internal/carrier"
	"github.com/parley-meet/parley/services/internal/hall"
	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/meeting"
	"github.com/parley-meet/parley/services/internal/member"
	"github.com/parley-meet/parley/services/internal/member/membertest"
	"github.com/parley-meet/parley/services/internal/sfu/room"
	"github.com/parley-meet/parley/services/internal/sfu/sdp"
	"github.com/parley-meet/parley/services/internal/sfu/transport"
	"github.com/parley-meet/parley/services/internal/sfu/whip"
	"github.com/parley-meet/parley/services/internal/sfu/wire"
	"github.com/parley-meet/parley/services/internal/signal"
	"github.com/parley-meet/parley/services/internal/ticket"
)

const issuer = "https://portal.example.com"

// rig is a zone: controllers of this package, and routers that have a real hall.
type rig struct {
	t           *testing.T
	z           *bustest.Zone
	key         ticket.Key
	controllers []*tested
	routers     []*router
	told        func(appliance string) *link.Config
}

// tested is a controller that runs.
type tested struct {
	*Server
	cred   link.Credentials
	zone   *membertest.Zone
	at     netip.AddrPort
	stop   func() // as SIGTERM does
	health func() string
}

// router is one that runs.
type router struct {
	cred    link.Credentials
	conn    *bus.Conn
	carrier *carrier.Router
	hall    *hall.Hall
	web     *http.ServeMux
	silence func() // ends it without a word

	mu    sync.Mutex
	heard int         // frames
	asked int         // requests of HTTP, and what was told of meetings
	last  signal.Link // that one came from
}

func logger(t testing.TB, who string) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo})).With("who", who)
}

// newRig starts a zone of so many controllers and routers.
func newRig(t *testing.T, controllers, routers int, change ...func(*Config)) *rig {
	t.Helper()
	r := &rig{t: t, z: bustest.New(t)}
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	r.key = ticket.Key{ID: "test", Private: private}
	keys, err := ticket.Set{"test": public}.Format()
	if err != nil {
		t.Fatal(err)
	}
	// A port that is free at each of the addresses, as far as can be known.
	l, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	port := uint16(l.Addr().(*net.TCPAddr).Port)
	l.Close()
	var ks []*bustest.Controller
	for i := range controllers {
		cred := r.z.Enrol(link.Controller, fmt.Sprint("c", i))
		at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, byte(2 + i)}), port)
		r.controllers = append(r.controllers, &tested{cred: cred, at: at})
		ks = append(ks, &bustest.Controller{Member: &bustest.Member{Cred: cred}, At: at})
	}
	for i := range routers {
		if i < controllers { // that of a controller's machine
			r.routers = append(r.routers, &router{cred: r.controllers[i].cred})
			continue
		}
		r.routers = append(r.routers, &router{cred: r.z.Enrol(link.Router, fmt.Sprint("r", i))})
	}
	r.told = func(id string) *link.Config {
		c := r.z.Told(id, ks...)
		c.Portal, c.Keys = issuer, keys
		return &c
	}
	for i, k := range r.controllers {
		cred := k.cred
		k.zone = membertest.New(member.State{Credentials: &cred, Config: r.told(cred.Appliance)})
		cert, err := tls.X509KeyPair([]byte(cred.Certificate), []byte(cred.Key))
		if err != nil {
			t.Fatal(err)
		}
		var (
			mu   sync.Mutex
			said string
		)
		k.health = func() string { mu.Lock(); defer mu.Unlock(); return said }
		cfg := Config{
			Zone: k.zone, Listen: func() []netip.AddrPort { return []netip.AddrPort{k.at} }, Port: port,
			Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil },
			Page:        http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "page") }),
			Health:      func(status, _ string) { mu.Lock(); said = status; mu.Unlock() },
			Log:         logger(t, fmt.Sprint("c", i)),
		}
		for _, f := range change {
			f(&cfg)
		}
		if k.Server, err = New(cfg); err != nil {
			t.Fatal(err)
		}
		k.stop = bustest.Running(t, k.Run)
	}
	for i, x := range r.routers {
		x.start(t, r, r.told(x.cred.Appliance), port, logger(t, fmt.Sprint("r", i)))
	}
	for _, k := range r.controllers {
		bustest.Eventually(t, "the controller hears all routers", func() bool {
			k.mu.Lock()
			listens := len(k.running) > 0
			k.mu.Unlock()
			z := k.current()
			return listens && z != nil && len(z.live()) == routers && (routers == 0 || k.health() == "ready")
		})
	}
	return r
}

// kill ends a controller as a kill does: nobody is told anything.
func (k *tested) kill() {
	z := k.current()
	z.stopBus() // first: nothing is said any more
	k.mu.Lock()
	k.draining = true // it listens no more
	k.mu.Unlock()
	k.closeListeners()
	k.door.closeAll()
	k.stop()
}

// start runs a router until the test ends.
func (x *router) start(t *testing.T, r *rig, told *link.Config, port uint16, log *slog.Logger) {
	t.Helper()
	view := r.z.View(x.cred, told)
	conn, err := bus.New(bus.Config{Credentials: bustest.Fixed(x.cred), Role: link.Router, Port: port, Log: log}, view)
	if err != nil {
		t.Fatal(err)
	}
	pass, err := meeting.NewPassKey()
	if err != nil {
		t.Fatal(err)
	}
	mux := wire.NewMux(log)
	c, err := net.ListenPacket("udp", "127.0.0.1:0") // a port that is free
	if err != nil {
		t.Fatal(err)
	}
	media := c.LocalAddr().(*net.UDPAddr).AddrPort()
	c.Close()
	if _, err := mux.Listen(media); err != nil {
		t.Fatal(err)
	}
	api, err := transport.New(mux, log)
	if err != nil {
		t.Fatal(err)
	}
	x.conn = conn
	x.carrier = carrier.NewRouter(carrier.RouterConfig{
		Bus: conn, Log: log,
		Meet: func(m carrier.Meet) { x.count(); x.hall.Expect(m.Meeting, m.Epoch, m.Kept) },
		Web:  http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { x.count(); x.web.ServeHTTP(w, r) }),
		Receive: func(l signal.Link, b []byte) {
			x.mu.Lock()
			x.heard++
			x.last = l
			x.mu.Unlock()
			x.hall.Receive(l, b)
		},
		Cut: func(l signal.Link) { x.hall.Cut(l) },
		End: func(id string, epoch uint64) { x.hall.Yield(id, epoch) },
	})
	announcer := placement.NewAnnouncer(conn, func() placement.Announcement {
		l := x.hall.Load()
		a := placement.Announcement{Version: "1.2.3", Host: "r", Limit: l.Limit, Participants: l.Participants, Draining: l.Draining}
		for _, m := range l.Meetings {
			a.Meetings = append(a.Meetings, placement.Meeting{ID: m.ID, Epoch: m.Epoch, Participants: m.Participants})
		}
		return a
	}, log)
	x.hall = hall.New(hall.Config{
		Zone: x.cred.Zone, PassKey: pass, Placed: true, Log: log,
		Trust: func() (string, ticket.Set) {
			return issuer, ticket.Set{"test": r.key.Private.Public().(ed25519.PublicKey)}
		},
		Room: room.Config{Transport: api, Log: log, Candidates: func() []sdp.Candidate {
			return []sdp.Candidate{{Addr: media.Addr(), Port: media.Port(), Kind: "host"}}
		}},
		Write:   x.carrier.Write,
		Changed: announcer.Changed,
		Keep: func(id string, epoch uint64, kept *meeting.Kept) {
			if kept == nil {
				x.carrier.Over(id, epoch)
			} else if err := x.carrier.Keep(id, epoch, *kept); err != nil {
				t.Error(err)
			}
		},
	})
	x.web = http.NewServeMux()
	for path, plays := range map[string]bool{"/whip": false, "/whep": true} {
		h := &whip.Handler{Path: path, Admit: x.hall.Admit(plays), Log: log}
		x.web.Handle(path, h)
		x.web.Handle(path+"/", h)
	}
	conn.Subscribe(carrier.Topic, x.carrier.Hear)
	stopConn := bustest.Running(t, conn.Run)
	stopCarrier := bustest.Running(t, x.carrier.Run)
	stopAnnouncer := bustest.Running(t, announcer.Run)
	x.silence = sync.OnceFunc(func() {
		stopConn() // first: nothing is said any more
		stopAnnouncer()
		stopCarrier()
		x.hall.Close(signal.Stopping)
		mux.Close()
	})
	t.Cleanup(x.silence)
}

func (x *router) count() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.asked++
}

func (x *router) asks() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.asked
}

func (x *router) frames() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.heard
}

// ticket makes one for somebody.
func (r *rig) ticket(id, name string, role ticket.Role) string {
	r.t.Helper()
	return r.ticketFor(id, name, role, ticket.TTL)
}

// ticketFor makes one that lives for so long.
func (r *rig) ticketFor(id, name string, role ticket.Role, life time.Duration) string {
	r.t.Helper()
	now := time.Now()
	text, err := ticket.Sign(r.key, ticket.Claims{Issuer: issuer, Zone: r.controllers[0].cred.Zone, Subject: name, ID: ticket.NewID(), Account: "a", Name: name, Role: role,
		Meeting: ticket.Meeting{ID: id, Number: "123456789", JoinBeforeHost: true}, Issued: now, Expires: now.Add(life)})
	if err != nil {
		r.t.Fatal(err)
	}
	return text
}

// person is a page without media.
type person struct {
	t       *testing.T
	origins []netip.AddrPort // where to try, in turn
	client  *signal.Client

	mu     sync.Mutex
	ws     *websocket.Conn
	from   netip.AddrPort // of ws
	codes  []websocket.StatusCode
	pass   string   // or the ticket, which another router has not seen yet
	heard  []string // lines of chat
	joined int
	locked bool
	closed signal.Code // of the session before, where it began another one
	links  int
}

// clientTLS is a browser's whose user has said yes.
var clientTLS = &tls.Config{InsecureSkipVerify: true}

func browser() *http.Client {
	return &http.Client{Transport: &http.Transport{TLSClientConfig: clientTLS}}
}

// join has somebody come in by controllers, the first one first.
func (r *rig) join(id, name string, role ticket.Role, by ...*tested) *person {
	r.t.Helper()
	var at []netip.AddrPort
	for _, k := range by {
		at = append(at, k.at)
	}
	return comes(r.t, name, r.ticket(id, name, role), at...)
}

// comes has somebody come in with a ticket.
func comes(t *testing.T, name, text string, at ...netip.AddrPort) *person {
	t.Helper()
	p := &person{t: t, client: signal.NewClient(text, time.Now()), pass: text, origins: at}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-done })
	bustest.Eventually(t, name+" has joined", func() bool { p.mu.Lock(); defer p.mu.Unlock(); return p.joined > 0 })
	return p
}

// run keeps a link until ctx ends.
func (p *person) run(ctx context.Context) {
	hc := browser()
	var reading sync.WaitGroup
	defer reading.Wait()
	for try := 0; ctx.Err() == nil; time.Sleep(5 * time.Millisecond) {
		now := time.Now()
		p.mu.Lock()
		if code := p.client.Closed(); code != "" && p.pass != "" {
			p.closed = code
			if code == signal.Used {
				p.t.Error("the ticket was used before")
				p.mu.Unlock()
				return
			}
			p.client = signal.NewClient(p.pass, now)
		}
		wants := p.client.Wants()
		p.mu.Unlock()
		if wants {
			at := p.origins[try%len(p.origins)]
			try++
			dial, stop := context.WithTimeout(ctx, 10*time.Second)
			ws, _, err := websocket.Dial(dial, fmt.Sprintf("wss://%s/signal", at), &websocket.DialOptions{HTTPClient: hc, HTTPHeader: http.Header{"Origin": {"https://" + p.origins[0].String()}}})
			stop()
			if err != nil {
				time.Sleep(50 * time.Millisecond)
				continue
			}
			ws.SetReadLimit(1 << 20)
			p.mu.Lock()
			p.ws, p.from = ws, at
			p.links++
			client, number := p.client, p.client.Up(now)
			p.mu.Unlock()
			reading.Go(func() { p.read(ctx, ws, client, number) })
		}
		p.mu.Lock()
		out, ws := p.client.Poll(now), p.ws
		p.mu.Unlock()
		for _, b := range out {
			_ = ws.Write(ctx, websocket.MessageText, b)
		}
	}
	p.mu.Lock()
	if p.ws != nil {
		p.ws.CloseNow()
	}
	p.mu.Unlock()
}

func (p *person) read(ctx context.Context, ws *websocket.Conn, client *signal.Client, number uint32) {
	for {
		_, b, err := ws.Read(ctx)
		p.mu.Lock()
		if err != nil {
			var e websocket.CloseError
			if errors.As(err, &e) {
				p.codes = append(p.codes, e.Code)
			}
			client.Down(number, time.Now())
			p.mu.Unlock()
			return
		}
		m, err := client.Receive(number, b, time.Now())
		if err != nil {
			p.t.Error(err)
		}
		switch m := m.(type) {
		case *signal.Joined:
			p.joined++
		case *signal.Pass:
			p.pass = m.Ticket
		case *signal.Settings:
			p.locked = m.Locked
		case *signal.Chat:
			for _, l := range m.Lines {
				p.heard = append(p.heard, l.Text)
			}
		}
		p.mu.Unlock()
	}
}

func (p *person) say(text string) {
	p.t.Helper()
	p.send(&signal.Say{Text: text})
}

func (p *person) send(m signal.Message) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.client.Send(m, time.Now()); err != nil {
		p.t.Error(err)
	}
}

// texts are the lines that begin with a prefix.
func (p *person) texts(prefix string) (out []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, x := range p.heard {
		if strings.HasPrefix(x, prefix) {
			out = append(out, x)
		}
	}
	return out
}

// at is the controller that somebody's WebSocket is at.
func (p *person) at() netip.AddrPort {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.from
}

func (p *person) seen(code websocket.StatusCode) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Contains(p.codes, code)
}

// hears waits for numbered lines of somebody else, each once and in order.
func (p *person) hears(prefix string, n int) {
	p.t.Helper()
	bustest.Eventually(p.t, fmt.Sprintf("%d lines of %s", n, prefix), func() bool { return len(p.texts(prefix)) >= n })
	for i, text := range p.texts(prefix) {
		if text != fmt.Sprint(prefix, i) {
			p.t.Fatalf("line %d is %q", i, text)
		}
	}
}

func socket(t *testing.T, name string) string { return filepath.Join(t.TempDir(), name) }
