// Package names orders controllers' certificates for browsers from an authority
// that speaks ACME (RFC 8555), with the account's own settings.
//
// A controller makes its key itself and sends a signing request over its link.
// The request stands in the table name_orders; Run takes orders one at a time,
// claimed for some minutes, so that several instances share the work and an
// order outlives an instance. The authority's question is answered by the
// controller (http-01: its configuration carries the answer, and it answers on
// port 80), or in the DNS (dns-01: a TXT record by RFC 2136, signed by TSIG).
// The chain comes to the controller with its next configuration, and is ordered
// anew with the same request when a third of its life is left.
package names

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/store"
	"github.com/parley-meet/parley/services/internal/portal/vault"
)

// Config is what a Service works with.
type Config struct {
	DB    *store.DB
	Vault *vault.Vault
	// AllowPrivate lets accounts name authorities and name servers at addresses
	// that are not public: theirs are reached from inside the operator's network.
	AllowPrivate bool
	// Wait is how long an answer to the authority gets to reach the controller or
	// the other name servers; 0 is DefaultWait.
	Wait time.Duration
	// Transport changes how authorities are reached, as by other roots; nil: not.
	Transport func(*http.Transport)
	Log       *slog.Logger
}

// DefaultWait is longer than a linked controller takes to get a configuration.
const DefaultWait = 5 * time.Second

// Service orders certificates. It is safe for concurrent use.
type Service struct {
	cfg Config
	now func() time.Time
}

// New returns a service.
func New(cfg Config) *Service {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Wait == 0 {
		cfg.Wait = DefaultWait
	}
	return &Service{cfg: cfg, now: time.Now}
}

// States of an order.
const (
	Asked    = "asked"
	Ordering = "ordering"
	Failed   = "failed"
	Good     = "good"
)

// topic tells instances that an order waits.
const topic = "name-orders"

// Order is a controller's certificate.
type Order struct {
	Appliance string    `json:"appliance"` // id
	Name      string    `json:"name"`
	State     string    `json:"state"`             // asked, ordering, failed, good
	Problem   string    `json:"problem,omitempty"` // of the last try, as the authority has it
	Next      time.Time `json:"next,omitzero"`     // try, of a failed one
	Expires   time.Time `json:"expires,omitzero"`  // of the certificate that there is
}

// Orders lists the orders of the actor's account.
func (s *Service) Orders(ctx context.Context, who people.Actor) ([]Order, error) {
	out := []Order{}
	err := s.cfg.DB.Read(ctx, func(tx *store.Tx) error {
		out = out[:0]
		return tx.Each(func(scan func(...any) error) error {
			var o Order
			var next, expires int64
			if err := scan(&o.Appliance, &o.Name, &o.State, &o.Problem, &next, &expires); err != nil {
				return err
			}
			if o.State == Failed {
				o.Next = store.FromMillis(next)
			}
			o.Expires = store.FromMillis(expires)
			out = append(out, o)
			return nil
		}, `SELECT o.appliance_id, o.name, o.state, o.problem, o.try_after, o.expires FROM name_orders o
JOIN appliances p ON p.id = o.appliance_id AND p.revoked = 0 AND p.public_name = o.name WHERE o.account_id = ? ORDER BY o.name`, who.Account)
	})
	return out, err
}

// Ask takes a controller's signing request, DER. The same one again changes
// nothing; another one takes its place, and waits as long as that had to.
func (s *Service) Ask(ctx context.Context, appliance, account, name string, request []byte) error {
	if err := checkRequest(name, request); err != nil {
		return err
	}
	return s.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		var had string
		var csr []byte
		err := tx.Row("SELECT name, csr FROM name_orders WHERE appliance_id = ?", appliance).Scan(&had, &csr)
		switch {
		case err != nil && !errors.Is(err, store.ErrNotFound):
			return err
		case err == nil && had == name && bytes.Equal(csr, request):
			return nil
		}
		if _, err := tx.Exec(`INSERT INTO name_orders (appliance_id, account_id, name, csr, state) VALUES (?,?,?,?,?)
ON CONFLICT (appliance_id) DO UPDATE SET account_id = excluded.account_id, name = excluded.name, csr = excluded.csr, state = excluded.state,
  problem = '', claimed_by = '', claimed_until = 0, challenge_path = '', challenge_text = '', chain = '', expires = 0, renew = 0`,
			appliance, account, name, request, Asked); err != nil {
			return err
		}
		tx.Notify(topic, "")
		return nil
	})
}

// checkRequest holds a request to the one name: an authority would sign whatever
// else the account has proven.
func checkRequest(name string, der []byte) error {
	req, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return fault.New("request", "csr-bad")
	}
	if err := req.CheckSignature(); err != nil {
		return fault.New("request", "csr-signature")
	}
	if len(req.DNSNames) != 1 || req.DNSNames[0] != name || len(req.IPAddresses)+len(req.EmailAddresses)+len(req.URIs) > 0 ||
		req.Subject.CommonName != "" && req.Subject.CommonName != name {
		return fault.New("request", "names-csr", name)
	}
	switch k := req.PublicKey.(type) {
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() || k.Curve == elliptic.P384() {
			return nil
		}
	case *rsa.PublicKey:
		if k.N.BitLen() >= 2048 && k.N.BitLen() <= 4096 {
			return nil
		}
	}
	return fault.New("request", "names-csr-key")
}

// Config returns what the controller answers, and its chain; all are empty when
// there is no order for the name that it has now.
func (s *Service) Config(ctx context.Context, appliance string) (path, text, chain string, err error) {
	err = s.cfg.DB.Read(ctx, func(tx *store.Tx) error {
		err := tx.Row(`SELECT o.challenge_path, o.challenge_text, o.chain FROM name_orders o
JOIN appliances p ON p.id = o.appliance_id AND p.public_name = o.name WHERE o.appliance_id = ?`, appliance).Scan(&path, &text, &chain)
		if errors.Is(err, store.ErrNotFound) {
			path, text, chain = "", "", ""
			return nil
		}
		return err
	})
	return path, text, chain, err
}

// errPrivate means that an account's setting leads into the operator's network.
var errPrivate = errors.New("the address is not public, and the operator allows no others")

// special are addresses that look like the internet's and are not, or that hold
// another one (IANA's registries of special-purpose addresses, RFC 6890).
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"), // RFC 6598: behind a provider's NAT
	netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.88.99.0/24"), // RFC 7526: relays of 6to4
	netip.MustParsePrefix("198.18.0.0/15"),  // RFC 2544: used inside networks
	netip.MustParsePrefix("240.0.0.0/4"),    // used inside networks
	netip.MustParsePrefix("2001::/23"),      // Teredo and others
	netip.MustParsePrefix("2002::/16"),      // 6to4
}

// public reports whether an address is one of the internet.
func public(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsGlobalUnicast() && !a.IsPrivate() && (a.Is4() || netip.MustParsePrefix("2000::/3").Contains(a)) &&
		!slices.ContainsFunc(special, func(p netip.Prefix) bool { return p.Contains(a) })
}

// dialer refuses addresses when it connects, after names are resolved: a name
// that changes between a check and its use gains nothing.
func (s *Service) dialer() *net.Dialer {
	d := &net.Dialer{Timeout: 15 * time.Second}
	if !s.cfg.AllowPrivate {
		d.Control = func(_, address string, _ syscall.RawConn) error {
			a, err := netip.ParseAddrPort(address)
			if err != nil || !public(a.Addr()) {
				return fmt.Errorf("connect to %s: %w", address, errPrivate)
			}
			return nil
		}
	}
	return d
}

func (s *Service) client() *http.Client {
	t := &http.Transport{DialContext: s.dialer().DialContext, TLSHandshakeTimeout: 15 * time.Second, ResponseHeaderTimeout: time.Minute, MaxIdleConns: 2, IdleConnTimeout: time.Minute}
	if s.cfg.Transport != nil {
		s.cfg.Transport(t)
	}
	return &http.Client{Transport: secure{t}, Timeout: time.Minute}
}

// secure refuses what an authority's answers may lead to without TLS.
type secure struct{ next *http.Transport }

func (s secure) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" {
		return nil, fmt.Errorf("%s: the authority leads to a place without https", r.URL.Redacted())
	}
	return s.next.RoundTrip(r)
}
