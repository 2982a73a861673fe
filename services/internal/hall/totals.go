package hall

import "github.com/parley-meet/parley/services/internal/sfu/room"

// Totals are what the media of the meetings did; those that have ended are in it.
func (h *Hall) Totals() room.Totals {
	h.mu.Lock()
	t := h.over
	rooms := make([]*room.Room, 0, len(h.meetings))
	for _, m := range h.meetings {
		rooms = append(rooms, m.room)
	}
	h.mu.Unlock()
	for _, r := range rooms {
		t.Add(r.Totals())
	}
	return t
}
