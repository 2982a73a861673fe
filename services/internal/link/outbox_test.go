package link

import (
	"strings"
	"testing"
	"time"
)

// What waits is bounded. The oldest goes first, meetings' events last.
func TestOutbox(t *testing.T) {
	c := &Client{post: make(chan struct{}, 1), cfg: ClientConfig{Status: func() Status { return Status{} }}}
	tell := func(name string, n int) {
		t.Helper()
		for range n {
			if err := c.Event(name, 1, time.Now()); err != nil {
				t.Fatal(err)
			}
		}
	}
	names := func() map[string]int {
		out := map[string]int{}
		for _, e := range c.outbox {
			out[e.Name]++
		}
		return out
	}
	tell("meeting.started", 10)
	tell("service.failed", 200)
	tell("meeting.participants", maxOutbox-210)
	if n, dropped := c.Waiting(); n != maxOutbox || dropped != 0 || !c.status().DroppedAt.IsZero() {
		t.Errorf("%d wait, %d dropped", n, dropped)
	}
	// Statistics make room for anything, the oldest of them first.
	tell("meeting.participants", 5)
	if n, dropped := c.Waiting(); n != maxOutbox || dropped != 5 || c.outbox[210].Number != 216 {
		t.Errorf("%d wait, %d dropped, the first statistic is %d", n, dropped, c.outbox[210].Number)
	}
	tell("service.failed", maxOutbox-210)
	if got := names(); got["meeting.participants"] != 0 || got["service.failed"] != maxOutbox-10 || got["meeting.started"] != 10 {
		t.Errorf("%v", got)
	}
	tell("statistics.x", 50) // there is no room for what matters less
	if got := names(); got["statistics.x"] != 0 || got["service.failed"] != maxOutbox-10 {
		t.Errorf("%v", got)
	}
	// Alerts make room for meetings.
	tell("meeting.ended", maxOutbox-10)
	if got := names(); got["meeting.started"] != 10 || got["meeting.ended"] != maxOutbox-10 {
		t.Errorf("%v", got)
	}
	tell("meeting.ended", 1)
	if n, dropped := c.Waiting(); n != maxOutbox || c.outbox[0].Number != 2 || c.status().Dropped != dropped || c.status().DroppedAt.IsZero() {
		t.Errorf("%d wait, the first is %d, %d dropped, told %d", n, c.outbox[0].Number, dropped, c.status().Dropped)
	}
	for i := range c.outbox[1:] {
		if c.outbox[i].Number >= c.outbox[i+1].Number {
			t.Fatal("out of order")
		}
	}
	(&session{c: c}).taken(10)
	if c.outbox[0].Number <= 10 {
		t.Errorf("the first is %d", c.outbox[0].Number)
	}
	(&session{c: c}).taken(1 << 40)
	if n, _ := c.Waiting(); n != 0 {
		t.Errorf("%d are left", n)
	}
	if err := c.Event("x", strings.Repeat("a", maxEvent), time.Now()); err == nil {
		t.Error("an event was taken that the portal cannot read")
	}
}
