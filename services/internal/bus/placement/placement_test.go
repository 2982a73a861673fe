package placement

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/parley-meet/parley/services/internal/bus"
)

var start = time.UnixMilli(1_800_000_000_000)

func TestDecode(t *testing.T) {
	good := Announcement{Version: "1.2.3", Host: "router-1", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Limit: 200, Participants: 7, CPU: 0.5,
		Meetings: []Meeting{{"m1", 5, 3}, {"m2", 6, 4}}}
	b, err := good.Encode()
	if err != nil {
		t.Fatal(err)
	}
	back, err := Decode(b)
	if err != nil || fmt.Sprint(back) != fmt.Sprint(good) {
		t.Errorf("%+v, %v", back, err)
	}
	if _, err := Decode([]byte(`{"version":"9","limit":1,"something":{"new":true}}`)); err != nil {
		t.Errorf("a field of a later version: %v", err)
	}
	for name, change := range map[string]func(*Announcement){
		"version": func(a *Announcement) { a.Version = strings.Repeat("x", maxText+1) },
		"lines":   func(a *Announcement) { a.Version = "1\n2" },
		"host":    func(a *Announcement) { a.Host = strings.Repeat("x", 254) },
		"limit":   func(a *Announcement) { a.Limit = maxLimit + 1 },
		"below":   func(a *Announcement) { a.Participants = -1 },
		"CPU":     func(a *Announcement) { a.CPU = 1.01 },
		"NaN":     func(a *Announcement) { a.CPU = math.NaN() },
		"many":    func(a *Announcement) { a.Meetings = make([]Meeting, MaxMeetings+1) },
		"twice":   func(a *Announcement) { a.Meetings[1].ID = "m1" },
		"id":      func(a *Announcement) { a.Meetings[1].ID = "m.1" },
		"no id":   func(a *Announcement) { a.Meetings[1].ID = "" },
		"long id": func(a *Announcement) { a.Meetings[1].ID = strings.Repeat("m", maxMeetingID+1) },
		"epoch":   func(a *Announcement) { a.Meetings[1].Epoch = 0 },
		"people":  func(a *Announcement) { a.Meetings[1].Participants = -1 },
		"places":  func(a *Announcement) { a.Addresses = make([]netip.Addr, MaxAddresses+1) },
	} {
		a := good
		a.Meetings = slices.Clone(good.Meetings)
		change(&a)
		if _, err := a.Encode(); err == nil {
			t.Errorf("%s: it is sent", name)
		}
		if b, err := json.Marshal(a); err == nil { // not NaN
			if _, err := Decode(b); err == nil {
				t.Errorf("%s: it is taken", name)
			}
		}
	}
	if _, err := Decode(append(b, "{}"...)); err == nil {
		t.Error("what follows is passed over")
	}
}

// The longest announcement that is allowed fits in a message.
func TestLongest(t *testing.T) {
	a := Announcement{Version: strings.Repeat("<", maxText), Host: strings.Repeat("h", 253), Limit: maxLimit, Participants: maxLimit, CPU: 1.0 / 3, Draining: true}
	for range MaxAddresses {
		a.Addresses = append(a.Addresses, netip.MustParseAddr("2001:db8:1111:2222:3333:4444:5555:6666"))
	}
	for i := range MaxMeetings {
		a.Meetings = append(a.Meetings, Meeting{fmt.Sprintf("%064d", i), 1<<64 - 1, maxLimit})
	}
	b, err := a.Encode()
	if err != nil || len(b) > bus.MaxData {
		t.Errorf("%d bytes of %d, %v", len(b), bus.MaxData, err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"version":"1","host":"r","addresses":["192.0.2.1"],"limit":200,"participants":1,"cpu":0.1,"meetings":[{"id":"m","epoch":1,"participants":1}]}`))
	f.Add([]byte(`{"meetings":[{"id":"m","epoch":18446744073709551615}]}`))
	f.Add([]byte(`{"addresses":["fe80::1%eth0"]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := Decode(b)
		if err != nil {
			return
		}
		b2, err := a.Encode()
		if err != nil {
			t.Fatalf("%+v cannot be sent: %v", a, err)
		}
		if c, err := Decode(b2); err != nil || fmt.Sprint(c) != fmt.Sprint(a) {
			t.Fatalf("%+v became %+v, %v", a, c, err)
		}
		table := NewTable()
		table.Put(start, "r", a)
		if _, err := table.Place(start, "m", 1); err != nil && !errors.Is(err, ErrFull) && !errors.Is(err, ErrNoRouter) {
			t.Fatal(err)
		}
	})
}

func announced(limit, participants int, meetings ...Meeting) Announcement {
	return Announcement{Limit: limit, Participants: participants, Meetings: meetings}
}

func place(t testing.TB, table *Table, now time.Time, meeting string) Place {
	t.Helper()
	p, err := table.Place(now, meeting, 1)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPlace(t *testing.T) {
	table := NewTable()
	if _, err := table.Place(start, "m", 1); !errors.Is(err, ErrNoRouter) {
		t.Errorf("an empty zone: %v", err)
	}
	full := announced(200, 200)
	draining := announced(200, 0)
	draining.Draining = true
	busy := announced(200, 0)
	busy.CPU = 0.9
	table.Put(start, "full", full)
	table.Put(start, "draining", draining)
	table.Put(start, "busy", busy)
	if _, err := table.Place(start, "m", 1); !errors.Is(err, ErrFull) {
		t.Errorf("nobody has room: %v", err)
	}
	table.Remove("full")
	table.Remove("busy")
	if _, err := table.Place(start, "m", 1); !errors.Is(err, ErrNoRouter) {
		t.Errorf("all are draining: %v", err)
	}
	table.Put(start, "good", announced(200, 0))
	p := place(t, table, start, "m")
	if p.Router != "good" || p.Runs || p.Epoch != uint64(start.UnixMilli()) {
		t.Errorf("%+v", p)
	}
	if _, err := table.Place(start.Add(Expiry+1), "m", 1); !errors.Is(err, ErrNoRouter) {
		t.Errorf("a silent one: %v", err)
	}
	// It stays where it runs, whatever becomes of its router but silence.
	table.Put(start, "draining", Announcement{Limit: 200, Participants: 200, CPU: 1, Draining: true, Meetings: []Meeting{{"m", 9, 200}}})
	if p := place(t, table, start, "m"); p != (Place{"draining", 9, true}) {
		t.Errorf("%+v", p)
	}
	// It goes on with a higher epoch where its router is lost, even if clocks are
	// behind the one that placed it.
	late := uint64(start.Add(time.Hour).UnixMilli())
	table.Put(start, "draining", announced(200, 0, Meeting{"m", late, 1}))
	now := start.Add(Expiry + time.Second)
	table.Put(now, "good", announced(200, 0))
	if p := place(t, table, now, "m"); p != (Place{"good", late + 1, false}) {
		t.Errorf("%+v", p)
	}
	// The lost one comes back with its old claim, and does not get it.
	table.Put(now, "good", announced(200, 0, Meeting{"m", late + 1, 1}))
	table.Put(now, "draining", announced(200, 0, Meeting{"m", late, 1}))
	want := []Twice{{"m", Place{"good", late + 1, true}, []Place{{"draining", late, true}}}}
	if got := table.Twices(now); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	// An epoch that no controller can have given is the lowest.
	table.Put(now, "draining", announced(200, 0, Meeting{"m", math.MaxUint64, 1}))
	if p := place(t, table, now, "m"); p.Router != "good" {
		t.Errorf("%+v", p)
	}
	// What is gone for long is forgotten.
	if list := table.Routers(now.Add(keep + time.Second)); len(list) != 0 || len(table.at) != 0 {
		t.Errorf("%+v %v", list, table.at)
	}
}

func TestExpected(t *testing.T) {
	table := NewTable()
	table.Put(start, "small", announced(50, 0))
	table.Put(start, "big", announced(200, 0))
	for i := range 100 {
		p, err := table.Place(start, fmt.Sprint("m", i), 100)
		if err != nil || p.Router != "big" {
			t.Fatalf("%+v, %v", p, err)
		}
	}
	if _, err := table.Place(start, "m", 1000); err != nil {
		t.Errorf("nobody has so much: %v", err)
	}
}

// Meetings spread as there is room, and a router more moves only what goes to it.
func TestSpread(t *testing.T) {
	table := NewTable()
	for name, limit := range map[string]int{"a": 100, "b": 200, "c": 300} {
		table.Put(start, name, announced(limit, 0))
	}
	count := make(map[string]int)
	was := make(map[string]string)
	const n = 6000
	for i := range n {
		m := fmt.Sprint("m", i)
		was[m] = place(t, table, start, m).Router
		count[was[m]]++
	}
	for name, share := range map[string]float64{"a": 1. / 6, "b": 2. / 6, "c": 3. / 6} {
		if got := float64(count[name]) / n; math.Abs(got-share) > 0.03 {
			t.Errorf("%s has %.3f of the meetings, want %.3f", name, got, share)
		}
	}
	table.Put(start, "d", announced(200, 0))
	for m, old := range was {
		if now := place(t, table, start, m).Router; now != old && now != "d" {
			t.Errorf("%s moved from %s to %s", m, old, now)
		}
	}
}

func TestTableBound(t *testing.T) {
	table := NewTable()
	for i := range MaxRouters + 100 {
		table.Put(start.Add(time.Duration(i)), fmt.Sprint("r", i), announced(1, 0, Meeting{fmt.Sprint("m", i), 1, 1}))
	}
	if len(table.routers) != MaxRouters || len(table.at) != MaxRouters || table.routers["r0"] != nil {
		t.Errorf("%d routers, %d meetings", len(table.routers), len(table.at))
	}
}

// Two controllers that heard the same last announcements, in any order, know the
// same and place alike; and what they choose keeps the rules.
func TestAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := []string{"r1", "r2", "r3", "r4"}
		meetings := []string{"m1", "m2", "m3"}
		last := make(map[string]Announcement)
		heard := make(map[string]time.Time)
		a, b := NewTable(), NewTable()
		now := start
		t.Repeat(map[string]func(*rapid.T){
			"announce": func(t *rapid.T) {
				name := rapid.SampledFrom(names).Draw(t, "router")
				x := Announcement{Limit: rapid.IntRange(0, 300).Draw(t, "limit"), Participants: rapid.IntRange(0, 300).Draw(t, "participants"),
					CPU: rapid.Float64Range(0, 1).Draw(t, "cpu"), Draining: rapid.IntRange(0, 3).Draw(t, "draining") == 0}
				for _, m := range meetings {
					if rapid.IntRange(0, 4).Draw(t, m) == 0 {
						x.Meetings = append(x.Meetings, Meeting{m, uint64(rapid.IntRange(1, 3).Draw(t, "epoch")), 1})
					}
				}
				last[name], heard[name] = x, now
				a.Put(now, name, x)
			},
			"wait": func(t *rapid.T) { now = now.Add(time.Duration(rapid.Int64Range(0, int64(Expiry)).Draw(t, "time"))) },
			"": func(t *rapid.T) {
				// b hears each router's last word, in another order.
				b = NewTable()
				for _, name := range rapid.Permutation(slices.Sorted(maps.Keys(last))).Draw(t, "order") {
					b.Put(heard[name], name, last[name])
				}
				for _, m := range meetings {
					pa, ea := a.Place(now, m, 20)
					pb, eb := b.Place(now, m, 20)
					if pa != pb || ea != eb {
						t.Fatalf("%s: %+v %v, and %+v %v", m, pa, ea, pb, eb)
					}
					judge(t, m, pa, ea, last, heard, now)
				}
			},
		})
	})
}

// judge holds a place against what the routers said.
func judge(t *rapid.T, meeting string, p Place, err error, last map[string]Announcement, heard map[string]time.Time, now time.Time) {
	var runs, ready, full []string
	var highest, known uint64
	for name, x := range last {
		r := Router{name, x, heard[name]}
		for _, m := range x.Meetings {
			if m.ID == meeting && now.Sub(r.Heard) <= keep {
				known = max(known, m.Epoch)
				if !r.Silent(now) {
					runs, highest = append(runs, name), max(highest, m.Epoch)
				}
			}
		}
		switch r.State(now) {
		case Ready:
			ready = append(ready, name)
		case Full:
			full = append(full, name)
		}
	}
	switch {
	case len(runs) > 0:
		if err != nil || !p.Runs || !slices.Contains(runs, p.Router) || p.Epoch != highest {
			t.Fatalf("%s runs at %v: %+v, %v", meeting, runs, p, err)
		}
	case len(ready) > 0:
		if err != nil || p.Runs || !slices.Contains(ready, p.Router) || p.Epoch <= known {
			t.Fatalf("%s may go to %v: %+v, %v", meeting, ready, p, err)
		}
	case len(full) > 0:
		if !errors.Is(err, ErrFull) {
			t.Fatalf("all are full: %+v, %v", p, err)
		}
	default:
		if !errors.Is(err, ErrNoRouter) {
			t.Fatalf("nobody is there: %+v, %v", p, err)
		}
	}
}

func BenchmarkPlace(b *testing.B) {
	table := NewTable()
	for i := range 50 {
		table.Put(start, fmt.Sprint("r", i), announced(200, i))
	}
	for i := 0; b.Loop(); i++ {
		place(b, table, start, fmt.Sprint("m", i))
	}
}
