package health

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parley-meet/parley/image/liveness"
)

// start runs a server in a folder of its own, until stop or the test's end.
func start(t *testing.T) (s *Server, stop func()) {
	t.Helper()
	s, err := Listen(filepath.Join(t.TempDir(), "health.sock"), "zctrl")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(time.Second):
			t.Error("Run does not end within a second")
		}
	})
	t.Cleanup(stop)
	return s, stop
}

// exchange sends text over a new connection, and returns the status and body.
func exchange(t *testing.T, s *Server, text string) (*http.Response, string) {
	t.Helper()
	c, err := net.Dial("unix", s.path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var b strings.Builder
	if _, err := bufio.NewReader(resp.Body).WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return resp, b.String()
}

func TestReport(t *testing.T) {
	s, _ := start(t)
	resp, body := exchange(t, s, "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "application/json" {
		t.Errorf("status %d, type %q", resp.StatusCode, resp.Header.Get("Content-Type"))
	}
	var fields map[string]any
	if err := json.Unmarshal([]byte(body), &fields); err != nil {
		t.Fatal(err)
	}
	if fields["service"] != "zctrl" || fields["status"] != "not configured" || fields["detail"] != "" || fields["uptimeSeconds"] != 0.0 {
		t.Errorf("report %s", body)
	}
	if _, err := time.Parse(time.RFC3339, fields["since"].(string)); err != nil {
		t.Error(err)
	}
	if detail, err := s.Check(); err != nil || detail != "not configured" {
		t.Errorf("Check: %q, %v", detail, err)
	}
	since := s.Report().Since
	s.Set(NotConfigured, "no token")
	if r := s.Report(); r.Since != since {
		t.Error("since moves with the detail")
	}
	if detail, err := s.Check(); err != nil || detail != "not configured: no token" {
		t.Errorf("Check: %q, %v", detail, err)
	}
	time.Sleep(2 * time.Millisecond)
	s.Set("serving", "")
	if r := s.Report(); !r.Since.After(since) {
		t.Error("since does not move with the status")
	}
}

func TestOther(t *testing.T) {
	s, _ := start(t)
	for request, want := range map[string]int{
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n":                              404,
		"GET /healthz/ HTTP/1.1\r\nHost: x\r\n\r\n":                      404,
		"GET /healthz/../etc HTTP/1.1\r\nHost: x\r\n\r\n":                404,
		"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n": 405,
		"GET /healthz HTTP/1.1\r\n\r\n":                                  400,
		"\x00\x01\x02\r\n\r\n":                                           400,
	} {
		if resp, _ := exchange(t, s, request); resp.StatusCode != want {
			t.Errorf("%.40q: status %d, want %d", request, resp.StatusCode, want)
		}
	}
	// A header that is too long ends the connection, with or without an
	// answer: what was not read resets it.
	c, err := net.Dial("unix", s.path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	c.Write([]byte("GET /healthz HTTP/1.1\r\nHost: x\r\nA: " + strings.Repeat("a", 64<<10) + "\r\n\r\n"))
	b, err := io.ReadAll(c)
	if ne, ok := err.(net.Error); ok && ne.Timeout() || strings.Contains(string(b), "200 OK") {
		t.Errorf("header of 64 KiB: %q, %v", b, err)
	}
}

func TestSocket(t *testing.T) {
	s, stop := start(t)
	fi, err := os.Stat(s.path)
	if err != nil {
		t.Fatal(err)
	}
	if fi.Mode() != fs.ModeSocket|0o660 {
		t.Errorf("mode %v, want a socket with 0660", fi.Mode())
	}
	if _, err := Listen(s.path, "zctrl"); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a second server: %v", err)
	}
	stop()
	if _, err := os.Lstat(s.path); err == nil {
		t.Error("the socket is left behind")
	}
}

// TestLeftOver replaces the socket of a process that was killed, and nothing
// that is no socket.
func TestLeftOver(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "health.sock")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	ln.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Fatal(err)
	}
	s, err := Listen(path, "mmr")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	if _, err := s.Check(); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}

	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(file, "mmr"); err == nil || !strings.Contains(err.Error(), "want a socket") {
		t.Errorf("a file in the way: %v", err)
	}
	if b, _ := os.ReadFile(file); string(b) != "precious" {
		t.Error("the file in the way is lost")
	}
	if _, err := Listen(filepath.Join(dir, "none", "s"), "mmr"); err == nil {
		t.Error("a folder that is not there is no error")
	}
}

func TestParallel(t *testing.T) {
	s, _ := start(t)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 20 {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				if _, err := Ask(ctx, s.path); err != nil {
					t.Error(err)
				}
				cancel()
			}
		})
	}
	wg.Wait()
}

// TestSlow has clients that send nothing, or half of a request: PID 1's
// question is answered all the same, and the slow ones are cut off.
func TestSlow(t *testing.T) {
	s, stop := start(t)
	var slow []net.Conn
	for i := range 2 * MaxConns {
		c, err := net.Dial("unix", s.path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if i%2 == 0 {
			c.Write([]byte("GET /hea"))
		}
		slow = append(slow, c)
	}
	if detail, err := s.Check(); err != nil {
		t.Errorf("with %d slow clients: %q, %v", len(slow), detail, err)
	}
	s.ln.mu.Lock()
	n := s.ln.conns.Len()
	s.ln.mu.Unlock()
	if n > MaxConns {
		t.Errorf("%d connections are open, want at most %d", n, MaxConns)
	}
	// The oldest went first; the newest goes by its timeout.
	for _, c := range []net.Conn{slow[0], slow[len(slow)-1]} {
		c.SetReadDeadline(time.Now().Add(Timeout + 5*time.Second))
		if _, err := bufio.NewReader(c).ReadByte(); err == nil {
			continue // 408 Request Timeout
		} else if ne, ok := err.(net.Error); ok && ne.Timeout() {
			t.Error("a slow client is not cut off")
		}
	}
	c, err := net.Dial("unix", s.path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Write([]byte("GET"))
	stop() // fails when it takes longer than a second
}

// TestSilent asks an endpoint that accepts and says nothing, and one that is
// not there.
func TestSilent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	s := &Server{path: path}
	if _, err := s.Check(); err == nil {
		t.Error("no socket is no error")
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	begin := time.Now()
	if _, err := s.Check(); err == nil {
		t.Error("silence is no error")
	}
	if d := time.Since(begin); d < liveness.CheckLimit/2 {
		t.Errorf("gave up after %v", d)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"service":"zctrl","status":"not configured","detail":"","since":"2026-01-02T03:04:05Z","uptimeSeconds":7}`))
	f.Add([]byte(`{"service":"zctrl"}`))
	f.Add([]byte(strings.Repeat("[", maxReport+1)))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := parse(b); err == nil && (r.Service == "" || r.Status == "" || len(b) > maxReport) {
			t.Errorf("%+v of %d bytes is taken", r, len(b))
		}
	})
}
