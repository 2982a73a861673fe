package qemutest_test

import (
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/parley-meet/parley/image/qemutest"
)

// newPassword is what the administrator sets at the first login.
const newPassword = "correct horse battery staple"

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
	b.do(chromedp.SendKeys("#password", password+"\r"))
	b.until(`location.pathname !== "/login" && document.readyState === "complete"`)
}

// firstLogin logs in with the generated password, which is to be changed.
func (b *browser) firstLogin(address, old, next string) {
	b.t.Helper()
	b.loginAs(address, "admin", old)
	b.until(`location.pathname === "/password"`)
	b.changePassword(old, next, next)
	b.until(`location.pathname === "/"`)
}

func (b *browser) changePassword(current, next, confirm string) {
	b.t.Helper()
	b.fill("current", current)
	b.fill("new", next)
	b.fill("confirm", confirm)
	b.send("PUT /api/v1/account/password")
}

// An administrator sets the appliance up with a browser, in both languages.
func TestJourney(t *testing.T) {
	disk := copyDisk(t)
	v := boot(t, qemutest.Options{Disk: disk})
	v.up()
	v.login()
	v.address()
	b := newBrowser(t, v.Machine, "en", "10.0.2.15", "10.0.2.20")
	b.open("10.0.2.15", "/")
	b.do(chromedp.WaitVisible("#password"))
	b.shot("login")
	b.do(chromedp.SendKeys("#password", v.password+"\r"), chromedp.WaitVisible(".services"))
	b.shot("status")
	t.Log(b.value(`JSON.stringify(performance.getEntriesByType("paint").concat(performance.getEntriesByType("navigation")))`))
	v.off()
}
