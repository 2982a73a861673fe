package link

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
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Credentials are what an appliance keeps of its enrolment. They hold its private
// key: the file that keeps them is for its owner alone.
type Credentials struct {
	Appliance   string   `json:"appliance"` // id
	Zone        string   `json:"zone"`      // id
	Role        Role     `json:"role"`
	Certificate string   `json:"certificate"`   // PEM, leaf first
	Key         string   `json:"key"`           // PKCS #8, PEM
	Authority   string   `json:"authority"`     // the zone's, PEM
	Portals     []string `json:"portals"`       // wss://HOST/link
	Pin         []byte   `json:"pin,omitempty"` // of the portal's root, as in Token
}

// tls returns the certificate with its key.
func (c Credentials) tls() (tls.Certificate, *x509.Certificate, error) {
	pair, err := tls.X509KeyPair([]byte(c.Certificate), []byte(c.Key))
	if err != nil {
		return pair, nil, fmt.Errorf("credentials: %w", err)
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return pair, nil, fmt.Errorf("credentials: %w", err)
	}
	return pair, leaf, nil
}

// http returns a client that shows the certificate, and the certificate; its
// requests have the limit for an answer.
func (c Credentials) http(roots *x509.CertPool, proxy func(*http.Request) (*url.URL, error), limit time.Duration) (*http.Client, *x509.Certificate, error) {
	pair, leaf, err := c.tls()
	if err != nil {
		return nil, nil, err
	}
	conf := func(host string) *tls.Config {
		conf := trust(roots, c.Pin)(host)
		conf.NextProtos = []string{ALPN, "http/1.1"}
		conf.MinVersion = tls.VersionTLS13
		// The portal asks without naming authorities: there is one for each zone.
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
		return conf
	}
	return &http.Client{Transport: transport(dialer{conf, roots, proxy, limit * 3 / 4}), CheckRedirect: stay}, leaf, nil
}

// transport opens connections by TLS alone.
func transport(d dialer) *http.Transport {
	return &http.Transport{DialTLSContext: d.dial, MaxResponseHeaderBytes: maxHead,
		DialContext: func(_ context.Context, _, addr string) (net.Conn, error) {
			return nil, fmt.Errorf("%s: not without TLS", addr)
		}}
}

// stay keeps to the portal: a redirect would carry the token, or the link,
// elsewhere.
func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// portals checks the portal's addresses.
func (c Credentials) portals() error {
	if len(c.Portals) == 0 {
		return errors.New("credentials: they name no portal")
	}
	for _, p := range c.Portals {
		if u, err := url.Parse(p); err != nil || u.Scheme != "wss" || u.Host == "" || u.User != nil {
			return fmt.Errorf("credentials: portal %q, want wss://HOST/link", p)
		}
	}
	return nil
}

// trust returns what makes the configuration for a server of that name or
// address: it is taken by the usual roots, or by a chain to the root that is
// pinned.
func trust(roots *x509.CertPool, pin []byte) func(host string) *tls.Config {
	return func(host string) *tls.Config {
		return &tls.Config{
			MinVersion: tls.VersionTLS12,
			ServerName: host,
			// The standard check knows one pool of roots; VerifyConnection does it all,
			// name and time included.
			InsecureSkipVerify: true,
			VerifyConnection: func(s tls.ConnectionState) error {
				// Not s.ServerName: that is empty where host is an address.
				return verify(s.PeerCertificates, host, roots, pin, time.Now())
			},
		}
	}
}

// verify checks a server's chain for a name.
func verify(chain []*x509.Certificate, name string, roots *x509.CertPool, pin []byte, now time.Time) error {
	if len(chain) == 0 {
		return errors.New("the portal shows no certificate")
	}
	if name == "" { // x509 would take any
		return errors.New("the portal has no name")
	}
	opts := x509.VerifyOptions{DNSName: name, Roots: roots, Intermediates: x509.NewCertPool(), CurrentTime: now}
	for _, c := range chain[1:] {
		opts.Intermediates.AddCert(c)
	}
	_, err := chain[0].Verify(opts)
	if err == nil || pin == nil {
		return err
	}
	for _, c := range chain[1:] { // a leaf is no root
		if sum := sha256.Sum256(c.RawSubjectPublicKeyInfo); bytes.Equal(sum[:], pin) {
			opts.Roots = x509.NewCertPool()
			opts.Roots.AddCert(c)
			_, err := chain[0].Verify(opts)
			return err
		}
	}
	return fmt.Errorf("the portal is not the one that made the token: %w", err)
}

// newRequest makes a key, PKCS #8 in PEM, and a signing request for it.
func newRequest() (key, request string, err error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return "", "", err
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "appliance"}}, k)
	if err != nil {
		return "", "", err
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})),
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr})), nil
}

// EnrolOptions is what Enrol needs.
type EnrolOptions struct {
	Token   string // as the administrator pasted it
	Role    Role
	Host    string
	Version string
	Roots   *x509.CertPool                        // nil: the system's
	Proxy   func(*http.Request) (*url.URL, error) // nil: none
}

// RefusedError is the portal's no, in the words that it has for people.
type RefusedError struct {
	Status  int
	Code    string
	Message string
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("the portal refuses (%d %s): %s", e.Status, e.Code, e.Message)
}

// maxAnswer is the longest answer to an enrolment in bytes.
const maxAnswer = 256 << 10

// Enrol takes an appliance into the zone of a token. What it returns must be kept
// durably before it is used: the portal counts the appliance from now on.
func Enrol(ctx context.Context, o EnrolOptions) (Credentials, error) {
	t, err := ParseToken(o.Token)
	if err != nil {
		return Credentials{}, err
	}
	key, request, err := newRequest()
	if err != nil {
		return Credentials{}, err
	}
	body, err := json.Marshal(EnrolRequest{Role: o.Role, Host: o.Host, Version: o.Version, Request: request})
	if err != nil {
		return Credentials{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.URL+"/api/v1/link/enrol", bytes.NewReader(body))
	if err != nil {
		return Credentials{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+t.Secret)
	client := &http.Client{Transport: transport(dialer{trust(o.Roots, t.Pin), o.Roots, o.Proxy, dialLimit * 3 / 4}), CheckRedirect: stay}
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		return Credentials{}, fmt.Errorf("enrol: %w", err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return Credentials{}, fmt.Errorf("enrol: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		var p struct {
			Error struct {
				Code    string `json:"code"`
				Message string `json:"message"`
				Fields  []struct {
					Field   string `json:"field"`
					Message string `json:"message"`
				} `json:"fields"`
			} `json:"error"`
		}
		_ = json.Unmarshal(b, &p) // something else than a portal may answer
		r := &RefusedError{Status: resp.StatusCode, Code: p.Error.Code, Message: p.Error.Message}
		for _, f := range p.Error.Fields {
			r.Message += " " + strings.TrimSpace(f.Field+" "+f.Message)
		}
		return Credentials{}, r
	}
	var a EnrolAnswer
	if err := json.Unmarshal(b, &a); err != nil {
		return Credentials{}, fmt.Errorf("enrol: %w", err)
	}
	c := Credentials{Appliance: a.Appliance, Zone: a.Zone, Role: o.Role, Certificate: a.Certificate, Key: key, Authority: a.Authority, Portals: a.Portals, Pin: t.Pin}
	if err := c.portals(); err != nil {
		return Credentials{}, err
	}
	return c, c.check()
}

// check looks at what came from the portal, before it replaces what is there.
func (c Credentials) check() error {
	_, leaf, err := c.tls()
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(c.Authority)) {
		return errors.New("credentials: no authority")
	}
	// The time is the certificate's own: the clock may not be right yet.
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: leaf.NotBefore.Add(time.Second), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		return fmt.Errorf("credentials: %w", err)
	}
	return nil
}

// askForOwn asks for a new certificate when two thirds of this one's life are
// over, with a new key; now is by the portal's clock, which judges it. It asks
// again when no answer came for long.
func (s *session) askForOwn(ctx context.Context, now time.Time) error {
	if now.Before(s.due) {
		return nil
	}
	s.renew.Lock()
	defer s.renew.Unlock()
	if now.Sub(s.renew.at) < s.c.times.askAgain {
		return nil
	}
	key, request, err := newRequest()
	if err != nil {
		return err
	}
	s.renew.key, s.renew.at = []byte(key), now
	return s.send(ctx, KindRenew, Renew{For: "link", Request: request})
}

// renewAt is when to ask for the next certificate: after two thirds of its life
// and up to a twelfth more, by its serial number, so that those that were
// enrolled together do not ask together.
func renewAt(c *x509.Certificate) time.Time {
	life := c.NotAfter.Sub(c.NotBefore)
	part := new(big.Int).And(c.SerialNumber, big.NewInt(1023)).Int64()
	return c.NotBefore.Add(life*2/3 + life/12*time.Duration(part)/1024)
}

// errRenewed ends a connection by which a certificate came: the next one shows
// it. A connection always shows the newest that was kept, so the portal knows
// which it can forget.
var errRenewed = errors.New("certificate renewed")

// renewed keeps a new certificate, and reports whether there is one.
func (s *session) renewed(r Renewed) bool {
	if r.Error != "" {
		s.c.cfg.Log.Warn("portal: no certificate", "for", r.For, "error", r.Error)
		return false
	}
	if r.For != "link" {
		return false // it comes with the configuration
	}
	s.renew.Lock()
	key := string(s.renew.key)
	s.renew.Unlock()
	c := s.cred
	c.Certificate, c.Key = r.Certificate, key
	_, _, err := c.tls()
	if err != nil && key != "" {
		// It answers an earlier request than the last, whose answer comes.
		s.c.cfg.Log.Debug("portal: a certificate came late", "error", err)
		return false
	}
	err = c.check()
	if err == nil {
		err = s.c.cfg.Save(c)
	}
	if err != nil {
		s.c.cfg.Log.Warn("portal: the new certificate is not used", "error", err)
		return false
	}
	s.c.mu.Lock()
	s.c.cred = c
	s.c.mu.Unlock()
	return true
}
