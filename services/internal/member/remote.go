package member

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/parley-meet/parley/internal/localsocket"
	"github.com/parley-meet/parley/services/internal/ticket"
)

// Times and bounds of a Remote.
const (
	retryLeast = 100 * time.Millisecond
	retryMost  = 2 * time.Second
	// maxQueue is how many events wait for the zone controller. When there are more,
	// the oldest of the statistics goes, which the next one says anew; where there
	// is none, the new one is refused.
	maxQueue = 1000
	// window is how many of them are on their way at once.
	window = 32
)

// Remote is a Member of another process of this machine.
type Remote struct {
	board
	path    string
	servers []uint32
	log     *slog.Logger
	boot    string
	wake    chan struct{} // something is to be said
	// patience is lastWords, less than the zone controller's.
	patience time.Duration

	mu     sync.Mutex
	queue  []event
	number uint64 // of the last event
	usage  *Usage // nil: nothing was reported
	usedAt time.Time
	news   bool // usage was not said yet
	up     bool
}

// Dial returns the membership that is served at path, by the own user or one of
// servers. It starts nothing: Run connects, and again when the other process has
// restarted. Until it has, State is empty; while the other process is away, the
// last one holds.
func Dial(path string, log *slog.Logger, servers ...uint32) *Remote {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Remote{path: path, servers: servers, log: log, boot: rand.Text(), wake: make(chan struct{}, 1), patience: lastWords / 2}
}

// Run keeps the connection until ctx ends, and for a moment more while events wait;
// it returns nil then.
func (r *Remote) Run(ctx context.Context) error {
	wait := retryLeast
	last := ""
	for {
		began := time.Now()
		err := r.session(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(began) > retryMost {
			wait = retryLeast
		}
		if text := fmt.Sprint(err); text != last { // it is tried often
			r.log.Warn("the zone controller is away: what it said last holds", "error", err)
			last = text
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
		wait = min(2*wait, retryMost)
	}
}

// Connected reports whether the zone controller is there.
func (r *Remote) Connected() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.up
}

// session is one connection.
func (r *Remote) session(ctx context.Context) error {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", r.path)
	if err != nil {
		return err
	}
	defer conn.Close()
	// Whoever made the socket may name keys and settings: it is no other's.
	who, err := localsocket.Peer(conn.(*net.UnixConn))
	if err != nil {
		return err
	}
	if own := uint32(os.Getuid()); who.Uid != own && !slices.Contains(r.servers, who.Uid) {
		return fmt.Errorf("%s is served by user %d", r.path, who.Uid)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	ended := ctx
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	defer cancel()
	wg.Go(func() {
		defer cancel()
		select {
		case <-ended.Done():
			r.drain(ctx)
		case <-ctx.Done():
		}
	})
	if err := say(conn, up{Hello: &hello{Boot: r.boot}}); err != nil {
		return err
	}
	defer r.connected(false)
	wg.Go(func() {
		defer cancel()
		_ = r.write(ctx, conn) // reading fails then too, and says why
	})
	in := newLines(conn, maxDown)
	for {
		var d down
		if err := in.next(&d); err != nil {
			return err
		}
		if d.Taken > 0 {
			r.taken(d.Taken)
		}
		if d.State != nil {
			r.connected(true)
			r.change(func(s *State) { *s = *d.State })
		}
	}
}

// drain waits for the zone controller to take the events.
func (r *Remote) drain(ctx context.Context) {
	for end := time.Now().Add(r.patience); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(5 * time.Millisecond) {
		r.mu.Lock()
		waiting := len(r.queue)
		r.mu.Unlock()
		if waiting == 0 {
			return
		}
	}
}

func (r *Remote) connected(so bool) {
	r.mu.Lock()
	was := r.up
	r.up = so
	r.mu.Unlock()
	if so && !was {
		r.log.Info("zone controller: connected", "socket", r.path)
	}
}

// write says events and usage.
func (r *Remote) write(ctx context.Context, conn net.Conn) error {
	sent := uint64(0)
	r.mu.Lock()
	r.news = r.usage != nil
	r.mu.Unlock()
	for {
		r.mu.Lock()
		var events []event
		for _, e := range r.queue[:min(window, len(r.queue))] {
			if e.Number > sent {
				events = append(events, e)
			}
		}
		var usage *Usage
		if r.news && time.Since(r.usedAt) < UsageLife {
			usage = r.usage
		}
		r.news = false
		r.mu.Unlock()
		for _, e := range events {
			if err := say(conn, up{Event: &e}); err != nil {
				return err
			}
			sent = e.Number
		}
		if usage != nil {
			if err := say(conn, up{Usage: usage}); err != nil {
				return err
			}
		}
		select {
		case <-r.wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// taken forgets the events that the zone controller has.
func (r *Remote) taken(number uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.queue = slices.DeleteFunc(r.queue, func(e event) bool { return e.Number <= number })
	kick(r.wake)
}

// Event is Zone's. It waits while the zone controller is away; ErrAway is that
// too many do.
func (r *Remote) Event(name string, data any) error {
	b, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("event %s: %w", name, err)
	}
	if n := len(name) + len(b); n > maxEvent {
		return fmt.Errorf("event %.40q of %d bytes, at most %d", name, n, maxEvent)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.queue) >= maxQueue {
		i := slices.IndexFunc(r.queue, func(e event) bool { return statistic(e.Name) })
		if i < 0 {
			return ErrAway
		}
		r.queue = slices.Delete(r.queue, i, i+1)
	}
	r.number++
	r.queue = append(r.queue, event{r.number, time.Now(), name, b})
	kick(r.wake)
	return nil
}

// statistic reports whether the next event of the name says it anew, as package
// link weighs them.
func statistic(name string) bool {
	return name == "meeting.participants" || strings.HasPrefix(name, "statistics.")
}

// Sign is Zone's: the key stays with the zone controller.
func (r *Remote) Sign(ticket.Claims) (string, error) { return "", ErrNoKey }

// Report is Zone's.
func (r *Remote) Report(u Usage) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.usage, r.usedAt, r.news = &u, time.Now(), true
	kick(r.wake)
}
