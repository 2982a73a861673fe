package link

import (
	"errors"
	"math"
	"time"
)

// times are those of the appliance's end; tests have shorter ones.
type times struct {
	dial  time.Duration // for a connection to stand, and for its first answer
	write time.Duration
	// pingEvery and pingLimit find connections of which the other end is gone
	// without a word: after their sum at most.
	pingEvery, pingLimit time.Duration
	// askAgain is how long an answer to a request for a certificate may take.
	askAgain time.Duration
	// steady is how long a connection has to last for the next wait to be short
	// again.
	steady time.Duration
	// settle gathers changes of the status that come together.
	settle time.Duration
	// wait is how long to wait after a connection, or an attempt, that ended with
	// err; linked is whether it stood. r is in [0, 1).
	wait func(err error, linked bool, attempt int, r float64) time.Duration
}

var usual = times{
	dial: dialLimit, write: 10 * time.Second, pingEvery: 10 * time.Second, pingLimit: 10 * time.Second,
	askAgain: time.Minute, steady: time.Minute, settle: 200 * time.Millisecond, wait: wait,
}

// Times of the appliance's end.
const (
	dialLimit    = 20 * time.Second
	backoffFirst = 2 * time.Second
	backoffMost  = time.Minute
	// lostSpread is over how long appliances come back whose link broke without a
	// word: all of an instance's break at once when it dies. It is less than
	// SilentAfter, so that nobody is told of an outage that is over.
	lostSpread = 5 * time.Second
	// renewSpread is how soon a link comes back to show its new certificate.
	renewSpread = time.Second
	// offWait is for an appliance that is not wanted: revoked, or the connector is
	// off. Somebody may change that.
	offWait = 2 * time.Minute
)

// Backoff is how long to wait before the nth attempt, from 0: random between
// nothing and a bound that doubles up to a minute ("full jitter"), so that
// appliances that lost the portal together do not come back together. r is in
// [0, 1).
func Backoff(attempt int, r float64) time.Duration {
	most := min(float64(backoffMost), float64(backoffFirst)*math.Pow(2, float64(min(attempt, 20))))
	return time.Duration(r * most)
}

// wait is times.wait.
func wait(err error, linked bool, attempt int, r float64) time.Duration {
	var bye byeError
	if errors.As(err, &bye) {
		switch bye.Why {
		case WhyRevoked, WhyExpired, WhyForeign, WhyDisabled, WhyRefused:
			return offWait/2 + time.Duration(r*float64(offWait))
		case WhyStopping, WhyBusy:
			// What the portal asks for, and more when it says so again and again.
			if most := min(max(bye.After, 0), backoffMost); most > Backoff(attempt, 1) {
				return time.Duration(r * float64(most))
			}
		}
		return Backoff(attempt, r)
	}
	if errors.Is(err, errRenewed) {
		return time.Duration(r * float64(renewSpread))
	}
	if linked {
		return max(Backoff(attempt, r), time.Duration(r*float64(lostSpread)))
	}
	return Backoff(attempt, r)
}
