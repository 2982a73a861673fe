package signal

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"slices"
	"strings"
	"time"
)

// What a page may send; more ends its session. The bursts are for what gathers
// while a link is down.
const (
	FrameRate  = 100 // a second
	FrameBurst = 600
	ByteRate   = 512 << 10 // a second
	ByteBurst  = 4 << 20

	maxTombs = 4096
)

// Link names a link at the router: unique for as long as the router runs, as by
// the controller's id and a number.
type Link string

// Event is one of Write, Knock, Heard, Lost, Back and Gone.
type Event interface{ event() }

// Write sends a frame to a link. Last says that nothing follows: the controller
// closes the WebSocket after it. Without a frame it only closes.
type Write struct {
	Link  Link
	Frame []byte
	Last  bool
}

// Knock asks whether a ticket opens a session: Accept or Refuse must follow. Until
// then the same ticket, and the same link, are not asked about again.
type Knock struct {
	Link   Link
	Ticket string
}

// Heard is a message of a page, for ParseUp.
type Heard struct {
	Session string
	Body    []byte
}

// Lost says that a session has no link any more.
type Lost struct{ Session string }

// Back says that it has one again; a Fresh page has forgotten everything.
type Back struct {
	Session string
	Fresh   bool
}

// Gone says that a session is over.
type Gone struct {
	Session string
	Code    Code
}

func (Write) event() {}
func (Knock) event() {}
func (Heard) event() {}
func (Lost) event()  {}
func (Back) event()  {}
func (Gone) event()  {}

// Sessions are all sessions of a router. They are pure, and not safe for
// concurrent use: the router calls them under a lock and carries the events out in
// their order.
type Sessions struct {
	most     int
	byID     map[string]*served
	byLink   map[Link]*served
	byTicket map[[32]byte]*served // that began it
	knocks   map[Link]knock
	tombs    map[string]tomb
	out      []Event
}

type served struct {
	id, meeting string
	s           *Session
	link        Link     // "": none
	number      uint32   // of the newest link
	secret      [32]byte // digests
	before      [32]byte // the secret that secret came in the place of
	ticket      [32]byte
	frames      float64 // used of the bursts
	bytes       float64
	counted     time.Time
}

type knock struct {
	ticket, secret [32]byte
	number         uint32
	at             time.Time
}

type tomb struct {
	code  Code
	until time.Time
}

// NewSessions returns one for so many sessions; that of people who wait count too.
func NewSessions(most int) *Sessions {
	return &Sessions{most: most, byID: map[string]*served{}, byLink: map[Link]*served{}, byTicket: map[[32]byte]*served{}, knocks: map[Link]knock{}, tombs: map[string]tomb{}}
}

// Count returns how many sessions there are.
func (r *Sessions) Count() int { return len(r.byID) }

func (r *Sessions) do(e Event) { r.out = append(r.out, e) }

func (r *Sessions) events() []Event {
	out := r.out
	r.out = nil
	return out
}

// Receive takes what came from a link.
func (r *Sessions) Receive(link Link, b []byte, now time.Time) []Event {
	v := r.byLink[link]
	if v != nil && !v.allows(len(b), now) {
		r.end(v, Flooded, now)
		return r.events()
	}
	f, err := ParseFrame(b)
	switch {
	case err != nil || f.Opened != nil || f.Closed != nil || f.Drop:
		if v != nil {
			r.end(v, Garbled, now)
		} else {
			r.close(link, Garbled)
		}
	case f.Open != nil:
		r.open(link, f, now)
	case v == nil:
		if _, knocks := r.knocks[link]; !knocks {
			r.do(Write{link, Frame{Drop: true}.Format(), true})
		}
	default:
		body, err := v.s.Receive(f, now)
		if err == nil && body != nil {
			r.do(Heard{v.id, body})
		}
		r.poll(v, now)
	}
	return r.events()
}

// open begins or resumes.
func (r *Sessions) open(link Link, f Frame, now time.Time) {
	o := f.Open
	secret := sha256.Sum256([]byte(o.Secret))
	if o.Ticket != "" {
		t := sha256.Sum256([]byte(o.Ticket))
		if v := r.byTicket[t]; v != nil && same(v.secret, secret) {
			if !v.late(link, o) {
				r.attach(v, link, f, now) // the answer was lost
			}
			return
		}
		for l, k := range r.knocks {
			if l == link || k.ticket == t {
				return
			}
		}
		if len(r.knocks) >= r.most {
			r.close(link, Crowded)
			return
		}
		r.knocks[link] = knock{t, secret, o.Link, now}
		r.do(Knock{link, o.Ticket})
		return
	}
	v := r.byID[o.Session]
	if v == nil || v.meeting != o.Meeting {
		code := Unknown
		if t, ok := r.tombs[o.Session]; ok && now.Before(t.until) {
			code = t.code
		}
		r.close(link, code)
		return
	}
	next := sha256.Sum256([]byte(o.Next))
	// Both are compared whatever the first says.
	current, again := same(v.secret, secret), same(v.before, secret) && same(v.secret, next)
	switch {
	case !current && !again:
		r.close(link, Unknown)
		return
	case v.late(link, o):
		return
	case current:
		v.before, v.secret = v.secret, next
	}
	r.attach(v, link, f, now)
}

// late reports whether an open came on a link that is no more.
func (v *served) late(link Link, o *Open) bool {
	return o.Link < v.number || o.Link == v.number && link != v.link
}

func same(a, b [32]byte) bool { return subtle.ConstantTimeCompare(a[:], b[:]) == 1 }

// attach gives a session the link that has proved to be its page's.
func (r *Sessions) attach(v *served, link Link, f Frame, now time.Time) {
	if other := r.byLink[link]; other != nil && other != v {
		r.end(other, Garbled, now) // two sessions on one link
	}
	if v.link != link {
		if v.link != "" {
			delete(r.byLink, v.link)
			r.do(Write{v.link, Frame{Closed: &Closed{Replaced}}.Format(), true})
		}
		v.link, v.number = link, f.Open.Link
		r.byLink[link] = v
		if f.Open.Fresh {
			v.s.Restart()
		}
		r.do(Back{v.id, f.Open.Fresh})
	}
	if err := v.s.Attach(f.Ack, now); err != nil {
		r.poll(v, now)
		return
	}
	r.do(Write{link, Frame{Ack: v.s.Got(), Opened: &Opened{v.meeting, v.id}}.Format(), false})
	r.poll(v, now)
}

// Accept answers a Knock with a session, whose id it returns; it is "" when there
// are too many, and the link is closed then.
func (r *Sessions) Accept(link Link, meeting string, now time.Time) (string, []Event) {
	k, ok := r.knocks[link]
	if !ok {
		return "", nil
	}
	delete(r.knocks, link)
	if len(r.byID) >= r.most {
		r.close(link, Crowded)
		return "", r.events()
	}
	v := &served{id: rand.Text(), meeting: meeting, s: NewSession(RouterLimits, now), number: k.number, secret: k.secret, ticket: k.ticket, link: link, counted: now}
	r.byID[v.id], r.byLink[link], r.byTicket[k.ticket] = v, v, v
	_ = v.s.Attach(0, now) // nothing was sent yet
	r.do(Write{link, Frame{Opened: &Opened{meeting, v.id}}.Format(), false})
	return v.id, r.events()
}

// Refuse answers a Knock with no.
func (r *Sessions) Refuse(link Link, code Code) []Event {
	if _, ok := r.knocks[link]; ok {
		delete(r.knocks, link)
		r.close(link, code)
	}
	return r.events()
}

// Send sends a message that Format wrote to some sessions.
func (r *Sessions) Send(ids []string, message []byte, now time.Time) []Event {
	for _, id := range ids {
		if v := r.byID[id]; v != nil {
			_ = v.s.Send(message, now) // poll sees that it is lost
			r.poll(v, now)
		}
	}
	return r.events()
}

// Close ends a session; what fits under way goes out before.
func (r *Sessions) Close(id string, code Code, now time.Time) []Event {
	if v := r.byID[id]; v != nil {
		r.end(v, code, now)
	}
	return r.events()
}

// Cut says that a link is no more.
func (r *Sessions) Cut(link Link, now time.Time) []Event {
	delete(r.knocks, link)
	if v := r.byLink[link]; v != nil {
		v.s.Detach(now)
		r.poll(v, now)
	}
	return r.events()
}

// Tick does what is due; each 50 ms is often enough.
func (r *Sessions) Tick(now time.Time) []Event {
	for _, v := range r.sorted() {
		if at := v.s.Next(); !at.IsZero() && !now.Before(at) {
			r.poll(v, now)
		}
	}
	for id, t := range r.tombs {
		if !now.Before(t.until) {
			delete(r.tombs, id)
		}
	}
	for l, k := range r.knocks {
		if !now.Before(k.at.Add(Silence)) {
			delete(r.knocks, l)
		}
	}
	return r.events()
}

// sorted makes the order of events that of nothing but what happened.
func (r *Sessions) sorted() []*served {
	out := make([]*served, 0, len(r.byID))
	for _, v := range r.byID {
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b *served) int { return strings.Compare(a.id, b.id) })
	return out
}

// poll writes what a session has for its link, and sees what became of it.
func (r *Sessions) poll(v *served, now time.Time) {
	for _, f := range v.s.Poll(now) {
		r.do(Write{v.link, f.Format(), false})
	}
	if code := v.s.Lost(); code != "" {
		r.end(v, code, now)
		return
	}
	if !v.s.Linked() && v.link != "" {
		delete(r.byLink, v.link)
		r.do(Write{Link: v.link, Last: true})
		r.do(Lost{v.id})
		v.link = ""
	}
}

// end ends a session. Its page, if it comes back, is told why.
func (r *Sessions) end(v *served, code Code, now time.Time) {
	if v.link != "" {
		if v.s.Linked() {
			for _, f := range v.s.Poll(now) {
				r.do(Write{v.link, f.Format(), false})
			}
		}
		r.close(v.link, code)
		delete(r.byLink, v.link)
	}
	delete(r.byID, v.id)
	delete(r.byTicket, v.ticket)
	if len(r.tombs) < maxTombs {
		r.tombs[v.id] = tomb{code, now.Add(ResumeWithin)}
	}
	r.do(Gone{v.id, code})
}

func (r *Sessions) close(link Link, code Code) {
	r.do(Write{link, Frame{Closed: &Closed{code}}.Format(), true})
}

// allows counts a frame against what a page may send.
func (v *served) allows(bytes int, now time.Time) bool {
	if d := now.Sub(v.counted).Seconds(); d > 0 {
		v.frames = max(0, v.frames-d*FrameRate)
		v.bytes = max(0, v.bytes-d*ByteRate)
		v.counted = now
	}
	v.frames++
	v.bytes += float64(bytes)
	return v.frames <= FrameBurst && v.bytes <= ByteBurst
}
