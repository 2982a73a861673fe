package link

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	mrand "math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Appliances that lost the portal together come back apart: at each attempt the
// waits of many fill the whole of a range that grows.
func TestBackoff(t *testing.T) {
	for attempt, most := range map[int]time.Duration{0: 2 * time.Second, 2: 8 * time.Second, 5: time.Minute, 1000: time.Minute} {
		const n = 200
		var parts [10]int
		for i := range n {
			d := Backoff(attempt, float64(i)/n)
			if d < 0 || d >= most {
				t.Fatalf("attempt %d: %v, want less than %v", attempt, d, most)
			}
			parts[int(10*d/most)]++
		}
		for i, k := range parts {
			if k < n/20 {
				t.Errorf("attempt %d: %d of %d in part %d", attempt, k, n, i)
			}
		}
	}
}

// What each end of a connection is answered with.
func TestWait(t *testing.T) {
	bye := func(why string, after time.Duration) error { return byeError{Bye{Why: why, After: after}} }
	cut := errors.New("cut")
	for name, x := range map[string]struct {
		err         error
		linked      bool
		attempt     int
		least, most time.Duration
	}{
		"refused by the network":   {cut, false, 0, 0, 2 * time.Second},
		"again and again":          {cut, false, 30, 0, time.Minute},
		"a link that broke":        {cut, true, 0, 0, 5 * time.Second},
		"links that break all day": {cut, true, 30, 0, time.Minute},
		"stopping":                 {bye("stopping", 3*time.Second), true, 0, 0, 3 * time.Second},
		"stopping as one likes":    {bye("stopping", 0), true, 0, 0, 2 * time.Second},
		"stopping, always":         {bye("stopping", 3*time.Second), false, 9, 0, time.Minute},
		"stopping, nonsense":       {bye("stopping", -time.Hour), false, 0, 0, 2 * time.Second},
		"stopping for a year":      {bye("stopping", 1<<60), false, 0, 0, time.Minute},
		"busy":                     {bye(WhyBusy, 10*time.Second), false, 0, 0, 10 * time.Second},
		"revoked":                  {bye("revoked", 0), true, 0, time.Minute, 3 * time.Minute},
		"expired":                  {bye(WhyExpired, 0), false, 9, time.Minute, 3 * time.Minute},
		"a new certificate":        {fmt.Errorf("x: %w", errRenewed), true, 3, 0, time.Second},
		"superseded":               {bye("superseded", 0), true, 2, 0, 8 * time.Second},
	} {
		if least, most := wait(x.err, x.linked, x.attempt, 0), wait(x.err, x.linked, x.attempt, 1); least != x.least || most != x.most {
			t.Errorf("%s: from %v to %v, want from %v to %v", name, least, most, x.least, x.most)
		}
	}
	if lostSpread >= SilentAfter {
		t.Error("who comes back is called silent")
	}
}

// 600 appliances of one instance, of which the link breaks at the same moment:
// how many attempts the portal sees in its worst second, and when all are back,
// by the waits that Run makes on a clock of its own.
func TestHerd(t *testing.T) {
	const n = 600
	busy := byeError{Bye{Why: WhyBusy, After: 10 * time.Second}}
	for name, x := range map[string]struct {
		err   error
		down  time.Duration // the portal takes no links for so long
		takes int           // links in a second; others are told that it is busy
		most  int           // attempts in any second
		back  time.Duration // until all are linked
	}{
		// Another instance is there at once: 120 a second on average.
		"killed, others run": {errors.New("cut"), 0, n, 200, 5 * time.Second},
		// Alone, and up again after 30 s: by then they try once in 20 s or so.
		"killed, back in 30 s": {errors.New("cut"), 30 * time.Second, n, 400, 2 * time.Minute},
		// Away for an hour: ten or twenty a second, on and on.
		"killed, back in an hour": {errors.New("cut"), time.Hour, n, 400, time.Hour + time.Minute},
		// Six hundred links are asked to come back within 7 s.
		"stopped, others run": {byeError{Bye{Why: WhyStopping, After: 7 * time.Second}}, 0, n, 200, 7 * time.Second},
		// What is left takes 50 a second: 12 s of work, done in a few times that.
		"killed, others are slow": {errors.New("cut"), 0, 50, 300, 2 * time.Minute},
	} {
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex
			perSecond, taken := map[int]int{}, map[int]int{}
			linked, last := 0, time.Duration(0)
			const uptime = 2 * time.Minute // before it happens
			began := time.Now()
			ctx, stop := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			for range n {
				c := &Client{cfg: ClientConfig{Log: slog.New(slog.DiscardHandler)}, cred: Credentials{Portals: []string{"wss://portal/link"}}, times: usual}
				first := true
				c.connect = func(ctx context.Context, _ string) error {
					stand := func(until <-chan time.Time) {
						c.mu.Lock()
						c.conn.Connected = true
						c.mu.Unlock()
						select {
						case <-until:
						case <-ctx.Done():
						}
					}
					if first {
						first = false
						stand(time.After(time.Until(began.Add(uptime))))
						return x.err
					}
					after := time.Since(began) - uptime
					second := int(after / time.Second)
					mu.Lock()
					perSecond[second]++
					free := taken[second] < x.takes
					if free && after >= x.down {
						taken[second]++
						linked++
						last = max(last, after)
					}
					mu.Unlock()
					if after < x.down {
						return errors.New("connection refused")
					}
					if !free {
						return busy
					}
					stand(nil)
					return ctx.Err()
				}
				wg.Go(func() { _ = c.Run(ctx) })
			}
			time.Sleep(uptime + x.down + 10*time.Minute)
			stop()
			wg.Wait()
			worst := 0
			for _, k := range perSecond {
				worst = max(worst, k)
			}
			t.Logf("%s: %d attempts in the worst second, %d in the first, all back after %v", name, worst, perSecond[0], last)
			if linked != n || worst > x.most || last > x.back {
				t.Errorf("%s: %d of %d linked, %d attempts in a second (at most %d), the last after %v (%v)", name, linked, n, worst, x.most, last, x.back)
			}
		})
	}
}

// Waits that are drawn at random fill their whole range.
func TestSpread(t *testing.T) {
	r := mrand.New(mrand.NewPCG(1, 2))
	var parts [5]int
	for range 200 {
		parts[int(wait(byeError{Bye{Why: "stopping", After: 3 * time.Second}}, true, 0, r.Float64())*5/(3*time.Second))]++
	}
	for i, k := range parts {
		if k < 25 || k > 55 { // 40 each; three standard deviations are 17
			t.Errorf("%d of 200 in fifth %d: %v", k, i, parts)
		}
	}
}
