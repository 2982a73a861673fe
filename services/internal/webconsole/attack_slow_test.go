package webconsole

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Five hundred connections from two addresses, each of which says something now
// and then and comes back when it is cut off, leave the console usable: somebody
// who was never there before logs in.
func TestAttackSlowloris(t *testing.T) {
	const connections, patience = 500, 10 * time.Second
	for name, lines := range map[string][]string{
		"handshake": nil, // TCP alone
		"header":    {"GET / HTTP/1.1\r\n", "X-A: b\r\n"},
		"body":      {"POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 8000\r\n\r\n", "name=a"},
		"chunks":    {"POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\na\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, testPassword)
			ctx, stop := context.WithCancel(t.Context())
			var begun atomic.Int64
			var wg sync.WaitGroup
			for i := range connections {
				d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 40, 0, byte(1+i%2))}}
				wg.Go(func() {
					for ctx.Err() == nil {
						slowly(ctx, d, r.addr(), lines, &begun)
						sleep(ctx, 100*time.Millisecond)
					}
				})
			}
			defer wg.Wait()
			defer stop()
			for begun.Load() < connections {
				time.Sleep(10 * time.Millisecond)
			}
			for i := range 3 {
				began := time.Now()
				b := r.browser().from("127.41.0.1")
				if a := b.login(testPassword); a.status != http.StatusSeeOther {
					t.Fatalf("login %d: status %d", i, a.status)
				}
				if a := b.get("/"); a.status != http.StatusOK {
					t.Errorf("page %d: status %d", i, a.status)
				}
				if d := time.Since(began); d > patience {
					t.Errorf("login and page %d took %v", i, d)
				}
			}
			if _, err := r.c.Check(); err != nil {
				t.Errorf("the console's own check: %v", err)
			}
			r.c.gate.mu.Lock()
			defer r.c.gate.mu.Unlock()
			if n := len(r.c.gate.all); n > 3*maxPeerConns {
				t.Errorf("%d connections are held", n)
			}
		})
	}
}

// slowly connects, says the first line at once and the last one every so often,
// until it is cut off.
func slowly(ctx context.Context, d *net.Dialer, addr string, lines []string, begun *atomic.Int64) {
	begun.Add(1)
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	if lines != nil {
		tc := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
		if tc.HandshakeContext(ctx) != nil {
			return
		}
		go io.Copy(io.Discard, tc)
		for i := 0; ; i = 1 {
			if _, err := io.WriteString(tc, lines[i]); err != nil || !sleep(ctx, 200*time.Millisecond) {
				return
			}
		}
	}
	io.Copy(io.Discard, c)
}

// sleep reports whether the time has passed.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
