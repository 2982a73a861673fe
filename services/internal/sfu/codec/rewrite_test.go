package codec

import (
	"testing"
)

// vp8 is a payload's Info as an encoder with 15-bit ids makes it.
func vp8(picture uint16, tl0, temporal, key uint8) *Info {
	return &Info{Kind: VP8, PictureBits: 15, PictureID: picture & 0x7fff, HasTL0: true, TL0: tl0, HasLayers: true, Temporal: temporal, HasKeyIdx: true, KeyIdx: key & 0x1f}
}

func place(t *testing.T, r *Rewriter, source uint32, in *Info, want IDs) {
	t.Helper()
	if got, ok := r.Place(source, in); !ok || got != want {
		t.Errorf("source %d, picture %d: %+v, %t, want %+v", source, in.PictureID, got, ok, want)
	}
}

func refuse(t *testing.T, r *Rewriter, source uint32, in *Info) {
	t.Helper()
	if got, ok := r.Place(source, in); ok {
		t.Errorf("source %d, picture %d: %+v, want a refusal", source, in.PictureID, got)
	}
}

// TestUnchanged: one source and nothing left out keeps its numbers, over every
// wrap and over losses.
func TestUnchanged(t *testing.T) {
	var r Rewriter
	for i := range 40000 {
		if i%7 == 3 {
			continue
		}
		place(t, &r, 0, vp8(uint16(32000+i), uint8(i), 0, uint8(i/100)), IDs{uint16(32000+i) & 0x7fff, uint8(i), uint8(i/100) & 0x1f})
	}
}

func TestSwitch(t *testing.T) {
	var r Rewriter
	r.Switch(1)
	place(t, &r, 1, vp8(100, 10, 0, 4), IDs{100, 10, 4})
	place(t, &r, 1, vp8(101, 10, 1, 4), IDs{101, 10, 4})
	r.Switch(2)
	place(t, &r, 1, vp8(101, 10, 1, 4), IDs{101, 10, 4}) // a late packet of what was sent
	refuse(t, &r, 1, vp8(102, 11, 0, 4))                 // not sent before the switch
	place(t, &r, 2, vp8(7000, 200, 0, 30), IDs{102, 11, 5})
	place(t, &r, 2, vp8(7000, 200, 0, 30), IDs{102, 11, 5})
	refuse(t, &r, 2, vp8(6999, 199, 0, 29)) // before the keyframe
	refuse(t, &r, 1, vp8(102, 11, 0, 4))
	place(t, &r, 2, vp8(7001, 200, 2, 30), IDs{103, 11, 5})
	place(t, &r, 2, vp8(7003, 201, 0, 30), IDs{105, 12, 5}) // 7002 is lost, or late
	place(t, &r, 2, vp8(7002, 200, 1, 30), IDs{104, 11, 5})
	r.Switch(2) // after a pause
	place(t, &r, 2, vp8(7100, 220, 0, 31), IDs{106, 13, 6})
	refuse(t, &r, 2, vp8(7003, 201, 0, 30))
}

func TestDrop(t *testing.T) {
	var r Rewriter
	// Temporal layers 0 2 1 2, of which the highest is left out.
	want := uint16(500)
	for i := range 400 {
		temporal := []uint8{0, 2, 1, 2}[i%4]
		in := vp8(uint16(500+i), uint8(i/4), temporal, 0)
		if temporal == 2 {
			r.Drop(0, in)
			r.Drop(0, in) // of several packets
			refuse(t, &r, 0, in)
			continue
		}
		place(t, &r, 0, in, IDs{want, uint8(i / 4), 0})
		r.Drop(0, in) // too late for that
		place(t, &r, 0, in, IDs{want, uint8(i / 4), 0})
		want++
	}
	refuse(t, &r, 0, vp8(500, 0, 0, 0)) // too old
	place(t, &r, 0, vp8(898, 99, 1, 0), IDs{699, 99, 0})
	// A frame that came after its successor and is left out stays a gap.
	place(t, &r, 0, vp8(901, 100, 1, 0), IDs{701, 100, 0})
	r.Drop(0, vp8(900, 100, 2, 0))
	refuse(t, &r, 0, vp8(900, 100, 2, 0))
	place(t, &r, 0, vp8(902, 100, 2, 0), IDs{702, 100, 0})
}

// TestDropVP9: references count picture ids, so they keep their gaps.
func TestDropVP9(t *testing.T) {
	var r Rewriter
	vp9 := func(picture uint16, tl0 uint8) *Info {
		return &Info{Kind: VP9, PictureBits: 15, PictureID: picture, HasTL0: true, TL0: tl0}
	}
	place(t, &r, 0, vp9(10, 1), IDs{10, 1, 0})
	r.Drop(0, vp9(11, 1))
	place(t, &r, 0, vp9(12, 2), IDs{12, 2, 0})
	r.Switch(1)
	place(t, &r, 1, vp9(900, 77), IDs{13, 3, 1})
	r.Drop(1, vp9(901, 77))
	place(t, &r, 1, vp9(902, 78), IDs{15, 4, 1})
}

// TestShortIDs: fields of 7 bits stay that, and go on where 15 bits were.
func TestShortIDs(t *testing.T) {
	var r Rewriter
	short := func(n int) *Info {
		return &Info{Kind: VP8, PictureBits: 7, PictureID: uint16(n) & 0x7f, pictureAt: 2}
	}
	for i := range 300 {
		ids, ok := r.Place(0, short(120+i))
		p := []byte{0x90, 0x80, 0, 1}
		ids.Write(p, short(0))
		if !ok || p[2] != uint8(120+i)&0x7f {
			t.Fatalf("frame %d: %+v, %x", i, ids, p)
		}
		place(t, &r, 0, short(120+i), ids)
	}
	last, _ := r.Place(0, short(120+299))
	r.Switch(1)
	place(t, &r, 1, vp8(9, 0, 0, 0), IDs{last.Picture + 1, 1, 1})
}

func TestWithoutIDs(t *testing.T) {
	var r Rewriter
	place(t, &r, 0, vp8(50, 3, 0, 1), IDs{50, 3, 1})
	for _, k := range []Kind{H264, AV1, VP8, Opus} {
		in := &Info{Kind: k}
		place(t, &r, 99, in, IDs{})
		r.Drop(99, in)
	}
	place(t, &r, 0, vp8(51, 3, 0, 1), IDs{51, 3, 1})
}

// TestChromiumVP8 leaves the highest layer out of what Chromium sent, and
// switches between two such streams: a receiver sees ids without a gap.
func TestChromiumVP8(t *testing.T) {
	packets := stream(t, "vp8-l1t3")
	var r Rewriter
	var last Info
	sent := 0
	for round := range uint32(3) {
		r.Switch(round)
		for i, p := range packets {
			in, err := Inspect(VP8, p.payload)
			if err != nil {
				t.Fatal(err)
			}
			if in.Temporal == 2 {
				r.Drop(round, &in)
				continue
			}
			ids, ok := r.Place(round, &in)
			out := append([]byte(nil), p.payload...)
			ids.Write(out, &in)
			got, err := Inspect(VP8, out)
			if !ok || err != nil || len(out) != len(p.payload) {
				t.Fatal(ok, err)
			}
			if sent > 0 && got.PictureID != (last.PictureID+1)&0x7fff {
				t.Errorf("round %d, packet %d: picture %d after %d", round, i, got.PictureID, last.PictureID)
			}
			if step := got.TL0 - last.TL0; sent > 0 && (step != 1) == (got.Temporal == 0) || step > 1 && sent > 0 {
				t.Errorf("round %d, packet %d: TL0 %d after %d in layer %d", round, i, got.TL0, last.TL0, got.Temporal)
			}
			last = got
			sent++
		}
	}
	if sent < 20 {
		t.Errorf("%d packets were sent", sent)
	}
}

// FuzzRewriter plays frames of several sources, lost, late, repeated and left
// out, and holds: a frame has one number for good, no two frames have the same
// within what is remembered, and what is left out is never sent.
func FuzzRewriter(f *testing.F) {
	f.Add([]byte("\x00\x01\x02\x03abcdefghij"), true)
	f.Add([]byte{0, 0, 0, 5, 0, 6, 0, 0, 4, 4, 7, 0, 0, 1, 0}, false)
	f.Fuzz(func(t *testing.T, ops []byte, long bool) {
		if len(ops) > 100 { // fewer than are remembered
			ops = ops[:100]
		}
		bits := uint8(7)
		if long {
			bits = 15
		}
		var r Rewriter
		type key struct {
			source  uint32
			picture uint16
		}
		given := make(map[key]IDs)
		gone := make(map[key]bool)
		numbers := make(map[uint16]key)
		source, picture := uint32(0), uint16(120)
		newest := map[uint32]uint16{0: picture} // that was shown, of each source
		seen := func() {
			if int16(picture-newest[source]) > 0 {
				newest[source] = picture
			}
		}
		for _, op := range ops {
			// 7 bits cannot tell a frame from one 64 earlier or later.
			if d := int16(picture - newest[source]); !long && (d > 40 || d < -40) {
				picture = newest[source]
			}
			in := vp8(picture, uint8(picture), 0, 0)
			in.PictureBits, in.PictureID = bits, picture&(1<<bits-1)
			k := key{source, picture}
			switch op & 7 {
			case 0, 1, 2:
				ids, ok := r.Place(source, in)
				seen()
				if gone[k] && ok {
					t.Fatalf("%v was left out and is sent", k)
				}
				if before, had := given[k]; had && (!ok || ids != before) {
					t.Fatalf("%v had %+v and has %+v, %t", k, before, ids, ok)
				}
				if ok {
					if other, had := numbers[ids.Picture]; had && other != k {
						t.Fatalf("%v has the number of %v: %+v", k, other, ids)
					}
					given[k], numbers[ids.Picture] = ids, k
				}
				picture++
			case 3:
				picture++ // lost
			case 4:
				picture -= uint16(op>>3) & 3 // late, or again
			case 5:
				if _, had := given[k]; !had && r.running && source == r.source {
					r.Drop(source, in)
					gone[k] = true
					seen()
				}
				picture++
			case 6:
				source++
				r.Switch(source)
				picture = uint16(op>>3) * 300
				newest[source] = picture
			case 7:
				for k, ids := range given {
					if !long && newest[k.source]-k.picture > 40 {
						continue
					}
					in := vp8(k.picture, uint8(k.picture), 0, 0)
					in.PictureBits, in.PictureID = bits, k.picture&(1<<bits-1)
					if got, ok := r.Place(k.source, in); ok && got != ids {
						t.Fatalf("%v had %+v and has %+v", k, ids, got)
					}
				}
			}
		}
	})
}
