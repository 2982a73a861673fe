package webconsole

import (
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/parley-meet/parley/services/internal/admin"
	"github.com/parley-meet/parley/services/internal/admintest"
)

// What was typed outlives the language switch and the session's end; secrets
// outlive neither a switch nor a page.
func TestBrowserKeepsWhatWasTyped(t *testing.T) {
	t.Parallel()
	r := newRig(t, testPassword)
	b := newTab(t, "en")
	b.login(r.base)
	b.run(chromedp.Navigate(r.base+"/users/add"), chromedp.WaitVisible("#name"), chromedp.SendKeys("#name", "anna"), chromedp.SendKeys("#password", "a first password"),
		chromedp.Click("#authority-operate"), chromedp.Click(`button[lang="ru"]`), chromedp.WaitVisible(`button[lang="ru"][aria-pressed="true"]`))
	if got := b.value(`[document.getElementById("name").value, document.getElementById("password").value, document.getElementById("authority-operate").checked].join()`); got != "anna,,true" {
		t.Errorf("after the switch the form has %q", got)
	}
	// Another page, and this one later, are as new.
	b.run(chromedp.Navigate(r.base+"/users"), chromedp.Navigate(r.base+"/users/add"), chromedp.WaitVisible("#name"))
	if got := b.value(`document.getElementById("name").value`); got != "" {
		t.Errorf("a new form has %q", got)
	}
	b.run(chromedp.SendKeys("#name", "anna"), chromedp.SendKeys("#password", "a first password"))
	b.run(chromedp.Evaluate[chromedp.Void](`fetch("/logout", {method: "POST"}).then(() => { window.out = true; })`))
	b.until("window.out === true")
	b.run(chromedp.Click("form.card button.primary"), chromedp.WaitVisible("[data-summary] a"))
	if got := b.value(`[location.pathname, document.getElementById("name").value, document.getElementById("password").value, document.activeElement.getAttribute("href")].join()`); got != "/users/add,anna,a first password,/login" {
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
	b.run(chromedp.Navigate(r.base+"/users"), chromedp.WaitVisible(".people"), chromedp.Click(`[data-open="reset-vera"]`), chromedp.WaitVisible("#reset-vera"),
		chromedp.SendKeys("#reset-vera-password", "short\r"), chromedp.WaitVisible("#reset-vera-error"))
	if got := b.value(`document.getElementById("reset-vera").open + document.getElementById("reset-vera-password").value`); got != "trueshort" {
		t.Errorf("after Enter: %q", got)
	}
	b.run(chromedp.Click("#reset-vera [data-cancel]"))
	b.until(`!document.querySelector("dialog[open]")`)
	b.until(`document.activeElement.dataset.open === "reset-vera"`)
}
