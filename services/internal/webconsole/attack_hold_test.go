package webconsole

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/account"
	"github.com/parley-meet/parley/services/internal/look"
)

// open begins an endless answer and returns its first line.
func (b *browser) open(t *testing.T, path string) (*http.Response, *bufio.Reader) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", b.r.base+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range b.header {
		req.Header[k] = v
	}
	resp, err := b.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp, bufio.NewReader(resp.Body)
}

// Whoever may only look holds neither PID 1's connections nor everybody's
// streams: not with many logins, and not with a token.
func TestAttackHeldStreams(t *testing.T) {
	r := newRig(t, testPassword)
	admin := r.loggedIn()
	r.operator(admin, "vera", "view")
	hold := func(path string, by func() *browser) (held int) {
		for range 30 {
			resp, _ := by().open(t, path)
			switch resp.StatusCode {
			case http.StatusOK:
				held++
			case http.StatusServiceUnavailable:
				if resp.Header.Get("Retry-After") == "" {
					t.Error("it is not told how long to wait")
				}
			default:
				t.Fatalf("%s: %d", path, resp.StatusCode)
			}
		}
		return held
	}
	var logins []*browser
	again := func() *browser { // as many as one account may have; admin's own is another
		if len(logins) < look.MaxOwn-1 {
			logins = append(logins, r.loginAs("vera", "second good password"))
			return logins[len(logins)-1]
		}
		logins = append(logins[1:], logins[0])
		return logins[0]
	}
	if n := hold("/api/v1/logs?follow=true", again); n != maxActorFollows {
		t.Errorf("one account follows %d logs, want %d", n, maxActorFollows)
	}
	eye := r.program(admin, "view")
	if n := hold("/api/v1/services/mmr/logs?follow=true", func() *browser { return eye }); n != maxActorFollows {
		t.Errorf("one token follows %d logs, want %d", n, maxActorFollows)
	}
	if n := hold("/events", again); n != maxActorStreams-maxActorFollows {
		t.Errorf("one account holds %d streams beside, want %d", n, maxActorStreams-maxActorFollows)
	}
	resp, in := admin.open(t, "/events")
	if _, err := in.ReadString('\n'); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("the administrator's stream: %d, %v", resp.StatusCode, err)
	}
	if a := admin.get("/api/v1/logs"); a.status != http.StatusOK {
		t.Errorf("the administrator's log: %d", a.status)
	}
}

// Long answers that one caller does not read are few.
func TestAttackHeldReads(t *testing.T) {
	r := newRig(t, testPassword)
	admin := r.loggedIn()
	eye := &call{c: r.c, r: &http.Request{}}
	eye.who.Name = "token eye"
	for range maxActorReads {
		if _, err := r.c.reading(eye); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.c.reading(eye); err == nil {
		t.Error("one caller holds one more")
	}
	for _, path := range []string{"/api/v1/logs", "/api/v1/services/zctrl/logs?format=text", "/api/v1/audit", "/api/v1/system", "/logs", "/services/zctrl"} {
		for range 2 * maxReads { // each gives back what it took
			if a := admin.get(path); a.status != http.StatusOK {
				t.Fatalf("%s: %d", path, a.status)
			}
		}
	}
}

// A stream ends with what it was begun with.
func TestAttackStreamOfRemovedToken(t *testing.T) {
	r := newRig(t, testPassword)
	admin := r.loggedIn()
	eye := r.program(admin, "view")
	_, in := eye.open(t, "/api/v1/logs?follow=true")
	if _, err := in.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	var list []account.Token
	if err := json.Unmarshal([]byte(admin.get("/api/v1/tokens").body), &list); err != nil || len(list) != 1 {
		t.Fatal(err, list)
	}
	if a := admin.call("DELETE", "/api/v1/tokens/"+list[0].ID, nil, nil); a.status >= 300 {
		t.Fatal(a.status, a.body)
	}
	rest := make(chan string, 1)
	go func() {
		b, _ := io.ReadAll(in)
		rest <- string(b)
	}()
	select {
	case s := <-rest:
		if !strings.Contains(s, "event: end\n") {
			t.Errorf("it ends with %q", s)
		}
	case <-time.After(10 * time.Second):
		t.Error("a token that was removed goes on reading the log")
	}
}

// A token that leaked makes no way in that outlives it.
func TestAttackTokenMakesAccounts(t *testing.T) {
	r := newRig(t, testPassword)
	admin := r.loggedIn()
	r.operator(admin, "vera", "view")
	hand := r.program(admin, "operate")
	before := r.kept(t)
	for _, x := range [][3]string{
		{"POST", "/api/v1/accounts", `{"name":"mallory","authority":"operate","password":"a password of mallory"}`},
		{"PUT", "/api/v1/accounts/vera/authority", `{"authority":"operate"}`},
		{"PUT", "/api/v1/accounts/vera/password", `{"password":"a password of mallory"}`},
		{"PUT", "/api/v1/accounts/admin/password", `{"password":"a password of mallory"}`},
		{"DELETE", "/api/v1/accounts/admin/totp", ""},
		{"POST", "/api/v1/tokens", `{"title":"mine","authority":"operate","days":""}`},
	} {
		if a := hand.api(x[0], x[1], x[2]); a.status != http.StatusForbidden || a.problem(t).Code != "no-token" {
			t.Errorf("%s: %d %s", fmt.Sprint(x[0], " ", x[1]), a.status, a.body)
		}
	}
	r.unchanged(t, before)
}
