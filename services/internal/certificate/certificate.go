// Package certificate makes and keeps the web console's certificate: the one
// that an administrator uploaded, or a self-signed one (ECDSA P-256, valid for
// ten years) whose SHA-256 fingerprint the terminals show, so that he can compare.
//
// Both consoles change it, in a folder that they share (Store); the web console
// serves it (Keeper) and sees changes by itself. Each file holds a certificate
// with its key, so that a power cut cannot part them:
//
//	self.pem      key and certificate, signed by itself
//	uploaded.pem  key and chain, leaf first; in use as long as it is good
//	request.pem   key and signing request, until its certificate is uploaded
package certificate

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/parley-meet/parley/image/layout"
	"github.com/parley-meet/parley/internal/durable"
	"github.com/parley-meet/parley/services/internal/netconfig"
)

const (
	validity = 10 * 365 * 24 * time.Hour
	// early is how long before its making a certificate is valid, for browsers
	// whose clock is behind.
	early = 24 * time.Hour
	// renewal is how long before its end a self-signed certificate is made anew.
	renewal = 30 * 24 * time.Hour
	// maxCommonName is X.509's bound (RFC 5280, A.1: ub-common-name).
	maxCommonName = 64
)

// floor is earlier than no running appliance: a clock before it is wrong.
var floor = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// fingerprintName is the file in layout.CredentialRunDir.
const fingerprintName = "fingerprint"

func later(now time.Time) time.Time {
	if now.Before(floor) {
		return floor
	}
	return now
}

func readFile(path string, limit int64) ([]byte, error) {
	f, err := durable.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s: more bytes, want at most %d", path, limit)
	}
	return b, nil
}

// Names are what a self-signed certificate is for.
type Names struct {
	Host      string // of the machine
	Public    string // that people use; "": none
	Addresses []netip.Addr
}

// selfSign makes a key and its certificate.
func selfSign(now time.Time, n Names) (*tls.Certificate, error) {
	now = later(now)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	// Any name can be given to a machine; not every one can stand here, and
	// without a certificate there is no console.
	var names []string
	common := "parley"
	for _, name := range []string{n.Public, n.Host} {
		if netconfig.CheckName(name) == nil {
			common = name
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	t := &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)),
		Subject:      pkix.Name{CommonName: common[:min(len(common), maxCommonName)], Organization: []string{"Parley"}},
		NotBefore:    now.Add(-early).UTC().Truncate(time.Second),
		NotAfter:     now.Add(validity).UTC().Truncate(time.Second),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     names, BasicConstraintsValid: true,
	}
	for _, a := range n.Addresses {
		t.IPAddresses = append(t.IPAddresses, net.IP(a.AsSlice()))
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("self-signed certificate for %q: %w", common, err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}

// Sum returns a certificate's SHA-256 fingerprint as browsers show it: "AB:CD:…".
func Sum(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return fingerprint(sum[:])
}

// ReadFingerprint returns what the web console published, or "".
func ReadFingerprint() string {
	return readFingerprint(filepath.Join(layout.CredentialRunDir, fingerprintName))
}

func readFingerprint(path string) string {
	b, err := readFile(path, 4096)
	if err != nil {
		return ""
	}
	text := string(bytes.TrimSpace(b))
	sum, err := hex.DecodeString(strings.ReplaceAll(text, ":", ""))
	if err != nil || len(sum) != sha256.Size || fingerprint(sum) != text {
		return ""
	}
	return text
}

// fingerprint spells a sum as browsers do.
func fingerprint(sum []byte) string {
	var b strings.Builder
	for i, c := range sum {
		if i > 0 {
			b.WriteByte(':')
		}
		fmt.Fprintf(&b, "%02X", c)
	}
	return b.String()
}
