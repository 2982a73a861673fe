package room

import "encoding/binary"

// header is what an RTP packet (RFC 3550, 5.1) says, as far as a router cares.
type header struct {
	pt      uint8
	marker  bool
	seq     uint16
	ts      uint32
	ssrc    uint32
	payload []byte // without padding

	// Of the header's extensions (RFC 8285); what is absent is nil or not had.
	hasTWCC  bool
	twcc     uint16
	hasLevel bool
	level    uint8 // -dBov, 0 is the loudest
	mid      []byte
	rid      []byte
	repaired []byte
}

// extensions are the ids that a peer uses for them; 0 is none.
type extensions struct {
	twcc, level, mid, rid, repaired uint8
}

// parse reads a packet. It keeps slices of b, and says no to what is no RTP packet.
func (h *header) parse(b []byte, ids *extensions) bool {
	if len(b) < 12 || b[0]>>6 != 2 {
		return false
	}
	*h = header{
		pt:     b[1] & 0x7f,
		marker: b[1]&0x80 != 0,
		seq:    binary.BigEndian.Uint16(b[2:]),
		ts:     binary.BigEndian.Uint32(b[4:]),
		ssrc:   binary.BigEndian.Uint32(b[8:]),
	}
	at := 12 + 4*int(b[0]&0x0f)
	if b[0]&0x10 != 0 {
		if at+4 > len(b) {
			return false
		}
		profile := binary.BigEndian.Uint16(b[at:])
		end := at + 4 + 4*int(binary.BigEndian.Uint16(b[at+2:]))
		if end > len(b) {
			return false
		}
		switch {
		case profile == 0xBEDE:
			h.oneByte(b[at+4:end], ids)
		case profile&0xfff0 == 0x1000:
			h.twoByte(b[at+4:end], ids)
		}
		at = end
	}
	end := len(b)
	if b[0]&0x20 != 0 {
		if end == at || int(b[end-1]) > end-at || b[end-1] == 0 {
			return false
		}
		end -= int(b[end-1])
	}
	if at > end {
		return false
	}
	h.payload = b[at:end]
	return true
}

func (h *header) oneByte(b []byte, ids *extensions) {
	for len(b) > 0 {
		if b[0] == 0 {
			b = b[1:]
			continue
		}
		id, n := b[0]>>4, int(b[0]&0x0f)+1
		if id == 15 || 1+n > len(b) {
			return
		}
		h.extension(id, b[1:1+n], ids)
		b = b[1+n:]
	}
}

func (h *header) twoByte(b []byte, ids *extensions) {
	for len(b) > 0 {
		if b[0] == 0 {
			b = b[1:]
			continue
		}
		if len(b) < 2 || 2+int(b[1]) > len(b) {
			return
		}
		n := int(b[1])
		h.extension(b[0], b[2:2+n], ids)
		b = b[2+n:]
	}
}

func (h *header) extension(id uint8, v []byte, ids *extensions) {
	switch id {
	case 0:
	case ids.twcc:
		if len(v) == 2 {
			h.hasTWCC, h.twcc = true, binary.BigEndian.Uint16(v)
		}
	case ids.level:
		if len(v) == 1 {
			h.hasLevel, h.level = true, v[0]&0x7f
		}
	case ids.mid:
		h.mid = v
	case ids.rid:
		h.rid = v
	case ids.repaired:
		h.repaired = v
	}
}

// outHeader is what Slot.write needs to begin a packet.
type outHeader struct {
	pt       uint8
	marker   bool
	padded   bool
	ts       uint32
	twccID   uint8 // 0: none
	twcc     uint16
	levelID  uint8 // 0: none
	level    uint8
	sequence uint16 // written by SealRTP, and SSRC likewise
}

// maxOutHeader is the longest header that put writes, bytes.
const maxOutHeader = 12 + 4 + 8

// put writes the header into b and returns its length.
func (h *outHeader) put(b []byte) int {
	b[0] = 0x80
	if h.padded {
		b[0] |= 0x20
	}
	b[1] = h.pt
	if h.marker {
		b[1] |= 0x80
	}
	binary.BigEndian.PutUint16(b[2:], h.sequence)
	binary.BigEndian.PutUint32(b[4:], h.ts)
	binary.BigEndian.PutUint32(b[8:], 0)
	if h.twccID == 0 && h.levelID == 0 {
		return 12
	}
	b[0] |= 0x10
	at := 16
	if h.twccID != 0 {
		b[at] = h.twccID<<4 | 1
		binary.BigEndian.PutUint16(b[at+1:], h.twcc)
		at += 3
	}
	if h.levelID != 0 {
		b[at] = h.levelID << 4
		b[at+1] = h.level
		at += 2
	}
	for at%4 != 0 {
		b[at] = 0
		at++
	}
	binary.BigEndian.PutUint16(b[12:], 0xBEDE)
	binary.BigEndian.PutUint16(b[14:], uint16((at-16)/4))
	return at
}
