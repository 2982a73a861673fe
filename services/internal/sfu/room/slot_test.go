package room

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/sfu/cc"
	"github.com/parley-meet/parley/services/internal/sfu/codec"
	"github.com/parley-meet/parley/services/internal/sfu/sdp"
	"github.com/parley-meet/parley/services/internal/sfu/wire"
)

// Sound with redundancy reaches whoever takes it under the payload types that he
// knows, and others as it is without.
func TestRED(t *testing.T) {
	l := &Layer{format: sdp.Format{Kind: codec.RED}}
	// One block of Opus of before (111, offset 960, 2 bytes), then the primary.
	in := []byte{0x80 | 111, 960 >> 6, 960 & 0x3f << 2, 2, 111, 'o', 'l', 'n', 'e', 'w'}
	pkt := &packet{payload: in}
	var err error
	if pkt.info, err = codec.Inspect(codec.RED, in); err != nil {
		t.Fatal(err)
	}
	opus, red := sdp.Codec{Format: sdp.Format{Kind: codec.Opus}, PT: 96}, sdp.Codec{Format: sdp.Format{Kind: codec.RED}, PT: 97}
	for _, test := range []struct {
		name   string
		codecs []sdp.Codec
		pt     uint8
		want   []byte
	}{
		{"takes it", []sdp.Codec{opus, red}, 97, []byte{0x80 | 96, 960 >> 6, 960 & 0x3f << 2, 2, 96, 'o', 'l', 'n', 'e', 'w'}},
		{"takes it not", []sdp.Codec{opus}, 96, []byte("new")},
	} {
		s := &Slot{line: &sdp.Line{Kind: "audio", Codecs: test.codecs}}
		if !s.enter(pkt.info.Kind, l) || s.codec.PT != test.pt {
			t.Errorf("%s: payload type %d", test.name, s.codec.PT)
		}
		dst := make([]byte, 100)
		if n, ok := s.put(dst, pkt); !ok || !bytes.Equal(dst[:n], test.want) {
			t.Errorf("%s: %x, %v, want %x", test.name, dst[:n], ok, test.want)
		}
		if !bytes.Equal(pkt.payload[:1], []byte{0x80 | 111}) {
			t.Error("the packet that others get was changed")
		}
	}
	if s := (&Slot{line: &sdp.Line{Kind: "audio", Codecs: []sdp.Codec{red}}}); s.enter(codec.RED, l) {
		t.Error("RED goes to somebody who has no Opus for what is in it")
	}
}

// recorded is what Chromium sent.
func recorded(t *testing.T, name string) (out [][]byte) {
	t.Helper()
	f, err := os.Open("../codec/testdata/" + name + ".rtp")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		var seq, ts, marker int
		var data string
		if _, err := fmt.Sscan(sc.Text(), &seq, &ts, &marker, &data); err != nil {
			t.Fatal(err)
		}
		b, err := hex.DecodeString(data)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b)
	}
	return out
}

// The highest temporal layer is left out in whole frames, and taken up again where
// it can be decoded.
func TestThin(t *testing.T) {
	for _, test := range []struct {
		name string
		kind codec.Kind
		top  uint8
	}{{"vp8-l1t3", codec.VP8, 2}, {"vp9-l1t2", codec.VP9, 1}} {
		s, l := &Slot{}, &Layer{format: sdp.Format{Kind: test.kind}, temporal: test.top}
		list := recorded(t, test.name)
		left, kept, again := 0, 0, 0
		was := false
		for i, b := range list {
			in, err := codec.Inspect(test.kind, b)
			if err != nil {
				t.Fatal(err)
			}
			s.thin = i < len(list)/2
			out := s.leavesOut(l, &in)
			switch {
			case out && in.Temporal != test.top:
				t.Errorf("%s: packet %d of layer %d is left out", test.name, i, in.Temporal)
			case out:
				left++
				was = true
			case in.Temporal == test.top:
				if was && !(in.Start && (in.Sync || in.Keyframe)) {
					t.Errorf("%s: packet %d cannot be decoded without those before", test.name, i)
				}
				was = false
				again++
			default:
				kept++
			}
		}
		if left < 3 || kept < 5 {
			t.Errorf("%s: %d left out, %d kept, %d of the layer sent", test.name, left, kept, again)
		}
	}
}

// A picture that does not fit whole is sent with fewer frames where it can be, and
// one without temporal layers is paused.
func TestThinChoice(t *testing.T) {
	for _, test := range []struct {
		rate     int64 // of the lowest layer, bit/s
		thin     bool  // it has temporal layers
		sent     bool
		sentThin bool
	}{
		{firstEstimate / 2, true, true, false},
		{firstEstimate * 5 / 4, true, true, true},
		{firstEstimate * 5 / 4, false, false, false},
		{firstEstimate * 2, true, false, false},
	} {
		r := &Room{}
		p := &Peer{room: r, crypt: &wire.Crypt{}, estimator: cc.NewEstimator(cc.Config{Start: firstEstimate}), pacer: cc.NewPacer[queued](cc.PacerLimits{}, firstEstimate)}
		track := &Track{peer: p, source: Camera}
		l := &Layer{track: track}
		track.layers = []*Layer{l}
		track.now.Store(&layers{list: []*Layer{l}, sizes: []cc.Layer{{Width: 320, Height: 180, Rate: test.rate}}, thin: test.thin})
		s := &Slot{peer: p, track: track, width: 320, height: 180}
		p.slots = []*Slot{s}
		p.choose(wire.NewOutSize(1024), time.Second)
		if (s.target == l) != test.sent || s.thin != test.sentThin {
			t.Errorf("%+v: sent %v, thin %v", test, s.target == l, s.thin)
		}
	}
}
