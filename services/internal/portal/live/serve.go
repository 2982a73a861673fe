package live

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/coder/websocket"
	"golang.org/x/time/rate"

	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/link"
)

// Bounds of one connection.
const (
	helloLimit  = 10 * time.Second
	writeLimit  = 10 * time.Second
	readLimit   = 4 * link.Heartbeat // without a word: it is gone
	queueSize   = 32                 // messages to an appliance; one that does not take them is cut off
	maxMessages = 20                 // a second, after a burst of ten times as many
	maxRenewals = 10                 // an hour
)

// TLS returns a configuration for a server that has the link beside its pages:
// who names link.ALPN is asked for a certificate, and nobody else.
func TLS(base *tls.Config) *tls.Config {
	out := base.Clone()
	linked := base.Clone()
	// The appliance names it to be asked; what is spoken is HTTP.
	linked.NextProtos = []string{"http/1.1"}
	linked.MinVersion = tls.VersionTLS13
	// The zones' authorities are many; Directory.Identify looks for the right one.
	linked.ClientAuth = tls.RequireAnyClientCert
	linked.GetConfigForClient = nil
	out.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		if slices.Contains(h.SupportedProtos, link.ALPN) {
			return linked, nil
		}
		if base.GetConfigForClient != nil {
			return base.GetConfigForClient(h)
		}
		return nil, nil
	}
	return out
}

// conn is one appliance's connection.
type conn struct {
	s      *Service
	id     Identity
	ws     *websocket.Conn
	cancel context.CancelFunc
	out    chan message

	since  time.Time       // it stands; of Service.mu
	events chan link.Event // that are to be stored
	taken  atomic.Uint64   // number of the last event taken
	acks   chan struct{}   // it has grown: one answer for all since the last

	once sync.Once
	gone atomic.Bool // it has been sent away: what it says counts for nothing
	bye  chan link.Bye

	gap bool // events are missing; for the goroutine that reads

	mu     sync.Mutex
	config []byte // that was sent last
}

type message struct {
	kind link.Kind
	body any
}

// end has the connection closed after a last word.
func (c *conn) end(b link.Bye) {
	c.once.Do(func() {
		c.gone.Store(true)
		c.bye <- b
	})
}

// send queues a message. Whoever does not take them is cut off.
func (c *conn) send(kind link.Kind, body any) {
	select {
	case c.out <- message{kind, body}:
	default:
		c.cancel()
	}
}

// configure sends the configuration when it is another one than the last.
func (c *conn) configure(cfg link.Config) {
	b, err := json.Marshal(cfg)
	if err != nil {
		panic(err) // strings, numbers and checked JSON
	}
	c.mu.Lock()
	same := slices.Equal(b, c.config)
	c.config = b
	c.mu.Unlock()
	if !same {
		c.send(link.KindConfig, cfg)
	}
}

// ServeHTTP is GET /link.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		http.Error(w, "this address is for appliances", http.StatusNotFound)
		return
	}
	leave, err := s.gate.enter(r.Context())
	if err != nil {
		w.Header().Set("Retry-After", strconv.Itoa(int(busyAfter/time.Second)))
		http.Error(w, "too many appliances come at once", http.StatusServiceUnavailable)
		return
	}
	id, err := s.cfg.Directory.Identify(r.Context(), r.TLS.PeerCertificates[0])
	leave()
	why := ""
	switch {
	case errors.Is(err, ErrRevoked):
		why = link.WhyRevoked
	case errors.Is(err, ErrExpired):
		why = link.WhyExpired
	case errors.Is(err, ErrDisabled):
		why = link.WhyDisabled
	case errors.Is(err, ErrForeign):
		s.cfg.Log.Info("link refused", "from", r.RemoteAddr, "error", err)
		http.Error(w, "the certificate is not one of this portal's zones", http.StatusForbidden)
		return
	case err != nil:
		s.cfg.Log.Error("link", "from", r.RemoteAddr, "error", err)
		http.Error(w, "try again", http.StatusServiceUnavailable)
		return
	}
	// The server's deadlines are for requests.
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Time{})
	_ = rc.SetWriteDeadline(time.Time{})
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{})
	if err != nil {
		return // Accept has answered
	}
	defer ws.CloseNow()
	ws.SetReadLimit(link.MaxMessage)
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	defer cancel()
	c := &conn{s: s, id: id, ws: ws, cancel: cancel, out: make(chan message, queueSize), events: make(chan link.Event, maxBatch), acks: make(chan struct{}, 1), bye: make(chan link.Bye, 1)}
	if why != "" {
		s.cfg.Log.Info("link refused", "appliance", id.Appliance, "why", why)
		c.last(link.Bye{Why: why})
		return
	}
	if err := c.serve(ctx); err != nil {
		s.cfg.Log.Info("link ended", "appliance", id.Appliance, "error", err)
	}
}

// last says goodbye.
func (c *conn) last(b link.Bye) {
	ctx, cancel := context.WithTimeout(context.Background(), writeLimit)
	defer cancel()
	if link.Send(ctx, c.ws, link.KindBye, b) == nil {
		_ = c.ws.Close(websocket.StatusNormalClosure, "")
	}
}

// serve is the whole of a connection.
func (c *conn) serve(ctx context.Context) error {
	first, cancel := context.WithTimeout(ctx, helloLimit)
	m, err := link.Receive(first, c.ws)
	cancel()
	if err != nil {
		return fmt.Errorf("hello: %w", err)
	}
	var h link.Hello
	if m.Kind == link.KindHello {
		err = m.Into(&h)
	} else {
		err = fmt.Errorf("message %q, want hello", cut(string(m.Kind), 20))
	}
	if err == nil && (h.Boot == "" || len(h.Boot) > 64 || h.Boot != cut(h.Boot, 64)) {
		err = errors.New("hello without a boot id")
	}
	if err != nil {
		c.last(link.Bye{Why: link.WhyRefused, Detail: cut(err.Error(), 200)})
		return err
	}
	st := State{Appliance: c.id.Appliance, Zone: c.id.Zone, Account: c.id.Account, Role: c.id.Role, Host: cut(h.Host, 63), Version: cut(h.Version, 64)}
	notes := c.s.notes.Load()
	if err := c.welcome(ctx, h.Boot); err != nil {
		if errors.Is(err, errBusy) {
			c.last(link.Bye{Why: link.WhyBusy, After: busyAfter})
		}
		return err
	}
	if why := c.s.add(c); why != "" {
		c.last(link.Bye{Why: why, After: busyAfter})
		return fmt.Errorf("this instance takes no more links: %s", why)
	}
	defer c.s.remove(c)
	c.s.cfg.Log.Info("linked", "appliance", c.id.Appliance, "host", st.Host, "version", st.Version)
	st.Status, st.Contact = Clean(h.Status), c.s.now()
	c.s.heard(st)
	c.s.moved(c.id.Zone)
	ctx, cancel = context.WithCancel(ctx)
	defer cancel()
	if c.s.notes.Load() != notes { // what was told before it was known here
		c.s.look(ctx, func(o *conn) bool { return o == c })
	}
	ends := make(chan error, 3)
	go func() { ends <- c.read(ctx, st) }()
	go func() { ends <- c.write(ctx) }()
	go func() { ends <- c.store(ctx, h.Boot) }()
	err = <-ends
	cancel()
	c.ws.CloseNow()
	<-ends
	<-ends
	return err
}

// welcome queues the first answer: it must stand before what others say as soon
// as the connection is known. The configuration is sent in any case: generations
// do not count the peers' addresses.
func (c *conn) welcome(ctx context.Context, boot string) error {
	leave, err := c.s.gate.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	event, err := c.s.lastEvent(ctx, c.id.Appliance, boot)
	if err != nil {
		return err
	}
	cfg, err := c.s.cfg.Directory.Config(ctx, c.id.Appliance)
	switch {
	case errors.Is(err, ErrRevoked):
		c.last(link.Bye{Why: link.WhyRevoked})
		return err
	case errors.Is(err, ErrDisabled):
		c.last(link.Bye{Why: link.WhyDisabled})
		return err
	case err != nil:
		return err
	}
	if c.config, err = json.Marshal(cfg); err != nil {
		return err
	}
	c.taken.Store(event)
	c.send(link.KindWelcome, link.Welcome{Now: c.s.now(), Heartbeat: link.Heartbeat, Event: event, Config: &cfg})
	return nil
}

func (c *conn) write(ctx context.Context) error {
	for {
		select {
		case m := <-c.out:
			one, cancel := context.WithTimeout(ctx, writeLimit)
			err := link.Send(one, c.ws, m.kind, m.body)
			cancel()
			if err != nil {
				return fmt.Errorf("send %s: %w", m.kind, err)
			}
		case <-c.acks:
			one, cancel := context.WithTimeout(ctx, writeLimit)
			err := link.Send(one, c.ws, link.KindAck, link.Ack{Event: c.taken.Load()})
			cancel()
			if err != nil {
				return fmt.Errorf("send ack: %w", err)
			}
		case b := <-c.bye:
			c.last(b)
			return fmt.Errorf("sent away: %s", b.Why)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (c *conn) read(ctx context.Context, st State) error {
	pace := rate.NewLimiter(maxMessages, 10*maxMessages)
	renewals := rate.NewLimiter(rate.Every(time.Hour/maxRenewals), maxRenewals)
	for {
		one, cancel := context.WithTimeout(ctx, readLimit)
		m, err := link.Receive(one, c.ws)
		cancel()
		if err != nil {
			return err
		}
		if err := pace.Wait(ctx); err != nil {
			return err
		}
		if c.gone.Load() {
			continue // until its last word is said
		}
		switch m.Kind {
		case link.KindStatus:
			var s link.Status
			if err := m.Into(&s); err != nil {
				return c.refuse(err)
			}
			s = Clean(s)
			moved := !slices.Equal(st.Status.Addresses, s.Addresses)
			st.Status, st.Contact = s, c.s.now()
			c.s.heard(st)
			if moved {
				c.s.moved(c.id.Zone)
			}
		case link.KindEvent:
			var e link.Event
			if err := m.Into(&e); err != nil {
				return c.refuse(err)
			}
			select {
			case c.events <- e:
			case <-ctx.Done():
				return ctx.Err()
			}
			// Many may come before the next status: it has not fallen silent.
			st.Contact = c.s.now()
			c.s.heard(st)
		case link.KindRenew:
			var r link.Renew
			if err := m.Into(&r); err != nil {
				return c.refuse(err)
			}
			out := link.Renewed{For: cut(r.For, 20), Error: "too many requests: wait an hour"}
			if renewals.Allow() {
				if out, err = c.s.cfg.Directory.Renew(ctx, c.id.Appliance, c.id.Serial, r); err != nil {
					out.Error = err.Error()
					if fault.Of(err) == nil {
						c.s.cfg.Log.Error("renew", "appliance", c.id.Appliance, "error", err)
						out.Error = "not now"
					}
				}
			}
			c.send(link.KindRenewed, out)
		case link.KindHello, "":
			return c.refuse(errors.New("a second hello"))
		default:
			// A newer appliance may say more.
		}
	}
}

// refuse says what was wrong; nothing is read from the connection any more.
func (c *conn) refuse(err error) error {
	c.last(link.Bye{Why: link.WhyRefused, Detail: cut(err.Error(), 200)})
	return err
}

// Bounds of a status: what an appliance says is shown to people and kept.
const (
	maxAddresses = 16
	maxServices  = 16
	maxNames     = 20
	maxPeers     = 500
	maxProblems  = 20
	maxCount     = 1_000_000
)

// Clean bounds what an appliance says of itself.
func Clean(s link.Status) link.Status {
	s.Addresses = slices.DeleteFunc(head(s.Addresses, maxAddresses), func(a netip.Addr) bool { return !a.IsValid() || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() })
	s.Media, s.Peers, s.Unreachable = head(s.Media, maxServices), texts(s.Peers, maxPeers), texts(s.Unreachable, maxServices)
	s.Services, s.Problems = head(s.Services, maxServices), head(s.Problems, maxProblems)
	for i := range s.Services {
		s.Services[i] = link.Service{Name: cut(s.Services[i].Name, 32), State: cut(s.Services[i].State, 32)}
	}
	for i := range s.Problems {
		s.Problems[i] = link.Problem{Code: cut(s.Problems[i].Code, 64), Detail: cut(s.Problems[i].Detail, 200)}
	}
	if s.Certificate != nil {
		c := *s.Certificate
		c.Names = texts(c.Names, maxNames)
		s.Certificate = &c
	}
	s.Meetings, s.Participants, s.Limit = bound(s.Meetings), bound(s.Participants), bound(s.Limit)
	s.Dropped = max(s.Dropped, 0)
	if !(s.CPU >= 0) { // NaN too
		s.CPU = 0
	}
	s.CPU = min(s.CPU, 1)
	s.Memory, s.MemoryTotal = max(s.Memory, 0), max(s.MemoryTotal, 0)
	s.SendBits, s.ReceiveBits = min(max(s.SendBits, 0), 1<<50), min(max(s.ReceiveBits, 0), 1<<50)
	return s
}

func bound(n int) int { return min(max(n, 0), maxCount) }

// head returns a copy of the first n.
func head[T any](list []T, n int) []T { return slices.Clone(list[:min(len(list), n)]) }

func texts(list []string, n int) []string {
	out := head(list, n)
	for i := range out {
		out[i] = cut(out[i], 253)
	}
	return out
}

// cut bounds a text and takes out what does something to a screen.
func cut(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
	if r := []rune(s); len(r) > most {
		s = string(r[:most])
	}
	return s
}
