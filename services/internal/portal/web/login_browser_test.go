package web_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"github.com/parley-meet/parley/services/internal/browsertest"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/portaltest"
)

// become makes the tab one of a person.
func become(t *testing.T, b *browsertest.Tab, p *portaltest.Portal, u people.User) {
	t.Helper()
	browsertest.Command(b, network.ClearBrowserCookies, cdp.Empty{})
	if u.ID == "" {
		return
	}
	browsertest.Command(b, network.SetCookies, network.SetCookiesParams{Cookies: []*network.CookieParam{
		{Name: sessionCookie, Value: cookieOf(p.Client(u), sessionCookie), URL: p.Server.URL, Path: "/", Secure: true, HTTPOnly: true}}})
}

// In a real browser a person signs up by the link of the mail, turns a second
// step on and signs in with it; nothing scrolls sideways on a phone.
func TestSignUpInBrowser(t *testing.T) {
	for _, lang := range []string{"en", "ru"} {
		t.Run(lang, func(t *testing.T) {
			p := portaltest.New(t)
			b := browsertest.New(t, lang)
			open := func(path string) {
				t.Helper()
				b.Run(chromedp.Navigate("about:blank"), chromedp.Navigate(p.Server.URL+path), chromedp.WaitVisible("#main"))
			}
			shot := func(name string) {
				t.Helper()
				b.Shots(name + "-" + lang)
				b.Size(360)
				if wide := b.Value("String(document.documentElement.scrollWidth > innerWidth)"); wide != "false" {
					t.Errorf("%s scrolls sideways on a phone: %s", name, wide)
				}
				b.Size(1280)
			}
			fill := func(pairs ...string) {
				t.Helper()
				for i := 0; i < len(pairs); i += 2 {
					b.Run(chromedp.SetValue(pairs[i], pairs[i+1]))
				}
			}
			email := "anna@example.com"
			open("/login")
			shot("login")
			open("/signup")
			fill("#name", "Anna Lindqvist", "#email", email, "#password", "short", "#account", "Acme AG")
			b.Run(chromedp.Click("form[data-api] button.primary"))
			b.Until(`document.querySelector("#password-error").textContent !== ""`)
			shot("signup")
			fill("#password", testPassword)
			b.Run(chromedp.Click("form[data-api] button.primary"))
			b.Until(`!document.querySelector("#sent").hidden`)
			shot("signup-sent")
			link := links(t, p, email, "verify")[0]
			open("/verify#" + strings.Repeat("A", 43))
			b.Until(`!document.querySelector("[data-link-bad]").hidden`)
			shot("verify-bad")
			open(strings.TrimPrefix(link, p.Server.URL))
			b.Until(`document.querySelector("#who").value !== ""`)
			if got := b.Value(`document.querySelector("#who").value`); got != email {
				t.Errorf("%q", got)
			}
			shot("verify")
			// A change of the language keeps the link.
			b.Value(`String(document.body.dataset.before = "1")`)
			b.Run(chromedp.Click(`form.languages button[aria-pressed="true"]`))
			b.Until(`!document.body.dataset.before && document.querySelector("#who")?.value === "` + email + `"`)
			fill("#password", testPassword)
			b.Run(chromedp.Click("form[data-api] button.primary"))
			b.Until(`location.pathname === "/" && !!document.querySelector("nav.side")`)

			for _, path := range []string{"/profile", "/profile/password", "/profile/sessions", "/profile/tokens"} {
				open(path)
				shot(strings.ReplaceAll(path[1:], "/", "-"))
			}
			open("/profile/security")
			fill("#password", testPassword)
			b.Run(chromedp.Click(`form[data-show="setup"] button`))
			b.Until(`!!document.querySelector("[data-qr] svg") && !document.querySelector("#setup").hidden`)
			shot("profile-security-setup")
			secret := b.Value(`document.querySelector('[data-from="secret"]').textContent`)
			fill("#code", code(t, secret, time.Now().Add(-30*time.Second)))
			b.Run(chromedp.Click(`form[data-show="codes"] button`))
			b.Until(`!document.querySelector("#codes").hidden`)
			shot("profile-security-codes")
			open("/profile/security")
			shot("profile-security")

			become(t, b, p, people.User{})
			open("/login?to=/profile")
			fill("#email", email, "#password", testPassword)
			b.Run(chromedp.Click("button.primary"))
			b.Until(`location.pathname === "/login/code"`)
			shot("code")
			fill("#code", code(t, secret, time.Now()))
			b.Run(chromedp.Click("button.primary"))
			b.Until(`location.pathname === "/profile"`)

			if os.Getenv("PARLEY_SHOTS") == "" {
				return
			}
			// What else is to be looked at.
			acc, owner := p.Account("Demanding", people.Enterprise)
			setPassword(t, p, owner, testPassword)
			exec(t, p, "UPDATE accounts SET require_factor = ? WHERE id = ?", true, acc.ID)
			become(t, b, p, people.User{})
			open("/login?ended=reset")
			shot("login-reset")
			fill("#email", owner.Email, "#password", testPassword)
			b.Run(chromedp.Click("button.primary"))
			b.Until(`location.pathname === "/login/enrol"`)
			shot("enrol")
			become(t, b, p, people.User{})
			open("/reset")
			shot("reset")
			p.Stranger().JSON("POST", "/api/v1/reset", obj{"email": email}, nil)
			open(strings.TrimPrefix(links(t, p, email, "reset")[0], p.Server.URL))
			shot("reset-set")
			path, err := people.MakeOperator(t.Context(), p.DB, "olga@example.com", "Olga")
			if err != nil {
				t.Fatal(err)
			}
			open(path)
			shot("invite")
			open("/setup")
			shot("setup-bad")
			become(t, b, p, p.Operator())
			open("/operator/mail")
			shot("operator-mail")
			b.Run(chromedp.Click(`[data-open^="mail-"]`))
			shot("operator-mail-dialog")
			open("/operator/signin")
			shot("operator-signin")
		})
	}
}
