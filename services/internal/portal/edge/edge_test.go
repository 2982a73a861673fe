package edge

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/crypto/acme/autocert"

	"github.com/parley-meet/parley/services/internal/portal/store"
	"github.com/parley-meet/parley/services/internal/portal/store/storetest"
	"github.com/parley-meet/parley/services/internal/portal/vault"
)

func rig(t *testing.T, url string) (*store.DB, *vault.Vault) {
	t.Helper()
	db, err := store.Open(t.Context(), url, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	v, err := vault.New(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	return db, v
}

func leaf(t *testing.T, r *Root) *tls.Certificate {
	t.Helper()
	c, err := r.Certificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestRoot(t *testing.T) {
	storetest.Each(t, func(t *testing.T, url string) {
		db, v := rig(t, url)
		a, err := LoadRoot(t.Context(), db, v, "portal.example.com")
		if err != nil {
			t.Fatal(err)
		}
		b, err := LoadRoot(t.Context(), db, v, "portal.example.com")
		if err != nil || a.Pin() != b.Pin() || len(a.Pin()) != 43 {
			t.Errorf("pins %q and %q: %v", a.Pin(), b.Pin(), err)
		}
		now := time.Now()
		a.now = func() time.Time { return now }
		a.addrs = func() []net.IP { return []net.IP{net.IPv4(192, 0, 2, 1)} }
		c := leaf(t, a)
		roots := x509.NewCertPool()
		roots.AddCert(b.cert)
		for _, name := range []string{"portal.example.com", "localhost", "192.0.2.1"} {
			if _, err := c.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name}); err != nil {
				t.Error(err)
			}
		}
		if leaf(t, a) != c {
			t.Error("another leaf without a reason")
		}
		now = c.Leaf.NotAfter.Add(-early)
		d := leaf(t, a)
		if d == c {
			t.Error("the same leaf near its end")
		}
		a.addrs = func() []net.IP { return []net.IP{net.IPv4(192, 0, 2, 2)} }
		a.Look()
		if e := leaf(t, a); e.Leaf.VerifyHostname("192.0.2.2") != nil {
			t.Errorf("addresses %v", e.Leaf.IPAddresses)
		}
		other, err := vault.New(bytes.Repeat([]byte{1}, 32))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := LoadRoot(t.Context(), db, other, "x"); !errors.Is(err, vault.ErrSealed) {
			t.Errorf("with another master key: %v", err)
		}
	})
}

func TestFiles(t *testing.T) {
	db, v := rig(t, storetest.SQLite(t))
	r, err := LoadRoot(t.Context(), db, v, "a.example")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert"), filepath.Join(dir, "key")
	write := func() *tls.Certificate {
		t.Helper()
		c, err := r.issue(time.Now(), nil)
		if err != nil {
			t.Fatal(err)
		}
		k, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
		if err != nil {
			t.Fatal(err)
		}
		for path, b := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: c.Certificate[0]}, key: {Type: "PRIVATE KEY", Bytes: k}} {
			if err := os.WriteFile(path, pem.EncodeToMemory(b), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return c
	}
	first := write()
	f, err := LoadFiles(cert, key, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	serves := func(want *tls.Certificate) {
		t.Helper()
		if c, err := f.Certificate(nil); err != nil || !bytes.Equal(c.Certificate[0], want.Certificate[0]) {
			t.Errorf("another certificate, %v", err)
		}
	}
	serves(first)
	second := write()
	later := time.Now().Add(time.Second)
	if err := os.Chtimes(cert, later, later); err != nil {
		t.Fatal(err)
	}
	f.Look()
	serves(second)
	if err := os.WriteFile(key, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	f.Look()
	serves(second)
	if _, err := LoadFiles(cert, key, nil); err == nil {
		t.Error("a damaged key was taken at the start")
	}
}

func TestCache(t *testing.T) {
	storetest.Each(t, func(t *testing.T, url string) {
		db, v := rig(t, url)
		c := cache{db, v}
		if _, err := c.Get(t.Context(), "a"); !errors.Is(err, autocert.ErrCacheMiss) {
			t.Error(err)
		}
		for _, value := range []string{"1", "2"} {
			if err := c.Put(t.Context(), "a", []byte(value)); err != nil {
				t.Fatal(err)
			}
			if b, err := c.Get(t.Context(), "a"); err != nil || string(b) != value {
				t.Errorf("%q %v", b, err)
			}
		}
		if err := c.Delete(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Get(t.Context(), "a"); !errors.Is(err, autocert.ErrCacheMiss) {
			t.Error(err)
		}
	})
}
