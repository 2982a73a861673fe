package live_test

import (
	"context"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/portal/live"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/portaltest"
	"github.com/parley-meet/parley/services/internal/portal/store/storetest"
	"github.com/parley-meet/parley/services/internal/portal/zones"
)

// enabled makes an account whose connector is on, and a token for its zone.
func enabled(t *testing.T, p *portaltest.Portal, name string) (people.Actor, zones.Zone, string) {
	t.Helper()
	_, owner := p.Account(name, people.Business)
	who := people.Actor{User: owner.ID, Account: owner.Account, Name: owner.Name, Role: people.Owner}
	if err := p.All.Zones.Enable(t.Context(), who, "Office"); err != nil {
		t.Fatal(err)
	}
	c, err := p.All.Zones.Get(t.Context(), who)
	if err != nil {
		t.Fatal(err)
	}
	m, err := p.All.Zones.AddToken(t.Context(), who, zones.TokenInput{Zone: c.Zones[0].ID, Title: "first"})
	if err != nil {
		t.Fatal(err)
	}
	return who, c.Zones[0], m.Secret
}

func states(t *testing.T, p *portaltest.Portal, who people.Actor) []live.State {
	t.Helper()
	list, err := p.All.Live.Appliances(context.Background(), who.Account)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// The whole of a link: enrolment, configuration, status, peers, revocation.
func TestLink(t *testing.T) {
	storetest.Each(t, func(t *testing.T, url string) {
		p := portaltest.On(t, url, make([]byte, 32))
		who, zone, token := enabled(t, p, "Acme")
		a := p.Appliance(token, "controller-1", link.Controller)
		a.Linked()
		cfg := a.Config(func(c link.Config) bool { return c.Zone == "Office" })
		if cfg.Production || len(cfg.Appliances) != 1 || cfg.Authority == "" {
			t.Errorf("%+v", cfg)
		}
		portaltest.Wait(t, "its state", func() bool { return len(states(t, p, who)) == 1 })
		a.Set(func(s *link.Status) { s.Participants = 17 })
		portaltest.Wait(t, "its participants", func() bool { return states(t, p, who)[0].Status.Participants == 17 })
		if st := states(t, p, who)[0]; st.Host != "controller-1" || st.Version != "1.2.3" || !st.Running(time.Now()) {
			t.Errorf("%+v", st)
		}
		// A second one is told of to the first, with its address.
		b := p.Appliance(token, "router-1", link.Router)
		b.Linked()
		a.Config(func(c link.Config) bool {
			for _, x := range c.Appliances {
				if x.Host == "router-1" && len(x.Addresses) == 1 {
					return true
				}
			}
			return false
		})
		list, err := p.All.Live.Controllers(t.Context(), zone.ID)
		if err != nil || len(list) != 1 || list[0].Origins()[0] != "https://192.0.2.10" {
			t.Errorf("%+v %v", list, err)
		}
		// Both hold a router; the one with the people in it comes last.
		routers, err := p.All.Live.Routers(t.Context(), zone.ID)
		if err != nil || len(routers) != 2 || routers[0].ID != b.Credentials.Appliance || routers[0].InController || !routers[1].InController ||
			routers[1].Participants != 17 || len(routers[0].Ports) != 2 || len(routers[0].Addresses) != 1 {
			t.Errorf("%+v %v", routers, err)
		}
		b.Set(func(s *link.Status) { s.Media = nil })
		portaltest.Wait(t, "a router without ports to be none", func() bool {
			routers, err := p.All.Live.Routers(t.Context(), zone.ID)
			return err == nil && len(routers) == 1
		})
		if st := states(t, p, who)[0]; time.Until(st.LinkExpires) < 6*24*time.Hour || time.Until(st.LinkExpires) > 8*24*time.Hour {
			t.Errorf("the link's certificate ends %v", st.LinkExpires)
		}
		// A name reaches the machine.
		if err := p.All.Zones.SetNames(t.Context(), who, a.Credentials.Appliance, zones.NamesInput{PublicName: "Meet.example.com", External: []string{"203.0.113.5"}}); err != nil {
			t.Fatal(err)
		}
		a.Config(func(c link.Config) bool { return c.PublicName == "meet.example.com" && len(c.External) == 1 })
		// Taken out: its link ends, and does not come back.
		if err := p.All.Zones.RemoveAppliance(t.Context(), who, a.Credentials.Appliance); err != nil {
			t.Fatal(err)
		}
		portaltest.Wait(t, "the end of its link", func() bool { return !a.Client.Connection().Connected })
		b.Config(func(c link.Config) bool { return len(c.Appliances) == 1 })
		a.Stop()
		a.Start()
		portaltest.Wait(t, "a refusal", func() bool { return a.Client.Connection().Why == link.WhyRevoked })
		if err := p.All.Zones.Disable(t.Context(), who); err != nil {
			t.Fatal(err)
		}
		portaltest.Wait(t, "a refusal", func() bool { return b.Client.Connection().Why == link.WhyDisabled })
	})
}

// Events are taken once, whatever is lost.
func TestEventsOnce(t *testing.T) {
	p := portaltest.New(t)
	_, _, token := enabled(t, p, "Acme")
	a := p.Appliance(token, "controller-1", link.Controller)
	for range 30 {
		if err := a.Client.Event("service.failed", map[string]string{"name": "mmr"}, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	portaltest.Wait(t, "all events to be taken", func() bool { n, _ := a.Client.Waiting(); return n == 0 })
}

// Two instances on one database: what is linked to the first is shown by the
// second, a link that moved is given up, and a stopped instance's come back.
func TestTwoInstances(t *testing.T) {
	both := func(t *testing.T, url string) {
		p, q := portaltest.On(t, url, make([]byte, 32)), portaltest.On(t, url, make([]byte, 32))
		who, _, token := enabled(t, p, "Acme")
		a := p.Appliance(token, "controller-1", link.Controller)
		a.Linked()
		portaltest.Wait(t, "the other instance to see it", func() bool {
			l := states(t, q, who)
			return len(l) == 1 && l[0].Running(time.Now())
		})
		// The same appliance comes to the other instance: the first gives it up.
		c := a.Credentials
		c.Portals = []string{"wss://" + q.Server.Listener.Addr().String() + "/link"}
		moved := q.Resume(c, "controller-1")
		moved.Linked()
		a.Stop()
		portaltest.Wait(t, "one link in all", func() bool { return p.All.Live.Links() == 0 && q.All.Live.Links() == 1 })
	}
	both(t, storetest.Postgres(t))
}
