package zctrl

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/time/rate"

	"github.com/parley-meet/parley/services/internal/bus/placement"
	"github.com/parley-meet/parley/services/internal/carrier"
	"github.com/parley-meet/parley/services/internal/signal"
)

// Bounds of pages' WebSockets.
const (
	openTime  = 10 * time.Second // until the first frame
	writeWait = 10 * time.Second // for a frame that the page does not take
	quiet     = 2 * signal.Silence
	// maxOpen is the longest frame in bytes before the router has answered: a ticket
	// and a little.
	maxOpen = 8 << 10
	// maxWaiting WebSockets have shown no ticket yet; maxPeerWaiting of one address.
	maxWaiting     = 1024
	maxPeerWaiting = 256
	// queueFrames and queueBytes wait for a slow page; then its WebSocket is closed,
	// and it comes back and asks for what it has not.
	// A router sends as much as signal.RouterLimits at once to one that comes back.
	queueFrames = 256
	queueBytes  = 4 << 20
	// allBytes wait for all pages together.
	allBytes = 64 << 20
)

// page is a WebSocket.
type page struct {
	s      *Server
	zone   *zone
	ws     *websocket.Conn
	cancel context.CancelFunc
	router string // guarded by s.mu; "": none yet
	out    queue
	once   sync.Once
}

// close ends a WebSocket with a reason that says that another one may be opened.
// It waits for the page's answer, for a while.
func (p *page) close(code websocket.StatusCode, why string) {
	p.once.Do(func() { _ = p.ws.Close(code, why) })
	p.cancel()
}

// drop ends it at once.
func (p *page) drop() {
	p.cancel()
	_ = p.ws.CloseNow()
}

// waiting counts the WebSockets without a ticket.
type waiting struct {
	mu    sync.Mutex
	n     int
	peers map[netip.Prefix]int
}

func (w *waiting) enter(peer netip.Prefix) (leave func(), ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.n >= maxWaiting || w.peers[peer] >= maxPeerWaiting {
		return nil, false
	}
	if w.peers == nil {
		w.peers = map[netip.Prefix]int{}
	}
	w.n++
	w.peers[peer]++
	return sync.OnceFunc(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.n--
		if w.peers[peer]--; w.peers[peer] == 0 {
			delete(w.peers, peer)
		}
	}), true
}

// queue holds frames for a page.
type queue struct {
	all *atomic.Int64 // bytes of all queues

	mu     sync.Mutex
	frames [][]byte
	bytes  int
	last   bool // nothing follows
	over   bool // it was too much
	wake   chan struct{}
}

// put adds a frame. Where there is no room the page is behind, and its WebSocket
// ends: what it misses it asks for again.
func (q *queue) put(frame []byte, last bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.last || q.over:
		return
	case len(q.frames) >= queueFrames || q.bytes+len(frame) > queueBytes || q.all.Load()+int64(len(frame)) > allBytes:
		q.over = true
		q.emptyLocked()
	default:
		if len(frame) > 0 {
			q.frames, q.bytes = append(q.frames, frame), q.bytes+len(frame)
			q.all.Add(int64(len(frame)))
		}
		q.last = last
	}
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take returns the next frame, nil if none waits: last then says whether one
// follows, and over that it was too much.
func (q *queue) take() (frame []byte, last, over bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.frames) == 0 {
		return nil, q.last, q.over
	}
	frame, q.frames = q.frames[0], q.frames[1:]
	q.bytes -= len(frame)
	q.all.Add(-int64(len(frame)))
	return frame, false, false
}

// end drops what waits.
func (q *queue) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.over = true
	q.emptyLocked()
}

func (q *queue) emptyLocked() {
	q.all.Add(-int64(q.bytes))
	q.frames, q.bytes = nil, 0
}

// closePages ends the WebSockets of which that is true: they are to be opened
// again.
func (s *Server) closePages(which func(*page) bool, why string) {
	s.mu.Lock()
	var list []*page
	for p := range s.pages {
		if which(p) {
			list = append(list, p)
		}
	}
	s.mu.Unlock()
	for _, p := range list {
		go p.close(websocket.StatusTryAgainLater, why)
	}
	if len(list) > 0 {
		s.log.Info("pages are sent away", "pages", len(list), "why", why)
	}
}

// signal is GET /signal. A page that resumes adds ?m=MEETING, which is not read
// here: the frame says it too.
func (s *Server) signal(w http.ResponseWriter, r *http.Request) {
	z := s.current()
	if z == nil || !z.trusts() {
		s.refuse("no zone")
		unavailable(w)
		return
	}
	if !s.goodOrigin(z, r) {
		s.refuse("origin")
		http.Error(w, "this page may not open a meeting here", http.StatusForbidden)
		return
	}
	g := guestFor(r)
	if g == nil {
		http.Error(w, "no connection of this server", http.StatusInternalServerError)
		return
	}
	leave, ok := s.waiting.enter(g.peer)
	if !ok {
		s.refuse("busy")
		unavailable(w)
		return
	}
	defer leave()
	// The origin is checked above: the zone's other controllers' pages come too.
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return // it has answered
	}
	defer ws.CloseNow()
	ws.SetReadLimit(maxOpen)
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	defer cancel()
	p := &page{s: s, zone: z, ws: ws, cancel: cancel, out: queue{all: &s.queued, wake: make(chan struct{}, 1)}}
	defer p.out.end()
	if !s.admit(p) {
		p.close(websocket.StatusServiceRestart, "go on at another controller")
		return
	}
	defer s.forget(p)
	// A page is somebody when its router has answered: a ticket has one link at a
	// time there, however many WebSockets come with it.
	link, open, err := p.open(ctx, func() {
		leave()
		g.keep()
	})
	if err != nil {
		p.no(ctx, err)
		return
	}
	defer link.Cut()
	var writer sync.WaitGroup
	defer writer.Wait()
	defer cancel()
	writer.Go(func() { p.write(ctx) })
	_ = link.Send(open) // lost, the page opens again
	p.read(ctx, link)
}

// admit notes a page, unless the controller stops.
func (s *Server) admit(p *page) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining || s.zone != p.zone {
		return false
	}
	s.pages[p] = true
	return true
}

func (s *Server) forget(p *page) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pages, p)
}

// goodOrigin reports whether a page may open a WebSocket: it is this controller's
// or another one's of the zone. Programs that are no browsers say none.
func (s *Server) goodOrigin(z *zone, r *http.Request) bool {
	text := r.Header.Get("Origin")
	if text == "" {
		return true
	}
	u, err := url.Parse(text)
	return err == nil && u.Scheme == "https" && u.Host != "" && (u.Host == r.Host || z.has(u.Host))
}

// errStrange is of a first frame that no page sends.
var errStrange = refusal(signal.Garbled)

// open reads the first frame and makes the link to the meeting's router. answered
// is called when that has let somebody in.
func (p *page) open(ctx context.Context, answered func()) (*carrier.Link, []byte, error) {
	first, stop := context.WithTimeout(ctx, openTime)
	kind, b, err := p.ws.Read(first)
	stop()
	if err != nil {
		return nil, nil, err
	}
	f, err := signal.ParseFrame(b)
	if err != nil || kind != websocket.MessageText || f.Open == nil {
		return nil, nil, errStrange
	}
	wait, stop := context.WithTimeout(ctx, patience+time.Second)
	defer stop()
	var (
		at      placement.Place
		meeting = f.Open.Meeting
	)
	if f.Open.Ticket != "" {
		if meeting, err = p.zone.verify(wait, f.Open.Ticket); err != nil {
			return nil, nil, err
		}
		at, err = p.zone.place(wait, meeting)
	} else {
		at, err = p.zone.find(wait, meeting)
	}
	if err != nil {
		return nil, nil, err
	}
	p.s.mu.Lock()
	p.router = at.Router
	p.s.mu.Unlock()
	var once sync.Once
	link, err := p.zone.carrier.Open(meeting, at, func(frame []byte, last bool) {
		if !last {
			once.Do(func() {
				p.ws.SetReadLimit(signal.MaxFrame)
				answered()
			})
		}
		p.out.put(frame, last)
	})
	return link, b, err
}

// no tells a page why it is not let in, or that it is to try again.
func (p *page) no(ctx context.Context, err error) {
	var code refusal
	switch {
	case errors.As(err, &code):
		p.s.refuse(string(code))
		wait, stop := context.WithTimeout(ctx, writeWait)
		defer stop()
		if p.ws.Write(wait, websocket.MessageText, signal.Frame{Closed: &signal.Closed{Code: signal.Code(code)}}.Format()) == nil {
			p.close(websocket.StatusNormalClosure, "")
		}
	case errors.Is(err, errAway), errors.Is(err, carrier.ErrMany):
		p.s.refuse("try again")
		p.close(websocket.StatusTryAgainLater, err.Error())
	}
}

// write sends what waits, until the page or its router ends it.
func (p *page) write(ctx context.Context) {
	for {
		frame, last, over := p.out.take()
		switch {
		case frame != nil:
			wait, stop := context.WithTimeout(ctx, writeWait)
			err := p.ws.Write(wait, websocket.MessageText, frame)
			stop()
			if err != nil {
				p.drop()
				return
			}
			continue
		case over:
			p.s.refuse("slow")
			p.close(websocket.StatusPolicyViolation, "too slow")
			return
		case last:
			p.close(websocket.StatusNormalClosure, "")
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-p.out.wake:
		}
	}
}

// read passes frames on, no faster than package signal lets a page send.
func (p *page) read(ctx context.Context, link *carrier.Link) {
	frames, bytes := rate.NewLimiter(signal.FrameRate, signal.FrameBurst), rate.NewLimiter(signal.ByteRate, signal.ByteBurst)
	for {
		wait, stop := context.WithTimeout(ctx, quiet)
		kind, b, err := p.ws.Read(wait)
		stop()
		if err != nil {
			return
		}
		if kind != websocket.MessageText {
			p.close(websocket.StatusPolicyViolation, "text is expected")
			return
		}
		if frames.Wait(ctx) != nil || bytes.WaitN(ctx, len(b)) != nil {
			return
		}
		_ = link.Send(b) // lost, it is sent again
	}
}

// refuse counts who was not let in, or was sent away.
func (s *Server) refuse(why string) { s.figures.refused.WithLabelValues(why).Inc() }

// unavailable says that a try may succeed in a moment.
func unavailable(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "5")
	http.Error(w, "not now: try again", http.StatusServiceUnavailable)
}

// remote is the address that a request came from.
func remote(r *http.Request) netip.Addr {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	a, _ := netip.ParseAddr(host)
	return a.Unmap().WithZone("")
}
