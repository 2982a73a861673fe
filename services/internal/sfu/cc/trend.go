package cc

import "time"

// usage is what the delay says of the way.
type usage uint8

const (
	usageNormal usage = iota
	usageOver         // the queue on the way grows
	usageUnder        // it drains
)

// Constants of grouping (draft-ietf-rmcat-gcc-02 section 5.2, and what libwebrtc
// added to it).
const (
	groupSpan  = 5 * time.Millisecond   // of sending; also of arriving in a burst
	groupBurst = 100 * time.Millisecond // a burst is not longer
	groupLeap  = 3 * time.Second        // the receiver's clock leapt
)

// groups joins packets that were sent together, so that the gradient is taken
// between bursts and not inside them.
type groups struct {
	cur, prev group
}

type group struct {
	known       bool
	first, last time.Duration // sent
	begun, done time.Duration // arrived: the first, the last
	wait        time.Duration // the shortest on the way, plus what the clocks differ
	ahead       bool          // it overtook others, as came out later
}

func newGroup(sent, arrived time.Duration) group {
	return group{known: true, first: sent, last: sent, begun: arrived, done: arrived, wait: arrived - sent}
}

// add takes a packet in order of sequence numbers. When it begins a new group, it
// gives by how much later the last complete one arrived than it was sent, in
// comparison with the group before.
func (g *groups) add(sent, arrived time.Duration) (sendDelta, delayDelta, done time.Duration, ok bool) {
	c := &g.cur
	switch {
	case !c.known:
		*c = newGroup(sent, arrived)
		return 0, 0, 0, false
	case arrived < c.begun-groupLeap:
		*g = groups{cur: newGroup(sent, arrived)}
		return 0, 0, 0, false
	case sent < c.first:
		c.ahead = c.ahead || arrived > c.done
		return 0, 0, 0, false // overtaken by a whole group
	case sent-c.first <= groupSpan || g.burst(sent, arrived):
		c.last = max(c.last, sent)
		if arrived >= c.done {
			c.done, c.wait = arrived, min(c.wait, arrived-sent)
		}
		return 0, 0, 0, false
	}
	if c.ahead || sent < c.last {
		// It came by another way: what it waited less is no news of the queue on this
		// one, and what the next waits more is none either.
		*c = newGroup(sent, arrived)
		return 0, 0, 0, false
	}
	if g.prev.known {
		sendDelta = c.last - g.prev.last
		arriveDelta := c.done - g.prev.done
		delayDelta, done = arriveDelta-sendDelta, c.done
		switch {
		case delayDelta > groupLeap || delayDelta < -groupLeap:
			*g = groups{}
			return 0, 0, 0, false
		case arriveDelta >= 0:
			ok = true
		}
	}
	g.prev = *c
	*c = newGroup(sent, arrived)
	return sendDelta, delayDelta, done, ok
}

// burst reports that a packet was held up on the way together with the group: it
// arrived right behind it, closer than it was sent.
func (g *groups) burst(sent, arrived time.Duration) bool {
	c := &g.cur
	d := arrived - c.done
	return d <= groupSpan && d > -groupBurst && d-(sent-c.last) < 0 && arrived-c.begun < groupBurst
}

// Constants of the trendline and its detector; times in milliseconds.
const (
	trendWindow = 20
	trendSmooth = 0.9
	trendGain   = 4.0
	trendDeltas = 60 // the gain grows with the number of deltas up to this

	thresholdStart = 12.5
	thresholdMin   = 6.0
	thresholdMax   = 600.0
	thresholdLeap  = 15.0 // a trend that far above is an accident, not a competitor
	thresholdUp    = 0.0087
	thresholdDown  = 0.039

	overuseTime = 10.0 // must last
)

// trendline fits a line through the last delays and compares its slope with a
// threshold that adapts to what is usual on this way.
type trendline struct {
	at, delay   [trendWindow]float64 // ms; smoothed delay
	n           int                  // filled
	next        int
	deltas      int
	origin      time.Duration
	sum, smooth float64
	prev        float64

	threshold float64
	updated   time.Duration
	overFor   float64
	overs     int
	state     usage
}

// add takes one delta of delay between groups, and returns what is known then.
func (t *trendline) add(now, sendDelta, delayDelta, done time.Duration) usage {
	if t.deltas == 0 {
		t.origin = done
		if t.threshold == 0 {
			t.threshold = thresholdStart
		}
	}
	t.deltas = min(t.deltas+1, 1000)
	t.sum += ms(delayDelta)
	t.smooth = trendSmooth*t.smooth + (1-trendSmooth)*t.sum
	t.at[t.next], t.delay[t.next] = ms(done-t.origin), t.smooth
	t.next = (t.next + 1) % trendWindow
	t.n = min(t.n+1, trendWindow)
	trend := t.prev
	if t.n == trendWindow {
		trend = t.slope()
	}
	t.detect(now, trend, ms(sendDelta))
	return t.state
}

// slope is the least-squares one: ms of delay per ms of time.
func (t *trendline) slope() float64 {
	var sx, sy float64
	for i := range t.n {
		sx += t.at[i]
		sy += t.delay[i]
	}
	mx, my := sx/float64(t.n), sy/float64(t.n)
	var num, den float64
	for i := range t.n {
		dx := t.at[i] - mx
		num += dx * (t.delay[i] - my)
		den += dx * dx
	}
	if den == 0 {
		return t.prev
	}
	return num / den
}

func (t *trendline) detect(now time.Duration, trend, sendDelta float64) {
	if t.deltas < 2 {
		t.prev = trend
		return
	}
	m := float64(min(t.deltas, trendDeltas)) * trend * trendGain
	switch {
	case m > t.threshold:
		if t.overs == 0 {
			t.overFor = sendDelta / 2
		} else {
			t.overFor += sendDelta
		}
		t.overs++
		if t.overFor > overuseTime && t.overs > 1 && trend >= t.prev {
			t.overFor, t.overs = 0, 0
			t.state = usageOver
		}
	case m < -t.threshold:
		t.overFor, t.overs = 0, 0
		t.state = usageUnder
	default:
		t.overFor, t.overs = 0, 0
		t.state = usageNormal
	}
	t.prev = trend
	t.adapt(now, m)
}

func (t *trendline) adapt(now time.Duration, m float64) {
	if m < 0 {
		m = -m
	}
	dt := ms(min(now-t.updated, 100*time.Millisecond))
	t.updated = now
	if m > t.threshold+thresholdLeap {
		return
	}
	k := thresholdUp
	if m < t.threshold {
		k = thresholdDown
	}
	t.threshold = min(max(t.threshold+k*(m-t.threshold)*dt, thresholdMin), thresholdMax)
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
