package webconsole

import (
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/parley-meet/parley/services/internal/admin"
	"github.com/parley-meet/parley/services/internal/admintest"
	"github.com/parley-meet/parley/services/internal/netclient"
	"github.com/parley-meet/parley/services/internal/netconfig"
)

// What was typed outlives the language switch and the session's end; secrets
// outlive neither a switch nor a page.
func TestBrowserKeepsWhatWasTyped(t *testing.T) {
	t.Parallel()
	r := newRig(t, testPassword)
	b := newTab(t, "en")
	b.login(r.base)
	b.Run(chromedp.Navigate(r.base+"/users/add"), chromedp.WaitVisible("#name"), chromedp.SendKeys("#name", "anna"), chromedp.SendKeys("#password", "a first password"),
		chromedp.Click("#authority-operate"), chromedp.Click(`button[lang="ru"]`), chromedp.WaitVisible(`button[lang="ru"][aria-pressed="true"]`))
	if got := b.Value(`[document.getElementById("name").value, document.getElementById("password").value, document.getElementById("authority-operate").checked].join()`); got != "anna,,true" {
		t.Errorf("after the switch the form has %q", got)
	}
	// Another page, and this one later, are as new.
	b.Run(chromedp.Navigate(r.base+"/users"), chromedp.Navigate(r.base+"/users/add"), chromedp.WaitVisible("#name"))
	if got := b.Value(`document.getElementById("name").value`); got != "" {
		t.Errorf("a new form has %q", got)
	}
	b.Run(chromedp.SendKeys("#name", "anna"), chromedp.SendKeys("#password", "a first password"))
	b.Run(chromedp.Evaluate[chromedp.Void](`fetch("/logout", {method: "POST"}).then(() => { window.out = true; })`))
	b.Until("window.out === true")
	b.Run(chromedp.Click("form.card button.primary"), chromedp.WaitVisible("[data-summary] a"))
	if got := b.Value(`[location.pathname, document.getElementById("name").value, document.getElementById("password").value, document.activeElement.getAttribute("href")].join()`); got != "/users/add,anna,a first password,/login" {
		t.Errorf("after the session's end: %q", got)
	}
}

// Enter in a dialog sends it, and does not press its first button.
func TestBrowserDialogEnter(t *testing.T) {
	t.Parallel()
	r := newRig(t, testPassword)
	if err := r.admin.AddAccount(t.Context(), admintest.Operator, admin.AccountInput{Name: "vera", Authority: "view", Password: "first password for vera"}); err != nil {
		t.Fatal(err)
	}
	b := newTab(t, "en")
	b.login(r.base)
	b.Run(chromedp.Navigate(r.base+"/users"), chromedp.WaitVisible(".people"), chromedp.Click(`[data-open="reset-vera"]`), chromedp.WaitVisible("#reset-vera"),
		chromedp.SendKeys("#reset-vera-password", "short\r"), chromedp.WaitVisible("#reset-vera-error"))
	if got := b.Value(`document.getElementById("reset-vera").open + document.getElementById("reset-vera-password").value`); got != "trueshort" {
		t.Errorf("after Enter: %q", got)
	}
	b.Run(chromedp.Click("#reset-vera [data-cancel]"))
	b.Until(`!document.querySelector("dialog[open]")`)
	b.Until(`document.activeElement.dataset.open === "reset-vera"`)
}

// A change of the network is seen where it must be confirmed: at the top of the
// page that made it, and on the pages of whoever else looks.
func TestBrowserPendingIsSeen(t *testing.T) {
	t.Parallel()
	r := newRig(t, testPassword)
	b := newTab(t, "en")
	b.login(r.base)
	b.Run(chromedp.Navigate(r.base+"/network/address"), chromedp.WaitVisible("#slave"), chromedp.SendKeys("#slave", "192.0.2.8/24"),
		chromedp.Click("form.stack button.primary"), chromedp.WaitVisible(".banner"))
	b.Until(`scrollY === 0 && document.activeElement.id === "flash" && document.querySelector(".banner").getBoundingClientRect().top >= 0`)
	b.Run(chromedp.Click(".banner .primary"))
	b.Until(`!document.querySelector(".banner") && document.getElementById("flash").textContent.includes("are saved")`)

	b.Run(chromedp.Navigate(r.base+"/"), chromedp.WaitVisible(".services"))
	b.Until(`document.getElementById("link").textContent === "Live"`)
	c := netconfig.DefaultConfig()
	if _, err := r.admin.Network.Do(t.Context(), netclient.Request{Op: netclient.OpSet, Config: &c, Hold: true, By: "anna from 10.0.0.7"}); err != nil {
		t.Fatal(err)
	}
	b.Until(`(document.querySelector(".banner") || {textContent: ""}).textContent.includes("anna from 10.0.0.7")`)
}
