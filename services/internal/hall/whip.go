package hall

import (
	"errors"
	"net/http"

	"github.com/parley-meet/parley/services/internal/sfu/room"
	"github.com/parley-meet/parley/services/internal/sfu/sdp"
	"github.com/parley-meet/parley/services/internal/sfu/whip"
	"github.com/parley-meet/parley/services/internal/signal"
)

// What a player that cannot say it is taken to show, pixels.
const (
	playerWidth  = 1280
	playerHeight = 720
)

// guest is a participant of WHIP or WHEP: somebody without a page.
type guest struct {
	hall   *Hall
	member *member
	plays  bool
}

// Admit is whip.Admit: plays says whether it is for WHEP.
func (h *Hall) Admit(plays bool) whip.Admit {
	return func(_ *http.Request, text string, closed func()) (whip.Peer, error) {
		now := h.cfg.Now()
		h.mu.Lock()
		defer h.mu.Unlock()
		m, entry, effects, _, err := h.enter(text, now)
		if err != nil {
			return nil, refusal(err)
		}
		x := &member{held: m, id: entry.ID, open: map[signal.Source]bool{}, slots: map[string]signal.Slot{}, closed: func(signal.Code) { closed() }}
		m.members[entry.ID] = x
		h.effects(m, effects, now)
		if x.peer == nil {
			// Nobody tells an encoder later that it was let in.
			h.effects(m, m.meeting.Gone(entry.ID, signal.Left, now), now)
			return nil, &whip.Refusal{Status: http.StatusForbidden, Text: "the meeting has not begun, or has a waiting room: ask the host to let people in without it"}
		}
		if !plays {
			on := true
			// What it may not, stays shut.
			for _, s := range []*signal.State{{Microphone: &on}, {Camera: &on}} {
				effects, code := m.meeting.Handle(x.id, s, now)
				h.effects(m, effects, now)
				if code != "" {
					h.log.Info("whip: source stays shut", "meeting", m.info.ID, "participant", x.id, "code", code)
				}
			}
		}
		return &guest{h, x, plays}, nil
	}
}

// refusal says it in HTTP.
func refusal(err error) error {
	var code ErrCode
	if !errors.As(err, &code) {
		return err
	}
	switch signal.Code(code) {
	case signal.BadTicket:
		return &whip.Refusal{Status: http.StatusUnauthorized, Text: "the ticket is not good: expired, or not for this zone"}
	case signal.Used:
		return &whip.Refusal{Status: http.StatusUnauthorized, Text: "the ticket was used before"}
	case signal.Moved:
		// RFC 9110, 15.5.20.
		return &whip.Refusal{Status: http.StatusMisdirectedRequest, Text: "the meeting does not run at this router, and none begins here: send the offer to the zone's controller, the host of the meeting's link, at the same path; it finds the meeting's router"}
	case signal.Stopping:
		return &whip.Refusal{Status: http.StatusServiceUnavailable, Text: "the router is stopping: try again in a moment"}
	case signal.Full, signal.Crowded:
		return &whip.Refusal{Status: http.StatusServiceUnavailable, Text: "the router takes nobody more"}
	}
	return &whip.Refusal{Status: http.StatusForbidden, Text: "not let in: " + string(code)}
}

// Offer implements whip.Peer.
func (g *guest) Offer(text string) (string, error) {
	h, x := g.hall, g.member
	h.mu.Lock()
	p := x.peer
	h.mu.Unlock()
	if p == nil {
		return "", errors.New("the session has ended")
	}
	answer, err := p.Offer(text, nil)
	if err != nil {
		return "", err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range sources {
		p.Mute(room.Source(s), !x.open[s])
	}
	if g.plays {
		for i, mid := range p.Pictures() {
			what := signal.BySpeaker
			if i > 0 {
				what = signal.ByPage
			}
			x.view.Slots = append(x.view.Slots, signal.Show{Mid: mid, What: what, Width: playerWidth, Height: playerHeight})
		}
	}
	h.reshow(x.held)
	return answer, nil
}

// Restart implements whip.Peer.
func (g *guest) Restart(ice sdp.ICE) (sdp.ICE, error) {
	g.hall.mu.Lock()
	p := g.member.peer
	g.hall.mu.Unlock()
	if p == nil {
		return sdp.ICE{}, errors.New("the session has ended")
	}
	return p.Restart(ice)
}

// Close implements whip.Peer.
func (g *guest) Close() error {
	h, x := g.hall, g.member
	now := h.cfg.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.effects(x.held, x.held.meeting.Gone(x.id, signal.Left, now), now)
	return nil
}
