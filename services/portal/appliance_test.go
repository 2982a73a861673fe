package main

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-meet/parley/services/internal/logtest"
	"github.com/parley-meet/parley/services/internal/portal/server"
	"github.com/parley-meet/parley/services/internal/portalctl"
)

func TestURLOf(t *testing.T) {
	v4, v6, zoned := netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7"), netip.MustParseAddr("2001:db8::8%eth0")
	for _, test := range []struct {
		name string
		at   []netip.Addr
		want string
	}{
		{"parley", nil, ""},
		{"", nil, ""},
		{"parley", []netip.Addr{v4, v6}, "https://192.0.2.7"},
		{"parley", []netip.Addr{v6}, "https://[2001:db8::7]"},
		{"", []netip.Addr{zoned}, "https://[2001:db8::8]"},
		{"Portal.Example.com", []netip.Addr{v4}, "https://portal.example.com"},
		{"portal.example.com", nil, "https://portal.example.com"}, // it is known where to answer
	} {
		if got := urlOf(test.name, test.at); got != test.want {
			t.Errorf("%q, %v: %q, want %q", test.name, test.at, got, test.want)
		}
	}
}

// machine is one whose address changes, with a portal that is not real: what is
// kept alive is what counts here.
type machine struct {
	mu     sync.Mutex
	at     string
	fails  error
	served []string
}

func (m *machine) url() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.at
}

func (m *machine) change(at string, fails error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.at, m.fails = at, fails
}

func (m *machine) serve(ctx context.Context, cfg server.Config) error {
	m.mu.Lock()
	err := m.fails
	m.served = append(m.served, cfg.URL)
	m.mu.Unlock()
	if err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

func (m *machine) took() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := strings.Join(m.served, " ")
	m.served = nil
	return out
}

// It waits for an address, follows it, stays through a pulled cable and through
// what cannot be opened, and says all of that.
func TestKeep(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		m := &machine{}
		a := newAppliance(server.Defaults(), slog.New(slog.DiscardHandler))
		a.url, a.serve, a.cfg.KeyFile = m.url, m.serve, filepath.Join(dir, "portal", "key", "master.key")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- a.keep(ctx) }()
		is := func(step, detail, served string, failed error) {
			t.Helper()
			synctest.Wait()
			got, err := a.check()
			if got != detail || !errors.Is(err, failed) {
				t.Errorf("%s: %q, %v, want %q, %v", step, got, err, detail, failed)
			}
			if got := m.took(); got != served {
				t.Errorf("%s: served %q, want %q", step, got, served)
			}
			ans := a.ask(t.Context(), portalctl.Request{Op: portalctl.OpShow})
			if (ans.Error == "") != (failed == nil) || ans.Link != "" || ans.URL != "" || (ans.Waits == "") != (failed != nil) {
				t.Errorf("%s: %+v", step, ans)
			}
		}
		is("no address", "waits for an address", "", nil)
		if ans := a.ask(t.Context(), portalctl.Request{Op: portalctl.OpShow}); ans.Waits != portalctl.WaitAddress {
			t.Errorf("%+v", ans)
		}
		m.change("https://192.0.2.7", nil)
		time.Sleep(watchEvery)
		is("an address", "starting", "https://192.0.2.7", nil)
		m.change("", nil)
		time.Sleep(3 * watchEvery)
		is("a pulled cable", "starting", "", nil)
		m.change("https://192.0.2.8", nil)
		time.Sleep(watchEvery)
		is("another address", "starting", "https://192.0.2.8", nil)
		full := errors.New("no space")
		m.change("https://192.0.2.9", full)
		time.Sleep(watchEvery)
		is("a full disk", "", "https://192.0.2.9", full)
		time.Sleep(retryAfter)
		is("still full", "", "https://192.0.2.9", full)
		m.change("https://192.0.2.9", nil)
		time.Sleep(retryAfter)
		is("room again, and not yet open", "", "https://192.0.2.9", full)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	if info, err := os.Stat(filepath.Join(dir, "portal", "key")); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the key's folder: %v, %v", info, err)
	}
}

// With a real portal: state and key are apart, only their owner enters either,
// the link is made when it is asked for, and no log has it.
func TestApplianceServes(t *testing.T) {
	dir := t.TempDir()
	log := new(logtest.Buffer)
	a := newAppliance(server.Defaults(), slog.New(slog.NewTextHandler(log, nil)))
	if a.cfg.Dir != "/perm/parley/portal/state" || a.cfg.KeyFile != "/perm/parley/portal/key/master.key" || a.cfg.Listen != ":443" {
		t.Errorf("%+v", a.cfg)
	}
	a.cfg.Dir, a.cfg.KeyFile, a.cfg.Listen, a.cfg.Metrics = filepath.Join(dir, "state"), filepath.Join(dir, "key", "master.key"), "127.0.0.1:0", ""
	a.url = func() string { return "https://192.0.2.7" }
	defer keeping(t, a)()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		detail, err := a.check()
		if err != nil {
			t.Fatal(err)
		}
		if detail == portalctl.NoOperator {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("it is still %q", detail)
		}
	}
	first, second := a.ask(t.Context(), portalctl.Request{Op: portalctl.OpShow}), a.ask(t.Context(), portalctl.Request{Op: portalctl.OpShow})
	for _, ans := range []portalctl.Answer{first, second} {
		if ans.URL != "https://192.0.2.7" || !strings.HasPrefix(ans.Link, ans.URL+"/setup#") || ans.Error != "" || ans.Waits != "" {
			t.Errorf("%+v", ans)
		}
		if _, secret, _ := strings.Cut(ans.Link, "#"); secret == "" || strings.Contains(log.String(), secret) {
			t.Errorf("the log has the link:\n%s", log)
		}
	}
	if first.Link == second.Link {
		t.Error("the same link twice")
	}
	for path, want := range map[string]os.FileMode{"key": 0o700, "key/master.key": 0o400, "state": 0o700, "state/portal.db": 0o600} {
		if info, err := os.Stat(filepath.Join(dir, path)); err != nil || info.Mode().Perm()&^0o200 != want&^0o200 {
			t.Errorf("%s: %v, %v, want %v", path, info, err, want)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "state", "setup-link")); err == nil {
		t.Error("the link is in a file")
	}
}

// keeping has a keep its portal until end.
func keeping(t *testing.T, a *appliance) (end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.keep(ctx) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if r, _, _ := a.now(); r != nil {
			t.Error("it is called running after its end")
		}
	}
}
