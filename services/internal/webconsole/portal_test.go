package webconsole

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/services/internal/portalctl"
)

// A portal is in no zone: its console has no connector to configure and no other
// role, and says that nothing is missing.
func TestPortal(t *testing.T) {
	t.Parallel()
	r := newRig(t, testPassword)
	b := r.loggedIn()
	for _, portal := range []bool{false, true} {
		role := map[bool]string{false: "controller", true: "portal"}[portal]
		r.server.Change(func(s *control.Status) { s.Role = role })
		time.Sleep(fresh)
		for path, text := range map[string]string{"/": `href="/configure"`, "/system": `PUT /api/v1/system/role`} {
			a := b.get(path)
			if a.status != http.StatusOK || strings.Contains(a.body, text) == portal {
				t.Errorf("%s: %s: %d, has %q: %v", role, path, a.status, text, !portal)
			}
		}
		want := map[bool]int{false: http.StatusOK, true: http.StatusNotFound}[portal]
		if a := b.get("/configure"); a.status != want {
			t.Errorf("%s: /configure: %d, want %d", role, a.status, want)
		}
	}
	if body := b.get("/").body; !strings.Contains(body, "portal") || strings.Contains(body, "token") {
		t.Errorf("the portal's overview misses a token, or does not say what it is:\n%s", body)
	}
}

// The first operator's link is made for an operator of the machine, shown once,
// noted, and kept nowhere.
func TestPortalLink(t *testing.T) {
	t.Parallel()
	const at, secret = "https://192.0.2.7", "QxQxQxQxQxQxQxQxQxQxQxQxQxQxQxQxQxQxQxQxQxQ"
	r := newRig(t, testPassword)
	var says portalctl.Answer
	var fails error
	r.c.cfg.Portal = func(_ context.Context, req portalctl.Request) (portalctl.Answer, error) {
		if req != (portalctl.Request{Op: portalctl.OpShow}) {
			t.Errorf("asked %+v", req)
		}
		return says, fails
	}
	b := r.loggedIn()
	const path = "/api/v1/portal/link"
	if a := b.api("POST", path, ""); a.status != http.StatusNotFound {
		t.Errorf("on a controller: %d %s", a.status, a.body)
	}
	r.server.Change(func(s *control.Status) {
		s.Role = "portal"
		s.Services = []control.Service{{Name: "portal", Title: "portal", State: control.StateReady, Detail: portalctl.NoOperator}}
	})
	time.Sleep(fresh)
	if body := b.get("/").body; !strings.Contains(body, "POST "+path) || !strings.Contains(body, "The portal has no operator yet") || strings.Contains(body, "/setup") {
		t.Errorf("the overview:\n%s", body)
	}
	for _, test := range []struct {
		says   portalctl.Answer
		fails  error
		status int
		want   string
	}{
		{portalctl.Answer{Waits: portalctl.WaitStart}, nil, http.StatusUnprocessableEntity, "portal-waits"},
		{portalctl.Answer{}, errors.New("portal: connection refused"), http.StatusBadGateway, "away"},
		{portalctl.Answer{URL: at, Link: at + "/setup#" + secret}, nil, http.StatusOK, at + "/setup#" + secret},
		{portalctl.Answer{URL: at}, nil, http.StatusUnprocessableEntity, "who signs in at " + at},
	} {
		says, fails = test.says, test.fails
		a := b.api("POST", path, "")
		if a.status != test.status || !strings.Contains(a.body, test.want) {
			t.Errorf("%+v, %v: %d %s", says, fails, a.status, a.body)
		}
		var link PortalLink
		if a.status == http.StatusOK && (json.Unmarshal([]byte(a.body), &link) != nil || link.URL != at) {
			t.Errorf("%s", a.body)
		}
	}
	if a := b.get("/api/v1/audit"); strings.Count(a.body, `"portal.link"`) != 1 || strings.Contains(a.body, secret) {
		t.Errorf("the audit log: %s", a.body)
	}
	if strings.Contains(r.logs.String(), secret) {
		t.Error("the log has the link")
	}
	r.server.Change(func(s *control.Status) { s.Services[0].Detail = at })
	time.Sleep(fresh)
	if body := b.get("/").body; strings.Contains(body, path) {
		t.Error("the overview offers a link although there is an operator")
	}
}

// In a browser, in both languages: the link is there after a press, to be copied,
// and gone with the next page.
func TestBrowserPortal(t *testing.T) {
	t.Parallel()
	const link = "https://192.0.2.7/setup#QxQxQxQxQxQxQxQxQxQxQxQxQxQxQxQxQxQxQxQxQxQ"
	r := newRig(t, testPassword)
	r.c.cfg.Portal = func(context.Context, portalctl.Request) (portalctl.Answer, error) {
		return portalctl.Answer{URL: "https://192.0.2.7", Link: link}, nil
	}
	r.server.Change(func(s *control.Status) {
		s.Role = "portal"
		s.Services = []control.Service{{Name: "portal", Title: "portal", State: control.StateReady, Detail: portalctl.NoOperator}}
	})
	time.Sleep(fresh)
	for _, language := range []string{"en", "ru"} {
		b := newTab(t, language)
		b.login(r.base)
		b.Run(chromedp.Click(`form[data-api="POST /api/v1/portal/link"] button`), chromedp.WaitVisible("#setup-link"))
		if got := b.Value(`document.querySelector('#setup-link [data-from="link"]').textContent`); got != link {
			t.Errorf("%s: the link is %q", language, got)
		}
		b.Shots("portal-link-" + language)
		b.Run(chromedp.Reload(), chromedp.WaitVisible(`form[data-api="POST /api/v1/portal/link"] button`))
		if got := b.Value(`document.documentElement.outerHTML.includes("/setup#")`); got != "false" {
			t.Errorf("%s: the link is in the page", language)
		}
	}
}
