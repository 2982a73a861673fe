// Package health is a service's own answer to "how are you?": one HTTP
// endpoint on a unix socket in the service's folder, which PID 1's liveness
// question goes through as well, so that an answer to PID 1 is one that anybody
// with access to the socket would get.
//
//	GET /healthz    200, a Report in JSON
//
// Limits: MaxConns connections at a time, of which the oldest is closed for a
// new one; 4 KiB of request header, no body; Timeout for a whole exchange. Who
// may connect is decided by the socket's folder and its mode (0660).
package health

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"github.com/parley-meet/parley/image/layout"
	"github.com/parley-meet/parley/image/liveness"
)

// NotConfigured is the status of a service that has been told nothing to do.
const NotConfigured = "not configured"

// Limits of the endpoint.
const (
	MaxConns  = 64
	Timeout   = 2 * time.Second
	maxHeader = 4 << 10                // bytes
	maxReport = 4 << 10                // bytes, read by Ask
	stopAfter = 300 * time.Millisecond // exchanges under way at the end
)

// Path is the endpoint's path.
const Path = "/healthz"

// Report is what the endpoint says.
type Report struct {
	Service string    `json:"service"`
	Status  string    `json:"status"`
	Detail  string    `json:"detail"`
	Since   time.Time `json:"since"`         // of the status, UTC
	Uptime  int64     `json:"uptimeSeconds"` // of the process
}

// SocketPath returns where the named service's endpoint is.
func SocketPath(service string) string {
	return filepath.Join(layout.RunDir, service, "health.sock")
}

// Server is a service's endpoint.
type Server struct {
	service string
	path    string
	started time.Time
	ln      *listener

	mu     sync.Mutex
	status string
	detail string
	since  time.Time
}

// Listen opens the endpoint on the socket path, with the status NotConfigured.
// A socket that an earlier process left there is replaced; one on which
// somebody still answers is an error. Run must be called to end it.
func Listen(path, service string) (*Server, error) {
	ln, err := listen(path)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	return &Server{
		service: service,
		path:    path,
		started: now,
		ln:      ln,
		status:  NotConfigured,
		since:   now,
	}, nil
}

// Set changes the status and its one-line detail.
func (s *Server) Set(status, detail string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if status != s.status {
		s.since = time.Now()
	}
	s.status, s.detail = status, detail
}

// Report returns what the endpoint says now.
func (s *Server) Report() Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Report{
		Service: s.service,
		Status:  s.status,
		Detail:  s.detail,
		Since:   s.since.UTC().Truncate(time.Millisecond),
		Uptime:  int64(time.Since(s.started) / time.Second),
	}
}

// Run answers until ctx ends; then it returns nil within stopAfter and a
// little, and the socket file is gone.
func (s *Server) Run(ctx context.Context) error {
	h := &http.Server{
		Handler:        http.HandlerFunc(s.serve),
		ReadTimeout:    Timeout,
		WriteTimeout:   Timeout,
		IdleTimeout:    Timeout,
		MaxHeaderBytes: maxHeader,
		ErrorLog:       slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		grace, cancel := context.WithTimeout(context.Background(), stopAfter)
		defer cancel()
		if h.Shutdown(grace) != nil {
			h.Close()
		}
	})
	err := h.Serve(s.ln)
	if !stop() {
		<-done
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	h.Close()
	return fmt.Errorf("health endpoint %s: %w", s.path, err)
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != Path {
		http.NotFound(w, r)
		return
	}
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	// A peer that went away is its own affair.
	_ = json.NewEncoder(w).Encode(s.Report())
}

// Check is the service's liveness.Check: it asks the endpoint through its
// socket, as a console would.
func (s *Server) Check() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), liveness.CheckLimit)
	defer cancel()
	r, err := Ask(ctx, s.path)
	if err != nil {
		return "", err
	}
	return r.Line(), nil
}

// Line is the report as one line for operators.
func (r Report) Line() string {
	if r.Detail == "" {
		return r.Status
	}
	return r.Status + ": " + r.Detail
}

// Ask gets the report from the endpoint on the socket path.
func Ask(ctx context.Context, path string) (Report, error) {
	tr := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://health"+Path, nil)
	if err != nil {
		return Report{}, err
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return Report{}, fmt.Errorf("health endpoint %s: %w", path, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return Report{}, fmt.Errorf("health endpoint %s: status %d, want 200", path, resp.StatusCode)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxReport+1))
	if err != nil {
		return Report{}, fmt.Errorf("health endpoint %s: %w", path, err)
	}
	return parse(b)
}

// parse reads a Report of at most maxReport bytes.
func parse(b []byte) (Report, error) {
	if len(b) > maxReport {
		return Report{}, fmt.Errorf("health report of more than %d bytes", maxReport)
	}
	var r Report
	if err := json.Unmarshal(b, &r); err != nil {
		return Report{}, fmt.Errorf("health report: %w", err)
	}
	if r.Service == "" || r.Status == "" {
		return Report{}, fmt.Errorf("health report %q: no service or no status", b)
	}
	return r, nil
}
