package meetings

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/portal/live"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/store"
	"github.com/parley-meet/parley/services/internal/portal/store/storetest"
	"github.com/parley-meet/parley/services/internal/portal/vault"
	"github.com/parley-meet/parley/services/internal/ticket"
)

// world is a service with two accounts, whose clock and controllers the test
// sets.
type world struct {
	*testing.T
	*Service
	db      *store.DB
	now     time.Time
	running map[string][]live.Controller
	people  map[string]people.User // by name
	zones   map[string]string      // id by account
}

func newWorld(t *testing.T, dbURL string) *world {
	t.Helper()
	db, err := store.Open(t.Context(), dbURL, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	v, err := vault.New(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, db: db, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), running: map[string][]live.Controller{}, people: map[string]people.User{}, zones: map[string]string{}}
	w.Service = New(Config{DB: db, Vault: v, URL: &url.URL{Scheme: "https", Host: "portal.example"}, Now: func() time.Time { return w.now }})
	w.SetControllers(func(_ context.Context, zone string) ([]live.Controller, error) { return w.running[zone], nil })
	w.write(func(tx *store.Tx) error {
		for _, name := range []string{"acme", "other"} {
			a, err := people.InsertAccount(tx, people.Account{Name: name, Type: people.Business, DefaultKind: people.KindBasic})
			if err != nil {
				return err
			}
			if _, err := tx.Exec("UPDATE accounts SET connector_enabled = 1, production = 1 WHERE id = ?", a.ID); err != nil {
				return err
			}
			w.zones[name] = store.NewID()
			if _, err := tx.Exec("INSERT INTO zones (id, account_id, name, created) VALUES (?,?,?,?)", w.zones[name], a.ID, "Zone", 1); err != nil {
				return err
			}
			for who, role := range map[string]people.Role{"anna": people.Member, "boris": people.Member, "clara": people.Member, "admin": people.Admin} {
				u, err := people.InsertUser(tx, people.User{Account: a.ID, Email: who + "@" + name + ".example", Name: who, Role: role, Kind: people.KindOnPrem, State: people.Active})
				if err != nil {
					return err
				}
				w.people[who+"@"+name] = u
			}
		}
		return nil
	})
	return w
}

func (w *world) write(f func(*store.Tx) error) {
	w.Helper()
	if err := w.db.Write(w.Context(), f); err != nil {
		w.Fatal(err)
	}
}

func (w *world) exec(query string, args ...any) {
	w.Helper()
	w.write(func(tx *store.Tx) error { _, err := tx.Exec(query, args...); return err })
}

func (w *world) actor(name string) people.Actor {
	w.Helper()
	u, ok := w.people[name]
	if !ok {
		w.Fatalf("nobody is called %s", name)
	}
	return people.Actor{User: u.ID, Account: u.Account, Name: u.Name, Email: u.Email, Role: u.Role, Via: "web"}
}

// start makes a controller of a zone run.
func (w *world) start(zone string) {
	w.running[zone] = []live.Controller{{ID: "c1", Zone: zone, PublicName: "c1.example", Status: link.Status{HTTPS: 443}}, {ID: "c2", Zone: zone, Status: link.Status{HTTPS: 8443, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.7")}}}}
}

func (w *world) schedule(who string, change func(*Input)) *Meeting {
	w.Helper()
	in := Input{Topic: "Plan", Agenda: "Secret agenda", Start: "2026-03-02T09:00", Timezone: "Europe/Berlin", Duration: 60}
	if change != nil {
		change(&in)
	}
	m, err := w.Schedule(w.Context(), w.actor(who), in)
	if err != nil {
		w.Fatal(err)
	}
	return m
}

func (w *world) event(zone, name string, d EventData, at time.Time) {
	w.Helper()
	b, err := json.Marshal(d)
	if err != nil {
		w.Fatal(err)
	}
	w.write(func(tx *store.Tx) error {
		return w.HandleEvent(tx, live.Identity{Zone: zone}, link.Event{At: at, Name: name, Data: b})
	})
}

var nobody = people.Actor{}

func network(n byte) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, n, 1}) }

// verify is what a controller does with a ticket.
func (w *world) verify(j Joined, zone string) ticket.Claims {
	w.Helper()
	b, err := w.JWKS(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	set, err := ticket.ParseSet(b)
	if err != nil {
		w.Fatal(err)
	}
	c, err := ticket.Verify(j.Ticket, set, ticket.Expect{Issuer: "https://portal.example", Zone: zone}, w.now)
	if err != nil {
		w.Fatalf("%v: %+v", err, j)
	}
	return c
}

func TestVisibility(t *testing.T) { storetest.Each(t, testVisibility) }

func testVisibility(t *testing.T, dbURL string) {
	w := newWorld(t, dbURL)
	m := w.schedule("anna@acme", func(in *Input) { in.AltHosts = []string{"boris@acme.example", "anna@acme.example"} })
	if len(m.AltHosts) != 1 || m.Rights != Own || len(m.Number) != newDigits || m.Link != "https://portal.example/j/"+m.Number+"#p="+m.Passcode {
		t.Errorf("%+v", m)
	}
	for name, want := range map[string]Rights{"anna@acme": Own, "boris@acme": Alternative, "clara@acme": "", "admin@acme": Look, "anna@other": "", "admin@other": ""} {
		who := w.actor(name)
		got, err := w.Get(t.Context(), who, m.ID)
		if want == "" {
			if !errors.Is(err, people.ErrUnknown) {
				t.Errorf("%s: %v", name, err)
			}
			// What is not his is as what is not there.
			for what, err := range map[string]error{
				"change": second(w.Change(t.Context(), who, m.ID, Input{Topic: "X", Start: "2026-03-02T09:00", Timezone: "UTC", Duration: 1})), "delete": w.Delete(t.Context(), who, m.ID),
				"start": second(w.Start(t.Context(), who, m.ID)), "occurrences": second(w.Occurrences(t.Context(), who, m.ID)),
				"occurrence": w.ChangeOccurrence(t.Context(), who, m.ID, "20260302T080000Z", nil), "calendar": second(w.Calendar(t.Context(), who, m.ID, func(*Meeting) string { return "" })),
				"number": second(w.Mine(t.Context(), who, m.Number)),
			} {
				if !errors.Is(err, people.ErrUnknown) {
					t.Errorf("%s, %s: %v", name, what, err)
				}
			}
			continue
		}
		if err != nil || got.Rights != want {
			t.Errorf("%s: %+v %v", name, got, err)
			continue
		}
		if secret := got.Passcode + got.Agenda; (want == Look) != (secret == "") || want == Look && strings.Contains(got.Link, "#") {
			t.Errorf("%s sees %q %q", name, secret, got.Link)
		}
		if want != Own {
			for what, err := range map[string]error{"change": second(w.Change(t.Context(), who, m.ID, Input{Topic: "X", Start: "2026-03-02T09:00", Timezone: "UTC", Duration: 1})), "delete": w.Delete(t.Context(), who, m.ID)} {
				if !errors.Is(err, people.ErrDenied) {
					t.Errorf("%s, %s: %v", name, what, err)
				}
			}
		}
	}
	count := func(name string, all bool) int {
		list, err := w.List(t.Context(), w.actor(name), false, all)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		return len(list)
	}
	for name, want := range map[string]int{"anna@acme": 1, "boris@acme": 1, "clara@acme": 0, "admin@acme": 0, "admin@other": 0} {
		if got := count(name, false); got != want {
			t.Errorf("%s has %d", name, got)
		}
	}
	if count("admin@acme", true) != 1 || count("admin@other", true) != 0 {
		t.Error("all of the account")
	}
	if _, err := w.List(t.Context(), w.actor("anna@acme"), false, true); !errors.Is(err, people.ErrDenied) {
		t.Errorf("%v", err)
	}
	// Somebody of another account is no alternative host, and nobody's zone either.
	for field, change := range map[string]func(*Input){"alternativeHosts": func(in *Input) { in.AltHosts = []string{"anna@other.example"} }, "zone": func(in *Input) { in.Zone = w.zones["other"] }} {
		in := Input{Topic: "T", Start: "2026-03-02T09:00", Timezone: "UTC", Duration: 1}
		change(&in)
		if _, err := w.Schedule(t.Context(), w.actor("anna@acme"), in); !fault.Of(err).Has(field) {
			t.Errorf("%s: %v", field, err)
		}
	}
	// With the person go his meetings, and what he may do in others'.
	own := w.schedule("boris@acme", nil)
	w.exec("DELETE FROM users WHERE id = ?", w.people["boris@acme"].ID)
	if _, err := w.Get(t.Context(), w.actor("admin@acme"), own.ID); !errors.Is(err, people.ErrUnknown) {
		t.Errorf("%v", err)
	}
	if m, err := w.Get(t.Context(), w.actor("anna@acme"), m.ID); err != nil || len(m.AltHosts) != 0 {
		t.Errorf("%+v %v", m, err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestHosting(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	ask := func(name string) Hosting {
		h, err := w.Hosting(t.Context(), w.actor(name))
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	if h := ask("anna@acme"); !h.Allowed || h.Test || len(h.Zones) != 1 || h.Zones[0].ID != w.zones["acme"] {
		t.Errorf("%+v", h)
	}
	w.exec("UPDATE accounts SET production = 0")
	if h := ask("anna@acme"); h.Allowed || h.Why != "test" {
		t.Errorf("%+v", h)
	}
	if h := ask("admin@acme"); !h.Allowed || !h.Test {
		t.Errorf("%+v", h)
	}
	w.start(w.zones["acme"])
	m := w.schedule("admin@acme", nil)
	j, err := w.Start(t.Context(), w.actor("admin@acme"), m.ID)
	if err != nil {
		t.Fatal(err)
	}
	if c := w.verify(j, w.zones["acme"]); !c.Meeting.Test {
		t.Errorf("%+v", c)
	}
	w.exec("UPDATE accounts SET connector_enabled = 0")
	if j, err = w.Start(t.Context(), w.actor("admin@acme"), m.ID); err != nil || j.State != NotAllowed || j.Why == "" || j.Ticket != "" {
		t.Errorf("%+v %v", j, err)
	}
	w.exec("UPDATE accounts SET connector_enabled = 1, production = 1")
	w.exec("UPDATE users SET kind = ''")
	if h := ask("anna@acme"); h.Allowed || h.Why != "kind" {
		t.Errorf("%+v", h)
	}
	if _, err := w.Schedule(t.Context(), w.actor("anna@acme"), Input{Topic: "T", Start: "2026-03-02T09:00", Timezone: "UTC", Duration: 1}); fault.Of(err) == nil {
		t.Errorf("%v", err)
	}
	if _, err := w.MyRoom(t.Context(), w.actor("anna@acme")); fault.Of(err) == nil {
		t.Errorf("%v", err)
	}
}

func TestJoin(t *testing.T) { storetest.Each(t, testJoin) }

func testJoin(t *testing.T, dbURL string) {
	w := newWorld(t, dbURL)
	zone := w.zones["acme"]
	m := w.schedule("anna@acme", func(in *Input) { in.WaitingRoom = true })
	guest := JoinInput{Number: FormatNumber(m.Number), Passcode: m.Passcode, Name: "  Greta\u202e "}
	join := func(who people.Actor, in JoinInput) Joined {
		t.Helper()
		j, err := w.Join(t.Context(), who, network(1), in)
		if err != nil {
			t.Fatal(err)
		}
		if (j.Ticket != "") != (j.State == Ready) {
			t.Errorf("%+v", j)
		}
		return j
	}
	if j := join(nobody, guest); j.State != NoController || j.Again == 0 {
		t.Errorf("%+v", j)
	}
	w.start(zone)
	if j := join(nobody, guest); j.State != Waiting {
		t.Errorf("%+v", j)
	}
	// The host starts, by the number or on the page.
	j := join(w.actor("anna@acme"), JoinInput{Number: m.Number})
	c := w.verify(j, zone)
	if c.Role != ticket.Host || c.Subject != w.people["anna@acme"].ID || c.Name != "anna" || c.Meeting.ID != m.ID || !c.Meeting.WaitingRoom || c.Account != w.people["anna@acme"].Account {
		t.Errorf("%+v", c)
	}
	if len(j.Origins) != 2 || j.Origins[0] != "https://c1.example" || j.Origins[1] != "https://192.0.2.7:8443" || !j.Expires.Equal(w.now.Add(ticket.TTL)) {
		t.Errorf("%+v", j)
	}
	// Another zone's controller cannot start it for the guests.
	w.event(w.zones["other"], EventStarted, EventData{Meeting: m.ID, Run: "r0"}, w.now)
	if j := join(nobody, guest); j.State != Waiting {
		t.Errorf("%+v", j)
	}
	w.event(zone, EventStarted, EventData{Meeting: m.ID, Run: "r1"}, w.now)
	if c := w.verify(join(nobody, guest), zone); c.Role != ticket.Guest || c.Name != "Greta" || !strings.HasPrefix(c.Subject, "guest-") {
		t.Errorf("%+v", c)
	}
	if c := w.verify(join(w.actor("clara@acme"), guest), zone); c.Role != ticket.Participant || c.Name != "clara" || c.Subject != w.people["clara@acme"].ID {
		t.Errorf("%+v", c)
	}
	// Of another account, an admin too, he is a guest; so is a program with a token.
	if c := w.verify(join(w.actor("admin@other"), guest), zone); c.Role != ticket.Guest || c.Subject == w.people["admin@other"].ID {
		t.Errorf("%+v", c)
	}
	token := w.actor("anna@acme")
	token.Token = "t"
	if c := w.verify(join(token, guest), zone); c.Role != ticket.Guest {
		t.Errorf("%+v", c)
	}
	if c := w.verify(join(w.actor("admin@acme"), guest), zone); c.Role != ticket.Participant {
		t.Errorf("%+v", c)
	}
	began := w.now
	w.now = w.now.Add(time.Hour)
	w.event(zone, EventEnded, EventData{Meeting: m.ID, Run: "r1", Participants: 7}, w.now)
	w.event(zone, EventParticipants, EventData{Meeting: m.ID, Run: "r1", Participants: 5}, began.Add(time.Minute)) // late
	if j := join(nobody, guest); j.State != Waiting {
		t.Errorf("%+v", j)
	}
	got, err := w.Get(t.Context(), w.actor("anna@acme"), m.ID)
	if err != nil || got.Run == nil || got.Run.Peak != 7 || !got.Run.Started.Equal(began) || !got.Run.Ended.Equal(w.now) {
		t.Errorf("%+v %v", got.Run, err)
	}
	// A router tells more than is kept here: who was there, up to the link's bound.
	long := fmt.Sprintf(`{"meeting":%q,"run":"r1b","participants":3,"started":"2026-03-01T09:00:00Z","ended":"2026-03-01T10:00:00Z","why":"meet-ended","people":[{"subject":"u1","name":%q,"role":"host","present":5,"visits":1}],"more":4900}`, m.ID, strings.Repeat("я", 7000))
	w.write(func(tx *store.Tx) error {
		return handle(tx, zone, link.Event{At: w.now.Add(time.Second), Name: EventEnded, Data: []byte(long)}, w.now.Add(time.Second))
	})
	if got, err = w.Get(t.Context(), w.actor("anna@acme"), m.ID); err != nil || got.Run == nil || got.Run.Peak != 3 {
		t.Errorf("%+v %v", got.Run, err)
	}
	// A router that is lost is followed by another, with the same run.
	w.event(zone, EventStarted, EventData{Meeting: m.ID, Run: "r1c"}, w.now)
	w.event(zone, EventStarted, EventData{Meeting: m.ID, Run: "r1c"}, w.now.Add(time.Minute))
	if c := w.verify(join(nobody, guest), zone); c.Role != ticket.Guest {
		t.Errorf("%+v", c)
	}
	w.event(zone, EventEnded, EventData{Meeting: m.ID, Run: "r1c", Participants: 2}, w.now.Add(2*time.Minute))
	// A controller that crashed never says that a meeting ended.
	w.event(zone, EventStarted, EventData{Meeting: m.ID, Run: "r2"}, w.now)
	w.now = w.now.Add(runLimit + time.Minute)
	if j := join(nobody, guest); j.State != Waiting {
		t.Errorf("%+v", j)
	}
	// Nonsense and events of others pass.
	w.event(zone, "service.failed", EventData{}, w.now)
	w.write(func(tx *store.Tx) error {
		return handle(tx, zone, link.Event{At: w.now, Name: EventStarted, Data: []byte(`{"meeting":3}`)}, w.now)
	})
	// A clock that is years ahead does not make a run that never ends, and a
	// controller that goes mad does not fill the disk.
	for i := range runsKept + 5 {
		w.event(zone, EventStarted, EventData{Meeting: m.ID, Run: fmt.Sprint("mad", i)}, w.now.AddDate(5, 0, 0))
	}
	var kept, ahead int
	if err := w.db.Read(t.Context(), func(tx *store.Tx) error {
		return tx.Row("SELECT COUNT(*), COALESCE(SUM(CASE WHEN started > ? THEN 1 ELSE 0 END), 0) FROM meeting_runs WHERE meeting_id = ?", store.Millis(w.now), m.ID).Scan(&kept, &ahead)
	}); err != nil || kept != runsKept || ahead != 0 {
		t.Errorf("%d runs, %d of them to come: %v", kept, ahead, err)
	}
	// Join before host needs no host.
	early := w.schedule("anna@acme", func(in *Input) { in.JoinBeforeHost, in.Start = true, "2026-04-02T09:00" })
	if c := w.verify(join(nobody, JoinInput{Number: early.Number, Passcode: early.Passcode, Name: "G"}), zone); !c.Meeting.JoinBeforeHost {
		t.Errorf("%+v", c)
	}
	// A host that was suspended has no meetings that anybody can enter.
	w.exec("UPDATE users SET state = 'suspended' WHERE id = ?", w.people["anna@acme"].ID)
	if _, err := w.Join(t.Context(), nobody, network(1), guest); !fault.Of(err).Has("passcode") {
		t.Errorf("%v", err)
	}
}

// A number that there is not answers as a wrong passcode does, and guesses are
// slowed down, by network and by number.
func TestGuessing(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	w.start(w.zones["acme"])
	m := w.schedule("anna@acme", func(in *Input) { in.JoinBeforeHost = true })
	_, wrong := w.Join(t.Context(), nobody, network(1), JoinInput{Number: m.Number, Passcode: "00000000", Name: "G"})
	_, unknown := w.Join(t.Context(), nobody, network(1), JoinInput{Number: "99999999999", Passcode: m.Passcode, Name: "G"})
	_, empty := w.Join(t.Context(), nobody, network(1), JoinInput{Number: m.Number, Name: "G"})
	for _, err := range []error{wrong, unknown, empty} {
		if l := fault.Of(err); len(l) != 1 || l[0].Field != "passcode" || l[0].Code != "meeting-wrong" {
			t.Errorf("%v", err)
		}
	}
	// Asking for what is needed, and right passcodes, cost nothing.
	for range 3 * netBurst {
		if _, err := w.Join(t.Context(), nobody, network(2), JoinInput{Number: m.Number, Passcode: m.Passcode, Name: "G"}); err != nil {
			t.Fatal(err)
		}
	}
	tries := func(n byte) int {
		for i := range 10 * numberBurst {
			_, err := w.Join(t.Context(), nobody, network(n), JoinInput{Number: m.Number, Passcode: "00000000", Name: "G"})
			var wait api.Throttled
			if errors.As(err, &wait) {
				if wait.Wait <= 0 || wait.Wait > netEvery {
					t.Errorf("wait %v", wait.Wait)
				}
				return i
			}
		}
		return -1
	}
	if n := tries(3); n != netBurst {
		t.Errorf("one network has %d tries", n)
	}
	total := netBurst + 1 // with the one of the beginning
	for n := byte(4); n < 12; n++ {
		total += tries(n)
	}
	if total != numberBurst && total != numberBurst-1 { // the number that is not there may share the place
		t.Errorf("all networks have %d tries at a number", total)
	}
	// The host needs no passcode and is not held up.
	if _, err := w.Join(t.Context(), w.actor("anna@acme"), network(3), JoinInput{Number: m.Number}); err != nil {
		t.Error(err)
	}
	w.now = w.now.Add(netEvery)
	if _, err := w.Join(t.Context(), nobody, network(3), JoinInput{Number: m.Number, Passcode: m.Passcode, Name: "G"}); err != nil {
		t.Error(err)
	}
}

// Everybody comes to the same zone, also when another has more to offer later.
func TestZoneStaysChosen(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t))
	second := store.NewID()
	w.exec("INSERT INTO zones (id, account_id, name, created) VALUES (?,?,?,?)", second, w.people["anna@acme"].Account, "A first by name", 1)
	w.start(w.zones["acme"])
	m := w.schedule("anna@acme", func(in *Input) { in.JoinBeforeHost = true })
	guest := JoinInput{Number: m.Number, Passcode: m.Passcode, Name: "G"}
	j, err := w.Join(t.Context(), nobody, network(1), guest)
	if err != nil {
		t.Fatal(err)
	}
	w.verify(j, w.zones["acme"])
	w.start(second)
	if j, err = w.Start(t.Context(), w.actor("anna@acme"), m.ID); err != nil {
		t.Fatal(err)
	}
	w.verify(j, w.zones["acme"])
	// Where it is held it stays, even while no controller there answers.
	w.event(w.zones["acme"], EventStarted, EventData{Meeting: m.ID, Run: "r"}, w.now)
	w.running[w.zones["acme"]] = nil
	if j, err = w.Join(t.Context(), nobody, network(1), guest); err != nil || j.State != NoController {
		t.Errorf("%+v %v", j, err)
	}
	w.event(w.zones["acme"], EventEnded, EventData{Meeting: m.ID, Run: "r"}, w.now)
	if j, err = w.Join(t.Context(), nobody, network(1), guest); err != nil {
		t.Fatal(err)
	}
	w.verify(j, second)
}

func TestChanges(t *testing.T) { storetest.Each(t, testChanges) }

func testChanges(t *testing.T, dbURL string) {
	w := newWorld(t, dbURL)
	anna := w.actor("anna@acme")
	m := w.schedule("anna@acme", func(in *Input) { in.Repeat = Repeat{Every: "daily", Ends: "count", Count: 4} })
	list, err := w.Occurrences(t.Context(), anna, m.ID)
	if err != nil || len(list) != 4 {
		t.Fatalf("%+v %v", list, err)
	}
	if err := w.ChangeOccurrence(t.Context(), anna, m.ID, list[0].ID, nil); err != nil {
		t.Fatal(err)
	}
	if err := w.ChangeOccurrence(t.Context(), anna, m.ID, list[3].ID, &OccurrenceInput{Topic: "Last", Start: "2026-03-09T15:00", Duration: 30}); err != nil {
		t.Fatal(err)
	}
	got, err := w.Get(t.Context(), anna, m.ID)
	if err != nil || !got.Next.Start.Equal(list[1].Start) || !got.Last.Equal(time.Date(2026, 3, 9, 14, 30, 0, 0, time.UTC)) || got.sequence != 2 {
		t.Errorf("%+v %v", got, err)
	}
	for _, id := range []string{"20260302T080001Z", "x", ""} {
		if err := w.ChangeOccurrence(t.Context(), anna, m.ID, id, nil); !errors.Is(err, people.ErrUnknown) {
			t.Errorf("%q: %v", id, err)
		}
	}
	// A change of the series keeps what still takes place; the passcode stays.
	in := Input{Topic: "Plan B", Start: "2026-03-03T09:00", Timezone: "Europe/Berlin", Duration: 60, Repeat: Repeat{Every: "daily", Ends: "count", Count: 3}}
	next, err := w.Change(t.Context(), anna, m.ID, in)
	if err != nil || next.Passcode != m.Passcode || next.Number != m.Number || len(next.changes) != 1 || next.changes[0].topic != "Last" {
		t.Errorf("%+v %v", next, err)
	}
	if err := w.ChangeOccurrence(t.Context(), anna, m.ID, list[3].ID, &OccurrenceInput{Start: "2026-03-05T09:00", Duration: 60}); err != nil {
		t.Error(err)
	}
	// What is over is past.
	w.now = time.Date(2026, 3, 5, 9, 0, 0, 0, time.UTC)
	up, err := w.Upcoming(t.Context(), anna, 5)
	past, err2 := w.List(t.Context(), anna, true, false)
	if err != nil || err2 != nil || len(up) != 0 || len(past) != 1 {
		t.Errorf("%d %d %v %v", len(up), len(past), err, err2)
	}
	if _, err := w.Schedule(t.Context(), anna, in); !fault.Of(err).Has("start") {
		t.Errorf("a meeting in the past: %v", err)
	}
	// The room is one, and stays.
	room, err := w.MyRoom(t.Context(), anna)
	again, err2 := w.MyRoom(t.Context(), anna)
	if err != nil || err2 != nil || room.ID != again.ID || len(room.Number) != roomDigits || room.Passcode == "" {
		t.Errorf("%+v %+v %v %v", room, again, err, err2)
	}
	if room, err = w.SetRoom(t.Context(), anna, RoomInput{Topic: "My room", Options: Options{Passcode: "abc123"}}); err != nil || room.Passcode != "abc123" || room.Topic != "My room" {
		t.Errorf("%+v %v", room, err)
	}
	now, err := w.Begin(t.Context(), anna, "Quick")
	if err != nil || now.Next == nil {
		t.Errorf("%+v %v", now, err)
	}
	if up, err = w.Upcoming(t.Context(), anna, 5); err != nil || len(up) != 1 || up[0].ID != now.ID {
		t.Errorf("%+v %v", up, err)
	}
	if err := w.Delete(t.Context(), anna, m.ID); err != nil {
		t.Error(err)
	}
	if _, err := w.Get(t.Context(), anna, m.ID); !errors.Is(err, people.ErrUnknown) {
		t.Errorf("%v", err)
	}
	// No passcode lies open in the database.
	var n int
	if err := w.db.Read(t.Context(), func(tx *store.Tx) error {
		return tx.Each(func(scan func(...any) error) error {
			var b []byte
			err := scan(&b)
			if strings.Contains(string(b), now.Passcode) || strings.Contains(string(b), "abc123") {
				n++
			}
			return err
		}, "SELECT passcode FROM meetings")
	}); err != nil || n != 0 {
		t.Errorf("%d open, %v", n, err)
	}
}

func TestKeys(t *testing.T) { storetest.Each(t, testKeys) }

func testKeys(t *testing.T, dbURL string) {
	w := newWorld(t, dbURL)
	op := people.Actor{User: "op", Operator: true, Via: "web"}
	zone := w.zones["acme"]
	w.start(zone)
	m := w.schedule("anna@acme", func(in *Input) { in.JoinBeforeHost, in.Repeat = true, Repeat{Every: "daily", Ends: "count", Count: 60} })
	generation := func() (n int64) {
		if err := w.db.Read(t.Context(), func(tx *store.Tx) error {
			return tx.Row("SELECT generation FROM zones WHERE id = ?", zone).Scan(&n)
		}); err != nil {
			t.Fatal(err)
		}
		return n
	}
	state := func() (all []string, current string) {
		list, err := w.Keys(t.Context(), op)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range list {
			all = append(all, k.ID)
			if k.Current {
				current = k.ID
			}
		}
		return all, current
	}
	turn := func() {
		t.Helper()
		if err := w.Turn(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	enter := func() Joined {
		t.Helper()
		j, err := w.Join(t.Context(), nobody, network(1), JoinInput{Number: m.Number, Passcode: m.Passcode, Name: "G"})
		if err != nil || j.State != Ready {
			t.Fatalf("%+v %v", j, err)
		}
		return j
	}
	turn()
	turn()
	all, first := state()
	if len(all) != 1 || first == "" || generation() != 2 {
		t.Fatalf("%v %q %d", all, first, generation())
	}
	w.verify(enter(), zone)
	// The next one is published before it signs; the zones are told.
	w.now = w.now.Add(keyLife - keyLead)
	turn()
	turn()
	if all, current := state(); len(all) != 2 || current != first || generation() != 3 {
		t.Fatalf("%v %q", all, current)
	}
	if lead := time.Hour; keyLead < lead {
		t.Errorf("keys sign %v after they are published", lead)
	}
	w.now = w.now.Add(keyLead - time.Second)
	last := enter()
	w.now = w.now.Add(time.Second)
	_, next := state()
	if next == first || next == "" {
		t.Fatalf("%q signs", next)
	}
	w.verify(enter(), zone)
	// The old one stays while its last ticket lives.
	turn()
	w.now = w.now.Add(ticket.TTL - 2*time.Second)
	turn()
	w.verify(last, zone)
	w.now = w.now.Add(2 * time.Minute)
	turn()
	if all, current := state(); len(all) != 1 || current != next || generation() != 4 {
		t.Fatalf("%v %q %d", all, current, generation())
	}
	// Replaced at once: tickets of before are refused.
	before := enter()
	if err := w.Replace(t.Context(), w.actor("admin@acme")); !errors.Is(err, people.ErrDenied) {
		t.Errorf("%v", err)
	}
	if err := w.Replace(t.Context(), op); err != nil {
		t.Fatal(err)
	}
	if all, current := state(); len(all) != 1 || current == next || generation() != 5 {
		t.Fatalf("%v %q %d", all, current, generation())
	}
	b, err := w.JWKS(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	set, err := ticket.ParseSet(b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ticket.Verify(before.Ticket, set, ticket.Expect{Zone: zone}, w.now); !errors.Is(err, ticket.ErrKey) {
		t.Errorf("%v", err)
	}
	w.verify(enter(), zone)
}
