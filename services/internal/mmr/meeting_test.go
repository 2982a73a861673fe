package mmr

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/parley-meet/parley/services/internal/load"
	"github.com/parley-meet/parley/services/internal/sfu/transport"
	"github.com/parley-meet/parley/services/internal/signal"
)

// page is a participant that speaks the protocol of pages.
type page struct {
	t      *testing.T
	target *load.Parley
	ctx    context.Context

	mu   sync.Mutex
	c    *signal.Client
	ws   *websocket.Conn
	got  []signal.Message
	more *sync.Cond
	you  signal.ID
	turn *signal.Relay
}

// open connects one with a fresh ticket.
func open(t *testing.T, target *load.Parley, n int) *page {
	t.Helper()
	text, err := target.Ticket(n)
	if err != nil {
		t.Fatal(err)
	}
	p := &page{t: t, target: target, ctx: t.Context(), c: signal.NewClient(text, time.Now())}
	p.more = sync.NewCond(&p.mu)
	p.link()
	j := await(p, "joined", func(m *signal.Joined) bool { return true })
	p.you, p.turn = j.You, j.Relay
	return p
}

// link opens a WebSocket, and reads it until it ends.
func (p *page) link() {
	p.t.Helper()
	ws, _, err := websocket.Dial(p.ctx, "wss"+strings.TrimPrefix(p.target.Base, "https")+"/signal", &websocket.DialOptions{HTTPClient: &http.Client{Transport: p.target.HTTP.Transport}})
	if err != nil {
		p.t.Fatal(err)
	}
	ws.SetReadLimit(1 << 20)
	p.mu.Lock()
	n := p.c.Up(time.Now())
	p.ws = ws
	p.pump()
	p.mu.Unlock()
	stop := make(chan struct{})
	go func() {
		t := time.NewTicker(20 * time.Millisecond)
		defer t.Stop()
		for {
			select {
			case <-stop:
				return
			case <-t.C:
				p.mu.Lock()
				p.pump()
				p.mu.Unlock()
			}
		}
	}()
	go func() {
		defer close(stop)
		for {
			_, b, err := ws.Read(p.ctx)
			p.mu.Lock()
			if err != nil {
				p.c.Down(n, time.Now())
				p.more.Broadcast()
				p.mu.Unlock()
				return
			}
			m, err := p.c.Receive(n, b, time.Now())
			if err != nil {
				p.t.Errorf("page: %v", err)
			}
			if m != nil {
				p.got = append(p.got, m)
			}
			p.pump()
			p.more.Broadcast()
			p.mu.Unlock()
		}
	}()
}

// pump writes what is to be sent. mu is held.
func (p *page) pump() {
	for _, b := range p.c.Poll(time.Now()) {
		_ = p.ws.Write(p.ctx, websocket.MessageText, b) // the reader sees that it broke
	}
}

func (p *page) send(m signal.Message) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.c.Send(m, time.Now()); err != nil {
		p.t.Fatal(err)
	}
	p.pump()
}

// await waits for a message of a type, and takes it.
func await[M signal.Message](p *page, what string, so func(M) bool) M {
	p.t.Helper()
	const patience = 30 * time.Second
	stop := time.AfterFunc(patience, p.more.Broadcast)
	defer stop.Stop()
	end := time.Now().Add(patience)
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		for i, m := range p.got {
			if x, ok := m.(M); ok && so(x) {
				p.got = append(p.got[:i:i], p.got[i+1:]...)
				return x
			}
		}
		if code := p.c.Closed(); code != "" {
			p.t.Fatalf("%s: the session is closed: %s", what, code)
		}
		if time.Now().After(end) {
			p.t.Fatalf("never %s; came: %d messages", what, len(p.got))
		}
		p.more.Wait()
	}
}

// Two meet: the one publishes, the other sees him, and goes on seeing him while
// his own link to signalling is cut and comes back. A mute is enforced at the
// router, whatever the page sends.
func TestMeeting(t *testing.T) {
	target := start(t)
	local := netip.MustParseAddr("127.0.0.1")
	log := slog.New(slog.DiscardHandler)
	epoch := time.Now()
	anna, boris := open(t, target, 1), open(t, target, 2)
	await(boris, "saw Anna in the roster", func(m *signal.Roster) bool { return m.Full && len(m.People) == 2 })

	pub := load.NewPublisher(epoch, []load.Video{{Frames: 20, Packets: 3, Size: 600, Width: 320, Height: 180}}, true)
	pc, err := transport.Dial(local, []transport.Line{{Video: true, Send: true}, {Send: true}}, log, pub.Media)
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	connect := func(p *page, c *transport.Client, o *signal.Offer) {
		t.Helper()
		text, err := c.Offer()
		if err != nil {
			t.Fatal(err)
		}
		o.SDP, o.Ref = text, 7
		p.send(o)
		a := await(p, "answered", func(m *signal.Answer) bool { return m.Ref == 7 })
		if err := c.Answer(a.SDP); err != nil {
			t.Fatal(err)
		}
		select {
		case <-c.Ready:
		case <-c.Failed:
			t.Fatal("the connection failed")
		case <-time.After(30 * time.Second):
			t.Fatal("no connection")
		}
	}
	connect(anna, pc, &signal.Offer{Sources: map[string]signal.Source{"0": signal.Camera, "1": signal.Microphone}})
	pub.Start(pc)
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	work.Go(func() { pub.Run(ctx) })
	defer work.Wait()
	defer cancel()
	on, off := true, false
	anna.send(&signal.State{Camera: &on, Microphone: &on})

	sub := load.NewSubscriber(epoch, true)
	sc, err := transport.Dial(local, []transport.Line{{Video: true}, {}, {}, {}}, log, sub.Media)
	if err != nil {
		t.Fatal(err)
	}
	defer sc.Close()
	connect(boris, sc, &signal.Offer{Slots: []string{"0", "1", "2", "3"}})
	sub.Start(sc, 0)
	boris.send(&signal.View{Slots: []signal.Show{{Mid: "0", What: signal.BySpeaker, Width: 320, Height: 180}}})
	await(boris, "told whom the slot shows", func(m *signal.Slots) bool {
		for _, s := range m.Slots {
			if s.Mid == "0" && s.ID == anna.you && s.Source == signal.Camera {
				return true
			}
		}
		return false
	})
	flows := func(what string, want bool) {
		t.Helper()
		end := time.Now().Add(30 * time.Second)
		for {
			before := sub.Figures().Packets
			time.Sleep(500 * time.Millisecond)
			if n := sub.Figures().Packets - before; (n > 5) == want {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%s: media flows: %v", what, !want)
			}
		}
	}
	flows("both on", true)

	// Signalling is cut; media does not notice, and what was said meanwhile comes.
	boris.mu.Lock()
	boris.ws.CloseNow()
	boris.mu.Unlock()
	anna.send(&signal.Say{Text: "are you there?"})
	flows("without a link", true)
	boris.link()
	await(boris, "got the line of chat", func(m *signal.Chat) bool { return len(m.Lines) == 1 && m.Lines[0].Text == "are you there?" })

	anna.send(&signal.State{Camera: &off, Microphone: &off})
	flows("both off, and the page sends all the same", false)
	anna.send(&signal.State{Camera: &on})
	flows("camera on again", true)

	boris.send(&signal.Leave{})
	await(anna, "saw Boris go", func(m *signal.Roster) bool { return len(m.Gone) == 1 && m.Gone[0] == boris.you })
}
