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
	"github.com/parley-meet/parley/services/internal/ticket"
)

// page is a participant that speaks the protocol of pages.
type page struct {
	t   *testing.T
	ctx context.Context
	// dial opens a link. Each frame that comes is given to frame, and the end to
	// down; write never waits long.
	dial func(frame func([]byte), down func()) (write func([]byte), cut func())

	mu    sync.Mutex
	c     *signal.Client
	write func([]byte)
	cut   func() // the link
	got   []signal.Message
	more  *sync.Cond
	you   signal.ID
	role  ticket.Role
	turn  *signal.Relay
	pass  string
}

// open connects one with a fresh ticket.
func open(t *testing.T, target *load.Parley, n int) *page {
	t.Helper()
	text, err := target.Ticket(n)
	if err != nil {
		t.Fatal(err)
	}
	p := begin(t, text, byWebSocket(t, target))
	p.joined()
	return p
}

// byWebSocket dials a router's own /signal.
func byWebSocket(t *testing.T, target *load.Parley) func(func([]byte), func()) (func([]byte), func()) {
	return func(frame func([]byte), down func()) (func([]byte), func()) {
		ctx := t.Context()
		ws, _, err := websocket.Dial(ctx, "wss"+strings.TrimPrefix(target.Base, "https")+"/signal", &websocket.DialOptions{HTTPClient: &http.Client{Transport: target.HTTP.Transport}})
		if err != nil {
			t.Fatal(err)
		}
		ws.SetReadLimit(1 << 20)
		go func() {
			defer down()
			for {
				_, b, err := ws.Read(ctx)
				if err != nil {
					return
				}
				frame(b)
			}
		}()
		return func(b []byte) { _ = ws.Write(ctx, websocket.MessageText, b) }, func() { ws.CloseNow() } // the reader sees that it broke
	}
}

// begin opens a session with a ticket or a pass.
func begin(t *testing.T, text string, dial func(func([]byte), func()) (func([]byte), func())) *page {
	t.Helper()
	p := &page{t: t, ctx: t.Context(), dial: dial, c: signal.NewClient(text, time.Now())}
	p.more = sync.NewCond(&p.mu)
	p.link()
	return p
}

// joined waits until it is inside.
func (p *page) joined() {
	p.t.Helper()
	j := await(p, "joined", func(m *signal.Joined) bool { return true })
	p.you, p.role, p.turn = j.You, j.Role, j.Relay
}

// link opens a link, and reads it until it ends.
func (p *page) link() {
	p.t.Helper()
	p.mu.Lock()
	n := p.c.Up(time.Now())
	p.mu.Unlock()
	stop := make(chan struct{})
	write, cut := p.dial(func(b []byte) {
		p.mu.Lock()
		defer p.mu.Unlock()
		m, err := p.c.Receive(n, b, time.Now())
		if err != nil {
			p.t.Errorf("page: %v", err)
		}
		if m, ok := m.(*signal.Pass); ok {
			p.pass = m.Ticket
		}
		if m != nil {
			p.got = append(p.got, m)
		}
		p.pump()
		p.more.Broadcast()
	}, sync.OnceFunc(func() {
		close(stop)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.c.Down(n, time.Now())
		p.more.Broadcast()
	}))
	p.mu.Lock()
	p.write, p.cut = write, cut
	p.pump()
	p.mu.Unlock()
	go func() {
		t := time.NewTicker(20 * time.Millisecond)
		defer t.Stop()
		for {
			select {
			case <-stop:
				return
			case <-p.ctx.Done():
				return
			case <-t.C:
				p.mu.Lock()
				p.pump()
				p.mu.Unlock()
			}
		}
	}()
}

// pump writes what is to be sent. mu is held.
func (p *page) pump() {
	if p.write == nil {
		return
	}
	for _, b := range p.c.Poll(time.Now()) {
		p.write(b)
	}
}

// closed waits until the session is over, and returns why.
func (p *page) closed() signal.Code {
	p.t.Helper()
	const patience = 30 * time.Second
	stop := time.AfterFunc(patience, p.more.Broadcast)
	defer stop.Stop()
	end := time.Now().Add(patience)
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.c.Closed() == "" {
		if time.Now().After(end) {
			p.t.Fatal("the session is open")
		}
		p.more.Wait()
	}
	return p.c.Closed()
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
	boris.cut()
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
