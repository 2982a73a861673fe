package sdp

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"
)

// TestParseFragment reads what WHIP clients send: candidates (RFC 9725, section
// 4.3.1) and an ICE restart.
func TestParseFragment(t *testing.T) {
	f, err := ParseFragment(`a=group:BUNDLE 0 1
m=audio 9 UDP/TLS/RTP/SAVPF 111
a=mid:0
a=ice-ufrag:EsAw
a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1
a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 ufrag EsAw network-id 1
a=candidate:3471623853 1 udp 2122194687 3f6e1ffe-13a5-4e9f-9bd4-3a1b6a3b2c1d.local 61765 typ host generation 0
a=candidate:473322822 1 tcp 1518280447 2001:db8::1 9 typ host tcptype active generation 0
a=candidate:2154773085 2 udp 2122260222 192.0.2.1 61766 typ host
a=candidate:393455558 1 sctp 5 192.0.2.1 61766 typ host
a=candidate:393455559 1 udp 5 192.0.2.1 61766 typ teleport
a=candidate:393455560 1 UDP 5 198.51.100.1 61767 typ srflx raddr 0.0.0.0 rport 0
a=end-of-candidates
m=video 9 UDP/TLS/RTP/SAVPF 96
a=mid:1
`)
	if err != nil {
		t.Fatal(err)
	}
	if f.ICE.Ufrag != "EsAw" || f.ICE.Pwd != "P2uYro0UCOQ4zxjKXaWCBui1" || f.MID != "0" || !f.End {
		t.Errorf("%+v", f)
	}
	want := []Candidate{
		{Foundation: "1387637174", Priority: 2122260223, Addr: netip.MustParseAddr("192.0.2.1"), Port: 61764, Kind: "host"},
		{Foundation: "3471623853", Priority: 2122194687, Name: "3f6e1ffe-13a5-4e9f-9bd4-3a1b6a3b2c1d.local", Port: 61765, Kind: "host"},
		{Foundation: "473322822", TCP: true, Priority: 1518280447, Addr: netip.MustParseAddr("2001:db8::1"), Port: 9, Kind: "host", TCPType: "active"},
		{Foundation: "393455560", Priority: 5, Addr: netip.MustParseAddr("198.51.100.1"), Port: 61767, Kind: "srflx"},
	}
	if fmt.Sprint(f.Candidates) != fmt.Sprint(want) {
		t.Errorf("%+v", f.Candidates)
	}
}

func TestParseFragmentRefuses(t *testing.T) {
	const candidate = "a=candidate:1 1 udp 5 192.0.2.1 7 typ host\n"
	for _, x := range []struct{ name, text, want string }{
		{"too long", strings.Repeat("a", 40000), "40000 bytes of text"},
		{"another line", "v=0\n", `line 1, "v=0": not a= or m=`},
		{"many", strings.Repeat(candidate, 129), "line 129, "},
		{"m-lines", strings.Repeat("m=audio 9 X 0\n", 65), "line 65: more than 64 m-lines"},
		{"half", "a=ice-ufrag:EsAw\n", "one without the other"},
		{"two transports", "a=ice-ufrag:EsAw\na=ice-ufrag:EsAx\n", "a bundle has one transport"},
		{"pwd", "a=ice-pwd:secret\n", "not 22 to 256"},
		{"mid", "a=mid:\n", "not a token"},
		{"candidate", "a=candidate:1 1 udp\n", "not FOUNDATION COMPONENT"},
		{"component", strings.Replace(candidate, "1 1", "1 0", 1), `component "0"`},
		{"priority", strings.Replace(candidate, "udp 5", "udp x", 1), `priority "x"`},
		{"port", strings.Replace(candidate, "7", "70000", 1), `port "70000"`},
		{"address", strings.Replace(candidate, "192.0.2.1", "[::1]", 1), `address "[::1]"`},
	} {
		if _, err := ParseFragment(x.text); err == nil || !strings.HasPrefix(err.Error(), "trickle fragment: ") || !strings.Contains(err.Error(), x.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v, want %q", x.name, err, x.want)
		}
	}
}

// TestCandidateText: what we write is what we read, and UDP stands before TCP, the
// first before the second.
func TestCandidateText(t *testing.T) {
	list := []Candidate{
		{Addr: netip.MustParseAddr("::ffff:192.0.2.1"), Port: 8801},
		{Addr: netip.MustParseAddr("2001:db8::1"), Port: 8801, Kind: "host"},
		{Addr: netip.MustParseAddr("198.51.100.1"), Port: 8801, Kind: "srflx"},
		{Addr: netip.MustParseAddr("192.0.2.1"), Port: 443, TCP: true},
		{Addr: netip.MustParseAddr("198.51.100.1"), Port: 443, TCP: true, Kind: "relay"},
	}
	before := uint32(1 << 31)
	seen := make(map[string]bool)
	for i, c := range list {
		text := c.text(i)
		got, ok, err := parseCandidate(text)
		if err != nil || !ok || got.Addr != c.Addr.Unmap() || got.Port != c.Port || got.Kind != c.kind() || got.TCP != c.TCP || c.TCP && got.TCPType != "passive" {
			t.Errorf("%s: %+v, %t, %v", text, got, ok, err)
		}
		if got.Priority >= before || seen[got.Foundation] {
			t.Errorf("%s: priority or foundation", text)
		}
		before = got.Priority
		seen[got.Foundation] = true
	}
	fixed := Candidate{Foundation: "f1", Priority: 77, Addr: netip.MustParseAddr("192.0.2.1"), Port: 9, TCP: true, TCPType: "so"}
	if got := fixed.text(0); got != "f1 1 tcp 77 192.0.2.1 9 typ host tcptype so" {
		t.Error(got)
	}
	if _, err := strconv.ParseUint(strings.Fields(list[0].text(9000))[3], 10, 31); err != nil {
		t.Error(err)
	}
}
