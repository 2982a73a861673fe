// Package throttle slows down whoever guesses passwords, and never locks
// anybody out. It is pure: the time comes in as an argument.
//
// Delay is the growing wait after failures in a row. Table keeps it for many
// callers, in bounded memory. Bucket bounds all failures of one account, for
// guesses that come from many addresses at once.
package throttle

import (
	"net/netip"
	"sync"
	"time"
)

// MaxDelay is the longest wait.
const MaxDelay = time.Minute

// free is how many failures in a row cost nothing: people mistype.
const free = 3

// Delay returns how long to wait after the nth failure in a row: nothing up to
// the third, then 1 s, 2 s, 4 s … up to MaxDelay.
func Delay(failures int) time.Duration {
	if failures < free {
		return 0
	}
	if failures-free > 10 {
		return MaxDelay
	}
	return min(time.Second<<(failures-free), MaxDelay)
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
	// A clock that was set back must not make the wait longer.
	return max(0, min(e.until.Sub(now), MaxDelay))
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
	used  float64 // tokens taken and not grown back
	since time.Time
}

// Take takes a token, or returns how long until there is one.
func (b *Bucket) Take(now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if d := now.Sub(b.since); d > 0 && b.used > 0 {
		b.used = max(0, b.used-float64(d)/float64(b.Every))
	}
	b.since = now
	if over := b.used + 1 - float64(b.Size); over > 0 {
		return time.Duration(over * float64(b.Every))
	}
	b.used++
	return 0
}

// Return gives a token back: the attempt was a good one.
func (b *Bucket) Return() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used = max(0, b.used-1)
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
	if err != nil {
		return "unknown"
	}
	return p.String()
}
