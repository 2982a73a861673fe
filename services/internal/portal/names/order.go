package names

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"

	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/portal/store"
	"github.com/parley-meet/parley/services/internal/portal/zones"
)

// Times of orders. A lease outlives the longest try.
const (
	look       = 30 * time.Second // between looks at the table
	maxTry     = 9 * time.Minute
	lease      = 10 * time.Minute
	firstPause = 5 * time.Minute // after a failure, doubled with each
	maxPause   = 6 * time.Hour
	goodPause  = time.Hour // at least, between a certificate and the next
	maxProblem = 500       // characters kept
	maxChain   = 64 << 10  // bytes: it goes into a message of the link
)

// Run orders certificates until ctx ends, one at a time.
func (s *Service) Run(ctx context.Context) error {
	sub := s.cfg.DB.Subscribe(topic)
	defer sub.Close()
	t := time.NewTicker(look)
	defer t.Stop()
	for {
		for ctx.Err() == nil {
			if more, err := s.next(ctx); err != nil && ctx.Err() == nil {
				s.cfg.Log.Error("order of a certificate", "error", err)
				break
			} else if !more {
				break
			}
		}
		select {
		case <-t.C:
		case <-sub.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// claimed is an order that this instance works at.
type claimed struct {
	appliance, account, zone, name, by string
	csr                                []byte
	tries                              int
	set                                Settings
}

// next carries one order out; false: none waits.
func (s *Service) next(ctx context.Context) (bool, error) {
	var c claimed
	by, now := store.NewID(), s.now()
	err := s.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		c = claimed{by: by}
		err := tx.Row(`SELECT o.appliance_id, o.account_id, p.zone_id, o.name, o.csr, o.tries FROM name_orders o
JOIN appliances p ON p.id = o.appliance_id AND p.revoked = 0 AND p.public_name = o.name
JOIN accounts a ON a.id = o.account_id AND a.connector_enabled <> 0 AND a.suspended = 0
JOIN name_settings s ON s.account_id = o.account_id AND s.terms = ?
WHERE (o.state <> ? OR o.renew <= ?) AND o.try_after <= ? AND o.claimed_until <= ? ORDER BY o.try_after, o.appliance_id LIMIT 1`,
			true, Good, store.Millis(now), store.Millis(now), store.Millis(now)).Scan(&c.appliance, &c.account, &c.zone, &c.name, &c.csr, &c.tries)
		if errors.Is(err, store.ErrNotFound) {
			c.appliance = ""
			return nil
		}
		if err != nil {
			return err
		}
		_, err = tx.Exec("UPDATE name_orders SET state = ?, claimed_by = ?, claimed_until = ? WHERE appliance_id = ?", Ordering, by, store.Millis(now.Add(lease)), c.appliance)
		return err
	})
	if err != nil || c.appliance == "" {
		return false, err
	}
	chain, leaf, err := s.carryOut(ctx, &c)
	if ctx.Err() != nil { // the instance stops: another one goes on at once
		end, stop := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer stop()
		return false, s.cfg.DB.Write(end, func(tx *store.Tx) error {
			_, err := tx.Exec("UPDATE name_orders SET state = ?, claimed_by = '', claimed_until = 0 WHERE appliance_id = ? AND claimed_by = ?", Asked, c.appliance, by)
			return err
		})
	}
	if err != nil {
		s.cfg.Log.Warn("certificate not ordered", "name", c.name, "appliance", c.appliance, "error", reason(err))
	} else {
		s.cfg.Log.Info("certificate ordered", "name", c.name, "appliance", c.appliance, "expires", leaf.NotAfter)
	}
	return true, s.finish(ctx, c, chain, leaf, err)
}

func (s *Service) finish(ctx context.Context, c claimed, chain string, leaf *x509.Certificate, bad error) error {
	return s.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		now := s.now()
		var n int64
		var err error
		if bad != nil {
			n, err = tx.Exec("UPDATE name_orders SET state = ?, problem = ?, tries = tries + 1, try_after = ?, claimed_by = '', claimed_until = 0, challenge_path = '', challenge_text = '' WHERE appliance_id = ? AND claimed_by = ?",
				Failed, reason(bad), store.Millis(now.Add(pause(c.tries))), c.appliance, c.by)
		} else {
			n, err = tx.Exec("UPDATE name_orders SET state = ?, problem = '', tries = 0, try_after = ?, claimed_by = '', claimed_until = 0, challenge_path = '', challenge_text = '', chain = ?, expires = ?, renew = ? WHERE appliance_id = ? AND claimed_by = ?",
				Good, store.Millis(now.Add(goodPause)), chain, store.Millis(leaf.NotAfter), store.Millis(leaf.NotAfter.Add(-leaf.NotAfter.Sub(leaf.NotBefore)/3)), c.appliance, c.by)
		}
		if err != nil || n == 0 { // another request took its place
			return err
		}
		return zones.Touch(tx, c.zone)
	})
}

// pause is how long to wait after a failure that n others came before.
func pause(n int) time.Duration {
	return min(firstPause<<min(max(n, 0), 10), maxPause)
}

// reason is an error as people see it: the authority's own words where it has
// said some, without what would rule a terminal.
func reason(err error) string {
	text := err.Error()
	var p acme.Problem
	if errors.As(err, &p) && p.Detail != "" {
		text = p.Detail
		for _, sub := range p.Subproblems {
			text += "; " + sub.Detail
		}
	}
	return api.Cut(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?")), maxProblem)
}

// carryOut gets the certificate.
func (s *Service) carryOut(ctx context.Context, c *claimed) (string, *x509.Certificate, error) {
	ctx, stop := context.WithTimeout(ctx, maxTry)
	defer stop()
	if err := s.cfg.DB.Read(ctx, func(tx *store.Tx) (err error) { c.set, err = s.load(tx, c.account); return err }); err != nil {
		return "", nil, err
	}
	csr, err := x509.ParseCertificateRequest(c.csr)
	if err != nil {
		return "", nil, err
	}
	hc := s.client()
	defer hc.CloseIdleConnections()
	client := acmez.Client{Client: &acme.Client{Directory: c.set.Directory, HTTPClient: hc, UserAgent: "parley-portal", PollTimeout: 3 * time.Minute}}
	if c.set.Method == DNS {
		client.ChallengeSolvers = map[string]acmez.Solver{DNS: records{s, c.set}}
	} else {
		client.ChallengeSolvers = map[string]acmez.Solver{HTTP: answers{s, c}}
	}
	account, err := s.account(ctx, client.Client, c)
	if err != nil {
		return "", nil, err
	}
	params, err := acmez.OrderParametersFromCSR(account, csr)
	if err != nil {
		return "", nil, err
	}
	list, err := client.ObtainCertificate(ctx, params)
	if err != nil {
		var p acme.Problem
		if errors.As(err, &p) && p.Type == acme.ProblemTypeAccountDoesNotExist {
			err = errors.Join(err, s.located(ctx, c, "")) // registered anew with the next try
		}
		return "", nil, err
	}
	if len(list) == 0 {
		return "", nil, errors.New("the authority sent no certificate")
	}
	leaf, err := judge(list[0].ChainPEM, csr, c.name, s.now())
	return string(list[0].ChainPEM), leaf, err
}

// judge holds a chain to the request: the controller would refuse another one.
func judge(chain []byte, csr *x509.CertificateRequest, name string, now time.Time) (*x509.Certificate, error) {
	block, _ := pem.Decode(chain)
	if block == nil || len(chain) > maxChain {
		return nil, fmt.Errorf("the authority sent a chain of %d bytes that is none", len(chain))
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the authority sent a certificate that cannot be read: %w", err)
	}
	if k, ok := csr.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !k.Equal(leaf.PublicKey) {
		return nil, errors.New("the authority sent a certificate for another key")
	}
	if err := leaf.VerifyHostname(name); err != nil {
		return nil, fmt.Errorf("the authority sent a certificate for another name: %w", err)
	}
	if !leaf.NotAfter.After(now) {
		return nil, fmt.Errorf("the authority sent a certificate that ended at %s", leaf.NotAfter)
	}
	return leaf, nil
}

// account returns the account at the authority. Its key is kept before it is
// registered: registering it twice gives the same account (RFC 8555, 7.3.1).
func (s *Service) account(ctx context.Context, client *acme.Client, c *claimed) (acme.Account, error) {
	a := acme.Account{Contact: []string{"mailto:" + c.set.Email}, TermsOfServiceAgreed: true}
	row := c.account + " " + c.set.Directory
	fresh, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return a, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(fresh)
	if err != nil {
		return a, err
	}
	var sealed []byte
	if err := s.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		if _, err := tx.Exec("INSERT INTO name_accounts (account_id, directory, key) VALUES (?,?,?) ON CONFLICT (account_id, directory) DO NOTHING", c.account, c.set.Directory, s.cfg.Vault.Seal("acme key", row, der)); err != nil {
			return err
		}
		return tx.Row("SELECT key, location FROM name_accounts WHERE account_id = ? AND directory = ?", c.account, c.set.Directory).Scan(&sealed, &a.Location)
	}); err != nil {
		return a, err
	}
	if der, err = s.cfg.Vault.Open("acme key", row, sealed); err != nil {
		return a, err
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return a, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return a, fmt.Errorf("account key: a %T cannot sign", key)
	}
	if a.PrivateKey = signer; a.Location != "" {
		a.Status = acme.StatusValid // as far as is known; orders are refused otherwise
		return a, nil
	}
	if a, err = client.NewAccount(ctx, a); err != nil {
		return a, err
	}
	return a, s.located(ctx, c, a.Location)
}

func (s *Service) located(ctx context.Context, c *claimed, location string) error {
	return s.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec("UPDATE name_accounts SET location = ? WHERE account_id = ? AND directory = ?", location, c.account, c.set.Directory)
		return err
	})
}

// answers answers http-01 through the controller's configuration.
type answers struct {
	s *Service
	c *claimed
}

// Present gives the controller the answer.
func (a answers) Present(ctx context.Context, c acme.Challenge) error {
	return a.put(ctx, c.HTTP01ResourcePath(), c.KeyAuthorization)
}

// Wait gives the configuration time to reach the controller.
func (a answers) Wait(ctx context.Context, _ acme.Challenge) error { return wait(ctx, a.s.cfg.Wait) }

// CleanUp takes the answer away.
func (a answers) CleanUp(ctx context.Context, _ acme.Challenge) error {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer stop()
	return a.put(ctx, "", "")
}

func (a answers) put(ctx context.Context, path, text string) error {
	return a.s.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		n, err := tx.Exec("UPDATE name_orders SET challenge_path = ?, challenge_text = ? WHERE appliance_id = ? AND claimed_by = ?", path, text, a.c.appliance, a.c.by)
		if err != nil || n == 0 {
			return err
		}
		return zones.Touch(tx, a.c.zone)
	})
}
