package room

import (
	"time"

	"github.com/parley-meet/parley/services/internal/sfu/wire"
)

// Voices is how many people are heard at once, which is how many lines of sound a
// page offers. A fourth one who speaks takes the place of the quietest.
const Voices = 3

// How voices take turns.
const (
	unknownLevel = 40 // of a sender that does not tell, -dBov: as speech
	// A voice gives its place to one that is this much louder, dB, and not before it
	// has had it for a while: a cough takes nobody's.
	louderBy = 6
	heldFor  = 400 * time.Millisecond
	// A place is free when nothing came for so long: DTX sends a packet each 400 ms.
	freeAfter = 2 * time.Second
	// Of a mean level, the share of a new packet of 20 ms.
	levelShare = 0.15
	// The dominant speaker changes when another one was louder for so long.
	dominantAfter = 600 * time.Millisecond
	speechLevel   = 60 // -dBov; quieter is no speech
)

// voice is what is known of a track of sound; under Room.voiceMu.
type voice struct {
	loud  float64 // mean, 127 - level
	last  time.Duration
	place int // 1 to Voices; 0: not heard
	since time.Duration
	ahead time.Duration // louder than the dominant one since then; 0: not
}

// now decays the mean of one that sends nothing.
func (v *voice) at(now time.Duration) float64 {
	if d := now - v.last; d > 200*time.Millisecond {
		return max(0, v.loud-float64(d.Milliseconds())/10)
	}
	return v.loud
}

// hear takes the level of a packet and returns the track's place, or 0, and
// whether it leads: it is the dominant speaker, or there is none.
func (r *Room) hear(now time.Duration, t *Track, level uint8) (place int, leads bool) {
	r.voiceMu.Lock()
	defer r.voiceMu.Unlock()
	place = r.placeOf(now, t, level)
	return place, r.dominant == t || r.dominant == nil && place == 1
}

// placeOf is hear under the lock.
func (r *Room) placeOf(now time.Duration, t *Track, level uint8) int {
	v := &t.voice
	loud := float64(127 - level)
	if v.last == 0 {
		v.loud = loud
	}
	v.loud += (loud - v.loud) * levelShare
	v.last = now
	if v.place != 0 {
		return v.place
	}
	weakest, free := -1, -1
	for i, o := range r.voices {
		switch {
		case o == nil || now-o.voice.last > freeAfter:
			if free < 0 {
				free = i
			}
		case now-o.voice.since >= heldFor && (weakest < 0 || o.voice.at(now) < r.voices[weakest].voice.at(now)):
			weakest = i
		}
	}
	switch {
	case free >= 0:
		r.take(now, free, t)
	case weakest >= 0 && v.loud > r.voices[weakest].voice.at(now)+louderBy:
		r.take(now, weakest, t)
	default:
		return 0
	}
	return v.place
}

// take gives a place to a track. voiceMu is held.
func (r *Room) take(now time.Duration, place int, t *Track) {
	if old := r.voices[place]; old != nil {
		old.voice.place = 0
	}
	r.voices[place] = t
	t.voice.place, t.voice.since = place+1, now
	r.voicesChanged.Store(true)
}

// quiet frees the place of a track that has ended or is muted.
func (r *Room) quiet(t *Track) {
	r.voiceMu.Lock()
	defer r.voiceMu.Unlock()
	for i := range r.voices {
		if r.voices[i] == t {
			r.voices[i] = nil
			r.voicesChanged.Store(true)
		}
	}
	t.voice = voice{}
	if r.dominant == t {
		r.dominant = nil
	}
}

// speak forwards sound to everybody, if it is among the loudest.
func (r *Room) speak(out *wire.Out, now time.Duration, t *Track, l *Layer, run []*packet) {
	place, leads := 0, false
	for _, p := range run {
		place, leads = r.hear(now, t, p.level)
	}
	if place == 0 {
		return
	}
	for _, p := range *r.everybody.Load() {
		if p == t.peer {
			continue
		}
		p.mu.Lock()
		if s := p.voiceSlot(place, leads); s != nil {
			s.target = l
			s.forward(out, now, l, run)
		}
		p.mu.Unlock()
	}
}

// voiceSlot is where a voice is heard. Who has fewer slots than there are voices,
// a player, hears the dominant one on the first. mu is held.
func (p *Peer) voiceSlot(place int, leads bool) *Slot {
	switch n := len(p.voices); {
	case n == 0:
		return nil
	case n >= Voices:
		return p.voices[place-1]
	case leads:
		return p.voices[0]
	case place > 1 && place <= n:
		return p.voices[place-1]
	}
	return nil
}

// dominate finds the dominant speaker.
func (r *Room) dominate(now time.Duration) (id string, changed bool) {
	r.voiceMu.Lock()
	defer r.voiceMu.Unlock()
	current := 0.0
	if r.dominant != nil {
		current = r.dominant.voice.at(now)
	}
	var best *Track
	for _, t := range r.voices {
		if t == nil || t == r.dominant {
			continue
		}
		v := &t.voice
		if l := v.at(now); l < 127-speechLevel || l < current+louderBy/2 {
			v.ahead = 0
			continue
		}
		if v.ahead == 0 {
			v.ahead = now
		}
		if now-v.ahead >= dominantAfter || r.dominant == nil {
			if best == nil || v.at(now) > best.voice.at(now) {
				best = t
			}
		}
	}
	if best == nil {
		return "", false
	}
	best.voice.ahead = 0
	r.dominant = best
	return best.peer.id, true
}
