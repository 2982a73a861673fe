package cc

import "time"

const (
	probeSpan    = 15 * time.Millisecond
	probePackets = 5
	probeStep    = 2 * time.Millisecond // of padding that is due at once
	probeTimeout = 500 * time.Millisecond
	probeFirst   = 3 // times the starting rate
	probeNext    = 2 // times the target
	probeGood    = 0.7
	probeQuiet   = 10 * time.Second
	farFall      = 1.5 // a rate this many times lower than before is searched for again
	probeMin     = 5 * time.Second
	probeMax     = 60 * time.Second
)

// prober sends clusters of packets at more than the target and looks how fast they
// arrive (draft-ietf-rmcat-gcc-02 leaves it out; this is as libwebrtc does it).
type prober struct {
	id     uint8 // of the last cluster, 0 before the first
	active bool  // being sent
	open   bool  // sent or being sent, without a result
	rate   int64 // bit/s
	begun  time.Duration
	bytes  int // sent
	n      int // packets sent
	last   uint16

	got                    int // packets that arrived
	gotBytes               int
	firstSize, lastSize    int
	firstSent, lastSent    time.Duration
	firstArrived, lastArrv time.Duration

	initial bool // the exponential search at the beginning
	at      time.Duration
	wait    time.Duration
}

// start begins a cluster.
func (p *prober) start(now time.Duration, rate int64) {
	id := p.id + 1
	if id == 0 {
		id = 1
	}
	*p = prober{
		id: id, active: true, open: true, rate: rate, begun: now,
		initial: p.initial, at: p.at, wait: p.wait,
	}
}

// sent counts a packet of the cluster.
func (p *prober) sent(now time.Duration, seq uint16, size int) {
	p.bytes, p.n, p.last = p.bytes+size, p.n+1, seq
	want := int(p.rate / 8 * int64(probeSpan) / int64(time.Second))
	p.active = p.n < probePackets || p.bytes < want
}

// next is when the next packet of the cluster is due.
func (p *prober) next() time.Duration {
	return p.begun + time.Duration(int64(p.bytes)*8*int64(time.Second)/p.rate)
}

// padding is how many bytes are due.
func (p *prober) padding(now time.Duration) int {
	if now-p.begun > probeTimeout {
		p.active = false
	}
	if !p.active || now < p.next() {
		return 0
	}
	return int(p.rate/8*int64(min(now-p.next()+probeStep, 3*probeStep))/int64(time.Second)) + 1
}

// arrived counts a packet of the cluster that arrived.
func (p *prober) arrived(sent, arrived time.Duration, size int) {
	if p.got == 0 || sent < p.firstSent {
		p.firstSent = sent
	}
	if p.got == 0 || sent >= p.lastSent {
		p.lastSent, p.lastSize = sent, size
	}
	if p.got == 0 || arrived < p.firstArrived {
		p.firstArrived, p.firstSize = arrived, size
	}
	if p.got == 0 || arrived > p.lastArrv {
		p.lastArrv = arrived
	}
	p.got++
	p.gotBytes += size
}

// result is what the way carried, bit/s; 0 when that cannot be told.
func (p *prober) result() int64 {
	arrive := p.lastArrv - p.firstArrived
	if p.got < probePackets-1 || 5*p.got < 4*p.n || arrive <= 0 {
		return 0
	}
	received := int64(p.gotBytes-p.firstSize) * 8 * int64(time.Second) / int64(arrive)
	send := max(p.lastSent-p.firstSent, time.Millisecond)
	sent := int64(p.gotBytes-p.lastSize) * 8 * int64(time.Second) / int64(send)
	switch {
	case received > 2*sent:
		return 0 // they were held up and came together
	case received < sent/10*9:
		return received / 100 * 95 // the way is full: leave room to drain it
	default:
		return min(sent, received)
	}
}
