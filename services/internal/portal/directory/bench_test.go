package directory_test

import (
	"fmt"
	"testing"

	"github.com/parley-meet/parley/services/internal/portal/directory"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/store"
	"github.com/parley-meet/parley/services/internal/portal/store/storetest"
	"github.com/parley-meet/parley/services/internal/portal/vault"
)

// BenchmarkList reads parts of the list of an account of 10,000 people, half of
// them in a group, beside another account of as many.
func BenchmarkList(b *testing.B) {
	for name, url := range map[string]func(testing.TB) string{"sqlite": storetest.SQLite, "postgres": storetest.Postgres} {
		b.Run(name, func(b *testing.B) {
			db, err := store.Open(b.Context(), url(b), nil)
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { db.Close() })
			v, err := vault.New(make([]byte, 32))
			if err != nil {
				b.Fatal(err)
			}
			dir := directory.New(db, v, nil)
			var who people.Actor
			err = db.Write(b.Context(), func(tx *store.Tx) error {
				for range 2 {
					a, err := people.InsertAccount(tx, people.Account{Name: "A", Type: people.Business, DefaultKind: people.KindBasic})
					if err != nil {
						return err
					}
					group := store.NewID()
					if _, err := tx.Exec("INSERT INTO groups (id, account_id, name, kind) VALUES (?,?,'G','onprem')", group, a.ID); err != nil {
						return err
					}
					for i := range 10000 {
						role := people.Member
						if i == 0 {
							role = people.Owner
						}
						u, err := people.InsertUser(tx, people.User{Account: a.ID, Email: fmt.Sprintf("u%d@%s.example", i, a.ID), Name: fmt.Sprintf("Person %d", i*7919%10000), Role: role, State: people.Active})
						if err != nil {
							return err
						}
						if i == 0 {
							who = actor(u)
						}
						if i%2 == 0 {
							if _, err := tx.Exec("INSERT INTO group_members (group_id, user_id) VALUES (?,?)", group, u.ID); err != nil {
								return err
							}
						}
					}
				}
				return nil
			})
			if err != nil {
				b.Fatal(err)
			}
			for _, c := range []struct {
				name string
				f    directory.Filter
				want int
			}{
				{"first", directory.Filter{}, 10000},
				{"last", directory.Filter{Page: directory.Page{Number: 200}}, 10000},
				{"search", directory.Filter{Search: "PERSON 99"}, 111},
				{"kind", directory.Filter{Kind: people.KindOnPrem, Page: directory.Page{Number: 50}}, 5000},
			} {
				b.Run(c.name, func(b *testing.B) {
					for b.Loop() {
						if l, err := dir.List(b.Context(), who, c.f); err != nil || l.Total != c.want || len(l.People) != 50 {
							b.Fatal(l.Total, len(l.People), err)
						}
					}
				})
			}
		})
	}
}
