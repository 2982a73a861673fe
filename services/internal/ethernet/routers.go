package ethernet

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/mdlayher/ndp"
	"golang.org/x/net/ipv6"

	"github.com/parley-meet/parley/services/internal/dhcp6"
	"github.com/parley-meet/parley/services/internal/netconfig"
)

// Advertisement is what a router says beside what the kernel uses by itself
// (prefixes, the default route): RFC 4861, 4.2 and RFC 8106.
type Advertisement struct {
	Managed bool // addresses are to be had by DHCPv6
	Other   bool // settings are
	DNS     []Timed[netip.Addr]
	Search  []Timed[string]
}

// Timed is something that holds for a time; 0 takes it back.
type Timed[T any] struct {
	Value    T
	Lifetime time.Duration
}

// Bounds of what is kept of routers: anybody on the link can be one.
const (
	maxRouterDNS    = 8
	maxRouterSearch = 6
)

// Times of asking for routers (RFC 4861, 10).
const (
	solicits     = 3
	solicitEvery = 4 * time.Second
)

// heard is what routers have said.
type heard struct {
	managed, other bool
	dns            []lasting[netip.Addr]
	search         []lasting[string]
}

// lasting is a value with its end; zero is none.
type lasting[T any] struct {
	value T
	until time.Time
}

// add takes an advertisement. That addresses are managed stays: of several
// routers one may not say so.
func (h *heard) add(now time.Time, a Advertisement) {
	h.managed = h.managed || a.Managed
	h.other = h.other || a.Other
	h.dns = renew(now, h.dns, a.DNS, maxRouterDNS)
	h.search = renew(now, h.search, a.Search, maxRouterSearch)
}

func renew[T comparable](now time.Time, have []lasting[T], news []Timed[T], limit int) []lasting[T] {
	have = slices.Clone(have)
	for _, n := range news {
		same := func(h lasting[T]) bool { return h.value == n.Value }
		i := slices.IndexFunc(have, same)
		var end time.Time
		if n.Lifetime < ndp.Infinity {
			end = now.Add(n.Lifetime)
		}
		switch {
		case n.Lifetime == 0:
			have = slices.DeleteFunc(have, same)
		case i >= 0:
			have[i].until = end
		case len(have) < limit:
			have = append(have, lasting[T]{n.Value, end})
		}
	}
	return have
}

// prune forgets what has ended and returns the next end; zero is none.
func (h *heard) prune(now time.Time) (next time.Time) {
	h.dns, next = alive(now, h.dns, next)
	h.search, next = alive(now, h.search, next)
	return next
}

func alive[T any](now time.Time, list []lasting[T], next time.Time) ([]lasting[T], time.Time) {
	var out []lasting[T]
	for _, v := range list {
		if !v.until.IsZero() && !now.Before(v.until) {
			continue
		}
		out = append(out, v)
		if !v.until.IsZero() && (next.IsZero() || v.until.Before(next)) {
			next = v.until
		}
	}
	return out, next
}

func values[T any](list []lasting[T]) (out []T) {
	for _, v := range list {
		out = append(out, v.value)
	}
	return out
}

// mode is what is to be asked of DHCPv6 servers.
func (h *heard) mode() dhcp6.Mode {
	switch {
	case h.managed:
		return dhcp6.Stateful
	case h.other:
		return dhcp6.Stateless
	}
	return dhcp6.Off
}

// host6 is the dhcp6.Host of one client.
type host6 struct{ d *Daemon }

func (h host6) Bind(l *dhcp6.Lease) { h.d.setLease6(l) }
func (h host6) Unbind()             { h.d.setLease6(nil) }

func (d *Daemon) setLease6(l *dhcp6.Lease) {
	d.mu.Lock()
	d.lease6, d.known6 = l, true
	d.mu.Unlock()
	poke(d.kick)
}

// runRouters listens to routers where IPv6 is automatic, and owns the DHCPv6
// client that asks for what they say is to be had.
func (d *Daemon) runRouters(ctx context.Context) error {
	mac := ""
	stopClient, stopListening := func() {}, func() {}
	defer func() { stopClient(); stopListening() }()
	var ended chan error // nil: not listening
	var again <-chan time.Time
	for {
		d.mu.Lock()
		now := time.Now()
		auto := d.gen > 0 && d.linkErr == nil && d.want.IPv6.Mode == netconfig.ModeAuto
		up, link := d.link.Carrier, d.link
		if !auto {
			d.heard = heard{}
		}
		next := d.heard.prune(now)
		mode := d.heard.mode()
		client := d.client6
		d.mu.Unlock()

		if client != nil && d.linkGone(mac) {
			stopClient()
			stopClient, client, mac = func() {}, nil, ""
			d.setClient6(nil)
		}
		if auto && client == nil && mode != dhcp6.Off {
			mac = link.HardwareAddr.String()
			client, stopClient = d.startClient6(ctx, link)
			d.setClient6(client)
		}
		if client != nil {
			client.Follow(up, mode)
		}
		switch {
		case auto && up && ended == nil && again == nil:
			ended, stopListening = d.hear(ctx)
		case !(auto && up) && ended != nil:
			stopListening()
			stopListening, ended = func() {}, nil
		}
		var prune <-chan time.Time
		if !next.IsZero() {
			prune = time.After(next.Sub(now))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-d.routers:
		case <-again:
			again = nil
		case <-prune:
			poke(d.kick)
		case err := <-ended:
			ended, again = nil, time.After(listenPause)
			if ctx.Err() == nil {
				d.cfg.Log.Warn("routers are not heard", "interface", d.cfg.Interface, "err", err)
			}
		}
	}
}

// linkGone reports whether the interface has another hardware address than mac.
func (d *Daemon) linkGone(mac string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.linkErr != nil || d.link.HardwareAddr.String() != mac
}

func (d *Daemon) setClient6(c *dhcp6.Client) {
	d.mu.Lock()
	if d.client6 = c; c == nil {
		d.lease6 = nil
	}
	d.mu.Unlock()
	poke(d.kick)
}

func (d *Daemon) startClient6(ctx context.Context, l Link) (*dhcp6.Client, func()) {
	seed := d.seed // the DHCP client's generator is its own
	c := dhcp6.New(dhcp6.Config{
		Identity: dhcp6.Identity{HardwareAddr: l.HardwareAddr},
		Wire:     d.cfg.Wire6,
		Host:     host6{d},
		Rand:     rand.New(rand.NewPCG(seed, seed>>1)),
		Log:      d.cfg.Log.With("interface", d.cfg.Interface, "protocol", "DHCPv6"),
	})
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.Run(ctx) // ends with ctx, never with an error
	}()
	return c, func() {
		cancel()
		<-done
	}
}

// hear listens until the returned function is called. How it ended by itself
// comes through the channel.
func (d *Daemon) hear(ctx context.Context) (ended chan error, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended = make(chan error, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		ended <- d.cfg.Kernel.Advertisements(ctx, func(a Advertisement) {
			d.mu.Lock()
			d.heard.add(time.Now(), a)
			d.mu.Unlock()
			poke(d.routers)
			poke(d.kick)
		})
	}()
	return ended, func() {
		cancel()
		<-done
	}
}

// Advertisements implements Kernel.
func (n Linux) Advertisements(ctx context.Context, f func(Advertisement)) error {
	ifc, err := net.InterfaceByName(string(n))
	if err != nil {
		return fmt.Errorf("interface %s: %w", string(n), err)
	}
	c, _, err := ndp.Listen(ifc, ndp.Unspecified)
	if err != nil {
		return fmt.Errorf("ICMPv6 socket on %s: %w", string(n), err)
	}
	defer c.Close()
	var filter ipv6.ICMPFilter
	filter.SetAll(true)
	filter.Accept(ipv6.ICMPTypeRouterAdvertisement)
	err = errors.Join(c.SetICMPFilter(&filter), c.SetControlMessage(ipv6.FlagHopLimit|ipv6.FlagInterface, true))
	if err != nil {
		return fmt.Errorf("ICMPv6 socket on %s: %w", string(n), err)
	}
	defer context.AfterFunc(ctx, func() { c.SetReadDeadline(time.Unix(1, 0)) })()
	for asked := 0; ; {
		if asked < solicits {
			// Without a link-local address yet it does not leave; then the next
			// one does, or the router speaks by itself.
			c.WriteTo(&ndp.RouterSolicitation{}, nil, netip.MustParseAddr("ff02::2"))
			asked++
			c.SetReadDeadline(time.Now().Add(solicitEvery))
		} else {
			c.SetReadDeadline(time.Time{})
		}
		if ctx.Err() != nil { // its deadline may just have been taken away
			return nil
		}
		for {
			m, cm, from, err := c.ReadFrom()
			if ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return fmt.Errorf("ICMPv6 on %s: %w", string(n), err)
			}
			ra, ok := m.(*ndp.RouterAdvertisement)
			// RFC 4861, 6.1.2: only neighbours may.
			if ok && cm != nil && cm.HopLimit == ndp.HopLimit && cm.IfIndex == ifc.Index && from.IsLinkLocalUnicast() {
				asked = solicits
				f(advertisement(ra, string(n)))
			}
		}
	}
}

// advertisement takes what is used. What cannot be is left out.
func advertisement(ra *ndp.RouterAdvertisement, zone string) Advertisement {
	a := Advertisement{Managed: ra.ManagedConfiguration, Other: ra.OtherConfiguration}
	for _, o := range ra.Options {
		switch o := o.(type) {
		case *ndp.RecursiveDNSServer:
			for _, s := range o.Servers {
				if s.IsLinkLocalUnicast() && !s.Is4In6() {
					s = s.WithZone(zone)
				} else if !s.IsGlobalUnicast() || s.Is4In6() {
					continue
				}
				if len(a.DNS) < maxRouterDNS {
					a.DNS = append(a.DNS, Timed[netip.Addr]{s, o.Lifetime})
				}
			}
		case *ndp.DNSSearchList:
			for _, s := range o.DomainNames {
				s = strings.ToLower(strings.TrimSuffix(s, "."))
				if netconfig.CheckName(s) == nil && len(a.Search) < maxRouterSearch {
					a.Search = append(a.Search, Timed[string]{s, o.Lifetime})
				}
			}
		}
	}
	return a
}
