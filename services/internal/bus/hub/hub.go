// Package hub is a controller's server of the zone bus: NATS in this process,
// without a port, a store or a file of its own.
//
// Connections come from the listener that the controller has on 443. TLS asks
// those that name bus.ALPN for the zone's certificate, and Serve hands them to the
// server with the rights of the appliance that the certificate names.
//
//	net/http.Server.TLSNextProto[bus.ALPN] ─▶ Serve ─▶ session ─▶ pipe ─▶ NATS
//
// The server takes connections of its own process by pipes (net.Pipe). It learns
// who is at a pipe's other end from the header of the PROXY protocol that a session
// writes first, with an address that stands for the session; what the appliance
// itself says of who it is counts nothing.
//
// Bounds, for each appliance: maxSessions connections, the oldest is cut, and one
// more each comeEvery; paceBytes a second; maxSubscriptions each; maxPending bytes
// that it does not take, then it is cut; messages of bus.MaxPayload bytes. A slow
// one never holds up another.
package hub

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/parley-meet/parley/services/internal/bus"
	"github.com/parley-meet/parley/services/internal/link"
)

// Bounds.
const (
	maxSessions      = 4    // of an appliance
	maxAll           = 1024 // sessions
	maxSubscriptions = 64   // of a session; package bus has two
	maxPending       = 8 << 20
	maxLine          = 1024 // bytes of a line of NATS's protocol
	writeLimit       = 5 * time.Second
	greetLimit       = 5 * time.Second // for an appliance's first word
	pingEvery        = 5 * time.Second
	maxPings         = 2
	startLimit       = 10 * time.Second
)

// Why sessions end, beside the network's reasons.
var (
	ErrNotRunning = errors.New("the bus is not running")
	errMany       = fmt.Errorf("more than %d connections", maxSessions)
	errAll        = fmt.Errorf("more than %d connections of all appliances", maxAll)
	errOften      = errors.New("it comes back too often")
	errExpired    = errors.New("its certificate has ended")
)

// Config is what a Hub works with.
type Config struct {
	// Credentials is asked for at each handshake: certificates are renewed. It does
	// not wait.
	Credentials func() link.Credentials
	Log         *slog.Logger // nil: none
}

// Hub is a controller's server of the bus. Its methods are safe for concurrent
// use.
type Hub struct {
	cfg  Config
	self bus.Peer

	mu       sync.Mutex
	zone     bus.Zone
	nats     *server.Server // nil: not running
	sessions map[netip.Addr]*session
	count    uint64 // of sessions, ever
	paces    map[string]*pace
	work     sync.WaitGroup
}

// New returns a Hub. It starts nothing.
func New(cfg Config, z bus.Zone) (*Hub, error) {
	cred := cfg.Credentials()
	if cred.Role != link.Controller {
		return nil, fmt.Errorf("bus: %s %q has no server", cred.Role, cred.Appliance)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Hub{cfg: cfg, self: bus.Peer{Role: cred.Role, ID: cred.Appliance}, zone: z, sessions: make(map[netip.Addr]*session), paces: make(map[string]*pace)}, nil
}

// Run runs the server until ctx ends, and returns when all connections are closed.
// It is called once.
func (h *Hub) Run(ctx context.Context) error {
	s, err := server.NewServer(&server.Options{
		ServerName: "parley-" + h.self.ID, DontListen: true, NoSigs: true, NoSystemAccount: true, ProxyProtocol: true,
		CustomClientAuthentication: (*judge)(h),
		MaxPayload:                 bus.MaxPayload, MaxPending: maxPending, MaxControlLine: maxLine, MaxConn: maxAll + 1, MaxSubs: maxSubscriptions,
		MaxSubTokens: 16, WriteDeadline: writeLimit, AuthTimeout: greetLimit.Seconds(), PingInterval: pingEvery, MaxPingsOut: maxPings,
		NoHeaderSupport: true, MaxTracedMsgLen: 0, DisableShortFirstPing: true,
		// A consumer that is behind is cut at maxPending; its producers do not wait.
		NoFastProducerStall: true,
	})
	if err != nil {
		return fmt.Errorf("bus: %w", err)
	}
	s.SetLoggerV2(&logger{log: h.cfg.Log}, false, false, false)
	s.Start()
	if !s.ReadyForConnections(startLimit) {
		s.Shutdown()
		return fmt.Errorf("bus: the server is not ready after %v", startLimit)
	}
	h.mu.Lock()
	h.nats = s
	h.mu.Unlock()
	<-ctx.Done()
	h.mu.Lock()
	h.nats = nil
	for _, x := range h.sessions {
		x.cut(ErrNotRunning)
	}
	h.mu.Unlock()
	s.Shutdown()
	s.WaitForShutdown()
	h.work.Wait()
	return nil
}

// SetZone tells who belongs to the zone now. Who does not is cut off before it
// returns.
func (h *Hub) SetZone(z bus.Zone) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.zone = z
	for id := range h.paces {
		if !z.Has(bus.Peer{Role: link.Router, ID: id}) {
			delete(h.paces, id)
		}
	}
	for _, x := range h.sessions {
		if !z.Has(x.who.Peer) {
			x.cut(bus.ErrRevoked)
		}
	}
}

// TLS returns a configuration for a server that has the bus beside other things:
// who names bus.ALPN is shown the zone's certificate and has to show his own, and
// for the others base counts.
func (h *Hub) TLS(base *tls.Config) *tls.Config {
	out := base.Clone()
	out.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if slices.Contains(hello.SupportedProtos, bus.ALPN) {
			return h.tls()
		}
		if base.GetConfigForClient != nil {
			return base.GetConfigForClient(hello)
		}
		return nil, nil
	}
	return out
}

// tls is for one handshake of the bus.
func (h *Hub) tls() (*tls.Config, error) {
	cred := h.cfg.Credentials()
	own, err := tls.X509KeyPair([]byte(cred.Certificate), []byte(cred.Key))
	if err != nil {
		return nil, fmt.Errorf("credentials: %w", err)
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{bus.ALPN}, Certificates: []tls.Certificate{own},
		ClientAuth: tls.RequireAnyClientCert,
		// A session that is resumed would be one whose certificate has ended since.
		SessionTicketsDisabled: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			_, err := h.identify(s)
			return err
		},
	}, nil
}

func (h *Hub) identify(s tls.ConnectionState) (bus.Identity, error) {
	h.mu.Lock()
	z := h.zone
	h.mu.Unlock()
	return z.Identify(s.PeerCertificates, time.Now())
}

// Serve takes a connection whose handshake was made with TLS, and returns when it
// has ended; it closes it. It fits in net/http.Server.TLSNextProto, behind a
// function with that signature.
func (h *Hub) Serve(conn *tls.Conn) error {
	s := conn.ConnectionState()
	who, err := h.identify(s)
	if err == nil && s.NegotiatedProtocol != bus.ALPN {
		err = fmt.Errorf("protocol %q, want %q", s.NegotiatedProtocol, bus.ALPN)
	}
	if err != nil {
		conn.Close()
		return err
	}
	return h.Hand(conn, who)
}

// Hand takes a connection from an appliance that the caller has identified, and
// returns when it has ended; it closes it.
func (h *Hub) Hand(conn net.Conn, who bus.Identity) error {
	x, err := h.enter(conn, who)
	if err != nil {
		conn.Close()
		if h.tell(who) {
			h.cfg.Log.Warn("bus: refused", "role", who.Role, "id", who.ID, "error", err)
		}
		return err
	}
	defer h.work.Done()
	began := time.Now()
	h.cfg.Log.Info("bus: appliance connected", "role", who.Role, "id", who.ID, "from", addr(conn))
	err = x.run()
	h.leave(x)
	h.cfg.Log.Info("bus: appliance gone", "role", who.Role, "id", who.ID, "error", err, "after", time.Since(began).Round(time.Millisecond))
	return err
}

// tell reports whether a refusal is worth a line: the first ones are.
func (h *Hub) tell(who bus.Identity) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.paces[who.ID]
	return p == nil || p.tell.Allow()
}

func addr(c net.Conn) string {
	if a := c.RemoteAddr(); a != nil {
		return a.String()
	}
	return ""
}

// Dial opens this controller's own connection, for bus.Config.Local. It waits for
// Run to be ready until ctx ends.
func (h *Hub) Dial(ctx context.Context) (net.Conn, error) {
	for {
		x, err := h.enter(nil, bus.Identity{Peer: h.self})
		if err == nil {
			h.work.Done() // the caller closes it
			return x.local(), nil
		}
		if !errors.Is(err, ErrNotRunning) {
			return nil, err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return nil, err
		}
	}
}

// enter makes a session and opens its pipe. h.work counts it until Done. conn is nil
// for this controller's own, which has no bounds.
func (h *Hub) enter(conn net.Conn, who bus.Identity) (*session, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.nats == nil {
		return nil, ErrNotRunning
	}
	if conn != nil && !h.zone.Has(who.Peer) {
		return nil, bus.ErrRevoked
	}
	x := &session{hub: h, who: who, conn: conn, since: time.Now()}
	if conn != nil {
		x.pace = h.paces[who.ID]
		if x.pace == nil {
			x.pace = newPace()
			h.paces[who.ID] = x.pace // there are no more than certificates
		}
		if !x.pace.come.Allow() {
			return nil, errOften
		}
		if len(h.sessions) >= maxAll {
			return nil, errAll
		}
		var same []*session
		for _, y := range h.sessions {
			if y.who.Peer == who.Peer && y.conn != nil && y.alive() {
				same = append(same, y)
			}
		}
		// The oldest goes: one that came back has half-open ones behind it.
		if len(same) >= maxSessions {
			slices.MinFunc(same, func(a, b *session) int { return int(a.number) - int(b.number) }).cut(errMany)
		}
	}
	pipe, err := h.nats.InProcessConn()
	if err != nil {
		return nil, fmt.Errorf("pipe: %w", err)
	}
	h.count++
	x.number, x.key, x.pipe = h.count, key(h.count), pipe
	h.sessions[x.key] = x
	h.work.Add(1)
	return x, nil
}

// leave forgets a session.
func (h *Hub) leave(x *session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.sessions, x.key)
}

// judge is the server's question who a connection belongs to.
type judge Hub

// Check implements server.Authentication.
func (j *judge) Check(c server.ClientAuthentication) bool {
	if c.Kind() != server.CLIENT || c.RemoteAddress() == nil {
		return false
	}
	at, err := netip.ParseAddrPort(c.RemoteAddress().String())
	if err != nil {
		return false // a pipe without the header
	}
	h := (*Hub)(j)
	h.mu.Lock()
	defer h.mu.Unlock()
	x := h.sessions[at.Addr()]
	if x == nil || !x.alive() {
		return false
	}
	// The certificate is a machine's; the process says which of its roles it has.
	who := bus.Peer{Role: link.Role(c.GetOpts().Username), ID: x.who.ID}
	if who.Role != x.who.Role && !(x.who.Role == link.Controller && who.Role == link.Router) {
		return false
	}
	publish, subscribe := bus.Rights(h.zone.ID, who)
	c.RegisterUser(&server.User{Username: x.who.ID, Permissions: &server.Permissions{
		Publish: &server.SubjectPermission{Allow: publish}, Subscribe: &server.SubjectPermission{Allow: subscribe},
	}})
	return true
}

// Session is an appliance's connection.
type Session struct {
	bus.Identity
	From  string // address
	Since time.Time
}

// Sessions returns the connections of other appliances, by id.
func (h *Hub) Sessions() []Session {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []Session
	for _, x := range h.sessions {
		if x.conn != nil && x.alive() {
			out = append(out, Session{x.who, addr(x.conn), x.since})
		}
	}
	slices.SortFunc(out, func(a, b Session) int { return strings.Compare(a.ID, b.ID) })
	return out
}
