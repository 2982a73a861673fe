package webconsole

import (
	"net/netip"
	"sync"
	"time"

	"github.com/parley-meet/parley/services/internal/throttle"
)

// Bounds of logins.
const (
	maxNetworks = 4096 // whose failures are counted
	// maxChecks passwords are checked or wait for it, of which the last
	// keptChecks are for networks that somebody has logged in from: a flood from
	// everywhere does not turn the administrator away.
	maxChecks        = 8
	keptChecks       = 2
	maxNetworkChecks = 2
	maxKnown         = 256 // networks that somebody has logged in from
	// Failures of all networks together: after failBurst one each failEvery.
	failBurst = 30
	failEvery = 2 * time.Second
	// busyWait is how long to wait when too many are checked at once.
	busyWait = 2 * time.Second
)

// guard decides whether a password may be checked now. It never locks anybody
// out: it says how long to wait, a minute at most. It is pure: the time comes
// in. An attempt counts as a failure until it succeeds, also one that is broken
// off.
type guard struct {
	mu       sync.Mutex
	failures *throttle.Table
	all      throttle.Bucket
	known    map[string]time.Time // network → last success
	checks   map[string]int       // under way
	total    int
}

func newGuard() *guard {
	return &guard{
		failures: throttle.NewTable(maxNetworks),
		all:      throttle.Bucket{Size: failBurst, Every: failEvery},
		known:    map[string]time.Time{}, checks: map[string]int{},
	}
}

// enter returns how long the address has to wait, or 0 and what to call with the
// attempt's outcome.
func (g *guard) enter(a netip.Addr, now time.Time) (wait time.Duration, done func(good bool, now time.Time)) {
	key := throttle.Network(a)
	g.mu.Lock()
	defer g.mu.Unlock()
	_, known := g.known[key]
	most := maxChecks
	if !known {
		most -= keptChecks
	}
	if g.total >= most || g.checks[key] >= maxNetworkChecks {
		return busyWait, nil
	}
	if d := g.failures.Wait(key, now); d > 0 {
		return d, nil
	}
	if !known { // where somebody logged in before, the network's own count is enough
		if d := g.all.Take(now); d > 0 {
			return min(d, throttle.MaxDelay), nil
		}
	}
	g.failures.Fail(key, now)
	g.total++
	g.checks[key]++
	return 0, func(good bool, now time.Time) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.total--
		if g.checks[key]--; g.checks[key] == 0 {
			delete(g.checks, key)
		}
		if !good {
			return
		}
		g.failures.Succeed(key)
		if !known {
			g.all.Return()
		}
		g.rememberLocked(key, now)
	}
}

func (g *guard) rememberLocked(key string, now time.Time) {
	if _, ok := g.known[key]; !ok && len(g.known) >= maxKnown {
		oldest := ""
		for k, at := range g.known {
			if oldest == "" || at.Before(g.known[oldest]) {
				oldest = k
			}
		}
		delete(g.known, oldest)
	}
	g.known[key] = now
}
