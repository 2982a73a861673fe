package room

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/parley-meet/parley/services/internal/sfu/cc"
	"github.com/parley-meet/parley/services/internal/sfu/codec"
	"github.com/parley-meet/parley/services/internal/sfu/sdp"
)

// packet is one that came in. It never changes after that, so whoever holds it
// needs no lock; the garbage collector takes it when the cache has let go.
type packet struct {
	index   uint64 // extended sequence number
	ts      uint32
	at      time.Duration // when it came
	marker  bool
	level   uint8 // of audio, -dBov
	payload []byte
	info    codec.Info
}

// Depth of the cache of each layer, packets: about two seconds of a fast stream,
// and what a NACK may ask for. A slow one keeps no more than keepFor.
const (
	videoCache = 1024
	audioCache = 64
	keepFor    = 2 * time.Second
)

// Source says what a track shows.
type Source string

// The sources.
const (
	Microphone  Source = "microphone"
	Camera      Source = "camera"
	Screen      Source = "screen"
	ScreenSound Source = "screenaudio"
)

// Audio says whether it is sound.
func (s Source) Audio() bool { return s == Microphone || s == ScreenSound }

// Track is a source that a peer publishes.
type Track struct {
	peer   *Peer
	mid    string
	source Source
	line   *sdp.Line
	id     uint32 // unique in the room
	layers []*Layer
	slots  []*Slot // that show it; under peer.in
	muted  bool    // under peer.in: nothing of it is forwarded
	voice  voice   // of audio
	now    atomic.Pointer[layers]
}

// Layer is one stream of a track: the only one, or one of simulcast.
type Layer struct {
	track    *Track
	rid      string
	rank     int    // 0 is the lowest
	id       uint32 // unique in the room, for codec.Rewriter
	ssrc     uint32
	rtx      uint32
	format   sdp.Format
	pt       uint8
	clock    uint32 // Hz
	nacks    cc.Nacks
	recv     *cc.Reception
	reported tally
	sr       cc.Clock
	highest  uint64 // extended sequence number
	any      bool
	heard    time.Duration // of the last packet
	rate     meter
	temporal uint8  // its highest temporal layer; 0: there is one, or none is told
	width    uint16 // of the last keyframe; 0: unknown
	height   uint16
	keyAt    time.Duration // of the last keyframe request; under peer.mu
	keyWant  atomic.Bool
	wanted   bool          // somebody watches, as the sender was told; under room.mu
	unseen   time.Duration // since when nobody watches; 0: somebody does
	wantedAt time.Duration // when wanted changed
	known    int64         // rate when it was last heard, bit/s

	// The cache is read by those who resend, under a lock of its own.
	mu     sync.Mutex
	cache  []*packet
	oldest uint64 // number from which on it may hold something
}

// start is where extended sequence numbers begin, so that what came before the
// first packet has one too.
const start = 1 << 16

// extend gives a sequence number its extended one.
func (l *Layer) extend(seq uint16) uint64 {
	if !l.any {
		l.any = true
		l.highest = start + uint64(seq)
		return l.highest
	}
	d := int16(seq - uint16(l.highest))
	i := l.highest + uint64(int64(d))
	if d > 0 {
		l.highest = i
	}
	return i
}

// keep puts a packet into the cache.
func (l *Layer) keep(p *packet) {
	l.mu.Lock()
	if l.cache == nil {
		n := videoCache
		if l.track.source.Audio() {
			n = audioCache
		}
		l.cache = make([]*packet, n)
	}
	n := uint64(len(l.cache))
	l.cache[p.index%n] = p
	if l.oldest == 0 || l.oldest+n <= p.index {
		l.oldest = max(p.index, n) - n + 1
	}
	for l.oldest < p.index {
		q := &l.cache[l.oldest%n]
		if *q != nil && (*q).index <= l.oldest {
			if (*q).index == l.oldest && p.at-(*q).at <= keepFor {
				break
			}
			*q = nil
		}
		l.oldest++
	}
	l.mu.Unlock()
}

// get finds one, or nil.
func (l *Layer) get(index uint64) *packet {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cache == nil {
		return nil
	}
	if p := l.cache[index%uint64(len(l.cache))]; p != nil && p.index == index {
		return p
	}
	return nil
}

// meter measures a rate in windows.
type meter struct {
	bytes int64
	since time.Duration
	bps   int64
}

// meterWindow is long enough that a keyframe does not double the rate.
const meterWindow = 500 * time.Millisecond

func (m *meter) add(n int, now time.Duration) {
	m.roll(now)
	m.bytes += int64(n)
}

// roll ends the window if its time is over.
func (m *meter) roll(now time.Duration) {
	d := now - m.since
	if d < meterWindow {
		return
	}
	bps := m.bytes * 8 * int64(time.Second) / int64(d)
	if m.bps == 0 || bps == 0 {
		m.bps = bps
	} else {
		m.bps = (m.bps + bps) / 2
	}
	m.bytes, m.since = 0, now
}
