package zctrl

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/bus/bustest"
	"github.com/parley-meet/parley/services/internal/ticket"
)

// Two hundred people who come at once, by two controllers, are in and hear each other.
func TestCrowd(t *testing.T) {
	r := newRig(t, 2, 2)
	for _, k := range r.controllers {
		bustest.Eventually(t, "the controller has settled", func() bool { return k.current().settled(time.Now()) })
	}
	began := time.Now()
	var work sync.WaitGroup
	const many = 200
	list := make([]*person, many)
	for i := range many {
		text := r.ticket("m1", fmt.Sprint("p", i), ticket.Participant)
		work.Go(func() { list[i] = comes(t, fmt.Sprint("p", i), text, r.controllers[i%2].at) })
	}
	work.Wait()
	t.Logf("%d joined in %v", many, time.Since(began).Round(time.Millisecond))
	began = time.Now()
	list[0].say("a0")
	for _, p := range list {
		p.hears("a", 1)
	}
	t.Logf("all heard a line after %v", time.Since(began).Round(time.Millisecond))
	again := 0
	for _, p := range list {
		p.mu.Lock()
		again += p.links - 1
		p.mu.Unlock()
	}
	t.Logf("%d links were opened again", again)
}
