package terminal

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/admintest"
	"github.com/parley-meet/parley/services/internal/zonectl"
)

// A trial meeting is made, shown and ended on the terminal, without a browser;
// its links are in no log.
func TestTrial(t *testing.T) {
	r := ready(t)
	r.says("trial", "There is no trial meeting")
	r.says("trial new Проба пера", "1000000001 Проба пера", "https://192.0.2.7/#trial="+admintest.TrialCode+"-host-1", "https://192.0.2.7/#trial="+admintest.TrialCode+"-guest-1")
	r.says("trial new", "1000000002")
	r.says("trial", "1000000001", "1000000002", "-guest-1", "-guest-2")
	r.says("trial end 9", "There is no trial meeting 9")
	r.says("trial end 1000000001", "Ended")
	if out := r.run("trial"); strings.Contains(out, "1000000001") {
		t.Errorf("it is still there:\n%s", out)
	}
	r.says("trial begin", "Usage: trial")
	r.says("audit", "trial meeting made", "trial meeting ended")
	r.admin.Zone.Set(zonectl.State{Phase: zonectl.Linked}, nil)
	r.says("trial new", "made on the portal")
	r.admin.Zone.Set(zonectl.State{}, errors.New("no socket"))
	r.says("trial", "does not answer")
	if strings.Contains(r.logs.String(), admintest.TrialCode) {
		t.Error("the log has a link")
	}
}

// configure tells how the zone is, in each phase and both languages.
func TestZone(t *testing.T) {
	r := ready(t)
	since := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	for _, x := range []struct {
		state  zonectl.State
		en, ru []string
	}{
		{zonectl.State{Phase: zonectl.Standalone}, []string{"Zone standalone"}, []string{"автономная работа"}},
		{zonectl.State{Phase: zonectl.NoToken}, []string{"Zone none"}, []string{"нужен токен"}},
		{zonectl.State{Phase: zonectl.Enrolling, Problem: &zonectl.Problem{Code: "connector-token-cut"}}, []string{"enrolling", "A part of the token is missing"}, []string{"регистрация", "Часть токена"}},
		{zonectl.State{Phase: zonectl.Linked, Zone: "Москва", Portal: "wss://p.example/link", Since: since},
			[]string{"Москва, linked with the portal", "wss://p.example/link", "2026-11-25 12:00:00 UTC"}, []string{"Москва, связь с порталом есть"}},
		{zonectl.State{Phase: zonectl.Unlinked, Zone: "Z", Since: since, Why: "revoked", Reason: "x"}, []string{"no link with the portal", "was removed from its zone"}, []string{"связи с порталом нет", "удалили из зоны"}},
		{zonectl.State{Phase: zonectl.Unlinked, Zone: "Z", Since: since, Reason: "dial tcp: \x1b[2J refused"}, []string{"refused"}, []string{"refused"}},
	} {
		r.admin.Zone.Set(x.state, nil)
		r.says("configure", x.en...)
		r.says("language ru", "Русский")
		r.says("configure", x.ru...)
		r.says("language en", "English")
	}
	r.admin.Zone.Set(zonectl.State{}, errors.New("no socket"))
	r.says("configure", "does not answer")
}
