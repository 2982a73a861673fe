package cc_test

import (
	"slices"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"pgregory.net/rapid"

	"github.com/parley-meet/parley/services/internal/sfu/cc"
)

// Pion writes a compound, we read it.
func TestReadsWhatPionWrites(t *testing.T) {
	block := rtcp.ReceptionReport{
		SSRC: 11, FractionLost: 12, TotalLost: 0x123456, LastSequenceNumber: 14,
		Jitter: 15, LastSenderReport: 16, Delay: 17,
	}
	b, err := rtcp.Marshal([]rtcp.Packet{
		&rtcp.SenderReport{
			SSRC: 1, NTPTime: 2 << 40, RTPTime: 3, PacketCount: 4, OctetCount: 5,
			Reports: []rtcp.ReceptionReport{{SSRC: 10}, block},
		},
		&rtcp.ReceiverReport{SSRC: 6, Reports: []rtcp.ReceptionReport{block}},
		&rtcp.PictureLossIndication{SenderSSRC: 7, MediaSSRC: 8},
		&rtcp.FullIntraRequest{SenderSSRC: 7, FIR: []rtcp.FIREntry{{SSRC: 9, SequenceNumber: 1}, {SSRC: 10, SequenceNumber: 2}}},
		&rtcp.ReceiverEstimatedMaximumBitrate{SenderSSRC: 7, Bitrate: 3_000_000, SSRCs: []uint32{9}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var ps []cc.Packet
	for len(b) > 0 {
		p, rest, err := cc.Split(b)
		if err != nil {
			t.Fatal(err)
		}
		ps, b = append(ps, p), rest
	}
	want := cc.Report{SSRC: 11, Fraction: 12, Lost: 0x123456, Highest: 14, Jitter: 15, LSR: 16, DLSR: 17}
	if r, ok := ps[0].SenderReport(); !ok || r != (cc.SenderReport{SSRC: 1, NTP: 2 << 40, RTP: 3, Packets: 4, Bytes: 5}) {
		t.Errorf("sender report %+v", r)
	}
	if r, ok := ps[0].Report(1); !ok || r != want {
		t.Errorf("block of a sender report %+v", r)
	}
	if r, ok := ps[1].Report(0); !ok || r != want {
		t.Errorf("block of a receiver report %+v", r)
	}
	if _, ok := ps[1].Report(1); ok {
		t.Error("a block that is not there")
	}
	if m, ok := ps[2].Media(); !ok || m != 8 || !ps[2].PLI() {
		t.Errorf("PLI of %d", m)
	}
	if s, n, ok := ps[3].FIR(1); !ok || s != 10 || n != 2 {
		t.Errorf("FIR of %d, number %d", s, n)
	}
	if _, _, ok := ps[3].FIR(2); ok {
		t.Error("a FIR entry that is not there")
	}
	if r, ok := ps[4].REMB(); !ok || r < 2_990_000 || r > 3_000_000 {
		t.Errorf("REMB %d", r)
	}
	if ps[3].PLI() || ps[4].PLI() {
		t.Error("PLI where there is none")
	}
}

// We write, pion reads.
func TestPionReadsWhatIsWritten(t *testing.T) {
	sr := cc.SenderReport{SSRC: 1, NTP: 2<<40 | 9, RTP: 3, Packets: 4, Bytes: 5}
	rr := cc.Report{SSRC: 11, Fraction: 12, Lost: -3, Highest: 14, Jitter: 15, LSR: 16, DLSR: 17}
	b := sr.Append(nil)
	if len(b) != cc.SenderReportSize {
		t.Errorf("%d bytes of sender report", len(b))
	}
	b = cc.AppendReports(b, 6, []cc.Report{rr, {SSRC: 12, Lost: 7}})
	b = cc.AppendPLI(b, 7, 8)
	ps, err := rtcp.Unmarshal(b)
	if err != nil {
		t.Fatal(err)
	}
	if s := ps[0].(*rtcp.SenderReport); s.SSRC != 1 || s.NTPTime != sr.NTP || s.RTPTime != 3 || s.PacketCount != 4 || s.OctetCount != 5 {
		t.Errorf("sender report %v", s)
	}
	r := ps[1].(*rtcp.ReceiverReport)
	if r.SSRC != 6 || len(r.Reports) != 2 || r.Reports[0] != (rtcp.ReceptionReport{
		SSRC: 11, FractionLost: 12, TotalLost: 0xfffffd, LastSequenceNumber: 14, Jitter: 15, LastSenderReport: 16, Delay: 17,
	}) {
		t.Errorf("receiver report %v", r)
	}
	if p := ps[2].(*rtcp.PictureLossIndication); p.SenderSSRC != 7 || p.MediaSSRC != 8 {
		t.Errorf("PLI %v", p)
	}
	for _, b := range [][]byte{cc.AppendReports(nil, 6, nil), cc.AppendReports(nil, 6, make([]cc.Report, 40))} {
		if _, err := rtcp.Unmarshal(b); err != nil {
			t.Errorf("receiver report of %d bytes: %v", len(b), err)
		}
	}
}

func TestNacksOfPion(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pairs := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) rtcp.NackPair {
			return rtcp.NackPair{PacketID: rapid.Uint16().Draw(t, "id"), LostPackets: rtcp.PacketBitmap(rapid.Uint16().Draw(t, "mask"))}
		}), 1, 20).Draw(t, "pairs")
		b, err := (&rtcp.TransportLayerNack{Nacks: pairs}).Marshal()
		if err != nil {
			t.Fatal(err)
		}
		p, _, err := cc.Split(b)
		if err != nil {
			t.Fatal(err)
		}
		var want []uint16
		for _, n := range pairs {
			want = append(want, n.PacketList()...)
		}
		if got := p.Nacks(nil, 1000); !slices.Equal(got, want) {
			t.Fatalf("%v, want %v", got, want)
		}
		if got := p.Nacks(nil, 5); !slices.Equal(got, want[:min(5, len(want))]) {
			t.Fatalf("%v within 5, want %v", got, want)
		}
	})
}

func TestRoundTripOfReports(t *testing.T) {
	at := cc.NTP(time.Unix(1_700_000_000, 500_000_000))
	for _, c := range []struct {
		r    cc.Report
		want time.Duration
		ok   bool
	}{
		{cc.Report{LSR: uint32(at>>16) - 65536/4, DLSR: 65536 / 8}, 125 * time.Millisecond, true},
		{cc.Report{LSR: uint32(at >> 16)}, 0, true},
		{cc.Report{}, 0, false},
		{cc.Report{LSR: uint32(at>>16) + 1}, 0, false},        // from the future
		{cc.Report{LSR: uint32(at>>16) - 61*65536}, 0, false}, // a minute
	} {
		if got, ok := c.r.RTT(at); got != c.want || ok != c.ok {
			t.Errorf("%+v: %v %v, want %v %v", c.r, got, ok, c.want, c.ok)
		}
	}
}
