package portaltest

import (
	"context"
	"crypto/x509"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/parley-meet/parley/services/internal/link"
)

// Appliance is a machine that is enrolled and linked, by the client that real
// ones have. What it says of itself is what the test sets.
type Appliance struct {
	P           *Portal
	Credentials link.Credentials
	Client      *link.Client

	host   string
	mu     sync.Mutex
	status link.Status
	config link.Config
	got    chan struct{} // closed and made anew with each configuration
	stop   context.CancelFunc
	done   chan struct{}
}

// Roots are what clients trust the portal by.
func (p *Portal) Roots() *x509.CertPool {
	return p.Server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
}

// Appliance enrols a machine with a token and links it until the test ends.
func (p *Portal) Appliance(token, host string, role link.Role) *Appliance {
	p.T.Helper()
	c, err := link.Enrol(context.Background(), link.EnrolOptions{Token: token, Role: role, Host: host, Version: "1.2.3", Roots: p.Roots()})
	if err != nil {
		p.T.Fatalf("enrol %s: %v", host, err)
	}
	return p.Resume(c, host)
}

// Resume links a machine that is enrolled, until the test ends.
func (p *Portal) Resume(c link.Credentials, host string) *Appliance {
	p.T.Helper()
	role := c.Role
	a := &Appliance{P: p, host: host, Credentials: c, got: make(chan struct{})}
	a.status = link.Status{Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.10")}, Synced: true, Limit: 200, Memory: 1 << 28, MemoryTotal: 1 << 29}
	if role == link.Controller {
		a.status.HTTPS = 443
		a.status.Services = []link.Service{{Name: "zctrl", State: "ready"}, {Name: "mmr", State: "ready"}}
		a.status.Certificate = &link.Certificate{Names: []string{host}, Expires: time.Now().Add(90 * 24 * time.Hour), Trusted: true}
	}
	a.status.Media = []uint16{3478, 8801}
	a.Start()
	p.T.Cleanup(a.Stop)
	return a
}

// Start links the machine, as after a start of its process.
func (a *Appliance) Start() {
	a.P.T.Helper()
	client, err := link.NewClient(link.ClientConfig{
		Credentials: a.Credentials, Roots: a.P.Roots(), Version: "1.2.3", Host: a.host,
		Save: func(c link.Credentials) error {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.Credentials = c
			return nil
		},
		Status: func() link.Status {
			a.mu.Lock()
			defer a.mu.Unlock()
			s := a.status
			s.Clock = time.Now()
			return s
		},
		Config: func(c link.Config) {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.config = c
			close(a.got)
			a.got = make(chan struct{})
		},
	})
	if err != nil {
		a.P.T.Fatal(err)
	}
	a.Client = client
	ctx, stop := context.WithCancel(context.Background())
	a.stop, a.done = stop, make(chan struct{})
	go func() {
		defer close(a.done)
		_ = client.Run(ctx) // nil
	}()
}

// Stop ends the link without a word, as a machine does that loses its power.
func (a *Appliance) Stop() {
	a.stop()
	<-a.done
}

// Set changes what the machine says of itself.
func (a *Appliance) Set(change func(*link.Status)) {
	a.mu.Lock()
	change(&a.status)
	a.mu.Unlock()
	a.Client.Changed()
}

// patience is how long tests wait for what happens soon on a quiet machine.
const patience = 60 * time.Second

// Linked waits until the link stands.
func (a *Appliance) Linked() {
	a.P.T.Helper()
	defer func() {
		if c := a.Client.Connection(); !c.Connected {
			a.P.T.Logf("%+v", c)
		}
	}()
	Wait(a.P.T, "the link of an appliance", func() bool { return a.Client.Connection().Connected })
}

// Config waits for a configuration that is as want says.
func (a *Appliance) Config(want func(link.Config) bool) link.Config {
	a.P.T.Helper()
	limit := time.After(patience)
	for {
		a.mu.Lock()
		c, got := a.config, a.got
		a.mu.Unlock()
		if c.Generation > 0 && want(c) {
			return c
		}
		select {
		case <-got:
		case <-limit:
			a.P.T.Fatalf("the configuration is still %+v", c)
		}
	}
}
