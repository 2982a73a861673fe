// Package hall is the inside of a multimedia router: the meetings that it holds,
// the sessions of their participants, and the media between them.
//
//	links ──▶ signal.Sessions ──▶ meeting.Meeting ──▶ effects
//	               ▲                                     │
//	               └───────── messages ◀─────────────────┤
//	                                        room.Room ◀──┘ gates, peers
//
// Frames of links come in by Receive and go out by Config.Write; whose WebSocket
// that is, a controller's or the router's own, is not known here. The meeting
// decides who is there and what he may do; the room carries what the meeting's
// gates let through.
//
// One lock is around sessions and meetings. What takes time, the answer to an
// offer, runs beside it, one offer of a person after the other.
package hall

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/parley-meet/parley/services/internal/meeting"
	"github.com/parley-meet/parley/services/internal/sfu/room"
	"github.com/parley-meet/parley/services/internal/signal"
	"github.com/parley-meet/parley/services/internal/ticket"
)

// Limits of a router.
const (
	DefaultLimit = 200 // participants
	BusyFrom     = 10  // participants
	maxSessions  = 4096
	maxReplay    = 100_000 // tickets that are remembered
	maxMeetings  = 1000
	tick         = 50 * time.Millisecond
)

// Config is what a hall works with.
type Config struct {
	Zone  string // id
	Limit int    // participants; 0: DefaultLimit; see SetLimit
	// Trust returns the issuer of tickets, the portal's URL or the zone's own in
	// standalone mode, and its keys.
	Trust func() (issuer string, keys ticket.Set)
	// PassKey signs passes, for somebody's way back by another router; without one
	// there are none, and pages use the portal's ticket.
	PassKey ticket.Key
	// Placed says that a meeting begins here only where a controller has placed it
	// (Expect): another one might run elsewhere, and would be taken away by whoever
	// knocks here with a ticket. Else any good ticket begins its meeting.
	Placed bool
	// Busy says that the machine has no power for one participant more, whatever the
	// limit is; nil: the limit alone counts. It is asked from BusyFrom participants
	// on: it is not fewer who make a machine busy. It must not wait.
	Busy func() bool
	Room room.Config
	// Relay makes a participant's credential for TURN; nil: there is none.
	Relay func(participant string) *signal.Relay
	Write func(link signal.Link, frame []byte, last bool)
	// Changed is called when meetings begin or end, for each participant more or
	// less, and when the limit is another; it must not wait.
	Changed func()
	// Began is told of a meeting that has begun, here or anew. Over is told of one
	// that has ended here, with why; of signal.Moved it goes on elsewhere. Neither may
	// wait.
	Began func(Run)
	Over  func(Run, signal.Code, meeting.Report)
	// Keep is told what another router needs to go on with a meeting, when that has
	// changed and each KeepEvery, and nil when the meeting has ended. It must not wait.
	Keep func(meeting string, epoch uint64, kept *meeting.Kept)
	Log  *slog.Logger
	Now  func() time.Time // nil: time.Now
}

// Hall is a router's.
type Hall struct {
	cfg     Config
	log     *slog.Logger
	tickets *ticket.Replay

	mu       sync.Mutex
	sessions *signal.Sessions
	meetings map[string]*held
	members  map[string]*member // by session
	expected map[string]*expected
	closed   bool
	draining bool
	refused  uint64      // people, because it was full
	over     room.Totals // of meetings that have ended

	stop chan struct{}
	done sync.WaitGroup
}

// Run is a meeting as it runs here.
type Run struct {
	Meeting string // id
	ID      string // of the run; it stays when the meeting moves
	Began   time.Time
	Again   bool // it ran before at a router that is lost
}

// held is a meeting.
type held struct {
	info    ticket.Meeting
	meeting *meeting.Meeting
	room    *room.Room
	members map[signal.ID]*member
	spot    []signal.ID
	speaker signal.ID
	began   time.Time
	epoch   uint64
	run     string
	kept    *meeting.Kept // it began with; nil: anew
	keeping keeping
}

// member is somebody's session in a meeting.
type member struct {
	held    *held
	id      signal.ID
	session string // "" of WHIP and WHEP
	peer    *room.Peer
	open    map[signal.Source]bool
	view    signal.View
	slots   map[string]signal.Slot // as the page knows them
	passAt  time.Time
	told    *signal.Stats     // by the page
	closed  func(signal.Code) // of WHIP and WHEP

	// Offers are answered one after the other; the last one waits alone.
	answering bool
	waiting   *signal.Offer
}

// New begins.
func New(cfg Config) *Hall {
	if cfg.Limit == 0 {
		cfg.Limit = DefaultLimit
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	h := &Hall{
		cfg: cfg, log: cfg.Log,
		tickets:  ticket.NewReplay(maxReplay),
		sessions: signal.NewSessions(maxSessions),
		meetings: map[string]*held{},
		members:  map[string]*member{},
		expected: map[string]*expected{},
		stop:     make(chan struct{}),
	}
	h.done.Go(h.run)
	return h
}

// run does what is due.
func (h *Hall) run() {
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		select {
		case <-h.stop:
			return
		case <-t.C:
		}
		now := h.cfg.Now()
		h.mu.Lock()
		h.events(h.sessions.Tick(now), now)
		for _, m := range h.meetings {
			if next := m.meeting.Next(); !next.IsZero() && !now.Before(next) {
				h.effects(m, m.meeting.Tick(now), now)
			}
			h.passes(m, now)
			h.keep(m, now, false)
		}
		h.mu.Unlock()
	}
}

// End ends all meetings and tells their participants why: signal.Stopping, or
// signal.Moved where another router goes on. Nobody comes in any more.
func (h *Hall) End(why signal.Code) {
	now := h.cfg.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for _, m := range h.meetings {
		h.keep(m, now, true)
		h.effects(m, m.meeting.Stop(why, now), now)
	}
}

// Close is End, and waits for what runs beside. It is called once.
func (h *Hall) Close(why signal.Code) {
	h.End(why)
	close(h.stop)
	h.done.Wait()
}

// Receive takes a frame of a link.
func (h *Hall) Receive(link signal.Link, frame []byte) {
	now := h.cfg.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events(h.sessions.Receive(link, frame, now), now)
}

// Cut says that a link is no more.
func (h *Hall) Cut(link signal.Link) {
	now := h.cfg.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events(h.sessions.Cut(link, now), now)
}

// events carries out what sessions say. mu is held.
func (h *Hall) events(list []signal.Event, now time.Time) {
	for _, e := range list {
		switch e := e.(type) {
		case signal.Write:
			h.cfg.Write(e.Link, e.Frame, e.Last)
		case signal.Knock:
			h.knock(e, now)
		case signal.Heard:
			h.heard(e, now)
		case signal.Lost:
			if m := h.members[e.Session]; m != nil {
				h.effects(m.held, m.held.meeting.Lost(m.id, now), now)
			}
		case signal.Back:
			if m := h.members[e.Session]; m != nil {
				if e.Fresh {
					h.unpeer(m)
				}
				h.effects(m.held, m.held.meeting.Back(m.id, e.Fresh, now), now)
			}
		case signal.Gone:
			if m := h.members[e.Session]; m != nil {
				h.effects(m.held, m.held.meeting.Gone(m.id, e.Code, now), now)
			}
		}
	}
}

// ErrCode is why somebody is not let in.
type ErrCode signal.Code

func (e ErrCode) Error() string { return string(e) }

// enter checks a ticket and takes its bearer into the meeting. mu is held.
// It returns when the ticket ends.
func (h *Hall) enter(text string, now time.Time) (*held, meeting.Entry, []meeting.Effect, time.Time, error) {
	var none time.Time
	if h.closed {
		return nil, meeting.Entry{}, nil, none, ErrCode(signal.Stopping)
	}
	c, err := h.verify(text, now)
	if err != nil {
		h.log.Info("ticket refused", "error", err)
		return nil, meeting.Entry{}, nil, none, ErrCode(signal.BadTicket)
	}
	m := h.meetings[c.Meeting.ID]
	if m == nil {
		if h.cfg.Placed && h.expects(c.Meeting.ID, now) == nil {
			return nil, meeting.Entry{}, nil, none, ErrCode(signal.Moved)
		}
		if h.draining {
			return nil, meeting.Entry{}, nil, none, ErrCode(signal.Stopping)
		}
		if len(h.meetings) >= maxMeetings || h.free() <= 0 {
			h.refused++
			return nil, meeting.Entry{}, nil, none, ErrCode(signal.Full)
		}
		m = h.begin(c, now)
	}
	entry, effects := m.meeting.Join(c, now)
	if entry.ID == 0 {
		if entry.Code == signal.Full {
			h.refused++
		}
		h.log.Info("not let in", "meeting", c.Meeting.ID, "code", entry.Code)
		h.effects(m, effects, now)
		return nil, entry, nil, none, ErrCode(entry.Code)
	}
	return m, entry, effects, c.Expires, nil
}

// begin opens a meeting, with what is known of it from where it ran before. mu is
// held.
func (h *Hall) begin(c ticket.Claims, now time.Time) *held {
	m := &held{info: c.Meeting, room: room.New(h.cfg.Room), members: map[signal.ID]*member{}, began: now, epoch: uint64(now.UnixMilli()), run: ticket.NewID()}
	if e := h.expects(c.Meeting.ID, now); e != nil {
		delete(h.expected, c.Meeting.ID)
		if m.epoch = e.epoch; e.kept != nil {
			m.kept = e.kept
			if goodRun(e.kept.Run) {
				m.run = e.kept.Run
			}
		}
	}
	m.meeting = meeting.New(meeting.Config{
		Zone:     h.cfg.Zone,
		Meeting:  c.Meeting,
		Settings: meeting.Defaults(c.Meeting),
		Free:     h.free,
		Tickets:  h.tickets,
		Kept:     m.kept,
	}, now)
	h.meetings[c.Meeting.ID] = m
	h.log.Info("meeting begins", "meeting", c.Meeting.ID, "epoch", m.epoch, "again", m.kept != nil)
	if h.cfg.Began != nil {
		h.cfg.Began(m.described())
	}
	h.changed()
	return m
}

func (m *held) described() Run {
	return Run{Meeting: m.info.ID, ID: m.run, Began: m.began, Again: m.kept != nil}
}

// free is how many participants more there is room for. mu is held.
func (h *Hall) free() int {
	all := 0
	for _, m := range h.meetings {
		inside, _ := m.meeting.Count()
		all += inside
	}
	if all >= BusyFrom && h.cfg.Busy != nil && h.cfg.Busy() {
		return 0
	}
	return h.cfg.Limit - all
}

// SetLimit has the hall take that many participants from now on; 0: DefaultLimit.
// Whoever is inside stays, also where they are more than that.
func (h *Hall) SetLimit(limit int) {
	if limit == 0 {
		limit = DefaultLimit
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if limit == h.cfg.Limit {
		return
	}
	h.log.Info("limit of participants", "was", h.cfg.Limit, "is", limit)
	h.cfg.Limit = limit
	h.changed()
}

func (h *Hall) changed() {
	if h.cfg.Changed != nil {
		h.cfg.Changed()
	}
}

func (h *Hall) knock(k signal.Knock, now time.Time) {
	m, entry, effects, expires, err := h.enter(k.Ticket, now)
	if err != nil {
		var code ErrCode
		if !errors.As(err, &code) {
			code = ErrCode(signal.BadTicket)
		}
		h.events(h.sessions.Refuse(k.Link, signal.Code(code)), now)
		return
	}
	session, events := h.sessions.Accept(k.Link, m.info.ID, now)
	if session != "" {
		x := &member{held: m, id: entry.ID, session: session, open: map[signal.Source]bool{}, slots: map[string]signal.Slot{}, passAt: expires.Add(-passBefore)}
		m.members[entry.ID] = x
		h.members[session] = x
	}
	h.events(events, now)
	h.effects(m, effects, now)
	if session == "" {
		h.effects(m, m.meeting.Gone(entry.ID, signal.Crowded, now), now)
	}
}

// heard is a message of a page.
func (h *Hall) heard(e signal.Heard, now time.Time) {
	x := h.members[e.Session]
	if x == nil {
		return
	}
	message, err := signal.ParseUp(e.Body)
	switch {
	case errors.Is(err, signal.ErrMessage):
		h.log.Info("message refused", "meeting", x.held.info.ID, "participant", x.id, "error", err)
		h.events(h.sessions.Close(e.Session, signal.Garbled, now), now)
		return
	case err != nil:
		h.send(x.held, []signal.ID{x.id}, signal.Refusal(message, err), now)
		return
	}
	effects, code := x.held.meeting.Handle(x.id, message, now)
	h.effects(x.held, effects, now)
	if code != "" || h.members[e.Session] != x {
		return
	}
	switch message := message.(type) {
	case *signal.Offer:
		h.offer(x, message, now)
	case *signal.View:
		x.view = *message
		h.show(x)
	case *signal.Stats:
		x.told = message
	}
}

// effects carries out what a meeting decides. mu is held.
func (h *Hall) effects(m *held, list []meeting.Effect, now time.Time) {
	for _, e := range list {
		switch e := e.(type) {
		case meeting.Send:
			h.send(m, e.To, e.Message, now)
		case meeting.Enter:
			if x := m.members[e.ID]; x != nil {
				h.peer(x)
			}
			h.changed()
		case meeting.Gate:
			if x := m.members[e.ID]; x != nil {
				x.open[e.Source] = e.Open
				if x.peer != nil {
					x.peer.Mute(room.Source(e.Source), !e.Open)
				}
				h.reshow(m)
			}
		case meeting.Spot:
			m.spot = e.IDs
			h.reshow(m)
		case meeting.Out:
			x := m.members[e.ID]
			if x == nil {
				continue
			}
			h.unpeer(x)
			delete(m.members, e.ID)
			delete(h.members, x.session)
			if m.speaker == e.ID {
				m.speaker = 0
			}
			if x.closed != nil {
				x.closed(e.Code)
			}
			if x.session != "" {
				h.events(h.sessions.Close(x.session, e.Code, now), now)
			}
			h.reshow(m)
			h.changed()
		case meeting.Over:
			delete(h.meetings, m.info.ID)
			h.log.Info("meeting ends", "meeting", m.info.ID, "code", e.Code)
			// Its goroutines may be in an event that waits for mu.
			go m.room.Close()
			ended := m.room.Totals()
			ended.Peers, ended.Waiting = 0, 0
			h.over.Add(ended)
			if h.cfg.Keep != nil && e.Code != signal.Moved && e.Code != signal.Stopping {
				h.cfg.Keep(m.info.ID, m.epoch, nil)
			}
			if h.cfg.Over != nil {
				h.cfg.Over(m.described(), e.Code, e.Report)
			}
			h.changed()
		}
	}
}

func (h *Hall) send(m *held, to []signal.ID, message signal.Message, now time.Time) {
	if j, ok := message.(*signal.Joined); ok && h.cfg.Relay != nil {
		with := *j
		with.Relay = h.cfg.Relay(m.info.ID + "-" + peerID(j.You))
		message = &with
	}
	ids := make([]string, 0, len(to))
	for _, id := range to {
		if x := m.members[id]; x != nil && x.session != "" {
			ids = append(ids, x.session)
		}
	}
	h.events(h.sessions.Send(ids, signal.Format(message), now), now)
}

// peerID names a participant in his room.
func peerID(id signal.ID) string { return fmt.Sprint(uint32(id)) }
