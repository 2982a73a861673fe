package codec

import "errors"

var (
	errVP8Short = errors.New("codec: vp8: payload ends within its descriptor (RFC 7741, section 4.2)")
	errVP9Short = errors.New("codec: vp9: payload ends within its descriptor (RFC 9628, section 4.2)")
	errVP9Refs  = errors.New("codec: vp9: more than three reference indices (RFC 9628, section 4.2)")
)

// inspectVP8 reads the payload descriptor and, of a keyframe, the frame header
// (RFC 6386, section 9.1).
func inspectVP8(p []byte) (Info, error) {
	in := Info{Kind: VP8}
	if len(p) < 1 {
		return in, errVP8Short
	}
	b := p[0]
	at := 1
	in.Start = b&0x17 == 0x10 // S, and partition 0 (three bits; the fourth is reserved)
	in.Discardable = b&0x20 != 0
	if b&0x80 != 0 {
		if len(p) < 2 {
			return in, errVP8Short
		}
		x := p[1]
		at = 2
		if x&0x80 != 0 {
			n, err := in.picture(p, at, errVP8Short)
			if err != nil {
				return in, err
			}
			at += n
		}
		if x&0x40 != 0 {
			if at >= len(p) {
				return in, errVP8Short
			}
			in.HasTL0, in.TL0, in.tl0At = true, p[at], uint8(at)
			at++
		}
		if x&0x30 != 0 {
			if at >= len(p) {
				return in, errVP8Short
			}
			if x&0x20 != 0 {
				in.HasLayers, in.Temporal, in.Sync = true, p[at]>>6, p[at]&0x20 != 0
			}
			if x&0x10 != 0 {
				in.HasKeyIdx, in.KeyIdx, in.keyAt = true, p[at]&0x1f, uint8(at)
			}
			at++
		}
	}
	if at >= len(p) {
		return in, errVP8Short
	}
	if frame := p[at:]; in.Start && frame[0]&1 == 0 {
		in.Keyframe = true
		if len(frame) >= 10 && frame[3] == 0x9d && frame[4] == 0x01 && frame[5] == 0x2a {
			in.Width = (uint16(frame[6]) | uint16(frame[7])<<8) & 0x3fff
			in.Height = (uint16(frame[8]) | uint16(frame[9])<<8) & 0x3fff
		}
	}
	in.InterFrame = in.Start && !in.Keyframe
	return in, nil
}

// picture reads a picture id of 7 or 15 bits and returns its length in bytes.
func (in *Info) picture(p []byte, at int, short error) (int, error) {
	if at >= len(p) {
		return 0, short
	}
	in.pictureAt = uint8(at)
	if p[at]&0x80 == 0 {
		in.PictureBits, in.PictureID = 7, uint16(p[at])
		return 1, nil
	}
	if at+1 >= len(p) {
		return 0, short
	}
	in.PictureBits, in.PictureID = 15, uint16(p[at]&0x7f)<<8|uint16(p[at+1])
	return 2, nil
}

// inspectVP9 reads the payload descriptor.
func inspectVP9(p []byte) (Info, error) {
	in := Info{Kind: VP9}
	if len(p) < 1 {
		return in, errVP9Short
	}
	b := p[0]
	at := 1
	in.InterFrame = b&0x40 != 0
	in.Start = b&0x08 != 0
	in.End = b&0x04 != 0
	flexible := b&0x10 != 0
	if b&0x80 != 0 {
		n, err := in.picture(p, at, errVP9Short)
		if err != nil {
			return in, err
		}
		at += n
	}
	if b&0x20 != 0 {
		if at >= len(p) {
			return in, errVP9Short
		}
		l := p[at]
		in.HasLayers, in.Temporal, in.Sync = true, l>>5, l&0x10 != 0
		in.Spatial, in.InterLayer = l>>1&7, l&1 != 0
		at++
		if !flexible {
			if at >= len(p) {
				return in, errVP9Short
			}
			in.HasTL0, in.TL0, in.tl0At = true, p[at], uint8(at)
			at++
		}
	}
	if flexible && in.InterFrame {
		for n := 0; ; n++ {
			if at >= len(p) {
				return in, errVP9Short
			}
			if n == 3 {
				return in, errVP9Refs
			}
			at++
			if p[at-1]&1 == 0 {
				break
			}
		}
	}
	if b&0x02 != 0 {
		n, err := in.structure(p[at:])
		if err != nil {
			return in, err
		}
		at += n
	}
	if at >= len(p) {
		return in, errVP9Short
	}
	in.Keyframe = in.Start && !in.InterFrame && in.Spatial == 0
	if !in.Keyframe {
		in.Width, in.Height = 0, 0
	}
	return in, nil
}

// structure reads the scalability structure (RFC 9628, section 4.2.1) and
// returns its length.
func (in *Info) structure(p []byte) (int, error) {
	if len(p) < 1 {
		return 0, errVP9Short
	}
	layers, sizes, pictures := int(p[0]>>5)+1, p[0]&0x10 != 0, p[0]&0x08 != 0
	at := 1
	if sizes {
		if at+4*layers > len(p) {
			return 0, errVP9Short
		}
		top := p[at+4*(layers-1):]
		in.Width = uint16(top[0])<<8 | uint16(top[1])
		in.Height = uint16(top[2])<<8 | uint16(top[3])
		at += 4 * layers
	}
	if pictures {
		if at >= len(p) {
			return 0, errVP9Short
		}
		n := int(p[at])
		at++
		for range n {
			if at >= len(p) {
				return 0, errVP9Short
			}
			at += 1 + int(p[at]>>2&3)
		}
		if at > len(p) {
			return 0, errVP9Short
		}
	}
	return at, nil
}
