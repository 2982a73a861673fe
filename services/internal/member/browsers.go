package member

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"

	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/statefile"
)

// request is the key that browsers meet under the public name, and the signing
// request for it. The portal takes the same request again and again, and orders
// anew with it, so its bytes are kept.
type request struct {
	Version int    `json:"version"`
	Name    string `json:"name"`
	Key     string `json:"key"`     // PKCS #8, PEM
	Request string `json:"request"` // PKCS #10, PEM
}

func checkRequest(r *request) error {
	b, _ := pem.Decode([]byte(r.Key))
	if b == nil {
		return errors.New("no key in PEM")
	}
	if _, err := x509.ParsePKCS8PrivateKey(b.Bytes); err != nil {
		return err
	}
	if b, _ = pem.Decode([]byte(r.Request)); b == nil {
		return errors.New("no request in PEM")
	}
	q, err := x509.ParseCertificateRequest(b.Bytes)
	if err == nil && (len(q.DNSNames) != 1 || q.DNSNames[0] != r.Name) {
		err = fmt.Errorf("request for %q, want %q", q.DNSNames, r.Name)
	}
	return err
}

// newRequest makes a key and a request for a name.
func newRequest(name string) (request, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return request{}, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return request{}, err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{name}}, key)
	if err != nil {
		return request{}, fmt.Errorf("signing request for %q: %w", name, err)
	}
	return request{keptVersion, name, block("PRIVATE KEY", pkcs8), block("CERTIFICATE REQUEST", csr)}, nil
}

func block(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// request returns the one for a name, which is made and kept where there is none.
func (k keep) request(ctx context.Context, name string) (request, error) {
	r, err := k.browsers.Read()
	switch {
	case err == nil && r.Name == name:
		return r, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist) && !statefile.IsDamaged(err):
		return r, err
	}
	if r, err = newRequest(name); err != nil {
		return r, err
	}
	unlock, err := k.browsers.Folder.Lock(ctx)
	if err != nil {
		return r, err
	}
	defer unlock()
	return r, k.browsers.Write(r)
}

// shown returns the certificate for browsers that a configuration has, if its key
// is the request's.
func shown(r request, cfg *link.Config) *Certificate {
	if cfg == nil || cfg.Chain == "" || r.Name == "" || r.Name != cfg.PublicName {
		return nil
	}
	if _, err := tls.X509KeyPair([]byte(cfg.Chain), []byte(r.Key)); err != nil {
		return nil
	}
	return &Certificate{cfg.Chain, r.Key}
}
