package webconsole

import (
	"net/netip"
	"sync"
	"time"

	"github.com/parley-meet/parley/services/internal/account"
	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/throttle"
)

// Bounds of logins.
const (
	maxNetworks = 4096 // whose failures are counted; as many addresses
	// maxChecks passwords are checked or wait for it, of which the last
	// keptChecks are for addresses that somebody has logged in from: a flood from
	// everywhere does not turn the administrator away.
	maxChecks     = 8
	keptChecks    = 2
	maxPeerChecks = 2
	maxKnown      = 256 // addresses that somebody has logged in from
	// Failures of a network: after netBurst one each netEvery. One address that
	// guesses does not use that up, so its neighbours can log in.
	netBurst = 10
	netEvery = 6 * time.Second
	// Failures of all networks together: after failBurst one each failEvery.
	failBurst = 30
	failEvery = 2 * time.Second
	// Failures of an account from addresses that nobody has logged in from: after
	// accountBurst one each accountEvery. Its owner waits no longer than that.
	accountBurst = 20
	accountEvery = 3 * time.Second
	maxAccounts  = 1024 // names whose failures are counted
	// Codes of an account's second factor, from such addresses: whoever tries
	// them has its password, and of a million codes three are right at a time.
	codeBurst = 10
	codeEvery = time.Minute
	// busyWait is how long to wait when too many are checked at once.
	busyWait = 2 * time.Second
)

// guard decides whether a password may be checked now. It never locks anybody
// out: it says how long to wait, a minute at most. It is pure: the time comes
// in. An attempt counts as a failure until it succeeds, also one that is broken
// off.
//
// Failures in a row are counted for an address and for the account that it tries:
// whoever has an account must not be able to have guesses at another's forgotten
// by logging in with his own. They are counted for an address, because the administrator often
// shares the network with whoever guesses; of IPv6 for a /64, in which addresses
// are free. An address that somebody has logged in from is counted by itself
// and not held up by what others do; so is a browser, wherever it is.
type guard struct {
	mu       sync.Mutex
	failures *throttle.Table // by peer
	personal *throttle.Table // by peer and account
	networks map[string]*throttle.Bucket
	accounts map[string]*throttle.Bucket
	codes    map[string]*throttle.Bucket // by account
	tokens   *throttle.Table             // by network, of the API's tokens
	all      throttle.Bucket
	known    map[string]time.Time // address → last success
	checks   map[string]int       // by peer, under way
	total    int
}

func newGuard() *guard {
	return &guard{
		failures: throttle.NewTable(maxNetworks), personal: throttle.NewTable(maxNetworks), tokens: throttle.NewTable(maxNetworks),
		networks: map[string]*throttle.Bucket{}, accounts: map[string]*throttle.Bucket{}, codes: map[string]*throttle.Bucket{},
		all:   throttle.Bucket{Size: failBurst, Every: failEvery},
		known: map[string]time.Time{}, checks: map[string]int{},
	}
}

// enter returns how long the address has to wait before it tries the account's
// password, or 0 and what to call with the attempt's outcome.
func (g *guard) enter(a netip.Addr, account string, now time.Time) (wait time.Duration, done func(good bool, now time.Time)) {
	return g.enterWith(a, account, "", false, now)
}

// enterWith is enter, of a browser that is known for the account by a mark of
// its own, or "", and of an attempt with or without a code.
func (g *guard) enterWith(a netip.Addr, name, device string, code bool, now time.Time) (wait time.Duration, done func(good bool, now time.Time)) {
	a, name = a.Unmap().WithZone(""), api.Cut(account.FoldName(name), 64)
	network, address := throttle.Network(a), a.String()
	g.mu.Lock()
	defer g.mu.Unlock()
	_, known := g.known[address]
	key, most := address, maxChecks
	if device != "" {
		known, key = true, "device "+device
	}
	if !known {
		most -= keptChecks
		if !a.Is4() {
			key = network
		}
	}
	if g.total >= most || g.checks[key] >= maxPeerChecks {
		return busyWait, nil
	}
	own := key + " " + name
	if d := max(g.failures.Wait(key, now), g.personal.Wait(own, now)); d > 0 {
		return d, nil
	}
	var taken []*throttle.Bucket
	if !known {
		buckets := []*throttle.Bucket{
			bucketLocked(g.networks, network, maxNetworks, netBurst, netEvery),
			bucketLocked(g.accounts, name, maxAccounts, accountBurst, accountEvery), &g.all,
		}
		if code {
			buckets = append(buckets, bucketLocked(g.codes, name, maxAccounts, codeBurst, codeEvery))
		}
		for _, b := range buckets {
			if d := b.Take(now); d > 0 {
				for _, b := range taken {
					b.Return()
				}
				return min(d, throttle.MaxDelay), nil
			}
			taken = append(taken, b)
		}
	}
	g.failures.Fail(key, now)
	g.personal.Fail(own, now)
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
		g.personal.Succeed(own)
		for _, b := range taken {
			b.Return()
		}
		g.rememberLocked(address, now)
	}
}

// bucketLocked returns the key's bucket. When there are too many any other is
// forgotten: all of them together are bounded too.
func bucketLocked(m map[string]*throttle.Bucket, key string, most, size int, every time.Duration) *throttle.Bucket {
	b := m[key]
	if b == nil {
		if len(m) >= most {
			for k := range m {
				delete(m, k)
				break
			}
		}
		b = &throttle.Bucket{Size: size, Every: every}
		m[key] = b
	}
	return b
}

// tokenWait returns how long the address has to wait before its next token is
// looked at.
func (g *guard) tokenWait(a netip.Addr, now time.Time) time.Duration {
	return g.tokens.Wait(tokenKey(a), now)
}

func (g *guard) tokenFailed(a netip.Addr, now time.Time) { g.tokens.Fail(tokenKey(a), now) }

// tokenKey is the address, of IPv6 its /64, in which addresses are free.
func tokenKey(a netip.Addr) string {
	if a = a.Unmap().WithZone(""); a.Is4() {
		return a.String()
	}
	return throttle.Network(a)
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
