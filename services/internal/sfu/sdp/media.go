package sdp

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	pion "github.com/pion/sdp/v3"
)

// parse reads an m-line and its attributes, in whatever order they stand.
func (m *Media) parse(d *pion.MediaDescription) error {
	m.Kind = d.MediaName.Media
	m.Port = d.MediaName.Port.Value
	m.Protocol = strings.Join(d.MediaName.Protos, "/")
	m.Formats = d.MediaName.Formats
	if mid, ok := d.Attribute("mid"); ok { // first, for errors tell it
		if !isToken(mid) || len(mid) > maxID {
			return fmt.Errorf("a=mid: %.64q: not a token of 1 to %d characters", mid, maxID)
		}
		m.MID = mid
	}
	if m.MID == "" {
		return errors.New("a=mid: missing")
	}
	if len(m.Formats) > MaxCodecs {
		return fmt.Errorf("%d formats, want at most %d", len(m.Formats), MaxCodecs)
	}
	for _, f := range m.Formats {
		if !isToken(f) {
			return fmt.Errorf("format %.64q: not a token", f)
		}
	}
	if m.rtp() {
		for _, f := range m.Formats {
			pt, err := strconv.ParseUint(f, 10, 7)
			if err != nil {
				return fmt.Errorf("payload type %.64q: not a number from 0 to 127", f)
			}
			if m.codec(uint8(pt)) != nil {
				return fmt.Errorf("payload type %d: twice", pt)
			}
			m.Codecs = append(m.Codecs, OfferedCodec{PT: uint8(pt), Channels: 1})
		}
	}
	var p pending
	for _, a := range d.Attributes {
		if err := m.attribute(a, &p); err != nil {
			return fmt.Errorf("%s: %w", shown("a="+a.Key+":"+a.Value), err)
		}
	}
	return m.finish(&p)
}

// rtp reports whether the line is about sound or pictures.
func (m *Media) rtp() bool { return m.Kind == "audio" || m.Kind == "video" }

func (m *Media) codec(pt uint8) *OfferedCodec {
	for i := range m.Codecs {
		if m.Codecs[i].PT == pt {
			return &m.Codecs[i]
		}
	}
	return nil
}

// pending is what can be judged only when all attributes are there.
type pending struct {
	rids      []string // to send
	simulcast []string
	ssrcs     []uint32
	pairs     []Source
}

func (m *Media) attribute(a pion.Attribute, p *pending) error {
	switch a.Key {
	case "sendrecv", "sendonly", "recvonly", "inactive":
		m.Direction = directions[a.Key]
	case "bundle-only":
		m.BundleOnly = true
	case "rtcp-mux":
		m.RTCPMux = true
	case "rtcp-rsize":
		m.RTCPRsize = true
	case "rtpmap", "fmtp", "rtcp-fb":
		if m.rtp() {
			return m.format(a.Key, a.Value)
		}
	case "extmap":
		return m.extension(a.Value)
	case "rid":
		id, rest, _ := strings.Cut(a.Value, " ")
		if !isRID(id) {
			return fmt.Errorf("not a name of 1 to %d letters, digits, - and _", maxID)
		}
		if direction, _, _ := strings.Cut(strings.TrimSpace(rest), " "); direction == "send" {
			if len(p.rids) == maxLayers {
				return fmt.Errorf("more than %d", maxLayers)
			}
			p.rids = append(p.rids, id)
		}
	case "simulcast":
		return p.simulcasts(a.Value)
	case "ssrc":
		id, _, _ := strings.Cut(a.Value, " ")
		ssrc, err := parseSSRC(id)
		if err != nil {
			return err
		}
		if !slices.Contains(p.ssrcs, ssrc) {
			if len(p.ssrcs) == maxSources {
				return fmt.Errorf("more than %d", maxSources)
			}
			p.ssrcs = append(p.ssrcs, ssrc)
		}
	case "ssrc-group":
		return p.group(strings.Fields(a.Value))
	default:
		return m.Transport.attribute(a)
	}
	return nil
}

// format takes rtpmap, fmtp and rtcp-fb. What they say about payload types that
// the m-line does not list is nothing.
func (m *Media) format(key, value string) error {
	f, rest, ok := strings.Cut(value, " ")
	rest = strings.TrimSpace(rest)
	if !ok || rest == "" {
		return errors.New("not a payload type and a value")
	}
	if key == "rtcp-fb" && f == "*" {
		for i := range m.Codecs {
			if err := m.Codecs[i].feedback(rest); err != nil {
				return err
			}
		}
		return nil
	}
	pt, err := strconv.ParseUint(f, 10, 7)
	if err != nil {
		return fmt.Errorf("payload type %.64q: not a number from 0 to 127", f)
	}
	c := m.codec(uint8(pt))
	if c == nil {
		return nil
	}
	switch key {
	case "rtcp-fb":
		return c.feedback(rest)
	case "fmtp":
		if len(rest) > maxFmtp {
			return fmt.Errorf("%d bytes, want at most %d", len(rest), maxFmtp)
		}
		c.Fmtp = rest
		return nil
	}
	parts := strings.Split(rest, "/")
	if len(parts) < 2 || len(parts) > 3 || !isToken(parts[0]) {
		return errors.New("not NAME/CLOCK or NAME/CLOCK/CHANNELS")
	}
	clock, err := strconv.ParseUint(parts[1], 10, 32)
	if err != nil || clock == 0 {
		return fmt.Errorf("clock rate %.64q: not a number from 1 to 4294967295", parts[1])
	}
	c.Name, c.Clock, c.Channels = parts[0], uint32(clock), 1
	if len(parts) == 3 {
		channels, err := strconv.ParseUint(parts[2], 10, 8)
		if err != nil || channels == 0 {
			return fmt.Errorf("channels %.64q: not a number from 1 to 255", parts[2])
		}
		c.Channels = uint8(channels)
	}
	return nil
}

func (c *OfferedCodec) feedback(s string) error {
	if len(c.Feedback) == maxFeedback {
		return fmt.Errorf("more than %d of one payload type", maxFeedback)
	}
	c.Feedback = append(c.Feedback, s)
	return nil
}

func (m *Media) extension(value string) error {
	f := strings.Fields(value)
	if len(f) < 2 {
		return errors.New("not a number and a URI")
	}
	number, direction, ok := strings.Cut(f[0], "/")
	e := Extension{URI: f[1], Direction: Direction{true, true}}
	if ok {
		if e.Direction, ok = directions[direction]; !ok {
			return fmt.Errorf("direction %.64q: not sendrecv, sendonly, recvonly or inactive", direction)
		}
	}
	id, err := strconv.ParseUint(number, 10, 13)
	if err != nil || id == 0 {
		return fmt.Errorf("%.64q: not a number from 1 to 8191", number)
	}
	e.ID = int(id)
	for _, x := range m.Extensions {
		if x.ID == e.ID {
			return fmt.Errorf("%d is %.80q already", id, x.URI)
		}
	}
	if len(m.Extensions) == maxExtensions {
		return fmt.Errorf("more than %d", maxExtensions)
	}
	m.Extensions = append(m.Extensions, e)
	return nil
}

// isRID is wider than RFC 8851, as RFC 8852 and its errata and browsers are.
func isRID(s string) bool {
	for _, c := range []byte(s) {
		if !isAlnum(c) && c != '-' && c != '_' {
			return false
		}
	}
	return s != "" && len(s) <= maxID
}

// simulcasts reads "send a;b,c;~d recv e": of alternatives the first is taken,
// and "~", at first paused, means nothing to a router (RFC 8853, section 5.1).
func (p *pending) simulcasts(value string) error {
	f := strings.Fields(value)
	if len(f) != 2 && len(f) != 4 {
		return errors.New("not a direction and RIDs, once or twice")
	}
	for ; len(f) > 0; f = f[2:] {
		switch f[0] {
		case "recv":
			continue
		case "send":
		default:
			return fmt.Errorf("direction %.64q: not send or recv", f[0])
		}
		p.simulcast = nil
		for s := range strings.SplitSeq(f[1], ";") {
			s, _, _ = strings.Cut(s, ",")
			s = strings.TrimPrefix(s, "~")
			if !isRID(s) || slices.Contains(p.simulcast, s) {
				return fmt.Errorf("RID %.64q: wrong, or twice", s)
			}
			if len(p.simulcast) == maxLayers {
				return fmt.Errorf("more than %d RIDs", maxLayers)
			}
			p.simulcast = append(p.simulcast, s)
		}
	}
	return nil
}

func (p *pending) group(f []string) error {
	if len(f) == 0 || f[0] != "FID" {
		return nil
	}
	if len(f) != 3 {
		return errors.New("not FID and two SSRCs")
	}
	a, err := parseSSRC(f[1])
	b, err2 := parseSSRC(f[2])
	if err := cmp.Or(err, err2); err != nil {
		return err
	}
	if a == b {
		return errors.New("the same SSRC twice")
	}
	for _, x := range p.pairs {
		if x.SSRC == a || x.RTX == a || x.SSRC == b || x.RTX == b {
			return errors.New("an SSRC of another FID group")
		}
	}
	if len(p.pairs) == maxSources {
		return fmt.Errorf("more than %d", maxSources)
	}
	p.pairs = append(p.pairs, Source{a, b})
	return nil
}

func parseSSRC(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("SSRC %.64q: not a number from 1 to 4294967295", s)
	}
	return uint32(n), nil
}

// finish puts together what was in several attributes.
func (m *Media) finish(p *pending) error {
	for _, s := range p.simulcast {
		if !slices.Contains(p.rids, s) {
			return fmt.Errorf("a=simulcast: RID %q has no a=rid that sends", s)
		}
	}
	m.Layers = p.simulcast
	m.Sources = p.pairs
	for _, ssrc := range p.ssrcs {
		if !slices.ContainsFunc(m.Sources, func(s Source) bool { return s.SSRC == ssrc || s.RTX == ssrc }) {
			m.Sources = append(m.Sources, Source{SSRC: ssrc})
		}
	}
	return nil
}
