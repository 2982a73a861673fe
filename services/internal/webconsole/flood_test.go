package webconsole

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/guard"
)

// from makes the browser's requests come from an address of 127.0.0.0/8, which
// are all this machine.
func (b *browser) from(addr string) *browser {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(addr)}}
	b.Transport.(*http.Transport).DialContext = d.DialContext
	return b
}

// Guesses and idle connections from everywhere do not keep an administrator
// out who has logged in before.
func TestFlood(t *testing.T) {
	// The bar is 2 s; here the flood is made by the same processors.
	const strangers, patience = 30, 5 * time.Second
	r := newRig(t, testPassword)
	admin := r.loggedIn()
	for i := range 2 * maxConns {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 2, byte(i/8), 1)}}
		c, err := d.Dial("tcp", r.addr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	for i := range strangers {
		b := r.browser().from(fmt.Sprintf("127.1.%d.1", i))
		wg.Go(func() {
			for ctx.Err() == nil {
				// Errors are meant: a flood's connections are the first to go.
				resp, err := b.PostForm(r.base+"/login", url.Values{"name": {"admin"}, "password": {"guess"}})
				if err != nil {
					continue
				}
				resp.Body.Close()
				if resp.StatusCode == http.StatusSeeOther {
					t.Error("a guess was right")
				}
			}
		})
	}
	time.Sleep(time.Second)
	for range 5 {
		began := time.Now()
		if a := admin.login(testPassword); a.status != http.StatusSeeOther {
			t.Errorf("login in a flood: %d", a.status)
		}
		if a := admin.get("/"); a.status != http.StatusOK {
			t.Errorf("the page in a flood: %d", a.status)
		}
		if d := time.Since(began); d > patience {
			t.Errorf("login and page took %v in a flood", d)
		}
		if _, err := r.c.Check(); err != nil {
			t.Error(err)
		}
	}
}

// Strangers do not write the log: their lines are bounded, what was left out is
// counted, a login stands among them, and no name that was typed does.
func TestFloodOfLines(t *testing.T) {
	r := newRig(t, testPassword)
	b := r.browser()
	const secret = "correct horse battery stable"
	for range 3 * guard.StrangerBurst {
		b.do("POST", "/login", url.Values{"name": {secret}, "password": {"x"}})
	}
	b.header = http.Header{"Origin": {"https://elsewhere.example"}, "Sec-Fetch-Site": {"cross-site"}}
	for range guard.StrangerBurst {
		b.do("POST", "/login", nil)
	}
	log := r.logs.String()
	if n := strings.Count(log, "\n"); n < guard.StrangerBurst || n > guard.StrangerBurst+5 {
		t.Errorf("%d lines, want about %d", n, guard.StrangerBurst)
	}
	if strings.Contains(log, "horse") {
		t.Error("the log holds what was typed as a name")
	}
	if a := r.browser().from("127.9.9.9").login(testPassword); a.status != http.StatusSeeOther {
		t.Errorf("login from elsewhere: %d", a.status)
	}
	if !strings.Contains(r.logs.String(), "msg=login from=") {
		t.Error("a login is not in the log")
	}
}

// Forms that trickle in from many addresses, on every connection that there may
// be, do not keep others out.
func TestFloodOfSlowForms(t *testing.T) {
	const rest = "Host: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 8000\r\n\r\nname="
	for _, line := range []string{"POST /login", "GET /login", "GET /healthz", "POST /api/v1/services/mmr/stop", "POST /none"} {
		t.Run(line, func(t *testing.T) { floodSlowly(t, line+" HTTP/1.1\r\n"+rest) })
	}
}

func floodSlowly(t *testing.T, head string) {
	r := newRig(t, testPassword)
	var wg sync.WaitGroup
	for i := range maxConns {
		wg.Go(func() {
			d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 3, 0, byte(1+i/maxPeerConns))}}
			c, err := tls.DialWithDialer(d, "tcp", r.addr(), &tls.Config{InsecureSkipVerify: true})
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(func() { c.Close() })
			if _, err := c.Write([]byte(head)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	time.Sleep(200 * time.Millisecond) // until all are read
	began := time.Now()
	if a := r.browser().login(testPassword); a.status != http.StatusSeeOther {
		t.Errorf("login among slow forms: %d", a.status)
	}
	if d := time.Since(began); d > readTimeout/2 {
		t.Errorf("the login took %v", d)
	}
}
