package zctrl

import (
	"fmt"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/parley-meet/parley/services/internal/bus/bustest"
	"github.com/parley-meet/parley/services/internal/signal"
	"github.com/parley-meet/parley/services/internal/ticket"
)

// Two people meet by two controllers, and what they say reaches each other while
// links break and controllers end.
func TestMeeting(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, 2)
	one, two := r.controllers[0], r.controllers[1]
	alice := r.join("m1", "alice", ticket.Host, one, two)
	bob := r.join("m1", "bob", ticket.Guest, two, one)

	// One router alone was heard of it, by both controllers.
	running := 0
	for _, x := range r.routers {
		running += len(x.hall.Load().Meetings)
	}
	if running != 1 {
		t.Fatalf("the meeting runs at %d routers", running)
	}
	lines := 0
	talk := func(n int) {
		for range n {
			alice.say(fmt.Sprint("a", lines))
			bob.say(fmt.Sprint("b", lines))
			lines++
			time.Sleep(10 * time.Millisecond) // more at once is refused as too fast
		}
	}
	talk(5)
	alice.hears("b", lines)
	bob.hears("a", lines)

	// A WebSocket breaks.
	alice.mu.Lock()
	alice.ws.CloseNow()
	alice.mu.Unlock()
	talk(5)
	alice.hears("b", lines)
	bob.hears("a", lines)

	// A controller is killed.
	bustest.Eventually(t, "alice is at the first controller", func() bool {
		if alice.at() == one.at {
			return true
		}
		alice.mu.Lock()
		defer alice.mu.Unlock()
		alice.ws.CloseNow()
		return false
	})
	began := time.Now()
	one.kill()
	talk(5)
	alice.hears("b", lines)
	bob.hears("a", lines)
	t.Logf("everything was heard %v after a controller was killed", time.Since(began).Round(time.Millisecond))
	if alice.at() != two.at {
		t.Error("alice is at a controller that was killed")
	}
	for _, p := range []*person{alice, bob} {
		if p.joined != 1 || p.closed != "" {
			t.Errorf("joined %d times, closed %q: the session did not go on", p.joined, p.closed)
		}
	}
}

// A controller that stops tells its pages, who go on at the other one.
func TestDrain(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, 1)
	one, two := r.controllers[0], r.controllers[1]
	alice := r.join("m1", "alice", ticket.Host, one, two)
	bob := r.join("m1", "bob", ticket.Guest, two)
	one.stop()
	if !alice.seen(websocket.StatusServiceRestart) {
		t.Errorf("codes %v", alice.codes)
	}
	if n := one.door.len(); n != 0 {
		t.Errorf("%d connections are left", n)
	}
	alice.say("a0")
	bob.hears("a", 1)
	if alice.at() != two.at || alice.joined != 1 {
		t.Error("the session did not go on at the other controller")
	}
}

// A meeting whose router falls silent begins again at another one, with what was
// set in it, and its people come by their tickets and passes.
func TestRouterSilent(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, 2)
	one := r.controllers[0]
	// A router gives a pass a minute before the ticket ends.
	text := r.ticketFor("m1", "alice", ticket.Host, 62*time.Second)
	alice := comes(t, "alice", text, one.at)
	bob := r.join("m1", "bob", ticket.Guest, one)
	locked := true
	alice.send(&signal.Command{Do: signal.Set, Settings: &signal.Change{Locked: &locked}})
	bustest.Eventually(t, "the meeting is locked", func() bool { bob.mu.Lock(); defer bob.mu.Unlock(); return bob.locked })
	at := 0
	if len(r.routers[1].hall.Load().Meetings) > 0 {
		at = 1
	}
	bustest.Eventually(t, "the controller has what is kept", func() bool {
		z := one.current()
		n, _ := z.carrier.Keeps()
		return n == 1
	})
	bustest.Eventually(t, "alice has a pass", func() bool { alice.mu.Lock(); defer alice.mu.Unlock(); return alice.pass != text })
	time.Sleep(2500 * time.Millisecond) // the lock is kept too: a limit of what outlives a router
	r.routers[at].silence()
	bustest.Eventually(t, "both have joined again", func() bool {
		alice.mu.Lock()
		defer alice.mu.Unlock()
		bob.mu.Lock()
		defer bob.mu.Unlock()
		return alice.joined == 2 && bob.joined == 2
	})
	if n := len(r.routers[1-at].hall.Load().Meetings); n != 1 {
		t.Errorf("%d meetings at the other router", n)
	}
	bustest.Eventually(t, "it is locked still", func() bool { bob.mu.Lock(); defer bob.mu.Unlock(); return bob.locked })
	alice.say("a0")
	bob.hears("a", 1)
}
