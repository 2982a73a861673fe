package cc

import (
	"encoding/binary"
	"time"
)

const (
	// arrivalRing is how far apart the sequence numbers of one feedback may be: a
	// second at 1,000 packets per second.
	arrivalRing = 1024

	// lateReports is how far back a late packet is still told of. What was reported
	// since then is told again with it, as libwebrtc does.
	lateReports = 256

	// strayLimit is how many packets in a row from outside the window make it move
	// back to them: a sender that started anew, not a stray packet.
	strayLimit = 32

	feedbackMin = 50 * time.Millisecond
	feedbackMax = 100 * time.Millisecond

	// feedbackBits is one feedback with IP, UDP and SRTCP around it. The interval is
	// chosen so that these are a twentieth of what arrives.
	feedbackBits  = 68 * 8
	feedbackShare = 20

	feedbackHeader = 20
)

// Arrivals records when packets of one transport arrived and makes its feedback.
// The ring of a publisher takes 4 KiB.
type Arrivals struct {
	ring   []uint32 // arrival in ticks, 0 for none
	start  int64    // first sequence number that was not reported
	end    int64    // behind the highest that arrived
	stray  int
	packet uint8

	built    time.Duration // when Build last ran, or the first packet came
	interval time.Duration
	bytes    int // since built
}

// Add records a packet's transport-wide sequence number, when it arrived and how
// many bytes it had. Duplicates count once.
func (a *Arrivals) Add(now time.Duration, seq uint16, size int) {
	at := uint32(now / tick)
	if at == 0 {
		at = 1 // 0 is "did not arrive"; a quarter of a millisecond once in 12 days
	}
	if a.ring == nil {
		a.ring = make([]uint32, arrivalRing)
		a.built, a.interval = now, feedbackMax
		a.restart(int64(seq) + 1<<16) // far from 0, so that earlier ones have a place
	}
	if a.start == a.end && a.bytes == 0 && now-a.built > feedbackMax {
		a.built = now - a.interval // after silence the first packet does not wait
	}
	a.bytes += size
	last := a.end - 1
	u := last + int64(int16(seq-uint16(last)))
	switch {
	case u >= a.end+arrivalRing:
		a.restart(u)
	case u >= a.end:
		for i := a.end; i <= u; i++ {
			a.ring[i%arrivalRing] = 0
		}
		a.end = u + 1
		a.start = max(a.start, a.end-arrivalRing)
	case u < a.end-lateReports:
		if a.stray++; a.stray < strayLimit {
			return
		}
		a.restart(u)
	case a.ring[u%arrivalRing] != 0:
		return
	default:
		a.start = min(a.start, u)
	}
	a.stray = 0
	a.ring[u%arrivalRing] = at
}

// restart forgets everything and expects u.
func (a *Arrivals) restart(u int64) {
	clear(a.ring)
	if u < arrivalRing {
		u += 1 << 16
	}
	a.start, a.end, a.stray = u, u+1, 0
}

// Next is when Build should be called, 0 when there is nothing to tell.
func (a *Arrivals) Next() time.Duration {
	if a.start == a.end {
		return 0
	}
	return max(a.built+a.interval, 1)
}

// Due reports whether Build should be called now.
func (a *Arrivals) Due(now time.Duration) bool {
	return a.start != a.end && now >= a.built+a.interval
}

// Build writes one RTCP feedback packet into buf and gives its length, 0 when
// there is nothing to tell or buf is under 64 bytes. Call it until it gives 0: a
// long story takes several packets.
func (a *Arrivals) Build(now time.Duration, buf []byte, sender, media uint32) int {
	a.pace(now)
	if a.start == a.end || len(buf) < 64 {
		return 0
	}
	var (
		syms   [arrivalRing]uint8
		deltas [arrivalRing]int16
		n      int // statuses up to the last that arrived
		seen   int
		size   int // of deltas up to n
		prev   uint32
		ref    uint32
	)
	for u := a.start; u < a.end; u++ {
		at := a.ring[u%arrivalRing]
		if at == 0 {
			syms[seen] = symNone
			seen++
			continue
		}
		if n == 0 {
			ref = at >> 8
			prev = ref << 8
		}
		d := int32(at - prev)
		if d != int32(int16(d)) {
			break // eight seconds apart: another packet with another reference
		}
		sym := uint8(symLarge)
		if d >= 0 && d <= 255 {
			sym = symSmall
		}
		if feedbackHeader+2*((seen+1)/7+1)+size+int(sym)+3 > len(buf) {
			break
		}
		syms[seen], deltas[seen] = sym, int16(d)
		size += int(sym)
		seen++
		n, prev = seen, at
	}
	if n == 0 {
		// Only a first packet that lies too far behind gaps for the buffer, which 64
		// bytes exclude up to 140 of them: leave out the gaps.
		for a.ring[a.start%arrivalRing] == 0 {
			a.start++
		}
		return a.Build(now, buf, sender, media)
	}
	b := append(buf[:0], 0x80|FormatTransport, TypeTransport, 0, 0)
	b = binary.BigEndian.AppendUint32(b, sender)
	b = binary.BigEndian.AppendUint32(b, media)
	b = binary.BigEndian.AppendUint16(b, uint16(a.start))
	b = binary.BigEndian.AppendUint16(b, uint16(n))
	b = binary.BigEndian.AppendUint32(b, ref<<8|uint32(a.packet))
	for s := syms[:n]; len(s) > 0; {
		c, used := nextChunk(s)
		b = binary.BigEndian.AppendUint16(b, c)
		s = s[used:]
	}
	for i, sym := range syms[:n] {
		switch sym {
		case symSmall:
			b = append(b, byte(deltas[i]))
		case symLarge:
			b = binary.BigEndian.AppendUint16(b, uint16(deltas[i]))
		}
	}
	if pad := -len(b) & 3; pad > 0 {
		b[0] |= 0x20
		b = append(b, 0, 0, 0)[:len(b)+pad]
		b[len(b)-1] = byte(pad)
	}
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)/4-1))
	a.packet++
	a.start += int64(n)
	return len(b)
}

// nextChunk packs statuses: a run where it is longer than the vector would be,
// else a vector of one bit or of two.
func nextChunk(s []uint8) (chunk uint16, used int) {
	run, small := 1, true
	for run < len(s) && s[run] == s[0] && run < 0x1fff {
		run++
	}
	for _, sym := range s[:min(14, len(s))] {
		small = small && sym != symLarge
	}
	switch {
	case run >= 14 || run == len(s) || run >= 7 && !small:
		return uint16(s[0])<<13 | uint16(run), run
	case small:
		used = min(14, len(s))
		for i, sym := range s[:used] {
			chunk |= uint16(sym) << (13 - i)
		}
		return 1<<15 | chunk, used
	default:
		used = min(7, len(s))
		for i, sym := range s[:used] {
			chunk |= uint16(sym) << (12 - 2*i)
		}
		return 3<<14 | chunk, used
	}
}

// pace sets the interval to the next feedback by what arrived since the last.
func (a *Arrivals) pace(now time.Duration) {
	took := now - a.built
	if a.bytes > 0 && took > 0 {
		rate := int64(a.bytes) * 8 * int64(time.Second) / int64(took)
		want := time.Duration(feedbackBits * feedbackShare * int64(time.Second) / max(rate, 1))
		a.interval = min(max(want, feedbackMin), feedbackMax)
	}
	a.built, a.bytes = now, 0
}
