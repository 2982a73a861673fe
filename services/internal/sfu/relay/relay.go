// Package relay is TURN (RFC 8656) over TLS, for networks that let nothing else
// out. It relays to this router and to nothing else: an allocation has no socket,
// its packets go to the mux in the process and come from there.
//
// Credentials are those of the TURN REST API: the user name begins with the time
// at which it ends, the password is an HMAC of it, and only who holds the
// process's secret can make them. They are given to participants alone.
package relay

import (
	"bufio"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/turn/v4"

	"github.com/parley-meet/parley/services/internal/handover"
	"github.com/parley-meet/parley/services/internal/sfu/pionlog"
	"github.com/parley-meet/parley/services/internal/sfu/wire"
)

// Bounds.
const (
	// Life of a credential: a meeting may be long, and a client allocates anew when
	// its network changes.
	Life  = 24 * time.Hour
	realm = "parley"
	// maxAllocations of all, and of one credential.
	maxAllocations = 2000
	perUser        = 8
)

// Server is the relay.
type Server struct {
	mux    *wire.Mux
	log    *slog.Logger
	secret []byte
	now    func() time.Time
	turn   *turn.Server
	feed   *handover.Listener
	router atomic.Pointer[router]
	ports  atomic.Uint32

	mu    sync.Mutex
	users map[string]int
	all   int
}

// router is where the relay relays to.
type router struct {
	allow map[netip.Addr]bool
	first netip.Addr
}

// SetRouter says under which addresses clients know this router now: those of its
// candidates. What is allocated goes on.
func (s *Server) SetRouter(list []netip.Addr) error {
	if len(list) == 0 {
		return errors.New("relay: the router has no address")
	}
	r := &router{allow: map[netip.Addr]bool{}, first: list[0].Unmap()}
	for _, a := range list {
		r.allow[a.Unmap()] = true
	}
	s.router.Store(r)
	return nil
}

// New starts a relay to the mux. Router are the addresses under which clients know
// this router: those of its candidates.
func New(mux *wire.Mux, router []netip.Addr, log *slog.Logger, now func() time.Time) (*Server, error) {
	s := &Server{mux: mux, log: log, secret: make([]byte, sha256.Size), now: now, users: map[string]int{}}
	rand.Read(s.secret)
	err := s.SetRouter(router)
	if err != nil {
		return nil, err
	}
	s.feed = handover.New(&net.TCPAddr{})
	s.turn, err = turn.NewServer(turn.ServerConfig{
		Realm:         realm,
		AuthHandler:   s.auth,
		QuotaHandler:  s.quota,
		EventHandler:  turn.EventHandler{OnAllocationDeleted: s.deleted, OnAllocationCreated: s.created},
		LoggerFactory: pionlog.Factory{Log: log},
		ListenerConfigs: []turn.ListenerConfig{{
			Listener:              s.feed,
			RelayAddressGenerator: generator{s},
			PermissionHandler:     s.permit,
		}},
	})
	if err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	return s, nil
}

// Credential makes a user name and its password, for a participant.
func (s *Server) Credential(participant string) (user, password string) {
	user = strconv.FormatInt(s.now().Add(Life).Unix(), 10) + ":" + participant
	return user, s.password(user)
}

func (s *Server) password(user string) string {
	m := hmac.New(sha256.New, s.secret)
	m.Write([]byte(user))
	return base64.RawURLEncoding.EncodeToString(m.Sum(nil))
}

// auth is turn.AuthHandler.
func (s *Server) auth(user, realm string, _ net.Addr) ([]byte, bool) {
	until, _, ok := strings.Cut(user, ":")
	t, err := strconv.ParseInt(until, 10, 64)
	if !ok || err != nil || s.now().After(time.Unix(t, 0)) || len(user) > 200 {
		return nil, false
	}
	return turn.GenerateAuthKey(user, realm, s.password(user)), true
}

// quota is turn.QuotaHandler.
func (s *Server) quota(user, _ string, _ net.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all < maxAllocations && s.users[user] < perUser
}

func (s *Server) created(_, _ net.Addr, _, user, _ string, _ net.Addr, _ int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all++
	s.users[user]++
}

func (s *Server) deleted(_, _ net.Addr, _, user, _ string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all--
	if s.users[user]--; s.users[user] <= 0 {
		delete(s.users, user)
	}
}

// Allocations is how many there are.
func (s *Server) Allocations() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all
}

// permit lets clients talk to this router alone.
func (s *Server) permit(_ net.Addr, ip net.IP) bool {
	a, ok := netip.AddrFromSlice(ip)
	return ok && s.router.Load().allow[a.Unmap()]
}

// Serve takes a connection whose first byte says that it is TURN (Is). It returns
// at once.
func (s *Server) Serve(c net.Conn) { s.feed.Put(c) }

// Is says whether the first byte inside TLS is that of STUN or ChannelData.
func Is(b byte) bool { return b < 4 }

// Close ends it.
func (s *Server) Close() error { return s.turn.Close() }

// generator makes allocations.
type generator struct{ s *Server }

// Validate implements turn.RelayAddressGenerator.
func (generator) Validate() error { return nil }

// AllocatePacketConn implements turn.RelayAddressGenerator.
func (g generator) AllocatePacketConn(string, int) (net.PacketConn, net.Addr, error) {
	s := g.s
	// A port that nobody listens on: the address tells allocations apart, no more.
	at := &net.UDPAddr{IP: s.router.Load().first.AsSlice(), Port: int(s.ports.Add(1)%60000) + 1024}
	return &allocation{s: s, at: at, ways: map[netip.AddrPort]net.Conn{}, in: make(chan packet, queue), done: make(chan struct{})}, at, nil
}

// AllocateConn implements turn.RelayAddressGenerator: TCP is not relayed.
func (generator) AllocateConn(string, int) (net.Conn, net.Addr, error) {
	return nil, nil, errors.New("relay: UDP only")
}

// named is an end of a pipe that has an address.
type named struct {
	net.Conn
	at net.Addr
}

// RemoteAddr implements net.Conn.
func (n named) RemoteAddr() net.Addr { return n.at }

// Bounds of an allocation.
const (
	queue   = 256 // packets to the client that wait; more are dropped
	maxWays = 8   // addresses of the router that it talks to
)

// allocation is a packet connection without a socket: for each address of the
// router that its client talks to there is a pipe to the mux, framed as in RFC
// 4571, so that an answer comes from where the question went to.
type allocation struct {
	s    *Server
	at   *net.UDPAddr
	in   chan packet
	done chan struct{}
	once sync.Once

	mu   sync.Mutex
	ways map[netip.AddrPort]net.Conn
	buf  []byte
}

type packet struct {
	b    []byte
	from *net.UDPAddr
}

// ReadFrom implements net.PacketConn.
func (a *allocation) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case p := <-a.in:
		return copy(b, p.b), p.from, nil
	case <-a.done:
		return 0, nil, net.ErrClosed
	}
}

// WriteTo implements net.PacketConn.
func (a *allocation) WriteTo(b []byte, to net.Addr) (int, error) {
	u, ok := to.(*net.UDPAddr)
	if !ok || len(b) > wire.MTU {
		return 0, fmt.Errorf("relay: %d bytes to %v", len(b), to)
	}
	peer := u.AddrPort()
	a.mu.Lock()
	defer a.mu.Unlock()
	way := a.ways[peer]
	if way == nil {
		if way = a.open(peer); way == nil {
			return 0, errors.New("relay: too many addresses of the router, or closed")
		}
	}
	a.buf = binary.BigEndian.AppendUint16(a.buf[:0], uint16(len(b)))
	a.buf = append(a.buf, b...)
	if _, err := way.Write(a.buf); err != nil {
		way.Close()
		delete(a.ways, peer)
		return 0, err
	}
	return len(b), nil
}

// open makes a way. mu is held.
func (a *allocation) open(peer netip.AddrPort) net.Conn {
	select {
	case <-a.done:
		return nil
	default:
	}
	if len(a.ways) >= maxWays {
		return nil
	}
	ours, theirs := net.Pipe()
	a.ways[peer] = ours
	go func() {
		if err := a.s.mux.Serve(named{theirs, a.at}, wire.Relay); err != nil {
			a.s.log.Debug("relay", "error", err)
		}
	}()
	go a.read(ours, net.UDPAddrFromAddrPort(peer))
	return ours
}

// read takes what the router sends.
func (a *allocation) read(c net.Conn, from *net.UDPAddr) {
	in := bufio.NewReaderSize(c, 16<<10)
	for {
		var l [2]byte
		if _, err := io.ReadFull(in, l[:]); err != nil {
			return
		}
		b := make([]byte, binary.BigEndian.Uint16(l[:]))
		if _, err := io.ReadFull(in, b); err != nil {
			return
		}
		select {
		case a.in <- packet{b, from}:
		case <-a.done:
			return
		default: // the client's network is slower than what is sent
		}
	}
}

// Close implements net.PacketConn.
func (a *allocation) Close() error {
	a.once.Do(func() { close(a.done) })
	a.mu.Lock()
	defer a.mu.Unlock()
	for peer, c := range a.ways {
		c.Close()
		delete(a.ways, peer)
	}
	return nil
}

// LocalAddr implements net.PacketConn.
func (a *allocation) LocalAddr() net.Addr { return a.at }

// SetDeadline implements net.PacketConn; nothing waits.
func (a *allocation) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements net.PacketConn.
func (a *allocation) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements net.PacketConn.
func (a *allocation) SetWriteDeadline(time.Time) error { return nil }
