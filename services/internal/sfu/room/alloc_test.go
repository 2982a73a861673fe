package room

import (
	"testing"

	"github.com/pion/webrtc/v3"

	"github.com/parley-meet/parley/services/internal/sfu/codec"
	"github.com/parley-meet/parley/services/internal/sfu/transport"
	"github.com/parley-meet/parley/services/internal/sfu/wire"
)

// Forwarding allocates nothing for a packet: not for its header, nor its seal, nor
// its message to the kernel, for picture and sound, the first time and again by RTX.
func TestForwardAllocates(t *testing.T) {
	b := newBench(t)
	anna := b.join("anna", func(c *client) map[string]Source {
		c.camera("")
		return map[string]Source{"0": Camera}
	})
	anna.state(transport.Connected)
	boris := b.join("boris", func(c *client) map[string]Source {
		c.receive(webrtc.RTPCodecTypeVideo, 1)
		c.receive(webrtc.RTPCodecTypeAudio, 1)
		return nil
	})
	boris.state(transport.Connected)
	// Nobody reads what is sent from now on: a reader in this process allocates.
	if err := boris.pc.Close(); err != nil {
		t.Fatal(err)
	}
	const runs, frame = 300, 10
	out := wire.NewOut()
	now := b.room.now()
	for i, source := range []Source{Camera, Microphone} {
		to := boris.peer
		to.mu.Lock()
		s := to.slots[i]
		c := s.line.Codecs[0]
		track := &Track{peer: anna.peer, source: source, slots: []*Slot{s}}
		l := &Layer{track: track, id: uint32(1000 + i), format: c.Format, clock: c.Clock}
		track.layers = []*Layer{l}
		s.track, s.target = track, l
		to.mu.Unlock()
		var packets []*packet
		for n := range uint64(3 * runs * frame) {
			p := &packet{index: start + n, ts: uint32(n / frame * 3000), marker: n%frame == frame-1, level: 30, payload: make([]byte, 100)}
			if source == Camera {
				p.payload = vp8(uint16(n/frame), uint8(n/frame), n == 0, n%frame == 0, 1280, 720, 1100)
				var err error
				if p.info, err = codec.Inspect(l.format.Kind, p.payload); err != nil {
					t.Fatal(err)
				}
			}
			l.keep(p)
			packets = append(packets, p)
		}
		forward := func() {
			now += 33e6
			anna.peer.in.Lock()
			anna.peer.run = append(anna.peer.run[:0], packets[:frame]...)
			packets = packets[frame:]
			anna.peer.flushRun(out, now, l)
			anna.peer.in.Unlock()
			out.Flush()
		}
		for range runs { // until tables have their size
			forward()
		}
		count := func() (sent, again uint64) {
			to.mu.Lock()
			defer to.mu.Unlock()
			return to.stats.Sent, to.stats.Resent
		}
		before, _ := count()
		if n := testing.AllocsPerRun(runs, forward); n > 0 {
			t.Errorf("%s: %v allocations for %d packets", source, n, frame)
		}
		if sent, _ := count(); sent-before < runs*frame {
			t.Errorf("%s: only %d of %d packets were forwarded", source, sent-before, runs*frame)
		}
		if source != Camera {
			continue
		}
		// The cache has gone on to packets that were not forwarded: what was comes back.
		for n := range uint64(videoCache) {
			l.keep(&packet{index: s.runs[0].from + s.out.Newest() - s.first - n, payload: make([]byte, 900)})
		}
		_, before = count()
		again := func() {
			now += 33e6
			to.mu.Lock()
			for n := range uint64(4) {
				s.resend(out, now, uint16(s.out.Newest()-n))
			}
			to.mu.Unlock()
			out.Flush()
		}
		if n := testing.AllocsPerRun(runs, again); n > 0 {
			t.Errorf("resends: %v allocations", n)
		}
		if _, sent := count(); sent-before < runs {
			t.Errorf("only %d packets were sent again", sent-before)
		}
	}
}
