package zones

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/portal/live"
	"github.com/parley-meet/parley/services/internal/portal/store"
	"github.com/parley-meet/parley/services/internal/zonecert"
)

// Bounds of signing requests.
const (
	maxRequest = 8 << 10 // bytes of a signing request
	maxRSA     = 4096    // bits
)

// keyPurpose seals the authorities' keys in the vault; the row is the key's id.
const keyPurpose = "zone key"

// makeAuthority makes a zone's key and a certificate that it signs itself.
func (s *Service) makeAuthority(tx *store.Tx, z Zone) error {
	now := s.now()
	cert, pkcs8, err := zonecert.Authority(z.ID, now)
	if err != nil {
		return err
	}
	id := store.NewID()
	_, err = tx.Exec("INSERT INTO zone_keys (id, zone_id, certificate, key, created, expires) VALUES (?,?,?,?,?,?)",
		id, z.ID, cert.Raw, s.cfg.Vault.Seal(keyPurpose, id, pkcs8), store.Millis(now), store.Millis(cert.NotAfter))
	return err
}

// authority is a zone's key with its certificate.
type authority struct {
	id     string
	cert   *x509.Certificate
	sealed []byte
}

// authorities returns those of a zone that are good, the newest first.
func (s *Service) authorities(tx *store.Tx, zone string) ([]authority, error) {
	var out []authority
	err := tx.Each(func(scan func(...any) error) error {
		var a authority
		var der []byte
		if err := scan(&a.id, &der, &a.sealed); err != nil {
			return err
		}
		var err error
		a.cert, err = x509.ParseCertificate(der)
		out = append(out, a)
		return err
	}, "SELECT id, certificate, key FROM zone_keys WHERE zone_id = ? AND expires > ? ORDER BY created DESC, id DESC", zone, store.Millis(s.now()))
	if err == nil && len(out) == 0 {
		err = fmt.Errorf("zone %s has no authority", zone)
	}
	return out, err
}

// chain returns a zone's authorities in PEM.
func chain(list []authority) string {
	var b strings.Builder
	for _, a := range list {
		if err := pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}); err != nil {
			panic(err) // a Builder takes everything
		}
	}
	return b.String()
}

// issue signs a certificate for an appliance's key with the zone's newest
// authority.
func (s *Service) issue(tx *store.Tx, id string, z Zone, role link.Role, key crypto.PublicKey) (*x509.Certificate, []authority, error) {
	list, err := s.authorities(tx, z.ID)
	if err != nil {
		return nil, nil, err
	}
	if now := s.now(); list[0].cert.NotAfter.Sub(now) < zonecert.Rollover {
		if err := s.makeAuthority(tx, z); err != nil {
			return nil, nil, err
		}
		if list, err = s.authorities(tx, z.ID); err != nil {
			return nil, nil, err
		}
		if err := Touch(tx, z.ID); err != nil {
			return nil, nil, err
		}
	}
	a := list[0]
	pkcs8, err := s.cfg.Vault.Open(keyPurpose, a.id, a.sealed)
	if err != nil {
		return nil, nil, fmt.Errorf("key of zone %s: %w", z.ID, err)
	}
	signer, err := x509.ParsePKCS8PrivateKey(pkcs8)
	if err != nil {
		return nil, nil, fmt.Errorf("key of zone %s: %w", z.ID, err)
	}
	c, err := zonecert.Issue(a.cert, signer, z.ID, id, role, key, s.now())
	return c, list, err
}

// readRequest reads a signing request (PKCS #10, RFC 2986) in PEM, whose
// signature proves that the sender has the key. judge returns what is wrong with
// the key, before: a huge one's signature is dear to check. Errors are faults of
// the field "request".
func readRequest(text string, judge func(key any) (code string)) (*x509.CertificateRequest, error) {
	if len(text) > maxRequest {
		return nil, fault.New("request", "csr-size", maxRequest)
	}
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE REQUEST" || len(strings.TrimSpace(string(rest))) > 0 {
		return nil, fault.New("request", "csr-pem")
	}
	r, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, fault.New("request", "csr-bad")
	}
	if code := judge(r.PublicKey); code != "" {
		return nil, fault.New("request", code)
	}
	if r.CheckSignature() != nil {
		return nil, fault.New("request", "csr-signature")
	}
	return r, nil
}

// ParseRequest reads a signing request for the link's certificate: the key is
// Ed25519 or ECDSA P-256.
func ParseRequest(text string) (*x509.CertificateRequest, error) {
	return readRequest(text, func(key any) string {
		switch key := key.(type) {
		case ed25519.PublicKey:
			return ""
		case *ecdsa.PublicKey:
			if key.Curve == elliptic.P256() {
				return ""
			}
		}
		return "csr-key"
	})
}

// forBrowsers is ParseRequest for a certificate for browsers; package names
// judges the rest.
func forBrowsers(text string) (*x509.CertificateRequest, error) {
	return readRequest(text, func(key any) string {
		if k, is := key.(*rsa.PublicKey); is && k.N.BitLen() > maxRSA {
			return "names-csr-key"
		}
		return ""
	})
}

// Identify returns which appliance a certificate belongs to.
func (s *Service) Identify(ctx context.Context, c *x509.Certificate) (live.Identity, error) {
	names, err := zonecert.Read(c)
	if err != nil {
		return live.Identity{}, fmt.Errorf("%w: %w", live.ErrForeign, err)
	}
	zone, id := names.Zone, names.Appliance
	i := live.Identity{Appliance: id, Zone: zone, Serial: c.SerialNumber.Text(16)}
	err = s.cfg.DB.Read(ctx, func(tx *store.Tx) error {
		list, err := s.authorities(tx, zone)
		if err != nil {
			return live.ErrForeign
		}
		roots := x509.NewCertPool()
		for _, a := range list {
			roots.AddCert(a.cert)
		}
		now := s.now()
		ended := now.After(c.NotAfter)
		if ended { // it is to be told, when all else is right
			now = c.NotAfter
		}
		if _, err := c.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
			return fmt.Errorf("%w: %w", live.ErrForeign, err)
		}
		var inZone, last, before string
		err = tx.Row("SELECT zone_id, account_id, role, serial, previous FROM appliances WHERE id = ?", id).Scan(&inZone, &i.Account, &i.Role, &last, &before)
		if errors.Is(err, store.ErrNotFound) {
			return live.ErrRevoked
		}
		if err != nil {
			return err
		}
		if inZone != zone || !slices.Contains(serials(last, before), i.Serial) {
			return live.ErrRevoked
		}
		if err := check(tx, id); err != nil || !ended {
			return err
		}
		return live.ErrExpired
	})
	return i, err
}

// check reports whether an appliance may be linked.
func check(tx *store.Tx, id string) error {
	var revoked, on, suspended int64
	err := tx.Row("SELECT p.revoked, a.connector_enabled, a.suspended FROM appliances p JOIN accounts a ON a.id = p.account_id WHERE p.id = ?", id).
		Scan(&revoked, &on, &suspended)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return live.ErrRevoked
	case err != nil:
		return err
	case revoked != 0:
		return live.ErrRevoked
	case on == 0 || suspended != 0:
		return live.ErrDisabled
	}
	return nil
}

// Renew answers an appliance's request for a certificate; shown is the serial
// number of the one by which its link stands.
func (s *Service) Renew(ctx context.Context, id, shown string, r link.Renew) (link.Renewed, error) {
	out := link.Renewed{For: r.For}
	parse := ParseRequest
	if r.For == "browsers" {
		parse = forBrowsers
	}
	req, err := parse(r.Request)
	if err != nil {
		return out, err
	}
	switch r.For {
	case "link":
		err := s.cfg.DB.Write(ctx, func(tx *store.Tx) error {
			if err := check(tx, id); err != nil {
				return err
			}
			a, err := getAppliance(tx, id)
			if err != nil {
				return err
			}
			z, err := Get(tx, a.Zone)
			if err != nil {
				return err
			}
			good := serials(a.Serial, a.Previous)
			i := slices.Index(good, shown)
			if i < 0 {
				return live.ErrRevoked // a newer one has been renewed since
			}
			c, list, err := s.issue(tx, id, z, a.Role, req.PublicKey)
			if err != nil {
				return err
			}
			out.Certificate = leafPEM(c) + chain(list[:1])
			// The certificate that the link shows stays good until a newer one has
			// been shown in its turn, and so do those that were issued meanwhile:
			// answers may be lost, and requests may come late, by a connection that
			// the appliance has given up.
			good = good[:i+1]
			if len(good) > maxSerials {
				good = append(good[:maxSerials-1:maxSerials-1], shown)
			}
			if _, err := tx.Exec("UPDATE appliances SET previous = ?, serial = ?, expires = ? WHERE id = ?",
				strings.Join(good, " "), c.SerialNumber.Text(16), store.Millis(c.NotAfter), id); err != nil {
				return err
			}
			return Touch(tx, z.ID) // its peers know it by its serials
		})
		return out, err
	case "browsers":
		if s.cfg.Names == nil {
			return out, fault.New("for", "names-off")
		}
		var a Appliance
		if err := s.cfg.DB.Read(ctx, func(tx *store.Tx) (err error) { a, err = getAppliance(tx, id); return err }); err != nil {
			return out, err
		}
		if a.Role != link.Controller || a.PublicName == "" {
			return out, fault.New("for", "names-none")
		}
		return out, s.cfg.Names.Ask(ctx, id, a.Account, a.PublicName, req.Raw)
	}
	return out, fault.New("for", "choice", cleanText(r.For, 20), "link, browsers")
}

// maxSerials is how many certificates of an appliance are good beside the newest.
const maxSerials = 7

// serials are those of an appliance's certificates that are good, the newest
// first.
func serials(last, before string) []string { return append([]string{last}, strings.Fields(before)...) }

func leafPEM(c *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}
