package cc

import (
	"math"
	"time"
)

const (
	lossLow  = 0.02 // below this the rate may grow
	lossHigh = 0.10 // above this it falls by half the loss

	lossWindow  = 400 * time.Millisecond
	lossPackets = 50 // or as many as come in a second, if those are 20
	lossFew     = 20

	trialRaise  = 1.15
	trialWait   = time.Second // of holding before a trial, and of measuring in it
	trialSettle = 300 * time.Millisecond
	trialRetry  = 10 * time.Second
	trialMax    = 160 * time.Second
	randomMost  = 0.15 // loss above this is congestion, whatever a trial says
)

// lossControl is the loss-based part (draft-ietf-rmcat-gcc-02 section 6): under
// 2 % the rate may grow, above 10 % it falls, between it holds.
//
// A radio link loses some percent at any rate, and would hold it low for ever. So
// after a second of holding there is a trial: the rate is raised by 15 %. When the
// link was full, that much more is lost; when it was not, the loss stays, is taken
// for the link's own, and is subtracted from then on.
type lossControl struct {
	lost, total int // in the open window
	since       time.Duration
	last        float64 // fraction of the window before
	limit       float64 // bit/s, +Inf for none
	random      float64 // fraction that the link loses by itself
	grown, fell time.Duration

	trial      trialState
	trialAt    time.Duration // when the state began, or when idle may end
	trialRetry time.Duration
	holdRate   float64 // what was sent while holding
	holdLost   int
	holdTotal  int
	upLost     int
	upTotal    int
}

type trialState uint8

const (
	trialIdle trialState = iota
	trialHold            // measuring before
	trialUp              // raised, measuring
)

// add counts packets of one feedback. A packet that was lost and came after all
// takes a loss back.
func (l *lossControl) add(lost, received int) {
	l.lost = max(l.lost+lost, 0)
	l.total += max(lost, 0) + received
}

// update closes the window when it is long enough. It gives a rate that the target
// should be set to for a trial, or 0.
func (l *lossControl) update(now time.Duration, target, sent float64, rtt time.Duration, u usage) float64 {
	if l.since == 0 {
		l.since = now
	}
	d := now - l.since
	if d < lossWindow || l.total < lossFew || l.total < lossPackets && d < time.Second {
		return 0
	}
	frac := float64(l.lost) / float64(l.total)
	mean := (frac + l.last) / 2
	extra := max(0, (mean-l.random)/(1-l.random))
	lost, total := l.lost, l.total
	l.last, l.lost, l.total, l.since = frac, 0, 0, now
	if mean < l.random {
		l.random += (mean - l.random) / 8
	}
	if l.trial == trialUp {
		l.judge(now, lost, total, sent, u)
		return 0
	}
	switch {
	case extra > lossHigh:
		l.trial = trialIdle
		if now-l.fell > 300*time.Millisecond+rtt {
			l.limit = min(l.limit, target) * (1 - extra/2)
			l.fell = now
		}
	case extra < lossLow:
		l.trial = trialIdle
		if l.limit *= math.Pow(aimdGrowth, min(now-l.grown, time.Second).Seconds()); l.limit > 2*target {
			l.limit = math.Inf(1)
		}
	default:
		l.limit = min(l.limit, target)
		return l.hold(now, lost, total, target, sent, u)
	}
	l.grown = now
	return 0
}

// hold measures before a trial and begins it.
func (l *lossControl) hold(now time.Duration, lost, total int, target, sent float64, u usage) float64 {
	l.grown = now
	if u != usageNormal {
		l.trial = trialIdle
		return 0
	}
	if l.trial == trialIdle {
		if now < l.trialAt {
			return 0
		}
		l.trial, l.trialAt = trialHold, now
		l.holdLost, l.holdTotal = 0, 0
	}
	l.holdLost, l.holdTotal, l.holdRate = l.holdLost+lost, l.holdTotal+total, sent
	if now-l.trialAt < trialWait || l.holdTotal < 2*lossPackets {
		return 0
	}
	l.trial, l.trialAt = trialUp, now
	l.upLost, l.upTotal = 0, 0
	l.limit = target * trialRaise
	return l.limit
}

// judge ends a trial when enough was seen.
func (l *lossControl) judge(now time.Duration, lost, total int, sent float64, u usage) {
	up := now - l.trialAt
	if up < trialSettle+lossWindow {
		return // the window began before the raise took effect
	}
	l.upLost, l.upTotal = l.upLost+lost, l.upTotal+total
	if u != usageOver && (up < trialSettle+lossWindow+trialWait || l.upTotal < 2*lossPackets) {
		return
	}
	before := float64(l.holdLost) / float64(l.holdTotal)
	after := float64(l.upLost) / float64(l.upTotal)
	l.trial = trialIdle
	if u == usageOver || sent < l.holdRate*1.07 {
		// The delay decides, or too little was sent to tell.
		l.trialAt = now + 3*time.Second
		return
	}
	if after-before < (1-l.holdRate/sent)/2 {
		l.random = min((before+after)/2, randomMost)
		l.limit, l.trialRetry = math.Inf(1), 0
		l.trialAt = now
		return
	}
	l.limit = l.holdRate * (1 - before)
	l.trialRetry = min(max(2*l.trialRetry, trialRetry), trialMax)
	l.trialAt = now + l.trialRetry
}
