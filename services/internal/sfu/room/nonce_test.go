package room

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/sfu/cc"
	"github.com/parley-meet/parley/services/internal/sfu/transport"
	"github.com/parley-meet/parley/services/internal/sfu/wire"
)

// watcher is a subscriber that looks at what is sealed.
type watcher struct {
	t      *testing.T
	client *transport.Client

	mu       sync.Mutex
	seen     map[[2]uint32]bool // SSRC and sequence number
	video    []uint16           // numbers of the first SSRC with payload type 96
	ssrc     uint32
	again    int // packets of RTX
	probes   int // of them, those that are padding alone
	widths   map[uint16]bool
	arrivals cc.Arrivals
	began    time.Time
}

func (w *watcher) media(packets [][]byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Since(w.began)
	for _, b := range packets {
		pt, seq, ssrc := b[1]&0x7f, binary.BigEndian.Uint16(b[2:]), binary.BigEndian.Uint32(b[8:])
		if pt >= 64 && pt <= 95 || w.client == nil {
			continue
		}
		key := [2]uint32{ssrc, uint32(seq)}
		// So few packets come that no number may come again, whatever its rollover.
		if w.seen[key] {
			w.t.Errorf("SSRC %08x, number %d was sealed twice", ssrc, seq)
		}
		w.seen[key] = true
		clear, err := w.client.Crypt.OpenRTP(nil, b)
		if err != nil {
			w.t.Errorf("open: %v", err)
			continue
		}
		var h header
		if !h.parse(clear, &extensions{twcc: w.client.Extension(0, extTWCC)}) {
			w.t.Errorf("%x is no packet", clear)
			continue
		}
		if h.hasTWCC {
			w.arrivals.Add(now, h.twcc, len(b))
		}
		switch {
		case pt == 97:
			w.again++
			if len(h.payload) == 0 {
				w.probes++
			}
		case pt == 96:
			w.ssrc = ssrc
			w.video = append(w.video, seq)
			if _, first, key, width := pictureOf(h.payload); first && key {
				w.widths[width] = true
			}
		}
	}
	var buf [1200]byte
	for w.client != nil && w.arrivals.Due(now) {
		n := w.arrivals.Build(now, buf[:], 1, w.ssrc)
		if n == 0 {
			break
		}
		_ = w.client.SendRTCP(buf[:n]) // a full buffer is a lost packet
	}
}

// No SSRC and number is sealed twice under one key, which with GCM would give the
// key away (RFC 7714, 14): not by layers that change, not by resends, nor when the
// same packet is asked for again and again, nor by probes.
func TestNothingIsSealedTwice(t *testing.T) {
	b := newBench(t)
	var cam *camera
	anna := b.join("anna", func(c *client) map[string]Source {
		cam = c.camera("l", "m", "h")
		return map[string]Source{"0": Camera}
	})
	anna.state(transport.Connected)
	cam.run()
	w := &watcher{t: t, seen: map[[2]uint32]bool{}, widths: map[uint16]bool{}, began: time.Now()}
	client, err := transport.Dial(netip.MustParseAddr("127.0.0.1"), []transport.Line{{Video: true}}, b.room.log, w.media)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	peer, err := b.room.Join("boris", Events{})
	if err != nil {
		t.Fatal(err)
	}
	offer, err := client.Offer()
	if err != nil {
		t.Fatal(err)
	}
	answer, err := peer.Offer(offer, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Answer(answer); err != nil {
		t.Fatal(err)
	}
	select {
	case <-client.Ready:
	case <-time.After(30 * time.Second):
		t.Fatal("no connection")
	}
	w.mu.Lock()
	w.client = client
	w.mu.Unlock()
	nack := func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, seq := range w.video[max(0, len(w.video)-12):] {
			m := make([]byte, 16)
			m[0], m[1], m[3] = 0x81, 205, 3 // RFC 4585, 6.2.1
			binary.BigEndian.PutUint32(m[4:], 1)
			binary.BigEndian.PutUint32(m[8:], w.ssrc)
			binary.BigEndian.PutUint16(m[12:], seq)
			if err := client.SendRTCP(m); err != nil {
				t.Error(err)
			}
		}
	}
	out := wire.NewOut()
	end := time.Now().Add(60 * time.Second)
	for round := 0; ; round++ {
		size := 160 << (round % 3)
		if err := peer.View([]Want{{MID: "0", Peer: "anna", Source: Camera, Width: size, Height: size * 9 / 16}}); err != nil {
			t.Fatal(err)
		}
		for range 4 {
			time.Sleep(150 * time.Millisecond)
			nack()
			nack()
			// Its network is so good that the estimator does not probe by itself.
			peer.mu.Lock()
			peer.slots[0].probe(out, b.room.now(), 300)
			peer.mu.Unlock()
			out.Flush()
		}
		w.mu.Lock()
		layers, again, probes, sent := len(w.widths), w.again, w.probes, len(w.video)
		w.mu.Unlock()
		if layers == 3 && again-probes >= 50 && probes > 0 && round >= 6 {
			t.Logf("%d packets, %d of RTX, %d of them probes", sent, again, probes)
			return
		}
		if time.Now().After(end) {
			t.Fatalf("saw %d layers, %d resends, %d probes, %d packets", layers, again-probes, probes, sent)
		}
	}
}
