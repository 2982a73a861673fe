package qemutest_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/parley-meet/parley/image/qemutest"
)

// newPassword is what the administrator sets at the first login.
const newPassword = "correct horse battery staple"

// password is the endpoint that sets one's own.
const password = "PUT /api/v1/account/password"

// maxConsole is how much memory the web console may have in RAM, in bytes.
const maxConsole = 40e6

// journey is one walk of an administrator through the console.
type journey struct {
	*browser
	v        *vm
	words    map[string]string // of links
	password string            // admin's
	at       string            // the appliance's address
	master   string            // that it gets
	slave    string
	operator string // names of accounts that are added
	viewer   string
}

// An administrator sets the appliance up with a browser: rows 7 to 14 and 20 of
// the mission, in English on a new appliance and once more in Russian.
func TestJourney(t *testing.T) {
	disk := copyDisk(t)
	v := boot(t, qemutest.Options{Disk: disk})
	v.up()
	v.login()
	v.address()
	// The certificate that the browser meets is the one that the line shows. It
	// gets the machine's addresses when there are any.
	for end := time.Now().Add(stepTime); !strings.Contains(v.command("status"), fingerprint(t, v.Port)); time.Sleep(time.Second) {
		if time.Now().After(end) {
			t.Fatalf("the serial line does not show the certificate's fingerprint %s", fingerprint(t, v.Port))
		}
	}
	addresses := []string{"10.0.2.15", "10.0.2.20", "10.0.2.21"}

	j := &journey{browser: newBrowser(t, v.Machine, "en", addresses...), v: v, password: v.password,
		at: "10.0.2.15", master: "10.0.2.20", slave: "10.0.2.30", operator: "olga", viewer: "vera",
		words: map[string]string{"network": "Network", "address": "Address", "names": "DNS, time, proxy", "firewall": "Firewall",
			"configure": "Configure", "users": "Users", "certificates": "Certificates", "diagnostics": "Diagnostics", "system": "System"}}
	if !j.step("login", j.firstDay) {
		t.Fatal("the first login did not come about")
	}
	j.walk()

	ru := &journey{browser: newBrowser(t, v.Machine, "ru", addresses...), v: v, password: j.password,
		at: j.at, master: "10.0.2.21", slave: "10.0.2.31", operator: "oleg", viewer: "viktor",
		words: map[string]string{"network": "Сеть", "address": "Адрес", "names": "DNS, время, прокси", "firewall": "Брандмауэр",
			"configure": "Настроить", "users": "Пользователи", "certificates": "Сертификаты", "diagnostics": "Диагностика", "system": "Система"}}
	ru.login(ru.at, ru.password)
	ru.walk()
	ru.step("memory", ru.memory)
	v.off()
}

// step is a part of the way, which goes on where one part failed.
func (j *journey) step(name string, f func()) bool {
	t, began := j.t, time.Now()
	return t.Run(j.prefix+"-"+name, func(sub *testing.T) {
		j.t, j.v.t = sub, sub
		defer func() { j.t, j.v.t = t, t }()
		f()
		sub.Logf("%.1f s", time.Since(began).Seconds())
	})
}

func (j *journey) walk() {
	j.step("overview", j.overview)
	if !j.step("address", j.address) {
		j.t.Fatal("nobody knows which address the appliance has")
	}
	j.step("processes", j.processes)
	j.step("names", j.names)
	j.step("firewall", j.firewall)
	j.step("configure", j.configure)
	j.step("users", j.users)
	j.step("password", j.ownPassword)
	j.step("view", j.view)
	j.step("certificates", j.certificates)
	j.step("diagnostics", j.diagnostics)
	j.step("system", j.system)
}

// login logs the administrator in.
func (b *browser) login(address, password string) {
	b.t.Helper()
	b.loginAs(address, "admin", password)
	b.until(`location.pathname === "/"`)
}

func (b *browser) loginAs(address, name, password string) {
	b.t.Helper()
	b.open(address, "/login")
	b.do(chromedp.WaitVisible("#password"))
	b.fill("name", name)
	b.fill("password", password)
	b.do(chromedp.KeyEvent("\r"))
	b.until(`location.pathname !== "/login" && document.readyState === "complete"`)
}

// firstLogin logs in with the generated password, which is to be changed.
func (b *browser) firstLogin(address, old, next string) {
	b.t.Helper()
	b.loginAs(address, "admin", old)
	b.until(`location.pathname === "/password"`)
	b.changePassword(old, next, next)
	b.until(`location.pathname === "/" && document.readyState === "complete"`)
}

func (b *browser) changePassword(current, next, confirm string) {
	b.t.Helper()
	b.fill("current", current)
	b.fill("new", next)
	b.fill("confirm", confirm)
	b.send(password)
}

// firstDay is the first login, which forces a new password.
func (j *journey) firstDay() {
	b := j.browser
	b.open(j.at, "/")
	b.do(chromedp.WaitVisible("#password"))
	b.shot("login")
	j.paint()
	b.fill("password", "not the password")
	b.do(chromedp.KeyEvent("\r"), chromedp.WaitVisible("#error"))
	b.shot("login-wrong")
	b.loginAs(j.at, "admin", j.password)
	b.until(`location.pathname === "/password"`)
	b.open(j.at, "/network") // nothing else is open before
	b.until(`location.pathname === "/password"`)
	b.changePassword(j.password, "short", "shorter")
	b.refused(password, "new")
	b.changePassword(j.password, newPassword, "another one")
	b.refused(password, "confirm")
	b.shot("password-wrong")
	b.changePassword("not the password", newPassword, newPassword)
	b.refused(password, "current")
	time.Sleep(3 * time.Second) // a wrong password costs a moment
	b.changePassword(j.password, newPassword, newPassword)
	b.until(`location.pathname === "/" && document.readyState === "complete"`)
	j.changed(newPassword)
}

// changed says which password counts. Whoever was logged in on the serial line
// with the old one is logged out at the next key.
func (j *journey) changed(next string) {
	j.t.Helper()
	j.password = next
	j.v.loggedOut(next)
}

// loggedOut notices that the password is another one, and logs in again.
func (v *vm) loggedOut(password string) {
	v.t.Helper()
	v.password = password
	v.send("\r")
	v.expect(`login: `, stepTime)
	v.login()
}

// paint tells how long the page took, by the browser's own account.
func (j *journey) paint() {
	// The entry comes a moment after the paint. It is told, and no bar here.
	_ = j.try(5*time.Second, chromedp.Poll[chromedp.Void](`performance.getEntriesByType("paint").some(e => e.name === "first-contentful-paint")`))
	j.t.Logf("%s: first paint of %s after %s", j.prefix, j.value("location.pathname"), j.value(`(() => {
		const p = performance.getEntriesByType("paint").find(e => e.name === "first-contentful-paint");
		const n = performance.getEntriesByType("navigation")[0];
		return Math.round(p ? p.startTime : -1) + " ms, answer " + Math.round(n.responseEnd) + " ms, loaded " + Math.round(n.loadEventEnd) + " ms";
	})()`))
}

func (j *journey) overview() {
	b := j.browser
	b.open(j.at, "/")
	j.paint()
	b.until(`["zctrl", "mmr"].every(s => document.body.innerText.includes(s))`)
	b.shot("overview")
	b.size(360)
	b.shot("overview-narrow")
	b.size(1280)
}

func (j *journey) address() {
	b := j.browser
	const api = "PATCH /api/v1/network"
	b.link(j.words["network"])
	b.link(j.words["address"])
	b.choose("eth0.mode", "static")
	b.choose("ipv6.mode", "static")
	b.do(chromedp.Click(`[data-rows="routes"] [data-add]`))
	b.wrong(api, []string{"eth0.netmask"}, map[string]string{
		"eth0.address": "10.0.2.300/24", "eth0.gateway": "gateway", "eth0.mtu": "17",
		"slave": "10.0.2", "ipv6.address": "2001:db8::g/64", "ipv6.gateway": "fe80", "destination": "10.0.0.0/33", "gateway": "10.0.0",
	})
	b.shot("address-wrong")
	b.fill("eth0.address", "10.0.2.20")
	b.fill("eth0.netmask", "255.0.255.0")
	b.send(api)
	b.refused(api, "eth0.netmask")
	b.open(j.at, "/network/address")
	b.choose("eth0.mode", "static")
	b.fill("eth0.address", j.master+"/24")
	b.fill("eth0.gateway", "10.0.2.2")
	b.fill("slave", j.slave+"/24")
	b.shot("address")
	b.send(api)
	j.v.until("ifconfig", strings.ReplaceAll(j.master, ".", `\.`)+`/24(?s:.*)`+strings.ReplaceAll(j.slave, ".", `\.`)+`/24`)
	// The browser has lost the old address. The new one is another site: log in there.
	j.at = j.master
	b.login(j.at, j.password)
	const confirm = `form[data-api="POST /api/v1/network/confirm"]`
	b.do(chromedp.WaitVisible(confirm))
	b.shot("address-confirm")
	b.send("POST /api/v1/network/confirm")
	b.until(`!document.querySelector(` + quote(confirm) + `) && document.readyState === "complete"`)
	b.open(j.at, "/network/address")
	for name, want := range map[string]string{"eth0.address": j.master + "/24", "slave": j.slave + "/24", "eth0.gateway": "10.0.2.2"} {
		if got := b.value(field(name) + `.value`); got != want {
			j.t.Errorf("after the confirmation %s is %q, want %q", name, got, want)
		}
	}
}

// state waits until the page shows a service in a state.
func (j *journey) state(service, want string) {
	j.t.Helper()
	j.until(fmt.Sprintf(`document.querySelector('[data-live="svc.%s.state"]')?.dataset.state === %q`, service, want))
}

// press sends a form, and says yes when it asks.
func (b *browser) press(api string) {
	b.t.Helper()
	b.send(api)
	b.do(chromedp.WaitVisible("dialog[open]"))
	b.do(chromedp.Click("dialog[open] [data-yes]"))
}

func (j *journey) processes() {
	b := j.browser
	b.link(j.words["network"])
	for _, s := range []string{"zctrl", "mmr"} {
		j.state(s, "ready")
	}
	b.shot("network-status")
	j.press("POST /api/v1/services/mmr/stop")
	j.state("mmr", "stopped")
	b.shot("network-stopped")
	j.v.want("services", `(?m)^mmr .*(stopped|остановлен)`)
	b.send("POST /api/v1/services/mmr/start")
	j.state("mmr", "ready")
	// What happens on the serial line is seen without loading the page again.
	b.do(chromedp.Evaluate[chromedp.Void]("window.mark = 1"))
	j.v.want("stop mmr", "mmr")
	j.state("mmr", "stopped")
	j.v.want("start mmr", "mmr")
	j.state("mmr", "ready")
	if b.value("window.mark") != "1" {
		j.t.Error("the page was loaded anew for a change")
	}
}
