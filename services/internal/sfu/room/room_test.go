package room

import (
	"testing"

	"github.com/pion/webrtc/v3"

	"github.com/parley-meet/parley/services/internal/sfu/transport"
)

// One publishes three layers; another one sees the one that fits its screen, and
// the stream stays one while the layer changes.
func TestSimulcast(t *testing.T) {
	b := newBench(t)
	var cam *camera
	anna := b.join("anna", func(c *client) map[string]Source {
		cam = c.camera("l", "m", "h")
		return map[string]Source{"0": Camera}
	})
	anna.state(transport.Connected)
	cam.run()
	boris := b.join("boris", func(c *client) map[string]Source {
		c.receive(webrtc.RTPCodecTypeVideo, 2)
		return nil
	})
	boris.state(transport.Connected)
	for _, size := range []int{160, 320, 640, 160} {
		if err := boris.peer.View([]Want{{MID: "0", Peer: "anna", Source: Camera, Width: size, Height: size * 9 / 16}}); err != nil {
			t.Fatal(err)
		}
		boris.await("a keyframe of the size", func() bool {
			got := boris.got["0"]
			for i := len(got) - 1; i >= 0; i-- {
				if _, _, key, w := pictureOf(got[i].Payload); key {
					return int(w) == size && len(got)-i > 30
				}
			}
			return false
		})
	}
	boris.await("told what the slot shows", func() bool { return boris.shown["0"] == Shown{"0", "anna", Camera} })
	boris.mu.Lock()
	continuous(t, boris.got["0"])
	if n := len(boris.got["1"]); n > 0 {
		t.Errorf("%d packets came for an empty slot", n)
	}
	boris.mu.Unlock()
	anna.await("told to pause what nobody watches", func() bool {
		w := anna.wanted[Camera]
		return len(w) == 3 && w[0].Active && !w[1].Active && !w[2].Active
	})
}
