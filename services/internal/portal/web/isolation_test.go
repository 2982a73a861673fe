package web_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/apitest"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/portaltest"
	"github.com/parley-meet/parley/services/internal/portal/store"
	"github.com/parley-meet/parley/services/internal/portal/store/storetest"
)

// No person, no token and no stranger reaches anything of another account by any
// endpoint of the description: each is called with every id that the account
// has, in its path, its query and its body. The answer is the one for an id that
// nobody has, nothing of the account is in it, and the account's rows are what
// they were.
func TestIsolation(t *testing.T) {
	t.Parallel()
	storetest.Each(t, isolation)
}

func isolation(t *testing.T, url string) {
	p := portaltest.On(t, url, make([]byte, 32))
	a, b := newWorld(t, p, "Quagga"), newWorld(t, p, "Bluebuck")
	list := table(t, p)
	child, childAdmin := p.Account("Sub", people.Enterprise)
	if err := p.DB.Write(t.Context(), func(tx *store.Tx) error {
		_, err := tx.Exec("UPDATE accounts SET parent_id = ? WHERE id = ?", a.account.ID, child.ID)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	before, theirs := belongings(dump(t, p), a.account.ID, child.ID)
	_, own := belongings(dump(t, p), b.account.ID, "")
	for id := range theirs {
		if _, ok := own[id]; ok {
			t.Fatalf("%s belongs to both accounts: nothing could be told apart", id)
		}
	}
	was := texts(before)
	x := &intruder{t: t, victim: a, own: own, theirs: theirs, one: oneOfEach(theirs)}

	operator, sub := as(t, p, "operator", p.Operator()), as(t, p, "a sub-account's owner", childAdmin)
	sub.child = true
	for _, c := range []struct {
		caller
		ids []string // that it tries
	}{
		{b.owner, slices.Sorted(maps.Keys(theirs))},
		{b.admin, x.one}, {b.member, x.one}, {caller{p: p, label: "stranger"}, x.one},
		{sub, x.one},
		{operator, x.one}, {caller{p: p, label: "a token with all scopes", bearer: b.ids["tokenSecret"]}, x.one},
	} {
		for _, o := range list {
			if open[o.ID] != "" || c.label == "operator" && strings.HasPrefix(o.Path, "/api/v1/operator/") {
				continue
			}
			x.path(c.caller, o, c.ids)
			x.query(c.caller, o, x.one)
			x.read(c.caller, o)
		}
	}
	for _, o := range list {
		if open[o.ID] == "" {
			x.body(b, o)
		}
	}
	for _, q := range p.All.Web.Pages() {
		x.page(b.owner, q.Path)
	}
	after, _ := belongings(dump(t, p), a.account.ID, child.ID)
	same(t, "the other account's people tried everything", was, texts(after))
	t.Logf("%d requests, %d ids of %d kinds", x.requests, len(theirs), len(x.one))
}

// open are endpoints that are for people of other accounts too, and why.
var open = map[string]string{}

// intruder calls endpoints with ids of another account.
type intruder struct {
	t           *testing.T
	victim      *world
	own, theirs map[string]string
	one         []string // an id of each kind
	requests    int
}

// oneOfEach returns an id of each table.
func oneOfEach(ids map[string]string) []string {
	byTable := map[string]string{}
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		if byTable[ids[id]] == "" {
			byTable[ids[id]] = id
		}
	}
	return slices.Sorted(maps.Values(byTable))
}

// unlike returns an id of the same form that nobody has; it is the next one in
// time, as some lists are cut at an id.
func unlike(id string) string {
	if strings.Trim(id, "0123456789") == "" {
		return "99999999999"[:len(id)]
	}
	b := []byte(id)
	if i := len(b) - 2; b[i] == '0' {
		b[i] = '1'
	} else {
		b[i] = '0'
	}
	return string(b)
}

// path puts ids into the wildcards of the path.
func (x *intruder) path(c caller, o operation, ids []string) {
	x.t.Helper()
	var tries [][]string
	switch len(o.Params) {
	case 0:
		return
	case 1:
		for _, id := range ids {
			tries = append(tries, []string{id})
		}
	default:
		// One wildcard has an id of the other account, the others what a sample
		// has, or another of its ids.
		var filled []string
		if s, ok := sampleOf(x.victim, o); ok {
			filled = s.path
			tries = append(tries, filled)
		}
		for n := range o.Params {
			for _, id := range x.one {
				for _, other := range append(slices.Clone(x.one), oneOfEach(x.own)...) {
					try := make([]string, len(o.Params))
					for i := range try {
						try[i] = other
						if len(filled) == len(try) {
							try[i] = filled[i]
						}
					}
					try[n] = id
					tries = append(tries, try)
				}
			}
		}
	}
	for _, try := range tries {
		control := make([]string, len(try))
		for i, v := range try {
			control[i] = v
			if x.theirs[v] != "" {
				control[i] = unlike(v)
			}
		}
		x.compare(c, o, try, control, o.at(try...), o.at(control...), blank(o.Body), blank(o.Body))
	}
}

// query puts ids into the parameters of the query.
func (x *intruder) query(c caller, o operation, ids []string) {
	x.t.Helper()
	for _, q := range o.Query {
		for _, id := range ids {
			no := unlike(id)
			path := o.at("none") + "?" + url.QueryEscape(q) + "="
			x.compare(c, o, []string{id}, []string{no}, path+id, path+no, blank(o.Body), blank(o.Body))
		}
	}
}

// page looks at a page with ids of the other account.
func (x *intruder) page(c caller, pattern string) {
	x.t.Helper()
	o := operation{Method: http.MethodGet, Path: pattern, ID: "page"}
	if !api.PathParam.MatchString(pattern) {
		x.nothing(c, o, c.get(pattern).text, nil)
		return
	}
	for _, id := range slices.Sorted(maps.Keys(x.theirs)) {
		x.compare(c, o, []string{id}, []string{unlike(id)}, o.at(id), o.at(unlike(id)), nil, nil)
	}
}

// read calls what has no id, and fails when something of the other account is in
// the answer.
func (x *intruder) read(c caller, o operation) {
	x.t.Helper()
	if !o.writes() && len(o.Params) == 0 {
		x.requests++
		x.nothing(c, o, c.call(o, o.Path, nil, nil).text, nil)
	}
}

// body puts each id of the other account into each place of a sample's body that
// has one of the own.
func (x *intruder) body(w *world, o operation) {
	x.t.Helper()
	from, ok := sampleOf(w, o)
	if o.Body == nil || !ok {
		return
	}
	path := o.at(append(slices.Clone(from.path), "")...)
	text, err := json.Marshal(from.body)
	if err != nil {
		x.t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		x.t.Fatal(err)
	}
	for _, place := range apitest.StringPaths(v) {
		if x.own[at(v, place)] == "" {
			continue
		}
		for _, id := range x.one {
			no := unlike(id)
			for _, c := range []caller{*from.who, w.admin} {
				x.compare(c, o, []string{id}, []string{no}, path, path, apitest.With(v, place, id), apitest.With(v, place, no))
			}
		}
	}
}

// at returns the text at a place of a value of JSON.
func at(v any, place []any) string {
	for _, k := range place {
		switch k := k.(type) {
		case string:
			v = v.(map[string]any)[k]
		case int:
			v = v.([]any)[k]
		}
	}
	s, _ := v.(string)
	return s
}

// compare sends a request with ids of the other account and one with ids that
// nobody has.
func (x *intruder) compare(c caller, o operation, ids, control []string, path, controlPath string, body, controlBody any) {
	x.t.Helper()
	if o.Body == nil {
		body, controlBody = nil, nil
	}
	x.requests += 2
	got, want := c.call(o, path, body, nil), c.call(o, controlPath, controlBody, nil)
	if got.failed() {
		x.t.Errorf("%s: %s %s: status %d %.200s", c.label, o.Method, path, got.status, got.text)
	}
	if got.status != want.status {
		x.t.Errorf("%s: %s %s (%s of the other account): status %d, with an id that nobody has %d\n%.300s", c.label, o.Method, path, x.kinds(ids), got.status, want.status, got.text)
		return
	}
	if !o.writes() && got.status == http.StatusOK && !o.stream() {
		if g, w := without(got.text, ids), without(want.text, control); g != w {
			x.t.Errorf("%s: %s %s answers another thing than for an id that nobody has:\n%.300s\n%.300s", c.label, o.Method, path, g, w)
		}
	}
	x.nothing(c, o, got.text, ids)
}

func (x *intruder) kinds(ids []string) string {
	var out []string
	for _, id := range ids {
		out = append(out, x.theirs[id])
	}
	return fmt.Sprint(out)
}

func without(text string, ids []string) string {
	for _, id := range ids {
		if strings.Trim(id, "0123456789") == "" { // numbers of meetings are shown in groups
			text = grouped.ReplaceAllString(text, "$1")
		}
		text = strings.ReplaceAll(text, id, "ID")
	}
	return text
}

var grouped = regexp.MustCompile(`(\d)[ \x{a0}]`)

// nothing fails when an answer has something of the other account but for what
// the request named.
func (x *intruder) nothing(c caller, o operation, text string, sent []string) {
	x.t.Helper()
	text = without(text, sent)
	if c.child { // whose sub-account it is
		text = strings.NewReplacer(`"parentName":"`+x.victim.marker+`"`, "", `"parent":"`+x.victim.account.ID+`"`, "").Replace(text)
	}
	if strings.Contains(text, x.victim.marker) {
		x.t.Errorf("%s: %s tells of the other account: %.600s", c.label, o, text)
		return
	}
	for id, table := range x.theirs {
		if strings.Contains(text, id) {
			x.t.Errorf("%s: %s tells an id of the other account's %s: %.600s", c.label, o, table, text)
			return
		}
	}
}

// What the table says of who may is what happens: who has less is turned away
// before anything else is looked at, and who has enough is not.
func TestAuthority(t *testing.T) {
	p := portaltest.New(t)
	ranks := []string{"", "person", "member", "admin", "owner"}
	for _, o := range table(t, p) {
		if !slices.Contains(append(ranks, "operator"), o.Need) {
			t.Errorf("%s needs %q, which nobody has", o, o.Need)
			continue
		}
		acc, ownerUser := p.Account("Acme", people.Enterprise)
		callers := map[string]caller{
			"":         {p: p, label: "stranger"},
			"member":   as(t, p, "member", p.User(acc.ID, "Member", people.Member, "")),
			"admin":    as(t, p, "admin", p.User(acc.ID, "Admin", people.Admin, "")),
			"owner":    as(t, p, "owner", ownerUser),
			"operator": as(t, p, "operator", p.Operator()),
		}
		for who, c := range callers {
			may := slices.Index(ranks, who) >= slices.Index(ranks, o.Need)
			if o.Need == "operator" {
				may = who == "operator"
			} else if who == "operator" {
				may = o.Need == "" || o.Need == "person" // one without an account
			}
			a := c.call(o, o.at(store.NewID()), blank(o.Body), nil)
			refused := a.status == http.StatusUnauthorized || a.status == http.StatusForbidden
			want := http.StatusForbidden
			if who == "" {
				want = http.StatusUnauthorized
			}
			if !may && a.status != want {
				t.Errorf("%s, which needs %q, as %s: status %d, want %d\n%.300s", o, o.Need, c.label, a.status, want, a.text)
			}
			if may && refused && !refuses[o.ID] {
				t.Errorf("%s, which needs %q, as %s: status %d %.300s", o, o.Need, c.label, a.status, a.text)
			}
			if a.failed() {
				t.Errorf("%s as %s: status %d %.300s", o, c.label, a.status, a.text)
			}
		}
	}
}

// misnamed are operations whose scope tells of the other kind: a personal room
// is made by looking at it, and a link is for reading.
var misnamed = map[string]bool{"getRoom": true, "linkRelease": true}

// A token does what its scopes name and nothing else, and never what only a
// person may.
func TestTokenScopes(t *testing.T) {
	p := portaltest.New(t)
	_, owner := p.Account("Acme", people.Enterprise)
	op := p.Operator()
	list := table(t, p)
	all := scopes(list)
	for _, has := range append([]string{"none:none"}, all...) {
		tokens := []caller{{p: p, label: "owner's " + has, bearer: tokenOf(t, p, owner, "", has)}, {p: p, label: "operator's " + has, bearer: tokenOf(t, p, op, "", has)}}
		for _, o := range list {
			if o.Need == "" || o.Token && o.Scope == has {
				continue
			}
			for _, c := range tokens {
				if a := c.call(o, o.at(store.NewID()), blank(o.Body), nil); a.status != http.StatusForbidden {
					t.Errorf("%s with a token of the %s: status %d, want 403", o, c.label, a.status)
				}
			}
		}
	}
	for _, o := range list {
		if o.Token && (o.Scope == "" || strings.HasSuffix(o.Scope, ":read") == o.writes() && !misnamed[o.ID]) {
			t.Errorf("%s has the scope %q", o, o.Scope)
		}
	}
}

// refuses are endpoints that may turn somebody away whose role is enough, for
// what the request holds: another secret than the session's.
var refuses = map[string]bool{"enrol": true}

// A path with a pattern of this portal that is no endpoint is not there.
func TestNoEndpoint(t *testing.T) {
	p := portaltest.New(t)
	_, owner := p.Account("Acme", people.Enterprise)
	c := as(t, p, "owner", owner)
	for _, path := range []string{"/api/", "/api/v1/", "/api/v1/nothing", "/api/v2/self", "/api/v1/self/"} {
		if a := c.get(path); a.status != http.StatusNotFound || !strings.Contains(a.text, `"not-found"`) {
			t.Errorf("%s: %d %s", path, a.status, a.text)
		}
	}
}
