// Package meeting is the truth about one meeting: who is inside and who waits,
// who is host, who may speak, and what everybody is told of it. It is pure: what
// happens comes in by calls with the time, and what is to be done goes out as
// effects. It sends nothing, and knows no sockets and no media.
//
//	             Join
//	   ┌──────────┼───────────┐
//	   ▼          ▼           ▼
//	refused    waiting ────▶ inside ⇄ away (Lost, Back)
//	              │  admit    │         │
//	              └────────▶ out ◀──────┘ after AwayFor
//
// Whoever waits is told why and nothing else, and has no media: no effect names
// him as a receiver of anything but Waiting, Joined and Error.
//
// There is one host at most. Hosts by ticket beside him are cohosts. When the
// host goes, another host by ticket takes over, then the cohost who is there
// longest, then, if the configuration says so, the person who is there longest
// and has signed in. Such a successor is acting: a host by ticket who comes in
// takes the place back.
//
// A router publishes what Keep returns. When it is lost, the meeting begins at
// another one with that: the settings hold, who was removed stays out, and who was
// inside comes in again past lock and waiting room, with his role. Chat and the
// report begin anew.
//
// What many are told (roster, settings, speaker, reactions) is gathered for
// Gather: two hundred people who come in one second cost each of them a snapshot
// and a few changes, not two hundred messages.
package meeting

import (
	"time"

	"github.com/parley-meet/parley/services/internal/signal"
	"github.com/parley-meet/parley/services/internal/ticket"
)

// Times and bounds.
const (
	Gather     = 250 * time.Millisecond
	AwayFor    = signal.ResumeWithin // a place is kept
	EmptyAfter = 30 * time.Second    // a meeting goes on with nobody inside
	HostWithin = time.Hour           // somebody waits for the host to come

	MaxWaiting   = 500
	maxHistory   = 200       // lines
	historySize  = 100 << 10 // bytes of their texts; Format at most doubles them
	maxReactions = 64        // in one Reactions; more are dropped, they are decoration
	maxReport    = 5000      // people
	maxRemoved   = 5000      // people who may not come back
)

// Heir says who becomes host when the host has gone and no host or cohost is
// there.
type Heir string

// The ways.
const (
	HeirLongest Heir = "longest" // who has signed in and is there longest
	HeirNobody  Heir = "nobody"  // the meeting goes on without
)

// Config is what a meeting works with.
type Config struct {
	Zone     string // id; tickets are for it
	Meeting  ticket.Meeting
	Settings signal.Settings // at its beginning; Defaults makes them
	Heir     Heir            // "": HeirLongest
	// Free returns how many participants more the router takes, over all its
	// meetings. It is asked before somebody enters; who enters by the effects of
	// one call need not be counted before it returns.
	Free func() int
	// Tickets are those that the router has seen.
	Tickets *ticket.Replay
	// Kept is what another router told of this meeting before it was lost, or nil.
	Kept *Kept
}

// Defaults are the settings of a meeting whose host has set none.
func Defaults(m ticket.Meeting) signal.Settings {
	return signal.Settings{WaitingRoom: m.WaitingRoom, Unmute: true, Video: true, Share: true, Rename: true, React: true,
		Chat: signal.ChatAll, Spotlight: []signal.ID{}}
}

// Effect is one of Send, Enter, Gate, Spot, Out and Over. Effects are carried out
// in their order.
type Effect interface{ effect() }

// Send sends one message to each of some participants, who all have the same.
type Send struct {
	To      []signal.ID
	Message signal.Message
}

// Enter says that a participant may have media from now on. All his gates are
// closed.
type Enter struct{ ID signal.ID }

// Gate opens or closes a source at the media side: what comes of it while it is
// closed is dropped, whatever the page says.
type Gate struct {
	ID     signal.ID
	Source signal.Source
	Open   bool
}

// Spot says who is shown instead of the speaker, in the spotlights' order; none:
// the speaker is.
type Spot struct{ IDs []signal.ID }

// Out ends a participant's media, if any, and closes his session with the code.
// Nothing is sent to him after it.
type Out struct {
	ID   signal.ID
	Code signal.Code
}

// Over is the last effect of a meeting.
type Over struct {
	Code   signal.Code
	Report Report
}

func (Send) effect()  {}
func (Enter) effect() {}
func (Gate) effect()  {}
func (Spot) effect()  {}
func (Out) effect()   {}
func (Over) effect()  {}

// Place is where somebody stands.
type Place int

// The places.
const (
	Nowhere Place = iota // refused, gone, or never there
	Waiting
	Inside
)

// Entry is the answer to Join.
type Entry struct {
	ID    signal.ID   // 0 if refused
	Place Place       //
	Code  signal.Code // of Nowhere: why
}

// person is somebody inside or waiting.
type person struct {
	signal.Person
	subject string
	claims  ticket.Claims // he came in with
	place   Place
	why     signal.Code // of Waiting
	acting  bool        // host because the other one went
	base    ticket.Role // what he is when he is not acting
	since   time.Time   // in this place
	away    time.Time   // since when; zero: he is here
	asked   bool        // to unmute: he may, whatever the settings say
	stopped bool        // his camera, by a host: he may not start it
	talks   bucket      // messages of all kinds
	offers  bucket
}

// Meeting is one meeting. It is not safe for concurrent use: its router calls it
// under a lock, and carries the effects out in the order of the calls.
type Meeting struct {
	cfg     Config
	set     signal.Settings
	started time.Time
	over    bool
	last    signal.ID
	hands   uint32
	people  map[signal.ID]*person
	sharer  signal.ID
	speaker signal.ID
	removed map[string]bool // subjects
	history []signal.Line
	kept    int // bytes of history
	lines   bucket
	empty   time.Time // since when nobody is inside; zero: somebody is
	book    book
	missing map[string][]Member // of Kept, who are not back yet
	until   time.Time           // missing counts; zero: no more
	pending pending
	out     []Effect // of the call that runs
}

// New begins a meeting. Nobody is in it, so it ends by itself after EmptyAfter.
func New(cfg Config, now time.Time) *Meeting {
	if cfg.Heir == "" {
		cfg.Heir = HeirLongest
	}
	m := &Meeting{cfg: cfg, set: cfg.Settings, started: now, empty: now, people: map[signal.ID]*person{}, removed: map[string]bool{},
		lines: bucket{every: time.Second / 20, burst: 60}, book: book{people: map[string]*Attendance{}}}
	m.pending.reset()
	if k := cfg.Kept; k != nil {
		m.restore(k, now)
	}
	return m
}

// Place says where a participant is.
func (m *Meeting) Place(id signal.ID) Place {
	if p := m.people[id]; p != nil {
		return p.place
	}
	return Nowhere
}

// Count returns how many are inside, those who are away too, and how many wait.
func (m *Meeting) Count() (inside, waiting int) {
	for _, p := range m.people {
		if p.place == Inside {
			inside++
		} else {
			waiting++
		}
	}
	return inside, waiting
}

// Over reports whether the meeting has ended.
func (m *Meeting) Over() bool { return m.over }

// Settings are those of now.
func (m *Meeting) Settings() signal.Settings {
	s := m.set
	s.Spotlight = append([]signal.ID{}, s.Spotlight...)
	return s
}

// bucket lets something happen each every, and burst times at once.
type bucket struct {
	every time.Duration
	burst int
	full  time.Time // when all of it is there again
}

// take reports whether it may happen now.
func (b *bucket) take(now time.Time) bool {
	at := b.full
	if at.Before(now) {
		at = now
	}
	if at = at.Add(b.every); at.Sub(now) > time.Duration(b.burst)*b.every {
		return false
	}
	b.full = at
	return true
}

// call runs one call's work, then tells everybody what has gathered, if it is
// time, and returns the effects.
func (m *Meeting) call(now time.Time, work func()) []Effect {
	if m.over {
		return nil
	}
	work()
	if !m.over {
		m.flush(now, false)
	}
	out := m.out
	m.out = nil
	return out
}

func (m *Meeting) do(e Effect) { m.out = append(m.out, e) }

func (m *Meeting) send(id signal.ID, message signal.Message) {
	m.do(Send{[]signal.ID{id}, message})
}
