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

// Appliances that lost the portal together come back apart: at each attempt the
// waits of many fill the whole of a range that grows.
func TestBackoff(t *testing.T) {
	for attempt, most := range map[int]time.Duration{0: 500 * time.Millisecond, 3: 4 * time.Second, 7: time.Minute, 1000: time.Minute} {
		const n = 200
		var parts [10]int
		for i := range n {
			d := Backoff(attempt, float64(i)/n)
			if d < 0 || d >= most {
				t.Fatalf("attempt %d: %v, want less than %v", attempt, d, most)
			}
			parts[int(10*d/most)]++
		}
		for i, k := range parts {
			if k < n/20 {
				t.Errorf("attempt %d: %d of %d in part %d", attempt, k, n, i)
			}
		}
	}
}

// What waits is bounded, and the oldest goes first.
func TestOutbox(t *testing.T) {
	c := &Client{post: make(chan struct{}, 1)}
	for range maxOutbox + 5 {
		if err := c.Event("x", 1, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	if n, dropped := c.Waiting(); n != maxOutbox || dropped != 5 || c.outbox[0].Number != 6 {
		t.Errorf("%d wait, %d dropped, the first is %d", n, dropped, c.outbox[0].Number)
	}
	(&session{c: c}).taken(10)
	if c.outbox[0].Number != 11 {
		t.Errorf("the first is %d", c.outbox[0].Number)
	}
}

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
