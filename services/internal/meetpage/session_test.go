package meetpage

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/internal/judge"
	"github.com/parley-meet/parley/services/internal/signal"
)

// step is what was done with the Go client, and how it was afterwards.
type step struct {
	Do      string   `json:"do"`
	At      int64    `json:"at"`
	Link    uint32   `json:"link,omitempty"`
	Text    string   `json:"text,omitempty"`
	Out     []string `json:"out,omitempty"`
	Message string   `json:"message,omitempty"`
	Closed  string   `json:"closed,omitempty"`
	Open    bool     `json:"open,omitempty"`
	Wants   bool     `json:"wants,omitempty"`
	Next    int64    `json:"next,omitempty"`
}

type run struct {
	Name    string   `json:"name"`
	Secrets []string `json:"secrets"` // in the order in which they are made
	Steps   []step   `json:"steps"`
}

// packet is a frame on its way.
type packet struct {
	at   time.Time
	link uint32
	text []byte
}

// lossy is a page and a router with links between them that lose, repeat, delay
// and break.
type lossy struct {
	t        *testing.T
	r        *rand.Rand
	loss     int // of 100
	router   *signal.Sessions
	c        *signal.Client
	now      time.Time
	link     uint32
	up, down []packet
	session  string
	record   run

	sent, heard []string // by the page
	told, got   []string // by the router
	breaks      int
}

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newLossy(t *testing.T, name string, seed uint64, loss int) *lossy {
	w := &lossy{t: t, r: rand.New(rand.NewPCG(seed, 7)), loss: loss, router: signal.NewSessions(4), now: start, record: run{Name: name}}
	w.c = signal.NewClient("header.claims.signature", w.now)
	s, _ := w.c.Save()
	w.record.Secrets = []string{s.Secret, s.Next}
	w.note(step{Do: "begin", Text: "header.claims.signature"})
	return w
}

// note adds a step and the client's state after it.
func (w *lossy) note(s step) {
	s.At = w.now.UnixMilli()
	s.Closed, s.Open, s.Wants = string(w.c.Closed()), w.c.Open(), w.c.Wants()
	if next := w.c.Next(); !next.IsZero() {
		s.Next = next.UnixMilli()
	}
	if saved, _ := w.c.Save(); saved.Next != w.record.Secrets[len(w.record.Secrets)-1] {
		w.record.Secrets = append(w.record.Secrets, saved.Next)
	}
	w.record.Steps = append(w.record.Steps, s)
}

// travel puts a frame on its way, or not, or twice. Few overtake others.
func (w *lossy) travel(to *[]packet, link uint32, text []byte) {
	for range 1 + w.r.IntN(100)/95 {
		if w.r.IntN(100) < w.loss {
			continue
		}
		at := w.now.Add(time.Duration(10+w.r.IntN(120)) * time.Millisecond)
		if n := len(*to); n > 0 && at.Before((*to)[n-1].at) && w.r.IntN(100) > w.loss {
			at = (*to)[n-1].at
		}
		*to = append(*to, packet{at, link, text})
	}
}

func (w *lossy) events(list []signal.Event) {
	for _, e := range list {
		switch e := e.(type) {
		case signal.Knock:
			var more []signal.Event
			w.session, more = w.router.Accept(e.Link, "m1", w.now)
			w.events(more)
		case signal.Write:
			n, err := strconv.ParseUint(string(e.Link), 10, 32)
			if err != nil {
				w.t.Fatal(err)
			}
			if len(e.Frame) > 0 {
				w.travel(&w.down, uint32(n), e.Frame)
			}
			if e.Last && uint32(n) == w.link {
				w.cut()
			}
		case signal.Heard:
			w.got = append(w.got, string(e.Body))
		}
	}
}

func name(link uint32) signal.Link { return signal.Link(fmt.Sprint(link)) }

func (w *lossy) poll() {
	var out []string
	for _, b := range w.c.Poll(w.now) {
		out = append(out, string(b))
		w.travel(&w.up, w.link, b)
	}
	w.note(step{Do: "poll", Out: out})
}

func (w *lossy) connect() {
	w.link = w.c.Up(w.now)
	w.note(step{Do: "up"})
	w.poll()
}

// cut breaks the link at both ends.
func (w *lossy) cut() {
	w.breaks++
	w.events(w.router.Cut(name(w.link), w.now))
	w.c.Down(w.link, w.now)
	w.note(step{Do: "down", Link: w.link})
}

func (w *lossy) receive(link uint32, text []byte) {
	m, _ := w.c.Receive(link, text, w.now)
	s := step{Do: "receive", Link: link, Text: string(text)}
	if m != nil {
		var f signal.Frame
		if err := json.Unmarshal(text, &f); err != nil {
			w.t.Fatal(err)
		}
		s.Message = string(f.Body)
		w.heard = append(w.heard, s.Message)
	}
	w.note(s)
	w.poll()
}

// arrive delivers what is due.
func (w *lossy) arrive() {
	due := func(list *[]packet) []packet {
		var out []packet
		*list = slices.DeleteFunc(*list, func(p packet) bool {
			if p.at.After(w.now) {
				return false
			}
			out = append(out, p)
			return true
		})
		return out
	}
	for _, p := range due(&w.up) {
		w.events(w.router.Receive(name(p.link), p.text, w.now))
	}
	for _, p := range due(&w.down) {
		w.receive(p.link, p.text)
	}
}

func (w *lossy) pageSends(text string) {
	m := &signal.Say{Text: text}
	if err := w.c.Send(m, w.now); err == nil {
		w.sent = append(w.sent, string(signal.Format(m)))
	}
	w.note(step{Do: "send", Text: string(signal.Format(m))})
	w.poll()
}

func (w *lossy) routerSends() {
	m := signal.Format(&signal.Speaker{ID: signal.ID(1 + len(w.told))})
	w.told = append(w.told, string(m))
	w.events(w.router.Send([]string{w.session}, m, w.now))
}

// pass lets a time go by in which links come and go as chance wants.
func (w *lossy) pass(d time.Duration, breaks bool) {
	for end := w.now.Add(d); w.now.Before(end) && w.c.Closed() == ""; {
		w.now = w.now.Add(time.Duration(10+w.r.IntN(80)) * time.Millisecond)
		w.arrive()
		w.events(w.router.Tick(w.now))
		if next := w.c.Next(); !next.IsZero() && !w.now.Before(next) {
			w.poll()
		}
		switch {
		case w.c.Wants():
			if !breaks || w.r.IntN(20) == 0 {
				w.connect()
			}
		case breaks && w.r.IntN(150) == 0:
			w.cut()
		}
		if breaks && w.r.IntN(4) == 0 {
			w.pageSends(fmt.Sprintf("line %d: <привет> & \"you\" 🙂", len(w.sent)))
		}
		if breaks && w.session != "" && w.r.IntN(4) == 0 {
			w.routerSends()
		}
	}
}

func (w *lossy) settle() {
	w.loss = 0
	w.pass(40*time.Second, false)
	if w.c.Closed() != "" || !slices.Equal(w.got, w.sent) || !slices.Equal(w.heard, w.told) {
		w.t.Fatalf("%s: closed %q, the router has %d of %d, the page %d of %d", w.record.Name, w.c.Closed(), len(w.got), len(w.sent), len(w.heard), len(w.told))
	}
}

// The page's session does, frame for frame, what package signal's client does
// on links that lose, repeat, delay and break; over reloads, and in the end.
func TestSession(t *testing.T) {
	judge.Need(t, "node")
	var runs []run
	breaks := 0
	for seed := range uint64(12) {
		w := newLossy(t, fmt.Sprint("lossy ", seed), seed, int(seed*2))
		w.connect()
		w.pass(time.Minute, true)
		w.settle()
		// The page is loaded anew: it has forgotten what was under way.
		s, ok := w.c.Save()
		if !ok {
			t.Fatal("nothing to save")
		}
		w.cut()
		w.c = signal.Restore(s, w.now)
		w.note(step{Do: "restore"})
		w.sent, w.got, w.told, w.heard = nil, nil, nil, nil
		w.up, w.down = nil, nil
		w.connect()
		w.settle()
		w.loss = 20
		w.pass(20*time.Second, true)
		w.settle()
		breaks += w.breaks
		switch seed % 6 {
		case 0: // away for too long
			w.cut()
			w.now = w.now.Add(signal.ResumeWithin)
			w.poll()
		case 1: // too much while away
			w.cut()
			for range signal.PageLimits.Count + 1 {
				w.pageSends("more")
			}
		case 2: // the host ends it
			w.events(w.router.Close(w.session, signal.Ended, w.now))
			w.pass(time.Second, false)
		case 3: // the router is silent, then another link answers nothing
			w.now = w.now.Add(signal.Silence)
			w.poll()
			w.connect()
			w.now = w.now.Add(signal.OpenRetry)
			w.poll()
			w.now = w.now.Add(signal.Silence)
			w.poll()
		case 4: // the router lost the link
			w.receive(w.link, signal.Frame{Drop: true}.Format())
			w.settle()
		case 5: // bytes, before there are too many lines
			w.cut()
			for range 140 {
				w.pageSends(strings.Repeat("ж", 3000)) // 6 KB
			}
			w.connect()
			w.settle()
			for range 260 {
				w.pageSends(strings.Repeat("ж", 3000))
			}
		}
		runs = append(runs, w.record)
	}
	if breaks < 20 {
		t.Errorf("%d links broke: that tests little", breaks)
	}
	for i, text := range []string{
		`{`, `[]`, `1`, `{"what":1}`, `{"n":1}`, `{"n":-1,"body":{"kind":"pass","ticket":"x"}}`, `{"n":1.5,"body":{}}`, `{"body":{"kind":"pass"}}`,
		`{"n":1,"body":null}`, `{"n":1,"body":{"kind":"unheard"}}`, `{"n":1,"body":"pass"}`, `{"ack":1}`, `{"ack":9007199254740992}`, `{"ack":"1"}`, `{"ping":1}`, `{"drop":true,"ping":true}`,
		`{"opened":{"meeting":"m","session":""}}`, `{"opened":{"meeting":"m","session":"s"},"drop":true}`, `{"closed":{"code":"meet-ended"}}`, `{"closed":1}`,
		`{"open":{"link":1,"ticket":"t","secret":"` + strings.Repeat("a", 43) + `"}}`, `{"ping":true}`, `{"drop":false}`, `{"n":3,"body":{"kind":"leave"}}`, `{"n":3,"body":{"kind":"pass","ticket":"x"}}`, "",
	} {
		w := newLossy(t, fmt.Sprint("frame ", i), 1, 0)
		w.connect()
		w.pass(2*time.Second, false)
		if !w.c.Open() {
			t.Fatal("not open")
		}
		w.receive(w.link, []byte(text))
		runs = append(runs, w.record)
	}
	replay(t, runs)
}

// replay has Node.js do the runs with the page's client.
func replay(t *testing.T, runs []run) {
	t.Helper()
	dir := t.TempDir()
	b, err := json.Marshal(runs)
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("assets/session.js")
	if err != nil {
		t.Fatal(err)
	}
	record, module := filepath.Join(dir, "record.json"), filepath.Join(dir, "session.mjs")
	for name, b := range map[string][]byte{record: b, module: source} {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := judge.Try(t, "node", "testdata/replay.mjs", record, module)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	steps := 0
	for _, r := range runs {
		steps += len(r.Steps)
	}
	if strings.TrimSpace(out) != fmt.Sprint(steps) {
		t.Errorf("%s of %d steps", out, steps)
	}
	t.Logf("%d steps", steps)
}
