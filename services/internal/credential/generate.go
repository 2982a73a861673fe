package credential

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// alphabet has no characters that look alike on a screen (i l o 0 1), and none
// that another keyboard layout swaps (y z): 29 characters.
const alphabet = "abcdefghjkmnpqrstuvwx23456789"

// A generated password: 4 groups of 5, log2(29^20) = 97 bits.
const (
	groups    = 4
	groupSize = 5
)

// Generate makes a password from random bytes, "abcde-fghjk-mnpqr-stuvw".
func Generate(random io.Reader) (string, error) {
	var out strings.Builder
	var b [1]byte
	// Bytes from here on would favour the alphabet's first characters.
	const limit = 256 / len(alphabet) * len(alphabet)
	for n := 0; n < groups*groupSize; {
		if _, err := io.ReadFull(random, b[:]); err != nil {
			return "", fmt.Errorf("generate password: %w", err)
		}
		if int(b[0]) >= limit {
			continue
		}
		if n > 0 && n%groupSize == 0 {
			out.WriteByte('-')
		}
		out.WriteByte(alphabet[int(b[0])%len(alphabet)])
		n++
	}
	return out.String(), nil
}

// isGenerated reports whether s has the form that Generate makes.
func isGenerated(s string) bool {
	if len(s) != groups*groupSize+groups-1 {
		return false
	}
	for i := range len(s) {
		if i%(groupSize+1) == groupSize {
			if s[i] != '-' {
				return false
			}
		} else if strings.IndexByte(alphabet, s[i]) < 0 {
			return false
		}
	}
	return true
}

// compact drops what stands between the groups of a generated password and
// lowers its case: on the console's US keyboard a German hyphen is a slash.
func compact(s string) string {
	return strings.Map(func(r rune) rune {
		switch r {
		case '-', ' ', '/':
			return -1
		}
		return unicode.ToLower(r)
	}, s)
}

// SameGenerated reports whether both are one generated password, however it was
// typed.
func SameGenerated(a, b string) bool { return compact(a) == compact(b) }

// Bounds of a password that is set.
const (
	MinLength = 12  // characters
	MaxSize   = 256 // bytes
	minKinds  = 5   // different characters
)

// Refusal is a reason why a new password is not taken. Its string names the
// text for people in the dictionaries, "password.short".
type Refusal string

// The reasons.
const (
	ErrShort     Refusal = "short"     // fewer than MinLength characters
	ErrLong      Refusal = "long"      // more than MaxSize bytes
	ErrSimple    Refusal = "simple"    // fewer than minKinds different characters
	ErrGuessable Refusal = "guessable" // made of words that are tried first
	ErrText      Refusal = "text"      // has characters that are no text
	ErrUnchanged Refusal = "unchanged" // is the current one
	ErrShown     Refusal = "shown"     // is the generated one, which stood on the screen
)

func (r Refusal) Error() string { return "password refused: " + string(r) }

// guessable are words that do not count towards the length.
var guessable = []string{"administrator", "password", "parley", "qwerty", "йцукен", "пароль", "admin", "letmein", "welcome", "12345678", "123456", "12345", "1234"}

// Judge says whether a new password may be set. Length is what counts: a
// passphrase of a few words is best, and no kinds of characters are demanded.
func Judge(password string) error {
	if len(password) > MaxSize {
		return ErrLong
	}
	if !utf8.ValidString(password) {
		return ErrText
	}
	if utf8.RuneCountInString(password) < MinLength {
		return ErrShort
	}
	kinds := map[rune]bool{}
	for _, r := range password {
		if !unicode.IsPrint(r) {
			return ErrText
		}
		kinds[r] = true
	}
	if len(kinds) < minKinds {
		return ErrSimple
	}
	rest := strings.ToLower(password)
	for _, w := range guessable {
		rest = strings.ReplaceAll(rest, w, "")
	}
	if utf8.RuneCountInString(rest) < MinLength/2 {
		return ErrGuessable
	}
	return nil
}
