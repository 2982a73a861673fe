package cc

import (
	"math"
	"time"
)

// Config bounds an estimate, in bit/s. Zero means the default.
type Config struct {
	Start int64 // 1 Mbit/s
	Min   int64 // 100 kbit/s
	Max   int64 // 100 Mbit/s
}

const (
	startRate = 1_000_000
	minRate   = 100_000
	maxRate   = 100_000_000

	// limitedShare is how much of the target must be sent for it to be in use,
	// in hundredths.
	limitedShare = 70

	silenceFirst = time.Second // with packets on the way and no feedback
	silenceNext  = 500 * time.Millisecond
	silenceFall  = 0.7

	// reverts is how long after the last transport-wide feedback the fallback
	// (REMB, receiver reports) counts again.
	reverts = 10 * time.Second
)

// Estimator says how many bits per second the way to one subscriber carries.
//
// With transport-wide feedback: Sent for every packet that carries a transport-wide
// sequence number, Feedback for every feedback, Padding where the caller waits.
// Without: Sent for every packet too (its number is not used), REMB and Report.
//
//	Feedback ─► groups ─► trendline ─► aimd ─┐
//	    │                     acked rate ─┘  ├─► min ─► Target
//	    ├─► lossControl ─────────────────────┤
//	    └─► prober ─► raises aimd            │
//	REMB ────────────────────────────────────┘
type Estimator struct {
	cfg    Config
	wanted int64

	sent     history
	sentRate rateWindow
	acked    rateWindow
	groups   groups
	trend    trendline
	aimd     aimd
	loss     lossControl
	probe    prober
	before   float64       // the rate before it fell far, 0 for none
	normal   time.Duration // since when the delay has been normal
	usage    usage

	rtt     time.Duration
	rttBy   bool // receiver reports gave it; they are exact
	waiting time.Duration
	heard   time.Duration // last feedback
	twcc    bool

	charge  int64 // statuses × 1e9 that were not yet paid for by time
	charged time.Duration
	arrival arrivalClock
	floor   delayFloor
	queue   time.Duration // on the way, by the last feedback
	remb    float64
	blocks  []blockSeen
	told    int64
	lostAll uint64
}

// NewEstimator starts at the configured rate.
func NewEstimator(c Config) *Estimator {
	if c.Min == 0 {
		c.Min = minRate
	}
	if c.Max == 0 {
		c.Max = max(maxRate, c.Min)
	}
	if c.Start == 0 {
		c.Start = startRate
	}
	c.Start = min(max(c.Start, c.Min), c.Max)
	e := &Estimator{cfg: c, wanted: c.Max, told: c.Start}
	e.aimd.rate = float64(c.Start)
	e.loss.limit, e.remb = math.Inf(1), math.Inf(1)
	e.probe.initial, e.probe.wait = true, probeMin
	return e
}

// Target is the estimate in bit/s: what may be sent, resends and padding included.
func (e *Estimator) Target() int64 {
	t := int64(min(e.aimd.rate, e.loss.limit, e.remb))
	return min(max(t, e.cfg.Min), e.cfg.Max)
}

// Changed reports whether the target has moved by more than a fiftieth since it
// last said so.
func (e *Estimator) Changed() bool {
	t := e.Target()
	if d := t - e.told; d*50 > e.told || -d*50 > e.told {
		e.told = t
		return true
	}
	return false
}

// SetWanted tells the rate (bit/s) with which the subscriber would get all that
// its screen shows. There is no search for more than that and the margin which
// Allocate asks for. Until it is told, as much as possible is wanted.
func (e *Estimator) SetWanted(bps int64) {
	bps = min(max(bps, e.cfg.Min), e.cfg.Max) * 105 / raiseMargin
	e.wanted = min(bps, e.cfg.Max)
}

// RTT is the round trip, 0 when it is not known yet.
func (e *Estimator) RTT() time.Duration { return e.rtt }

// Stats are for logs and metrics.
type Stats struct {
	Target, Sent, Acked int64 // bit/s; the measured ones over half a second
	LossLimit           int64 // bit/s, 0 for none
	RTT                 time.Duration
	Lost                uint64  // packets that feedback said did not arrive
	Random              float64 // fraction of loss that is taken for the link's own
	Probes              int     // modulo 255
	Overuse             bool
}

// Stats tells how the estimate came about.
func (e *Estimator) Stats(now time.Duration) Stats {
	s := Stats{
		Target: e.Target(), RTT: e.rtt, Lost: e.lostAll, Random: e.loss.random,
		Probes: int(e.probe.id), Overuse: e.usage == usageOver,
	}
	s.Sent, _ = e.sentRate.rate(now)
	s.Acked, _ = e.acked.rate(e.arrival.newest)
	if !math.IsInf(e.loss.limit, 1) {
		s.LossLimit = int64(e.loss.limit)
	}
	return s
}

// Sent records a packet at the moment when it leaves, and gives the transport-wide
// sequence number that it is to carry. While a probe runs, every packet is part of
// it.
func (e *Estimator) Sent(now time.Duration, size int) uint16 {
	e.sentRate.add(now, size)
	var cluster uint8
	if e.probe.active {
		cluster = e.probe.id
	}
	seq := e.sent.add(now, size, cluster)
	if cluster != 0 {
		e.probe.sent(now, seq, size)
	}
	switch {
	case e.waiting == 0:
		e.waiting = now
	case e.twcc && now > e.waiting+silenceFirst+2*e.rtt:
		e.silent(now)
	}
	return seq
}

// silent lowers the rate while nothing is heard of what is sent.
func (e *Estimator) silent(now time.Duration) {
	e.fall(e.aimd.rate * silenceFall)
	e.waiting = now - silenceFirst - 2*e.rtt + silenceNext
	e.usage, e.normal = usageOver, now
	e.probe.initial = true // search again from where this ends
}

// fall lowers the rate and remembers where it came from.
func (e *Estimator) fall(rate float64) {
	e.before = max(e.before, e.aimd.rate)
	e.aimd.rate = max(rate, float64(e.cfg.Min))
}

// Padding is how many bytes of padding (RTX of old packets, or empty ones) should
// leave now, as one packet or more: a probe is due or runs. 0 means none. Ask again
// after each packet, at NextPadding, and after each Feedback. Packets much larger than
// that fill the queue of a slow way. Who has nothing to send as padding yet does not
// ask: a probe without packets fails, and the next one waits for longer.
func (e *Estimator) Padding(now time.Duration) int {
	if !e.probe.open {
		e.plan(now)
	}
	return e.probe.padding(now)
}

// NextPadding is when a running probe wants its next packet, 0 when none runs.
func (e *Estimator) NextPadding() time.Duration {
	if !e.probe.active {
		return 0
	}
	return max(e.probe.next(), 1)
}

// plan begins a probe when one is due: at the beginning, while less is sent than
// the target and more is wanted, and after the rate fell far.
func (e *Estimator) plan(now time.Duration) {
	p := &e.probe
	if !e.twcc || now < p.at || e.usage != usageNormal {
		return
	}
	target := e.Target()
	most := min(e.cfg.Max, e.wanted/4*5)
	if target >= e.wanted || target >= e.cfg.Max {
		return
	}
	var rate int64
	switch {
	case p.initial && p.id == 0:
		rate = probeFirst * target
	case p.initial:
		rate = probeNext * target
	case now-e.normal < probeMin/4:
		return // the queue has only just drained
	case e.before > farFall*float64(target):
		rate = max(int64(aimdBeta*e.before), target*5/4)
	case e.limited(now):
		rate = probeNext * target
	case e.aimd.link.known && now-e.aimd.fell > probeQuiet:
		// It creeps below what once was full.
		rate = target / 2 * 3
	default:
		return
	}
	p.start(now, max(min(rate, most), target))
}

// limited reports that clearly less is sent than may be.
func (e *Estimator) limited(now time.Duration) bool {
	r, ok := e.sentRate.rate(now)
	return ok && r < e.Target()/100*limitedShare
}

// probed takes the result of a probe whose packets were all told of.
func (e *Estimator) probed(now time.Duration) {
	p := &e.probe
	p.open, p.active = false, false
	before := e.Target()
	got := p.result()
	if !p.initial && !e.limited(now) {
		// Who shares the way sends in bursts, and a probe between them sees all of it.
		got = min(got, before/2*3)
	}
	if e.usage != usageOver && float64(got) > e.aimd.rate {
		e.aimd.rate = min(float64(got), float64(e.cfg.Max))
		e.aimd.link.known = false
	}
	e.before *= 0.9 // what was may not come back: do not ask for it for ever
	if p.initial && float64(got) >= probeGood*float64(p.rate) && e.Target() > before {
		return // the next step at once
	}
	p.initial = false
	if e.Target() > before+before/10 {
		p.wait = probeMin
	} else {
		p.wait = min(2*p.wait, probeMax)
	}
	p.at = now + p.wait
}
