package load

import (
	"context"
	"time"
)

// Meeting is Work B: so many participants in one meeting, measured once.
func Meeting(ctx context.Context, c *Crowd, n int, warm, measure time.Duration, pid int, counters func() (Counters, error)) (Result, error) {
	// One participant first: what the server needs for a meeting at all is not a
	// subscriber's.
	if err := c.Grow(ctx, 1); err != nil {
		return Result{}, err
	}
	empty := rss(pid)
	if err := c.Grow(ctx, n); err != nil {
		return Result{}, err
	}
	if err := sleep(ctx, warm); err != nil {
		return Result{}, err
	}
	r, err := c.Measure(ctx, measure, pid, counters)
	if pid != 0 && n > 1 {
		r.Each = (r.RSS - empty) * 1024 / float64(n-1)
	}
	return r, err
}
