package hall

import (
	"crypto/ed25519"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-meet/parley/services/internal/meeting"
	"github.com/parley-meet/parley/services/internal/sfu/room"
	"github.com/parley-meet/parley/services/internal/signal"
	"github.com/parley-meet/parley/services/internal/ticket"
)

const (
	zone   = "z1"
	issuer = "https://portal.test"
)

// world is a hall and those at the other ends of its links.
type world struct {
	*Hall
	t   *testing.T
	key ticket.Key

	mu     sync.Mutex
	pages  map[signal.Link]*signal.Client
	passes map[signal.Link]string
	keeps  []*meeting.Kept
	epochs []uint64
	overs  []signal.Code
}

func newWorld(t *testing.T, change func(*Config)) *world {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, key: ticket.Key{ID: "k", Private: private}, pages: map[signal.Link]*signal.Client{}, passes: map[signal.Link]string{}}
	pass, err := meeting.NewPassKey()
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	cfg := Config{
		Zone: zone, PassKey: pass, Log: log, Room: room.Config{Log: log},
		Trust: func() (string, ticket.Set) { return issuer, ticket.Set{"k": public} },
		Write: func(id signal.Link, frame []byte, _ bool) {
			if len(frame) == 0 {
				return // the link's end
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			if m, err := w.pages[id].Receive(1, frame, time.Now()); err != nil {
				t.Error(err)
			} else if p, ok := m.(*signal.Pass); ok {
				w.passes[id] = p.Ticket
			}
		},
		Keep: func(_ string, epoch uint64, k *meeting.Kept) {
			w.keeps, w.epochs = append(w.keeps, k), append(w.epochs, epoch)
		},
		Over: func(_ Run, why signal.Code, _ meeting.Report) { w.overs = append(w.overs, why) },
	}
	if change != nil {
		change(&cfg)
	}
	w.Hall = New(cfg)
	return w
}

func (w *world) ticket(id, who string) string {
	w.t.Helper()
	now := time.Now()
	text, err := ticket.Sign(w.key, ticket.Claims{Issuer: issuer, Zone: zone, Subject: who, ID: ticket.NewID(), Account: "a", Name: who, Role: ticket.Participant,
		Meeting: ticket.Meeting{ID: id, Number: "100000001", JoinBeforeHost: true}, Issued: now, Expires: now.Add(ticket.TTL)})
	if err != nil {
		w.t.Fatal(err)
	}
	return text
}

// come opens a session on a link, and returns why it was closed, "" if it is open.
func (w *world) come(id signal.Link, text string) signal.Code {
	w.mu.Lock()
	c := signal.NewClient(text, time.Now())
	c.Up(time.Now())
	w.pages[id] = c
	w.mu.Unlock()
	w.pump(id)
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return c.Closed()
}

// pump sends what a page owes.
func (w *world) pump(id signal.Link) {
	w.mu.Lock()
	out := w.pages[id].Poll(time.Now())
	w.mu.Unlock()
	for _, b := range out {
		w.Receive(id, b)
	}
}

// wait lets time go by, with pages that answer.
func (w *world) wait(d time.Duration, ids ...signal.Link) {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Second) {
		for _, id := range ids {
			w.pump(id)
		}
	}
	synctest.Wait()
}

// Whoever is inside always has a ticket or a pass that is good, also when the pass
// was what he came with. A pass is good while its meeting runs; after the end, and
// for another meeting, it is not.
func TestPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		defer w.Close(signal.Stopping)
		if code := w.come("a", w.ticket("m1", "anna")); code != "" {
			t.Fatal(code)
		}
		w.wait(ticket.TTL-passBefore-2*time.Second, "a")
		if w.passes["a"] != "" {
			t.Error("a pass came while the ticket was good for long")
		}
		w.wait(4*time.Second, "a")
		pass := w.passes["a"]
		if pass == "" {
			t.Fatal("no pass")
		}
		w.Cut("a")
		if code := w.come("b", pass); code != "" {
			t.Fatalf("the own pass: %s", code)
		}
		w.wait(ticket.TTL-passBefore+4*time.Second, "b")
		next := w.passes["b"]
		if next == "" || next == pass {
			t.Fatal("no other pass")
		}
		if code := w.come("c", pass); code != signal.Used {
			t.Errorf("the one before: %s", code)
		}
		w.Yield("m1", 1<<60)
		if code := w.come("d", next); code != signal.BadTicket {
			t.Errorf("a pass of a meeting that is over: %s", code)
		}
	})
}

// A router that is lost has given its key for its own meetings: what it signs for
// another one, or for another zone, lets nobody in.
func TestForeignPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		defer w.Close(signal.Stopping)
		key, err := meeting.NewPassKey()
		if err != nil {
			t.Fatal(err)
		}
		k := &meeting.Kept{Run: "r", Settings: meeting.Defaults(ticket.Meeting{}), Passes: []meeting.PassKey{
			{ID: key.ID, Public: key.Private.Public().(ed25519.PublicKey), Until: time.Now().Add(time.Hour)}}}
		w.Expect("m1", 1, k)
		w.Expect("m2", 1, &meeting.Kept{Run: "r2", Settings: meeting.Defaults(ticket.Meeting{})})
		if code := w.come("x", w.ticket("m3", "xenia")); code != "" {
			t.Fatal(code)
		}
		link := byte('a')
		try := func(name, id string, want signal.Code, change func(*ticket.Claims)) {
			t.Helper()
			now := time.Now()
			c := ticket.Claims{Issuer: meeting.PassIssuer(zone), Zone: zone, Subject: "anna", ID: ticket.NewID(), Account: "a", Name: "Anna", Role: ticket.Host,
				Meeting: ticket.Meeting{ID: id, Number: "100000001", JoinBeforeHost: true}, Issued: now, Expires: now.Add(ticket.TTL)}
			if change != nil {
				change(&c)
			}
			text, err := ticket.Sign(key, c)
			if err != nil {
				t.Fatal(err)
			}
			link++
			if code := w.come(signal.Link(link), text); code != want {
				t.Errorf("%s: %q, want %q", name, code, want)
			}
		}
		try("a meeting that was another router's", "m2", signal.BadTicket, nil)
		try("a meeting that runs here", "m3", signal.BadTicket, nil)
		try("a meeting that nobody knows", "m4", signal.BadTicket, nil)
		try("another zone", "m1", signal.BadTicket, func(c *ticket.Claims) { c.Zone = "z2" })
		try("in the name of another zone", "m1", signal.BadTicket, func(c *ticket.Claims) { c.Issuer = meeting.PassIssuer("z2") })
		try("in the name of the portal", "m1", signal.BadTicket, func(c *ticket.Claims) { c.Issuer = issuer })
		try("its own", "m1", "", nil)
		try("its own, which runs now", "m1", "", nil)
		time.Sleep(time.Hour)
		try("too late", "m1", signal.BadTicket, nil)
	})
}

// Where controllers place meetings, nobody begins one by knocking at the router.
func TestPlaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *Config) { c.Placed = true })
		defer w.Close(signal.Stopping)
		if code := w.come("a", w.ticket("m1", "anna")); code != signal.Moved {
			t.Errorf("not placed: %q", code)
		}
		w.Expect("m1", 5, nil)
		if code := w.come("b", w.ticket("m1", "anna")); code != "" {
			t.Errorf("placed: %q", code)
		}
		if code := w.come("c", w.ticket("m1", "boris")); code != "" {
			t.Errorf("it runs: %q", code)
		}
	})
}

// What is kept is told when it changes, else each KeepEvery, and no more when the
// meeting has ended by itself; it has the keys of passes. What a controller knows
// of a meeting counts for a minute, and the higher epoch.
func TestKeep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		defer w.Close(signal.Stopping)
		k := &meeting.Kept{Run: "r7", Started: time.Now().Add(-time.Hour), Settings: meeting.Defaults(ticket.Meeting{}), Removed: []string{"eve"}, People: []meeting.Member{{Subject: "anna", Role: ticket.Cohost, Base: ticket.Cohost}}}
		w.Expect("m1", 7, k)
		w.Expect("m1", 9, nil) // another controller, which knows less
		if code := w.come("e", w.ticket("m1", "eve")); code != signal.Removed {
			t.Errorf("who was removed: %s", code)
		}
		if code := w.come("a", w.ticket("m1", "anna")); code != "" {
			t.Fatal(code)
		}
		w.wait(time.Second, "a")
		n := len(w.keeps)
		if n == 0 || n > 3 || w.keeps[n-1].Run != "r7" || w.epochs[n-1] != 9 || len(w.keeps[n-1].Removed) != 1 || len(w.keeps[n-1].People) != 1 || w.keeps[n-1].People[0].Role != ticket.Cohost {
			t.Fatalf("%d: %+v", n, w.keeps)
		}
		if len(w.keeps[n-1].PassKeys(time.Now().Add(ticket.TTL))) != 1 {
			t.Error("the key of passes is not kept as long as they live")
		}
		w.wait(3*KeepEvery+time.Second, "a")
		if more := len(w.keeps) - n; more != 3 {
			t.Errorf("told %d times in %v", more, 3*KeepEvery)
		}
		w.Expect("m1", 11, nil)
		w.wait(KeepEvery, "a")
		if l := w.Load(); len(l.Meetings) != 1 || l.Meetings[0].Epoch != 11 || w.epochs[len(w.epochs)-1] != 11 {
			t.Errorf("%+v", l)
		}
		w.Cut("a")
		w.wait(meeting.AwayFor + meeting.EmptyAfter + 2*time.Second)
		if w.keeps[len(w.keeps)-1] != nil || len(w.overs) != 1 || w.overs[0] != signal.Ended {
			t.Errorf("at the end: %+v, %v", w.keeps[len(w.keeps)-1], w.overs)
		}
		// What was heard long ago is as if it was not.
		w.Expect("m1", 20, k)
		w.wait(expectFor + time.Second)
		if code := w.come("f", w.ticket("m1", "eve")); code != "" {
			t.Errorf("by what a controller knew a minute ago: %s", code)
		}
		w.Drain()
		if code := w.come("g", w.ticket("m2", "anna")); code != signal.Stopping {
			t.Errorf("a meeting that begins while draining: %s", code)
		}
		if code := w.come("h", w.ticket("m1", "boris")); code != "" {
			t.Errorf("a meeting that runs while draining: %s", code)
		}
		w.End(signal.Moved)
		if w.keeps[len(w.keeps)-1] == nil {
			t.Error("a meeting that goes on elsewhere is forgotten")
		}
	})
}

// Kept keys are taken as what they are, and bounded.
func TestPassKeys(t *testing.T) {
	now := time.Now()
	var k meeting.Kept
	for range meeting.MaxPassKeys + 3 {
		key, err := meeting.NewPassKey()
		if err != nil {
			t.Fatal(err)
		}
		k.Passes = append(k.Passes, meeting.PassKey{ID: key.ID, Public: key.Private.Public().(ed25519.PublicKey), Until: now.Add(time.Hour)})
	}
	if n := len(k.PassKeys(now)); n != meeting.MaxPassKeys {
		t.Errorf("%d keys", n)
	}
	k.Passes[0].ID = k.Passes[1].ID // the name of another
	k.Passes[2].Public = k.Passes[2].Public[:31]
	k.Passes[3].Until = now
	if got := k.PassKeys(now); len(got) != 1 || got[k.Passes[1].ID] == nil {
		t.Errorf("%v", got)
	}
	if _, err := k.VerifyPass("a.b.c", zone, "m1", now); err == nil || !strings.HasPrefix(err.Error(), "ticket:") {
		t.Error(err)
	}
}
