package network

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/services/internal/controltest"
	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/labtest"
	"github.com/parley-meet/parley/services/internal/netclient"
	"github.com/parley-meet/parley/services/internal/netconfig"
)

// try asks the service on its socket.
func (l *lab) try(req netclient.Request) (*netclient.Status, error) {
	ctx, cancel := context.WithTimeout(l.t.Context(), patience)
	defer cancel()
	return (&netclient.Client{Path: l.path("run/network.sock")}).Do(ctx, req)
}

// do is try and ends the test on an error.
func (l *lab) do(req netclient.Request) *netclient.Status {
	l.t.Helper()
	st, err := l.try(req)
	if err != nil {
		l.t.Fatal(err)
	}
	return st
}

func (l *lab) status() *netclient.Status {
	l.t.Helper()
	return l.do(netclient.Request{Op: netclient.OpStatus})
}

// static is a configuration with that address.
func static(a string) *netconfig.Config {
	cfg := netconfig.DefaultConfig()
	cfg.Eth0 = netconfig.Master{Mode: netconfig.ModeStatic, Address: netip.MustParsePrefix(a), Gateway: serverIP}
	return &cfg
}

func (l *lab) reverted(why string) {
	l.t.Helper()
	l.wait("the change to be undone", func() error {
		if st := l.status(); st.Pending != nil || st.Reverted == nil || st.Reverted.Why != why || st.Reverted.By != "anna" {
			return fmt.Errorf("pending %+v, reverted %+v", st.Pending, st.Reverted)
		}
		return nil
	})
}

// The timed confirmation, on a real interface: what nobody confirms goes, and
// so does what is confirmed not.
func TestHold(t *testing.T) {
	l := newLab(t)
	l.dnsmasq("192.0.2.100", "192.0.2.110")
	l.start()
	l.address("192.0.2.100/24")
	if fi, err := os.Stat(l.path("run/network.sock")); err != nil || fi.Mode().Perm() != 0o660 {
		t.Errorf("socket: %v, %v", fi, err)
	}
	st := l.do(netclient.Request{Op: netclient.OpSet, Config: static("192.0.2.50/24"), Hold: true, By: "anna"})
	if st.Pending == nil || st.Config.Eth0.Mode != netconfig.ModeDHCP || !st.Firewall.Active {
		t.Fatalf("status %+v", st)
	}
	l.address("192.0.2.50/24")
	l.address("192.0.2.100/24")
	l.reverted(netclient.RevertedTimeout)

	st = l.do(netclient.Request{Op: netclient.OpSet, Config: static("192.0.2.51/24"), Hold: true, By: "anna"})
	l.address("192.0.2.51/24")
	if _, err := l.try(netclient.Request{Op: netclient.OpConfirm, ID: "another"}); err == nil {
		t.Error("another change is confirmed")
	}
	l.do(netclient.Request{Op: netclient.OpConfirm, ID: st.Pending.ID})
	deadline := time.Now().Add(testHold + time.Second)
	l.wait("the time of the change to be over", func() error {
		if time.Now().Before(deadline) {
			return errors.New("it is not")
		}
		return nil
	})
	if st = l.status(); st.Pending != nil || st.Config.Eth0.Address.String() != "192.0.2.51/24" {
		t.Errorf("confirmed: %+v", st)
	}
	l.stop()
	l.start()
	l.address("192.0.2.51/24")
	if m := l.ask(); m.Detail != "eth0: 192.0.2.51/24" && !strings.HasPrefix(m.Detail, "eth0: 192.0.2.51/24 ") || m.Error != "" {
		t.Errorf("to PID 1: %+v", m)
	}
	l.stop()
}

// kill -9 while a change is pending: the next process returns to what is saved.
func TestKilledWhilePending(t *testing.T) {
	l := newLab(t)
	l.start()
	l.do(netclient.Request{Op: netclient.OpSet, Config: static("192.0.2.50/24"), By: "anna"})
	l.address("192.0.2.50/24")
	l.do(netclient.Request{Op: netclient.OpSet, Config: static("192.0.2.51/24"), Hold: true, By: "anna"})
	l.address("192.0.2.51/24")
	if err := l.service.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	l.service.Wait()
	if _, err := l.try(netclient.Request{Op: netclient.OpStatus}); !errors.Is(err, netclient.ErrAway) {
		t.Errorf("nobody is there: %v", err)
	}
	l.start()
	l.address("192.0.2.50/24")
	l.reverted(netclient.RevertedRestart)
	l.stop()
}

// An address that another machine has is undone at once, and so is what cannot
// be right.
func TestWrongAddress(t *testing.T) {
	l := newLab(t)
	other := labtest.NewHost(t, "other")
	l.server.Join(other, "p2", net.HardwareAddr{2, 0, 0, 0, 0, 2}, netip.MustParsePrefix("192.0.2.60/24"))
	l.start()
	l.do(netclient.Request{Op: netclient.OpSet, Config: static("192.0.2.50/24"), By: "anna"})
	l.address("192.0.2.50/24")
	for _, hold := range []bool{true, false} {
		_, err := l.try(netclient.Request{Op: netclient.OpSet, Config: static("192.0.2.60/24"), Hold: hold, By: "anna"})
		if f := fault.Of(err); !f.Has("eth0.address") || f[0].Args[0] != "192.0.2.60" || f[0].Args[1] != "02:00:00:00:00:02" {
			t.Errorf("hold %v: %v", hold, err)
		}
		l.address("192.0.2.50/24")
		l.reverted(netclient.RevertedFailed)
	}
	if st := l.status(); st.Config.Eth0.Address.String() != "192.0.2.50/24" {
		t.Errorf("saved is %v", st.Config.Eth0.Address)
	}
	l.stop()
}

// The firewall follows the configuration: a refused connection reached the
// machine, one that nobody answers did not.
func TestFirewall(t *testing.T) {
	l := newLab(t)
	l.start()
	cfg := static("192.0.2.50/24")
	l.do(netclient.Request{Op: netclient.OpSet, Config: cfg, By: "anna"})
	l.address("192.0.2.50/24")
	reaches := func(port string, wait time.Duration) bool {
		return errors.Is(l.server.Do(func() error {
			c, err := net.DialTimeout("tcp", "192.0.2.50:"+port, wait)
			if err == nil {
				c.Close()
			}
			return err
		}), syscall.ECONNREFUSED)
	}
	if !reaches("5480", patience) || reaches("22", 300*time.Millisecond) {
		t.Error("the table of ports is not in force")
	}
	before := l.status().Firewall
	if !before.Active || before.Dropped == 0 {
		t.Errorf("firewall %+v", before)
	}
	cfg.Firewall.Allow = map[string][]netip.Prefix{"console": {netip.MustParsePrefix("10.0.0.0/8")}}
	l.do(netclient.Request{Op: netclient.OpSet, Config: cfg, Hold: true, By: "anna"})
	if reaches("5480", 300*time.Millisecond) || !reaches("443", patience) {
		t.Error("the list is not in force")
	}
	l.reverted(netclient.RevertedTimeout)
	if !reaches("5480", patience) {
		t.Error("the list is in force after it was undone")
	}
	l.stop()
	if reaches("22", 300*time.Millisecond) || !reaches("443", patience) {
		t.Error("the firewall ends with the service")
	}
}

// The name and the clock: PID 1 is asked for both.
func TestNameAndClock(t *testing.T) {
	l := newLab(t)
	pid1 := controltest.New(t)
	l.control = pid1.Path
	l.server.Must(func() error {
		c, err := net.ListenPacket("udp", "192.0.2.1:123")
		if err == nil {
			go timeServer(c, time.Hour)
			t.Cleanup(func() { c.Close() })
		}
		return err
	})
	l.start()
	cfg := static("192.0.2.50/24")
	cfg.Hostname = "meet"
	cfg.NTP.Servers = []string{"192.0.2.1"}
	l.do(netclient.Request{Op: netclient.OpSet, Config: cfg, By: "anna"})
	asked := func(what string, match func(control.Request) bool) {
		t.Helper()
		l.wait(what, func() error {
			if !slices.ContainsFunc(pid1.Asked(), match) {
				return fmt.Errorf("PID 1 was asked %+v", pid1.Asked())
			}
			return nil
		})
	}
	asked("the name", func(r control.Request) bool { return r.Op == control.OpHostname && r.Hostname == "meet" })
	asked("the clock", func(r control.Request) bool {
		return r.Op == control.OpClock && r.Clock.Step && r.Clock.Save && (r.Clock.Offset-time.Hour).Abs() < patience
	})
	st := l.do(netclient.Request{Op: netclient.OpSync})
	if c := st.Clock; c.Server != "192.0.2.1" || !c.Synced || c.Problem != "" {
		t.Errorf("clock %+v", c)
	}
	l.stop()
}

// timeServer answers with a clock that is ahead.
func timeServer(c net.PacketConn, ahead time.Duration) {
	b := make([]byte, 48)
	for {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return
		}
		if n < 48 {
			continue
		}
		answer := make([]byte, 48)
		answer[0], answer[1] = 4<<3|4, 2
		copy(answer[24:], b[40:48])
		for _, at := range []int{16, 32, 40} {
			binary.BigEndian.PutUint32(answer[at:], uint32(time.Now().Add(ahead).Unix()+2208988800))
		}
		c.WriteTo(answer, from)
	}
}
