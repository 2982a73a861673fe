package netserver

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-meet/parley/internal/durable"
	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/netclient"
	"github.com/parley-meet/parley/services/internal/netconfig"
)

// run runs the service's loop in a bubble until the test ends.
func (r *rig) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.s.Run(ctx) }()
	r.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Errorf("Run: %v", err)
		}
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantCode(t *testing.T, err error, code netclient.Code, text string) {
	t.Helper()
	var ref *refusal
	if !errors.As(err, &ref) || ref.code != code || !strings.Contains(err.Error(), text) {
		t.Errorf("%v, want %s with %q", err, code, text)
	}
}

func TestConfirm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.run()
		r.check("dhcp", "dhcp", "", "")
		must(t, r.set("192.0.2.7", true))
		r.check("192.0.2.7", "dhcp", "id1", "")
		p := r.s.Status().Pending
		if p.By != "anna" || p.Deadline.Sub(p.Since) != netclient.Hold {
			t.Errorf("pending %+v", p)
		}
		time.Sleep(netclient.Hold - time.Second)
		wantCode(t, r.decide(netclient.OpConfirm, "id0"), netclient.CodeState, "no longer pending")
		r.check("192.0.2.7", "dhcp", "id1", "")
		must(t, r.decide(netclient.OpConfirm, "id1"))
		r.check("192.0.2.7", "192.0.2.7", "", "")
		wantCode(t, r.decide(netclient.OpConfirm, "id1"), netclient.CodeState, "no change is pending")
		time.Sleep(10 * netclient.Hold)
		r.check("192.0.2.7", "192.0.2.7", "", "")
	})
}

func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.run()
		must(t, r.set("192.0.2.6", false))
		r.check("192.0.2.6", "192.0.2.6", "", "")
		must(t, r.set("192.0.2.7", true))
		time.Sleep(netclient.Hold - time.Millisecond)
		synctest.Wait()
		r.check("192.0.2.7", "192.0.2.6", "id2", "")
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		r.check("192.0.2.6", "192.0.2.6", "", netclient.RevertedTimeout)
		if rev := r.s.Status().Reverted; rev.By != "anna" || time.Since(rev.At) > time.Second {
			t.Errorf("reverted %+v", rev)
		}
	})
}

// The same change set again and again is no confirmation; set without hold it is.
func TestSetAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.run()
		for range 5 {
			must(t, r.set("192.0.2.7", true))
			time.Sleep(netclient.Hold / 5)
			synctest.Wait()
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		r.check("dhcp", "dhcp", "", netclient.RevertedTimeout)

		must(t, r.set("192.0.2.7", true))
		must(t, r.set("192.0.2.7", true))
		r.check("192.0.2.7", "dhcp", "id2", netclient.RevertedTimeout)
		must(t, r.set("192.0.2.7", false))
		r.check("192.0.2.7", "192.0.2.7", "", netclient.RevertedTimeout)
		time.Sleep(2 * netclient.Hold)
		r.check("192.0.2.7", "192.0.2.7", "", netclient.RevertedTimeout)
	})
}

// A change in the place of another has its own time, and ends at what is saved.
func TestReplace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.run()
		must(t, r.set("192.0.2.7", true))
		time.Sleep(netclient.Hold - time.Second)
		must(t, r.set("192.0.2.8", true))
		wantCode(t, r.decide(netclient.OpConfirm, "id1"), netclient.CodeState, "another one is")
		time.Sleep(netclient.Hold - time.Second)
		r.check("192.0.2.8", "dhcp", "id2", "")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		r.check("dhcp", "dhcp", "", netclient.RevertedTimeout)

		must(t, r.set("192.0.2.7", true))
		must(t, r.decide(netclient.OpRevert, "id3"))
		r.check("dhcp", "dhcp", "", netclient.RevertedOperator)

		must(t, r.set("192.0.2.7", true))
		must(t, r.set("192.0.2.9", false)) // saves the other one
		r.check("192.0.2.9", "192.0.2.9", "", netclient.RevertedOperator)
		must(t, r.set("192.0.2.7", true))
		must(t, r.set("192.0.2.9", true)) // what is saved: nothing to confirm
		r.check("192.0.2.9", "192.0.2.9", "", netclient.RevertedOperator)
		time.Sleep(2 * netclient.Hold)
		r.check("192.0.2.9", "192.0.2.9", "", netclient.RevertedOperator)
	})
}

// What cannot be applied is undone at once and says why.
func TestFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.run()
		must(t, r.set("192.0.2.6", false))
		r.sys.bad = netip.MustParsePrefix("192.0.2.66/24")
		for _, hold := range []bool{true, false} {
			err := r.set("192.0.2.66", hold)
			wantCode(t, err, netclient.CodeFailed, "in use by another machine, 02:00:00:00:00:66")
			if !fault.Of(err).Has("eth0.address") {
				t.Errorf("%v does not name the field", err)
			}
			r.check("192.0.2.6", "192.0.2.6", "", netclient.RevertedFailed)
		}
		sets := r.sys.sets
		r.sys.fwErr = errors.New("no nftables")
		wantCode(t, r.set("192.0.2.7", true), netclient.CodeFailed, "firewall: no nftables")
		r.sys.fwErr = nil
		r.check("192.0.2.6", "192.0.2.6", "", netclient.RevertedFailed)
		if r.sys.sets != sets+1 || r.sys.wanted.Eth0.Address.Addr().String() != "192.0.2.6" {
			t.Errorf("a firewall that failed did not keep the address from being changed: %d sets", r.sys.sets-sets)
		}
		// DHCP that does not answer yet is no failure.
		r.sys.slow = time.Hour
		must(t, r.set("192.0.2.7", true))
		r.check("192.0.2.7", "192.0.2.6", "id5", netclient.RevertedFailed)
		bad := address("192.0.2.7")
		bad.Eth0.Gateway = netip.MustParseAddr("127.0.0.1")
		err := r.s.do(t.Context(), netclient.Request{Op: netclient.OpSet, Config: bad})
		if !fault.Of(err).Has("eth0.gateway") {
			t.Errorf("a wrong gateway: %v", err)
		}
		if got := answer(nil, err); got.Code != netclient.CodeInvalid || len(got.Faults) != 1 {
			t.Errorf("a wrong gateway is answered by %+v", got)
		}
	})
}

// An address that is not in force, and was not before, keeps nobody from
// changing something else.
func TestFailedBefore(t *testing.T) {
	r := newRig(t)
	must(t, r.set("192.0.2.66", false))
	r.sys.bad = netip.MustParsePrefix("192.0.2.66/24")
	cfg := address("192.0.2.66")
	cfg.NTP.Servers = []string{"192.0.2.123"}
	must(t, r.s.do(t.Context(), netclient.Request{Op: netclient.OpSet, Config: cfg}))
	if got := r.s.Status().Config.NTP.Servers; len(got) != 1 {
		t.Errorf("time servers %v", got)
	}
	cfg.Routes = []netconfig.Route{{Destination: netip.MustParsePrefix("10.0.0.0/8"), Gateway: netip.MustParseAddr("192.0.2.1")}}
	wantCode(t, r.s.do(t.Context(), netclient.Request{Op: netclient.OpSet, Config: cfg}), netclient.CodeFailed, "in use")
}

// A crash at any time: what was saved is in force afterwards, once said.
func TestRestart(t *testing.T) {
	r := newRig(t)
	must(t, r.set("192.0.2.6", false))
	must(t, r.set("192.0.2.7", true))
	r.restart()
	r.check("192.0.2.6", "192.0.2.6", "", netclient.RevertedRestart)
	if rev := r.s.Status().Reverted; rev.By != "anna" {
		t.Errorf("reverted %+v", rev)
	}
	r.restart()
	r.check("192.0.2.6", "192.0.2.6", "", "")

	// After the change was saved, before its note was removed: it is confirmed.
	must(t, r.set("192.0.2.7", true))
	must(t, r.s.store.save(r.s.m.pending.Config))
	r.restart()
	r.check("192.0.2.7", "192.0.2.7", "", "")

	// A note that is no more.
	must(t, os.WriteFile(filepath.Join(r.dir, NoteFile), []byte("{"), 0o600))
	r.restart()
	r.check("192.0.2.7", "192.0.2.7", "", netclient.RevertedRestart)
}

// Every write that fails, at every step: nothing is applied that was not noted,
// and what is in force agrees with the file, now and after a restart.
func TestWriteFaults(t *testing.T) {
	broken := errors.New("input/output error")
	for _, step := range durable.Steps {
		for nth := 1; nth <= 3; nth++ { // the note, the configuration, the note's removal
			for _, hold := range []bool{true, false} {
				r := newRig(t)
				must(t, r.set("192.0.2.6", false))
				sets, n := r.sys.sets, 0
				end := durable.Fault(func(s string) error {
					if s == step {
						if n++; n == nth {
							return broken
						}
					}
					return nil
				})
				err := r.set("192.0.2.7", hold)
				if nth == 1 {
					wantCode(t, err, netclient.CodeReadOnly, "nothing was changed")
					if r.sys.sets != sets {
						t.Errorf("%s: applied without a note", step)
					}
				} else if hold && err == nil {
					err = r.decide(netclient.OpConfirm, "id2")
				}
				end()
				if err != nil {
					var ref *refusal
					if !errors.As(err, &ref) || ref.code != netclient.CodeReadOnly || !errors.Is(err, broken) {
						t.Errorf("%s %d: %v", step, nth, err)
					}
				}
				pending := r.s.Status().Pending
				if pending != nil { // the confirmation failed: it can be tried again
					must(t, r.decide(netclient.OpConfirm, pending.ID))
					err = nil
				}
				want := "192.0.2.7"
				if err != nil {
					want = "192.0.2.6"
				}
				if got := r.sys.inForce(t); got != want {
					t.Errorf("%s %d, hold %v: %s is in force, want %s (%v)", step, nth, hold, got, want, err)
				}
				r.restart()
				if got := r.sys.inForce(t); got != want {
					t.Errorf("%s %d, hold %v: after a restart %s is in force, want %s (%v)", step, nth, hold, got, want, err)
				}
			}
		}
	}
}

// A damaged file: the default is in force, each start says so, the file is kept,
// and the next change replaces it, even one that says the default.
func TestDamaged(t *testing.T) {
	r := newRig(t)
	path := filepath.Join(r.dir, netconfig.ConfigFile)
	for range 2 {
		must(t, os.WriteFile(path, []byte(`{"version":1,"hostnam":"x"}`), 0o600))
		for range 2 {
			r.restart()
			if d, p := r.s.Detail(), r.s.Status().State.Problem; !strings.Contains(d, "cannot be read") || !strings.Contains(p, "hostnam") {
				t.Errorf("detail %q, problem %q", d, p)
			}
			if r.sys.inForce(t) != "dhcp" {
				t.Error("the default is not in force")
			}
			if b, err := os.ReadFile(filepath.Join(r.dir, DamagedFile)); err != nil || !strings.Contains(string(b), "hostnam") {
				t.Errorf("kept: %q, %v", b, err)
			}
		}
		must(t, r.set("", false))
		r.check("dhcp", "dhcp", "", "")
		if d := r.s.Detail(); d != "eth0: no carrier" {
			t.Errorf("detail %q", d)
		}
	}
	// A folder in its place is no configuration, and is replaced too.
	must(t, errors.Join(os.Remove(path), os.Mkdir(path, 0o700)))
	r.restart()
	if d := r.s.Detail(); !strings.Contains(d, "cannot be read") || strings.Contains(d, "\n") && r.sys.inForce(t) != "dhcp" {
		t.Errorf("detail %q", d)
	}
	must(t, r.set("192.0.2.7", false))
	r.check("192.0.2.7", "192.0.2.7", "", "")
}

func TestPassword(t *testing.T) {
	r := newRig(t)
	secret := "s3cret-of-the-proxy"
	cfg := address("192.0.2.7")
	cfg.Proxy.Host, cfg.Proxy.Port, cfg.Proxy.User, cfg.Proxy.Password = "proxy.example.org", 3128, "u", &secret
	must(t, r.s.do(t.Context(), netclient.Request{Op: netclient.OpSet, Config: cfg}))
	pub := r.s.Status().Config
	pub.Hostname = "other"
	must(t, r.s.do(t.Context(), netclient.Request{Op: netclient.OpSet, Config: &pub, Hold: true}))
	if p := r.s.m.pending.Config.Proxy.Password; p == nil || *p != secret {
		t.Error("the password is lost")
	}
	b, err := json.Marshal(r.s.Status())
	if err != nil || strings.Contains(string(b), secret) || !strings.Contains(string(b), `"passwordSet":true`) {
		t.Errorf("status %s, %v", b, err)
	}
}

// The clock was set while a change is pending: what is shown follows it.
func TestShown(t *testing.T) {
	m := machine{hold: netclient.Hold}
	now := time.Now()
	m.propose("id", netconfig.DefaultConfig(), "", now)
	if p := m.shown(now.Add(10 * time.Second)); !p.Since.Equal(now) {
		t.Errorf("since %v, want %v", p.Since, now)
	}
	m.pending.Since = now.Add(-10 * time.Second)
	m.pending.Deadline = m.pending.Since.Add(netclient.Hold)
	jumped := now.Round(0).Add(time.Hour) // without a monotonic part the difference is an hour and more
	if p := m.shown(jumped); p.Deadline.Sub(p.Since) != netclient.Hold {
		t.Errorf("shown %+v", p)
	}
}

// A firewall that the kernel refused at the start is tried again.
func TestFirewallLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.sys.fwActive = false
		r.sys.fwErr = errors.New("not yet")
		r.run()
		time.Sleep(time.Hour)
		if d := r.s.Detail(); !strings.Contains(d, "no firewall") {
			t.Errorf("detail %q", d)
		}
		r.sys.mu.Lock()
		r.sys.fwErr = nil
		r.sys.mu.Unlock()
		time.Sleep(retryPause + time.Second)
		if r.check("dhcp", "dhcp", "", ""); !r.s.Status().Firewall.Active {
			t.Error("the firewall is not tried again")
		}
	})
}

// The process ends while a change comes into force: nothing is saved that was
// not seen to work, and the next process says so.
func TestEndsMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		must(t, r.set("192.0.2.6", false))
		r.sys.slow = 5 * time.Second
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := r.s.do(ctx, netclient.Request{Op: netclient.OpSet, Config: address("192.0.2.7"), By: "anna"})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		r.restart()
		r.check("192.0.2.6", "192.0.2.6", "", netclient.RevertedRestart)
	})
}

func TestStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		end, err := r.s.begin(t.Context())
		must(t, err)
		time.Sleep(2 * applyLimit)
		must(t, r.s.Check())
		time.Sleep(stuckLimit)
		if r.s.Check() == nil {
			t.Error("a change that never ends is not seen")
		}
		end()
		must(t, r.s.Check())
	})
}

func FuzzParseNote(f *testing.F) {
	b, err := json.Marshal(note{Version: noteVersion, ID: "a", By: "anna", Config: *address("192.0.2.7")})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"version":1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if n, err := parseNote(b); n == nil || err != nil && n.ID != "" {
			t.Errorf("%+v, %v", n, err)
		}
	})
}
