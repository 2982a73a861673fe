package directory_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/portal/directory"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/store"
	"github.com/parley-meet/parley/services/internal/portal/zones"
)

func TestSubaccounts(t *testing.T) {
	each(t, func(r *rig) {
		ctx := r.Context()
		own, other, school := r.account("Acme", people.Business), r.account("Other", people.Enterprise), r.account("School", people.Education)
		admin := r.user(people.User{Account: own.Account, Name: "Admin", Role: people.Admin})
		in := directory.NewAccount{Name: "Branch", OwnerName: "Vera", OwnerEmail: "Vera@branch.example"}
		_, err := r.dir.AddSub(ctx, admin, in, "en")
		r.want("by an admin", err, people.ErrDenied)
		_, err = r.dir.AddSub(ctx, school, in, "en")
		r.want("by a type without", err, people.ErrDenied)
		_, err = r.dir.AddSub(ctx, own, directory.NewAccount{OwnerEmail: "x"}, "en")
		r.want("without a name", err, "name required")
		r.want("with a bad address", err, "ownerEmail email")
		_, err = r.dir.AddSub(ctx, own, directory.NewAccount{Name: "B", OwnerName: "V", OwnerEmail: admin.Email}, "en")
		r.want("with somebody's address", err, "ownerEmail person-exists")
		if n := r.count("SELECT COUNT(*) FROM accounts WHERE parent_id IS NOT NULL"); n != 0 {
			r.Error("what was refused is there")
		}
		sub, err := r.dir.AddSub(ctx, own, in, "en")
		if err != nil || sub.Parent != own.Account || sub.Type != people.Business {
			r.Fatal(sub, err)
		}
		var vera people.User
		r.write(func(tx *store.Tx) (err error) {
			if _, err := tx.Exec("UPDATE users SET state = 'active', password = 'x' WHERE email = 'vera@branch.example'"); err != nil {
				return err
			}
			vera, err = people.FindUser(tx, "vera@branch.example")
			return err
		})
		_, err = r.dir.AddSub(ctx, actor(vera), directory.NewAccount{Name: "C", OwnerName: "V", OwnerEmail: "c@example.com"}, "en")
		r.want("below a sub-account", err, people.ErrDenied)

		zone := func(account string) string {
			id := store.NewID()
			r.write(func(tx *store.Tx) error {
				_, err := tx.Exec("INSERT INTO zones (id, account_id, name, created) VALUES (?,?,?,1)", id, account, "Zone "+id)
				return err
			})
			return id
		}
		mine, foreign, theirs := zone(own.Account), zone(other.Account), zone(sub.ID)
		r.want("a zone", r.dir.SetSubZones(ctx, own, sub.ID, directory.SubZones{Zones: []string{mine, mine}}), nil)
		for _, z := range []string{foreign, theirs, "x"} {
			r.want("another's zone", r.dir.SetSubZones(ctx, own, sub.ID, directory.SubZones{Zones: []string{z}}), people.ErrUnknown)
		}
		r.want("of another's sub-account", r.dir.SetSubZones(ctx, other, sub.ID, directory.SubZones{Zones: []string{foreign}}), people.ErrUnknown)
		r.want("of no sub-account", r.dir.SetSubZones(ctx, own, other.Account, directory.SubZones{Zones: []string{mine}}), people.ErrUnknown)
		list, err := r.dir.Subs(ctx, own)
		if err != nil || len(list.Subs) != 1 || len(list.Subs[0].Zones) != 1 || list.Subs[0].Zones[0] != mine || list.Subs[0].OwnerEmail != vera.Email || len(list.Zones) != 1 {
			r.Errorf("%+v %v", list, err)
		}
		r.want("suspend another's", r.dir.SuspendSub(ctx, other, sub.ID), people.ErrUnknown)
		r.want("suspend oneself", r.dir.SuspendSub(ctx, own, own.Account), people.ErrUnknown)
		r.want("suspend", r.dir.SuspendSub(ctx, own, sub.ID), nil)
		r.want("close with a sub-account", r.dir.Close(ctx, own, "Acme"), "account-subs")
		r.want("resume", r.dir.ResumeSub(ctx, own, sub.ID), nil)
		op := r.user(people.User{Name: "Op", Operator: true})
		r.want("suspend by an operator", r.dir.SuspendAccount(ctx, op, sub.ID), nil)
		r.want("resume against an operator", r.dir.ResumeSub(ctx, own, sub.ID), "account-held")
		r.want("resume by an operator", r.dir.ResumeAccount(ctx, op, sub.ID), nil)
		r.want("suspend again", r.dir.SuspendSub(ctx, own, sub.ID), nil)
		r.want("resume again", r.dir.ResumeSub(ctx, own, sub.ID), nil)
		r.want("take the zone", r.dir.SetSubZones(ctx, own, sub.ID, directory.SubZones{}), nil)
		if n := r.count("SELECT COUNT(*) FROM zone_users"); n != 0 {
			r.Error("the zone is given still")
		}
		// Both logs tell of it.
		for _, account := range []string{own.Account, sub.ID} {
			if n := r.count("SELECT COUNT(*) FROM audit WHERE account_id = ? AND action = 'subaccount.suspend'", account); n != 2 {
				r.Error(account, n)
			}
		}
	})
}

// A closed account is kept for a time, then every row of it goes, in batches, and
// no row of another.
func TestCloseAndPurge(t *testing.T) {
	each(t, func(r *rig) {
		ctx := r.Context()
		own, other := r.account("Acme", people.Business), r.account("Other", people.Business)
		operator := r.user(people.User{Name: "Op", Operator: true})
		for i := range 700 { // more than a batch
			r.user(people.User{Account: own.Account, Name: fmt.Sprint(i), Role: people.Member})
		}
		for _, who := range []people.Actor{own, other} {
			g, err := r.dir.AddGroup(ctx, who, directory.GroupInput{Name: "G"})
			if err != nil {
				r.Fatal(err)
			}
			r.want("member", r.dir.AddMembers(ctx, who, g.ID, directory.MembersInput{People: []string{who.User}}), nil)
			r.write(func(tx *store.Tx) error {
				zone := store.NewID()
				if _, err := tx.Exec("INSERT INTO zones (id, account_id, name, created) VALUES (?,?,'Z',1)", zone, who.Account); err != nil {
					return err
				}
				if _, err := tx.Exec("INSERT INTO zone_users (zone_id, what, id) VALUES (?, 'group', ?)", zone, g.ID); err != nil {
					return err
				}
				if _, err := tx.Exec("INSERT INTO enrol_tokens (id, account_id, zone_id, title, sum, created_by, created, expires) VALUES (?,?,?,'T',?,?,1,0)", store.NewID(), who.Account, zone, zone, who.User); err != nil {
					return err
				}
				_, err := tx.Exec("INSERT INTO appliances (id, account_id, zone_id, role, name, serial, expires, enrolled, token_id) VALUES (?,?,?,'router','r','1',1,1,'t')", store.NewID(), who.Account, zone)
				return err
			})
		}
		sub := r.db.Subscribe(zones.TopicConfig)
		defer sub.Close()
		var zone string
		r.write(func(tx *store.Tx) error {
			return tx.Row("SELECT id FROM zones WHERE account_id = ?", own.Account).Scan(&zone)
		})
		r.want("the wrong name", r.dir.Close(ctx, own, "acme"), "name account-typed")
		r.want("close", r.dir.Close(ctx, own, "Acme"), nil)
		for n := range sub.C { // whoever holds links to its appliances is told
			if n.Topic == zones.TopicConfig && n.Payload == zone {
				break
			}
		}
		at := time.Now()
		r.want("too early", r.dir.Purge(ctx, at.Add(directory.KeepClosed-time.Hour)), nil)
		if n := r.count("SELECT COUNT(*) FROM users WHERE account_id = ?", own.Account); n != 701 {
			r.Fatal("deleted too early", n)
		}
		r.want("let in again", r.dir.ResumeAccount(ctx, operator, own.Account), nil)
		r.want("after it was let in again", r.dir.Purge(ctx, at.Add(2*directory.KeepClosed)), nil)
		if n := r.count("SELECT COUNT(*) FROM users WHERE account_id = ?", own.Account); n != 701 {
			r.Fatal("deleted after it was let in again", n)
		}
		r.want("close again", r.dir.Close(ctx, own, "Acme"), nil)
		r.want("purge", r.dir.Purge(ctx, at.Add(directory.KeepClosed+time.Hour)), nil)
		r.want("purge twice", r.dir.Purge(ctx, at.Add(directory.KeepClosed+time.Hour)), nil)
		if n := r.count("SELECT COUNT(*) FROM accounts WHERE id = ?", own.Account); n != 0 {
			r.Error("the account is there still")
		}
		var tables []string
		r.write(func(tx *store.Tx) (err error) { tables, err = tx.Tables(); return err })
		for _, table := range tables {
			var columns []store.Column
			r.write(func(tx *store.Tx) (err error) { columns, err = tx.Columns(table); return err })
			for _, c := range columns {
				if c.Name != "account_id" {
					continue
				}
				if n := r.count("SELECT COUNT(*) FROM "+table+" WHERE account_id = ?", own.Account); n != 0 {
					r.Errorf("%s has %d rows of it still", table, n)
				}
			}
		}
		for table, want := range map[string]int{"zones": 1, "enrol_tokens": 1, "appliances": 1, "groups": 1, "group_members": 1, "zone_users": 1} {
			if n := r.count("SELECT COUNT(*) FROM " + table); n != want {
				r.Errorf("%s: %d rows, want %d", table, n, want)
			}
		}
		if u := r.get(other.User); u.State != people.Active {
			r.Error(u)
		}
	})
}

func TestOperators(t *testing.T) {
	each(t, func(r *rig) {
		ctx := r.Context()
		first := r.user(people.User{Name: "Op", Operator: true})
		own := r.account("Acme", people.Business)
		believes := own
		believes.Operator = true // as a session that is behind does
		_, err := r.dir.Accounts(ctx, believes, directory.AccountFilter{})
		r.want("no operator", err, people.ErrDenied)
		_, err = r.dir.Accounts(ctx, own, directory.AccountFilter{})
		r.want("an owner", err, people.ErrDenied)
		r.want("the last one", r.dir.RemoveOperator(ctx, first, first.User), "operator-last")
		r.want("invite", r.dir.AddOperator(ctx, first, directory.OperatorInput{Email: "new@example.com"}, "en"), nil)
		r.want("the last active one", r.dir.RemoveOperator(ctx, first, first.User), "operator-last")
		r.want("twice", r.dir.AddOperator(ctx, first, directory.OperatorInput{Email: "new@example.com"}, "en"), "email operator-already")
		r.want("one of an account", r.dir.AddOperator(ctx, first, directory.OperatorInput{Email: own.Email}, "en"), nil)
		r.want("suspend his account", r.dir.SuspendAccount(ctx, first, own.Account), "account-operators")
		r.want("close his account", r.dir.Close(ctx, own, "Acme"), "account-operators")
		if list, err := r.dir.Operators(ctx, first); err != nil || len(list) != 3 {
			r.Errorf("%+v %v", list, err)
		}
		r.want("remove him", r.dir.RemoveOperator(ctx, first, own.User), nil)
		if u := r.get(own.User); u.Operator || u.Role != people.Owner || u.State != people.Active {
			r.Errorf("%+v", u)
		}
		r.want("remove who is none", r.dir.RemoveOperator(ctx, first, own.User), people.ErrUnknown)

		// Of all who remove each other at once one stays.
		all := []people.Actor{first}
		for i := range 4 {
			all = append(all, r.user(people.User{Name: fmt.Sprint(i), Operator: true}))
		}
		var wg sync.WaitGroup
		for _, who := range all {
			for _, whom := range all {
				wg.Go(func() { _ = r.dir.RemoveOperator(context.WithoutCancel(ctx), who, whom.User) })
			}
		}
		wg.Wait()
		if n := r.count("SELECT COUNT(*) FROM users WHERE operator AND state = 'active'"); n < 1 {
			r.Error("nobody operates the portal any more")
		}
	})
}

func TestAccountsOfThePortal(t *testing.T) {
	each(t, func(r *rig) {
		ctx := r.Context()
		op := r.user(people.User{Name: "Op", Operator: true})
		_, err := r.dir.AddAccount(ctx, op, directory.NewAccount{Name: "", Type: "gold", OwnerName: "V", OwnerEmail: "v@example.com"}, "ru")
		r.want("type", err, "type choice")
		r.want("name", err, "name required")
		a, err := r.dir.AddAccount(ctx, op, directory.NewAccount{Name: "Акме", Type: people.Business, OwnerName: "V", OwnerEmail: "v@example.com"}, "ru")
		r.want("add", err, nil)
		list, err := r.dir.Accounts(ctx, op, directory.AccountFilter{Search: "АКМЕ", Type: people.Business})
		if err != nil || list.Total != 1 || list.Accounts[0].OwnerState != people.Invited || list.Accounts[0].People != 1 {
			r.Errorf("%+v %v", list, err)
		}
		if list, err = r.dir.Accounts(ctx, op, directory.AccountFilter{Search: "v@exam"}); err != nil || list.Total != 1 {
			r.Errorf("%+v %v", list, err)
		}
		r.write(func(tx *store.Tx) error {
			_, err := tx.Exec("UPDATE accounts SET connector_enabled = 1 WHERE id = ?", a.ID)
			return err
		})
		r.want("basic with the connector on", r.dir.SetType(ctx, op, a.ID, people.Basic), "type type-connector")
		r.want("education", r.dir.SetType(ctx, op, a.ID, people.Education), nil)
		r.want("unknown", r.dir.SetType(ctx, op, "x", people.Basic), people.ErrUnknown)
		r.want("suspend", r.dir.SuspendAccount(ctx, op, a.ID), nil)
		if totals, err := r.dir.Totals(ctx, op); err != nil || totals != (directory.Totals{Accounts: 1, Suspended: 1, People: 2, Connector: 1}) {
			r.Errorf("%+v %v", totals, err)
		}
		r.want("settings", r.dir.SetPortalSettings(ctx, op, directory.PortalSettings{AuditDays: 7}), "auditDays audit-days")
		r.want("settings", r.dir.SetPortalSettings(ctx, op, directory.PortalSettings{Name: "Наш портал", AuditDays: 90}), nil)
		if n, err := r.dir.PortalName(ctx); err != nil || n != "Наш портал" {
			r.Error(n, err)
		}
	})
}

func TestAudit(t *testing.T) {
	each(t, func(r *rig) {
		ctx := r.Context()
		own, other := r.account("Acme", people.Business), r.account("Other", people.Business)
		op := r.user(people.User{Name: "Op", Operator: true})
		member := r.user(people.User{Account: own.Account, Name: "M", Role: people.Member})
		ivan := own
		ivan.Name = "Иван =cmd"
		r.write(func(tx *store.Tx) error {
			for i := range 1300 {
				if err := people.Audit(tx, ivan, "user.invite", "", map[string]any{"n": i}); err != nil {
					return err
				}
			}
			if err := people.Audit(tx, own, "user", "", nil); err != nil {
				return err
			}
			if err := people.Audit(tx, own, "userx", "=1+1", nil); err != nil {
				return err
			}
			if err := people.Audit(tx, op, "portal.settings", "", nil); err != nil {
				return err
			}
			return people.Audit(tx, other, "user.invite", "", nil)
		})
		_, err := r.dir.AuditLog(ctx, member, false, directory.AuditFilter{})
		r.want("a member", err, people.ErrDenied)
		_, err = r.dir.AuditLog(ctx, own, true, directory.AuditFilter{})
		r.want("the portal's by an owner", err, people.ErrDenied)
		if p, err := r.dir.AuditLog(ctx, op, true, directory.AuditFilter{}); err != nil || len(p.Entries) != 1 {
			r.Errorf("%+v %v", p, err)
		}
		seen := map[string]bool{}
		f := directory.AuditFilter{}
		for {
			p, err := r.dir.AuditLog(ctx, own, false, f)
			if err != nil {
				r.Fatal(err)
			}
			for _, e := range p.Entries {
				if seen[e.ID] {
					r.Fatal(e.ID, "twice")
				}
				seen[e.ID] = true
			}
			if f.Before = p.Next; p.Next == "" {
				break
			}
		}
		if len(seen) != 1302 {
			r.Error(len(seen), "lines")
		}
		for _, c := range []struct {
			f    directory.AuditFilter
			want int
		}{
			{directory.AuditFilter{Action: "user"}, 1301}, {directory.AuditFilter{Action: "userx"}, 1}, {directory.AuditFilter{Action: "us%"}, 0},
			{directory.AuditFilter{Person: "иван"}, 1300}, {directory.AuditFilter{Person: "acme"}, 2},
			{directory.AuditFilter{Since: time.Now().Add(time.Hour)}, 0}, {directory.AuditFilter{Until: time.Now().Add(-time.Hour)}, 0},
			{directory.AuditFilter{Since: time.Now().Add(-time.Hour), Until: time.Now().Add(time.Hour)}, 1302},
		} {
			n := 0
			if err := r.dir.Export(ctx, own, false, c.f, func(directory.Entry) error { n++; return nil }); err != nil || n != c.want {
				r.Errorf("%+v: %d lines, want %d; %v", c.f, n, c.want, err)
			}
		}
		var b bytes.Buffer
		line, end := directory.WriteCSV(&b)
		if err := r.dir.Export(ctx, own, false, directory.AuditFilter{Action: "userx"}, line); err != nil || end() != nil {
			r.Fatal(err)
		}
		rows, err := csv.NewReader(&b).ReadAll()
		if err != nil || len(rows) != 2 || rows[1][7] != "'=1+1" {
			r.Errorf("%q %v", rows, err)
		}
		b.Reset()
		if err := r.dir.Export(ctx, own, false, directory.AuditFilter{Action: "userx"}, directory.WriteJSONLines(&b)); err != nil {
			r.Fatal(err)
		}
		var e directory.Entry
		if err := json.Unmarshal(b.Bytes(), &e); err != nil || e.Target != "=1+1" || strings.Count(b.String(), "\n") != 1 {
			r.Errorf("%s %v", b.Bytes(), err)
		}

		r.want("kept", r.dir.Purge(ctx, time.Now().AddDate(0, 0, 364)), nil)
		if n := r.count("SELECT COUNT(*) FROM audit"); n != 1304 {
			r.Error(n)
		}
		r.want("for ever", r.dir.SetPortalSettings(ctx, op, directory.PortalSettings{}), nil)
		r.want("for ever", r.dir.Purge(ctx, time.Now().AddDate(20, 0, 0)), nil)
		if n := r.count("SELECT COUNT(*) FROM audit"); n != 1305 {
			r.Error(n)
		}
		r.want("a month", r.dir.SetPortalSettings(ctx, op, directory.PortalSettings{AuditDays: 30}), nil)
		r.want("a month", r.dir.Purge(ctx, time.Now().AddDate(0, 0, 31)), nil)
		if n := r.count("SELECT COUNT(*) FROM audit"); n != 0 {
			r.Error(n)
		}
	})
}

func TestWay(t *testing.T) {
	each(t, func(r *rig) {
		own := r.account("Acme", people.Business)
		member := r.user(people.User{Account: own.Account, Name: "M", Role: people.Member, Kind: people.KindOnPrem})
		w, err := r.dir.Way(r.Context(), own)
		if err != nil || w.OnPrem != 1 || w.People != 2 || w.Tokens != 0 || w.Kind != people.KindBasic {
			r.Errorf("%+v %v", w, err)
		}
		if w, err = r.dir.Way(r.Context(), member); err != nil || w.Kind != people.KindOnPrem || w.People != 0 {
			r.Errorf("a member gets %+v %v", w, err)
		}
	})
}
