package cc

import "time"

// queue is a ring of packets. It grows by doubling and is given back when it runs
// empty after it was large. What was dropped from its middle stays as a gap until
// it comes to the head.
type queue[T any] struct {
	ring  []queued[T] // length is a power of two
	first int         // index of the head, never a gap while n > 0
	span  int         // entries from head to tail, gaps included
	n     int         // without gaps
	bytes int         // without gaps
}

type queued[T any] struct {
	Item[T]
	at  time.Duration
	gap bool
}

// keepRing is what an empty queue keeps, in entries.
const keepRing = 64

func (q *queue[T]) slot(i int) *queued[T] { return &q.ring[(q.first+i)&(len(q.ring)-1)] }
func (q *queue[T]) head() *queued[T]      { return &q.ring[q.first] }

func (q *queue[T]) push(now time.Duration, it Item[T]) {
	if q.span == len(q.ring) {
		q.grow()
	}
	*q.slot(q.span) = queued[T]{Item: it, at: now}
	q.span++
	q.n++
	q.bytes += it.Size
}

// grow makes room, first by closing gaps.
func (q *queue[T]) grow() {
	size := max(len(q.ring), 16)
	if q.n > size/2 || len(q.ring) == 0 {
		size = max(2*len(q.ring), 16)
	}
	ring, n := make([]queued[T], size), 0
	for i := range q.span {
		if e := q.slot(i); !e.gap {
			ring[n] = *e
			n++
		}
	}
	q.ring, q.first, q.span = ring, 0, n
}

func (q *queue[T]) pop() Item[T] {
	it := q.head().Item
	q.remove(0)
	q.skip()
	return it
}

// remove makes the i-th entry a gap.
func (q *queue[T]) remove(i int) {
	e := q.slot(i)
	q.n--
	q.bytes -= e.Size
	*e = queued[T]{gap: true}
}

// skip takes gaps off the head.
func (q *queue[T]) skip() {
	for q.span > 0 && q.head().gap {
		q.head().gap = false
		q.first = (q.first + 1) & (len(q.ring) - 1)
		q.span--
	}
	if q.span == 0 && len(q.ring) > keepRing {
		*q = queue[T]{}
	}
}

// drop removes the packets of a stream and gives their number. With untilKey it
// stops where a keyframe begins that is not the stream's first packet here.
func (q *queue[T]) drop(stream uint32, untilKey bool) (n int) {
	for i := range q.span {
		e := q.slot(i)
		if e.gap || e.Stream != stream {
			continue
		}
		if untilKey && n > 0 && e.Key && e.First {
			break
		}
		q.remove(i)
		n++
	}
	q.skip()
	return n
}

func (q *queue[T]) holds(stream uint32) bool {
	for i := range q.span {
		if e := q.slot(i); !e.gap && e.Stream == stream {
			return true
		}
	}
	return false
}
