package load

import (
	"context"
	"encoding/binary"
	"slices"
	"sync"
	"time"

	"github.com/parley-meet/parley/services/internal/sfu/cc"
	"github.com/parley-meet/parley/services/internal/sfu/transport"
	"github.com/parley-meet/parley/services/internal/sfu/wire"
)

// Video is one layer that a publisher sends.
type Video struct {
	RID     string
	Frames  int // a second
	Packets int // of a frame
	Size    int // bytes of a packet's payload
	Width   int // as its keyframes say
	Height  int
}

// Publisher sends.
type Publisher struct {
	Layers []Video
	Audio  bool
	Level  func(time.Duration) uint8 // -dBov; nil: 30
	// Lose leaves out one packet of video of so many, as networks do: the server asks
	// for it again. 0: none.
	Lose  int
	epoch time.Time

	mu      sync.Mutex
	client  *transport.Client
	layers  []*outLayer
	sound   wire.Stream
	ids     struct{ twcc, mid, rid, repaired, level uint8 }
	sent    uint64 // packets of media, those that are left out too
	next    uint16 // transport-wide
	buf     []byte
	nacked  uint64
	plis    uint64
	soundTS uint32
	watched []string
	told    bool // of watched
}

// outLayer is a layer's stream.
type outLayer struct {
	Video
	stream wire.Stream
	again  wire.Stream
	seq    uint64
	rtx    uint64
	ts     uint32
	frame  uint16
	key    bool
	off    bool
	cache  map[uint64][]byte // payloads
	marks  map[uint64]bool
	times  map[uint64]uint32
}

// NewPublisher makes one.
func NewPublisher(epoch time.Time, layers []Video, audio bool) *Publisher {
	return &Publisher{Layers: layers, Audio: audio, epoch: epoch, buf: make([]byte, 2048)}
}

// Media is for transport.Dial: requests of the server.
func (p *Publisher) Media(packets [][]byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.client == nil {
		return
	}
	for _, b := range packets {
		if t := b[1] & 0x7f; t < 64 || t > 95 {
			continue
		}
		clear, err := p.client.Crypt.OpenRTCP(b)
		if err != nil {
			continue
		}
		for len(clear) > 0 {
			var pkt cc.Packet
			if pkt, clear, err = cc.Split(clear); err != nil {
				break
			}
			p.request(pkt)
		}
	}
}

func (p *Publisher) request(pkt cc.Packet) {
	media, ok := pkt.Media()
	if !ok {
		return
	}
	for _, l := range p.layers {
		if l.stream.SSRC != media {
			continue
		}
		switch {
		case pkt.PLI():
			l.key = true
			p.plis++
		case pkt.Type == cc.TypeTransport && pkt.Format == cc.FormatNack:
			for _, seq := range pkt.Nacks(nil, 256) {
				n := l.seq - uint64(uint16(l.seq)-seq)
				if payload := l.cache[n]; payload != nil && l.again.SSRC != 0 {
					p.nacked++
					b := append([]byte{byte(seq >> 8), byte(seq)}, payload...)
					p.put(&l.again, l.rtx, ptRTX, l.times[n], l.marks[n], l.RID, b)
					l.rtx++
				}
			}
		}
	}
}

// Start gives it its client, whose line 0 is the video's (if there is one) and the
// next the sound's.
func (p *Publisher) Start(c *transport.Client) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.client = c
	line := 0
	if len(p.Layers) > 0 {
		p.ids.twcc, p.ids.mid, p.ids.rid = c.Extension(0, extTWCC), c.Extension(0, extMID), c.Extension(0, extRID)
		p.ids.repaired = c.Extension(0, extRep)
		for i, ssrc := range c.SSRCs(0) {
			l := &outLayer{Video: p.Layers[i], key: true, cache: map[uint64][]byte{}, marks: map[uint64]bool{}, times: map[uint64]uint32{}}
			l.stream.SSRC, l.seq = ssrc, 1000
			if l.RID != "" && p.ids.repaired != 0 {
				l.again.SSRC = ssrc ^ 0x55555555 // told by its header (RFC 8852, 3.2)
			}
			p.layers = append(p.layers, l)
		}
		if p.told { // before it began
			p.pause()
		}
		line = 1
	}
	if p.Audio {
		p.sound.SSRC = c.SSRCs(line)[0]
		p.ids.level = c.Extension(line, extLev)
		if p.ids.twcc == 0 {
			p.ids.twcc, p.ids.mid = c.Extension(line, extTWCC), c.Extension(line, extMID)
		}
	}
}

// Watched pauses the layers that nobody looks at and lets the others go on, as the
// server asks for (dynacast).
func (p *Publisher) Watched(rids []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.watched, p.told = rids, true
	p.pause()
}

func (p *Publisher) pause() {
	for _, l := range p.layers {
		off := !slices.Contains(p.watched, l.RID)
		if l.off && !off {
			l.key = true // whoever waits for it can begin with nothing else
		}
		l.off = off
	}
}

// Run sends until ctx ends.
func (p *Publisher) Run(ctx context.Context) {
	var work sync.WaitGroup
	for _, l := range p.layers {
		work.Go(func() {
			every(ctx, time.Second/time.Duration(l.Frames), func() { p.frame(l) })
		})
	}
	if p.Audio {
		work.Go(func() {
			seq := uint64(1000)
			every(ctx, 20*time.Millisecond, func() {
				payload := make([]byte, 80)
				payload[0] = 0x78 // CELT, 20 ms
				p.mu.Lock()
				defer p.mu.Unlock()
				binary.BigEndian.PutUint64(payload[stampAudio:], uint64(time.Since(p.epoch)))
				p.put(&p.sound, seq, ptOpus, p.soundTS, false, "", payload)
				p.sent++
				seq++
				p.soundTS += 960
			})
		})
	}
	work.Go(func() { every(ctx, reportEvery, p.report) })
	work.Wait()
}

// reportEvery is about the interval of RFC 3550, 6.2, of a fast session.
const reportEvery = time.Second

// report sends sender reports: with them receivers know how picture and sound
// belong together.
func (p *Publisher) report() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := cc.NTP(time.Now())
	tell := func(s *wire.Stream, ts uint32) {
		b := cc.SenderReport{SSRC: s.SSRC, NTP: now, RTP: ts, Packets: uint32(p.sent)}.Append(nil)
		// CNAME (RFC 3550, 6.5), one for all streams.
		b = append(b, 0x81, 202, 0, 3, byte(s.SSRC>>24), byte(s.SSRC>>16), byte(s.SSRC>>8), byte(s.SSRC), 1, 4, 'l', 'o', 'a', 'd', 0, 0)
		_ = p.client.SendRTCP(b) // a full buffer is a lost packet
	}
	for _, l := range p.layers {
		if !l.off {
			tell(&l.stream, l.ts)
		}
	}
	if p.Audio {
		tell(&p.sound, p.soundTS)
	}
}

// every calls f at a rhythm that does not drift.
func every(ctx context.Context, d time.Duration, f func()) {
	t := time.NewTicker(d)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			f()
		}
	}
}

// frame sends one.
func (p *Publisher) frame(l *outLayer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l.off {
		return
	}
	key := l.key
	l.key = false
	for i := range l.Packets {
		payload := make([]byte, l.Size)
		// RFC 7741: descriptor with a picture id of 15 bits and TL0PICIDX.
		copy(payload, []byte{0x80, 0xe0, 0x80 | byte(l.frame>>8)&0x7f, byte(l.frame), byte(l.frame), 0})
		if i == 0 {
			payload[0] |= 0x10
			copy(payload[6:], []byte{1, 0, 0})
			if key {
				copy(payload[6:], []byte{0, 0, 0, 0x9d, 0x01, 0x2a, byte(l.Width), byte(l.Width >> 8), byte(l.Height), byte(l.Height >> 8)})
			}
		}
		binary.BigEndian.PutUint64(payload[stampVideo:], uint64(time.Since(p.epoch)))
		last := i == l.Packets-1
		p.sent++
		if p.Lose == 0 || key || p.sent%uint64(p.Lose) != 0 {
			p.put(&l.stream, l.seq, ptVP8, l.ts, last, l.RID, payload)
		}
		l.cache[l.seq], l.marks[l.seq], l.times[l.seq] = payload, last, l.ts
		delete(l.cache, l.seq-512)
		delete(l.marks, l.seq-512)
		delete(l.times, l.seq-512)
		l.seq++
	}
	l.frame++
	l.ts += uint32(90000 / l.Frames)
}

// put seals and sends a packet. mu is held.
func (p *Publisher) put(s *wire.Stream, index uint64, pt uint8, ts uint32, marker bool, rid string, payload []byte) {
	b := p.buf
	b[0], b[1] = 0x80, pt
	if marker {
		b[1] |= 0x80
	}
	binary.BigEndian.PutUint32(b[4:], ts)
	b[0] |= 0x10
	binary.BigEndian.PutUint16(b[12:], 0xBEDE)
	at := 16
	if p.ids.twcc != 0 {
		b[at] = p.ids.twcc<<4 | 1
		binary.BigEndian.PutUint16(b[at+1:], p.next)
		p.next++
		at += 3
	}
	if rid != "" {
		b[at] = p.ids.mid << 4
		b[at+1] = '0'
		id := p.ids.rid
		if pt == ptRTX {
			id = p.ids.repaired
		}
		b[at+2] = id<<4 | byte(len(rid)-1)
		at += 3 + copy(b[at+3:], rid)
	}
	if pt == ptOpus && p.ids.level != 0 {
		level := uint8(30)
		if p.Level != nil {
			level = p.Level(time.Since(p.epoch))
		}
		b[at], b[at+1] = p.ids.level<<4, level|0x80
		at += 2
	}
	for at%4 != 0 {
		b[at] = 0
		at++
	}
	binary.BigEndian.PutUint16(b[14:], uint16((at-16)/4))
	n := at + copy(b[at:], payload)
	sealed, err := p.client.Crypt.SealRTP(s, index, b[:n:len(b)], at)
	if err == nil {
		_ = p.client.Send(sealed) // a full buffer is a lost packet
	}
}

// Requests are what the server asked for: packets again, and keyframes.
func (p *Publisher) Requests() (nacked, keyframes uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.nacked, p.plis
}

// Sent is how many packets of media there were, once each.
func (p *Publisher) Sent() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sent
}
