package bus

import (
	"encoding/binary"
	"fmt"
)

// headerSize is how many bytes stand before a message's data: a version, a kind,
// and three numbers of 8 bytes, big-endian.
const headerSize = 2 + 3*8

const frameVersion = 1

// kind says what a frame is.
type kind byte

const (
	kindPlain   kind = 1
	kindRequest kind = 2 // an answer is awaited
	kindReply   kind = 3
)

// frame is a message on the wire, beside its subject.
type frame struct {
	kind   kind
	boot   uint64 // random, new with each start of the author
	number uint64 // from 1, of the author's messages since then
	ref    uint64 // of a reply: number of the request
	data   []byte
}

// bytes returns the frame as it is sent.
func (f frame) bytes() []byte {
	b := make([]byte, headerSize, headerSize+len(f.data))
	b[0], b[1] = frameVersion, byte(f.kind)
	binary.BigEndian.PutUint64(b[2:], f.boot)
	binary.BigEndian.PutUint64(b[10:], f.number)
	binary.BigEndian.PutUint64(b[18:], f.ref)
	return append(b, f.data...)
}

// parseFrame reads a frame; its data is a part of b.
func parseFrame(b []byte) (frame, error) {
	if len(b) < headerSize || len(b) > MaxPayload {
		return frame{}, fmt.Errorf("frame of %d bytes, want %d to %d", len(b), headerSize, MaxPayload)
	}
	if b[0] != frameVersion {
		return frame{}, fmt.Errorf("frame of version %d, want %d", b[0], frameVersion)
	}
	f := frame{kind(b[1]), binary.BigEndian.Uint64(b[2:]), binary.BigEndian.Uint64(b[10:]), binary.BigEndian.Uint64(b[18:]), b[headerSize:]}
	if f.kind < kindPlain || f.kind > kindReply {
		return frame{}, fmt.Errorf("frame of kind %d", f.kind)
	}
	if f.number == 0 || (f.kind == kindReply) != (f.ref != 0) {
		return frame{}, fmt.Errorf("frame of kind %d with the numbers %d and %d", f.kind, f.number, f.ref)
	}
	return f, nil
}
