package sdp

import (
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"strconv"
	"strings"

	pion "github.com/pion/sdp/v3"
)

const (
	maxFragment   = 32 << 10 // bytes of a trickle fragment
	maxCandidates = 128
)

// Candidate is an address for ICE (RFC 8839, RFC 6544), of component 1.
type Candidate struct {
	Foundation string // "": derived from the rest
	TCP        bool   // TCP instead of UDP; our own are passive
	Priority   uint32 // 0: derived from kind, transport and place in the list
	Addr       netip.Addr
	Name       string // instead of Addr: a name, as browsers give of mDNS; of a peer's alone
	Port       uint16
	Kind       string // "host", "srflx", "prflx" or "relay"; "": host
	TCPType    string // "passive", "active" or "so"; "": passive
}

// check holds what we announce.
func (c *Candidate) check() error {
	if !c.Addr.IsValid() || c.Addr.Zone() != "" || c.Name != "" {
		return fmt.Errorf("address %v, name %q: want an address without zone, and no name", c.Addr, c.Name)
	}
	if c.Port == 0 {
		return errors.New("port 0")
	}
	if !isKind(c.kind()) {
		return fmt.Errorf("kind %q: want host, srflx, prflx or relay", c.Kind)
	}
	if t := c.tcpType(); t != "passive" && t != "active" && t != "so" {
		return fmt.Errorf("TCP type %q: want passive, active or so", c.TCPType)
	}
	for _, b := range []byte(c.Foundation) {
		if !isAlnum(b) && b != '+' && b != '/' || len(c.Foundation) > 32 {
			return fmt.Errorf("foundation %.64q: want up to 32 letters, digits, + and /", c.Foundation)
		}
	}
	return nil
}

func isKind(s string) bool { return s == "host" || s == "srflx" || s == "prflx" || s == "relay" }

func (c *Candidate) kind() string {
	if c.Kind == "" {
		return "host"
	}
	return c.Kind
}

func (c *Candidate) tcpType() string {
	if c.TCPType == "" {
		return "passive"
	}
	return c.TCPType
}

// text is the attribute's value for the candidate with a place in the list,
// where earlier ones are preferred among those of their kind.
func (c *Candidate) text(place int) string {
	addr := c.Addr.Unmap()
	transport := "udp"
	if c.TCP {
		transport = "tcp"
	}
	foundation := c.Foundation
	if foundation == "" {
		h := fnv.New32a()
		fmt.Fprint(h, c.kind(), transport, addr)
		foundation = strconv.FormatUint(uint64(h.Sum32()), 10)
	}
	priority := c.Priority
	if priority == 0 {
		priority = c.preference()<<24 | uint32(0xffff-place&0x1fff)<<8 | 255
	}
	s := fmt.Sprintf("%s 1 %s %d %s %d typ %s", foundation, transport, priority, addr, c.Port, c.kind())
	if c.kind() != "host" {
		s += " raddr " + netip.IPv4Unspecified().String() + " rport 0"
	}
	if c.TCP {
		s += " tcptype " + c.tcpType()
	}
	return s
}

// preference is that of the type (RFC 8445, section 5.1.2.2). All of UDP stand
// before all of TCP (RFC 6544, section 4.2).
func (c *Candidate) preference() uint32 {
	p := map[string]uint32{"host": 126, "prflx": 110, "srflx": 100, "relay": 2}[c.kind()]
	if c.TCP {
		p /= 2
	}
	if c.TCP && c.kind() == "relay" {
		p = 0
	}
	return p
}

// Fragment is a body of application/trickle-ice-sdpfrag (RFC 8840), as WHIP sends
// for candidates and for an ICE restart.
type Fragment struct {
	ICE        ICE    // with empty Ufrag and Pwd when the fragment has none
	MID        string // the first one, "" when the fragment names none
	Candidates []Candidate
	End        bool // end-of-candidates
}

// ParseFragment reads a body of application/trickle-ice-sdpfrag. Candidates of
// other components, transports and types are passed over, as RFC 8839 says.
func ParseFragment(text string) (*Fragment, error) {
	f, err := parseFragment(text)
	if err != nil {
		return nil, fmt.Errorf("trickle fragment: %w", err)
	}
	return f, nil
}

func parseFragment(text string) (*Fragment, error) {
	lines, err := splitLines(text, maxFragment)
	if err != nil {
		return nil, err
	}
	f := new(Fragment)
	media := 0
	for i, l := range lines {
		if strings.HasPrefix(l, "m=") {
			if media++; media > MaxMedia {
				return nil, fmt.Errorf("line %d: more than %d m-lines", i+1, MaxMedia)
			}
			continue
		}
		if !strings.HasPrefix(l, "a=") {
			return nil, fmt.Errorf("line %d, %s: not a= or m=", i+1, shown(l))
		}
		if err := f.attribute(l[2:]); err != nil {
			return nil, fmt.Errorf("line %d, %s: %w", i+1, shown(l), err)
		}
	}
	if (f.ICE.Ufrag == "") != (f.ICE.Pwd == "") {
		return nil, errors.New("a=ice-ufrag and a=ice-pwd: one without the other")
	}
	return f, nil
}

func (f *Fragment) attribute(a string) error {
	key, value, _ := strings.Cut(a, ":")
	switch key {
	case "ice-ufrag", "ice-pwd", "ice-options":
		t := Transport{ICE: f.ICE}
		if err := t.attribute(pion.Attribute{Key: key, Value: value}); err != nil {
			return err
		}
		was := f.ICE
		f.ICE = t.ICE
		if was.Ufrag != "" && was.Ufrag != f.ICE.Ufrag || was.Pwd != "" && was.Pwd != f.ICE.Pwd {
			return errors.New("another one before: a bundle has one transport")
		}
	case "mid":
		if !isToken(value) || len(value) > maxID {
			return fmt.Errorf("not a token of 1 to %d characters", maxID)
		}
		if f.MID == "" {
			f.MID = value
		}
	case "candidate":
		c, ok, err := parseCandidate(value)
		if err != nil || !ok {
			return err
		}
		if len(f.Candidates) == maxCandidates {
			return fmt.Errorf("more than %d candidates", maxCandidates)
		}
		f.Candidates = append(f.Candidates, c)
	case "end-of-candidates":
		f.End = true
	}
	return nil
}

// parseCandidate reads the attribute's value (RFC 8839, section 5.1). It reports
// false for candidates that must be passed over.
func parseCandidate(value string) (c Candidate, ok bool, err error) {
	f := strings.Fields(value)
	if len(f) < 8 || f[6] != "typ" {
		return c, false, errors.New("not FOUNDATION COMPONENT TRANSPORT PRIORITY ADDRESS PORT typ TYPE")
	}
	component, err := strconv.ParseUint(f[1], 10, 8)
	if err != nil || component == 0 {
		return c, false, fmt.Errorf("component %.64q: not a number from 1 to 255", f[1])
	}
	priority, err := strconv.ParseUint(f[3], 10, 31)
	if err != nil {
		return c, false, fmt.Errorf("priority %.64q: not a number below 1<<31", f[3])
	}
	port, err := strconv.ParseUint(f[5], 10, 16)
	if err != nil {
		return c, false, fmt.Errorf("port %.64q: not a number up to 65535", f[5])
	}
	c = Candidate{Foundation: f[0], TCP: strings.EqualFold(f[2], "tcp"), Priority: uint32(priority), Port: uint16(port), Kind: f[7]}
	if c.Addr, err = netip.ParseAddr(f[4]); err != nil {
		if !isName(f[4]) {
			return c, false, fmt.Errorf("address %.64q: neither an address nor a name", f[4])
		}
		c.Name = f[4]
	}
	for x := f[8:]; len(x) >= 2; x = x[2:] {
		if x[0] == "tcptype" {
			c.TCPType = x[1]
		}
	}
	ok = component == 1 && isKind(c.Kind) && (strings.EqualFold(f[2], "udp") || c.TCP && (c.TCPType == "active" || c.TCPType == "passive" || c.TCPType == "so"))
	return c, ok, nil
}

// isName holds host names.
func isName(s string) bool {
	for _, c := range []byte(s) {
		if !isAlnum(c) && c != '-' && c != '.' && c != '_' {
			return false
		}
	}
	return s != "" && len(s) <= 253
}
