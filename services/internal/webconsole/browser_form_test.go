package webconsole

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/services/internal/account"
	"github.com/parley-meet/parley/services/internal/admin"
	"github.com/parley-meet/parley/services/internal/admintest"
	"github.com/parley-meet/parley/services/internal/netclient"
	"github.com/parley-meet/parley/services/internal/netconfig"
)

// What a form says about a wrong value stands beside it, and the keyboard goes
// there; what cannot be undone is typed first.
func TestBrowserForms(t *testing.T) {
	t.Parallel()
	r := newRig(t, testPassword)
	b := newTab(t, "en")
	b.login(r.base)
	b.Run(chromedp.Navigate(r.base+"/system"), chromedp.WaitVisible("#time"))
	b.Run(chromedp.Evaluate[chromedp.Void](`document.getElementById("time").value = "yesterday"`), chromedp.Click(`form[data-api="PUT /api/v1/system/time"] button`),
		chromedp.WaitVisible("#time-error"))
	for script, want := range map[string]string{
		`document.activeElement.id`:                                                          "time",
		`document.getElementById("time").getAttribute("aria-invalid")`:                       "true",
		`document.getElementById("time").getAttribute("aria-describedby")`:                   "time-hint time-error",
		`document.querySelector('[data-summary]:not([hidden])').role`:                        "alert",
		`document.querySelector('form[aria-busy="true"]') === null`:                          "true",
		`document.getElementById("time-error").textContent.trim().length > 5`:                "true",
		`[...document.querySelectorAll("[data-summary]:not([hidden])")].length`:              "1",
		`document.querySelector("[data-summary] li").textContent.slice(0, 13)`:               "Set the time:",
		`document.querySelector("form[data-api='PUT /api/v1/system/time'] button").disabled`: "false",
	} {
		if got := b.Value(script); got != want {
			t.Errorf("%s: %q, want %q", script, got, want)
		}
	}
	b.Shots("error-en")
	b.Judge("pages", "a form with an error", maxWeight)

	host := b.Value(`document.querySelector("#ask-reset [data-typed]").dataset.typed`)
	b.Run(chromedp.Click(`form[data-confirm="ask-reset"] button`), chromedp.WaitVisible("#ask-reset"))
	if b.Value(`document.querySelector("#ask-reset [data-yes]").disabled`) != "true" {
		t.Error("a factory reset needs no typing")
	}
	b.Shots("reset-en")
	b.Run(chromedp.SendKeys("#ask-reset-typed", host+"x"))
	if b.Value(`document.querySelector("#ask-reset [data-yes]").disabled`) != "true" {
		t.Error("a factory reset takes another word")
	}
	b.Run(chromedp.SendKeys("#ask-reset-typed", "\b"))
	b.Until(`!document.querySelector("#ask-reset [data-yes]").disabled`)
	b.Run(chromedp.Click("#ask-reset [data-yes]"))
	b.Until(`document.getElementById("flash").textContent.includes("is wiped")`)
	if got := r.server.Asked(); !slices.ContainsFunc(got, func(q control.Request) bool { return q.Op == control.OpReset }) {
		t.Errorf("PID 1 was asked for %+v", got)
	}
}

// The first login with a password that somebody else knows, with a second factor
// afterwards, by somebody who may only look.
func TestBrowserFirstLogin(t *testing.T) {
	t.Parallel()
	r := newRig(t, testPassword)
	const first, next = "first password for vera", "second password, vera's own"
	if err := r.admin.AddAccount(t.Context(), admintest.Operator, admin.AccountInput{Name: "vera", Authority: "view", Password: first}); err != nil {
		t.Fatal(err)
	}
	b := newTab(t, "ru")
	in := func(password string) {
		b.Run(chromedp.Navigate(r.base+"/login"), chromedp.WaitVisible("#password"), chromedp.Evaluate[chromedp.Void](`document.getElementById("name").value = "vera"`),
			chromedp.SendKeys("#password", password+"\r"))
	}
	in(first)
	b.Run(chromedp.WaitVisible("#new"))
	b.Shots("forced-ru")
	b.Judge("pages", "the forced password", maxWeight)
	b.Run(chromedp.SendKeys("#current", first), chromedp.SendKeys("#new", next), chromedp.SendKeys("#confirm", next+"x\r"), chromedp.WaitVisible("#confirm-error"))
	b.Run(chromedp.SendKeys("#confirm", "\b\r"), chromedp.WaitVisible(".services"))
	b.Until(`document.getElementById("flash").textContent.includes("пароль изменён")`)
	// View: everything is there, nothing works, and a sentence says why.
	for _, path := range []string{"/services", "/system"} {
		b.Run(chromedp.Navigate(r.base+path), chromedp.WaitVisible("#view-only"))
		if got := b.Value(`[...document.querySelectorAll("main button")].filter((e) => e.checkVisibility() && !e.disabled && e.closest("form[data-api]")).length`); got != "0" {
			t.Errorf("%s: %s buttons can be pressed", path, got)
		}
		b.Judge("pages", "View at "+path, maxWeight)
	}
	b.Shots("system-view-ru")

	who := admin.Actor{Name: "vera", Authority: account.View, Via: "web"}
	setup, err := r.admin.BeginTOTP(t.Context(), who)
	if err != nil {
		t.Fatal(err)
	}
	code, err := account.Code(setup.Secret, time.Now().Add(-30*time.Second)) // the next one is for the login
	if err == nil {
		_, err = r.admin.ConfirmTOTP(t.Context(), who, code)
	}
	if err != nil {
		t.Fatal(err)
	}
	in(next)
	b.Run(chromedp.WaitVisible("#code"))
	b.Shots("code-ru")
	b.Judge("pages", "the code", maxWeight)
	b.Run(chromedp.SendKeys("#code", "000000\r"), chromedp.WaitVisible("#error"))
	if code, err = account.Code(setup.Secret, time.Now()); err != nil {
		t.Fatal(err)
	}
	b.Run(chromedp.SendKeys("#code", code[:3]+" "+code[3:]+"\r"), chromedp.WaitVisible(".services"))
}

// Everything that may need an answer at once, and the countdown that a change of
// the network starts, which the page itself confirms over a new connection.
func TestBrowserAnswers(t *testing.T) {
	t.Parallel()
	r := newRig(t, testPassword)
	b := newTab(t, "en")
	b.login(r.base)
	r.server.Change(func(s *control.Status) { s.Machine = control.Machine{Changed: true, Why: "uuid"} })
	time.Sleep(fresh)
	b.Run(chromedp.Navigate(r.base+"/services"), chromedp.WaitVisible(".services"))
	c := netconfig.DefaultConfig()
	if _, err := r.admin.Network.Do(t.Context(), netclient.Request{Op: netclient.OpSet, Config: &c, Hold: true, By: "anna from 10.0.0.7"}); err != nil {
		t.Fatal(err)
	}
	b.Run(chromedp.Navigate(r.base+"/"), chromedp.WaitVisible(".banner"))
	b.Shots("answers-en")
	b.Judge("pages", "answers", maxWeight)
	before := b.Value(`document.querySelector("[data-countdown]").textContent`)
	b.Until(`document.querySelector("[data-countdown]").textContent !== "` + before + `"`)
	b.Run(chromedp.Click(".banner .primary"))
	b.Until(`!document.querySelector(".banner")`)
	if got := r.admin.Network.Asked(); got[len(got)-1].Op != netclient.OpConfirm {
		t.Errorf("the network service was asked for %+v", got)
	}
	b.Run(chromedp.Click(`form[data-confirm="ask-copy"] button`), chromedp.WaitVisible("#ask-copy"), chromedp.Click("#ask-copy [data-yes]"))
	b.Until(`document.getElementById("flash").textContent.includes("new identity")`)
	if got := r.server.Asked(); !slices.ContainsFunc(got, func(q control.Request) bool { return q.Identity == control.IdentityCopy }) {
		t.Errorf("PID 1 was asked for %+v", got)
	}
}

// A log grows while somebody looks, is searched, and is text.
func TestBrowserLog(t *testing.T) {
	t.Parallel()
	r := newRig(t, testPassword)
	b := newTab(t, "en")
	b.login(r.base)
	b.Run(chromedp.Navigate(r.base+"/services/mmr"), chromedp.WaitVisible("#log-search"))
	b.Until(`document.getElementById("log-link").textContent === "Live"`)
	r.server.Log("mmr", "<i>one</i> more")
	b.Until(`document.querySelector(".log-lines").lastElementChild?.textContent.endsWith("<i>one</i> more")`)
	r.server.Log("mmr", strings.Repeat("word ", 100))
	b.Run(chromedp.SendKeys("#log-search", "ONE"))
	b.Until(`document.querySelector(".log-lines").childElementCount === 1`)
	if got := b.Value(`document.getElementById("log-file").getAttribute("href")`); got != "/api/v1/services/mmr/logs?format=text&lines=5000&q=ONE" {
		t.Errorf("the file is at %s", got)
	}
	b.Run(chromedp.Click("#log-live"))
	b.Until(`document.getElementById("log-link").textContent === "Paused"`)
}
