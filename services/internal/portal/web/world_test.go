package web_test

import (
	"testing"

	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/portaltest"
)

// world is an account with one of everything.
type world struct {
	t      *testing.T
	p      *portaltest.Portal
	marker string // stands in every name and text of it
	table  map[string]operation

	account                   people.Account
	ownerUser, admUser, mUser people.User
	owner, admin, member      caller
	ids                       map[string]string // what the steps kept, by name
}

// newWorld makes an account and, through the API, what an account can have.
func newWorld(t *testing.T, p *portaltest.Portal, marker string) *world {
	t.Helper()
	w := &world{t: t, p: p, marker: marker, table: map[string]operation{}, ids: map[string]string{}}
	for _, o := range table(t, p) {
		w.table[o.ID] = o
	}
	w.account, w.ownerUser = p.Account(marker, people.Enterprise)
	w.admUser = p.User(w.account.ID, marker+" Admin", people.Admin, "")
	w.mUser = p.User(w.account.ID, marker+" Member", people.Member, people.KindOnPrem)
	w.owner = as(t, p, marker+" owner", w.ownerUser)
	w.admin = as(t, p, marker+" admin", w.admUser)
	w.member = as(t, p, marker+" member", w.mUser)
	w.ids["account"], w.ids["user"], w.ids["admin"] = w.account.ID, w.mUser.ID, w.admUser.ID
	for _, s := range steps {
		s(w)
	}
	return w
}

// steps make one of everything, in an order that works.
var steps = []func(*world){}

// sample is a request that works in a world.
type sample struct {
	path []string // of the wildcards
	body any
}

// samples are the requests of a world's owner that work there, by operation.
var samples = map[string]func(*world) sample{
	"getSelf":        func(*world) sample { return sample{} },
	"getDescription": func(*world) sample { return sample{} },
}
