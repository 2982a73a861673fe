package cc

import "time"

// Class is how a packet is paced.
type Class uint8

const (
	Audio  Class = iota // never waits; what it took is missing to the others
	Resend              // before video; dropped silently, it is asked for again
	Video
)

// Item is one packet with what the pacer must know of it.
type Item[T any] struct {
	Packet T
	Size   int
	Stream uint32 // of video: what a dropped frame breaks
	Class  Class
	Key    bool // part of a keyframe
	First  bool // the first packet of its frame
}

// Verdict is what becomes of an offered packet.
type Verdict uint8

const (
	Send    Verdict = iota // the caller sends it now
	Queued                 // Pop gives it later
	Dropped                // its stream waits for a keyframe
)

// PacerLimits bound a queue. Zero means the default.
type PacerLimits struct {
	Bytes   int           // 1 MiB
	Packets int           // 4,096
	Wait    time.Duration // 500 ms
}

// Pacer spreads what one subscriber gets, and queues what may not leave yet.
//
// Budget: a bucket that fills at 1.5 times the rate, at 2.5 times once the oldest
// packet has waited for 100 ms, and holds 40 ms of that: a frame that the rate
// carries leaves as one burst. A keyframe may overdraw it by 100 ms. A packet
// leaves while the bucket is not empty, so one always overdraws it a little. No
// more than 600 ms are ever owed.
//
// Drop policy: when the queue exceeds its bytes or packets, or its oldest video
// has waited too long, the oldest frame goes, with what depends on it: the frames
// of the same stream up to the next keyframe. If that is not in the queue, the
// stream is broken: Broken names it so that a keyframe is asked for, and its
// packets are dropped until one begins. Resends have a quarter of the bytes, and
// the oldest go first.
type Pacer[T any] struct {
	limits PacerLimits
	rate   int64 // bit/s
	tokens int64 // bits × 1e9, so that filling needs no division
	last   time.Duration
	video  queue[T]
	resend queue[T]
	broken []brokenStream
	drops  uint64
}

type brokenStream struct {
	stream uint32
	told   bool
}

const (
	paceNormal = 3 // halves of the rate
	paceLate   = 5

	paceBurst    = 40 * time.Millisecond
	paceKey      = 100 * time.Millisecond
	paceLateFrom = 100 * time.Millisecond

	paceFloor = 3000 // bytes that the bucket holds at the least, two packets
	paceMin   = 10_000
	paceMax   = 1_000_000_000
	paceDebt  = 600 * time.Millisecond // of the rate; it is paid within 400
	paceFill  = time.Second            // more than that, and no overflow at paceMax

	bitUnit = int64(time.Second)
)

// NewPacer gives a pacer with a full bucket. The rate is in bit/s.
func NewPacer[T any](l PacerLimits, rate int64) *Pacer[T] {
	if l.Bytes == 0 {
		l.Bytes = 1 << 20
	}
	if l.Packets == 0 {
		l.Packets = 4096
	}
	if l.Wait == 0 {
		l.Wait = 500 * time.Millisecond
	}
	p := &Pacer[T]{limits: l}
	p.rate = min(max(rate, paceMin), paceMax)
	p.tokens = p.room()
	return p
}

// SetRate changes the rate, in bit/s: Target of the estimator. It stays between
// 10 kbit/s and 1 Gbit/s.
func (p *Pacer[T]) SetRate(now time.Duration, rate int64) {
	p.fill(now)
	p.rate = min(max(rate, paceMin), paceMax)
	p.tokens = max(min(p.tokens, p.room()), -p.rate*int64(paceDebt))
}

// room is what the bucket holds at most.
func (p *Pacer[T]) room() int64 {
	return max(p.rate*paceNormal/2*int64(paceBurst), paceFloor*8*bitUnit)
}

func (p *Pacer[T]) fill(now time.Duration) {
	d := now - p.last
	if d <= 0 {
		return
	}
	p.last = now
	d = min(d, paceFill)
	p.tokens = min(p.tokens+int64(d)*p.rate*p.halves(now)/2, p.room())
}

// halves is how fast the bucket fills, in halves of the rate.
func (p *Pacer[T]) halves(now time.Duration) int64 {
	if p.video.n > 0 && now-p.video.head().at > paceLateFrom {
		return paceLate
	}
	return paceNormal
}

// may reports whether a packet may leave, after fill.
func (p *Pacer[T]) may(key bool) bool {
	return p.tokens > 0 || key && p.tokens > -p.rate*int64(paceKey)
}

func (p *Pacer[T]) pay(size int) {
	p.tokens = max(p.tokens-int64(size)*8*bitUnit, -p.rate*int64(paceDebt))
}

// Offer takes a packet in the order of its stream. On Queued it is kept: see Next.
func (p *Pacer[T]) Offer(now time.Duration, it Item[T]) Verdict {
	p.fill(now)
	switch it.Class {
	case Audio:
		p.pay(it.Size)
		return Send
	case Resend:
		if p.resend.n == 0 && p.may(false) {
			p.pay(it.Size)
			return Send
		}
		p.resend.push(now, it)
		for p.resend.bytes > p.limits.Bytes/4 || p.resend.n > p.limits.Packets/4 {
			p.resend.pop()
			p.drops++
		}
		return Queued
	}
	if len(p.broken) > 0 && !p.heals(it) {
		p.drops++
		return Dropped
	}
	if p.video.n == 0 && p.resend.n == 0 && p.may(it.Key) {
		p.pay(it.Size)
		return Send
	}
	p.video.push(now, it)
	for p.video.bytes > p.limits.Bytes || p.video.n > p.limits.Packets {
		p.dropOldest()
	}
	// What was just queued may have gone with an older frame.
	if len(p.broken) > 0 && p.isBroken(it.Stream) {
		return Dropped
	}
	return Queued
}

// Pop gives the next packet that may leave now.
func (p *Pacer[T]) Pop(now time.Duration) (it Item[T], ok bool) {
	p.fill(now)
	for p.video.n > 0 && now-p.video.head().at > p.limits.Wait {
		p.dropOldest()
	}
	q := &p.resend
	if q.n == 0 {
		q = &p.video
	}
	if q.n == 0 || !p.may(q.head().Key && q == &p.video) {
		return it, false
	}
	it = q.pop()
	p.pay(it.Size)
	return it, true
}

// Next is when Pop may give a packet, 0 when nothing is queued. A time that has
// passed means now.
func (p *Pacer[T]) Next() time.Duration {
	debt := -p.tokens
	switch {
	case p.resend.n > 0:
	case p.video.n > 0:
		if p.video.head().Key {
			debt -= p.rate * int64(paceKey)
		}
	default:
		return 0
	}
	if debt < 0 {
		return max(p.last, 1)
	}
	return p.last + time.Duration(2*debt/(p.rate*p.halves(p.last))) + 2
}

// Broken gives a stream that lost a frame in the queue, once: ask its source for a
// keyframe.
func (p *Pacer[T]) Broken() (stream uint32, ok bool) {
	for i := range p.broken {
		if b := &p.broken[i]; !b.told {
			b.told = true
			return b.stream, true
		}
	}
	return 0, false
}

// Forget drops what is queued of a stream and forgets that it is broken: its slot
// shows something else now.
func (p *Pacer[T]) Forget(stream uint32) {
	p.drops += uint64(p.video.drop(stream, false))
	p.mend(stream)
}

// PacerStats are for logs and metrics.
type PacerStats struct {
	Packets int           // queued
	Bytes   int           // queued
	Oldest  time.Duration // when the oldest queued packet came, 0 without one
	Dropped uint64        // packets, since the beginning
}

// Stats tells the state of the queue.
func (p *Pacer[T]) Stats() PacerStats {
	s := PacerStats{Packets: p.video.n + p.resend.n, Bytes: p.video.bytes + p.resend.bytes, Dropped: p.drops}
	if p.video.n > 0 {
		s.Oldest = p.video.head().at
	}
	if p.resend.n > 0 && (p.video.n == 0 || p.resend.head().at < s.Oldest) {
		s.Oldest = p.resend.head().at
	}
	return s
}

// dropOldest drops the stream of the oldest video packet up to its next keyframe.
func (p *Pacer[T]) dropOldest() {
	stream := p.video.head().Stream
	n := p.video.drop(stream, true)
	p.drops += uint64(n)
	if !p.video.holds(stream) && !p.isBroken(stream) {
		p.broken = append(p.broken, brokenStream{stream: stream})
	}
}

// heals reports whether the packet's stream is whole, or begins anew with it.
func (p *Pacer[T]) heals(it Item[T]) bool {
	if !p.isBroken(it.Stream) {
		return true
	}
	if it.Key && it.First {
		p.mend(it.Stream)
		return true
	}
	return false
}

func (p *Pacer[T]) isBroken(stream uint32) bool {
	for i := range p.broken {
		if p.broken[i].stream == stream {
			return true
		}
	}
	return false
}

func (p *Pacer[T]) mend(stream uint32) {
	for i := range p.broken {
		if p.broken[i].stream == stream {
			last := len(p.broken) - 1
			p.broken[i] = p.broken[last]
			p.broken = p.broken[:last]
			return
		}
	}
}
