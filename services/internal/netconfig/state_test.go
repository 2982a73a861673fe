package netconfig

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

func testState() State {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	return State{
		Version:         StateVersion,
		Interface:       "eth0",
		HardwareAddress: "52:54:00:12:34:56",
		Link:            LinkUp,
		Mode:            ModeDHCP,
		MTU:             1400,
		LinkMTU:         1500,
		Addresses:       []netip.Prefix{netip.MustParsePrefix("10.0.2.15/24")},
		Gateway:         netip.MustParseAddr("10.0.2.2"),
		Routes:          []Route{{Default, netip.MustParseAddr("10.0.2.2")}, {Destination: netip.MustParsePrefix("192.0.2.0/24")}},
		DNS:             []netip.Addr{netip.MustParseAddr("10.0.2.3")},
		Search:          []string{"example.org"},
		NTP:             []netip.Addr{netip.MustParseAddr("10.0.2.4")},
		Hostname:        "parley",
		Domain:          "example.org",
		Slave:           netip.MustParsePrefix("10.0.2.16/24"),
		IPv6Mode:        ModeAuto,
		IPv6:            []netip.Prefix{netip.MustParsePrefix("2001:db8::7/64")},
		Gateway6:        netip.MustParseAddr("fe80::1"),
		DNSSource:       FromDHCP,
		Lease6:          &Lease{Server: netip.MustParseAddr("fe80::1"), Acquired: at},
		Duplicates:      []Duplicate{{netip.MustParseAddr("10.0.2.16"), "52:54:00:12:34:57"}},
		Lease:           &Lease{Server: netip.MustParseAddr("10.0.2.2"), Acquired: at, Renew: at.Add(time.Hour), Expires: at.Add(2 * time.Hour)},
		Problem:         "none",
	}
}

func TestState(t *testing.T) {
	for _, want := range []State{testState(), {Version: StateVersion, Interface: "eth0", Link: LinkMissing, Mode: ModeDHCP, Addresses: []netip.Prefix{}}} {
		b, err := want.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeState(b)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
	}
}

func TestDecodeStateBad(t *testing.T) {
	for in, want := range map[string]string{
		``:                                  "unexpected end",
		`[]`:                                "cannot unmarshal",
		`{}`:                                "version 0, want 2",
		`{"version":1}`:                     "version 1, want 2",
		`{"version":2,"adresses":1}`:        "unknown field",
		`{"version":2,"gateway":"x"}`:       "unable to parse IP",
		strings.Repeat(" ", MaxStateSize+1): "want at most",
	} {
		if _, err := DecodeState([]byte(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %q", in, err, want)
		}
	}
}

func FuzzDecodeState(f *testing.F) {
	b, err := testState().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"version":2,"addresses":["10.0.2.15/24"]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := DecodeState(b)
		if err != nil {
			return
		}
		out, err := s.Encode()
		if err != nil {
			return // a year beyond 9999 decodes, but does not encode
		}
		if _, err := DecodeState(out); err != nil && len(out) <= MaxStateSize {
			t.Errorf("what was encoded is refused: %v", err)
		}
	})
}
