// Package labtest gives tests network namespaces of Linux, joined by a bridge:
// hosts that see each other and nothing else.
//
// A Host is an OS thread that has left the process's namespaces. What runs in
// it by Do, and processes and sockets that are made there, are on that host.
// It ends with the test. Root is needed: a test without is skipped on a desk
// and fails in continuous integration.
package labtest

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Host is a machine: a network and a host name of its own.
type Host struct {
	t     testing.TB
	calls chan func()
}

// NewHost returns a host with nothing but its loopback.
func NewHost(t testing.TB, name string) *Host {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "" {
			t.Skip("network namespaces need root")
		}
		t.Fatal("network namespaces need root")
	}
	h := &Host{t: t, calls: make(chan func())}
	started, ended := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		err := errors.Join(unix.Unshare(unix.CLONE_NEWNET|unix.CLONE_NEWUTS), unix.Sethostname([]byte(name)))
		if err == nil {
			err = up("lo")
		}
		started <- err
		if err != nil {
			return
		}
		for f := range h.calls {
			f()
		}
	}()
	if err := <-started; err != nil {
		t.Fatalf("new host %s: %v", name, err)
	}
	t.Cleanup(func() {
		close(h.calls)
		<-ended
	})
	return h
}

// Do runs f on the host. One call at a time; f must not end the test.
func (h *Host) Do(f func() error) error {
	result := make(chan error, 1)
	h.calls <- func() { result <- f() }
	return <-result
}

// Must is Do and ends the test on an error.
func (h *Host) Must(f func() error) {
	h.t.Helper()
	if err := h.Do(f); err != nil {
		h.t.Fatal(err)
	}
}

func up(name string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("link %s: %w", name, err)
	}
	return netlink.LinkSetUp(l)
}

// Bridge makes the host's interface br0, to which others are joined.
func (h *Host) Bridge(addresses ...netip.Prefix) {
	h.t.Helper()
	h.Must(func() error {
		// With an address of its own, or it would be that of its last port.
		b := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0", HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 0xff}}}
		if err := netlink.LinkAdd(b); err != nil {
			return fmt.Errorf("bridge: %w", err)
		}
		if err := up("br0"); err != nil {
			return err
		}
		return assign("br0", addresses)
	})
}

// Join gives other an interface eth0 on the host's bridge, set up, whose other
// end is the port of that name.
func (h *Host) Join(other *Host, port string, mac net.HardwareAddr, addresses ...netip.Prefix) {
	h.t.Helper()
	var ns *os.File
	other.Must(func() (err error) {
		ns, err = os.Open("/proc/thread-self/ns/net")
		return err
	})
	defer ns.Close()
	h.Must(func() error {
		bridge, err := netlink.LinkByName("br0")
		if err != nil {
			return err
		}
		pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: port}, PeerName: "eth0", PeerHardwareAddr: mac}
		if err := netlink.LinkAdd(pair); err != nil {
			return fmt.Errorf("veth pair %s: %w", port, err)
		}
		peer, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return errors.Join(netlink.LinkSetNsFd(peer, int(ns.Fd())), netlink.LinkSetMaster(pair, bridge), netlink.LinkSetUp(pair))
	})
	other.Must(func() error { return errors.Join(up("eth0"), assign("eth0", addresses)) })
	// A bridge forwards from a port only when it has seen its carrier.
	h.Must(func() error {
		for range 500 {
			l, err := netlink.LinkByName(port)
			if err != nil {
				return err
			}
			if l.Attrs().OperState == netlink.OperUp {
				return nil
			}
			time.Sleep(10 * time.Millisecond)
		}
		return fmt.Errorf("port %s does not come up", port)
	})
}

func assign(name string, addresses []netip.Prefix) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	for _, a := range addresses {
		ip := &net.IPNet{IP: a.Addr().AsSlice(), Mask: net.CIDRMask(a.Bits(), a.Addr().BitLen())}
		if err := netlink.AddrReplace(l, &netlink.Addr{IPNet: ip}); err != nil {
			return fmt.Errorf("address %v on %s: %w", a, name, err)
		}
	}
	return nil
}

// Assign gives an interface of the host an address, up to its removal.
func (h *Host) Assign(name string, a netip.Prefix) {
	h.t.Helper()
	h.Must(func() error { return assign(name, []netip.Prefix{a}) })
}

// SetUp sets an interface of the host up or down.
func (h *Host) SetUp(name string, on bool) {
	h.t.Helper()
	h.Must(func() error {
		if on {
			return up(name)
		}
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		return netlink.LinkSetDown(l)
	})
}

// Path opens the host's network namespace by a name in /proc, for programs that
// enter it (nsenter). It is good for as long as the host is.
func (h *Host) Path() string {
	h.t.Helper()
	var path string
	h.Must(func() error {
		path = fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), unix.Gettid())
		return nil
	})
	return path
}
