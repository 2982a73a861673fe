// Package zctrl is the zone controller as a process: what browsers reach on port
// 443, the zone's bus, and where meetings go.
//
//	          first byte ≠ 0x16, or TURN's name
//	TCP 443 ──┬───────────────────▶ this machine's router, by a unix socket
//	          ▼
//	         TLS ──┬── ALPN parley-bus/1 ──▶ hub
//	               └── http/1.1 ──┬── page, /healthz, /trial
//	                              ├── /whip, /whep ─┐
//	                              └── /signal ──────┴─▶ carrier ══bus══▶ the meeting's router
//
// A page opens a WebSocket at /signal. Its first frame (package signal) holds a
// ticket, which is verified here before any router hears of it, or a session that
// goes on, whose meeting a router has to run. From then on frames go to that
// router and back, unread. What a controller knows of meetings it has heard from
// their routers; two of a zone share nothing, and a page that loses the one goes
// on with the other, whose origin the page knows.
//
// WHIP (RFC 9725) and WHEP go the same way: the ticket of a POST is verified here,
// its meeting found or placed, its router told of it, and the request carried to it
// over the bus. Whichever router of the zone it is, the client talks to the controller
// alone: a redirect (4.2 there) to a router would need a certificate for each, which
// most have not, an address that the client reaches, and clients that send their
// ticket on to another host, which many do not. A session's Location,
// /whip/ROUTER/SESSION, names its router, so that PATCH and DELETE find it by any
// controller. A ticket is used once, at the router: an offer is sent to it once, and
// where no answer comes the client is told so.
//
// A page is told why it is not let in by a frame with closed and a code of
// package signal. A WebSocket that is closed without one is to be opened again,
// here or at another controller: with 1012 (service restart) this one stops, with
// 1013 (try again later) the meeting's router, or the bus, is not there, with 1008
// the page was too slow or sent what a page never sends.
//
// Bounds: maxConns connections and maxPeerConns from an address, of which those
// that have shown no ticket yet are closed, the oldest first, when there are too
// many; comeRate of them a second from an address; maxWaiting WebSockets without a ticket; the rates of package signal; a
// queue of queueFrames and queueBytes for each page, and of allBytes for all.
package zctrl

import (
	"context"
	"crypto/tls"
	"errors"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/parley-meet/parley/services/internal/bus"
	"github.com/parley-meet/parley/services/internal/guard"
	"github.com/parley-meet/parley/services/internal/handover"
	"github.com/parley-meet/parley/services/internal/member"
	"github.com/parley-meet/parley/services/internal/throttle"
)

// Times of HTTP and of the end.
const (
	headerTime = 10 * time.Second // TLS handshake, and a request's header
	readTime   = 30 * time.Second // a whole request
	writeTime  = 2 * time.Minute  // an answer
	idleTime   = 2 * time.Minute
	maxHeader  = 16 << 10 // bytes
	// drainTime is how long the end waits for pages to be told, and for answers under
	// way.
	drainTime = 2 * time.Second
)

// Config is what a controller works with.
type Config struct {
	Zone member.Zone
	// Trials are meetings without a portal; nil: there are none.
	Trials member.Trials
	// Listen are the TCP addresses for browsers and the bus. It is asked every few
	// seconds, for an address may come and go, and does not wait.
	Listen func() []netip.AddrPort
	// Certificate is what browsers are shown; it is asked at each handshake.
	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// Page serves what nothing else does, as GET /; nil: nothing.
	Page http.Handler
	// Challenge is the TCP address where challenges of ACME http-01 (RFC 8555, 8.3)
	// are answered, as long as the portal tells of some; zero: nowhere.
	Challenge netip.AddrPort
	// Handover is the unix socket where this machine's router takes connections
	// (handover.Receive), when both have one address; "": each has its own.
	Handover string
	// TURN returns the server name by which TURN over TLS is reached at the shared
	// address; nil or "": there is none. It does not wait.
	TURN func() string
	// Metrics is a unix socket, made with mode 0660, that serves GET /metrics for
	// Prometheus; "": none.
	Metrics string
	// Port is where browsers and the bus reach the zone's controllers; 0: 443.
	Port uint16
	// Health is told how the controller is, in a word and a line, when that changes;
	// it does not wait. nil: nobody is.
	Health func(status, detail string)
	Log    *slog.Logger // nil: none
}

// Server is a controller.
type Server struct {
	cfg       Config
	log       *slog.Logger
	strangers *guard.Strangers
	door      *door
	web       *handover.Listener
	http      *http.Server
	base      *tls.Config
	sender    *handover.Sender // nil: own address
	figures   *figures
	guesses   *throttle.Table // of trial codes, by address
	waiting   waiting
	webs      chan struct{} // requests of WHIP and WHEP at a router
	queued    atomic.Int64  // bytes that wait for pages

	mu       sync.Mutex
	zone     *zone // nil: in none
	pages    map[*page]bool
	draining bool
	problems map[netip.AddrPort]error // of listening
	running  map[netip.AddrPort]net.Listener

	healthMu sync.Mutex
	told     [2]string // to Config.Health
}

// New returns a controller. It starts nothing.
func New(cfg Config) (*Server, error) {
	switch {
	case cfg.Zone == nil || cfg.Listen == nil || cfg.Certificate == nil:
		return nil, errors.New("zctrl: no zone, addresses or certificate")
	case cfg.Port == 0:
		cfg.Port = 443
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Health == nil {
		cfg.Health = func(string, string) {}
	}
	s := &Server{
		cfg: cfg, log: cfg.Log, strangers: guard.NewStrangers(cfg.Log), door: newDoor(),
		web: handover.New(&net.TCPAddr{Port: int(cfg.Port)}), guesses: throttle.NewTable(4096), webs: make(chan struct{}, maxForwards),
		pages: map[*page]bool{}, problems: map[netip.AddrPort]error{}, running: map[netip.AddrPort]net.Listener{},
	}
	if cfg.Handover != "" {
		s.sender = handover.NewSender(cfg.Handover)
	}
	s.base = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: cfg.Certificate, NextProtos: []string{"http/1.1"}}
	outer := s.base.Clone()
	outer.GetConfigForClient = s.configFor
	s.http = &http.Server{
		Handler:   s.handler(),
		TLSConfig: outer,
		// No HTTP/2 either: a WebSocket needs HTTP/1.1.
		TLSNextProto:      map[string]func(*http.Server, *tls.Conn, http.Handler){bus.ALPN: s.serveBus},
		ReadHeaderTimeout: headerTime, ReadTimeout: readTime, WriteTimeout: writeTime, IdleTimeout: idleTime, MaxHeaderBytes: maxHeader,
		ErrorLog: s.httpLog(),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, guestKey{}, guestOf(c))
		},
	}
	s.figures = newFigures(s)
	return s, nil
}

// httpLog is for what servers of HTTP find wrong with clients.
func (s *Server) httpLog() *log.Logger { return slog.NewLogLogger(s.log.Handler(), slog.LevelDebug) }

// configFor is of a handshake: who names the bus is shown the zone's certificate.
func (s *Server) configFor(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	z := s.current()
	if z == nil {
		return nil, nil
	}
	return z.hub.TLS(s.base).GetConfigForClient(hello)
}

func (s *Server) serveBus(_ *http.Server, c *tls.Conn, _ http.Handler) {
	z := s.current()
	if z == nil {
		c.Close()
		return
	}
	guestOf(c).keep()
	_ = z.hub.Serve(c) // it logs
}

// current returns the zone that the controller is in, or nil.
func (s *Server) current() *zone {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.zone
}

// Run serves until ctx ends, then tells the pages to go on elsewhere, and returns
// nil. It is called once.
func (s *Server) Run(ctx context.Context) error {
	// What runs below ends after the pages have been told.
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	var work sync.WaitGroup
	work.Go(func() {
		if err := s.http.ServeTLS(s.web, "", ""); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			s.log.Error("http", "error", err)
		}
	})
	work.Go(func() { s.follow(inner) })
	work.Go(func() { s.listen(inner) })
	work.Go(func() { s.challenges(inner) })
	if s.cfg.Metrics != "" {
		work.Go(func() { s.serveMetrics(inner) })
	}
	<-ctx.Done()
	s.drain()
	cancel()
	s.closeListeners()
	s.web.Close()
	work.Wait() // the bus has ended
	late, stop := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer stop()
	err := s.http.Shutdown(late)
	if err != nil {
		err = s.http.Close()
	}
	s.door.closeAll()
	if s.sender != nil {
		s.sender.Close()
	}
	return err
}

// drain tells the pages to go on elsewhere.
func (s *Server) drain() {
	s.mu.Lock()
	s.draining = true
	list := make([]*page, 0, len(s.pages))
	for p := range s.pages {
		list = append(list, p)
	}
	s.mu.Unlock()
	s.log.Info("stopping", "pages", len(list))
	s.tell()
	done := make(chan struct{})
	go func() {
		var told sync.WaitGroup
		for _, p := range list {
			told.Go(func() { p.close(websocket.StatusServiceRestart, "go on at another controller") })
		}
		told.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(drainTime):
		for _, p := range list {
			p.drop()
		}
		<-done
	}
}
