// Package transport is all of pion/webrtc: ICE and DTLS of the router's peers, by
// the library's ORTC interface (ICEGatherer, ICETransport, DTLSTransport). RTP
// goes past it: package wire has the sockets and the keys. Nothing else may import
// pion's webrtc, ice or dtls, so that another release of them is a few files.
//
// The router is ICE-lite (RFC 8445, 2.5): it answers checks and sends none of its
// own accord, so that a candidate in an offer cannot make it call anybody. It has
// no STUN or TURN server, opens no data channel (SCTP), and is the DTLS server for
// whoever can be a client.
// An ICE agent sees the addresses of package wire's paths only.
package transport

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/pion/dtls/v2"
	"github.com/pion/ice/v2"
	"github.com/pion/transport/v2/stdnet"
	"github.com/pion/webrtc/v3"

	"github.com/parley-meet/parley/services/internal/sfu/pionlog"
	"github.com/parley-meet/parley/services/internal/sfu/wire"
)

// Times of a peer.
const (
	// connectIn is how long ICE and DTLS may take together: a phone that changes
	// networks takes ten seconds, and so does a person who reads a prompt.
	connectIn = 30 * time.Second
	// A path is doubted after silentAfter without a packet of ICE, and given up
	// after goneAfter (RFC 7675 asks for consent every 5 s, and ends it after 30).
	silentAfter = 7 * time.Second
	goneAfter   = 23 * time.Second
	keepAlive   = 2 * time.Second
)

// Params are one end's half of ICE and DTLS.
type Params struct {
	Ufrag, Pwd  string
	Hash, Print string // fingerprint of the certificate (RFC 8122): "sha-256", "AB:CD:…"
	// Waits says that the end waits for DTLS (RFC 8842, setup:passive), as encoders do
	// that know the server's half of it only: we begin.
	Waits bool
}

// State is how a peer is connected.
type State uint8

// The states.
const (
	Connecting   State = iota
	Connected          // ICE and DTLS
	Disconnected       // silent; it may come back by itself or by an ICE restart
	Failed             // will not come back, except by an ICE restart
	Closed
)

func (s State) String() string {
	return [...]string{"connecting", "connected", "disconnected", "failed", "closed"}[s]
}

// Events are called one after the other, from goroutines of the library: they must
// not wait and not call the peer's Close.
type Events struct {
	Keys  func(*wire.Crypt, wire.Profile) // once, before State(Connected)
	Path  func(*wire.Path)                // each time the peer nominates one
	State func(State, error)
}

// API makes peers.
type API struct {
	api *webrtc.API // for who does not offer GCM
	gcm *webrtc.API // with GCM alone
	any *webrtc.API // with both, where the other end chooses
	// gates of conns that agents have made and peers have not taken yet, by fragment.
	gates *sync.Map
	mux   *wire.Mux
	log   *slog.Logger
	cert  webrtc.Certificate
	own   Params // its fingerprint
}

// New makes a certificate, which lives as long as the process, and checks that
// the library is built as reach.go wants it.
func New(mux *wire.Mux, log *slog.Logger) (*API, error) {
	if err := reachable(); err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	cert, err := webrtc.GenerateCertificate(key)
	if err != nil {
		return nil, fmt.Errorf("certificate of DTLS: %w", err)
	}
	prints, err := cert.GetFingerprints()
	if err != nil {
		return nil, fmt.Errorf("certificate of DTLS: %w", err)
	}
	// One for all agents: each would list the machine's interfaces otherwise.
	network, err := stdnet.NewNet()
	if err != nil {
		return nil, fmt.Errorf("interfaces: %w", err)
	}
	var set webrtc.SettingEngine
	set.LoggerFactory = pionlog.Factory{Log: log}
	set.SetNet(network)
	set.SetLite(true)
	set.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP6})
	gates := &sync.Map{}
	set.SetICEUDPMux(agents{mux, gates})
	set.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	set.DisableActiveTCP(true)
	set.SetICETimeouts(silentAfter, goneAfter, keepAlive)
	// The cookie of RFC 6347, 4.2.1 proves an address; ICE has done so.
	set.SetDTLSInsecureSkipHelloVerify(true)
	set.SetReceiveMTU(wire.MTU)
	gcm, either := set, set
	set.SetSRTPProtectionProfiles(dtls.SRTP_AES128_CM_HMAC_SHA1_80)
	gcm.SetSRTPProtectionProfiles(dtls.SRTP_AEAD_AES_128_GCM)
	either.SetSRTPProtectionProfiles(dtls.SRTP_AEAD_AES_128_GCM, dtls.SRTP_AES128_CM_HMAC_SHA1_80)
	return &API{
		api:   webrtc.NewAPI(webrtc.WithSettingEngine(set)),
		gcm:   webrtc.NewAPI(webrtc.WithSettingEngine(gcm)),
		any:   webrtc.NewAPI(webrtc.WithSettingEngine(either)),
		gates: gates,
		mux:   mux,
		log:   log,
		cert:  *cert,
		own:   Params{Hash: prints[0].Algorithm, Print: prints[0].Value},
	}, nil
}

// Peer is one.
type Peer struct {
	api    *API
	events Events
	remote Params
	gather *webrtc.ICEGatherer
	ice    *webrtc.ICETransport

	mu      sync.Mutex
	dtls    *webrtc.DTLSTransport // nil until the ClientHello
	gate    *gate                 // of the conn that the handshake comes by
	local   Params
	conns   []*wire.Conn // the present one last; others until their successor has a path
	handler wire.Handler
	state   State
	secure  bool
	cancel  context.CancelFunc
	done    chan struct{}
}

// Open makes a peer that waits for the remote end's checks. What it sends and
// receives goes to h.
func (a *API) Open(remote Params, h wire.Handler, ev Events) (*Peer, error) {
	p := &Peer{api: a, events: ev, remote: remote, handler: h, done: make(chan struct{})}
	var err error
	if p.gather, err = a.api.NewICEGatherer(webrtc.ICEGatherOptions{}); err != nil {
		return nil, fmt.Errorf("ice: %w", err)
	}
	p.ice = a.api.NewICETransport(p.gather)
	if err := p.collect(); err != nil {
		p.gather.Close()
		return nil, err
	}
	p.ice.OnSelectedCandidatePairChange(p.nominated)
	p.ice.OnConnectionStateChange(p.iceState)
	ctx, cancel := context.WithTimeout(context.Background(), connectIn)
	p.cancel = cancel
	go p.connect(ctx)
	return p, nil
}

// collect gathers the one candidate that there is, and takes its conn.
func (p *Peer) collect() error {
	gathered := make(chan struct{})
	var once sync.Once
	p.gather.OnLocalCandidate(func(c *webrtc.ICECandidate) {
		if c == nil {
			once.Do(func() { close(gathered) })
		}
	})
	if err := p.gather.Gather(); err != nil {
		return fmt.Errorf("ice: gather: %w", err)
	}
	select {
	case <-gathered:
	case <-time.After(connectIn):
		return errors.New("ice: gathering does not end")
	}
	params, err := p.gather.GetLocalParameters()
	if err != nil {
		return fmt.Errorf("ice: %w", err)
	}
	conn, err := p.api.mux.Conn(params.UsernameFragment)
	if err != nil {
		return err
	}
	conn.Handle(p.handler)
	g, ok := p.api.gates.LoadAndDelete(params.UsernameFragment)
	if !ok {
		return errors.New("ice: the agent has not opened its conn")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.secure {
		g.(*gate).pass() // an ICE restart: the handshake is over
	} else {
		p.gate = g.(*gate)
	}
	p.local = Params{Ufrag: params.UsernameFragment, Pwd: params.Password, Hash: p.api.own.Hash, Print: p.api.own.Print}
	p.conns = append(p.conns, conn)
	return nil
}

// Local is our half.
func (p *Peer) Local() Params {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.local
}

// connect runs ICE, then DTLS, and hands out the keys.
func (p *Peer) connect(ctx context.Context) {
	defer close(p.done)
	err := p.handshake(ctx)
	if err == nil {
		return
	}
	p.change(Failed, err)
}

func (p *Peer) handshake(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { p.ice.Stop() })
	defer stop()
	controlled := webrtc.ICERoleControlled
	if err := p.ice.Start(nil, webrtc.ICEParameters{UsernameFragment: p.remote.Ufrag, Password: p.remote.Pwd, ICELite: false}, &controlled); err != nil {
		return fmt.Errorf("ice: %w", errors.Join(err, ctx.Err()))
	}
	t, err := p.secureBy(ctx)
	if err != nil {
		return err
	}
	role := webrtc.DTLSRoleClient // of the other end
	if p.remote.Waits {
		role = webrtc.DTLSRoleServer
	}
	err = t.Start(webrtc.DTLSParameters{
		Role:         role,
		Fingerprints: []webrtc.DTLSFingerprint{{Algorithm: p.remote.Hash, Value: p.remote.Print}},
	})
	if err != nil {
		return fmt.Errorf("dtls: %w", errors.Join(err, ctx.Err()))
	}
	if !stop() {
		return fmt.Errorf("dtls: %w", ctx.Err())
	}
	crypt, profile, err := keys(t, !p.remote.Waits)
	if err != nil {
		return err
	}
	if p.events.Keys != nil {
		p.events.Keys(crypt, profile)
	}
	p.mu.Lock()
	p.secure = true
	p.mu.Unlock()
	p.change(Connected, nil)
	return nil
}

// secureBy waits for the ClientHello, unless we begin, and makes the DTLS transport
// for it.
func (p *Peer) secureBy(ctx context.Context) (*webrtc.DTLSTransport, error) {
	p.mu.Lock()
	g, conn := p.gate, p.conns[len(p.conns)-1]
	p.mu.Unlock()
	api := p.api.any
	if p.remote.Waits {
		g.pass() // nothing of it can be meant: we have not begun
	} else {
		select {
		case <-g.seen:
		case <-ctx.Done():
			return nil, fmt.Errorf("dtls: no ClientHello: %w", ctx.Err())
		}
		api = p.api.api
		if g.gcm {
			api = p.api.gcm
		}
	}
	t, err := api.NewDTLSTransport(p.ice, []webrtc.Certificate{p.api.cert})
	if err != nil {
		return nil, fmt.Errorf("dtls: %w", err)
	}
	// From here on the library has an endpoint that takes the packets.
	t.OnStateChange(func(s webrtc.DTLSTransportState) {
		if s == webrtc.DTLSTransportStateConnecting {
			for _, h := range g.pass() {
				conn.Again(h.b, h.from)
			}
		}
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == Closed {
		return nil, errors.New("dtls: closed")
	}
	p.dtls = t
	return t, nil
}

// nominated hears of the path that the peer wants.
func (p *Peer) nominated(pair *webrtc.ICECandidatePair) {
	if pair == nil || pair.Remote == nil {
		return
	}
	ip := net.ParseIP(pair.Remote.Address)
	p.mu.Lock()
	var path *wire.Path
	for i := len(p.conns) - 1; i >= 0 && path == nil; i-- {
		path = p.conns[i].Path(ip)
	}
	old := p.conns[:len(p.conns)-1]
	if path != nil {
		p.conns = p.conns[len(p.conns)-1:]
	} else {
		old = nil
	}
	p.mu.Unlock()
	if path == nil {
		return
	}
	if p.events.Path != nil {
		p.events.Path(path)
	}
	for _, c := range old {
		c.Close()
	}
}

func (p *Peer) iceState(s webrtc.ICETransportState) {
	p.mu.Lock()
	secure := p.secure
	p.mu.Unlock()
	switch {
	case !secure: // the handshake reports
	case s == webrtc.ICETransportStateConnected || s == webrtc.ICETransportStateCompleted:
		p.change(Connected, nil)
	case s == webrtc.ICETransportStateDisconnected:
		p.change(Disconnected, nil)
	case s == webrtc.ICETransportStateFailed:
		p.change(Failed, errors.New("ice: no consent"))
	}
}

func (p *Peer) change(s State, err error) {
	p.mu.Lock()
	if p.state == s || p.state == Closed {
		p.mu.Unlock()
		return
	}
	p.state = s
	p.mu.Unlock()
	if p.events.State != nil {
		p.events.State(s, err)
	}
}

// Restart is an ICE restart (RFC 8445, 9): the remote end has new credentials, and
// gets new ones. Keys and SSRCs stay, and media flows on the old path until there
// is a new one.
func (p *Peer) Restart(remote Params) (Params, error) {
	p.mu.Lock()
	secure := p.secure
	p.mu.Unlock()
	if !secure {
		return Params{}, errors.New("ice restart: not connected yet")
	}
	agent, err := agentOf(p.gather)
	if err != nil {
		return Params{}, err
	}
	if err := agent.Restart("", ""); err != nil {
		return Params{}, fmt.Errorf("ice restart: %w", err)
	}
	if err := p.collect(); err != nil {
		return Params{}, err
	}
	if err := agent.SetRemoteCredentials(remote.Ufrag, remote.Pwd); err != nil {
		return Params{}, fmt.Errorf("ice restart: %w", err)
	}
	return p.Local(), nil
}

// Close ends the peer and returns when its goroutines cannot call events any more.
func (p *Peer) Close() error {
	p.mu.Lock()
	closed := p.state == Closed
	p.state = Closed
	conns, secure := p.conns, p.dtls
	p.mu.Unlock()
	if closed {
		return nil
	}
	p.cancel()
	var err error
	if secure != nil {
		err = secure.Stop()
	}
	err = errors.Join(err, p.ice.Stop())
	for _, c := range conns {
		c.Close()
	}
	<-p.done
	return err
}

// agents is the mux as ICE agents see it.
type agents struct {
	mux   *wire.Mux
	gates *sync.Map
}

// GetConn implements ice.UDPMux.
func (a agents) GetConn(ufrag string, _ net.Addr) (net.PacketConn, error) {
	c, err := a.mux.Conn(ufrag)
	if err != nil {
		return nil, err
	}
	g := newGate()
	a.gates.Store(ufrag, g)
	return agentConn{c, g}, nil
}

// RemoveConnByUfrag implements ice.UDPMux. The peer closes its conns itself: after
// an ICE restart media still flows on the old one.
func (agents) RemoveConnByUfrag(string) {}

// GetListenAddresses implements ice.UDPMux.
func (agents) GetListenAddresses() []net.Addr { return []net.Addr{wire.Local} }

// Close implements ice.UDPMux; the mux is not an agent's.
func (agents) Close() error { return nil }

// agentConn is a conn of which an agent closes its view only, and that holds DTLS
// back at the gate.
type agentConn struct {
	*wire.Conn
	gate *gate
}

// ReadFrom implements net.PacketConn.
func (c agentConn) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, from, err := c.Conn.ReadFrom(b)
		if err != nil || !wire.IsDTLS(b[:n]) || !c.gate.hold(b[:n], from) {
			return n, from, err
		}
	}
}

// Close implements net.PacketConn.
func (c agentConn) Close() error { return c.SetReadDeadline(time.Unix(1, 0)) }
