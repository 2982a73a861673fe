package link

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/url"
	"strings"
)

// tokenPrefix begins every token for the connector, so that one that got
// somewhere where it does not belong can be searched for.
const tokenPrefix = "parley1."

// Bounds of tokens.
const (
	maxToken   = 2048 // characters
	secretSize = 32   // bytes
	checkSize  = 8    // hexadecimal digits
)

// What can be wrong with a token that somebody typed or pasted.
var (
	ErrNoToken    = errors.New("this is no token for the connector: it begins with parley1.")
	ErrCutToken   = errors.New("a part of the token is missing or was changed: copy it anew")
	ErrNewerToken = errors.New("the token comes from a newer portal than this version understands")
)

// Token is what an administrator carries from the portal to an appliance: where
// the portal is, how to know it, and the secret that lets in.
type Token struct {
	URL    string // of the portal, "https://portal.example.com"
	Pin    []byte // SHA-256 of its root's SubjectPublicKeyInfo; nil: a usual authority
	ID     string
	Secret string
}

// tokenJSON is what stands in it.
type tokenJSON struct {
	URL    string `json:"u"`
	Pin    string `json:"p,omitempty"`
	ID     string `json:"i"`
	Secret string `json:"s"`
}

// NewSecret makes a token's secret: 32 random bytes in unpadded base64url.
func NewSecret(random io.Reader) (string, error) {
	b := make([]byte, secretSize)
	if _, err := io.ReadFull(random, b); err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(b), nil
}

// String is the token as it is carried: the prefix, JSON in base64url, and the
// beginning of its SHA-256, by which a token that was cut is noticed.
func (t Token) String() string {
	j := tokenJSON{URL: t.URL, ID: t.ID, Secret: t.Secret}
	if t.Pin != nil {
		j.Pin = base64.RawURLEncoding.EncodeToString(t.Pin)
	}
	b, err := json.Marshal(j)
	if err != nil {
		panic(err) // strings always encode
	}
	s := tokenPrefix + base64.RawURLEncoding.EncodeToString(b)
	return s + "." + tokenCheck(s)
}

func tokenCheck(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])[:checkSize]
}

// ParseToken reads a token. White space around it, and line breaks that a mail
// put into it, do not matter.
func ParseToken(s string) (Token, error) {
	s = strings.Join(strings.Fields(s), "")
	if !strings.HasPrefix(s, tokenPrefix) {
		if version, _, ok := strings.Cut(s, "."); ok && len(version) < 12 && strings.HasPrefix(version, "parley") {
			return Token{}, ErrNewerToken
		}
		return Token{}, ErrNoToken
	}
	body, check, ok := cutLast(s, ".")
	if !ok || len(s) > maxToken || check != tokenCheck(body) {
		return Token{}, ErrCutToken
	}
	// The sum is right, so what stands there was written by a portal: what is
	// wrong from here on is another format.
	raw, err := base64.RawURLEncoding.Strict().DecodeString(strings.TrimPrefix(body, tokenPrefix))
	if err != nil {
		return Token{}, ErrNewerToken
	}
	var j tokenJSON
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if d.Decode(&j) != nil || d.More() {
		return Token{}, ErrNewerToken
	}
	t := Token{URL: j.URL, ID: j.ID, Secret: j.Secret}
	u, err := url.Parse(j.URL)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" {
		return Token{}, ErrNewerToken
	}
	if secret, err := base64.RawURLEncoding.DecodeString(j.Secret); err != nil || len(secret) != secretSize || j.ID == "" {
		return Token{}, ErrNewerToken
	}
	if j.Pin != "" {
		if t.Pin, err = base64.RawURLEncoding.DecodeString(j.Pin); err != nil || len(t.Pin) != sha256.Size {
			return Token{}, ErrNewerToken
		}
	}
	return t, nil
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}
