package qemutest_test

import (
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/parley-meet/parley/image/qemutest"
)

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
