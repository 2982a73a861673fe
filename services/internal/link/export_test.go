package link

import "time"

// Hurry gives a client that does not run yet the times of a network that is
// near, and the clock that its portal has.
func (c *Client) Hurry(now func() time.Time) {
	c.now = now
	c.times = times{
		dial: 500 * time.Millisecond, write: 2 * time.Second, pingEvery: 100 * time.Millisecond, pingLimit: 400 * time.Millisecond,
		askAgain: 100 * time.Millisecond, steady: time.Second, settle: 10 * time.Millisecond,
		wait: func(_ error, _ bool, _ int, r float64) time.Duration {
			return time.Duration(r * float64(20*time.Millisecond))
		},
	}
}
