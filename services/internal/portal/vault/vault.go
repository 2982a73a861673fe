// Package vault seals what the database must not tell whoever reads it: keys of
// zones and of tickets, second factors, passwords for other services.
//
// The master key is 32 bytes in a file that the portal is given at start
// (hexadecimal, one line). Instances that share a database share it. It is in no
// backup; without it sealed values are lost. A sealed value is bound to its
// purpose and to the row it belongs to, so that nobody can move it elsewhere:
//
//	byte 0       format, 1
//	bytes 1–24   nonce, random
//	the rest     XChaCha20-Poly1305 of the value; purpose and row are authenticated too
package vault

import (
	"bytes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/parley-meet/parley/internal/durable"
)

const (
	keySize = 32
	format  = 1
)

// ErrSealed means that a value cannot be opened: it was sealed with another
// master key, for something else, or it was changed.
var ErrSealed = errors.New("a sealed value cannot be opened: another master key, or the value was changed")

// Vault seals and opens. It is safe for concurrent use.
type Vault struct {
	aead cipher.AEAD
	key  []byte
}

// New returns the vault of a master key of 32 bytes.
func New(key []byte) (*Vault, error) {
	if len(key) != keySize {
		return nil, fmt.Errorf("master key of %d bytes, want %d", len(key), keySize)
	}
	// Keys of different uses are derived, so that none is used twice.
	k, err := hkdf.Key(sha256.New, key, nil, "parley portal vault 1", keySize)
	if err != nil {
		return nil, err
	}
	aead, err := chacha20poly1305.NewX(k)
	return &Vault{aead: aead, key: bytes.Clone(key)}, err
}

// Load reads the master key from a file. When the file is not there and create
// is set, it makes one that only its owner can read; made then is true.
func Load(path string, create bool) (v *Vault, made bool, err error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && create {
		key := make([]byte, keySize)
		if _, err := rand.Read(key); err != nil {
			return nil, false, err
		}
		if err := durable.WriteFile(path, []byte(hex.EncodeToString(key)+"\n"), 0o600); err != nil {
			return nil, false, fmt.Errorf("master key: %w", err)
		}
		v, err := New(key)
		return v, true, err
	}
	if err != nil {
		return nil, false, fmt.Errorf("master key: %w", err)
	}
	key, err := hex.DecodeString(string(bytes.TrimSpace(b)))
	if err != nil || len(key) != keySize {
		return nil, false, fmt.Errorf("master key %s: want %d hexadecimal digits", path, 2*keySize)
	}
	v, err = New(key)
	return v, false, err
}

// Seal seals a value for a purpose ("zone key") and the row it belongs to.
func (v *Vault) Seal(purpose, row string, value []byte) []byte {
	out := make([]byte, 1+chacha20poly1305.NonceSizeX, 1+chacha20poly1305.NonceSizeX+len(value)+v.aead.Overhead())
	out[0] = format
	nonce := out[1 : 1+chacha20poly1305.NonceSizeX]
	if _, err := rand.Read(nonce); err != nil {
		panic(err) // never fails (crypto/rand)
	}
	return v.aead.Seal(out, nonce, value, bound(purpose, row))
}

// Open opens what Seal sealed, or returns ErrSealed.
func (v *Vault) Open(purpose, row string, sealed []byte) ([]byte, error) {
	if len(sealed) < 1+chacha20poly1305.NonceSizeX || sealed[0] != format {
		return nil, ErrSealed
	}
	nonce, text := sealed[1:1+chacha20poly1305.NonceSizeX], sealed[1+chacha20poly1305.NonceSizeX:]
	out, err := v.aead.Open(nil, nonce, text, bound(purpose, row))
	if err != nil {
		return nil, ErrSealed
	}
	return out, nil
}

// Derive returns a key of 32 bytes for another use, as signing links.
func (v *Vault) Derive(use string) []byte {
	k, err := hkdf.Key(sha256.New, v.key, nil, "parley portal "+use, keySize)
	if err != nil {
		panic(err) // the sizes are right
	}
	return k
}

func bound(purpose, row string) []byte { return fmt.Appendf(nil, "%q %q", purpose, row) }
