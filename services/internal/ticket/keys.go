package ticket

import (
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/go-jose/go-jose/v4"
)

// Set is public keys by their ids.
type Set map[string]ed25519.PublicKey

// Format writes a key set (RFC 7517), in the order of the ids.
func (s Set) Format() ([]byte, error) {
	out := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
	for _, id := range slices.Sorted(maps.Keys(s)) {
		out.Keys = append(out.Keys, jose.JSONWebKey{Key: s[id], KeyID: id, Algorithm: string(jose.EdDSA), Use: "sig"})
	}
	b, err := json.Marshal(out)
	if err != nil {
		return nil, fmt.Errorf("format key set: %w", err)
	}
	return b, nil
}

// ParseSet reads a key set. Keys that are not Ed25519 for signatures are passed
// over, as RFC 7517, 5 wants; a private key, or two with one id, is an error.
func ParseSet(b []byte) (Set, error) {
	if len(b) > MaxSet {
		return nil, fmt.Errorf("key set: %d bytes, want %d at most", len(b), MaxSet)
	}
	var raw struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(b, &raw); err != nil {
		return nil, fmt.Errorf("key set: %w", err)
	}
	if raw.Keys == nil {
		return nil, fmt.Errorf("key set: it has no keys")
	}
	if len(raw.Keys) > MaxKeys {
		return nil, fmt.Errorf("key set: %d keys, want %d at most", len(raw.Keys), MaxKeys)
	}
	out := Set{}
	for i, text := range raw.Keys {
		var head struct {
			Type  string `json:"kty"`
			Curve string `json:"crv"`
			Use   string `json:"use"`
			Alg   string `json:"alg"`
		}
		if err := json.Unmarshal(text, &head); err != nil {
			return nil, fmt.Errorf("key set: key %d: %w", i, err)
		}
		if head.Type != "OKP" || head.Curve != "Ed25519" || head.Use != "" && head.Use != "sig" || head.Alg != "" && head.Alg != string(jose.EdDSA) {
			continue
		}
		var k jose.JSONWebKey
		if err := k.UnmarshalJSON(text); err != nil {
			return nil, fmt.Errorf("key set: key %d: %w", i, err)
		}
		pub, ok := k.Key.(ed25519.PublicKey)
		if !ok || len(pub) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("key set: key %d is not a public key", i)
		}
		if k.KeyID == "" {
			return nil, fmt.Errorf("key set: key %d has no id", i)
		}
		if _, twice := out[k.KeyID]; twice {
			return nil, fmt.Errorf("key set: two keys are called %q", k.KeyID)
		}
		out[k.KeyID] = pub
	}
	return out, nil
}
