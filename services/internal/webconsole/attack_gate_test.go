package webconsole

import (
	"net"
	"net/netip"
	"testing"
)

// from is a connection from an address, of which nothing but that is asked.
type from struct {
	net.Conn
	addr   string
	closed *int
}

func (f from) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(f.addr), 40000))
}

func (f from) Close() error { *f.closed++; return nil }

// Whoever opens connections without end pushes his own out: the first of another
// stays until it has sent its request, be it in the same network of IPv6.
func TestGateIsFair(t *testing.T) {
	for name, x := range map[string]struct {
		victim    string
		strangers []string
	}{
		"one neighbour": {"2001:db8::7", []string{"2001:db8::66"}},
		"many addresses": {"192.0.2.7", []string{"198.51.100.1", "198.51.100.2", "198.51.100.3", "198.51.100.4", "198.51.100.5",
			"198.51.100.6", "198.51.100.7", "198.51.100.8", "2001:db8:1::1", "2001:db8:2::1"}},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGate()
			mine, theirs := 0, 0
			for range 2 {
				if g.admit(from{addr: x.victim, closed: &mine}) == nil {
					t.Fatal("not let in")
				}
			}
			for i := range 10 * maxConns {
				g.admit(from{addr: x.strangers[i%len(x.strangers)], closed: &theirs})
			}
			if mine != 0 {
				t.Errorf("%d of two connections were closed for those of others", mine)
			}
			if n := len(g.all); n > maxConns || n != 10*maxConns+2-theirs {
				t.Errorf("%d connections, %d closed", n, theirs)
			}
			if g.admit(from{addr: x.victim, closed: &mine}) == nil || mine != 0 {
				t.Error("another one is turned away, or costs an old one")
			}
		})
	}
}
