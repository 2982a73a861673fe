package netserver

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/netclient"
	"github.com/parley-meet/parley/services/internal/netconfig"
)

// system is a machine without hardware: what is in force, and what fails.
type system struct {
	mu       sync.Mutex
	wanted   netconfig.Config
	rules    netconfig.Config
	name     string
	proxy    string
	sets     int
	bad      netip.Prefix  // this address cannot be applied
	slow     time.Duration // until Applied returns
	fwErr    error
	fwActive bool
	syncErr  error
}

func (s *system) Set(cfg netconfig.Config) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wanted = cfg
	s.sets++
}

func (s *system) Applied(ctx context.Context) error {
	s.mu.Lock()
	slow, bad := s.slow, s.bad.IsValid() && s.wanted.Eth0.Address == s.bad
	s.mu.Unlock()
	select {
	case <-time.After(slow):
	case <-ctx.Done():
		return ctx.Err()
	}
	if bad {
		return netconfig.DuplicateError{{Address: s.bad.Addr(), HardwareAddress: "02:00:00:00:00:66"}}
	}
	return nil
}

func (s *system) State() netconfig.State { return netconfig.State{Interface: "eth0"} }
func (s *system) Detail() string         { return "eth0: no carrier" }

// The firewall and the clock have methods of the same names.
type fakeFirewall struct{ *system }

func (f fakeFirewall) Apply(cfg netconfig.Config) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fwErr != nil {
		return f.fwErr
	}
	f.rules, f.fwActive = cfg, true
	return nil
}

func (f fakeFirewall) Status() netclient.Firewall {
	f.mu.Lock()
	defer f.mu.Unlock()
	return netclient.Firewall{Active: f.fwActive}
}

type fakeClock struct{ *system }

func (c fakeClock) Set(netconfig.NTP)          {}
func (c fakeClock) Sync(context.Context) error { return c.syncErr }
func (c fakeClock) Status() netclient.Clock    { return netclient.Clock{Servers: []string{"192.0.2.123"}} }

// inForce returns the address that everything follows, and fails when the
// firewall follows another configuration than the interface.
func (s *system) inForce(t *testing.T) string {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !same(s.wanted, s.rules) || s.name != s.wanted.Hostname || s.proxy != s.wanted.Proxy.Host {
		t.Errorf("the interface follows %+v, the firewall %+v, the name is %q", s.wanted, s.rules, s.name)
	}
	if s.wanted.Eth0.Mode == netconfig.ModeDHCP {
		return "dhcp"
	}
	return s.wanted.Eth0.Address.Addr().String()
}

// rig is a service with its files.
type rig struct {
	t   *testing.T
	dir string
	sys *system
	s   *Service
	ids int
}

func newRig(t *testing.T) *rig {
	r := &rig{t: t, dir: t.TempDir()}
	r.restart()
	return r
}

// restart makes the service anew, as after a crash: nothing in memory is left.
func (r *rig) restart() {
	r.t.Helper()
	r.sys = &system{}
	r.s = New(Config{
		Dir: r.dir, Daemon: r.sys, Firewall: fakeFirewall{r.sys}, Clock: fakeClock{r.sys},
		Hostname: func(name string) { r.sys.name = name },
		Proxy:    func(p netconfig.Proxy) { r.sys.proxy = p.Host },
		ID:       func() string { r.ids++; return fmt.Sprint("id", r.ids) },
		Hold:     netclient.Hold,
		Log:      slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	r.s.Start()
}

// address returns a configuration with a static address, "" by DHCP.
func address(a string) *netconfig.Config {
	cfg := netconfig.DefaultConfig()
	if a != "" {
		cfg.Hostname = "h" + fmt.Sprint(netip.MustParseAddr(a).As4()[3])
		cfg.Proxy.Host, cfg.Proxy.Port = cfg.Hostname+".example.org", 3128
		cfg.Eth0 = netconfig.Master{Mode: netconfig.ModeStatic, Address: netip.PrefixFrom(netip.MustParseAddr(a), 24)}
	}
	return &cfg
}

func (r *rig) set(a string, hold bool) error {
	return r.s.do(r.t.Context(), netclient.Request{Op: netclient.OpSet, Config: address(a), Hold: hold, By: "anna"})
}

func (r *rig) decide(op netclient.Op, id string) error {
	return r.s.do(r.t.Context(), netclient.Request{Op: op, ID: id})
}

// check judges what is in force, saved, pending (its id), and how the last
// change ended.
func (r *rig) check(inForce, saved, pending, reverted string) {
	r.t.Helper()
	if got := r.sys.inForce(r.t); got != inForce {
		r.t.Errorf("in force is %s, want %s", got, inForce)
	}
	st := r.s.Status()
	got := "dhcp"
	if st.Config.Eth0.Mode != netconfig.ModeDHCP {
		got = st.Config.Eth0.Address.Addr().String()
	}
	if got != saved {
		r.t.Errorf("saved is %s, want %s", got, saved)
	}
	if onDisk, err := r.s.store.load(); err == nil && !same(onDisk, r.s.m.saved) {
		r.t.Errorf("the file says %+v, the service %+v", onDisk, r.s.m.saved)
	}
	id, why := "", ""
	if st.Pending != nil {
		id = st.Pending.ID
	}
	if st.Reverted != nil {
		why = st.Reverted.Why
	}
	if id != pending || why != reverted {
		r.t.Errorf("pending %q, reverted %q, want %q, %q", id, why, pending, reverted)
	}
	if _, err := os.Stat(filepath.Join(r.dir, NoteFile)); (err == nil) != (pending != "") {
		r.t.Errorf("note: %v, pending %q", err, pending)
	}
}
