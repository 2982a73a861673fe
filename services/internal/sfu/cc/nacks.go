package cc

import (
	"encoding/binary"
	"slices"
	"time"
)

const (
	nackMissing = 1000 // entries; more is not a gap but a break
	nackTries   = 10
	nackAge     = time.Second
	nackWait    = 20 * time.Millisecond // for a packet that was overtaken
	nackSlack   = 32                    // packets that may overtake one
	nackRetry   = 10 * time.Millisecond // above a round trip: the answer is paced too
	nackFirst   = 100 * time.Millisecond
)

// Nacks finds what is missing of one incoming stream and asks for it again. A
// packet is asked for when more packets than usual have overtaken it, or 20 ms
// after; again after each round trip; and given up after 10 times or a second.
// A given-up packet, or a gap over 1,000, needs a keyframe.
type Nacks struct {
	missing []missing // by sequence number
	highest int64
	started bool
	slack   int64 // how many packets usually overtake a late one
	calm    int   // packets since slack last grew
	stray   int
	rtt     time.Duration
	needKey bool
}

type missing struct {
	seq   int64
	since time.Duration
	asked time.Duration
	tries int
}

// Received records a packet of the stream. Key says that a keyframe begins with
// it: nothing before it is needed any more.
func (n *Nacks) Received(now time.Duration, seq uint16, key bool) {
	if !n.started {
		n.started, n.highest = true, int64(seq)
		return
	}
	u := n.highest + int64(int16(seq-uint16(n.highest)))
	switch {
	case u > n.highest+nackMissing:
		n.restart(u)
	case u > n.highest:
		for s := n.highest + 1; s < u; s++ {
			n.missing = append(n.missing, missing{seq: s, since: now})
		}
		n.highest = u
		if len(n.missing) > nackMissing {
			n.restart(u)
		}
		if n.calm++; n.calm > 1000 && n.slack > 0 {
			n.slack, n.calm = n.slack-1, 0
		}
	case u < n.highest-nackMissing:
		// Much too late, or a stream that begins anew further back.
		if n.stray++; n.stray < strayLimit {
			return
		}
		n.restart(u)
	case u < n.highest:
		n.late(now, u)
	}
	n.stray = 0
	if key {
		i, _ := n.find(u)
		n.missing = append(n.missing[:0], n.missing[i:]...)
		n.needKey = false
	}
}

// Recovered records a packet that came by retransmission (RFC 4588), by its
// original sequence number.
func (n *Nacks) Recovered(seq uint16) {
	if i, ok := n.find(n.highest + int64(int16(seq-uint16(n.highest)))); ok {
		n.missing = slices.Delete(n.missing, i, i+1)
	}
}

// late takes a packet off the list and learns how much the way reorders.
func (n *Nacks) late(now time.Duration, u int64) {
	i, ok := n.find(u)
	if !ok {
		return
	}
	// An answer to our question takes at least a round trip.
	if m := n.missing[i]; m.tries == 0 || m.tries == 1 && now-m.asked < n.rtt/2 {
		if depth := n.highest - u; depth > n.slack {
			n.slack, n.calm = min(depth, nackSlack), 0
		}
	}
	n.missing = slices.Delete(n.missing, i, i+1)
}

func (n *Nacks) restart(u int64) {
	n.missing = n.missing[:0]
	n.highest, n.needKey, n.stray = u, true, 0
}

func (n *Nacks) find(u int64) (int, bool) {
	// The usual case is an empty list or its end.
	if l := len(n.missing); l == 0 || n.missing[l-1].seq < u {
		return l, false
	}
	return slices.BinarySearchFunc(n.missing, u, func(m missing, u int64) int {
		return int(m.seq - u)
	})
}

// NeedKeyframe reports that the stream cannot be made whole by asking again. It
// stays so until a keyframe begins.
func (n *Nacks) NeedKeyframe() bool { return n.needKey }

// Missing is how many packets are awaited.
func (n *Nacks) Missing() int { return len(n.missing) }

// Next is when Build may have something to ask, 0 when nothing is missing.
func (n *Nacks) Next() time.Duration {
	var next time.Duration
	for i := range n.missing {
		if at := n.due(&n.missing[i]); next == 0 || at < next {
			next = at
		}
	}
	return next
}

// due is when a packet is to be asked for, 1 for at once.
func (n *Nacks) due(m *missing) time.Duration {
	switch {
	case m.tries > 0:
		return max(m.asked+n.retry(), 1)
	case n.highest-m.seq > n.slack:
		return 1
	default:
		return max(m.since+nackWait, 1)
	}
}

func (n *Nacks) retry() time.Duration {
	if n.rtt == 0 {
		return nackFirst
	}
	return n.rtt + nackRetry
}

// Build writes an RTCP generic NACK for all that is due and gives its length, 0
// when nothing is. What does not fit into buf is due at the next call. The round
// trip is to the sender of the stream, 0 when it is not known.
func (n *Nacks) Build(now, rtt time.Duration, buf []byte, sender, media uint32) int {
	if len(n.missing) == 0 || len(buf) < 16 {
		return 0
	}
	n.rtt = rtt
	b := append(buf[:0], 0x80|FormatNack, TypeTransport, 0, 0)
	b = binary.BigEndian.AppendUint32(b, sender)
	b = binary.BigEndian.AppendUint32(b, media)
	var (
		pair int64 // first sequence number of the open pair
		mask uint16
		kept int
	)
	for i := range n.missing {
		m := n.missing[i]
		if m.tries >= nackTries && now >= m.asked+n.retry() || now-m.since > nackAge {
			n.needKey = true
			continue
		}
		if max(now, 1) >= n.due(&m) {
			d := m.seq - pair
			switch {
			case len(b) > 12 && d <= 16:
				mask |= 1 << (d - 1)
				binary.BigEndian.PutUint16(b[len(b)-2:], mask)
				m.tries, m.asked = m.tries+1, now
			case len(b)+4 <= len(buf):
				pair, mask = m.seq, 0
				b = binary.BigEndian.AppendUint16(b, uint16(m.seq))
				b = append(b, 0, 0)
				m.tries, m.asked = m.tries+1, now
			}
		}
		n.missing[kept] = m
		kept++
	}
	n.missing = n.missing[:kept]
	if len(b) == 12 {
		return 0
	}
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)/4-1))
	return len(b)
}
