package codec

import "errors"

var (
	errH264Short = errors.New("codec: h264: NAL unit cut short (RFC 6184, section 5)")
	errH264Type  = errors.New("codec: h264: NAL unit type of packetization mode 2, or none (RFC 6184, section 5.2)")
)

// Types of NAL units (H.264, table 7-1; RFC 6184, section 5.2).
const (
	nalSlice    = 1
	nalIDR      = 5
	nalSPS      = 7
	nalPPS      = 8
	nalEndOfSeq = 10
	nalPrefix   = 14 // of scalable coding; before a slice
	nalSTAPA    = 24
	nalFUA      = 28
)

// inspectH264 reads single NAL units, STAP-A and FU-A.
func inspectH264(p []byte) (Info, error) {
	in := Info{Kind: H264}
	if len(p) < 2 {
		return in, errH264Short
	}
	switch t := p[0] & 0x1f; {
	case t >= nalSlice && t < nalSTAPA:
		in.unit(t, p[1:])
	case t == nalSTAPA:
		for q := p[1:]; len(q) > 0; {
			if len(q) < 3 {
				return in, errH264Short
			}
			n := int(q[0])<<8 | int(q[1])
			if n == 0 || 2+n > len(q) {
				return in, errH264Short
			}
			in.unit(q[2]&0x1f, q[3:2+n])
			q = q[2+n:]
		}
	case t == nalFUA:
		if len(p) < 3 {
			return in, errH264Short
		}
		if p[1]&0x80 != 0 {
			in.unit(p[1]&0x1f, p[2:])
		}
	default:
		return in, errH264Type
	}
	in.InterFrame = in.Start && !in.Keyframe
	return in, nil
}

// unit takes a NAL unit that begins, without its first byte, and perhaps cut.
func (in *Info) unit(t uint8, p []byte) {
	switch {
	case t >= nalSlice && t <= nalIDR:
		// first_mb_in_slice is 0: one bit, 1 (section 7.3.3).
		first := t != 3 && t != 4 && len(p) > 0 && p[0]&0x80 != 0
		in.Start = in.Start || first
		in.Keyframe = in.Keyframe || t == nalIDR && first
	case t == nalSPS:
		in.Start, in.Keyframe = true, true
		in.Width, in.Height = sizeOfSPS(p)
	case t < nalEndOfSeq, t >= nalPrefix && t <= 18: // begin an access unit (section 7.4.1.2.3)
		in.Start = true
		in.Keyframe = in.Keyframe || t == nalPPS
	}
}

// sizeOfSPS reads a sequence parameter set (section 7.3.2.1.1), without its
// first byte, as far as the size of the picture; 0 × 0 when it makes no sense.
func sizeOfSPS(p []byte) (width, height uint16) {
	b := bits{p: p, h264: true}
	profile := b.take(8)
	b.take(16) // constraints, level
	b.golomb() // id
	chroma := uint32(1)
	switch profile {
	case 100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135:
		chroma = b.golomb()
		planes := false
		if chroma == 3 {
			planes = b.one() != 0
		}
		b.golomb() // depth of luma
		b.golomb() // and chroma
		b.one()
		if b.one() != 0 {
			lists := 8
			if chroma == 3 {
				lists = 12
			}
			for i := range lists {
				if b.one() != 0 {
					b.scaling(i)
				}
			}
		}
		if planes {
			chroma = 0 // counts as monochrome below
		}
	}
	b.golomb()          // bits of frame_num
	switch b.golomb() { // kind of picture order count
	case 0:
		b.golomb()
	case 1:
		b.one()
		b.signed()
		b.signed()
		n := b.golomb()
		if n > 255 {
			return 0, 0
		}
		for range n {
			b.signed()
		}
	}
	b.golomb() // reference frames
	b.one()
	w := (uint64(b.golomb()) + 1) * 16
	h := (uint64(b.golomb()) + 1) * 16
	frames := b.one() // only
	if frames == 0 {
		h *= 2
		b.one()
	}
	b.one()
	if b.one() != 0 { // cropped, in units of chroma (equations 7-19 to 7-22)
		x, y := uint64(1), uint64(2-frames)
		if chroma == 1 || chroma == 2 {
			x = 2
		}
		if chroma == 1 {
			y *= 2
		}
		left, right := uint64(b.golomb()), uint64(b.golomb())
		top, bottom := uint64(b.golomb()), uint64(b.golomb())
		cutX, cutY := (left+right)*x, (top+bottom)*y
		if cutX >= w || cutY >= h {
			return 0, 0
		}
		w -= cutX
		h -= cutY
	}
	if b.over || w > 0xffff || h > 0xffff {
		return 0, 0
	}
	return uint16(w), uint16(h)
}

// scaling passes over a scaling list (section 7.3.2.1.1.1).
func (b *bits) scaling(list int) {
	size := 16
	if list >= 6 {
		size = 64
	}
	last, next := int32(8), int32(8)
	for range size {
		if next != 0 {
			next = (last + b.signed()) & 0xff
		}
		if next != 0 {
			last = next
		}
		if b.over {
			return
		}
	}
}
