// Package sdp answers offers of WebRTC. Browsers, WHIP (RFC 9725) and WHEP offer,
// the router answers, always; it is ICE-lite, and the passive side of DTLS wherever
// the peer can be the active one. Parse reads an offer, Negotiate decides what of it is taken, and Session.Answer writes
// the answer (RFC 3264, RFC 9429). The package is pure: no sockets, no clock, no
// randomness.
//
// Limits: one transport (BUNDLE and rtcp-mux are required), DTLS-SRTP with a
// SHA-256 fingerprint, no data channels (their line is rejected), simulcast by RID
// only and without codecs per layer, header extensions with ids from 1 to 14.
package sdp

import "github.com/parley-meet/parley/services/internal/sfu/codec"

// Policy is what the router takes.
type Policy struct {
	// Codecs in the order of preference; the peer sends the first it can. RED
	// counts only where the Opus it wraps is taken too.
	Codecs []Format
	// Extensions by URI, of those below.
	Extensions []string
	// PeerAudio puts sound's codecs into the peer's order instead: whether redundancy
	// is worth its bits, the peer knows.
	PeerAudio bool
	// MaxLayers of simulcast that are taken, the first in the peer's order.
	MaxLayers int
	// DTX asks peers not to send while there is silence (RFC 7587, usedtx).
	DTX bool
	// DTLSClient takes peers that only wait for DTLS, as ffmpeg's WHIP does; the
	// router begins it with them alone.
	DTLSClient bool
}

// Header extensions that a policy can name.
const (
	AudioLevelURI  = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
	TWCCURI        = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
	MIDURI         = "urn:ietf:params:rtp-hdrext:sdes:mid"
	RIDURI         = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"
	RepairedRIDURI = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id"
	AbsSendTimeURI = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"
)

// DefaultPolicy takes all that the router can forward. RED stands before Opus:
// voices survive losses, for about as many bits again.
func DefaultPolicy() Policy {
	return Policy{
		Codecs: []Format{
			{Kind: codec.RED},
			{Kind: codec.Opus},
			{Kind: codec.VP8},
			{Kind: codec.VP9},
			{Kind: codec.H264, Profile: ConstrainedBaseline, Mode: 1},
			{Kind: codec.H264, Profile: Baseline, Mode: 1},
			{Kind: codec.H264, Profile: Main, Mode: 1},
			{Kind: codec.H264, Profile: ConstrainedHigh, Mode: 1},
			{Kind: codec.H264, Profile: High, Mode: 1},
			{Kind: codec.H264, Profile: ConstrainedBaseline},
			{Kind: codec.AV1},
			{Kind: codec.VP9, Profile: 2},
		},
		Extensions: []string{AudioLevelURI, TWCCURI, MIDURI, RIDURI, RepairedRIDURI, AbsSendTimeURI},
		MaxLayers:  3,
		DTX:        true,
		DTLSClient: true,
	}
}

// Session is what was agreed.
type Session struct {
	ICE          ICE           // the peer's
	Fingerprints []Fingerprint // the peer's, SHA-256 alone; one of them must be its certificate's
	Media        []Line        // in the offer's order, rejected ones included
	DTLSClient   bool          // we begin DTLS; else the peer does
	Version      uint64        // counts answers from 1

	bundle     []string // MIDs of lines that are not rejected, in the offer's order
	extensions map[int]string
	formats    map[lineFormat]Format // what payload types mean, for as long as the session lives
}

// lineFormat is a payload type of a line.
type lineFormat struct {
	mid string
	pt  uint8
}

// Line is one m-line of a session.
type Line struct {
	MID      string
	Kind     string // "audio", "video", "application", …
	Rejected bool
	Reason   string // why it was rejected, for logs and people

	// FromPeer: the peer sends. ToPeer: we send. The caller may clear either
	// before the answer is written: of a slot that shall stay empty, of a publisher
	// that offers to receive as well.
	FromPeer, ToPeer bool

	Codecs  []Codec // in the order that the policy says
	Ext     Ext
	Layers  []string // RIDs that are taken, in the offered order; none without simulcast
	Sources []Source // that the peer announced

	// What we send on this line, set by the caller before Answer.
	SSRC    uint32
	RTXSSRC uint32 // 0: no retransmissions; left out of the answer when no codec has RTX
	MSID    string // "stream track"; "- track" for a track without a stream
	CNAME   string

	protocol   string
	formats    []string // as offered, for rejection
	rsize      bool
	extensions []Extension // that are taken, as offered
}

// Codec is one that both sides know on a line.
type Codec struct {
	Format
	PT       uint8 // the offer's, for both directions
	RTX      uint8 // payload type of its retransmissions (RFC 4588), 0: none
	Clock    uint32
	Channels uint8
	Fmtp     string // as the answer says it
	Feedback Feedback

	rtxFmtp string
}

// Feedback are the RTCP messages that both sides use (RFC 4585, RFC 5104, TWCC).
type Feedback struct {
	NACK, PLI, FIR, TransportCC bool
}

// Ext are the ids of header extensions on a line, 1 to 14, or 0 for none. They
// fit one-byte headers (RFC 8285), and two-byte ones are never agreed on.
type Ext struct {
	AudioLevel  uint8 // RFC 6464
	TWCC        uint8 // transport-wide sequence number
	MID         uint8 // RFC 9143
	RID         uint8 // RFC 8852; the peer sends it, we never do
	RepairedRID uint8 // RFC 8852; likewise
	AbsSendTime uint8
}

// field returns where the id of a URI is kept, or nil.
func (e *Ext) field(uri string) *uint8 {
	switch uri {
	case AudioLevelURI:
		return &e.AudioLevel
	case TWCCURI:
		return &e.TWCC
	case MIDURI:
		return &e.MID
	case RIDURI:
		return &e.RID
	case RepairedRIDURI:
		return &e.RepairedRID
	case AbsSendTimeURI:
		return &e.AbsSendTime
	}
	return nil
}

// Receive returns the codec of a payload type, and whether pt is that of its
// retransmissions.
func (l *Line) Receive(pt uint8) (c *Codec, rtx, ok bool) {
	for i := range l.Codecs {
		if c := &l.Codecs[i]; c.PT == pt {
			return c, false, true
		} else if c.RTX == pt && pt != 0 {
			return c, true, true
		}
	}
	return nil, false, false
}

// Send returns the codec with which a stream of format f goes to the peer, and
// whether the peer takes it at all. An H.264 stream may go under a profile that
// includes its own.
func (l *Line) Send(f Format) (*Codec, bool) {
	for i := range l.Codecs {
		if l.Codecs[i].Format == f {
			return &l.Codecs[i], true
		}
	}
	for i := range l.Codecs {
		if l.Codecs[i].covers(f) {
			return &l.Codecs[i], true
		}
	}
	return nil, false
}
