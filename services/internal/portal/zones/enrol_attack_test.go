package zones

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"sync"
	"testing"

	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/portal/people"
)

func requestOf(t testing.TB, key crypto.Signer) string {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

// hugeRequest is a signing request with a key of as many bits as the bound on
// bytes lets through, under a signature that is none.
func hugeRequest(t testing.TB) string {
	t.Helper()
	type algorithm struct {
		OID  asn1.ObjectIdentifier
		Null asn1.RawValue
	}
	n := new(big.Int).Lsh(big.NewInt(1), 40000)
	key, err := asn1.Marshal(struct{ N, E *big.Int }{n.Add(n, big.NewInt(1)), big.NewInt(1<<31 - 1)})
	if err != nil {
		t.Fatal(err)
	}
	bits := func(b []byte) asn1.BitString { return asn1.BitString{Bytes: b, BitLength: 8 * len(b)} }
	info, err := asn1.Marshal(struct {
		Version int
		Subject asn1.RawValue
		Key     struct {
			Algorithm algorithm
			Key       asn1.BitString
		}
		Attributes []asn1.RawValue `asn1:"tag:0,set"`
	}{Subject: asn1.RawValue{FullBytes: []byte{0x30, 0}}, Key: struct {
		Algorithm algorithm
		Key       asn1.BitString
	}{algorithm{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}, asn1.NullRawValue}, bits(key)}})
	if err != nil {
		t.Fatal(err)
	}
	der, err := asn1.Marshal(struct {
		Info      asn1.RawValue
		Algorithm algorithm
		Signature asn1.BitString
	}{asn1.RawValue{FullBytes: info}, algorithm{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, asn1.NullRawValue}, bits(make([]byte, 300))})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := x509.ParseCertificateRequest(der); err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

// A stranger learns of nothing but his token, whatever he sends beside it; who
// has one and sends a bad request is told so, before a huge key costs anything.
func TestEnrolBadRequests(t *testing.T) {
	each(t, func(r *rig) {
		a := r.account("Acme", people.Business, "Z")
		m := r.token(a, 0)
		good, key := request(r)
		block, _ := pem.Decode([]byte(good))
		forged := append([]byte(nil), block.Bytes...)
		forged[len(forged)-1] ^= 1
		p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
		_, edwards, _ := ed25519.GenerateKey(rand.Reader)
		rsa2048, err := rsa.GenerateKey(rand.Reader, 2048)
		r.ok(err)
		in := func(csr string) link.EnrolRequest {
			return link.EnrolRequest{Role: link.Router, Host: "h", Version: "1", Request: csr}
		}
		for what, c := range map[string]struct{ csr, code string }{
			"nothing":            {"", "csr-pem"},
			"no PEM":             {"x", "csr-pem"},
			"a certificate":      {strings.ReplaceAll(good, "CERTIFICATE REQUEST", "CERTIFICATE"), "csr-pem"},
			"two":                {good + good, "csr-pem"},
			"no request":         {string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: []byte("x")})), "csr-bad"},
			"too long":           {good + strings.Repeat("\n", maxRequest), "csr-size"},
			"a forged signature": {string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: forged})), "csr-signature"},
			"RSA":                {requestOf(r, rsa2048), "csr-key"},
			"P-384":              {requestOf(r, p384), "csr-key"},
			"a huge key":         {hugeRequest(r), "csr-key"},
		} {
			_, err := r.s.Enrol(r.Context(), "not a token", from, in(c.csr))
			if !errors.Is(err, ErrToken) {
				r.Errorf("%s, from a stranger: %v", what, err)
			}
			_, err = r.s.Enrol(r.Context(), m.Secret, from, in(c.csr))
			if l := fault.Of(err); len(l) != 1 || l[0].Code != c.code || l[0].Field != "request" {
				r.Errorf("%s: %v, want %s", what, err, c.code)
			}
		}
		if list, err := r.s.Appliances(r.Context(), a); err != nil || len(list) != 0 {
			r.Errorf("%v %v", list, err)
		}
		// A key and a request may come again: what they make is another appliance.
		one, err := r.s.Enrol(r.Context(), m.Secret, from, in(requestOf(r, edwards)))
		r.ok(err)
		two, err := r.s.Enrol(r.Context(), m.Secret, from, in(good))
		r.ok(err)
		three, err := r.s.Enrol(r.Context(), m.Secret, from, in(good))
		r.ok(err)
		if one.Appliance == two.Appliance || two.Appliance == three.Appliance || !key.PublicKey.Equal(leaf(r, three.Certificate).PublicKey) {
			r.Errorf("%s %s %s", one.Appliance, two.Appliance, three.Appliance)
		}
	})
}

// Of those who enrol while their token is revoked with its appliances none is
// left: each was in time and is taken out, or came too late.
func TestEnrolWhileRevoked(t *testing.T) {
	each(t, func(r *rig) {
		ctx := context.WithoutCancel(r.Context())
		a := r.account("Acme", people.Business, "Z")
		m := r.token(a, 0)
		csr, _ := request(r)
		var wg sync.WaitGroup
		var mu sync.Mutex
		var in, late int
		for i := range 100 {
			wg.Go(func() {
				if i == 50 {
					if err := r.s.RevokeToken(ctx, a, m.Token.ID, true); err != nil {
						r.Error(err)
					}
					return
				}
				_, err := r.s.Enrol(ctx, m.Secret, from, link.EnrolRequest{Role: link.Router, Host: "h", Version: "1", Request: csr})
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					in++
				case errors.Is(err, ErrToken):
					late++
				default:
					r.Logf("neither: %v", err)
				}
			})
		}
		wg.Wait()
		if list, err := r.s.Appliances(ctx, a); err != nil || len(list) != 0 {
			r.Errorf("%d appliances are left of a token that was revoked with them, %v", len(list), err)
		}
		r.Logf("%d in time, %d too late", in, late)
		if in+late == 0 {
			r.Error("nobody got an answer")
		}
	})
}
