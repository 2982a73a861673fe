package zonecert

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/url"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/link"
)

// What an authority issues verifies, for as long as it lives, and says whose it is.
func TestIssue(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	root, pkcs8, err := Authority("z1", now)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := x509.ParsePKCS8PrivateKey(pkcs8)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Issue(root, signer, "z1", "a1", link.Router, key.Public(), now)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := Read(c); err != nil || n != (Names{"z1", "a1", link.Router}) {
		t.Errorf("%+v, %v", n, err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(root)
	for at, good := range map[time.Duration]bool{-backdate: true, -backdate - time.Minute: false, LeafLife: true, LeafLife + time.Minute: false} {
		_, err := c.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now.Add(at), DNSName: Name("a1"), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
		if (err == nil) != good {
			t.Errorf("after %v: %v", at, err)
		}
	}
	if _, err := Issue(c, key, "z1", "a2", link.Router, key.Public(), now); err == nil {
		_, err = mustIssue(t, c, key, now).Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now})
		if err == nil {
			t.Error("an appliance issues certificates that verify")
		}
	}
	again, _, err := Authority("z1", now)
	if err != nil || again.SerialNumber.Cmp(root.SerialNumber) == 0 {
		t.Errorf("the same serial number twice, %v", err)
	}
}

func mustIssue(t *testing.T, parent *x509.Certificate, key *ecdsa.PrivateKey, now time.Time) *x509.Certificate {
	t.Helper()
	c, err := Issue(parent, key, "z1", "a2", link.Router, key.Public(), now)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestRead(t *testing.T) {
	good := func() *x509.Certificate {
		return &x509.Certificate{URIs: []*url.URL{URI("z1", "a1")}, Subject: pkix.Name{CommonName: "a1", OrganizationalUnit: []string{"controller"}}}
	}
	if _, err := Read(good()); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*x509.Certificate){
		"no URI":          func(c *x509.Certificate) { c.URIs = nil },
		"two URIs":        func(c *x509.Certificate) { c.URIs = append(c.URIs, c.URIs[0]) },
		"another scheme":  func(c *x509.Certificate) { c.URIs[0].Scheme = "https" },
		"another host":    func(c *x509.Certificate) { c.URIs[0].Host = "zones" },
		"no zone":         func(c *x509.Certificate) { c.URIs[0] = URI("", "a1") },
		"no appliance":    func(c *x509.Certificate) { c.URIs[0] = URI("z1", "") },
		"a longer path":   func(c *x509.Certificate) { c.URIs[0].Path += "/a1" },
		"another subject": func(c *x509.Certificate) { c.Subject.CommonName = "a2" },
		"no role":         func(c *x509.Certificate) { c.Subject.OrganizationalUnit = nil },
		"another role":    func(c *x509.Certificate) { c.Subject.OrganizationalUnit = []string{"portal"} },
	} {
		c := good()
		spoil(c)
		if n, err := Read(c); err == nil {
			t.Errorf("%s: %+v", name, n)
		}
	}
}
