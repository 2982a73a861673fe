package mmr

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/load"
	"github.com/parley-meet/parley/services/internal/sfu/transport"
)

// One packet of twenty is lost on the way to a player, retransmissions too: what
// he asks for again he gets, and in the end he has nearly all.
func TestLoss(t *testing.T) {
	target := start(t)
	local, log, epoch := netip.MustParseAddr("127.0.0.1"), slog.New(slog.DiscardHandler), time.Now()
	join := func(lines []transport.Line, media func([][]byte), offer func(context.Context, int, string) (string, error)) *transport.Client {
		t.Helper()
		c, err := transport.Dial(local, lines, log, media)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		text, err := c.Offer()
		if err != nil {
			t.Fatal(err)
		}
		answer, err := offer(t.Context(), 1, text)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Answer(answer); err != nil {
			t.Fatal(err)
		}
		select {
		case <-c.Ready:
		case <-time.After(30 * time.Second):
			t.Fatal("no connection")
		}
		return c
	}
	pub := load.NewPublisher(epoch, []load.Video{{Frames: 25, Packets: 8, Size: 900, Width: 640, Height: 360}}, false)
	pc := join([]transport.Line{{Video: true, Send: true}}, pub.Media, target.Publish)
	pub.Start(pc)
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	work.Go(func() { pub.Run(ctx) })
	defer work.Wait()
	defer cancel()

	sub := load.NewSubscriber(epoch, true)
	r := rand.New(rand.NewPCG(1, 2)) // used by the one goroutine that reads
	sc := join([]transport.Line{{Video: true}}, func(packets [][]byte) {
		kept := packets[:0]
		for _, p := range packets {
			if r.IntN(20) > 0 {
				kept = append(kept, p)
			}
		}
		sub.Media(kept)
	}, target.Subscribe)
	sub.Start(sc, 0)

	end := time.Now().Add(40 * time.Second)
	for {
		time.Sleep(200 * time.Millisecond)
		f := sub.Figures()
		// What is at the end of the stream may still be asked for.
		missing := int64(f.Expected) - int64(f.Packets)
		if f.Expected > 800 && f.Nacks > 10 && f.Resent > 20 && missing*100 < int64(f.Expected) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%+v", f)
		}
	}
}
