package router

import (
	"testing"

	"github.com/parley-meet/parley/services/internal/connector"
	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/member"
	"github.com/parley-meet/parley/services/internal/mmr"
)

// What a state means to people: PID 1 and the consoles show the word.
func TestWord(t *testing.T) {
	token := connector.New()
	token.Token = "parley1.x"
	for _, x := range []struct {
		st                 member.State
		role, status, want string
	}{
		{member.State{}, "controller", mmr.Waiting, "enrolling"},
		{member.State{}, roleRouter, mmr.Waiting, "not configured"},
		{member.State{Settings: token}, roleRouter, mmr.Waiting, "enrolling"},
		{member.State{Credentials: &link.Credentials{}}, roleRouter, mmr.Waiting, "waiting"},
		{member.State{Credentials: &link.Credentials{}}, roleRouter, mmr.Degraded, "degraded"},
		{member.State{}, roleRouter, mmr.Ready, "ready"},
	} {
		if got := word(x.st, x.role, x.status); got != x.want {
			t.Errorf("%s of %+v: %q, want %q", x.status, x.st, got, x.want)
		}
	}
}
