package meeting

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/signal"
	"github.com/parley-meet/parley/services/internal/ticket"
)

func TestRefused(t *testing.T) {
	for name, c := range map[string]struct {
		want   signal.Code // "": inside
		change func(w *world, c *ticket.Claims)
	}{
		"good":          {"", func(*world, *ticket.Claims) {}},
		"other meeting": {signal.Elsewhere, func(_ *world, c *ticket.Claims) { c.Meeting.ID = "m2" }},
		"other zone":    {signal.Elsewhere, func(_ *world, c *ticket.Claims) { c.Zone = "zone2" }},
		"expired":       {signal.BadTicket, func(w *world, c *ticket.Claims) { w.now = c.Expires.Add(ticket.Skew) }},
		"used":          {signal.Used, func(w *world, c *ticket.Claims) { w.join(*c) }},
		"locked":        {signal.Locked, func(w *world, _ *ticket.Claims) { w.m.set.Locked = true }},
		"locked, host":  {"", func(w *world, c *ticket.Claims) { w.m.set.Locked, c.Role = true, ticket.Host }},
		"full":          {signal.Full, func(w *world, _ *ticket.Claims) { w.room = 1 }},
		"full, host":    {signal.Full, func(w *world, c *ticket.Claims) { w.room, c.Role = 1, ticket.Host }},
		"removed": {signal.Removed, func(w *world, c *ticket.Claims) {
			w.must(1, &signal.Command{Do: signal.Remove, ID: w.in(c.Subject, c.Role)})
		}},
		"ended":            {signal.Ended, func(w *world, _ *ticket.Claims) { w.must(1, &signal.Command{Do: signal.End}) }},
		"tickets are full": {signal.Crowded, func(w *world, c *ticket.Claims) { w.m.cfg.Tickets = ticket.NewReplay(0) }},
	} {
		w := newWorld(t, plainMeeting())
		w.in("anna", ticket.Host)
		claims := w.claims("dan", ticket.Participant)
		c.change(w, &claims)
		if e := w.join(claims); e.Code != c.want || (e.Place == Inside) != (c.want == "") {
			t.Errorf("%s: %+v, want %q", name, e, c.want)
		}
	}
}

// Whoever was refused may try again with his ticket, when it was not his fault.
func TestRefusedKeepsTicket(t *testing.T) {
	w := newWorld(t, plainMeeting())
	host := w.in("anna", ticket.Host)
	w.must(host, &signal.Command{Do: signal.Set, Settings: &signal.Change{Locked: yes()}})
	c := w.claims("dan", ticket.Participant)
	if e := w.join(c); e.Code != signal.Locked {
		t.Fatalf("%+v", e)
	}
	w.must(host, &signal.Command{Do: signal.Set, Settings: &signal.Change{Locked: no()}})
	if e := w.join(c); e.Place != Inside {
		t.Errorf("%+v", e)
	}
}

func TestWaitingForHost(t *testing.T) {
	w := newWorld(t, ticket.Meeting{ID: "m1", Number: "123456789"})
	first, second := w.join(w.claims("dan", ticket.Participant)), w.join(w.claims("guest", ticket.Guest))
	if first.Place != Waiting || last[*signal.Waiting](w, first.ID).Why != signal.WaitHost {
		t.Fatalf("%+v", first)
	}
	// They keep the meeting for as long as they wait.
	w.pass(20 * EmptyAfter)
	if w.m.Over() {
		t.Fatal("over")
	}
	// When the host comes there is room for one.
	w.room = 2
	w.in("anna", ticket.Host)
	if w.m.Place(first.ID) != Inside || w.m.Place(second.ID) != Waiting || last[*signal.Waiting](w, second.ID).Why != signal.WaitAdmission {
		t.Errorf("%d, %d, %+v", w.m.Place(first.ID), w.m.Place(second.ID), last[*signal.Waiting](w, second.ID))
	}
	w.check()

	// A host who does not come ends it.
	w = newWorld(t, ticket.Meeting{ID: "m1", Number: "123456789"})
	e := w.join(w.claims("dan", ticket.Participant))
	w.pass(HostWithin + EmptyAfter)
	if w.pages[e.ID].out != signal.NotStarted || w.over == nil || w.over.Code != signal.Ended || len(w.over.Report.People) != 0 {
		t.Errorf("out %q, over %+v", w.pages[e.ID].out, w.over)
	}
}

func TestWaitingRoom(t *testing.T) {
	w := newWorld(t, ticket.Meeting{ID: "m1", Number: "123456789", WaitingRoom: true, JoinBeforeHost: true})
	early := w.join(w.claims("dan", ticket.Participant)).ID
	if why := last[*signal.Waiting](w, early).Why; why != signal.WaitHost {
		t.Errorf("waits for %s", why)
	}
	host := w.in("anna", ticket.Host)
	cohost := w.in("clara", ticket.Cohost)
	guest := w.join(w.claims("guest", ticket.Guest)).ID
	w.pass(Gather)
	for _, id := range []signal.ID{host, cohost} {
		if l := w.pages[id].lobby; len(l) != 2 || l[guest].Name != "guest" {
			t.Errorf("%d sees %+v wait", id, l)
		}
	}
	// Who waits does nothing, hears nothing, and learns from no answer who is inside.
	w.forget()
	for _, m := range []signal.Message{&signal.State{Microphone: yes()}, &signal.Say{Text: "x"}, &signal.Say{To: host, Text: "x"}, &signal.React{Code: signal.Clap}, &signal.Offer{SDP: "v=0"}, &signal.View{},
		&signal.Command{Do: signal.Admit, ID: guest}, &signal.Command{Do: signal.Mute, ID: host}, &signal.Command{Do: signal.Mute, ID: 99}} {
		if code := w.handle(guest, m); code != signal.NotInside {
			t.Errorf("%s: %q", m.Kind(), code)
		}
	}
	w.must(host, &signal.Say{Text: "to all"})
	w.must(host, &signal.State{Microphone: yes()})
	if code := w.handle(host, &signal.Say{To: guest, Text: "x"}); code != signal.NoSuch {
		t.Errorf("a line to who waits: %q", code)
	}
	w.do(w.m.Speaks(host, w.now))
	w.pass(time.Second)
	for _, m := range w.pages[guest].got {
		if e, ok := m.(*signal.Error); !ok || e.Code != signal.NotInside || e.Field != "" {
			t.Errorf("who waits hears %+v", m)
		}
	}
	// One is let in, one is not.
	w.must(cohost, &signal.Command{Do: signal.Admit, ID: guest})
	w.must(host, &signal.Command{Do: signal.Deny, ID: early})
	w.pass(Gather)
	if w.m.Place(guest) != Inside || w.pages[early].out != signal.Denied || len(w.pages[host].lobby) != 0 {
		t.Errorf("%d, %q, %+v", w.m.Place(guest), w.pages[early].out, w.pages[host].lobby)
	}
	// Somebody who was not let in may ask again with a new ticket.
	again := w.join(w.claims("dan", ticket.Participant))
	if again.Place != Waiting {
		t.Errorf("%+v", again)
	}
	// No room: he goes on waiting, and the host hears why.
	w.room = 3
	for _, do := range []signal.Do{signal.Admit, signal.AdmitAll} {
		c := &signal.Command{Do: do, Ref: 7}
		if do == signal.Admit {
			c.ID = again.ID
		}
		if code := w.handle(host, c); code != signal.Full || w.m.Place(again.ID) != Waiting {
			t.Errorf("%s: %q, %d", do, code, w.m.Place(again.ID))
		}
		if e := last[*signal.Error](w, host); e.Ref != 7 || e.Of != "command" || e.Code != signal.Full {
			t.Errorf("%+v", e)
		}
	}
	w.room = 10
	// Without a waiting room nobody waits.
	w.must(host, &signal.Command{Do: signal.Set, Settings: &signal.Change{WaitingRoom: no()}})
	if w.m.Place(again.ID) != Inside {
		t.Error("still waits")
	}
	w.pass(Gather)
	w.check()
}

func TestWaitingIsBounded(t *testing.T) {
	w := newWorld(t, ticket.Meeting{ID: "m1", Number: "123456789", WaitingRoom: true})
	for i := range MaxWaiting {
		if e := w.join(w.claims(fmt.Sprint("guest", i), ticket.Guest)); e.Place != Waiting {
			t.Fatalf("%d: %+v", i, e)
		}
	}
	if e := w.join(w.claims("one more", ticket.Guest)); e.Code != signal.Crowded {
		t.Errorf("%+v", e)
	}
	if e := w.join(w.claims("anna", ticket.Host)); e.Place != Inside {
		t.Errorf("the host: %+v", e)
	}
	w.pass(Gather)
	w.check()
}

// Two hundred people in one second: each is told in a snapshot and a few changes.
func TestStorm(t *testing.T) {
	const people = 200
	w := newWorld(t, plainMeeting())
	w.in("anna", ticket.Host)
	for i := range people - 1 {
		w.now = start.Add(time.Duration(i) * time.Second / people)
		w.pass(0)
		name := fmt.Sprintf("Александра Константиновна %d", i)
		id := w.in(name, ticket.Participant)
		w.must(id, &signal.State{Microphone: yes(), Camera: yes()})
	}
	w.pass(2 * Gather)
	w.check()
	inside, _ := w.m.Count()
	t.Logf("%d inside: %d messages, %d KiB in all; %.1f messages and %.1f KiB each", inside, w.messages, w.bytes>>10, float64(w.messages)/people, float64(w.bytes)/people/1024)
	// joined, settings, roster, speaker, and a change each quarter of the second.
	if inside != people || w.messages > people*10 {
		t.Errorf("%d messages to %d people", w.messages, inside)
	}
	if w.bytes > people*64<<10 {
		t.Errorf("%d bytes to %d people", w.bytes, inside)
	}
	// After it, somebody who comes or mutes costs each of them one short message.
	for what, f := range map[string]func(){
		"joins": func() { w.in("late", ticket.Participant) }, "mutes": func() { w.must(5, &signal.State{Microphone: no()}) },
	} {
		w.now = w.now.Add(time.Minute)
		w.forget()
		f()
		w.pass(Gather)
		if w.messages > people+6 || w.bytes > people*200+64<<10 {
			t.Errorf("one %s: %d messages, %d bytes", what, w.messages, w.bytes)
		}
	}
}

func TestComesAgain(t *testing.T) {
	w := newWorld(t, plainMeeting())
	host := w.in("anna", ticket.Host)
	dan := w.in("dan", ticket.Participant)
	w.must(host, &signal.Command{Do: signal.MakeCohost, ID: dan, On: yes()})
	w.must(dan, &signal.State{Microphone: yes(), Hand: yes()})
	w.must(host, &signal.Command{Do: signal.Spotlight, ID: dan, On: yes()})
	w.must(host, &signal.Command{Do: signal.Set, Settings: &signal.Change{Locked: yes()}})
	hand := w.m.people[dan].Hand

	// Whoever is there with a link and comes a second time has two devices.
	if e := w.join(w.claims("dan", ticket.Participant)); e.Code != signal.Locked {
		t.Errorf("%+v", e)
	}
	// With the link lost it is he, and he has his place though the meeting is locked.
	w.do(w.m.Lost(dan, w.now))
	again := w.in("dan", ticket.Participant)
	p := w.m.people[again]
	if p.Role != ticket.Cohost || p.Hand != hand || p.Microphone || w.pages[dan].out != signal.Taken || !slices.Equal(w.m.set.Spotlight, []signal.ID{again}) {
		t.Errorf("%+v, out %q, spotlight %v", p.Person, w.pages[dan].out, w.m.set.Spotlight)
	}
	// The same for the host: nobody takes his place meanwhile.
	w.do(w.m.Lost(host, w.now))
	anna := w.in("anna", ticket.Host)
	if w.m.people[anna].Role != ticket.Host || w.m.people[again].Role != ticket.Cohost {
		t.Errorf("%s, %s", w.m.people[anna].Role, w.m.people[again].Role)
	}
	w.pass(Gather)
	w.check()
}

func TestAway(t *testing.T) {
	w := newWorld(t, plainMeeting())
	host, dan := w.in("anna", ticket.Host), w.in("dan", ticket.Participant)
	w.must(dan, &signal.State{Microphone: yes(), Camera: yes(), Hand: yes()})
	w.pass(Gather)
	w.do(w.m.Lost(dan, w.now))
	w.pass(Gather)
	if !w.pages[host].roster[dan].Away {
		t.Error("nobody sees that he is away")
	}
	w.pages[dan].link = false
	w.forget()
	for range 100 {
		w.must(host, &signal.State{Camera: yes()})
		w.pass(Gather)
		w.must(host, &signal.State{Camera: no()})
		w.pass(Gather)
	}
	if n := len(w.pages[dan].got); n != 0 {
		t.Errorf("%d messages pile up for who is away", n)
	}
	// Back in time: all as it was, and a snapshot.
	w.do(w.m.Back(dan, false, w.now))
	w.pages[dan].link = true
	w.pass(Gather)
	w.check()
	if p := w.pages[host].roster[dan]; p.Away || !p.Microphone || !p.Camera || p.Hand == 0 {
		t.Errorf("%+v", p)
	}
	// A page that was reloaded is told everything, and sends nothing yet.
	w.forget()
	w.do(w.m.Back(dan, true, w.now))
	w.pass(Gather)
	w.check()
	if p := w.pages[host].roster[dan]; p.Microphone || p.Camera || p.Hand == 0 || last[*signal.Joined](w, dan) == nil || last[*signal.Settings](w, dan) == nil {
		t.Errorf("%+v, %+v", p, w.pages[dan].got)
	}
	// Too late.
	w.do(w.m.Lost(dan, w.now))
	w.pass(AwayFor - time.Second)
	if w.m.Place(dan) != Inside {
		t.Error("out too early")
	}
	w.pass(time.Second)
	if w.pages[dan].out != signal.Idle {
		t.Errorf("out %q", w.pages[dan].out)
	}
}

func TestEmpty(t *testing.T) {
	w := newWorld(t, plainMeeting())
	w.pass(EmptyAfter - time.Second)
	dan := w.in("dan", ticket.Participant)
	w.pass(time.Hour)
	w.must(dan, &signal.Leave{})
	w.pass(EmptyAfter - time.Second)
	dan = w.in("dan", ticket.Participant)
	w.pass(time.Minute)
	w.must(dan, &signal.Leave{})
	w.pass(EmptyAfter)
	if w.over == nil || w.over.Code != signal.Ended {
		t.Fatalf("%+v", w.over)
	}
	r := w.over.Report
	if len(r.People) != 1 || r.Peak != 1 || r.People[0].Visits != 2 || r.People[0].Present != time.Hour+time.Minute || r.People[0].Subject != "dan" || !r.Started.Equal(start) || !r.Ended.Equal(w.now) {
		t.Errorf("%+v", r)
	}
	if next := w.m.Next(); !next.IsZero() {
		t.Errorf("next %v", next)
	}
	if e := w.join(w.claims("dan", ticket.Participant)); e.Code != signal.Ended {
		t.Errorf("%+v", e)
	}
}

func TestReport(t *testing.T) {
	w := newWorld(t, plainMeeting())
	host := w.in("anna", ticket.Host)
	w.now = w.now.Add(time.Minute)
	dan := w.in("dan", ticket.Participant)
	w.join(ticket.Claims{}) // refused: not there
	w.now = w.now.Add(time.Minute)
	w.must(host, &signal.Command{Do: signal.Rename, ID: dan, Name: "Daniel"})
	if r := w.m.Report(w.now); len(r.People) != 2 || r.People[1].Present != time.Minute {
		t.Errorf("while it runs: %+v", r)
	}
	w.must(host, &signal.Command{Do: signal.End})
	want := []Attendance{{"anna", "anna", ticket.Host, start, start.Add(2 * time.Minute), 2 * time.Minute, 1}, {"dan", "Daniel", ticket.Participant, start.Add(time.Minute), start.Add(2 * time.Minute), time.Minute, 1}}
	if r := w.over.Report; !reflect.DeepEqual(r.People, want) || r.Peak != 2 || r.Meeting != "m1" {
		t.Errorf("%+v", r)
	}
}

func TestOtherRouter(t *testing.T) {
	w := newWorld(t, ticket.Meeting{ID: "m1", Number: "123456789", WaitingRoom: true})
	host := w.in("anna", ticket.Host)
	dan, guest, evil := w.join(w.claims("dan", ticket.Participant)).ID, w.join(w.claims("guest", ticket.Guest)).ID, w.join(w.claims("evil", ticket.Guest)).ID
	w.must(host, &signal.Command{Do: signal.AdmitAll})
	w.must(host, &signal.Command{Do: signal.Set, Settings: &signal.Change{Locked: yes(), Unmute: no()}})
	w.must(host, &signal.Command{Do: signal.MakeCohost, ID: dan, On: yes()})
	w.must(host, &signal.Command{Do: signal.AskUnmute, ID: guest})
	evilPass, _ := w.m.Claims(evil, "pass-1", w.now)
	w.must(host, &signal.Command{Do: signal.Remove, ID: evil})
	pass, ok := w.m.Claims(guest, "pass-2", w.now)
	if !ok || pass.Subject != "guest" || pass.Role != ticket.Guest || pass.Expires.Sub(pass.Issued) != ticket.TTL {
		t.Fatalf("%+v", pass)
	}
	k := w.m.Keep()
	w.cfg.Kept = &k
	w.begin()

	// No host is there yet, and the room is locked: all come back past that.
	back := w.join(pass)
	if back.Place != Inside {
		t.Fatalf("%+v", back)
	}
	w.must(back.ID, &signal.State{Microphone: yes()}) // he was asked to
	dan = w.in("dan", ticket.Participant)
	if w.m.people[dan].Role != ticket.Cohost {
		t.Errorf("the cohost is %s", w.m.people[dan].Role)
	}
	if e := w.join(evilPass); e.Code != signal.Removed {
		t.Errorf("who was removed: %+v", e)
	}
	if e := w.join(w.claims("new", ticket.Guest)); e.Code != signal.Locked {
		t.Errorf("somebody new: %+v", e)
	}
	// One place is for one.
	if e := w.join(w.claims("guest", ticket.Guest)); e.Code != signal.Locked {
		t.Errorf("a second device: %+v", e)
	}
	// The host does not come back: the cohost follows him.
	w.pass(AwayFor)
	if w.m.people[dan].Role != ticket.Host || !w.m.people[dan].acting {
		t.Errorf("the cohost is %s", w.m.people[dan].Role)
	}
	host = w.in("anna", ticket.Host)
	if w.m.people[host].Role != ticket.Host || w.m.people[dan].Role != ticket.Cohost {
		t.Errorf("%s, %s", w.m.people[host].Role, w.m.people[dan].Role)
	}
	w.pass(Gather)
	w.check()
	// A meeting that had no host gets none by that.
	open := newWorld(t, plainMeeting())
	open.in("dan", ticket.Participant)
	none := open.m.Keep()
	open.cfg.Kept = &none
	open.begin()
	dan = open.in("dan", ticket.Participant)
	if open.pass(AwayFor); open.m.people[dan].Role != ticket.Participant {
		t.Errorf("%s", open.m.people[dan].Role)
	}
	// Nobody comes back: they had their time, and then it is over.
	w.begin()
	w.pass(AwayFor - time.Second)
	if w.m.Over() {
		t.Error("over before they could come back")
	}
	if w.pass(EmptyAfter + time.Second); !w.m.Over() {
		t.Error("not over")
	}
}
