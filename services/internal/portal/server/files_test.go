package server

import (
	"crypto/x509"
	"encoding/pem"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/parley-meet/parley/services/internal/portal/edge"
	"github.com/parley-meet/parley/services/internal/portal/store"
	"github.com/parley-meet/parley/services/internal/portal/store/storetest"
	"github.com/parley-meet/parley/services/internal/portal/vault"
)

// certificate writes one for localhost, with its key, into files.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	db, err := store.Open(t.Context(), storetest.SQLite(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	v, err := vault.New(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	root, err := edge.LoadRoot(t.Context(), db, v, "localhost")
	if err != nil {
		t.Fatal(err)
	}
	c, err := root.Certificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	k, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, b := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: c.Certificate[0]}, key: {Type: "PRIVATE KEY", Bytes: k}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// Browsers are told to use https alone where they trust the certificate, and
// whoever balances the load asks the same port.
func TestOperatorsCertificate(t *testing.T) {
	cfg := config(t, storetest.SQLite(t))
	cfg.TLS.Mode = ModeFiles
	cfg.TLS.Cert, cfg.TLS.Key = certificate(t)
	at, _, _ := started(t, cfg, false)
	for _, path := range []string{"/login", "/healthz", "/readyz"} {
		resp, text := get(t, "https://"+at+path)
		if resp.StatusCode != http.StatusOK || resp.Header.Get("Strict-Transport-Security") != "max-age=31536000" || path != "/login" && text != "ok\n" {
			t.Errorf("%s: %s %v %s", path, resp.Status, resp.Header, text)
		}
	}
}

// A second portal would not hear of the first one's changes. Commands may work
// beside it; a backup is not brought in under it.
func TestLock(t *testing.T) {
	cfg := config(t, storetest.SQLite(t))
	_, _, _ = started(t, cfg, false)
	log := slog.New(slog.DiscardHandler)
	file, _ := strings.CutPrefix(cfg.Database, "sqlite:")
	link := filepath.Join(t.TempDir(), "other.db")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{cfg.Database, "sqlite:" + link} {
		second := cfg
		second.Dir, second.Database = filepath.Join(t.TempDir(), "two"), name
		if err := Serve(t.Context(), second, Out{io.Discard, false}, log); err == nil || !strings.Contains(err.Error(), file+": another portal runs on it (process ") {
			t.Errorf("%v", err)
		}
	}
	if err := AddOperator(t.Context(), cfg, "a@example.com", io.Discard, log); err != nil {
		t.Error(err)
	}
	backup := filepath.Join(t.TempDir(), "b.gz")
	if err := Backup(t.Context(), cfg, backup, io.Discard, log); err != nil {
		t.Error(err)
	}
	if err := Restore(t.Context(), cfg, backup, io.Discard, log); err == nil || !strings.Contains(err.Error(), "another portal runs on it") {
		t.Errorf("%v", err)
	}
}

// Whatever the umask and wherever they are, others on the machine read none of a
// portal's files; what an older one left open is closed.
func TestPrivate(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	dir := t.TempDir()
	cfg := config(t, "sqlite:"+filepath.Join(dir, "p.db"))
	cfg.KeyFile = filepath.Join(dir, "key")
	if err := os.WriteFile(cfg.KeyFile, []byte(strings.Repeat("ab", 32)), 0o644); err != nil {
		t.Fatal(err)
	}
	private := func(names ...string) {
		t.Helper()
		for _, name := range names {
			if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v %v", name, info, err)
			}
		}
	}
	t.Run("serve", func(t *testing.T) {
		_, _, log := started(t, cfg, false)
		private("p.db", "p.db-wal", "p.db-shm", "p.db.lock", "key")
		if !strings.Contains(log.String(), "the master key is private now") {
			t.Errorf("changed, and nothing said: %s", log)
		}
		if err := Backup(t.Context(), cfg, filepath.Join(dir, "b.gz"), io.Discard, slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
		private("b.gz")
	})
	two := cfg
	two.Database = "sqlite:" + filepath.Join(dir, "q.db")
	if err := Restore(t.Context(), two, filepath.Join(dir, "b.gz"), io.Discard, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	private("q.db", "q.db.lock")
	if err := os.Chmod(filepath.Join(dir, "q.db"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Run("older", func(t *testing.T) {
		_, _, _ = started(t, two, false)
		private("q.db", "q.db-wal", "q.db-shm")
	})
	if info, err := os.Stat(cfg.Dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder: %v %v", info, err)
	}
}
