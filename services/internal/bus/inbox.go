package bus

import "sync"

// Bounds of what waits for one subscription's function.
const (
	authorMessages = 1024     // of one author
	authorBytes    = 4 << 20  // of one author
	inboxBytes     = 32 << 20 // of all
	// messageCost is what a message costs in bytes beside its data.
	messageCost = 128
)

// inbox holds messages for one subscription, in order for each author, and hands
// them out author by author: one who floods waits behind himself.
type inbox struct {
	mu      sync.Mutex
	queues  map[Peer]*queue
	turn    []*queue // those with messages, the next one first
	bytes   int
	closed  bool
	dropped uint64
	wake    chan struct{} // something is there, or closed
}

type queue struct {
	author   Peer
	messages []Message
	bytes    int
}

func newInbox() *inbox {
	return &inbox{queues: make(map[Peer]*queue), wake: make(chan struct{}, 1)}
}

// push adds a message. Where its author, or all, have too many waiting, it is
// dropped: the ones before it are older promises.
func (b *inbox) push(m Message) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	q, cost := b.queues[m.From], messageCost+len(m.Data)
	if b.closed {
		return false
	}
	if q == nil {
		q = &queue{author: m.From}
	}
	if len(q.messages) >= authorMessages || q.bytes+cost > authorBytes || b.bytes+cost > inboxBytes {
		b.dropped++
		return false
	}
	if len(q.messages) == 0 {
		b.queues[m.From] = q
		b.turn = append(b.turn, q)
	}
	q.messages, q.bytes, b.bytes = append(q.messages, m), q.bytes+cost, b.bytes+cost
	kick(b.wake)
	return true
}

// pop takes the next message, if there is one.
func (b *inbox) pop() (m Message, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.turn) == 0 {
		return m, false
	}
	q := b.turn[0]
	b.turn = append(b.turn[:0], b.turn[1:]...)
	m = q.messages[0]
	q.messages[0] = Message{} // its data is not held by the slice
	q.messages = q.messages[1:]
	cost := messageCost + len(m.Data)
	q.bytes, b.bytes = q.bytes-cost, b.bytes-cost
	if len(q.messages) > 0 {
		b.turn = append(b.turn, q)
	} else {
		delete(b.queues, q.author)
	}
	return m, true
}

// close drops what waits.
func (b *inbox) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed, b.queues, b.turn, b.bytes = true, nil, nil, 0
	kick(b.wake)
}

func (b *inbox) isClosed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closed
}

func kick(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default: // it will be seen
	}
}
