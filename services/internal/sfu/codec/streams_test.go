package codec

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// packet is one of a stream that Chromium 156 sent.
type packet struct {
	seq       uint16
	timestamp uint32
	marker    bool
	payload   []byte
}

// stream reads testdata: sequence, timestamp, marker, payload, a line each.
func stream(t testing.TB, name string) []packet {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name+".rtp"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []packet
	for sc := bufio.NewScanner(f); sc.Scan(); {
		var p packet
		var marker int
		var data string
		if _, err := fmt.Sscan(sc.Text(), &p.seq, &p.timestamp, &marker, &data); err != nil {
			t.Fatal(err)
		}
		if p.payload, err = hex.DecodeString(data); err != nil {
			t.Fatal(err)
		}
		p.marker = marker == 1
		out = append(out, p)
	}
	if len(out) < 8 {
		t.Fatalf("%s: %d packets", name, len(out))
	}
	return out
}

// TestChromiumStreams reads what a real encoder sent: a picture of 320 × 180, a
// keyframe first, a packet or two for each frame.
func TestChromiumStreams(t *testing.T) {
	for _, x := range []struct {
		name     string
		kind     Kind
		temporal uint8 // highest
		ids      bool
	}{
		{"vp8-l1t3", VP8, 2, true}, {"vp9-l1t2", VP9, 1, true},
		{"h264", H264, 0, false}, {"av1-l1t2", AV1, 1, false}, {"av1-l2t1", AV1, 0, false},
	} {
		t.Run(x.name, func(t *testing.T) {
			var highest uint8
			var last Info
			for i, p := range stream(t, x.name) {
				in, err := Inspect(x.kind, p.payload)
				if err != nil {
					t.Fatalf("packet %d: %v", i, err)
				}
				if in.Kind != x.kind || !in.Start {
					t.Errorf("packet %d: %+v", i, in)
				}
				if in.Keyframe != (i == 0) || in.InterFrame != (i != 0) {
					t.Errorf("packet %d: keyframe %t, inter %t", i, in.Keyframe, in.InterFrame)
				}
				if i == 0 && (in.Width != 320 || in.Height != 180) || i > 0 && in.Width != 0 {
					t.Errorf("packet %d: %d × %d", i, in.Width, in.Height)
				}
				if x.kind == VP9 && in.End != p.marker {
					t.Errorf("packet %d: end %t, marker %t", i, in.End, p.marker)
				}
				if x.ids && (in.PictureBits != 15 || i > 0 && in.PictureID != (last.PictureID+1)&0x7fff) {
					t.Errorf("packet %d: picture %d of %d bits after %d", i, in.PictureID, in.PictureBits, last.PictureID)
				}
				highest, last = max(highest, in.Temporal), in
			}
			if highest != x.temporal {
				t.Errorf("temporal layers up to %d, want %d", highest, x.temporal)
			}
		})
	}
}

// TestCutShort gives every beginning of real payloads: what is left of a
// descriptor is an error, and never a panic.
func TestCutShort(t *testing.T) {
	for name, x := range map[string]struct {
		kind Kind
		head int // bytes without which nothing can be told
	}{
		"vp8-l1t3": {VP8, 7}, "vp9-l1t2": {VP9, 10}, "h264": {H264, 3}, "av1-l1t2": {AV1, 2}, "opus": {Opus, 1},
	} {
		p := stream(t, name)[0].payload
		for n := range len(p) {
			if _, err := Inspect(x.kind, p[:n]); (err != nil) != (n < x.head) && x.kind != H264 && x.kind != AV1 {
				t.Errorf("%s: %d bytes: %v", name, n, err)
			} else if n < x.head && err == nil {
				t.Errorf("%s: %d bytes are taken", name, n)
			}
		}
	}
}

func TestNoAllocation(t *testing.T) {
	var r Rewriter
	for name, kind := range map[string]Kind{"vp8-l1t3": VP8, "vp9-l1t2": VP9, "h264": H264, "av1-l1t2": AV1, "opus": Opus} {
		p := stream(t, name)[0].payload
		n := testing.AllocsPerRun(100, func() {
			in, err := Inspect(kind, p)
			if err != nil {
				t.Fatal(err)
			}
			ids, _ := r.Place(0, &in)
			ids.Write(p, &in)
			if _, err := Inspect(kind, nil); err == nil {
				t.Fatal("nothing is taken")
			}
		})
		if n != 0 {
			t.Errorf("%s: %v allocations", kind, n)
		}
	}
}

func BenchmarkInspect(b *testing.B) {
	for _, x := range []struct {
		name string
		kind Kind
	}{{"vp8-l1t3", VP8}, {"vp9-l1t2", VP9}, {"h264", H264}, {"av1-l1t2", AV1}, {"opus", Opus}} {
		b.Run(x.kind.String(), func(b *testing.B) {
			packets := stream(b, x.name)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, err := Inspect(x.kind, packets[i%len(packets)].payload); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkRewrite is what a slot does with a packet that was inspected once for
// all receivers.
func BenchmarkRewrite(b *testing.B) {
	p := stream(b, "vp8-l1t3")[0].payload
	in, err := Inspect(VP8, p)
	if err != nil {
		b.Fatal(err)
	}
	var r Rewriter
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if i%4 == 0 {
			in.PictureID = (in.PictureID + 1) & 0x7fff
		}
		ids, ok := r.Place(0, &in)
		if !ok {
			b.Fatal(i)
		}
		ids.Write(p, &in)
	}
}
