package mmr

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-meet/parley/services/internal/hall"
	"github.com/parley-meet/parley/services/internal/meeting"
	"github.com/parley-meet/parley/services/internal/signal"
)

// A report of many people fits: those who were there longest are in it, and the
// others are counted.
func TestReport(t *testing.T) {
	at := time.Date(2026, 5, 4, 9, 0, 0, 0, time.UTC)
	for _, n := range []int{0, 3, 5000} {
		r := meeting.Report{Started: at, Ended: at.Add(time.Hour), Peak: n, More: n / 5000 * 7}
		for i := range n {
			r.People = append(r.People, meeting.Attendance{Subject: fmt.Sprintf("u%06d", i), Name: strings.Repeat("я", 64), First: at, Last: at, Present: time.Duration(i) * time.Second, Visits: 1})
		}
		e := report(hall.Run{Meeting: strings.Repeat("m", 64), ID: strings.Repeat("r", 64)}, signal.Ended, r)
		b, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > maxEvent || len(e.People)+e.More != n+r.More || n == 5000 && len(e.People) < 30 {
			t.Errorf("of %d: %d bytes, %d people and %d more", n, len(b), len(e.People), e.More)
		}
		if n == 5000 && (e.People[len(e.People)-1].Present != 4999*time.Second || e.People[0].Present != time.Duration(n-len(e.People))*time.Second) {
			t.Errorf("from %v to %v", e.People[0].Present, e.People[len(e.People)-1].Present)
		}
	}
}

// Events that nobody takes wait, in order; the oldest goes where they are too many.
func TestEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		away := true
		var got []string
		e := newEvents(func(name string, _ any) error {
			mu.Lock()
			defer mu.Unlock()
			if away {
				return errors.New("away")
			}
			got = append(got, name)
			return nil
		}, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { e.run(ctx); close(done) }()
		for i := range eventsWait + 2 {
			e.add(fmt.Sprint(i), nil)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		mu.Lock()
		away = false
		mu.Unlock()
		time.Sleep(eventsAgain)
		synctest.Wait()
		if len(got) != eventsWait || got[0] != "2" || got[len(got)-1] != fmt.Sprint(eventsWait+1) || e.dropped != 2 {
			t.Errorf("%d events, %q to %q, %d dropped", len(got), got[0], got[len(got)-1], e.dropped)
		}
		e.add("last", nil)
		cancel()
		<-done
		if got[len(got)-1] != "last" {
			t.Error("what came before the end is lost")
		}
	})
}

// The machine's processors are read as the kernel tells, and refuse with hysteresis.
func TestCPU(t *testing.T) {
	busy, all, err := parseStat("cpu  10 1 5 70 14 2 3 4 99 99\ncpu0 1 1\n")
	if err != nil || busy != 25 || all != 109 {
		t.Error(busy, all, err)
	}
	for _, text := range []string{"", "cpu 1 2 3", "cpu a b c d e f g h", "intr 1 2 3 4 5 6 7 8 9"} {
		if _, _, err := parseStat(text); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
	c := newCPU()
	if _, all, err := c.read(); err != nil || all <= 0 {
		t.Error(all, err)
	}
	steps := func(share float64, want bool) {
		t.Helper()
		for range 40 {
			c.take(share)
		}
		if c.busy.Load() != want {
			t.Errorf("at %v: busy %v", share, !want)
		}
	}
	steps(0.85, false)
	steps(7, true)
	steps(0.85, true)
	steps(0.5, false)
}
