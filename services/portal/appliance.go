package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/parley-meet/parley/image/layout"
	"github.com/parley-meet/parley/image/liveness"
	"github.com/parley-meet/parley/services/internal/nic"
	"github.com/parley-meet/parley/services/internal/portal/server"
	"github.com/parley-meet/parley/services/internal/portalctl"
)

const (
	watchEvery = 3 * time.Second  // the machine's name and address
	retryAfter = 20 * time.Second // when the portal ended, as without a disk
	checkLimit = 2 * time.Second  // less than liveness.CheckLimit
)

// appliance runs the portal as a service under PID 1: it says that it lives, and
// its address is the machine's. When that changes the portal starts anew. While
// there is none, or the disk is away, the process stays and says so: PID 1 would
// only start it again and again.
type appliance struct {
	cfg    server.Config
	socket string
	log    *slog.Logger
	serve  func(context.Context, server.Config) error
	url    func() string // "" while there is none
	again  chan struct{} // the certificate comes from elsewhere

	mu      sync.Mutex
	running *server.Running // nil: none
	waits   portalctl.Wait  // there is none yet
	failed  error           // there is none
}

// newAppliance completes the settings. State and master key have folders of their
// own, which only the portal's user can enter: the folder around them is the
// consoles' to read too.
func newAppliance(cfg server.Config, log *slog.Logger) *appliance {
	own := filepath.Join(layout.PermDir, "portal")
	cfg.Dir, cfg.KeyFile, cfg.MakeKey = filepath.Join(own, "state"), filepath.Join(own, "key", "master.key"), true
	cfg.Listen = ":443"
	return &appliance{
		cfg: cfg, again: make(chan struct{}, 1), socket: portalctl.Socket, log: log, url: machineURL, waits: portalctl.WaitStart,
		serve: func(ctx context.Context, cfg server.Config) error {
			return server.Serve(ctx, cfg, server.Out{Writer: io.Discard}, log)
		},
	}
}

func (a *appliance) run(ctx context.Context) error {
	line, err := liveness.Open()
	if err != nil {
		return err
	}
	if err := line.Ready(detailOf[a.waits]); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return line.Run(ctx, a.check) })
	g.Go(func() error { return portalctl.Serve(ctx, a.socket, a.cfg.Appliance, a.ask, a.log) })
	g.Go(func() error { return a.keep(ctx) })
	return g.Wait()
}

// keep has a portal run until ctx ends.
func (a *appliance) keep(ctx context.Context) error {
	for ctx.Err() == nil {
		url := a.url()
		if url == "" {
			a.set(nil, portalctl.WaitAddress, nil)
			pause(ctx, watchEvery)
			continue
		}
		if _, _, failed := a.now(); failed == nil { // what failed is said until it is over
			a.set(nil, portalctl.WaitStart, nil)
		}
		select {
		case <-a.again: // it is so from the beginning
		default:
		}
		err := a.once(ctx, url)
		if err != nil {
			a.log.Error("portal", "error", err)
			a.set(nil, "", err)
			select {
			case <-ctx.Done():
			case <-a.again: // it may be the certificate's fault
			case <-time.After(retryAfter):
			}
		}
	}
	return nil
}

// once runs a portal under a URL for as long as that is the machine's.
func (a *appliance) once(ctx context.Context, url string) error {
	if err := os.MkdirAll(filepath.Dir(a.cfg.KeyFile), 0o700); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var watching sync.WaitGroup
	defer watching.Wait()
	watching.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-a.again:
				a.log.Info("the portal's certificate comes from elsewhere now")
				cancel()
			case <-time.After(watchEvery):
				// Without an address it waits for the next: a cable was pulled.
				if now := a.url(); now != "" && now != url {
					a.log.Info("the portal's address changed", "was", url, "is", now)
					cancel()
				}
			}
		}
	})
	cfg := a.cfg
	cfg.URL, cfg.TLS = url, a.tls(url)
	cfg.Started = func(r *server.Running) { a.set(r, "", nil) }
	err := a.serve(ctx, cfg)
	a.set(nil, portalctl.WaitStart, nil)
	if ctx.Err() != nil { // it was told to end, also while it started
		return nil
	}
	cancel()
	return err
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (a *appliance) set(r *server.Running, waits portalctl.Wait, failed error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.running, a.waits, a.failed = r, waits, failed
}

func (a *appliance) now() (*server.Running, portalctl.Wait, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.running, a.waits, a.failed
}

// What the consoles show beside the service. They have the words "detail."+TEXT
// for each.
var detailOf = map[portalctl.Wait]string{portalctl.WaitStart: "starting", portalctl.WaitAddress: "waits for an address"}

// check is a liveness.Check.
func (a *appliance) check() (string, error) {
	r, waits, failed := a.now()
	if failed != nil {
		return "", failed
	}
	if r == nil {
		return detailOf[waits], nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), checkLimit)
	defer cancel()
	operated, err := r.Health(ctx)
	if again, _, _ := a.now(); err != nil && again != r {
		return detailOf[portalctl.WaitStart], nil // it ended meanwhile
	}
	if err != nil {
		return "", fmt.Errorf("database: %w", err)
	}
	if !operated {
		return portalctl.NoOperator, nil
	}
	return r.URL(), nil
}

// ask answers the console.
func (a *appliance) ask(ctx context.Context, req portalctl.Request) portalctl.Answer {
	r, waits, failed := a.now()
	if waits == portalctl.WaitAddress {
		return portalctl.Answer{Waits: waits}
	}
	if req.Op != portalctl.OpShow { // also where the portal fails: that may be why
		problem, err := a.choose(req, time.Now())
		if err != nil {
			return portalctl.Answer{Error: err.Error()}
		}
		return portalctl.Answer{URL: a.url(), Problem: problem, TLS: req.Op}
	}
	if failed != nil {
		return portalctl.Answer{Error: failed.Error()}
	}
	if r == nil {
		return portalctl.Answer{Waits: waits}
	}
	link, err := r.SetupLink(ctx)
	if err != nil {
		return portalctl.Answer{Error: err.Error()}
	}
	return portalctl.Answer{URL: r.URL(), Link: link, TLS: portalctl.Op(r.TLS())}
}

// machineURL is the portal's address as the machine's: its host name when that is
// a whole one (Network > Names in the web console), and its address otherwise.
func machineURL() string {
	name, err := os.Hostname()
	if err != nil {
		name = "" // the address will do
	}
	list, err := nic.List()
	if err != nil {
		list = nil
	}
	return urlOf(name, nic.Reachable(list))
}

func urlOf(name string, addrs []netip.Addr) string {
	if strings.Contains(name, ".") {
		return "https://" + strings.ToLower(name)
	}
	if len(addrs) == 0 {
		return ""
	}
	a := addrs[0].WithZone("")
	if a.Is6() {
		return "https://[" + a.String() + "]"
	}
	return "https://" + a.String()
}
