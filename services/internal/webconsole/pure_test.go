package webconsole

import (
	"testing"
	"time"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/look"
	"github.com/parley-meet/parley/services/internal/looktest"
)

func TestWordsAreComplete(t *testing.T) {
	d := look.MustLoad(words, "words")
	keys := append(looktest.Pages(t, pages), looktest.Go(t, ".")...)
	for _, why := range []look.Ended{look.EndedIdle, look.EndedExpired, look.EndedStamp, look.EndedUnknown, "logout", "step"} {
		keys = append(keys, "ended."+string(why))
	}
	for _, m := range []string{"not-found", "cross-origin", "bad-form", "denied"} {
		keys = append(keys, m, m+".title")
	}
	for _, s := range sections {
		keys = append(keys, "nav."+s)
	}
	for _, n := range []api.Need{needNobody, needView, needOperate} {
		keys = append(keys, "api.need."+string(n))
	}
	for verb := range verbs {
		keys = append(keys, "do."+verb, "done."+verb, "confirm."+verb)
		if verb != "start" {
			keys = append(keys, "confirm."+verb+".network", "confirm."+verb+".console-web")
		}
	}
	looktest.Complete(t, d, keys)
}

func TestCut(t *testing.T) {
	for in, want := range map[string]string{
		"plain": "plain", "a\nb\tc": "a b c", "\x1b[2Jx\x00\u202e": "[2Jx", "\xff": "\uFFFD", "контроллер зоны": "контроллер…",
	} {
		if got := api.Cut(in, 10); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestChanges(t *testing.T) {
	words := look.MustLoad(words, "words")[look.English]
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	st := &control.Status{Booted: at, Perm: control.Perm{State: control.PermReadWrite}, Services: []control.Service{{Name: "mmr", State: control.StateReady, Since: at, Detail: "x"}}}
	state := &state{at: at.Add(time.Hour), status: st}
	old := newView(state, words)
	if c := newView(state, words).changes(old); len(c) != 0 {
		t.Errorf("nothing changed: %v", c)
	}
	st.Services[0].State, st.Services[0].Detail = control.StateStopped, ""
	changes := newView(state, words).changes(old)
	for k, want := range map[string]field{
		"svc.mmr.state": {Text: "stopped", State: "stopped"}, "svc.mmr.detail": {Hidden: true}, "svc.mmr.start": {},
		"svc.mmr.stop": {Hidden: true}, "verdict": {Text: "0 of 1 services are running", State: fieldBad},
	} {
		if got, ok := changes[k]; !ok || got != want {
			t.Errorf("%s: %+v (%v), want %+v", k, got, ok, want)
		}
	}
	if _, ok := changes["uptime"]; ok {
		t.Error("what did not change is sent")
	}
}

func TestChangedBy(t *testing.T) {
	for by, want := range map[string]string{
		"anna from 10.0.0.7": "anna, с адреса 10.0.0.7",
		"anna":               "anna",
		"":                   "",
	} {
		if got := changedBy(look.MustLoad(words, "words")[look.Russian], by); got != want {
			t.Errorf("%q: %q, want %q", by, got, want)
		}
	}
}
