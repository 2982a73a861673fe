package ring

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// Rate bounds what a source may write: Burst lines at once, then PerSecond.
// Lines above it are dropped and counted, and the count is logged as soon as
// lines pass again.
type Rate struct {
	Burst     int
	PerSecond float64
}

// ServiceRate is what a service may write.
var ServiceRate = Rate{Burst: 2000, PerSecond: 200}

// limiter is a token bucket.
type limiter struct {
	rate   Rate
	tokens float64
	last   time.Time
	lost   int
}

// allow takes a token; lost is how many lines were dropped since the last that
// was allowed.
func (l *limiter) allow(now time.Time) (ok bool, lost int) {
	if l.last.IsZero() {
		l.tokens = float64(l.rate.Burst)
	} else {
		l.tokens = min(float64(l.rate.Burst), l.tokens+now.Sub(l.last).Seconds()*l.rate.PerSecond)
	}
	l.last = now
	if l.tokens < 1 {
		l.lost++
		return false, 0
	}
	l.tokens--
	lost, l.lost = l.lost, 0
	return true, lost
}

// Copy adds the lines that can be read from rd to the ring until rd ends, under
// the rate. It goes on reading when lines are dropped, so that the writer never
// waits. The error is rd's, nil for io.EOF.
func (r *Ring) Copy(source string, rd io.Reader, rate Rate) error {
	lim := limiter{rate: rate}
	add := func(line []byte) {
		now := time.Now()
		ok, lost := lim.allow(now)
		if lost > 0 {
			r.Add(now, source, fmt.Sprintf("%d lines dropped: more than %v a second", lost, rate.PerSecond))
		}
		if ok {
			r.Add(now, source, string(line))
		}
	}
	br := bufio.NewReaderSize(rd, MaxLine)
	cut := false // the line's first MaxLine bytes are in the ring, the rest is not wanted
	for {
		line, err := br.ReadSlice('\n')
		if len(bytes.TrimRight(line, "\r\n")) > 0 && !cut {
			add(line)
		}
		cut = errors.Is(err, bufio.ErrBufferFull)
		if err != nil && !cut {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			if lim.lost > 0 {
				r.Add(time.Now(), source, fmt.Sprintf("%d lines dropped: more than %v a second", lim.lost, rate.PerSecond))
			}
			return err
		}
	}
}

// Writer returns an io.Writer that adds each line written to it, without a
// rate limit: it is for PID 1's own log. A Write is taken as whole lines.
func (r *Ring) Writer(source string) io.Writer { return &writer{ring: r, source: source} }

type writer struct {
	mu     sync.Mutex
	ring   *Ring
	source string
}

func (w *writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	for line := range bytes.Lines(p) {
		if len(bytes.TrimRight(line, "\r\n")) > 0 {
			w.ring.Add(now, w.source, string(line))
		}
	}
	return len(p), nil
}
