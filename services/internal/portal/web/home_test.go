package web_test

import (
	"strings"
	"testing"

	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/portaltest"
	"github.com/parley-meet/parley/services/internal/portal/store"
)

// The overview says how far an account is on its way, and only to its admins.
func TestOverview(t *testing.T) {
	p := portaltest.New(t)
	a, owner := p.Account("Acme", people.Business)
	member := p.User(a.ID, "Member", people.Member, people.KindOnPrem)
	_, small := p.Account("Small", people.Basic)
	page := func(u people.User) string {
		t.Helper()
		return string(p.Client(u).Do("GET", "/", nil).Body)
	}
	exec := func(query string, args ...any) {
		t.Helper()
		if err := p.DB.Write(t.Context(), func(tx *store.Tx) error { _, err := tx.Exec(query, args...); return err }); err != nil {
			t.Fatal(err)
		}
	}
	steps := func() (done, next int) {
		t.Helper()
		s := page(owner)
		return strings.Count(s, `data-step="done"`), strings.Count(s, `data-step="next"`)
	}
	if done, next := steps(); done != 1 || next != 1 { // the member is On-Prem
		t.Errorf("at first %d are done, %d next", done, next)
	}
	if s := page(member); strings.Contains(s, "data-step") {
		t.Error("a member sees the way")
	}
	if s := page(small); strings.Contains(s, "data-step") || !strings.Contains(s, "Business, Education") {
		t.Error("a Basic account is not told why it has no connector")
	}
	if s := page(p.Operator()); !strings.Contains(s, `href="/operator/releases"`) || !strings.Contains(s, `href="/operator/mail"`) {
		t.Error("an operator is not told that there is no release and no mail server")
	}
	exec("UPDATE accounts SET connector_enabled = 1 WHERE id = ?", a.ID)
	exec("INSERT INTO zones (id, account_id, name, created) VALUES ('z',?,'Z',1)", a.ID)
	exec("INSERT INTO enrol_tokens (id, account_id, zone_id, title, sum, created_by, created, expires, revoked) VALUES ('t',?,'z','T','s','u',1,0,1)", a.ID)
	if done, _ := steps(); done != 2 {
		t.Errorf("with a revoked token %d are done", done)
	}
	exec("UPDATE enrol_tokens SET revoked = 0")
	if done, _ := steps(); done != 3 {
		t.Errorf("with a token %d are done", done)
	}
	exec("INSERT INTO appliances (id, account_id, zone_id, role, name, serial, expires, enrolled, token_id) VALUES ('c',?,'z','controller','c','1',1,1,'t')", a.ID)
	if done, _ := steps(); done != 5 {
		t.Errorf("with an appliance %d are done", done)
	}
	exec("INSERT INTO alerts (id, account_id, zone_id, appliance_id, code, detail, opened) VALUES ('a',?,'z','c','silent','',1)", a.ID)
	if s := page(owner); !strings.Contains(s, "note bad") {
		t.Error("an open alert is not shown")
	}
	exec("UPDATE alerts SET closed = 2")
	exec("UPDATE accounts SET production = 1 WHERE id = ?", a.ID)
	if s := page(owner); strings.Contains(s, "data-step") || strings.Contains(s, "note bad") {
		t.Error("the way is there still in production")
	}
}
