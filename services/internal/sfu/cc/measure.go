package cc

import (
	"fmt"
	"math"
	"time"
)

// arrivalClock unwraps the reference times of feedback: 24 bits of 64 ms wrap after
// 12 days.
type arrivalClock struct {
	known  bool
	ref    int32
	base   time.Duration // what the wraps add
	newest time.Duration // latest arrival
}

func (a *arrivalClock) unwrap(ref int32) time.Duration {
	const wrap = 1 << 24
	if a.known {
		switch d := ref - a.ref; {
		case d < -wrap/2:
			a.base += wrap * refTick
		case d > wrap/2:
			a.base -= wrap * refTick
		}
	}
	a.known, a.ref = true, ref
	return a.base
}

// Limits of what feedback may cost: a packet of 40 bytes can hold 8,192 statuses.
const (
	statusRate  = 20_000 // per second, many times what is sent to anybody
	statusBurst = 2 * maxStatuses
	statusLeast = 50 // that the smallest feedback counts for
)

// affords charges for statuses and reports whether they are within the limits.
func (e *Estimator) affords(now time.Duration, n int) bool {
	d := min(now-e.charged, time.Second)
	e.charged = now
	e.charge = max(e.charge-int64(d)*statusRate, 0)
	c := int64(max(n, statusLeast)) * int64(time.Second)
	if e.charge+c > statusBurst*int64(time.Second) {
		return false
	}
	e.charge += c
	return true
}

// Feedback takes one transport-wide feedback packet. An error means that it is
// malformed or far too much; nothing of it was used. Packets that were not sent, or too long ago,
// are passed over.
func (e *Estimator) Feedback(now time.Duration, p Packet) error {
	f, err := ParseFeedback(p)
	if err != nil {
		return err
	}
	if !e.affords(now, f.Count) {
		return fmt.Errorf("feedback: %d statuses more than %d per second allow", f.Count, statusRate)
	}
	if !e.twcc {
		e.twcc, e.normal = true, now
		e.remb = math.Inf(1)
	}
	e.heard, e.waiting = now, 0
	base := e.arrival.unwrap(f.Ref)
	var (
		lost, received int
		usage          = e.trend.state
		fresh          bool          // there was a delta of delay
		newest         time.Duration // sent
		probe          bool
		least          time.Duration // on the way, plus what the clocks differ
	)
	for s, ok := f.Next(); ok; s, ok = f.Next() {
		h := e.sent.find(s.Seq)
		if h == nil {
			continue
		}
		if !s.Received {
			if h.state == sentUnknown {
				h.state = sentLost
				lost++
			}
			probe = probe || e.probe.open && h.cluster == e.probe.id && s.Seq == e.probe.last
			continue
		}
		if h.state == sentReceived {
			continue
		}
		if h.state == sentLost {
			lost--
		}
		h.state = sentReceived
		sent, arrived := h.sentAt(now), base+s.Arrived
		received++
		newest = max(newest, sent)
		e.arrival.newest = arrived
		e.acked.add(arrived, int(h.size))
		if e.probe.open && h.cluster == e.probe.id {
			e.probe.arrived(sent, arrived, int(h.size))
			probe = probe || s.Seq == e.probe.last
		}
		if send, delay, done, ok := e.groups.add(sent, arrived); ok {
			// A packet alone may have come by another way, where the queue is not.
			if d := e.groups.prev.wait; !fresh || d < least {
				least = d
			}
			usage, fresh = e.trend.add(now, send, delay, done), true
		}
	}
	if received == 0 && lost == 0 {
		return nil
	}
	if lost > 0 {
		e.lostAll += uint64(lost)
	}
	if newest > 0 && !e.rttBy {
		// It holds the wait for the feedback too: take the short ones.
		e.smoothRTT(now-newest, 32)
	}
	e.loss.add(lost, received)
	if fresh {
		e.queue = e.floor.add(now, least)
		if e.queue > standing && usage == usageNormal && e.drowns(now) {
			usage, fresh = usageOver, true
		}
	}
	if usage == usageOver && !fresh {
		usage = usageUnder // one finding is no reason to fall twice: hold
	}
	e.control(now, usage)
	if p := &e.probe; p.open && !p.active && (probe || now-p.begun > probeTimeout+2*e.rtt+feedbackMax) {
		e.probed(now)
	}
	return nil
}

// standing is a queue that has to go even when it does not grow: one that is full
// and spills shows no gradient.
const standing = 100 * time.Millisecond

// drowns reports that clearly less arrives than is sent.
func (e *Estimator) drowns(now time.Duration) bool {
	acked, ok := e.acked.rate(e.arrival.newest)
	sent, ok2 := e.sentRate.rate(now)
	return ok && ok2 && acked < sent/10*9
}

// delayFloor is the shortest delay of the last 10 to 20 seconds.
type delayFloor struct {
	cur, prev time.Duration
	since     time.Duration
	known     bool
}

const (
	floorWindow = 10 * time.Second
	clockLeap   = 30 * time.Second // no queue, another clock
)

// add gives by how much a delay is above the floor.
func (f *delayFloor) add(now, d time.Duration) time.Duration {
	switch {
	case !f.known || d-f.cur > clockLeap || f.cur-d > clockLeap:
		*f = delayFloor{d, d, now, true}
	case now-f.since > floorWindow:
		f.cur, f.prev, f.since = d, f.cur, now
	}
	f.cur = min(f.cur, d)
	return d - min(f.cur, f.prev)
}

// smoothRTT follows a shorter round trip at once and a longer one slowly.
func (e *Estimator) smoothRTT(rtt time.Duration, slow time.Duration) {
	if e.rtt == 0 || rtt < e.rtt {
		e.rtt = max(rtt, time.Microsecond)
		return
	}
	e.rtt += (rtt - e.rtt) / slow
}

// control lets the controllers draw their conclusions.
func (e *Estimator) control(now time.Duration, u usage) {
	if u == usageOver {
		e.normal = now
	}
	e.usage = u
	acked, ok := e.acked.rate(e.arrival.newest)
	if !ok {
		acked = int64(e.aimd.rate)
	}
	limited := e.limited(now)
	old := e.aimd.rate
	e.aimd.update(now, u, acked, limited, e.rtt, e.queue)
	e.aimd.rate = min(max(e.aimd.rate, float64(e.cfg.Min)), float64(e.cfg.Max))
	if e.aimd.rate < old {
		if u == usageOver && e.probe.initial && e.probe.id != 0 {
			e.probe.initial = false
			e.probe.at = now + probeMin
		}
		e.before = max(e.before, old)
		if p := &e.probe; e.before > farFall*e.aimd.rate && p.wait > probeMin {
			// What was there may come back soon.
			p.wait, p.at = probeMin, min(p.at, now+probeMin)
		}
	}
	if e.aimd.rate > 0.95*e.before {
		e.before = 0 // recovered
	}
	e.lossy(now, u)
}

// lossy applies the loss-based part.
func (e *Estimator) lossy(now time.Duration, u usage) {
	sent, _ := e.sentRate.rate(now)
	if raise := e.loss.update(now, float64(e.Target()), float64(sent), e.rtt, u); raise > 0 {
		e.aimd.rate = max(e.aimd.rate, min(raise, float64(e.cfg.Max)))
	}
	// The delay may not run far ahead of what the loss allows, or it takes over
	// with a leap when the loss ends.
	if !math.IsInf(e.loss.limit, 1) {
		e.loss.limit = max(e.loss.limit, float64(e.cfg.Min))
		e.aimd.rate = min(e.aimd.rate, 1.5*e.loss.limit)
	}
}

// REMB takes a receiver's estimate. It counts only without transport-wide feedback.
func (e *Estimator) REMB(now time.Duration, bps int64) {
	if e.fallback(now) {
		e.remb = max(float64(bps), float64(e.cfg.Min))
		e.grow(now)
	}
}

// fallback reports that there is no transport-wide feedback.
func (e *Estimator) fallback(now time.Duration) bool {
	if e.twcc && now-e.heard > reverts {
		e.twcc = false
	}
	return !e.twcc
}

// grow lets the rate follow what is sent without loss, as nothing tells of delay.
func (e *Estimator) grow(now time.Duration) {
	sent, ok := e.sentRate.rate(now)
	if !ok {
		return
	}
	e.aimd.increase(now, float64(sent), e.rtt)
	if !math.IsInf(e.remb, 1) {
		// The receiver watches the delay itself: believe it, step by step.
		e.aimd.rate = max(e.aimd.rate, min(e.remb, aimdAhead*float64(sent)+aimdSlack))
	}
	e.aimd.rate = min(e.aimd.rate, float64(e.cfg.Max))
}

// blockSeen is where the last report of a stream ended.
type blockSeen struct{ ssrc, highest uint32 }

// blocksMost bounds the streams whose reports are weighed; it is more than the
// slots of a screen.
const blocksMost = 64

// Report takes one block of a receiver report about a stream that is sent to the
// subscriber, and the round trip that it shows (0 for none). The losses count only
// without transport-wide feedback.
func (e *Estimator) Report(now time.Duration, r Report, rtt time.Duration) {
	if rtt > 0 {
		if !e.rttBy {
			e.rttBy, e.rtt = true, rtt
		}
		e.rtt += (rtt - e.rtt) / 8
	}
	if !e.fallback(now) {
		return
	}
	i := 0
	for i < len(e.blocks) && e.blocks[i].ssrc != r.SSRC {
		i++
	}
	if i == len(e.blocks) {
		if i < blocksMost {
			e.blocks = append(e.blocks, blockSeen{r.SSRC, r.Highest})
		}
		return
	}
	expected := int(int32(r.Highest - e.blocks[i].highest))
	e.blocks[i].highest = r.Highest
	if expected <= 0 || expected > 100_000 {
		return
	}
	lost := expected * int(r.Fraction) / 256
	e.loss.add(lost, expected-lost)
	e.lostAll += uint64(lost)
	if float64(r.Fraction)/256 < lossHigh {
		e.grow(now)
	}
	e.lossy(now, usageNormal)
}
