package webconsole

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/image/control"
)

// silent is a PID 1 that does not answer.
type silent struct{}

func (silent) Status(context.Context) (*control.Status, error) {
	return nil, errors.New("nobody there")
}
func (silent) Do(context.Context, control.Request) error { return errors.New("nobody there") }

type noCertificate struct{}

func (noCertificate) Certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, nil }
func (noCertificate) Fingerprint() string                                        { return "" }

func (r *rig) addr() string { return strings.TrimPrefix(r.base, "https://") }

func TestCheck(t *testing.T) {
	r := newRig(t, "")
	for range 3 {
		detail, err := r.c.Check()
		if err != nil || !strings.HasPrefix(detail, "https on port ") {
			t.Fatalf("%q, %v", detail, err)
		}
	}
	r.c.gate.fail(errors.New("too many open files"))
	if _, err := r.c.Check(); err != nil {
		t.Errorf("a moment of trouble: %v", err)
	}
	r.c.gate.mu.Lock()
	r.c.gate.errFrom = time.Now().Add(-stuckAfter)
	r.c.gate.mu.Unlock()
	if _, err := r.c.Check(); err == nil || !strings.Contains(err.Error(), "too many open files") {
		t.Errorf("lasting trouble: %v", err)
	}
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.c.Check(); err == nil {
		t.Error("a server that has ended is well")
	}
}

func TestTLS(t *testing.T) {
	r := newRig(t, "")
	for version, good := range map[uint16]bool{tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		c, err := tls.Dial("tcp", r.addr(), &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version, NextProtos: []string{"h2", "http/1.1"}})
		if (err == nil) != good {
			t.Errorf("TLS %x: %v", version, err)
		}
		if err != nil {
			continue
		}
		if p := c.ConnectionState().NegotiatedProtocol; p != "http/1.1" {
			t.Errorf("TLS %x: protocol %q", version, p)
		}
		c.Close()
	}
}

func TestLongHeader(t *testing.T) {
	r := newRig(t, "")
	b := r.browser()
	b.header = http.Header{"Cookie": {sessionCookie + "=" + strings.Repeat("x", 2*maxHeader)}}
	if a := b.get("/"); a.status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("%d, want 431", a.status)
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t, "")
	gone := make(chan int, 3*maxPeerConns)
	for i := range 2 * maxPeerConns {
		c, err := net.Dial("tcp", r.addr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		go func() { io.ReadAll(c); gone <- i }()
	}
	// Those that came first go, and the newest is served.
	for range maxPeerConns {
		select {
		case i := <-gone:
			if i >= maxPeerConns {
				t.Errorf("connection %d was closed before older ones", i)
			}
		case <-time.After(headerTimeout - time.Second):
			t.Fatal("the connections are all there")
		}
	}
	if a := r.browser().get("/healthz"); a.status != http.StatusOK {
		t.Errorf("healthz: %d", a.status)
	}
	g := r.c.gate
	g.mu.Lock()
	n, peers := len(g.all), len(g.peers)
	g.mu.Unlock()
	if n > maxPeerConns || peers != 1 {
		t.Errorf("%d connections of %d peers", n, peers)
	}
}

// Whoever sends a header byte by byte is cut off.
func TestSlowHeader(t *testing.T) {
	t.Parallel()
	r := newRig(t, "")
	c, err := tls.Dial("tcp", r.addr(), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	began := time.Now()
	go func() {
		for range 100 {
			if _, err := io.WriteString(c, "G"); err != nil {
				return
			}
			time.Sleep(200 * time.Millisecond)
		}
	}()
	io.ReadAll(c)
	if d := time.Since(began); d > headerTimeout+2*time.Second {
		t.Errorf("a slow header is read for %v", d)
	}
}
