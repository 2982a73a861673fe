// Package certificate makes and keeps the web console's self-signed
// certificate: ECDSA P-256, valid for ten years, with its SHA-256 fingerprint
// in a file that the terminals show, so that an administrator can compare.
package certificate

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/parley-meet/parley/image/layout"
	"github.com/parley-meet/parley/internal/durable"
	"github.com/parley-meet/parley/services/internal/netconfig"
)

const (
	validity = 10 * 365 * 24 * time.Hour
	// early is how long before its making a certificate is valid, for browsers
	// whose clock is behind.
	early    = 24 * time.Hour
	certName = "cert.pem"
	keyName  = "key.pem"
	maxFile  = 64 << 10 // bytes
	// maxCommonName is X.509's bound (RFC 5280, A.1: ub-common-name).
	maxCommonName = 64
)

// floor is earlier than no running appliance: a clock before it is wrong.
var floor = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// fingerprintName is the file in layout.CredentialRunDir.
const fingerprintName = "fingerprint"

// Keeper holds the certificate in use. It is safe for concurrent use.
type Keeper struct {
	Dir    string // of cert.pem and key.pem
	RunDir string // of the fingerprint

	current atomic.Pointer[tls.Certificate]
	kept    bool // current is in Dir
}

// Load takes the certificate from Dir; when there is none that can be used, it
// makes one in memory, for Keep to store. The error says why, and is nil when
// there was none, as at the first start. There is a certificate in every case.
func (k *Keeper) Load(now time.Time, hostname string, addrs []netip.Addr) error {
	now = later(now)
	c, err := k.read(now)
	if err == nil {
		k.kept = true
		k.current.Store(c)
		return nil
	}
	key, kerr := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if kerr != nil {
		return kerr
	}
	c, serr := selfSign(key, now, hostname, addrs)
	if serr != nil {
		return serr
	}
	k.current.Store(c)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

func later(now time.Time) time.Time {
	if now.Before(floor) {
		return floor
	}
	return now
}

func (k *Keeper) read(now time.Time) (*tls.Certificate, error) {
	cert, err := readFile(filepath.Join(k.Dir, certName))
	if err != nil {
		return nil, err
	}
	key, err := readFile(filepath.Join(k.Dir, keyName))
	if errors.Is(err, os.ErrNotExist) { // and not as if nothing had been there
		return nil, fmt.Errorf("certificate in %s has no key", k.Dir)
	}
	if err != nil {
		return nil, err
	}
	c, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("certificate in %s: %w", k.Dir, err)
	}
	if !now.Before(c.Leaf.NotAfter) {
		return nil, fmt.Errorf("certificate in %s: expired on %s", k.Dir, c.Leaf.NotAfter.Format(time.DateOnly))
	}
	return &c, nil
}

func readFile(path string) ([]byte, error) {
	f, err := durable.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("%s: more bytes, want at most %d", path, maxFile)
	}
	return b, nil
}

func selfSign(key *ecdsa.PrivateKey, now time.Time, hostname string, addrs []netip.Addr) (*tls.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	// Any name can be given to a machine; not every one can stand here, and
	// without a certificate there is no console.
	var names []string
	if netconfig.CheckName(hostname) == nil {
		names = []string{hostname}
	} else {
		hostname = "parley"
	}
	t := &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)),
		Subject:      pkix.Name{CommonName: hostname[:min(len(hostname), maxCommonName)], Organization: []string{"Parley"}},
		NotBefore:    now.Add(-early).UTC().Truncate(time.Second),
		NotAfter:     now.Add(validity).UTC().Truncate(time.Second),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     names, BasicConstraintsValid: true,
	}
	for _, a := range addrs {
		t.IPAddresses = append(t.IPAddresses, net.IP(a.AsSlice()))
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("self-signed certificate for %q: %w", hostname, err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}

// addressWait is how long Keep waits for an address to put into a new
// certificate.
const addressWait = 10 * time.Second

// Keep stores a certificate that Load made, with the addresses that the machine
// has by then, and publishes the fingerprint. It returns at once when the
// certificate came from Dir. An error means that it lasts until the process
// ends.
func (k *Keeper) Keep(ctx context.Context, hostname string, addrs func() []netip.Addr) error {
	var kept error
	if !k.kept {
		deadline := time.Now().Add(addressWait)
		found := addrs()
		// IPv6 is there at once where a router announces it; the address that
		// people type comes by DHCP, a moment later.
		for !slices.ContainsFunc(found, netip.Addr.Is4) && time.Now().Before(deadline) {
			select {
			case <-ctx.Done():
			case <-time.After(250 * time.Millisecond):
			}
			if ctx.Err() != nil { // whichever the select took
				return nil
			}
			found = addrs()
		}
		c, err := selfSign(k.current.Load().PrivateKey.(*ecdsa.PrivateKey), later(time.Now()), hostname, found)
		if err != nil {
			return err
		}
		k.current.Store(c)
		kept = k.write(c)
	}
	return errors.Join(kept, durable.WriteFile(filepath.Join(k.RunDir, fingerprintName), []byte(k.Fingerprint()+"\n"), 0o640))
}

// write stores the key first: a certificate without its key is made anew.
func (k *Keeper) write(c *tls.Certificate) error {
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		return err
	}
	key := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err := durable.WriteFile(filepath.Join(k.Dir, keyName), key, 0o600); err != nil {
		return err
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]})
	if err := durable.WriteFile(filepath.Join(k.Dir, certName), cert, 0o640); err != nil {
		return err
	}
	k.kept = true
	return nil
}

// Certificate is for tls.Config.GetCertificate.
func (k *Keeper) Certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return k.current.Load(), nil
}

// Fingerprint returns the SHA-256 fingerprint of the certificate in use, as
// browsers show it: "AB:CD:…".
func (k *Keeper) Fingerprint() string {
	sum := sha256.Sum256(k.current.Load().Certificate[0])
	return fingerprint(sum[:])
}

// ReadFingerprint returns what the web console published, or "".
func ReadFingerprint() string {
	return readFingerprint(filepath.Join(layout.CredentialRunDir, fingerprintName))
}

func readFingerprint(path string) string {
	b, err := readFile(path)
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
