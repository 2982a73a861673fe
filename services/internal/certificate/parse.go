package certificate

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/parley-meet/parley/services/internal/fault"
)

// Bounds of what is uploaded.
const (
	MaxChain   = 10        // certificates
	maxChain   = 256 << 10 // bytes of PEM
	maxKey     = 32 << 10  // bytes of PEM
	minRSA     = 2048      // bits
	maxRSA     = 8192      // bits: a larger one makes handshakes cost too much
	maxShown   = 120       // characters of a subject
	dateFormat = "2006-01-02 15:04 UTC"
)

// ParsePEM reads up to limit certificates from text, in the order in which they
// stand there. Text between them is passed over, as OpenSSL writes it. A fault
// names field.
func ParsePEM(field, text string, limit int) ([]*x509.Certificate, error) {
	if len(text) > maxChain {
		return nil, fault.New(field, "pem-size", maxChain>>10)
	}
	var out []*x509.Certificate
	rest := []byte(text)
	for {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		switch {
		case b.Type != "CERTIFICATE" && b.Type != "X509 CERTIFICATE" && b.Type != "TRUSTED CERTIFICATE":
			if strings.Contains(b.Type, "PRIVATE KEY") {
				return nil, fault.New(field, "pem-key")
			}
			return nil, fault.New(field, "pem-other", Clean(b.Type, 40))
		case b.Type == "TRUSTED CERTIFICATE": // OpenSSL's own form, with an appendix
			return nil, fault.New(field, "pem-other", b.Type)
		case len(out) == limit:
			return nil, fault.New(field, "pem-many", limit)
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, fault.New(field, "pem-bad", len(out)+1, Clean(err.Error(), 200))
		}
		out = append(out, c)
	}
	switch {
	case len(out) > 0 && bytes.Contains(rest, []byte("-----BEGIN")): // half a block is left
		return nil, fault.New(field, "pem-bad", len(out)+1, "PEM")
	case len(out) > 0:
		return out, nil
	case strings.TrimSpace(text) == "":
		return nil, fault.New(field, "required")
	}
	return nil, fault.New(field, "pem-none")
}

// parseKey reads a private key: PKCS #1, PKCS #8 or SEC 1, in PEM.
func parseKey(text string) (crypto.Signer, error) {
	bad := func(code string, args ...any) (crypto.Signer, error) { return nil, fault.New("key", code, args...) }
	if len(text) > maxKey {
		return bad("pem-size", maxKey>>10)
	}
	rest := []byte(text)
	var found crypto.Signer
	for {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			break
		}
		var key any
		var err error
		switch {
		case b.Type == "EC PARAMETERS": // OpenSSL writes it before the key
			continue
		case b.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(b.Headers["Proc-Type"], "ENCRYPTED"):
			return bad("key-encrypted")
		case found != nil:
			return bad("key-many")
		case b.Type == "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(b.Bytes)
		case b.Type == "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(b.Bytes)
		case b.Type == "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(b.Bytes)
		default:
			return bad("key-other", Clean(b.Type, 40))
		}
		if err != nil {
			// What the parser says may quote nothing of the key, but is no help either.
			return bad("key-bad")
		}
		signer, ok := key.(crypto.Signer)
		if !ok { // X25519
			return bad("key-kind", fmt.Sprintf("%T", key))
		}
		found = signer
	}
	if found == nil {
		if strings.TrimSpace(text) == "" {
			return bad("required")
		}
		return bad("key-none")
	}
	if err := checkPublic("key", found.Public()); err != nil {
		return nil, err
	}
	return found, nil
}

// checkPublic refuses keys that browsers do not take, or that are weak.
func checkPublic(field string, key crypto.PublicKey) error {
	switch k := key.(type) {
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < minRSA || n > maxRSA {
			return fault.New(field, "key-size", n, minRSA, maxRSA)
		}
		return nil
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() && k.Curve != elliptic.P384() {
			return fault.New(field, "key-curve", k.Curve.Params().Name)
		}
		return nil
	case ed25519.PublicKey:
		return fault.New(field, "key-ed25519")
	}
	return fault.New(field, "key-kind", strings.TrimPrefix(fmt.Sprintf("%T", key), "*"))
}

// keyName spells a public key for people.
func keyName(key crypto.PublicKey) string {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", k.N.BitLen())
	case *ecdsa.PublicKey:
		return "ECDSA " + k.Curve.Params().Name
	case ed25519.PublicKey:
		return "Ed25519"
	}
	return fmt.Sprintf("%T", key)
}

// order puts a chain into the order of RFC 8446, 4.4.2: the leaf first, each
// next one signs the one before. Only the order that was meant can be found:
// the leaf is the one that signs no other. A certificate that belongs to no
// link is a fault.
func order(certs []*x509.Certificate) ([]*x509.Certificate, error) {
	if len(certs) == 0 {
		return nil, fault.New("chain", "required")
	}
	certs = slices.CompactFunc(slices.Clone(certs), (*x509.Certificate).Equal)
	signed := func(c, by *x509.Certificate) bool {
		return bytes.Equal(c.RawIssuer, by.RawSubject) && c.CheckSignatureFrom(by) == nil
	}
	var leaves []*x509.Certificate
	for i, c := range certs {
		if slices.ContainsFunc(certs[:i], c.Equal) {
			return nil, fault.New("chain", "chain-twice", Name(c))
		}
		signs := false
		for j, o := range certs {
			signs = signs || i != j && signed(o, c)
		}
		if !signs {
			leaves = append(leaves, c)
		}
	}
	if len(leaves) == 0 {
		return nil, fault.New("chain", "chain-circle")
	}
	leaf := leaves[0]
	if len(leaves) > 1 {
		// The one that is no authority is the leaf; the other is out of place.
		if i := slices.IndexFunc(leaves, func(c *x509.Certificate) bool { return !c.IsCA }); i >= 0 {
			leaf = leaves[i]
		}
		other := leaves[0]
		if other == leaf {
			other = leaves[1]
		}
		return nil, fault.New("chain", "chain-broken", Name(other), Name(leaf))
	}
	out := []*x509.Certificate{leaf}
	for len(out) < len(certs) {
		last := out[len(out)-1]
		i := slices.IndexFunc(certs, func(c *x509.Certificate) bool { return !slices.ContainsFunc(out, c.Equal) && signed(last, c) })
		if i < 0 {
			i = slices.IndexFunc(certs, func(c *x509.Certificate) bool { return !slices.ContainsFunc(out, c.Equal) })
			return nil, fault.New("chain", "chain-broken", Name(certs[i]), Name(leaf))
		}
		out = append(out, certs[i])
	}
	return out, nil
}

// checkLeaf says why a browser would refuse the certificate at now.
func checkLeaf(c *x509.Certificate, now time.Time) error {
	if err := checkDates("chain", c, now); err != nil {
		return err
	}
	if len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) > 0 && !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth) && !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny) {
		return fault.New("chain", "leaf-usage")
	}
	if len(c.DNSNames)+len(c.IPAddresses) == 0 {
		return fault.New("chain", "leaf-names")
	}
	return checkPublic("chain", c.PublicKey)
}

func checkDates(field string, c *x509.Certificate, now time.Time) error {
	switch {
	case !now.Before(c.NotAfter):
		return fault.New(field, "cert-expired", Name(c), c.NotAfter.UTC().Format(dateFormat))
	case now.Before(c.NotBefore):
		return fault.New(field, "cert-early", Name(c), c.NotBefore.UTC().Format(dateFormat))
	}
	return nil
}

// matches reports whether a key is the certificate's.
func matches(c *x509.Certificate, key crypto.Signer) bool {
	p, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && p.Equal(c.PublicKey)
}

// Name returns a certificate's subject for people: its common name where it has
// one, without characters that do something to a screen.
func Name(c *x509.Certificate) string {
	s := c.Subject.CommonName
	switch {
	case s != "":
	case c.Subject.String() != "":
		s = c.Subject.String()
	case len(c.DNSNames) > 0:
		s = c.DNSNames[0]
	default:
		s = "#" + c.SerialNumber.Text(16)
	}
	return Clean(s, maxShown)
}

// Clean cuts a text from outside to max characters and takes out those that do
// something to a screen.
func Clean(s string, max int) string {
	var b strings.Builder
	n := 0
	for _, r := range s {
		if n == max {
			b.WriteString("…")
			break
		}
		// An invalid byte comes out of range as U+FFFD, which is printable.
		if !unicode.IsPrint(r) {
			r = '\uFFFD'
		}
		b.WriteRune(r)
		n++
	}
	return b.String()
}
