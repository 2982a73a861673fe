package dhcp6

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/parley-meet/parley/services/internal/netconfig"
)

// Bounds of an answer.
const (
	// MinLease is the shortest lease that is taken: a shorter one would be
	// renewed more than once a second.
	MinLease = 4 * time.Second
	// Forever is a lifetime that does not end (RFC 8415, 7.7).
	Forever = math.MaxUint32 * time.Second

	maxServers = 8 // name servers, time servers
	maxSearch  = 6
)

// Lease is what a server has given: an address, or settings alone.
type Lease struct {
	Address netip.Addr // none: settings alone
	Server  netip.Addr // that answered; a link-local address in most cases
	DNS     []netip.Addr
	Search  []string
	NTP     []netip.Addr

	Acquired time.Time // when it was asked for
	// Times from Acquired on: of T1, of T2, of the address's end. Without an
	// address Renew is when the settings are asked for again.
	Renew, Rebind, Length time.Duration

	server []byte // its DUID
}

// Expires returns the lease's end; the zero Time is never.
func (l *Lease) Expires() time.Time {
	if !l.Address.IsValid() || l.Length == Forever {
		return time.Time{}
	}
	return l.Acquired.Add(l.Length)
}

// Over reports whether the address has ended.
func (l *Lease) Over(now time.Time) bool {
	e := l.Expires()
	return !e.IsZero() && !now.Before(e)
}

// State returns the lease's times as the network service publishes them.
func (l *Lease) State() *netconfig.Lease {
	at := func(d time.Duration) time.Time {
		if d == 0 || d >= Forever {
			return time.Time{}
		}
		return l.Acquired.Add(d).UTC().Truncate(time.Second)
	}
	return &netconfig.Lease{Server: l.Server, Acquired: l.Acquired.UTC().Truncate(time.Second), Renew: at(l.Renew), Rebind: at(l.Rebind), Expires: at(l.Length)}
}

// errNone says that the server has no address, which is no error of the message.
var errNone = errors.New("no address")

// statusError is a status that is not success (RFC 8415, 21.13).
type statusError struct {
	code iana.StatusCode
	text string
}

func (e *statusError) Error() string { return fmt.Sprintf("%v: %.80q", e.code, e.text) }

func status(s *dhcpv6.OptStatusCode) error {
	if s == nil || s.StatusCode == iana.StatusSuccess {
		return nil
	}
	return &statusError{s.StatusCode, s.StatusMessage}
}

// settings reads what a message says beside the address. What cannot be used is
// left out.
func settings(m *dhcpv6.Message, l *Lease) {
	l.DNS = hosts(m.Options.DNS())
	l.NTP = hosts(append(m.Options.NTPServers(), m.Options.SNTP()...))
	if labels := m.Options.DomainSearchList(); labels != nil {
		for _, s := range labels.Labels {
			s = strings.ToLower(strings.TrimSuffix(s, "."))
			if netconfig.CheckName(s) == nil && !slices.Contains(l.Search, s) && len(l.Search) < maxSearch {
				l.Search = append(l.Search, s)
			}
		}
	}
}

func hosts(list []net.IP) (out []netip.Addr) {
	for _, ip := range list {
		a, ok := netip.AddrFromSlice(ip)
		if ok && usable(a) && !slices.Contains(out, a) && len(out) < maxServers {
			out = append(out, a)
		}
	}
	return out
}

// usable reports whether a is a machine's address that can be reached without
// naming an interface.
func usable(a netip.Addr) bool {
	return a.Is6() && !a.Is4In6() && a.IsGlobalUnicast()
}

// parse reads the answer of a server to a request for an address that was sent at
// the time acquired.
func (id Identity) parse(m *dhcpv6.Message, from netip.Addr, acquired time.Time) (*Lease, error) {
	if err := status(m.Options.Status()); err != nil {
		return nil, err
	}
	server := m.Options.ServerID()
	if server == nil {
		return nil, errors.New("no server identifier")
	}
	l := &Lease{Server: from.WithZone(""), Acquired: acquired, server: server.ToBytes()}
	settings(m, l)
	for _, ia := range m.Options.IANA() {
		if ia.IaId != id.iaid() {
			continue
		}
		if err := status(ia.Options.Status()); err != nil {
			return nil, err
		}
		for _, a := range ia.Options.Addresses() {
			addr, ok := netip.AddrFromSlice(a.IPv6Addr)
			if !ok || !usable(addr) || status(a.Options.Status()) != nil || a.ValidLifetime < MinLease || a.PreferredLifetime > a.ValidLifetime {
				continue
			}
			l.Address, l.Length = addr, a.ValidLifetime
			return l, l.times(ia.T1, ia.T2, a.PreferredLifetime)
		}
	}
	return l, errNone
}

// times sets T1 and T2 (RFC 8415, 14.2 and 21.4).
func (l *Lease) times(t1, t2, preferred time.Duration) error {
	if t1 > t2 && t2 > 0 {
		return fmt.Errorf("T1 %v after T2 %v", t1, t2)
	}
	if preferred < 2*time.Second {
		preferred = l.Length
	}
	if preferred >= Forever && (t1 == 0 || t1 >= Forever) {
		l.Renew, l.Rebind = Forever, Forever
		return nil
	}
	whole := func(d time.Duration) time.Duration { return max(d.Truncate(time.Second), time.Second) }
	l.Renew, l.Rebind = t1, t2
	if l.Renew == 0 || l.Renew >= l.Length {
		l.Renew = whole(min(preferred, l.Length) / 2)
	}
	if l.Rebind <= l.Renew || l.Rebind >= l.Length {
		l.Rebind = l.Renew + whole((l.Length-l.Renew)*6/10)
	}
	return nil
}

// same reports whether m is of the server of l.
func (l *Lease) same(m *dhcpv6.Message) bool {
	id := m.Options.ServerID()
	return id != nil && bytes.Equal(id.ToBytes(), l.server)
}
