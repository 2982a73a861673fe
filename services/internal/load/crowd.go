package load

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/parley-meet/parley/services/internal/sfu/transport"
	"github.com/parley-meet/parley/services/internal/signal"
)

// What a participant of a crowd is shown, as a page with one big picture and a
// column of small ones.
const (
	thumbnails = 8
	voices     = 3 // room.Voices
	wideBig    = 1280
	highBig    = 720
	wideSmall  = 320
	highSmall  = 180
)

// Packets a second of each stream: 160 + 8 × 25 + 3 × 50 = 510 to each participant,
// 2.8 Mbit/s.
const (
	bigRate   = 160
	smallRate = 25
	voiceRate = 50
)

// layers are the simulcast of a camera, low to high.
func layers() []Video {
	return []Video{
		{RID: "l", Frames: 25, Packets: 1, Size: 750, Width: wideSmall, Height: highSmall},
		{RID: "m", Frames: 20, Packets: 3, Size: 1000, Width: wideBig / 2, Height: highBig / 2},
		{RID: "h", Frames: 20, Packets: 8, Size: 1150, Width: wideBig, Height: highBig},
	}
}

// Crowd is a meeting of many participants, each with a session, one connection and
// a microphone. Those who come first have a camera, and the others look at them:
// who watches whom is spread over pages.
type Crowd struct {
	Door    Door
	Local   netip.Addr // of this machine, that participants use
	Cameras int        // how many have one
	// FullEvery: each n-th is a full subscriber; Lose is theirs and the cameras'.
	FullEvery, Lose int
	// TurnEvery is how long somebody speaks; then another one does, and everybody's big
	// picture changes. 0: it is always the same one.
	TurnEvery time.Duration
	AtOnce    int // joins at a time
	Log       *slog.Logger
	Progress  func(done, of int, what string)

	epoch  time.Time
	people []*person
	number int   // of the next one
	free   []int // numbers of those who have left
}

// person is one participant.
type person struct {
	number int
	page   *Page
	client *transport.Client
	pub    *Publisher
	sub    *Subscriber
	took   time.Duration // from the ticket to the keys
	stop   context.CancelFunc
	work   sync.WaitGroup
}

// Len is how many are inside.
func (c *Crowd) Len() int { return len(c.people) }

// Grow lets others come in until there are n.
func (c *Crowd) Grow(ctx context.Context, n int) error {
	if c.epoch.IsZero() {
		c.epoch = time.Now()
	}
	var (
		mu    sync.Mutex
		errs  []error
		joins sync.WaitGroup
		gate  = make(chan struct{}, max(c.AtOnce, 1))
	)
	for range n - len(c.people) {
		gate <- struct{}{}
		mu.Lock()
		bad := len(errs) > 0
		mu.Unlock()
		if bad || ctx.Err() != nil {
			<-gate
			break
		}
		i := c.take()
		joins.Go(func() {
			defer func() { <-gate }()
			p, err := c.join(ctx, i)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, fmt.Errorf("participant %d: %w", i+1, err))
				return
			}
			c.people = append(c.people, p)
			c.Progress(len(c.people), n, "joined")
		})
	}
	joins.Wait()
	slices.SortFunc(c.people, func(a, b *person) int { return a.number - b.number })
	if len(errs) > 0 && ctx.Err() == nil {
		return errs[0] // the others say the same
	}
	return ctx.Err()
}

// take gives the next number: who comes after others have left takes their place,
// and their camera.
func (c *Crowd) take() int {
	if n := len(c.free); n > 0 {
		slices.Sort(c.free)
		i := c.free[0]
		c.free = c.free[1:]
		return i
	}
	c.number++
	return c.number - 1
}

// join is one participant's way in.
func (c *Crowd) join(ctx context.Context, n int) (*person, error) {
	ctx, cancel := context.WithTimeout(ctx, connectIn)
	defer cancel()
	p := &person{number: n}
	began := time.Now()
	camera := n < c.Cameras
	var video []Video
	if camera {
		video = layers()
	}
	p.pub = NewPublisher(c.epoch, video, true)
	p.pub.Level = c.level(n)
	p.sub = NewSubscriber(c.epoch, c.FullEvery > 0 && n%c.FullEvery == 0)
	p.sub.Lose, p.pub.Lose = c.Lose, c.Lose
	var err error
	if p.page, err = OpenPage(ctx, c.Door, n, p.pub.Watched); err != nil {
		return nil, err
	}
	lines, offer, show := c.lines(n, camera)
	p.client, err = join(ctx, c.Local, lines, c.Log, func(packets [][]byte) {
		p.pub.Media(packets)
		p.sub.Media(packets)
	}, func(ctx context.Context, text string) (string, error) {
		offer.SDP = text
		return p.page.Offer(ctx, offer)
	})
	if err != nil {
		p.page.Close()
		return nil, err
	}
	p.pub.Start(p.client)
	p.sub.Start(p.client, len(offer.Sources))
	on := true
	state := &signal.State{Microphone: &on}
	if camera {
		state.Camera = &on
	}
	if err := errors.Join(p.page.Send(state), p.page.Send(&show)); err != nil {
		p.page.Close()
		p.client.Close()
		return nil, err
	}
	p.took = time.Since(began)
	var run context.Context
	run, p.stop = context.WithCancel(context.WithoutCancel(ctx))
	p.work.Go(func() { p.pub.Run(run) })
	return p, nil
}

// lines are those of a participant's offer, and what he looks at.
func (c *Crowd) lines(n int, camera bool) ([]transport.Line, signal.Offer, signal.View) {
	var lines []transport.Line
	o := signal.Offer{Sources: map[string]signal.Source{}}
	v := signal.View{Page: n % max((c.Cameras-1)/thumbnails, 1)}
	mid := func() string { return fmt.Sprint(len(lines)) }
	if camera {
		rids := []string{}
		for _, l := range layers() {
			rids = append(rids, l.RID)
		}
		o.Sources[mid()] = signal.Camera
		lines = append(lines, transport.Line{Video: true, Send: true, RIDs: rids})
	}
	o.Sources[mid()] = signal.Microphone
	lines = append(lines, transport.Line{Send: true})
	for i := range 1 + thumbnails {
		o.Slots = append(o.Slots, mid())
		s := signal.Show{Mid: mid(), What: signal.ByPage, Width: wideSmall, Height: highSmall}
		if i == 0 {
			s.What, s.Width, s.Height = signal.BySpeaker, wideBig, highBig
		}
		v.Slots = append(v.Slots, s)
		lines = append(lines, transport.Line{Video: true})
	}
	for range voices {
		o.Slots = append(o.Slots, mid())
		lines = append(lines, transport.Line{})
	}
	return lines, o, v
}

// level is how loud participant n is. The first ones speak in turn; two others are
// heard beside them; the rest is a noisy room.
func (c *Crowd) level(n int) func(time.Duration) uint8 {
	const speakers, loud, soft, noise = 4, 15, 35, 90
	return func(at time.Duration) uint8 {
		turn := 0
		if c.TurnEvery > 0 {
			turn = int(at/c.TurnEvery) % speakers
		}
		switch {
		case n == turn:
			return loud
		case n < speakers && (n == (turn+1)%speakers || n == (turn+2)%speakers):
			return soft
		}
		return noise
	}
}

// Shrink lets those who came last go until there are n.
func (c *Crowd) Shrink(ctx context.Context, n int) {
	var leaves sync.WaitGroup
	for len(c.people) > max(n, 0) {
		p := c.people[len(c.people)-1]
		c.people = c.people[:len(c.people)-1]
		c.free = append(c.free, p.number)
		leaves.Go(func() { p.leave(ctx) })
	}
	leaves.Wait()
}

// leaveIn bounds a goodbye.
const leaveIn = 10 * time.Second

func (p *person) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveIn)
	defer cancel()
	p.stop()
	p.work.Wait()
	p.page.Leave(ctx)
	p.client.Close()
}

// Measure watches for a time.
func (c *Crowd) Measure(ctx context.Context, d time.Duration, pid int, counters func() (Counters, error)) (Result, error) {
	res := Result{Subscribers: len(c.people)}
	sum := func() (t Figures) {
		for _, p := range c.people {
			t.Add(p.sub.Figures())
		}
		return t
	}
	for _, p := range c.people {
		res.Join += float64(p.took.Milliseconds()) / float64(len(c.people))
		p.sub.Reset()
	}
	w, err := begin(pid, counters)
	if err != nil {
		return res, err
	}
	before := sum()
	if err := sleep(ctx, d); err != nil {
		return res, err
	}
	after := sum()
	if err := w.end(&res, before, after); err != nil {
		return res, err
	}
	var h Histogram
	for _, p := range c.people {
		p.sub.Delays(&h)
		if code := p.page.Closed(); code != "" {
			return res, fmt.Errorf("a participant was thrown out: %w", ErrClosed(code))
		}
		select {
		case <-p.client.Failed:
			res.Cut++
		default:
		}
	}
	res.delays(&h)
	if nominal := c.nominal(); nominal > 0 {
		res.Share = res.PerSecond / nominal
	}
	return res, nil
}

// nominal is how many packets a second the crowd receives if it gets all that it
// looks at.
func (c *Crowd) nominal() (sum float64) {
	cameras := min(c.Cameras, len(c.people))
	pages := max((c.Cameras-1)/thumbnails, 1)
	for i := range c.people {
		others := cameras
		if i < cameras {
			others--
		}
		if others > 0 {
			sum += bigRate
		}
		sum += smallRate * float64(min(max(others-i%pages*thumbnails, 0), thumbnails))
		heard := min(voices, len(c.people))
		if i < heard {
			heard-- // nobody hears himself
		}
		sum += voiceRate * float64(heard)
	}
	return sum
}

// Close ends everybody at once.
func (c *Crowd) Close() { c.Shrink(context.Background(), 0) }
