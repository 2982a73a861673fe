package load

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/parley-meet/parley/services/internal/signal"
)

// Door is where participants come in: a controller, or a router by itself.
type Door struct {
	URL  string // "https://192.0.2.1"
	HTTP *http.Client
	// Ticket gives a fresh one for participant n.
	Ticket func(ctx context.Context, n int) (string, error)
}

// ErrClosed says why a session is over.
type ErrClosed signal.Code

func (e ErrClosed) Error() string { return "the session is over: " + string(e) }

// Page is a participant's signalling: what a meeting page does, without pictures.
// A link that breaks is opened again.
type Page struct {
	door Door
	// Layers hears which simulcast layers of the camera somebody looks at.
	Layers func(rids []string)

	mu      sync.Mutex
	c       *signal.Client
	joined  *signal.Joined
	waits   signal.Code
	answers map[uint32]chan *answer
	ref     uint32
	shown   map[string]signal.ID
	kick    chan struct{}
	more    chan struct{} // closed and made anew when something came
	stop    context.CancelFunc
	work    sync.WaitGroup
}

// answer is what came to an offer.
type answer struct {
	sdp string
	err error
}

// Bounds of a page.
const (
	pageFrame   = 1 << 20 // bytes that a router may send in one
	firstPause  = 500 * time.Millisecond
	longPause   = 8 * time.Second
	pollAtLeast = time.Second
)

// OpenPage begins a session with a ticket, and returns when the participant is
// inside.
func OpenPage(ctx context.Context, door Door, n int, layers func([]string)) (*Page, error) {
	text, err := door.Ticket(ctx, n)
	if err != nil {
		return nil, err
	}
	p := &Page{
		door: door, Layers: layers,
		c:       signal.NewClient(text, time.Now()),
		answers: map[uint32]chan *answer{},
		shown:   map[string]signal.ID{},
		kick:    make(chan struct{}, 1),
		more:    make(chan struct{}),
	}
	// The session outlives the call: its end is Close.
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	p.stop = stop
	first, err := p.dial(ctx)
	if err != nil {
		stop()
		return nil, err
	}
	p.work.Go(func() { p.run(run, first) })
	err = p.await(ctx, "let in", func() bool { return p.joined != nil })
	if err != nil {
		p.mu.Lock()
		if p.waits == signal.WaitAdmission {
			err = fmt.Errorf("%w: the meeting has a waiting room", err)
		} else if p.waits != "" {
			err = fmt.Errorf("%w: %s", err, p.waits)
		}
		p.mu.Unlock()
		p.Close()
		return nil, err
	}
	return p, nil
}

// await waits until something is so. So is called with mu held.
func (p *Page) await(ctx context.Context, what string, so func() bool) error {
	for {
		p.mu.Lock()
		ok, code, more := so(), p.c.Closed(), p.more
		p.mu.Unlock()
		switch {
		case ok:
			return nil
		case code != "":
			return ErrClosed(code)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not %s: %w", what, ctx.Err())
		case <-more:
		}
	}
}

func (p *Page) dial(ctx context.Context) (*websocket.Conn, error) {
	at := strings.Replace(strings.TrimSuffix(p.door.URL, "/"), "http", "ws", 1) + "/signal"
	p.mu.Lock()
	if s, ok := p.c.Save(); ok && s.Meeting != "" {
		at += "?m=" + url.QueryEscape(s.Meeting)
	}
	p.mu.Unlock()
	// The client's timeout would end the WebSocket.
	ws, _, err := websocket.Dial(ctx, at, &websocket.DialOptions{HTTPClient: &http.Client{Transport: p.door.HTTP.Transport}})
	if err != nil {
		return nil, err
	}
	ws.SetReadLimit(pageFrame)
	return ws, nil
}

// run keeps a link until ctx ends or the session is over.
func (p *Page) run(ctx context.Context, ws *websocket.Conn) {
	pause := firstPause
	for {
		if ws != nil {
			p.link(ctx, ws)
			pause = firstPause
		}
		p.mu.Lock()
		p.poke()
		over := p.c.Closed() != ""
		p.mu.Unlock()
		if over || sleep(ctx, pause) != nil {
			return
		}
		pause = min(2*pause, longPause)
		var err error
		if ws, err = p.dial(ctx); err != nil {
			ws = nil
		}
	}
}

// poke wakes those who wait. mu is held.
func (p *Page) poke() {
	close(p.more)
	p.more = make(chan struct{})
}

// link carries frames until it breaks.
func (p *Page) link(ctx context.Context, ws *websocket.Conn) {
	ctx, cancel := context.WithCancel(ctx)
	p.mu.Lock()
	n := p.c.Up(time.Now())
	p.mu.Unlock()
	var reader sync.WaitGroup
	reader.Go(func() {
		defer cancel()
		for {
			_, b, err := ws.Read(ctx)
			if err != nil || !p.take(n, b) {
				return
			}
		}
	})
	defer reader.Wait()
	defer ws.CloseNow()
	defer cancel()
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		now := time.Now()
		p.mu.Lock()
		frames, wants, next := p.c.Poll(now), p.c.Wants(), p.c.Next()
		p.mu.Unlock()
		for _, b := range frames {
			if ws.Write(ctx, websocket.MessageText, b) != nil {
				wants = true
			}
		}
		if wants {
			break
		}
		wait := pollAtLeast
		if !next.IsZero() {
			wait = max(min(wait, next.Sub(now)), time.Millisecond)
		}
		t.Reset(wait)
		select {
		case <-ctx.Done():
			wants = true
		case <-p.kick:
		case <-t.C:
		}
		if wants {
			break
		}
	}
	p.mu.Lock()
	p.c.Down(n, time.Now())
	p.mu.Unlock()
}

// take is a frame that came. It says whether the link goes on.
func (p *Page) take(link uint32, b []byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	m, err := p.c.Receive(link, b, time.Now())
	if err == nil {
		p.message(m)
	}
	p.poke()
	p.wakeLocked()
	return err == nil && p.c.Closed() == ""
}

func (p *Page) wakeLocked() {
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

// message takes one. mu is held.
func (p *Page) message(m signal.Message) {
	switch m := m.(type) {
	case *signal.Joined:
		p.joined = m
	case *signal.Waiting:
		p.waits = m.Why
	case *signal.Answer:
		if c := p.answers[m.Ref]; c != nil {
			delete(p.answers, m.Ref)
			c <- &answer{sdp: m.SDP}
		}
	case *signal.Error:
		if c := p.answers[m.Ref]; c != nil {
			delete(p.answers, m.Ref)
			c <- &answer{err: fmt.Errorf("%s refused: %s %v", m.Of, m.Code, m.Args)}
		}
	case *signal.Slots:
		for _, s := range m.Slots {
			p.shown[s.Mid] = s.ID
		}
	case *signal.Layers:
		if m.Source == signal.Camera && p.Layers != nil {
			p.Layers(m.RIDs)
		}
	}
}

// Send sends a message.
func (p *Page) Send(m signal.Message) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wakeLocked()
	return p.c.Send(m, time.Now())
}

// Offer sends one and waits for its answer.
func (p *Page) Offer(ctx context.Context, o signal.Offer) (string, error) {
	c := make(chan *answer, 1)
	p.mu.Lock()
	p.ref++
	o.Ref = p.ref
	p.answers[o.Ref] = c
	err := p.c.Send(&o, time.Now())
	p.wakeLocked()
	p.mu.Unlock()
	if err != nil {
		return "", err
	}
	for {
		p.mu.Lock()
		code, more := p.c.Closed(), p.more
		p.mu.Unlock()
		select {
		case a := <-c:
			return a.sdp, a.err
		default:
		}
		if code != "" {
			return "", ErrClosed(code)
		}
		select {
		case <-ctx.Done():
			return "", errors.New("no answer to the offer in time")
		case <-more:
		}
	}
}

// Shown is how many slots show somebody.
func (p *Page) Shown() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range p.shown {
		if id != 0 {
			n++
		}
	}
	return n
}

// Closed is why the session is over, or "".
func (p *Page) Closed() signal.Code {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.c.Closed()
}

// Leave says goodbye, waits until the router has heard it, and closes.
func (p *Page) Leave(ctx context.Context) {
	if p.Send(&signal.Leave{}) == nil {
		_ = p.await(ctx, "said goodbye to", func() bool { return p.c.Closed() != "" })
	}
	p.Close()
}

// Close ends the page without a word, as a browser that is killed.
func (p *Page) Close() {
	p.stop()
	p.work.Wait()
}
