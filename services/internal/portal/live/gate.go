package live

import (
	"context"
	"errors"
	"time"
)

// Bounds of admission. When an instance dies, all its appliances knock at the
// ones that are left; what each needs from the database is little, but pages
// need the database too.
const (
	maxEntering = 16              // at the database at once
	maxQueue    = 1000            // that wait for that
	queueLimit  = 3 * time.Second // longer nobody waits: it is sent away, to come back
	// busyAfter is within which who is sent away comes back.
	busyAfter = 10 * time.Second
)

// errBusy means that too many come at once.
var errBusy = errors.New("too many appliances come at once")

// gate lets a bounded number in at once, and has a bounded number wait for a
// bounded time.
type gate struct {
	in, queue chan struct{}
}

func newGate() gate {
	return gate{make(chan struct{}, maxEntering), make(chan struct{}, maxQueue)}
}

// enter waits for a place; leave gives it back. The error is errBusy, or ctx's.
func (g gate) enter(ctx context.Context) (leave func(), err error) {
	select {
	case g.queue <- struct{}{}:
		defer func() { <-g.queue }()
	default:
		return nil, errBusy
	}
	late := time.NewTimer(queueLimit)
	defer late.Stop()
	select {
	case g.in <- struct{}{}:
		return func() { <-g.in }, nil
	case <-late.C:
		return nil, errBusy
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
