package codec

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	p, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestNames(t *testing.T) {
	for k := Opus; k <= AV1; k++ {
		if Named(strings.ToUpper(k.String())) != k || k.Audio() == k.Video() {
			t.Errorf("%d: %s", k, k)
		}
	}
	if Named("H265") != None || Named("none") != None || None.Audio() || None.Video() || Kind(99).String() != "none" {
		t.Error("None is something")
	}
}

// TestInspect looks at descriptors field by field. Frame bytes are "ff" where
// nothing reads them.
func TestInspect(t *testing.T) {
	for _, x := range []struct {
		name    string
		kind    Kind
		payload string
		want    Info
	}{
		{"opus", Opus, "78 01 02 03", Info{Kind: Opus, Start: true, End: true, Keyframe: true}},
		{"opus of DTX", Opus, "78", Info{Kind: Opus, Start: true, End: true, Keyframe: true, Silence: true}},
		{"opus of DTX, two bytes", Opus, "f8 ff", Info{Kind: Opus, Start: true, End: true, Keyframe: true, Silence: true}},
		{"red", RED, "ef 0a 40 02 6f aa bb 78 01 02", Info{Kind: RED, Start: true, End: true, Keyframe: true}},
		{"red, now silent", RED, "ef 0a 40 03 6f aa bb cc 78", Info{Kind: RED, Start: true, End: true, Keyframe: true, Silence: true}},

		{"vp8, no extension, keyframe 640 × 360", VP8, "10 10 02 00 9d 01 2a 80 02 68 01",
			Info{Kind: VP8, Start: true, Keyframe: true, Width: 640, Height: 360}},
		{"vp8, scaled, keyframe", VP8, "10 10 02 00 9d 01 2a 80 42 68 81",
			Info{Kind: VP8, Start: true, Keyframe: true, Width: 640, Height: 360}},
		{"vp8, not the first packet", VP8, "00 10 02", Info{Kind: VP8}},
		{"vp8, second partition", VP8, "11 10 02", Info{Kind: VP8}},
		{"vp8, 7 bits, not referenced", VP8, "b0 80 7f 01",
			Info{Kind: VP8, Start: true, InterFrame: true, Discardable: true, PictureBits: 7, PictureID: 127, pictureAt: 2}},
		{"vp8, all fields", VP8, "90 f0 92 34 c8 b3 01",
			Info{Kind: VP8, Start: true, InterFrame: true, HasLayers: true, Temporal: 2, Sync: true, PictureBits: 15, PictureID: 0x1234,
				pictureAt: 2, HasTL0: true, TL0: 200, tl0At: 4, HasKeyIdx: true, KeyIdx: 19, keyAt: 5}},
		{"vp8, key index alone", VP8, "90 10 e5 01",
			Info{Kind: VP8, Start: true, InterFrame: true, HasKeyIdx: true, KeyIdx: 5, keyAt: 2}},

		{"vp9, no fields, keyframe", VP9, "08 ff", Info{Kind: VP9, Start: true, Keyframe: true}},
		{"vp9, layers, not flexible", VP9, "e8 81 02 5b 07 ff",
			Info{Kind: VP9, Start: true, InterFrame: true, HasLayers: true, Temporal: 2, Sync: true, Spatial: 5, InterLayer: true,
				PictureBits: 15, PictureID: 0x102, pictureAt: 1, HasTL0: true, TL0: 7, tl0At: 4}},
		{"vp9, flexible with three references", VP9, "d4 05 03 05 06 ff",
			Info{Kind: VP9, End: true, InterFrame: true, PictureBits: 7, PictureID: 5, pictureAt: 1}},
		{"vp9, upper layer of a keyframe", VP9, "ac 05 03 09 ff",
			Info{Kind: VP9, Start: true, End: true, HasLayers: true, Spatial: 1, InterLayer: true,
				PictureBits: 7, PictureID: 5, pictureAt: 1, HasTL0: true, TL0: 9, tl0At: 3}},
		{"vp9, structure of two layers and three pictures", VP9, "0a 38 0140 00b4 0280 0168 03 00 44 01 48 01 02 ff",
			Info{Kind: VP9, Start: true, Keyframe: true, Width: 640, Height: 360}},
		{"vp9, structure without sizes", VP9, "0a 00 ff", Info{Kind: VP9, Start: true, Keyframe: true}},

		{"h264, IDR slice", H264, "65 88 84", Info{Kind: H264, Start: true, Keyframe: true}},
		{"h264, IDR, a later slice", H264, "65 44 84", Info{Kind: H264}},
		{"h264, slice", H264, "41 9a 01", Info{Kind: H264, Start: true, InterFrame: true}},
		{"h264, delimiter", H264, "09 10", Info{Kind: H264, Start: true, InterFrame: true}},
		{"h264, picture parameters", H264, "68 ce 3c 80", Info{Kind: H264, Start: true, Keyframe: true}},
		{"h264, end of sequence", H264, "0a 00", Info{Kind: H264}},
		{"h264, FU-A that begins an IDR", H264, "7c 85 88", Info{Kind: H264, Start: true, Keyframe: true}},
		{"h264, FU-A that goes on", H264, "7c 05 88", Info{Kind: H264}},
		{"h264, STAP-A of a delimiter and a slice", H264, "18 0002 09 10 0003 41 9a 01", Info{Kind: H264, Start: true, InterFrame: true}},

		{"av1, delta frame", AV1, "10 30 30 00", Info{Kind: AV1, Start: true, InterFrame: true}},
		{"av1, first of a sequence, key", AV1, "18 30 10 00", Info{Kind: AV1, Start: true, Keyframe: true}},
		{"av1, rest of a frame", AV1, "90 30 10 00", Info{Kind: AV1}},
		{"av1, rest and a new frame with layers", AV1, "a0 01 aa 34 28 30 00", Info{Kind: AV1, Start: true, InterFrame: true, HasLayers: true, Temporal: 1, Spatial: 1}},
		{"av1, lengths for all", AV1, "00 03 30 30 00 02 20 aa", Info{Kind: AV1, Start: true, InterFrame: true}},
		{"av1, tile group", AV1, "10 20 30", Info{Kind: AV1}},
		{"av1, shows an earlier frame", AV1, "10 18 80", Info{Kind: AV1, Start: true}},
	} {
		got, err := Inspect(x.kind, unhex(t, x.payload))
		if err != nil || got != x.want {
			t.Errorf("%s:\n got %+v, %v\nwant %+v", x.name, got, err, x.want)
		}
	}
}

func TestInspectRefuses(t *testing.T) {
	for _, x := range []struct {
		name    string
		kind    Kind
		payload string
		want    error
	}{
		{"no kind", None, "00", errKind},
		{"red, header of two bytes", RED, "ef 0a", errREDShort},
		{"red, no last header", RED, "ef 0a 40 00", errREDShort},
		{"red, block longer than the payload", RED, "ef 0a 40 09 6f aa", errREDShort},
		{"red, nothing but the redundant", RED, "ef 0a 40 02 6f aa bb", errREDPrimary},
		{"vp8, picture id cut", VP8, "90 80 92", errVP8Short},
		{"vp8, no frame", VP8, "90 f0 92 34 c8 b3", errVP8Short},
		{"vp9, four references", VP9, "d4 05 03 05 07 08 ff", errVP9Refs},
		{"vp9, structure cut", VP9, "0a 38 0140", errVP9Short},
		{"vp9, references of the structure cut", VP9, "0a 08 01 0c ff", errVP9Short},
		{"h264, STAP-A cut", H264, "18 0009 09 10", errH264Short},
		{"h264, STAP-A of nothing", H264, "18 0000 09", errH264Short},
		{"h264, STAP-B", H264, "19 00 00 00", errH264Type},
		{"h264, type 0", H264, "00 00", errH264Type},
		{"av1, element cut", AV1, "20 09 30 00", errAV1Short},
		{"av1, length of five bytes", AV1, "00 80 80 80 80 00", errAV1Size},
		{"av1, no layers after the extension flag", AV1, "10 34", errAV1Short},
	} {
		if _, err := Inspect(x.kind, unhex(t, x.payload)); err != x.want {
			t.Errorf("%s: %v, want %v", x.name, err, x.want)
		}
	}
}

// TestSizeOfSPS reads parameter sets of x264 (High) and OpenH264 (Baseline, cropped).
func TestSizeOfSPS(t *testing.T) {
	for _, x := range []struct {
		sps           string
		width, height uint16
	}{
		{"67 64 00 28 ac d9 40 78 02 27 e5 c0 44 00 00 03 00 04 00 00 03 00 c8 3c 60 c6 58", 1920, 1080},
		{"67 64 00 1f ac d9 40 50 05 bb 01 10 00 00 03 00 10 00 00 03 03 20 f1 83 19 60", 1280, 720},
		{"67 42 c0 15 8c 8d 40 a0 cb cf", 320, 180},
	} {
		in, err := Inspect(H264, unhex(t, x.sps))
		if err != nil || in.Width != x.width || in.Height != x.height || !in.Keyframe {
			t.Errorf("%s: %d × %d, %v", x.sps, in.Width, in.Height, err)
		}
	}
	if in, err := Inspect(H264, unhex(t, "67 64 00 28 ac d9 40")); err != nil || in.Width != 0 || in.Height != 0 {
		t.Errorf("cut: %d × %d, %v", in.Width, in.Height, err)
	}
}

func TestRED(t *testing.T) {
	p := unhex(t, "ef 0a 40 02 ef 05 00 01 6f aa bb cc 78 01 02")
	pt, primary, err := Primary(p)
	if err != nil || pt != 111 || !bytes.Equal(primary, []byte{0x78, 1, 2}) {
		t.Errorf("%d, %x, %v", pt, primary, err)
	}
	if err := SetRED(p, 96); err != nil || !bytes.Equal(p, unhex(t, "e0 0a 40 02 e0 05 00 01 60 aa bb cc 78 01 02")) {
		t.Errorf("%x, %v", p, err)
	}
	if err := SetRED(p[:6], 96); err != errREDShort {
		t.Errorf("cut: %v", err)
	}
}

// FuzzInspect holds that no payload makes a panic, that numbers are read where
// they are written, and that nothing else changes.
func FuzzInspect(f *testing.F) {
	for name, kind := range map[string]Kind{"vp8-l1t3": VP8, "vp9-l1t2": VP9, "h264": H264, "av1-l1t2": AV1, "opus": Opus} {
		for _, p := range stream(f, name)[:3] {
			f.Add(uint8(kind), p.payload, uint16(300), uint8(7), uint8(3))
		}
	}
	f.Add(uint8(RED), []byte{0xef, 0x0a, 0x40, 2, 0x6f, 1, 2, 0x78, 3, 4}, uint16(0), uint8(0), uint8(0))
	f.Fuzz(func(t *testing.T, kind uint8, payload []byte, picture uint16, tl0, key uint8) {
		in, err := Inspect(Kind(kind), payload)
		if err != nil {
			return
		}
		if in.Keyframe && !in.Start {
			t.Errorf("a keyframe that does not begin: %+v", in)
		}
		same := bytes.Clone(payload)
		IDs{in.PictureID, in.TL0, in.KeyIdx}.Write(same, &in)
		if !bytes.Equal(same, payload) {
			t.Errorf("the same numbers change %x into %x", payload, same)
		}
		ids := IDs{picture & 0x7fff, tl0, key & 0x1f}
		ids.Write(same, &in)
		want := in
		if want.PictureBits != 0 {
			want.PictureID = ids.Picture & (1<<in.PictureBits - 1)
		}
		if want.HasTL0 {
			want.TL0 = ids.TL0
		}
		if want.HasKeyIdx {
			want.KeyIdx = ids.Key
		}
		if got, err := Inspect(Kind(kind), same); err != nil || got != want {
			t.Errorf("%x: got %+v, %v, want %+v", same, got, err, want)
		}
		if Kind(kind) == RED {
			_, before, _ := Primary(payload)
			if err := SetRED(payload, 96); err != nil {
				t.Fatal(err)
			}
			if pt, after, err := Primary(payload); err != nil || pt != 96 || !bytes.Equal(before, after) {
				t.Errorf("RED: %d, %v", pt, err)
			}
		}
	})
}
