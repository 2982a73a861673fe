// Package edge is the portal's outer side: the certificates that it shows, and
// the connections that it lets in.
//
// Without a certificate of the outside world the portal has a root of its own,
// kept sealed in the database so that all instances have the same one. It issues
// short leaf certificates as long as it runs. Appliances know the root by its
// pin, which is in their enrolment token.
package edge

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/parley-meet/parley/services/internal/portal/store"
	"github.com/parley-meet/parley/services/internal/portal/vault"
)

const (
	rootLife = 20 * 365 * 24 * time.Hour
	leafLife = 30 * 24 * time.Hour
	// early is how long before its end a leaf is followed by the next.
	early = 10 * 24 * time.Hour
	// past is how much a certificate is older than it is, for clocks that are late.
	past    = 24 * time.Hour
	setting = "edge.root"
	purpose = "portal tls root"
)

// Root is the portal's own root. It is safe for concurrent use.
type Root struct {
	cert  *x509.Certificate
	key   *ecdsa.PrivateKey
	names []string // of leaves
	addrs func() []net.IP
	now   func() time.Time

	mu   sync.Mutex
	leaf *tls.Certificate
	ips  []net.IP // in it
}

type kept struct {
	Certificate []byte `json:"certificate"` // DER
	Key         []byte `json:"key"`         // PKCS #8
}

// LoadRoot returns the root that the database has, and makes it at first. host
// is whom its leaves are for beside localhost and the machine's addresses.
func LoadRoot(ctx context.Context, db *store.DB, v *vault.Vault, host string) (*Root, error) {
	made, err := makeRoot(time.Now())
	if err != nil {
		return nil, err
	}
	var sealed []byte
	if err := db.Write(ctx, func(tx *store.Tx) error {
		err := tx.Row("SELECT value FROM settings WHERE name = ?", setting).Scan(&sealed)
		if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		sealed = v.Seal(purpose, setting, made)
		_, err = tx.Exec("INSERT INTO settings (name, value) VALUES (?, ?)", setting, sealed)
		return err
	}); err != nil {
		return nil, fmt.Errorf("the portal's own root: %w", err)
	}
	plain, err := v.Open(purpose, setting, sealed)
	if err != nil {
		return nil, fmt.Errorf("the portal's own root: %w", err)
	}
	var k kept
	if err := json.Unmarshal(plain, &k); err != nil {
		return nil, fmt.Errorf("the portal's own root: %w", err)
	}
	cert, err := x509.ParseCertificate(k.Certificate)
	if err != nil {
		return nil, fmt.Errorf("the portal's own root: %w", err)
	}
	key, err := x509.ParsePKCS8PrivateKey(k.Key)
	if err != nil {
		return nil, fmt.Errorf("the portal's own root: %w", err)
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("the portal's own root: key of type %T", key)
	}
	return &Root{cert: cert, key: ec, names: []string{host, "localhost"}, addrs: localAddresses, now: time.Now}, nil
}

// PEM is the root's certificate, which is no secret, for programs that are to
// trust the portal.
func (r *Root) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.cert.Raw})
}

func makeRoot(now time.Time) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	number, err := serial()
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: number, Subject: pkix.Name{CommonName: "Parley portal " + number.Text(36)[:6]},
		NotBefore: now.Add(-past), NotAfter: now.Add(rootLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return json.Marshal(kept{der, pkcs8})
}

// serial is 126 random bits, so that it is positive and has its length.
func serial() (*big.Int, error) {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 126))
	if err != nil {
		return nil, err
	}
	return n.SetBit(n, 126, 1), nil
}

// Pin returns base64url of the SHA-256 of the root's SubjectPublicKeyInfo.
func (r *Root) Pin() string {
	sum := sha256.Sum256(r.cert.RawSubjectPublicKeyInfo)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// Certificate is for tls.Config: a leaf with the root behind it. It is a new one
// when the last nears its end or the machine has other addresses.
func (r *Root) Certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	if r.leaf != nil && now.Before(r.leaf.Leaf.NotAfter.Add(-early)) && now.After(r.leaf.Leaf.NotBefore) {
		return r.leaf, nil
	}
	leaf, err := r.issue(now, r.addrs())
	if err != nil {
		return nil, err
	}
	r.leaf = leaf
	return leaf, nil
}

// Look makes the next connection's leaf a new one when the machine has other
// addresses.
func (r *Root) Look() {
	ips := r.addrs()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.leaf != nil && !slices.EqualFunc(ips, r.ips, net.IP.Equal) {
		r.leaf = nil
	}
}

func (r *Root) issue(now time.Time, ips []net.IP) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	number, err := serial()
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: number, Subject: pkix.Name{CommonName: r.names[0]},
		NotBefore: now.Add(-past), NotAfter: now.Add(leafLife), IPAddresses: slices.Clone(ips),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	}
	for _, n := range r.names {
		if a, err := netip.ParseAddr(n); err == nil {
			t.IPAddresses = append(t.IPAddresses, a.WithZone("").AsSlice())
		} else if !slices.Contains(t.DNSNames, n) {
			t.DNSNames = append(t.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, r.cert, key.Public(), r.key)
	if err != nil {
		return nil, fmt.Errorf("certificate for %s: %w", r.names[0], err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	r.ips = ips
	return &tls.Certificate{Certificate: [][]byte{der, r.cert.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

// localAddresses are those of the machine that others can name.
func localAddresses() []net.IP {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil // the names are what matters
	}
	var out []net.IP
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLinkLocalUnicast() && len(out) < 64 {
			out = append(out, n.IP)
		}
	}
	slices.SortFunc(out, func(a, b net.IP) int { return slices.Compare(a.To16(), b.To16()) })
	return out
}
