package carrier

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/parley-meet/parley/services/internal/bus"
	"github.com/parley-meet/parley/services/internal/signal"
)

// kind is a message's first byte. The controller's boot follows in each message
// but those about meetings, which are JSON:
//
//	frame   kind boot link serial part parts flags payload
//	cut     kind boot link
//	alive   kind boot
//	end     kind JSON of end
//	keep    kind JSON of keep
//	who     kind; a request, answered with the router's boot
//	meet    kind JSON of Meet; a request, answered with the router's boot
//	ask     kind, length and JSON of Ask, body; a request, answered with the same of
//	        Answer
//
// Numbers are big-endian. The payloads of a frame's parts, put together, are the
// frame, after the length and JSON of a Meet where flagMeet is set.
type kind byte

const (
	kindFrame kind = 'f'
	kindCut   kind = 'c'
	kindAlive kind = 'a'
	kindEnd   kind = 'e'
	kindKeep  kind = 'k'
	kindWho   kind = 'w'
	kindMeet  kind = 'm'
	kindAsk   kind = 'h'
)

const (
	flagMeet = 1 << iota // controllers' frames: a Meet comes first
	flagLast             // routers' frames: the link ends after it
	flagsAll = flagMeet | flagLast
)

const (
	aliveSize = 1 + 8
	cutSize   = aliveSize + 8
	frameSize = cutSize + 4 + 1 + 1 + 1
	// partSize is the longest payload.
	partSize = bus.MaxData - frameSize
	maxBlob  = signal.MaxFrame + MaxKept + 1024
	maxParts = (maxBlob + partSize - 1) / partSize
)

// address is a link as messages name it.
type address struct {
	boot, link uint64
}

// message is one of the bus, of the kinds that have a boot.
type message struct {
	kind kind
	address
	serial      uint32 // of the frame, in its link and direction
	part, parts byte
	flags       byte
	payload     []byte // of the message that it was read from
}

// end says that a meeting runs at another router, with a higher epoch.
type end struct {
	Meeting string `json:"meeting"`
	Epoch   uint64 `json:"epoch"` // of that
}

// keep is what outlives a router.
type keep struct {
	Meeting string          `json:"meeting"`
	Epoch   uint64          `json:"epoch"`
	Over    bool            `json:"over,omitempty"`
	Kept    json.RawMessage `json:"kept,omitempty"` // meeting.Kept
}

// bytes writes a message.
func (m message) bytes() []byte {
	b := make([]byte, 0, frameSize+len(m.payload))
	b = append(b, byte(m.kind))
	b = binary.BigEndian.AppendUint64(b, m.boot)
	if m.kind == kindAlive {
		return b
	}
	b = binary.BigEndian.AppendUint64(b, m.link)
	if m.kind == kindCut {
		return b
	}
	b = binary.BigEndian.AppendUint32(b, m.serial)
	b = append(b, m.part, m.parts, m.flags)
	return append(b, m.payload...)
}

// parse reads a message of the kinds that have a boot.
func parse(b []byte) (message, error) {
	if len(b) < aliveSize {
		return message{}, fmt.Errorf("carrier: message of %d bytes", len(b))
	}
	m := message{kind: kind(b[0])}
	m.boot = binary.BigEndian.Uint64(b[1:])
	switch m.kind {
	case kindAlive:
		if len(b) != aliveSize {
			return message{}, fmt.Errorf("carrier: alive of %d bytes", len(b))
		}
		return m, nil
	case kindCut:
		if len(b) != cutSize {
			return message{}, fmt.Errorf("carrier: cut of %d bytes", len(b))
		}
		m.link = binary.BigEndian.Uint64(b[aliveSize:])
		return m, nil
	case kindFrame:
	default:
		return message{}, fmt.Errorf("carrier: message of kind %#x", b[0])
	}
	if len(b) < frameSize {
		return message{}, fmt.Errorf("carrier: frame of %d bytes", len(b))
	}
	m.link = binary.BigEndian.Uint64(b[aliveSize:])
	m.serial = binary.BigEndian.Uint32(b[cutSize:])
	m.part, m.parts, m.flags = b[cutSize+4], b[cutSize+5], b[cutSize+6]
	m.payload = b[frameSize:]
	switch {
	case m.parts == 0 || m.parts > maxParts || m.part >= m.parts:
		return message{}, fmt.Errorf("carrier: part %d of %d", m.part, m.parts)
	case m.flags&^flagsAll != 0:
		return message{}, fmt.Errorf("carrier: flags %#x", m.flags)
	case len(m.payload) > partSize || len(m.payload) < partSize && m.part+1 < m.parts:
		return message{}, fmt.Errorf("carrier: part %d of %d with %d bytes", m.part, m.parts, len(m.payload))
	}
	return m, nil
}

// split makes the messages of a frame.
func split(a address, serial uint32, flags byte, blob []byte) ([][]byte, error) {
	if len(blob) > maxBlob {
		return nil, fmt.Errorf("carrier: frame of %d bytes, want %d at most", len(blob), maxBlob)
	}
	n := max(1, (len(blob)+partSize-1)/partSize)
	out := make([][]byte, 0, n)
	for i := range n {
		part := blob[i*partSize : min(len(blob), (i+1)*partSize)]
		out = append(out, message{kindFrame, a, serial, byte(i), byte(n), flags, part}.bytes())
	}
	return out, nil
}

// withMeet puts a Meet before a frame.
func withMeet(meet, frame []byte) []byte {
	b := make([]byte, 0, binary.MaxVarintLen32+len(meet)+len(frame))
	b = binary.AppendUvarint(b, uint64(len(meet)))
	return append(append(b, meet...), frame...)
}

// errMeet is of a frame whose Meet, or other head, is not understood.
var errMeet = errors.New("carrier: a frame whose head is not understood")

// cutMeet takes it off again.
func cutMeet(b []byte) (m Meet, frame []byte, err error) {
	head, frame, err := cutHead(b)
	if err == nil {
		m, err = parseMeet(head)
	}
	return m, frame, err
}

// cutHead returns the JSON that stands before a frame or body.
func cutHead(b []byte) (head, rest []byte, err error) {
	n, size := binary.Uvarint(b)
	if size <= 0 || n > uint64(len(b)-size) {
		return nil, nil, errMeet
	}
	b = b[size:]
	return b[:n], b[n:], nil
}

func parseMeet(b []byte) (m Meet, err error) {
	if err := json.Unmarshal(b, &m); err != nil {
		return Meet{}, fmt.Errorf("%w: %w", errMeet, err)
	}
	if m.Meeting == "" || len(m.Meeting) > maxMeeting {
		return Meet{}, fmt.Errorf("%w: its id is %q", errMeet, m.Meeting)
	}
	return m, nil
}

// assembly puts the parts of a link's frames together, one frame at a time.
type assembly struct {
	serial uint32
	have   byte
	data   []byte
}

// add takes a message, and returns the frame when it is whole. room says whether
// so many bytes more may be held; lost is whether a frame was given up.
func (a *assembly) add(m message, room func(int) bool) (blob []byte, whole, lost bool) {
	if m.parts == 1 {
		lost = a.have > 0
		a.reset()
		return m.payload, true, lost
	}
	if a.have > 0 && a.serial == m.serial && m.part < a.have {
		return nil, false, false // a second time
	}
	if a.have > 0 && (a.serial != m.serial || m.part != a.have) {
		lost = true
		a.reset()
	}
	if a.have == 0 && m.part > 0 {
		return nil, false, lost || m.part+1 == m.parts
	}
	if !room(len(m.payload)) {
		a.reset()
		return nil, false, true
	}
	a.serial, a.have = m.serial, m.part+1
	a.data = append(a.data, m.payload...)
	if a.have < m.parts {
		return nil, false, lost
	}
	blob = a.data
	a.reset()
	return blob, true, lost
}

func (a *assembly) reset() { a.have, a.data = 0, nil }
