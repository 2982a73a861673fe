package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/portal/store/storetest"
)

// instance is a portal as its users run it: a process of its own.
type instance struct {
	addr string
	cmd  *exec.Cmd
}

// freePort returns an address of loopback that nothing listens on.
func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func launch(t *testing.T, program, dir, key, database, addr, url string) *instance {
	t.Helper()
	i := &instance{addr: addr, cmd: exec.Command(program, "-dir", dir, "-key-file", key, "-database", database, "-listen", addr, "-url", url, "-metrics-listen", "")}
	i.cmd.Stdout, i.cmd.Stderr = t.Output(), t.Output()
	if err := i.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = i.cmd.Process.Kill()
		_ = i.cmd.Wait()
	})
	return i
}

// user is a browser or a program that knows both instances, as by DNS, and goes to
// the other when one does not answer.
type user struct {
	t     *testing.T
	http  *http.Client
	mu    sync.Mutex
	hosts []string
}

func newUser(t *testing.T, hosts ...string) *user {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	// Who the server is does not matter here: the link's test of it does.
	return &user{t: t, hosts: hosts, http: &http.Client{Jar: jar, Timeout: 20 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}}
}

// call sends a request to whichever instance answers.
func (u *user) call(method, path string, body, to any) error {
	b, err := json.Marshal(body)
	if err != nil {
		return err
	}
	var last error
	for range 2 * len(u.hosts) {
		u.mu.Lock()
		host := u.hosts[0]
		u.mu.Unlock()
		req, err := http.NewRequest(method, "https://"+host+path, bytes.NewReader(b))
		if err != nil {
			return err
		}
		if body == nil {
			req.Body, req.ContentLength = nil, 0
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := u.http.Do(req)
		if err != nil {
			last = err
			u.mu.Lock()
			u.hosts = append(u.hosts[1:], u.hosts[0])
			u.mu.Unlock()
			continue
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode >= 300 {
			return fmt.Errorf("%s %s: %d %s %w", method, path, resp.StatusCode, text, err)
		}
		if to != nil {
			return json.Unmarshal(text, to)
		}
		return nil
	}
	return last
}

func (u *user) must(method, path string, body, to any) {
	u.t.Helper()
	if err := u.call(method, path, body, to); err != nil {
		u.t.Fatal(err)
	}
}

type fields map[string]any

// Two instances on one PostgreSQL; one is killed while it is used. What was
// acknowledged is there, the session goes on, and the appliance's link comes to
// the other one, which shows it.
func TestInstanceKilled(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// testscript makes the test's program be the portal under its name.
	program = linkName(t, program)
	database, dir := storetest.Postgres(t), t.TempDir()
	key := filepath.Join(dir, "key")
	if err := os.WriteFile(key, []byte(strings.Repeat("ab", 32)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a, b := freePort(t), freePort(t)
	one := launch(t, program, filepath.Join(dir, "one"), key, database, a, "https://"+a)
	ready := func(addr string) {
		t.Helper()
		for begin := time.Now(); newUser(t, addr).call("GET", "/api/openapi.json", nil, nil) != nil; time.Sleep(50 * time.Millisecond) {
			if time.Since(begin) > time.Minute {
				t.Fatalf("the instance on %s does not answer", addr)
			}
		}
	}
	// One after the other: the link of the one that came last is good.
	ready(a)
	launch(t, program, filepath.Join(dir, "two"), key, database, b, "https://"+a)
	ready(b)

	op := newUser(t, b)
	secret, err := os.ReadFile(filepath.Join(dir, "two", "setup-link"))
	if err != nil {
		t.Fatal(err)
	}
	_, hash, _ := strings.Cut(strings.TrimSpace(string(secret)), "#")
	op.must("POST", "/api/v1/setup", fields{"email": "op@example.com", "name": "Op", "password": "correct horse battery", "link": hash}, nil)
	owner := newUser(t, a, b)
	owner.must("POST", "/api/v1/signup", fields{"name": "Anna", "email": "anna@example.com", "password": "another horse battery", "account": "Acme", "type": "business"}, nil)
	var mails []struct{ ID string }
	op.must("GET", "/api/v1/operator/mail", nil, &mails)
	var mail any
	op.must("POST", "/api/v1/operator/mail/"+mails[0].ID+"/reveal", nil, &mail)
	_, verify, _ := strings.Cut(fmt.Sprint(mail), "/verify#")
	owner.must("POST", "/api/v1/signup/verify", fields{"link": verify[:43], "password": "another horse battery"}, nil)
	owner.must("POST", "/api/v1/connector/enable", fields{"zone": "Office"}, nil)
	var c struct{ Zones []struct{ ID string } }
	owner.must("GET", "/api/v1/connector", nil, &c)
	var made struct{ Secret string }
	owner.must("POST", "/api/v1/connector/tokens", fields{"zone": c.Zones[0].ID, "title": "t", "days": 1}, &made)

	ctx, stop := context.WithCancel(t.Context())
	cred, err := link.Enrol(ctx, link.EnrolOptions{Token: made.Secret, Role: link.Controller, Host: "controller-1", Version: "1"})
	if err != nil {
		t.Fatal(err)
	}
	cred.Portals = []string{"wss://" + a + "/link", "wss://" + b + "/link"}
	client, err := link.NewClient(link.ClientConfig{Credentials: cred, Host: "controller-1", Version: "1", Config: func(link.Config) {},
		Save: func(link.Credentials) error { return nil },
		Status: func() link.Status {
			return link.Status{Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, Clock: time.Now()}
		}})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = client.Run(ctx) // nil
	}()
	defer func() {
		stop()
		<-done
	}()
	on := func(addr string) bool {
		c := client.Connection()
		return c.Connected && strings.Contains(c.Portal, addr)
	}
	wait := func(what string, so func() bool) {
		t.Helper()
		for begin := time.Now(); !so(); time.Sleep(20 * time.Millisecond) {
			if time.Since(begin) > time.Minute {
				t.Fatalf("still waiting for %s", what)
			}
		}
	}
	wait("the link", func() bool { return on(a) })

	// Writers go on while the first instance is killed.
	var mu sync.Mutex
	acknowledged := map[string]bool{}
	halt := make(chan struct{})
	var writers sync.WaitGroup
	for w := range 3 {
		writers.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-halt:
					return
				default:
				}
				name := fmt.Sprintf("group %d %d", w, i)
				// A request whose answer was lost may have been carried out: then the
				// name is taken, and that is an acknowledgement too.
				if err := owner.call("POST", "/api/v1/groups", fields{"name": name, "kind": ""}, nil); err == nil || strings.Contains(err.Error(), `"group-exists"`) {
					mu.Lock()
					acknowledged[name] = true
					mu.Unlock()
				}
			}
		})
	}
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(acknowledged)
	}
	wait("some writes", func() bool { return count() > 20 })
	if err := one.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	killed, before := time.Now(), count()
	wait("more writes", func() bool { return count() > before+20 })
	wait("the link at the other instance", func() bool { return on(b) })
	t.Logf("the link is back after %v; %d writes were acknowledged before and %d after", time.Since(killed).Round(time.Millisecond), before, count()-before)
	close(halt)
	writers.Wait()
	var groups []struct{ Name string }
	owner.must("GET", "/api/v1/groups", nil, &groups)
	have := map[string]bool{}
	for _, g := range groups {
		have[g.Name] = true
	}
	for name := range acknowledged {
		if !have[name] {
			t.Errorf("%s was acknowledged and is lost", name)
		}
	}
	var m struct {
		Appliances []struct {
			Host    string
			Running bool
			Contact time.Time
		}
	}
	wait("the other instance to show it", func() bool {
		owner.must("GET", "/api/v1/connector/monitor", nil, &m)
		return len(m.Appliances) == 1 && m.Appliances[0].Running && m.Appliances[0].Contact.After(killed)
	})
}

// linkName gives the test's program the name by which testscript knows what to be.
func linkName(t *testing.T, program string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "portal")
	if err := os.Symlink(program, to); err != nil {
		t.Fatal(err)
	}
	return to
}
