package account

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"
)

// The second factor is TOTP (RFC 6238) with what every authenticator app
// assumes: SHA-1, 30 s, six digits.
const (
	period     = 30 * time.Second
	digits     = 6
	secretSize = 20 // bytes; RFC 4226, 4 recommends 160 bits
	// RecoveryCodes is how many codes there are for the day the phone is lost.
	RecoveryCodes = 10
	recoverySize  = 10 // characters of recoveryAlphabet, 49 bits
)

// recoveryAlphabet has no characters that look alike.
const recoveryAlphabet = "abcdefghjkmnpqrstuvwx23456789"

var base32NoPad = base32.StdEncoding.WithPadding(base32.NoPadding)

// Factor is an account's second factor. The secret is kept as it is, because
// the codes are computed from it: whoever has the disk has it.
type Factor struct {
	Secret string `json:"secret"` // base32
	// Used is the time step of the last code that was taken; none is taken twice.
	Used int64 `json:"used,omitempty"`
	// Recovery are SHA-256 sums, in hexadecimal, of the recovery codes that are
	// left. A sum without salt and cost is enough for 49 random bits beside a
	// secret that is readable anyway.
	Recovery []string `json:"recovery"`
}

// NewSecret makes the secret of a second factor.
func NewSecret(random io.Reader) (string, error) {
	b := make([]byte, secretSize)
	if _, err := io.ReadFull(random, b); err != nil {
		return "", fmt.Errorf("second factor: %w", err)
	}
	return base32NoPad.EncodeToString(b), nil
}

// URI is what an authenticator app reads from a QR code
// (https://github.com/google/google-authenticator/wiki/Key-Uri-Format).
func URI(host, name, secret string) string {
	issuer := "Parley " + host
	v := url.Values{"secret": {secret}, "issuer": {issuer}}
	// A plus sign for a blank is shown as a plus by some apps.
	return "otpauth://totp/" + url.PathEscape(issuer+":"+name) + "?" + strings.ReplaceAll(v.Encode(), "+", "%20")
}

// code returns the code of a time step (RFC 4226, 5.3).
func code(secret []byte, step int64) string {
	var msg [8]byte
	binary.BigEndian.PutUint64(msg[:], uint64(step))
	h := hmac.New(sha1.New, secret)
	h.Write(msg[:])
	sum := h.Sum(nil)
	n := binary.BigEndian.Uint32(sum[sum[len(sum)-1]&0x0f:]) & 0x7fffffff
	return fmt.Sprintf("%0*d", digits, n%1_000_000)
}

// Code returns the code of a secret in the time step of at.
func Code(secret string, at time.Time) (string, error) {
	b, err := base32NoPad.DecodeString(secret)
	if err != nil {
		return "", fmt.Errorf("second factor: secret: %w", err)
	}
	return code(b, stepOf(at)), nil
}

func stepOf(at time.Time) int64 { return at.Unix() / int64(period.Seconds()) }

// Take takes a code of the app or a recovery code: it reports whether it is
// good now, and marks it as used. A clock that is off by one step is tolerated
// in both directions (RFC 6238, 5.2).
func (f *Factor) Take(typed string, now time.Time) bool {
	typed = fold(typed)
	if len(typed) != digits {
		return f.takeRecovery(typed)
	}
	current := stepOf(now)
	used := f.Used
	if used > current+1 {
		used = 0 // the clock was ahead once: not a reason to lock somebody out
	}
	var good int64
	for _, off := range []time.Duration{-period, 0, period} {
		want, err := Code(f.Secret, now.Add(off))
		same := subtle.ConstantTimeCompare([]byte(want), []byte(typed)) == 1
		if step := stepOf(now.Add(off)); err == nil && same && step > used {
			good = step
		}
	}
	if good == 0 {
		return false
	}
	f.Used = good
	return true
}

func (f *Factor) takeRecovery(typed string) bool {
	sum, found := recoverySum(typed), -1
	for i, s := range f.Recovery {
		if subtle.ConstantTimeCompare([]byte(s), []byte(sum)) == 1 {
			found = i
		}
	}
	if found < 0 {
		return false
	}
	f.Recovery = slices.Delete(slices.Clone(f.Recovery), found, found+1)
	return true
}

// Merge marks as used what is used in o, another state of the same factor.
func (f *Factor) Merge(o Factor) {
	f.Used = max(f.Used, o.Used)
	f.Recovery = slices.DeleteFunc(slices.Clone(f.Recovery), func(s string) bool { return !slices.Contains(o.Recovery, s) })
}

// NewRecovery makes recovery codes, "abcde-fghjk", and the sums to keep.
func NewRecovery(random io.Reader) (codes, sums []string, err error) {
	// Bytes from here on would favour the alphabet's first characters.
	const limit = 256 / len(recoveryAlphabet) * len(recoveryAlphabet)
	var b [1]byte
	for range RecoveryCodes {
		var c []byte
		for len(c) < recoverySize {
			if _, err := io.ReadFull(random, b[:]); err != nil {
				return nil, nil, fmt.Errorf("recovery codes: %w", err)
			}
			if int(b[0]) < limit {
				c = append(c, recoveryAlphabet[int(b[0])%len(recoveryAlphabet)])
			}
		}
		codes = append(codes, string(c[:recoverySize/2])+"-"+string(c[recoverySize/2:]))
		sums = append(sums, recoverySum(string(c)))
	}
	return codes, sums, nil
}

func recoverySum(folded string) string {
	s := sha256.Sum256([]byte("parley recovery " + folded))
	return hex.EncodeToString(s[:])
}

// fold drops what people type between groups.
func fold(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '-' || r == ' ' || r == '/':
			return -1
		case 'A' <= r && r <= 'Z':
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// check returns an error unless f can be what was written.
func (f *Factor) check() error {
	if b, err := base32NoPad.DecodeString(f.Secret); err != nil || len(b) < 10 || len(b) > 64 {
		return fmt.Errorf("second factor: secret of %d characters is no base32 of 10 to 64 bytes", len(f.Secret))
	}
	if len(f.Recovery) > RecoveryCodes {
		return fmt.Errorf("second factor: %d recovery codes, want at most %d", len(f.Recovery), RecoveryCodes)
	}
	for _, s := range f.Recovery {
		if b, err := hex.DecodeString(s); err != nil || len(b) != sha256.Size {
			return fmt.Errorf("second factor: recovery sum %.80q is no SHA-256", s)
		}
	}
	return nil
}
