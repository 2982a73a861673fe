package bundle

import (
	"regexp"
	"slices"
	"strings"
)

// removed stands where a secret was.
const removed = "[removed]"

// maxPEM is how many lines after the beginning of a private key are taken for
// it at most, when its end is missing.
const maxPEM = 200

var (
	// A name that says what its value is: password, "proxyPassword", x-api-key.
	names = `(?:pass(?:word|wd|phrase|code)?|pwd|secret|token|totp|otp|api[-_]?key|private[-_]?key|credentials?|session(?:[-_]?id)?|csrf|nonce|recovery|hash)`
	// The text of a field "passwordSet" is no secret, true and false neither.
	named = regexp.MustCompile(`(?i)(["']?[\w.-]*` + names + `[\w.-]*["']?\s*(?:[:=]|=>)\s*)("(?:[^"\\]|\\.)*"?|'[^']*'?|[^\s,;&"'}\]]+)`)
	// Of these the whole rest of the line is the value.
	header = regexp.MustCompile(`(?i)((?:proxy-|www-)?auth(?:orization|enticate)|set-cookie2?|cookie)(["']?\s*[:=]\s*)\S.*`)
	// A name at the end of a line, whose value stands on the next one.
	open = regexp.MustCompile(`(?i)(?:` + names + `[\w.-]*|authorization|cookie)["']?\s*(?:[:=]|=>)\s*["']?(?:(?:bearer|basic)\s*)?$`)

	plain = []*regexp.Regexp{
		regexp.MustCompile(`parley_[A-Za-z0-9_-]+`),
		regexp.MustCompile(`\$(?:argon2(?:id|i|d)?|2[abxy]?|[156y]|gy|scrypt|pbkdf2[\w-]*)\$[^\s"']+`),
		regexp.MustCompile(`(?i)\b(?:bearer|basic|negotiate|digest)\s+[A-Za-z0-9+/=._~-]{8,}`),
		regexp.MustCompile(`eyJ[\w-]{5,}\.[\w-]+(?:\.[\w-]*)?`), // JSON web tokens
		regexp.MustCompile(`(?i)otpauth://\S+`),                 // TOTP
	}
	base32 = []*regexp.Regexp{ // as TOTP secrets are
		regexp.MustCompile(`\b[A-Z2-7]{16,}={0,6}`),
		regexp.MustCompile(`\b(?:[A-Z2-7]{4}[ -]){3,}[A-Z2-7]{4}\b`), // in groups of four
	}
	// What a line must have, in small letters, for the slow expressions to be
	// tried: every name in names and header, every mark in plain.
	words = []string{"pass", "pwd", "secret", "token", "otp", "api", "priv", "credential", "session", "csrf", "nonce", "recovery", "hash", "auth", "cookie"}
	marks = []string{"parley_", "$", "bearer", "basic", "negotiate", "digest", "eyj", "otpauth"}
	// user:password@ in a URL.
	userinfo = regexp.MustCompile(`(://)[^/\s@]*:[^/\s@]*@`)
	// Base64 of a key whose beginning has been lost.
	blob = regexp.MustCompile(`[A-Za-z0-9+/_-]{40,}={0,2}`)
	// A token that the end of a line may have broken.
	broken = regexp.MustCompile(`(?:parley_[A-Za-z0-9_-]*|\$argon2[^\s"']*|eyJ[\w.-]+)$`)
	rest   = regexp.MustCompile(`^[A-Za-z0-9+/=._$,-]{6,}`)

	pemBegin = regexp.MustCompile(`-----BEGIN [A-Z0-9 ]*PRIVATE KEY`)
	pemEnd   = regexp.MustCompile(`-----END [A-Z0-9 ]*PRIVATE KEY-*`)
)

// Redactor takes secrets out of a text, line by line; a secret may go on in the
// next one. It takes out too much rather than too little. The zero value is for
// the first line.
type Redactor struct {
	pem   int  // lines of a private key that may still come
	value bool // the next line begins with the value of a name
	half  bool // the next line begins with the rest of a token
}

// Line returns a line without secrets.
func (r *Redactor) Line(s string) string { return r.line(s) }

func (r *Redactor) line(s string) string {
	value, half := r.value, r.half
	r.value, r.half = false, false
	if r.pem > 0 {
		r.pem--
		end := pemEnd.FindStringIndex(s)
		if end == nil {
			return removed
		}
		r.pem = 0
		return removed + r.line(s[end[1]:])
	}
	if begin := pemBegin.FindStringIndex(s); begin != nil {
		r.pem = maxPEM
		// The key may end in the same line, as it does in JSON.
		return r.line2(s[:begin[0]], value, half) + r.line(s[begin[1]:])
	}
	return r.line2(s, value, half)
}

func (r *Redactor) line2(s string, value, half bool) string {
	if strings.TrimSpace(s) == "" {
		r.value = value // the value may come after an empty line
		return s
	}
	if value {
		return removed
	}
	prefix := ""
	if half {
		if m := rest.FindString(s); m != "" {
			prefix, s = removed, s[len(m):]
		}
	}
	lower := strings.ToLower(s)
	if containsAny(lower, words) {
		r.value = open.MatchString(s[max(0, len(s)-200):])
		s = header.ReplaceAllString(s, "${1}${2}"+removed)
		s = named.ReplaceAllStringFunc(s, withoutValue)
	}
	if containsAny(s, []string{"parley_", "$argon2", "eyJ"}) {
		r.half = broken.MatchString(s[max(0, len(s)-500):])
	}
	if strings.Contains(s, "://") && strings.Contains(s, "@") {
		s = userinfo.ReplaceAllString(s, "${1}"+removed+"@")
	}
	if containsAny(lower, marks) {
		for _, p := range plain {
			s = p.ReplaceAllString(s, removed)
		}
	}
	if longest(s, func(c byte) bool { return 'A' <= c && c <= 'Z' || '2' <= c && c <= '7' || c == ' ' || c == '-' }) >= 16 {
		for _, p := range base32 {
			s = p.ReplaceAllString(s, removed)
		}
	}
	base64 := func(c byte) bool {
		return 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || strings.IndexByte("+/_-", c) >= 0
	}
	if longest(s, base64) >= 40 {
		s = blob.ReplaceAllStringFunc(s, func(m string) string {
			const upper, lower, digit = "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz", "0123456789"
			if strings.ContainsAny(m, upper) && strings.ContainsAny(m, lower) && strings.ContainsAny(m, digit) {
				return removed
			}
			return m
		})
	}
	return prefix + s
}

// withoutValue replaces the value in what named has found.
func withoutValue(m string) string {
	p := named.FindStringSubmatch(m)
	switch strings.Trim(p[2], `"'`) {
	case "true", "false", "null", "", removed:
		return m
	}
	if q := p[2][0]; q == '"' || q == '\'' {
		return p[1] + string(q) + removed + string(q)
	}
	return p[1] + removed
}

func containsAny(s string, list []string) bool {
	return slices.ContainsFunc(list, func(x string) bool { return strings.Contains(s, x) })
}

// longest returns the length of the longest run of bytes that f takes.
func longest(s string, f func(byte) bool) int {
	run, most := 0, 0
	for i := range len(s) {
		if !f(s[i]) {
			run = 0
			continue
		}
		run++
		most = max(most, run)
	}
	return most
}

// Text returns a text without secrets.
func (r *Redactor) Text(s string) string {
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		lines[i] = r.Line(l)
	}
	return strings.Join(lines, "\n")
}
