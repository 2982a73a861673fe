package link

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	mrand "math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// Times of the appliance's end.
const (
	dialLimit  = 20 * time.Second
	writeLimit = 10 * time.Second
	// pingEvery finds connections of which the other end is gone without a word.
	pingEvery = 10 * time.Second
	pingLimit = 10 * time.Second
	// steady is how long a connection has to last for the next wait to be short
	// again.
	steady = time.Minute
	// settle gathers changes of the status that come together.
	settle = 200 * time.Millisecond

	backoffFirst = 500 * time.Millisecond
	backoffMost  = time.Minute
	// offWait is for an appliance that is not wanted: revoked, or the connector is
	// off. Somebody may change that.
	offWait = 2 * time.Minute
)

// maxOutbox is how many events wait for the portal. When there are more the
// oldest is dropped: what happened last matters most, and the portal sees by the
// numbers that some are missing.
const maxOutbox = 1000

// Backoff is how long to wait before the nth attempt, from 0: random between
// nothing and a bound that doubles up to a minute ("full jitter"), so that
// appliances that lost the portal together do not come back together. r is in
// [0, 1).
func Backoff(attempt int, r float64) time.Duration {
	most := min(float64(backoffMost), float64(backoffFirst)*math.Pow(2, float64(min(attempt, 20))))
	return time.Duration(r * most)
}

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
	Problem   string    // why not
}

// Client is an appliance's end of the link. Its methods but Run are safe for
// concurrent use and never wait for the network.
type Client struct {
	cfg  ClientConfig
	boot string
	wake chan struct{} // the status has changed
	post chan struct{} // something waits in the outbox

	mu      sync.Mutex
	cred    Credentials
	conn    Connection
	outbox  []Event
	number  uint64 // of the last event
	config  int64  // generation that Config got last
	dropped int
	asks    []Renew // for browsers' certificates
	asked   int     // how often
}

// NewClient returns a client. It starts nothing.
func NewClient(cfg ClientConfig) (*Client, error) {
	if _, _, err := cfg.Credentials.tls(); err != nil {
		return nil, err
	}
	if len(cfg.Credentials.Portals) == 0 {
		return nil, errors.New("credentials name no portal")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		return nil, err
	}
	return &Client{cfg: cfg, cred: cfg.Credentials, boot: hex.EncodeToString(b[:]), wake: make(chan struct{}, 1), post: make(chan struct{}, 1),
		conn: Connection{Since: time.Now(), Problem: "not tried yet"}}, nil
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

// Event tells the portal of something that happened. It is kept until the portal
// has it on disk, as long as this process runs.
func (c *Client) Event(name string, data any, now time.Time) error {
	b, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("event %s: %w", name, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.outbox) >= maxOutbox {
		c.outbox = c.outbox[1:]
		c.dropped++
	}
	c.number++
	c.outbox = append(c.outbox, Event{Number: c.number, At: now, Name: name, Data: b})
	kick(c.post)
	return nil
}

// Waiting returns how many events wait for the portal, and how many were dropped.
func (c *Client) Waiting() (waiting, dropped int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.outbox), c.dropped
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

// byeError is the portal's last word.
type byeError struct{ Bye }

func (e byeError) Error() string { return "the portal ended the link: " + e.Why }

// Run keeps the link until ctx ends; it returns nil then.
func (c *Client) Run(ctx context.Context) error {
	attempt := 0
	for i := 0; ctx.Err() == nil; i++ {
		c.mu.Lock()
		portal := c.cred.Portals[i%len(c.cred.Portals)]
		c.conn.Portal = portal
		c.mu.Unlock()
		began := time.Now()
		err := c.session(ctx, portal)
		if ctx.Err() != nil {
			return nil
		}
		was := c.lost(err)
		if was && time.Since(began) > steady {
			attempt = 0
		}
		wait := Backoff(attempt, mrand.Float64())
		attempt++
		var bye byeError
		if errors.As(err, &bye) {
			switch bye.Why {
			case "revoked", "disabled", "refused":
				wait = offWait/2 + time.Duration(mrand.Float64()*float64(offWait))
			case "stopping":
				wait = time.Duration(mrand.Float64() * float64(min(max(bye.After, 0), backoffMost)))
				attempt = 0
			}
		}
		c.cfg.Log.Warn("portal: no link", "portal", portal, "error", err, "again", wait.Round(time.Millisecond))
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
	c.conn.Connected, c.conn.Problem = false, fmt.Sprint(err)
	return was
}

// session is one connection, from the first word to the last.
func (c *Client) session(ctx context.Context, portal string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c.mu.Lock()
	cred := c.cred
	c.mu.Unlock()
	client, err := cred.http(c.cfg.Roots, c.cfg.Proxy)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	dial, done := context.WithTimeout(ctx, dialLimit)
	ws, _, err := websocket.Dial(dial, portal, &websocket.DialOptions{HTTPClient: client})
	done()
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer ws.CloseNow()
	ws.SetReadLimit(MaxMessage)
	s := &session{c: c, ws: ws, cred: cred}
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
	if errors.Is(err, context.Canceled) {
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
	sent  uint64 // number of the last event sent on this connection; writer only
	renew struct {
		sync.Mutex
		key []byte // PKCS #8, PEM, of the request under way
		at  time.Time
	}
}

// hello says who this is and takes the portal's answer.
func (s *session) hello(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	s.c.mu.Lock()
	h := Hello{Version: s.c.cfg.Version, Host: s.c.cfg.Host, Boot: s.c.boot, Config: s.c.config}
	s.c.mu.Unlock()
	h.Status = s.c.cfg.Status()
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

// taken forgets the events that the portal has.
func (s *session) taken(number uint64) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	for len(s.c.outbox) > 0 && s.c.outbox[0].Number <= number {
		s.c.outbox = s.c.outbox[1:]
	}
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
			s.renewed(r)
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
		if err := s.askForOwn(ctx, time.Now()); err != nil {
			return err
		}
		select {
		case <-beat.C:
		case <-soon:
			soon = nil
		case <-s.c.wake:
			if soon == nil {
				soon = time.After(settle)
			}
			continue
		case <-s.c.post:
			continue
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := s.send(ctx, KindStatus, s.c.cfg.Status()); err != nil {
			return err
		}
	}
}

// outbox sends the events and requests that wait.
func (s *session) outbox(ctx context.Context) error {
	s.c.mu.Lock()
	events, asks, number := append([]Event(nil), s.c.outbox...), s.c.asks, s.c.asked
	s.c.mu.Unlock()
	for _, e := range events {
		if e.Number <= s.sent {
			continue
		}
		if err := s.send(ctx, KindEvent, e); err != nil {
			return err
		}
		s.sent = e.Number
	}
	for _, a := range asks {
		if err := s.send(ctx, KindRenew, a); err != nil {
			return err
		}
	}
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.c.asked == number {
		s.c.asks = nil // nobody has asked for something else meanwhile
	}
	return nil
}

func (s *session) ping(ctx context.Context) error {
	t := time.NewTicker(pingEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		one, cancel := context.WithTimeout(ctx, pingLimit)
		err := s.ws.Ping(one)
		cancel()
		if err != nil {
			return fmt.Errorf("the portal does not answer: %w", err)
		}
	}
}

func (s *session) send(ctx context.Context, kind Kind, body any) error {
	ctx, cancel := context.WithTimeout(ctx, writeLimit)
	defer cancel()
	return Send(ctx, s.ws, kind, body)
}
