package load

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"time"

	"github.com/parley-meet/parley/services/internal/signal"
)

// What a machine must do to carry participants.
const (
	MaxLoss  = 0.001 // share of packets
	MaxP99   = 5.0   // ms, added by the router and the network
	MinShare = 0.95  // of what the senders' rate comes to: pictures stay as they are
	// full is the share of a processor at which it is the limit.
	full = 0.9
)

// Limit says what kept more participants from being carried.
type Limit string

// The limits; the text of each is that of "limit.LIMIT".
const (
	LimitNone     Limit = ""           // there was none: as many as were asked for
	LimitRouter   Limit = "router-cpu" // the processor of the router
	LimitSelf     Limit = "self"       // the processor of this machine, which makes the load
	LimitPlaces   Limit = "places"     // the router is set to take no more
	LimitLoss     Limit = "loss"
	LimitDelay    Limit = "delay"
	LimitPictures Limit = "pictures" // the router sent smaller pictures: the network seems full
	LimitCut      Limit = "cut"      // connections broke
)

// Verdict is what was found.
type Verdict struct {
	Carried  int    `json:"carried"` // participants
	Limit    Limit  `json:"limit,omitempty"`
	Best     Result `json:"best"`               // with as many
	Beyond   Result `json:"beyond,omitzero"`    // with more, that were too many
	Failed   int    `json:"too_many,omitempty"` // so many were
	Loopback bool   `json:"loopback"`           // it ran on the router's own machine
	Remote   string `json:"router"`             // address to which the media went
}

// Judge says whether a crowd was carried, and else why not.
func Judge(r Result, loopback bool, cores float64) Limit {
	busy := LimitNone
	switch {
	case r.Cores > full*cores:
		busy = LimitRouter
	case r.Own > full*cores:
		busy = LimitSelf
	}
	why := LimitNone
	switch {
	case r.Cut > 0:
		why = LimitCut
	case r.Packets == 0 || r.Loss > MaxLoss:
		why = LimitLoss
	case r.P99 > MaxP99:
		why = LimitDelay
	case r.Share < MinShare:
		why = LimitPictures
	}
	switch {
	case why == LimitNone:
		return why
	case busy != LimitNone:
		return busy
	case loopback && r.Cores+r.Own > full*cores:
		// They share the processors, and the one has what the other lacks.
		return LimitRouter
	}
	return why
}

// fewest participants make a meeting: one alone receives nothing.
const fewest = 2

// Search finds how many participants are carried: steps that grow by a half until
// one is too many, then halves of what is between, to a twentieth. Try says why n
// are too many, or LimitNone. There are fewest at least, or none is carried.
func Search(first, most int, try func(n int) (Limit, error)) (carried int, limit Limit, failed int, err error) {
	most = max(most, fewest)
	first = min(max(first, fewest), most)
	for n := first; ; {
		why, err := try(n)
		if err != nil {
			return carried, limit, failed, err
		}
		if why == LimitNone {
			carried = n
		} else {
			failed, limit = n, why
		}
		switch {
		case failed == 0 && carried == most:
			return carried, LimitNone, 0, nil
		case failed == 0:
			n = min(n+max(n/2, 1), most)
		case failed-carried <= max(failed/20, 1), failed == fewest:
			return carried, limit, failed, nil
		default:
			n = max(carried+(failed-carried)/2, fewest)
		}
	}
}

// Certificate is how a machine is certified.
type Certificate struct {
	Crowd         *Crowd
	First, Most   int // participants
	Warm, Measure time.Duration
	PID           int // of the router, if it is here
	Counters      func() (Counters, error)
	// Step hears what came of each number of participants.
	Step func(n int, r Result, why Limit)
}

// Run finds out.
func (c *Certificate) Run(ctx context.Context) (Verdict, error) {
	var v Verdict
	crowd := c.Crowd
	defer crowd.Close()
	cores := float64(runtime.GOMAXPROCS(0))
	try := func(n int) (Limit, error) {
		why := LimitNone
		var r Result
		if crowd.Len() > n {
			crowd.Shrink(ctx, n)
		}
		err := crowd.Grow(ctx, n)
		if len(crowd.people) > 0 {
			v.Remote = crowd.people[0].client.Remote.Addr().String()
			v.Loopback = Own(crowd.people[0].client.Remote.Addr())
		}
		var code ErrClosed
		switch {
		case errors.As(err, &code) && signal.Code(code) == signal.Full && crowd.Len() > 0:
			why = LimitPlaces
		case err != nil && (ctx.Err() != nil || crowd.Len() < min(n, c.First)):
			return LimitNone, err // nothing works, which is no limit
		case err != nil:
			crowd.Log.Info("join", "error", err)
			why = LimitCut
		default:
			// A moment's noise of another program is no verdict: too many must be so twice.
			for range 2 {
				if err := sleep(ctx, c.Warm); err != nil {
					return LimitNone, err
				}
				if r, err = crowd.Measure(ctx, c.Measure, c.PID, c.Counters); err != nil {
					return LimitNone, err
				}
				if why = Judge(r, v.Loopback, cores); why == LimitNone {
					break
				}
			}
		}
		if why == LimitNone {
			v.Best = r
		} else {
			v.Beyond = r
		}
		c.Step(n, r, why)
		return why, nil
	}
	var err error
	v.Carried, v.Limit, v.Failed, err = Search(c.First, c.Most, try)
	return v, err
}

// Own says whether an address is one of this machine's.
func Own(a netip.Addr) bool {
	if a.IsLoopback() {
		return true
	}
	list, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	return slices.ContainsFunc(list, func(x net.Addr) bool {
		p, err := netip.ParsePrefix(x.String())
		return err == nil && p.Addr().Unmap() == a.Unmap()
	})
}
