package web_test

import (
	"errors"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/portal/meetings"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/portaltest"
	"github.com/parley-meet/parley/services/internal/portal/zones"
	"github.com/parley-meet/parley/services/internal/ticket"
)

// With a controller that is really enrolled and linked: it checks tickets with
// the keys that it was told of, its word that a meeting has started lets guests
// in, and it hears of new keys by itself.
func TestMeetOverLink(t *testing.T) {
	p := portaltest.New(t)
	acc, owner := p.Account("Acme", people.Business)
	host := p.User(acc.ID, "Hanna", people.Member, people.KindOnPrem)
	admin := people.Actor{User: owner.ID, Account: acc.ID, Name: owner.Name, Role: people.Owner, Via: "web"}
	if err := p.All.Zones.Enable(t.Context(), admin, "Main"); err != nil {
		t.Fatal(err)
	}
	con, err := p.All.Zones.Get(t.Context(), admin)
	if err != nil {
		t.Fatal(err)
	}
	zone := con.Zones[0].ID
	made, err := p.All.Zones.AddToken(t.Context(), admin, zones.TokenInput{Zone: zone, Title: "T"})
	if err != nil {
		t.Fatal(err)
	}
	exec(t, p, "UPDATE accounts SET production = 1 WHERE id = ?", acc.ID)
	a := p.Appliance(made.Secret, "controller-1", link.Controller)
	a.Linked()
	keys := func(want func(ticket.Set) bool) (set ticket.Set) {
		t.Helper()
		a.Config(func(c link.Config) bool {
			s, err := ticket.ParseSet(c.Keys)
			if err != nil {
				t.Errorf("%v: %s", err, c.Keys)
			}
			set = s
			return want(s)
		})
		return set
	}
	c, guest := p.Client(host), p.Stranger()
	var m meetings.Meeting
	c.JSON("POST", "/api/v1/meetings", plan("Plan"), &m)
	ask := obj{"number": m.Number, "passcode": m.Passcode, "name": "Greta"}
	join := func() (j meetings.Joined) {
		t.Helper()
		guest.JSON("POST", "/api/v1/join", ask, &j)
		return j
	}
	portaltest.Wait(t, "the controller among those that run", func() bool { return join().State == meetings.Waiting })
	var started meetings.Joined
	c.JSON("POST", "/api/v1/meetings/"+m.ID+"/start", nil, &started)
	if started.State != meetings.Ready || len(started.Origins) != 1 || started.Origins[0] != "https://192.0.2.10" {
		t.Fatalf("%+v", started)
	}
	set := keys(func(s ticket.Set) bool { return len(s) == 1 })
	want := ticket.Expect{Issuer: p.Server.URL, Zone: zone, Meeting: m.ID}
	if got, err := ticket.Verify(started.Ticket, set, want, time.Now()); err != nil || got.Role != ticket.Host {
		t.Errorf("%+v %v", got, err)
	}
	if err := a.Client.Event(meetings.EventStarted, meetings.EventData{Meeting: m.ID, Run: "r1", Participants: 1}, time.Now()); err != nil {
		t.Fatal(err)
	}
	var j meetings.Joined
	portaltest.Wait(t, "a guest to come in", func() bool { j = join(); return j.State == meetings.Ready })
	if got, err := ticket.Verify(j.Ticket, set, want, time.Now()); err != nil || got.Role != ticket.Guest {
		t.Errorf("%+v %v", got, err)
	}
	p.Client(p.Operator()).JSON("POST", "/api/v1/operator/ticket-keys/replace", nil, nil)
	fresh := keys(func(s ticket.Set) bool {
		for id := range s {
			return set[id] == nil
		}
		return false
	})
	if _, err := ticket.Verify(j.Ticket, fresh, want, time.Now()); !errors.Is(err, ticket.ErrKey) {
		t.Errorf("a ticket of an old key: %v", err)
	}
	if _, err := ticket.Verify(join().Ticket, fresh, want, time.Now()); err != nil {
		t.Error(err)
	}
	if err := a.Client.Event(meetings.EventEnded, meetings.EventData{Meeting: m.ID, Run: "r1", Participants: 4}, time.Now()); err != nil {
		t.Fatal(err)
	}
	portaltest.Wait(t, "the end of the meeting", func() bool {
		c.JSON("GET", "/api/v1/meetings/"+m.ID, nil, &m)
		return m.Run != nil && !m.Run.Ended.IsZero() && m.Run.Peak == 4
	})
}
