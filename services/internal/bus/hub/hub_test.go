package hub_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/bus"
	"github.com/parley-meet/parley/services/internal/bus/bustest"
	"github.com/parley-meet/parley/services/internal/link"
)

// Two controllers, three routers; what is sent while one controller dies arrives.
func TestZone(t *testing.T) {
	z := bustest.New(t)
	k1 := z.Controller(z.Enrol(link.Controller, "c1"), 2)
	k2 := z.Controller(z.Enrol(link.Controller, "c2"), 3)
	both := []*bustest.Controller{k1, k2}
	var routers []*bustest.Member
	for _, name := range []string{"r1", "r2", "r3"} {
		cred := z.Enrol(link.Router, name)
		routers = append(routers, z.Router(cred, z.View(cred, nil)))
	}
	heard := map[*bustest.Controller]*bustest.Inbox{k1: bustest.Collect(k1.Member, "announce"), k2: bustest.Collect(k2.Member, "announce")}
	for i, r := range routers {
		r.Conn.Subscribe("echo", func(m bus.Message) {
			if err := m.Reply(append([]byte(fmt.Sprintf("router %d hears ", i+1)), m.Data...)); err != nil {
				t.Error(err)
			}
		})
	}
	z.Tell(both, routers...)
	for _, m := range append([]*bustest.Member{k1.Member, k2.Member}, routers...) {
		bustest.Up(t, m, 2)
	}

	for i, r := range routers {
		if err := r.Conn.Publish(bus.AllControllers, "announce", fmt.Append(nil, "here ", i+1)); err != nil {
			t.Fatal(err)
		}
	}
	for _, k := range both {
		for i, r := range routers {
			bustest.Eventually(t, "both controllers hear each router", func() bool { return heard[k].Has(fmt.Sprintf("%s: here %d", r.Conn.Self(), i+1)) })
		}
		if n := len(heard[k].Texts()); n != 3 {
			t.Errorf("%d messages came, want 3: each once", n)
		}
	}
	ask := func(k *bustest.Controller, i int) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), bustest.Patience)
		defer cancel()
		got, err := k.Conn.Request(ctx, routers[i].Conn.Self(), "echo.m1", []byte("hello"))
		if err != nil || string(got) != fmt.Sprintf("router %d hears hello", i+1) {
			t.Errorf("%q, %v", got, err)
		}
	}
	for i := range routers {
		ask(k1, i)
		ask(k2, i)
	}

	// A stream of numbers from a router to the second controller, in which the first
	// one dies.
	stream := bustest.Collect(k2.Member, "stream")
	go func() {
		time.Sleep(50 * time.Millisecond)
		k1.Kill()
	}()
	const count = 300
	for i := range count {
		if err := routers[0].Conn.Publish(k2.Conn.Self(), "stream", fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
	bustest.Eventually(t, "all numbers came", func() bool { return len(stream.Texts()) >= count })
	for i, text := range stream.Texts() {
		if text != fmt.Sprintf("%s: %d", routers[0].Conn.Self(), i) {
			t.Fatalf("message %d is %q", i, text)
		}
	}
	for i := range routers {
		ask(k2, i)
	}
	for _, m := range append(routers, k2.Member) {
		bustest.Up(t, m, 1)
	}

	// It comes back, and is found by itself.
	k3 := z.Controller(k1.Cred, 2)
	z.Tell([]*bustest.Controller{k3, k2})
	for _, m := range append(routers, k2.Member, k3.Member) {
		bustest.Up(t, m, 2)
	}
	ask(k3, 1)
}

// A router on the machine of a controller takes part in its own role, with the
// machine's certificate; a router's certificate makes no controller.
func TestRoles(t *testing.T) {
	z := bustest.New(t)
	k := z.Controller(z.Enrol(link.Controller, "c1"), 2)
	r := z.Router(k.Cred, z.View(k.Cred, nil))
	z.Tell([]*bustest.Controller{k}, r)
	bustest.Up(t, r, 1)
	bustest.Up(t, k.Member, 1)
	r.Conn.Subscribe("who", func(m bus.Message) { _ = m.Reply([]byte(m.From.String())) })
	ctx, cancel := context.WithTimeout(t.Context(), bustest.Patience)
	defer cancel()
	got, err := k.Conn.Request(ctx, bus.Peer{Role: link.Router, ID: k.Cred.Appliance}, "who", nil)
	if err != nil || string(got) != k.Conn.Self().String() {
		t.Errorf("%q, %v", got, err)
	}
	cred := z.Enrol(link.Router, "r1")
	if _, err := bus.New(bus.Config{Credentials: bustest.Fixed(cred), Role: link.Controller}, z.View(cred, nil)); err == nil {
		t.Error("a router becomes a controller")
	}
}

// The page beside the bus is as it was.
func TestPage(t *testing.T) {
	z := bustest.New(t)
	k := z.Controller(z.Enrol(link.Controller, "c1"), 2)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer client.CloseIdleConnections()
	resp, err := client.Get("https://" + k.At.String())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "page" {
		t.Errorf("%q, %v", b, err)
	}
}

// Who is removed from the zone is out within a second, and stays out.
func TestRevoked(t *testing.T) {
	z := bustest.New(t)
	k := z.Controller(z.Enrol(link.Controller, "c1"), 2)
	a, b := z.Enrol(link.Router, "r1"), z.Enrol(link.Router, "r2")
	bad, good := z.Router(a, z.View(a, nil)), z.Router(b, z.View(b, nil))
	z.Tell([]*bustest.Controller{k}, bad, good)
	bustest.Up(t, bad, 1)
	bustest.Up(t, good, 1)
	heard := bustest.Collect(k.Member, "word")
	if err := z.Portal.All.Zones.RemoveAppliance(t.Context(), z.Who, a.Appliance); err != nil {
		t.Fatal(err)
	}
	c := z.Told(k.Cred.Appliance, k)
	began := time.Now()
	k.Hub.SetZone(z.View(k.Cred, &c))
	if list := k.Hub.Sessions(); len(list) != 1 || list[0].ID != b.Appliance || time.Since(began) > time.Second {
		t.Errorf("after %v: %+v", time.Since(began), list)
	}
	bustest.Eventually(t, "the revoked one notices", func() bool { return bustest.Connected(bad) == 0 })
	bustest.Eventually(t, "it tries again and is refused", func() bool {
		s := bad.Conn.Servers()
		return len(s) == 1 && strings.Contains(s[0].Problem, "bad certificate")
	})
	// A message may be lost.
	bustest.Eventually(t, "the other goes on", func() bool {
		_ = good.Conn.Publish(bus.AllControllers, "word", []byte("good"))
		return heard.Has(good.Conn.Self().String() + ": good")
	})
}

// Everything ends with Run.
func TestNoLeak(t *testing.T) {
	z := bustest.New(t)
	before := runtime.NumGoroutine()
	k := z.Controller(z.Enrol(link.Controller, "c1"), 2)
	cred := z.Enrol(link.Router, "r1")
	r := z.Router(cred, z.View(cred, nil))
	z.Tell([]*bustest.Controller{k}, r)
	bustest.Up(t, r, 1)
	r.Stop()
	k.Kill()
	bustest.Eventually(t, "the goroutines end", func() bool {
		http.DefaultClient.CloseIdleConnections()
		return runtime.NumGoroutine() <= before
	})
}
