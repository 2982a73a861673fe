package cc_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"pgregory.net/rapid"

	"github.com/parley-meet/parley/services/internal/sfu/cc"
)

const tick = 250 * time.Microsecond

// read gives all statuses of one RTCP packet.
func read(b []byte) (f cc.Feedback, all []cc.Status, err error) {
	p, _, err := cc.Split(b)
	if err != nil {
		return f, nil, err
	}
	if f, err = cc.ParseFeedback(p); err != nil {
		return f, nil, err
	}
	head := f
	for s, ok := f.Next(); ok; s, ok = f.Next() {
		all = append(all, s)
	}
	return head, all, nil
}

// Packets of Chromium, as pion/rtcp's tests have them too.
func TestFeedbackOfBrowsers(t *testing.T) {
	for name, c := range map[string]struct {
		b     []byte
		base  uint16
		ref   int32
		count uint8
		ticks []int // since the reference; -1 did not arrive
	}{
		"a run": {
			[]byte{
				0xaf, 0xcd, 0, 7, 0xfa, 0x17, 0xfa, 0x17, 0x19, 0x3d, 0xd8, 0xbb, 0, 4, 0, 7,
				0x10, 0x63, 0x6e, 1, 0x20, 7, 0x4c, 0x24, 0x24, 0x10, 0xc, 0xc, 0x10, 0, 0, 3,
			},
			4, 0x10636e, 1, []int{76, 112, 148, 164, 176, 188, 204},
		},
		"one-bit vector": {
			[]byte{
				0xaf, 0xcd, 0, 6, 0xfa, 0x17, 0xfa, 0x17, 0x19, 0x3d, 0xd8, 0xbb, 0, 1, 0, 14,
				0x10, 0x63, 0x6d, 0, 0xba, 0, 0x10, 0xc, 0xc, 0x10, 0, 2,
			},
			1, 0x10636d, 0, []int{16, 28, 40, -1, 56, -1, -1, -1, -1, -1, -1, -1, -1, -1},
		},
		"two-bit vector, a run too long": {
			[]byte{
				0xaf, 0xcd, 0, 7, 0x9b, 0x74, 0xf6, 0x1f, 0x93, 0x71, 0xdc, 0xbc, 0x85, 0x3c, 0, 9,
				0x63, 0xf9, 0x16, 0xb3, 0xd5, 0x52, 0, 0x30, 0x9b, 0xaa, 0x6a, 0xaa, 0x7b, 1, 9, 1,
			},
			// 0x0030 is a run of 48, of which the head wants two.
			0x853c, 0x63f916, 0xb3, []int{155, 325, 431, 601, 724, -1, 989, -1, -1},
		},
	} {
		f, all, err := read(c.b)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if f.Base != c.base || f.Ref != c.ref || f.Packet != c.count {
			t.Errorf("%s: base %d, ref %#x, packet %d", name, f.Base, f.Ref, f.Packet)
		}
		var want []cc.Status
		for i, at := range c.ticks {
			s := cc.Status{Seq: c.base + uint16(i)}
			if at >= 0 {
				s.Received = true
				s.Arrived = time.Duration(c.ref)*64*time.Millisecond + time.Duration(at)*tick
			}
			want = append(want, s)
		}
		if !slices.Equal(all, want) {
			t.Errorf("%s:\n%v, want\n%v", name, all, want)
		}
	}
}

func TestFeedbackThatIsMalformed(t *testing.T) {
	whole := []byte{
		0x8f, 0xcd, 0, 6, 0, 0, 0, 1, 0, 0, 0, 2, 0, 4, 0, 6,
		0, 0, 1, 1, 0x20, 6, 0x4c, 0x24, 0x24, 0x10, 0xc, 0xc,
	}
	cut := func(n int) []byte {
		b := slices.Clone(whole[:4*n])
		b[3] = byte(n - 1)
		return b
	}
	with := func(at int, v ...byte) []byte {
		b := slices.Clone(whole)
		copy(b[at:], v)
		return b
	}
	for want, b := range map[string][]byte{
		"want a header":         whole[:3],
		"version 1":             with(0, 0x4f),
		"length says":           whole[:24],
		"padding of 0":          with(0, 0xaf, 0xcd, 0, 6), // its last byte is patched below
		"8 bytes after":         cut(4),
		"0 statuses":            with(14, 0, 0),
		"8193 statuses":         with(14, 0x20, 1),
		"empty run":             with(20, 0x20, 0),
		"6 bytes of deltas":     with(20, 0x40, 6),
		"type 206 format 15":    with(1, 206),
		"type 205 format 1":     with(0, 0x81),
		"chunks end at status ": cut(5),
	} {
		if want == "padding of 0" {
			b[len(b)-1] = 0
		}
		if _, _, err := read(b); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%x: %v, want %q", b, err, want)
		}
	}
	if _, _, err := read(whole); err != nil {
		t.Error(err)
	}
}

// What Arrivals writes, pion reads, and both readers find the same.
func TestFeedbackAgreesWithPion(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var a cc.Arrivals
		now := time.Duration(rapid.Int64Range(0, int64(1000*time.Hour)).Draw(t, "epoch"))
		seq := rapid.Uint16().Draw(t, "seq")
		want := make(map[uint16]time.Duration)
		for range rapid.IntRange(1, 300).Draw(t, "packets") {
			// Mostly the next one; sometimes after a gap, or a late one.
			seq += uint16(rapid.SampledFrom([]int{1, 1, 1, 1, 1, 1, 2, 3, 20, -3}).Draw(t, "step"))
			now += time.Duration(rapid.SampledFrom([]int{0, 1, 1, 2, 30, 90_000}).Draw(t, "ms")) * time.Millisecond / 7
			if _, ok := want[seq]; !ok {
				want[seq] = now
			}
			a.Add(now, seq, 1000)
		}
		buf := make([]byte, rapid.IntRange(64, 1200).Draw(t, "buffer"))
		got := 0
		for n := a.Build(now, buf, 7, 9); n > 0; n = a.Build(now, buf, 7, 9) {
			f, all, err := read(buf[:n])
			if err != nil {
				t.Fatal(err)
			}
			var theirs rtcp.TransportLayerCC
			if err := theirs.Unmarshal(buf[:n]); err != nil {
				t.Fatalf("pion: %v of %x", err, buf[:n])
			}
			if f.Base != theirs.BaseSequenceNumber || f.Count != int(theirs.PacketStatusCount) ||
				uint32(f.Ref)&0xffffff != theirs.ReferenceTime || f.Packet != theirs.FbPktCount ||
				theirs.SenderSSRC != 7 || theirs.MediaSSRC != 9 {
				t.Fatalf("head %+v, pion %v", f, theirs)
			}
			at, d := int64(f.Ref)*256, theirs.RecvDeltas
			for i, sym := range symbols(&theirs) {
				if received := sym != rtcp.TypeTCCPacketNotReceived; received != all[i].Received {
					t.Fatalf("status %d: %v, pion %d", i, all[i], sym)
				} else if !received {
					continue
				}
				at += d[0].Delta / 250
				d = d[1:]
				if all[i].Arrived != time.Duration(at)*tick {
					t.Fatalf("status %d arrived %v, pion %d ticks", i, all[i].Arrived, at)
				}
				// The reference has 24 bits, so times are alike modulo 12 days.
				if w, ok := want[all[i].Seq]; !ok || uint32(w/tick) != uint32(at) && w/tick != 0 {
					t.Fatalf("packet %d arrived at %d ticks, want %v", all[i].Seq, uint32(at), w/tick)
				}
				got++
			}
		}
		if got < len(want) {
			t.Fatalf("told of %d packets, %d arrived", got, len(want))
		}
	})
}

// symbols spreads pion's chunks.
func symbols(p *rtcp.TransportLayerCC) (all []uint16) {
	for _, c := range p.PacketChunks {
		switch c := c.(type) {
		case *rtcp.RunLengthChunk:
			for range c.RunLength {
				all = append(all, c.PacketStatusSymbol)
			}
		case *rtcp.StatusVectorChunk:
			all = append(all, c.SymbolList...)
		}
	}
	return all[:p.PacketStatusCount]
}

func FuzzFeedback(f *testing.F) {
	f.Add([]byte{
		0xaf, 0xcd, 0, 7, 0xfa, 0x17, 0xfa, 0x17, 0x19, 0x3d, 0xd8, 0xbb, 0, 4, 0, 7,
		0x10, 0x63, 0x6e, 1, 0x20, 7, 0x4c, 0x24, 0x24, 0x10, 0xc, 0xc, 0x10, 0, 0, 3,
	})
	f.Add([]byte{
		0xaf, 0xcd, 0, 6, 0xfa, 0x17, 0xfa, 0x17, 0x19, 0x3d, 0xd8, 0xbb, 1, 0x74, 0, 14,
		0x45, 0xb1, 0x5a, 0x40, 0xd8, 0, 0xf0, 0xff, 0xd0, 0, 0, 3,
	})
	f.Fuzz(func(t *testing.T, b []byte) {
		head, all, err := read(b)
		e := cc.NewEstimator(cc.Config{})
		for i := range 100 {
			e.Sent(time.Duration(i)*10*time.Millisecond, 1000)
		}
		if err != nil {
			return
		}
		if len(all) != head.Count {
			t.Errorf("%d statuses, the head says %d", len(all), head.Count)
		}
		p, _, _ := cc.Split(b)
		if err := e.Feedback(time.Second, p); err != nil {
			t.Error(err)
		}
		if r := e.Target(); r < 100_000 || r > 100_000_000 {
			t.Errorf("target %d", r)
		}
		// Pion is more lenient in some places; where both read, they agree.
		var theirs rtcp.TransportLayerCC
		if theirs.Unmarshal(b) == nil && theirs.PacketStatusCount == uint16(head.Count) {
			sum := int64(head.Ref) * 256
			for _, d := range theirs.RecvDeltas {
				sum += d.Delta / 250
			}
			last, n := time.Duration(0), 0
			for _, s := range all {
				if s.Received {
					last = s.Arrived
					n++
				}
			}
			if n == len(theirs.RecvDeltas) && n > 0 && last != time.Duration(sum)*tick {
				t.Errorf("last arrival %v, pion %v", last, time.Duration(sum)*tick)
			}
		}
	})
}

func FuzzRTCP(f *testing.F) {
	add := func(ps ...rtcp.Packet) {
		b, err := rtcp.Marshal(ps)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	add(&rtcp.SenderReport{SSRC: 1, Reports: []rtcp.ReceptionReport{{SSRC: 2}}}, &rtcp.PictureLossIndication{MediaSSRC: 3})
	add(&rtcp.TransportLayerNack{Nacks: []rtcp.NackPair{{PacketID: 65530, LostPackets: 0x8421}}})
	add(&rtcp.ReceiverEstimatedMaximumBitrate{Bitrate: 1e6, SSRCs: []uint32{1}}, &rtcp.FullIntraRequest{FIR: []rtcp.FIREntry{{SSRC: 1}}})
	f.Fuzz(func(t *testing.T, b []byte) {
		e := cc.NewEstimator(cc.Config{})
		for rest := b; len(rest) > 0; {
			p, r, err := cc.Split(rest)
			if err != nil {
				return
			}
			if len(r) >= len(rest) {
				t.Fatal("no progress")
			}
			rest = r
			if n := p.Nacks(nil, 500); len(n) > 500 {
				t.Errorf("%d NACKs", len(n))
			}
			for i := -1; i < 33; i++ {
				if r, ok := p.Report(i); ok {
					e.Report(time.Second, r, 0)
					r.RTT(1 << 40)
				}
				p.FIR(i)
			}
			if r, ok := p.REMB(); ok {
				if r < 0 {
					t.Errorf("REMB %d", r)
				}
				e.REMB(time.Second, r)
			}
			p.SenderReport()
			p.Media()
			p.PLI()
		}
	})
}
