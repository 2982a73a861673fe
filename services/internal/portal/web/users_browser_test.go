package web_test

import (
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/parley-meet/parley/services/internal/browsertest"
	"github.com/parley-meet/parley/services/internal/portal/directory"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/portaltest"
)

// pageWeight is the most that a page of the directory may weigh, in bytes.
const pageWeight = 400_000

// In a real browser an owner invites people from a pasted list, is told what is
// wrong with it, gives some a kind, hands the account over, and the new owner
// closes it; every page is judged on the way.
func TestDirectoryInBrowser(t *testing.T) {
	p := portaltest.New(t)
	a, owner := p.Account("Acme", people.Business)
	heir := p.User(a.ID, "Helen Heir", people.Admin, "")
	op := p.Operator()
	b := browsertest.New(t, "en")
	open := func(path string) {
		t.Helper()
		b.Run(chromedp.Navigate("about:blank"), chromedp.Navigate(p.Server.URL+path), chromedp.WaitVisible("#main"))
	}
	judge := func(name, path string) {
		t.Helper()
		open(path)
		b.Judge("portal", name, pageWeight)
	}
	become(t, b, p, owner)
	open("/users/invite")
	list := `form[data-api$="/import"] `
	b.Run(chromedp.SetValue("#text", "anna@example.com\nnobody\nBoris Petrov <boris@example.com>"), chromedp.Click(list+"button.primary"))
	b.Until(`document.querySelector("#text-error")?.textContent.includes("nobody")`)
	b.Run(chromedp.SetValue("#text", "anna@example.com\nBoris Petrov <boris@example.com>"), chromedp.Click(list+"button.primary"))
	b.Until(`location.pathname === "/users" && document.body.innerText.includes("Boris Petrov")`)
	b.Run(chromedp.Click(`input[aria-label$="Boris Petrov"]`), chromedp.SetValue("#bulk-kind", "onprem"), chromedp.Click(`form[data-api$="/users/kind"] button`))
	b.Until(`document.querySelector("#flash")?.textContent.trim() === "The kind is changed." && [...document.querySelectorAll("tbody tr")].find((r) => r.innerText.includes("Boris")).innerText.includes("On-Prem")`)
	var boris directory.People
	p.Client(owner).JSON("GET", "/api/v1/users?q=boris", nil, &boris)
	if len(boris.People) != 1 || boris.People[0].Effective != people.KindOnPrem {
		t.Fatalf("%+v", boris)
	}
	var group directory.Group
	p.Client(owner).JSON("POST", "/api/v1/groups", directory.GroupInput{Name: "Hosts", Kind: people.KindOnPrem}, &group)
	p.Client(owner).JSON("POST", "/api/v1/groups/"+group.ID+"/members", directory.MembersInput{People: []string{heir.ID}}, nil)
	p.Client(owner).JSON("POST", "/api/v1/account/subaccounts", directory.NewAccount{Name: "Sub", OwnerName: "V", OwnerEmail: "v@example.com"}, nil)
	judge("overview", "/")
	judge("users", "/users")
	judge("invite", "/users/invite")
	judge("user", "/users/"+boris.People[0].ID)
	judge("groups", "/users/groups")
	judge("group", "/users/groups/"+group.ID)
	judge("account", "/account")
	judge("subaccounts", "/account/subaccounts")
	judge("audit", "/account/audit")

	// Handing over needs the address typed.
	open("/users/" + heir.ID)
	b.Run(chromedp.Click(`form[data-api$="/owner"] button`), chromedp.WaitVisible("#transfer-typed"))
	if off := b.Value(`document.querySelector("#transfer [data-yes]").disabled`); off != "true" {
		t.Error("the account is handed over with nothing typed")
	}
	b.Run(chromedp.SendKeys("#transfer-typed", heir.Email), chromedp.Click("#transfer [data-yes]"))
	b.Until(`document.querySelector("#flash")?.textContent.trim() === "The account has a new owner."`)

	become(t, b, p, op)
	judge("accounts", "/operator")
	judge("account of", "/operator/accounts/"+a.ID)
	judge("operators", "/operator/operators")
	judge("portal", "/operator/settings")
	judge("portal audit", "/operator/audit")

	become(t, b, p, heir)
	var subs directory.Subs
	p.Client(heir).JSON("GET", "/api/v1/account/subaccounts", nil, &subs)
	open("/account")
	b.Run(chromedp.Click(`form[data-api$="/close"] button`), chromedp.WaitVisible("#close-typed"), chromedp.SendKeys("#close-typed", "Acme"), chromedp.Click("#close [data-yes]"))
	// Its sub-account is in the way, and the page says so.
	b.Until(`document.querySelector("[data-summary]:not([hidden])")?.textContent.includes("sub-accounts first: 1")`)
	if len(subs.Subs) != 1 {
		t.Errorf("%+v", subs)
	}
}
