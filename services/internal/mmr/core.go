package mmr

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/parley-meet/parley/services/internal/hall"
	"github.com/parley-meet/parley/services/internal/handover"
	"github.com/parley-meet/parley/services/internal/sfu/relay"
	"github.com/parley-meet/parley/services/internal/sfu/room"
	"github.com/parley-meet/parley/services/internal/sfu/sdp"
	"github.com/parley-meet/parley/services/internal/sfu/transport"
	"github.com/parley-meet/parley/services/internal/sfu/whip"
	"github.com/parley-meet/parley/services/internal/sfu/wire"
	"github.com/parley-meet/parley/services/internal/signal"
	"github.com/parley-meet/parley/services/internal/throttle"
)

// Bounds of the TCP port.
const (
	maxConns     = 4096
	maxOfNetwork = 1024 // an office behind one address
	firstByte    = 10 * time.Second
	headerTime   = 10 * time.Second
	idleTime     = 2 * time.Minute
	maxHeader    = 16 << 10 // bytes
)

// core is what each router is made of, however it was started.
type core struct {
	log   *slog.Logger
	mux   *wire.Mux
	hall  *hall.Hall
	turn  *relay.Server
	tls   *tls.Config
	http  *http.Server
	web   *handover.Listener // of http
	whip  *http.ServeMux     // what controllers pass on; its sessions are its own
	links *links
	work  sync.WaitGroup
}

// setup is what newCore needs beside the hall's own configuration.
type setup struct {
	Candidates  func() []sdp.Candidate
	Router      []netip.Addr // to which TURN relays
	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	Relay       func(user, password string) *signal.Relay // how clients reach TURN; nil: they do not
	Carried     func(signal.Link, []byte, bool)           // hall.Config.Write for links that are not the own; nil: there are none
}

// newCore makes a router on a mux that has its sockets. Room, Relay, Write and Log
// of the hall's configuration are filled here.
func newCore(mux *wire.Mux, cfg hall.Config, s setup, log *slog.Logger) (*core, error) {
	c := &core{log: log, mux: mux, links: &links{open: map[signal.Link]*socket{}}, web: handover.New(&net.TCPAddr{})}
	api, err := transport.New(mux, log)
	if err != nil {
		return nil, err
	}
	if c.turn, err = relay.New(mux, s.Router, log, time.Now); err != nil {
		return nil, err
	}
	cfg.Room = room.Config{Transport: api, Candidates: s.Candidates, Log: log}
	cfg.Log = log
	if s.Relay != nil {
		cfg.Relay = func(participant string) *signal.Relay { return s.Relay(c.turn.Credential(participant)) }
	}
	cfg.Write = func(id signal.Link, frame []byte, last bool) {
		if own(id) || s.Carried == nil {
			c.links.write(id, frame, last)
			return
		}
		s.Carried(id, frame, last)
	}
	c.hall = hall.New(cfg)
	c.links.hall = c.hall
	c.whip = c.handlers()
	m := c.handlers()
	m.HandleFunc("GET /signal", c.links.signal)
	m.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	c.http = c.server(m)
	c.tls = &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: s.Certificate,
		NextProtos:     []string{"http/1.1"},
	}
	c.work.Go(func() {
		if err := c.http.Serve(c.web); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			log.Error("http", "error", err)
		}
	})
	return c, nil
}

// handlers are /whip and /whep.
func (c *core) handlers() *http.ServeMux {
	m := http.NewServeMux()
	for path, plays := range map[string]bool{"/whip": false, "/whep": true} {
		h := &whip.Handler{Path: path, Admit: c.hall.Admit(plays), Log: c.log}
		m.Handle(path, h)
		m.Handle(path+"/", h)
	}
	return m
}

func (c *core) server(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headerTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(c.log.Handler(), slog.LevelDebug),
	}
}

// end stops all, and tells participants why.
func (c *core) end(why signal.Code) error {
	c.hall.Close(why)
	c.web.Close()
	c.http.Close()
	err := c.turn.Close()
	c.work.Wait()
	return err
}

// listen opens a TCP port.
func listen(at netip.AddrPort) (net.Listener, error) {
	l, err := net.Listen("tcp", at.String())
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", at, err)
	}
	return throttle.NewLimit(l, throttle.Bounds{All: maxConns, Peer: maxOfNetwork, Four: 24, Six: 64}), nil
}

// accept takes connections until the listener is closed.
func (c *core) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			c.log.Warn("accept", "error", err)
			time.Sleep(10 * time.Millisecond)
			continue
		}
		go c.sort(conn)
	}
}

// sort tells TLS from packets, and HTTP from TURN inside it, by the first byte.
func (c *core) sort(conn net.Conn) {
	conn.SetDeadline(time.Now().Add(firstByte))
	p, first, err := peek(conn)
	if err != nil {
		conn.Close()
		return
	}
	const handshake = 0x16 // RFC 8446, 5.1
	if first != handshake {
		conn.SetDeadline(time.Time{})
		if err := c.mux.Serve(p, wire.TCP); err != nil {
			c.log.Debug("ice-tcp", "error", err)
		}
		return
	}
	secure := tls.Server(p, c.tls)
	inner, first, err := peek(secure)
	if err != nil {
		secure.Close()
		return
	}
	secure.SetDeadline(time.Time{})
	if relay.Is(first) {
		c.turn.Serve(inner)
		return
	}
	c.web.Put(inner)
}

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
