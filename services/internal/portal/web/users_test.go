package web_test

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/parley-meet/parley/services/internal/look"
	"github.com/parley-meet/parley/services/internal/portal/directory"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/portaltest"
	"github.com/parley-meet/parley/services/internal/portal/store"
)

// Every endpoint of the directory, with who may call it. Whoever may not gets
// 401 or 403 before the body is looked at; whoever may reaches nothing of another
// account.
func TestDirectoryRoles(t *testing.T) {
	p := portaltest.New(t)
	a, owner := p.Account("Acme", people.Business)
	_, otherOwner := p.Account("Other", people.Enterprise)
	clients := map[string]*portaltest.Client{
		"nobody": p.Stranger(), "member": p.Client(p.User(a.ID, "Member", people.Member, "")), "admin": p.Client(p.User(a.ID, "Admin", people.Admin, "")),
		"owner": p.Client(owner), "operator": p.Client(p.Operator()), "other": p.Client(otherOwner),
	}
	victim := p.User(a.ID, "Victim", people.Member, "")
	var group directory.Group
	clients["owner"].JSON("POST", "/api/v1/groups", directory.GroupInput{Name: "G"}, &group)
	var sub people.Account
	clients["owner"].JSON("POST", "/api/v1/account/subaccounts", directory.NewAccount{Name: "Sub", OwnerName: "V", OwnerEmail: "v@example.com"}, &sub)

	admins, owners, operators := []string{"admin", "owner"}, []string{"owner"}, []string{"operator"}
	for _, c := range []struct {
		request string
		may     []string
		foreign bool // the path names something of Acme
	}{
		{"GET /api/v1/users", admins, false},
		{"POST /api/v1/users", admins, false},
		{"POST /api/v1/users/import", admins, false},
		{"POST /api/v1/users/kind", admins, false},
		{"GET /api/v1/users/" + victim.ID, admins, true},
		{"PUT /api/v1/users/" + victim.ID, admins, true},
		{"POST /api/v1/users/" + victim.ID + "/invite", admins, true},
		{"POST /api/v1/users/" + victim.ID + "/suspend", admins, true},
		{"POST /api/v1/users/" + victim.ID + "/resume", admins, true},
		{"POST /api/v1/users/" + store.NewID() + "/owner", owners, true},
		{"GET /api/v1/groups", admins, false},
		{"POST /api/v1/groups", admins, false},
		{"GET /api/v1/groups/" + group.ID, admins, true},
		{"PUT /api/v1/groups/" + group.ID, admins, true},
		{"POST /api/v1/groups/" + group.ID + "/members", admins, true},
		{"DELETE /api/v1/groups/" + group.ID + "/members/" + victim.ID, admins, true},
		{"DELETE /api/v1/groups/" + group.ID, admins, true},
		{"DELETE /api/v1/users/" + victim.ID, admins, true},
		{"GET /api/v1/account", admins, false},
		{"PUT /api/v1/account", admins, false},
		{"POST /api/v1/account/close", owners, false},
		{"GET /api/v1/account/subaccounts", owners, false},
		{"POST /api/v1/account/subaccounts", owners, false},
		{"POST /api/v1/account/subaccounts/" + sub.ID + "/suspend", owners, true},
		{"POST /api/v1/account/subaccounts/" + sub.ID + "/resume", owners, true},
		{"PUT /api/v1/account/subaccounts/" + sub.ID + "/zones", owners, true},
		{"GET /api/v1/account/audit", admins, false},
		{"GET /api/v1/account/audit.csv", admins, false},
		{"GET /api/v1/account/audit.jsonl", admins, false},
		{"GET /api/v1/operator/totals", operators, false},
		{"GET /api/v1/operator/accounts", operators, false},
		{"POST /api/v1/operator/accounts", operators, false},
		{"GET /api/v1/operator/accounts/" + a.ID, operators, false},
		{"PUT /api/v1/operator/accounts/" + a.ID + "/type", operators, false},
		{"POST /api/v1/operator/accounts/" + store.NewID() + "/suspend", operators, false},
		{"POST /api/v1/operator/accounts/" + store.NewID() + "/resume", operators, false},
		{"GET /api/v1/operator/operators", operators, false},
		{"POST /api/v1/operator/operators", operators, false},
		{"DELETE /api/v1/operator/operators/" + store.NewID(), operators, false},
		{"GET /api/v1/operator/settings", operators, false},
		{"PUT /api/v1/operator/settings", operators, false},
		{"GET /api/v1/operator/audit", operators, false},
		{"GET /api/v1/operator/audit.csv", operators, false},
		{"GET /api/v1/operator/audit.jsonl", operators, false},
	} {
		method, path, _ := strings.Cut(c.request, " ")
		// The foreign one comes first: the rows are there still.
		for _, who := range []string{"other", "nobody", "member", "operator", "admin", "owner"} {
			var body any
			if method == "PUT" || method == "POST" && !strings.HasSuffix(path, "suspend") && !strings.HasSuffix(path, "resume") && !strings.HasSuffix(path, "/invite") && !strings.HasSuffix(path, "/owner") {
				body = map[string]any{}
				switch {
				case strings.Contains(path, "groups"): // whole, so that only the id is wrong
					body = map[string]any{"name": "G"}
				}
				if strings.HasSuffix(path, "/members") {
					body = map[string]any{"people": []string{victim.ID}}
				}
			}
			got := clients[who].Do(method, path, body).Status
			may := false
			for _, m := range c.may {
				may = may || m == who
			}
			switch {
			case who == "other" && c.foreign:
				if got != http.StatusNotFound {
					t.Errorf("%s as the owner of another account: %d", c.request, got)
				}
			case who == "other":
				if operator := strings.Contains(path, "/operator/"); operator != (got == http.StatusForbidden) {
					t.Errorf("%s as the owner of another account: %d", c.request, got)
				}
			case may && (got == http.StatusUnauthorized || got == http.StatusForbidden || got >= 500):
				t.Errorf("%s as %s: %d", c.request, who, got)
			case !may && who == "nobody" && got != http.StatusUnauthorized, !may && who != "nobody" && got != http.StatusForbidden:
				t.Errorf("%s as %s: %d", c.request, who, got)
			}
		}
	}
}

// Pages are there for whom they are for, in both languages, and do not fail.
func TestDirectoryPages(t *testing.T) {
	p := portaltest.New(t)
	a, owner := p.Account("Acme <b>", people.Business)
	basic, basicOwner := p.Account("Small", people.Basic)
	admin, op := p.User(a.ID, "Admin & Co", people.Admin, ""), p.Operator()
	o := p.Client(owner)
	var group directory.Group
	o.JSON("POST", "/api/v1/groups", directory.GroupInput{Name: "G<i>"}, &group)
	var invited people.User
	o.JSON("POST", "/api/v1/users", directory.Invitee{Email: "new@example.com"}, &invited)
	o.JSON("POST", "/api/v1/account/subaccounts", directory.NewAccount{Name: "Sub", OwnerName: "V", OwnerEmail: "v@example.com"}, nil)
	p.Client(op).JSON("PUT", "/api/v1/operator/settings", directory.PortalSettings{Name: "Our portal", AuditDays: 365}, nil)
	for _, c := range []struct {
		who  people.User
		path string
		want int
		text string
	}{
		{owner, "/", 200, "data-step=\"next\""}, {basicOwner, "/", 200, "Basic"}, {op, "/", 200, "/operator/mail"},
		{owner, "/users", 200, "new@example.com"}, {owner, "/users?q=zzz", 200, "href=\"/users\""}, {owner, "/users?page=9", 200, ""},
		{owner, "/users/invite", 200, "data-api=\"POST /api/v1/users/import\""}, {owner, "/users/" + invited.ID, 200, "/invite\""},
		{owner, "/users/" + admin.ID, 200, "/owner\""}, {admin, "/users/" + owner.ID, 200, "disabled"}, {owner, "/users/x", 404, ""}, {basicOwner, "/users/" + admin.ID, 404, ""},
		{owner, "/users/groups", 200, "G&lt;i&gt;"}, {owner, "/users/groups/" + group.ID, 200, "/members\""}, {basicOwner, "/users/groups/" + group.ID, 404, ""},
		{owner, "/account", 200, "Acme &lt;b&gt;"}, {admin, "/account", 200, ""}, {owner, "/account/subaccounts", 200, "v@example.com"}, {basicOwner, "/account/subaccounts", 200, "Basic"}, {admin, "/account/subaccounts", 403, ""},
		{owner, "/account/audit", 200, "new@example.com"}, {owner, "/account/audit?person=nobody", 200, ""},
		{op, "/operator", 200, "Acme &lt;b&gt;"}, {op, "/operator/accounts/" + basic.ID, 200, "Small"}, {op, "/operator/accounts/x", 404, ""}, {op, "/operator/operators", 200, op.Email},
		{op, "/operator/settings", 200, "Our portal"}, {op, "/operator/audit", 200, "365"}, {owner, "/operator", 403, ""}, {op, "/users", 403, ""},
	} {
		for _, language := range []string{"en", "ru"} {
			client := p.Client(c.who)
			u, err := url.Parse(p.Server.URL)
			if err != nil {
				t.Fatal(err)
			}
			client.HTTP.Jar.SetCookies(u, []*http.Cookie{{Name: "__Host-language", Value: language, Path: "/", Secure: true}})
			answer := client.Do("GET", c.path, nil)
			body := string(answer.Body)
			if answer.Status != c.want || !strings.Contains(body, c.text) || strings.Contains(body, "<no value>") || strings.Contains(body, "%!") {
				t.Errorf("%s as %s in %s: %d, want %d with %q", c.path, c.who.Name, language, answer.Status, c.want, c.text)
			}
		}
	}
}

func TestImport(t *testing.T) {
	p := portaltest.New(t)
	_, owner := p.Account("Acme", people.Business)
	c := p.Client(owner)
	a := c.Do("POST", "/api/v1/users/import", map[string]any{"text": "a@example.com\nb\nc@example.com, C, king", "role": "member"})
	if a.Status != http.StatusUnprocessableEntity || strings.Count(string(a.Body), `"field":"text"`) != 2 || !strings.Contains(string(a.Body), "c@example.com: ") {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	var list struct{ People []people.User }
	c.JSON("POST", "/api/v1/users/import", map[string]any{"text": "a@example.com\nc@example.com, C, admin", "role": "member", "kind": "onprem"}, &list)
	if len(list.People) != 2 || list.People[1].Role != people.Admin || list.People[0].Kind != people.KindOnPrem {
		t.Errorf("%+v", list)
	}
	var text strings.Builder
	for i := range 500 {
		fmt.Fprintf(&text, "p%d@example.com, Person %d\n", i, i)
	}
	c.JSON("POST", "/api/v1/users/import", map[string]any{"text": text.String()}, &list)
	if a := c.Do("POST", "/api/v1/users", map[string]any{"email": "a@example.com"}); !strings.Contains(string(a.Body), `"field":"email"`) {
		t.Errorf("%d %s", a.Status, a.Body)
	}
}

// Sessions end with the suspension of a person and of an account.
func TestSuspensionEndsSessions(t *testing.T) {
	p := portaltest.New(t)
	a, owner := p.Account("Acme", people.Business)
	u := p.User(a.ID, "U", people.Member, "")
	c, o := p.Client(u), p.Client(owner)
	o.JSON("POST", "/api/v1/users/"+u.ID+"/suspend", nil, nil)
	if a := c.Do("GET", "/api/v1/self", nil); a.Status != http.StatusUnauthorized {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	p.Client(p.Operator()).JSON("POST", "/api/v1/operator/accounts/"+a.ID+"/suspend", nil, nil)
	if a := o.Do("GET", "/api/v1/self", nil); a.Status != http.StatusUnauthorized {
		t.Errorf("%d %s", a.Status, a.Body)
	}
}

// What an operator who is in an account does as one is in the portal's log alone.
func TestOperatorOfAnAccount(t *testing.T) {
	p := portaltest.New(t)
	_, owner := p.Account("Acme", people.Business)
	p.Client(p.Operator()).JSON("POST", "/api/v1/operator/operators", directory.OperatorInput{Email: owner.Email}, nil)
	c := p.Client(owner)
	c.JSON("PUT", "/api/v1/operator/signup", map[string]any{"mode": "closed"}, nil)
	for path, want := range map[string]int{"/api/v1/account/audit?action=signup.mode": 0, "/api/v1/operator/audit?action=signup.mode": 1} {
		var log directory.AuditPage
		c.JSON("GET", path, nil, &log)
		if len(log.Entries) != want {
			t.Errorf("%s: %+v", path, log)
		}
	}
}

var audited = regexp.MustCompile(`(?:people\.Audit|both)\(tx, (?:[^",]|\([^)]*\))*, (?:[a-z]\.ID, )?"([a-z.-]+)"`)

// Every action that the portal writes into an audit log has a text.
func TestActionsHaveTexts(t *testing.T) {
	files, err := filepath.Glob("../*/*.go")
	if err != nil {
		t.Fatal(err)
	}
	words := look.MustLoad(os.DirFS("."), "words")[look.English]
	n := 0
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range audited.FindAllStringSubmatch(string(b), -1) {
			n++
			if !words.Has("audit.action." + m[1]) {
				t.Errorf("%s: the action %q has no text", name, m[1])
			}
		}
	}
	if n < 40 {
		t.Errorf("only %d actions are found", n)
	}
}
