package hall

import (
	"slices"
	"strconv"
	"time"

	"github.com/parley-meet/parley/services/internal/sfu/room"
	"github.com/parley-meet/parley/services/internal/sfu/transport"
	"github.com/parley-meet/parley/services/internal/signal"
)

// peer gives somebody who is inside his place in the room. mu is held.
func (h *Hall) peer(x *member) {
	if x.peer != nil {
		return
	}
	var err error
	var p *room.Peer
	p, err = x.held.room.Join(peerID(x.id), room.Events{
		State:   func(s transport.State, err error) { h.state(x, p, s, err) },
		Slots:   func(list []room.Shown) { h.slots(x, list) },
		Layers:  func(source room.Source, wanted []room.Wanted) { h.layers(x, source, wanted) },
		Speaker: func(id string) { h.speaks(x.held, id) },
	})
	if err != nil {
		h.log.Error("join room", "meeting", x.held.info.ID, "participant", x.id, "error", err)
		return
	}
	x.peer = p
	for _, s := range sources {
		p.Mute(room.Source(s), !x.open[s])
	}
}

var sources = []signal.Source{signal.Microphone, signal.Camera, signal.Screen, signal.ScreenAudio}

// unpeer ends somebody's media. mu is held.
func (h *Hall) unpeer(x *member) {
	p := x.peer
	x.peer, x.waiting = nil, nil
	clear(x.slots)
	if p == nil {
		return
	}
	// It waits for the library's goroutines, and they may be in an event.
	h.beside(func() {
		if err := p.Close(); err != nil {
			h.log.Debug("close", "participant", x.id, "error", err)
		}
	})
}

// state hears how a connection is.
func (h *Hall) state(x *member, p *room.Peer, s transport.State, err error) {
	h.log.Info("media", "meeting", x.held.info.ID, "participant", x.id, "state", s, "error", err)
	if s != transport.Failed {
		return
	}
	// The page sees it too and offers anew; what is gone for good goes with its
	// session. A peer of WHIP has nothing else.
	h.mu.Lock()
	defer h.mu.Unlock()
	if x.peer == p && x.session == "" {
		now := h.cfg.Now()
		h.effects(x.held, x.held.meeting.Gone(x.id, signal.Idle, now), now)
	}
}

// offer answers a page's offer. mu is held.
func (h *Hall) offer(x *member, o *signal.Offer, now time.Time) {
	if x.peer == nil {
		h.peer(x)
	}
	if x.peer == nil {
		return
	}
	if x.answering {
		x.waiting = o
		return
	}
	x.answering = true
	p := x.peer
	h.beside(func() { h.answer(x, p, o) })
}

// answer runs beside the lock.
func (h *Hall) answer(x *member, p *room.Peer, o *signal.Offer) {
	m := map[string]room.Source{}
	for mid, s := range o.Sources {
		m[mid] = room.Source(s)
	}
	text, err := p.Offer(o.SDP, m)
	now := h.cfg.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	x.answering = false
	if x.peer != p {
		return
	}
	if err != nil {
		h.log.Info("offer refused", "meeting", x.held.info.ID, "participant", x.id, "error", err)
		h.send(x.held, []signal.ID{x.id}, &signal.Error{Of: o.Kind(), Ref: o.Ref, Code: signal.BadOffer, Args: []any{short(err.Error())}}, now)
	} else {
		// Gates that were closed before its tracks were there.
		for _, s := range sources {
			p.Mute(room.Source(s), !x.open[s])
		}
		h.send(x.held, []signal.ID{x.id}, &signal.Answer{Ref: o.Ref, SDP: text}, now)
		h.reshow(x.held)
	}
	if next := x.waiting; next != nil {
		x.waiting = nil
		h.offer(x, next, now)
	}
}

// short bounds a text that came from outside in part.
func short(s string) string {
	if len(s) > 200 {
		return s[:200]
	}
	return s
}

// show tells the room what a page's slots show. mu is held.
func (h *Hall) show(x *member) {
	if x.peer == nil {
		return
	}
	if err := x.peer.View(h.wants(x)); err != nil {
		h.log.Debug("view", "participant", x.id, "error", err)
	}
}

// reshow does so for all whose view depends on others. mu is held.
func (h *Hall) reshow(m *held) {
	for _, x := range m.members {
		if len(x.view.Slots) > 0 {
			h.show(x)
		}
	}
}

// wants fills a view. mu is held.
func (h *Hall) wants(x *member) []room.Want {
	m := x.held
	var named []signal.ID
	pages := 0
	for _, s := range x.view.Slots {
		switch s.What {
		case signal.One:
			if s.Source == signal.Camera {
				named = append(named, s.ID)
			}
		case signal.ByPage:
			pages++
		}
	}
	cameras := h.showing(m, signal.Camera, x.id)
	screens := h.showing(m, signal.Screen, x.id)
	page := slices.DeleteFunc(slices.Clone(cameras), func(id signal.ID) bool { return slices.Contains(named, id) })
	page = page[min(x.view.Page*pages, len(page)):]
	spots := slices.DeleteFunc(slices.Clone(m.spot), func(id signal.ID) bool { return !slices.Contains(cameras, id) })
	if len(spots) == 0 {
		switch {
		case m.speaker != 0 && m.speaker != x.id && slices.Contains(cameras, m.speaker):
			spots = []signal.ID{m.speaker}
		case len(cameras) > 0:
			spots = cameras[:1]
		}
	}
	next := func(list *[]signal.ID) signal.ID {
		if len(*list) == 0 {
			return 0
		}
		id := (*list)[0]
		*list = (*list)[1:]
		return id
	}
	wants := make([]room.Want, 0, len(x.view.Slots))
	for _, s := range x.view.Slots {
		id, source := s.ID, signal.Camera
		switch s.What {
		case signal.One:
			source = s.Source
		case signal.BySpeaker:
			id = next(&spots)
		case signal.ByScreen:
			id, source = next(&screens), signal.Screen
		case signal.ByPage:
			id = next(&page)
		}
		if id == 0 || id == x.id {
			continue
		}
		if o := m.members[id]; o == nil || !o.open[source] {
			continue
		}
		wants = append(wants, room.Want{MID: s.Mid, Peer: peerID(id), Source: room.Source(source), Width: s.Width, Height: s.Height})
	}
	return wants
}

// showing lists whose source is on, by id, without one. mu is held.
func (h *Hall) showing(m *held, s signal.Source, but signal.ID) []signal.ID {
	var ids []signal.ID
	for id, x := range m.members {
		if id != but && x.open[s] && x.peer != nil {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// slots tells a page what its slots carry now.
func (h *Hall) slots(x *member, list []room.Shown) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var changed []signal.Slot
	for _, s := range list {
		slot := signal.Slot{Mid: s.MID}
		if id, err := strconv.ParseUint(s.Peer, 10, 32); err == nil {
			slot.ID, slot.Source = signal.ID(id), signal.Source(s.Source)
		}
		if x.slots[s.MID] != slot {
			x.slots[s.MID] = slot
			changed = append(changed, slot)
		}
	}
	if len(changed) > 0 {
		h.send(x.held, []signal.ID{x.id}, &signal.Slots{Slots: changed}, h.cfg.Now())
	}
}

// layers tells a page which of its layers are watched.
func (h *Hall) layers(x *member, source room.Source, wanted []room.Wanted) {
	message := &signal.Layers{Source: signal.Source(source)}
	for _, w := range wanted {
		if w.Active && w.RID != "" {
			message.RIDs = append(message.RIDs, w.RID)
		} else if w.Active {
			message.RIDs = append(message.RIDs, "")
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.send(x.held, []signal.ID{x.id}, message, h.cfg.Now())
}

// speaks takes the dominant speaker.
func (h *Hall) speaks(m *held, id string) {
	n, err := strconv.ParseUint(id, 10, 32)
	if err != nil {
		return
	}
	now := h.cfg.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	if m.speaker == signal.ID(n) {
		return // told by the event of another participant
	}
	m.speaker = signal.ID(n)
	h.effects(m, m.meeting.Speaks(m.speaker, now), now)
	h.reshow(m)
}

// beside runs what takes time; Close waits for it. mu is held.
func (h *Hall) beside(f func()) {
	if h.closed {
		go f()
		return
	}
	h.done.Go(f)
}
