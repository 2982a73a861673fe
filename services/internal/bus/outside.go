package bus

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/parley-meet/parley/services/internal/link"
)

// outsideName stands for the cluster among the servers of a Conn.
const outsideName = "outside"

// Outside is a NATS cluster that somebody runs for a large zone. Each appliance
// has a user of its own there, with the subjects of Rights and no others; a
// cluster that lets users write as each other lets appliances do so.
type Outside struct {
	// URLs of its servers: nats:// or tls://, HOST:PORT, with USER:PASSWORD@ or
	// TOKEN@ where it wants them.
	URLs []string
	// Roots in PEM, of the cluster's certificates; "": the system's.
	Roots string
	// ShowCertificate has the zone's certificate shown to the cluster, that may map
	// its names to users.
	ShowCertificate bool
}

const maxURLs = 16

func (o Outside) check() error {
	if len(o.URLs) == 0 || len(o.URLs) > maxURLs {
		return fmt.Errorf("bus: %d URLs of a cluster, want 1 to %d", len(o.URLs), maxURLs)
	}
	for _, s := range o.URLs {
		u, err := url.Parse(s)
		if err != nil {
			return errors.New("bus: a URL of the cluster cannot be read") // it may hold a password
		}
		if u.Scheme != "nats" && u.Scheme != "tls" || u.Hostname() == "" || u.Path != "" || u.RawQuery != "" || strings.Contains(s, ",") {
			return fmt.Errorf("bus: URL %q of the cluster, want nats://HOST:PORT or tls://HOST:PORT", u.Redacted())
		}
	}
	if o.Roots != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(o.Roots)) {
		return errors.New("bus: no certificate in the roots of the cluster")
	}
	return nil
}

// options are those of NATS's client, and the URLs as it takes them.
func (o Outside) options(cred link.Credentials) (opts []nats.Option, urls string, err error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.Roots != "" {
		conf.RootCAs = x509.NewCertPool()
		conf.RootCAs.AppendCertsFromPEM([]byte(o.Roots))
	}
	if o.ShowCertificate {
		own, err := tls.X509KeyPair([]byte(cred.Certificate), []byte(cred.Key))
		if err != nil {
			return nil, "", fmt.Errorf("credentials: %w", err)
		}
		conf.Certificates = []tls.Certificate{own}
	}
	for _, s := range o.URLs {
		if strings.HasPrefix(s, "tls://") || o.Roots != "" || o.ShowCertificate {
			opts = append(opts, nats.Secure(conf))
			break
		}
	}
	return opts, strings.Join(o.URLs, ","), nil
}
