package ethernet

import (
	"bytes"
	"net"
	"net/netip"
	"testing"
)

var (
	probed = netip.MustParseAddr("192.0.2.7")
	other  = net.HardwareAddr{2, 2, 2, 2, 2, 2}
)

func TestClaims(t *testing.T) {
	nowhere, elsewhere := netip.IPv4Unspecified(), netip.MustParseAddr("192.0.2.8")
	for _, test := range []struct {
		name string
		p    arpPacket
		want bool
	}{
		{"reply from the address", arpPacket{arpReply, other, probed, testMAC, nowhere}, true},
		{"request from the address", arpPacket{arpRequest, other, probed, nobody, elsewhere}, true},
		{"announcement of the address", arpPacket{arpRequest, other, probed, nobody, probed}, true},
		{"another's probe", arpPacket{arpRequest, other, nowhere, nobody, probed}, true},
		{"the own probe", arpPacket{arpRequest, testMAC, nowhere, nobody, probed}, false},
		{"the own reply", arpPacket{arpReply, testMAC, probed, other, elsewhere}, false},
		{"a question for the address", arpPacket{arpRequest, other, elsewhere, nobody, probed}, false},
		{"a probe for another", arpPacket{arpRequest, other, nowhere, nobody, elsewhere}, false},
		{"a reply from nowhere", arpPacket{arpReply, other, nowhere, testMAC, probed}, false},
		{"a reply from another", arpPacket{arpReply, other, elsewhere, testMAC, probed}, false},
	} {
		p, err := parseARP(append(test.p.marshal(), make([]byte, 18)...)) // padded to an Ethernet frame
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		if got := p.claims(probed, testMAC); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

func TestARPPacket(t *testing.T) {
	p := arpPacket{arpRequest, testMAC, netip.IPv4Unspecified(), nobody, probed}
	want := []byte{0, 1, 8, 0, 6, 4, 0, 1, 0x52, 0x54, 0, 1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 192, 0, 2, 7}
	if got := p.marshal(); !bytes.Equal(got, want) {
		t.Errorf("% x\nwant % x", got, want)
	}
	for n := range want {
		if _, err := parseARP(want[:n]); err == nil {
			t.Errorf("%d bytes are taken", n)
		}
	}
	for i := range 6 { // another kind of network or of address
		bad := bytes.Clone(want)
		bad[i]++
		if _, err := parseARP(bad); err == nil {
			t.Errorf("% x is taken", bad)
		}
	}
}

func FuzzParseARP(f *testing.F) {
	f.Add(arpPacket{arpReply, other, probed, testMAC, netip.IPv4Unspecified()}.marshal())
	f.Add(make([]byte, arpSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := parseARP(b)
		if err != nil {
			return
		}
		p.claims(probed, testMAC)
		if got := p.marshal(); !bytes.Equal(got, b[:arpSize]) {
			t.Errorf("% x is read, % x written", b, got)
		}
	})
}
