package zctrl

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/parley-meet/parley/services/internal/bus"
	"github.com/parley-meet/parley/services/internal/bus/bustest"
	"github.com/parley-meet/parley/services/internal/bus/placement"
	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/signal"
	"github.com/parley-meet/parley/services/internal/ticket"
)

// dial opens a WebSocket, or returns the status.
func (k *tested) dial(ctx context.Context, hc *http.Client) (*websocket.Conn, int, error) {
	ws, res, err := websocket.Dial(ctx, fmt.Sprintf("wss://%s/signal", k.at), &websocket.DialOptions{HTTPClient: hc})
	status := 0
	if res != nil {
		status = res.StatusCode
	}
	return ws, status, err
}

// answer sends a first frame and returns what comes back.
func (k *tested) answer(t *testing.T, hc *http.Client, kind websocket.MessageType, text string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bustest.Patience)
	defer cancel()
	ws, _, err := k.dial(ctx, hc)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer ws.CloseNow()
	if err := ws.Write(ctx, kind, []byte(text)); err != nil {
		return "closed"
	}
	_, b, err := ws.Read(ctx)
	if err != nil {
		return fmt.Sprintf("closed %d", websocket.CloseStatus(err))
	}
	return string(b)
}

func opens(o signal.Open) string {
	o.Link, o.Secret = 1, strings.Repeat("s", signal.SecretSize)
	if o.Ticket == "" {
		o.Next = strings.Repeat("n", signal.SecretSize)
	}
	return string(signal.Frame{Open: &o}.Format())
}

// No router hears of somebody without a good ticket, however many come, and they
// cost bounded memory.
func TestNoTicket(t *testing.T) {
	r := newRig(t, 1, 1)
	k, hc := r.controllers[0], browser()
	good := r.ticket("m1", "alice", ticket.Host)
	forged := good[:len(good)-8] + "AAAAAAAA"
	z := k.current()
	bustest.Eventually(t, "it waits for no passes any more", func() bool { return time.Since(z.born) > settleTime })
	closed := func(c signal.Code) string { return `{"closed":{"code":"` + string(c) + `"}}` }
	for _, x := range []struct {
		kind websocket.MessageType
		text string
		want string
	}{
		{websocket.MessageText, "{}", closed(signal.Garbled)},
		{websocket.MessageText, "nonsense", closed(signal.Garbled)},
		{websocket.MessageBinary, opens(signal.Open{Ticket: good}), closed(signal.Garbled)},
		{websocket.MessageText, opens(signal.Open{Ticket: forged}), closed(signal.BadTicket)},
		{websocket.MessageText, opens(signal.Open{Ticket: "a.b.c"}), closed(signal.BadTicket)},
		{websocket.MessageText, opens(signal.Open{Meeting: "m1", Session: "s"}), closed(signal.Unknown)},
		{websocket.MessageText, strings.Repeat("x", maxOpen+1), "closed 1009"},
	} {
		if got := k.answer(t, hc, x.kind, x.text); got != x.want {
			t.Errorf("%.50s: %s, want %s", x.text, got, x.want)
		}
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var work sync.WaitGroup
	for range 4 {
		work.Go(func() {
			for range 100 {
				k.answer(t, hc, websocket.MessageText, opens(signal.Open{Ticket: forged}))
			}
		})
	}
	work.Wait()
	hc.CloseIdleConnections()
	bustest.Eventually(t, "they are gone", func() bool {
		pages, _ := k.pagesNow()
		k.waiting.mu.Lock()
		defer k.waiting.mu.Unlock()
		return pages == 0 && k.waiting.n == 0
	})
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 32<<20 {
		t.Errorf("400 bad tickets left %d bytes", grown)
	}
	if n := r.routers[0].frames(); n != 0 {
		t.Errorf("the router has heard %d frames", n)
	}
	if c := z.carrier.Counts(); c.Sent != 0 || c.Links != 0 {
		t.Errorf("counts %+v", c)
	}
	// Somebody with a ticket comes in beside them.
	r.join("m1", "bob", ticket.Host, k)
}

// WebSockets that say nothing take the places of no more than their bound, and of
// nobody who is in.
func TestSilentPages(t *testing.T) {
	r := newRig(t, 1, 1)
	k, hc := r.controllers[0], browser()
	alice := r.join("m1", "alice", ticket.Host, k)
	refused := 0
	for range maxPeerWaiting + 5 {
		ws, status, err := k.dial(t.Context(), hc)
		if err == nil {
			defer ws.CloseNow()
		} else if status == http.StatusServiceUnavailable {
			refused++
		}
	}
	if refused < 5 {
		t.Errorf("%d were refused", refused)
	}
	alice.say("a0")
	alice.hears("a", 1)
}

// Connections that send nothing, or their handshake bit by bit, end.
func TestSlowHandshake(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, 0)
	k := r.controllers[0]
	conn, err := net.Dial("tcp", k.at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	rec := &recorder{}
	_ = tls.Client(rec, clientTLS).Handshake()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for _, b := range rec.b {
			if _, err := conn.Write([]byte{b}); err != nil {
				return
			}
			time.Sleep(200 * time.Millisecond)
		}
	}()
	idle, err := net.Dial("tcp", k.at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	for _, c := range []net.Conn{conn, idle} {
		c.SetReadDeadline(time.Now().Add(bustest.Patience))
		b := make([]byte, 1024)
		for {
			if _, err := c.Read(b); err != nil {
				if ne, ok := err.(net.Error); ok && ne.Timeout() {
					t.Error("it is open still")
				}
				break
			}
		}
	}
	<-ended
}

// recorder keeps what is written, and has nothing to read.
type recorder struct {
	net.Conn
	b []byte
}

func (r *recorder) Write(b []byte) (int, error) { r.b = append(r.b, b...); return len(b), nil }
func (r *recorder) Read([]byte) (int, error)    { return 0, net.ErrClosed }
func (r *recorder) Close() error                { return nil }

// A page that does not read is cut, and its router does not wait for it.
func TestSlowPage(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, 1)
	k, x := r.controllers[0], r.routers[0]
	bustest.Eventually(t, "the controller has settled", func() bool { return k.current().settled(time.Now()) })
	ws, _, err := k.dial(t.Context(), browser())
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	if err := ws.Write(t.Context(), websocket.MessageText, []byte(opens(signal.Open{Ticket: r.ticket("m1", "alice", ticket.Host)}))); err != nil {
		t.Fatal(err)
	}
	bustest.Eventually(t, "the router has the link", func() bool { x.mu.Lock(); defer x.mu.Unlock(); return x.last != "" })
	big := make([]byte, 100<<10)
	for i := range big {
		big[i] = ' '
	}
	began := time.Now()
	for range 400 {
		x.carrier.Write(x.last, big, false)
		time.Sleep(time.Millisecond)
	}
	if took := time.Since(began); took > bustest.Patience/2 {
		t.Errorf("the router waited: %v", took)
	}
	bustest.Eventually(t, "the page is cut", func() bool { pages, _ := k.pagesNow(); return pages == 0 })
	if n := k.current().carrier.Counts().Links; n != 0 {
		t.Errorf("%d links are left", n)
	}
}

// A router that runs a meeting which another one has is told to end it, and its
// people move.
func TestTwice(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, 2)
	one, two := r.controllers[0], r.controllers[1]
	alice := r.join("m1", "alice", ticket.Host, one)
	here := 0
	if len(r.routers[1].hall.Load().Meetings) > 0 {
		here = 1
	}
	// As if the other controller had not heard of it: the meeting begins at the other
	// router, with the ticket of bob, and so a higher epoch.
	other := r.routers[1-here]
	other.hall.Expect("m1", uint64(time.Now().UnixMilli())+1, nil)
	other.hall.Receive("own-1", []byte(opens(signal.Open{Ticket: r.ticket("m1", "bob", ticket.Guest)})))
	bustest.Eventually(t, "both run it", func() bool { return len(other.hall.Load().Meetings) == 1 })
	bustest.Eventually(t, "one runs it, and alice is there", func() bool {
		alice.mu.Lock()
		defer alice.mu.Unlock()
		a, b := r.routers[here].hall.Load(), other.hall.Load()
		return len(a.Meetings)+len(b.Meetings) == 1 && alice.joined == 2 && alice.closed == signal.Moved
	})
	bob := r.join("m1", "carol", ticket.Guest, two)
	alice.say("a0")
	bob.hears("a", 1)
}

// A router that is killed and comes back has its meetings again, with its people,
// within a few seconds.
func TestRouterRestarts(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, 1)
	one, two := r.controllers[0], r.controllers[1]
	alice := r.join("m1", "alice", ticket.Host, one)
	bob := r.join("m1", "bob", ticket.Guest, two)
	bustest.Eventually(t, "the controllers have what is kept", func() bool {
		a, _ := one.current().carrier.Keeps()
		b, _ := two.current().carrier.Keeps()
		return a == 1 && b == 1
	})
	again := &router{cred: r.routers[0].cred}
	r.routers[0].silence()
	began := time.Now()
	again.start(t, r, r.told(again.cred.Appliance), one.at.Port(), logger(t, "again"))
	bustest.Eventually(t, "both have joined again", func() bool {
		alice.mu.Lock()
		defer alice.mu.Unlock()
		bob.mu.Lock()
		defer bob.mu.Unlock()
		return alice.joined == 2 && bob.joined == 2
	})
	t.Logf("back after %v", time.Since(began).Round(time.Millisecond))
	alice.say("a0")
	bob.hears("a", 1)
}

// Where no router takes meetings people are told so.
func TestNoRouter(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, 0)
	k := r.controllers[0]
	got := k.answer(t, browser(), websocket.MessageText, opens(signal.Open{Ticket: r.ticket("m1", "alice", ticket.Host)}))
	if want := `{"closed":{"code":"meet-no-router"}}`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := k.answer(t, browser(), websocket.MessageText, opens(signal.Open{Meeting: "m1", Session: "s"})); got != "closed 1013" {
		t.Errorf("a session that goes on: %s", got)
	}
}

// Many WebSockets with one ticket are one person: the others stay strangers.
func TestOneTicket(t *testing.T) {
	r := newRig(t, 1, 1)
	k, hc := r.controllers[0], browser()
	r.join("m1", "host", ticket.Host, k)
	text := r.ticket("m1", "mallory", ticket.Guest)
	const many = 50
	for range many {
		ws, _, err := k.dial(t.Context(), hc)
		if err != nil {
			t.Fatal(err)
		}
		defer ws.CloseNow()
		if err := ws.Write(t.Context(), websocket.MessageText, []byte(opens(signal.Open{Ticket: text}))); err != nil {
			t.Fatal(err)
		}
	}
	bustest.Eventually(t, "all have come to the router", func() bool { _, links := k.pagesNow(); return links == many+1 })
	bustest.Eventually(t, "one is let in", func() bool {
		k.waiting.mu.Lock()
		defer k.waiting.mu.Unlock()
		return k.waiting.n == many-1
	})
	k.door.mu.Lock()
	strangers, all := k.door.order.Len(), len(k.door.guests)
	k.door.mu.Unlock()
	if all-strangers > 3 { // the host, mallory, the router's bus
		t.Errorf("%d connections are kept", all-strangers)
	}
	if n := r.routers[0].hall.Load().Participants; n != 2 {
		t.Errorf("%d participants", n)
	}
}

// Where the routers are there and full people are told that.
func TestFull(t *testing.T) {
	r := newRig(t, 1, 1)
	k := r.controllers[0]
	z := k.current()
	bustest.Eventually(t, "the controller has settled", func() bool { return z.settled(time.Now()) })
	r.routers[0].silence()
	a, err := placement.Announcement{Version: "1.2.3", Host: "r", Limit: 1, Participants: 1}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	// It is said again and again: the controller may find out that nobody is there.
	bustest.Eventually(t, "somebody is told", func() bool {
		z.view.Hear(bus.Message{From: bus.Peer{Role: link.Router, ID: "full"}, Topic: placement.Topic, Data: a})
		z.view.Forget(r.routers[0].cred.Appliance)
		return k.answer(t, browser(), websocket.MessageText, opens(signal.Open{Ticket: r.ticket("m1", "alice", ticket.Host)})) == `{"closed":{"code":"meet-full"}}`
	})
}
