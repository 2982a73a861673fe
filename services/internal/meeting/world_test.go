package meeting

import (
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/parley-meet/parley/services/internal/signal"
	"github.com/parley-meet/parley/services/internal/ticket"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

type failer interface {
	Helper()
	Errorf(string, ...any)
	Fatalf(string, ...any)
}

// world carries effects out on pages and a media side, and checks at each of them
// what must always hold.
type world struct {
	t     failer
	m     *Meeting
	now   time.Time
	cfg   Config
	room  int // of the router
	pages map[signal.ID]*page
	gates map[signal.ID]map[signal.Source]bool // of those who have media
	spots []signal.ID
	code  signal.Code // of the last Handle
	over  *Over

	messages, bytes int
	serial          int
}

// page is what a participant's page knows.
type page struct {
	id       signal.ID
	subject  string
	place    Place
	out      signal.Code
	link     bool
	role     ticket.Role
	version  uint64
	roster   map[signal.ID]signal.Person
	lobby    map[signal.ID]signal.Guest
	settings signal.Settings
	speaker  signal.ID
	got      []signal.Message // since it was last looked at
}

func plainMeeting() ticket.Meeting {
	return ticket.Meeting{ID: "m1", Number: "123456789", Topic: "Plans", JoinBeforeHost: true}
}

func newWorld(t failer, m ticket.Meeting) *world {
	w := &world{t: t, now: start, room: 1000}
	w.cfg = Config{Zone: "zone", Meeting: m, Settings: Defaults(m), Free: func() int { return w.room - len(w.gates) }, Tickets: ticket.NewReplay(10000)}
	w.begin()
	return w
}

// begin begins the meeting, anew if there was one.
func (w *world) begin() {
	w.pages, w.gates, w.spots, w.over = map[signal.ID]*page{}, map[signal.ID]map[signal.Source]bool{}, nil, nil
	w.m = New(w.cfg, w.now)
}

// claims are a ticket's, a new one each time.
func (w *world) claims(subject string, role ticket.Role) ticket.Claims {
	w.serial++
	return ticket.Claims{Issuer: "https://portal.example", Zone: "zone", Subject: subject, ID: fmt.Sprint("ticket-", w.serial), Account: "a", Name: subject, Role: role,
		Meeting: w.cfg.Meeting, Issued: w.now, Expires: w.now.Add(ticket.TTL)}
}

func (w *world) join(c ticket.Claims) Entry {
	w.t.Helper()
	e, effects := w.m.Join(c, w.now)
	if (e.Place == Nowhere) != (e.ID == 0) || (e.Place == Nowhere) != (e.Code != "") {
		w.t.Fatalf("join: %+v", e)
	}
	if e.ID != 0 {
		if w.pages[e.ID] != nil {
			w.t.Fatalf("id %d is used twice", e.ID)
		}
		// It has a session before the effects are carried out.
		w.pages[e.ID] = &page{id: e.ID, subject: c.Subject, place: Waiting, link: true, roster: map[signal.ID]signal.Person{}, lobby: map[signal.ID]signal.Guest{}}
	}
	w.do(effects)
	return e
}

// in joins, and must come in.
func (w *world) in(subject string, role ticket.Role) signal.ID {
	w.t.Helper()
	e := w.join(w.claims(subject, role))
	if e.Place != Inside {
		w.t.Fatalf("%s does not come in: %+v", subject, e)
	}
	return e.ID
}

func (w *world) handle(id signal.ID, m signal.Message) signal.Code {
	w.t.Helper()
	effects, code := w.m.Handle(id, m, w.now)
	w.code = code
	w.do(effects)
	return code
}

func (w *world) command(id signal.ID, do signal.Do, at signal.ID) signal.Code {
	w.t.Helper()
	return w.handle(id, &signal.Command{Do: do, ID: at})
}

// must is handle for what is allowed.
func (w *world) must(id signal.ID, m signal.Message) {
	w.t.Helper()
	if code := w.handle(id, m); code != "" {
		w.t.Fatalf("%+v of %d: %s", m, id, code)
	}
}

// pass lets time pass in steps of what Next says.
func (w *world) pass(d time.Duration) {
	w.t.Helper()
	end := w.now.Add(d)
	for {
		next := w.m.Next()
		if next.IsZero() || next.After(end) {
			break
		}
		if next.After(w.now) {
			w.now = next
		}
		w.do(w.m.Tick(w.now))
		if again := w.m.Next(); !again.IsZero() && !again.After(w.now) {
			w.t.Fatalf("Next is %v at %v after Tick", again, w.now)
		}
	}
	w.now = end
}

func (w *world) do(effects []Effect) {
	w.t.Helper()
	for _, e := range effects {
		if w.over != nil {
			w.t.Fatalf("%+v after the end", e)
		}
		switch e := e.(type) {
		case Send:
			if len(e.To) == 0 {
				w.t.Fatalf("%+v to nobody", e.Message)
			}
			size := len(signal.Format(e.Message))
			if size > signal.MaxFrame {
				w.t.Fatalf("a message of %d bytes", size)
			}
			for _, id := range e.To {
				w.messages++
				w.bytes += size
				w.receive(id, e.Message)
			}
		case Enter:
			if w.gates[e.ID] != nil || w.pages[e.ID].out != "" {
				w.t.Fatalf("%d enters twice", e.ID)
			}
			w.gates[e.ID] = map[signal.Source]bool{}
			w.pages[e.ID].place = Inside
		case Gate:
			if w.gates[e.ID] == nil {
				w.t.Fatalf("a gate of %d, who has no media", e.ID)
			}
			w.gates[e.ID][e.Source] = e.Open
		case Spot:
			w.spots = e.IDs
		case Out:
			if w.pages[e.ID].out != "" || e.Code == "" {
				w.t.Fatalf("%d is out twice, or without a code: %+v", e.ID, e)
			}
			w.pages[e.ID].out, w.pages[e.ID].place = e.Code, Nowhere
			delete(w.gates, e.ID)
		case Over:
			w.over = &e
		default:
			w.t.Fatalf("effect %T", e)
		}
	}
}

func (w *world) receive(id signal.ID, message signal.Message) {
	w.t.Helper()
	p := w.pages[id]
	if p == nil || p.out != "" {
		w.t.Fatalf("%+v to %d, who is not there", message, id)
	}
	if p.place == Waiting {
		switch message.(type) {
		case *signal.Waiting, *signal.Error:
		default:
			w.t.Fatalf("%d waits and hears %T %+v", id, message, message)
		}
	}
	p.got = append(p.got, message)
	switch x := message.(type) {
	case *signal.Joined:
		if x.You != id {
			w.t.Fatalf("%d is told to be %d", id, x.You)
		}
		p.role = x.Role
		// All that was known is void.
		p.roster, p.lobby, p.version = map[signal.ID]signal.Person{}, map[signal.ID]signal.Guest{}, 0
	case *signal.Roster:
		if x.Full {
			p.roster = map[signal.ID]signal.Person{}
		} else if x.Version != p.version+1 {
			w.t.Fatalf("%d has roster %d and gets the change to %d", id, p.version, x.Version)
		}
		p.version = x.Version
		for _, q := range x.People {
			p.roster[q.ID] = q
		}
		for _, q := range x.Gone {
			delete(p.roster, q)
		}
		if p.role = p.roster[id].Role; !leads(p.role) {
			p.lobby = map[signal.ID]signal.Guest{}
		}
	case *signal.Lobby:
		if role := w.m.people[id].Role; !leads(role) {
			w.t.Fatalf("%d is %s and hears who waits", id, role)
		}
		if x.Full {
			p.lobby = map[signal.ID]signal.Guest{}
		}
		for _, g := range x.People {
			p.lobby[g.ID] = g
		}
		for _, g := range x.Gone {
			delete(p.lobby, g)
		}
	case *signal.Settings:
		p.settings = *x
	case *signal.Speaker:
		p.speaker = x.ID
	case *signal.Error:
		if x.Code == "" {
			w.t.Fatalf("an error without a code")
		}
	}
}

// last returns the newest message of a type that a page got, or nil.
func last[T signal.Message](w *world, id signal.ID) T {
	var none T
	for _, m := range slices.Backward(w.pages[id].got) {
		if x, ok := m.(T); ok {
			return x
		}
	}
	return none
}

func (w *world) forget() {
	for _, p := range w.pages {
		p.got = nil
	}
	w.messages, w.bytes = 0, 0
}

// check is what holds when all has been told.
func (w *world) check() {
	w.t.Helper()
	m := w.m
	if m.Over() {
		return
	}
	hosts, inside, sharing := 0, map[signal.ID]signal.Person{}, 0
	waiting := map[signal.ID]signal.Guest{}
	for id, p := range m.people {
		if w.pages[id].place != p.place {
			w.t.Fatalf("%d is %d, his page thinks %d", id, p.place, w.pages[id].place)
		}
		if m.removed[p.subject] {
			w.t.Fatalf("%s was removed and is there", p.subject)
		}
		if p.place == Waiting {
			waiting[id] = guest(p)
			continue
		}
		inside[id] = p.Person
		if p.Role == ticket.Host {
			hosts++
		}
		if p.Screen {
			sharing++
		}
		g := w.gates[id]
		if g[signal.Microphone] != p.Microphone || g[signal.Camera] != p.Camera || g[signal.Screen] != p.Screen || g[signal.ScreenAudio] != p.Screen {
			w.t.Fatalf("gates of %d are %v, his state %+v", id, g, p.Person)
		}
		if p.acting && p.Role != ticket.Host {
			w.t.Fatalf("%d is acting and %s", id, p.Role)
		}
	}
	if hosts > 1 || sharing > 1 {
		w.t.Fatalf("%d hosts, %d share", hosts, sharing)
	}
	if _, ok := inside[m.speaker]; m.speaker != 0 && !ok {
		w.t.Fatalf("%d speaks, who is not inside", m.speaker)
	}
	if len(w.gates) != len(inside) {
		w.t.Fatalf("%d have media, %d are inside", len(w.gates), len(inside))
	}
	for id := range inside {
		if slices.Contains(m.set.Spotlight, id) != slices.Contains(w.spots, id) {
			w.t.Fatalf("spotlights %v, media has %v", m.set.Spotlight, w.spots)
		}
	}
	for _, id := range m.set.Spotlight {
		if _, ok := inside[id]; !ok {
			w.t.Fatalf("spotlight on %d, who is not inside", id)
		}
	}
	if m.pending.dirty() {
		return
	}
	for id, p := range w.pages {
		q := m.people[id]
		if q == nil || q.place != Inside || !p.link {
			continue
		}
		if !reflect.DeepEqual(p.roster, inside) {
			w.t.Fatalf("%d sees\n%+v, there are\n%+v", id, p.roster, inside)
		}
		if leads(q.Role) && !reflect.DeepEqual(p.lobby, waiting) {
			w.t.Fatalf("%d sees waiting\n%+v, there are\n%+v", id, p.lobby, waiting)
		}
		if !reflect.DeepEqual(p.settings, m.Settings()) || p.speaker != m.speaker {
			w.t.Fatalf("%d has %+v and speaker %d, want %+v and %d", id, p.settings, p.speaker, m.Settings(), m.speaker)
		}
	}
}

func yes() *bool { b := true; return &b }
func no() *bool  { return new(bool) }
