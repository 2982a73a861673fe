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
	tell("meeting.started", 10)
	tell("service.failed", maxOutbox-10)
	if n, dropped := c.Waiting(); n != maxOutbox || dropped != 0 {
		t.Errorf("%d wait, %d dropped", n, dropped)
	}
	tell("x", 5)
	if n, dropped := c.Waiting(); n != maxOutbox || dropped != 5 || c.outbox[0].Number != 1 || c.outbox[10].Number != 16 {
		t.Errorf("%d wait, %d dropped, the first others are %d", n, dropped, c.outbox[10].Number)
	}
	tell("meeting.ended", maxOutbox-10) // nothing else is left
	if c.outbox[9].Number != 10 || !essential(c.outbox[10].Name) {
		t.Errorf("a meeting's event was dropped: %+v", c.outbox[9:11])
	}
	tell("meeting.ended", 1)
	if n, dropped := c.Waiting(); n != maxOutbox || c.outbox[0].Number != 2 || c.status().Dropped != dropped {
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
