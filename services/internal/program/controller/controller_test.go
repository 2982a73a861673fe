package controller

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/parley-meet/parley/services/internal/connector"
	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/member"
)

// What a state means to people: PID 1 and the consoles show the word.
func TestWord(t *testing.T) {
	token := connector.New()
	token.Token = "parley1.x"
	for _, x := range []struct {
		st           member.State
		status, want string
	}{
		{member.State{}, "waiting", "not configured"},
		{member.State{Settings: token}, "waiting", "enrolling"},
		{member.State{Settings: token, Credentials: &link.Credentials{}}, "waiting", "waiting"},
		{member.State{Credentials: &link.Credentials{}}, "failing", "degraded"},
		{member.State{Credentials: &link.Credentials{}}, "ready", "ready"},
	} {
		if got := word(x.st, x.status); got != x.want {
			t.Errorf("%s of %+v: %q, want %q", x.status, x.st, got, x.want)
		}
	}
}

// Where pages go on, and where people go who are out.
func TestElsewhere(t *testing.T) {
	var none member.State
	if origins(none) != nil || portal(none) != "" || turn(none) != "" {
		t.Errorf("%v, %q, %q of nothing", origins(none), portal(none), turn(none))
	}
	st := member.State{Settings: connector.New(), Credentials: &link.Credentials{Appliance: "a"}, Config: &link.Config{Portal: "https://p.example", PublicName: "told.example",
		Appliances: []link.Peer{
			{ID: "a", Role: link.Controller, PublicName: "own.example"}, {ID: "r", Role: link.Router, PublicName: "router.example"},
			{ID: "b", Role: link.Controller, PublicName: "b.example"}, {ID: "c", Role: link.Controller},
			{ID: "d", Role: link.Controller, Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.4")}},
			{ID: "e", Role: link.Controller, Addresses: []netip.Addr{netip.MustParseAddr("2001:db8::5")}},
		}}}
	if got, want := origins(st), []string{"https://b.example", "https://192.0.2.4", "https://[2001:db8::5]"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := portal(st); got != "https://p.example" {
		t.Errorf("the portal is at %q", got)
	}
	if got := turn(st); got != "turn.told.example" {
		t.Errorf("TURN is %q", got)
	}
	st.Settings.PublicName = "set.example"
	if got := turn(st); got != "turn.set.example" {
		t.Errorf("TURN is %q, want the name that was set", got)
	}
	st.Standalone = true
	if got := portal(st); got != "" {
		t.Errorf("a standalone zone's portal is at %q", got)
	}
}
