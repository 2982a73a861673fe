package zonetest

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/parley-meet/parley/services/internal/load"
	"github.com/parley-meet/parley/services/internal/sfu/transport"
	"github.com/parley-meet/parley/services/internal/signal"
)

// Guest is a light client: it says and hears what a page does by signalling, sends
// made-up pictures and sound, and counts what it gets. As a page it goes on at
// another controller when its own is lost, and joins again when its session is.
type Guest struct {
	Name    string
	t       testing.TB
	origins []string
	web     *http.Client

	mu      sync.Mutex
	client  *signal.Client
	ws      *websocket.Conn
	at      string // origin of ws
	pass    string
	heard   []string
	joins   int
	media   *call
	packets atomic.Uint64
	last    atomic.Int64 // when media came, ns since 1970
	gap     atomic.Int64 // the longest between two packets, ns
}

// call is a connection for media.
type call struct {
	c    *transport.Client
	pub  *load.Publisher
	stop context.CancelFunc
	done sync.WaitGroup
}

// Join has somebody come in by a controller, and returns when he is inside and gets
// media of others, or at once if he is the first.
func (z *Zone) Join(name, text string, by ...*Process) *Guest {
	z.t.Helper()
	g := &Guest{Name: name, t: z.t, client: signal.NewClient(text, time.Now()), pass: text}
	g.web = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	for _, p := range by {
		g.origins = append(g.origins, p.Origin())
	}
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() { g.run(ctx) })
	z.t.Cleanup(func() {
		cancel()
		work.Wait()
		g.web.CloseIdleConnections()
	})
	return g
}

// pollEvery is how often a guest looks at what is to be done.
const pollEvery = 5 * time.Millisecond

// run keeps a link until ctx ends.
func (g *Guest) run(ctx context.Context) {
	var reading sync.WaitGroup
	defer reading.Wait()
	defer func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.ws != nil {
			g.ws.CloseNow()
		}
		g.hangUp()
	}()
	for try := 0; ctx.Err() == nil; time.Sleep(pollEvery) {
		now := time.Now()
		g.mu.Lock()
		if code := g.client.Closed(); code != "" {
			if code == signal.Used || code == signal.BadTicket {
				g.t.Errorf("%s is not let in again: %s", g.Name, code)
				g.mu.Unlock()
				return
			}
			g.client = signal.NewClient(g.pass, now)
		}
		wants := g.client.Wants()
		g.mu.Unlock()
		if wants {
			origin := g.origins[try%len(g.origins)]
			try++
			dial, stop := context.WithTimeout(ctx, 10*time.Second)
			ws, _, err := websocket.Dial(dial, "wss"+strings.TrimPrefix(origin, "https")+"/signal", &websocket.DialOptions{HTTPClient: g.web, HTTPHeader: http.Header{"Origin": {g.origins[0]}}})
			stop()
			if err != nil {
				time.Sleep(50 * time.Millisecond)
				continue
			}
			ws.SetReadLimit(1 << 20)
			g.mu.Lock()
			g.ws, g.at = ws, origin
			client, number := g.client, g.client.Up(now)
			g.mu.Unlock()
			reading.Go(func() { g.read(ctx, ws, client, number) })
		}
		g.mu.Lock()
		out, ws := g.client.Poll(now), g.ws
		g.mu.Unlock()
		for _, b := range out {
			_ = ws.Write(ctx, websocket.MessageText, b) // its reader sees that it broke
		}
	}
}

func (g *Guest) read(ctx context.Context, ws *websocket.Conn, client *signal.Client, number uint32) {
	for {
		_, b, err := ws.Read(ctx)
		g.mu.Lock()
		if err != nil {
			client.Down(number, time.Now())
			g.mu.Unlock()
			return
		}
		m, err := client.Receive(number, b, time.Now())
		if err != nil {
			g.t.Errorf("%s: %v", g.Name, err)
		}
		switch m := m.(type) {
		case *signal.Joined:
			g.joins++
			g.call()
		case *signal.Pass:
			g.pass = m.Ticket
		case *signal.Chat:
			for _, l := range m.Lines {
				g.heard = append(g.heard, l.Text)
			}
		case *signal.Answer:
			if g.media != nil {
				if err := g.media.c.Answer(m.SDP); err != nil {
					g.t.Errorf("%s: %v", g.Name, err)
				}
			}
		case *signal.Error:
			g.t.Errorf("%s: %s was refused: %s", g.Name, m.Of, m.Code)
		}
		g.mu.Unlock()
	}
}

// call makes a connection for media and offers it. mu is held.
func (g *Guest) call() {
	g.hangUp()
	c := &call{pub: load.NewPublisher(time.Now(), []load.Video{{Frames: 10, Packets: 2, Size: 600, Width: 320, Height: 180}}, true)}
	var err error
	c.c, err = transport.Dial(netip.MustParseAddr("127.0.0.1"), []transport.Line{{Video: true, Send: true}, {Send: true}, {Video: true}, {}, {}, {}}, slog.New(slog.DiscardHandler), func(packets [][]byte) {
		c.pub.Media(packets)
		g.count(packets)
	})
	if err != nil {
		g.t.Error(err)
		return
	}
	text, err := c.c.Offer()
	if err != nil {
		g.t.Error(err)
		c.c.Close()
		return
	}
	g.media = c
	on, now := true, time.Now()
	for _, m := range []signal.Message{
		&signal.Offer{SDP: text, Ref: 1, Sources: map[string]signal.Source{"0": signal.Camera, "1": signal.Microphone}, Slots: []string{"2", "3", "4", "5"}},
		&signal.State{Camera: &on, Microphone: &on},
		&signal.View{Slots: []signal.Show{{Mid: "2", What: signal.ByPage, Width: 320, Height: 180}}},
	} {
		if err := g.client.Send(m, now); err != nil {
			g.t.Error(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	c.stop = cancel
	c.done.Go(func() {
		select {
		case <-c.c.Ready:
			c.pub.Start(c.c)
			c.pub.Run(ctx)
		case <-ctx.Done():
		}
	})
}

// hangUp ends the connection for media. mu is held.
func (g *Guest) hangUp() {
	c := g.media
	if c == nil {
		return
	}
	g.media = nil
	c.stop()
	go func() { // its reader may wait for mu
		c.done.Wait()
		c.c.Close()
	}()
}

// count takes packets that came.
func (g *Guest) count(packets [][]byte) {
	n := 0
	for _, b := range packets {
		if t := b[1] & 0x7f; t < 64 || t > 95 || t == 96 {
			n++
		}
	}
	if n == 0 {
		return
	}
	now := time.Now().UnixNano()
	if d := now - g.last.Swap(now); d > g.gap.Load() {
		g.gap.Store(d)
	}
	g.packets.Add(uint64(n))
}

// Packets is how many packets of media have come.
func (g *Guest) Packets() uint64 { return g.packets.Load() }

// Last is when the last one came.
func (g *Guest) Last() time.Time { return time.Unix(0, g.last.Load()) }

// Gap returns the longest time between two packets since the last call.
func (g *Guest) Gap() time.Duration { return time.Duration(g.gap.Swap(0)) }

// Joins is how often he was let in.
func (g *Guest) Joins() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.joins
}

// At is the origin of the controller that his link is at.
func (g *Guest) At() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.at
}

// Say sends a line of chat.
func (g *Guest) Say(text string) {
	g.t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.client.Send(&signal.Say{Text: text}, time.Now()); err != nil {
		g.t.Error(err)
	}
}

// Heard are the lines of chat that came.
func (g *Guest) Heard() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]string(nil), g.heard...)
}
