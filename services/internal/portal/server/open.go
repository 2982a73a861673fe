package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"syscall"

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
	free  func() // ends the lock
}

// keyPath is where the master key is, and whether it is made when it is not.
func (c *Config) keyPath() (path string, create bool) {
	if c.KeyFile != "" {
		return c.KeyFile, c.MakeKey
	}
	if dir := os.Getenv("CREDENTIALS_DIRECTORY"); dir != "" { // of systemd
		path := filepath.Join(dir, "master.key")
		if _, err := os.Stat(path); err == nil {
			return path, false
		}
	}
	return filepath.Join(c.Dir, "master.key"), true
}

// What a command needs beside the database.
const (
	key   = 1 << iota // the vault
	alone             // that no portal runs on this SQLite, and none comes
)

// open opens the database and what else is needed.
func open(ctx context.Context, cfg Config, log *slog.Logger, need int) (*state, error) {
	s := &state{cfg: cfg, log: log, free: func() {}}
	var err error
	if s.url, err = s.cfg.check(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(s.cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	if need&alone != 0 {
		if s.free, err = lock(s.cfg.Database); err != nil {
			return nil, err
		}
	}
	if s.db, err = store.Open(ctx, s.cfg.Database, log); err != nil {
		s.free()
		return nil, err
	}
	if need&key != 0 {
		if err := s.unlock(ctx, need&alone != 0); err != nil {
			s.close()
			return nil, err
		}
	}
	return s, nil
}

func (s *state) close() {
	s.db.Close()
	s.free()
}

// end is close after a command.
func (s *state) end(err *error) {
	s.close()
	*err = errors.Join(*err, handOver(s.cfg.Dir))
}

// unlock reads the master key, or makes one for a database that has nothing
// sealed yet: for another one, as after a restore, it would be the wrong one.
// A portal that serves also keeps others out of the key's file, when it is its own.
func (s *state) unlock(ctx context.Context, serves bool) error {
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
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm()&0o077 == 0 {
		return err
	}
	// What systemd hands over, or a file of root's for a group, is not the portal's
	// to change.
	if o, ok := info.Sys().(*syscall.Stat_t); ok && int(o.Uid) == os.Geteuid() && serves {
		if err := os.Chmod(path, 0o600); err == nil {
			s.log.Info("the master key is private now", "file", path, "mode before", info.Mode().Perm().String())
			return nil
		}
	}
	if info.Mode().Perm()&0o007 != 0 {
		s.log.Warn("others on this machine can read the master key", "file", path, "mode", info.Mode().Perm().String())
	}
	return nil
}
