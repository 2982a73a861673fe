package load

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
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

	"github.com/parley-meet/parley/services/internal/ticket"
)

// KeyID names the key of a trial.
const KeyID = "load"

// ReadKey reads the key with which a trial's tickets are signed, from a file in PEM
// (PKCS #8, Ed25519).
func ReadKey(file string) (ticket.Key, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return ticket.Key{}, err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return ticket.Key{}, fmt.Errorf("%s: no PEM in it", file)
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return ticket.Key{}, fmt.Errorf("%s: %w", file, err)
	}
	key, ok := k.(ed25519.PrivateKey)
	if !ok {
		return ticket.Key{}, fmt.Errorf("%s: a key of type %T, want Ed25519", file, k)
	}
	return ticket.Key{ID: KeyID, Private: key}, nil
}

// NewClient returns a client that trusts the certificates of a file, PEM; "": those
// that the system does.
func NewClient(ca string) (*http.Client, error) {
	t := &http.Transport{MaxIdleConnsPerHost: 16, TLSClientConfig: &tls.Config{}}
	if ca != "" {
		b, err := os.ReadFile(ca)
		if err != nil {
			return nil, err
		}
		t.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("%s: no certificate in it; want PEM", ca)
		}
	}
	return &http.Client{Timeout: time.Minute, Transport: t}, nil
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
