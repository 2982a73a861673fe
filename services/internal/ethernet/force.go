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
	"reflect"
	"slices"
	"time"

	"github.com/parley-meet/parley/services/internal/dhcp"
	"github.com/parley-meet/parley/services/internal/dhcp6"
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
	owner, err := h.d.cfg.Kernel.Probe(ctx, a)
	if owner != nil { // the client declines it; people should know, too
		h.d.mu.Lock()
		if len(h.d.clashes) < maxClashes {
			h.d.clashes[a] = clash{owner: owner, at: time.Now()}
		}
		h.d.mu.Unlock()
		poke(h.d.guard)
		poke(h.d.kick)
	}
	return owner, err
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
	warned  map[string]bool   // parameters that could not be set
	tried6  time.Time         // when duplicates of IPv6 were given another try
	pending bool              // addresses of IPv6 are being looked for by the kernel
}

// runApply brings what is wanted into force, and tries again after errors.
func (d *Daemon) runApply(ctx context.Context) error {
	f := &force{
		d:       d,
		log:     d.cfg.Log.With("interface", d.cfg.Interface),
		written: map[string][]byte{},
		warned:  map[string]bool{},
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
		switch f.step() {
		case good:
			pause = retryMin
		case soon:
			again = time.After(retryMin)
		default:
			again = time.After(pause)
			pause = min(2*pause, retryMax)
		}
	}
}

// outcome is what is to be done after a step.
type outcome int

const (
	good outcome = iota // nothing until something changes
	soon                // look again: the kernel is at work
	bad                 // try again
)

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

// step brings what is wanted into force, and publishes the result.
func (f *force) step() outcome {
	d := f.d
	d.mu.Lock()
	if d.gen == 0 { // the interface is not known yet
		d.mu.Unlock()
		return good
	}
	now := wanted{cfg: d.want, link: d.link, lease: d.lease, mac: d.leaseMAC, lease6: d.lease6, known6: d.known6, heard: d.heard,
		master: d.usableLocked(d.want.Eth0.Address.Addr()), slave: d.usableLocked(d.want.Slave.Addr())}
	gen, linkErr, forget, before := d.gen, d.linkErr, d.forget, d.inForce
	d.forget = false
	d.mu.Unlock()

	var is inForce
	problem := linkErr
	if linkErr == nil {
		is, problem = f.apply(now)
	}
	d.mu.Lock()
	d.inForce = is
	if d.problem = problem; linkErr != nil {
		d.problem = nil // it is told as the link's
	}
	for _, a := range is.owns() {
		if c := d.claims[a]; c != nil {
			c.held = true
		}
	}
	duplicates := d.duplicatesLocked()
	if !(f.pending && now.cfg.IPv6.Mode == netconfig.ModeStatic && now.link.Carrier) { // else the kernel is asking still
		d.settleLocked(gen, problem)
	}
	d.mu.Unlock()

	for _, a := range is.owns() {
		if slices.Contains(before.owns(), a) {
			continue
		}
		if err := d.cfg.Kernel.Announce(a); err != nil {
			f.log.Warn("address is not announced", "err", err)
		}
	}
	if !slices.Equal(is.owns(), before.owns()) {
		poke(d.ears)
	}
	f.publish(now, linkErr, is, problem, duplicates)
	switch {
	case is.lease != nil && is.lease.Length >= minRemembered:
		f.remember(is.lease, now.mac)
	case is.lease != nil || forget:
		f.forget()
	}
	switch {
	case problem != nil && linkErr == nil:
		return bad
	case f.pending:
		return soon
	}
	return good
}

// settleLocked tells those who wait in Applied how the generation ended, once it
// has: while an address is being asked for, it has not.
func (d *Daemon) settleLocked(gen int, problem error) {
	taken := []netconfig.Duplicate{}
	for a, c := range d.claims {
		switch {
		case c.state == asking && d.link.Carrier:
			return
		case c.owner != nil:
			taken = append(taken, netconfig.Duplicate{Address: a, HardwareAddress: c.owner.String()})
		}
	}
	d.done, d.doneErr = gen, errors.Join(problem, duplicateError(taken))
	close(d.changed)
	d.changed = make(chan struct{})
}

// wanted is what a step starts from.
type wanted struct {
	cfg           netconfig.Config
	link          Link
	lease         *dhcp.Lease
	mac           string
	lease6        *dhcp6.Lease
	known6        bool
	heard         heard
	master, slave bool // the static addresses may be in use
}

// interface4 returns what IPv4 is to be like.
func (w wanted) interface4(slaveLabel string) netconfig.Interface {
	var i netconfig.Interface
	add := func(a netconfig.Address) {
		same := func(o netconfig.Address) bool { return o.Addr() == a.Addr() }
		if !slices.ContainsFunc(i.Addresses, same) { // a server may have given the slave's
			i.Addresses = append(i.Addresses, a)
		}
	}
	switch {
	case w.cfg.Eth0.Mode == netconfig.ModeDHCP && w.lease != nil:
		i = w.lease.Interface()
	case w.master:
		add(netconfig.Address{Prefix: w.cfg.Eth0.Address})
	}
	if w.slave {
		add(netconfig.Address{Prefix: w.cfg.Slave, Label: slaveLabel})
	}
	if gw := w.cfg.Eth0.Gateway; gw.IsValid() {
		i.Static = append(i.Static, netconfig.Route{Destination: netconfig.Default, Gateway: gw})
	}
	for _, r := range w.cfg.Routes {
		if r.Destination.Addr().Is4() {
			i.Static = append(i.Static, r)
		}
	}
	if w.cfg.Eth0.MTU != 0 {
		i.MTU = w.cfg.Eth0.MTU
	}
	return i
}

// interface6 returns what IPv6 is to be like.
func (w wanted) interface6() netconfig.Interface6 {
	i := netconfig.Interface6{Mode: w.cfg.IPv6.Mode}
	if w.cfg.IPv6.Address.IsValid() {
		i.Addresses = append(i.Addresses, netconfig.Address{Prefix: w.cfg.IPv6.Address})
	}
	if l := w.lease6; l != nil && l.Address.IsValid() && i.Mode == netconfig.ModeAuto {
		i.Addresses = append(i.Addresses, netconfig.Address{Prefix: netip.PrefixFrom(l.Address, 128), Until: l.Expires()})
	}
	if gw := w.cfg.IPv6.Gateway; gw.IsValid() {
		i.Routes = append(i.Routes, netconfig.Route{Destination: netconfig.Default6, Gateway: gw})
	}
	for _, r := range w.cfg.Routes {
		if r.Destination.Addr().Is6() {
			i.Routes = append(i.Routes, r)
		}
	}
	return i
}

// apply makes the kernel agree, and returns what is in force.
func (f *force) apply(w wanted) (inForce, error) {
	if f.linkMTU == 0 {
		f.linkMTU = w.link.MTU
	}
	// With it the slave stays when the master of the same network goes; without
	// it Apply puts the slave back.
	f.tune("ipv4", "promote_secondaries", "1")
	// RFC 3756, 4.2.7: one advertisement must not make all packets die early.
	f.tune("ipv6", "accept_ra_min_hop_limit", "64")
	want := w.interface4(f.d.cfg.Interface + ":0")
	want.MTU = f.mtu(want.MTU)
	changes, err := Apply(f.d.cfg.Kernel, want)
	want6 := w.interface6()
	if !w.known6 && want6.Mode == netconfig.ModeAuto {
		want6.Addresses = append(want6.Addresses, f.earlier6()...)
	}
	changes6, err6 := Apply6(f.d.cfg.Kernel, want6)
	for _, c := range append(changes, changes6...) {
		f.log.Info("applied", "change", c)
	}
	is, errNow := f.look(w, want)
	err = errors.Join(err, err6, errNow)
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != f.problem && err != nil {
		f.log.Error("configuration is not in force", "err", err)
	}
	f.problem = text
	return is, err
}

// earlier6 returns what DHCPv6 had given to an earlier process: it stays until it
// ends, or until it is known what DHCPv6 gives now.
func (f *force) earlier6() (out []netconfig.Address) {
	have, _ := f.d.cfg.Kernel.Addresses6() // an error is seen when it is applied
	for _, a := range have {
		if !a.Auto && !a.Until.IsZero() {
			out = append(out, a.Address)
		}
	}
	return out
}

// tune sets a parameter that is good to have. That it cannot be set is told
// once, and no reason not to work.
func (f *force) tune(family, name, value string) {
	have, err := f.d.cfg.Kernel.Sysctl(family, name)
	if err == nil && have != value {
		err = f.d.cfg.Kernel.SetSysctl(family, name, value)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !f.warned[name] {
		f.warned[name] = true
		f.log.Warn("parameter is not set", "name", name, "err", err)
	}
}

// retry6 is how long the kernel leaves an IPv6 address that somebody has alone.
const retry6 = 30 * time.Second

// look finds out what is in force.
func (f *force) look(w wanted, want netconfig.Interface) (inForce, error) {
	var is inForce
	have, err := f.d.cfg.Kernel.Addresses()
	has := func(p netip.Prefix) bool {
		return slices.ContainsFunc(have, func(a netconfig.Address) bool { return a.Prefix == p })
	}
	for _, a := range want.Addresses {
		switch {
		case !has(a.Prefix):
		case a.Label != "":
			is.slave = a.Prefix
		default:
			is.master = a.Prefix
			if w.cfg.Eth0.Mode == netconfig.ModeDHCP {
				is.lease = w.lease
			}
		}
	}
	if is.master.IsValid() && w.slave && !is.slave.IsValid() && w.cfg.Slave.Addr() == is.master.Addr() {
		err = errors.Join(err, fmt.Errorf("the DHCP server has given eth0 the slave's address %v", is.master.Addr()))
	}
	for _, r := range wantedRoutes(want) {
		if r.Static {
			is.routes = append(is.routes, r.Route)
		}
	}
	if is.master.IsValid() {
		for _, r := range want.Static {
			if !slices.Contains(is.routes, r) {
				err = errors.Join(err, fmt.Errorf("route to %v: the gateway %v is in no network of this appliance", r.Destination, r.Gateway))
			}
		}
	}
	have6, err6 := f.d.cfg.Kernel.Addresses6()
	f.pending = false
	if f.tried6.IsZero() || !slices.ContainsFunc(have6, func(a Address6) bool { return a.Duplicate }) {
		f.tried6 = time.Now()
	}
	again := time.Since(f.tried6) >= retry6
	for _, a := range have6 {
		switch {
		case a.Tentative:
			f.pending = true
		case a.Duplicate:
			err6 = errors.Join(err6, duplicateError([]netconfig.Duplicate{{Address: a.Addr()}}))
			f.declined(w, a.Addr())
			if again && !a.Auto {
				f.tried6 = time.Now()
				err6 = errors.Join(err6, f.d.cfg.Kernel.RemoveAddress(a.Address)) // the next step gives it again
			}
		default:
			is.v6 = append(is.v6, a.Prefix)
		}
	}
	if l := w.lease6; l != nil && w.cfg.IPv6.Mode == netconfig.ModeAuto &&
		(!l.Address.IsValid() || slices.Contains(is.v6, netip.PrefixFrom(l.Address, 128))) {
		is.lease6 = l
	}
	is.heard = w.heard
	gw6, errGW := f.d.cfg.Kernel.Gateway6()
	if w.cfg.IPv6.Mode != netconfig.ModeOff {
		is.gw6 = gw6
		for _, r := range wantedRoutes6(w.interface6()) {
			if r.Destination != netconfig.Default6 {
				is.routes = append(is.routes, r.Route)
			}
		}
	}
	return is, errors.Join(err, err6, errGW)
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

// declined has the DHCPv6 client decline the address if it is its.
func (f *force) declined(w wanted, a netip.Addr) {
	f.d.mu.Lock()
	client := f.d.client6
	f.d.mu.Unlock()
	if client != nil && w.lease6 != nil && w.lease6.Address == a {
		client.Duplicate(a)
	}
}

// publish writes the state and the resolver's file, and tells the state to whom
// it concerns.
func (f *force) publish(w wanted, linkErr error, is inForce, problem error, duplicates []netconfig.Duplicate) {
	s := netconfig.State{
		Version:         netconfig.StateVersion,
		Interface:       f.d.cfg.Interface,
		HardwareAddress: w.link.HardwareAddr.String(),
		Link:            netconfig.LinkMissing,
		Mode:            w.cfg.Eth0.Mode,
		LinkMTU:         f.linkMTU,
		Addresses:       []netip.Prefix{},
		Slave:           is.slave,
		Routes:          is.routes,
		IPv6Mode:        w.cfg.IPv6.Mode,
		IPv6:            is.v6,
		Gateway6:        is.gw6,
		Duplicates:      duplicates,
	}
	switch {
	case linkErr != nil:
	case w.link.Carrier:
		s.Link = netconfig.LinkUp
	default:
		s.Link = netconfig.LinkNoCarrier
	}
	if linkErr == nil {
		s.MTU = w.link.MTU
	}
	if is.master.IsValid() {
		s.Addresses = append(s.Addresses, is.master)
	}
	if l := is.lease; l != nil {
		for _, r := range l.Routes {
			same := func(o netconfig.Route) bool { return o.Destination == r.Destination }
			if !slices.ContainsFunc(s.Routes, same) {
				s.Routes = append(s.Routes, r)
			}
		}
		s.Hostname, s.Domain, s.NTP = l.Hostname, l.Domain, l.NTP
		s.Lease = l.State()
	}
	if l := is.lease6; l != nil {
		s.NTP = append(slices.Clip(s.NTP), l.NTP...)
		if l.Address.IsValid() {
			s.Lease6 = l.State()
		}
	}
	s.Gateway = netconfig.Gateway(s.Routes)
	s.DNS, s.DNSSource, s.Search = resolver(w.cfg, is)
	if linkErr == nil {
		if err := errors.Join(problem, duplicateError(duplicates)); err != nil {
			s.Problem = err.Error()
		}
	}
	f.write(f.d.cfg.RunDir, netconfig.ResolvFile, netconfig.Resolver{DNS: s.DNS, Search: s.Search}.File(), 0o644)
	b, err := s.Encode()
	if err != nil { // a State is plain values
		f.log.Error("state cannot be encoded", "err", err)
		return
	}
	f.write(f.d.cfg.RunDir, netconfig.StateFile, b, 0o644)
	f.d.mu.Lock()
	same := reflect.DeepEqual(s, f.d.state)
	f.d.state = s
	f.d.mu.Unlock()
	if !same && f.d.cfg.OnState != nil {
		f.d.cfg.OnState(s)
	}
}

// resolver returns the name servers and the search list: those of the
// configuration, or else of the first that names any.
func resolver(c netconfig.Config, is inForce) (dns []netip.Addr, source string, search []string) {
	type given struct {
		dns    []netip.Addr
		search []string
		source string
	}
	from := []given{{c.DNS.Servers, c.DNS.Search, netconfig.FromConfig}}
	if l := is.lease; l != nil {
		from = append(from, given{l.DNS, l.Search, netconfig.FromDHCP})
	}
	if l := is.lease6; l != nil {
		from = append(from, given{l.DNS, l.Search, netconfig.FromDHCP6})
	}
	from = append(from, given{values(is.heard.dns), values(is.heard.search), netconfig.FromRouter})
	for _, g := range from {
		if len(dns) == 0 && len(g.dns) > 0 {
			dns, source = g.dns, g.source
		}
		if len(search) == 0 && len(g.search) > 0 {
			search = g.search
		}
	}
	return dns, source, search
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
