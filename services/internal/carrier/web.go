package carrier

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"runtime/debug"
	"time"

	"github.com/parley-meet/parley/services/internal/bus"
	"github.com/parley-meet/parley/services/internal/bus/placement"
	"github.com/parley-meet/parley/services/internal/link"
)

// Bounds of requests of HTTP.
const (
	// MaxBody is the longest body that Ask carries, in bytes: a message of the bus has
	// the header too.
	MaxBody = 240 << 10
	// maxServed are answered at a time by a router.
	maxServed = 64
	// serveTime is how long one may take.
	serveTime = 20 * time.Second
)

// The headers that are carried; a router is no origin of its own, and sets no others
// at a controller's.
var (
	askHeaders    = []string{"Authorization", "Content-Type", "If-Match"}
	answerHeaders = []string{"Access-Control-Allow-Origin", "Access-Control-Expose-Headers", "Allow", "Cache-Control", "Content-Type", "Etag", "Link", "Location", "Retry-After", "Www-Authenticate"}
)

// Ask is a request of HTTP that a controller passes on to a router.
type Ask struct {
	Method string      `json:"method"`
	Path   string      `json:"path"`
	Header http.Header `json:"header,omitempty"` // the few that are carried
	Body   []byte      `json:"-"`
}

// Answer is a router's.
type Answer struct {
	Status int         `json:"status"`
	Header http.Header `json:"header,omitempty"`
	Body   []byte      `json:"-"`
}

// Meet tells the router that has a meeting, or is to begin it, what is known of it,
// as a link's first frame does, and waits until it has heard. It may be told again.
func (c *Controller) Meet(ctx context.Context, id string, at placement.Place) error {
	c.mu.Lock()
	meet, err := c.meetLocked(id, at)
	c.mu.Unlock()
	if err != nil {
		return err
	}
	_, err = c.cfg.Bus.Request(ctx, bus.Peer{Role: link.Router, ID: at.Router}, Topic, append([]byte{byte(kindMeet)}, meet...))
	return err
}

// Ask has a router answer a request. It is sent once: where no answer comes until
// ctx ends, the router may have carried it out.
func (c *Controller) Ask(ctx context.Context, router string, a Ask) (Answer, error) {
	a.Header = pick(a.Header, askHeaders)
	head, err := json.Marshal(a)
	if err != nil {
		return Answer{}, fmt.Errorf("carrier: ask router %s: %w", router, err)
	}
	b, err := c.cfg.Bus.Request(ctx, bus.Peer{Role: link.Router, ID: router}, Topic, append([]byte{byte(kindAsk)}, withMeet(head, a.Body)...))
	if err != nil {
		return Answer{}, err
	}
	out, err := parseAnswer(b)
	if err != nil {
		return Answer{}, fmt.Errorf("carrier: router %s: %w", router, err)
	}
	return out, nil
}

func parseAnswer(b []byte) (a Answer, err error) {
	head, body, err := cutHead(b)
	if err != nil {
		return Answer{}, err
	}
	if err := json.Unmarshal(head, &a); err != nil {
		return Answer{}, fmt.Errorf("%w: %w", errMeet, err)
	}
	if a.Status < 200 || a.Status > 599 {
		return Answer{}, fmt.Errorf("an answer with status %d, want 200 to 599", a.Status)
	}
	a.Header, a.Body = pick(a.Header, answerHeaders), body
	return a, nil
}

func parseAsk(b []byte) (a Ask, err error) {
	head, body, err := cutHead(b)
	if err != nil {
		return Ask{}, err
	}
	if err := json.Unmarshal(head, &a); err != nil {
		return Ask{}, fmt.Errorf("%w: %w", errMeet, err)
	}
	if len(body) > MaxBody {
		return Ask{}, fmt.Errorf("a body of %d bytes, want %d at most", len(body), MaxBody)
	}
	a.Header, a.Body = pick(a.Header, askHeaders), body
	return a, nil
}

// pick returns some headers.
func pick(h http.Header, names []string) http.Header {
	out := http.Header{}
	for _, n := range names {
		if v := h.Values(n); len(v) > 0 {
			out[n] = v
		}
	}
	return out
}

// ask answers a controller's request, beside what else comes.
func (r *Router) ask(m bus.Message) {
	a, err := parseAsk(m.Data[1:])
	if err != nil || !m.Wanted() || r.cfg.Web == nil {
		r.strange()
		return
	}
	select {
	case r.room <- struct{}{}:
	default:
		r.answer(m, Answer{Status: http.StatusServiceUnavailable, Header: http.Header{"Retry-After": {"5"}}, Body: []byte("not now: try again\n")})
		return
	}
	go func() {
		defer func() { <-r.room }()
		r.answer(m, r.serve(a))
	}()
}

// serve has the handler answer. As in a server of HTTP a panic ends one request and
// no more.
func (r *Router) serve(a Ask) (out Answer) {
	defer func() {
		if p := recover(); p != nil {
			r.cfg.Log.Error("carrier: panic", "method", a.Method, "panic", p, "stack", string(debug.Stack()))
			out = Answer{Status: http.StatusInternalServerError, Body: []byte("the router failed\n")}
		}
	}()
	ctx, stop := context.WithTimeout(context.Background(), serveTime)
	defer stop()
	req := (&http.Request{
		Method: a.Method, URL: &url.URL{Path: a.Path}, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: a.Header, Body: io.NopCloser(bytes.NewReader(a.Body)), ContentLength: int64(len(a.Body)),
	}).WithContext(ctx)
	w := &writer{header: http.Header{}}
	r.cfg.Web.ServeHTTP(w, req)
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return Answer{w.status, pick(w.header, answerHeaders), w.body.Bytes()}
}

func (r *Router) answer(m bus.Message, a Answer) {
	head, err := json.Marshal(a)
	if err == nil {
		err = m.Reply(withMeet(head, a.Body))
	}
	if err != nil {
		r.cfg.Log.Warn("carrier: an answer is lost", "controller", m.From.ID, "status", a.Status, "error", err)
	}
}

// writer keeps an answer.
type writer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// Header implements http.ResponseWriter.
func (w *writer) Header() http.Header { return w.header }

// WriteHeader implements http.ResponseWriter.
func (w *writer) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}

// Write implements http.ResponseWriter.
func (w *writer) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(b)
}
