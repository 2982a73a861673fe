package link

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"math/big"
	"net"
	"testing"
	"time"
)

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"kind":"hello","body":{"boot":"x","status":{"addresses":["192.0.2.1"],"cpu":0.5}}}`))
	f.Add([]byte(`{"kind":"event","body":{"number":1,"at":"2026-01-01T00:00:00Z","name":"meeting.started"}}`))
	f.Add([]byte(`{"kind":"config","body":{"generation":2,"appliances":[{"id":"a"}],"keys":{}}}`))
	f.Add([]byte(`{"kind":"bye","body":{"why":"stopping","after":1000}}`))
	f.Add([]byte(`{"kind":"renew"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Parse(b)
		if err != nil {
			return
		}
		for _, v := range []any{new(Hello), new(Welcome), new(Status), new(Event), new(Ack), new(Config), new(Renew), new(Renewed), new(Bye)} {
			_ = m.Into(v) // an error, never a panic
		}
	})
}

// A certificate that is trusted, but for another name, is no portal's: neither by
// name nor by address.
func TestVerifyName(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	root := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	make := func(c *x509.Certificate) *x509.Certificate {
		der, err := x509.CreateCertificate(rand.Reader, c, root, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		out, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	root = make(root)
	leaf := make(&x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: root.NotBefore, NotAfter: root.NotAfter, DNSNames: []string{"portal.example"}, IPAddresses: []net.IP{net.IPv4(192, 0, 2, 1)}})
	roots := x509.NewCertPool()
	roots.AddCert(root)
	sum := sha256.Sum256(root.RawSubjectPublicKeyInfo)
	none := x509.NewCertPool()
	for host, good := range map[string]bool{"portal.example": true, "192.0.2.1": true, "evil.example": false, "192.0.2.2": false, "": false} {
		for what, err := range map[string]error{
			"a usual root":  verify([]*x509.Certificate{leaf, root}, host, roots, nil, now),
			"a pinned root": verify([]*x509.Certificate{leaf, root}, host, none, sum[:], now),
		} {
			if (err == nil) != good {
				t.Errorf("%q by %s: %v", host, what, err)
			}
		}
	}
	other := sha256.Sum256(nil)
	if verify([]*x509.Certificate{leaf, root}, "portal.example", none, other[:], now) == nil {
		t.Error("another pin was taken")
	}
	if verify([]*x509.Certificate{leaf, root}, "portal.example", roots, nil, now.Add(2*time.Hour)) == nil {
		t.Error("an old certificate was taken")
	}
}
