package sdp

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/parley-meet/parley/services/internal/sfu/codec"
)

// Negotiate decides what of an offer is taken. A line that cannot be taken is
// rejected alone; an offer that lacks what every session needs is an error.
func Negotiate(o *Offer, p Policy) (*Session, error) {
	s, err := negotiate(o, p)
	if err != nil {
		return nil, fmt.Errorf("offer: %w", err)
	}
	return s, nil
}

func negotiate(o *Offer, p Policy) (*Session, error) {
	if len(o.Bundle) == 0 {
		return nil, errors.New("a=group: no BUNDLE group, and this server has one transport for all media")
	}
	t := o.transport()
	switch {
	case o.ICE.Lite:
		return nil, errors.New("a=ice-lite: this server is lite itself, and nobody would start the checks")
	case t.ICE.Ufrag == "":
		return nil, errors.New("a=ice-ufrag: missing")
	case t.ICE.Pwd == "":
		return nil, errors.New("a=ice-pwd: missing")
	case t.Setup == "holdconn":
		return nil, errors.New("a=setup:holdconn: want actpass, active or passive")
	case t.Setup == "passive" && !p.DTLSClient:
		return nil, errors.New("a=setup:passive: want actpass or active, for this server waits for the DTLS client")
	}
	s := &Session{
		ICE: t.ICE, Media: make([]Line, len(o.Media)), Version: 1, DTLSClient: t.Setup == "passive",
		extensions: make(map[int]string), formats: make(map[lineFormat]Format),
	}
	for _, f := range t.Fingerprints {
		if f.Algorithm == "sha-256" {
			s.Fingerprints = append(s.Fingerprints, f)
		}
	}
	if len(s.Fingerprints) == 0 {
		return nil, errors.New("a=fingerprint: none of SHA-256")
	}
	for i := range o.Media {
		m, l := &o.Media[i], &s.Media[i]
		if err := s.line(l, m, o, p); err != nil {
			return nil, fmt.Errorf("m-line %d (%s, mid %q): %w", i+1, m.Kind, m.MID, err)
		}
	}
	for _, mid := range o.Bundle {
		if l := s.byMID(mid); l != nil && !l.Rejected && !slices.Contains(s.bundle, mid) {
			s.bundle = append(s.bundle, mid)
		}
	}
	if len(s.bundle) == 0 {
		var why []string
		for i := range s.Media {
			if r := s.Media[i].Reason; !slices.Contains(why, r) {
				why = append(why, r)
			}
		}
		return nil, fmt.Errorf("no m-line can be taken: %s", strings.Join(why, "; "))
	}
	return s, nil
}

// transport returns what counts for the bundle: the first live line of the group
// has it (RFC 9143, section 7.2), or the session.
func (o *Offer) transport() Transport {
	t := o.Transport
	for _, mid := range o.Bundle {
		i := slices.IndexFunc(o.Media, func(m Media) bool { return m.MID == mid && m.Live() })
		if i < 0 {
			continue
		}
		m := &o.Media[i]
		if m.ICE.Ufrag != "" {
			t.ICE.Ufrag = m.ICE.Ufrag
		}
		if m.ICE.Pwd != "" {
			t.ICE.Pwd = m.ICE.Pwd
		}
		t.ICE.Trickle = t.ICE.Trickle || m.ICE.Trickle
		if len(m.Fingerprints) > 0 {
			t.Fingerprints = m.Fingerprints
		}
		if m.Setup != "" {
			t.Setup = m.Setup
		}
		break
	}
	return t
}

func (s *Session) byMID(mid string) *Line {
	for i := range s.Media {
		if s.Media[i].MID == mid {
			return &s.Media[i]
		}
	}
	return nil
}

// line fills in l. An error is about the whole offer.
func (s *Session) line(l *Line, m *Media, o *Offer, p Policy) error {
	l.MID, l.Kind, l.protocol, l.formats = m.MID, m.Kind, m.Protocol, m.Formats
	switch {
	case !m.Live():
		l.reject("not in use by the offer")
	case m.Kind == "application":
		l.reject("data channels are not available")
	case !m.rtp():
		l.reject("only audio and video are available")
	case !strings.HasSuffix(m.Protocol, "TLS/RTP/SAVPF") && !strings.HasSuffix(m.Protocol, "TLS/RTP/SAVP"):
		l.reject("protocol is not DTLS-SRTP")
	case !slices.Contains(o.Bundle, m.MID):
		l.reject("not in the BUNDLE group")
	case !m.RTCPMux:
		return errors.New("a=rtcp-mux: missing, and this server has one port for RTP and RTCP")
	}
	if l.Rejected {
		return nil
	}
	l.codecs(m, p)
	if !slices.ContainsFunc(l.Codecs, func(c Codec) bool { return c.Kind != codec.RED }) {
		l.Codecs = nil
		l.reject("no codec that this server forwards")
		return nil
	}
	for _, c := range l.Codecs {
		s.formats[lineFormat{l.MID, c.PT}] = c.Format
	}
	l.FromPeer, l.ToPeer = m.Direction.Send, m.Direction.Recv
	l.rsize = m.RTCPRsize
	l.Sources = slices.Clone(m.Sources)
	if l.FromPeer && p.MaxLayers > 1 && len(m.Layers) > 1 {
		l.Layers = slices.Clone(m.Layers[:min(len(m.Layers), p.MaxLayers)])
	}
	for _, e := range m.Extensions {
		if have, ok := s.extensions[e.ID]; ok && have != e.URI {
			return fmt.Errorf("a=extmap:%d: %.80q here, %.80q elsewhere in the bundle", e.ID, e.URI, have)
		}
		s.extensions[e.ID] = e.URI
	}
	l.extend(m, p)
	return nil
}

func (l *Line) reject(why string) { l.Rejected, l.Reason = true, why }

// codecs takes at most one payload type for each format of the policy.
func (l *Line) codecs(m *Media, p Policy) {
	type known struct {
		Format
		ok bool
	}
	formats := make([]known, len(m.Codecs))
	for i := range m.Codecs {
		formats[i].Format, formats[i].ok = formatOf(&m.Codecs[i], m.Kind)
	}
	var opus []string // payload types that are taken
	for pass := range 2 {
		l.Codecs = l.Codecs[:0]
		for _, want := range p.Codecs {
			for i := range m.Codecs {
				c := &m.Codecs[i]
				f := formats[i].Format
				if !formats[i].ok || f != want || l.has(f) {
					continue
				}
				if f.Kind == codec.RED {
					// RED may come first in the policy, and needs the second pass.
					primary, _, _ := strings.Cut(c.Fmtp, "/")
					if pass == 0 || !slices.Contains(opus, primary) {
						continue
					}
				}
				if f.Kind == codec.Opus {
					opus = append(opus, strconv.Itoa(int(c.PT)))
				}
				l.Codecs = append(l.Codecs, l.codec(c, f, m, p))
			}
		}
	}
	if p.PeerAudio && m.Kind == "audio" {
		place := func(c Codec) int {
			return slices.IndexFunc(m.Codecs, func(o OfferedCodec) bool { return o.PT == c.PT })
		}
		slices.SortStableFunc(l.Codecs, func(a, b Codec) int { return place(a) - place(b) })
	}
}

func (l *Line) has(f Format) bool {
	return slices.ContainsFunc(l.Codecs, func(c Codec) bool { return c.Format == f })
}

func (l *Line) codec(c *OfferedCodec, f Format, m *Media, p Policy) Codec {
	out := Codec{Format: f, PT: c.PT, Clock: c.Clock, Channels: c.Channels, Fmtp: c.Fmtp}
	switch f.Kind {
	case codec.H264:
		// The level is the offer's: of a stream it is the sender's to keep, and a
		// router forwards what comes. Parameter sets of the offer are not ours.
		out.Fmtp = without(c.Fmtp, "sprop-parameter-sets")
	case codec.Opus:
		if p.DTX && m.Direction.Send {
			out.Fmtp = strings.TrimPrefix(without(c.Fmtp, "usedtx")+";usedtx=1", ";")
		}
	}
	for _, x := range m.Codecs {
		if strings.EqualFold(x.Name, "rtx") && x.Clock == c.Clock && x.PT != 0 && parameter(x.Fmtp, "apt") == strconv.Itoa(int(c.PT)) {
			out.RTX, out.rtxFmtp = x.PT, x.Fmtp
			break
		}
	}
	for _, fb := range c.Feedback {
		switch strings.Join(strings.Fields(strings.ToLower(fb)), " ") {
		case "nack":
			out.Feedback.NACK = true
		case "nack pli":
			out.Feedback.PLI = true
		case "ccm fir":
			out.Feedback.FIR = true
		case "transport-cc":
			out.Feedback.TransportCC = true
		}
	}
	return out
}

// extend takes header extensions, those that can be used in the directions of
// the line. Transport-wide numbers and their feedback go together or not at all.
func (l *Line) extend(m *Media, p Policy) {
	feedback := slices.ContainsFunc(l.Codecs, func(c Codec) bool { return c.Feedback.TransportCC })
	for _, e := range m.Extensions {
		at := l.Ext.field(e.URI)
		if at == nil || *at != 0 || e.ID > 14 || !slices.Contains(p.Extensions, e.URI) {
			continue
		}
		send, recv := l.FromPeer, l.ToPeer
		if e.URI == RIDURI || e.URI == RepairedRIDURI {
			if recv = false; !send {
				continue // we never send it
			}
		}
		if send && !e.Direction.Send || recv && !e.Direction.Recv || e.URI == TWCCURI && !feedback {
			continue
		}
		*at = uint8(e.ID)
		l.extensions = append(l.extensions, e)
	}
	if l.Ext.TWCC == 0 {
		for i := range l.Codecs {
			l.Codecs[i].Feedback.TransportCC = false
		}
	}
	if l.Ext.RID == 0 {
		l.Layers = nil // nothing would tell them apart
	}
}

// SameICE reports whether a later offer keeps the peer's ICE credentials; another
// pair asks for an ICE restart.
func (s *Session) SameICE(o *Offer) bool {
	t := o.transport()
	return t.ICE.Ufrag == s.ICE.Ufrag && t.ICE.Pwd == s.ICE.Pwd
}

// Renegotiate decides on a later offer of the same session: more lines, other
// directions, an ICE restart. MIDs, their order, the certificate, the ids of header
// extensions and the meaning of payload types must stay. The result has what the
// caller set on lines; s is as it was.
func (s *Session) Renegotiate(o *Offer, p Policy) (*Session, error) {
	next, err := negotiate(o, p)
	if err == nil {
		err = next.follows(s)
	}
	if err != nil {
		return nil, fmt.Errorf("later offer: %w", err)
	}
	return next, nil
}

func (s *Session) follows(before *Session) error {
	if len(s.Media) < len(before.Media) {
		return fmt.Errorf("%d m-lines, and there were %d", len(s.Media), len(before.Media))
	}
	if !slices.ContainsFunc(s.Fingerprints, func(f Fingerprint) bool { return slices.Contains(before.Fingerprints, f) }) {
		return errors.New("a=fingerprint: another certificate, which needs a new session")
	}
	if s.DTLSClient != before.DTLSClient && s.DTLSClient {
		return errors.New("a=setup:passive: the peer began DTLS, and that stays")
	}
	s.DTLSClient = before.DTLSClient
	s.Version = before.Version + 1
	for i := range before.Media {
		old, now := &before.Media[i], &s.Media[i]
		if old.MID != now.MID || old.Kind != now.Kind {
			if old.Rejected {
				continue // its place was free for another (RFC 9429, section 5.2.2)
			}
			return fmt.Errorf("m-line %d: %s with mid %q, and it was %s with mid %q", i+1, now.Kind, now.MID, old.Kind, old.MID)
		}
		for _, e := range now.extensions {
			if was, is := *old.Ext.field(e.URI), *now.Ext.field(e.URI); was != 0 && was != is {
				return fmt.Errorf("m-line %d: a=extmap:%d: %.80q had the number %d", i+1, is, e.URI, was)
			}
		}
		now.SSRC, now.RTXSSRC, now.MSID, now.CNAME = old.SSRC, old.RTXSSRC, old.MSID, old.CNAME
	}
	for id, uri := range before.extensions {
		if now, ok := s.extensions[id]; ok && now != uri {
			return fmt.Errorf("a=extmap:%d: %.80q, and it was %.80q", id, now, uri)
		}
		s.extensions[id] = uri
	}
	for at, f := range before.formats {
		if now, ok := s.formats[at]; ok && now != f {
			return fmt.Errorf("mid %q: payload type %d is %v, and it was %v", at.mid, at.pt, now, f)
		}
	}
	maps.Copy(s.formats, before.formats)
	return nil
}
