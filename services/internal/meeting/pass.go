package meeting

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"time"

	"github.com/parley-meet/parley/services/internal/ticket"
)

// MaxPassKeys is how many keys of passes a meeting carries on: more routers than a
// meeting is lost with while a pass lives.
const MaxPassKeys = 4

// PassIssuer is the issuer of the passes of a zone's routers. A pass is a ticket
// that a router signs, with a key of its own process, for somebody who is inside
// its meeting. It is good where that meeting runs, or begins again with what was
// kept of it: the key travels in Kept and nowhere else.
func PassIssuer(zone string) string { return "zone:" + zone }

// PassKey is a key of passes, as others check it.
type PassKey struct {
	ID     string            `json:"id"`     // PassKeyID of Public
	Public ed25519.PublicKey `json:"public"` // base64
	Until  time.Time         `json:"until"`  // what it signed for this meeting has ended then
}

// PassKeyID names a key by its SHA-256, so that nobody calls his by the name of
// another.
func PassKeyID(public ed25519.PublicKey) string {
	sum := sha256.Sum256(public)
	return base64.RawURLEncoding.EncodeToString(sum[:18])
}

// NewPassKey makes a router's.
func NewPassKey() (ticket.Key, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return ticket.Key{}, err
	}
	return ticket.Key{ID: PassKeyID(public), Private: private}, nil
}

// PassKeys are those of a Kept that count now.
func (k *Kept) PassKeys(now time.Time) ticket.Set {
	set := ticket.Set{}
	for i, p := range k.Passes {
		if i >= MaxPassKeys {
			break
		}
		if len(p.Public) == ed25519.PublicKeySize && p.ID == PassKeyID(p.Public) && now.Before(p.Until) {
			set[p.ID] = p.Public
		}
	}
	return set
}

// VerifyPass returns what a pass for this meeting says. Controllers ask before they
// place a meeting again, and the router asks once more.
func (k *Kept) VerifyPass(text, zone, meeting string, now time.Time) (ticket.Claims, error) {
	return ticket.Verify(text, k.PassKeys(now), ticket.Expect{Issuer: PassIssuer(zone), Zone: zone, Meeting: meeting}, now)
}
