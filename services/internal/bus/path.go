package bus

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	mrand "math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// Times of a connection.
const (
	dialLimit = 5 * time.Second // for each address
	joinLimit = 5 * time.Second // for the server to take the subscriptions
	// pingEvery and maxPings find a server that is gone without a word, after six
	// seconds at most.
	pingEvery  = 2 * time.Second
	maxPings   = 2
	writeLimit = 5 * time.Second
	// Waits before the next attempt.
	backoffFirst = 500 * time.Millisecond
	backoffMost  = 10 * time.Second
	// renewWithin is how long after a new certificate a connection is made anew:
	// not all in the same moment.
	renewWithin = time.Minute
)

// Bounds of what waits for one connection to take it.
const (
	outMessages = 8192
	outBytes    = 8 << 20
)

// backoff is how long to wait before the nth attempt, from 0: random between
// nothing and a bound that doubles up to ten seconds. r is in [0, 1).
func backoff(attempt int, r float64) time.Duration {
	return time.Duration(r * min(float64(backoffMost), float64(backoffFirst)*math.Pow(2, float64(min(attempt, 20)))))
}

// envelope is a message as a connection sends it.
type envelope struct {
	subject string
	frame   []byte
}

// outbox is what waits to be sent on one connection.
type outbox struct {
	mu      sync.Mutex
	open    bool
	list    []envelope
	bytes   int
	dropped uint64
	wake    chan struct{}
}

// push adds a message unless the connection does not stand, or does not keep up:
// then the new one is dropped, as the bound is many seconds of an ordinary zone and
// another connection may have taken it.
func (o *outbox) push(e envelope) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.open {
		return ErrNoPath
	}
	cost := messageCost + len(e.frame)
	if len(o.list) >= outMessages || o.bytes+cost > outBytes {
		o.dropped++
		return ErrFull
	}
	o.list, o.bytes = append(o.list, e), o.bytes+cost
	kick(o.wake)
	return nil
}

// take returns all that waits.
func (o *outbox) take() []envelope {
	o.mu.Lock()
	defer o.mu.Unlock()
	list := o.list
	o.list, o.bytes = nil, 0
	return list
}

// set opens or closes the outbox; what waits is dropped.
func (o *outbox) set(open bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.open, o.list, o.bytes = open, nil, 0
}

// path is the connection to one server, again and again.
type path struct {
	c     *Conn
	name  string
	dial  func(context.Context) (net.Conn, error)
	out   outbox
	again chan struct{} // do not wait longer
	stop  context.CancelFunc

	mu  sync.Mutex
	now Server
}

func newPath(c *Conn, name string, dial func(context.Context) (net.Conn, error)) *path {
	return &path{c: c, name: name, dial: dial, out: outbox{wake: make(chan struct{}, 1)}, again: make(chan struct{}, 1),
		now: Server{Controller: name, Since: time.Now(), Problem: "not tried yet"}}
}

func (p *path) start(ctx context.Context, work *sync.WaitGroup) {
	ctx, p.stop = context.WithCancel(ctx)
	work.Go(func() {
		defer p.stop()
		p.run(ctx)
	})
}

// retry ends a wait: the next attempt may go elsewhere.
func (p *path) retry() { kick(p.again) }

func (p *path) state() Server {
	p.mu.Lock()
	s := p.now
	p.mu.Unlock()
	p.out.mu.Lock()
	s.Dropped = p.out.dropped
	p.out.mu.Unlock()
	return s
}

// note keeps what the connection is now, and reports whether it was up.
func (p *path) note(up bool, problem string) (was bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	was = p.now.Connected
	if was != up {
		p.now.Since = time.Now()
	}
	p.now.Connected, p.now.Problem = up, problem
	return was
}

func (p *path) setAddress(a string) {
	p.mu.Lock()
	p.now.Address = a
	p.mu.Unlock()
}

// errRenewed ends a connection whose certificate was replaced.
var errRenewed = errors.New("certificate renewed")

func (p *path) run(ctx context.Context) {
	for attempt := 0; ctx.Err() == nil; {
		err := p.session(ctx)
		p.out.set(false)
		was := p.note(false, fmt.Sprint(err))
		if ctx.Err() != nil {
			return
		}
		if was {
			attempt = 0
		}
		wait := backoff(attempt, mrand.Float64())
		if errors.Is(err, errRenewed) {
			wait = 0
		} else if was || attempt == 0 || attempt%32 == 31 { // the rest is the same again
			p.c.cfg.Log.Warn("bus: no connection", "controller", p.name, "error", err, "again", wait.Round(time.Millisecond))
		}
		attempt++
		select {
		case <-time.After(wait):
		case <-p.again:
		case <-ctx.Done():
		}
	}
}

// dialed gives NATS's client a connection that is open already.
type dialed func() (net.Conn, error)

func (d dialed) InProcessConn() (net.Conn, error) { return d() }

// session is one connection, from the first word to the last.
func (p *path) session(ctx context.Context) error {
	c := p.c
	ended := make(chan error, 1)
	opts := []nats.Option{
		nats.NoReconnect(), nats.NoEcho(), nats.Timeout(joinLimit), nats.PingInterval(pingEvery), nats.MaxPingsOutstanding(maxPings), nats.FlusherTimeout(writeLimit),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			// A right that is missing, or a subscription that is behind; both are
			// worth a line, and the connection goes on.
			c.cfg.Log.Debug("bus: refused", "controller", p.name, "error", fmt.Sprintf("%q", err))
		}),
		nats.ClosedHandler(func(n *nats.Conn) {
			err := n.LastError()
			if err == nil {
				err = errors.New("closed")
			}
			ended <- err
		}),
	}
	cred := c.cfg.Credentials()
	conn, err := p.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	// The user is the role that is asked for; the certificate has to allow it.
	opts = append(opts, nats.UserInfo(string(c.self.Role), ""), nats.InProcessServer(dialed(func() (net.Conn, error) { return conn, nil })))
	n, err := nats.Connect("nats://bus", opts...)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() {
		n.Close()
		<-ended // its handlers have returned
	}()
	_, subjects := Rights(c.zone, c.self)
	for _, s := range subjects {
		sub, err := n.Subscribe(s, func(m *nats.Msg) { c.receive(m.Subject, m.Data) })
		if err != nil {
			return fmt.Errorf("subscribe %s: %w", s, err)
		}
		if err := sub.SetPendingLimits(outMessages, outBytes); err != nil {
			return fmt.Errorf("subscribe %s: %w", s, err)
		}
	}
	if err := n.FlushTimeout(joinLimit); err != nil {
		return fmt.Errorf("join: %w", err)
	}
	// What was refused has been told before the flush was answered.
	if err := n.LastError(); err != nil {
		return fmt.Errorf("join: %w", err)
	}
	p.out.set(true)
	p.note(true, "")
	c.cfg.Log.Info("bus: connected", "controller", p.name, "address", p.state().Address)
	kick(c.joined)
	return p.write(ctx, n, ended, cred.Certificate)
}

// write sends what waits until the connection ends.
func (p *path) write(ctx context.Context, n *nats.Conn, ended chan error, certificate string) error {
	look := time.NewTicker(time.Duration((0.5 + mrand.Float64()/2) * float64(p.c.renewWithin)))
	defer look.Stop()
	for {
		for _, e := range p.out.take() {
			if err := n.Publish(e.subject, e.frame); err != nil {
				return err
			}
		}
		select {
		case <-p.out.wake:
		case err := <-ended:
			ended <- err // for session
			return err
		case <-look.C:
			if p.dial != nil && p.c.cfg.Credentials().Certificate != certificate {
				return errRenewed
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// dial opens a connection to a controller, at the first of its addresses that
// answers as it.
func (c *Conn) dial(ctx context.Context, id string) (net.Conn, error) {
	c.mu.Lock()
	z, at, p := c.view, c.known[id].addresses, c.paths[id]
	c.mu.Unlock()
	cred := c.cfg.Credentials()
	own, err := tls.X509KeyPair([]byte(cred.Certificate), []byte(cred.Key))
	if err != nil {
		return nil, fmt.Errorf("credentials: %w", err)
	}
	err = fmt.Errorf("controller %s has no address", id)
	for _, a := range at {
		if p != nil {
			p.setAddress(a)
		}
		var conn net.Conn
		if conn, err = dialOne(ctx, a, z.clientTLS(id, own)); err == nil {
			return conn, nil
		}
	}
	return nil, err
}

func dialOne(ctx context.Context, address string, conf *tls.Config) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	d := tls.Dialer{NetDialer: &net.Dialer{KeepAlive: 15 * time.Second}, Config: conf}
	return d.DialContext(ctx, "tcp", address)
}
