package transport

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/pion/dtls/v2"
	"github.com/pion/ice/v2"
	"github.com/pion/interceptor"
	"github.com/pion/webrtc/v3"

	"github.com/parley-meet/parley/services/internal/sfu/pionlog"
	"github.com/parley-meet/parley/services/internal/sfu/wire"
)

// Client is the other side of a peer, for load and for tests: SDP, ICE and DTLS
// are the library's PeerConnection, and RTP goes past it here too.
type Client struct {
	pc   *webrtc.PeerConnection
	tap  *wire.Tap
	mux  ice.UDPMux
	once sync.Once
	rtcp sync.Mutex
	// server: the other side begins DTLS (RFC 5763, 5), so its key is the client's.
	server atomic.Bool

	// Ready is closed when Crypt and Remote are set.
	Ready  chan struct{}
	Failed chan struct{} // closed when the connection has ended
	Crypt  *wire.Crypt
	Remote netip.AddrPort
}

// Line is one that a client offers.
type Line struct {
	Video bool
	Send  bool     // or it receives
	RIDs  []string // of simulcast, low to high
}

// Extensions that clients offer.
var clientExtensions = []string{
	"http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
	"urn:ietf:params:rtp-hdrext:sdes:mid",
	"urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
	"urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
	"urn:ietf:params:rtp-hdrext:ssrc-audio-level",
}

// Dial makes a client with a socket of its own at an address, which may be the
// loopback's. What comes is given to media.
func Dial(local netip.Addr, lines []Line, log *slog.Logger, media func([][]byte)) (*Client, error) {
	var engine webrtc.MediaEngine
	feedback := []webrtc.RTCPFeedback{{Type: "nack"}, {Type: "nack", Parameter: "pli"}, {Type: "ccm", Parameter: "fir"}, {Type: "transport-cc"}}
	for _, c := range []struct {
		codec webrtc.RTPCodecParameters
		kind  webrtc.RTPCodecType
	}{
		{webrtc.RTPCodecParameters{RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2, SDPFmtpLine: "minptime=10;useinbandfec=1", RTCPFeedback: []webrtc.RTCPFeedback{{Type: "transport-cc"}}}, PayloadType: 111}, webrtc.RTPCodecTypeAudio},
		{webrtc.RTPCodecParameters{RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeVP8, ClockRate: 90000, RTCPFeedback: feedback}, PayloadType: 96}, webrtc.RTPCodecTypeVideo},
		{webrtc.RTPCodecParameters{RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: "video/rtx", ClockRate: 90000, SDPFmtpLine: "apt=96"}, PayloadType: 97}, webrtc.RTPCodecTypeVideo},
	} {
		if err := engine.RegisterCodec(c.codec, c.kind); err != nil {
			return nil, err
		}
	}
	for _, uri := range clientExtensions {
		for _, kind := range []webrtc.RTPCodecType{webrtc.RTPCodecTypeAudio, webrtc.RTPCodecTypeVideo} {
			if err := engine.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: uri}, kind); err != nil {
				return nil, err
			}
		}
	}
	socket, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(local, 0)))
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	c := &Client{Ready: make(chan struct{}), Failed: make(chan struct{})}
	if c.tap, err = wire.NewTap(socket, media); err != nil {
		socket.Close()
		return nil, err
	}
	var set webrtc.SettingEngine
	set.LoggerFactory = pionlog.Factory{Log: log}
	set.SetIncludeLoopbackCandidate(true)
	set.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	set.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4, webrtc.NetworkTypeUDP6})
	c.mux = webrtc.NewICEUDPMux(nil, c.tap)
	set.SetICEUDPMux(c.mux)
	set.DisableActiveTCP(true)
	set.SetSRTPProtectionProfiles(dtls.SRTP_AEAD_AES_128_GCM)
	api := webrtc.NewAPI(webrtc.WithMediaEngine(&engine), webrtc.WithSettingEngine(set), webrtc.WithInterceptorRegistry(&interceptor.Registry{}))
	if c.pc, err = api.NewPeerConnection(webrtc.Configuration{}); err != nil {
		c.mux.Close()
		return nil, err
	}
	for i, l := range lines {
		if err := c.line(i, l); err != nil {
			c.Close()
			return nil, err
		}
	}
	c.pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		switch s {
		case webrtc.PeerConnectionStateConnected:
			select {
			case <-c.Ready:
				return // it was silent for a while, and is back
			default:
			}
			if err := c.connected(); err != nil {
				log.Warn("client", "error", err)
				c.fail()
			}
		case webrtc.PeerConnectionStateFailed, webrtc.PeerConnectionStateClosed:
			c.fail()
		}
	})
	return c, nil
}

func (c *Client) fail() { c.once.Do(func() { close(c.Failed) }) }

func (c *Client) line(i int, l Line) error {
	kind, mime := webrtc.RTPCodecTypeAudio, webrtc.MimeTypeOpus
	if l.Video {
		kind, mime = webrtc.RTPCodecTypeVideo, webrtc.MimeTypeVP8
	}
	if !l.Send {
		_, err := c.pc.AddTransceiverFromKind(kind, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly})
		return err
	}
	rids := l.RIDs
	if len(rids) == 0 {
		rids = []string{""}
	}
	var sender *webrtc.RTPSender
	for _, rid := range rids {
		var opts []func(*webrtc.TrackLocalStaticRTP)
		if rid != "" {
			opts = append(opts, webrtc.WithRTPStreamID(rid))
		}
		t, err := webrtc.NewTrackLocalStaticRTP(webrtc.RTPCodecCapability{MimeType: mime}, fmt.Sprintf("t%d", i), "load", opts...)
		if err != nil {
			return err
		}
		if sender != nil {
			if err := sender.AddEncoding(t); err != nil {
				return err
			}
			continue
		}
		tr, err := c.pc.AddTransceiverFromTrack(t, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly})
		if err != nil {
			return err
		}
		sender = tr.Sender()
	}
	return nil
}

// connected takes keys and the server's address.
func (c *Client) connected() error {
	trs := c.pc.GetTransceivers()
	if len(trs) == 0 {
		return errors.New("no transceiver")
	}
	var t *webrtc.DTLSTransport
	if s := trs[0].Sender(); s != nil {
		t = s.Transport()
	}
	if t == nil {
		t = trs[0].Receiver().Transport()
	}
	crypt, _, err := keys(t, c.server.Load())
	if err != nil {
		return err
	}
	pair, err := t.ICETransport().GetSelectedCandidatePair()
	if err != nil || pair == nil {
		return fmt.Errorf("no pair was selected: %w", err)
	}
	addr, err := netip.ParseAddr(pair.Remote.Address)
	if err != nil {
		return err
	}
	c.Crypt, c.Remote = crypt, netip.AddrPortFrom(addr, pair.Remote.Port)
	close(c.Ready)
	return nil
}

// Offer is the client's, with its candidates.
func (c *Client) Offer() (string, error) {
	offer, err := c.pc.CreateOffer(nil)
	if err != nil {
		return "", err
	}
	gathered := webrtc.GatheringCompletePromise(c.pc)
	if err := c.pc.SetLocalDescription(offer); err != nil {
		return "", err
	}
	<-gathered
	return c.pc.LocalDescription().SDP, nil
}

// Answer takes the server's.
func (c *Client) Answer(sdp string) error {
	c.server.Store(strings.Contains(sdp, "a=setup:active"))
	return c.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: sdp})
}

// SSRCs are those of a line that sends, one for each RID.
func (c *Client) SSRCs(line int) []uint32 {
	var list []uint32
	for _, e := range c.pc.GetTransceivers()[line].Sender().GetParameters().Encodings {
		list = append(list, uint32(e.SSRC))
	}
	return list
}

// Extension is the id that was agreed for a header extension on a line, 0: none.
func (c *Client) Extension(line int, uri string) uint8 {
	tr := c.pc.GetTransceivers()[line]
	var list []webrtc.RTPHeaderExtensionParameter
	if r := tr.Receiver(); r != nil {
		list = r.GetParameters().HeaderExtensions
	}
	if s := tr.Sender(); s != nil {
		list = append(list, s.GetParameters().HeaderExtensions...)
	}
	for _, e := range list {
		if e.URI == uri {
			return uint8(e.ID)
		}
	}
	return 0
}

// Send sends a sealed packet.
func (c *Client) Send(b []byte) error {
	_, err := c.tap.WriteToUDPAddrPort(b, c.Remote)
	return err
}

// SendRTCP protects a compound packet and sends it. It may be called from several
// goroutines, as long as all of them use it.
func (c *Client) SendRTCP(b []byte) error {
	c.rtcp.Lock()
	defer c.rtcp.Unlock()
	sealed, err := c.Crypt.SealRTCP(b)
	if err != nil {
		return err
	}
	return c.Send(sealed)
}

// Close ends it.
func (c *Client) Close() error {
	c.fail()
	return errors.Join(c.pc.Close(), c.mux.Close())
}
