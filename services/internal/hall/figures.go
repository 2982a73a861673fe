package hall

import (
	"cmp"
	"slices"
	"time"

	"github.com/parley-meet/parley/services/internal/sfu/room"
	"github.com/parley-meet/parley/services/internal/signal"
)

// Load is what a hall has to carry, for announcements.
type Load struct {
	Limit        int
	Participants int
	Waiting      int
	Full         bool   // nobody more is let in: the limit, or Busy
	Refused      uint64 // people, for that, since the start
	Draining     bool
	Meetings     []MeetingLoad // by id
}

// MeetingLoad is one meeting's.
type MeetingLoad struct {
	ID, Run      string
	Epoch        uint64
	Participants int
}

// Load returns it.
func (h *Hall) Load() Load {
	h.mu.Lock()
	defer h.mu.Unlock()
	l := Load{Limit: h.cfg.Limit, Full: h.free() <= 0, Refused: h.refused, Draining: h.draining || h.closed, Meetings: make([]MeetingLoad, 0, len(h.meetings))}
	for id, m := range h.meetings {
		inside, waiting := m.meeting.Count()
		l.Participants += inside
		l.Waiting += waiting
		l.Meetings = append(l.Meetings, MeetingLoad{ID: id, Run: m.run, Epoch: m.epoch, Participants: inside})
	}
	slices.SortFunc(l.Meetings, func(a, b MeetingLoad) int { return cmp.Compare(a.ID, b.ID) })
	return l
}

// Meeting is a meeting's figures.
type Meeting struct {
	ID      string        `json:"id"`
	Run     string        `json:"run"`
	Epoch   uint64        `json:"epoch"`
	Began   time.Time     `json:"began"` // here
	Again   bool          `json:"again,omitempty"`
	Inside  int           `json:"inside"`
	Waiting int           `json:"waiting"`
	Totals  room.Totals   `json:"totals"`
	People  []Participant `json:"people"` // by id
}

// Participant is one who is inside. It holds no name: figures are read by more
// people than meetings are for.
type Participant struct {
	ID    signal.ID     `json:"id"`
	Page  bool          `json:"page"`           // or an encoder or player
	Media room.Figures  `json:"media"`          //
	Told  *signal.Stats `json:"told,omitempty"` // by the page, its last
}

// Figures returns those of all meetings, by id.
func (h *Hall) Figures() []Meeting {
	type one struct {
		at   int
		p    Participant
		peer *room.Peer
	}
	var list []Meeting
	var people []one
	var rooms []*room.Room
	h.mu.Lock()
	for id, m := range h.meetings {
		inside, waiting := m.meeting.Count()
		list = append(list, Meeting{ID: id, Run: m.run, Epoch: m.epoch, Began: m.began, Again: m.kept != nil, Inside: inside, Waiting: waiting, People: []Participant{}})
		rooms = append(rooms, m.room)
		for pid, x := range m.members {
			if x.peer == nil {
				continue
			}
			people = append(people, one{len(list) - 1, Participant{ID: pid, Page: x.session != "", Told: x.told}, x.peer})
		}
	}
	h.mu.Unlock()
	// Rooms have locks of their own, that events of theirs hold while they wait for h.
	for i, r := range rooms {
		list[i].Totals = r.Totals()
	}
	for _, x := range people {
		x.p.Media = x.peer.Figures()
		list[x.at].People = append(list[x.at].People, x.p)
	}
	for _, m := range list {
		slices.SortFunc(m.People, func(a, b Participant) int { return cmp.Compare(a.ID, b.ID) })
	}
	slices.SortFunc(list, func(a, b Meeting) int { return cmp.Compare(a.ID, b.ID) })
	return list
}

// Restart tells all pages that the router has other addresses.
func (h *Hall) Restart() {
	now := h.cfg.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range h.meetings {
		var to []signal.ID
		for id, x := range m.members {
			if x.peer != nil && x.session != "" {
				to = append(to, id)
			}
		}
		slices.Sort(to)
		h.send(m, to, &signal.Restart{}, now)
	}
}
