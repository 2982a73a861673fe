package ethernet

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/parley-meet/parley/services/internal/netconfig"
)

// forever is the kernel's lifetime of an address without an end, in seconds.
const forever = 0xffffffff

// Addresses implements Kernel.
func (n Linux) Addresses() ([]netconfig.Address, error) {
	list, err := n.addresses(netlink.FAMILY_V4)
	var out []netconfig.Address
	for _, a := range list {
		if p, ok := prefix(a.IPNet); ok {
			addr := netconfig.Address{Prefix: p, Until: until(a)}
			if a.Label != string(n) {
				addr.Label = a.Label
			}
			out = append(out, addr)
		}
	}
	return out, err
}

// Addresses6 implements Kernel. What this package has given differs from what
// the kernel makes: it has no end, or no route of its network (see SetAddress).
func (n Linux) Addresses6() ([]Address6, error) {
	list, err := n.addresses(netlink.FAMILY_V6)
	var out []Address6
	for _, a := range list {
		p, ok := prefix(a.IPNet)
		if !ok || p.Addr().IsLinkLocalUnicast() {
			continue
		}
		out = append(out, Address6{
			Address:   netconfig.Address{Prefix: p, Until: until(a)},
			Auto:      a.Flags&(unix.IFA_F_PERMANENT|unix.IFA_F_NOPREFIXROUTE) == 0,
			Tentative: a.Flags&unix.IFA_F_TENTATIVE != 0 && a.Flags&unix.IFA_F_DADFAILED == 0,
			Duplicate: a.Flags&unix.IFA_F_DADFAILED != 0,
		})
	}
	return out, err
}

func (n Linux) addresses(family int) ([]netlink.Addr, error) {
	l, err := n.link()
	if err != nil {
		return nil, err
	}
	list, err := netlink.AddrList(l, family)
	if err != nil {
		return nil, fmt.Errorf("AddrList(%s): %w", string(n), err)
	}
	return list, nil
}

func until(a netlink.Addr) time.Time {
	if a.ValidLft == forever || a.ValidLft == 0 && a.Flags&unix.IFA_F_PERMANENT != 0 {
		return time.Time{}
	}
	return time.Now().Add(time.Duration(a.ValidLft) * time.Second)
}

// prefix converts a network, with its host bits.
func prefix(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	a, ok := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(a.Unmap(), bits), ok
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// SetAddress implements Kernel. The kernel removes the address by itself at its
// end, even when this process is gone. An IPv6 address with an end is one of
// DHCPv6, which says nothing of networks: routers do (RFC 8415, 21.6).
func (n Linux) SetAddress(a netconfig.Address) error {
	l, err := n.link()
	if err != nil {
		return err
	}
	na := &netlink.Addr{IPNet: ipNet(a.Prefix), Label: a.Label, ValidLft: forever, PreferedLft: forever}
	if !a.Until.IsZero() {
		na.ValidLft = min(max(int(time.Until(a.Until)/time.Second), 1), forever-1)
		na.PreferedLft = na.ValidLft
		if a.Addr().Is6() {
			na.Flags = unix.IFA_F_NOPREFIXROUTE
		}
	}
	if err := netlink.AddrReplace(l, na); err != nil {
		return fmt.Errorf("AddrReplace(%s, %v): %w", string(n), a.Prefix, err)
	}
	return nil
}

// RemoveAddress implements Kernel.
func (n Linux) RemoveAddress(a netconfig.Address) error {
	l, err := n.link()
	if err != nil {
		return err
	}
	err = netlink.AddrDel(l, &netlink.Addr{IPNet: ipNet(a.Prefix)})
	if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) { // its end came first
		return fmt.Errorf("AddrDel(%s, %v): %w", string(n), a.Prefix, err)
	}
	return nil
}
