package web_test

import (
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/parley-meet/parley/services/internal/browsertest"
	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/portaltest"
	"github.com/parley-meet/parley/services/internal/portal/releases"
	"github.com/parley-meet/parley/services/internal/ticket"
)

// The administrator's way in a real browser, in both languages: from sign-up to
// the first meeting's ticket, with an appliance that is linked by the client that
// real ones have.
func TestJourney(t *testing.T) {
	for _, lang := range []string{"en", "ru"} {
		t.Run(lang, func(t *testing.T) { journey(t, lang) })
	}
}

func journey(t *testing.T, lang string) {
	p := portaltest.New(t)
	b := browsertest.New(t, lang)
	open := func(path string) {
		t.Helper()
		b.Run(chromedp.Navigate("about:blank"), chromedp.Navigate(p.Server.URL+path), chromedp.WaitVisible("#main"))
	}
	shot := func(name string) {
		t.Helper()
		b.Shots("journey-" + name + "-" + lang)
		b.Judge("portal", "journey-"+name+"-"+lang, 400<<10)
	}
	set := func(pairs ...string) {
		t.Helper()
		for i := 0; i < len(pairs); i += 2 {
			b.Run(chromedp.SetValue(pairs[i], pairs[i+1]))
		}
	}

	// A release is there: the operator has published one.
	op := p.Operator()
	dir := portaltest.Output(t, "1.4.0", 1<<20)
	if _, err := p.All.Releases.ImportDir(t.Context(), people.Actor{User: op.ID, Operator: true}, dir, "", releases.Notes{EN: "First release.", RU: "Первый выпуск."}, nil); err != nil {
		t.Fatal(err)
	}

	// Sign-up, by the link that waits with the operator.
	email := "anna@example.com"
	open("/signup")
	set("#name", "Anna Lindqvist", "#email", email, "#password", testPassword, "#account", "Acme AG")
	b.Run(chromedp.Click("form[data-api] button.primary"))
	b.Until(`!document.querySelector("#sent").hidden`)
	open(strings.TrimPrefix(links(t, p, email, "verify")[0], p.Server.URL))
	b.Until(`document.querySelector("#who").value !== ""`)
	set("#password", testPassword)
	b.Run(chromedp.Click("form[data-api] button.primary"))
	b.Until(`location.pathname === "/" && !!document.querySelector("nav.side")`)
	shot("overview")

	// Enable.
	open("/connector")
	shot("enable")
	b.Run(chromedp.Click(`form[data-api="POST /api/v1/connector/enable"] button.primary`))
	b.Until(`!!document.querySelector('form[data-api="POST /api/v1/connector/disable"]')`)

	// Download: what a browser gets is what mkovf wrote.
	open("/connector/download")
	shot("download")
	for _, name := range []string{"parley-controller.ovf", "parley-controller.vmdk"} {
		want, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		b.Value(`(() => { document.body.dataset.sum = ""; fetch(document.querySelector('a[href$="/` + name + `"]').href).then((r) => r.arrayBuffer()).then((b) => crypto.subtle.digest("SHA-256", b).then((d) => { document.body.dataset.sum = b.byteLength + " " + [...new Uint8Array(d)].map((x) => x.toString(16).padStart(2, "0")).join("") })); return "" })()`)
		b.Until(`document.body.dataset.sum !== ""`)
		r, err := p.All.Releases.Get(t.Context(), "1.4.0")
		if err != nil {
			t.Fatal(err)
		}
		f, _ := r.File(name)
		if got := b.Value("document.body.dataset.sum"); got != strconv.Itoa(len(want))+" "+f.Sum {
			t.Errorf("%s: %s, want %d %s", name, got, len(want), f.Sum)
		}
	}

	// Token: shown once, and copied from the page.
	open("/connector/monitor")
	shot("monitor-empty")
	open("/connector/token")
	set(`form[data-api="POST /api/v1/connector/tokens"] [name="title"]`, "Rack 1")
	b.Run(chromedp.Click(`form[data-api="POST /api/v1/connector/tokens"] button.primary`))
	b.Until(`!document.querySelector("#made").hidden`)
	shot("token")
	token := b.Value(`document.querySelector('#made [data-from="secret"]').textContent`)
	if open("/connector/token"); strings.Contains(b.Value("document.body.innerHTML"), token[8:40]) {
		t.Error("the token is shown again")
	}

	// The appliance enrols and appears without a hand on the browser.
	open("/connector/monitor")
	d := newDoor(t)
	u, err := url.Parse(d.URL)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}
	a := p.Appliance(token, "controller-1", link.Controller)
	a.Set(func(s *link.Status) {
		s.HTTPS, s.Addresses, s.Participants = uint16(port), []netip.Addr{netip.MustParseAddr("127.0.0.1")}, 12
	})
	b.Until(`document.querySelector("table th[scope=row]")?.textContent === "controller-1" && document.querySelector("[data-live^=state]").dataset.state === "ready" && document.querySelector("[data-live^=people]").textContent.includes("12")`)
	shot("monitor")
	open("/connector/configure")
	shot("configure")

	// Production.
	open("/connector/activate")
	shot("activate")
	b.Run(chromedp.Click(`form[data-api="PUT /api/v1/connector/production"] button.primary`))
	b.Until(`!!document.querySelector('form[data-api="PUT /api/v1/connector/production"][data-confirm]')`)
	shot("production")
	a.Config(func(c link.Config) bool { return c.Production })

	// An On-Prem user schedules a meeting and comes to the controller with a ticket.
	owner := p.Find(email)
	host := p.User(owner.Account, "Boris Petrov", people.Member, people.KindOnPrem)
	become(t, b, p, host)
	open("/meetings/new")
	b.Until(`document.querySelector("#start").value !== "" && document.querySelector("#timezone").value !== ""`)
	set("#topic", "First meeting")
	b.Run(chromedp.Click("form[data-api^='POST /api/v1/meetings'] button.primary"))
	b.Until(`document.querySelector("h1").textContent === "First meeting"`)
	shot("meeting")
	b.Run(chromedp.Click("a[data-start]"))
	b.Until(`location.pathname === "/m"`)
	q, err := url.ParseQuery(strings.TrimPrefix(b.Value("location.hash"), "#"))
	if err != nil {
		t.Fatal(err)
	}
	// The controller has the keys by its configuration, and verifies by itself.
	cfg := a.Config(func(c link.Config) bool { return strings.Contains(string(c.Keys), "kid") })
	keys, err := ticket.ParseSet(cfg.Keys)
	if err != nil {
		t.Fatal(err)
	}
	claims, err := ticket.Verify(q.Get("t"), keys, ticket.Expect{Issuer: cfg.Portal, Zone: a.Credentials.Zone}, time.Now())
	if err != nil || claims.Role != ticket.Host || claims.Subject != host.ID {
		t.Errorf("%+v %v", claims, err)
	}
	for _, uri := range d.seen() {
		if strings.Contains(uri, q.Get("t")) {
			t.Errorf("the ticket went over the network: %s", uri)
		}
	}

	// It falls silent, and the page turns red by itself and says since when.
	become(t, b, p, owner)
	open("/connector/monitor")
	b.Until(`document.querySelector("[data-live^=state]").dataset.state === "ready"`)
	stopped := time.Now()
	a.Stop()
	b.Until(`document.querySelector("[data-live^=state]").dataset.state === "unhealthy" && /20\d\d-/.test(document.querySelector("[data-live^=state]").textContent)`)
	t.Logf("red %.1f s after the appliance stopped", time.Since(stopped).Seconds())
	b.Until(`document.body.innerText.includes("controller-1") && !!document.querySelector("#alerts")`)
	shot("monitor-silent")
}
