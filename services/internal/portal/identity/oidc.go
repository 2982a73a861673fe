package identity

import (
	"context"
	"crypto/subtle"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/store"
)

// Sign-in by OpenID Connect (Core 1.0), the authorization code flow with PKCE
// (RFC 7636), state and nonce. Both are bound to the browser by a sealed cookie,
// so that any instance goes on with what another one began. Each provider has a
// way back of its own: one that is hostile cannot send a browser on to another,
// and be handed the answer as if it were its own (mix-up; RFC 9700, 4.4). A
// provider speaks for an address only when it says email_verified, and only for
// the domains and the account that the operator has named.

// Provider is a provider, without its secret.
type Provider struct {
	ID       string   `json:"id"`
	Label    string   `json:"label"` // on the button
	Issuer   string   `json:"issuer"`
	ClientID string   `json:"clientId"`
	Domains  []string `json:"domains"` // of addresses that may come by it; none is any
	// Account is whose people it is for, and in which unknown people are made
	// members; "" is everybody who is there, and nobody is made.
	Account string `json:"account"`
}

// ProviderInput is a provider to add.
type ProviderInput struct {
	// ID is what its way back is named by: 26 letters and digits, as other ids have
	// them; "" makes one.
	ID       string   `json:"id,omitempty"`
	Label    string   `json:"label"`
	Issuer   string   `json:"issuer"`
	ClientID string   `json:"clientId"`
	Secret   string   `json:"secret"`
	Domains  []string `json:"domains"`
	Account  string   `json:"account"`
}

// Errors of coming from a provider.
var (
	// ErrProvider means that the provider did not confirm the sign-in.
	ErrProvider = errors.New("the provider did not confirm the sign-in")
	// ErrAddress means that the provider may not speak for the address, or does
	// not say that it is verified.
	ErrAddress = errors.New("the provider does not speak for this address")
	// ErrNobody means that nobody here has the address.
	ErrNobody = errors.New("nobody here has this address")
)

// Limits of providers.
const (
	maxProviders  = 20
	maxDomains    = 50
	discoverLimit = 10 * time.Second
	discoverKeep  = time.Hour
	refusedKeep   = 10 * time.Second
	// ProviderTTL is how long somebody may take at the provider.
	ProviderTTL = 10 * time.Minute
)

// discovered keeps what providers say of themselves; their keys it fetches anew
// by itself. One that does not answer is asked by one request at a time, and not
// again for refusedKeep: strangers can have it asked, by a link on the sign-in page.
type discovered struct {
	client *http.Client
	mu     sync.Mutex
	m      map[string]*found // by issuer
}

type found struct {
	turn chan struct{} // held by who asks, and for what is below
	p    *oidc.Provider
	err  error
	at   time.Time
}

func newDiscovered() *discovered {
	return &discovered{client: &http.Client{Timeout: discoverLimit, Transport: &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: discoverLimit, MaxResponseHeaderBytes: 64 << 10, IdleConnTimeout: time.Minute,
	}}, m: map[string]*found{}}
}

// Trust makes providers trusted whose authority is not among the usual ones.
func (s *Service) Trust(c *tls.Config) {
	t := s.oidc.client.Transport.(*http.Transport).Clone()
	t.TLSClientConfig = c
	s.oidc.client.Transport = t
}

// get returns an issuer's provider; anew asks although it did not answer lately.
func (d *discovered) get(ctx context.Context, issuer string, anew bool) (*oidc.Provider, error) {
	d.mu.Lock()
	f := d.m[issuer]
	if f == nil {
		if len(d.m) >= 2*maxProviders {
			clear(d.m)
		}
		f = &found{turn: make(chan struct{}, 1)}
		d.m[issuer] = f
	}
	d.mu.Unlock()
	select {
	case f.turn <- struct{}{}:
		defer func() { <-f.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	switch age := time.Since(f.at); {
	case f.p != nil && age < discoverKeep:
		return f.p, nil
	case f.err != nil && age < refusedKeep && !anew:
		return nil, f.err
	}
	// The provider keeps the context for fetching keys later: only its client.
	p, err := oidc.NewProvider(oidc.ClientContext(context.WithoutCancel(ctx), d.client), issuer)
	if err != nil && f.p != nil { // what it said before is as good
		f.at = time.Now().Add(refusedKeep - discoverKeep)
		return f.p, nil
	}
	f.p, f.err, f.at = p, err, time.Now()
	return p, err
}

const providerColumns = "id, label, issuer, client_id, domains, COALESCE(account_id, '')"

func scanProvider(scan func(...any) error, more ...any) (Provider, error) {
	var p Provider
	var domains string
	err := scan(append([]any{&p.ID, &p.Label, &p.Issuer, &p.ClientID, &domains, &p.Account}, more...)...)
	p.Domains = strings.Fields(domains)
	return p, err
}

// Providers lists them, for the sign-in page too.
func (s *Service) Providers(ctx context.Context) ([]Provider, error) {
	out := []Provider{}
	err := s.db.Read(ctx, func(tx *store.Tx) error {
		out = out[:0]
		return tx.Each(func(scan func(...any) error) error {
			p, err := scanProvider(scan)
			out = append(out, p)
			return err
		}, "SELECT "+providerColumns+" FROM providers ORDER BY id")
	})
	return out, err
}

// AddProvider adds a provider, after it has answered.
func (s *Service) AddProvider(ctx context.Context, who people.Actor, in ProviderInput) (Provider, error) {
	if !who.Operator {
		return Provider{}, people.ErrDenied
	}
	var l fault.List
	text(&l, "label", &in.Label)
	in.Issuer, in.ClientID, in.Secret = strings.TrimSpace(in.Issuer), strings.TrimSpace(in.ClientID), strings.TrimSpace(in.Secret)
	u, err := url.Parse(in.Issuer)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil || len(in.Issuer) > 500 {
		l.Add("issuer", "oidc-url", api.Cut(in.Issuer, 100))
	}
	if in.ID == "" {
		in.ID = store.NewID()
	} else if !store.IsID(in.ID) {
		l.Add("id", "oidc-id", api.Cut(in.ID, 40))
	}
	if in.ClientID == "" {
		l.Add("clientId", "required")
	}
	if in.Secret == "" {
		l.Add("secret", "required")
	}
	if len(in.ClientID) > 500 || len(in.Secret) > 500 {
		l.Add("clientId", "long", 500)
	}
	if len(in.Domains) > maxDomains {
		l.Add("domains", "many", maxDomains)
	}
	for i, d := range in.Domains {
		e, err := people.NormalizeEmail("domains", "a@"+strings.TrimPrefix(strings.TrimSpace(d), "@"))
		if err != nil {
			l.Add("domains", "oidc-domain", api.Cut(d, 100))
			break
		}
		in.Domains[i] = strings.TrimPrefix(e, "a@")
	}
	// Whoever controls the provider could otherwise make anybody a member.
	if in.Account != "" && len(in.Domains) == 0 {
		l.Add("domains", "oidc-domains")
	}
	if err := l.Err(); err != nil {
		return Provider{}, err
	}
	dctx, cancel := context.WithTimeout(ctx, discoverLimit)
	defer cancel()
	if _, err := s.oidc.get(dctx, in.Issuer, true); err != nil {
		return Provider{}, fault.New("issuer", "oidc-issuer", api.Cut(err.Error(), 200))
	}
	p := Provider{ID: in.ID, Label: in.Label, Issuer: in.Issuer, ClientID: in.ClientID, Domains: in.Domains, Account: in.Account}
	err = s.db.Write(ctx, func(tx *store.Tx) error {
		var n int
		if err := tx.Row("SELECT COUNT(*) FROM providers").Scan(&n); err != nil {
			return err
		}
		if n >= maxProviders {
			return fault.New("", "many", maxProviders)
		}
		var account any
		if p.Account != "" {
			if _, err := people.GetAccount(tx, p.Account); errors.Is(err, store.ErrNotFound) {
				return fault.New("account", "oidc-account")
			} else if err != nil {
				return err
			}
			account = p.Account
		}
		if _, err := tx.Exec("INSERT INTO providers (id, label, issuer, client_id, secret, domains, account_id, created) VALUES (?,?,?,?,?,?,?,?)",
			p.ID, p.Label, p.Issuer, p.ClientID, s.vault.Seal("provider", p.ID, []byte(in.Secret)), strings.Join(p.Domains, " "), account, store.Millis(time.Now())); err != nil {
			return err
		}
		return people.Audit(tx, who, "provider.add", p.ID, map[string]any{"issuer": p.Issuer, "account": p.Account, "domains": p.Domains})
	})
	if errors.Is(err, store.ErrConflict) {
		err = fault.New("id", "oidc-id", p.ID)
	}
	return p, err
}

// RemoveProvider removes a provider. People stay, with the passwords that they
// have; sessions go on.
func (s *Service) RemoveProvider(ctx context.Context, who people.Actor, id string) error {
	if !who.Operator {
		return people.ErrDenied
	}
	return s.db.Write(ctx, func(tx *store.Tx) error {
		n, err := tx.Exec("DELETE FROM providers WHERE id = ?", id)
		if err == nil && n == 0 {
			err = people.ErrUnknown
		}
		if err != nil {
			return err
		}
		return people.Audit(tx, who, "provider.remove", id, nil)
	})
}

// away is what the browser keeps while somebody is at a provider.
type away struct {
	Provider string    `json:"p"`
	State    string    `json:"s"`
	Nonce    string    `json:"n"`
	Verifier string    `json:"v"`
	To       string    `json:"t"`
	Until    time.Time `json:"u"`
}

func (s *Service) provider(ctx context.Context, id, redirect string) (Provider, *oidc.Provider, *oauth2.Config, error) {
	var p Provider
	var sealed []byte
	err := s.db.Read(ctx, func(tx *store.Tx) (err error) {
		p, err = scanProvider(tx.Row("SELECT "+providerColumns+", secret FROM providers WHERE id = ?", id).Scan, &sealed)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return p, nil, nil, people.ErrUnknown
	}
	if err != nil {
		return p, nil, nil, err
	}
	secret, err := s.vault.Open("provider", p.ID, sealed)
	if err != nil {
		return p, nil, nil, err
	}
	op, err := s.oidc.get(ctx, p.Issuer, false)
	if err != nil {
		return p, nil, nil, fmt.Errorf("%w: %w", ErrProvider, err)
	}
	return p, op, &oauth2.Config{ClientID: p.ClientID, ClientSecret: string(secret), RedirectURL: redirect, Endpoint: op.Endpoint(), Scopes: []string{oidc.ScopeOpenID, "email", "profile"}}, nil
}

// BeginProvider returns where to send the browser, and what it keeps meanwhile.
// redirect is the portal's own address of the way back.
func (s *Service) BeginProvider(ctx context.Context, id, redirect, to string) (location, kept string, err error) {
	_, _, c, err := s.provider(ctx, id, redirect)
	if err != nil {
		return "", "", err
	}
	a := away{Provider: id, State: people.NewSecret(), Nonce: people.NewSecret(), Verifier: oauth2.GenerateVerifier(), To: to, Until: time.Now().Add(ProviderTTL)}
	b, err := json.Marshal(a)
	if err != nil {
		return "", "", err
	}
	kept = base64.RawURLEncoding.EncodeToString(s.vault.Seal("provider sign-in", "", b))
	return c.AuthCodeURL(a.State, oidc.Nonce(a.Nonce), oauth2.S256ChallengeOption(a.Verifier)), kept, nil
}

// Answer is what a browser brings back from a provider.
type Answer struct {
	Provider    string // whose way back it came by
	Kept        string // by the browser, of BeginProvider
	State, Code string
	Issuer      string // RFC 9207; "" where the provider does not say
}

// FinishProvider takes what a provider has sent the browser back with, and
// returns who it is and where to go on. The person is not in yet (Needs, Enter).
func (s *Service) FinishProvider(ctx context.Context, got Answer, redirect, language, from string) (u people.User, to string, err error) {
	var a away
	b, err := base64.RawURLEncoding.DecodeString(got.Kept)
	if err == nil {
		b, err = s.vault.Open("provider sign-in", "", b)
	}
	if err == nil {
		err = json.Unmarshal(b, &a)
	}
	if err != nil || time.Now().After(a.Until) || a.State == "" || subtle.ConstantTimeCompare([]byte(a.State), []byte(got.State)) != 1 || got.Code == "" ||
		a.Provider != got.Provider {
		return u, "", ErrStep
	}
	p, op, c, err := s.provider(ctx, a.Provider, redirect)
	if err != nil {
		return u, "", err
	}
	if got.Issuer != "" && got.Issuer != p.Issuer {
		return u, "", fmt.Errorf("%w: the answer is of %q", ErrProvider, api.Cut(got.Issuer, 100))
	}
	ctx = oidc.ClientContext(ctx, s.oidc.client)
	token, err := c.Exchange(ctx, got.Code, oauth2.VerifierOption(a.Verifier))
	if err != nil {
		return u, "", fmt.Errorf("%w: %w", ErrProvider, err)
	}
	raw, _ := token.Extra("id_token").(string)
	id, err := op.VerifierContext(ctx, &oidc.Config{ClientID: p.ClientID}).Verify(ctx, raw)
	if err != nil {
		return u, "", fmt.Errorf("%w: %w", ErrProvider, err)
	}
	if subtle.ConstantTimeCompare([]byte(id.Nonce), []byte(a.Nonce)) != 1 {
		return u, "", fmt.Errorf("%w: nonce", ErrProvider)
	}
	var claims struct {
		Email    string `json:"email"`
		Verified bool   `json:"email_verified"`
		Name     string `json:"name"`
	}
	if err := id.Claims(&claims); err != nil {
		return u, "", fmt.Errorf("%w: %w", ErrProvider, err)
	}
	email, err := people.NormalizeEmail("email", claims.Email)
	if err != nil || !claims.Verified {
		return u, "", ErrAddress
	}
	if _, domain, _ := strings.Cut(email, "@"); len(p.Domains) > 0 && !slices.Contains(p.Domains, domain) {
		return u, "", ErrAddress
	}
	err = s.db.Write(ctx, func(tx *store.Tx) (err error) {
		if u, err = s.personOf(tx, p, id.Subject, email, claims.Name, language, from); err != nil {
			return err
		}
		return mayEnter(tx, u)
	})
	return u, a.To, err
}

// personOf returns whom a provider means: who came by it before with the same
// subject, or who has the address, or a new member of the provider's account.
func (s *Service) personOf(tx *store.Tx, p Provider, subject, email, name, language, from string) (people.User, error) {
	var user string
	err := tx.Row("SELECT user_id FROM identities WHERE provider_id = ? AND subject = ?", p.ID, subject).Scan(&user)
	if err == nil {
		u, err := people.GetUser(tx, user)
		if err == nil && !p.speaksFor(u) {
			err = ErrAddress
		}
		return u, err
	}
	if !errors.Is(err, store.ErrNotFound) {
		return people.User{}, err
	}
	u, err := people.FindUser(tx, email)
	if err == nil && !p.speaksFor(u) && unclaimed(u) {
		if err := disown(tx, u, from); err != nil {
			return u, err
		}
		u, err = people.User{}, store.ErrNotFound
	}
	switch {
	case err == nil && !p.speaksFor(u):
		return u, ErrAddress
	case err == nil && u.State == people.Invited:
		// The provider has proven the address, as the invitation's link would.
		u.State = people.Active
		if _, err := tx.Exec("UPDATE users SET state = ? WHERE id = ?", string(people.Active), u.ID); err != nil {
			return u, err
		}
		if err := people.DropLinks(tx, people.LinkInvite, u.ID); err != nil {
			return u, err
		}
	case err == nil && u.State == people.Unverified:
		// Whoever gave this address at a sign-up may be somebody else, and would
		// keep the password.
		return u, ErrAddress
	case err == nil:
	case !errors.Is(err, store.ErrNotFound):
		return u, err
	case p.Account == "":
		return u, ErrNobody
	default:
		if name = strings.TrimSpace(api.Cut(name, maxText-1)); name == "" {
			name = email
		}
		u, err = people.InsertUser(tx, people.User{Account: p.Account, Email: email, Name: name, Role: people.Member, State: people.Active, Language: language})
		if err != nil {
			return u, err
		}
	}
	var n int
	if err := tx.Row("SELECT COUNT(*) FROM identities WHERE provider_id = ? AND user_id = ?", p.ID, u.ID).Scan(&n); err != nil {
		return u, err
	}
	if n > 0 { // the address went to somebody else at the provider
		return u, ErrAddress
	}
	if _, err := tx.Exec("INSERT INTO identities (provider_id, subject, user_id, created) VALUES (?,?,?,?)", p.ID, subject, u.ID, store.Millis(time.Now())); err != nil {
		return u, err
	}
	return u, people.Audit(tx, ActorOf(u, from, "web"), "provider.link", u.ID, map[string]any{"provider": p.Label})
}

// speaksFor reports whether the provider may sign the person in: one for an
// account never an operator, nor another account's people.
func (p Provider) speaksFor(u people.User) bool {
	return p.Account == "" || p.Account == u.Account && !u.Operator
}
