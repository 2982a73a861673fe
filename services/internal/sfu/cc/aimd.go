package cc

import (
	"math"
	"time"
)

const (
	aimdBeta   = 0.85
	aimdDeep   = 0.2
	aimdGrowth = 1.08 // per second, while far from the last congestion
	aimdAhead  = 1.5  // the target is at most this much of what arrives
	aimdSlack  = 10_000
	aimdNear   = 0.8
	aimdLeast  = 4_000 // bit/s per second near the last congestion
)

// aimd is the rate controller of draft-ietf-rmcat-gcc-02 section 5.5: it grows in
// the normal state, holds while a queue drains, and falls below what arrived when
// one grows.
type aimd struct {
	rate     float64 // bit/s
	hold     bool
	grown    time.Duration // when it last grew or began to
	fell     time.Duration
	fellOnce bool
	link     linkCapacity
}

// linkCapacity remembers what arrived while there was congestion.
type linkCapacity struct {
	known     bool
	mean, dev float64 // kbit/s; variance in units of the mean
}

func (l *linkCapacity) add(bps float64) {
	k := bps / 1000
	if !l.known {
		*l = linkCapacity{known: true, mean: k, dev: 0.4}
		return
	}
	const alpha = 0.05
	l.mean += alpha * (k - l.mean)
	norm := max(l.mean, 1)
	e := l.mean - k
	l.dev = min(max((1-alpha)*l.dev+alpha*e*e/norm, 0.4), 2.5)
}

// bounds are three deviations around the mean, bit/s.
func (l *linkCapacity) bounds() (low, high float64) {
	d := 3 * math.Sqrt(l.dev*l.mean)
	return (l.mean - d) * 1000, (l.mean + d) * 1000
}

// update takes the detector's state. Acked is what arrives, limited says that less
// is sent than may be.
func (a *aimd) update(now time.Duration, u usage, acked int64, limited bool, rtt, queue time.Duration) {
	switch u {
	case usageOver:
		a.decrease(now, float64(acked), limited, rtt, queue)
		a.hold = true
	case usageUnder:
		a.hold = true
	default:
		if a.hold {
			a.hold, a.grown = false, now
		}
		a.increase(now, float64(acked), rtt)
	}
}

func (a *aimd) increase(now time.Duration, acked float64, rtt time.Duration) {
	dt := min(now-a.grown, time.Second).Seconds()
	a.grown = now
	if dt <= 0 {
		return
	}
	if a.link.known {
		if _, high := a.link.bounds(); acked > high {
			a.link.known = false
		}
	}
	next := a.rate
	if a.link.known && a.rate > aimdNear*a.link.mean*1000 {
		// One packet more per response time; packets as 30 frames a second have them.
		frame := a.rate / 30
		packet := frame / math.Ceil(frame/(1200*8))
		response := (rtt + 100*time.Millisecond).Seconds()
		next += max(aimdLeast, packet/response) * dt
	} else {
		next = max(a.rate*math.Pow(aimdGrowth, dt), a.rate+1000*dt)
	}
	// What does not arrive proves nothing.
	a.rate = max(a.rate, min(next, aimdAhead*acked+aimdSlack))
}

func (a *aimd) decrease(now time.Duration, acked float64, limited bool, rtt, queue time.Duration) {
	// The effect of one step must be seen before the next, unless it was far off.
	wait := min(max(rtt, 10*time.Millisecond), 200*time.Millisecond)
	if a.fellOnce && now-a.fell < wait && acked > a.rate/2 {
		return
	}
	// A long queue takes long to drain at 85 %.
	deep := min(max((queue-standing).Seconds()/0.2, 0), 1)
	next := (aimdBeta - aimdDeep*deep) * acked
	if limited && (!a.fellOnce || now-a.fell > time.Second) {
		// Little is sent, and the delay may have another reason. The next one within
		// a second is believed.
		next = aimdBeta * a.rate
	} else {
		if next > a.rate && a.link.known {
			next = aimdBeta * a.link.mean * 1000
		}
		if low, _ := a.link.bounds(); a.link.known && acked < low {
			a.link.known = false
		}
		a.link.add(acked)
	}
	a.rate = min(a.rate, next)
	a.fell, a.fellOnce = now, true
}
