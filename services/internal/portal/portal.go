// Package portal puts the cloud side together: it makes each part with what it
// needs, and runs their tasks. The command services/portal and the tests make a
// portal through it, so that both have the same one.
package portal

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/parley-meet/parley/services/internal/portal/directory"
	"github.com/parley-meet/parley/services/internal/portal/live"
	"github.com/parley-meet/parley/services/internal/portal/mail"
	"github.com/parley-meet/parley/services/internal/portal/meetings"
	"github.com/parley-meet/parley/services/internal/portal/names"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/releases"
	"github.com/parley-meet/parley/services/internal/portal/store"
	"github.com/parley-meet/parley/services/internal/portal/vault"
	"github.com/parley-meet/parley/services/internal/portal/web"
	"github.com/parley-meet/parley/services/internal/portal/zones"
)

// Config is what a portal is made of.
type Config struct {
	DB    *store.DB
	Vault *vault.Vault
	URL   *url.URL // that people and appliances use
	Dir   string   // folder of files that are no database
	// Blobs keeps the files of releases; nil is the folder releases in Dir.
	Blobs releases.Blobs
	// Pin is base64url of the SHA-256 of the SubjectPublicKeyInfo of the portal's
	// own root, which enrolment tokens carry; "" when it has none.
	Pin string
	// ACMEPrivate lets accounts order certificates from authorities, and update
	// name servers, at addresses that are not public.
	ACMEPrivate bool
	Log         *slog.Logger
}

// Portal is the cloud side.
type Portal struct {
	Web      *web.Portal
	Live     *live.Service
	Releases *releases.Service
	Zones    *zones.Service
	tasks    []func(context.Context) error
}

// New puts a portal together. It starts nothing.
func New(cfg Config) (*Portal, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	p := &Portal{}
	box := mail.NewBox(cfg.DB, cfg.Vault, cfg.URL, cfg.Log)
	p.tasks = append(p.tasks, box.Run)
	dir := directory.New(cfg.DB, cfg.Vault, cfg.Log)
	p.tasks = append(p.tasks, dir.Run)
	pin, err := base64.RawURLEncoding.DecodeString(cfg.Pin)
	if err != nil {
		return nil, fmt.Errorf("pin %q: %w", cfg.Pin, err)
	}
	meet := meetings.New(meetings.Config{DB: cfg.DB, Vault: cfg.Vault, URL: cfg.URL, Log: cfg.Log})
	n := names.New(names.Config{DB: cfg.DB, Vault: cfg.Vault, AllowPrivate: cfg.ACMEPrivate, Log: cfg.Log})
	p.tasks = append(p.tasks, n.Run)
	z := zones.New(zones.Config{DB: cfg.DB, Vault: cfg.Vault, URL: cfg.URL, Pin: pin, Keys: meet, Names: n, Log: cfg.Log})
	p.Live = live.New(live.Config{DB: cfg.DB, Directory: z, Events: []live.Events{meet}, Revoked: zones.TopicRevoked, Changed: zones.TopicConfig, Log: cfg.Log})
	z.SetLive(p.Live)
	p.Zones = z
	blobs := cfg.Blobs
	if blobs == nil {
		if blobs, err = releases.NewFolder(filepath.Join(cfg.Dir, "releases")); err != nil {
			return nil, err
		}
	}
	p.Releases = releases.New(cfg.DB, cfg.Vault, blobs, cfg.Log)
	p.tasks = append(p.tasks, p.Releases.Run)
	meet.SetControllers(p.Live.Controllers)
	p.tasks = append(p.tasks, p.Live.Run, meet.Run)
	p.Web = web.New(web.Config{Directory: dir, DB: cfg.DB, Vault: cfg.Vault, URL: cfg.URL, Mail: box, Zones: z, Names: n, Releases: p.Releases, Live: p.Live, Meetings: meet, Upcoming: upcoming(meet), Log: cfg.Log})
	return p, nil
}

// upcomingShown is how many meetings the overview has.
const upcomingShown = 5

// upcoming lists meetings for the overview.
func upcoming(m *meetings.Service) func(context.Context, people.Actor) ([]web.Upcoming, error) {
	return func(ctx context.Context, who people.Actor) ([]web.Upcoming, error) {
		list, err := m.Upcoming(ctx, who, upcomingShown)
		var out []web.Upcoming
		for _, one := range list {
			out = append(out, web.Upcoming{Title: one.Topic, Path: "/meetings/" + one.ID, Start: one.Next.Start})
		}
		return out, err
	}
}

// ServeHTTP answers requests.
func (p *Portal) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.Web.ServeHTTP(w, r) }

// TLS returns the listener's configuration: base, and what links of appliances
// need beside it.
func (p *Portal) TLS(base *tls.Config) *tls.Config { return live.TLS(base) }

// Run carries the portal's tasks out until ctx ends; then streams end too.
func (p *Portal) Run(ctx context.Context) error {
	defer p.Web.Stop()
	g, ctx := errgroup.WithContext(ctx)
	for _, task := range p.tasks {
		g.Go(func() error { return task(ctx) })
	}
	g.Go(func() error {
		<-ctx.Done()
		return nil
	})
	return g.Wait()
}
