package edge

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"

	"github.com/parley-meet/parley/services/internal/portal/store"
	"github.com/parley-meet/parley/services/internal/portal/vault"
)

// Times between attempts after one that failed. Authorities count those: Let's
// Encrypt allows five of a name an hour.
const (
	firstWait = time.Minute
	mostWait  = time.Hour
)

// Authority gets certificates for the portal's host from an authority (RFC 8555),
// by tls-alpn-01 on the portal's own port, and renews them when a third of their
// time is left. What it keeps is sealed in the database, for all instances.
type Authority struct {
	m    *autocert.Manager
	host string
	log  *slog.Logger
	now  func() time.Time

	mu    sync.Mutex
	until time.Time // of the certificate that was told of
	wait  time.Duration
	next  time.Time // no attempt before
	last  error
}

// Order is what certificates are ordered for, and from whom.
type Order struct {
	Host      string
	Directory string         // "": Let's Encrypt's
	Email     string         // that the authority writes to; may be ""
	Roots     *x509.CertPool // of the authority's own https; nil: the system's
}

// ACME returns an authority.
func ACME(db *store.DB, v *vault.Vault, o Order, log *slog.Logger) *Authority {
	m := &autocert.Manager{Prompt: autocert.AcceptTOS, HostPolicy: autocert.HostWhitelist(o.Host), Email: o.Email, Cache: cache{db, v}}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = &tls.Config{RootCAs: o.Roots, MinVersion: tls.VersionTLS12}
	m.Client = &acme.Client{DirectoryURL: cmp.Or(o.Directory, autocert.DefaultACMEDirectory), HTTPClient: &http.Client{Transport: t, Timeout: 30 * time.Second}}
	return &Authority{m: m, host: o.Host, log: log, now: time.Now}
}

// Certificate is for tls.Config, whose NextProtos has acme.ALPNProto. Who names no
// host, such as a load balancer that looks whether the portal is there, gets the
// portal's certificate; another host is refused.
func (a *Authority) Certificate(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if len(h.SupportedProtos) == 1 && h.SupportedProtos[0] == acme.ALPNProto {
		return a.m.GetCertificate(h) // the authority looks
	}
	if h.ServerName != "" && !strings.EqualFold(h.ServerName, a.host) {
		return nil, fmt.Errorf("certificate for %.100q: the portal is %s", h.ServerName, a.host)
	}
	return a.certificate()
}

// Look gets the first certificate before anybody asks for it.
func (a *Authority) Look() { _, _ = a.certificate() }

func (a *Authority) certificate() (*tls.Certificate, error) {
	a.mu.Lock()
	next, last := a.next, a.last
	a.mu.Unlock()
	if a.now().Before(next) {
		return nil, last
	}
	// One that every client takes: an order for old ones would be a second.
	c, err := a.m.GetCertificate(&tls.ClientHelloInfo{ServerName: a.host, SupportedCurves: []tls.CurveID{tls.CurveP256},
		SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}})
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	if err != nil {
		if !now.Before(a.next) { // else one beside this one was told of
			a.wait = min(max(2*a.wait, firstWait), mostWait)
			a.next, a.last = now.Add(a.wait), err
			a.log.Error("no certificate from the authority", "host", a.host, "error", fmt.Sprintf("%.500q", err.Error()), "next attempt in", a.wait, "needs", "port 443 of the host, from where the authority is")
		}
		return nil, err
	}
	a.wait, a.next = 0, time.Time{}
	if c.Leaf != nil && !c.Leaf.NotAfter.Equal(a.until) {
		a.until = c.Leaf.NotAfter
		a.log.Info("certificate of the authority", "host", a.host, "until", a.until)
	}
	return c, nil
}

// cache is autocert's, in the settings.
type cache struct {
	db *store.DB
	v  *vault.Vault
}

func acmeRow(name string) string { return "edge.acme." + name }

func (c cache) Get(ctx context.Context, name string) ([]byte, error) {
	var sealed []byte
	err := c.db.Read(ctx, func(tx *store.Tx) error {
		return tx.Row("SELECT value FROM settings WHERE name = ?", acmeRow(name)).Scan(&sealed)
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil, autocert.ErrCacheMiss
	}
	if err != nil {
		return nil, err
	}
	return c.v.Open("acme", acmeRow(name), sealed)
}

func (c cache) Put(ctx context.Context, name string, data []byte) error {
	sealed := c.v.Seal("acme", acmeRow(name), data)
	return c.db.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec("INSERT INTO settings (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", acmeRow(name), sealed)
		return err
	})
}

func (c cache) Delete(ctx context.Context, name string) error {
	return c.db.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec("DELETE FROM settings WHERE name = ?", acmeRow(name))
		return err
	})
}
