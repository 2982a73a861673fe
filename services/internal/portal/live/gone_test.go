package live

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

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
			read <- c.read(context.Background(), State{Appliance: "a"})
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

// While a database takes no events, an appliance's statuses are heard all the
// same: its link is not taken for dead.
func TestSlowDatabase(t *testing.T) {
	s := New(Config{})
	read := make(chan error, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, nil)
		if err != nil {
			read <- err
			return
		}
		defer ws.CloseNow()
		c := &conn{s: s, ws: ws, events: make(chan link.Event, maxBatch)} // nobody stores them
		read <- c.read(context.Background(), State{Appliance: "a"})
	}))
	defer server.Close()
	ws, _, err := websocket.Dial(t.Context(), server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range maxBatch {
		if err := link.Send(t.Context(), ws, link.KindEvent, link.Event{Number: uint64(i + 1), Name: "x"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := link.Send(t.Context(), ws, link.KindStatus, link.Status{Participants: 99}); err != nil {
		t.Fatal(err)
	}
	if err := ws.Ping(ws.CloseRead(t.Context())); err != nil {
		t.Error(err)
	}
	ws.Close(websocket.StatusNormalClosure, "")
	<-read
	if s.dirty["a"].Status.Participants != 99 {
		t.Error("the status is not heard")
	}
}

// Of an appliance's connections to several instances the last one stays, in
// whatever order the instances hear of them.
func TestElsewhere(t *testing.T) {
	since := time.UnixMilli(1_000_000)
	for name, x := range map[string]struct {
		note string
		ends bool
	}{
		"later":            {"a other 1000001", true},
		"earlier":          {"a other 999999", false},
		"at once, greater": {"a zzz 1000000", true},
		"at once, less":    {"a aaa 1000000", false},
		"own":              {"a here 1000001", false},
		"another's":        {"b other 1000001", false},
		"nonsense":         {"a other", false},
	} {
		s := New(Config{})
		s.instance = "here"
		c := &conn{s: s, id: Identity{Appliance: "a"}, since: since, bye: make(chan link.Bye, 1)}
		s.conns["a"] = c
		s.elsewhere(x.note)
		if c.gone.Load() != x.ends {
			t.Errorf("%s: ended %v", name, c.gone.Load())
		}
	}
}
