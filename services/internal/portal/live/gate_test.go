package live

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// 1300 knock at once at a database that takes 50 ms for each: 16 are in at a
// time, as many as the queue does not hold are told at once, and nobody waits
// longer than the limit.
func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		var mu sync.Mutex
		in, most, served, atOnce, late := 0, 0, 0, 0, 0
		began := time.Now()
		var wg sync.WaitGroup
		for range 1300 {
			wg.Go(func() {
				leave, err := g.enter(t.Context())
				mu.Lock()
				waited := time.Since(began)
				switch {
				case err == nil:
					in++
					most = max(most, in)
				case !errors.Is(err, errBusy):
					t.Error(err)
				case waited == 0:
					atOnce++
				case waited == queueLimit:
					late++
				default:
					t.Errorf("refused after %v", waited)
				}
				mu.Unlock()
				if err != nil {
					return
				}
				time.Sleep(50 * time.Millisecond)
				mu.Lock()
				in--
				served++
				mu.Unlock()
				leave()
			})
		}
		wg.Wait()
		// 60 rounds of 16 until the limit, and at that moment perhaps one more. Who
		// is let in at once leaves its place in the queue to another one.
		if most != maxEntering || served < 60*maxEntering || served > 61*maxEntering ||
			atOnce > 1300-maxQueue || atOnce < 1300-maxQueue-maxEntering || served+atOnce+late != 1300 {
			t.Errorf("%d in at once, %d served, %d refused at once, %d late", most, served, atOnce, late)
		}
		if len(g.in)+len(g.queue) != 0 {
			t.Error("somebody is still in")
		}
		ctx, stop := context.WithCancel(t.Context())
		stop()
		for range maxEntering {
			g.in <- struct{}{}
		}
		if _, err := g.enter(ctx); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// Whom the gate does not take is told when to come again, before anything is
// read for it.
func TestBusy(t *testing.T) {
	s := New(Config{}) // no directory: it must not be asked
	for range maxQueue {
		s.gate.queue <- struct{}{}
	}
	r := httptest.NewRequest("GET", "/link", nil)
	r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{{}}}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	if w.Code != 503 || w.Header().Get("Retry-After") != "10" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
}
