// Package ethernet keeps one Ethernet interface of Linux as a netconfig.Config
// wants it: it brings the link up, follows its carrier, has DHCP clients ask for
// addresses where that is wanted, makes sure that nobody else has those that an
// administrator chose, and makes the kernel agree.
//
//	Set ───┐                ┌ carrier ─▶ dhcp.Client ── lease ─┐
//	       ├▶ steering task ┤                                  ├▶ apply task ─▶ kernel, files
//	Watch ─┘                ├ static ──▶ guard task ── free ───┤
//	                        └ routers ─▶ dhcp6.Client ─ lease ─┘
//
// Addresses of IPv6 that routers make up are the kernel's work (SLAAC); what they
// say of name servers and DHCPv6 is heard here.
//
// The interface is this package's alone: addresses that it did not ask for are
// removed. When the process ends, everything stays in force until the lease
// ends, so that a restarted process goes on where the last one was.
//
// Files, written whenever what they say changes: netconfig.StateFile and
// netconfig.ResolvFile in RunDir, netconfig.LeaseFile in PermDir. A folder that
// cannot be written to is logged; the network works without.
package ethernet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/parley-meet/parley/image/liveness"
	"github.com/parley-meet/parley/services/internal/dhcp"
	"github.com/parley-meet/parley/services/internal/dhcp6"
	"github.com/parley-meet/parley/services/internal/netconfig"
)

// Config is what a Daemon is made of.
type Config struct {
	Interface string
	Hostname  string // told to DHCP servers when the configuration names none; "": none
	RunDir    string // of state and resolver file
	PermDir   string // of the lease
	Kernel    Kernel
	Wire      dhcp.Wire
	Wire6     dhcp6.Wire // nil: sockets of the interface
	Rand      *rand.Rand
	Log       *slog.Logger
	// Started is called once, when the link was asked to come up and the DHCP
	// client, if there is an interface and it is wanted, runs.
	Started func(detail string) error
	// OnState, if any, is called with each new State, by one goroutine, which
	// applies nothing until it returns.
	OnState func(netconfig.State)
}

// Times of the loops.
const (
	retryMin   = time.Second // after a configuration that could not be applied
	retryMax   = 30 * time.Second
	watchPause = time.Second // before watching again
)

// Daemon configures an interface while its Run runs.
type Daemon struct {
	cfg     Config
	kick    chan struct{}  // the apply task has something to do
	steer   chan struct{}  // Set was called
	guard   chan struct{}  // the guard task has something to do
	ears    chan struct{}  // there may be other conflicts to listen for
	routers chan struct{}  // there may be something to ask routers for
	links   chan linkEvent // from watching to steering
	alive   chan chan struct{}

	seed uint64 // of the DHCPv6 client's generator

	// Of the steering task alone:
	key     string // of the client: hardware address and name
	stop    func() // ends it
	started bool

	mu       sync.Mutex
	next     netconfig.Config // Set last
	nextGen  int              // how often Set has changed it
	want     netconfig.Config // that the tasks follow
	gen      int              // of want; 0: none yet
	seen     bool             // the link was reported
	client   *dhcp.Client     // nil: no interface, or no DHCP
	link     Link
	linkErr  error
	lease    *dhcp.Lease // wanted; nil: none
	leaseMAC string
	forget   bool // the remembered lease is void
	claims   map[netip.Addr]*claim
	clashes  map[netip.Addr]clash // with addresses in use, or that DHCP gave
	client6  *dhcp6.Client        // nil: none yet
	lease6   *dhcp6.Lease
	known6   bool // lease6 says what DHCPv6 gives; else it may have given something to an earlier process
	heard    heard
	inForce  inForce
	problem  error         // of the last Apply
	done     int           // generation that was applied, or not
	doneErr  error         // why not
	changed  chan struct{} // closed when done or doneErr changes
	state    netconfig.State
}

type linkEvent struct {
	link Link
	err  error
}

// inForce is what the kernel has of what is wanted.
type inForce struct {
	lease  *dhcp.Lease  // whose address is the master's
	master netip.Prefix // none: zero
	slave  netip.Prefix
	v6     []netip.Prefix
	lease6 *dhcp6.Lease
	heard  heard
	gw6    netip.Addr
	routes []netconfig.Route // without DHCP's
}

// owns are the IPv4 addresses.
func (f inForce) owns() (out []netip.Addr) {
	for _, p := range []netip.Prefix{f.master, f.slave} {
		if p.IsValid() {
			out = append(out, p.Addr())
		}
	}
	return out
}

// New returns a daemon that does nothing yet. Without Set it follows
// netconfig.DefaultConfig.
func New(cfg Config) *Daemon {
	if cfg.Wire6 == nil {
		cfg.Wire6 = dhcp6.Sockets{Interface: cfg.Interface}
	}
	return &Daemon{
		cfg:     cfg,
		kick:    make(chan struct{}, 1),
		steer:   make(chan struct{}, 1),
		guard:   make(chan struct{}, 1),
		ears:    make(chan struct{}, 1),
		routers: make(chan struct{}, 1),
		links:   make(chan linkEvent),
		seed:    cfg.Rand.Uint64(),
		alive:   make(chan chan struct{}),
		next:    netconfig.DefaultConfig(),
		nextGen: 1,
		want:    netconfig.DefaultConfig(),
		stop:    func() {},
		linkErr: ErrNoLink,
		claims:  map[netip.Addr]*claim{},
		clashes: map[netip.Addr]clash{},
		changed: make(chan struct{}),
	}
}

// Run works until ctx ends, and then returns nil.
func (d *Daemon) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return d.runLink(ctx) })
	g.Go(func() error { return d.runAddresses(ctx) })
	g.Go(func() error { return d.runSteer(ctx) })
	g.Go(func() error { return d.runGuard(ctx) })
	g.Go(func() error { return d.runConflicts(ctx) })
	g.Go(func() error { return d.runRouters(ctx) })
	g.Go(func() error { return d.runApply(ctx) })
	return g.Wait()
}

// Set says what is wanted from now on. It does not wait (see Applied), and what
// is wanted already changes nothing. c must be one that netconfig has checked.
func (d *Daemon) Set(c netconfig.Config) {
	d.mu.Lock()
	if d.nextGen > 1 && reflect.DeepEqual(c, d.next) {
		d.mu.Unlock()
		return
	}
	d.next = c
	d.nextGen++
	d.mu.Unlock()
	poke(d.steer)
}

// poke wakes a task up.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it has not looked at the last change yet
	}
}

// Applied returns when what was Set last is in force: static addresses were
// found free and the kernel has them, or a DHCP client was started. An error
// says what is not in force; it may come into force later all the same. Without
// a carrier addresses are taken unasked, and asked for when it comes.
func (d *Daemon) Applied(ctx context.Context) error {
	d.mu.Lock()
	gen := d.nextGen
	d.mu.Unlock()
	for {
		d.mu.Lock()
		done, err, changed := d.done, d.doneErr, d.changed
		d.mu.Unlock()
		if done >= gen {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// State returns what is in force.
func (d *Daemon) State() netconfig.State {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.state
}

// runLink follows the interface.
func (d *Daemon) runLink(ctx context.Context) error {
	return d.watching(ctx, "link", func(ctx context.Context) error {
		return d.cfg.Kernel.Watch(ctx, func(l Link, err error) {
			select {
			case d.links <- linkEvent{l, err}:
			case <-ctx.Done():
			}
		})
	})
}

// runAddresses has the apply task look whenever the kernel's addresses change:
// those that routers give come that way, and what another hand took is given
// back.
func (d *Daemon) runAddresses(ctx context.Context) error {
	return d.watching(ctx, "addresses", func(ctx context.Context) error {
		return d.cfg.Kernel.WatchAddresses(ctx, func() { poke(d.kick) })
	})
}

// watching calls watch again and again until ctx ends.
func (d *Daemon) watching(ctx context.Context, what string, watch func(context.Context) error) error {
	for {
		err := watch(ctx)
		if ctx.Err() != nil {
			return nil
		}
		d.cfg.Log.Warn("watched anew", "what", what, "interface", d.cfg.Interface, "err", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(watchPause):
		}
	}
}

// Detail says in one line what the interface is doing.
func (d *Daemon) Detail() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cfg.Interface + ": " + d.detailLocked()
}

func (d *Daemon) detailLocked() string {
	if d.linkErr != nil {
		return d.linkErr.Error()
	}
	f := d.inForce
	trouble := errors.Join(d.problem, duplicateError(d.duplicatesLocked()))
	var b strings.Builder
	switch {
	case f.lease != nil:
		fmt.Fprintf(&b, "%v by DHCP", f.master)
	case f.master.IsValid():
		b.WriteString(f.master.String())
	}
	if f.slave.IsValid() {
		if b.Len() > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%v (slave)", f.slave)
	}
	addresses := b.Len() > 0
	if addresses && !d.link.Carrier {
		b.WriteString(", no carrier")
	}
	switch {
	case trouble != nil:
		if addresses {
			b.WriteString("; ")
		}
		b.WriteString(strings.ReplaceAll(trouble.Error(), "\n", "; "))
	case !addresses && !d.link.Carrier:
		b.WriteString("no carrier")
	case f.master.IsValid():
	case d.want.Eth0.Mode == netconfig.ModeDHCP:
		if addresses {
			b.WriteString(", ")
		}
		b.WriteString("waiting for DHCP")
	case !addresses:
		fmt.Fprintf(&b, "asking whether %v is free", d.want.Eth0.Address.Addr())
	}
	return b.String()
}

// Check is the service's liveness.Check: an error means that a loop is stuck,
// not that there is no network.
func (d *Daemon) Check() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), liveness.CheckLimit)
	defer cancel()
	done := make(chan struct{})
	select {
	case d.alive <- done:
		<-done
	case <-ctx.Done():
		return "", errors.New("the task that applies addresses is stuck")
	}
	d.mu.Lock()
	client := d.client
	d.mu.Unlock()
	if client != nil {
		err := client.Alive(ctx)
		d.mu.Lock()
		ended := d.client != client // meanwhile: no DHCP any more
		d.mu.Unlock()
		if err != nil && !ended {
			return "", errors.New("the DHCP client is stuck")
		}
	}
	return d.Detail(), nil
}

// hostname is what DHCP servers are told.
func (d *Daemon) hostname(c netconfig.Config) string {
	if c.Hostname != "" {
		return c.Hostname
	}
	return d.cfg.Hostname
}

// duplicateError is nil when there are none.
func duplicateError(list []netconfig.Duplicate) error {
	if len(list) == 0 {
		return nil
	}
	return netconfig.DuplicateError(list)
}
