package meeting

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/signal"
	"github.com/parley-meet/parley/services/internal/ticket"
	"pgregory.net/rapid"
)

// drawMessage draws anything that ParseUp lets through.
func drawMessage(t *rapid.T, ids []signal.ID) signal.Message {
	flag := func(name string) *bool {
		return []*bool{nil, yes(), no()}[rapid.IntRange(0, 2).Draw(t, name)]
	}
	id := rapid.SampledFrom(ids).Draw(t, "at")
	switch rapid.SampledFrom([]string{"state", "state", "chat", "react", "command", "command", "command", "command", "settings", "offer", "view"}).Draw(t, "kind") {
	case "state":
		return &signal.State{Microphone: flag("microphone"), Camera: flag("camera"), Screen: flag("screen"), Hand: flag("hand")}
	case "chat":
		return &signal.Say{To: rapid.SampledFrom([]signal.ID{0, id}).Draw(t, "to"), Text: "hello"}
	case "react":
		return &signal.React{Code: signal.Clap}
	case "offer":
		return &signal.Offer{SDP: "v=0"}
	case "view":
		return &signal.View{}
	case "settings":
		chat := rapid.SampledFrom([]signal.ChatPolicy{signal.ChatOff, signal.ChatHosts, signal.ChatPublic, signal.ChatAll}).Draw(t, "policy")
		return &signal.Command{Do: signal.Set, Settings: &signal.Change{Locked: flag("locked"), WaitingRoom: flag("waiting room"), Unmute: flag("unmute"), Video: flag("video"),
			Share: flag("share"), Rename: flag("rename"), React: flag("react"), History: flag("history"), Chat: &chat}}
	}
	do := rapid.SampledFrom([]signal.Do{signal.Admit, signal.AdmitAll, signal.Deny, signal.Mute, signal.MuteAll, signal.AskUnmute, signal.StopVideo, signal.AskVideo, signal.StopShare,
		signal.LowerHand, signal.LowerHands, signal.Rename, signal.Remove, signal.Spotlight, signal.MakeCohost, signal.MakeHost, signal.Claim, signal.End}).Draw(t, "do")
	if do == signal.End && rapid.IntRange(0, 20).Draw(t, "really") > 0 {
		do = signal.MuteAll // or no meeting gets far
	}
	c := &signal.Command{Do: do, ID: id, Name: "Name", On: flag("on")}
	if c.On == nil && (do == signal.Spotlight || do == signal.MakeCohost) {
		c.On = yes()
	}
	return c
}

// Whatever people do, in any order: see world for what holds.
func TestMachine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		heir := rapid.SampledFrom([]Heir{HeirLongest, HeirNobody}).Draw(t, "heir")
		w := newWorld(t, ticket.Meeting{ID: "m1", Number: "123456789", WaitingRoom: rapid.Bool().Draw(t, "waiting room"), JoinBeforeHost: rapid.Bool().Draw(t, "before host")})
		w.cfg.Heir, w.room = heir, rapid.IntRange(2, 8).Draw(t, "room")
		w.begin()
		var used []ticket.Claims
		roles := map[string]ticket.Role{"anna": ticket.Host, "boris": ticket.Host, "clara": ticket.Cohost, "dan": ticket.Participant, "eva": ticket.Participant, "guest-1": ticket.Guest, "guest-2": ticket.Guest}
		subjects := []string{"anna", "boris", "clara", "dan", "eva", "guest-1", "guest-2"}
		ids := func() []signal.ID {
			out := []signal.ID{99}
			for id := range w.m.people {
				out = append(out, id)
			}
			slices.Sort(out)
			return out
		}
		somebody := func(t *rapid.T) signal.ID { return rapid.SampledFrom(ids()).Draw(t, "who") }
		join := func(t *rapid.T) {
			subject := rapid.SampledFrom(subjects).Draw(t, "subject")
			c := w.claims(subject, roles[subject])
			removed := w.m.removed[subject]
			if e := w.join(c); e.Place != Nowhere {
				if removed {
					t.Fatalf("%s was removed and comes back", subject)
				}
				used = append(used, c)
			}
		}
		talk := func(t *rapid.T) {
			id := somebody(t)
			if h := w.m.host(); h != nil && rapid.Bool().Draw(t, "the host") {
				id = h.ID
			}
			message := drawMessage(t, ids())
			p := w.m.people[id]
			before := fmt.Sprintf("%+v %+v", snapshot(w.m), w.m.set)
			rank0 := -1
			if p != nil {
				rank0 = rank(p.Role)
			}
			effects := len(w.gates)
			code := w.handle(id, message)
			c, command := message.(*signal.Command)
			// A refusal changes nothing; letting all in does what fits.
			if code != "" && !(command && c.Do == signal.AdmitAll) && fmt.Sprintf("%+v %+v", snapshot(w.m), w.m.set) != before {
				t.Fatalf("%+v was refused (%s) and changed\n%s to\n%+v %+v", message, code, before, snapshot(w.m), w.m.set)
			}
			if p == nil && (code != signal.NoSuch || effects != len(w.gates)) {
				t.Fatalf("nobody does %+v: %q", message, code)
			}
			if command && code == "" && rank0 < 2 && c.Do != signal.Rename && c.Do != signal.Claim {
				t.Fatalf("rank %d does %+v", rank0, c)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"join": join, "join too": join,
			"old ticket": func(t *rapid.T) {
				if len(used) == 0 {
					return
				}
				if e := w.join(rapid.SampledFrom(used).Draw(t, "ticket")); e.Place != Nowhere {
					t.Fatalf("an old ticket opens: %+v", e)
				}
			},
			"talk": talk, "talk too": talk, "talk again": talk,
			"lost": func(t *rapid.T) {
				id := somebody(t)
				if p := w.pages[id]; p != nil {
					p.link = false
				}
				w.do(w.m.Lost(id, w.now))
			},
			"back": func(t *rapid.T) {
				id, fresh := somebody(t), rapid.Bool().Draw(t, "fresh")
				if p := w.pages[id]; p != nil {
					p.link = true
				}
				w.do(w.m.Back(id, fresh, w.now))
			},
			"leave": func(t *rapid.T) {
				if id := somebody(t); rapid.Bool().Draw(t, "says so") {
					w.handle(id, &signal.Leave{})
				} else {
					w.do(w.m.Gone(id, signal.Idle, w.now))
				}
			},
			"speaks": func(t *rapid.T) { w.do(w.m.Speaks(rapid.SampledFrom(append(ids(), 0)).Draw(t, "who"), w.now)) },
			"room":   func(t *rapid.T) { w.room = rapid.IntRange(2, 8).Draw(t, "room") },
			"time": func(t *rapid.T) {
				w.pass(rapid.SampledFrom([]time.Duration{50 * time.Millisecond, Gather, Gather, Gather, time.Second, time.Second, time.Second, EmptyAfter, EmptyAfter, AwayFor, HostWithin}).Draw(t, "time"))
			},
			"another router": func(t *rapid.T) {
				if w.m.Over() {
					w.begin()
					used = nil
					return
				}
				if rapid.IntRange(0, 3).Draw(t, "really") == 0 {
					w.restart(t)
				}
			},
			"": func(t *rapid.T) {
				w.check()
				if in := len(w.gates); in > 8 {
					t.Fatalf("%d inside", in)
				}
			},
		})
		if !w.m.Over() {
			w.do(w.m.Tick(w.now.Add(Gather)))
			w.check()
			w.do(w.m.Stop(signal.Stopping, w.now))
		}
		if w.over == nil || len(w.m.people) != 0 || len(w.gates) != 0 {
			t.Fatalf("over %v, %d people, %d have media", w.over, len(w.m.people), len(w.gates))
		}
		for _, a := range w.over.Report.People {
			if a.Visits < 1 || a.Last.Before(a.First) || a.Present < 0 {
				t.Fatalf("%+v", a)
			}
		}
	})
}

// snapshot is who is what.
func snapshot(m *Meeting) map[signal.ID]signal.Person {
	out := map[signal.ID]signal.Person{}
	for id, p := range m.people {
		out[id] = p.Person
	}
	return out
}

// restart goes on at another router; everybody must come anew.
func (w *world) restart(t *rapid.T) {
	k := w.m.Keep()
	removed := w.m.removed
	w.cfg.Kept = &k
	w.begin()
	w.cfg.Kept = nil
	if again := w.m.Keep(); !reflect.DeepEqual(again.Settings, k.Settings) || !reflect.DeepEqual(again.Removed, k.Removed) || len(again.People) != len(k.People) {
		t.Fatalf("kept %+v, then %+v", k, again)
	}
	if !reflect.DeepEqual(removed, w.m.removed) {
		t.Fatalf("removed %v, then %v", removed, w.m.removed)
	}
}
