package signal

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// wire is a page and a router with links between them that do anything to what is
// sent: the page in one, links of all its life.
type wire struct {
	t      interface{ Fatalf(string, ...any) }
	now    time.Time
	page   *Client
	router *Sessions
	id     string

	link  Link   // current one; "" is none
	dead  []Link // whose frames may still arrive, late
	up    map[Link][][]byte
	down  map[Link][][]byte
	num   map[Link]uint32
	links int

	pageSent, pageGot, routerSent, routerGot []string
	counter                                  int
	gone                                     Code
	lost, back                               int
}

const theTicket = "header.claims.signature"

func newWire(t interface{ Fatalf(string, ...any) }) *wire {
	return &wire{t: t, now: start, page: NewClient(theTicket, start), router: NewSessions(10), up: map[Link][][]byte{}, down: map[Link][][]byte{}, num: map[Link]uint32{}}
}

// connect opens a link; the page's old one is cut.
func (w *wire) connect() {
	w.links++
	w.dead = append(w.dead, w.link)
	w.link = Link(fmt.Sprint("link", w.links))
	w.num[w.link] = w.page.Up(w.now)
	w.poll()
}

// cut breaks the link. The router may hear of it or not.
func (w *wire) cut(tell bool) {
	if w.link == "" {
		return
	}
	w.page.Down(w.num[w.link], w.now)
	if tell {
		w.handle(w.router.Cut(w.link, w.now))
	}
	w.dead = append(w.dead, w.link)
	w.link = ""
}

func (w *wire) poll() {
	for _, b := range w.page.Poll(w.now) {
		w.up[w.link] = append(w.up[w.link], b)
	}
	if w.page.Wants() && w.link != "" {
		w.cut(false)
	}
	w.handle(w.router.Tick(w.now))
}

func (w *wire) handle(events []Event) {
	for _, e := range events {
		switch e := e.(type) {
		case Write:
			if e.Frame != nil {
				w.down[e.Link] = append(w.down[e.Link], e.Frame)
			}
		case Knock:
			switch {
			case w.id != "":
				w.handle(w.router.Refuse(e.Link, Used))
			default:
				id, events := w.router.Accept(e.Link, "m1", w.now)
				if id == "" {
					w.t.Fatalf("a good ticket opens nothing")
				}
				w.id = id
				w.handle(events)
			}
		case Heard:
			m, err := ParseUp(e.Body)
			if err != nil {
				w.t.Fatalf("the router heard %s: %v", e.Body, err)
			}
			w.routerGot = append(w.routerGot, m.(*Say).Text)
		case Lost:
			w.lost++
		case Back:
			w.back++
			if e.Fresh {
				w.routerSent, w.routerGot = nil, nil
			}
		case Gone:
			w.gone = e.Code
		}
	}
	w.check()
}

// check is what must hold always: each end has a beginning of what the other sent.
func (w *wire) check() {
	prefix := func(end string, got, sent []string) {
		if len(got) > len(sent) || !slices.Equal(got, sent[:len(got)]) {
			w.t.Fatalf("%s: got %v of %v", end, got, sent)
		}
	}
	prefix("router", w.routerGot, w.pageSent)
	prefix("page", w.pageGot, w.routerSent)
}

func (w *wire) text() string { w.counter++; return fmt.Sprint("text ", w.counter) }

func (w *wire) pageSends() {
	text := w.text()
	if err := w.page.Send(&Say{Text: text}, w.now); err != nil {
		if !errors.Is(err, ErrLost) || w.page.Closed() == "" {
			w.t.Fatalf("send: %v, closed %q", err, w.page.Closed())
		}
		return
	}
	w.pageSent = append(w.pageSent, text)
	w.poll()
}

func (w *wire) routerSends() {
	if w.id == "" || w.gone != "" {
		return
	}
	text := w.text()
	w.routerSent = append(w.routerSent, text)
	w.handle(w.router.Send([]string{w.id}, Format(&Chat{Lines: []Line{{From: 1, Name: "x", At: start, Text: text}}}), w.now))
}

// arrive lets a frame arrive at its end.
func (w *wire) arrive(link Link, up bool, frame []byte) {
	if up {
		w.handle(w.router.Receive(link, frame, w.now))
		return
	}
	m, err := w.page.Receive(w.num[link], frame, w.now)
	if err != nil {
		w.t.Fatalf("page: %s: %v", frame, err)
	}
	if c, ok := m.(*Chat); ok {
		w.pageGot = append(w.pageGot, c.Lines[0].Text)
	}
	w.poll()
	w.check()
}

// deliver lets all arrive, in order, until nothing moves.
func (w *wire) deliver() {
	for moved := true; moved; {
		moved = false
		for _, up := range []bool{true, false} {
			queues := w.down
			if up {
				queues = w.up
			}
			for link := range w.num {
				list := queues[link]
				queues[link] = nil
				if link != w.link {
					continue
				}
				for _, f := range list {
					moved = true
					w.arrive(link, up, f)
				}
			}
		}
	}
}

// settle heals everything and lets time pass.
func (w *wire) settle() {
	for range 400 {
		if w.page.Closed() != "" {
			return
		}
		if w.page.Wants() || w.link == "" {
			w.connect()
		}
		w.deliver()
		w.now = w.now.Add(50 * time.Millisecond)
		w.poll()
	}
}

// Whatever links do, each message arrives once and in order, or the session is
// known to be lost.
func TestSessionMachine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWire(t)
		w.connect()
		pick := func() (Link, bool, int, bool) {
			type at struct {
				link Link
				up   bool
			}
			var all []at
			for _, up := range []bool{true, false} {
				queues := w.down
				if up {
					queues = w.up
				}
				for i := range w.links {
					if link := Link(fmt.Sprint("link", i+1)); len(queues[link]) > 0 {
						all = append(all, at{link, up})
					}
				}
			}
			if len(all) == 0 {
				return "", false, 0, false
			}
			a := all[rapid.IntRange(0, len(all)-1).Draw(t, "queue")]
			n := len(w.down[a.link])
			if a.up {
				n = len(w.up[a.link])
			}
			// Mostly the first one: links that reorder all the time deliver nothing.
			i := max(0, rapid.IntRange(-3*n, n-1).Draw(t, "frame"))
			return a.link, a.up, i, true
		}
		take := func(keep bool) (Link, bool, []byte, bool) {
			link, up, i, ok := pick()
			if !ok {
				return "", false, nil, false
			}
			queues := w.down
			if up {
				queues = w.up
			}
			f := queues[link][i]
			if !keep {
				queues[link] = slices.Delete(queues[link], i, i+1)
			}
			return link, up, f, true
		}
		arrive := func(t *rapid.T) {
			if link, up, f, ok := take(false); ok {
				w.arrive(link, up, f)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"page sends":   func(*rapid.T) { w.pageSends() },
			"router sends": func(*rapid.T) { w.routerSends() },
			"arrives":      arrive,
			"arrives too":  arrive,
			"all arrive":   func(*rapid.T) { w.deliver() },
			"arrives twice": func(*rapid.T) {
				if link, up, f, ok := take(true); ok {
					w.arrive(link, up, f)
				}
			},
			"is lost": func(*rapid.T) { take(false) },
			"cut":     func(t *rapid.T) { w.cut(rapid.Bool().Draw(t, "tell")) },
			"connect": func(*rapid.T) { w.connect() },
			"reload": func(*rapid.T) {
				saved, ok := w.page.Save()
				if !ok || w.page.Closed() != "" {
					return
				}
				w.cut(false)
				w.page = Restore(saved, w.now)
				w.pageSent, w.pageGot = nil, nil
				// What the router sent before is of no more use, and neither is what it
				// heard: it counts anew when it knows.
				w.routerSent, w.routerGot = nil, nil
				w.connect()
				// Nobody but this page has the session now: the old one is gone.
				for link := range w.num {
					if link != w.link {
						w.up[link] = slices.DeleteFunc(w.up[link], func(f []byte) bool { return isBody(f) })
					}
				}
				w.deliver()
			},
			"time": func(t *rapid.T) {
				w.now = w.now.Add(time.Duration(rapid.SampledFrom([]int{10, 60, 150, 1100, 6000, 16000}).Draw(t, "ms")) * time.Millisecond)
				w.poll()
			},
			"": func(*rapid.T) { w.check() },
		})
		w.settle()
		if code := w.page.Closed(); code != "" {
			if code != Idle && code != Overflow {
				t.Fatalf("closed: %s", code)
			}
			return
		}
		if n, _ := w.page.s.Waiting(); n > 0 {
			t.Fatalf("the page still has %d bodies", n)
		}
		if n, _ := w.router.byID[w.id].s.Waiting(); n > 0 {
			t.Fatalf("the router still has %d bodies", n)
		}
		if !slices.Equal(w.routerGot, w.pageSent) || !slices.Equal(w.pageGot, w.routerSent) {
			t.Fatalf("router got %d of %d, page got %d of %d\n%v\n%v", len(w.routerGot), len(w.pageSent), len(w.pageGot), len(w.routerSent), w.page.s, w.router.byID[w.id])
		}
	})
}

func isBody(b []byte) bool {
	var f Frame
	return json.Unmarshal(b, &f) == nil && f.N > 0
}
