package room

import (
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v3"

	"github.com/parley-meet/parley/services/internal/sfu/sdp"
	"github.com/parley-meet/parley/services/internal/sfu/transport"
	"github.com/parley-meet/parley/services/internal/sfu/wire"
)

// bench is a room behind a real socket.
type bench struct {
	t    *testing.T
	room *Room
	mux  *wire.Mux
	sock *wire.Socket
}

func newBench(t *testing.T) *bench {
	t.Helper()
	log := slog.New(slog.NewTextHandler(writer{t}, &slog.HandlerOptions{Level: slog.LevelInfo}))
	m := wire.NewMux(log)
	s, err := m.Listen(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	api, err := transport.New(m, log)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, mux: m, sock: s, room: New(Config{
		Transport: api,
		Candidates: func() []sdp.Candidate {
			return []sdp.Candidate{{Addr: s.Addr().Addr(), Port: s.Addr().Port(), Kind: "host"}}
		},
		Log: log,
	})}
	t.Cleanup(func() {
		b.room.Close()
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// writer is a test's log.
type writer struct{ t *testing.T }

func (w writer) Write(b []byte) (int, error) {
	w.t.Logf("%s", b)
	return len(b), nil
}

// client is somebody else's implementation of a participant.
type client struct {
	t    *testing.T
	pc   *webrtc.PeerConnection
	peer *Peer

	mu     sync.Mutex
	got    map[string][]*rtp.Packet // by MID
	shown  map[string]Shown
	wanted map[Source][]Wanted
	states chan transport.State
	more   *sync.Cond
}

// join connects one; set adds its transceivers and returns what they send.
func (b *bench) join(id string, set func(*client) map[string]Source) *client {
	b.t.Helper()
	var media webrtc.MediaEngine
	if err := media.RegisterDefaultCodecs(); err != nil {
		b.t.Fatal(err)
	}
	for _, uri := range []string{extMID, extRID, extRepaired} {
		if err := media.RegisterHeaderExtension(webrtc.RTPHeaderExtensionCapability{URI: uri}, webrtc.RTPCodecTypeVideo); err != nil {
			b.t.Fatal(err)
		}
	}
	var engine webrtc.SettingEngine
	engine.SetIncludeLoopbackCandidate(true)
	pc, err := webrtc.NewAPI(webrtc.WithMediaEngine(&media), webrtc.WithSettingEngine(engine)).NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		b.t.Fatal(err)
	}
	c := &client{t: b.t, pc: pc, got: map[string][]*rtp.Packet{}, shown: map[string]Shown{}, wanted: map[Source][]Wanted{}, states: make(chan transport.State, 16)}
	c.more = sync.NewCond(&c.mu)
	b.t.Cleanup(func() { pc.Close() })
	sources := set(c)
	pc.OnTrack(func(t *webrtc.TrackRemote, r *webrtc.RTPReceiver) {
		mid := ""
		for _, tr := range pc.GetTransceivers() {
			if tr.Receiver() == r {
				mid = tr.Mid()
			}
		}
		for {
			p, _, err := t.ReadRTP()
			if err != nil {
				return
			}
			c.mu.Lock()
			c.got[mid] = append(c.got[mid], p)
			c.more.Broadcast()
			c.mu.Unlock()
		}
	})
	c.peer, err = b.room.Join(id, Events{
		State: func(s transport.State, err error) { c.states <- s },
		Slots: func(list []Shown) {
			c.mu.Lock()
			defer c.mu.Unlock()
			for _, s := range list {
				c.shown[s.MID] = s
			}
			c.more.Broadcast()
		},
		Layers: func(source Source, w []Wanted) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.wanted[source] = w
			c.more.Broadcast()
		},
	})
	if err != nil {
		b.t.Fatal(err)
	}
	c.negotiate(sources)
	return c
}

func (c *client) negotiate(sources map[string]Source) {
	c.t.Helper()
	offer, err := c.pc.CreateOffer(nil)
	if err != nil {
		c.t.Fatal(err)
	}
	gathered := webrtc.GatheringCompletePromise(c.pc)
	if err := c.pc.SetLocalDescription(offer); err != nil {
		c.t.Fatal(err)
	}
	<-gathered
	answer, err := c.peer.Offer(c.pc.LocalDescription().SDP, sources)
	if err != nil {
		c.t.Fatalf("%v\n%s", err, c.pc.LocalDescription().SDP)
	}
	if err := c.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer}); err != nil {
		c.t.Fatalf("%v\n%s", err, answer)
	}
}

// state waits for one.
func (c *client) state(want transport.State) {
	c.t.Helper()
	for {
		select {
		case s := <-c.states:
			if s == want {
				return
			}
			if s == transport.Failed {
				c.t.Fatalf("%v instead of %v", s, want)
			}
		case <-time.After(20 * time.Second):
			c.t.Fatalf("no state %v", want)
		}
	}
}

// await waits until something is so.
func (c *client) await(what string, so func() bool) {
	c.t.Helper()
	stop := time.AfterFunc(30*time.Second, func() { c.more.Broadcast() })
	defer stop.Stop()
	end := time.Now().Add(30 * time.Second)
	c.mu.Lock()
	defer c.mu.Unlock()
	for !so() {
		if time.Now().After(end) {
			c.t.Fatalf("never %s", what)
		}
		c.more.Wait()
	}
}

// receive adds lines to receive on.
func (c *client) receive(kind webrtc.RTPCodecType, n int) {
	c.t.Helper()
	for range n {
		if _, err := c.pc.AddTransceiverFromKind(kind, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly}); err != nil {
			c.t.Fatal(err)
		}
	}
}

// camera is a sender of made-up VP8: each layer's payload says which it is.
type camera struct {
	t      *testing.T
	tracks []*webrtc.TrackLocalStaticRTP
	sender *webrtc.RTPSender
	keys   chan struct{}
	stop   chan struct{}
	done   sync.WaitGroup
	mu     sync.Mutex
	plis   int
}

func (c *client) camera(rids ...string) *camera {
	c.t.Helper()
	cam := &camera{t: c.t, stop: make(chan struct{})}
	codec := webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeVP8, ClockRate: 90000}
	for i, rid := range rids {
		var opts []func(*webrtc.TrackLocalStaticRTP)
		if rid != "" {
			opts = append(opts, webrtc.WithRTPStreamID(rid))
		}
		t, err := webrtc.NewTrackLocalStaticRTP(codec, "cam", "cam", opts...)
		if err != nil {
			c.t.Fatal(err)
		}
		cam.tracks = append(cam.tracks, t)
		if i == 0 {
			tr, err := c.pc.AddTransceiverFromTrack(t, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendonly})
			if err != nil {
				c.t.Fatal(err)
			}
			cam.sender = tr.Sender()
		} else if err := cam.sender.AddEncoding(t); err != nil {
			c.t.Fatal(err)
		}
	}
	return cam
}

// run sends until the test ends: 25 frames per second of three packets.
func (cam *camera) run() {
	params := cam.sender.GetParameters()
	ext := map[string]uint8{}
	for _, e := range params.HeaderExtensions {
		ext[e.URI] = uint8(e.ID)
	}
	mid := ""
	key := make([]bool, len(cam.tracks))
	for i := range key {
		key[i] = true
	}
	for i, e := range params.Encodings {
		cam.done.Go(func() {
			for {
				pkts, _, err := cam.sender.ReadSimulcastRTCP(e.RID)
				if e.RID == "" {
					pkts, _, err = cam.sender.ReadRTCP()
				}
				if err != nil {
					return
				}
				for _, p := range pkts {
					if _, ok := p.(*rtcp.PictureLossIndication); ok {
						cam.mu.Lock()
						key[i] = true
						cam.plis++
						cam.mu.Unlock()
					}
				}
			}
		})
	}
	_ = mid
	cam.done.Go(func() {
		tick := time.NewTicker(40 * time.Millisecond)
		defer tick.Stop()
		seq, ts := uint16(65500), uint32(0xfffff000)
		for frame := uint16(0); ; frame++ {
			select {
			case <-cam.stop:
				return
			case <-tick.C:
			}
			for i, t := range cam.tracks {
				cam.mu.Lock()
				isKey := key[i]
				key[i] = false
				cam.mu.Unlock()
				for n := range 3 {
					p := &rtp.Packet{Header: rtp.Header{Version: 2, SequenceNumber: seq + uint16(n) + uint16(1000*i), Timestamp: ts + uint32(77777*i), Marker: n == 2}}
					if t.RID() != "" {
						p.SetExtension(ext[extMID], []byte("0"))
						p.SetExtension(ext[extRID], []byte(t.RID()))
					}
					p.Payload = vp8(frame+uint16(100*i), uint8(frame), isKey, n == 0, 160<<i, 90<<i, 200<<i)
					if err := t.WriteRTP(p); err == io.ErrClosedPipe {
						return
					}
				}
			}
			seq += 3
			ts += 3600
		}
	})
	cam.t.Cleanup(func() {
		close(cam.stop)
		// Its readers end before it does: the library's Stop races with them.
		for _, e := range params.Encodings {
			if err := cam.sender.SetReadDeadlineSimulcast(time.Now(), e.RID); err != nil {
				cam.t.Error(err)
			}
		}
		cam.done.Wait()
		cam.sender.Stop()
	})
}

// vp8 makes a payload (RFC 7741): descriptor with picture id and TL0PICIDX, and
// the header of a frame.
func vp8(picture uint16, tl0 uint8, key, first bool, w, h, n int) []byte {
	b := []byte{0x80, 0xe0, 0x80 | byte(picture>>8)&0x7f, byte(picture), tl0, 0x00}
	if first {
		b[0] |= 0x10
		frame := []byte{1, 0, 0}
		if key {
			frame = []byte{0, 0, 0, 0x9d, 0x01, 0x2a, byte(w), byte(w >> 8), byte(h), byte(h >> 8)}
		}
		b = append(b, frame...)
	}
	for len(b) < n {
		b = append(b, byte(n>>8))
	}
	return b
}

// pictureOf reads it back.
func pictureOf(b []byte) (id uint16, first, key bool, width uint16) {
	id = binary.BigEndian.Uint16(b[2:]) & 0x7fff
	first = b[0]&0x10 != 0
	if first {
		key = b[6]&1 == 0
	}
	if key {
		width = binary.LittleEndian.Uint16(b[12:])
	}
	return id, first, key, width
}

// continuous checks that packets look as if one encoder had made them.
func continuous(t *testing.T, packets []*rtp.Packet) {
	t.Helper()
	if len(packets) == 0 {
		t.Fatal("nothing came")
	}
	if _, first, key, _ := pictureOf(packets[0].Payload); !first || !key {
		t.Errorf("the stream does not begin with a keyframe")
	}
	bySeq := map[uint16]*rtp.Packet{}
	for _, p := range packets {
		if old := bySeq[p.SequenceNumber]; old != nil {
			t.Errorf("sequence number %d came twice", p.SequenceNumber)
		}
		bySeq[p.SequenceNumber] = p
		if p.SSRC != packets[0].SSRC {
			t.Fatalf("SSRC %d after %d", p.SSRC, packets[0].SSRC)
		}
	}
	last := packets[0]
	for seq := last.SequenceNumber + 1; ; seq++ {
		p := bySeq[seq]
		if p == nil {
			break
		}
		a, _, _, _ := pictureOf(last.Payload)
		b, first, _, _ := pictureOf(p.Payload)
		switch {
		case p.Timestamp == last.Timestamp && a != b:
			t.Errorf("%d: picture %d within picture %d", seq, b, a)
		case p.Timestamp != last.Timestamp && (!first || !last.Marker):
			t.Errorf("%d: a frame begins in the middle", seq)
		case p.Timestamp != last.Timestamp && b != (a+1)&0x7fff:
			t.Errorf("%d: picture %d after %d", seq, b, a)
		case int32(p.Timestamp-last.Timestamp) < 0:
			t.Errorf("%d: timestamp %d after %d", seq, p.Timestamp, last.Timestamp)
		}
		last = p
		delete(bySeq, seq)
	}
	if n := len(bySeq) - 1; n > 3 {
		t.Errorf("%d of %d packets are behind a gap", n, len(packets))
	}
}

var _ = fmt.Sprint
