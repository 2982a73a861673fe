package cc

import (
	"encoding/binary"
	"fmt"
	"time"
)

// Units of transport-wide feedback.
const (
	tick    = 250 * time.Microsecond // of a receive delta
	refTick = 64 * time.Millisecond  // of the reference time

	// maxStatuses bounds the work that one packet of 40 bytes can ask for. It is
	// eight seconds at 1,000 packets per second.
	maxStatuses = 8192
)

// Feedback reads one packet of transport-wide feedback in order of sequence
// numbers, without a buffer of its own. The zero value has nothing.
type Feedback struct {
	Media   uint32 // SSRC; it means nothing, transport-wide
	Base    uint16 // sequence number of the first status
	Count   int    // statuses
	Ref     int32  // reference time, 24 bits signed, in units of 64 ms
	Packet  uint8  // counts feedback packets
	chunks  []byte
	deltas  []byte
	chunk   uint16
	left    int // statuses in chunk
	next    int // status that Next gives
	arrived time.Duration
}

// Status is what the receiver says of one packet.
type Status struct {
	Seq      uint16
	Received bool
	Arrived  time.Duration // on the receiver's clock, since the time of Ref 0
}

// ParseFeedback checks that chunks and deltas are complete, so that Next cannot
// run out of bytes (draft-holmer-rmcat-transport-wide-cc-extensions-01 section 3.1).
func ParseFeedback(p Packet) (f Feedback, err error) {
	b := p.Body
	if p.Type != TypeTransport || p.Format != FormatTransport {
		return f, fmt.Errorf("feedback: packet type %d format %d, want 205 and 15", p.Type, p.Format)
	}
	if len(b) < 12 {
		return f, fmt.Errorf("feedback: %d bytes after the sender, want 12", len(b))
	}
	f.Media = binary.BigEndian.Uint32(b)
	f.Base = binary.BigEndian.Uint16(b[4:])
	f.Count = int(binary.BigEndian.Uint16(b[6:]))
	f.Ref = int32(binary.BigEndian.Uint32(b[8:])) >> 8
	f.Packet = b[11]
	b = b[12:]
	if f.Count == 0 || f.Count > maxStatuses {
		return Feedback{}, fmt.Errorf("feedback: %d statuses, want 1 to %d", f.Count, maxStatuses)
	}
	f.chunks = b
	size, seen, at := 0, 0, 0
	for seen < f.Count {
		if len(b) < at+2 {
			return Feedback{}, fmt.Errorf("feedback: chunks end at status %d of %d", seen, f.Count)
		}
		c := binary.BigEndian.Uint16(b[at:])
		at += 2
		n := min(chunkLen(c), f.Count-seen)
		if n == 0 {
			return Feedback{}, fmt.Errorf("feedback: empty run at status %d of %d", seen, f.Count)
		}
		if c>>15 == 0 {
			size += n * deltaSize(symbol(c, 0))
		} else {
			for i := range n {
				size += deltaSize(symbol(c, i))
			}
		}
		seen += n
	}
	f.chunks, f.deltas = b[:at], b[at:]
	if size > len(f.deltas) {
		return Feedback{}, fmt.Errorf("feedback: %d bytes of deltas, want %d", len(f.deltas), size)
	}
	f.arrived = time.Duration(f.Ref) * refTick
	return f, nil
}

// Next gives the status of the next packet, and false after the last.
func (f *Feedback) Next() (s Status, ok bool) {
	if f.next >= f.Count {
		return s, false
	}
	if f.left == 0 {
		f.chunk = binary.BigEndian.Uint16(f.chunks)
		f.chunks = f.chunks[2:]
		f.left = chunkLen(f.chunk)
	}
	sym := symbol(f.chunk, chunkLen(f.chunk)-f.left)
	f.left--
	s.Seq = f.Base + uint16(f.next)
	f.next++
	switch sym {
	case symSmall:
		f.arrived += time.Duration(f.deltas[0]) * tick
		f.deltas = f.deltas[1:]
	case symLarge:
		f.arrived += time.Duration(int16(binary.BigEndian.Uint16(f.deltas))) * tick
		f.deltas = f.deltas[2:]
	default:
		return s, true
	}
	s.Received, s.Arrived = true, f.arrived
	return s, true
}

// Symbols of a status. The fourth is reserved; it is read as not received, as
// there is no delta for it.
const (
	symNone  = 0
	symSmall = 1 // a delta of one byte, unsigned
	symLarge = 2 // a delta of two bytes, signed
)

// chunkLen is how many statuses a chunk holds.
func chunkLen(c uint16) int {
	switch {
	case c>>15 == 0:
		return int(c & 0x1fff)
	case c>>14&1 == 0:
		return 14
	default:
		return 7
	}
}

// symbol is the i-th status of a chunk.
func symbol(c uint16, i int) uint16 {
	switch {
	case c>>15 == 0:
		return c >> 13 & 3
	case c>>14&1 == 0:
		return c >> (13 - i) & 1
	default:
		return c >> (12 - 2*i) & 3
	}
}

func deltaSize(sym uint16) int {
	if sym == symSmall || sym == symLarge {
		return int(sym)
	}
	return 0
}
