package meetings

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"

	"github.com/parley-meet/parley/services/internal/throttle"
)

// Bounds of guessing numbers and passcodes.
const (
	maxNetworks = 4096
	places      = 1 << 14 // of numbers
	// Wrong attempts of a network: after netBurst one each netEvery. A whole
	// company may sit behind one address, so right ones cost nothing.
	netBurst = 20
	netEvery = 6 * time.Second
	// Wrong attempts at one number, from everywhere: a made passcode has 8 digits,
	// of which half would take 1.5 years. Who has the right one waits with the
	// others while somebody tries, seconds.
	numberBurst = 60
	numberEvery = time.Second
)

// guard slows down who guesses. It is pure: the time comes in. An attempt counts
// until done says that it was right.
type guard struct {
	mu       sync.Mutex
	networks map[string]*throttle.Bucket
	// numbers has a place for each number, which some share. Nothing is forgotten:
	// else whoever has many networks would have a number's attempts forgotten by
	// trying others.
	numbers []throttle.Bucket
	seed    maphash.Seed // nobody knows who shares a place
}

func newGuard() *guard {
	g := &guard{networks: map[string]*throttle.Bucket{}, numbers: make([]throttle.Bucket, places), seed: maphash.MakeSeed()}
	for i := range g.numbers {
		g.numbers[i].Size, g.numbers[i].Every = numberBurst, numberEvery
	}
	return g
}

// enter returns how long to wait, or 0 and what to call with the outcome.
func (g *guard) enter(a netip.Addr, number string, now time.Time) (time.Duration, func(right bool)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	network := throttle.Keyed(g.networks, throttle.Network(a), maxNetworks, netBurst, netEvery)
	if d := network.Take(now); d > 0 {
		return d, nil
	}
	all := &g.numbers[maphash.String(g.seed, number)%places]
	if d := all.Take(now); d > 0 {
		network.Return()
		return d, nil
	}
	return 0, func(right bool) {
		if right {
			network.Return()
			all.Return()
		}
	}
}
