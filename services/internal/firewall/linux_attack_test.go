package firewall

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/parley-meet/parley/services/internal/labtest"
)

// padding is an extension header of IPv6 (RFC 8200, 4.2) that says nothing.
const padding = "\x00\x00\x01\x04\x00\x00\x00\x00"

// send tries a datagram of so many bytes, with a header of extension before the
// UDP one unless option is 0.
func (l *lab) send(h *labtest.Host, version, port string, size, option int, wait time.Duration) error {
	a := boxAddr[slices.Index(versions, version)].Addr()
	return h.Do(func() error {
		c, err := net.Dial("udp", net.JoinHostPort(a.String(), port))
		if err != nil {
			return err
		}
		defer c.Close()
		if option != 0 {
			raw, err := c.(*net.UDPConn).SyscallConn()
			if err != nil {
				return err
			}
			var serr error
			if err := raw.Control(func(fd uintptr) {
				serr = unix.SetsockoptString(int(fd), unix.IPPROTO_IPV6, option, padding)
			}); err != nil || serr != nil {
				l.t.Fatal(err, serr)
			}
		}
		c.SetDeadline(time.Now().Add(wait))
		if _, err := c.Write(bytes.Repeat([]byte("x"), size)); err != nil {
			return err
		}
		_, err = io.ReadFull(c, make([]byte, 1))
		return err
	})
}

// wait is how long for what need not come.
func wait(exotic bool) time.Duration {
	if exotic {
		return impatience
	}
	return patience
}

// Fragments and extension headers get by no list and to no port that is closed,
// and do not keep those out who are let in.
func TestLinuxHiddenPorts(t *testing.T) {
	l := newLab(t)
	only := []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("2001:db8::1/128")}
	l.apply(map[string][]netip.Prefix{Media: only})
	const whole, parts = 100, 1900 // bytes, of a link's 1500
	for _, x := range []struct {
		version      string
		size, option int
	}{
		{"IPv4", parts, 0}, {"IPv6", parts, 0},
		{"IPv6", whole, unix.IPV6_DSTOPTS}, {"IPv6", whole, unix.IPV6_HOPOPTS}, {"IPv6", parts, unix.IPV6_DSTOPTS}, {"IPv6", parts, unix.IPV6_HOPOPTS},
	} {
		// Destination options in fragments, which nobody sends, are dropped from
		// everybody.
		exotic := x.size == parts && x.option == unix.IPV6_DSTOPTS
		if err := l.send(l.one, x.version, "8801", x.size, x.option, wait(exotic)); err != nil && !exotic {
			t.Errorf("%+v from who may: %v", x, err)
		}
		before := l.dropped()
		if err := l.send(l.two, x.version, "8801", x.size, x.option, impatience); err == nil {
			t.Errorf("%+v gets by the list", x)
		}
		if err := l.send(l.one, x.version, "9999", x.size, x.option, impatience); err == nil {
			t.Errorf("%+v gets to a port that is closed", x)
		}
		if n := l.dropped(); n < before+2 {
			t.Errorf("%+v: %d packets are counted, want 2", x, n-before)
		}
	}
}
