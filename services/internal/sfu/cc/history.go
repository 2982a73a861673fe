package cc

import "time"

// historySize is the number of packets whose feedback is awaited: two seconds at
// 10 Mbit/s.
const historySize = 2048

// history remembers what was sent, by transport-wide sequence number. An entry is
// 8 bytes, the ring of a subscriber 16 KiB.
type history struct {
	ring []sentPacket // nil until the first packet
	next int64        // unwrapped sequence number of the next packet
}

type sentPacket struct {
	at      uint32 // low bits of microseconds; they wrap after 71 minutes
	size    uint16
	cluster uint8 // of a probe, 0 for none
	state   uint8
}

// What is known of a sent packet. One that was reported lost can still arrive.
const (
	sentUnknown = iota
	sentLost
	sentReceived
)

func (h *history) add(now time.Duration, size int, cluster uint8) uint16 {
	if h.ring == nil {
		h.ring = make([]sentPacket, historySize)
	}
	seq := h.next
	h.ring[seq%historySize] = sentPacket{
		at: uint32(now / time.Microsecond), size: uint16(min(size, 65535)), cluster: cluster,
	}
	h.next++
	return uint16(seq)
}

// find gives the newest sent packet with that sequence number, or nil when it is
// too long ago or was never sent.
func (h *history) find(seq uint16) *sentPacket {
	if h.next == 0 {
		return nil
	}
	last := h.next - 1
	back := int64(uint16(last) - seq)
	if back >= historySize || back > last {
		return nil
	}
	return &h.ring[(last-back)%historySize]
}

// sentAt is when the packet was sent.
func (s *sentPacket) sentAt(now time.Duration) time.Duration {
	us := now / time.Microsecond
	return (us - time.Duration(uint32(us)-s.at)) * time.Microsecond
}
