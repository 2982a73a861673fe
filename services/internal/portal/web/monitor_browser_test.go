package web_test

import (
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/parley-meet/parley/services/internal/browsertest"
	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/portal/live"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/portaltest"
	"github.com/parley-meet/parley/services/internal/portal/store"
	"github.com/parley-meet/parley/services/internal/portal/zones"
)

// The Monitor tells times where the reader is, also those that come while he
// looks, and leads to Configure; Activate breaks long names where people would.
func TestMonitorInBrowser(t *testing.T) {
	p := portaltest.New(t)
	_, owner := p.Account("Acme", people.Business)
	who := people.Actor{User: owner.ID, Account: owner.Account, Name: owner.Name, Role: people.Owner}
	if err := p.All.Zones.Enable(t.Context(), who, "Office"); err != nil {
		t.Fatal(err)
	}
	c, err := p.All.Zones.Get(t.Context(), who)
	if err != nil {
		t.Fatal(err)
	}
	token, err := p.All.Zones.AddToken(t.Context(), who, zones.TokenInput{Zone: c.Zones[0].ID, Title: "first"})
	if err != nil {
		t.Fatal(err)
	}
	const host = "zone-controller-01.meetings-berlin-adlershof.branch-offices"
	p.Appliance(token.Secret, host, link.Controller).Linked()
	two := p.Appliance(token.Secret, "router-1", link.Router)
	two.Linked()
	portaltest.Wait(t, "both", func() bool {
		list, err := p.All.Live.Appliances(t.Context(), owner.Account)
		return err == nil && len(list) == 2
	})
	two.Stop()
	silent := func(since time.Time) {
		t.Helper()
		if err := p.DB.Write(t.Context(), func(tx *store.Tx) error {
			tx.Notify(live.TopicState, "")
			_, err := tx.Exec("UPDATE appliance_live SET contact = ? WHERE role = ?", store.Millis(since), "router")
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	silent(time.Date(2026, 3, 1, 22, 30, 5, 0, time.UTC))

	b := browsertest.New(t, "en")
	browsertest.Command(b, emulation.SetTimezoneOverride, emulation.SetTimezoneOverrideParams{TimezoneID: "Asia/Tokyo"})
	become(t, b, p, owner)
	open := func(path string) {
		t.Helper()
		b.Run(chromedp.Navigate("about:blank"), chromedp.Navigate(p.Server.URL+path), chromedp.WaitVisible("#main"))
	}
	open("/connector/monitor")
	const since = `[...document.querySelectorAll("tbody .detail")].filter((e) => !e.hidden).map((e) => e.innerText.replace(/\s/g, " ")).join("|")`
	b.Until(since + ` === "since Mar 2, 2026, 7:30:05 AM"`)
	if title := b.Value(`document.querySelector('time[data-live^="contact."][datetime^="2026-03-01"]').title.replace(/\s/g, " ")`); title != "Mar 2, 2026, 7:30:05 AM" {
		t.Errorf("the title is %q", title)
	}
	silent(time.Date(2026, 3, 2, 22, 30, 6, 0, time.UTC))
	b.Until(since + ` === "since Mar 3, 2026, 7:30:06 AM"`)
	b.Shots("monitor-silent")
	b.Run(chromedp.Click(`a[href^="/connector/configure#"]`))
	b.Until(`location.pathname === "/connector/configure" && !!document.querySelector(location.hash)`)

	open("/connector/activate")
	b.Shots("activate-long")
	if text := b.Value(`document.querySelector(".hosts").textContent`); !strings.Contains(text, host) {
		t.Errorf("what would be copied is %q", text)
	}
	for _, width := range []int64{360, 1280} {
		b.Size(width)
		// Each piece between two places to break stands on one line.
		broken := b.Value(`(() => { const out = []; for (const n of document.querySelector(".hosts").childNodes) { if (n.nodeType !== Node.TEXT_NODE) continue; const r = document.createRange(); r.selectNode(n); if (r.getClientRects().length > 1) out.push(n.textContent); } return out.join("|") })()`)
		if broken != "" {
			t.Errorf("at %d pixels broken: %s", width, broken)
		}
		if wide := b.Value("String(document.documentElement.scrollWidth > innerWidth)"); wide != "false" {
			t.Errorf("at %d pixels it scrolls sideways", width)
		}
	}
}
