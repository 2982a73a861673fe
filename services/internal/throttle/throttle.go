// Package throttle slows down whoever guesses passwords, and never locks
// anybody out. That is pure: the time comes in as an argument. Limit bounds
// connections.
//
// Delay is the growing wait after failures in a row. Table keeps it for many
// callers, in bounded memory. Bucket bounds all failures of one account, for
// guesses that come from many addresses at once.
package throttle

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// MaxDelay is the longest wait.
const MaxDelay = time.Minute

// free is how many failures in a row cost nothing: people mistype.
const free = 2

// Delay returns how long to wait after the nth failure in a row: nothing after
// the first two, then 1 s, 2 s, 4 s … up to MaxDelay.
func Delay(failures int) time.Duration {
	if failures <= free {
		return 0
	}
	if failures-free > 10 {
		return MaxDelay
	}
	return min(time.Second<<(failures-free-1), MaxDelay)
}

// forget is how long after its last failure a caller starts afresh.
const forget = 15 * time.Minute

// Table counts the failures of callers, by key. It is safe for concurrent use.
type Table struct {
	size int

	mu      sync.Mutex
	entries map[string]*entry
}

type entry struct {
	failures int
	last     time.Time // of the last failure
	until    time.Time // earliest next attempt
}

// NewTable returns a table of at most size callers. When it is full the one
// whose last failure is oldest is forgotten.
func NewTable(size int) *Table {
	return &Table{size: size, entries: map[string]*entry{}}
}

// Wait returns how long the caller has to wait before its next attempt.
func (t *Table) Wait(key string, now time.Time) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.entries[key]
	if e == nil {
		return 0
	}
	e.rebase(now)
	return max(0, e.until.Sub(now))
}

// rebase takes a clock that was set back for granted: the last failure was now,
// or the caller would wait until the clock is where it was.
func (e *entry) rebase(now time.Time) {
	if now.Before(e.last) {
		e.last, e.until = now, now.Add(Delay(e.failures))
	}
}

// Fail counts a failure. It is called before the password is checked, so that
// attempts made at once are counted too; Succeed takes it back.
func (t *Table) Fail(key string, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.entries[key]
	if e == nil {
		if len(t.entries) >= t.size {
			t.dropLocked(now)
		}
		e = &entry{}
		t.entries[key] = e
	}
	if now.Sub(e.last) > forget {
		e.failures = 0
	}
	e.failures++
	e.last, e.until = now, now.Add(Delay(e.failures))
}

// TakeBack takes a failure back that was none: what was to be judged was not
// looked at. Those before it stay.
func (t *Table) TakeBack(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.entries[key]
	if e == nil {
		return
	}
	if e.failures--; e.failures <= 0 {
		delete(t.entries, key)
		return
	}
	e.until = e.last.Add(Delay(e.failures))
}

// Succeed forgets the caller's failures.
func (t *Table) Succeed(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.entries, key)
}

// Len returns how many callers are remembered.
func (t *Table) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.entries)
}

func (t *Table) dropLocked(now time.Time) {
	oldest := ""
	for k, e := range t.entries {
		e.rebase(now)
		if now.Sub(e.last) > forget {
			delete(t.entries, k)
		} else if oldest == "" || e.last.Before(t.entries[oldest].last) {
			oldest = k
		}
	}
	if len(t.entries) >= t.size {
		delete(t.entries, oldest)
	}
}

// Bucket is a token bucket. It is safe for concurrent use.
type Bucket struct {
	Size  int           // tokens
	Every time.Duration // one more token

	mu    sync.Mutex
	used  time.Duration // until what was taken has grown back
	since time.Time     // of used
}

// Take takes a token, or returns how long until there is one.
func (b *Bucket) Take(now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	// A clock that was set back gives nothing and takes nothing.
	b.used -= min(b.used, max(0, now.Sub(b.since)))
	b.since = now
	if wait := b.used + b.Every - time.Duration(b.Size)*b.Every; wait > 0 {
		return wait
	}
	b.used += b.Every
	return 0
}

// Return gives a token back: the attempt was a good one.
func (b *Bucket) Return() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used = max(0, b.used-b.Every)
}

// Network returns what addresses are counted by: the /24 of an IPv4 address,
// the /64 of an IPv6 one.
func Network(a netip.Addr) string {
	a = a.Unmap().WithZone("")
	bits := 64
	if a.Is4() {
		bits = 24
	}
	p, err := a.Prefix(bits)
	if err != nil || !p.IsValid() {
		return "unknown"
	}
	return p.String()
}

// Peer returns what connections are counted by: so many bits of an IPv4 or IPv6
// address, for within a network addresses are free. What is no address counts as
// one.
func Peer(a net.Addr, four, six int) netip.Prefix {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Prefix{}
	}
	ip := ap.Addr().Unmap().WithZone("")
	bits := four
	if ip.Is6() {
		bits = six
	}
	return netip.PrefixFrom(ip, bits).Masked()
}

// Keyed returns the bucket of a key of m, made with a size and a pace when it is
// not there. When there are most already any other is forgotten: whoever has many
// keys needs a bucket for all of them together too. The caller holds m's lock.
func Keyed(m map[string]*Bucket, key string, most, size int, every time.Duration) *Bucket {
	b := m[key]
	if b == nil {
		if len(m) >= most {
			for k := range m {
				delete(m, k)
				break
			}
		}
		b = &Bucket{Size: size, Every: every}
		m[key] = b
	}
	return b
}
