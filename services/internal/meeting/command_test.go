package meeting

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/signal"
	"github.com/parley-meet/parley/services/internal/ticket"
)

// cast is a meeting with one of each.
type cast struct {
	*world
	host, cohost, person, guest, waits signal.ID
}

func newCast(t failer) cast {
	w := newWorld(t, ticket.Meeting{ID: "m1", Number: "123456789", WaitingRoom: true, JoinBeforeHost: true})
	c := cast{world: w, host: w.in("anna", ticket.Host), cohost: w.in("clara", ticket.Cohost)}
	c.person, c.guest = w.join(w.claims("dan", ticket.Participant)).ID, w.join(w.claims("guest", ticket.Guest)).ID
	w.must(c.host, &signal.Command{Do: signal.AdmitAll})
	c.waits = w.join(w.claims("waits", ticket.Guest)).ID
	w.pass(Gather)
	w.check()
	return c
}

// Who may do what to whom: h, c, p, g, w are host, cohost, participant, guest, and
// who waits. What is not listed is refused.
func TestPermissions(t *testing.T) {
	everybody := "hcpg"
	allowed := map[signal.Do]map[string]string{ // by whom: to whom
		signal.Admit: {"h": "w", "c": "w"}, signal.Deny: {"h": "w", "c": "w"}, signal.AdmitAll: {"h": "-", "c": "-"},
		signal.Mute: {"h": everybody, "c": everybody}, signal.MuteAll: {"h": "-", "c": "-"}, signal.AskUnmute: {"h": everybody, "c": everybody},
		signal.StopVideo: {"h": everybody, "c": "cpg"}, signal.AskVideo: {"h": everybody, "c": everybody}, signal.StopShare: {"h": everybody, "c": everybody},
		signal.LowerHand: {"h": everybody, "c": everybody}, signal.LowerHands: {"h": "-", "c": "-"},
		signal.Rename: {"h": everybody, "c": "cpg", "p": "p", "g": "g"},
		signal.Remove: {"h": "cpg", "c": "pg"}, signal.Spotlight: {"h": everybody, "c": everybody},
		signal.MakeCohost: {"h": "cpg"}, signal.MakeHost: {"h": "cpg"}, signal.Claim: {"h": "-"},
		signal.Set: {"h": "-", "c": "-"}, signal.End: {"h": "-"},
	}
	if len(allowed) != len(permissions) {
		t.Errorf("the test knows %d commands of %d", len(allowed), len(permissions))
	}
	for do, table := range allowed {
		targets := "hcpgw0"
		if permissions[do].target == Nowhere {
			targets = "-"
		}
		for _, who := range "hcpgw" {
			for _, whom := range targets {
				c := newCast(t)
				ids := map[rune]signal.ID{'h': c.host, 'c': c.cohost, 'p': c.person, 'g': c.guest, 'w': c.waits, '0': 99}
				command := &signal.Command{Do: do, ID: ids[whom]}
				switch do {
				case signal.Rename:
					command.Name = "Name"
				case signal.Spotlight, signal.MakeCohost:
					command.On = yes()
				case signal.Set:
					command.Settings = &signal.Change{Locked: yes()}
				}
				code := c.handle(ids[who], command)
				if want := strings.ContainsRune(table[string(who)], whom); (code == "") != want {
					t.Errorf("%s of %c to %c: %q, want %t", do, who, whom, code, want)
				}
				if who == 'w' && code != signal.NotInside {
					t.Errorf("%s of who waits: %q", do, code)
				}
			}
		}
	}
}

func TestMute(t *testing.T) {
	c := newCast(t)
	for _, id := range []signal.ID{c.host, c.cohost, c.person, c.guest} {
		c.must(id, &signal.State{Microphone: yes()})
	}
	open := func(id signal.ID) bool { return c.gates[id][signal.Microphone] }
	c.must(c.host, &signal.Command{Do: signal.Mute, ID: c.person})
	if open(c.person) || last[*signal.Notice](c.world, c.person).Code != signal.WasMuted {
		t.Error("not muted, or not told")
	}
	c.must(c.person, &signal.State{Microphone: yes()})
	// All, and they may not unmute themselves.
	c.must(c.cohost, &signal.Command{Do: signal.MuteAll, On: no()})
	if open(c.person) || open(c.guest) || !open(c.host) || !open(c.cohost) {
		t.Errorf("gates %v", c.gates)
	}
	if code := c.handle(c.person, &signal.State{Ref: 5, Microphone: yes()}); code != signal.HostMuted || open(c.person) {
		t.Errorf("%q", code)
	}
	if e := last[*signal.Error](c.world, c.person); e.Ref != 5 || e.Of != "state" || e.Field != "microphone" {
		t.Errorf("%+v", e)
	}
	// A refusal is of all: the camera does not go on either.
	if c.handle(c.person, &signal.State{Microphone: yes(), Camera: yes()}); c.gates[c.person][signal.Camera] {
		t.Error("half of it was done")
	}
	// Nobody is unmuted by others: he is asked, and then he may.
	c.must(c.host, &signal.Command{Do: signal.AskUnmute, ID: c.person})
	if open(c.person) || last[*signal.Notice](c.world, c.person).Code != signal.PleaseUnmute {
		t.Error("unmuted, or not asked")
	}
	c.must(c.person, &signal.State{Microphone: yes()})
	c.must(c.person, &signal.State{Microphone: no()})
	c.must(c.person, &signal.State{Microphone: yes()})
	if c.handle(c.guest, &signal.State{Microphone: yes()}) != signal.HostMuted {
		t.Error("somebody else may too")
	}
	// Until he is muted again.
	c.must(c.host, &signal.Command{Do: signal.Mute, ID: c.person})
	if c.handle(c.person, &signal.State{Microphone: yes()}) != signal.HostMuted {
		t.Error("he still may")
	}
	c.must(c.host, &signal.Command{Do: signal.MuteAll, On: yes()})
	c.must(c.guest, &signal.State{Microphone: yes()})
}

func TestVideoAndShare(t *testing.T) {
	c := newCast(t)
	c.must(c.person, &signal.State{Camera: yes()})
	c.must(c.host, &signal.Command{Do: signal.StopVideo, ID: c.person})
	if c.gates[c.person][signal.Camera] || c.handle(c.person, &signal.State{Camera: yes()}) != signal.HostStopped {
		t.Error("the camera goes on")
	}
	c.must(c.host, &signal.Command{Do: signal.AskVideo, ID: c.person})
	c.must(c.person, &signal.State{Camera: yes()})
	c.must(c.cohost, &signal.State{Camera: yes()})
	c.must(c.host, &signal.Command{Do: signal.Set, Settings: &signal.Change{Video: no()}})
	if c.gates[c.person][signal.Camera] || !c.gates[c.cohost][signal.Camera] || c.handle(c.guest, &signal.State{Camera: yes()}) != signal.NotOpen {
		t.Errorf("gates %v", c.gates)
	}
	// One shares; who leads takes it over.
	c.must(c.person, &signal.State{Screen: yes()})
	if !c.gates[c.person][signal.ScreenAudio] || c.handle(c.guest, &signal.State{Screen: yes()}) != signal.Sharing {
		t.Error("two share")
	}
	c.must(c.cohost, &signal.State{Screen: yes()})
	if c.gates[c.person][signal.Screen] || last[*signal.Notice](c.world, c.person).Code != signal.ShareStopped || !c.gates[c.cohost][signal.Screen] {
		t.Errorf("gates %v", c.gates)
	}
	c.must(c.cohost, &signal.Leave{})
	c.must(c.guest, &signal.State{Screen: yes()})
	c.must(c.host, &signal.Command{Do: signal.Set, Settings: &signal.Change{Share: no()}})
	if c.gates[c.guest][signal.Screen] || c.gates[c.guest][signal.ScreenAudio] || c.handle(c.person, &signal.State{Screen: yes()}) != signal.NotOpen {
		t.Errorf("gates %v", c.gates)
	}
	c.must(c.host, &signal.State{Screen: yes()})
	c.pass(Gather)
	c.check()
}

func TestHands(t *testing.T) {
	c := newCast(t)
	for _, id := range []signal.ID{c.guest, c.person, c.cohost} {
		c.must(id, &signal.State{Hand: yes()})
	}
	c.must(c.guest, &signal.State{Hand: yes()}) // again: he keeps his place in the queue
	if g, p := c.m.people[c.guest].Hand, c.m.people[c.person].Hand; g == 0 || g >= p {
		t.Errorf("hands %d, %d", g, p)
	}
	c.must(c.host, &signal.Command{Do: signal.LowerHand, ID: c.guest})
	c.must(c.host, &signal.Command{Do: signal.LowerHands})
	for _, id := range []signal.ID{c.guest, c.person, c.cohost} {
		if c.m.people[id].Hand != 0 || last[*signal.Notice](c.world, id).Code != signal.HandLowered {
			t.Errorf("%d: %+v", id, c.m.people[id].Person)
		}
	}
}

func TestChat(t *testing.T) {
	for _, x := range []struct {
		policy                signal.ChatPolicy
		all, toHost, toPerson bool // a participant's lines
	}{{signal.ChatOff, false, false, false}, {signal.ChatHosts, false, true, false}, {signal.ChatPublic, true, true, false}, {signal.ChatAll, true, true, true}} {
		c := newCast(t)
		c.must(c.host, &signal.Command{Do: signal.Set, Settings: &signal.Change{Chat: &x.policy}})
		for to, want := range map[signal.ID]bool{0: x.all, c.cohost: x.toHost, c.guest: x.toPerson} {
			c.forget()
			if code := c.handle(c.person, &signal.Say{To: to, Text: "hello"}); (code == "") != want {
				t.Errorf("%s to %d: %q", x.policy, to, code)
			}
			for _, id := range []signal.ID{c.host, c.cohost, c.person, c.guest, c.waits} {
				hears := want && id != c.waits && (to == 0 || id == to || id == c.person)
				if got := last[*signal.Chat](c.world, id); (got != nil) != hears {
					t.Errorf("%s to %d: %d hears %+v, want %t", x.policy, to, id, got, hears)
				}
			}
		}
		c.must(c.host, &signal.Say{To: c.guest, Text: "hello"})
		c.must(c.host, &signal.Say{Text: "hello"})
	}
}

func TestHistory(t *testing.T) {
	w := newWorld(t, plainMeeting())
	host, dan := w.in("anna", ticket.Host), w.in("dan", ticket.Participant)
	w.must(host, &signal.Say{Text: "before"})
	if late := w.in("late", ticket.Guest); last[*signal.Chat](w, late) != nil {
		t.Error("history, though it is off")
	}
	w.must(host, &signal.Command{Do: signal.Set, Settings: &signal.Change{History: yes()}})
	w.must(dan, &signal.Say{To: host, Text: "private"})
	w.must(dan, &signal.Say{Text: "first"})
	w.must(dan, &signal.Leave{})
	late := w.in("later", ticket.Guest)
	if h := last[*signal.Chat](w, late); h == nil || !h.Past || len(h.Lines) != 1 || h.Lines[0].Text != "first" || h.Lines[0].Name != "dan" {
		t.Fatalf("%+v", h)
	}
	// The longest lines, of what JSON doubles: all fits one frame (see world).
	for range 2 * maxHistory {
		w.now = w.now.Add(time.Second)
		w.must(host, &signal.Say{Text: strings.Repeat("\"\\\n", signal.MaxChat/3)})
	}
	h := last[*signal.Chat](w, w.in("latest", ticket.Guest))
	if len(h.Lines) < 10 || len(w.m.history) > maxHistory || w.m.kept > historySize {
		t.Errorf("%d lines, %d kept", len(h.Lines), w.m.kept)
	}
	for i := range 2 * maxHistory {
		w.now = w.now.Add(time.Second)
		w.must(host, &signal.Say{Text: fmt.Sprint(i)})
	}
	if n := len(w.m.history); n != maxHistory || w.m.history[n-1].Text != fmt.Sprint(2*maxHistory-1) {
		t.Errorf("%d lines, the last is %+v", n, w.m.history[n-1])
	}
	w.must(host, &signal.Command{Do: signal.Set, Settings: &signal.Change{History: no()}})
	w.must(host, &signal.Command{Do: signal.Set, Settings: &signal.Change{History: yes()}})
	if h := last[*signal.Chat](w, w.in("last", ticket.Guest)); h != nil {
		t.Errorf("history that was turned off is there: %d lines", len(h.Lines))
	}
}

func TestTooFast(t *testing.T) {
	w := newWorld(t, plainMeeting())
	w.in("anna", ticket.Host)
	dan, eva := w.in("dan", ticket.Participant), w.in("eva", ticket.Participant)
	count := func(id signal.ID, m signal.Message) (n int) {
		for w.handle(id, m) == "" && n < 1000 {
			n++
		}
		if w.code != signal.TooFast {
			t.Errorf("%s: %q", m.Kind(), w.code)
		}
		return n
	}
	if n := count(dan, &signal.Say{Text: "x"}); n > 60 {
		t.Errorf("%d lines at once", n)
	}
	if n := count(eva, &signal.State{Hand: yes()}); n > 100 {
		t.Errorf("%d states at once", n)
	}
	w.now = w.now.Add(time.Minute)
	w.must(dan, &signal.Say{Text: "x"})
	if n := count(eva, &signal.Offer{SDP: "v=0"}); n > 15 {
		t.Errorf("%d offers at once", n)
	}
	// Whatever one does, all others hear little of it: what he is, once each Gather.
	w.now = w.now.Add(time.Minute)
	w.pass(0)
	w.forget()
	for i := range 100 {
		w.handle(dan, &signal.State{Hand: []*bool{yes(), no()}[i%2]})
		w.handle(dan, &signal.React{Code: signal.Clap})
	}
	w.pass(Gather)
	if n := len(w.pages[eva].got); n > 4 {
		t.Errorf("%d messages to somebody else", n)
	}
}

func TestSuccession(t *testing.T) {
	role := func(w *world, id signal.ID) ticket.Role { return w.m.people[id].Role }
	c := newCast(t)
	second := c.in("boris", ticket.Host)
	if role(c.world, second) != ticket.Cohost {
		t.Errorf("the second host by ticket is %s", role(c.world, second))
	}
	// A host by ticket follows, before the cohost who is there longer.
	c.must(c.host, &signal.Leave{})
	if role(c.world, second) != ticket.Host || last[*signal.Notice](c.world, second).Code != signal.YouHost {
		t.Errorf("%s", role(c.world, second))
	}
	c.must(second, &signal.Leave{})
	if role(c.world, c.cohost) != ticket.Host {
		t.Errorf("%s", role(c.world, c.cohost))
	}
	c.must(c.cohost, &signal.Leave{})
	if role(c.world, c.person) != ticket.Host || role(c.world, c.guest) != ticket.Guest {
		t.Errorf("%s, %s", role(c.world, c.person), role(c.world, c.guest))
	}
	c.pass(Gather)
	c.check() // he sees who waits
	// Who owns the meeting takes it back, and cannot be shut out meanwhile.
	third := c.in("boris", ticket.Host)
	if role(c.world, third) != ticket.Host || role(c.world, c.person) != ticket.Participant || last[*signal.Notice](c.world, c.person).Code != signal.NotHost {
		t.Errorf("%s, %s", role(c.world, third), role(c.world, c.person))
	}
	c.must(third, &signal.Command{Do: signal.MakeHost, ID: c.person})
	if role(c.world, third) != ticket.Cohost || c.command(c.person, signal.Remove, third) != signal.NotAllowed {
		t.Error("the one whose meeting it is was removed")
	}
	c.must(c.person, &signal.Command{Do: signal.MakeCohost, ID: third, On: no()})
	c.must(third, &signal.Command{Do: signal.Claim})
	if role(c.world, third) != ticket.Host || role(c.world, c.person) != ticket.Participant {
		t.Errorf("%s, %s", role(c.world, third), role(c.world, c.person))
	}
	c.pass(Gather)
	c.check()
	// Guests do not follow; nor does anybody if the configuration says so.
	for heir, want := range map[Heir]ticket.Role{HeirLongest: ticket.Host, HeirNobody: ticket.Participant} {
		w := newWorld(t, plainMeeting())
		w.cfg.Heir = heir
		w.begin()
		host, guest, dan := w.in("anna", ticket.Host), w.in("guest", ticket.Guest), w.in("dan", ticket.Participant)
		w.must(host, &signal.Leave{})
		if role(w, dan) != want || role(w, guest) != ticket.Guest {
			t.Errorf("%s: %s, %s", heir, role(w, dan), role(w, guest))
		}
	}
	// A cohost who was away when the host went follows when he is back.
	w := newWorld(t, plainMeeting())
	host, clara := w.in("anna", ticket.Host), w.in("clara", ticket.Cohost)
	w.do(w.m.Lost(clara, w.now))
	w.must(host, &signal.Leave{})
	w.do(w.m.Back(clara, false, w.now))
	if role(w, clara) != ticket.Host {
		t.Errorf("%s", role(w, clara))
	}
	// Who was host for want of another is what he was when he hands over.
	w = newWorld(t, plainMeeting())
	host, dan := w.in("anna", ticket.Host), w.in("dan", ticket.Participant)
	eva := w.in("eva", ticket.Participant)
	w.must(host, &signal.Leave{})
	w.must(dan, &signal.Command{Do: signal.MakeHost, ID: eva})
	if role(w, dan) != ticket.Participant || role(w, eva) != ticket.Host {
		t.Errorf("%s, %s", role(w, dan), role(w, eva))
	}
	// A host who is away is host until his time is over.
	w = newWorld(t, plainMeeting())
	host, dan = w.in("anna", ticket.Host), w.in("dan", ticket.Participant)
	w.do(w.m.Lost(host, w.now))
	w.pass(AwayFor - time.Second)
	if role(w, dan) != ticket.Participant {
		t.Error("too early")
	}
	w.pass(time.Second)
	if role(w, dan) != ticket.Host {
		t.Error("nobody is host")
	}
}

// Whoever was removed stays out: with another ticket, with one that he had
// fetched before, with another device.
func TestRemoved(t *testing.T) {
	c := newCast(t)
	before := c.claims("dan", ticket.Participant)
	c.must(c.host, &signal.Command{Do: signal.Set, Settings: &signal.Change{WaitingRoom: no()}})
	tablet := c.in("dan", ticket.Participant)
	pass, _ := c.m.Claims(tablet, "pass", c.now)
	c.must(c.host, &signal.Command{Do: signal.Remove, ID: c.person})
	if c.pages[c.person].out != signal.Removed || c.pages[tablet].out != signal.Removed {
		t.Errorf("%q, %q", c.pages[c.person].out, c.pages[tablet].out)
	}
	for _, claims := range []ticket.Claims{before, pass, c.claims("dan", ticket.Participant), c.claims("dan", ticket.Host)} {
		if e := c.join(claims); e.Code != signal.Removed {
			t.Errorf("%s: %+v", claims.ID, e)
		}
	}
	c.pass(Gather)
	c.check()
}

func TestSpotlight(t *testing.T) {
	w := newWorld(t, plainMeeting())
	host := w.in("anna", ticket.Host)
	for i := range signal.MaxSpotlight + 1 {
		id := w.in(fmt.Sprint("p", i), ticket.Participant)
		code := w.handle(host, &signal.Command{Do: signal.Spotlight, ID: id, On: yes()})
		if (code == signal.TooMany) != (i == signal.MaxSpotlight) {
			t.Errorf("%d: %q", i, code)
		}
	}
	w.must(host, &signal.Command{Do: signal.Spotlight, ID: 3, On: no()})
	w.must(4, &signal.Leave{})
	w.pass(Gather)
	w.check()
	if len(w.spots) != signal.MaxSpotlight-2 {
		t.Errorf("%v", w.spots)
	}
}

func TestNames(t *testing.T) {
	w := newWorld(t, plainMeeting())
	claims := w.claims("guest", ticket.Guest)
	claims.Name = " Evil\u202e \x1b[2J" + strings.Repeat("я", 100)
	id := w.join(claims).ID
	if name := w.m.people[id].Name; strings.ContainsAny(name, "\u202e\x1b") || len([]rune(name)) > signal.MaxName {
		t.Errorf("%q", name)
	}
	claims = w.claims("guest2", ticket.Guest)
	claims.Name = "\u202e"
	if id := w.join(claims).ID; w.m.people[id].Name == "" {
		t.Error("no name")
	}
	w.in("anna", ticket.Host)
	w.must(3, &signal.Command{Do: signal.Set, Settings: &signal.Change{Rename: no()}})
	if code := w.handle(id, &signal.Command{Do: signal.Rename, Name: "Other"}); code != signal.NotOpen {
		t.Errorf("%q", code)
	}
	w.must(3, &signal.Command{Do: signal.Rename, ID: id, Name: "Greta"})
	w.must(3, &signal.Command{Do: signal.Rename, Name: "Anna"})
	w.pass(Gather)
	if p := w.pages[id].roster; p[id].Name != "Greta" || p[3].Name != "Anna" {
		t.Errorf("%+v", p)
	}
}

func FuzzHandle(f *testing.F) {
	for _, m := range []signal.Message{&signal.State{Microphone: yes(), Screen: yes()}, &signal.Say{To: 2, Text: "hello"}, &signal.Command{Do: signal.Remove, ID: 3}, &signal.Command{Do: signal.Rename, Name: "A"},
		&signal.Command{Do: signal.Set, Settings: &signal.Change{Locked: yes()}}, &signal.Command{Do: signal.Spotlight, ID: 2, On: yes()}, &signal.Command{Do: signal.End}, &signal.Leave{}, &signal.View{}} {
		f.Add(signal.Format(m), uint8(1))
	}
	f.Fuzz(func(t *testing.T, b []byte, who uint8) {
		m, err := signal.ParseUp(b)
		if err != nil {
			return
		}
		c := newCast(t)
		for range 2 {
			c.handle(signal.ID(who%6), m)
			c.check()
			c.pass(Gather)
			c.check()
		}
	})
}
