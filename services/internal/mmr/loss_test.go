package mmr

import (
	"context"
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
	local, epoch := netip.MustParseAddr("127.0.0.1"), time.Now()
	pub := load.NewPublisher(epoch, []load.Video{{Frames: 25, Packets: 8, Size: 900, Width: 640, Height: 360}}, false)
	pc := dial(t, local, []transport.Line{{Video: true, Send: true}}, pub.Media, target.Publish)
	pub.Start(pc)
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	work.Go(func() { pub.Run(ctx) })
	defer work.Wait()
	defer cancel()

	sub := load.NewSubscriber(epoch, true)
	r := rand.New(rand.NewPCG(1, 2)) // used by the one goroutine that reads
	sc := dial(t, local, []transport.Line{{Video: true}}, func(packets [][]byte) {
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
