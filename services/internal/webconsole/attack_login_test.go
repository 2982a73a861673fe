package webconsole

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/guard"
)

// Ten thousand guesses from hundreds of addresses: few are checked, the others
// are told how long to wait, memory stays bounded, and the administrator gets in
// meanwhile from where he has been before, afterwards from anywhere.
func TestAttackLogins(t *testing.T) {
	sources, each := 500, 20
	if os.Getenv("PARLEY_LONG") != "" {
		sources = 5000
	}
	r := newRig(t, testPassword)
	home := r.browser().from("127.20.0.1")
	if a := home.login(testPassword); a.status != http.StatusSeeOther {
		t.Fatalf("login: %d", a.status)
	}
	before := heap()

	var checked, waiting, cut atomic.Int64
	began := time.Now()
	work := make(chan int)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for i := range work {
				// Not r.browser, which the test would keep until its end.
				d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, byte(30+i%7), byte(i/7%250), byte(1+i%200))}}
				b := http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
					DialContext: d.DialContext, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
				for range each {
					resp, err := b.PostForm(r.base+"/login", url.Values{"name": {"admin"}, "password": {"guess " + strconv.Itoa(i)}})
					if err != nil { // pushed out by newer connections
						cut.Add(1)
						continue
					}
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
					switch resp.StatusCode {
					case http.StatusForbidden:
						checked.Add(1)
					case http.StatusTooManyRequests, http.StatusServiceUnavailable:
						waiting.Add(1)
						if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err != nil || s < 1 || s > 60 {
							t.Errorf("answer %d has Retry-After %q", resp.StatusCode, resp.Header.Get("Retry-After"))
						}
					default:
						t.Errorf("a guess was answered with %d", resp.StatusCode)
					}
				}
				b.CloseIdleConnections()
			}
		})
	}
	for i := range sources {
		work <- i
		if i == sources/2 {
			if a := home.login(testPassword); a.status != http.StatusSeeOther {
				t.Errorf("the right password, in the middle of it: %d", a.status)
			}
		}
	}
	close(work)
	wg.Wait()
	took := time.Since(began)
	t.Logf("%d guesses in %v: %d checked, %d told to wait, %d cut off", sources*each, took.Round(time.Millisecond), checked.Load(), waiting.Load(), cut.Load())

	if most := int64(guard.Console.FailBurst) + int64(took/guard.Console.FailEvery) + 2; checked.Load() > most {
		t.Errorf("%d guesses were checked, want at most %d", checked.Load(), most)
	}
	if cut.Load() > int64(sources*each/10) {
		t.Errorf("%d of %d guesses had no answer", cut.Load(), sources*each)
	}
	if grown := heap() - before; grown > 8<<20 {
		t.Errorf("%d bytes are kept of it", grown)
	}
	if a := r.browser().from("127.20.0.1").login(testPassword); a.status != http.StatusSeeOther {
		t.Errorf("the right password, afterwards: %d", a.status)
	}
	// An address that nobody knows waits as long as it is told, and gets in.
	stranger := r.browser().from("127.21.0.1")
	for range 5 {
		a := stranger.login(testPassword)
		if a.status == http.StatusSeeOther {
			return
		}
		s, err := strconv.Atoi(a.header.Get("Retry-After"))
		if a.status != http.StatusTooManyRequests || err != nil {
			t.Fatalf("from elsewhere: %d, Retry-After %q", a.status, a.header.Get("Retry-After"))
		}
		time.Sleep(time.Duration(s) * time.Second)
	}
	t.Error("the right password is turned away again and again")
}

// heap returns what is in use, in bytes.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
