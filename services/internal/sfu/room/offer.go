package room

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/parley-meet/parley/services/internal/sfu/cc"
	"github.com/parley-meet/parley/services/internal/sfu/sdp"
	"github.com/parley-meet/parley/services/internal/sfu/transport"
	"github.com/parley-meet/parley/services/internal/sfu/wire"
)

// Errors of a room.
var (
	ErrClosed = errors.New("room: closed")
	ErrTaken  = errors.New("room: this peer is there already")
)

// Bounds of an offer.
const (
	maxTracks = 6
	maxSlots  = 52 // a page of 49, and voices
)

// Join makes a peer that has no connection yet; its first Offer makes one.
func (r *Room) Join(id string, ev Events) (*Peer, error) {
	p := &Peer{
		room: r, id: id, events: ev,
		bySSRC:    map[uint32]*inStream{},
		ssrc:      randomSSRC(),
		cname:     rand.Text(),
		estimator: cc.NewEstimator(cc.Config{Start: firstEstimate}),
		pacer:     cc.NewPacer[queued](cc.PacerLimits{}, firstEstimate),
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, ErrClosed
	}
	if r.peers[id] != nil {
		return nil, ErrTaken
	}
	p.number = r.id()
	r.peers[id] = p
	r.list()
	return p, nil
}

// rtxBit is what the SSRC of a slot's retransmissions differs by.
const rtxBit = 0x80000000

// freeSSRC gives one for a line that no other line has, nor its retransmissions:
// two streams of one SSRC would be sealed with the same numbers.
func (p *Peer) freeSSRC(s *sdp.Session) uint32 {
	for {
		x := randomSSRC()
		if x != rtxBit && !slices.ContainsFunc(s.Media, func(l sdp.Line) bool { return l.SSRC|rtxBit == x|rtxBit }) {
			return x
		}
	}
}

func randomSSRC() uint32 {
	var b [4]byte
	rand.Read(b[:])
	return max(binary.BigEndian.Uint32(b[:]), 1)
}

// Offer takes an offer and answers it. Sources says what the lines are on which
// the peer sends, by MID; a line that is not named is a microphone or a camera.
// A later offer may add lines, end some, or restart ICE.
func (p *Peer) Offer(text string, sources map[string]Source) (string, error) {
	offer, err := sdp.Parse(text)
	if err != nil {
		return "", err
	}
	p.offering.Lock()
	defer p.offering.Unlock()
	old := p.session
	var next *sdp.Session
	if old == nil {
		next, err = sdp.Negotiate(offer, policy)
	} else {
		next, err = old.Renegotiate(offer, policy)
	}
	if err != nil {
		return "", err
	}
	remote := transport.Params{Ufrag: next.ICE.Ufrag, Pwd: next.ICE.Pwd, Waits: next.DTLSClient}
	if len(next.Fingerprints) > 0 {
		remote.Hash, remote.Print = next.Fingerprints[0].Algorithm, next.Fingerprints[0].Value
	}
	if err := p.plan(next, sources); err != nil {
		return "", err
	}
	var local transport.Params
	switch {
	case old == nil:
		p.transport, err = p.room.cfg.Transport.Open(remote, p, transport.Events{Keys: p.keys, Path: p.via, State: p.changed})
		if err != nil {
			return "", err
		}
		local = p.transport.Local()
		p.sdpID = uint64(randomSSRC())
	case old.SameICE(offer):
		local = p.transport.Local()
	default:
		if local, err = p.transport.Restart(remote); err != nil {
			return "", err
		}
	}
	p.apply(next, sources)
	p.session = next
	return next.Answer(sdp.Local{
		SessionID:   p.sdpID,
		Ufrag:       local.Ufrag,
		Pwd:         local.Pwd,
		Lite:        true,
		Fingerprint: sdp.Fingerprint{Algorithm: local.Hash, Value: local.Print},
		Candidates:  p.room.cfg.Candidates(),
	})
}

// plan checks an offer's lines and gives those that we send on their SSRCs.
func (p *Peer) plan(next *sdp.Session, sources map[string]Source) error {
	tracks, slots := 0, 0
	seen := map[Source]string{}
	for i := range next.Media {
		l := &next.Media[i]
		if l.Rejected {
			continue
		}
		if l.FromPeer {
			tracks++
			src := sourceOf(l, sources)
			if src.Audio() != (l.Kind == "audio") {
				return fmt.Errorf("offer: line %q is %s, and its source is called %s", l.MID, l.Kind, src)
			}
			if other, ok := seen[src]; ok {
				return fmt.Errorf("offer: lines %q and %q are both the %s", other, l.MID, src)
			}
			seen[src] = l.MID
		}
		if l.ToPeer {
			slots++
			if l.SSRC == 0 {
				l.SSRC = p.freeSSRC(next)
				for _, c := range l.Codecs {
					if c.RTX != 0 {
						l.RTXSSRC = l.SSRC ^ rtxBit
					}
				}
				l.CNAME = p.cname
				l.MSID = "s" + l.MID + " t" + l.MID
			}
		}
	}
	if tracks > maxTracks {
		return fmt.Errorf("offer: %d lines to send on; a peer has %d at most", tracks, maxTracks)
	}
	if slots > maxSlots {
		return fmt.Errorf("offer: %d lines to receive on; a peer has %d at most", slots, maxSlots)
	}
	return nil
}

// sourceOf says what a line is that the peer sends on.
func sourceOf(l *sdp.Line, sources map[string]Source) Source {
	if s, ok := sources[l.MID]; ok {
		return s
	}
	if l.Kind == "audio" {
		return Microphone
	}
	return Camera
}

// apply makes tracks and slots what the session says.
func (p *Peer) apply(next *sdp.Session, sources map[string]Source) {
	r := p.room
	out := wire.NewOutSize(8 << 10)
	r.mu.Lock()
	var ended []*Track
	for i := range next.Media {
		line := next.Media[i] // a copy, which later offers do not change
		if !line.Rejected && line.FromPeer {
			p.publish(&line, sourceOf(&line, sources))
		} else if t := p.unpublish(line.MID); t != nil {
			ended = append(ended, t)
		}
		if !line.Rejected && line.ToPeer {
			p.offerSlot(&line)
		}
	}
	for _, t := range ended {
		r.end(out, t)
	}
	p.dirty |= dirtySlots | dirtyLayers | dirtyView
	r.mu.Unlock()
	out.Flush()
}

// publish begins a track, unless it is there. The room's mu is held.
func (p *Peer) publish(line *sdp.Line, source Source) {
	p.in.Lock()
	defer p.in.Unlock()
	p.ids = extensions{twcc: line.Ext.TWCC, level: p.ids.level, mid: line.Ext.MID, rid: p.ids.rid, repaired: p.ids.repaired}
	if line.Ext.AudioLevel != 0 {
		p.ids.level = line.Ext.AudioLevel
	}
	if line.Ext.RID != 0 {
		p.ids.rid, p.ids.repaired = line.Ext.RID, line.Ext.RepairedRID
	}
	for _, t := range p.tracks {
		if t.mid == line.MID {
			t.line = line
			return
		}
	}
	t := &Track{peer: p, mid: line.MID, source: source, line: line, id: p.room.id()}
	rids := line.Layers
	if len(rids) == 0 {
		rids = []string{""}
	}
	for i, rid := range rids {
		t.layers = append(t.layers, &Layer{track: t, rid: rid, rank: i, id: p.room.id(), wanted: true, wantedAt: p.room.now()})
	}
	if len(line.Layers) == 0 && len(line.Sources) > 0 {
		l, s := t.layers[0], line.Sources[0]
		if _, taken := p.bySSRC[s.SSRC]; !taken && s.SSRC != 0 {
			l.ssrc = s.SSRC
			p.bySSRC[s.SSRC] = &inStream{layer: l}
		}
		if _, taken := p.bySSRC[s.RTX]; !taken && s.RTX != 0 {
			l.rtx = s.RTX
			p.bySSRC[s.RTX] = &inStream{layer: l, again: true}
		}
	}
	p.tracks = append(p.tracks, t)
}

// unpublish ends a track and returns it, or nil.
func (p *Peer) unpublish(mid string) *Track {
	p.in.Lock()
	defer p.in.Unlock()
	i := slices.IndexFunc(p.tracks, func(t *Track) bool { return t.mid == mid })
	if i < 0 {
		return nil
	}
	t := p.tracks[i]
	p.tracks = slices.Delete(p.tracks, i, i+1)
	for ssrc, s := range p.bySSRC {
		if s.layer.track == t {
			delete(p.bySSRC, ssrc)
		}
	}
	return t
}

// end takes a track off all slots. The room's mu is held.
func (r *Room) end(out *wire.Out, t *Track) {
	r.quiet(t)
	t.peer.in.Lock()
	slots := slices.Clone(t.slots)
	t.peer.in.Unlock()
	for _, s := range slots {
		r.show(out, s, nil)
	}
	for _, p := range r.peers {
		p.mu.Lock()
		for _, s := range p.voices {
			if s.layer != nil && s.layer.track == t {
				s.layer, s.target = nil, nil
			}
		}
		p.mu.Unlock()
	}
}

// offerSlot makes a slot of a line, unless it is there. The room's mu is held.
func (p *Peer) offerSlot(line *sdp.Line) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.slots {
		if s.mid == line.MID {
			return
		}
	}
	s := &Slot{peer: p, mid: line.MID, id: p.room.id(), line: line}
	s.out.SSRC, s.rtx.SSRC = line.SSRC, line.RTXSSRC
	// A receiver takes the first number to be of rollover 0, and packets from
	// before it may come after.
	s.first = uint64(randomSSRC()&0x3fff) + 1024
	s.rtxNext = uint64(randomSSRC() & 0x3fff)
	p.slots = append(p.slots, s)
	if line.Kind == "audio" && len(p.voices) < Voices {
		p.voices = append(p.voices, s)
	}
}

// View says what the peer's screen shows. Slots that it does not name carry
// nothing; voices choose themselves.
func (p *Peer) View(want []Want) error {
	r := p.room
	out := wire.NewOutSize(8 << 10)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range want {
		if p.slot(w.MID) == nil {
			return fmt.Errorf("view: there is no slot %q", w.MID)
		}
	}
	p.mu.Lock()
	slots, voices := slices.Clone(p.slots), slices.Clone(p.voices)
	p.mu.Unlock()
	for _, s := range slots {
		if slices.Contains(voices, s) {
			continue
		}
		i := slices.IndexFunc(want, func(w Want) bool { return w.MID == s.mid })
		var t *Track
		if i >= 0 && want[i].Peer != p.id {
			t = r.find(want[i].Peer, want[i].Source)
		}
		if t != nil && t.source.Audio() != (s.line.Kind == "audio") {
			t = nil
		}
		r.show(out, s, t)
		if i >= 0 {
			p.mu.Lock()
			s.width, s.height = want[i].Width, want[i].Height
			p.mu.Unlock()
		}
	}
	p.view = slices.Clone(want)
	p.dirty |= dirtyView
	return nil
}

// slot finds one by its MID.
func (p *Peer) slot(mid string) *Slot {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.slots {
		if s.mid == mid {
			return s
		}
	}
	return nil
}

// Mute stops what a source sends from being forwarded, or lets it again.
func (p *Peer) Mute(source Source, muted bool) {
	r := p.room
	r.mu.Lock()
	defer r.mu.Unlock()
	p.in.Lock()
	var t *Track
	for _, x := range p.tracks {
		if x.source == source {
			t = x
			t.muted = muted
		}
	}
	p.in.Unlock()
	if t != nil && muted {
		r.quiet(t)
	}
}

// start is called when a peer is connected.
func (r *Room) start(p *Peer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p.dirty |= dirtySlots | dirtyLayers | dirtyView
}

// Close ends the peer: its tracks, its slots, its connection.
func (p *Peer) Close() error {
	r := p.room
	out := wire.NewOutSize(8 << 10)
	r.mu.Lock()
	if p.closed {
		r.mu.Unlock()
		return nil
	}
	p.closed = true
	was := p.totals()
	was.Waiting = 0
	r.gone.Add(was)
	if r.peers[p.id] == p {
		delete(r.peers, p.id)
	}
	r.list()
	p.in.Lock()
	tracks := slices.Clone(p.tracks)
	p.in.Unlock()
	for _, t := range tracks {
		r.end(out, t)
	}
	p.mu.Lock()
	slots := slices.Clone(p.slots)
	p.mu.Unlock()
	for _, s := range slots {
		r.show(out, s, nil)
	}
	r.mu.Unlock()
	out.Flush()
	p.offering.Lock()
	defer p.offering.Unlock()
	if p.transport == nil {
		return nil
	}
	return p.transport.Close()
}

// Restart takes new ICE credentials of the peer without an offer, as WHIP does,
// and returns ours.
func (p *Peer) Restart(ice sdp.ICE) (sdp.ICE, error) {
	p.offering.Lock()
	defer p.offering.Unlock()
	if p.transport == nil {
		return sdp.ICE{}, errors.New("ice restart: there was no offer")
	}
	local, err := p.transport.Restart(transport.Params{Ufrag: ice.Ufrag, Pwd: ice.Pwd})
	return sdp.ICE{Ufrag: local.Ufrag, Pwd: local.Pwd, Lite: true}, err
}

// Pictures lists the MIDs of the slots for pictures, in the offer's order.
func (p *Peer) Pictures() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var mids []string
	for _, s := range p.slots {
		if s.line.Kind == "video" {
			mids = append(mids, s.mid)
		}
	}
	return mids
}
