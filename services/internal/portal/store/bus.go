package store

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// channel is the name that PostgreSQL's notifications have.
const channel = "parley_portal"

// Note is what Tx.Notify told.
type Note struct {
	Topic   string // has no space
	Payload string
}

// TopicAll is a note's topic when notes may have been lost: whoever listens must
// look at everything again.
const TopicAll = "*"

// bus hands notes to those who listen.
type bus struct {
	db   *DB
	stop context.CancelFunc
	done chan struct{}

	mu   sync.Mutex
	subs map[*Subscription]bool
}

// subscriptionSize is how many notes wait for one who listens; when there are
// more they are dropped, and one of TopicAll takes their place.
const subscriptionSize = 256

// Subscription is somebody who listens.
type Subscription struct {
	C      <-chan Note
	c      chan Note
	topics []string
	bus    *bus
	lost   bool // guarded by the bus's lock
}

func newBus(db *DB, url string) *bus {
	b := &bus{db: db, subs: map[*Subscription]bool{}, done: make(chan struct{})}
	ctx, stop := context.WithCancel(context.Background())
	b.stop = stop
	if db.kind == Postgres {
		go b.listen(ctx, url)
	} else {
		close(b.done)
	}
	return b
}

// Subscribe returns a subscription to notes of topics. Close it.
func (db *DB) Subscribe(topics ...string) *Subscription {
	c := make(chan Note, subscriptionSize)
	s := &Subscription{C: c, c: c, topics: topics, bus: db.bus}
	db.bus.mu.Lock()
	defer db.bus.mu.Unlock()
	db.bus.subs[s] = true
	return s
}

// Close ends the subscription; C gets nothing more.
func (s *Subscription) Close() {
	s.bus.mu.Lock()
	defer s.bus.mu.Unlock()
	delete(s.bus.subs, s)
}

func (s *Subscription) wants(topic string) bool {
	if topic == TopicAll {
		return true
	}
	for _, t := range s.topics {
		if t == topic {
			return true
		}
	}
	return false
}

// deliver never waits: a full queue is marked, and its owner told to look at
// everything.
func (b *bus) deliver(n Note) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for s := range b.subs {
		if !s.wants(n.Topic) {
			continue
		}
		if s.lost {
			n = Note{Topic: TopicAll}
		}
		select {
		case s.c <- n:
			s.lost = false
		default:
			s.lost = true
		}
	}
}

// listen has a connection of its own to PostgreSQL, and a new one when it is
// lost.
func (b *bus) listen(ctx context.Context, url string) {
	defer close(b.done)
	wait := time.Duration(0)
	for ctx.Err() == nil {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		err := b.listenOnce(ctx, url, func() { wait = 100 * time.Millisecond })
		if ctx.Err() != nil {
			return
		}
		b.db.log.Warn("notifications from the database are away", "error", err)
		wait = min(max(2*wait, 100*time.Millisecond), 5*time.Second)
	}
}

func (b *bus) listenOnce(ctx context.Context, url string, connected func()) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return hideURL(err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	connected()
	b.deliver(Note{Topic: TopicAll}) // what was told meanwhile was missed
	for {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			return err
		}
		topic, payload, _ := strings.Cut(n.Payload, " ")
		b.deliver(Note{topic, payload})
	}
}

func (b *bus) close() {
	b.stop()
	<-b.done
}
