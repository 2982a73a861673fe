package load

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/parley-meet/parley/services/internal/sfu/room"
	"github.com/parley-meet/parley/services/internal/sfu/wire"
)

// Counters are what a router by itself tells on its debug port (GET /stats).
type Counters struct {
	Wire       wire.Totals `json:"wire"`
	Media      room.Totals `json:"media"`
	Goroutines int         `json:"goroutines"`
	Heap       uint64      `json:"heap"` // bytes
}

// ReadCounters asks for them. An address of "" gives none.
func ReadCounters(ctx context.Context, address string) func() (Counters, error) {
	client := &http.Client{Timeout: 10 * time.Second}
	return func() (c Counters, err error) {
		if address == "" {
			return c, nil
		}
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/stats", nil)
		if err != nil {
			return c, err
		}
		a, err := client.Do(r)
		if err != nil {
			return c, fmt.Errorf("the router's figures: %w", err)
		}
		defer a.Body.Close()
		if a.StatusCode != http.StatusOK {
			return c, fmt.Errorf("the router's figures: GET %s: %s", r.URL, a.Status)
		}
		return c, json.NewDecoder(a.Body).Decode(&c)
	}
}

// Work is what a router did while it was measured.
type Work struct {
	Nacked    uint64  `json:"nacked"`     // numbers that were asked for
	Resent    uint64  `json:"resent"`     // packets
	NacksSent uint64  `json:"nacks_sent"` // packets that asked publishers
	Recovered uint64  `json:"recovered"`  // that publishers sent again
	Feedback  uint64  `json:"feedback"`   // packets of TWCC that came
	Told      uint64  `json:"told"`       // and that were sent to publishers
	Probes    uint64  `json:"probes"`     // of the bandwidth estimation
	Switches  uint64  `json:"switches"`   // of layers or sources
	Keyframes uint64  `json:"keyframes"`  // that were asked of publishers
	Dropped   uint64  `json:"dropped"`    // by pacers
	PerCall   float64 `json:"packets_per_call"`
	PerRead   float64 `json:"packets_per_read"`
	Segmented float64 `json:"segmented"` // share of packets that left by UDP_SEGMENT
	Refused   uint64  `json:"refused"`   // by the kernel
}

func (a Counters) since(b Counters) *Work {
	s, t := a.Media, b.Media
	w := &Work{
		Nacked: s.Sent.Nacked - t.Sent.Nacked, Resent: s.Sent.Resent - t.Sent.Resent,
		NacksSent: s.Received.Nacks - t.Received.Nacks, Recovered: s.Received.Recovered - t.Received.Recovered,
		Feedback: s.Sent.Feedbacks - t.Sent.Feedbacks, Told: s.Received.Feedbacks - t.Received.Feedbacks,
		Probes: s.Sent.Probes - t.Sent.Probes, Switches: s.Switches - t.Switches,
		Keyframes: s.Received.Keyframes - t.Received.Keyframes, Dropped: s.Dropped - t.Dropped,
		Refused: a.Wire.Refused - b.Wire.Refused,
	}
	share := func(a, b uint64) float64 {
		if b == 0 {
			return 0
		}
		return float64(a) / float64(b)
	}
	sent := a.Wire.Sent - b.Wire.Sent
	w.PerCall = share(sent, a.Wire.Calls-b.Wire.Calls)
	w.PerRead = share(a.Wire.Received-b.Wire.Received, a.Wire.Reads-b.Wire.Reads)
	w.Segmented = share(a.Wire.Segmented-b.Wire.Segmented, sent)
	return w
}

// watch is a measurement under way.
type watch struct {
	pid      int
	counters func() (Counters, error)
	at       time.Time
	cpu, own time.Duration
	before   Counters
}

func begin(pid int, counters func() (Counters, error)) (w watch, err error) {
	w = watch{pid: pid, counters: counters}
	if counters != nil {
		if w.before, err = counters(); err != nil {
			return w, err
		}
	}
	if w.cpu, err = cpuTime(pid); err != nil {
		return w, fmt.Errorf("the router's process: %w", err)
	}
	if w.own, err = cpuTime(os.Getpid()); err != nil {
		return w, err
	}
	w.at = time.Now()
	return w, nil
}

func (w *watch) end(r *Result, before, after Figures) error {
	took := time.Since(w.at)
	cpu, err := cpuTime(w.pid)
	if err != nil {
		return fmt.Errorf("the router's process: %w", err)
	}
	own, err := cpuTime(os.Getpid())
	if err != nil {
		return err
	}
	r.fill(before, after, cpu-w.cpu, took)
	r.Own = (own - w.own).Seconds() / took.Seconds()
	r.RSS = rss(w.pid)
	if w.counters != nil {
		after, err := w.counters()
		if err != nil {
			return err
		}
		if after.Wire.Received > 0 {
			r.Work = after.since(w.before)
		}
	}
	return nil
}
