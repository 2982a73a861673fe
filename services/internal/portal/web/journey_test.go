package web_test

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/chromedp"

	"github.com/parley-meet/parley/services/internal/browsertest"
	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/portal/meetings"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/portaltest"
	"github.com/parley-meet/parley/services/internal/ticket"
)

// journey is a person's way through the portal in a real browser.
type journey struct {
	t    *testing.T
	p    *portaltest.Portal
	b    *browsertest.Tab
	lang string
	op   people.User
	step int
}

func (j *journey) open(path string) {
	j.t.Helper()
	j.b.Run(chromedp.Navigate("about:blank"), chromedp.Navigate(j.p.Server.URL+path), chromedp.WaitVisible("#main"))
}

// keep keeps a picture of what is seen.
func (j *journey) keep(name string) {
	j.t.Helper()
	j.step++
	j.b.Keep("portal-journey", fmt.Sprintf("%s %02d %s", j.lang, j.step, name))
	j.b.Shots(fmt.Sprintf("journey-%s-%02d-%s", j.lang, j.step, name))
}

// submit sends a form and waits for what comes of it.
func (j *journey) submit(button, until string) {
	j.t.Helper()
	j.b.Run(chromedp.Click(button))
	j.b.Until(until)
}

// mail has the operator look at a mail's link on his page, and returns its path.
// Another person's browser takes it from there.
func (j *journey) mail(to string) string {
	j.t.Helper()
	become(j.t, j.b, j.p, j.op)
	j.open("/operator/mail")
	j.b.Value(`(() => { [...document.querySelectorAll("tbody tr")].find((r) => r.innerText.includes("` + to + `")).querySelector("[data-open]").click(); return "" })()`)
	j.b.Run(chromedp.WaitVisible("dialog[open] button.primary"))
	j.submit("dialog[open] button.primary", `!!document.querySelector("dialog[open] [data-from=link]")?.textContent`)
	j.keep("mail")
	text := j.b.Value(`document.querySelector("dialog[open] [data-from=link]").textContent`)
	become(j.t, j.b, j.p, people.User{})
	path, ok := strings.CutPrefix(text, j.p.Server.URL)
	if !ok {
		j.t.Fatalf("the link is %q", text)
	}
	return path
}

// output is the folder of what can be downloaded: mkovf's real one where
// PARLEY_OUTPUT names it, as in CI, or one like it.
func output(t *testing.T, p *portaltest.Portal) (dir, version string) {
	t.Helper()
	dir = os.Getenv("PARLEY_OUTPUT")
	if dir == "" {
		return p.Output("1.2.3"), "1.2.3"
	}
	ovf, err := os.ReadFile(filepath.Join(dir, "parley-controller.ovf"))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`<FullVersion>([^<]+)<`).FindSubmatch(ovf)
	if m == nil {
		t.Fatal("the OVF names no version")
	}
	return dir, string(m[1])
}

// In both languages a new person signs up by the link of the operator's page,
// enables the connector, downloads both appliances, copies a token, sees the
// controller that enrols with it appear, goes to production, and invites a host,
// who schedules a meeting and opens it with a ticket that verifies. When the
// controller falls silent, the Monitor and the meeting tell.
func TestJourney(t *testing.T) {
	t.Parallel()
	for _, lang := range []string{"en", "ru"} {
		t.Run(lang, func(t *testing.T) {
			p := portaltest.New(t)
			j := &journey{t: t, p: p, b: browsertest.New(t, lang), lang: lang, op: p.Operator()}
			dir, version := output(t, p)
			p.Import(dir, version, false)
			owner := j.signUp("anna@example.com")
			j.enable()
			j.download(dir, version)
			a, d := j.enrol()
			j.production()
			m := j.host(owner, d)
			if lang == "ru" { // it takes a while
				j.silence(a, owner, m)
			}
		})
	}
}

func (j *journey) signUp(email string) people.User {
	j.t.Helper()
	j.open("/signup")
	j.b.Run(chromedp.SetValue("#name", "Anna Lindqvist"), chromedp.SetValue("#email", email), chromedp.SetValue("#password", testPassword), chromedp.SetValue("#account", "Acme AG"))
	j.keep("signup")
	j.submit("form[data-api] button.primary", `!document.querySelector("#sent").hidden`)
	j.open(j.mail(email))
	j.b.Until(`document.querySelector("#who").value === "` + email + `"`)
	j.b.Run(chromedp.SetValue("#password", testPassword))
	j.submit("form[data-api] button.primary", `location.pathname === "/" && !!document.querySelector("nav.side")`)
	j.keep("overview")
	// Signing in again works.
	become(j.t, j.b, j.p, people.User{})
	j.open("/login")
	j.b.Run(chromedp.SetValue("#email", email), chromedp.SetValue("#password", testPassword))
	j.submit("button.primary", `location.pathname === "/"`)
	return userOf(j.t, j.p, email)
}

// userOf finds a person by the address.
func userOf(t *testing.T, p *portaltest.Portal, email string) people.User {
	t.Helper()
	for _, r := range dump(t, p) {
		if r.table == "users" && r.values["email"] == email {
			return people.User{ID: r.values["id"], Account: r.values["account_id"], Email: email, Name: r.values["name"]}
		}
	}
	t.Fatalf("nobody has the address %s", email)
	return people.User{}
}

func (j *journey) enable() {
	j.t.Helper()
	j.open("/connector")
	j.keep("connector off")
	j.submit(`form[data-api$="/connector/enable"] button.primary`, `!!document.querySelector("#disable-h")`)
	j.keep("connector on")
}

// download has the browser save both appliances and compares the files with
// those that were published, and with the sums that the page shows.
func (j *journey) download(dir, version string) {
	j.t.Helper()
	to := j.t.TempDir()
	browsertest.Command(j.b, browser.SetDownloadBehavior, browser.SetDownloadBehaviorParams{Behavior: browser.SetDownloadBehaviorBehaviorAllow, DownloadPath: to})
	j.open("/connector/download")
	j.keep("download")
	for _, name := range []string{"parley-controller.ovf", "parley-controller.vmdk", "parley-router.ovf", "parley-router.vmdk"} {
		want, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			j.t.Fatal(err)
		}
		sum := fmt.Sprintf("%x", sha256.Sum256(want))
		j.b.Run(chromedp.Click(`a[href$="/` + version + `/` + name + `"]`))
		portaltest.Wait(j.t, name, func() bool {
			got, err := os.ReadFile(filepath.Join(to, name))
			return err == nil && fmt.Sprintf("%x", sha256.Sum256(got)) == sum
		})
		if shown := j.b.Value(`document.querySelector('a[href$="/` + name + `"]').closest("tr").querySelector(".sum .code").textContent`); shown != sum {
			j.t.Errorf("%s: the page shows %s, the file has %s", name, shown, sum)
		}
	}
}

// enrol makes a token on the page; a machine that gets it appears on the Monitor
// by itself.
func (j *journey) enrol() (*portaltest.Appliance, *door) {
	j.t.Helper()
	j.open("/connector/token")
	j.b.Run(chromedp.SetValue("#title", "Rack 7"))
	j.submit(`form[data-api="POST /api/v1/connector/tokens"] button.primary`, `!document.querySelector("#made").hidden`)
	j.keep("token")
	token := j.b.Value(`document.querySelector("#made [data-from=secret]").textContent`)
	j.open("/connector/token")
	if strings.Contains(j.b.Value(`document.documentElement.outerHTML`), token) {
		j.t.Error("the token is shown twice")
	}

	j.open("/connector/monitor")
	j.keep("monitor empty")
	a := j.p.Appliance(token, "zc1.example.com", link.Controller)
	d := newDoor(j.t)
	u, err := url.Parse(d.URL)
	if err != nil {
		j.t.Fatal(err)
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil {
		j.t.Fatal(err)
	}
	a.Set(func(s *link.Status) {
		s.Addresses, s.HTTPS = []netip.Addr{netip.MustParseAddr("127.0.0.1")}, uint16(port)
	})
	j.b.Until(`[...document.querySelectorAll("tbody tr")].some((r) => r.innerText.includes("zc1.example.com") && r.querySelector('.state[data-state="ready"]'))`)
	j.b.Until(`[...document.querySelectorAll("tbody tr")].some((r) => r.innerText.includes("127.0.0.1"))`)
	j.keep("monitor running")
	return a, d
}

func (j *journey) production() {
	j.t.Helper()
	j.open("/connector/activate")
	j.keep("activate")
	form := `form[data-api$="/connector/production"]`
	j.b.Value(`(() => { const c = document.querySelector('` + form + ` [name=accept]'); if (c && !c.checked) c.click(); return "" })()`)
	j.submit(form+` button.primary`, `!!document.querySelector("#back")`)
	j.keep("production")
}

// host invites somebody who is On-Prem, who schedules a meeting and enters it.
func (j *journey) host(owner people.User, d *door) meetings.Meeting {
	j.t.Helper()
	j.open("/users/invite")
	j.b.Run(chromedp.SetValue("#email", "boris@example.com"), chromedp.SetValue("#kind", "onprem"))
	j.submit(`form[data-api="POST /api/v1/users"] button.primary`, `location.pathname === "/users" && document.body.innerText.includes("boris@example.com")`)
	j.keep("users")
	j.open(j.mail("boris@example.com"))
	j.b.Until(`document.querySelector("#who").value === "boris@example.com"`)
	j.b.Run(chromedp.SetValue("#name", "Boris Petrov"), chromedp.SetValue("#password", testPassword))
	j.submit("form[data-api] button.primary", `location.pathname === "/" && !!document.querySelector("nav.side")`)
	j.keep("overview of a host")
	j.open("/meetings/new")
	j.b.Until(`document.querySelector("#start").value !== "" && document.querySelector("#timezone").value !== ""`)
	j.b.Run(chromedp.SetValue("#topic", "Quarterly plan"))
	j.submit(`form[data-api^="POST /api/v1/meetings"] button.primary`, `document.querySelector("h1")?.textContent === "Quarterly plan"`)
	j.keep("meeting")
	boris := userOf(j.t, j.p, "boris@example.com")
	var list []meetings.Meeting
	j.p.Client(boris).JSON("GET", "/api/v1/meetings", nil, &list)
	if len(list) != 1 {
		j.t.Fatalf("%+v", list)
	}
	j.submit("a[data-start]", `location.pathname === "/m"`)
	if got := j.b.Value("location.origin"); got != d.URL {
		j.t.Errorf("the meeting is at %s, want %s", got, d.URL)
	}
	q, err := url.ParseQuery(strings.TrimPrefix(j.b.Value("location.hash"), "#"))
	if err != nil {
		j.t.Fatal(err)
	}
	set, err := ticket.ParseSet(j.p.Stranger().Do("GET", "/.well-known/jwks.json", nil).Body)
	if err != nil {
		j.t.Fatal(err)
	}
	zones := j.p.All.Zones
	c, err := zones.Get(j.t.Context(), people.Actor{User: owner.ID, Account: owner.Account, Role: people.Owner})
	if err != nil {
		j.t.Fatal(err)
	}
	got, err := ticket.Verify(q.Get("t"), set, ticket.Expect{Issuer: j.p.Server.URL, Zone: c.Zones[0].ID}, time.Now())
	if err != nil || got.Role != ticket.Host || got.Subject != boris.ID || got.Meeting.ID != list[0].ID {
		j.t.Errorf("%+v %v", got, err)
	}
	return list[0]
}

// silence has the controller fall silent: the Monitor tells by itself, and who
// wants to enter is told that none runs.
func (j *journey) silence(a *portaltest.Appliance, owner people.User, m meetings.Meeting) {
	j.t.Helper()
	become(j.t, j.b, j.p, owner)
	j.open("/connector/monitor")
	j.b.Until(`!!document.querySelector('tbody .state[data-state="ready"]')`)
	a.Stop()
	since := time.Now()
	j.b.Until(`!!document.querySelector('tbody .state[data-state="unhealthy"], tbody .state[data-state="failed"], tbody .state[data-state="stopped"]')`)
	// A slow machine makes it later; the rule itself is tested with a clock.
	j.t.Logf("the Monitor told of a silent controller after %v", time.Since(since).Round(time.Millisecond))
	j.keep("monitor silent")
	become(j.t, j.b, j.p, userOf(j.t, j.p, "boris@example.com"))
	j.open("/meetings/" + m.ID)
	j.submit("a[data-start]", `location.pathname.startsWith("/j/") && !document.querySelector("[data-state]").hidden`)
	j.keep("no controller")
}
