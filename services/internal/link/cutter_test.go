package link_test

import (
	"io"
	"math"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// cutter is a bad network: a proxy of TCP connections, of which each meets a
// fate that is drawn from a seed.
type cutter struct {
	net.Listener
	to []string // the portals; each connection goes to one

	mu    sync.Mutex
	r     *rand.Rand
	calm  bool                  // nothing happens any more
	met   map[fate]int          // how often
	open  map[net.Conn]struct{} // all ends that stand
	next  chan struct{}         // closed at the next connection
	wg    sync.WaitGroup
	count int
}

// fate is what happens to a connection when a number of bytes has gone through.
type fate int

const (
	cut     fate = iota // both ends are closed
	reset               // both ends are reset
	mute                // the portal's end is closed, the appliance's stays: it is not told
	ghost               // the appliance's end is closed, the portal's stays
	stall               // nothing goes on, and nobody is told
	late                // what the appliance says is held until it has come back by another connection
	reorder             // so is its first word: a later connection comes before
	twin                // a second connection comes with the same bytes; then as cut
	fates
)

// handshake is about how many bytes go before the first message of a link.
const handshake = 5000

func newCutter(t testing.TB, seed uint64, to ...string) *cutter {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{Listener: l, to: to, r: rand.New(rand.NewPCG(seed, 0)), met: map[fate]int{}, open: map[net.Conn]struct{}{}, next: make(chan struct{})}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			c.mu.Lock()
			c.wg.Add(1)
			f, n, to := fate(c.r.IntN(int(fates))), 1+c.r.IntN(handshake), c.to[c.r.IntN(len(c.to))]
			if c.r.IntN(4) > 0 {
				n = int(handshake * math.Exp(c.r.Float64()*math.Log(10)))
			}
			if c.calm {
				f, n = cut, math.MaxInt
			}
			if c.calm || f != reorder {
				// Whoever was held goes on: it is another one's turn.
				close(c.next)
				c.next = make(chan struct{})
			}
			c.count++
			next := c.next
			c.mu.Unlock()
			go func() {
				defer c.wg.Done()
				c.carry(conn, to, f, n, next)
			}()
		}
	}()
	t.Cleanup(c.close)
	return c
}

// settle cuts all connections; those that come later go through.
func (c *cutter) settle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calm = true
	for conn := range c.open {
		conn.Close()
	}
}

func (c *cutter) close() {
	c.Listener.Close()
	c.settle()
	c.wg.Wait()
}

func (c *cutter) seen() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.count
}

// hold keeps an end until drop; at once when nothing is held any more.
func (c *cutter) hold(conn net.Conn, calm bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open[conn] = struct{}{}
	if c.calm && !calm {
		conn.Close()
	}
}

func (c *cutter) drop(conn net.Conn) {
	c.mu.Lock()
	delete(c.open, conn)
	c.mu.Unlock()
	conn.Close()
}

// carry has a connection meet its fate.
func (c *cutter) carry(a net.Conn, to string, f fate, n int, next chan struct{}) {
	calm := n == math.MaxInt
	c.hold(a, calm)
	defer c.drop(a)
	gone := make(chan struct{}) // the appliance has given this connection up
	early := func(limit time.Duration) {
		select {
		case <-next:
		case <-gone:
		case <-time.After(limit):
		}
	}
	if f == reorder {
		early(300 * time.Millisecond)
	}
	p, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	c.hold(p, calm)
	defer c.drop(p)
	var second net.Conn
	if f == twin {
		if second, err = net.Dial("tcp", to); err != nil {
			return
		}
		c.hold(second, calm)
		defer c.drop(second)
	}
	left := &budget{n: n, over: make(chan struct{})}
	var held []byte // what the appliance said after its fate was met
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(gone)
		buf := make([]byte, 4096)
		for {
			k, err := a.Read(buf)
			if k > 0 {
				k2 := left.take(k)
				if _, werr := p.Write(buf[:k2]); werr != nil && f != mute {
					return
				}
				if second != nil {
					_, _ = second.Write(buf[:k2]) // it may be gone
				}
				if k2 < k && len(held) < 1<<20 {
					held = append(held, buf[k2:k]...)
				}
			}
			if err != nil {
				return
			}
		}
	})
	back := make(chan struct{})
	wg.Go(func() {
		defer close(back)
		buf := make([]byte, 4096)
		for {
			k, err := p.Read(buf)
			if k2 := left.take(k); k2 > 0 && (f == ghost || k2 == k) {
				if _, err := a.Write(buf[:k2]); err != nil {
					return
				}
			}
			if err != nil {
				return
			}
		}
	})
	if second != nil {
		wg.Go(func() { _, _ = io.Copy(io.Discard, second) })
		defer second.Close()
	}
	select {
	case <-left.over:
		c.mu.Lock()
		c.met[f]++
		c.mu.Unlock()
	case <-gone:
	case <-back:
		f = cut
	}
	switch f {
	case reset:
		for _, x := range []net.Conn{a, p} {
			_ = x.(*net.TCPConn).SetLinger(0)
		}
	case mute:
		p.Close()
		<-gone
	case ghost:
		a.Close()
		<-back
	case stall:
		<-gone
	case late:
		<-gone
		early(time.Second)           // it comes back …
		time.Sleep(time.Millisecond) // … and says something, before
		_, _ = p.Write(held)
	}
	a.Close()
	p.Close()
	if second != nil {
		second.Close()
	}
	wg.Wait()
}

// budget is how many bytes still go through.
type budget struct {
	mu   sync.Mutex
	n    int
	over chan struct{}
}

// take returns how many of k bytes go through.
func (b *budget) take(k int) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.n == math.MaxInt {
		return k
	}
	was := b.n
	b.n -= min(k, b.n)
	if was > 0 && b.n == 0 {
		close(b.over)
	}
	return was - b.n
}
