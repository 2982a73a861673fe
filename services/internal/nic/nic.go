// Package nic lists the machine's network interfaces with their addresses and
// counters. It only reads: netlink for the addresses, /sys/class/net for the
// counters.
package nic

import (
	"cmp"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Counters are those of one direction, since the interface was made.
type Counters struct {
	Bytes, Packets, Errors, Dropped int64
}

// Interface is a network interface as it stands.
type Interface struct {
	Name      string
	MAC       net.HardwareAddr
	MTU       int    // bytes
	State     string // operstate: "up", "down", "unknown"
	Loopback  bool
	Addresses []netip.Prefix // IPv4 first
	RX, TX    Counters
}

// sysfs is where the counters are.
const sysfs = "/sys/class/net"

// List returns the interfaces, the loopback last.
func List() ([]Interface, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("network interfaces: %w", err)
	}
	var out []Interface
	for _, i := range all {
		n := Interface{Name: i.Name, MAC: i.HardwareAddr, MTU: i.MTU, Loopback: i.Flags&net.FlagLoopback != 0}
		addrs, err := i.Addrs()
		if err != nil {
			return nil, fmt.Errorf("addresses of %s: %w", i.Name, err)
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				n.Addresses = append(n.Addresses, p)
			}
		}
		slices.SortStableFunc(n.Addresses, func(a, b netip.Prefix) int {
			return cmp.Compare(a.Addr().BitLen(), b.Addr().BitLen())
		})
		n.read(os.DirFS(sysfs))
		out = append(out, n)
	}
	slices.SortStableFunc(out, func(a, b Interface) int {
		return cmp.Compare(loopbackLast(a), loopbackLast(b))
	})
	return out, nil
}

func loopbackLast(i Interface) int {
	if i.Loopback {
		return 1
	}
	return 0
}

// read fills in what sysfs knows. A counter that cannot be read stays 0: the
// interface may just have gone.
func (i *Interface) read(sys fs.FS) {
	i.State = "unknown"
	if b, err := fs.ReadFile(sys, i.Name+"/operstate"); err == nil {
		i.State = strings.TrimSpace(string(b))
	}
	for _, c := range []struct {
		name string
		to   *int64
	}{
		{"rx_bytes", &i.RX.Bytes}, {"rx_packets", &i.RX.Packets}, {"rx_errors", &i.RX.Errors}, {"rx_dropped", &i.RX.Dropped},
		{"tx_bytes", &i.TX.Bytes}, {"tx_packets", &i.TX.Packets}, {"tx_errors", &i.TX.Errors}, {"tx_dropped", &i.TX.Dropped},
	} {
		b, err := fs.ReadFile(sys, i.Name+"/statistics/"+c.name)
		if err != nil {
			continue
		}
		if n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err == nil {
			*c.to = n
		}
	}
}

// Reachable returns the addresses at which others reach the machine: neither
// loopback nor link-local, IPv4 first.
func Reachable(list []Interface) []netip.Addr {
	var out []netip.Addr
	for _, i := range list {
		for _, p := range i.Addresses {
			if a := p.Addr(); a.IsGlobalUnicast() && !i.Loopback {
				out = append(out, a)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b netip.Addr) int { return cmp.Compare(a.BitLen(), b.BitLen()) })
	return out
}
