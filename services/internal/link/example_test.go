package link_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/signal"
	"sync"
	"time"

	"github.com/parley-meet/parley/services/internal/link"
)

// controller is the part of a zone controller that talks to the portal.
type controller struct {
	path  string // of the credentials
	host  string
	roots *x509.CertPool // nil: the system's
	proxy func(*http.Request) (*url.URL, error)
	log   *slog.Logger

	client *link.Client
	mu     sync.Mutex
	told   link.Config // what the portal said last
}

// open has the credentials that were kept, or enrols with a token. An appliance
// that was taken out, or was away for too long, is enrolled again: enrol then,
// whatever is kept.
func (c *controller) open(ctx context.Context, token string, enrol bool) error {
	cred, err := link.ReadCredentials(c.path)
	var damaged *link.DamagedError
	switch {
	case err == nil && !enrol:
	case err == nil, errors.Is(err, fs.ErrNotExist), errors.As(err, &damaged):
		if token == "" {
			return errors.Join(errors.New("enter a token from the portal's Meeting Connector page"), err)
		}
		cred, err = link.Enrol(ctx, link.EnrolOptions{Token: token, Role: link.Controller, Host: c.host, Version: "1.0.0", Roots: c.roots, Proxy: c.proxy})
		if err != nil {
			return err // the portal's words, when it refuses
		}
		// Before anything else: the portal counts the appliance from now on.
		if err := cred.Write(c.path); err != nil {
			return err
		}
	default:
		return err
	}
	c.client, err = link.NewClient(link.ClientConfig{
		Credentials: cred, Roots: c.roots, Proxy: c.proxy, Version: "1.0.0", Host: c.host, Log: c.log,
		Save:   func(renewed link.Credentials) error { return renewed.Write(c.path) },
		Status: c.status,
		Config: c.configure,
	})
	return err
}

// status is asked at each heartbeat, and after Client.Changed.
func (c *controller) status() link.Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	return link.Status{
		Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.10")}, HTTPS: 443, Media: []uint16{8801},
		Clock: time.Now(), Synced: true, Limit: 200, ConfigInUse: c.told.Generation,
	}
}

// configure takes what the portal tells: at each connection, and when something
// changed. It may be the same as before, and never waits for the network.
func (c *controller) configure(cfg link.Config) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.told = cfg // keys of tickets, peers, names …
}

// run keeps the link until ctx ends, and tells of a meeting meanwhile.
func (c *controller) run(ctx context.Context) error {
	done := make(chan error, 1)
	go func() { done <- c.client.Run(ctx) }()
	// It waits for the portal, in order, and is there once.
	meeting := map[string]any{"meeting": "8f14e45fceea167a", "run": "c9f0f895fb98ab91", "participants": 1}
	if err := c.client.Event("meeting.started", meeting, time.Now()); err != nil {
		return err
	}
	c.client.Changed() // one more meeting: the portal is told soon
	return <-done
}

// problem is what the console shows of the link.
func (c *controller) problem() string {
	conn := c.client.Connection()
	switch {
	case conn.Connected:
		return ""
	case conn.NeedsToken():
		return "enter a new token: " + conn.Problem
	}
	return "not linked since " + conn.Since.Format(time.TimeOnly) + ": " + conn.Problem
}

// A zone controller enrols once, with the token that an administrator pasted,
// keeps its credentials, and holds the link from then on.
func Example() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	c := &controller{path: "/data/link/credentials.json", host: "controller-1", log: slog.Default(), proxy: http.ProxyFromEnvironment}
	if err := c.open(ctx, os.Getenv("PARLEY_TOKEN"), false); err != nil {
		fmt.Println(err)
		return
	}
	if err := c.run(ctx); err != nil {
		fmt.Println(err)
	}
	fmt.Println(c.problem())
}
