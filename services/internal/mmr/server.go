package mmr

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"runtime/pprof"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/net/netutil"

	"github.com/parley-meet/parley/services/internal/hall"
	"github.com/parley-meet/parley/services/internal/handover"
	"github.com/parley-meet/parley/services/internal/sfu/relay"
	"github.com/parley-meet/parley/services/internal/sfu/room"
	"github.com/parley-meet/parley/services/internal/sfu/transport"
	"github.com/parley-meet/parley/services/internal/sfu/whip"
	"github.com/parley-meet/parley/services/internal/sfu/wire"
	"github.com/parley-meet/parley/services/internal/signal"
	"github.com/parley-meet/parley/services/internal/ticket"
)

// Bounds of the TCP port.
const (
	maxConns   = 4096
	firstByte  = 10 * time.Second
	headerTime = 10 * time.Second
	idleTime   = 2 * time.Minute
	maxHeader  = 16 << 10 // bytes
	// maxFrame is more than any frame of signalling: an offer with 50 slots.
	maxFrame = 512 << 10
	// linkQueue frames wait for a slow page; then its link is cut, and it comes back
	// and asks for what it has not.
	linkQueue = 256
)

// Server is a router.
type Server struct {
	cfg  Config
	log  *slog.Logger
	mux  *wire.Mux
	hall *hall.Hall
	turn *relay.Server
	tls  *tls.Config
	tcp  net.Listener
	http *http.Server

	mu    sync.Mutex
	links map[signal.Link]*link
	next  atomic.Uint64
}

// link is a WebSocket of the router's own.
type link struct {
	frames chan []byte
	last   bool
}

// New opens the sockets.
func New(cfg Config, log *slog.Logger) (*Server, error) {
	cert, keys, err := cfg.files()
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, log: log, mux: wire.NewMux(log), links: map[signal.Link]*link{}}
	fail := func(err error) (*Server, error) {
		return nil, errors.Join(err, s.mux.Close())
	}
	for _, a := range cfg.Media {
		if _, err := s.mux.Listen(a); err != nil {
			return fail(err)
		}
	}
	api, err := transport.New(s.mux, log)
	if err != nil {
		return fail(err)
	}
	var own []netip.Addr
	for _, c := range cfg.candidates() {
		own = append(own, c.Addr)
	}
	if s.turn, err = relay.New(s.mux, own, log, time.Now); err != nil {
		return fail(err)
	}
	tcp, err := net.Listen("tcp", cfg.HTTPS.String())
	if err != nil {
		return fail(errors.Join(fmt.Errorf("open %s: %w", cfg.HTTPS, err), s.turn.Close()))
	}
	s.tcp = netutil.LimitListener(tcp, maxConns)
	s.hall = hall.New(hall.Config{
		Zone: cfg.Zone,

		Limit: cfg.Limit,
		Trust: func() (string, ticket.Set) { return cfg.Issuer, keys },
		Room:  room.Config{Transport: api, Candidates: cfg.candidates, Log: log},
		Relay: s.relay,
		Write: s.write,
		Log:   log,
	})
	s.serve(cert)
	return s, nil
}

// serve makes the HTTP server.
func (s *Server) serve(cert tls.Certificate) {
	m := http.NewServeMux()
	for path, plays := range map[string]bool{"/whip": false, "/whep": true} {
		h := &whip.Handler{Path: path, Admit: s.hall.Admit(plays), Log: s.log}
		m.Handle(path, h)
		m.Handle(path+"/", h)
	}
	m.HandleFunc("GET /signal", s.signal)
	m.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	s.http = &http.Server{
		Handler:           m,
		ReadHeaderTimeout: headerTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	s.tls = &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{cert},
		NextProtos:   []string{"http/1.1"},
	}
}

// relay is hall.Config.Relay.
func (s *Server) relay(participant string) *signal.Relay {
	at := s.cfg.web()
	host := s.cfg.Name
	if host == "" {
		host = at.Addr().String()
	}
	user, password := s.turn.Credential(participant)
	return &signal.Relay{
		URLs:     []string{"turns:" + net.JoinHostPort(host, strconv.Itoa(int(at.Port()))) + "?transport=tcp"},
		Username: user, Credential: password,
	}
}

// Run serves until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	web := handover.New(s.tcp.Addr())
	var work sync.WaitGroup
	work.Go(func() { s.accept(web) })
	stop := context.AfterFunc(ctx, func() {
		s.tcp.Close()
		web.Close()
		s.hall.Close(signal.Stopping)
		s.http.Close()
	})
	defer stop()
	if s.cfg.Debug != "" {
		work.Go(func() { s.debug(ctx) })
	}
	s.log.Info("router runs", "media", s.cfg.Media, "https", s.cfg.HTTPS)
	err := s.http.Serve(web)
	if ctx.Err() != nil {
		err = nil
	}
	s.tcp.Close()
	err = errors.Join(err, s.turn.Close(), s.mux.Close())
	work.Wait()
	return err
}

// accept takes connections.
func (s *Server) accept(web *handover.Listener) {
	for {
		c, err := s.tcp.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			s.log.Warn("accept", "error", err)
			time.Sleep(10 * time.Millisecond)
			continue
		}
		go s.sort(c, web)
	}
}

// sort tells TLS from packets, and HTTP from TURN inside it, by the first byte.
func (s *Server) sort(c net.Conn, web *handover.Listener) {
	c.SetDeadline(time.Now().Add(firstByte))
	p, first, err := peek(c)
	if err != nil {
		c.Close()
		return
	}
	const handshake = 0x16 // RFC 8446, 5.1
	if first != handshake {
		c.SetDeadline(time.Time{})
		if err := s.mux.Serve(p, wire.TCP); err != nil {
			s.log.Debug("ice-tcp", "error", err)
		}
		return
	}
	secure := tls.Server(p, s.tls)
	inner, first, err := peek(secure)
	if err != nil {
		secure.Close()
		return
	}
	secure.SetDeadline(time.Time{})
	if relay.Is(first) {
		s.turn.Serve(inner)
		return
	}
	web.Put(inner)
}

// signal is the WebSocket of a page's session. The page is the router's own or a
// controller's; a ticket opens a session, so any origin may try.
func (s *Server) signal(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return // it has answered
	}
	defer c.CloseNow()
	c.SetReadLimit(maxFrame)
	id := signal.Link("own-" + strconv.FormatUint(s.next.Add(1), 10))
	l := &link{frames: make(chan []byte, linkQueue)}
	s.mu.Lock()
	s.links[id] = l
	s.mu.Unlock()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	go func() {
		defer cancel()
		for frame := range l.frames {
			if frame == nil {
				c.Close(websocket.StatusNormalClosure, "")
				return
			}
			if err := c.Write(ctx, websocket.MessageText, frame); err != nil {
				return
			}
		}
	}()
	for {
		kind, b, err := c.Read(ctx)
		if err != nil || kind != websocket.MessageText {
			break
		}
		s.hall.Receive(id, b)
	}
	s.mu.Lock()
	delete(s.links, id)
	close(l.frames)
	s.mu.Unlock()
	s.hall.Cut(id)
}

// write is hall.Config.Write: it never waits.
func (s *Server) write(id signal.Link, frame []byte, last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.links[id]
	if l == nil || l.last {
		return
	}
	put := func(b []byte) bool {
		select {
		case l.frames <- b:
			return true
		default:
			return false
		}
	}
	ok := true
	if len(frame) > 0 {
		ok = put(frame)
	}
	if last || !ok {
		l.last = true
		put(nil)
	}
}

// Figures are what GET /stats of the debug port tells: counters since the start.
type Figures struct {
	Wire       wire.Totals `json:"wire"`
	Media      room.Totals `json:"media"`
	Goroutines int         `json:"goroutines"`
	Heap       uint64      `json:"heap"` // bytes that are in use
}

func (s *Server) figures() Figures {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return Figures{Wire: s.mux.Totals(), Media: s.hall.Totals(), Goroutines: runtime.NumGoroutine(), Heap: m.HeapAlloc}
}

// debug serves figures on the loopback, GET /stats, and a profile of the CPU, GET
// /profile, that takes profileTime.
func (s *Server) debug(ctx context.Context) {
	m := http.NewServeMux()
	m.HandleFunc("GET /profile", func(w http.ResponseWriter, r *http.Request) {
		if err := pprof.StartCPUProfile(w); err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
			return
		}
		defer pprof.StopCPUProfile()
		select {
		case <-r.Context().Done():
		case <-time.After(profileTime):
		}
	})
	m.HandleFunc("GET /stats", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(s.figures()); err != nil {
			s.log.Debug("stats", "error", err)
		}
	})
	h := &http.Server{Addr: s.cfg.Debug, Handler: m, ReadHeaderTimeout: headerTime}
	stop := context.AfterFunc(ctx, func() { h.Close() })
	defer stop()
	if err := h.ListenAndServe(); err != nil && !errors.Is(err, http.ErrServerClosed) {
		s.log.Warn("debug", "error", err)
	}
}

// profileTime is how long a profile takes.
const profileTime = 10 * time.Second

// peeked is a connection of which the first byte was looked at.
type peeked struct {
	net.Conn
	in *bufio.Reader
}

// peek waits for the first byte.
func peek(c net.Conn) (*peeked, byte, error) {
	p := &peeked{Conn: c, in: bufio.NewReaderSize(c, 512)}
	b, err := p.in.Peek(1)
	if err != nil {
		return nil, 0, err
	}
	return p, b[0], nil
}

// Read implements net.Conn.
func (p *peeked) Read(b []byte) (int, error) { return p.in.Read(b) }
