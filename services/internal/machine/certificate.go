package machine

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"sync"
	"time"

	"github.com/parley-meet/parley/services/internal/certificate"
	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/member"
	"github.com/parley-meet/parley/services/internal/trust"
)

// lookEvery is how long a certificate is used before it is looked whether there is
// another one.
const lookEvery = 2 * time.Second

// Certificates chooses what browsers are shown: the certificate that an
// administrator uploaded, or else the one that the portal got for the public name,
// or else the consoles' self-signed one. While there is none of them, as on a
// first start, it is one that lives as long as the process.
type Certificates struct {
	Dir   string // layout.ConnectorDir
	Host  string // name of the machine
	State func() member.State

	mu       sync.Mutex
	looked   time.Time
	current  *tls.Certificate
	made     *tls.Certificate // in memory alone
	browsers member.Certificate
	pair     *tls.Certificate // of browsers

	toldMu sync.Mutex
	leaf   []byte // that told is about
	told   *link.Certificate
}

// Get is for tls.Config.GetCertificate. A certificate that was uploaded is there
// within lookEvery; connections that stand are not touched.
func (c *Certificates) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if c.current == nil || now.Sub(c.looked) >= lookEvery {
		c.looked = now
		c.current = c.look(now)
	}
	if c.current == nil {
		return nil, errors.New("there is no certificate")
	}
	return c.current, nil
}

func (c *Certificates) look(now time.Time) *tls.Certificate {
	shared := certificate.Shared(c.Dir)
	st := shared.Read(now)
	if st.Current != nil && !st.Self {
		return st.Current
	}
	if b := c.State().Browsers; b != nil {
		if *b != c.browsers {
			c.browsers, c.pair = *b, nil
			if p, err := b.Pair(); err == nil {
				c.pair = &p
			}
		}
		if c.pair != nil {
			return c.pair
		}
	}
	if st.Current != nil {
		return st.Current
	}
	if c.made == nil {
		k := certificate.Keeper{Dir: shared.Dir}
		// Why nothing could be read the console tells; here one is made in any case.
		_ = k.Load(now, c.Host, Addresses())
		c.made, _ = k.Certificate(nil)
	}
	return c.made
}

// Told is what the portal is told of the certificate; nil: there is none. Whether
// it is trusted is found out once for each certificate.
func (c *Certificates) Told(now time.Time) *link.Certificate {
	pair, err := c.Get(nil)
	if err != nil || len(pair.Certificate) == 0 {
		return nil
	}
	c.toldMu.Lock()
	defer c.toldMu.Unlock()
	if bytes.Equal(c.leaf, pair.Certificate[0]) {
		return c.told
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return nil
	}
	out := &link.Certificate{Names: leaf.DNSNames, Expires: leaf.NotAfter}
	between := x509.NewCertPool()
	for _, der := range pair.Certificate[1:] {
		if x, err := x509.ParseCertificate(der); err == nil {
			between.AddCert(x)
		}
	}
	if roots, err := trust.New(c.Dir).Pool(); err == nil && roots != nil {
		_, err = leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: now})
		out.Trusted = err == nil
	}
	c.leaf, c.told = pair.Certificate[0], out
	return out
}
