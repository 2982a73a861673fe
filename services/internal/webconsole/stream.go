package webconsole

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Bounds of streams. A page beyond them stays as it is and asks again.
const (
	maxStreams        = 32
	maxSessionStreams = 4
	streamEvery       = time.Second
	streamHeart       = 15 * time.Second // a comment, to notice who is gone
	streamWrite       = 5 * time.Second  // for a browser to take an event
)

// events sends the status page's changes as server-sent events (HTML, 9.2):
//
//	event: status   data: {"KEY": FIELD, …}, all fields at first, then changes
//	event: end      the session is no more, or may do nothing but change its password
func (c *Console) events(w http.ResponseWriter, r *http.Request) {
	s, a, _ := c.session(r, false)
	out := &stream{w: w, rc: http.NewResponseController(w)}
	w.Header().Set("Content-Type", "text/event-stream")
	if s == nil || c.mustChange(r.Context(), a) {
		// Not 401: a script is not told an answer's status, and would try for ever.
		_ = out.send("event: end\ndata: {}\n\n")
		return
	}
	release, err := c.stream(c.caller(w, r, s, a, "web"))
	if err != nil {
		tooMany(w)
		return
	}
	defer release()
	// The request has been read; its deadline would end the stream.
	_ = out.rc.SetReadDeadline(time.Time{})
	words := c.words(r)
	tick := time.NewTicker(streamEvery)
	defer tick.Stop()
	if out.send("retry: 2000\n\n") != nil {
		return
	}
	var shown view
	var last time.Time
	for {
		now := newView(c.source.get(r.Context(), fresh), words)
		switch changes := now.changes(shown); {
		case len(changes) > 0:
			b, err := json.Marshal(changes)
			if err != nil {
				panic(err) // a map of plain structs
			}
			if out.send("event: status\ndata: "+string(b)+"\n\n") != nil {
				return
			}
			shown, last = now, time.Now()
		case time.Since(last) > streamHeart:
			if out.send(":\n\n") != nil {
				return
			}
			last = time.Now()
		}
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		case <-c.stopping:
			return
		}
		if s, _, _ := c.session(r, false); s == nil {
			_ = out.send("event: end\ndata: {}\n\n")
			return
		}
	}
}

// stream counts a long answer in, of all and of the session.
func (c *Console) stream(k *call) (release func(), err error) {
	ofSession := func() {}
	if k.session != nil {
		var ok bool
		if ofSession, ok = c.sessions.Stream(k.session); !ok {
			return nil, errBusy
		}
	}
	select {
	case c.streams <- struct{}{}:
	default:
		ofSession()
		return nil, errBusy
	}
	return func() { <-c.streams; ofSession() }, nil
}

func tooMany(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "10")
	http.Error(w, "too many open pages", http.StatusServiceUnavailable)
}

type stream struct {
	w  http.ResponseWriter
	rc *http.ResponseController
}

// send sends text at once.
func (s *stream) send(text string) error {
	// A recorder in a test has no deadlines.
	_ = s.rc.SetWriteDeadline(time.Now().Add(streamWrite))
	if _, err := s.w.Write([]byte(text)); err != nil {
		return fmt.Errorf("stream: %s: %w", strings.SplitN(text, "\n", 2)[0], err)
	}
	return s.rc.Flush()
}
