package zctrl

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/parley-meet/parley/services/internal/bus/placement"
)

const (
	// endEvery is how often a router is told that a meeting runs elsewhere.
	endEvery = time.Second
	// lookAtBus is how often the bus's connections are looked at. A router whose
	// connection has ended is asked askTimes whether it is there, each time for
	// askTime, and counts as lost if it does not answer: much sooner than
	// placement.Expiry, for its process has ended, or its machine.
	lookAtBus = 100 * time.Millisecond
	askTimes  = 4
	askTime   = 250 * time.Millisecond
	// lateAfter is how long after its last announcement a router is asked in the same
	// way, for a machine that loses its power closes no connection; askEvery is how
	// long after an answer it is asked again, if it still announces nothing. Whose
	// connection is open is asked lateTimes: he may only be slow.
	lateAfter = placement.Every + 400*time.Millisecond
	askEvery  = time.Second
	lateTimes = 6
)

// watch follows what routers say until ctx ends.
func (z *zone) watch(ctx context.Context) {
	var ended time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-z.view.Changed():
		}
		live := z.live()
		z.s.closePages(func(p *page) bool { return p.zone == z && p.router != "" && !live[p.router] }, "the meeting's router is silent")
		if now := time.Now(); now.Sub(ended) >= endEvery {
			ended = now
			for _, t := range z.view.Twices() {
				for _, o := range t.Others {
					z.s.log.Warn("a meeting runs twice", "meeting", t.Meeting, "keeps", t.Keeps.Router, "ends", o.Router)
					_ = z.carrier.End(o.Router, t.Meeting, t.Keeps.Epoch) // it is told again
				}
			}
		}
		z.s.tell()
	}
}

// sights is what is known of the routers' processes.
type sights struct {
	mu       sync.Mutex
	boots    map[string]uint64
	answered map[string]time.Time // last
	asking   map[string]bool
}

// attend notices routers that have ended or begun anew, by the ends of their
// connections to this controller and by announcements that do not come, until ctx
// ends.
func (z *zone) attend(ctx context.Context) {
	var (
		work sync.WaitGroup
		seen = &sights{boots: map[string]uint64{}, answered: map[string]time.Time{}, asking: map[string]bool{}}
		last = map[string][]time.Time{}
		tick = time.NewTicker(lookAtBus)
	)
	defer work.Wait()
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := map[string][]time.Time{}
		for _, x := range z.hub.Sessions() {
			now[x.ID] = append(now[x.ID], x.Since)
		}
		late := map[string]bool{}
		for _, r := range z.view.Routers() {
			late[r.ID] = time.Since(r.Heard) > lateAfter
		}
		for id := range z.live() {
			gone := slices.ContainsFunc(last[id], func(t time.Time) bool { return !slices.Contains(now[id], t) })
			seen.mu.Lock()
			overdue := late[id] && time.Since(seen.answered[id]) > askEvery
			ask := (gone || overdue || seen.boots[id] == 0) && !seen.asking[id]
			if ask {
				seen.asking[id] = true
			}
			seen.mu.Unlock()
			times := 0
			switch {
			case gone:
				times = askTimes
			case overdue:
				times = lateTimes
			}
			if ask {
				work.Go(func() { z.ask(ctx, seen, id, times) })
			}
			// Else it is asked when the one who asks has come back.
			if ask || !gone {
				last[id] = now[id]
			}
		}
	}
}

// ask learns which process a router is, and has the pages of one that has ended
// come back. It is asked so many times before it counts as lost; 0: it does not, and
// is asked once.
func (z *zone) ask(ctx context.Context, seen *sights, id string, times int) {
	var (
		boot uint64
		err  error
	)
	for range max(times, 1) {
		began := time.Now()
		wait, stop := context.WithTimeout(ctx, askTime)
		boot, err = z.carrier.Process(wait, id)
		stop()
		if err == nil || ctx.Err() != nil {
			break
		}
		select { // a refusal of the bus comes at once
		case <-time.After(askTime - time.Since(began)):
		case <-ctx.Done():
		}
	}
	seen.mu.Lock()
	before := seen.boots[id]
	if err == nil {
		seen.boots[id], seen.answered[id] = boot, time.Now()
	}
	delete(seen.asking, id)
	seen.mu.Unlock()
	why := ""
	switch {
	case ctx.Err() != nil:
		return
	case err != nil && times > 0:
		z.s.log.Warn("a router is lost", "router", id, "error", err)
		z.view.Forget(id)
		why = "the meeting's router is lost"
	case err == nil && before != 0 && boot != before:
		z.s.log.Warn("a router has begun anew", "router", id)
		why = "the meeting's router has begun anew"
	default:
		return
	}
	z.mu.Lock()
	for meeting, p := range z.placed {
		if p.at.Router == id {
			delete(z.placed, meeting)
		}
	}
	z.mu.Unlock()
	z.s.closePages(func(p *page) bool { return p.zone == z && p.router == id }, why)
}
