package webconsole

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/parley-meet/parley/services/internal/admintest"
	"github.com/parley-meet/parley/services/internal/zonectl"
)

var zoneSince = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

// How the zone is, on the page and from the API, in each phase.
func TestZone(t *testing.T) {
	t.Parallel()
	r := newRig(t, testPassword)
	b := r.loggedIn()
	for name, x := range map[string]struct {
		state zonectl.State
		err   error
		want  []string // on the page
		text  string   // of the API
	}{
		"standalone": {zonectl.State{Phase: zonectl.Standalone}, nil, []string{"Standalone", "no portal knows of them", `POST /api/v1/zone/trials`}, ""},
		"enrolling": {zonectl.State{Phase: zonectl.Enrolling, Problem: &zonectl.Problem{Code: "connector-token-cut"}}, nil,
			[]string{"Enrolling", "A part of the token is missing"}, "A part of the token is missing"},
		"linked": {zonectl.State{Phase: zonectl.Linked, Zone: "<b>Москва", Portal: "wss://p.example/link", Since: zoneSince}, nil,
			[]string{"Linked with the portal", "&lt;b&gt;Москва", "wss://p.example/link", "2026-11-25 12:00:00 UTC"}, ""},
		"revoked": {zonectl.State{Phase: zonectl.Unlinked, Zone: "Z", Since: zoneSince, Why: "revoked", NeedsToken: true}, nil,
			[]string{"No link with the portal", "was removed from its zone"}, "was removed from its zone"},
		"away": {zonectl.State{}, errors.New("no socket"), []string{"Not available: the process does not answer"}, ""},
	} {
		r.admin.Zone.Set(x.state, x.err)
		time.Sleep(fresh)
		page := b.get("/configure")
		for _, w := range x.want {
			if page.status != http.StatusOK || !strings.Contains(page.body, w) {
				t.Errorf("%s: %d, no %q in the page", name, page.status, w)
			}
		}
		a := b.get("/api/v1/zone")
		var s ZoneState
		if err := json.Unmarshal([]byte(a.body), &s); err != nil || a.status != http.StatusOK || !strings.Contains(s.Text, x.text) || (s.Text == "") != (x.text == "") {
			t.Errorf("%s: %d %s, %v", name, a.status, a.body, err)
		}
		if x.err == nil && s.Phase != x.state.Phase || x.err != nil && s.Phase != zonectl.Away {
			t.Errorf("%s: phase %q", name, s.Phase)
		}
	}
}

// Trial meetings are made and ended with the API; their links are for who may
// change things, and in no log.
func TestTrials(t *testing.T) {
	t.Parallel()
	r := newRig(t, testPassword)
	b := r.loggedIn()
	const path = "/api/v1/zone/trials"
	a := b.api("POST", path, `{"topic":"Probe"}`)
	var made zonectl.Trial
	if err := json.Unmarshal([]byte(a.body), &made); err != nil || a.status != http.StatusOK || !strings.HasPrefix(made.Guest, "https://192.0.2.7/#trial=") {
		t.Fatalf("%d %s, %v", a.status, a.body, err)
	}
	if page := b.get("/configure").body; !strings.Contains(page, made.Host) || !strings.Contains(page, made.Guest) {
		t.Error("the page has no links")
	}
	if a := b.get(path); !strings.Contains(a.body, made.Meeting) {
		t.Errorf("%s", a.body)
	}
	v := r.operator(b, "vera", "view")
	for _, m := range []string{"GET", "POST"} {
		if a := v.api(m, path, map[string]string{"GET": "", "POST": `{"topic":""}`}[m]); a.status != http.StatusForbidden || strings.Contains(a.body, admintest.TrialCode) {
			t.Errorf("%s by who may only look: %d %s", m, a.status, a.body)
		}
	}
	if a := v.get("/configure"); a.status != http.StatusOK || strings.Contains(a.body, admintest.TrialCode) {
		t.Errorf("%d: the page shows links to who may only look", a.status)
	}
	if a := b.api("DELETE", path+"/"+made.Meeting, ""); a.status >= http.StatusBadRequest {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := b.api("DELETE", path+"/"+made.Meeting, ""); a.status != http.StatusNotFound {
		t.Errorf("%d %s", a.status, a.body)
	}
	r.admin.Zone.Set(zonectl.State{Phase: zonectl.Linked}, nil)
	if a := b.api("POST", path, `{"topic":""}`); a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, "made on the portal") {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := b.get("/api/v1/audit"); !strings.Contains(a.body, `"trial.new"`) || strings.Contains(a.body, admintest.TrialCode) || strings.Contains(r.logs.String(), admintest.TrialCode) {
		t.Errorf("the audit log: %s", a.body)
	}
}

// In a browser: a trial meeting is made, its links can be copied, and what
// somebody has typed stays when the link comes up.
func TestBrowserZone(t *testing.T) {
	t.Parallel()
	for _, language := range []string{"en", "ru"} {
		r := newRig(t, testPassword)
		b := newTab(t, language)
		b.login(r.base)
		b.Run(chromedp.Navigate(r.base+"/configure"), chromedp.WaitVisible("h1"))
		b.Run(chromedp.SendKeys(`input[name="topic"]`, "Планёрка"), chromedp.Click(`form[data-api="POST /api/v1/zone/trials"] button`), chromedp.WaitVisible(`form[data-api^="DELETE /api/v1/zone/trials"]`))
		if got := b.Value(`document.querySelectorAll(".copy pre").length`); got != "2" {
			t.Errorf("%s: %s links", language, got)
		}
		b.Judge("zone", language+" trial", maxWeight)
		b.Shots("zone-trial-" + language)
		b.Run(chromedp.SendKeys(`input[name="publicName"]`, "meet.example"))
		r.admin.Zone.Set(zonectl.State{Phase: zonectl.Linked, Zone: "Москва", Portal: "wss://portal.example.com/link", Since: zoneSince}, nil)
		b.Until(`document.querySelector('[data-live="zone.state"]').dataset.state === "ready" && document.querySelector('[data-live="zone.trials"]').hidden`)
		if got := b.Value(`document.querySelector('input[name="publicName"]').value`); got != "meet.example" {
			t.Errorf("%s: the field has %q", language, got)
		}
		b.Shots("zone-linked-" + language)
		r.admin.Zone.Set(zonectl.State{Phase: zonectl.Unlinked, Zone: "Москва", Portal: "wss://portal.example.com/link", Since: zoneSince, Why: "expired", NeedsToken: true}, nil)
		b.Until(`document.querySelector('[data-live="zone.state"]').dataset.state === "unhealthy"`)
		b.Shots("zone-expired-" + language)
		b.Run(chromedp.Click(`form[data-api="PUT /api/v1/connector"] button.primary`), chromedp.WaitVisible(".note.good"))
	}
}
