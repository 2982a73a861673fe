package look

import (
	"net/http"
	"strconv"
	"strings"
)

// languageCookie holds the language that was chosen with the switch.
const languageCookie = "__Host-language"

// maxAccept is how much of an Accept-Language is read, in bytes; browsers send
// less than 100.
const maxAccept = 1024

// RequestLanguage returns the language to answer in: the one that was chosen,
// or else the one that the browser prefers.
func RequestLanguage(r *http.Request) Language {
	if c, err := r.Cookie(languageCookie); err == nil {
		if l, ok := ParseLanguage(c.Value); ok {
			return l
		}
	}
	return Preferred(r.Header.Get("Accept-Language"))
}

// SetLanguage makes the browser keep the chosen language for a year.
func SetLanguage(w http.ResponseWriter, l Language) {
	http.SetCookie(w, &http.Cookie{Name: languageCookie, Value: string(l), Path: "/", MaxAge: 365 * 24 * 3600,
		Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode})
}

// Preferred returns the language that an Accept-Language (RFC 9110 12.5.4) likes
// best, and the default when it likes none. Regions do not count: ru-BY is ru.
func Preferred(accept string) Language {
	best, bestQ := Languages[0], 0.0
	for part := range strings.SplitSeq(accept[:min(len(accept), maxAccept)], ",") {
		tag, params, _ := strings.Cut(part, ";")
		tag = strings.ToLower(strings.TrimSpace(tag))
		primary, _, _ := strings.Cut(tag, "-")
		l, ok := ParseLanguage(primary)
		if tag == "*" {
			l, ok = Languages[0], true
		}
		if !ok {
			continue
		}
		q := 1.0
		if name, value, found := strings.Cut(strings.TrimSpace(params), "="); found && strings.EqualFold(strings.TrimSpace(name), "q") {
			f, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil || !(f >= 0 && f <= 1) { // NaN too
				continue
			}
			q = f
		}
		if q > bestQ { // of two alike the first is meant
			best, bestQ = l, q
		}
	}
	return best
}
