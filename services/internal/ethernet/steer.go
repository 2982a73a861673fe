package ethernet

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/parley-meet/parley/services/internal/dhcp"
	"github.com/parley-meet/parley/services/internal/netconfig"
)

// releaseLimit is how long giving a lease back may take.
const releaseLimit = 3 * time.Second

// runSteer owns the DHCP client: it starts and ends it as the interface and the
// configuration say.
func (d *Daemon) runSteer(ctx context.Context) error {
	defer func() { d.stop() }() // what is in force stays
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-d.links:
			if err := d.setLink(ctx, e.link, e.err); err != nil {
				return err
			}
		case <-d.steer:
			d.mu.Lock()
			seen := d.seen
			d.mu.Unlock()
			if seen { // else it is not known yet what there is to steer
				d.follow(ctx)
			}
		}
	}
}

// setLink takes a new state of the interface.
func (d *Daemon) setLink(ctx context.Context, l Link, err error) error {
	if err == nil && len(l.HardwareAddr) != 6 {
		err = fmt.Errorf("hardware address %q is not of an Ethernet", l.HardwareAddr.String())
	}
	if err != nil {
		l = Link{}
	}
	d.mu.Lock()
	came := l.Carrier && !d.link.Carrier
	d.link, d.linkErr, d.seen = l, err, true
	if came {
		for _, c := range d.claims { // it may be another link
			c.state = asking
		}
	}
	d.mu.Unlock()
	log := d.cfg.Log.With("interface", d.cfg.Interface)
	if err != nil {
		log.Warn("interface cannot be used", "err", err)
	} else {
		log.Info("link", "up", l.Up, "carrier", l.Carrier, "mtu", l.MTU, "hardwareAddress", l.HardwareAddr.String())
	}
	d.follow(ctx)
	if d.started {
		return nil
	}
	d.started = true
	return d.cfg.Started(d.Detail())
}

// follow has the tasks follow what is wanted on the interface as it is.
func (d *Daemon) follow(ctx context.Context) {
	d.mu.Lock()
	next, gen, l, linkErr := d.next, d.nextGen, d.link, d.linkErr
	d.mu.Unlock()
	key := ""
	if linkErr == nil && next.Eth0.Mode == netconfig.ModeDHCP {
		key = l.HardwareAddr.String() + " " + d.hostname(next)
	}
	other := d.key != key
	var client *dhcp.Client
	var lease *dhcp.Lease // that is held already
	if other {
		if linkErr == nil && key == "" && !d.keeps(next) {
			d.release(ctx) // before the apply task takes the address away
		}
		d.stop()
		d.stop = func() {}
		if key != "" {
			client, lease = d.newClient(l, d.hostname(next))
		}
	}
	// At once: the apply task must not see a configuration without the lease that
	// it goes on with, nor no lease while the address is to stay.
	d.mu.Lock()
	if other {
		d.key, d.client, d.lease, d.leaseMAC = key, client, lease, l.HardwareAddr.String()
	}
	d.want, d.gen = next, gen
	if next.Eth0.Mode != netconfig.ModeDHCP {
		d.forget = true
	}
	d.claimLocked()
	d.mu.Unlock()
	if client != nil {
		d.runClient(ctx, client)
	}
	if linkErr == nil && !l.Up {
		// Its effect comes as an update.
		if err := d.cfg.Kernel.SetUp(); err != nil {
			d.cfg.Log.Error("link does not come up", "interface", d.cfg.Interface, "err", err)
		}
	}
	if d.client != nil {
		d.client.Carrier(l.Up && l.Carrier)
	}
	poke(d.guard)
	poke(d.ears)
	poke(d.routers)
	poke(d.kick)
}

// keeps reports whether the address of the lease is to be static: then it is not
// given back, so that the server gives it to nobody else for a while.
func (d *Daemon) keeps(next netconfig.Config) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lease != nil && d.lease.Address.Addr() == next.Eth0.Address.Addr()
}

// newClient returns a DHCP client with what is known of the hardware address, and
// the lease whose address the interface has.
func (d *Daemon) newClient(l Link, hostname string) (*dhcp.Client, *dhcp.Lease) {
	d.mu.Lock()
	known := d.lease // of a client that ended just now
	if known != nil && d.leaseMAC != l.HardwareAddr.String() {
		known = nil
	}
	d.mu.Unlock()
	held := known != nil
	if !held {
		known, held = d.recall(l.HardwareAddr)
	}
	c := dhcp.New(dhcp.Config{
		Identity: dhcp.Identity{HardwareAddr: l.HardwareAddr, Hostname: hostname},
		Wire:     d.cfg.Wire,
		Host:     &host{d, l.HardwareAddr.String()},
		Known:    known,
		Held:     held,
		Rand:     d.cfg.Rand,
		Log:      d.cfg.Log.With("interface", d.cfg.Interface),
	})
	if !held {
		return c, nil
	}
	return c, known
}

// runClient runs the client until stop.
func (d *Daemon) runClient(ctx context.Context, c *dhcp.Client) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.Run(ctx) // ends with ctx, never with an error
	}()
	d.stop = func() {
		cancel()
		<-done
	}
}

// release has the client, if any, give its lease back.
func (d *Daemon) release(ctx context.Context) {
	if d.client == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, releaseLimit)
	defer cancel()
	if err := d.client.Release(ctx); err != nil {
		d.cfg.Log.Warn("lease is not given back", "interface", d.cfg.Interface, "err", err)
	}
}

// claimLocked begins and ends the claims of the static addresses.
func (d *Daemon) claimLocked() {
	wanted := map[netip.Addr]bool{}
	for _, p := range []netip.Prefix{d.want.Eth0.Address, d.want.Slave} {
		if p.IsValid() && d.linkErr == nil {
			wanted[p.Addr()] = true
		}
	}
	for a := range d.claims {
		if !wanted[a] {
			delete(d.claims, a)
		}
	}
	have, err := d.cfg.Kernel.Addresses()
	if err != nil && len(wanted) > 0 {
		d.cfg.Log.Warn("addresses are not known", "interface", d.cfg.Interface, "err", err)
	}
	for a := range wanted {
		if d.claims[a] != nil {
			continue
		}
		c := &claim{}
		for _, h := range have {
			c.held = c.held || h.Addr() == a
		}
		d.claims[a] = c
	}
}

// setLease sets what is to be applied; nil ends what was, for later starts too.
func (d *Daemon) setLease(l *dhcp.Lease, mac string) {
	d.mu.Lock()
	d.lease, d.leaseMAC, d.forget = l, mac, l == nil
	if l != nil {
		delete(d.clashes, l.Address.Addr())
	}
	d.mu.Unlock()
	poke(d.kick)
}
