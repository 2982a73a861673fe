package webconsole

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/parley-meet/parley/services/internal/api"
)

// Bounds of streams. A page beyond them stays as it is and asks again.
const (
	maxStreams        = 32
	maxSessionStreams = 4
	maxActorStreams   = 12 // of an account with all its sessions; of a token
	// Logs that are followed: each holds a connection to PID 1, which gives this
	// process 16 and is needed for everything else too.
	maxFollows      = 6
	maxActorFollows = 3
	// Long answers that are being read or sent, which are held in memory.
	maxReads      = 4
	maxActorReads = 2
	readWait      = 5 * time.Second // for one of those to end
	streamEvery   = time.Second
	streamHeart   = 15 * time.Second // a comment, to notice who is gone
	streamWrite   = 5 * time.Second  // for a browser to take an event
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
		now := newView(c.now(r.Context()), words)
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

// take counts the call in among those that hold one of slots, of which one
// caller has at most so many; it waits as long for one.
func (c *Console) take(k *call, what string, slots chan struct{}, most int, wait time.Duration) (release func(), err error) {
	leave, ok := c.actors.Enter(what+" "+k.who.Name, most)
	if !ok {
		return nil, errBusy
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case slots <- struct{}{}:
		return func() { <-slots; leave() }, nil
	default:
	}
	select {
	case slots <- struct{}{}:
		return func() { <-slots; leave() }, nil
	case <-timer.C:
	case <-k.ctx().Done():
	}
	leave()
	return nil, errBusy
}

// reading counts a long answer in that is read at once.
func (c *Console) reading(k *call) (release func(), err error) {
	return c.take(k, "read", c.reads, maxActorReads, readWait)
}

// held counts an endpoint's answers in until they have been taken.
func (c *Console) held(e *endpoint) {
	do := e.Do
	e.Do = func(k *call) (any, error) {
		release, err := c.reading(k)
		if err != nil {
			return nil, err
		}
		defer release()
		v, err := do(k)
		if err != nil {
			return nil, err
		}
		api.WriteJSON(k.w, http.StatusOK, v)
		return api.Written{}, nil
	}
}

// stream counts a long answer in, of all, of the caller and of the session.
func (c *Console) stream(k *call) (release func(), err error) {
	ofActor, err := c.take(k, "stream", c.streams, maxActorStreams, 0)
	if err != nil {
		return nil, err
	}
	ofSession := func() {}
	if k.session != nil {
		var ok bool
		if ofSession, ok = c.sessions.Stream(k.session); !ok {
			ofActor()
			return nil, errBusy
		}
	}
	return func() { ofActor(); ofSession() }, nil
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
