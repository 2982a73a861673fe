package edge

import (
	"context"
	"errors"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"

	"github.com/parley-meet/parley/services/internal/portal/store"
	"github.com/parley-meet/parley/services/internal/portal/vault"
)

// ACME gets certificates for host from an authority (RFC 8555), by tls-alpn-01
// on the portal's own port. What it keeps is sealed in the database, for all
// instances. directory "" is Let's Encrypt's.
func ACME(db *store.DB, v *vault.Vault, host, directory, email string) *autocert.Manager {
	m := &autocert.Manager{Prompt: autocert.AcceptTOS, HostPolicy: autocert.HostWhitelist(host), Email: email, Cache: cache{db, v}}
	if directory != "" {
		m.Client = &acme.Client{DirectoryURL: directory}
	}
	return m
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
