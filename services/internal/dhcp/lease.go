package dhcp

import (
	"encoding/json"
	"fmt"
	"math"
	"net"
	"net/netip"
	"time"

	"github.com/parley-meet/parley/services/internal/netconfig"
)

// Bounds of a lease.
const (
	// MinLease is the shortest lease that is taken: a shorter one would be
	// renewed more than once a second.
	MinLease = 4 * time.Second
	// Forever is the length of a lease that does not end (RFC 2131, 3.3).
	Forever = math.MaxUint32 * time.Second

	maxAddresses = 8  // name servers, time servers
	maxRoutes    = 64 // classless static routes
	maxSearch    = 6  // search domains
)

// Lease is what a server has given.
type Lease struct {
	Address  netip.Prefix
	Server   netip.Addr
	Routes   []netconfig.Route // the default route included
	DNS      []netip.Addr
	Search   []string
	NTP      []netip.Addr
	MTU      int    // bytes; 0: none given
	Hostname string // that the server proposes
	Domain   string // that the server names

	Acquired time.Time // when it was asked for (RFC 2131, 4.4.1)
	// Times from Acquired on, in whole seconds: of T1, of T2, of the end.
	Renew, Rebind, Length time.Duration
}

// Expires returns the lease's end; the zero Time is never.
func (l *Lease) Expires() time.Time { return l.at(l.Length) }

// at returns the time d after Acquired, none in a lease that does not end.
func (l *Lease) at(d time.Duration) time.Time {
	if l.Length == Forever {
		return time.Time{}
	}
	return l.Acquired.Add(d)
}

// Over reports whether the lease has ended.
func (l *Lease) Over(now time.Time) bool {
	e := l.Expires()
	return !e.IsZero() && !now.Before(e)
}

// State returns the lease's times as the network service publishes them.
func (l *Lease) State() *netconfig.Lease {
	utc := func(t time.Time) time.Time {
		if t.IsZero() {
			return t
		}
		return t.UTC().Truncate(time.Second)
	}
	return &netconfig.Lease{
		Server:   l.Server,
		Acquired: utc(l.Acquired),
		Renew:    utc(l.at(l.Renew)),
		Rebind:   utc(l.at(l.Rebind)),
		Expires:  utc(l.Expires()),
	}
}

// Interface returns the configuration that the lease asks for.
func (l *Lease) Interface() netconfig.Interface {
	return netconfig.Interface{
		Addresses: []netconfig.Address{{Prefix: l.Address, Until: l.Expires()}},
		Routes:    l.Routes,
		MTU:       l.MTU,
	}
}

// check returns an error unless everything in the lease may be used.
func (l *Lease) check() error {
	if err := netconfig.CheckAddress(l.Address); err != nil {
		return fmt.Errorf("address: %w", err)
	}
	if err := netconfig.CheckHost(l.Server); err != nil {
		return fmt.Errorf("server: %w", err)
	}
	if err := l.checkTimes(); err != nil {
		return err
	}
	if len(l.Routes) > maxRoutes || len(l.DNS) > maxAddresses || len(l.NTP) > maxAddresses || len(l.Search) > maxSearch {
		return fmt.Errorf("%d routes, %d DNS, %d NTP servers, %d search domains, want at most %d, %d, %d, %d",
			len(l.Routes), len(l.DNS), len(l.NTP), len(l.Search), maxRoutes, maxAddresses, maxAddresses, maxSearch)
	}
	for _, r := range l.Routes {
		if err := netconfig.CheckRoute(r, l.Address.Addr()); err != nil {
			return err
		}
	}
	for _, list := range [][]netip.Addr{l.DNS, l.NTP} {
		for _, a := range list {
			if err := netconfig.CheckHost(a); err != nil {
				return err
			}
		}
	}
	for _, s := range l.Search {
		if err := netconfig.CheckName(s); err != nil {
			return err
		}
	}
	for _, s := range []string{l.Hostname, l.Domain} {
		if s == "" {
			continue
		}
		if err := netconfig.CheckName(s); err != nil {
			return err
		}
	}
	if l.MTU != 0 {
		return checkMTU(l.MTU)
	}
	return nil
}

func (l *Lease) checkTimes() error {
	if l.Length < MinLease || l.Length > Forever {
		return fmt.Errorf("lease of %v, want %v to %v", l.Length, MinLease, Forever)
	}
	if l.Renew <= 0 || l.Rebind <= l.Renew || l.Length <= l.Rebind {
		return fmt.Errorf("renew after %v, rebind after %v, end after %v: want them to rise", l.Renew, l.Rebind, l.Length)
	}
	return nil
}

func checkMTU(n int) error {
	if n < netconfig.MinMTU || n > netconfig.MaxMTU {
		return fmt.Errorf("MTU %d, want %d to %d", n, netconfig.MinMTU, netconfig.MaxMTU)
	}
	return nil
}

// MaxFileSize is the largest lease file in bytes that is read.
const MaxFileSize = 64 << 10

const fileVersion = 1

// leaseFile is the schema of the file in which a lease outlives a restart.
type leaseFile struct {
	Version         int               `json:"version"`
	HardwareAddress string            `json:"hardwareAddress"`
	Address         netip.Prefix      `json:"address"`
	Server          netip.Addr        `json:"server"`
	Routes          []netconfig.Route `json:"routes,omitempty"`
	DNS             []netip.Addr      `json:"dns,omitempty"`
	Search          []string          `json:"search,omitempty"`
	NTP             []netip.Addr      `json:"ntp,omitempty"`
	MTU             int               `json:"mtu,omitempty"`
	Hostname        string            `json:"hostname,omitempty"`
	Domain          string            `json:"domain,omitempty"`
	Acquired        time.Time         `json:"acquired"`
	RenewSeconds    uint32            `json:"renewSeconds"`
	RebindSeconds   uint32            `json:"rebindSeconds"`
	LengthSeconds   uint32            `json:"lengthSeconds"`
}

// Encode returns the file that remembers the lease of the interface with the
// hardware address mac.
func (l *Lease) Encode(mac net.HardwareAddr) ([]byte, error) {
	f := leaseFile{
		Version:         fileVersion,
		HardwareAddress: mac.String(),
		Address:         l.Address,
		Server:          l.Server,
		Routes:          l.Routes,
		DNS:             l.DNS,
		Search:          l.Search,
		NTP:             l.NTP,
		MTU:             l.MTU,
		Hostname:        l.Hostname,
		Domain:          l.Domain,
		Acquired:        l.Acquired.UTC(),
		RenewSeconds:    uint32(l.Renew / time.Second),
		RebindSeconds:   uint32(l.Rebind / time.Second),
		LengthSeconds:   uint32(l.Length / time.Second),
	}
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return nil, err
	}
	return append(b, '\n'), nil
}

// Decode reads such a file. A lease of another hardware address (the machine
// was cloned), of the future (the clock was set back) or with anything that
// Parse would not take is an error. The lease may be over. Its times count from
// now's clock, so that a later step of the wall clock does not move its end.
func Decode(b []byte, mac net.HardwareAddr, now time.Time) (*Lease, error) {
	var f leaseFile
	if err := netconfig.DecodeVersion(b, fileVersion, MaxFileSize, &f); err != nil {
		return nil, err
	}
	if f.HardwareAddress != mac.String() {
		return nil, fmt.Errorf("lease of hardware address %q, want %q", f.HardwareAddress, mac)
	}
	l := &Lease{
		Address:  f.Address,
		Server:   f.Server,
		Routes:   f.Routes,
		DNS:      f.DNS,
		Search:   f.Search,
		NTP:      f.NTP,
		MTU:      f.MTU,
		Hostname: f.Hostname,
		Domain:   f.Domain,
		Renew:    time.Duration(f.RenewSeconds) * time.Second,
		Rebind:   time.Duration(f.RebindSeconds) * time.Second,
		Length:   time.Duration(f.LengthSeconds) * time.Second,
	}
	age := now.Round(0).Sub(f.Acquired)
	if age < 0 {
		return nil, fmt.Errorf("lease acquired at %v, in the future", f.Acquired)
	}
	l.Acquired = now.Add(-age)
	if err := l.check(); err != nil {
		return nil, err
	}
	return l, nil
}
