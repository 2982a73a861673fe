package server

import (
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"

	"github.com/parley-meet/parley/services/internal/portal/store"
	"github.com/parley-meet/parley/services/internal/portal/vault"
)

// state is what every command opens.
type state struct {
	cfg   Config
	url   *url.URL
	log   *slog.Logger
	db    *store.DB
	vault *vault.Vault
	made  string // path of a master key that is new
}

// keyPath is where the master key is, and whether it is made when it is not.
func (c *Config) keyPath() (path string, create bool) {
	if c.KeyFile != "" {
		return c.KeyFile, false
	}
	if dir := os.Getenv("CREDENTIALS_DIRECTORY"); dir != "" { // of systemd
		path := filepath.Join(dir, "master.key")
		if _, err := os.Stat(path); err == nil {
			return path, false
		}
	}
	return filepath.Join(c.Dir, "master.key"), true
}

// open opens the database; with key set, the vault too.
func open(ctx context.Context, cfg Config, log *slog.Logger, key bool) (*state, error) {
	s := &state{cfg: cfg, log: log}
	var err error
	if s.url, err = s.cfg.check(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(s.cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	if s.db, err = store.Open(ctx, s.cfg.Database, log); err != nil {
		return nil, err
	}
	err = s.private()
	if err == nil && key {
		err = s.unlock(ctx)
	}
	if err != nil {
		s.db.Close()
		return nil, err
	}
	return s, nil
}

// unlock reads the master key, or makes one for a database that has nothing
// sealed yet: for another one, as after a restore, it would be the wrong one.
func (s *state) unlock(ctx context.Context) error {
	path, create := s.cfg.keyPath()
	if _, err := os.Stat(path); create && os.IsNotExist(err) {
		var n int
		if err := s.db.Read(ctx, func(tx *store.Tx) error {
			return tx.Row("SELECT (SELECT COUNT(*) FROM settings) + (SELECT COUNT(*) FROM ticket_keys)").Scan(&n)
		}); err != nil {
			return err
		}
		if n > 0 {
			return fmt.Errorf("master key: %s is not there, and the database is not new: put the key there that belongs to it", path)
		}
	}
	v, made, err := vault.Load(path, create)
	if err != nil {
		return err
	}
	if s.vault = v; made {
		s.made = path
	}
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o007 != 0 {
		s.log.Warn("others on this machine can read the master key", "file", path, "mode", info.Mode().Perm().String())
	}
	return nil
}

// private keeps others on the machine out of the database's files.
func (s *state) private() error {
	for _, end := range []string{"", "-wal", "-shm"} {
		path := filepath.Join(s.cfg.Dir, "portal.db"+end)
		if err := os.Chmod(path, 0o600); err != nil && !os.IsNotExist(err) {
			return fmt.Errorf("keep the database private: %w", err)
		}
	}
	return nil
}
