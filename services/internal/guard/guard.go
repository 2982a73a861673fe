// Package guard slows down whoever guesses passwords, second factors and tokens
// over the network, and never locks anybody out. It is what the console and the
// portal put before their sign-in: counters by address, network, account and
// browser (Guard), and marks of browsers in which somebody has signed in
// (Devices). All of it is in memory: each instance counts for itself.
package guard

import (
	"net/netip"
	"sync"
	"time"

	"github.com/parley-meet/parley/services/internal/account"
	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/throttle"
)

// Limits are what a product has room for.
type Limits struct {
	// Checks passwords are checked or wait for it, of which the last KeptChecks
	// are for addresses that somebody has logged in from: a flood from everywhere
	// does not turn them away.
	Checks, KeptChecks int
	Known              int // addresses that somebody has logged in from
	// Failures of all networks together: after FailBurst one each FailEvery.
	FailBurst int
	FailEvery time.Duration
}

// Console is for an appliance: a few operators.
var Console = Limits{Checks: 8, KeptChecks: 2, Known: 256, FailBurst: 30, FailEvery: 2 * time.Second}

// Portal is for the people of many accounts.
var Portal = Limits{Checks: 32, KeptChecks: 16, Known: 16384, FailBurst: 300, FailEvery: 200 * time.Millisecond}

// Bounds of logins.
const (
	maxNetworks   = 4096 // whose failures are counted; as many addresses
	maxPeerChecks = 2
	// Failures of a network: after netBurst one each netEvery. One address that
	// guesses does not use that up, so its neighbours can log in.
	netBurst = 10
	netEvery = 6 * time.Second
	// Failures of an account from addresses that nobody has logged in from: after
	// accountBurst one each accountEvery. Its owner waits no longer than that.
	accountBurst = 20
	accountEvery = 3 * time.Second
	maxAccounts  = 1024 // names whose failures are counted
	// Codes of an account's second factor, from where it has not logged in: whoever
	// tries them has its password, and of a million codes three are right at a time.
	codeBurst = 10
	codeEvery = time.Minute
	// What strangers of a network ask for, as mails.
	askBurst = 20
	askEvery = 15 * time.Second
	// maxName is how much of an account's name counts, in characters.
	maxName = 254
	// BusyWait is how long to wait when too many are checked at once.
	BusyWait = 2 * time.Second
)

// Guard decides whether a password may be checked now. It never locks anybody
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
type Guard struct {
	limits   Limits
	mu       sync.Mutex
	failures *throttle.Table // by peer
	personal *throttle.Table // by peer and account
	networks map[string]*throttle.Bucket
	accounts map[string]*throttle.Bucket
	codes    map[string]*throttle.Bucket // by account
	asked    map[string]*throttle.Bucket // by network
	tokens   *throttle.Table             // by network, of the API's tokens
	all      throttle.Bucket
	known    map[string]time.Time // address → last success
	own      map[string]time.Time // peer and account → last success
	checks   map[string]int       // by peer, under way
	total    int
}

// New returns a guard.
func New(l Limits) *Guard {
	return &Guard{
		limits:   l,
		failures: throttle.NewTable(maxNetworks), personal: throttle.NewTable(maxNetworks), tokens: throttle.NewTable(maxNetworks),
		networks: map[string]*throttle.Bucket{}, accounts: map[string]*throttle.Bucket{}, codes: map[string]*throttle.Bucket{}, asked: map[string]*throttle.Bucket{},
		all:   throttle.Bucket{Size: l.FailBurst, Every: l.FailEvery},
		known: map[string]time.Time{}, own: map[string]time.Time{}, checks: map[string]int{},
	}
}

// Enter returns how long the address has to wait before it tries the account's
// password, or 0 and what to call with the attempt's outcome. device is the mark
// of a browser that is known for the account, or ""; code says that the attempt
// comes with a code of a second factor.
func (g *Guard) Enter(a netip.Addr, name, device string, code bool, now time.Time) (wait time.Duration, done func(good bool, now time.Time)) {
	a, name = a.Unmap().WithZone(""), api.Cut(account.FoldName(name), maxName)
	network, address := throttle.Network(a), a.String()
	g.mu.Lock()
	defer g.mu.Unlock()
	_, known := g.known[address]
	key, most := address, g.limits.Checks
	if device != "" {
		known, key = true, "device "+device
	}
	if !known {
		most -= g.limits.KeptChecks
		if !a.Is4() {
			key = network
		}
	}
	if g.total >= most || g.checks[key] >= maxPeerChecks {
		return BusyWait, nil
	}
	own := key + " " + name
	if d := max(g.failures.Wait(key, now), g.personal.Wait(own, now)); d > 0 {
		return d, nil
	}
	var buckets, taken []*throttle.Bucket
	if !known {
		buckets = []*throttle.Bucket{
			throttle.Keyed(g.networks, network, maxNetworks, netBurst, netEvery),
			throttle.Keyed(g.accounts, name, maxAccounts, accountBurst, accountEvery), &g.all,
		}
	}
	// An address is known by anybody's login, an attacker's with an account of his
	// own too: for a code it must be by this account's.
	if _, here := g.own[own]; code && device == "" && !here {
		buckets = append(buckets, throttle.Keyed(g.codes, name, maxAccounts, codeBurst, codeEvery))
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
		rememberLocked(g.known, address, g.limits.Known, now)
		rememberLocked(g.own, own, g.limits.Known, now)
	}
}

// TokenWait returns how long the address has to wait before its next token is
// looked at.
func (g *Guard) TokenWait(a netip.Addr, now time.Time) time.Duration {
	return g.tokens.Wait(tokenKey(a), now)
}

// TokenFailed counts a token that was wrong.
func (g *Guard) TokenFailed(a netip.Addr, now time.Time) { g.tokens.Fail(tokenKey(a), now) }

// tokenKey is the address, of IPv6 its /64, in which addresses are free.
func tokenKey(a netip.Addr) string {
	if a = a.Unmap().WithZone(""); a.Is4() {
		return a.String()
	}
	return throttle.Network(a)
}

// rememberLocked notes a success in m, which holds most; the oldest goes.
func rememberLocked(m map[string]time.Time, key string, most int, now time.Time) {
	if _, ok := m[key]; !ok && len(m) >= most {
		oldest := ""
		for k, at := range m {
			if oldest == "" || at.Before(m[oldest]) {
				oldest = k
			}
		}
		delete(m, oldest)
	}
	m[key] = now
}

// Holding slows down whoever holds a session or a link and tries values that only
// its owner knows: whoever has the one has not the right to guess the other. do
// reports whether what was tried was looked at and wrong; key says whose it is.
func (g *Guard) Holding(key string, now time.Time, do func() (wrong bool, err error)) (wait time.Duration, err error) {
	if wait := g.failures.Wait(key, now); wait > 0 {
		return wait, nil
	}
	g.failures.Fail(key, now) // before it is looked at: attempts at once count too
	wrong, err := do()
	switch {
	case err == nil:
		g.failures.Succeed(key)
	case !wrong: // guesses before it count
		g.failures.TakeBack(key)
	}
	return 0, err
}

// Counted returns how many addresses and holders have failures that count.
func (g *Guard) Counted() int { return g.failures.Len() }

// Ask returns how long an address has to wait before it may ask for what costs a
// hash or sends a mail: after askBurst one each askEvery, for each network.
func (g *Guard) Ask(a netip.Addr, now time.Time) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return throttle.Keyed(g.asked, throttle.Network(a), maxNetworks, askBurst, askEvery).Take(now)
}
