package codec

import "errors"

var (
	errAV1Short = errors.New("codec: av1: element cut short (RTP payload format for AV1, section 4.4)")
	errAV1Size  = errors.New("codec: av1: length of more than four bytes (AV1, section 4.10.5)")
)

// Types of OBUs (AV1, section 6.2.2).
const (
	obuSequence    = 1
	obuFrameHeader = 3
	obuFrame       = 6
)

// inspectAV1 reads the aggregation header and the beginnings of the OBUs that
// begin in the payload.
func inspectAV1(p []byte) (Info, error) {
	in := Info{Kind: AV1}
	if len(p) < 2 {
		return in, errAV1Short
	}
	continued := p[0]&0x80 != 0 // Z: the first is the rest of an earlier one
	count := int(p[0] >> 4 & 3) // W: elements, the last without length; 0: all with
	first := p[0]&0x08 != 0     // N: of a coded video sequence
	sequence, key, inter := false, false, false
	q := p[1:]
	for n := 0; len(q) > 0; n++ {
		size := len(q)
		if count == 0 || n < count-1 {
			var used int
			var err error
			if size, used, err = leb128(q); err != nil {
				return in, err
			}
			q = q[used:]
			if size > len(q) {
				return in, errAV1Short
			}
		}
		obu := q[:size]
		q = q[size:]
		if n == 0 && continued || len(obu) == 0 {
			continue
		}
		body := obu[1:]
		if obu[0]&0x04 != 0 { // an extension with the layers
			if len(body) < 1 {
				return in, errAV1Short
			}
			if !in.HasLayers {
				in.HasLayers, in.Temporal, in.Spatial = true, body[0]>>5, body[0]>>3&3
			}
			body = body[1:]
		}
		if obu[0]&0x02 != 0 { // a length of its own, which should not be there
			_, used, err := leb128(body)
			if err != nil {
				return in, err
			}
			body = body[used:]
		}
		switch obu[0] >> 3 & 15 {
		case obuSequence:
			sequence = true
			in.Start = true
			in.Width, in.Height = sizeOfSequence(body)
		case obuFrame, obuFrameHeader:
			in.Start = true
			if len(body) > 0 { // show_existing_frame, frame_type (section 5.9.2)
				key = key || body[0]&0xe0 == 0
				inter = inter || body[0]&0x80 == 0 && body[0]&0x60 != 0
			}
		}
	}
	// A sequence header may be repeated before any frame.
	in.Keyframe = in.Start && in.Spatial == 0 && (first || sequence && (key || !inter))
	in.InterFrame = inter
	if !in.Keyframe {
		in.Width, in.Height = 0, 0
	}
	return in, nil
}

// leb128 reads a length (AV1, section 4.10.5) and returns the bytes it took.
// Four bytes of it are more than any packet has.
func leb128(p []byte) (v, used int, err error) {
	for i := range 4 {
		if i >= len(p) {
			return 0, 0, errAV1Short
		}
		v |= int(p[i]&0x7f) << (7 * i)
		if p[i]&0x80 == 0 {
			return v, i + 1, nil
		}
	}
	return 0, 0, errAV1Size
}

// sizeOfSequence reads a sequence header (AV1, section 5.5.1) as far as the size
// of the picture; 0 × 0 when it makes no sense.
func sizeOfSequence(p []byte) (width, height uint16) {
	b := bits{p: p}
	b.take(3) // profile
	b.one()   // still picture
	if b.one() != 0 {
		b.take(5) // level, in a reduced header
	} else {
		decoder, delay := false, 0
		if b.one() != 0 { // timing (section 5.5.3)
			b.take(32)
			b.take(32)
			if b.one() != 0 {
				b.golomb() // uvlc is the same code
			}
			if decoder = b.one() != 0; decoder { // decoder model (section 5.5.4)
				delay = int(b.take(5)) + 1
				b.take(32)
				b.take(10)
			}
		}
		initial := b.one() != 0
		for range b.take(5) + 1 { // operating points
			b.take(12)
			if b.take(5) > 7 {
				b.one() // tier
			}
			if decoder && b.one() != 0 {
				b.take(delay)
				b.take(delay)
				b.one()
			}
			if initial && b.one() != 0 {
				b.take(4)
			}
		}
	}
	w, h := int(b.take(4))+1, int(b.take(4))+1
	x, y := b.take(w)+1, b.take(h)+1
	if b.over || x > 0xffff || y > 0xffff {
		return 0, 0
	}
	return uint16(x), uint16(y)
}
