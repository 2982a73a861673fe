package sdp

import (
	"errors"
	"fmt"
	"sort"
	"strings"

	pion "github.com/pion/sdp/v3"
)

// Limits of an offer. Text over them is refused before it is looked into.
const (
	MaxText   = 256 << 10 // bytes; Chromium writes 5 KiB for each line of video
	MaxLines  = 8192      // lines of text
	MaxMedia  = 64        // m-lines
	MaxCodecs = 64        // payload types of one m-line
)

const (
	maxExtensions = 64 // of one m-line
	maxFeedback   = 32 // of one payload type
	maxSources    = 64 // of one m-line
	maxLayers     = 16 // of one m-line
	maxPrints     = 16
	maxID         = 16 // bytes of a MID or RID: what a one-byte header extension holds
	maxFmtp       = 2048
)

// Offer is what an offer says, as far as a router is concerned.
type Offer struct {
	Transport // of the session; m-lines may have their own

	Bundle []string // MIDs of the first BUNDLE group (RFC 9143)
	Media  []Media
}

// Transport is what an offer says about ICE and DTLS.
type Transport struct {
	ICE          ICE
	Fingerprints []Fingerprint
	Setup        string // "active", "actpass", "passive" or "holdconn"; "" when it says nothing
}

// ICE are the credentials of one side (RFC 8839).
type ICE struct {
	Ufrag, Pwd string
	Lite       bool // of the session alone
	Trickle    bool // ice-options has "trickle"
}

// Fingerprint is that of a DTLS certificate (RFC 8122).
type Fingerprint struct {
	Algorithm string // lower case, "sha-256"
	Value     string // upper-case hexadecimal pairs with colons
}

// Media is one m-line of an offer.
type Media struct {
	Transport

	MID        string // 1 to 16 bytes; no two lines have the same
	Kind       string // "audio", "video", "application", "text" or "message"
	Protocol   string // "UDP/TLS/RTP/SAVPF"
	Formats    []string
	Port       int
	BundleOnly bool
	Direction  Direction // as the peer sees it
	RTCPMux    bool
	RTCPRsize  bool

	Codecs     []OfferedCodec // of audio and video
	Extensions []Extension
	Layers     []string // RIDs that the peer offers to send, in its order (RFC 8853)
	Sources    []Source
}

// Live reports whether the line is in use: its port is zero only because it is
// part of a bundle (RFC 9143).
func (m *Media) Live() bool { return m.Port != 0 || m.BundleOnly }

// Direction tells who sends on a line. The zero value is inactive.
type Direction struct {
	Send, Recv bool
}

// String is the attribute's name.
func (d Direction) String() string {
	switch d {
	case Direction{true, true}:
		return "sendrecv"
	case Direction{Send: true}:
		return "sendonly"
	case Direction{Recv: true}:
		return "recvonly"
	}
	return "inactive"
}

// OfferedCodec is a payload type of an offer, RTX and unknown ones among them.
type OfferedCodec struct {
	PT       uint8
	Name     string // encoding name as written, "" without rtpmap
	Clock    uint32 // Hz
	Channels uint8  // 1 when not given
	Fmtp     string // format parameters as written
	Feedback []string
}

// Extension is an RTP header extension (RFC 8285).
type Extension struct {
	ID        int
	URI       string
	Direction Direction
}

// Source is a stream that the peer announced by SSRC (RFC 5576).
type Source struct {
	SSRC uint32
	RTX  uint32 // that of its retransmissions by the FID group, 0: none
}

// Parse reads an offer. Errors name the line of text, or the m-line and the
// attribute.
func Parse(text string) (*Offer, error) {
	desc, err := parseSyntax(text)
	if err != nil {
		return nil, fmt.Errorf("offer: %w", err)
	}
	o := &Offer{Media: make([]Media, len(desc.MediaDescriptions))}
	direction := Direction{true, true} // RFC 8866, section 6.7
	for _, a := range desc.Attributes {
		if err := o.attribute(a, &direction); err != nil {
			return nil, fmt.Errorf("offer: session: %s: %w", shown("a="+a.Key+":"+a.Value), err)
		}
	}
	mids := make(map[string]bool)
	owner := make(map[uint32]int) // SSRC → m-line
	for i, d := range desc.MediaDescriptions {
		m := &o.Media[i]
		m.Direction = direction
		if err := m.parse(d); err != nil {
			return nil, fmt.Errorf("offer: m-line %d (%s, mid %q): %w", i+1, m.Kind, m.MID, err)
		}
		if mids[m.MID] {
			return nil, fmt.Errorf("offer: m-line %d: a=mid:%q: an earlier m-line has it", i+1, m.MID)
		}
		mids[m.MID] = true
		for _, s := range m.Sources {
			for _, ssrc := range []uint32{s.SSRC, s.RTX} {
				if j, ok := owner[ssrc]; ok && ssrc != 0 {
					return nil, fmt.Errorf("offer: m-line %d: a=ssrc:%d: m-line %d has it too", i+1, ssrc, j+1)
				}
				owner[ssrc] = i
			}
		}
	}
	return o, nil
}

// parseSyntax checks the limits and takes the text apart.
func parseSyntax(text string) (*pion.SessionDescription, error) {
	lines, err := splitLines(text, MaxText)
	if err != nil {
		return nil, err
	}
	media := 0
	for i, l := range lines {
		if strings.HasPrefix(l, "m=") {
			if media++; media > MaxMedia {
				return nil, fmt.Errorf("line %d: more than %d m-lines", i+1, MaxMedia)
			}
		}
	}
	desc := new(pion.SessionDescription)
	if err := unmarshal(desc, lines); err != nil {
		// The first line that makes the text wrong is the one to tell.
		n := sort.Search(len(lines), func(n int) bool { return unmarshal(new(pion.SessionDescription), lines[:n+1]) != nil })
		if n == len(lines) {
			return nil, err
		}
		return nil, fmt.Errorf("line %d, %s: wrong syntax, or out of its place", n+1, shown(lines[n]))
	}
	if len(desc.MediaDescriptions) == 0 {
		return nil, errors.New("no m-line")
	}
	return desc, nil
}

func unmarshal(desc *pion.SessionDescription, lines []string) error {
	return desc.UnmarshalString(strings.Join(lines, "\r\n") + "\r\n")
}

// splitLines returns the lines of a text, of which none holds a control
// character. Blank ones at the end are left out.
func splitLines(text string, limit int) ([]string, error) {
	if len(text) > limit {
		return nil, fmt.Errorf("%d bytes of text, want at most %d", len(text), limit)
	}
	var lines []string
	for l := range strings.Lines(strings.TrimRight(text, "\r\n \t")) {
		l = strings.TrimSuffix(strings.TrimSuffix(l, "\n"), "\r")
		if len(lines) == MaxLines {
			return nil, fmt.Errorf("more than %d lines", MaxLines)
		}
		if strings.ContainsFunc(l, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
			return nil, fmt.Errorf("line %d, %s: control character", len(lines)+1, shown(l))
		}
		lines = append(lines, l)
	}
	return lines, nil
}

// shown is a line for an error: quoted, not too long, and without a password.
func shown(line string) string {
	if rest, ok := strings.CutPrefix(line, "a=ice-pwd:"); ok && rest != "" {
		return "a=ice-pwd:…"
	}
	return fmt.Sprintf("%.80q", line)
}

// attribute takes one of the session.
func (o *Offer) attribute(a pion.Attribute, direction *Direction) error {
	switch a.Key {
	case "group":
		f := strings.Fields(a.Value)
		if o.Bundle != nil || len(f) == 0 || f[0] != "BUNDLE" {
			return nil
		}
		if len(f) > MaxMedia+1 {
			return fmt.Errorf("%d names, want at most %d", len(f)-1, MaxMedia)
		}
		o.Bundle = f[1:]
	case "ice-lite":
		o.ICE.Lite = true
	case "sendrecv", "sendonly", "recvonly", "inactive":
		*direction = directions[a.Key]
	default:
		return o.Transport.attribute(a)
	}
	return nil
}

var directions = map[string]Direction{
	"sendrecv": {true, true}, "sendonly": {Send: true}, "recvonly": {Recv: true}, "inactive": {},
}

// attribute takes what may stand in the session or at an m-line.
func (t *Transport) attribute(a pion.Attribute) error {
	switch a.Key {
	case "ice-ufrag":
		if err := checkICE(a.Value, 4); err != nil {
			return err
		}
		t.ICE.Ufrag = a.Value
	case "ice-pwd":
		if err := checkICE(a.Value, 22); err != nil {
			return errors.New("not 22 to 256 letters, digits, + and /") // the value is a secret of sorts
		}
		t.ICE.Pwd = a.Value
	case "ice-options":
		for _, o := range strings.FieldsFunc(a.Value, func(r rune) bool { return r == ' ' || r == ',' }) { // libdatachannel's commas
			t.ICE.Trickle = t.ICE.Trickle || o == "trickle"
		}
	case "fingerprint":
		f, err := parseFingerprint(a.Value)
		if err != nil {
			return err
		}
		if len(t.Fingerprints) == maxPrints {
			return fmt.Errorf("more than %d", maxPrints)
		}
		t.Fingerprints = append(t.Fingerprints, f)
	case "setup":
		switch a.Value {
		case "active", "passive", "actpass", "holdconn":
			t.Setup = a.Value
		default:
			return errors.New("not active, passive, actpass or holdconn")
		}
	}
	return nil
}

// checkICE holds the grammar of RFC 8839, section 5.4.
func checkICE(s string, atLeast int) error {
	if len(s) < atLeast || len(s) > 256 {
		return fmt.Errorf("%d characters, want %d to 256", len(s), atLeast)
	}
	for _, c := range []byte(s) {
		if !isAlnum(c) && c != '+' && c != '/' {
			return fmt.Errorf("character %q, want letters, digits, + and /", c)
		}
	}
	return nil
}

// parseFingerprint reads "sha-256 AB:CD:…" (RFC 8122, section 5).
func parseFingerprint(s string) (Fingerprint, error) {
	algorithm, value, ok := strings.Cut(s, " ")
	f := Fingerprint{strings.ToLower(algorithm), strings.ToUpper(strings.TrimSpace(value))}
	if !ok || !isToken(algorithm) {
		return f, errors.New("not an algorithm and its value")
	}
	if len(f.Value) > 3*64-1 || len(f.Value)%3 != 2 {
		return f, errors.New("not pairs of hexadecimal digits with colons")
	}
	for i, c := range []byte(f.Value) {
		if i%3 == 2 && c != ':' || i%3 != 2 && !(c >= '0' && c <= '9' || c >= 'A' && c <= 'F') {
			return f, errors.New("not pairs of hexadecimal digits with colons")
		}
	}
	if f.Algorithm == "sha-256" && len(f.Value) != 3*32-1 {
		return f, fmt.Errorf("%d bytes of SHA-256, want 32", (len(f.Value)+1)/3)
	}
	return f, nil
}

func isAlnum(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// isToken holds the grammar of RFC 8866 for a token.
func isToken(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte("\"(),/:;<=>?@[\\]", c) >= 0 {
			return false
		}
	}
	return s != ""
}
