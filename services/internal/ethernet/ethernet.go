// Package ethernet keeps one Ethernet interface of Linux configured: it brings
// the link up, follows its carrier, has a DHCP client ask for an address, and
// makes the kernel agree with the answer.
//
//	Watch ─▶ link task ─ carrier ─▶ dhcp.Client ─ lease ─▶ apply task ─▶ kernel, files
//
// The interface is this package's alone: IPv4 addresses that it did not ask for
// are removed. When the process ends, everything stays in force until the lease
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
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/parley-meet/parley/image/liveness"
	"github.com/parley-meet/parley/services/internal/dhcp"
)

// Config is what a Daemon is made of.
type Config struct {
	Interface string
	Hostname  string // told to DHCP servers; "": none
	RunDir    string // of state and resolver file
	PermDir   string // of the lease
	Kernel    Kernel
	Wire      dhcp.Wire
	Rand      *rand.Rand
	Log       *slog.Logger
	// Started is called once, when the link was asked to come up and the DHCP
	// client, if there is an interface, runs.
	Started func(detail string) error
}

// Times of the loops.
const (
	retryMin   = time.Second // after a configuration that could not be applied
	retryMax   = 30 * time.Second
	watchPause = time.Second // before watching again
)

// Daemon configures an interface while its Run runs.
type Daemon struct {
	cfg   Config
	kick  chan struct{} // the apply task has something to do
	alive chan chan struct{}

	// Of the link task alone:
	mac     string
	stop    func() // ends the client
	started bool

	mu       sync.Mutex
	client   *dhcp.Client // nil: no interface
	link     Link
	linkErr  error
	lease    *dhcp.Lease // wanted; nil: no address
	leaseMAC string
	forget   bool        // the remembered lease is void
	applied  *dhcp.Lease // in force
	problem  error       // of the last Apply
}

// New returns a daemon that does nothing yet.
func New(cfg Config) *Daemon {
	return &Daemon{
		cfg:     cfg,
		kick:    make(chan struct{}, 1),
		alive:   make(chan chan struct{}),
		stop:    func() {},
		linkErr: ErrNoLink,
	}
}

// Run works until ctx ends, and then returns nil.
func (d *Daemon) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return d.runLink(ctx) })
	g.Go(func() error { return d.runApply(ctx) })
	return g.Wait()
}

// runLink follows the interface.
func (d *Daemon) runLink(ctx context.Context) error {
	defer func() { d.stop() }()
	for {
		failed, err := d.watch(ctx)
		if failed != nil {
			return failed
		}
		if ctx.Err() != nil {
			return nil
		}
		d.cfg.Log.Warn("link is watched anew", "interface", d.cfg.Interface, "err", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(watchPause):
		}
	}
}

// watch follows the interface until ctx ends or watching fails (err), or the
// service cannot go on.
func (d *Daemon) watch(ctx context.Context) (failed, err error) {
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	err = d.cfg.Kernel.Watch(watching, func(l Link, err error) {
		if failed != nil {
			return
		}
		if failed = d.setLink(ctx, l, err); failed != nil {
			cancel()
		}
	})
	return failed, err
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
	d.link, d.linkErr = l, err
	d.mu.Unlock()
	log := d.cfg.Log.With("interface", d.cfg.Interface)
	if err != nil {
		log.Warn("interface cannot be used", "err", err)
		d.endClient()
	} else {
		log.Info("link", "up", l.Up, "carrier", l.Carrier, "mtu", l.MTU, "hardwareAddress", l.HardwareAddr.String())
		if d.mac != l.HardwareAddr.String() {
			d.endClient()
			d.startClient(ctx, l)
		}
		if !l.Up {
			// Its effect comes as an update.
			if err := d.cfg.Kernel.SetUp(); err != nil {
				log.Error("link does not come up", "err", err)
			}
		}
		d.client.Carrier(l.Up && l.Carrier)
	}
	d.changed()
	if d.started {
		return nil
	}
	d.started = true
	return d.cfg.Started(d.Detail())
}

// startClient starts a DHCP client with what is known of the hardware address.
func (d *Daemon) startClient(ctx context.Context, l Link) {
	log := d.cfg.Log.With("interface", d.cfg.Interface)
	known, held := d.recall(l.HardwareAddr)
	c := dhcp.New(dhcp.Config{
		Identity: dhcp.Identity{HardwareAddr: l.HardwareAddr, Hostname: d.cfg.Hostname},
		Wire:     d.cfg.Wire,
		Host:     &host{d, l.HardwareAddr.String()},
		Known:    known,
		Held:     held,
		Rand:     d.cfg.Rand,
		Log:      log,
	})
	ctx, cancel := context.WithCancel(ctx)
	d.mac = l.HardwareAddr.String()
	d.mu.Lock()
	d.client = c
	if held { // before the apply task sees that nothing is wanted
		d.lease, d.leaseMAC = known, d.mac
	}
	d.mu.Unlock()
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

// endClient ends the client, and what it had asked for.
func (d *Daemon) endClient() {
	d.stop()
	d.stop, d.mac = func() {}, ""
	d.mu.Lock()
	d.client, d.lease = nil, nil
	d.mu.Unlock()
}

// changed wakes the apply task up.
func (d *Daemon) changed() {
	select {
	case d.kick <- struct{}{}:
	default: // it has not looked at the last change yet
	}
}

// setLease sets what is to be applied; nil ends what was, for later starts too.
func (d *Daemon) setLease(l *dhcp.Lease, mac string) {
	d.mu.Lock()
	d.lease, d.leaseMAC, d.forget = l, mac, l == nil
	d.mu.Unlock()
	d.changed()
}

// Detail says in one line what the interface is doing.
func (d *Daemon) Detail() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	what := "waiting for DHCP"
	switch {
	case d.linkErr != nil:
		what = d.linkErr.Error()
	case d.applied != nil && d.link.Carrier:
		what = fmt.Sprintf("%v by DHCP", d.applied.Address)
	case d.applied != nil:
		what = fmt.Sprintf("%v by DHCP, no carrier", d.applied.Address)
	case d.problem != nil:
		what = d.problem.Error()
	case !d.link.Carrier:
		what = "no carrier"
	}
	return d.cfg.Interface + ": " + what
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
		if err := client.Alive(ctx); err != nil {
			return "", errors.New("the DHCP client is stuck")
		}
	}
	return d.Detail(), nil
}
