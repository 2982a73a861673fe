package people

import (
	"strings"

	"golang.org/x/net/idna"

	"github.com/parley-meet/parley/services/internal/fault"
)

// Bounds of an e-mail address in bytes (RFC 5321, 4.5.3.1).
const (
	maxEmail = 254
	maxLocal = 64
)

// NormalizeEmail returns the one way in which the portal writes an e-mail
// address: in small letters, an international domain in its ASCII form
// (RFC 5891). It takes what RFC 5321 calls a Dot-string before the @, in ASCII:
// quoted strings, comments and addresses of hosts without a name are refused, so
// that what is kept can stand in a header and compares byte by byte. Small
// letters make two people of one where a host tells them apart; none does.
//
// It is idempotent. Its errors are a fault of field.
func NormalizeEmail(field, s string) (string, error) {
	s = strings.TrimSpace(s)
	if s == "" {
		return "", fault.New(field, "required")
	}
	if len(s) > maxEmail {
		return "", fault.New(field, "long", maxEmail)
	}
	bad := fault.New(field, "email")
	local, domain, ok := strings.Cut(s, "@")
	if !ok || local == "" || len(local) > maxLocal {
		return "", bad
	}
	for part := range strings.SplitSeq(local, ".") {
		if part == "" || strings.ContainsFunc(part, func(r rune) bool { return !atext(r) }) {
			return "", bad
		}
	}
	// A dot of another script is a dot to some and none to others.
	if strings.ContainsAny(domain, "。．｡") {
		return "", bad
	}
	ascii, err := idna.Lookup.ToASCII(strings.ToLower(domain))
	if err != nil || !strings.Contains(ascii, ".") {
		return "", bad
	}
	labels := strings.Split(ascii, ".")
	for _, l := range labels {
		if l == "" || len(l) > 63 || strings.HasPrefix(l, "-") || strings.HasSuffix(l, "-") || strings.ContainsFunc(l, func(r rune) bool { return !letterDigit(r) && r != '-' }) {
			return "", bad
		}
	}
	// The top of the tree has no number (RFC 3696, 2): 10.0.0.1 is no domain.
	if !strings.ContainsFunc(labels[len(labels)-1], func(r rune) bool { return r < '0' || r > '9' }) {
		return "", bad
	}
	out := strings.ToLower(local) + "@" + strings.ToLower(ascii)
	if len(out) > maxEmail {
		return "", fault.New(field, "long", maxEmail)
	}
	return out, nil
}

func letterDigit(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
}

// atext is RFC 5322, 3.2.3.
func atext(r rune) bool { return letterDigit(r) || strings.ContainsRune("!#$%&'*+-/=?^_`{|}~", r) }
