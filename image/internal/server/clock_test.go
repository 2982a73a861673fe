package server

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/image/internal/stage"
)

// The clock follows servers when the service for it says so and is obeyed, not
// when a person sets it.
func TestSynced(t *testing.T) {
	stage.Need(t)
	var fail atomic.Bool
	var synced atomic.Int32
	sys := &system{do: func(context.Context, control.Request) error {
		if fail.Load() {
			return errors.New("before the floor")
		}
		return nil
	}}
	path := serve(t, &Server{System: sys, Synced: func() { synced.Add(1) }})
	const request = `{"op":"clock","clock":{"offset":5}}` + "\n"
	for _, x := range []struct {
		uid, want int
		fail      bool
	}{{operator, 0, false}, {manager, 0, false}, {0, 0, false}, {clock, 0, true}, {clock, 1, false}, {reader, 1, false}} {
		fail.Store(x.fail)
		ask(t, dial(t, path, x.uid), request)
		if n := int(synced.Load()); n != x.want {
			t.Errorf("after user %d: %d times, want %d", x.uid, n, x.want)
		}
	}
	fail.Store(false)
	ask(t, dial(t, path, clock), `{"op":"hostname","hostname":"a"}`+"\n")
	if n := synced.Load(); n != 1 {
		t.Errorf("a host name counts as the time: %d", n)
	}
}
