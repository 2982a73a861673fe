package qemutest_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// get fetches a path as the page does, and returns the answer's text.
func (b *browser) get(path string) string {
	b.t.Helper()
	var a struct {
		Status int
		Text   string
	}
	text, err := chromedp.Run(b.ctx, chromedp.Evaluate[string](`(async () => {
		const r = await fetch(`+quote(path)+`);
		return JSON.stringify({Status: r.status, Text: await r.text()});
	})()`, chromedp.EvalAwaitPromise))
	if err == nil {
		err = json.Unmarshal([]byte(text), &a)
	}
	if err != nil || a.Status != http.StatusOK {
		b.fail("GET %s: status %d, %v\n%.500s", path, a.Status, err, a.Text)
	}
	return a.Text
}

func (j *journey) names() {
	b := j.browser
	b.link(j.words["network"])
	b.link(j.words["names"])
	b.shot("names")
	b.wrong("PATCH /api/v1/network", []string{"proxy.user", "proxy.password"}, map[string]string{
		"hostname": "-box-", "dns.servers": "10.0.2.3\nnameserver", "dns.search": "exa mple", "ntp.servers": "a_b!",
		"proxy.host": "http://proxy", "proxy.port": "99999", "proxy.except": "10.0.0.0/99",
	})
	b.shot("names-wrong")
}

func (j *journey) firewall() {
	b := j.browser
	b.link(j.words["network"])
	b.link(j.words["firewall"])
	b.shot("firewall")
	csv := b.get("/api/v1/network/firewall?format=csv")
	for _, want := range []string{"5480", "443", "8801", "3478"} {
		if !strings.Contains(csv, want) {
			j.t.Errorf("the site's list of rules does not name port %s:\n%s", want, csv)
		}
	}
	if text := b.get("/api/v1/network/firewall?format=text"); !strings.Contains(text, j.at) {
		j.t.Errorf("the site's list of rules does not name the address %s:\n%s", j.at, text)
	}
	wrong := map[string]string{}
	for _, name := range strings.Fields(b.value(`[...document.querySelectorAll('textarea[name^="firewall.allow."]')].map(e => e.name).join(" ")`)) {
		wrong[name] = "10.0.2.0/33"
	}
	b.wrong("PATCH /api/v1/network", nil, wrong)
	b.shot("firewall-wrong")
}

func (j *journey) configure() {
	b := j.browser
	const api = "PUT /api/v1/connector"
	b.link(j.words["configure"])
	// Filled in from the network settings.
	if got := b.value(field("zoneController") + `.value`); got != j.master && j.prefix == "en" {
		j.t.Errorf("the zone controller's address is %q, want %s", got, j.master)
	}
	if got := b.value(field("router") + `.value`); got != j.slave && j.prefix == "en" {
		j.t.Errorf("the router's address is %q, want %s", got, j.slave)
	}
	b.shot("configure")
	b.do(chromedp.Click(`[data-rows="external"] [data-add]`))
	b.wrong(api, nil, map[string]string{
		"token": "not a token", "zoneController": "10.0.2.256", "router": "router", "otherZoneController": "::1",
		"publicName": "-meet-", "local": "10.0", "external": "x", "limit": "1",
	})
	b.shot("configure-wrong")
	b.open(j.at, "/configure")
	b.fill("zoneController", j.master)
	b.fill("router", j.slave)
	b.fill("otherZoneController", "10.0.2.40")
	b.send(api)
	b.until(`document.readyState === "complete" && document.querySelector(".note.good, #flash .good")`)
	// Nothing pretends to be connected.
	b.do(chromedp.WaitVisible("#missing"))
	b.shot("configure-saved")
	for name, want := range map[string]string{"zoneController": j.master, "router": j.slave, "otherZoneController": "10.0.2.40"} {
		if got := b.value(field(name) + `.value`); got != want {
			j.t.Errorf("%s was saved as %q, want %q", name, got, want)
		}
	}
}

// first is a password that an operator must change.
const first = "first password for you"

func (j *journey) users() {
	b := j.browser
	const api = "POST /api/v1/accounts"
	b.link(j.words["users"])
	b.shot("users")
	for _, u := range []struct{ name, authority string }{{j.operator, "operate"}, {j.viewer, "view"}} {
		b.open(j.at, "/users/add")
		if u.authority == "operate" {
			b.wrong(api, nil, map[string]string{"name": "1 b@d", "password": "short"})
			b.shot("users-wrong")
		}
		b.fill("name", u.name)
		b.choose("authority", u.authority)
		b.fill("password", first)
		b.send(api)
		b.until(`location.pathname === "/users" && document.readyState === "complete"`)
		b.until(`document.body.innerText.includes(` + quote(u.name) + `)`)
	}
	b.shot("users-added")
}

func (j *journey) ownPassword() {
	b := j.browser
	next := newPassword + " " + j.prefix
	b.open(j.at, "/password")
	b.shot("password")
	b.changePassword(j.password, next, next)
	b.until(`location.pathname !== "/password" && document.readyState === "complete"`)
	j.changed(next)
}

// view is what an operator sees who may only look.
func (j *journey) view() {
	b := newBrowserLike(j)
	const own = "a password of my own"
	b.loginAs(j.at, j.viewer, first)
	b.until(`location.pathname === "/password"`)
	b.changePassword(first, own, own)
	b.until(`location.pathname === "/" && document.readyState === "complete"`)
	for _, path := range []string{"/network/address", "/configure", "/services", "/system"} {
		b.open(j.at, path)
		if got := b.value(`[...document.querySelectorAll("main form[data-api] button:not([type=button]), main form[data-api] input:not([type=hidden])")].filter(e => e.checkVisibility() && !e.matches(":disabled")).length`); got != "0" {
			j.t.Errorf("%s: %s controls are open to one who may only look", path, got)
		}
	}
	b.shot("view")
	status, err := chromedp.Run(b.ctx, chromedp.Evaluate[int](`fetch("/api/v1/services/mmr/stop", {method: "POST"}).then(r => r.status)`, chromedp.EvalAwaitPromise))
	if err != nil || status != http.StatusForbidden {
		j.t.Errorf("who may only look stops a service: status %d, %v", status, err)
	}
	j.v.want("services", `(?m)^mmr .*(running|работает)`)
}

func (j *journey) certificates() {
	b := j.browser
	const request, install = "POST /api/v1/certificate/request", "PUT /api/v1/certificate"
	b.link(j.words["certificates"])
	b.shot("certificates")
	b.wrong(request, []string{"organization"}, map[string]string{"names": "not a name!", "country": "1?"})
	b.shot("certificates-wrong")
	b.open(j.at, "/certificates")
	b.wrong(install, []string{"key"}, map[string]string{"chain": "no certificate"})
	b.fill("chain", selfSigned(j.t, j.at))
	b.fill("key", "no key")
	b.send(install)
	b.refused(install, "key")
	b.open(j.at, "/certificates")
	b.fill("names", "parley-"+j.prefix+".example.com\n"+j.at)
	b.fill("organization", "Example")
	b.fill("country", "DE")
	b.send(request)
	b.until(`document.body.textContent.includes("BEGIN CERTIFICATE REQUEST")`)
	b.shot("certificates-request")
}

// selfSigned is a certificate of somebody else's key, PEM.
func selfSigned(t *testing.T, address string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.ParseIP(address)}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
}

func (j *journey) diagnostics() {
	b := j.browser
	b.link(j.words["diagnostics"])
	b.shot("diagnostics")
	tool := func(name string) string { return `form[data-stream="out-` + name + `"]` }
	const bad, port = "not a host; reboot", "0"
	for name, values := range map[string]map[string]string{
		"ping": {"host": bad}, "traceroute": {"host": bad}, "lookup": {"host": bad, "server": bad},
		"tls": {"host": bad, "port": port}, "port": {"host": bad, "port": port},
	} {
		b.wrong(tool(name), nil, values)
	}
	b.shot("diagnostics-wrong")
	b.open(j.at, "/diagnostics")
	b.fill(tool("ping")+` [name="host"]`, "10.0.2.2")
	b.send(tool("ping"))
	b.until(`/10\.0\.2\.2.* (ms|мс)/.test(document.getElementById("out-ping").textContent)`)
	b.until(`document.querySelector(` + quote(tool("ping")) + `).getAttribute("aria-busy") !== "true"`)
	j.t.Logf("%s: ping\n%s", j.prefix, b.value(`document.getElementById("out-ping").textContent`))
	b.fill(tool("port")+` [name="host"]`, j.at)
	b.fill(tool("port")+` [name="port"]`, "5480")
	b.send(tool("port"))
	b.until(`document.getElementById("out-port").textContent.includes("5480")`)
	b.shot("diagnostics-ping")
}

func (j *journey) system() {
	b := j.browser
	b.link(j.words["system"])
	b.until(`document.body.innerText.includes(` + quote(built.version.String) + `)`)
	b.wrong("PUT /api/v1/system/time", nil, map[string]string{"time": "yesterday"})
	b.shot("system")
	// A factory reset is asked about, and the name must be typed.
	b.send("POST /api/v1/system/factory-reset")
	b.do(chromedp.WaitVisible("dialog[open]"))
	if got := b.value(`document.querySelector("dialog[open] [data-yes]").disabled`); got != "true" {
		j.t.Error("a factory reset is one click away")
	}
	b.shot("system-reset")
	b.do(chromedp.Click(`dialog[open] button[value="no"]`))
}

// memory holds the web console to its limit, after everything that was done.
func (j *journey) memory() {
	var report struct {
		Appliance struct {
			Services []struct {
				Name   string
				Memory int64
			}
		}
	}
	if err := json.Unmarshal([]byte(j.get("/api/v1/status")), &report); err != nil {
		j.t.Fatal(err)
	}
	var list []string
	for _, s := range report.Appliance.Services {
		list = append(list, fmt.Sprintf("%s %.1f MiB", s.Name, float64(s.Memory)/(1<<20)))
		if s.Name == "console-web" && (s.Memory == 0 || s.Memory > maxConsole) {
			j.t.Errorf("console-web has %d bytes in RAM, want at most %d", s.Memory, int64(maxConsole))
		}
	}
	j.t.Logf("in RAM: %s", strings.Join(list, ", "))
}

// newBrowserLike is another person's browser.
func newBrowserLike(j *journey) *browser {
	b := newBrowser(j.t, j.v.Machine, j.prefix, j.at)
	b.prefix, b.shots = j.prefix+"-view", 0
	return b
}
