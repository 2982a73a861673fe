package admin

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/parley-meet/parley/services/internal/certificate"
	"github.com/parley-meet/parley/services/internal/trust"
)

var _ Administrator = (*Admin)(nil)

// soon is how long before its end the certificate's expiry is a warning.
const soon = 30 * 24 * time.Hour

func (a *Admin) certificates() *certificate.Store { return certificate.Shared(a.cfg.ConnectorDir) }

// PublicName returns the host name that people use, or "".
func (a *Admin) PublicName() string { return a.publicName() }

// Certificate describes the certificate in use.
func (a *Admin) Certificate(ctx context.Context) (Certificate, error) {
	roots, err := trust.New(a.cfg.ConnectorDir).Pool()
	if err != nil {
		a.cfg.Log.Error("trusted authorities: the usual ones alone count", "error", err)
	}
	now := a.cfg.Now()
	i := a.certificates().Info(now, roots)
	if i == nil {
		return Certificate{}, fmt.Errorf("%w: there is no certificate yet", ErrAway)
	}
	c := Certificate{
		Subject: certificate.Clean(i.Leaf.Subject.String(), 300), Issuer: certificate.Clean(i.Leaf.Issuer.String(), 300),
		Names: i.Names, NotBefore: i.Leaf.NotBefore, NotAfter: i.Leaf.NotAfter, SHA256: certificate.Sum(i.Leaf), Key: i.Key,
		SelfSigned: i.Self, Chain: i.Chain, Request: i.Request, CoversName: true, Warnings: []string{}, Fault: i.Problem,
	}
	if c.Names == nil {
		c.Names = []string{}
	}
	if c.Chain == nil {
		c.Chain = []string{}
	}
	if i.Problem != nil {
		c.Problem = i.Problem.Code
	}
	if name := a.publicName(); name != "" {
		c.CoversName = i.Leaf.VerifyHostname(name) == nil
	}
	if i.Incomplete {
		c.Warnings = append(c.Warnings, "chain-incomplete")
	}
	if !i.Self && now.Add(soon).After(i.Leaf.NotAfter) {
		c.Warnings = append(c.Warnings, "expires-soon")
	}
	return c, nil
}

// RequestCertificate makes a key and a signing request; one that waits is replaced.
func (a *Admin) RequestCertificate(ctx context.Context, who Actor, in RequestInput) (pem string, err error) {
	err = a.act(ctx, who, "certificate.request", func() (string, error) {
		if err := a.savable(ctx); err != nil {
			return "", err
		}
		pem, err = a.certificates().MakeRequest(ctx, certificate.Request{Names: in.Names, Organization: in.Organization, Country: in.Country})
		if err != nil {
			return "", err
		}
		return clean(strings.Join(in.Names, " "), 200), nil
	})
	return pem, err
}

// InstallCertificate takes a chain and its key into use.
func (a *Admin) InstallCertificate(ctx context.Context, who Actor, chain, key string) error {
	return a.act(ctx, who, "certificate.install", func() (string, error) {
		if err := a.savable(ctx); err != nil {
			return "", err
		}
		c, err := a.certificates().Install(ctx, chain, key, a.cfg.Now())
		return told(c), err
	})
}

// ResetCertificate goes back to a self-signed certificate, with a new key.
func (a *Admin) ResetCertificate(ctx context.Context, who Actor) error {
	return a.act(ctx, who, "certificate.reset", func() (string, error) {
		if err := a.savable(ctx); err != nil {
			return "", err
		}
		n := certificate.Names{Public: a.publicName()}
		n.Addresses, _ = a.addresses()
		if st, err := a.cfg.Appliance.Status(ctx); err == nil {
			n.Host = st.Hostname
		} else {
			n.Host, _ = os.Hostname() // and without a name "parley" stands there
		}
		c, err := a.certificates().Reset(ctx, n, a.cfg.Now())
		return told(c), err
	})
}

// told is a certificate in the audit log.
func told(c *x509.Certificate) string {
	if c == nil {
		return ""
	}
	return fmt.Sprintf("%s, until %s, SHA-256 %s", certificate.Name(c), c.NotAfter.UTC().Format(time.DateOnly), certificate.Sum(c))
}

// Authorities returns the authorities that were added to the usual ones.
func (a *Admin) Authorities(ctx context.Context) ([]Authority, error) {
	list, err := trust.New(a.cfg.ConnectorDir).List()
	if err != nil {
		return nil, err
	}
	out := []Authority{}
	for _, c := range list {
		out = append(out, Authority{Subject: certificate.Clean(c.Subject.String(), 300), SHA256: certificate.Sum(c), NotAfter: c.NotAfter})
	}
	return out, nil
}

// AddAuthority trusts the authorities in a PEM text.
func (a *Admin) AddAuthority(ctx context.Context, who Actor, pem string) error {
	return a.act(ctx, who, "authority.add", func() (string, error) {
		if err := a.savable(ctx); err != nil {
			return "", err
		}
		added, err := trust.New(a.cfg.ConnectorDir).Add(ctx, pem, a.cfg.Now())
		var names []string
		for _, c := range added {
			names = append(names, certificate.Name(c)+" "+certificate.Sum(c))
		}
		return strings.Join(names, ", "), err
	})
}

// RemoveAuthority no longer trusts the authority of that fingerprint.
func (a *Admin) RemoveAuthority(ctx context.Context, who Actor, sha256 string) error {
	return a.act(ctx, who, "authority.remove", func() (string, error) {
		if err := a.savable(ctx); err != nil {
			return "", err
		}
		c, err := trust.New(a.cfg.ConnectorDir).Remove(ctx, sha256)
		if errors.Is(err, trust.ErrUnknown) {
			return clean(sha256, 100), fmt.Errorf("%w: %w", ErrUnknown, err)
		}
		return told(c), err
	})
}
