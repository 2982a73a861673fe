package load_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/labtest"
	"github.com/parley-meet/parley/services/internal/load"
	"github.com/parley-meet/parley/services/internal/mmr"
)

// sample is what a process holds after a garbage collection.
type sample struct {
	heap       uint64 // bytes
	goroutines int
}

func take() sample {
	// The second one takes what finalizers of the first have let go.
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return sample{heap: m.HeapAlloc, goroutines: runtime.NumGoroutine()}
}

// bounds are by how much the last third of a soak may exceed the first.
type bounds struct {
	heap       uint64 // bytes
	goroutines int
}

// flat compares the medians of the first and the last third.
func flat(list []sample, b bounds) error {
	third := len(list) / 3
	if third == 0 {
		return fmt.Errorf("%d samples are too few", len(list))
	}
	median := func(list []sample) sample {
		var heap []uint64
		var gs []int
		for _, s := range list {
			heap, gs = append(heap, s.heap), append(gs, s.goroutines)
		}
		slices.Sort(heap)
		slices.Sort(gs)
		return sample{heap[len(heap)/2], gs[len(gs)/2]}
	}
	first, last := median(list[:third]), median(list[len(list)-third:])
	var errs []error
	if last.heap > first.heap+b.heap {
		errs = append(errs, fmt.Errorf("memory grew from %d to %d KiB, by more than %d", first.heap>>10, last.heap>>10, b.heap>>10))
	}
	if last.goroutines > first.goroutines+b.goroutines {
		errs = append(errs, fmt.Errorf("goroutines grew from %d to %d, by more than %d", first.goroutines, last.goroutines, b.goroutines))
	}
	return errors.Join(errs...)
}

// soak does something at a rhythm and samples after each time, when the warm-up is
// over.
func soak(ctx context.Context, warm, d, every time.Duration, beat func(context.Context) error) (list []sample, beats int, err error) {
	t := time.NewTicker(every)
	defer t.Stop()
	began := time.Now()
	for time.Since(began) < warm+d {
		if err := beat(ctx); err != nil {
			return list, beats, fmt.Errorf("beat %d: %w", beats+1, err)
		}
		beats++
		if time.Since(began) >= warm {
			list = append(list, take())
		}
		select {
		case <-ctx.Done():
			return list, beats, ctx.Err()
		case <-t.C:
		}
	}
	return list, beats, nil
}

// router starts one by itself, as command trial does, and returns where its
// participants come in.
func router(t *testing.T) load.Door {
	t.Helper()
	dir := t.TempDir()
	if err := load.Trial(dir, "127.0.0.1"); err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	cfg := mmr.Config{
		Media: []netip.AddrPort{labtest.FreePort(t, "udp")}, HTTPS: labtest.FreePort(t, "tcp"),
		Certificate: at("cert.pem"), Key: at("key.pem"), Keys: at("keys.json"),
		Zone: "trial", Issuer: "https://load.invalid", Limit: 8,
	}
	b, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at("router.json"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	if cfg, err = mmr.Read(at("router.json")); err != nil {
		t.Fatal(err)
	}
	s, err := mmr.New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	key, err := load.ReadKey(at("tickets.pem"))
	if err != nil {
		t.Fatal(err)
	}
	client, err := load.NewClient(at("cert.pem"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.CloseIdleConnections)
	p := &load.Parley{
		Base: "https://" + cfg.HTTPS.String(), HTTP: client, Key: key,
		Issuer: cfg.Issuer, Zone: cfg.Zone, Meeting: "soak",
	}
	return load.Door{URL: p.Base, HTTP: client, Ticket: p.Tickets}
}

// crowd is a small meeting at a door.
func crowd(door load.Door, cameras int) *load.Crowd {
	return &load.Crowd{
		Door: door, Local: netip.MustParseAddr("127.0.0.1"), Cameras: cameras, FullEvery: 2, Lose: 100,
		AtOnce: 2, Log: slog.New(slog.DiscardHandler), Progress: func(int, int, string) {},
	}
}

// Each second somebody joins a meeting and leaves it again, router and participants
// in one process: what they hold stays the same.
func TestSoak(t *testing.T) {
	// The deepest caches, of a layer of 25 packets a second, are full after 41 s.
	warm, d := 50*time.Second, 250*time.Second
	limits := bounds{heap: 2 << 20, goroutines: 40}
	switch {
	case os.Getenv("PARLEY_LONG") != "" && !testing.Short():
		warm, d = 5*time.Minute, 55*time.Minute
	case os.Getenv("CI") == "" || testing.Short():
		warm, d = 5*time.Second, 15*time.Second
		limits.heap = 32 << 20 // its caches still fill
	}
	c := crowd(router(t), 1)
	defer c.Close()
	const stay = 3
	if err := c.Grow(t.Context(), stay); err != nil {
		t.Fatal(err)
	}
	list, beats, err := soak(t.Context(), warm, d, time.Second, func(ctx context.Context) error {
		if err := c.Grow(ctx, stay+1); err != nil {
			return err
		}
		c.Shrink(ctx, stay)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := flat(list, limits); err != nil {
		t.Fatalf("after %d joins: %v", beats, err)
	}
	r, err := c.Measure(t.Context(), time.Second, 0, nil)
	if err != nil || r.Packets == 0 || r.Cut > 0 {
		t.Errorf("those who stayed: %+v, %v", r, err)
	}
	t.Logf("%d joins; first %+v, last %+v", beats, list[0], list[len(list)-1])
}

// A leak is found: of memory, of goroutines, a little at each leave. What comes and
// goes is none.
func TestSoakFindsLeaks(t *testing.T) {
	limits := bounds{heap: 1 << 20, goroutines: 40}
	stop := make(chan struct{})
	var kept [][]byte
	var stuck sync.WaitGroup
	for name, test := range map[string]struct {
		leave func()
		leaks bool
	}{
		"none":       {leave: func() { _ = make([]byte, 16<<10) }},
		"memory":     {leave: func() { kept = append(kept, make([]byte, 16<<10)) }, leaks: true},
		"goroutines": {leave: func() { stuck.Go(func() { <-stop }) }, leaks: true},
	} {
		// As often as TestSoak in CI, with a stand-in for the meeting.
		ctx, cancel := context.WithCancel(t.Context())
		n := 0
		list, _, err := soak(ctx, 0, time.Hour, time.Microsecond, func(context.Context) error {
			if n++; n == 250 {
				cancel()
			}
			test.leave()
			return nil
		})
		cancel()
		if !errors.Is(err, context.Canceled) || n < 250 {
			t.Fatal(n, err)
		}
		if err := flat(list, limits); (err != nil) != test.leaks {
			t.Errorf("%s: %v", name, err)
		}
	}
	close(stop)
	stuck.Wait()
	runtime.KeepAlive(kept)
}

// A certification ends with a verdict on what it saw, whatever this machine
// carries today; and what is asked for over the router's limit is told as that.
func TestCertify(t *testing.T) {
	var seen []int
	c := &load.Certificate{
		Crowd: crowd(router(t), 2), First: 3, Most: 20, Warm: time.Second, Measure: time.Second,
		Step: func(n int, _ load.Result, _ load.Limit) { seen = append(seen, n) },
	}
	v, err := c.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// The router takes 8.
	if v.Carried > 8 || v.Limit == load.LimitNone || !v.Loopback || v.Remote != "127.0.0.1" || len(seen) < 2 || seen[0] != 3 {
		t.Errorf("%+v after %v", v, seen)
	}
	if v.Carried == 8 && v.Limit != load.LimitPlaces {
		t.Errorf("limit %q", v.Limit)
	}
	if v.Carried > 0 && v.Best.Packets == 0 {
		t.Errorf("nothing was measured: %+v", v)
	}
}
