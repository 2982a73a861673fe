package server

import (
	"sync"
	"time"
)

// Lines about what a user was denied: so many in deniedEvery, for each user.
const (
	deniedLines = 10
	deniedEvery = time.Minute
)

// denials keeps a service that was taken over from pushing everything else out
// of PID 1's log with what it is denied. It is pure: the time comes in.
type denials struct {
	mu sync.Mutex
	m  map[uint32]*denial // by user, of which config.json has few
}

type denial struct {
	since time.Time
	count int
	left  int // out, since the last line
}

// count counts a denial, and says whether a line is written, and how many were
// left out before.
func (d *denials) count(uid uint32, now time.Time) (left int, write bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.m == nil {
		d.m = map[uint32]*denial{}
	}
	e := d.m[uid]
	if e == nil {
		e = &denial{since: now}
		d.m[uid] = e
	}
	if age := now.Sub(e.since); age >= deniedEvery || age < 0 {
		e.since, e.count = now, 0
	}
	if e.count++; e.count > deniedLines {
		e.left++
		return 0, false
	}
	left, e.left = e.left, 0
	return left, true
}
