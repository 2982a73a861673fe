package look

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestPreferred(t *testing.T) {
	for accept, want := range map[string]Language{
		"":                                    English,
		"ru":                                  Russian,
		"ru-RU,ru;q=0.9,en-US;q=0.8,en;q=0.7": Russian,
		"en-GB, ru;q=0.9":                     English,
		"de, ru;q=0.3, en;q=0.2":              Russian,
		"de":                                  English,
		"RU-by":                               Russian,
		"en;q=0, ru;q=0.1":                    Russian,
		"ru;q=0":                              English,
		"*, ru;q=0.5":                         English,
		"*;q=0.1, ru;q=0.5":                   Russian,
		"ru;q=x":                              English,
		"ru;q=NaN":                            English,
		"ru;q=1e300":                          English,
		"ru ; q = 0.5 , en;q=0.4":             Russian,
		"rule":                                English,
		strings.Repeat(",", maxAccept) + "ru": English, // beyond what is read
	} {
		if got := Preferred(accept); got != want {
			t.Errorf("%.60q: %s, want %s", accept, got, want)
		}
	}
}

func TestRequestLanguage(t *testing.T) {
	w := httptest.NewRecorder()
	SetLanguage(w, Russian)
	set := w.Header().Get("Set-Cookie")
	for _, want := range []string{"__Host-language=ru", "Secure", "HttpOnly", "SameSite=Strict", "Path=/"} {
		if !strings.Contains(set, want) {
			t.Errorf("cookie %q without %s", set, want)
		}
	}
	for cookie, want := range map[string]Language{"": English, "ru": Russian, "en": English, "../ru": English} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Accept-Language", "en")
		r.AddCookie(&http.Cookie{Name: languageCookie, Value: cookie})
		if got := RequestLanguage(r); got != want {
			t.Errorf("cookie %q: %s, want %s", cookie, got, want)
		}
	}
}

// Whatever a browser sends is answered in a language that there is.
func FuzzPreferred(f *testing.F) {
	for _, s := range []string{"", "ru", "en;q=0.5,ru", "*;q=,;;,-", "ru;q=-0", "\xff;q=\xff", "ru;Q=1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, accept string) {
		l := Preferred(accept)
		if _, ok := ParseLanguage(string(l)); !ok {
			t.Errorf("%q: %q", accept, l)
		}
	})
}
