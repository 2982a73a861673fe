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
	live chan struct{} // closed once notes arrive

	mu   sync.Mutex
	subs map[*Subscription]bool
}

// subscriptionSize is how many notes wait for one who listens; where one more
// comes the oldest is dropped, and the new one becomes one of TopicAll.
const subscriptionSize = 256

// Subscription is somebody who listens.
type Subscription struct {
	C      <-chan Note
	c      chan Note
	topics []string
	bus    *bus
}

func newBus(db *DB, url string) *bus {
	b := &bus{db: db, subs: map[*Subscription]bool{}, done: make(chan struct{}), live: make(chan struct{})}
	ctx, stop := context.WithCancel(context.Background())
	b.stop = stop
	if db.kind == Postgres {
		go b.listen(ctx, url)
	} else {
		close(b.live)
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

// deliver never waits: in a full queue the last note tells its owner to look at
// everything.
func (b *bus) deliver(n Note) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for s := range b.subs {
		if !s.wants(n.Topic) {
			continue
		}
		select {
		case s.c <- n:
			continue
		default:
		}
		select {
		case <-s.c:
		default: // its owner was quick
		}
		s.c <- Note{Topic: TopicAll} // there is room: nobody else sends
	}
}

// A connection that says nothing for listenCheck must answer within
// listenAnswer: a server that vanished closes nothing.
const (
	listenCheck  = 15 * time.Second
	listenAnswer = 5 * time.Second
)

// listen has a connection of its own to PostgreSQL, and a new one when it is
// lost.
func (b *bus) listen(ctx context.Context, url string) {
	defer close(b.done)
	wait, live := time.Duration(0), sync.OnceFunc(func() { close(b.live) })
	for ctx.Err() == nil {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		err := b.listenOnce(ctx, url, func() {
			wait = 100 * time.Millisecond
			b.deliver(Note{Topic: TopicAll}) // what was told meanwhile was missed
			live()
		})
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
	for {
		quiet, cancel := context.WithTimeout(ctx, listenCheck)
		n, err := conn.WaitForNotification(quiet)
		cancel()
		if err != nil && quiet.Err() != nil && ctx.Err() == nil && !conn.IsClosed() {
			ping, cancel := context.WithTimeout(ctx, listenAnswer)
			err := conn.Ping(ping)
			cancel()
			if err != nil {
				return err
			}
			continue
		}
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
