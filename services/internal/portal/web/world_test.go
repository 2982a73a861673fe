package web_test

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/credential"
	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/portal/identity"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/portaltest"
	"github.com/parley-meet/parley/services/internal/portal/store"
	"github.com/parley-meet/parley/services/internal/portal/zones"
)

// world is an account with one of everything.
type world struct {
	t      *testing.T
	p      *portaltest.Portal
	marker string // begins every name and text of it

	account                                     people.Account
	owner, admin, member, operator              caller
	ownerUser, adminUser, memberUser, otherUser people.User
	ids                                         map[string]string // what was made, by name
	appliance                                   *portaltest.Appliance
}

// hashed is the hash of testPassword, which is dear to make.
var hashed = sync.OnceValues(func() (string, error) {
	h, err := credential.NewHasher(1).Hash(context.Background(), testPassword)
	return h.String(), err
})

// newWorld makes an account and, through the API, what an account can have.
func newWorld(t *testing.T, p *portaltest.Portal, marker string) *world {
	t.Helper()
	w := &world{t: t, p: p, marker: marker, ids: map[string]string{}}
	w.account, w.ownerUser = p.Account(marker, people.Enterprise)
	w.adminUser = p.User(w.account.ID, marker+" Admin", people.Admin, people.KindOnPrem)
	w.memberUser = p.User(w.account.ID, marker+" Member", people.Member, people.KindOnPrem)
	w.otherUser = p.User(w.account.ID, marker+" Other", people.Member, "")
	hash, err := hashed()
	if err != nil {
		t.Fatal(err)
	}
	exec(t, p, "UPDATE users SET password = ?, password_set = ? WHERE account_id = ?", hash, store.Millis(time.Now()), w.account.ID)
	w.owner, w.admin, w.member = as(t, p, marker+" owner", w.ownerUser), as(t, p, marker+" admin", w.adminUser), as(t, p, marker+" member", w.memberUser)
	w.operator = as(t, p, "operator", p.Operator())
	as(t, p, "another session", w.ownerUser)
	w.keep("account", w.account.ID)
	w.keep("user", w.otherUser.ID)

	// People.
	made := w.made(w.owner, "POST", "/api/v1/groups", object{"name": marker + " Group"})
	w.keep("group", made["id"])
	w.owner.works("POST", "/api/v1/groups/"+w.ids["group"]+"/members", object{"people": []string{w.memberUser.ID}}, nil)
	made = w.made(w.owner, "POST", "/api/v1/users", object{"email": marker + "-invited@example.com", "name": marker + " Invited"})
	w.keep("invited", made["id"])
	made = w.made(w.owner, "POST", "/api/v1/account/subaccounts", object{"name": marker + " Sub", "ownerName": marker + " Subowner", "ownerEmail": marker + "-sub@example.com"})
	w.keep("sub", made["id"])
	made = w.made(w.owner, "POST", "/api/v1/profile/tokens", object{"title": marker + " automation", "scopes": scopes(table(t, p)), "days": "30"})
	w.keep("token", made["token"].(object)["id"])
	w.ids["tokenSecret"] = made["secret"].(string)
	w.keep("session", first(w.list(w.owner, "/api/v1/profile/sessions"), func(s object) bool { return s["current"] != true })["id"])

	// The connector, with a controller that runs.
	z, actor := p.All.Zones, identity.ActorOf(w.ownerUser, "192.0.2.1", "web")
	if err := z.Enable(t.Context(), actor, marker+" Zone"); err != nil {
		t.Fatal(err)
	}
	c, err := z.Get(t.Context(), actor)
	if err != nil {
		t.Fatal(err)
	}
	w.keep("zone", c.Zones[0].ID)
	spare, err := z.Add(t.Context(), actor, marker+" Spare")
	if err != nil {
		t.Fatal(err)
	}
	w.keep("spare", spare.ID)
	enrolment, err := z.AddToken(t.Context(), actor, zones.TokenInput{Zone: w.ids["zone"], Title: marker + " Enrolment"})
	if err != nil {
		t.Fatal(err)
	}
	w.keep("enrolment", enrolment.Token.ID)
	w.ids["enrolmentSecret"] = enrolment.Secret
	w.appliance = p.Appliance(enrolment.Secret, marker+".example.com", link.Controller)
	w.appliance.Linked()
	w.keep("appliance", w.appliance.Credentials.Appliance)
	// What it takes to go to production is tested elsewhere.
	exec(t, p, "UPDATE accounts SET production = ? WHERE id = ?", store.Millis(time.Now()), w.account.ID)

	// Meetings.
	made = w.made(w.member, "POST", "/api/v1/meetings", w.meeting())
	w.keep("meeting", made["id"])
	w.keep("number", made["number"])
	w.ids["passcode"], _ = made["passcode"].(string)
	w.keep("occurrence", w.list(w.member, "/api/v1/meetings/"+w.ids["meeting"]+"/occurrences")[1]["id"])
	w.made(w.member, "POST", "/api/v1/meetings/now", object{"topic": marker + " Now"})
	w.made(w.member, "GET", "/api/v1/meetings/room", nil)
	return w
}

// meeting is one that recurs.
func (w *world) meeting() object {
	return object{"topic": w.marker + " Weekly", "agenda": w.marker + " Agenda", "start": "2031-03-03T10:00", "timezone": "Europe/Berlin", "duration": 30,
		"repeat": object{"every": "weekly", "interval": 1, "weekdays": []string{"MO"}, "ends": "count", "count": 5}, "zone": w.ids["zone"],
		"alternativeHosts": []string{w.adminUser.Email}, "waitingRoom": false, "joinBeforeHost": true}
}

// object is JSON.
type object = map[string]any

func (w *world) keep(name string, id any) {
	w.t.Helper()
	s, _ := id.(string)
	if s == "" {
		w.t.Fatalf("no id of %s", name)
	}
	w.ids[name] = s
}

func (w *world) made(c caller, method, path string, body any) (out object) {
	w.t.Helper()
	c.works(method, path, body, &out)
	return out
}

func (w *world) list(c caller, path string) (out []object) {
	w.t.Helper()
	c.works("GET", path, nil, &out)
	return out
}

func first(list []object, is func(object) bool) object {
	i := slices.IndexFunc(list, is)
	if i < 0 {
		return object{}
	}
	return list[i]
}

// scopes are all that endpoints ask for.
func scopes(list []operation) []string {
	all := map[string]bool{}
	for _, o := range list {
		if o.Scope != "" && o.Token {
			all[o.Scope] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// sample is a request that works in a world.
type sample struct {
	who  *caller  // nil: the owner
	path []string // of the wildcards
	body any
	want int // status; 0: 200 or 204
}

// sampleOf returns an operation's, with a request of its owner.
func sampleOf(w *world, o operation) (sample, bool) {
	f, ok := samples[o.ID]
	if !ok {
		return sample{}, false
	}
	s := f(w)
	s.who = cmp.Or(s.who, &w.owner)
	return s, true
}

// call sends it.
func (s sample) call(o operation) reply { return s.who.call(o, o.at(s.path...), s.body, http.Header{}) }
