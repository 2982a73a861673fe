package web_test

import (
	"bufio"
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/portal/identity"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/portaltest"
	"github.com/parley-meet/parley/services/internal/portal/store/storetest"
)

// stream opens the Monitor tab's stream and returns a channel that has the name
// of its last event when it ends.
func stream(t *testing.T, c *portaltest.Client) <-chan string {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(stop)
	req, err := http.NewRequestWithContext(ctx, "GET", c.P.Server.URL+"/connector/monitor/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.HTTP.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	lines, first, last := bufio.NewScanner(resp.Body), make(chan struct{}), make(chan string, 1)
	lines.Buffer(nil, 1<<20)
	go func() {
		defer resp.Body.Close()
		event := ""
		for lines.Scan() {
			if name, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
				if event == "" {
					close(first)
				}
				event = name
			}
		}
		if event == "" {
			close(first)
		}
		last <- event
	}()
	<-first
	return last
}

// Whoever may not look any more is shown nothing more within seconds, whichever
// instance he looks at and whichever one he was turned out by.
func TestAttackStreamAfterwards(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db string) {
		p, q := portaltest.On(t, db, make([]byte, 32)), portaltest.On(t, db, make([]byte, 32))
		operator := q.Client(q.Operator())
		type step struct {
			what  string
			admin people.User
			end   func()
		}
		var steps []step
		var streams []<-chan string
		add := func(what string, end func(acc people.Account, owner *portaltest.Client, admin people.User, here *portaltest.Client)) {
			acc, owner := p.Account(what, people.Business)
			q.Client(owner).JSON("POST", "/api/v1/connector/enable", obj{"zone": "Z"}, nil)
			admin := p.User(acc.ID, "Admin", people.Admin, "")
			here := p.Client(admin)
			streams = append(streams, stream(t, here))
			steps = append(steps, step{what, admin, func() { end(acc, q.Client(owner), admin, here) }})
		}
		add("nothing", func(people.Account, *portaltest.Client, people.User, *portaltest.Client) {})
		add("role", func(_ people.Account, o *portaltest.Client, u people.User, _ *portaltest.Client) {
			o.JSON("PUT", "/api/v1/users/"+u.ID, obj{"role": "member"}, nil)
		})
		add("suspended", func(_ people.Account, o *portaltest.Client, u people.User, _ *portaltest.Client) {
			o.JSON("POST", "/api/v1/users/"+u.ID+"/suspend", nil, nil)
		})
		add("removed", func(_ people.Account, o *portaltest.Client, u people.User, _ *portaltest.Client) {
			o.JSON("DELETE", "/api/v1/users/"+u.ID, nil, nil)
		})
		add("factor", func(_ people.Account, o *portaltest.Client, u people.User, _ *portaltest.Client) {
			o.JSON("DELETE", "/api/v1/users/"+u.ID+"/factor", nil, nil)
		})
		add("closed", func(a people.Account, o *portaltest.Client, _ people.User, _ *portaltest.Client) {
			o.JSON("POST", "/api/v1/account/close", obj{"name": a.Name}, nil)
		})
		add("held", func(a people.Account, _ *portaltest.Client, _ people.User, _ *portaltest.Client) {
			operator.JSON("POST", "/api/v1/operator/accounts/"+a.ID+"/suspend", nil, nil)
		})
		add("signed out", func(_ people.Account, _ *portaltest.Client, _ people.User, here *portaltest.Client) {
			if a := here.Do("POST", "/logout", nil); a.Status != http.StatusSeeOther {
				t.Errorf("%d", a.Status)
			}
		})
		add("elsewhere", func(_ people.Account, _ *portaltest.Client, u people.User, _ *portaltest.Client) {
			q.Client(u).JSON("DELETE", "/api/v1/profile/sessions", nil, nil)
		})
		for _, s := range steps {
			s.end()
		}
		for i, s := range steps[1:] {
			select {
			case last := <-streams[i+1]:
				if last != "end" {
					t.Errorf("%s: the last event is %q", s.what, last)
				}
			case <-time.After(20 * time.Second):
				t.Errorf("%s: the stream goes on", s.what)
			}
		}
		select {
		case last := <-streams[0]:
			t.Errorf("the stream of whom nothing happened to ended with %q", last)
		default:
		}
	})
}

// A code of a second factor, of the app or for recovery, opens one of many
// sign-ins that send it at once, to whichever instance.
func TestAttackCodeAtOnce(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db string) {
		p, q := portaltest.On(t, db, make([]byte, 32)), portaltest.On(t, db, make([]byte, 32))
		_, owner := p.Account("Acme", people.Business)
		setPassword(t, p, owner, testPassword)
		secret, recovery := enrolled(t, p.Client(owner))
		at := []*identity.Service{identity.New(p.DB, p.Vault, nil), identity.New(q.DB, q.Vault, nil)}
		for what, typed := range map[string]string{"the app's": code(t, secret, time.Now()), "a recovery code": recovery[0]} {
			var wg sync.WaitGroup
			var in, wrong atomic.Int64
			for i := range 16 {
				token, err := at[i%2].BeginStep(t.Context(), identity.NeedCode, owner.ID, "/")
				if err != nil {
					t.Fatal(err)
				}
				wg.Go(func() {
					switch _, err := at[(i/2)%2].FinishStep(context.Background(), token, typed); {
					case err == nil:
						in.Add(1)
					case errors.Is(err, identity.ErrCode):
						wrong.Add(1)
					default:
						t.Logf("neither: %v", err)
					}
				})
			}
			wg.Wait()
			if in.Load() != 1 || wrong.Load() == 0 {
				t.Errorf("%s opened %d sign-ins, and was wrong for %d", what, in.Load(), wrong.Load())
			}
		}
	})
}

// What a database would not take as text is no error of the portal, wherever it
// stands: PostgreSQL takes neither NUL nor what is not UTF-8.
func TestAttackText(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db string) {
		p := portaltest.On(t, db, make([]byte, 32))
		w := newWorld(t, p, "Quagga")
		for _, o := range table(t, p) {
			if o.ID == "closeAccount" || forAll[o.ID] || dear[o.ID] {
				continue
			}
			c, path, body := bodyOf(w, o)
			for _, h := range []string{"a\x00b", "a\xffb"} {
				for n := range o.Params {
					values := make([]string, len(o.Params))
					for i := range values {
						values[i] = "none"
					}
					values[n] = h
					if a := c.call(o, o.at(values...), body, nil); a.failed() {
						t.Errorf("%s with %q in its path: status %d\n%.300s", o, h, a.status, a.text)
					}
				}
				for _, q := range o.Query {
					if a := c.call(o, path+"?"+q+"="+url.QueryEscape(h), body, nil); a.failed() {
						t.Errorf("%s with %q as %s: status %d\n%.300s", o, h, q, a.status, a.text)
					}
				}
				if _, raw := body.([]byte); body != nil && !raw {
					inject(t, c, o, path, body, []string{h})
				}
			}
		}
		for _, q := range p.All.Web.Pages() {
			for _, h := range []string{"%00", "%ff"} {
				path := operation{Path: q.Path}.at(h, h)
				for _, path := range []string{path, path + "?q=" + h + "&before=" + h + "&page=" + h + "&to=" + h} {
					for _, c := range []caller{w.owner, w.operator} {
						if a := c.get(path); a.failed() {
							t.Errorf("GET %s: status %d\n%.300s", path, a.status, a.text)
						}
					}
				}
			}
		}
		for _, path := range []string{"/login", "/login/code", "/login/enrol"} {
			if a := post(t, p.Stranger(), path, url.Values{"email": {"a\x00b\xff"}, "password": {"\x00\xff"}, "code": {"\x00"}, "to": {"/\x00"}}); a.Status >= 500 {
				t.Errorf("POST %s: %d", path, a.Status)
			}
		}
	})
}

// A link for a download is good for nobody once it, its version, who made it or
// his account is not good any more; and never for another file.
func TestAttackDownloadLinks(t *testing.T) {
	t.Parallel()
	p := portaltest.New(t)
	operator := p.Client(p.Operator())
	p.Import(p.Output("1.2.3"), "1.2.3", false)
	p.Import(p.Output("1.2.4"), "1.2.4", false)
	acc, owner := p.Account("Acme", people.Business)
	_, other := p.Account("Other", people.Business)
	o, admin := p.Client(owner), p.User(acc.ID, "Admin", people.Admin, "")
	o.JSON("POST", "/api/v1/connector/enable", obj{"zone": "Z"}, nil)
	link := func(c *portaltest.Client, version string) string {
		t.Helper()
		var made struct{ URL string }
		c.JSON("POST", "/api/v1/connector/releases/"+version+"/files/parley-router.vmdk/link", obj{"hours": 1}, &made)
		return strings.TrimPrefix(made.URL, p.Server.URL)
	}
	byOwner, byAdmin, second := link(o, "1.2.3"), link(p.Client(admin), "1.2.3"), link(o, "1.2.4")
	stranger := p.Stranger()
	is := func(what, path string, want int) {
		t.Helper()
		if a := stranger.Do("GET", path, nil); a.Status != want {
			t.Errorf("%s: %d, want %d: %.100q", what, a.Status, want, a.Body)
		}
	}
	is("good", byOwner, http.StatusOK)
	is("good", byAdmin, http.StatusOK)
	is("another file", strings.Replace(byOwner, ".vmdk", ".ovf", 1), http.StatusNotFound)
	is("another version", strings.Replace(byOwner, "/1.2.3/", "/1.2.4/", 1), http.StatusNotFound)
	is("a climb", strings.Replace(byOwner, "parley-router.vmdk", "..%2f..%2fportal.db", 1), http.StatusNotFound)
	// One of another account that has no connector makes none.
	if a := p.Client(other).Do("POST", "/api/v1/connector/releases/1.2.3/files/parley-router.vmdk/link", obj{"hours": 1}); a.Status != http.StatusConflict {
		t.Errorf("%d %s", a.Status, a.Body)
	}

	o.JSON("PUT", "/api/v1/users/"+admin.ID, obj{"role": "member"}, nil)
	is("made by one who is no admin any more", byAdmin, http.StatusNotFound)
	is("the owner's", byOwner, http.StatusOK)
	operator.JSON("PUT", "/api/v1/operator/releases/1.2.3/withdrawn", obj{"withdrawn": true}, nil)
	is("withdrawn", byOwner, http.StatusNotFound)
	is("another version", second, http.StatusOK)
	operator.JSON("PUT", "/api/v1/operator/releases/1.2.3/withdrawn", obj{"withdrawn": false}, nil)
	is("shown again", byOwner, http.StatusOK)
	o.JSON("POST", "/api/v1/connector/disable", nil, nil)
	is("without the connector", byOwner, http.StatusConflict)
	o.JSON("POST", "/api/v1/connector/enable", obj{"zone": "Z"}, nil)
	operator.JSON("POST", "/api/v1/operator/accounts/"+acc.ID+"/suspend", nil, nil)
	is("a suspended account", byOwner, http.StatusConflict)
	operator.JSON("POST", "/api/v1/operator/accounts/"+acc.ID+"/resume", nil, nil)
	is("good again", byOwner, http.StatusOK)

	// Ranges that nobody can satisfy, overlap, or are many cost no more than the file.
	whole := len(stranger.Do("GET", byOwner, nil).Body)
	for _, c := range []struct {
		value string
		want  int
	}{
		{"bytes=0-", 206}, {"bytes=-1", 206}, {"bytes=5-5", 206}, {"bytes=999999999999-", 416}, {"bytes=9223372036854775807-", 416}, {"bytes=2-1", 416},
		{"bytes=99999999999999999999-", 416}, {"lines=1-2", 416}, {"bytes=" + strings.TrimSuffix(strings.Repeat("0-,", 2000), ","), 200},
	} {
		req, err := http.NewRequestWithContext(t.Context(), "GET", p.Server.URL+byOwner, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Range", c.value)
		resp, err := stranger.HTTP.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		n, err := bufio.NewReader(resp.Body).Discard(4 * whole)
		resp.Body.Close()
		if resp.StatusCode != c.want || n > whole {
			t.Errorf("%.30s: %d, want %d, %d bytes of %d (%v)", c.value, resp.StatusCode, c.want, n, whole, err)
		}
	}
}
