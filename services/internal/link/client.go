package link

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	mrand "math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// ClientConfig is what a Client works with.
type ClientConfig struct {
	Credentials Credentials
	// Save keeps renewed credentials durably. An error is logged, and the renewal
	// tried again.
	Save    func(Credentials) error
	Roots   *x509.CertPool                        // that the portal's certificate may chain to; nil: the system's
	Proxy   func(*http.Request) (*url.URL, error) // nil: none
	Version string                                // of the appliance
	Host    string
	Status  func() Status // is asked at each heartbeat; does not wait
	Config  func(Config)  // gets what the portal tells, in order; does not wait long
	Log     *slog.Logger  // nil: none
}

// Connection says how the link is.
type Connection struct {
	Connected bool
	Portal    string    // address, of this connection or the last attempt
	Since     time.Time // of being connected, or not
	Problem   string    // why not, for people
	Why       string    // as in Bye, when it was the portal that said no
}

// NeedsToken reports whether the appliance comes back only by being enrolled
// again: its certificate ended while it was away, or it was taken out.
func (c Connection) NeedsToken() bool {
	switch c.Why {
	case WhyRevoked, WhyExpired, WhyForeign:
		return true
	}
	return false
}

// Client is an appliance's end of the link. Its methods but Run are safe for
// concurrent use and never wait for the network.
type Client struct {
	cfg  ClientConfig
	boot string
	wake chan struct{} // the status has changed
	post chan struct{} // something waits in the outbox, or may go now

	now     func() time.Time
	times   times
	connect func(ctx context.Context, portal string) error // one connection, from the first word to the last

	mu        sync.Mutex
	cred      Credentials
	conn      Connection
	outbox    []Event
	number    uint64 // of the last event
	config    int64  // generation that Config got last
	dropped   int
	droppedAt time.Time // of the last
	asks      []Renew   // for browsers' certificates
	asked     int       // how often
}

// NewClient returns a client. It starts nothing.
func NewClient(cfg ClientConfig) (*Client, error) {
	if _, _, err := cfg.Credentials.tls(); err != nil {
		return nil, err
	}
	if err := cfg.Credentials.portals(); err != nil {
		return nil, err
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		return nil, err
	}
	c := &Client{cfg: cfg, cred: cfg.Credentials, boot: hex.EncodeToString(b[:]), wake: make(chan struct{}, 1), post: make(chan struct{}, 1),
		now: time.Now, times: usual, conn: Connection{Since: time.Now(), Problem: "not tried yet"}}
	c.connect = c.session
	return c, nil
}

// Connection returns how the link is.
func (c *Client) Connection() Connection {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conn
}

// Changed has the status sent soon instead of at the next heartbeat.
func (c *Client) Changed() { kick(c.wake) }

func kick(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default: // it will be seen
	}
}

// AskForBrowsers sends a signing request (PKCS #10, PEM) for a certificate that
// browsers trust; it comes as Config.Chain.
func (c *Client) AskForBrowsers(request string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asks = []Renew{{For: "browsers", Request: request}} // a later one replaces it
	c.asked++
	kick(c.post)
}

// Run keeps the link until ctx ends; it returns nil then.
func (c *Client) Run(ctx context.Context) error {
	attempt := 0
	for i := 0; ctx.Err() == nil; i++ {
		c.mu.Lock()
		portal := c.cred.Portals[i%len(c.cred.Portals)]
		c.conn.Portal = portal
		c.mu.Unlock()
		began := time.Now()
		err := c.connect(ctx, portal)
		if ctx.Err() != nil {
			return nil
		}
		was := c.lost(err)
		if was && time.Since(began) > c.times.steady {
			attempt = 0
		}
		wait := c.times.wait(err, was, attempt, mrand.Float64())
		attempt++
		if errors.Is(err, errRenewed) {
			attempt = 0
			c.cfg.Log.Info("portal: certificate renewed", "again", wait.Round(time.Millisecond))
		} else {
			c.cfg.Log.Warn("portal: no link", "portal", portal, "error", err, "again", wait.Round(time.Millisecond))
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
	return nil
}

// lost notes why there is no connection, and reports whether there was one.
func (c *Client) lost(err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	was := c.conn.Connected
	if was || c.conn.Problem == "" {
		c.conn.Since = time.Now()
	}
	c.conn.Connected, c.conn.Problem, c.conn.Why = false, fmt.Sprint(err), ""
	var bye byeError
	if errors.As(err, &bye) {
		c.conn.Why = bye.Why
	}
	return was
}

// session is one connection, from the first word to the last.
func (c *Client) session(ctx context.Context, portal string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c.mu.Lock()
	cred := c.cred
	c.mu.Unlock()
	client, leaf, err := cred.http(c.cfg.Roots, c.cfg.Proxy, c.times.dial)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	dial, done := context.WithTimeout(ctx, c.times.dial)
	ws, resp, err := websocket.Dial(dial, portal, &websocket.DialOptions{HTTPClient: client})
	done()
	if err != nil {
		return refusal(err, resp)
	}
	defer ws.CloseNow()
	ws.SetReadLimit(MaxMessage)
	s := &session{c: c, ws: ws, cred: cred, due: renewAt(leaf)}
	if err := s.hello(ctx); err != nil {
		return err
	}
	c.mu.Lock()
	c.conn = Connection{Connected: true, Portal: portal, Since: time.Now()}
	c.mu.Unlock()
	c.cfg.Log.Info("portal: linked", "portal", portal)
	// Whichever ends first ends the others; its reason is the one to tell.
	ends := make(chan error, 3)
	go func() { ends <- s.read(ctx) }()
	go func() { ends <- s.write(ctx) }()
	go func() { ends <- s.ping(ctx) }()
	err = <-ends
	cancel()
	if errors.Is(err, context.Canceled) || errors.Is(err, errRenewed) {
		_ = ws.Close(websocket.StatusGoingAway, "")
	}
	ws.CloseNow()
	for range 2 {
		<-ends
	}
	return err
}

// session is the state of one connection.
type session struct {
	c     *Client
	ws    *websocket.Conn
	cred  Credentials
	beat  time.Duration
	ahead time.Duration // of the portal's clock
	due   time.Time     // of the renewal, by the portal's clock
	sent  uint64        // number of the last event sent on this connection; writer only
	renew struct {
		sync.Mutex
		key []byte // PKCS #8, PEM, of the request under way
		at  time.Time
	}
}

// hello says who this is and takes the portal's answer.
func (s *session) hello(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.c.times.dial)
	defer cancel()
	s.c.mu.Lock()
	h := Hello{Version: s.c.cfg.Version, Host: s.c.cfg.Host, Boot: s.c.boot, Config: s.c.config}
	s.c.mu.Unlock()
	h.Status = s.c.status()
	if err := s.send(ctx, KindHello, h); err != nil {
		return err
	}
	m, err := Receive(ctx, s.ws)
	if err != nil {
		return err
	}
	var w Welcome
	switch m.Kind {
	case KindWelcome:
		if err := m.Into(&w); err != nil {
			return err
		}
	case KindBye:
		return s.bye(m)
	default:
		return fmt.Errorf("message %q, want welcome", m.Kind)
	}
	if !w.Now.IsZero() {
		s.ahead = w.Now.Sub(s.c.now())
	}
	s.beat = min(max(w.Heartbeat, time.Second), time.Minute)
	s.taken(w.Event)
	s.sent = w.Event
	if w.Config != nil {
		s.config(*w.Config)
	}
	return nil
}

func (s *session) bye(m Message) error {
	var b Bye
	if err := m.Into(&b); err != nil {
		return err
	}
	return byeError{b}
}

func (s *session) config(cfg Config) {
	s.c.cfg.Config(cfg)
	s.c.mu.Lock()
	s.c.config = cfg.Generation
	s.c.mu.Unlock()
}

func (s *session) read(ctx context.Context) error {
	for {
		m, err := Receive(ctx, s.ws)
		if err != nil {
			return err
		}
		switch m.Kind {
		case KindAck:
			var a Ack
			if err := m.Into(&a); err != nil {
				return err
			}
			s.taken(a.Event)
		case KindConfig:
			var cfg Config
			if err := m.Into(&cfg); err != nil {
				return err
			}
			s.config(cfg)
		case KindRenewed:
			var r Renewed
			if err := m.Into(&r); err != nil {
				return err
			}
			if s.renewed(r) {
				return errRenewed
			}
		case KindBye:
			return s.bye(m)
		default:
			// A newer portal may say more; what is not understood is passed over.
		}
	}
}

func (s *session) write(ctx context.Context) error {
	beat := time.NewTicker(s.beat)
	defer beat.Stop()
	var soon <-chan time.Time
	for {
		if err := s.outbox(ctx); err != nil {
			return err
		}
		if err := s.askForOwn(ctx, s.c.now().Add(s.ahead)); err != nil {
			return err
		}
		select {
		case <-beat.C:
		case <-soon:
			soon = nil
		case <-s.c.wake:
			if soon == nil {
				soon = time.After(s.c.times.settle)
			}
			continue
		case <-s.c.post:
			continue
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := s.send(ctx, KindStatus, s.c.status()); err != nil {
			return err
		}
	}
}

func (s *session) ping(ctx context.Context) error {
	t := time.NewTicker(s.c.times.pingEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		one, cancel := context.WithTimeout(ctx, s.c.times.pingLimit)
		err := s.ws.Ping(one)
		cancel()
		if err != nil {
			return fmt.Errorf("the portal does not answer: %w", err)
		}
	}
}

func (s *session) send(ctx context.Context, kind Kind, body any) error {
	ctx, cancel := context.WithTimeout(ctx, s.c.times.write)
	defer cancel()
	return Send(ctx, s.ws, kind, body)
}
