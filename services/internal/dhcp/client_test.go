package dhcp

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const (
	acquired = "DISCOVER; REQUEST 192.0.2.10 of 192.0.2.1"
	renewal  = "REQUEST as 192.0.2.10 to 192.0.2.1"
	rebind   = "REQUEST as 192.0.2.10"
	reboot   = "REQUEST 192.0.2.10"
	bound    = "bind 192.0.2.10/24"
)

// knownLease is a lease of earlier: an hour, of which ten minutes are over.
func knownLease(now time.Time) *Lease {
	return &Lease{Address: netip.PrefixFrom(first, 24), Server: server, Acquired: now.Add(-10 * time.Minute),
		Renew: 30 * time.Minute, Rebind: 52 * time.Minute, Length: time.Hour}
}

func TestAcquireAndRenew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := run(t, newServer(time.Hour), nil, false)
		w.expect(t, 0, acquired, "")
		w.expect(t, 2*time.Second, "", bound) // after the probe
		w.set(func() {
			if w.open != 0 {
				t.Error("a socket is open while nothing is awaited")
			}
		})
		// T1 is half an hour, a little less against the crowd.
		w.expect(t, 29*time.Minute, "", "")
		w.expect(t, time.Minute, renewal, bound)
		w.renewals(t, 100)
		if err := w.client.Alive(t.Context()); err != nil {
			t.Error(err)
		}
		w.stop()
		w.expect(t, 2*time.Hour, "", "") // the address stays
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := w.client.Alive(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Alive after the end: %v", err)
		}
	})
}

// renewals lets n times T1 pass, half an hour or up to a fiftieth less.
func (w *world) renewals(t *testing.T, n int) {
	t.Helper()
	time.Sleep(time.Duration(n) * 30 * time.Minute)
	synctest.Wait()
	words, events := strings.Split(w.words(), "; "), strings.Split(w.take(), "; ")
	if len(words) < n || len(words) > n+n/49+1 || len(events) != len(words) {
		t.Errorf("%d messages, %d times bound, want %d or a few more", len(words), len(events), n)
	}
	for i := range min(len(words), len(events)) {
		if words[i] != renewal || events[i] != bound {
			t.Errorf("sent %q, did %q, want %q and %q", words[i], events[i], renewal, bound)
		}
	}
}

// The server is gone: T1 asks it, T2 asks everybody, and at the end the address
// goes and everything begins anew, with the same wish.
func TestServerGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := run(t, newServer(time.Hour), nil, false)
		w.expect(t, 2*time.Second, acquired, bound)
		w.set(func() { w.gone = true })
		w.expect(t, 30*time.Minute, renewal, "")
		w.expect(t, 11*time.Minute+30*time.Second, renewal, "") // half of what is left to T2
		w.expect(t, 6*time.Minute, renewal, "")
		w.expect(t, 3*time.Minute, renewal, "")
		w.expect(t, 2*time.Minute, renewal+"; "+renewal+"; "+rebind, "") // T2 at 52:30
		w.expect(t, 4*time.Minute, rebind, "")
		w.expect(t, 2*time.Minute, rebind, "")
		w.expect(t, 75*time.Second, rebind, "")
		w.expect(t, 15*time.Second, "DISCOVER 192.0.2.10", "unbind")
		w.expect(t, 10*time.Second, "DISCOVER 192.0.2.10", "")
		w.set(func() { w.gone = false })
		w.expect(t, 64*time.Second, "DISCOVER 192.0.2.10; "+reboot+" of 192.0.2.1", bound)
		if !strings.Contains(w.logs.String(), `msg="lease ended" address=192.0.2.10/24 server=192.0.2.1`) {
			t.Errorf("log:\n%s", w.logs)
		}
	})
}

// Another server answers after T2.
func TestRebind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := run(t, newServer(8*time.Second), nil, false)
		w.expect(t, 2*time.Second, acquired, bound)
		w.set(func() { w.gone = true })
		w.expect(t, 2500*time.Millisecond, renewal, "")
		w.set(func() { w.gone = false })
		w.expect(t, 3*time.Second, rebind, bound)
		w.expect(t, 4*time.Second, renewal, bound)
	})
}

// The server's range has changed: NAK at T1, and another address at once.
func TestNAK(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := run(t, newServer(time.Hour), nil, false)
		w.expect(t, 2*time.Second, acquired, bound)
		w.set(func() { w.pool = []netip.Addr{second} })
		w.expect(t, 30*time.Minute, renewal+"; DISCOVER; REQUEST 192.0.2.11 of 192.0.2.1", "unbind; bind 192.0.2.11/24")
	})
}

// Another machine has the address: DECLINE, ten seconds, another address.
func TestConflict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(time.Hour)
		w := run(t, s, nil, false)
		w.conflict(first, net.HardwareAddr{2, 2, 2, 2, 2, 2}, nil) // the probe has begun and takes a second
		w.expect(t, 9*time.Second, acquired+"; DECLINE 192.0.2.10 of 192.0.2.1", "unbind")
		w.expect(t, 2500*time.Millisecond, "DISCOVER; REQUEST 192.0.2.11 of 192.0.2.1", "")
		w.expect(t, time.Second, "", "bind 192.0.2.11/24")
		if !strings.Contains(w.logs.String(), "machine=02:02:02:02:02:02") {
			t.Errorf("log:\n%s", w.logs)
		}
	})
}

// A probe that cannot be made is no reason to be without an address.
func TestProbeFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := run(t, newServer(time.Hour), nil, false)
		w.conflict(first, nil, errTest)
		w.expect(t, 2*time.Second, acquired, bound)
		if !strings.Contains(w.logs.String(), "address not probed") {
			t.Errorf("log:\n%s", w.logs)
		}
	})
}

func TestReboot(t *testing.T) {
	for _, test := range []struct {
		name   string
		held   bool
		change func(*world)
		past   string // events before the first answer
		words  string
		events string
	}{
		{"held", true, func(*world) {}, bound, reboot, bound + "; " + bound},
		{"not held", false, func(*world) {}, "", reboot, bound},
		{"held, NAK", true, func(w *world) { w.pool = []netip.Addr{second} }, bound,
			reboot + "; DISCOVER; REQUEST 192.0.2.11 of 192.0.2.1", bound + "; unbind; bind 192.0.2.11/24"},
		{"not held, NAK", false, func(w *world) { w.pool = []netip.Addr{second} }, "",
			reboot + "; DISCOVER; REQUEST 192.0.2.11 of 192.0.2.1", "unbind; bind 192.0.2.11/24"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(time.Hour)
				test.change(&world{testServer: s})
				w := run(t, s, knownLease(time.Now()), test.held)
				w.expect(t, 2*time.Second, test.words, test.events)
			})
		})
	}
}

// Nobody answers: a known lease is used until it ends, and asked about every
// few minutes.
func TestRebootUnanswered(t *testing.T) {
	for _, held := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			s := newServer(time.Hour)
			s.gone = true
			w := run(t, s, knownLease(time.Now()), held)
			at, events := "", bound
			if held {
				at, events = bound, ""
			}
			w.expect(t, 20*time.Second, reboot+"; "+reboot+"; "+reboot, at)
			w.expect(t, 15*time.Second, rebind, events)
			w.expect(t, 5*time.Minute, rebind, "")
			w.expect(t, 5*time.Minute, rebind, "")
			w.set(func() { w.gone = false })
			w.expect(t, 5*time.Minute, rebind, bound)
			w.expect(t, 30*time.Minute, renewal, bound)
		})
	}
}

// A lease that ended while the machine was off is only a wish.
func TestRebootOver(t *testing.T) {
	for _, held := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			l := knownLease(time.Now())
			l.Acquired = l.Acquired.Add(-time.Hour)
			w := run(t, newServer(time.Hour), l, held)
			w.expect(t, 2*time.Second, "DISCOVER 192.0.2.10; "+reboot+" of 192.0.2.1", map[bool]string{true: bound + "; ", false: ""}[held]+"unbind; "+bound)
		})
	}
}

// A pulled cable keeps the address; a pulled cable at the lease's end does not;
// one that comes back asks again.
func TestCarrier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := run(t, newServer(time.Hour), nil, false)
		w.expect(t, 2*time.Second, acquired, bound)
		w.client.Carrier(false)
		w.expect(t, 50*time.Minute, "", "")
		w.client.Carrier(true)
		w.client.Carrier(true)
		w.expect(t, time.Second, reboot, bound)
		w.client.Carrier(false)
		w.expect(t, 59*time.Minute, "", "")
		w.expect(t, time.Minute, "", "unbind")
		w.client.Carrier(true)
		w.expect(t, 2*time.Second, "DISCOVER 192.0.2.10; "+reboot+" of 192.0.2.1", bound)
	})
}

// A lease that is given back: the message leaves before the address does, and the
// client wants nothing any more until the carrier comes.
func TestRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := run(t, newServer(time.Hour), nil, false)
		w.expect(t, 2*time.Second, acquired, bound)
		done := make(chan error, 1)
		go func() { done <- w.client.Release(t.Context()) }()
		w.expect(t, releaseWait/2, "RELEASE as 192.0.2.10 of 192.0.2.1 to 192.0.2.1", "")
		w.expect(t, releaseWait, "", "unbind")
		if err := <-done; err != nil {
			t.Error(err)
		}
		w.expect(t, 2*time.Hour, "", "")
		w.client.Carrier(true)
		w.expect(t, 2*time.Second, acquired, bound)
		// Without a carrier nobody would hear it.
		w.client.Carrier(false)
		w.expect(t, time.Second, "", "")
		if err := w.client.Release(t.Context()); err != nil {
			t.Error(err)
		}
		w.expect(t, 0, "", "unbind")
		w.stop()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := w.client.Release(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Release after the end: %v", err)
		}
	})
}

// A cable pulled in every phase is like one pulled in none.
func TestCarrierGoneAnywhere(t *testing.T) {
	for at := range 30 {
		synctest.Test(t, func(t *testing.T) {
			s := newServer(time.Hour)
			s.gone = at%2 == 1
			w := run(t, s, nil, false)
			time.Sleep(time.Duration(at) * 200 * time.Millisecond)
			w.client.Carrier(false)
			time.Sleep(time.Minute)
			synctest.Wait()
			w.set(func() {
				if w.open != 0 {
					t.Errorf("gone after %d: a socket is open without carrier", at)
				}
				w.log, w.gone = nil, false
			})
			w.client.Carrier(true)
			time.Sleep(2 * time.Second)
			synctest.Wait()
			if got := w.take(); !strings.HasSuffix(got, bound) {
				t.Errorf("gone after %d: did %q, sent %q", at, got, w.words())
			}
		})
	}
}

// The process ends in every phase: Run comes back and nothing is left open.
func TestStopAnywhere(t *testing.T) {
	for at := range 20 {
		synctest.Test(t, func(t *testing.T) {
			s := newServer(4 * time.Second)
			s.gone = at%3 == 1
			w := run(t, s, nil, false)
			time.Sleep(time.Duration(at) * 300 * time.Millisecond)
			w.stop()
		})
	}
}

// Bytes that are no message, ever so many, are named in the log a few times and
// change nothing.
func TestGarbage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(time.Hour)
		r := generator()
		s.raw = func() []byte {
			b := make([]byte, r.IntN(600))
			for i := range b {
				b[i] = byte(r.Uint32())
			}
			return b
		}
		w := run(t, s, nil, false)
		w.expect(t, 2*time.Second, acquired, bound)
		w.renewals(t, 50)
		if !strings.Contains(w.logs.String(), "message cannot be read") {
			t.Errorf("log:\n%s", w.logs)
		}
	})
}

func TestGarbageIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(time.Hour)
		s.gone = true
		w := run(t, s, nil, false)
		c := w.client.conn.(*testConn) // the loop rests
		for range 1000 {
			c.in <- []byte("garbage")
			synctest.Wait()
		}
		if n := strings.Count(w.logs.String(), "\n"); n != maxComplaints {
			t.Errorf("%d lines in the log, want %d", n, maxComplaints)
		}
		w.stop()
	})
}

// A wire that does not open is tried again with each message.
func TestWireFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(time.Hour)
		s.fail = errTest
		w := run(t, s, nil, false)
		w.expect(t, 2*time.Second, "", "")
		w.set(func() { w.fail = nil })
		w.expect(t, 5*time.Second, acquired, bound)
		w.set(func() { w.fail = errTest })
		w.expect(t, 35*time.Minute, "", "")
		w.set(func() { w.fail = nil })
		w.expect(t, 8*time.Minute, renewal, bound)
		// A socket that breaks while an answer is awaited.
		w.set(func() { w.gone = true })
		w.expect(t, 30*time.Minute, renewal, "")
		w.set(func() { w.gone = false })
		w.client.conn.(*testConn).in <- nil // no message: only noise
		synctest.Wait()
		w.expect(t, 12*time.Minute, renewal, bound)
	})
}
