package trust

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/internal/durable"
	"github.com/parley-meet/parley/services/internal/certificate"
	"github.com/parley-meet/parley/services/internal/fault"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func authority(t *testing.T, name string, change func(*x509.Certificate)) (*x509.Certificate, *ecdsa.PrivateKey, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: noon.Add(-time.Hour), NotAfter: noon.Add(time.Hour),
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign,
	}
	if change != nil {
		change(tpl)
	}
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c, key, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// A server that an added authority signed is trusted as long as it is there.
func TestAddRemove(t *testing.T) {
	s := New(t.TempDir())
	ctx := t.Context()
	ca, key, text := authority(t, "Company", nil)
	tpl := &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: []string{"a.example"}, NotBefore: noon.Add(-time.Hour), NotAfter: noon.Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tpl, ca, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	server, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	trusted := func() bool {
		t.Helper()
		p, err := s.Pool()
		if err != nil {
			t.Fatal(err)
		}
		_, err = server.Verify(x509.VerifyOptions{Roots: p, DNSName: "a.example", CurrentTime: noon})
		return err == nil
	}
	if trusted() {
		t.Error("trusted before it was added")
	}
	if _, err := s.Add(ctx, "comment\n"+text, noon); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(s.path); err != nil || fi.Mode() != 0o660 {
		t.Errorf("%v, %v", fi, err)
	}
	if !trusted() {
		t.Error("not trusted")
	}
	_, _, other := authority(t, "Other", nil)
	if _, err := s.Add(ctx, other+text, noon); fault.Of(err).Error() != "pem: authority-twice" {
		t.Errorf("%v", err)
	}
	if list, err := s.List(); err != nil || len(list) != 1 {
		t.Errorf("after a refusal: %d, %v", len(list), err)
	}
	if _, err := s.Remove(ctx, strings.Repeat("AB:", 31)+"AB"); !errors.Is(err, ErrUnknown) {
		t.Errorf("%v", err)
	}
	if c, err := s.Remove(ctx, strings.ToLower(strings.ReplaceAll(certificate.Sum(ca), ":", ""))); err != nil || !c.Equal(ca) {
		t.Errorf("%v, %v", c, err)
	}
	if trusted() {
		t.Error("trusted after it was removed")
	}
}

func TestFaults(t *testing.T) {
	_, _, good := authority(t, "Good", nil)
	_, _, leaf := authority(t, "Leaf", func(c *x509.Certificate) { c.IsCA, c.KeyUsage = false, x509.KeyUsageDigitalSignature })
	_, _, past := authority(t, "Past", func(c *x509.Certificate) { c.NotAfter = noon })
	_, _, no := authority(t, "No", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign })
	for text, want := range map[string]string{
		"": "required", "x": "pem-none", leaf: "authority-none", no: "authority-none", past: "authority-expired", good + good: "authority-twice",
		good + past: "authority-expired", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n": "pem-key",
	} {
		if _, err := New(t.TempDir()).Add(t.Context(), text, noon); fault.Of(err).Error() != "pem: "+want {
			t.Errorf("%.40q: %v, want %s", text, err, want)
		}
	}
	s := New(t.TempDir())
	for i := range Max {
		_, _, text := authority(t, fmt.Sprint("A", i), nil)
		if _, err := s.Add(t.Context(), text, noon); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Add(t.Context(), good, noon); fault.Of(err).Error() != "pem: authority-many" {
		t.Errorf("%v", err)
	}
}

// What cannot be read is not replaced, and does not take the usual authorities
// along.
func TestDamaged(t *testing.T) {
	_, _, good := authority(t, "Good", nil)
	for _, content := range []string{"x", good + "x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", strings.Repeat(" ", maxFile+1)} {
		s := New(t.TempDir())
		if err := os.WriteFile(filepath.Join(filepath.Dir(s.path), fileName), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Add(t.Context(), good, noon); err == nil || fault.Of(err) != nil {
			t.Errorf("%.20q: %v", content, err)
		}
		if b, _ := os.ReadFile(s.path); string(b) != content {
			t.Errorf("%.20q was replaced", content)
		}
		if p, err := s.Pool(); err == nil || p.Equal(x509.NewCertPool()) {
			t.Errorf("%.20q: %v, or no usual authorities", content, err)
		}
	}
	s := New(t.TempDir())
	defer durable.Fault(func(string) error { return errors.New("fault") })()
	if _, err := s.Add(t.Context(), good, noon); err == nil {
		t.Error("a failed write is no error")
	}
}

func TestUsual(t *testing.T) {
	c, _, _ := authority(t, "ISRG Root X1", nil)
	if Usual(c) {
		t.Error("a name makes no authority")
	}
	p, err := New(t.TempDir()).Pool()
	if err != nil || !p.Equal(usual()) || p.Equal(x509.NewCertPool()) {
		t.Errorf("%v", err)
	}
}
