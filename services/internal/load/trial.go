package load

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// KeyID names the key of a trial.
const KeyID = "load"

// ParseKey reads an Ed25519 key (PKCS #8).
func ParseKey(der []byte) (ed25519.PrivateKey, error) {
	k, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, err
	}
	key, ok := k.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("a key of type %T, want Ed25519", k)
	}
	return key, nil
}

// ParseLiveKit takes KEY:SECRET.
func ParseLiveKit(base, pair, room string, c *http.Client) (*LiveKit, error) {
	key, secret, ok := strings.Cut(pair, ":")
	if !ok || key == "" || secret == "" {
		return nil, errors.New("-livekit: want KEY:SECRET")
	}
	return &LiveKit{Base: base, HTTP: c, Key: key, Secret: secret, Room: room}, nil
}

// trialLife is how long a trial's certificate lives.
const trialLife = 24 * time.Hour

// Trial writes what a router needs to be measured by itself into a folder: a key
// of tickets (tickets.pem, keys.json) and a certificate for an address (cert.pem,
// key.pem).
func Trial(dir, address string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	key, set, err := NewKey()
	if err != nil {
		return err
	}
	keys, err := set.Format()
	if err != nil {
		return err
	}
	tls, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	now := time.Now()
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()),
		Subject:      pkix.Name{CommonName: "Parley trial"},
		NotBefore:    now.Add(-time.Hour), NotAfter: now.Add(trialLife),
		IPAddresses: []net.IP{net.ParseIP(address)},
		IsCA:        true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, tls.Public(), tls)
	if err != nil {
		return err
	}
	tlsDER, err := x509.MarshalPKCS8PrivateKey(tls)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key.Private)
	if err != nil {
		return err
	}
	var errs []error
	write := func(name string, b []byte) {
		errs = append(errs, os.WriteFile(filepath.Join(dir, name), b, 0o600))
	}
	write("keys.json", keys)
	write("tickets.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
	write("cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	write("key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: tlsDER}))
	return errors.Join(errs...)
}
