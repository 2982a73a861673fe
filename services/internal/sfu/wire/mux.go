package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Handler takes a peer's RTP and RTCP. It is called on the goroutine that reads,
// with packets of one path that came one after the other; they are good until it
// returns. What it sends goes to out, which is flushed after the batch.
type Handler interface {
	Media(out *Out, from *Path, packets [][]byte)
}

// Mux gives packets to those whom they concern.
type Mux struct {
	log     *slog.Logger
	readers int // of a UDP port
	sockets []*Socket

	mu     sync.RWMutex
	ufrags map[string]*Conn
	past   Totals // of sockets that are closed
	nextID atomic.Uint64
	closed bool
	tasks  sync.WaitGroup
}

// NewMux starts with no socket.
func NewMux(log *slog.Logger) *Mux {
	return &Mux{log: log, readers: max(runtime.GOMAXPROCS(0)/perReader, 1), ufrags: map[string]*Conn{}}
}

// perReader processors come to a reader of a UDP port: one for its packets, and one
// for the kernel's part of them and everything else. On two processors a second
// reader gains nothing.
const perReader = 2

// errClosed ends reads of what is closed.
var errClosed = errors.New("mux: closed")

// Local is the address that an ICE agent is told to be at. No packet has it.
var Local = &net.UDPAddr{IP: pathIP(0), Port: pathPort}

// pathPort is the port of all addresses inside the process.
const pathPort = 9

// pathIP makes the address of a path that ICE sees: unique local (RFC 4193), with
// a prefix that is nobody's because it never leaves the process.
func pathIP(id uint64) net.IP {
	ip := make(net.IP, net.IPv6len)
	copy(ip, []byte{0xfd, 'p', 'a', 'r', 'l', 'e', 'y', 0})
	binary.BigEndian.PutUint64(ip[8:], id+1)
	return ip
}

func pathID(a net.Addr) (uint64, bool) {
	u, ok := a.(*net.UDPAddr)
	if !ok || len(u.IP) != net.IPv6len {
		return 0, false
	}
	return binary.BigEndian.Uint64(u.IP[8:]) - 1, true
}

// Conn is a peer's ICE and DTLS: a net.PacketConn for its ICE agent, on which all
// paths look like one network.
type Conn struct {
	mux     *Mux
	ufrag   string
	packets chan inbound
	handler atomic.Pointer[Handler]

	mu    sync.Mutex
	paths map[uint64]*Path
	// The newest requests that were answered: a copy of one from another address is
	// somebody who saw it on its way (RFC 8445 leaves the address out of what is
	// authenticated), and would take a place among the paths.
	answered []answered
	oldest   int
	done     chan struct{}
	once     sync.Once
	// unblock is closed when a deadline has passed that the agent sets to end its
	// reader.
	unblock chan struct{}
	woken   bool
	agent   allowance // of packets to the agent
}

// answered is a request.
type answered struct {
	transaction uint64 // half of its number
	path        uint64
}

type inbound struct {
	b    []byte
	from *net.UDPAddr
}

// Bounds of a peer.
const (
	// maxPaths are kept of one peer: each address that it has authenticated from.
	maxPaths = 32
	// connQueue is how many STUN and DTLS packets wait for a peer's agent; more are
	// dropped, and both protocols repeat.
	connQueue = 64
	// maxAnswered requests are remembered: half an hour of a browser's.
	maxAnswered = 1024
	// What an agent is given of STUN and DTLS, packets a second and at once: a browser
	// sends some twenty checks a second at the most. More is dropped as it comes, or
	// one peer's flood would keep the reader from the media of all others.
	agentRate  = 200
	agentBurst = 400
	// answerRate is for who asks for his own address, on each socket.
	answerRate  = 500
	answerBurst = 1000
)

// allowance is a token bucket.
type allowance struct {
	left float64
	at   time.Time
}

// take says whether one more is allowed.
func (a *allowance) take(now time.Time, rate, burst float64) bool {
	if a.at.IsZero() {
		a.left = burst
	} else {
		a.left = min(burst, a.left+now.Sub(a.at).Seconds()*rate)
	}
	a.at = now
	if a.left < 1 {
		return false
	}
	a.left--
	return true
}

// Conn makes the conn of a user name fragment, or returns the one there is.
func (m *Mux) Conn(ufrag string) (*Conn, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, errClosed
	}
	if c := m.ufrags[ufrag]; c != nil {
		return c, nil
	}
	c := &Conn{
		mux: m, ufrag: ufrag,
		packets: make(chan inbound, connQueue),
		paths:   map[uint64]*Path{},
		done:    make(chan struct{}),
		unblock: make(chan struct{}),
	}
	m.ufrags[ufrag] = c
	return c, nil
}

// Handle sets who takes media from the paths of c. Before that it is dropped.
func (c *Conn) Handle(h Handler) { c.handler.Store(&h) }

// Path finds the path that an address of ICE stands for.
func (c *Conn) Path(ip net.IP) *Path {
	id, ok := pathID(&net.UDPAddr{IP: ip})
	if !ok {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.paths[id]
}

// push hands a packet to the agent.
func (c *Conn) push(p *Path, b []byte) {
	c.mu.Lock()
	ok := c.agent.take(time.Now(), agentRate, agentBurst)
	c.mu.Unlock()
	if !ok {
		return
	}
	select {
	case c.packets <- inbound{append([]byte(nil), b...), p.ice}:
	default:
	}
}

// Again hands a packet to the agent that it has read before.
func (c *Conn) Again(b []byte, from net.Addr) {
	u, ok := from.(*net.UDPAddr)
	if !ok {
		return
	}
	select {
	case c.packets <- inbound{b, u}:
	default:
	}
}

// add remembers a path that has shown a user name; it is validated when the agent
// answers.
func (c *Conn) add(p *Path) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.paths[p.id]; ok {
		return true
	}
	if len(c.paths) >= maxPaths {
		// What was never answered goes first: anybody who saw the fragment can make
		// such paths.
		for id, old := range c.paths {
			if !old.valid.Load() {
				delete(c.paths, id)
				old.forget()
				break
			}
		}
		if len(c.paths) >= maxPaths {
			return false
		}
	}
	c.paths[p.id] = p
	return true
}

// ReadFrom implements net.PacketConn.
func (c *Conn) ReadFrom(b []byte) (int, net.Addr, error) {
	c.mu.Lock()
	unblock := c.unblock
	c.mu.Unlock()
	select {
	case in := <-c.packets:
		return copy(b, in.b), in.from, nil
	case <-c.done:
		return 0, nil, net.ErrClosed
	case <-unblock:
		return 0, nil, net.ErrClosed
	}
}

// WriteTo implements net.PacketConn. The answer to an authenticated request is
// what makes a path valid.
func (c *Conn) WriteTo(b []byte, to net.Addr) (int, error) {
	id, ok := pathID(to)
	if !ok {
		return 0, fmt.Errorf("mux: no path has the address %v", to)
	}
	c.mu.Lock()
	p := c.paths[id]
	success := isSTUN(b) && stunType(b) == stunSuccess
	if p != nil && success {
		c.remember(b, id)
	}
	c.mu.Unlock()
	if p == nil {
		// A candidate that the peer wrote into its offer: we answer, and never call.
		return len(b), nil
	}
	if success && !p.valid.Load() {
		p.validate(c)
	}
	return len(b), p.write(b)
}

// remember notes the request of an answer. mu is held.
func (c *Conn) remember(answer []byte, path uint64) {
	a := answered{stunTransaction(answer), path}
	if len(c.answered) < maxAnswered {
		c.answered = append(c.answered, a)
		return
	}
	c.answered[c.oldest] = a
	c.oldest = (c.oldest + 1) % maxAnswered
}

// replayed says whether a request was answered before, on another path; p is nil
// where there is none yet.
func (c *Conn) replayed(p *Path, request []byte) bool {
	t := stunTransaction(request)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range c.answered {
		if a.transaction == t {
			return p == nil || a.path != p.id
		}
	}
	return false
}

// Close implements net.PacketConn.
func (c *Conn) Close() error {
	c.once.Do(func() {
		close(c.done)
		m := c.mux
		m.mu.Lock()
		if m.ufrags[c.ufrag] == c {
			delete(m.ufrags, c.ufrag)
		}
		m.mu.Unlock()
		c.mu.Lock()
		paths := c.paths
		c.paths = map[uint64]*Path{}
		c.mu.Unlock()
		for _, p := range paths {
			p.forget()
		}
	})
	return nil
}

// LocalAddr implements net.PacketConn.
func (c *Conn) LocalAddr() net.Addr { return Local }

// find returns the conn of a STUN request.
func (m *Mux) find(ufrag []byte) *Conn {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.ufrags[string(ufrag)]
}

// STUN (RFC 8489): what the mux must know of it.
const (
	stunHeader  = 20
	stunCookie  = 0x2112A442
	stunRequest = 0x0001
	stunSuccess = 0x0101
	attrUser    = 0x0006
	attrMapped  = 0x0020
	attrFinger  = 0x8028
)

func isSTUN(b []byte) bool {
	return len(b) >= stunHeader && b[0] < 4 && binary.BigEndian.Uint32(b[4:]) == stunCookie
}

func stunTransaction(b []byte) uint64 { return binary.BigEndian.Uint64(b[stunHeader-8:]) }

func stunType(b []byte) uint16 { return binary.BigEndian.Uint16(b) }

// stunUser finds the local half of USERNAME, which is "local:remote".
func stunUser(b []byte) []byte {
	n := stunHeader + int(binary.BigEndian.Uint16(b[2:]))
	if n > len(b) {
		return nil
	}
	for at := stunHeader; at+4 <= n; {
		kind, l := binary.BigEndian.Uint16(b[at:]), int(binary.BigEndian.Uint16(b[at+2:]))
		if at+4+l > n {
			return nil
		}
		if kind == attrUser {
			v := b[at+4 : at+4+l]
			for i, c := range v {
				if c == ':' {
					return v[:i]
				}
			}
			return nil
		}
		at += 4 + (l+3)&^3
	}
	return nil
}

// stunAnswer writes the answer to a request for one's own address (RFC 8489, 7.3)
// into dst. It is 12 or 24 bytes longer than the shortest request.
func stunAnswer(dst, request []byte, from netip.AddrPort) []byte {
	ip := from.Addr().Unmap()
	l, family := 8, byte(1)
	if ip.Is6() {
		l, family = 20, 2
	}
	dst = binary.BigEndian.AppendUint16(dst, stunSuccess)
	dst = binary.BigEndian.AppendUint16(dst, uint16(4+l+8))
	dst = append(dst, request[4:stunHeader]...)
	dst = binary.BigEndian.AppendUint16(dst, attrMapped)
	dst = binary.BigEndian.AppendUint16(dst, uint16(l))
	dst = append(dst, 0, family)
	dst = binary.BigEndian.AppendUint16(dst, from.Port()^uint16(stunCookie>>16))
	for i, x := range ip.AsSlice() {
		dst = append(dst, x^request[4+i]) // cookie and transaction id
	}
	sum := crc32.ChecksumIEEE(dst) ^ 0x5354554e
	dst = binary.BigEndian.AppendUint16(dst, attrFinger)
	dst = binary.BigEndian.AppendUint16(dst, 4)
	return binary.BigEndian.AppendUint32(dst, sum)
}
