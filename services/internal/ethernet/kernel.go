package ethernet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/parley-meet/parley/services/internal/netconfig"
)

// ErrNoLink says that there is no such interface.
var ErrNoLink = errors.New("no such interface")

// Link is an interface as it is.
type Link struct {
	Index        int
	HardwareAddr net.HardwareAddr
	MTU          int
	Up           bool // administratively
	Carrier      bool
}

// Kernel is what this package needs of Linux: one interface and what belongs
// to it. Its times are counted from the call on.
type Kernel interface {
	// Link returns the interface, or ErrNoLink.
	Link() (Link, error)
	SetUp() error
	SetMTU(bytes int) error

	// Addresses returns the IPv4 addresses, all of them.
	Addresses() ([]netconfig.Address, error)
	// Addresses6 returns the IPv6 addresses without link-local ones.
	Addresses6() ([]Address6, error)
	SetAddress(netconfig.Address) error // adds it, or changes its end
	RemoveAddress(netconfig.Address) error

	// Routes returns the routes that SetRoute has made, in this process or an
	// earlier one, of both families.
	Routes() ([]Route, error)
	// Gateway6 returns the gateway of IPv6's default route, whoever made it; the
	// zero Addr is none.
	Gateway6() (netip.Addr, error)
	SetRoute(Route) error
	RemoveRoute(Route) error

	// Watch calls f with the link's state, and again whenever it changes,
	// until ctx ends (then it returns nil) or watching fails. f is not called
	// with a state that equals the last one.
	Watch(ctx context.Context, f func(Link, error)) error
	// WatchAddresses calls f whenever an address of the interface may have come,
	// gone or changed, until ctx ends (then it returns nil) or watching fails.
	WatchAddresses(ctx context.Context, f func()) error

	// Sysctl reads the interface's parameter of that name, of "ipv4" or "ipv6",
	// and SetSysctl writes it. Without the family in the kernel the error is
	// fs.ErrNotExist.
	Sysctl(family, name string) (string, error)
	SetSysctl(family, name, value string) error

	// Probe asks for a second by ARP who has the address (RFC 5227, 2.1.1);
	// nil is nobody else.
	Probe(ctx context.Context, a netip.Addr) (net.HardwareAddr, error)
	// Announce tells the link that the address is here (RFC 5227, 2.3).
	Announce(a netip.Addr) error
	// Conflicts calls f whenever another machine says that it has one of the
	// addresses (RFC 5227, 2.4), until ctx ends (then it returns nil) or
	// listening fails. Nothing else on the link wakes the process up.
	Conflicts(ctx context.Context, own []netip.Addr, f func(netip.Addr, net.HardwareAddr)) error
	// Advertisements asks for routers and calls f with each thing that one says,
	// until ctx ends (then it returns nil) or listening fails.
	Advertisements(ctx context.Context, f func(Advertisement)) error
}

// Address6 is an IPv6 address as the kernel has it.
type Address6 struct {
	netconfig.Address
	Auto      bool // the kernel made it after a router advertisement
	Tentative bool // the kernel is still asking whether somebody has it
	Duplicate bool // somebody has it: it is not in use
}

// Route is a route and the own address that is used on it.
type Route struct {
	netconfig.Route
	Source netip.Addr // IPv4
	OnLink bool       // the gateway is on the link whatever the addresses say
	Static bool       // of the configuration, not of DHCP
}

// Linux is the Kernel's interface with this name.
type Linux string

// Link implements Kernel.
func (n Linux) Link() (Link, error) {
	l, err := n.link()
	if err != nil {
		return Link{}, err
	}
	return newLink(l.Attrs()), nil
}

func (n Linux) link() (netlink.Link, error) {
	l, err := netlink.LinkByName(string(n))
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil, ErrNoLink
	}
	if err != nil {
		return nil, fmt.Errorf("LinkByName(%s): %w", string(n), err)
	}
	return l, nil
}

func newLink(a *netlink.LinkAttrs) Link {
	return Link{
		Index:        a.Index,
		HardwareAddr: a.HardwareAddr,
		MTU:          a.MTU,
		Up:           a.RawFlags&unix.IFF_UP != 0,
		Carrier:      a.RawFlags&unix.IFF_LOWER_UP != 0,
	}
}

// SetUp implements Kernel.
func (n Linux) SetUp() error {
	l, err := n.link()
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return fmt.Errorf("LinkSetUp(%s): %w", string(n), err)
	}
	return nil
}

// SetMTU implements Kernel.
func (n Linux) SetMTU(bytes int) error {
	l, err := n.link()
	if err != nil {
		return err
	}
	if err := netlink.LinkSetMTU(l, bytes); err != nil {
		return fmt.Errorf("LinkSetMTU(%s, %d): %w", string(n), bytes, err)
	}
	return nil
}

// Watch implements Kernel.
func (n Linux) Watch(ctx context.Context, f func(Link, error)) error {
	done := make(chan struct{})
	updates := make(chan netlink.LinkUpdate)
	var failed error
	err := netlink.LinkSubscribeWithOptions(updates, done, netlink.LinkSubscribeOptions{
		ErrorCallback: func(err error) { failed = err },
	})
	if err != nil {
		close(done)
		return fmt.Errorf("LinkSubscribe: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { close(done) })
	defer func() {
		if stop() {
			close(done)
		}
		for range updates { // until the sender is gone
		}
	}()
	var last Link
	var lastErr error
	report := func() {
		l, err := n.Link()
		same := l.Index == last.Index && l.MTU == last.MTU && l.Up == last.Up && l.Carrier == last.Carrier &&
			l.HardwareAddr.String() == last.HardwareAddr.String() && errors.Is(err, lastErr)
		if last, lastErr = l, err; !same {
			f(l, err)
		}
	}
	lastErr = errors.New("nothing reported yet")
	report()
	for u := range updates {
		if ctx.Err() != nil {
			return nil
		}
		// Updates only say that there is something to look at: of a row of
		// them, and after lost ones, the present counts.
		if u.Attrs().Name == string(n) || u.Attrs().Index == last.Index {
			report()
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("link updates ended: %w", failed)
}

// WatchAddresses implements Kernel.
func (n Linux) WatchAddresses(ctx context.Context, f func()) error {
	done := make(chan struct{})
	updates := make(chan netlink.AddrUpdate)
	var failed error
	err := netlink.AddrSubscribeWithOptions(updates, done, netlink.AddrSubscribeOptions{
		ErrorCallback: func(err error) { failed = err },
	})
	if err != nil {
		close(done)
		return fmt.Errorf("AddrSubscribe: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { close(done) })
	defer func() {
		if stop() {
			close(done)
		}
		for range updates { // until the sender is gone
		}
	}()
	f() // what came before the subscription
	for u := range updates {
		if ctx.Err() != nil {
			return nil
		}
		if l, err := n.link(); err == nil && u.LinkIndex == l.Attrs().Index {
			f()
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("address updates ended: %w", failed)
}

// sysctls is where the kernel's parameters are.
const sysctls = "/proc/sys/net"

// Sysctl implements Kernel.
func (n Linux) Sysctl(family, name string) (string, error) {
	b, err := os.ReadFile(filepath.Join(sysctls, family, "conf", string(n), name))
	return strings.TrimSpace(string(b)), err
}

// SetSysctl implements Kernel. CAP_NET_ADMIN may.
func (n Linux) SetSysctl(family, name, value string) error {
	f, err := os.OpenFile(filepath.Join(sysctls, family, "conf", string(n), name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}
