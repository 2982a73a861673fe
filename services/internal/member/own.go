package member

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"time"

	"github.com/parley-meet/parley/services/internal/connector"
	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/statefile"
	"github.com/parley-meet/parley/services/internal/ticket"
	"github.com/parley-meet/parley/services/internal/zonecert"
)

// ownZone is the zone of an appliance without a portal, as it is kept: its keys,
// and its trial meetings.
type ownZone struct {
	Version      int     `json:"version"`
	Authority    string  `json:"authority"`    // certificate, PEM
	AuthorityKey string  `json:"authorityKey"` // PKCS #8, PEM
	TicketKey    string  `json:"ticketKey"`    // PKCS #8, PEM
	Trials       []Trial `json:"trials"`
}

func checkOwnZone(z *ownZone) error {
	if _, _, err := z.authority(); err != nil {
		return err
	}
	if _, err := z.key(); err != nil {
		return err
	}
	return checkTrials(z.Trials)
}

// authority returns the zone's certificate and key.
func (z *ownZone) authority() (*x509.Certificate, *ecdsa.PrivateKey, error) {
	b, _ := pem.Decode([]byte(z.Authority))
	if b == nil {
		return nil, nil, errors.New("authority: no certificate in PEM")
	}
	c, err := x509.ParseCertificate(b.Bytes)
	if err != nil {
		return nil, nil, fmt.Errorf("authority: %w", err)
	}
	k, err := parseKey(z.AuthorityKey)
	if err != nil {
		return nil, nil, fmt.Errorf("authority: %w", err)
	}
	key, ok := k.(*ecdsa.PrivateKey)
	if !ok || !key.PublicKey.Equal(c.PublicKey) {
		return nil, nil, errors.New("authority: the key is another one's")
	}
	return c, key, nil
}

// key returns the one that signs tickets.
func (z *ownZone) key() (ticket.Key, error) {
	k, err := parseKey(z.TicketKey)
	if err != nil {
		return ticket.Key{}, fmt.Errorf("key of tickets: %w", err)
	}
	private, ok := k.(ed25519.PrivateKey)
	if !ok {
		return ticket.Key{}, fmt.Errorf("key of tickets: %T, want Ed25519", k)
	}
	sum := sha256.Sum256(private.Public().(ed25519.PublicKey))
	return ticket.Key{ID: hex.EncodeToString(sum[:8]), Private: private}, nil
}

func parseKey(text string) (crypto.PrivateKey, error) {
	b, _ := pem.Decode([]byte(text))
	if b == nil {
		return nil, errors.New("no key in PEM")
	}
	return x509.ParsePKCS8PrivateKey(b.Bytes)
}

// newOwnZone makes a zone.
func newOwnZone(now time.Time) (ownZone, error) {
	z := ownZone{Version: keptVersion, Trials: []Trial{}}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return z, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return z, err
	}
	z.TicketKey = block("PRIVATE KEY", pkcs8)
	return z, z.renew(now)
}

// renew makes the zone's authority anew.
func (z *ownZone) renew(now time.Time) error {
	cert, key, err := zonecert.Authority(Standalone, now)
	if err != nil {
		return err
	}
	z.Authority, z.AuthorityKey = block("CERTIFICATE", cert.Raw), block("PRIVATE KEY", key)
	return nil
}

// stale reports whether a certificate has to be made anew, for it ends within a
// time, or the clock was set back to before it.
func stale(c *x509.Certificate, within time.Duration, now time.Time) bool {
	return c == nil || now.Before(c.NotBefore) || now.Add(within).After(c.NotAfter)
}

// issue makes credentials of the form that the portal issues, which no portal
// knows.
func (z *ownZone) issue(now time.Time) (link.Credentials, *x509.Certificate, error) {
	none := func(err error) (link.Credentials, *x509.Certificate, error) { return link.Credentials{}, nil, err }
	authority, signer, err := z.authority()
	if err != nil {
		return none(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return none(err)
	}
	leaf, err := zonecert.Issue(authority, signer, Standalone, Standalone, link.Controller, key.Public(), now)
	if err != nil {
		return none(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return none(err)
	}
	return link.Credentials{Appliance: Standalone, Zone: Standalone, Role: link.Controller,
		Certificate: block("CERTIFICATE", leaf.Raw), Key: block("PRIVATE KEY", pkcs8), Authority: z.Authority}, leaf, nil
}

// ownZone reads the own zone, or makes it. A damaged one is kept beside.
func (k keep) ownZone(ctx context.Context, now time.Time) (ownZone, error) {
	z, err := k.own.Load()
	fresh := errors.Is(err, fs.ErrNotExist)
	switch {
	case err == nil:
		c, _, err := z.authority()
		if err != nil {
			return z, err // Check has read it already
		}
		if !stale(c, zonecert.Rollover, now) {
			return z, nil
		}
	case !fresh && !statefile.IsDamaged(err):
		return z, err
	}
	damaged, err := k.own.Change(ctx, ownZone{}, func(kept *ownZone) (err error) {
		if kept.Version == 0 {
			*kept, err = newOwnZone(now)
			return err
		}
		return kept.renew(now)
	})
	if damaged != nil {
		k.log.Error("the zone of this appliance is damaged: it begins afresh, without its trial meetings", "error", damaged)
	}
	if err != nil {
		return z, err
	}
	return k.own.Load()
}

// standalone is the own zone as it is at work.
type standalone struct {
	zone ownZone
	key  ticket.Key
	keys json.RawMessage // JWKS
	root *x509.Certificate

	// What follows changes with time.
	cred   link.Credentials
	leaf   *x509.Certificate
	config *link.Config
	last   []byte // JSON of the configuration without its generation
	told   int64  // generations
}

// begin has the own zone work.
func (k keep) begin(ctx context.Context, now time.Time) (*standalone, error) {
	z, err := k.ownZone(ctx, now)
	if err != nil {
		return nil, err
	}
	s := &standalone{zone: z}
	if s.root, _, err = z.authority(); err != nil {
		return nil, err
	}
	if s.key, err = z.key(); err != nil {
		return nil, err
	}
	s.keys, err = ticket.Set{s.key.ID: s.key.Private.Public().(ed25519.PublicKey)}.Format()
	return s, err
}

// refresh makes the certificate anew when it is time, and the configuration when
// something else is to be said.
func (s *standalone) refresh(host string, set connector.Settings, own []netip.Addr, now time.Time) error {
	if stale(s.leaf, zonecert.LeafLife/3, now) {
		cred, leaf, err := s.zone.issue(now)
		if err != nil {
			return err
		}
		s.cred, s.leaf = cred, leaf
	}
	cfg := link.Config{Zone: Standalone, Portal: Standalone, Production: true, PublicName: set.PublicName, Keys: s.keys, Authority: s.zone.Authority}
	for _, e := range set.External {
		cfg.External = append(cfg.External, e.External.String())
	}
	if own = slices.Clone(own); own == nil {
		own = []netip.Addr{}
	}
	cfg.Appliances = []link.Peer{{ID: Standalone, Role: link.Controller, Host: host, PublicName: set.PublicName, Addresses: own, Serials: []string{s.leaf.SerialNumber.Text(16)}}}
	b, err := json.Marshal(cfg)
	if err != nil || bytes.Equal(b, s.last) {
		return err
	}
	s.last = b
	s.told++
	cfg.Generation = s.told
	s.config = &cfg
	return nil
}
