package link

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Bounds of events.
const (
	// maxOutbox is how many events wait for the portal. When there are more, the
	// oldest is dropped of those that matter least: what happened last matters
	// most. The portal sees by the numbers that some are missing, and is told how
	// many in Status.Dropped.
	maxOutbox = 1000
	// maxEvent is the longest name and data in bytes: an event that the portal
	// cannot read would end each connection anew.
	maxEvent = 16 << 10
	// window is how many events are on their way at once. What stands behind them
	// on the connection, statuses and the answers to pings, does not wait for all
	// that was gathered while there was no link.
	window = 32
)

// Weights of events: those of the least are dropped first.
const (
	statistic = iota // the next one says it anew
	alert            // something is wrong, or was
	essential        // meetings' beginnings and ends stand in their hosts' lists
)

func weight(name string) int {
	switch {
	case name == "meeting.participants" || strings.HasPrefix(name, "statistics."):
		return statistic
	case strings.HasPrefix(name, "meeting."):
		return essential
	}
	return alert
}

// Event tells the portal of something that happened. It is kept until the portal
// has it on disk, as long as this process runs: what the next one must know, it
// has from the machine itself. Its name and data, as JSON, have
// 16 KiB at most.
func (c *Client) Event(name string, data any, now time.Time) error {
	b, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("event %s: %w", name, err)
	}
	if n := len(name) + len(b); n > maxEvent {
		return fmt.Errorf("event %.40q of %d bytes, at most %d", name, n, maxEvent)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.number++
	c.outbox = append(c.outbox, Event{Number: c.number, At: now, Name: name, Data: b})
	if len(c.outbox) > maxOutbox {
		least := 0
		for i, e := range c.outbox {
			if weight(e.Name) < weight(c.outbox[least].Name) {
				least = i
			}
		}
		c.outbox = slices.Delete(c.outbox, least, least+1)
		c.dropped++
		c.droppedAt = now
	}
	kick(c.post)
	return nil
}

// Waiting returns how many events wait for the portal, and how many were dropped.
func (c *Client) Waiting() (waiting, dropped int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.outbox), c.dropped
}

// status is how the appliance is, and what it had to drop.
func (c *Client) status() Status {
	st := c.cfg.Status()
	c.mu.Lock()
	defer c.mu.Unlock()
	st.Dropped, st.DroppedAt = c.dropped, c.droppedAt
	return st
}

// taken forgets the events that the portal has, and lets the next ones go.
func (s *session) taken(number uint64) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.outbox, func(e Event) bool { return e.Number > number })
	if i < 0 {
		i = len(c.outbox)
	}
	c.outbox = slices.Delete(c.outbox, 0, i)
	kick(c.post)
}

// outbox sends the events and requests that wait.
func (s *session) outbox(ctx context.Context) error {
	s.c.mu.Lock()
	var events []Event
	under := 0
	for _, e := range s.c.outbox {
		if under++; under > window {
			break
		}
		if e.Number > s.sent {
			events = append(events, e)
		}
	}
	asks, number := s.c.asks, s.c.asked
	s.c.mu.Unlock()
	for _, e := range events {
		if err := s.send(ctx, KindEvent, e); err != nil {
			return err
		}
		s.sent = e.Number
	}
	for _, a := range asks {
		if err := s.send(ctx, KindRenew, a); err != nil {
			return err
		}
	}
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.c.asked == number {
		s.c.asks = nil // nobody has asked for something else meanwhile
	}
	return nil
}
