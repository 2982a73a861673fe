package room

import (
	"bytes"
	"testing"

	"github.com/pion/rtp"
)

// What another implementation writes is read, and what we write it reads.
func TestHeader(t *testing.T) {
	ids := extensions{twcc: 3, level: 1, mid: 4, rid: 10, repaired: 11}
	for _, profile := range []uint16{0xBEDE, 0x1000} {
		p := rtp.Packet{Header: rtp.Header{Version: 2, Marker: true, PayloadType: 96, SequenceNumber: 7, Timestamp: 8, SSRC: 9, CSRC: []uint32{1, 2}, Extension: true, ExtensionProfile: profile}, Payload: []byte("payload"), PaddingSize: 3}
		p.Padding = true
		for id, v := range map[uint8]string{3: "\x12\x34", 1: "\x9e", 4: "0", 10: "h", 11: "hh", 7: "unknown"} {
			if err := p.SetExtension(id, []byte(v)); err != nil {
				t.Fatal(err)
			}
		}
		b, err := p.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		var h header
		if !h.parse(b, &ids) {
			t.Fatalf("%x is not read", b)
		}
		if !h.marker || h.pt != 96 || h.seq != 7 || h.ts != 8 || h.ssrc != 9 || string(h.payload) != "payload" ||
			!h.hasTWCC || h.twcc != 0x1234 || !h.hasLevel || h.level != 0x1e || string(h.mid) != "0" || string(h.rid) != "h" || string(h.repaired) != "hh" {
			t.Errorf("%+v", h)
		}
		for n := range b {
			h.parse(b[:n], &ids) // must not panic
		}
	}
	for _, o := range []outHeader{
		{pt: 96, ts: 5},
		{pt: 111, marker: true, ts: 5, twccID: 3, twcc: 0xfffe},
		{pt: 111, ts: 5, twccID: 14, twcc: 1, levelID: 1, level: 127},
		{pt: 111, ts: 5, levelID: 2, level: 3},
	} {
		b := make([]byte, maxOutHeader)
		n := o.put(b)
		var p rtp.Packet
		if err := p.Unmarshal(append(b[:n:n], "data"...)); err != nil {
			t.Fatalf("%+v: %v", o, err)
		}
		twcc, level := p.GetExtension(o.twccID), p.GetExtension(o.levelID)
		if p.PayloadType != o.pt || p.Marker != o.marker || p.Timestamp != o.ts || string(p.Payload) != "data" ||
			o.twccID != 0 && !bytes.Equal(twcc, []byte{byte(o.twcc >> 8), byte(o.twcc)}) || o.levelID != 0 && !bytes.Equal(level, []byte{o.level}) {
			t.Errorf("%+v came as %v, %x, %x", o, p.Header, twcc, level)
		}
	}
}

func FuzzHeader(f *testing.F) {
	f.Add([]byte{0x90, 96, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0xbe, 0xde, 0, 1, 0x10, 0x80, 0, 0, 1})
	f.Add([]byte{0xb0, 96, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0x10, 0, 0, 1, 3, 2, 0, 0, 1, 1})
	ids := extensions{twcc: 3, level: 1, mid: 4, rid: 10, repaired: 11}
	f.Fuzz(func(t *testing.T, b []byte) {
		var h header
		if h.parse(b, &ids) && len(h.payload) > len(b)-12 {
			t.Errorf("%d bytes of payload in %d", len(h.payload), len(b))
		}
	})
}
