package member

import (
	"slices"
	"sync"
)

// board holds the state that is shown, and those who watch it.
type board struct {
	mu       sync.Mutex
	state    State
	watchers []chan struct{}
}

// State returns what is shown.
func (b *board) State() State {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state
}

// Watch is Zone's.
func (b *board) Watch() (changed <-chan struct{}, stop func()) {
	ch := make(chan struct{}, 1)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.watchers = append(b.watchers, ch)
	return ch, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.watchers = slices.DeleteFunc(b.watchers, func(o chan struct{}) bool { return o == ch })
	}
}

// change changes what is shown, and tells those who watch. do replaces what
// pointers and slices point to, and never writes into it: it is shared.
func (b *board) change(do func(*State)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	do(&b.state)
	for _, ch := range b.watchers {
		kick(ch)
	}
}

func kick(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default: // it will be seen
	}
}
