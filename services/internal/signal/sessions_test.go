package signal

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// open is what a page that holds other secrets than Client's would send.
func open(link uint32, o Open) []byte {
	o.Link = link
	return Frame{Open: &o}.Format()
}

func secret(c string) string { return strings.Repeat(c, SecretSize) }

// answer is the one frame for a link among the events.
func answer(t *testing.T, events []Event, link Link) Frame {
	t.Helper()
	for _, e := range events {
		if w, ok := e.(Write); ok && w.Link == link && w.Frame != nil {
			f, err := ParseFrame(w.Frame)
			if err != nil {
				t.Fatal(err)
			}
			return f
		}
	}
	t.Fatalf("nothing for %s in %+v", link, events)
	return Frame{}
}

// begin opens a session with secret a on link l1.
func begin(t *testing.T) (*Sessions, string) {
	t.Helper()
	r := NewSessions(10)
	events := r.Receive("l1", open(1, Open{Ticket: theTicket, Secret: secret("a")}), start)
	if len(events) != 1 || events[0] != (Knock{"l1", theTicket}) {
		t.Fatalf("%+v", events)
	}
	id, events := r.Accept("l1", "m1", start)
	if f := answer(t, events, "l1"); id == "" || f.Opened == nil || *f.Opened != (Opened{"m1", id}) {
		t.Fatalf("%q %+v", id, f)
	}
	return r, id
}

func TestResume(t *testing.T) {
	r, id := begin(t)
	resume := func(secret, next string) Open {
		return Open{Meeting: "m1", Session: id, Secret: secret, Next: next}
	}
	a, b, c, d := secret("a"), secret("b"), secret("c"), secret("d")
	for _, x := range []struct {
		what string
		link uint32
		open Open
		code Code // "": opened
	}{
		{"wrong secret", 2, resume(c, d), Unknown},
		{"next alone", 2, resume(b, c), Unknown},
		{"other meeting", 2, Open{Meeting: "m2", Session: id, Secret: a, Next: b}, Unknown},
		{"other session", 2, Open{Meeting: "m1", Session: "x", Secret: a, Next: b}, Unknown},
		{"resumes", 2, resume(a, b), ""},
		{"the answer was lost", 3, resume(a, b), ""},
		{"stolen, old", 4, resume(a, c), Unknown},
		{"stolen, old, guessing the link", 1 << 31, resume(a, c), Unknown},
		{"resumes again", 5, resume(b, c), ""},
		{"an old pair", 6, resume(a, b), Unknown},
		{"and again", 7, resume(c, d), ""},
		{"the ticket, its secret long gone", 8, Open{Ticket: theTicket, Secret: a}, Used},
	} {
		link := Link(fmt.Sprint("l", x.link))
		events := r.Receive(link, open(x.link, x.open), start)
		if len(events) == 1 && events[0] == (Knock{link, theTicket}) {
			events = r.Refuse(link, Used)
		}
		f := answer(t, events, link)
		if x.code == "" && f.Opened == nil || x.code != "" && (f.Closed == nil || f.Closed.Code != x.code) {
			t.Errorf("%s: %+v", x.what, f)
		}
	}
	// The link before is closed when another one proves to be the page's.
	events := r.Receive("l9", open(9, resume(d, a)), start)
	if f := answer(t, events, "l7"); f.Closed == nil || f.Closed.Code != Replaced {
		t.Errorf("%+v", f)
	}
	// A late open of the link before moves nothing back.
	if events := r.Receive("l7", open(7, resume(d, a)), start); len(events) != 0 {
		t.Errorf("%+v", events)
	}
	if r.Count() != 1 {
		t.Errorf("%d sessions", r.Count())
	}
}

func TestTicketAgain(t *testing.T) {
	r, id := begin(t)
	r.Cut("l1", start)
	// The answer was lost with the link: the same ticket and secret are the same page.
	if f := answer(t, r.Receive("l2", open(2, Open{Ticket: theTicket, Secret: secret("a")}), start), "l2"); f.Opened == nil || f.Opened.Session != id {
		t.Errorf("%+v", f)
	}
	// With another secret it is somebody else.
	if events := r.Receive("l3", open(1, Open{Ticket: theTicket, Secret: secret("b")}), start); len(events) != 1 || events[0] != (Knock{"l3", theTicket}) {
		t.Errorf("%+v", events)
	}
	// While that is not decided, neither the link nor the ticket is asked about.
	for _, link := range []Link{"l3", "l4"} {
		if events := r.Receive(link, open(1, Open{Ticket: theTicket, Secret: secret("b")}), start); len(events) != 0 {
			t.Errorf("%s: %+v", link, events)
		}
	}
	if f := answer(t, r.Refuse("l3", Used), "l3"); f.Closed == nil || f.Closed.Code != Used {
		t.Errorf("%+v", f)
	}
	if id, events := r.Accept("l3", "m1", start); id != "" || len(events) != 0 {
		t.Errorf("accepted what was refused: %q %+v", id, events)
	}
}

func TestSilentLink(t *testing.T) {
	w := newWire(t)
	w.connect()
	w.deliver()
	if !w.page.Open() {
		t.Fatal("not open")
	}
	// The router hears nothing; the page, whose link is as silent, is later.
	w.now = start.Add(Silence)
	events := w.router.Tick(w.now)
	if len(events) != 2 || events[0].(Write).Frame != nil || !events[0].(Write).Last || events[1] != (Lost{w.id}) {
		t.Fatalf("%+v", events)
	}
	// What it sends is answered with drop, so that it resumes and loses nothing.
	if err := w.page.Send(&Say{Text: "hello"}, start.Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	w.pageSent = []string{"hello"}
	for _, b := range w.page.Poll(start.Add(time.Second)) {
		if f := answer(t, w.router.Receive("link1", b, w.now), "link1"); !f.Drop {
			t.Errorf("%+v", f)
		}
	}
	if _, err := w.page.Receive(1, Frame{Drop: true}.Format(), w.now); err != nil || !w.page.Wants() {
		t.Fatalf("wants %t, %v, closed %q", w.page.Wants(), err, w.page.Closed())
	}
	w.settle()
	if !slices.Equal(w.routerGot, w.pageSent) || w.page.Closed() != "" {
		t.Errorf("%v, closed %q", w.routerGot, w.page.Closed())
	}
}

// An idle session costs each end a ping and an answer each PingAfter.
func TestKeepAlive(t *testing.T) {
	w := newWire(t)
	w.connect()
	w.deliver()
	frames := 0
	for w.now.Before(start.Add(time.Minute)) {
		w.now = w.now.Add(50 * time.Millisecond)
		w.poll()
		frames += len(w.up[w.link]) + len(w.down[w.link])
		w.deliver()
	}
	if !w.page.Open() || w.lost != 0 {
		t.Errorf("open %t, %d times lost", w.page.Open(), w.lost)
	}
	if frames < 12 || frames > 60 {
		t.Errorf("%d frames in a minute", frames)
	}
}

func TestAckAlone(t *testing.T) {
	w := newWire(t)
	w.connect()
	w.deliver()
	w.pageSends()
	w.deliver()
	w.now = w.now.Add(AckAfter)
	w.poll()
	w.deliver()
	if n, _ := w.page.s.Waiting(); n != 0 || !slices.Equal(w.routerGot, w.pageSent) {
		t.Errorf("%d wait after %v", n, AckAfter)
	}
}

// A body that came before tells that the other end does not know.
func TestAckOfRepeated(t *testing.T) {
	r, _ := begin(t)
	b := Frame{N: 1, Body: Format(&Leave{})}.Format()
	if events := r.Receive("l1", b, start); len(events) != 1 {
		t.Errorf("%+v", events)
	}
	r.Tick(start.Add(AckAfter))
	events := r.Receive("l1", b, start.Add(Resend))
	if len(events) != 1 || answer(t, events, "l1").Ack != 1 {
		t.Errorf("%+v", events)
	}
}

func TestDropBeforeOpened(t *testing.T) {
	c := NewClient("t", start)
	link := c.Up(start)
	c.Poll(start)
	if _, err := c.Receive(link, Frame{Drop: true}.Format(), start); err != nil || c.Wants() {
		t.Errorf("wants another link than the one that it opens, %v", err)
	}
	// A link that answers nothing is given up.
	for _, d := range []time.Duration{OpenRetry, 2 * OpenRetry} {
		if n := len(c.Poll(start.Add(d))); n != 1 {
			t.Errorf("%d frames after %v", n, d)
		}
	}
	if c.Poll(start.Add(Silence)); !c.Wants() {
		t.Error("waits for ever")
	}
}

func TestWindow(t *testing.T) {
	r, id := begin(t)
	wrote := 0
	for i := range 3 * Window {
		for _, e := range r.Send([]string{id}, Format(&Speaker{ID: ID(i)}), start) {
			if _, ok := e.(Write); ok {
				wrote++
			}
		}
	}
	if wrote != Window {
		t.Errorf("%d under way, want %d", wrote, Window)
	}
	if n := len(r.Receive("l1", Frame{Ack: 10}.Format(), start)); n != 10 {
		t.Errorf("%d more after 10 are acknowledged", n)
	}
}

func TestOverflow(t *testing.T) {
	for name, body := range map[string][]byte{
		"count": Format(&Speaker{ID: 1}), "bytes": Format(&Answer{SDP: strings.Repeat("x", 300<<10)}), "one": Format(&Answer{SDP: strings.Repeat("x", MaxFrame)}),
	} {
		r, id := begin(t)
		r.Cut("l1", start)
		var gone Event
		for i := 0; gone == nil && i <= RouterLimits.Count; i++ {
			for _, e := range r.Send([]string{id}, body, start) {
				gone = e
			}
		}
		if gone != (Gone{id, Overflow}) || r.Count() != 0 {
			t.Errorf("%s: %+v, %d sessions", name, gone, r.Count())
		}
		// The page hears why, when it is back, and only then.
		f := answer(t, r.Receive("l2", open(2, Open{Meeting: "m1", Session: id, Secret: secret("a"), Next: secret("b")}), start), "l2")
		if f.Closed == nil || f.Closed.Code != Overflow {
			t.Errorf("%s: %+v", name, f)
		}
	}
	c := NewClient("t", start)
	for range PageLimits.Count {
		if err := c.Send(&Leave{}, start); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Send(&Leave{}, start); err == nil || c.Closed() != Overflow || c.Wants() {
		t.Errorf("%v, closed %q, wants %t", err, c.Closed(), c.Wants())
	}
}

func TestIdle(t *testing.T) {
	r, id := begin(t)
	r.Cut("l1", start)
	if events := r.Tick(start.Add(ResumeWithin - time.Millisecond)); len(events) != 0 {
		t.Errorf("%+v", events)
	}
	if events := r.Tick(start.Add(ResumeWithin)); len(events) != 1 || events[0] != (Gone{id, Idle}) {
		t.Errorf("%+v", events)
	}
	o := open(2, Open{Meeting: "m1", Session: id, Secret: secret("a"), Next: secret("b")})
	if f := answer(t, r.Receive("l2", o, start.Add(ResumeWithin)), "l2"); f.Closed == nil || f.Closed.Code != Idle {
		t.Errorf("%+v", f)
	}
	r.Tick(start.Add(3 * ResumeWithin))
	if f := answer(t, r.Receive("l3", o, start.Add(3*ResumeWithin)), "l3"); f.Closed == nil || f.Closed.Code != Unknown || len(r.tombs) != 0 {
		t.Errorf("%+v, %d tombs", f, len(r.tombs))
	}
}

func TestClose(t *testing.T) {
	r, id := begin(t)
	var frames []Frame
	for _, e := range append(r.Send([]string{id}, Format(&Speaker{ID: 1}), start), r.Close(id, Removed, start)...) {
		if w, ok := e.(Write); ok {
			f, err := ParseFrame(w.Frame)
			if err != nil {
				t.Fatal(err)
			}
			frames = append(frames, f)
		}
	}
	if len(frames) != 2 || frames[0].N != 1 || frames[1].Closed == nil || frames[1].Closed.Code != Removed {
		t.Errorf("%+v", frames)
	}
	if events := r.Close(id, Removed, start); len(events) != 0 {
		t.Errorf("%+v", events)
	}
	if len(r.byLink)+len(r.byTicket)+len(r.byID) != 0 {
		t.Error("something is left")
	}
}

// What breaks the rules ends the session of who breaks them, and no other.
func TestHostile(t *testing.T) {
	for name, frame := range map[string]string{
		"no JSON": "hello", "array": "[]", "unknown member": `{"x":1}`, "two values": `{"ack":0}{}`, "opened": `{"opened":{"meeting":"m","session":"s"}}`,
		"closed": `{"closed":{"code":"meet-ended"}}`, "ack of nothing": `{"ack":1}`, "n without body": `{"n":1}`, "body without n": `{"body":{}}`,
		"negative": `{"n":-1,"body":{}}`, "fraction": `{"n":1.5,"body":{}}`, "large": `{"n":9007199254740992,"body":{}}`,
		"long": `{"n":1,"body":"` + strings.Repeat("x", MaxFrame) + `"}`, "null body": `{"n":1,"body":null}`, "open and body": `{"n":1,"body":{},"open":{"link":1,"ticket":"t","secret":"` + secret("a") + `"}}`,
		"drop": `{"drop":true}`, "second session": string(open(2, Open{Meeting: "m1", Session: "x", Secret: "short", Next: secret("b")})),
	} {
		r, id := begin(t)
		if !slices.Contains(r.Receive("l1", []byte(frame), start), Event(Gone{id, Garbled})) {
			t.Errorf("%s: the session goes on", name)
		}
		r, _ = begin(t)
		r.Receive("other", []byte(frame), start)
		if r.Count() != 1 {
			t.Errorf("%s on another link: %d sessions", name, r.Count())
		}
	}
	for name, frame := range map[string][]byte{"frames": Frame{}.Format(), "bytes": Frame{N: 9, Body: []byte(`"` + strings.Repeat("x", 300<<10) + `"`)}.Format()} {
		r, id := begin(t)
		flooded := false
		for range FrameBurst + 1 {
			flooded = flooded || slices.Contains(r.Receive("l1", frame, start), Event(Gone{id, Flooded}))
		}
		if !flooded {
			t.Errorf("%s: no end", name)
		}
	}
	// At the rate that is allowed all goes on.
	r, _ := begin(t)
	for i := range 3 * FrameBurst {
		r.Receive("l1", Frame{}.Format(), start.Add(time.Duration(i)*time.Second/FrameRate))
	}
	if r.Count() != 1 {
		t.Error("ended at the allowed rate")
	}
}

func TestMostSessions(t *testing.T) {
	r := NewSessions(2)
	for i := range 3 {
		link := Link(fmt.Sprint(i))
		r.Receive(link, open(1, Open{Ticket: fmt.Sprint("t", i), Secret: secret("a")}), start)
		id, events := r.Accept(link, "m1", start)
		if (id == "") != (i == 2) {
			t.Errorf("%d: %q %+v", i, id, events)
		}
		if i == 2 {
			if f := answer(t, events, link); f.Closed == nil || f.Closed.Code != Crowded {
				t.Errorf("%+v", f)
			}
		}
	}
	for i := range 3 {
		link := Link(fmt.Sprint("k", i))
		events := r.Receive(link, open(1, Open{Ticket: fmt.Sprint("k", i), Secret: secret("a")}), start)
		if _, knocks := events[0].(Knock); knocks != (i < 2) {
			t.Errorf("%d: %+v", i, events)
		}
	}
	r.Tick(start.Add(Silence))
	if len(r.knocks) != 0 {
		t.Errorf("%d knock for ever", len(r.knocks))
	}
}
