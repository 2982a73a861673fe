package web_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/parley-meet/parley/services/internal/browsertest"
	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/portal/meetings"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/portaltest"
	"github.com/parley-meet/parley/services/internal/portal/store"
	"github.com/parley-meet/parley/services/internal/ticket"
)

// door is where a controller would be: an https server of its own that keeps
// what it was asked for.
type door struct {
	*httptest.Server
	mu   sync.Mutex
	uris []string
}

func newDoor(t *testing.T) *door {
	d := &door{}
	d.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.mu.Lock()
		d.uris = append(d.uris, r.RequestURI+" "+r.Referer())
		d.mu.Unlock()
		_, _ = io.WriteString(w, "<!doctype html><title>m</title><main id=main>the meeting</main>")
	}))
	t.Cleanup(d.Close)
	return d
}

// runs has the door be a controller of a zone that runs.
func (d *door) runs(t *testing.T, p *portaltest.Portal, account, zone string) {
	t.Helper()
	u, err := url.Parse(d.URL)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}
	status, err := json.Marshal(link.Status{HTTPS: uint16(port), Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1")}})
	if err != nil {
		t.Fatal(err)
	}
	id := store.NewID()
	exec(t, p, "INSERT INTO appliances (id, account_id, zone_id, role, name, serial, expires, enrolled, token_id) VALUES (?,?,?,'controller','c1','01',?,1,'t')", id, account, zone, store.Millis(time.Now().Add(time.Hour)))
	exec(t, p, "INSERT INTO appliance_live (appliance_id, zone_id, account_id, role, host, version, status, contact, instance) VALUES (?,?,?,'controller','c1','1',?,?,'i')", id, zone, account, string(status), store.Millis(time.Now().Add(time.Hour)))
}

// In a real browser a host schedules a meeting and changes it, a guest waits for
// him by the link, and both come to the controller with a ticket that verifies
// and that no server was told of.
func TestMeetInBrowser(t *testing.T) {
	for _, lang := range []string{"en", "ru"} {
		t.Run(lang, func(t *testing.T) {
			p := portaltest.New(t)
			acc, owner := p.Account("Acme", people.Business)
			zone := connector(t, p, acc.ID)
			host := p.User(acc.ID, "Anna Lindqvist", people.Member, people.KindOnPrem)
			b := browsertest.New(t, lang)
			open := func(path string) {
				t.Helper()
				b.Run(chromedp.Navigate("about:blank"), chromedp.Navigate(p.Server.URL+path), chromedp.WaitVisible("#main"))
			}
			shot := func(name string) {
				t.Helper()
				b.Shots(name + "-" + lang)
				if lang == "ru" { // whose words are longer
					b.Judge("portal", name, 400<<10)
				}
			}
			claims := func() ticket.Claims {
				t.Helper()
				b.Until(`location.pathname === "/m"`)
				q, err := url.ParseQuery(strings.TrimPrefix(b.Value("location.hash"), "#"))
				if err != nil {
					t.Fatal(err)
				}
				set, err := ticket.ParseSet(p.Stranger().Do("GET", "/.well-known/jwks.json", nil).Body)
				if err != nil {
					t.Fatal(err)
				}
				c, err := ticket.Verify(q.Get("t"), set, ticket.Expect{Issuer: p.Server.URL, Zone: zone}, time.Now())
				if err != nil {
					t.Fatal(err)
				}
				return c
			}

			become(t, b, p, host)
			open("/meetings")
			shot("meetings-empty")
			b.Run(chromedp.Click(`a[href="/meetings/new"]`), chromedp.WaitVisible("#topic"))
			b.Until(`document.querySelector("#start").value !== "" && document.querySelector("#timezone").value !== ""`)
			shot("meetings-new")
			b.Run(chromedp.SetValue("#topic", "Quarterly plan"), chromedp.SetValue("#agenda", "Figures\nPlans"))
			b.Value(`(() => { const s = document.querySelector("#repeat-every") || document.querySelector('[name="repeat.every"]'); s.value = "weekly"; s.dispatchEvent(new Event("change", {bubbles: true})); return "" })()`)
			b.Run(chromedp.SetValue("#timezone", "Nowhere/Else"), chromedp.Click(`[name="repeat.weekdays"][value="MO"]`), chromedp.Click(`[name="repeat.weekdays"][value="TH"]`))
			b.Run(chromedp.Click("form[data-api^='POST /api/v1/meetings'] button.primary"))
			b.Until(`document.querySelector("#timezone-error").textContent !== ""`)
			shot("meetings-new-error")
			b.Run(chromedp.SetValue("#timezone", "Europe/Berlin"), chromedp.Click("form[data-api^='POST /api/v1/meetings'] button.primary"))
			b.Until(`/^\/meetings\/[a-z0-9]+$/i.test(location.pathname) && location.pathname !== "/meetings/new" && document.querySelector("h1").textContent === "Quarterly plan"`)
			shot("meeting")
			var list []meetings.Meeting
			p.Client(host).JSON("GET", "/api/v1/meetings", nil, &list)
			if len(list) != 1 || list[0].Rule != "FREQ=WEEKLY;INTERVAL=1;COUNT=10;BYDAY=MO,TH" || list[0].Timezone != "Europe/Berlin" {
				t.Fatalf("%+v", list)
			}
			m := list[0]
			if text := b.Value(`document.querySelector(".copy .code").textContent`); !strings.Contains(text, m.Link) || !strings.Contains(text, m.Passcode) {
				t.Errorf("invitation %q", text)
			}
			// One occurrence is cancelled, after a question.
			b.Run(chromedp.Click(`form[data-confirm^="cancel-"] button`), chromedp.WaitVisible("dialog[open] [data-yes]"))
			shot("meeting-cancel")
			b.Run(chromedp.Click("dialog[open] [data-yes]"))
			b.Until(`!!document.querySelector("table .badge.bad")`)
			shot("meeting-cancelled")
			open("/meetings/" + m.ID + "/edit")
			shot("meeting-edit")
			open("/meetings")
			shot("meetings")
			open("/meetings/room")
			shot("meetings-room")
			open("/meetings/" + m.ID + "/occurrences/" + m.Next.ID)
			shot("meeting-occurrence")
			// No controller: the host is told, and it goes on when there is one.
			open("/meetings")
			b.Run(chromedp.Click("td.actions a[data-start]"))
			b.Until(`location.pathname.startsWith("/j/") && !document.querySelector("[data-state]").hidden`)
			shot("start-no-controller")
			d := newDoor(t)
			d.runs(t, p, acc.ID, zone)
			if c := claims(); c.Role != ticket.Host || c.Subject != host.ID || c.Meeting.ID != m.ID {
				t.Errorf("%+v", c)
			}
			// A page of a meeting that was come to by a link does not start by itself.
			open("/j/" + m.Number)
			b.Run(chromedp.WaitVisible("[data-join-form] button.primary"))
			shot("join-host")

			// A guest, by the number with a wrong passcode, and by the link.
			become(t, b, p, people.User{})
			open("/join")
			shot("join")
			b.Run(chromedp.SetValue("#number", meetings.FormatNumber(m.Number)), chromedp.SetValue("#name", "Greta"), chromedp.SetValue("#passcode", "00000000"), chromedp.Click("[data-join-form] button.primary"))
			b.Until(`!document.querySelector("#passcode-error").hidden`)
			shot("join-wrong")
			open(strings.TrimPrefix(m.Link, p.Server.URL))
			b.Until(`document.querySelector("[data-passcode]").hidden`)
			shot("join-link")
			b.Run(chromedp.SetValue("#name", "Greta"), chromedp.Click("[data-join-form] button.primary"))
			b.Until(`!document.querySelector("[data-state]").hidden`)
			shot("join-waiting")
			exec(t, p, "INSERT INTO meeting_runs (id, meeting_id, zone_id, started, peak) VALUES ('r1', ?, ?, ?, 3)", m.ID, zone, store.Millis(time.Now()))
			if c := claims(); c.Role != ticket.Guest || c.Name != "Greta" {
				t.Errorf("%+v", c)
			}
			become(t, b, p, owner)
			open("/meetings/all")
			shot("meetings-all")
			open("/meetings/" + m.ID)
			shot("meeting-admin")
			exec(t, p, "UPDATE meetings SET last = 1")
			become(t, b, p, host)
			open("/meetings/past")
			shot("meetings-past")
			// The whole series is deleted only when its number is typed.
			open("/meetings/" + m.ID)
			b.Run(chromedp.Click(`form[data-confirm="remove"] button`), chromedp.WaitVisible("#remove-typed"))
			shot("meeting-delete")
			if b.Value(`document.querySelector("#remove [data-yes]").disabled`) != "true" {
				t.Error("it can be deleted without the number")
			}
			b.Run(chromedp.SendKeys("#remove-typed", meetings.FormatNumber(m.Number)), chromedp.Click("#remove [data-yes]"))
			b.Until(`location.pathname === "/meetings" && document.querySelector("#flash").textContent.trim() !== ""`)
			become(t, b, p, p.User(acc.ID, "Member", people.Member, ""))
			open("/meetings")
			shot("meetings-member")

			become(t, b, p, p.Operator())
			open("/operator/tickets")
			shot("ticket-keys")

			d.mu.Lock()
			defer d.mu.Unlock()
			for _, uri := range d.uris {
				if path, referer, _ := strings.Cut(uri, " "); path != "/m" && path != "/favicon.ico" || strings.Contains(referer, m.Number) {
					t.Errorf("the controller was asked for %s", uri)
				}
			}
		})
	}
}

// seen returns what the door was asked for.
func (d *door) seen() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.uris...)
}
