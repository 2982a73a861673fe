package timesync

import (
	"fmt"
	"time"

	"github.com/parley-meet/parley/image/control"
)

// Bounds.
const (
	// slewMax is the largest offset that is slewed rather than stepped, as long
	// as the clock was right before; nobody sees it.
	slewMax = 500 * time.Millisecond
	// stepMin is the least that is stepped at the first answer after boot.
	stepMin = 50 * time.Millisecond
	// stepTwice is how often in a row a clock that was right must be found wrong
	// before it is stepped: one late packet is no reason.
	stepTwice = 2
	// aloneMax is the most that one server alone may step the clock by once it
	// was set: it may be wrong, or not be who it says.
	aloneMax = time.Hour
	// steady is the offset up to which the servers are asked less often.
	steady = 20 * time.Millisecond
	// worthIt is the least that is corrected.
	worthIt = 500 * time.Microsecond
)

// Times between questions.
const (
	pollMin  = 64 * time.Second // RFC 5905: 2^6
	pollMax  = 1024 * time.Second
	retryMin = 2 * time.Second // after nobody answered
	retryMax = 512 * time.Second
	saveEach = 6 * time.Hour // the RTC, when nothing stepped
)

// policy is what is remembered from answer to answer. It is pure.
type policy struct {
	set   bool // the clock was set by a server since boot
	far   int  // answers in a row that would step a clock that was set
	poll  time.Duration
	retry time.Duration
	saved time.Duration // when the RTC was set
	save  bool          // it was set at all
}

// verdict is what to do about an answer.
type verdict struct {
	Clock *control.Clock // nil: leave it
	Next  time.Duration  // until the next question
	Err   error          // why a wrong clock is left
}

// answer judges the servers' samples at the time now, counted from the start.
func (p *policy) answer(samples []Sample, now time.Duration) (best Sample, v verdict) {
	best, agree, err := choose(samples)
	if err != nil {
		return best, verdict{Next: p.failed(), Err: err}
	}
	p.retry = 0
	off := max(best.Offset, -best.Offset)
	switch {
	case !p.set && off >= stepMin, off > slewMax:
		if v = p.step(best, off, agree); v.Clock == nil {
			return best, v
		}
	case off >= worthIt || p.due(now):
		v.Clock = &control.Clock{Offset: best.Offset, Save: p.due(now)}
	}
	p.far = 0
	if off > steady || p.poll == 0 {
		p.poll = pollMin
	} else {
		p.poll = min(2*p.poll, pollMax)
	}
	v.Next = p.poll
	return best, v
}

// step judges an offset that is too large to be slewed.
func (p *policy) step(best Sample, off time.Duration, agree int) verdict {
	if p.set {
		if off > aloneMax && agree < 2 {
			p.poll = pollMin
			return verdict{Next: pollMin, Err: fmt.Errorf("%s alone says that the clock is wrong by %v, and is not believed: name a second server, or set the clock by hand", best.Server, off.Round(time.Second))}
		}
		if p.far++; p.far < stepTwice {
			return verdict{Next: retryMin}
		}
	}
	return verdict{Clock: &control.Clock{Offset: best.Offset, Step: true, Save: true}}
}

// failed counts an answer that did not come, and returns when to ask again.
func (p *policy) failed() time.Duration {
	p.far = 0
	p.retry = min(max(2*p.retry, retryMin), retryMax)
	return p.retry
}

// due reports whether the RTC is to be set again.
func (p *policy) due(now time.Duration) bool { return !p.save || now-p.saved >= saveEach }

// done is told what PID 1 carried out.
func (p *policy) done(c *control.Clock, now time.Duration) {
	p.set = true
	if c.Save {
		p.saved, p.save = now, true
	}
}
