package ethernet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/parley-meet/parley/services/internal/dhcp"
	"github.com/parley-meet/parley/services/internal/netconfig"
)

// host is the dhcp.Host of one client.
type host struct {
	d   *Daemon
	mac string
}

func (h *host) Bind(l *dhcp.Lease) { h.d.setLease(l, h.mac) }
func (h *host) Unbind()            { h.d.setLease(nil, h.mac) }
func (h *host) Probe(ctx context.Context, a netip.Addr) (net.HardwareAddr, error) {
	return h.d.cfg.Kernel.Probe(ctx, a)
}

// recall returns the lease of an earlier process, and whether its address is
// still on the interface. A file that cannot be used is as good as none.
func (d *Daemon) recall(mac net.HardwareAddr) (*dhcp.Lease, bool) {
	path := filepath.Join(d.cfg.PermDir, netconfig.LeaseFile)
	b, err := netconfig.ReadFile(path, dhcp.MaxFileSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false
	}
	var l *dhcp.Lease
	if err == nil {
		l, err = dhcp.Decode(b, mac, time.Now())
	}
	if err != nil {
		d.cfg.Log.Warn("remembered lease is not used", "file", path, "err", err)
		return nil, false
	}
	have, err := d.cfg.Kernel.Addresses()
	if err != nil {
		d.cfg.Log.Warn("addresses are not known", "err", err)
	}
	held := slices.ContainsFunc(have, func(a netconfig.Address) bool { return a.Prefix == l.Address })
	return l, held && !l.Over(time.Now())
}

// force is what the apply task remembers.
type force struct {
	d       *Daemon
	log     *slog.Logger
	linkMTU int               // bytes, before DHCP's; 0: not known yet
	badMTU  int               // bytes, refused by the interface
	written map[string][]byte // last content of each file
	problem string            // last one that was logged
}

// runApply brings what is wanted into force, and tries again after errors.
func (d *Daemon) runApply(ctx context.Context) error {
	f := &force{
		d:       d,
		log:     d.cfg.Log.With("interface", d.cfg.Interface),
		written: map[string][]byte{},
	}
	f.recallMTU()
	pause := retryMin
	var again <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case done := <-d.alive:
			close(done)
			continue
		case <-again:
		case <-d.kick:
		}
		again = nil
		if f.step() {
			pause = retryMin
		} else {
			again = time.After(pause)
			pause = min(2*pause, retryMax)
		}
	}
}

// recallMTU finds the interface's own MTU in the state that an earlier process
// of this boot has left.
func (f *force) recallMTU() {
	b, err := netconfig.ReadFile(filepath.Join(f.d.cfg.RunDir, netconfig.StateFile), netconfig.MaxStateSize)
	if err != nil {
		return
	}
	if s, err := netconfig.DecodeState(b); err == nil && s.Interface == f.d.cfg.Interface {
		f.linkMTU = s.LinkMTU
	}
}

// minRemembered is the shortest lease that is remembered. A shorter one is of no
// use to a later start, and each of its renewals would be a write to the disk,
// as often as the server likes.
const minRemembered = time.Minute

// step brings the wanted lease into force, publishes the result, and reports
// whether all is as wanted.
func (f *force) step() bool {
	d := f.d
	d.mu.Lock()
	link, linkErr, lease, mac, forget, before := d.link, d.linkErr, d.lease, d.leaseMAC, d.forget, d.applied
	d.forget = false
	d.mu.Unlock()

	var applied *dhcp.Lease
	var problem error
	if linkErr == nil {
		applied, problem = f.apply(link, lease)
	}
	d.mu.Lock()
	d.applied, d.problem = applied, problem
	d.mu.Unlock()

	if applied != nil && (before == nil || before.Address != applied.Address) {
		if err := d.cfg.Kernel.Announce(applied.Address.Addr()); err != nil {
			f.log.Warn("address is not announced", "err", err)
		}
	}
	f.publish(link, linkErr, applied, problem)
	switch {
	case applied != nil && applied.Length >= minRemembered:
		f.remember(applied, mac)
	case applied != nil || forget:
		f.forget()
	}
	return problem == nil
}

// apply makes the kernel agree with the lease, nil for none, and returns it
// when its address is in force.
func (f *force) apply(link Link, lease *dhcp.Lease) (*dhcp.Lease, error) {
	if f.linkMTU == 0 {
		f.linkMTU = link.MTU
	}
	var want netconfig.Interface
	if lease != nil {
		want = lease.Interface()
	}
	want.MTU = f.mtu(want.MTU)
	changes, err := Apply(f.d.cfg.Kernel, want)
	for _, c := range changes {
		f.log.Info("applied", "change", c)
	}
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != f.problem && err != nil {
		f.log.Error("configuration is not in force", "err", err)
	}
	f.problem = text
	if lease == nil || err == nil {
		return lease, err
	}
	have, _ := f.d.cfg.Kernel.Addresses()
	if !slices.ContainsFunc(have, func(a netconfig.Address) bool { return a.Prefix == lease.Address }) {
		lease = nil
	}
	return lease, err
}

// mtu returns the MTU to apply. One that the interface cannot have is tried
// once: it is no reason to be without an address.
func (f *force) mtu(want int) int {
	if want == 0 || want == f.badMTU {
		return f.linkMTU
	}
	l, err := f.d.cfg.Kernel.Link()
	if err != nil || l.MTU == want {
		return want
	}
	if err := f.d.cfg.Kernel.SetMTU(want); err != nil {
		f.log.Warn("MTU is not used", "mtu", want, "err", err)
		f.badMTU = want
		return f.linkMTU
	}
	f.log.Info("applied", "change", fmt.Sprintf("mtu %d", want))
	return want
}

// publish writes the state and the resolver's file.
func (f *force) publish(link Link, linkErr error, lease *dhcp.Lease, problem error) {
	s := netconfig.State{
		Interface:       f.d.cfg.Interface,
		HardwareAddress: link.HardwareAddr.String(),
		Link:            netconfig.LinkMissing,
		Mode:            netconfig.ModeDHCP,
		LinkMTU:         f.linkMTU,
		Addresses:       []netip.Prefix{},
	}
	switch {
	case linkErr != nil:
	case link.Carrier:
		s.Link = netconfig.LinkUp
	default:
		s.Link = netconfig.LinkNoCarrier
	}
	if linkErr == nil {
		s.MTU = link.MTU
	}
	var r netconfig.Resolver
	if lease != nil {
		s.Addresses = []netip.Prefix{lease.Address}
		s.Gateway = netconfig.Gateway(lease.Routes)
		s.Routes, s.DNS, s.Search, s.NTP = lease.Routes, lease.DNS, lease.Search, lease.NTP
		s.Hostname = lease.Hostname
		s.Lease = lease.State()
		r = netconfig.Resolver{DNS: lease.DNS, Search: lease.Search}
	}
	if problem != nil {
		s.Problem = problem.Error()
	}
	f.write(f.d.cfg.RunDir, netconfig.ResolvFile, r.File(), 0o644)
	b, err := s.Encode()
	if err != nil { // a State is plain values
		f.log.Error("state cannot be encoded", "err", err)
		return
	}
	f.write(f.d.cfg.RunDir, netconfig.StateFile, b, 0o644)
}

// remember writes the lease down for the next start.
func (f *force) remember(l *dhcp.Lease, mac string) {
	hw, err := net.ParseMAC(mac)
	if err != nil {
		return // an interface without hardware address has no lease
	}
	b, err := l.Encode(hw)
	if err != nil {
		f.log.Error("lease cannot be encoded", "err", err)
		return
	}
	f.write(f.d.cfg.PermDir, netconfig.LeaseFile, b, 0o640)
}

// forget removes the lease file: a server has taken the lease back.
func (f *force) forget() {
	path := filepath.Join(f.d.cfg.PermDir, netconfig.LeaseFile)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		f.log.Error("lease is not forgotten", "err", err)
	}
	delete(f.written, path)
}

// write replaces the file unless it is known to have the content already.
func (f *force) write(dir, name string, b []byte, mode fs.FileMode) {
	path := filepath.Join(dir, name)
	if last, ok := f.written[path]; ok && bytes.Equal(last, b) {
		return
	}
	if err := netconfig.WriteFile(path, b, mode); err != nil {
		f.log.Error("file is not written", "err", err)
		return
	}
	f.written[path] = b
}
