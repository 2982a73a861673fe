package ticket

import (
	"container/heap"
	"errors"
	"sync"
	"time"
)

// Errors of Replay.
var (
	ErrUsed = errors.New("ticket: used before")
	ErrFull = errors.New("ticket: too many in use")
)

// Replay remembers which tickets were used until they expire. It holds a bounded
// number; when it is full of tickets that still live new ones are refused, for
// one that was forgotten could be used twice. It is safe for concurrent use.
type Replay struct {
	mu   sync.Mutex
	most int
	seen map[string]struct{}
	ends ends
}

// NewReplay returns one for so many tickets at a time.
func NewReplay(most int) *Replay { return &Replay{most: most, seen: map[string]struct{}{}} }

// Use takes a ticket that Verify has found good. It returns ErrUsed the second
// time, and ErrFull.
func (r *Replay) Use(c Claims, now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.ends) > 0 && !now.Before(r.ends[0].at) {
		delete(r.seen, heap.Pop(&r.ends).(end).id)
	}
	if _, used := r.seen[c.ID]; used {
		return ErrUsed
	}
	if len(r.seen) >= r.most {
		return ErrFull
	}
	r.seen[c.ID] = struct{}{}
	heap.Push(&r.ends, end{c.ID, c.Expires.Add(Skew)})
	return nil
}

type end struct {
	id string
	at time.Time
}

// ends is a heap (package container/heap), the next one first.
type ends []end

func (e ends) Len() int           { return len(e) }
func (e ends) Less(i, j int) bool { return e[i].at.Before(e[j].at) }
func (e ends) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *ends) Push(x any)        { *e = append(*e, x.(end)) }
func (e *ends) Pop() any {
	old := *e
	x := old[len(old)-1]
	*e = old[:len(old)-1]
	return x
}
