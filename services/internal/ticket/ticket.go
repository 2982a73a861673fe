// Package ticket is what lets a browser into a meeting: a JSON Web Token
// (RFC 7519) that the portal signs with Ed25519 (RFC 8037) and that controllers
// and routers of one zone check without asking the portal.
//
// A ticket is for one person, one meeting, one role and one zone, and lives for
// TTL. Its keys are published as a JSON Web Key Set (RFC 7517). Limits: a ticket
// is MaxSize bytes at most, a key set MaxKeys keys in MaxSet bytes.
//
// Verify knows one algorithm and one type. What the header says beside that it
// must be what is expected is not used: no "jwk", no "x5c", no "jku" (RFC 8725).
package ticket

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// Bounds and times.
const (
	TTL     = 5 * time.Minute
	Skew    = 30 * time.Second // by which clocks may differ
	MaxSize = 4 << 10          // bytes of a ticket
	MaxKeys = 16
	MaxSet  = 16 << 10 // bytes of a key set
)

// kind is the header's "typ" (RFC 8725, 3.11): another token that the portal
// might sign with the same key is no ticket.
const kind = "parley-ticket+jwt"

// Role is what a person is in the meeting.
type Role string

// The roles.
const (
	Host        Role = "host"
	Cohost      Role = "cohost"
	Participant Role = "participant" // has signed in
	Guest       Role = "guest"       // has not
)

// Meeting says which one, and what the controller must know of it.
type Meeting struct {
	ID             string `json:"id"`
	Number         string `json:"number"` // 9 to 11 digits
	Topic          string `json:"topic,omitempty"`
	WaitingRoom    bool   `json:"waitingRoom,omitempty"`
	JoinBeforeHost bool   `json:"joinBeforeHost,omitempty"`
	Test           bool   `json:"test,omitempty"` // the account is not in production
}

// Claims are what a ticket says.
type Claims struct {
	Issuer  string  // the portal's URL
	Zone    string  // id; the audience
	Subject string  // id of the person, or of the guest
	ID      string  // unique; NewID makes one
	Account string  // id, that the meeting belongs to
	Name    string  // that others see
	Role    Role    //
	Meeting Meeting //
	Issued  time.Time
	Expires time.Time
}

// wire is the JSON beside the registered claims.
type wire struct {
	Account string  `json:"account"`
	Name    string  `json:"name"`
	Role    Role    `json:"role"`
	Meeting Meeting `json:"meeting"`
}

// Errors that callers tell apart; all of them refuse the ticket.
var (
	ErrMalformed  = errors.New("ticket: not one")
	ErrKey        = errors.New("ticket: unknown key")
	ErrSignature  = errors.New("ticket: wrong signature")
	ErrExpired    = errors.New("ticket: expired")
	ErrEarly      = errors.New("ticket: not valid yet")
	ErrZone       = errors.New("ticket: of another zone")
	ErrIssuer     = errors.New("ticket: of another portal")
	ErrMeeting    = errors.New("ticket: of another meeting")
	ErrIncomplete = errors.New("ticket: incomplete")
)

// Key signs tickets.
type Key struct {
	ID      string
	Private ed25519.PrivateKey
}

// NewID returns 128 random bits as text.
func NewID() string { return rand.Text() }

// Sign returns the ticket; the times are kept to the second.
func Sign(k Key, c Claims) (string, error) {
	if err := c.check(); err != nil {
		return "", err
	}
	if k.ID == "" || len(k.Private) != ed25519.PrivateKeySize {
		return "", fmt.Errorf("sign ticket: key %q is none", k.ID)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: jose.JSONWebKey{Key: k.Private, KeyID: k.ID}},
		(&jose.SignerOptions{}).WithType(kind))
	if err != nil {
		return "", fmt.Errorf("sign ticket: %w", err)
	}
	out, err := jwt.Signed(signer).Claims(jwt.Claims{
		Issuer: c.Issuer, Subject: c.Subject, Audience: jwt.Audience{c.Zone}, ID: c.ID,
		IssuedAt: jwt.NewNumericDate(c.Issued), NotBefore: jwt.NewNumericDate(c.Issued), Expiry: jwt.NewNumericDate(c.Expires),
	}).Claims(wire{c.Account, c.Name, c.Role, c.Meeting}).Serialize()
	if err != nil {
		return "", fmt.Errorf("sign ticket: %w", err)
	}
	if len(out) > MaxSize {
		return "", fmt.Errorf("sign ticket: %d bytes, want %d at most", len(out), MaxSize)
	}
	return out, nil
}

// check says whether the claims are all there.
func (c Claims) check() error {
	for _, s := range []string{c.Issuer, c.Zone, c.Subject, c.ID, c.Account, c.Name, c.Meeting.ID, c.Meeting.Number} {
		if s == "" {
			return ErrIncomplete
		}
	}
	switch c.Role {
	case Host, Cohost, Participant, Guest:
	default:
		return fmt.Errorf("%w: role %q", ErrIncomplete, c.Role)
	}
	// A ticket that lives longer than tickets do was not made by Sign's callers.
	if life := c.Expires.Sub(c.Issued); life <= 0 || life > TTL+time.Second {
		return fmt.Errorf("%w: it lives for %v", ErrIncomplete, life)
	}
	return nil
}

// Expect is what a ticket must be for.
type Expect struct {
	Issuer  string // "": any
	Zone    string // the own one
	Meeting string // id; "": any, for who then reads it from the claims
}

// Verify returns what a ticket says, if its signature is by one of the keys, and
// it is for who is expected, now. Whether it was used before is Replay's.
func Verify(text string, keys Set, want Expect, now time.Time) (Claims, error) {
	if len(text) > MaxSize || strings.Count(text, ".") != 2 {
		return Claims{}, ErrMalformed
	}
	t, err := jwt.ParseSigned(text, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil || len(t.Headers) != 1 {
		return Claims{}, ErrMalformed
	}
	h := t.Headers[0]
	if typ, _ := h.ExtraHeaders[jose.HeaderType].(string); h.Algorithm != string(jose.EdDSA) || typ != kind {
		return Claims{}, ErrMalformed
	}
	key, ok := keys[h.KeyID]
	if !ok || h.KeyID == "" || len(key) != ed25519.PublicKeySize {
		return Claims{}, ErrKey
	}
	var r jwt.Claims
	var w wire
	if err := t.Claims(key, &r, &w); err != nil {
		if errors.Is(err, jose.ErrCryptoFailure) {
			return Claims{}, ErrSignature
		}
		return Claims{}, ErrMalformed
	}
	if r.Expiry == nil || r.IssuedAt == nil || r.NotBefore == nil || len(r.Audience) != 1 {
		return Claims{}, ErrIncomplete
	}
	c := Claims{Issuer: r.Issuer, Zone: r.Audience[0], Subject: r.Subject, ID: r.ID, Account: w.Account, Name: w.Name, Role: w.Role, Meeting: w.Meeting,
		Issued: r.IssuedAt.Time(), Expires: r.Expiry.Time()}
	if err := c.check(); err != nil {
		return Claims{}, err
	}
	switch {
	case want.Zone == "" || c.Zone != want.Zone:
		return Claims{}, ErrZone
	case want.Issuer != "" && c.Issuer != want.Issuer:
		return Claims{}, ErrIssuer
	case want.Meeting != "" && c.Meeting.ID != want.Meeting:
		return Claims{}, ErrMeeting
	case !now.Before(c.Expires.Add(Skew)):
		return Claims{}, ErrExpired
	case now.Before(c.Issued.Add(-Skew)), now.Before(r.NotBefore.Time().Add(-Skew)):
		return Claims{}, ErrEarly
	}
	return c, nil
}
