package guard

import "sync"

// Tally counts what callers have under way. It is safe for concurrent use.
type Tally struct {
	mu sync.Mutex
	n  map[string]int
}

// Enter counts one more of the caller in, if it may have so many.
func (t *Tally) Enter(name string, most int) (leave func(), ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.n[name] >= most {
		return nil, false
	}
	if t.n == nil {
		t.n = map[string]int{}
	}
	t.n[name]++
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.n[name]--; t.n[name] == 0 {
			delete(t.n, name)
		}
	}, true
}
