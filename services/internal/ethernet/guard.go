package ethernet

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/parley-meet/parley/services/internal/netconfig"
)

// A static address is in use only when nobody else has it (RFC 5227):
//
//	            nobody answers
//	 asking ─────────────────────▶ free
//	  ▲  ▲ │ somebody does
//	  │  │ ▼
//	  │ taken   asked again every askAgain
//	  │
//	  └ the carrier came back
//
// An address that the interface has already, or that nobody could be asked
// about without a carrier, is in use while asking.

type claimState int

const (
	asking claimState = iota
	free
	taken
)

// claim is a static address that is wanted.
type claim struct {
	state claimState
	held  bool             // the interface has it
	owner net.HardwareAddr // taken
	next  time.Time        // taken: when it is asked for again
}

// Times of the guard.
const (
	askAgain     = 30 * time.Second // whether a taken address has become free
	clashMemory  = 5 * time.Minute  // a clash is told this long
	defendEvery  = 10 * time.Second // RFC 5227, 1.1: DEFEND_INTERVAL
	maxClashes   = 8                // addresses that are told of
	listenPause  = 5 * time.Second  // before listening again
	clashRefresh = time.Minute      // between two notes of the same clash
)

// clash is another machine's claim to an address of ours.
type clash struct {
	owner    net.HardwareAddr
	at       time.Time
	defended time.Time
}

// usableLocked reports whether the static address may be in use.
func (d *Daemon) usableLocked(a netip.Addr) bool {
	c := d.claims[a]
	return c != nil && (c.state == free || c.state == asking && (c.held || !d.link.Carrier))
}

// duplicatesLocked returns the own addresses that others have.
func (d *Daemon) duplicatesLocked() []netconfig.Duplicate {
	var out []netconfig.Duplicate
	for a, c := range d.claims {
		if c.state == taken || c.state == asking && c.owner != nil {
			out = append(out, netconfig.Duplicate{Address: a, HardwareAddress: c.owner.String()})
		}
	}
	for a, c := range d.clashes {
		same := func(o netconfig.Duplicate) bool { return o.Address == a }
		if !slices.ContainsFunc(out, same) {
			out = append(out, netconfig.Duplicate{Address: a, HardwareAddress: c.owner.String()})
		}
	}
	slices.SortFunc(out, func(a, b netconfig.Duplicate) int { return a.Address.Compare(b.Address) })
	return out
}

// runGuard asks for the static addresses.
func (d *Daemon) runGuard(ctx context.Context) error {
	for {
		a, c, wait := d.ask(time.Now())
		if c == nil {
			var timer <-chan time.Time
			if wait > 0 {
				timer = time.After(wait)
			}
			select {
			case <-ctx.Done():
				return nil
			case <-d.guard:
			case <-timer:
			}
			continue
		}
		owner, err := d.cfg.Kernel.Probe(ctx, a)
		if ctx.Err() != nil {
			return nil
		}
		d.asked(a, c, owner, err)
	}
}

// ask returns the address that is to be asked for now, or how long to wait, 0
// for ever.
func (d *Daemon) ask(now time.Time) (netip.Addr, *claim, time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var next time.Time
	sooner := func(t time.Time) {
		if next.IsZero() || t.Before(next) {
			next = t
		}
	}
	for a, c := range d.clashes {
		if end := c.at.Add(clashMemory); now.Before(end) {
			sooner(end)
		} else {
			delete(d.clashes, a)
			poke(d.kick)
		}
	}
	if d.linkErr == nil && d.link.Carrier {
		for _, p := range []netip.Prefix{d.want.Eth0.Address, d.want.Slave} { // the master first
			c := d.claims[p.Addr()]
			switch {
			case c == nil || c.state == free:
			case c.state == asking || !now.Before(c.next):
				return p.Addr(), c, 0
			default:
				sooner(c.next)
			}
		}
	}
	if next.IsZero() {
		return netip.Addr{}, nil, 0
	}
	return netip.Addr{}, nil, next.Sub(now)
}

// asked takes the answer.
func (d *Daemon) asked(a netip.Addr, c *claim, owner net.HardwareAddr, err error) {
	log := d.cfg.Log.With("interface", d.cfg.Interface, "address", a)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.claims[a] != c || !d.link.Carrier {
		return // not wanted any more, or nobody could answer
	}
	switch {
	case owner != nil:
		if c.state != taken || c.owner.String() != owner.String() {
			log.Error("address is in use by another machine", "machine", owner.String())
		}
		c.state, c.owner, c.next = taken, owner, time.Now().Add(askAgain)
	case err != nil:
		// No reason to stay without an address.
		log.Warn("address not probed", "err", err)
		c.state, c.owner = free, nil
	default:
		log.Info("address is free")
		c.state, c.owner = free, nil
	}
	poke(d.kick)
}

// runConflicts listens for machines that take an address which is in use here.
func (d *Daemon) runConflicts(ctx context.Context) error {
	for ctx.Err() == nil {
		own := d.listenTo()
		listening, cancel := context.WithCancel(ctx)
		ended := make(chan error, 1)
		running := len(own) > 0
		if running {
			go func() { ended <- d.cfg.Kernel.Conflicts(listening, own, d.clash) }()
		}
		var again <-chan time.Time
		for same := true; same; {
			select {
			case <-ctx.Done():
				same = false
			case <-d.ears:
				same = slices.Equal(own, d.listenTo())
			case err := <-ended:
				running = false
				again = time.After(listenPause)
				if ctx.Err() == nil {
					d.cfg.Log.Warn("conflicts are not seen", "interface", d.cfg.Interface, "err", err)
				}
			case <-again:
				same = false
			}
		}
		cancel()
		if running {
			<-ended
		}
	}
	return nil
}

// listenTo returns the addresses in use on a link that works.
func (d *Daemon) listenTo() []netip.Addr {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.linkErr != nil || !d.link.Carrier {
		return nil
	}
	return d.inForce.owns()
}

// clash notes that another machine has an address which is in use here. It stays
// in use, as an administrator or a server wants it, and is defended.
func (d *Daemon) clash(a netip.Addr, owner net.HardwareAddr) {
	now := time.Now()
	d.mu.Lock()
	c, known := d.clashes[a]
	if !known && len(d.clashes) == maxClashes || known && c.owner.String() == owner.String() && now.Sub(c.at) < clashRefresh && now.Sub(c.defended) < defendEvery {
		d.mu.Unlock()
		return
	}
	news := !known || c.owner.String() != owner.String()
	defend := now.Sub(c.defended) >= defendEvery
	c.owner, c.at = owner, now
	if defend {
		c.defended = now
	}
	d.clashes[a] = c
	d.mu.Unlock()
	log := d.cfg.Log.With("interface", d.cfg.Interface, "address", a)
	if news {
		log.Error("another machine uses this address too", "machine", owner.String())
		poke(d.kick)
		poke(d.guard)
	}
	if defend {
		if err := d.cfg.Kernel.Announce(a); err != nil {
			log.Warn("address is not defended", "err", err)
		}
	}
}
