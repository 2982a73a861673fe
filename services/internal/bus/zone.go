package bus

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/zonecert"
)

// Errors of certificates.
var (
	// ErrForeign is of a certificate that no authority of the zone signed, or that
	// is no appliance's.
	ErrForeign = errors.New("not a certificate of this zone")
	// ErrRevoked is of an appliance that is no longer in the zone.
	ErrRevoked = errors.New("the appliance is not in the zone")
)

// Zone is who belongs to a zone, as far as the portal has told. It is a value: what
// changes is a new one.
type Zone struct {
	ID string
	// Appliances are those of the zone. nil: the portal has not told yet, and who
	// has a certificate of an authority is in.
	Appliances []link.Peer

	authorities *x509.CertPool
	roles       map[string]link.Role // of Appliances; nil as they
}

// NewZone returns an appliance's zone from what it keeps of its enrolment and from
// the last configuration, nil if it has none yet.
func NewZone(cred link.Credentials, config *link.Config) (Zone, error) {
	z := Zone{ID: cred.Zone}
	if !goodID(cred.Zone) || !goodID(cred.Appliance) {
		return z, fmt.Errorf("zone %q, appliance %q: not ids", cred.Zone, cred.Appliance)
	}
	authority := cred.Authority
	if config != nil {
		if config.Authority != "" {
			authority = config.Authority
		}
		z.Appliances = slices.Clone(config.Appliances)
		if z.Appliances == nil {
			z.Appliances = []link.Peer{}
		}
		z.roles = make(map[string]link.Role)
		for _, p := range z.Appliances {
			z.roles[p.ID] = p.Role
		}
	}
	z.authorities = x509.NewCertPool()
	if !z.authorities.AppendCertsFromPEM([]byte(authority)) {
		return z, fmt.Errorf("zone %s: no authority in %d bytes", cred.Zone, len(authority))
	}
	return z, nil
}

// Has reports whether somebody is in the zone. A controller VM has a router too.
func (z Zone) Has(who Peer) bool {
	if z.roles == nil {
		return true
	}
	role := z.roles[who.ID]
	return role == who.Role || role == link.Controller && who.Role == link.Router
}

// Identity is what a certificate says of an appliance.
type Identity struct {
	Peer
	Zone    string
	Serial  string    // hexadecimal
	Expires time.Time // end of the certificate
}

// Identify returns whose the first certificate of a chain is. It is signed by an
// authority of the zone, for an appliance that is in the zone. A certificate is
// not judged by its number: the portal tells the last one alone, and the one
// before is good until its end, at most a week.
func (z Zone) Identify(chain []*x509.Certificate, now time.Time) (Identity, error) {
	if len(chain) == 0 {
		return Identity{}, fmt.Errorf("%w: none was shown", ErrForeign)
	}
	c := chain[0]
	opts := x509.VerifyOptions{Roots: z.authorities, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	if _, err := c.Verify(opts); err != nil {
		return Identity{}, fmt.Errorf("%w: %w", ErrForeign, err)
	}
	who, err := read(c)
	if err != nil {
		return who, err
	}
	if who.Zone != z.ID {
		return who, fmt.Errorf("%w: it is of zone %q", ErrForeign, who.Zone)
	}
	if !z.Has(who.Peer) {
		return who, fmt.Errorf("%w: %s", ErrRevoked, who.Peer)
	}
	return who, nil
}

// read takes the names of a certificate apart.
func read(c *x509.Certificate) (Identity, error) {
	n, err := zonecert.Read(c)
	if err != nil {
		return Identity{}, fmt.Errorf("%w: %w", ErrForeign, err)
	}
	if !goodID(n.Zone) || !goodID(n.Appliance) {
		return Identity{}, fmt.Errorf("%w: its names", ErrForeign)
	}
	return Identity{Peer: Peer{n.Role, n.Appliance}, Zone: n.Zone, Serial: c.SerialNumber.Text(16), Expires: c.NotAfter}, nil
}

// clientTLS is for a connection to the controller of an id.
func (z Zone) clientTLS(id string, own tls.Certificate) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{ALPN},
		ServerName: zonecert.Name(id),
		// What the server shows has no address in it, and its role counts: below.
		InsecureSkipVerify:   true,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &own, nil },
		VerifyConnection: func(s tls.ConnectionState) error {
			who, err := z.Identify(s.PeerCertificates, time.Now())
			if err != nil {
				return err
			}
			if who.Role != link.Controller || who.ID != id {
				return fmt.Errorf("%s answers for controller %s", who.Peer, id)
			}
			if s.NegotiatedProtocol != ALPN {
				return fmt.Errorf("controller %s does not speak %s", id, ALPN)
			}
			return nil
		},
	}
}

// controller is one to connect to.
type controller struct {
	id        string
	addresses []string // HOST:PORT, in the order to try them
}

// controllers returns those to connect to, without the one of an id.
func (z Zone) controllers(without string, port uint16) []controller {
	var out []controller
	for _, p := range z.Appliances {
		if p.Role != link.Controller || p.ID == without || !goodID(p.ID) {
			continue
		}
		c := controller{id: p.ID}
		for _, a := range p.Addresses {
			c.addresses = append(c.addresses, netip.AddrPortFrom(a, port).String())
		}
		if p.PublicName != "" {
			c.addresses = append(c.addresses, fmt.Sprintf("%s:%d", p.PublicName, port))
		}
		out = append(out, c)
	}
	return out
}
