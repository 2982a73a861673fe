package link

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
)

func token(t testing.TB, pin []byte) Token {
	secret, err := NewSecret(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return Token{URL: "https://portal.example.com:8443", Pin: pin, ID: "t1", Secret: secret}
}

func TestToken(t *testing.T) {
	pin := sha256.Sum256(nil)
	for _, want := range []Token{token(t, nil), token(t, pin[:])} {
		s := want.String()
		got, err := ParseToken(" " + s[:40] + "\r\n" + s[40:] + "\n")
		if err != nil || got.URL != want.URL || !bytes.Equal(got.Pin, want.Pin) || got.ID != want.ID || got.Secret != want.Secret {
			t.Errorf("%+v %v, want %+v", got, err, want)
		}
		for i := len(tokenPrefix); i < len(s); i++ {
			c := []byte(s)
			c[i] ^= 1
			if _, err := ParseToken(string(c)); err == nil {
				t.Errorf("byte %d changed, and the token was taken", i)
			}
			if _, err := ParseToken(s[:i]); !errors.Is(err, ErrCutToken) {
				t.Errorf("cut at %d: %v, want ErrCutToken", i, err)
			}
		}
	}
}

func TestTokenBad(t *testing.T) {
	make := func(json string) string {
		s := tokenPrefix + base64.RawURLEncoding.EncodeToString([]byte(json))
		return s + "." + tokenCheck(s)
	}
	good := `"i":"x","s":"` + base64.RawURLEncoding.EncodeToString(make32()) + `"`
	for s, want := range map[string]error{
		"":                                              ErrNoToken,
		"eyJhbGciOiJub25lIn0.e30.":                      ErrNoToken,
		"parley2.abc.12345678":                          ErrNewerToken,
		"parley1.abc":                                   ErrCutToken,
		make(`{"u":"http://a",` + good + `}`):           ErrNewerToken,
		make(`{"u":"https://a/x",` + good + `}`):        ErrNewerToken,
		make(`{"u":"https://b@a",` + good + `}`):        ErrNewerToken,
		make(`{"u":"https://a","i":"x","s":""}`):        ErrNewerToken,
		make(`{"u":"https://a","p":"AA",` + good + `}`): ErrNewerToken,
		make(`{"u":"https://a","z":1,` + good + `}`):    ErrNewerToken,
		make(`{"u":"https://` + strings.Repeat("a", maxToken) + `",` + good + `}`): ErrCutToken,
		make(`[]`): ErrNewerToken,
	} {
		if _, err := ParseToken(s); !errors.Is(err, want) {
			t.Errorf("%.60q: %v, want %v", s, err, want)
		}
	}
	if _, err := ParseToken(make(`{"u":"https://a",` + good + `}`)); err != nil {
		t.Error(err)
	}
}

func make32() []byte { return bytes.Repeat([]byte{7}, secretSize) }

func FuzzParseToken(f *testing.F) {
	f.Add(token(f, nil).String())
	f.Add(token(f, make32()).String())
	f.Add("parley1.e30.00000000")
	f.Add("parley2.x")
	f.Fuzz(func(t *testing.T, s string) {
		tok, err := ParseToken(s)
		if err != nil {
			return
		}
		again, err := ParseToken(tok.String())
		if err != nil || again.URL != tok.URL || again.Secret != tok.Secret {
			t.Fatalf("%q: %v", s, err)
		}
	})
}
