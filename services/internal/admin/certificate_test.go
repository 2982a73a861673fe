package admin_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/admin"
	"github.com/parley-meet/parley/services/internal/admintest"
	"github.com/parley-meet/parley/services/internal/fault"
)

// pair is a certificate that signs itself, and its key, in PEM.
func pair(t *testing.T, name string, authority bool) (chain, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IsCA: authority,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tpl, tpl, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, b []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}))
	}
	return block("CERTIFICATE", der), block("PRIVATE KEY", keyDER)
}

func TestCertificate(t *testing.T) {
	r := admintest.New(t)
	ctx := t.Context()
	if _, err := r.Certificate(ctx); !errors.Is(err, admin.ErrAway) {
		t.Errorf("before there is one: %v", err)
	}
	if err := r.ResetCertificate(ctx, admintest.Operator); err != nil {
		t.Fatal(err)
	}
	c, err := r.Certificate(ctx)
	if err != nil || !c.SelfSigned || !c.CoversName || len(c.SHA256) != 95 {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := r.SetConnector(ctx, admintest.Operator, admin.ConnectorInput{PublicName: "meet.example.org"}); err != nil {
		t.Fatal(err)
	}
	if c, err := r.Certificate(ctx); err != nil || c.CoversName {
		t.Errorf("%+v, %v: want that the new name is not covered", c, err)
	}
	chain, key := pair(t, "meet.example.org", false)
	if err := r.InstallCertificate(ctx, admintest.Operator, chain, "x"); !fault.Of(err).Has("key") {
		t.Errorf("%v", err)
	}
	if err := r.InstallCertificate(ctx, admintest.Operator, chain, key); err != nil {
		t.Fatal(err)
	}
	if c, err := r.Certificate(ctx); err != nil || c.SelfSigned || !c.CoversName || c.Problem != "" || len(c.Warnings) != 1 || c.Warnings[0] != "expires-soon" {
		t.Errorf("%+v, %v", c, err)
	}
	text, err := r.RequestCertificate(ctx, admintest.Operator, admin.RequestInput{Names: []string{"meet.example.org"}})
	if err != nil {
		t.Fatal(err)
	}
	if c, err := r.Certificate(ctx); err != nil || c.Request != text || !strings.HasPrefix(text, "-----BEGIN CERTIFICATE REQUEST") {
		t.Errorf("%+v, %v", c, err)
	}
	// Resetting makes one for the public name.
	if err := r.ResetCertificate(ctx, admintest.Operator); err != nil {
		t.Fatal(err)
	}
	if c, err := r.Certificate(ctx); err != nil || !c.SelfSigned || !c.CoversName {
		t.Errorf("%+v, %v", c, err)
	}
	list, err := r.Audit(ctx, 100)
	if err != nil {
		t.Fatal(err)
	}
	var what []string
	for _, e := range list {
		what = append(what, e.What)
		if strings.Contains(e.Detail, "BEGIN") {
			t.Errorf("the audit log has %q", e.Detail)
		}
	}
	if got := strings.Join(what, " "); !strings.HasPrefix(got, "certificate.reset certificate.request certificate.install connector.set certificate.reset") {
		t.Errorf("audit log: %s", got)
	}
}

func TestAuthorities(t *testing.T) {
	r := admintest.New(t)
	ctx := t.Context()
	text, _ := pair(t, "Company CA", true)
	if err := r.AddAuthority(ctx, admintest.Operator, text); err != nil {
		t.Fatal(err)
	}
	list, err := r.Authorities(ctx)
	if err != nil || len(list) != 1 || list[0].Subject != "CN=Company CA" {
		t.Fatalf("%+v, %v", list, err)
	}
	if err := r.AddAuthority(ctx, admintest.Operator, text); !fault.Of(err).Has("pem") {
		t.Errorf("twice: %v", err)
	}
	if err := r.RemoveAuthority(ctx, admintest.Operator, "AB"); !errors.Is(err, admin.ErrUnknown) {
		t.Errorf("%v", err)
	}
	if err := r.RemoveAuthority(ctx, admintest.Operator, list[0].SHA256); err != nil {
		t.Error(err)
	}
	if list, err := r.Authorities(ctx); err != nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestCertificatesDenied(t *testing.T) {
	r := admintest.New(t)
	ctx := t.Context()
	if err := r.ResetCertificate(ctx, admintest.Operator); err != nil {
		t.Fatal(err)
	}
	before, err := r.Certificate(ctx)
	if err != nil {
		t.Fatal(err)
	}
	ca, _ := pair(t, "Company CA", true)
	chain, key := pair(t, "a.example", false)
	_, rerr := r.RequestCertificate(ctx, admintest.Viewer, admin.RequestInput{Names: []string{"a.example"}})
	for _, err := range []error{
		rerr, r.ResetCertificate(ctx, admintest.Viewer), r.InstallCertificate(ctx, admintest.Viewer, chain, key),
		r.AddAuthority(ctx, admintest.Viewer, ca), r.RemoveAuthority(ctx, admintest.Viewer, "AB"),
	} {
		if !errors.Is(err, admin.ErrDenied) {
			t.Errorf("%v, want ErrDenied", err)
		}
	}
	after, err := r.Certificate(ctx)
	if list, lerr := r.Authorities(ctx); err != nil || lerr != nil || len(list) != 0 || after.SHA256 != before.SHA256 || after.Request != "" {
		t.Errorf("something changed: %+v, %v, %v", after, list, err)
	}
}
