package codec

// bits reads a header bit by bit. Past the end it gives zeros and remembers it.
// With h264 set it passes over the bytes that emulation prevention put in.
type bits struct {
	p    []byte
	at   int  // byte
	bit  uint // of that byte, 0 is the highest
	h264 bool
	over bool // there was no more
}

func (b *bits) one() uint32 {
	if b.bit == 0 && b.h264 && b.at >= 2 && b.at < len(b.p) && b.p[b.at] == 3 && b.p[b.at-1] == 0 && b.p[b.at-2] == 0 {
		b.at++
	}
	if b.at >= len(b.p) {
		b.over = true
		return 0
	}
	v := uint32(b.p[b.at]>>(7-b.bit)) & 1
	if b.bit++; b.bit == 8 {
		b.bit = 0
		b.at++
	}
	return v
}

// take reads n bits, 32 at most.
func (b *bits) take(n int) uint32 {
	var v uint32
	for range n {
		v = v<<1 | b.one()
	}
	return v
}

// golomb reads ue(v) (H.264, section 9.1).
func (b *bits) golomb() uint32 {
	n := 0
	for b.one() == 0 {
		if n++; n > 31 || b.over {
			b.over = true
			return 0
		}
	}
	return 1<<n - 1 + b.take(n)
}

// signed reads se(v).
func (b *bits) signed() int32 {
	v := b.golomb()
	if v&1 != 0 {
		return int32(v/2 + 1)
	}
	return -int32(v / 2)
}
