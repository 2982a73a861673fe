package load

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/parley-meet/parley/services/internal/sfu/transport"
)

// Fanout is Work A: one publisher, many subscribers.
type Fanout struct {
	Target      Target
	Local       netip.Addr
	Subscribers int
	FullEvery   int // each n-th is a full one; 0: none
	Video       Video
	Warm        time.Duration
	Measure     time.Duration
	PID         int                      // of the server on this machine; 0: its CPU is not measured
	Lose        int                      // of full subscribers
	Counters    func() (Counters, error) // of the router; nil: none
	Log         *slog.Logger
	Progress    func(done, of int, what string)
}

// Result is what was measured.
type Result struct {
	Subscribers int     `json:"subscribers"`
	Packets     uint64  `json:"packets"` // received while it was measured
	PerSecond   float64 `json:"packets_per_second"`
	Loss        float64 `json:"loss"`          // share of those expected
	CPU         float64 `json:"us_per_packet"` // of the server
	Cores       float64 `json:"cores"`         // that the server used
	RSS         float64 `json:"rss_mib"`
	P50         float64 `json:"p50_ms"` // from publisher to subscriber
	P99         float64 `json:"p99_ms"`
	Join        float64 `json:"join_ms"` // mean time from offer to keys
	Resent      uint64  `json:"resent"`
	Feedback    uint64  `json:"feedback"`
	Nacks       uint64  `json:"nacks"`
	Opened      uint64  `json:"opened"`                       // packets whose delay was taken
	Share       float64 `json:"share"`                        // of the packets that should come at the rate of the senders
	Own         float64 `json:"own_cores"`                    // that the load used
	Cut         int     `json:"cut,omitempty"`                // participants whose connection ended
	Each        float64 `json:"kib_per_subscriber,omitempty"` // of the server's memory
	Work        *Work   `json:"work,omitempty"`               // of a Parley router
}

// connectIn bounds a join.
const connectIn = 30 * time.Second

// join dials, offers and waits for the keys.
func join(ctx context.Context, local netip.Addr, lines []transport.Line, log *slog.Logger, media func([][]byte), offer func(context.Context, string) (string, error)) (*transport.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, connectIn)
	defer cancel()
	c, err := transport.Dial(local, lines, log, media)
	if err != nil {
		return nil, err
	}
	text, err := c.Offer()
	if err == nil {
		text, err = offer(ctx, text)
	}
	if err == nil {
		err = c.Answer(text)
	}
	if err == nil {
		select {
		case <-c.Ready:
			return c, nil
		case <-c.Failed:
			err = errors.New("the connection failed")
		case <-ctx.Done():
			err = errors.New("no connection in time")
		}
	}
	return nil, errors.Join(err, c.Close())
}

// Run measures.
func (f *Fanout) Run(ctx context.Context) (Result, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	epoch := time.Now()
	res := Result{Subscribers: f.Subscribers}
	pub := NewPublisher(epoch, []Video{f.Video}, true)
	pc, err := join(ctx, f.Local, []transport.Line{{Video: true, Send: true}, {Send: true}}, f.Log, pub.Media, func(ctx context.Context, offer string) (string, error) {
		return f.Target.Publish(ctx, 0, offer)
	})
	if err != nil {
		return res, fmt.Errorf("publisher: %w", err)
	}
	defer pc.Close()
	pub.Start(pc)
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()
	work.Go(func() { pub.Run(ctx) })

	subs := make([]*Subscriber, f.Subscribers)
	var (
		mu    sync.Mutex
		errs  []error
		took  time.Duration
		done  int
		joins sync.WaitGroup
		gate  = make(chan struct{}, 4)
	)
	for i := range subs {
		gate <- struct{}{}
		joins.Go(func() {
			defer func() { <-gate }()
			s := NewSubscriber(epoch, f.FullEvery > 0 && i%f.FullEvery == 0)
			s.Lose = f.Lose
			began := time.Now()
			c, err := join(ctx, f.Local, []transport.Line{{Video: true}, {}}, f.Log, s.Media, func(ctx context.Context, offer string) (string, error) {
				return f.Target.Subscribe(ctx, i, offer)
			})
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, fmt.Errorf("subscriber %d: %w", i, err))
				return
			}
			s.Start(c, 0)
			subs[i] = s
			took += time.Since(began)
			done++
			f.Progress(done, f.Subscribers, "joined")
			context.AfterFunc(ctx, func() { c.Close() })
		})
	}
	joins.Wait()
	if len(errs) > 0 {
		return res, errors.Join(errs[:min(len(errs), 3)]...)
	}
	res.Join = float64(took.Milliseconds()) / float64(max(f.Subscribers, 1))
	if err := sleep(ctx, f.Warm); err != nil {
		return res, err
	}
	sum := func() (t Figures) {
		for _, s := range subs {
			t.Add(s.Figures())
		}
		return t
	}
	for _, s := range subs {
		s.Reset()
	}
	w, err := begin(f.PID, f.Counters)
	if err != nil {
		return res, err
	}
	sent, before := pub.Sent(), sum()
	if err := sleep(ctx, f.Measure); err != nil {
		return res, err
	}
	after := sum()
	if n := (pub.Sent() - sent) * uint64(len(subs)); n > 0 {
		res.Share = float64(after.Packets-before.Packets) / float64(n)
	}
	if err := w.end(&res, before, after); err != nil {
		return res, err
	}
	var h Histogram
	for _, s := range subs {
		s.Delays(&h)
	}
	res.delays(&h)
	return res, nil
}

func (r *Result) fill(before, after Figures, cpu, took time.Duration) {
	r.Packets = after.Packets - before.Packets
	expected := after.Expected - before.Expected
	r.PerSecond = float64(r.Packets) / took.Seconds()
	if expected > r.Packets {
		r.Loss = float64(expected-r.Packets) / float64(expected)
	}
	if r.Packets > 0 {
		r.CPU = float64(cpu.Microseconds()) / float64(r.Packets)
	}
	r.Cores = cpu.Seconds() / took.Seconds()
	r.Resent, r.Feedback, r.Nacks = after.Resent-before.Resent, after.Feedback-before.Feedback, after.Nacks-before.Nacks
}

func (r *Result) delays(h *Histogram) {
	r.P50 = float64(h.Quantile(0.5).Microseconds()) / 1000
	r.P99 = float64(h.Quantile(0.99).Microseconds()) / 1000
	r.Opened = h.Count()
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// clockTick is USER_HZ, which Linux has fixed for programs.
const clockTick = 10 * time.Millisecond

// cpuTime is what a process has used, from /proc/PID/stat (proc(5)).
func cpuTime(pid int) (time.Duration, error) {
	if pid == 0 {
		return 0, nil
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	s := string(b)
	f := strings.Fields(s[strings.LastIndexByte(s, ')')+1:])
	if len(f) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat: %d fields", pid, len(f))
	}
	user, err := strconv.ParseInt(f[11], 10, 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseInt(f[12], 10, 64)
	if err != nil {
		return 0, err
	}
	return time.Duration(user+system) * clockTick, nil
}

// rss is its resident memory, MiB.
func rss(pid int) float64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b))
	if len(f) < 2 {
		return 0
	}
	pages, _ := strconv.ParseFloat(f[1], 64)
	return pages * float64(os.Getpagesize()) / (1 << 20)
}
