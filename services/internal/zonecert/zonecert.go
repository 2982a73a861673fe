// Package zonecert is the form of a zone's certificates (RFC 5280): of its
// authority, and of its appliances, which are known by them to the portal and to
// each other. The portal issues them, and an appliance without one for itself.
//
//	subject   CN=APPLIANCE, OU=ROLE
//	URI       parley://zone/ZONE/appliance/APPLIANCE
//	DNS name  APPLIANCE.parley.internal, by which appliances call each other,
//	          whatever their addresses are
package zonecert

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net/url"
	"strings"
	"time"

	"github.com/parley-meet/parley/services/internal/link"
)

// Lives of certificates.
const (
	AuthorityLife = 10 * 365 * 24 * time.Hour
	// Rollover is how long before the end of a zone's authority a new one is made.
	Rollover = 365 * 24 * time.Hour
	LeafLife = 7 * 24 * time.Hour
	// backdate makes up for clocks that are behind.
	backdate = 5 * time.Minute
)

const nameSuffix = ".parley.internal"

// Name is the host name in an appliance's certificate.
func Name(appliance string) string { return appliance + nameSuffix }

// Authority makes a zone's key and a certificate that it signs itself; key is
// PKCS #8.
func Authority(zone string, now time.Time) (cert *x509.Certificate, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	t := &x509.Certificate{
		Subject: pkix.Name{CommonName: "Parley zone " + zone}, NotBefore: now.Add(-backdate), NotAfter: now.Add(AuthorityLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	if cert, err = sign(t, t, private.Public(), private); err != nil {
		return nil, nil, err
	}
	key, err = x509.MarshalPKCS8PrivateKey(private)
	return cert, key, err
}

// Issue signs a certificate for an appliance's key.
func Issue(authority *x509.Certificate, signer crypto.PrivateKey, zone, appliance string, role link.Role, key crypto.PublicKey, now time.Time) (*x509.Certificate, error) {
	return sign(&x509.Certificate{
		Subject:   pkix.Name{CommonName: appliance, OrganizationalUnit: []string{string(role)}},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(LeafLife),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		URIs:        []*url.URL{URI(zone, appliance)},
		DNSNames:    []string{Name(appliance)},
	}, authority, key, signer)
}

// sign gives a certificate a random serial number of 127 bits (RFC 5280, 4.1.2.2:
// positive) and signs it.
func sign(t, parent *x509.Certificate, key crypto.PublicKey, signer crypto.PrivateKey) (*x509.Certificate, error) {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	t.SerialNumber = n
	der, err := x509.CreateCertificate(rand.Reader, t, parent, key, signer)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// URI is that of an appliance.
func URI(zone, appliance string) *url.URL {
	return &url.URL{Scheme: "parley", Host: "zone", Path: "/" + zone + "/appliance/" + appliance}
}

// Names is whose a certificate says that it is.
type Names struct {
	Zone, Appliance string
	Role            link.Role
}

// Errors of Read: what is not of the form.
var (
	errURI  = errors.New("its URI")
	errName = errors.New("its names")
	errRole = errors.New("its role")
)

// Read takes the names of a certificate apart. Who signed it is not looked at.
func Read(c *x509.Certificate) (Names, error) {
	if len(c.URIs) != 1 || c.URIs[0].Scheme != "parley" || c.URIs[0].Host != "zone" {
		return Names{}, errURI
	}
	p := strings.Split(c.URIs[0].Path, "/")
	if len(p) != 4 || p[0] != "" || p[1] == "" || p[2] != "appliance" || p[3] == "" || c.Subject.CommonName != p[3] {
		return Names{}, errName
	}
	if len(c.Subject.OrganizationalUnit) != 1 {
		return Names{}, errRole
	}
	n := Names{p[1], p[3], link.Role(c.Subject.OrganizationalUnit[0])}
	if n.Role != link.Controller && n.Role != link.Router {
		return Names{}, errRole
	}
	return n, nil
}
