package directory_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/portal/directory"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/store"
	"github.com/parley-meet/parley/services/internal/portal/store/storetest"
	"github.com/parley-meet/parley/services/internal/portal/vault"
)

// rig is a database with the directory and nothing else.
type rig struct {
	*testing.T
	db  *store.DB
	dir *directory.Service
}

func each(t *testing.T, test func(r *rig)) {
	storetest.Each(t, func(t *testing.T, url string) { test(newRig(t, url)) })
}

func newRig(t *testing.T, url string) *rig {
	t.Helper()
	db, err := store.Open(t.Context(), url, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	v, err := vault.New(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	return &rig{t, db, directory.New(db, v, nil)}
}

func (r *rig) write(f func(tx *store.Tx) error) {
	r.Helper()
	if err := r.db.Write(r.Context(), f); err != nil {
		r.Fatal(err)
	}
}

// account makes one with an active owner.
func (r *rig) account(name string, t people.Type) people.Actor {
	r.Helper()
	var u people.User
	r.write(func(tx *store.Tx) error {
		a, err := people.InsertAccount(tx, people.Account{Name: name, Type: t, DefaultKind: people.KindBasic})
		if err != nil {
			return err
		}
		u, err = people.InsertUser(tx, people.User{Account: a.ID, Email: a.ID + "@owners.example", Name: name + " Owner", Role: people.Owner, State: people.Active})
		return err
	})
	return actor(u)
}

func (r *rig) user(u people.User) people.Actor {
	r.Helper()
	if u.Email == "" {
		u.Email = store.NewID() + "@people.example"
	}
	if u.State == "" {
		u.State = people.Active
	}
	r.write(func(tx *store.Tx) (err error) { u, err = people.InsertUser(tx, u); return err })
	return actor(u)
}

func actor(u people.User) people.Actor {
	return people.Actor{User: u.ID, Account: u.Account, Name: u.Name, Email: u.Email, Role: u.Role, Operator: u.Operator, Via: "web"}
}

func (r *rig) get(id string) people.User {
	r.Helper()
	var u people.User
	r.write(func(tx *store.Tx) (err error) { u, err = people.GetUser(tx, id); return err })
	return u
}

// count returns what a query counts.
func (r *rig) count(query string, args ...any) (n int) {
	r.Helper()
	r.write(func(tx *store.Tx) error { return tx.Row(query, args...).Scan(&n) })
	return n
}

// want fails unless err is a fault with the code, or is want itself.
func (r *rig) want(what string, err error, want any) {
	r.Helper()
	switch want := want.(type) {
	case nil:
		if err != nil {
			r.Errorf("%s: %v", what, err)
		}
	case error:
		if !errors.Is(err, want) {
			r.Errorf("%s: %v, want %v", what, err, want)
		}
	case string:
		l := fault.Of(err)
		for _, f := range l {
			if strings.Trim(f.Field+" "+f.Code, " ") == want {
				return
			}
		}
		r.Errorf("%s: %v, want the fault %q", what, err, want)
	}
}

func TestInvite(t *testing.T) {
	each(t, func(r *rig) {
		own, other := r.account("Acme", people.Business), r.account("Other", people.Business)
		admin := r.user(people.User{Account: own.Account, Name: "Admin", Role: people.Admin})
		member := r.user(people.User{Account: own.Account, Name: "Member", Role: people.Member})
		inv := func(who people.Actor, list ...directory.Invitee) error {
			_, err := r.dir.Invite(r.Context(), who, list, "en")
			return err
		}
		r.want("a member", inv(member, directory.Invitee{Email: "a@example.com"}), people.ErrDenied)
		r.want("an owner by an admin", inv(admin, directory.Invitee{Email: "a@example.com", Role: people.Owner}), "people.0.role choice")
		r.want("an owner by the owner", inv(own, directory.Invitee{Email: "a@example.com", Role: people.Owner}), "people.0.role choice")
		r.want("nobody", inv(admin), "people required")
		r.want("a kind", inv(admin, directory.Invitee{Email: "a@example.com", Kind: "gold"}), "people.0.kind choice")
		r.want("an address", inv(admin, directory.Invitee{Email: "a@example.com"}, directory.Invitee{Email: "x"}), "people.1.email email")
		r.want("twice", inv(admin, directory.Invitee{Email: "a@example.com"}, directory.Invitee{Email: "A@Example.com"}), "people.1.email person-twice")
		r.want("taken", inv(admin, directory.Invitee{Email: "a@example.com"}, directory.Invitee{Email: other.Email}), "people.1.email person-exists")
		if n := r.count("SELECT COUNT(*) FROM users WHERE email = 'a@example.com'") + r.count("SELECT COUNT(*) FROM mails"); n != 0 {
			r.Error("something of a list that was refused is there", n)
		}
		r.want("good", inv(admin, directory.Invitee{Email: "A@example.com"}, directory.Invitee{Email: "b@example.com", Name: "Борис", Role: people.Admin, Kind: people.KindOnPrem}), nil)
		list, err := r.dir.List(r.Context(), admin, directory.Filter{State: people.Invited})
		if err != nil || len(list.People) != 2 || list.People[0].Email != "a@example.com" || list.People[0].Role != people.Member || list.People[1].Effective != people.KindOnPrem || list.People[1].Source != directory.FromOwn {
			r.Errorf("%+v %v", list, err)
		}
		if n := r.count("SELECT COUNT(*) FROM mails WHERE kind = 'invite'"); n != 2 {
			r.Error(n, "mails")
		}
		a := list.People[0]
		r.want("again", r.dir.Resend(r.Context(), admin, a.ID, "en"), nil)
		if n := r.count("SELECT COUNT(*) FROM links WHERE user_id = ? AND purpose = 'invite'", a.ID); n != 1 {
			r.Error("an earlier link is good still", n)
		}
		r.want("again, of another account", r.dir.Resend(r.Context(), other, a.ID, "en"), people.ErrUnknown)
		r.want("again, active", r.dir.Resend(r.Context(), admin, member.User, "en"), "person-not-invited")
		for range 10 {
			if err = r.dir.Resend(r.Context(), admin, a.ID, "en"); err != nil {
				break
			}
		}
		r.want("too often", err, "mail-many")
	})
}

// Two admins who invite the same person at once: one does, the other is told.
func TestInviteAtOnce(t *testing.T) {
	each(t, func(r *rig) {
		who := []people.Actor{r.account("A", people.Business), r.account("B", people.Business)}
		for round := range 5 {
			errs := make([]error, 8)
			var wg sync.WaitGroup
			for i := range errs {
				wg.Go(func() {
					_, errs[i] = r.dir.Invite(r.Context(), who[i%2], []directory.Invitee{{Email: fmt.Sprintf("x%d@example.com", round)}}, "en")
				})
			}
			wg.Wait()
			done := 0
			for _, err := range errs {
				if err == nil {
					done++
				} else {
					r.want("the slower", err, "people.0.email person-exists")
				}
			}
			if done != 1 {
				r.Error(done, "of 8 have invited the same person")
			}
		}
	})
}

func TestOwner(t *testing.T) {
	each(t, func(r *rig) {
		ctx := r.Context()
		own := r.account("Acme", people.Business)
		admin := r.user(people.User{Account: own.Account, Name: "Admin", Role: people.Admin})
		second := r.user(people.User{Account: own.Account, Name: "Second", Role: people.Admin})
		invited := r.user(people.User{Account: own.Account, Name: "New", Role: people.Member, State: people.Invited})
		operator := r.user(people.User{Account: own.Account, Name: "Op", Role: people.Member, Operator: true})
		foreign := r.account("Other", people.Business)
		name, member, ownerRole, onprem := "X", people.Member, people.Owner, people.KindOnPrem
		r.want("name of the owner by an admin", r.dir.Update(ctx, admin, own.User, directory.Edit{Name: &name}), people.ErrDenied)
		r.want("kind of the owner by an admin", r.dir.Update(ctx, admin, own.User, directory.Edit{Kind: &onprem}), people.ErrDenied)
		r.want("kind of the owner in bulk", r.dir.SetKind(ctx, admin, directory.Bulk{People: []string{own.User}, Kind: onprem}), people.ErrDenied)
		r.want("an owner made by an admin", r.dir.Update(ctx, admin, second.User, directory.Edit{Role: &ownerRole}), "role choice")
		r.want("the owner's own role", r.dir.Update(ctx, own, own.User, directory.Edit{Role: &member}), "role owner-transfer")
		r.want("suspend the owner", r.dir.Suspend(ctx, admin, own.User), "person-owner")
		r.want("remove the owner", r.dir.Remove(ctx, admin, own.User), "person-owner")
		r.want("the owner removes himself", r.dir.Remove(ctx, own, own.User), "person-owner")
		r.want("suspend oneself", r.dir.Suspend(ctx, admin, admin.User), "person-self")
		r.want("remove an operator", r.dir.Remove(ctx, own, operator.User), "person-operator")
		r.want("suspend an operator", r.dir.Suspend(ctx, own, operator.User), "person-operator")
		r.want("transfer by an admin", r.dir.Transfer(ctx, admin, second.User), people.ErrDenied)
		r.want("transfer to one who never came", r.dir.Transfer(ctx, own, invited.User), "owner-active")
		r.want("transfer to oneself", r.dir.Transfer(ctx, own, own.User), "person-self")
		r.want("transfer to another account's", r.dir.Transfer(ctx, own, foreign.User), people.ErrUnknown)
		r.want("the owner's own kind", r.dir.Update(ctx, own, own.User, directory.Edit{Kind: &onprem}), nil)

		// One whose role was taken away does nothing any more, whatever his session
		// believes.
		r.want("demote", r.dir.Update(ctx, own, second.User, directory.Edit{Role: &member}), nil)
		r.want("a former admin", r.dir.Suspend(ctx, second, invited.User), people.ErrDenied)
		_, err := r.dir.List(ctx, second, directory.Filter{})
		r.want("a former admin looks", err, people.ErrDenied)

		r.want("suspend", r.dir.Suspend(ctx, own, admin.User), nil)
		if u := r.get(admin.User); u.State != people.Suspended {
			r.Error(u)
		}
		r.want("a suspended admin", r.dir.Suspend(ctx, admin, invited.User), people.ErrDenied)
		r.want("resume", r.dir.Resume(ctx, own, admin.User), nil)
		if u := r.get(admin.User); u.State != people.Invited {
			r.Errorf("without any way to sign in he is %s", u.State)
		}
		r.write(func(tx *store.Tx) error {
			_, err := tx.Exec("UPDATE users SET password = 'x', state = 'suspended' WHERE id = ?", admin.User)
			return err
		})
		r.want("resume", r.dir.Resume(ctx, own, admin.User), nil)
		if u := r.get(admin.User); u.State != people.Active {
			r.Errorf("with a password he is %s", u.State)
		}
		r.want("remove", r.dir.Remove(ctx, own, admin.User), nil)
		if n := r.count("SELECT COUNT(*) FROM users WHERE id = ?", admin.User); n != 0 {
			r.Error("he is there still")
		}
	})
}

// Whatever is done at once, an account has one owner.
func TestTransferAtOnce(t *testing.T) {
	each(t, func(r *rig) {
		own := r.account("Acme", people.Business)
		all := []people.Actor{own}
		for i := range 4 {
			all = append(all, r.user(people.User{Account: own.Account, Name: fmt.Sprint(i), Role: people.Admin}))
		}
		for range 6 {
			var wg sync.WaitGroup
			for _, from := range all {
				for _, to := range all {
					wg.Go(func() {
						who := from
						who.Role = people.Owner // as a session that is behind believes
						_ = r.dir.Transfer(context.WithoutCancel(r.Context()), who, to.User)
						_ = r.dir.Remove(context.WithoutCancel(r.Context()), who, to.User)
					})
				}
			}
			wg.Wait()
			if n := r.count("SELECT COUNT(*) FROM users WHERE account_id = ? AND role = 'owner' AND state = 'active'", own.Account); n != 1 {
				r.Fatal(n, "owners")
			}
		}
	})
}

// The list and people.EffectiveKind say the same.
func TestEffectiveKind(t *testing.T) {
	each(t, func(r *rig) {
		own := r.account("Acme", people.Business)
		kinds := []people.Kind{"", people.KindBasic, people.KindLicensed, people.KindOnPrem}
		random := rand.New(rand.NewPCG(1, 2))
		var groups []string
		for i := range 6 {
			g, err := r.dir.AddGroup(r.Context(), own, directory.GroupInput{Name: fmt.Sprint(i), Kind: kinds[random.IntN(4)]})
			if err != nil {
				r.Fatal(err)
			}
			groups = append(groups, g.ID)
		}
		for range 40 {
			u := r.user(people.User{Account: own.Account, Name: "N", Role: people.Member, Kind: kinds[random.IntN(4)]})
			var in []string
			for _, g := range groups {
				if random.IntN(4) == 0 {
					in = append(in, g)
				}
			}
			r.want("groups", r.dir.Update(r.Context(), own, u.User, directory.Edit{Groups: &in}), nil)
		}
		for _, def := range kinds[1:] {
			r.want("default", r.dir.SetAccount(r.Context(), own, directory.AccountInput{Name: "Acme", DefaultKind: def}), nil)
			list, err := r.dir.List(r.Context(), own, directory.Filter{})
			if err != nil || list.Total != 41 {
				r.Fatal(list.Total, err)
			}
			have := map[people.Kind]int{}
			for _, p := range list.People {
				r.write(func(tx *store.Tx) error {
					k, err := people.EffectiveKind(tx, p.User)
					if k != p.Effective {
						r.Errorf("%+v: %s", p, k)
					}
					return err
				})
				have[p.Effective]++
				d, err := r.dir.Get(r.Context(), own, p.ID)
				if err != nil || d.Effective != p.Effective || d.Source != p.Source {
					r.Errorf("%+v: %+v %v", p, d, err)
				}
			}
			for _, k := range kinds[1:] {
				some, err := r.dir.List(r.Context(), own, directory.Filter{Kind: k})
				if err != nil || some.Total != have[k] {
					r.Errorf("%s by default, kind %s: %d of %d, %v", def, k, some.Total, have[k], err)
				}
			}
			if s, err := r.dir.Account(r.Context(), own); err != nil || s.OnPrem != have[people.KindOnPrem] || s.People != 41 {
				r.Errorf("%+v %v", s, err)
			}
		}
	})
}

func TestSearch(t *testing.T) {
	each(t, func(r *rig) {
		own, other := r.account("Acme", people.Business), r.account("Other", people.Business)
		for _, n := range []string{"Иван Петров", "анна Иванова", "100% Sure", "under_score", `back\slash`} {
			r.user(people.User{Account: own.Account, Name: n, Role: people.Member})
			r.user(people.User{Account: other.Account, Name: n, Role: people.Member})
		}
		for q, want := range map[string]int{"иван": 2, "ИВАН П": 1, "%": 1, "_": 1, `\`: 1, "@people.example": 5, "x' OR 1=1 --": 0, "": 6} {
			list, err := r.dir.List(r.Context(), own, directory.Filter{Search: q})
			if err != nil || list.Total != want || len(list.People) != want {
				r.Errorf("%q: %d %v", q, list.Total, err)
			}
			for _, p := range list.People {
				if p.Account != own.Account {
					r.Errorf("%q finds %+v", q, p)
				}
			}
		}
		list, err := r.dir.List(r.Context(), own, directory.Filter{Page: directory.Page{Number: 2, Size: 4}})
		if err != nil || list.Page != 2 || list.Pages != 2 || len(list.People) != 2 {
			r.Errorf("%+v %v", list, err)
		}
		if list, err = r.dir.List(r.Context(), own, directory.Filter{Page: directory.Page{Number: 1 << 40, Size: -7}}); err != nil || len(list.People) != 0 {
			r.Errorf("%+v %v", list, err)
		}
	})
}

func TestGroups(t *testing.T) {
	each(t, func(r *rig) {
		ctx := r.Context()
		own, other := r.account("Acme", people.Business), r.account("Other", people.Business)
		u := r.user(people.User{Account: own.Account, Name: "U", Role: people.Member})
		g, err := r.dir.AddGroup(ctx, own, directory.GroupInput{Name: " Sales ", Kind: people.KindOnPrem})
		if err != nil || g.Name != "Sales" {
			r.Fatal(g, err)
		}
		_, err = r.dir.AddGroup(ctx, own, directory.GroupInput{Name: "Sales"})
		r.want("twice", err, "name group-exists")
		_, err = r.dir.AddGroup(ctx, u, directory.GroupInput{Name: "Mine"})
		r.want("by a member", err, people.ErrDenied)
		_, err = r.dir.AddGroup(ctx, other, directory.GroupInput{Name: "Sales"})
		r.want("another account's", err, nil)
		r.want("put in", r.dir.AddMembers(ctx, own, g.ID, directory.MembersInput{Emails: []string{u.Email}, People: []string{u.User}}), nil)
		r.want("put a stranger in", r.dir.AddMembers(ctx, own, g.ID, directory.MembersInput{Emails: []string{u.Email, other.Email}}), "emails person-unknown")
		r.want("put a stranger in by id", r.dir.AddMembers(ctx, own, g.ID, directory.MembersInput{People: []string{other.User}}), people.ErrUnknown)
		r.want("into another's", r.dir.AddMembers(ctx, other, g.ID, directory.MembersInput{People: []string{other.User}}), people.ErrUnknown)
		if d, err := r.dir.Get(ctx, own, u.User); err != nil || d.Effective != people.KindOnPrem || d.Source != directory.FromGroup || len(d.Groups) != 1 {
			r.Errorf("%+v %v", d, err)
		}
		r.want("rename", r.dir.SetGroup(ctx, own, g.ID, directory.GroupInput{Name: "Support"}), nil)
		r.want("rename another's", r.dir.SetGroup(ctx, other, g.ID, directory.GroupInput{Name: "X"}), people.ErrUnknown)
		zone := store.NewID()
		r.write(func(tx *store.Tx) error {
			if _, err := tx.Exec("INSERT INTO zones (id, account_id, name, created) VALUES (?,?,?,1)", zone, own.Account, "Zone"); err != nil {
				return err
			}
			_, err := tx.Exec("INSERT INTO zone_users (zone_id, what, id) VALUES (?, 'group', ?)", zone, g.ID)
			return err
		})
		// A zone that is for a group alone must not open to everybody.
		r.want("remove the last of a zone", r.dir.RemoveGroup(ctx, own, g.ID), "zone-restricted")
		r.write(func(tx *store.Tx) error {
			_, err := tx.Exec("INSERT INTO zone_users (zone_id, what, id) VALUES (?, 'user', ?)", zone, u.User)
			return err
		})
		r.want("take out", r.dir.RemoveMember(ctx, own, g.ID, u.User), nil)
		r.want("take out again", r.dir.RemoveMember(ctx, own, g.ID, u.User), people.ErrUnknown)
		r.want("remove another's", r.dir.RemoveGroup(ctx, other, g.ID), people.ErrUnknown)
		r.want("remove", r.dir.RemoveGroup(ctx, own, g.ID), nil)
		if n := r.count("SELECT COUNT(*) FROM zone_users WHERE what = 'group'"); n != 0 {
			r.Error("the zone has the group still")
		}
		r.want("remove the last person of a zone", r.dir.Remove(ctx, own, u.User), "zone-restricted")
	})
}
