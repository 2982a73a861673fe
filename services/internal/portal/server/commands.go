package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/parley-meet/parley/services/internal/portal/backup"
	"github.com/parley-meet/parley/services/internal/portal/people"
)

// Backup writes a backup of the database to a file that is not there yet, also
// while the portal runs.
func Backup(ctx context.Context, cfg Config, path string, out io.Writer, log *slog.Logger) (err error) {
	if _, err := cfg.check(); err != nil {
		return err
	}
	if file, ok := strings.CutPrefix(cfg.Database, "sqlite:"); ok {
		if _, err := os.Stat(file); err != nil { // a new one would be an empty backup
			return fmt.Errorf("database: %w", err)
		}
	}
	s, err := open(ctx, cfg, log, 0)
	if err != nil {
		return err
	}
	defer s.end(&err)
	tmp := path + ".part"
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("%s is there already", path)
	}
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(tmp)
		}
	}()
	rows, err := backup.Write(ctx, s.db, f, s.cfg.Version, time.Now())
	if err != nil {
		return err
	}
	if err = errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	if err = os.Rename(tmp, path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return err
	}
	key, _ := s.cfg.keyPath()
	fmt.Fprintf(out, "%d rows are in %s. Not in it: the master key (%s), without which\nsealed values are lost, and the files of releases.\n", rows, path, key)
	return nil
}

// Restore brings a backup into the empty database of the settings.
func Restore(ctx context.Context, cfg Config, path string, out io.Writer, log *slog.Logger) (err error) {
	if _, err := cfg.check(); err != nil {
		return err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	free, err := lock(cfg.Database)
	if err != nil {
		return err
	}
	defer func() {
		free()
		err = errors.Join(err, handOver(cfg.Dir))
	}()
	h, rows, err := backup.Restore(ctx, f, cfg.Database, log)
	if err != nil {
		return err
	}
	key, _ := cfg.keyPath()
	fmt.Fprintf(out, "%d rows of %s are restored. Put the master key that belongs to them at %s.\n", rows, h.At.Format(time.DateTime), key)
	return nil
}

// AddOperator makes the person of an address an operator.
func AddOperator(ctx context.Context, cfg Config, email string, out io.Writer, log *slog.Logger) (err error) {
	s, err := open(ctx, cfg, log, 0)
	if err != nil {
		return err
	}
	defer s.end(&err)
	path, err := people.MakeOperator(ctx, s.db, email, "")
	if text := said(err); text != "" {
		return fmt.Errorf("%q: %s", email, text)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s is an operator.\n", email)
	if path != "" {
		fmt.Fprintf(out, "Choose a password within %s at\n\n  %s%s\n", span(people.InviteTTL), s.url, path)
	}
	return nil
}
