// Package codec tells what a router must know of RTP payloads, and no more:
// where frames begin, which are keyframes, which layer they belong to, and how to
// renumber pictures so that a receiver sees one stream where there were several.
// It decodes nothing and keeps no payload.
//
// Limits: VP9's and AV1's spatial layers are told, not chosen; AV1's dependency
// descriptor (an RTP header extension) is not read; of H.264 single NAL units,
// STAP-A and FU-A are read (RFC 6184, packetization modes 0 and 1).
package codec

import (
	"errors"
	"strings"
)

// Kind is a payload format.
type Kind uint8

const (
	None Kind = iota // not known here
	Opus             // RFC 7587
	RED              // RFC 2198, of Opus
	VP8              // RFC 7741
	VP9              // RFC 9628
	H264             // RFC 6184
	AV1              // AOM's RTP payload format 1.0
)

var names = [...]string{None: "none", Opus: "opus", RED: "red", VP8: "VP8", VP9: "VP9", H264: "H264", AV1: "AV1"}

// String is the encoding name in SDP's rtpmap.
func (k Kind) String() string {
	if int(k) < len(names) {
		return names[k]
	}
	return "none"
}

// Named returns the kind of an encoding name, in any case of letters, or None.
func Named(name string) Kind {
	for k := Opus; int(k) < len(names); k++ {
		if strings.EqualFold(name, names[k]) {
			return k
		}
	}
	return None
}

// Audio reports whether it is sound.
func (k Kind) Audio() bool { return k == Opus || k == RED }

// Video reports whether it is a picture.
func (k Kind) Video() bool { return k >= VP8 && k <= AV1 }

// Info is what one payload tells. What the format cannot say is zero.
type Info struct {
	Kind Kind

	// Start: the payload begins a frame (of one spatial layer). H.264 has no
	// such mark: parameter sets, delimiters and first slices count, so that several
	// packets of one timestamp may; take the first.
	Start bool
	// End: the payload ends a frame (of one spatial layer). VP9 alone says so;
	// elsewhere RTP's marker does.
	End bool
	// Keyframe: decoding can begin with this payload. True for the one that begins
	// a keyframe of the lowest spatial layer; for H.264, for each that begins a
	// parameter set or an IDR slice.
	Keyframe bool
	// Silence: an Opus packet of DTX, or one that holds no sound at all.
	Silence bool

	HasLayers   bool  // Temporal and the like are told
	Temporal    uint8 // temporal layer, 0 is the lowest
	Spatial     uint8 // spatial layer, 0 is the lowest
	Sync        bool  // VP8 Y, VP9 U: from here on a receiver may go up to this temporal layer
	InterLayer  bool  // VP9 D: needs the spatial layer below
	InterFrame  bool  // VP9 P: needs earlier frames
	Discardable bool  // VP8 N: no other frame needs this one

	PictureBits uint8  // 0: no picture id, 7 or 15
	PictureID   uint16 // of PictureBits bits
	HasTL0      bool
	TL0         uint8 // TL0PICIDX
	HasKeyIdx   bool
	KeyIdx      uint8 // VP8, 5 bits

	// Width and Height in pixels when a keyframe's payload tells, else 0. Of VP9
	// with several spatial layers, those of the highest.
	Width, Height uint16

	pictureAt, tl0At, keyAt uint8 // offsets in the payload, where they are
}

// Inspect reads a payload. It allocates nothing and holds nothing of the payload;
// its errors are about short or impossible payloads, which a router drops.
func Inspect(kind Kind, payload []byte) (Info, error) {
	switch kind {
	case Opus:
		return inspectOpus(payload)
	case RED:
		return inspectRED(payload)
	case VP8:
		return inspectVP8(payload)
	case VP9:
		return inspectVP9(payload)
	case H264:
		return inspectH264(payload)
	case AV1:
		return inspectAV1(payload)
	}
	return Info{}, errKind
}

var errKind = errors.New("codec: not a kind of payload")
