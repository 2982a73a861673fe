// Package machine is what the zone controller's and the router's processes know of
// the appliance that they run on: its version, addresses and load, and the
// certificate that browsers are shown.
package machine

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/parley-meet/parley/image/layout"
	"github.com/parley-meet/parley/services/internal/connector"
)

// Version returns the appliance's version, "" where it has none to tell.
func Version() string {
	b, err := os.ReadFile(layout.VersionPath)
	if err != nil {
		return ""
	}
	return version(b)
}

// version reads the line "version=…" of layout.VersionPath.
func version(b []byte) string {
	for line := range bytes.Lines(b) {
		if v, ok := bytes.CutPrefix(line, []byte("version=")); ok {
			return string(bytes.TrimSpace(v))
		}
	}
	return ""
}

// Addresses returns the machine's addresses at which others reach it, in the
// kernel's order: eth0's first, then eth0:0's, then those of IPv6.
func Addresses() []netip.Addr {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var v4, v6 []netip.Addr
	for _, a := range list {
		p, err := netip.ParsePrefix(a.String())
		if err != nil || !connector.Reachable(p.Addr()) {
			continue
		}
		if p.Addr().Is4() {
			v4 = append(v4, p.Addr())
		} else {
			v6 = append(v6, p.Addr())
		}
	}
	return append(v4, v6...)
}

// Controller returns the addresses at which the zone controller of a machine with
// these addresses listens: the one of IPv4 that the settings name, or else the
// first, and all of IPv6. An address that is named and that the machine has not is
// as if it was not named, for DHCP may have given another one.
func Controller(s connector.Settings, machine []netip.Addr) (out []netip.Addr) {
	var first netip.Addr
	for _, a := range machine {
		switch {
		case !a.Is4():
			out = append(out, a)
		case !first.IsValid() || a == s.ZoneController:
			first = a
		}
	}
	if first.IsValid() {
		out = append([]netip.Addr{first}, out...)
	}
	return out
}

// Synced reports whether the clock follows time servers, as PID 1 has told the
// kernel (adjtimex(2), which anybody may ask).
func Synced() bool {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	return err == nil && state != unix.TIME_ERROR
}

// Memory returns the machine's memory in bytes: what is in use, and all of it.
func Memory() (used, total int64) {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return 0, 0
	}
	unit := int64(info.Unit)
	total = int64(info.Totalram) * unit
	return total - int64(info.Freeram+info.Bufferram)*unit, total
}

// Users reads user ids, "102,103".
func Users(list string) ([]uint32, error) {
	var out []uint32
	for s := range strings.SplitSeq(list, ",") {
		n, err := strconv.ParseUint(s, 10, 32)
		if err != nil || n == 0 {
			return nil, fmt.Errorf("users %q: want ids above 0, separated by commas", list)
		}
		out = append(out, uint32(n))
	}
	return out, nil
}

// OwnDir returns the folder in which the named service keeps what must outlive a
// restart; while there is no storage it is one in RAM.
func OwnDir(service string) string {
	dir := layout.PermDir + "/" + service
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return dir
	}
	return layout.RunDir + "/" + service
}
