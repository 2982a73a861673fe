package zctrl

import (
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/parley-meet/parley/services/internal/handover"
	"github.com/parley-meet/parley/services/internal/throttle"
)

// Bounds of connections. A site's people may share one address behind NAT, so
// the bound of one is wide; a stranger who fills it keeps out himself alone.
const (
	maxConns     = 4096
	maxPeerConns = 1024 // of an IPv4 address, of an IPv6 /64
	// A handshake costs the machine more than whoever asks for it: after comeBurst
	// connections an address has comeRate a second. Two hundred people who load the
	// page behind one address are within it.
	comeBurst = 2048
	comeRate  = 100
	maxPaces  = 8192 // addresses of which that is known
	firstTime = 10 * time.Second
	keepAlive = 30 * time.Second
	// lookEvery is how often the addresses to listen at are asked for.
	lookEvery = 2 * time.Second
)

// door knows the connections that came in.
type door struct {
	mu      sync.Mutex
	guests  map[*guest]bool
	order   list.List // of *guest that have shown nothing yet, the oldest first
	peers   map[netip.Prefix]int
	paces   map[netip.Prefix]*pace
	pruned  time.Time // paces
	refused [3]uint64 // because of all, of one peer, and of its pace
	closed  bool
}

// pace is how many connections an address has made lately.
type pace struct {
	used float64
	at   time.Time
}

// take counts one more, and reports whether there was room.
func (p *pace) take(now time.Time) bool {
	if d := now.Sub(p.at).Seconds(); d > 0 {
		p.used, p.at = max(0, p.used-d*comeRate), now
	}
	if p.used >= comeBurst {
		return false
	}
	p.used++
	return true
}

// guest is a connection.
type guest struct {
	*net.TCPConn
	door *door
	peer netip.Prefix
	turn *list.Element // nil: it is kept, or gone; guarded by door.mu
}

type guestKey struct{}

// guestOf returns the guest below a connection of TLS.
func guestOf(c net.Conn) *guest {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	g, _ := c.(*guest)
	return g
}

// guestFor returns the guest of a request.
func guestFor(r *http.Request) *guest {
	g, _ := r.Context().Value(guestKey{}).(*guest)
	return g
}

func newDoor() *door {
	return &door{guests: map[*guest]bool{}, peers: map[netip.Prefix]int{}, paces: map[netip.Prefix]*pace{}}
}

// comesLocked counts a connection against its address's pace.
func (d *door) comesLocked(peer netip.Prefix, now time.Time) bool {
	p := d.paces[peer]
	if p == nil {
		if len(d.paces) >= maxPaces && now.Sub(d.pruned) >= time.Second {
			d.pruned = now
			for k, x := range d.paces {
				if x.used-now.Sub(x.at).Seconds()*comeRate <= 0 {
					delete(d.paces, k)
				}
			}
		}
		if len(d.paces) >= maxPaces {
			return true // so many are no one's
		}
		p = &pace{at: now}
		d.paces[peer] = p
	}
	return p.take(now)
}

// enter counts a connection in, or closes it. Where there are too many the oldest
// that has shown nothing goes.
func (d *door) enter(c *net.TCPConn, now time.Time) *guest {
	g := &guest{TCPConn: c, door: d, peer: throttle.Peer(c.RemoteAddr(), 32, 64)}
	d.mu.Lock()
	var oldest *guest
	refused := d.closed
	switch {
	case !d.comesLocked(g.peer, now):
		refused = true
		d.refused[2]++
	case d.peers[g.peer] >= maxPeerConns:
		refused = true
		d.refused[1]++
	case len(d.guests) >= maxConns:
		d.refused[0]++
		if e := d.order.Front(); e != nil {
			oldest = e.Value.(*guest)
		} else {
			refused = true
		}
	}
	if !refused {
		d.guests[g] = true
		d.peers[g.peer]++
		g.turn = d.order.PushBack(g)
	}
	d.mu.Unlock()
	if oldest != nil {
		oldest.Close()
	}
	if refused {
		c.Close()
		return nil
	}
	return g
}

// keep says that a connection is somebody's who has shown what he must.
func (g *guest) keep() {
	if g == nil {
		return
	}
	g.door.mu.Lock()
	defer g.door.mu.Unlock()
	if g.turn != nil {
		g.door.order.Remove(g.turn)
		g.turn = nil
	}
}

// leave counts it out.
func (g *guest) leave() {
	g.door.mu.Lock()
	defer g.door.mu.Unlock()
	if !g.door.guests[g] {
		return
	}
	delete(g.door.guests, g)
	if g.door.peers[g.peer]--; g.door.peers[g.peer] == 0 {
		delete(g.door.peers, g.peer)
	}
	if g.turn != nil {
		g.door.order.Remove(g.turn)
		g.turn = nil
	}
}

// Close implements net.Conn.
func (g *guest) Close() error {
	g.leave()
	return g.TCPConn.Close()
}

func (d *door) len() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.guests)
}

func (d *door) closeAll() {
	d.mu.Lock()
	d.closed = true
	all := make([]*guest, 0, len(d.guests))
	for g := range d.guests {
		all = append(all, g)
	}
	d.mu.Unlock()
	for _, g := range all {
		g.Close()
	}
}

// listen keeps a listener at each address until ctx ends.
func (s *Server) listen(ctx context.Context) {
	var work sync.WaitGroup
	defer work.Wait()
	defer s.closeListeners()
	for {
		want := map[netip.AddrPort]bool{}
		for _, a := range s.cfg.Listen() {
			want[a] = true
			s.open(ctx, a, &work)
		}
		s.mu.Lock()
		for a, l := range s.running {
			if !want[a] {
				delete(s.running, a)
				l.Close()
				s.log.Info("an address is gone", "address", a)
			}
		}
		for a := range s.problems {
			if !want[a] {
				delete(s.problems, a)
			}
		}
		s.mu.Unlock()
		s.tell()
		select {
		case <-ctx.Done():
			return
		case <-time.After(lookEvery):
		}
	}
}

// open listens at an address, unless it does.
func (s *Server) open(ctx context.Context, a netip.AddrPort, work *sync.WaitGroup) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running[a] != nil || ctx.Err() != nil || s.draining {
		return
	}
	c := net.ListenConfig{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: keepAlive, Interval: keepAlive / 2, Count: 3}}
	l, err := c.Listen(ctx, "tcp", a.String())
	if err != nil {
		if s.problems[a] == nil {
			s.log.Error("listen", "address", a, "error", err)
		}
		s.problems[a] = err
		return
	}
	delete(s.problems, a)
	s.running[a] = l
	s.log.Info("listening", "address", a)
	work.Go(func() { s.accept(l) })
}

func (s *Server) closeListeners() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for a, l := range s.running {
		l.Close()
		delete(s.running, a)
	}
}

// accept takes connections until the listener is closed.
func (s *Server) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			s.strangers.Line(-4, "accept", "error", err)
			time.Sleep(10 * time.Millisecond) // out of descriptors: it passes
			continue
		}
		if g := s.door.enter(c.(*net.TCPConn), time.Now()); g != nil {
			go s.sort(g)
		}
	}
}

// sort tells what is the controller's from what is the router's, where they have
// one address, without taking anything from the connection.
func (s *Server) sort(g *guest) {
	if err := g.SetReadDeadline(time.Now().Add(firstTime)); err != nil {
		g.Close()
		return
	}
	first, err := handover.Peek(g.TCPConn, 1)
	if err != nil {
		g.Close()
		return
	}
	own := first[0] == handover.HandshakeByte
	if own && s.sender != nil && s.cfg.TURN != nil {
		if name := s.cfg.TURN(); name != "" {
			asked, err := handover.ServerName(g.TCPConn)
			if err != nil {
				g.Close()
				return
			}
			own = !strings.EqualFold(asked, name)
		}
	}
	if err := g.SetReadDeadline(time.Time{}); err != nil {
		g.Close()
		return
	}
	switch {
	case own:
		s.web.Put(g)
	case s.sender == nil:
		g.Close()
	default:
		g.leave()
		if err := s.sender.Send(g.TCPConn); err != nil {
			s.strangers.Line(0, "a connection for the router is lost", "error", err)
			s.figures.handed.WithLabelValues("lost").Inc()
			return
		}
		s.figures.handed.WithLabelValues("handed over").Inc()
	}
}
