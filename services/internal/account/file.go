package account

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/parley-meet/parley/services/internal/credential"
	"github.com/parley-meet/parley/services/internal/statefile"
)

// Bounds.
const (
	MaxAccounts = 50 // beside admin
	MaxTokens   = 50
	MaxTitle    = 64 // characters
	// PendingFor is how long a second factor waits for its first code.
	PendingFor = 15 * time.Minute

	fileVersion = 1
	maxFile     = 512 << 10 // bytes
	fileMode    = 0o660     // both consoles write
)

// Record is an account as accounts.json keeps it. That of admin is there only
// when it has something to say; his password is in package credential's file.
type Record struct {
	Name       string    `json:"name"`
	Authority  Authority `json:"authority"`
	Hash       string    `json:"hash,omitempty"` // PHC string; not admin's
	MustChange bool      `json:"mustChange,omitempty"`
	Set        time.Time `json:"set,omitzero"`
	TOTP       *Factor   `json:"totp,omitempty"`
	// Pending is the secret of a second factor that waits for its first code.
	Pending   string    `json:"pending,omitempty"`
	PendingAt time.Time `json:"pendingAt,omitzero"`
}

// Book is what accounts.json holds. The file has the secrets of second factors,
// and only the consoles can read it.
type Book struct {
	Version  int      `json:"version"`
	Accounts []Record `json:"accounts"`
}

// NewBook returns the Book of an appliance with admin alone.
func NewBook() Book { return Book{Version: fileVersion, Accounts: []Record{}} }

// Books returns the file accounts.json of the folder.
func Books(f *statefile.Folder) *statefile.File[Book] {
	return &statefile.File[Book]{Folder: f, Name: "accounts.json", Mode: fileMode, Version: fileVersion, Limit: maxFile, Check: checkBook}
}

var nameForm = regexp.MustCompile(`^[a-z][a-z0-9._-]{0,31}$`)

// ValidName reports whether an account may have the name: it begins with a small
// letter, and has at most 32 small letters, digits, dots, hyphens, underscores.
func ValidName(s string) bool { return nameForm.MatchString(s) }

// Reserved reports whether the name is one that nobody can be given.
func Reserved(s string) bool { return s == credential.User || s == "recover" }

// FoldName returns the account's name that a person means.
func FoldName(s string) string { return strings.ToLower(strings.TrimSpace(s)) }

// ParseAuthority returns the authority of that name.
func ParseAuthority(s string) (Authority, bool) {
	return Authority(s), s == string(Operate) || s == string(View)
}

func checkBook(b *Book) error {
	if len(b.Accounts) > MaxAccounts+1 {
		return fmt.Errorf("%d accounts, want at most %d", len(b.Accounts), MaxAccounts+1)
	}
	seen := map[string]bool{}
	for i := range b.Accounts {
		r := &b.Accounts[i]
		if !ValidName(r.Name) || seen[r.Name] {
			return fmt.Errorf("accounts.%d: name %.40q is no name, or is there twice", i, r.Name)
		}
		seen[r.Name] = true
		if _, ok := ParseAuthority(string(r.Authority)); !ok {
			return fmt.Errorf("account %s: authority %.40q", r.Name, r.Authority)
		}
		if r.Name == credential.User {
			if r.Hash != "" || r.Authority != Operate {
				return fmt.Errorf("account %s: has a hash, or less than %s", r.Name, Operate)
			}
		} else if _, err := credential.ParseHash(r.Hash); err != nil {
			return fmt.Errorf("account %s: %w", r.Name, err)
		}
		if r.TOTP != nil {
			if err := r.TOTP.check(); err != nil {
				return fmt.Errorf("account %s: %w", r.Name, err)
			}
		}
		if r.Pending != "" {
			if err := (&Factor{Secret: r.Pending}).check(); err != nil {
				return fmt.Errorf("account %s: pending: %w", r.Name, err)
			}
		}
	}
	return nil
}

// Find returns the account's record, or nil.
func (b *Book) Find(name string) *Record {
	for i := range b.Accounts {
		if b.Accounts[i].Name == name {
			return &b.Accounts[i]
		}
	}
	return nil
}

// Admin returns admin's record, which it makes when there is none.
func (b *Book) Admin() *Record {
	if r := b.Find(credential.User); r != nil {
		return r
	}
	b.Accounts = append(b.Accounts, Record{Name: credential.User, Authority: Operate})
	return &b.Accounts[len(b.Accounts)-1]
}

// Remove removes an account.
func (b *Book) Remove(name string) {
	b.Accounts = slices.DeleteFunc(b.Accounts, func(r Record) bool { return r.Name == name })
}

// Account returns the record without its secrets.
func (r *Record) Account() Account {
	return Account{Name: r.Name, Authority: r.Authority, MustChange: r.MustChange, TOTP: r.TOTP != nil, Set: r.Set}
}

// Stamp returns a text that is another one when the password (whose hash is
// hash), the authority or the second factor is another one.
func (r *Record) Stamp(hash string) string {
	secret := ""
	if r.TOTP != nil {
		secret = r.TOTP.Secret
	}
	s := sha256.Sum256([]byte(strings.Join([]string{r.Name, string(r.Authority), hash, secret}, "\x00")))
	return hex.EncodeToString(s[:])
}

// TokenRecord is a token as tokens.json keeps it.
type TokenRecord struct {
	Token
	Sum string `json:"sum"` // SHA-256 of the secret, hexadecimal
}

// TokenBook is what tokens.json holds.
type TokenBook struct {
	Version int           `json:"version"`
	Tokens  []TokenRecord `json:"tokens"`
}

// NewTokenBook returns an empty one.
func NewTokenBook() TokenBook { return TokenBook{Version: fileVersion, Tokens: []TokenRecord{}} }

// TokenBooks returns the file tokens.json of the folder.
func TokenBooks(f *statefile.Folder) *statefile.File[TokenBook] {
	return &statefile.File[TokenBook]{Folder: f, Name: "tokens.json", Mode: fileMode, Version: fileVersion, Limit: maxFile, Check: checkTokens}
}

var idForm = regexp.MustCompile(`^[0-9a-f]{8}$`)

func checkTokens(b *TokenBook) error {
	if len(b.Tokens) > MaxTokens {
		return fmt.Errorf("%d tokens, want at most %d", len(b.Tokens), MaxTokens)
	}
	seen := map[string]bool{}
	for i, k := range b.Tokens {
		if !idForm.MatchString(k.ID) || seen[k.ID] {
			return fmt.Errorf("tokens.%d: id %.40q is no id, or is there twice", i, k.ID)
		}
		seen[k.ID] = true
		if _, ok := ParseAuthority(string(k.Authority)); !ok {
			return fmt.Errorf("token %s: authority %.40q", k.ID, k.Authority)
		}
		if s, err := hex.DecodeString(k.Sum); err != nil || len(s) != sha256.Size {
			return fmt.Errorf("token %s: sum %.80q is no SHA-256", k.ID, k.Sum)
		}
		if len(k.Title) > 4*MaxTitle || len(k.By) > 64 {
			return fmt.Errorf("token %s: title of %d or maker of %d bytes", k.ID, len(k.Title), len(k.By))
		}
	}
	return nil
}

// TokenPrefix begins every token's secret, so that one that got somewhere where
// it does not belong can be searched for.
const TokenPrefix = "parley_"

// NewToken makes an id and a secret: the prefix and 32 random bytes in
// unpadded base64url.
func NewToken(random io.Reader) (id, secret string, err error) {
	b := make([]byte, 4+32)
	if _, err := io.ReadFull(random, b); err != nil {
		return "", "", fmt.Errorf("token: %w", err)
	}
	return hex.EncodeToString(b[:4]), TokenPrefix + base64.RawURLEncoding.EncodeToString(b[4:]), nil
}

// TokenSum returns what is kept of a secret. A secret of 256 random bits needs
// no slow hash.
func TokenSum(secret string) string {
	s := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(s[:])
}

// Find returns the token of a secret that has not expired, or nil, in a time
// that does not depend on how much of the secret is right.
func (b *TokenBook) Find(secret string, now time.Time) *TokenRecord {
	sum, found := []byte(TokenSum(secret)), -1
	for i := range b.Tokens {
		if subtle.ConstantTimeCompare(sum, []byte(b.Tokens[i].Sum)) == 1 {
			found = i
		}
	}
	if found < 0 {
		return nil
	}
	if e := b.Tokens[found].Expires; !e.IsZero() && !now.Before(e) {
		return nil
	}
	return &b.Tokens[found]
}
