package supervisor

import (
	"time"

	"github.com/parley-meet/parley/image/config"
)

// settled is how long a service must have been ready for its end not to be
// punished by a pause.
const settled = time.Second

// crashLoopEnds is how many ends in a row, none of them after a calm run, are
// called a crash loop.
const crashLoopEnds = 5

// backoff says how long to wait before the next start.
//
//   - After a run that was ready for settled or longer: not at all. Starting a
//     service costs a fraction of that second, so even one that is killed for
//     ever is up most of the time, and whoever waits for it waits least.
//   - After a shorter run (never ready, or ready and gone at once): not at all
//     the first time, then Min, doubled each time up to Max, with jitter of a
//     fifth either way so that services which fail together part.
//   - After a run that was ready for Calm: everything is forgotten.
//
// It never gives up.
type backoff struct {
	min, max, calm time.Duration
	shorts         int // short runs since the last calm one
	ends           int // ends since the last calm run
}

func newBackoff(r config.Restart) backoff {
	return backoff{
		min:  r.Min.Or(config.DefaultRestartMin),
		max:  r.Max.Or(config.DefaultRestartMax),
		calm: r.Calm.Or(config.DefaultCalm),
	}
}

// ended takes the end of a run that was ready for the time ready (0: never),
// and returns the pause. jitter is in [0, 1).
func (b *backoff) ended(ready time.Duration, jitter float64) time.Duration {
	if ready >= b.calm {
		b.shorts, b.ends = 0, 0
	}
	b.ends++
	if ready >= settled {
		return 0
	}
	b.shorts++
	if b.shorts == 1 {
		return 0
	}
	// Eight doublings are more than any Max needs only if Min is small: compare
	// before shifting so that nothing overflows.
	pause := b.min
	for range b.shorts - 2 {
		if pause >= b.max {
			break
		}
		pause *= 2
	}
	pause = min(pause, b.max)
	return pause + time.Duration((jitter-0.5)*0.4*float64(pause))
}

// crashLoop reports whether the service that has been ready for the time ready
// now (0: it is not) ends again and again.
func (b *backoff) crashLoop(ready time.Duration) bool {
	return b.ends >= crashLoopEnds && ready < b.calm
}
