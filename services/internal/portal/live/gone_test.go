package live

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/coder/websocket"

	"github.com/parley-meet/parley/services/internal/link"
)

// What a connection says counts until it is sent away, and not after: its last
// word may be on its way for seconds, and another connection may stand already.
func TestGone(t *testing.T) {
	for _, gone := range []bool{false, true} {
		s := New(Config{})
		read := make(chan error, 1)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ws, err := websocket.Accept(w, r, nil)
			if err != nil {
				read <- err
				return
			}
			defer ws.CloseNow()
			c := &conn{s: s, ws: ws, bye: make(chan link.Bye, 1)}
			if gone {
				c.end(link.Bye{Why: link.WhySuperseded})
			}
			read <- c.read(context.Background(), State{Appliance: "a"}, "boot")
		}))
		ws, _, err := websocket.Dial(t.Context(), server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := link.Send(t.Context(), ws, link.KindStatus, link.Status{Participants: 99}); err != nil {
			t.Fatal(err)
		}
		ws.Close(websocket.StatusNormalClosure, "")
		if err := <-read; websocket.CloseStatus(err) != websocket.StatusNormalClosure {
			t.Error(err)
		}
		server.Close()
		if heard := s.dirty["a"].Status.Participants == 99; heard == gone {
			t.Errorf("sent away %v, heard %v", gone, heard)
		}
	}
}
