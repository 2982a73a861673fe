package cc

import "time"

const (
	rateBucket  = 25 * time.Millisecond
	rateBuckets = 12
)

// rateWindow measures a bitrate over the last half second, by a clock of its own
// (arrivals go by the receiver's).
type rateWindow struct {
	bytes [rateBuckets]int32
	sum   int64
	since time.Duration // start of the measurement
	cur   int64         // number of the newest bucket
	known bool
}

func (r *rateWindow) add(at time.Duration, size int) {
	b := int64(at / rateBucket)
	switch {
	case !r.known || b < r.cur-2*rateBuckets:
		*r = rateWindow{known: true, cur: b, since: at}
	case b <= r.cur-rateBuckets:
		return
	}
	r.advance(b)
	r.bytes[bucketAt(b)] += int32(size)
	r.sum += int64(size)
}

func (r *rateWindow) advance(b int64) {
	if b-r.cur > 2*rateBuckets {
		// After silence it begins anew.
		*r = rateWindow{known: true, cur: b, since: time.Duration(b) * rateBucket}
		return
	}
	for r.cur < b {
		r.cur++
		s := bucketAt(r.cur)
		r.sum -= int64(r.bytes[s])
		r.bytes[s] = 0
	}
}

func bucketAt(b int64) int { return int((b%rateBuckets + rateBuckets) % rateBuckets) }

// rate is in bit/s; false until 150 ms were seen.
func (r *rateWindow) rate(at time.Duration) (int64, bool) {
	if !r.known {
		return 0, false
	}
	r.advance(max(int64(at/rateBucket), r.cur))
	span := min(max(at, time.Duration(r.cur)*rateBucket)-r.since,
		(rateBuckets-1)*rateBucket+max(at-time.Duration(r.cur)*rateBucket, rateBucket/2))
	if span < 150*time.Millisecond {
		return 0, false
	}
	return r.sum * 8 * int64(time.Second) / int64(span), true
}
