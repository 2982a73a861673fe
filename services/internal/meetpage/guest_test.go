package meetpage

import (
	"context"
	"crypto/tls"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/parley-meet/parley/services/internal/signal"
	"github.com/parley-meet/parley/services/internal/ticket"
)

// guest is a participant without a browser: he is in the roster, and says what he
// is told to.
type guest struct {
	mu sync.Mutex
	c  *signal.Client
	ws *websocket.Conn
	w  *world
}

// guest lets one in, by the router's own WebSocket.
func (w *world) guest(name string, role ticket.Role, change func(*ticket.Claims)) *guest {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	ws, _, err := websocket.Dial(ctx, "wss://"+w.to.Load().Host+"/signal", &websocket.DialOptions{HTTPClient: client})
	if err != nil {
		cancel()
		w.t.Fatal(err)
	}
	ws.SetReadLimit(1 << 20)
	g := &guest{c: signal.NewClient(w.ticket(name, role, change), time.Now()), ws: ws, w: w}
	link := g.c.Up(time.Now())
	var work sync.WaitGroup
	work.Go(func() {
		for {
			_, b, err := ws.Read(ctx)
			if err != nil {
				return
			}
			g.mu.Lock()
			_, _ = g.c.Receive(link, b, time.Now())
			g.mu.Unlock()
		}
	})
	work.Go(func() {
		for ctx.Err() == nil {
			g.mu.Lock()
			for _, b := range g.c.Poll(time.Now()) {
				_ = ws.Write(ctx, websocket.MessageText, b)
			}
			g.mu.Unlock()
			time.Sleep(20 * time.Millisecond)
		}
	})
	w.t.Cleanup(func() {
		cancel()
		ws.CloseNow()
		work.Wait()
	})
	return g
}

func (g *guest) send(m signal.Message) {
	g.w.t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.c.Send(m, time.Now()); err != nil {
		g.w.t.Fatal(err)
	}
}
