package carrier

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/bus"
	"github.com/parley-meet/parley/services/internal/bus/placement"
	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/meeting"
	"github.com/parley-meet/parley/services/internal/signal"
	"github.com/parley-meet/parley/services/internal/ticket"
)

// wires is a bus by hand: what is published waits until it is delivered.
type wires struct {
	self    bus.Peer
	queue   []bus.Message
	to      []bus.Peer
	refuses error
}

func (w *wires) Self() bus.Peer { return w.self }

func (w *wires) Publish(to bus.Peer, topic string, data []byte) error {
	if w.refuses != nil {
		return w.refuses
	}
	if len(data) > bus.MaxData {
		return bus.ErrTooLong
	}
	w.queue, w.to = append(w.queue, bus.Message{From: w.self, Topic: topic, Data: data}), append(w.to, to)
	return nil
}

func (w *wires) Request(ctx context.Context, _ bus.Peer, _ string, _ []byte) ([]byte, error) {
	return nil, context.DeadlineExceeded // bus.Conn's is tested where it runs
}

// take returns what was published.
func (w *wires) take() []bus.Message {
	q := w.queue
	w.queue, w.to = nil, nil
	return q
}

// pair is a controller and a router, and what reaches their users.
type pair struct {
	t          *testing.T
	now        time.Time
	up, down   *wires
	controller *Controller
	router     *Router
	events     []string // of the router
	meets      []Meet
	sent       []string // to the page
}

func newPair(t *testing.T) *pair {
	p := &pair{t: t, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	p.up = &wires{self: bus.Peer{Role: link.Controller, ID: "c1"}}
	p.down = &wires{self: bus.Peer{Role: link.Router, ID: "r1"}}
	now := func() time.Time { return p.now }
	p.controller = NewController(ControllerConfig{Bus: p.up, Now: now})
	p.router = NewRouter(RouterConfig{
		Bus: p.down, Now: now,
		Meet:    func(m Meet) { p.meets = append(p.meets, m) },
		Receive: func(l signal.Link, b []byte) { p.events = append(p.events, fmt.Sprintf("%s %s", p.n(l), b)) },
		Cut:     func(l signal.Link) { p.events = append(p.events, p.n(l)+" cut") },
		End:     func(m string, epoch uint64) { p.events = append(p.events, fmt.Sprint("end ", m, " ", epoch)) },
	})
	return p
}

// n is a link without its boot.
func (p *pair) n(l signal.Link) string {
	parts := strings.Split(string(l), "/")
	if len(parts) != 3 {
		p.t.Fatalf("link %q", l)
	}
	return parts[0] + "/" + parts[2]
}

func (p *pair) sink(b []byte, last bool) { p.sent = append(p.sent, fmt.Sprintf("%s %v", b, last)) }

func (p *pair) deliver() {
	for len(p.up.queue)+len(p.down.queue) > 0 {
		for _, m := range p.up.take() {
			p.router.Hear(m)
		}
		for _, m := range p.down.take() {
			p.controller.Hear(m)
		}
	}
}

func (p *pair) open(id string) *Link {
	p.t.Helper()
	l, err := p.controller.Open(id, placement.Place{Router: "r1", Epoch: 7}, p.sink)
	if err != nil {
		p.t.Fatal(err)
	}
	return l
}

func (p *pair) send(l *Link, text string) {
	p.t.Helper()
	if err := l.Send([]byte(text)); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pair) want(what string, got []string, want ...string) {
	p.t.Helper()
	if strings.Join(got, "|") != strings.Join(want, "|") {
		p.t.Errorf("%s: %q, want %q", what, got, want)
	}
}

// Frames go there and back; the meeting goes along until one has come back.
func TestFrames(t *testing.T) {
	p := newPair(t)
	l := p.open("m1")
	p.send(l, "open")
	p.send(l, "open again")
	p.deliver()
	p.want("router", p.events, "c1/1 open", "c1/1 open again")
	if len(p.meets) != 2 || p.meets[1].Meeting != "m1" || p.meets[1].Epoch != 7 || p.meets[1].Kept != nil {
		t.Errorf("meets %+v", p.meets)
	}
	name := name("c1", address{p.controller.boot, 1})
	p.router.Write(name, []byte("opened"), false)
	p.deliver()
	p.send(l, "more")
	p.deliver()
	p.router.Write(name, []byte("closed"), true)
	p.router.Write(name, []byte("after the last"), false)
	p.deliver()
	p.want("page", p.sent, "opened false", "closed true")
	if len(p.meets) != 2 {
		t.Error("the meeting is told though the router has answered")
	}
	p.send(l, "after the end")
	l.Cut()
	p.deliver()
	p.want("router", p.events, "c1/1 open", "c1/1 open again", "c1/1 more")
	if a, b := p.controller.Counts().Links, p.router.Counts().Links; a+b != 0 {
		t.Errorf("%d and %d links are left", a, b)
	}
}

// A cut ends a link at the router, and so do a new process and silence.
func TestCut(t *testing.T) {
	p := newPair(t)
	l := p.open("m1")
	p.send(l, "a")
	l.Cut()
	l.Cut()
	p.deliver()
	p.send(p.open("m1"), "b")
	p.deliver()
	again := NewController(ControllerConfig{Bus: p.up, Now: func() time.Time { return p.now }})
	l, _ = again.Open("m2", placement.Place{Router: "r1"}, p.sink)
	p.send(l, "c")
	p.deliver()
	p.want("router", p.events, "c1/1 a", "c1/1 cut", "c1/2 b", "c1/2 cut", "c1/1 c")
	p.events = nil
	p.now = p.now.Add(AliveFor)
	p.router.sweep(p.now)
	p.want("before silence", p.events)
	p.router.sweep(p.now.Add(time.Millisecond))
	p.want("silence", p.events, "c1/1 cut")
	if n := len(p.router.controllers); n != 0 {
		t.Errorf("%d controllers are known", n)
	}
}

// A link on which nobody says anything is cut though its controller is alive.
func TestIdle(t *testing.T) {
	p := newPair(t)
	p.send(p.open("m1"), "a")
	p.deliver()
	for range 20 {
		p.now = p.now.Add(AliveEvery)
		p.router.Hear(bus.Message{From: p.up.self, Topic: Topic, Data: message{kind: kindAlive, address: address{boot: p.controller.boot}}.bytes()})
		p.router.sweep(p.now)
	}
	p.want("router", p.events, "c1/1 a", "c1/1 cut")
}

// Long frames go in parts; where one is missing or comes twice nothing else breaks.
func TestParts(t *testing.T) {
	p := newPair(t)
	l := p.open("m1")
	long := strings.Repeat("x", signal.MaxFrame)
	p.send(l, long)
	list := p.up.take()
	if len(list) < 2 {
		t.Fatalf("%d messages", len(list))
	}
	hear := func(ms ...bus.Message) {
		for _, m := range ms {
			p.router.Hear(m)
		}
	}
	hear(list[0], list[0], list[1])
	p.want("router", p.events, "c1/1 "+long)
	p.events = nil
	hear(list[1])
	hear(list[0])
	p.send(l, "short")
	hear(p.up.take()...)
	hear(list[1])
	p.want("after a lost part", p.events, "c1/1 short")
	if p.router.partial != 0 {
		t.Errorf("%d bytes are held", p.router.partial)
	}
	if n := p.router.Counts().Lost; n != 3 {
		t.Errorf("%d lost, want 3", n)
	}
	if err := l.Send(make([]byte, maxBlob+1)); err == nil {
		t.Error("a frame longer than any was taken")
	}
	hear(list[0])
	l.Cut()
	p.deliver()
	if p.router.partial != 0 {
		t.Errorf("%d bytes are held of a link that is gone", p.router.partial)
	}
}

// Parts of frames that never become whole take bounded memory.
func TestPartialBound(t *testing.T) {
	p := newPair(t)
	for i := range 300 {
		p.send(p.open("m1"), strings.Repeat("x", signal.MaxFrame))
		p.router.Hear(p.up.take()[0])
		if p.router.partial > maxPartial {
			t.Fatalf("%d bytes after %d", p.router.partial, i)
		}
	}
	if p.router.Counts().Lost == 0 {
		t.Error("nothing was given up")
	}
}

// What a router keeps comes with the first frame to the next one.
func TestKeep(t *testing.T) {
	p := newPair(t)
	kept := meeting.Kept{Started: p.now, Removed: []string{"mallory"}}
	keep := func(epoch uint64) {
		t.Helper()
		if err := p.router.Keep("m1", epoch, kept); err != nil {
			t.Fatal(err)
		}
		p.router.tellKept(p.now, keepPause)
	}
	keep(7)
	keep(7)
	if n := len(p.down.queue); n != 1 {
		t.Errorf("%d messages, want 1", n)
	}
	kept.Removed = []string{"mallory", "trudy"}
	keep(7)
	if n := len(p.down.queue); n != 1 {
		t.Errorf("%d messages within the pause", n)
	}
	p.now = p.now.Add(keepPause)
	p.router.tellKept(p.now, keepPause)
	p.deliver()
	p.now = p.now.Add(KeepEvery)
	p.router.tellKept(p.now, keepPause)
	if n := len(p.down.queue); n != 1 {
		t.Errorf("%d messages, want it told again", n)
	}
	p.deliver()
	// A controller that is new is told at once.
	p.router.Hear(bus.Message{From: bus.Peer{Role: link.Controller, ID: "c2"}, Topic: Topic, Data: message{kind: kindAlive, address: address{boot: 5}}.bytes()})
	p.now = p.now.Add(keepPause)
	p.router.tellKept(p.now, keepPause)
	if n := len(p.down.queue); n != 1 {
		t.Errorf("%d messages for a new controller", n)
	}
	p.deliver()

	p.send(p.open("m1"), "open")
	p.deliver()
	if m := p.meets[0]; m.Kept == nil || len(m.Kept.Removed) != 2 || !m.Kept.Started.Equal(p.now.Add(-2*keepPause-KeepEvery)) {
		t.Errorf("meet %+v", m)
	}
	// An older router does not take it back, a newer one does.
	p.controller.keep("r2", []byte(`{"meeting":"m1","epoch":6,"over":true}`))
	if n, b := p.controller.Keeps(); n != 1 || b == 0 {
		t.Errorf("%d meetings are kept in %d bytes", n, b)
	}
	p.router.Over("m1", 7)
	p.router.tellKept(p.now.Add(keepPause), keepPause)
	p.deliver()
	if n, b := p.controller.Keeps(); n != 0 || b != 0 {
		t.Errorf("%d meetings are kept in %d bytes after the end", n, b)
	}
	p.router.tellKept(p.now.Add(2*overFor), keepPause)
	if n := len(p.router.kept); n != 0 {
		t.Errorf("%d are told", n)
	}
}

// A pass is good where its meeting's Kept has its key, and for that meeting alone.
func TestPass(t *testing.T) {
	p := newPair(t)
	key, err := meeting.NewPassKey()
	if err != nil {
		t.Fatal(err)
	}
	public := key.Private.Public().(ed25519.PublicKey)
	if err := p.router.Keep("m1", 1, meeting.Kept{Passes: []meeting.PassKey{{ID: key.ID, Public: public, Until: p.now.Add(time.Hour)}}}); err != nil {
		t.Fatal(err)
	}
	if err := p.router.Keep("m2", 1, meeting.Kept{}); err != nil {
		t.Fatal(err)
	}
	p.router.tellKept(p.now, 0)
	p.deliver()
	for id, want := range map[string]error{"m1": nil, "m2": ticket.ErrKey, "m3": ticket.ErrKey} {
		text, err := ticket.Sign(key, ticket.Claims{Issuer: meeting.PassIssuer("z1"), Zone: "z1", Subject: "alice", ID: ticket.NewID(), Account: "a", Name: "Alice", Role: ticket.Host,
			Meeting: ticket.Meeting{ID: id, Number: "1"}, Issued: p.now, Expires: p.now.Add(time.Minute)})
		if err != nil {
			t.Fatal(err)
		}
		c, err := p.controller.VerifyPass(text, "z1")
		if !errors.Is(err, want) || want == nil && c.Meeting.ID != id {
			t.Errorf("%s: %+v, %v, want %v", id, c, err, want)
		}
	}
	for _, text := range []string{"", "..", "a.b.c", "e30.e30.e30", strings.Repeat("x", ticket.MaxSize) + ".e30."} {
		if _, err := p.controller.VerifyPass(text, "z1"); !errors.Is(err, ticket.ErrKey) {
			t.Errorf("%.20q: %v", text, err)
		}
	}
}

// Lies about what is kept are bounded.
func TestKeepBounds(t *testing.T) {
	p := newPair(t)
	big := `{"run":"` + strings.Repeat("x", MaxKept-100) + `"}`
	for i := range 2 * maxHeld / MaxKept {
		p.controller.keep("r1", fmt.Appendf(nil, `{"meeting":"m%d","epoch":1,"kept":%s}`, i, big))
	}
	if n, b := p.controller.Keeps(); b > maxHeld || b < maxHeld-MaxKept {
		t.Errorf("%d meetings, %d bytes", n, b)
	}
	p = newPair(t)
	for i := range 2 * maxMeetings {
		p.controller.keep("r1", fmt.Appendf(nil, `{"meeting":"m%d","epoch":1,"kept":{}}`, i))
	}
	if n, _ := p.controller.Keeps(); n != maxMeetings {
		t.Errorf("%d meetings", n)
	}
	p.controller.keep("r1", []byte(`{"meeting":"`+strings.Repeat("m", 65)+`","epoch":1,"kept":{}}`))
	if p.controller.Counts().Strange != 1 {
		t.Error("a long id was taken")
	}
	if err := p.router.Keep("m1", 1, meeting.Kept{Removed: []string{strings.Repeat("x", MaxKept)}}); err == nil {
		t.Error("what is too long was taken")
	}
}

// Who may say what: routers hear controllers alone, a link its router alone.
func TestStrangers(t *testing.T) {
	p := newPair(t)
	l := p.open("m1")
	p.send(l, "a")
	list := p.up.take()
	list[0].From = bus.Peer{Role: link.Router, ID: "r2"}
	p.router.Hear(list[0])
	p.want("router", p.events)
	forged := message{kindFrame, address{p.controller.boot, l.number}, 1, 0, 1, flagLast, []byte("x")}.bytes()
	p.controller.Hear(bus.Message{From: bus.Peer{Role: link.Router, ID: "r2"}, Data: forged})
	p.want("page", p.sent)
	p.controller.Hear(bus.Message{From: p.down.self, Data: forged})
	p.want("page", p.sent, "x true")
	p.router.Hear(bus.Message{From: p.up.self, Data: append([]byte("f"), make([]byte, frameSize)...)})
	p.router.Hear(bus.Message{From: p.up.self, Data: []byte("e{")})
	if n := p.router.Counts().Strange; n != 2 {
		t.Errorf("%d strange", n)
	}
	if err := p.controller.End("r1", "m1", 9); err != nil {
		t.Fatal(err)
	}
	p.deliver()
	p.want("router", p.events, "end m1 9")
}

// What the bus does not take is an error, and counted.
func TestRefused(t *testing.T) {
	p := newPair(t)
	l := p.open("m1")
	p.send(l, "a")
	p.deliver()
	p.up.refuses, p.down.refuses = bus.ErrFull, bus.ErrFull
	if err := l.Send([]byte("b")); err != bus.ErrFull {
		t.Error(err)
	}
	p.router.Write(name("c1", address{p.controller.boot, 1}), []byte("x"), false)
	if a, b := p.controller.Counts().Lost, p.router.Counts().Lost; a != 1 || b != 1 {
		t.Errorf("%d and %d lost", a, b)
	}
}

// FuzzHear: no message of the bus breaks an end, nor has it hold more than its
// bounds.
func FuzzHear(f *testing.F) {
	a := address{1, 1}
	f.Add(message{kind: kindAlive, address: a}.bytes())
	f.Add(message{kind: kindCut, address: a}.bytes())
	f.Add(message{kindFrame, a, 1, 0, 1, flagMeet, withMeet([]byte(`{"meeting":"m1","epoch":1}`), []byte("{}"))}.bytes())
	f.Add(message{kindFrame, a, 1, 0, 1, flagLast, nil}.bytes())
	f.Add([]byte(`k{"meeting":"m1","epoch":1,"kept":{}}`))
	f.Add([]byte(`e{"meeting":"m1","epoch":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p := newPair(&testing.T{})
		p.t = t
		p.controller.boot = 1
		p.open("m1")
		for range 2 {
			p.router.Hear(bus.Message{From: p.up.self, Topic: Topic, Data: b})
			p.controller.Hear(bus.Message{From: p.down.self, Topic: Topic, Data: b})
		}
		if p.router.partial > 2*len(b) || p.controller.partial > 2*len(b) {
			t.Errorf("%d and %d bytes of parts", p.router.partial, p.controller.partial)
		}
		if m, err := parse(b); err == nil && !bytes.Equal(m.bytes(), b) {
			t.Errorf("%q is written as %q", b, m.bytes())
		}
	})
}

// FuzzMeet: what cutMeet takes comes out of withMeet.
func FuzzMeet(f *testing.F) {
	f.Add([]byte(`{"meeting":"m1","epoch":1}`), []byte("frame"))
	f.Fuzz(func(t *testing.T, meet, frame []byte) {
		m, rest, err := cutMeet(withMeet(meet, frame))
		if err == nil && (!bytes.Equal(rest, frame) || m.Meeting == "") {
			t.Errorf("%+v, %q", m, rest)
		}
		_, _, _ = cutMeet(frame)
	})
}

// Two ends of a session say everything once and in order over a carrier that
// loses, doubles and holds back messages.
func TestLossy(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	p := newPair(t)
	sessions := signal.NewSessions(10)
	var heard, said []string
	var do func([]signal.Event)
	session := ""
	do = func(events []signal.Event) {
		for _, e := range events {
			switch e := e.(type) {
			case signal.Write:
				p.router.Write(e.Link, e.Frame, e.Last)
			case signal.Knock:
				var more []signal.Event
				session, more = sessions.Accept(e.Link, "m1", p.now)
				do(more)
			case signal.Heard:
				m, err := signal.ParseUp(e.Body)
				if err != nil {
					t.Fatal(err)
				}
				heard = append(heard, m.(*signal.Say).Text)
			case signal.Gone:
				t.Fatalf("the session is gone: %s", e.Code)
			}
		}
	}
	p.router.cfg.Receive = func(l signal.Link, b []byte) { do(sessions.Receive(l, b, p.now)) }
	p.router.cfg.Cut = func(l signal.Link) { do(sessions.Cut(l, p.now)) }

	page := signal.NewClient("ticket", p.now)
	var (
		l      *Link
		number uint32
	)
	sink := func(n uint32) Sink {
		return func(b []byte, last bool) {
			if m, err := page.Receive(n, b, p.now); err != nil {
				t.Fatal(err)
			} else if chat, ok := m.(*signal.Chat); ok {
				said = append(said, chat.Lines[0].Text)
			}
			if last {
				page.Down(n, p.now)
			}
		}
	}
	lossy := func(queue []bus.Message, hear func(bus.Message)) (held []bus.Message) {
		for _, m := range queue {
			switch x := random.IntN(20); {
			case x < 3: // lost
			case x == 3:
				held = append(held, m)
			case x == 4:
				hear(m)
				hear(m)
			default:
				hear(m)
			}
		}
		return held
	}
	const lines = 200
	sentUp, sentDown := 0, 0
	for range 60_000 {
		if len(heard) == lines && len(said) == lines {
			break
		}
		p.now = p.now.Add(20 * time.Millisecond)
		if page.Wants() {
			if l != nil {
				l.Cut()
			}
			number = page.Up(p.now)
			l, _ = p.controller.Open("m1", placement.Place{Router: "r1", Epoch: 1}, sink(number))
		} else if l != nil && random.IntN(1000) == 0 {
			l.Cut() // the WebSocket breaks
			page.Down(number, p.now)
		}
		if sentUp < lines && page.Open() && random.IntN(4) == 0 {
			if err := page.Send(&signal.Say{Text: fmt.Sprint(sentUp)}, p.now); err != nil {
				t.Fatal(err)
			}
			sentUp++
		}
		if sentDown < lines && session != "" && random.IntN(4) == 0 {
			do(sessions.Send([]string{session}, signal.Format(&signal.Chat{Lines: []signal.Line{{Text: fmt.Sprint(sentDown)}}}), p.now))
			sentDown++
		}
		for _, b := range page.Poll(p.now) {
			_ = l.Send(b)
		}
		do(sessions.Tick(p.now))
		p.up.queue = lossy(p.up.take(), p.router.Hear)
		p.down.queue = lossy(p.down.take(), p.controller.Hear)
		if code := page.Closed(); code != "" {
			t.Fatalf("closed: %s", code)
		}
	}
	for what, got := range map[string][]string{"heard": heard, "said": said} {
		if len(got) != lines {
			t.Fatalf("%s: %d of %d", what, len(got), lines)
		}
		for i, text := range got {
			if text != fmt.Sprint(i) {
				t.Fatalf("%s: %q at %d", what, text, i)
			}
		}
	}
}
