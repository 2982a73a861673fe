package mmr

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/coder/websocket"

	"github.com/parley-meet/parley/services/internal/hall"
	"github.com/parley-meet/parley/services/internal/signal"
)

// Bounds of the router's own WebSockets.
const (
	// maxFrame is more than any frame of signalling: an offer with 50 slots.
	maxFrame = 512 << 10
	// linkQueue frames wait for a slow page; then its link is cut, and it comes back
	// and asks for what it has not.
	linkQueue = 256
	// ownLink begins the names of links that are WebSockets here. Those that
	// controllers carry begin with a controller's id and a slash.
	ownLink = "own-"
)

// links are the WebSockets of the router's own.
type links struct {
	hall *hall.Hall
	next atomic.Uint64

	mu   sync.Mutex
	open map[signal.Link]*socket
}

// socket is one.
type socket struct {
	frames chan []byte
	last   bool
}

// own reports whether a link is a WebSocket here.
func own(id signal.Link) bool { return strings.HasPrefix(string(id), ownLink) }

// signal is the WebSocket of a page's session. The page is the router's own or a
// controller's; a ticket opens a session, so any origin may try.
func (s *links) signal(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return // it has answered
	}
	defer c.CloseNow()
	c.SetReadLimit(maxFrame)
	id := signal.Link(ownLink + strconv.FormatUint(s.next.Add(1), 10))
	l := &socket{frames: make(chan []byte, linkQueue)}
	s.mu.Lock()
	s.open[id] = l
	s.mu.Unlock()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	go func() {
		defer cancel()
		for frame := range l.frames {
			if frame == nil {
				c.Close(websocket.StatusNormalClosure, "")
				return
			}
			if err := c.Write(ctx, websocket.MessageText, frame); err != nil {
				return
			}
		}
	}()
	for {
		kind, b, err := c.Read(ctx)
		if err != nil || kind != websocket.MessageText {
			break
		}
		s.hall.Receive(id, b)
	}
	s.mu.Lock()
	delete(s.open, id)
	close(l.frames)
	s.mu.Unlock()
	s.hall.Cut(id)
}

// write is hall.Config.Write: it never waits.
func (s *links) write(id signal.Link, frame []byte, last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.open[id]
	if l == nil || l.last {
		return
	}
	put := func(b []byte) bool {
		select {
		case l.frames <- b:
			return true
		default:
			return false
		}
	}
	ok := true
	if len(frame) > 0 {
		ok = put(frame)
	}
	if last || !ok {
		l.last = true
		put(nil)
	}
}
