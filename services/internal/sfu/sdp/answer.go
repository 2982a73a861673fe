package sdp

import (
	"fmt"
	"strconv"
	"strings"

	pion "github.com/pion/sdp/v3"
)

// Local is our side of the transport.
type Local struct {
	SessionID   uint64 // below 1<<63, the same for all answers of a session
	Ufrag, Pwd  string
	Lite        bool
	Fingerprint Fingerprint // of our certificate, SHA-256
	Candidates  []Candidate // all there are
}

// Answer writes the answer.
func (s *Session) Answer(l Local) (string, error) {
	if err := s.check(l); err != nil {
		return "", fmt.Errorf("answer: %w", err)
	}
	d := &pion.SessionDescription{
		Origin: pion.Origin{
			Username: "-", SessionID: l.SessionID, SessionVersion: s.Version,
			NetworkType: "IN", AddressType: "IP4", UnicastAddress: "127.0.0.1",
		},
		SessionName:      "-",
		TimeDescriptions: []pion.TimeDescription{{}},
	}
	d.WithValueAttribute("group", strings.Join(append([]string{"BUNDLE"}, s.bundle...), " "))
	if l.Lite {
		d.WithPropertyAttribute("ice-lite")
	}
	d.WithValueAttribute("msid-semantic", "WMS *")
	for i := range s.Media {
		m := &s.Media[i]
		if m.Rejected {
			d.WithMedia(m.rejection())
			continue
		}
		d.WithMedia(s.media(m, l))
	}
	text, err := d.Marshal()
	if err != nil {
		return "", fmt.Errorf("answer: %w", err)
	}
	return string(text), nil
}

// check holds what the caller set.
func (s *Session) check(l Local) error {
	if l.SessionID >= 1<<63 {
		return fmt.Errorf("session id %d: want below 1<<63", l.SessionID)
	}
	if err := checkICE(l.Ufrag, 4); err != nil {
		return fmt.Errorf("ufrag: %w", err)
	}
	if err := checkICE(l.Pwd, 22); err != nil {
		return fmt.Errorf("pwd: %w", err)
	}
	if f, err := parseFingerprint(l.Fingerprint.Algorithm + " " + l.Fingerprint.Value); err != nil || f.Algorithm != "sha-256" {
		return fmt.Errorf("fingerprint: %q is not one of SHA-256", l.Fingerprint.Algorithm)
	}
	for i, c := range l.Candidates {
		if err := c.check(); err != nil {
			return fmt.Errorf("candidate %d: %w", i+1, err)
		}
	}
	taken := make(map[uint32]string)
	for i := range s.Media {
		m := &s.Media[i]
		if m.Rejected || !m.ToPeer {
			continue
		}
		if m.SSRC == 0 {
			return fmt.Errorf("mid %q: we send, and there is no SSRC", m.MID)
		}
		for _, ssrc := range []uint32{m.SSRC, m.RTXSSRC} {
			if other, ok := taken[ssrc]; ok && ssrc != 0 {
				return fmt.Errorf("mid %q: SSRC %d is that of mid %q too", m.MID, ssrc, other)
			}
			taken[ssrc] = m.MID
		}
		for _, text := range []string{m.MSID, m.CNAME} {
			if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r >= 0x7f }) {
				return fmt.Errorf("mid %q: %q: want printable ASCII", m.MID, text)
			}
		}
	}
	return nil
}

func (m *Line) description(port int, formats []string) *pion.MediaDescription {
	return &pion.MediaDescription{
		MediaName:             pion.MediaName{Media: m.Kind, Port: pion.RangedPort{Value: port}, Protos: strings.Split(m.protocol, "/"), Formats: formats},
		ConnectionInformation: &pion.ConnectionInformation{NetworkType: "IN", AddressType: "IP4", Address: &pion.Address{Address: "0.0.0.0"}},
	}
}

// rejection is a line with port 0 (RFC 3264, section 6).
func (m *Line) rejection() *pion.MediaDescription {
	d := m.description(0, m.formats)
	d.WithValueAttribute("mid", m.MID)
	d.WithPropertyAttribute("inactive")
	return d
}

// discard is the port of lines whose address ICE finds (RFC 8840, section 4.1.1).
const discard = 9

// media is a line that is taken.
func (s *Session) media(m *Line, l Local) *pion.MediaDescription {
	var formats []string
	for _, c := range m.Codecs {
		formats = append(formats, strconv.Itoa(int(c.PT)))
	}
	for _, c := range m.Codecs {
		if c.RTX != 0 {
			formats = append(formats, strconv.Itoa(int(c.RTX)))
		}
	}
	d := m.description(discard, formats)
	d.WithValueAttribute("ice-ufrag", l.Ufrag)
	d.WithValueAttribute("ice-pwd", l.Pwd)
	if s.ICE.Trickle {
		d.WithValueAttribute("ice-options", "trickle")
	}
	d.WithValueAttribute("fingerprint", l.Fingerprint.Algorithm+" "+l.Fingerprint.Value)
	setup := "passive"
	if s.DTLSClient {
		setup = "active"
	}
	d.WithValueAttribute("setup", setup)
	if m.MID == s.bundle[0] {
		for i, c := range l.Candidates {
			d.WithValueAttribute("candidate", c.text(i))
		}
		d.WithPropertyAttribute("end-of-candidates")
	}
	d.WithValueAttribute("mid", m.MID)
	for _, e := range m.extensions {
		number := strconv.Itoa(e.ID)
		if both := (Direction{true, true}); e.Direction != both {
			number += "/" + Direction{e.Direction.Recv, e.Direction.Send}.String()
		}
		d.WithValueAttribute("extmap", number+" "+e.URI)
	}
	d.WithPropertyAttribute(Direction{Send: m.ToPeer, Recv: m.FromPeer}.String())
	if m.ToPeer && m.MSID != "" {
		d.WithValueAttribute("msid", m.MSID)
	}
	d.WithPropertyAttribute("rtcp-mux")
	if m.rsize {
		d.WithPropertyAttribute("rtcp-rsize")
	}
	rtx := false
	for _, c := range m.Codecs {
		c.describe(d)
		rtx = rtx || c.RTX != 0
	}
	if m.ToPeer {
		m.streams(d, rtx)
	}
	if m.FromPeer && len(m.Layers) > 0 {
		for _, rid := range m.Layers {
			d.WithValueAttribute("rid", rid+" recv")
		}
		d.WithValueAttribute("simulcast", "recv "+strings.Join(m.Layers, ";"))
	}
	return d
}

// describe writes a codec and its retransmissions.
func (c *Codec) describe(d *pion.MediaDescription) {
	name := fmt.Sprintf("%d %s/%d", c.PT, c.Kind, c.Clock)
	if c.Kind.Audio() {
		name += "/" + strconv.Itoa(int(c.Channels))
	}
	d.WithValueAttribute("rtpmap", name)
	for _, f := range []struct {
		on   bool
		name string
	}{
		{c.Feedback.TransportCC, "transport-cc"}, {c.Feedback.FIR, "ccm fir"},
		{c.Feedback.NACK, "nack"}, {c.Feedback.PLI, "nack pli"},
	} {
		if f.on {
			d.WithValueAttribute("rtcp-fb", fmt.Sprintf("%d %s", c.PT, f.name))
		}
	}
	if c.Fmtp != "" {
		d.WithValueAttribute("fmtp", fmt.Sprintf("%d %s", c.PT, c.Fmtp))
	}
	if c.RTX != 0 {
		d.WithValueAttribute("rtpmap", fmt.Sprintf("%d rtx/%d", c.RTX, c.Clock))
		d.WithValueAttribute("fmtp", fmt.Sprintf("%d %s", c.RTX, c.rtxFmtp))
	}
}

// streams announces what we send (RFC 5576).
func (m *Line) streams(d *pion.MediaDescription, rtx bool) {
	ssrcs := []uint32{m.SSRC}
	if m.RTXSSRC != 0 && rtx {
		ssrcs = append(ssrcs, m.RTXSSRC)
		d.WithValueAttribute("ssrc-group", fmt.Sprintf("FID %d %d", m.SSRC, m.RTXSSRC))
	}
	for _, ssrc := range ssrcs {
		cname := m.CNAME
		if cname == "" {
			cname = "-"
		}
		d.WithValueAttribute("ssrc", fmt.Sprintf("%d cname:%s", ssrc, cname))
		if m.MSID != "" {
			d.WithValueAttribute("ssrc", fmt.Sprintf("%d msid:%s", ssrc, m.MSID))
		}
	}
}
