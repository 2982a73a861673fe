package ticket

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func key(id string, seed byte) Key {
	return Key{id, ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))}
}

func set(keys ...Key) Set {
	s := Set{}
	for _, k := range keys {
		s[k.ID] = k.Private.Public().(ed25519.PublicKey)
	}
	return s
}

func claims() Claims {
	return Claims{Issuer: "https://portal.example", Zone: "zone", Subject: "anna", ID: "j1", Account: "acme", Name: "Anna", Role: Host,
		Meeting: Meeting{ID: "m1", Number: "12345678901", WaitingRoom: true}, Issued: now, Expires: now.Add(TTL)}
}

func sign(t testing.TB, k Key, c Claims) string {
	t.Helper()
	s, err := Sign(k, c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// forge makes a token of any header and claims, signed by what is given.
func forge(header, body string, mac func([]byte) []byte) string {
	e := base64.RawURLEncoding
	text := e.EncodeToString([]byte(header)) + "." + e.EncodeToString([]byte(body))
	return text + "." + e.EncodeToString(mac([]byte(text)))
}

func TestVerify(t *testing.T) {
	k := key("k1", 1)
	want := Expect{Issuer: "https://portal.example", Zone: "zone", Meeting: "m1"}
	good := sign(t, k, claims())
	got, err := Verify(good, set(k, key("k2", 2)), want, now.Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	c := claims()
	if got.Issued, got.Expires = got.Issued.UTC(), got.Expires.UTC(); got != c {
		t.Errorf("got %+v, want %+v", got, c)
	}
	// Both ends of its life, with the clocks' difference.
	for d, want := range map[time.Duration]error{-Skew: nil, -Skew - time.Second: ErrEarly, TTL + Skew - time.Second: nil, TTL + Skew: ErrExpired} {
		if _, err := Verify(good, set(k), Expect{Zone: "zone"}, now.Add(d)); !errors.Is(err, want) {
			t.Errorf("after %v: %v", d, err)
		}
	}
	body := string(part(t, good, 1))
	edKey := func(b []byte) []byte { return ed25519.Sign(k.Private, b) }
	pub := []byte(k.Private.Public().(ed25519.PublicKey))
	hs := func(b []byte) []byte {
		m := hmac.New(sha256.New, pub)
		m.Write(b)
		return m.Sum(nil)
	}
	other := key("k1", 9)
	otherJWK, _ := json.Marshal(jose.JSONWebKey{Key: other.Private.Public()})
	flipped := []byte(good)
	flipped[strings.IndexByte(good, '.')+10] ^= 1
	for name, c := range map[string]struct {
		text string
		want Expect
		err  error
	}{
		"wrong key":      {sign(t, other, claims()), want, ErrSignature},
		"unknown key":    {sign(t, key("k9", 1), claims()), want, ErrKey},
		"other meeting":  {good, Expect{Zone: "zone", Meeting: "m2"}, ErrMeeting},
		"other zone":     {good, Expect{Zone: "zone2"}, ErrZone},
		"no zone":        {good, Expect{}, ErrZone},
		"other portal":   {good, Expect{Zone: "zone", Issuer: "https://evil.example"}, ErrIssuer},
		"alg none":       {forge(`{"alg":"none","kid":"k1","typ":"`+kind+`"}`, body, func([]byte) []byte { return nil }), want, ErrMalformed},
		"HS256":          {forge(`{"alg":"HS256","kid":"k1","typ":"`+kind+`"}`, body, hs), want, ErrMalformed},
		"other type":     {forge(`{"alg":"EdDSA","kid":"k1","typ":"JWT"}`, body, edKey), want, ErrMalformed},
		"no type":        {forge(`{"alg":"EdDSA","kid":"k1"}`, body, edKey), want, ErrMalformed},
		"no kid":         {forge(`{"alg":"EdDSA","typ":"`+kind+`"}`, body, edKey), want, ErrKey},
		"key in header":  {forge(`{"alg":"EdDSA","kid":"k1","typ":"`+kind+`","jwk":`+string(otherJWK)+`}`, body, func(b []byte) []byte { return ed25519.Sign(other.Private, b) }), want, ErrSignature},
		"oversized":      {good + strings.Repeat("A", MaxSize), want, ErrMalformed},
		"empty":          {"", want, ErrMalformed},
		"changed":        {string(flipped), want, nil},
		"no expiry":      {forge(`{"alg":"EdDSA","kid":"k1","typ":"`+kind+`"}`, drop(t, body, "exp"), edKey), want, ErrIncomplete},
		"no start":       {forge(`{"alg":"EdDSA","kid":"k1","typ":"`+kind+`"}`, drop(t, body, "nbf"), edKey), want, ErrIncomplete},
		"no id":          {forge(`{"alg":"EdDSA","kid":"k1","typ":"`+kind+`"}`, drop(t, body, "jti"), edKey), want, ErrIncomplete},
		"no role":        {forge(`{"alg":"EdDSA","kid":"k1","typ":"`+kind+`"}`, drop(t, body, "role"), edKey), want, ErrIncomplete},
		"two audiences":  {forge(`{"alg":"EdDSA","kid":"k1","typ":"`+kind+`"}`, strings.Replace(body, `"aud":"zone"`, `"aud":["zone","b"]`, 1), edKey), want, ErrIncomplete},
		"lives too long": {forge(`{"alg":"EdDSA","kid":"k1","typ":"`+kind+`"}`, strings.Replace(body, fmt.Sprint(now.Add(TTL).Unix()), fmt.Sprint(now.Add(24*time.Hour).Unix()), 1), edKey), want, ErrIncomplete},
	} {
		got, err := Verify(c.text, set(k), c.want, now)
		if err == nil || c.err != nil && !errors.Is(err, c.err) {
			t.Errorf("%s: %v, want %v", name, err, c.err)
		}
		if err != nil && got != (Claims{}) {
			t.Errorf("%s: claims of what was refused: %+v", name, got)
		}
	}
	// The forger makes good ones too, or the cases above would prove nothing.
	if _, err := Verify(forge(`{"alg":"EdDSA","kid":"k1","typ":"`+kind+`"}`, body, edKey), set(k), want, now); err != nil {
		t.Error(err)
	}
}

func part(t *testing.T, text string, n int) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(strings.Split(text, ".")[n])
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func drop(t *testing.T, body, name string) string {
	t.Helper()
	var m map[string]json.RawMessage
	if err := json.Unmarshal([]byte(body), &m); err != nil {
		t.Fatal(err)
	}
	if _, ok := m[name]; !ok {
		t.Fatalf("no %s in %s", name, body)
	}
	delete(m, name)
	b, _ := json.Marshal(m)
	return string(b)
}

func TestSignRefuses(t *testing.T) {
	for name, change := range map[string]func(*Claims){
		"role": func(c *Claims) { c.Role = "king" }, "zone": func(c *Claims) { c.Zone = "" }, "number": func(c *Claims) { c.Meeting.Number = "" },
		"life": func(c *Claims) { c.Expires = now.Add(time.Hour) }, "size": func(c *Claims) { c.Name = strings.Repeat("n", MaxSize) },
	} {
		c := claims()
		change(&c)
		if s, err := Sign(key("k1", 1), c); err == nil {
			t.Errorf("%s: signed %s", name, s)
		}
	}
	if _, err := Sign(Key{ID: "k1"}, claims()); err == nil {
		t.Error("signed without a key")
	}
}

func TestSet(t *testing.T) {
	a, b := key("a", 1), key("b", 2)
	text, err := set(b, a).Format()
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseSet(text)
	if err != nil || len(got) != 2 || !got["a"].Equal(a.Private.Public()) || !got["b"].Equal(b.Private.Public()) {
		t.Fatalf("%v %v", got, err)
	}
	if bytes.Contains(text, []byte(`"d"`)) {
		t.Errorf("a private key is published: %s", text)
	}
	// The library's own reader takes it.
	var lib jose.JSONWebKeySet
	if err := json.Unmarshal(text, &lib); err != nil || len(lib.Key("a")) != 1 {
		t.Errorf("%v %v", lib, err)
	}
	tok, err := jwt.ParseSigned(sign(t, a, claims()), []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil {
		t.Fatal(err)
	}
	if err := tok.Claims(&lib, &map[string]any{}); err != nil {
		t.Error(err)
	}
	private, _ := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: a.Private, KeyID: "a"}}})
	one, _ := json.Marshal(jose.JSONWebKey{Key: a.Private.Public(), KeyID: "a"})
	for name, bad := range map[string]string{
		"empty": "", "null": "null", "no keys": "{}", "private": string(private), "twice": `{"keys":[` + string(one) + `,` + string(one) + `]}`,
		"short": `{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"AAAA"}]}`, "no id": `{"keys":[` + strings.Replace(string(one), `"kid":"a",`, "", 1) + `]}`,
		"many": `{"keys":[` + strings.Repeat(`{},`, MaxKeys) + `{}]}`, "large": `{"keys":[` + strings.Repeat(" ", MaxSet) + `]}`,
	} {
		if s, err := ParseSet([]byte(bad)); err == nil {
			t.Errorf("%s: %v", name, s)
		}
	}
	// A key of a kind that this version does not know does not spoil the others.
	if s, err := ParseSet([]byte(`{"keys":[{"kty":"RSA","kid":"r","n":"AQAB","e":"AQAB"},` + string(one) + `]}`)); err != nil || len(s) != 1 {
		t.Errorf("%v %v", s, err)
	}
}

func TestReplay(t *testing.T) {
	r := NewReplay(2)
	c := claims()
	if err := r.Use(c, now); err != nil {
		t.Fatal(err)
	}
	if err := r.Use(c, now.Add(TTL+Skew-time.Second)); !errors.Is(err, ErrUsed) {
		t.Errorf("%v", err)
	}
	c.ID, c.Expires = "j2", now.Add(time.Minute)
	if err := r.Use(c, now); err != nil {
		t.Fatal(err)
	}
	c.ID = "j3"
	if err := r.Use(c, now); !errors.Is(err, ErrFull) {
		t.Errorf("%v", err)
	}
	// The one that expires first makes room, the other is still known.
	if err := r.Use(c, now.Add(time.Minute+Skew)); err != nil {
		t.Errorf("%v", err)
	}
	if err := r.Use(claims(), now.Add(time.Minute+Skew)); !errors.Is(err, ErrUsed) {
		t.Errorf("%v", err)
	}
	if len(r.seen) != len(r.ends) {
		t.Errorf("%d %d", len(r.seen), len(r.ends))
	}
}

func FuzzVerify(f *testing.F) {
	k := key("k1", 1)
	good := sign(f, k, claims())
	f.Add(good)
	f.Add(good[:len(good)-4])
	f.Add("a.b.c")
	f.Add(`{"payload":"","signatures":[]}`)
	keys := set(k)
	f.Fuzz(func(t *testing.T, s string) {
		c, err := Verify(s, keys, Expect{Zone: "zone"}, now)
		if err == nil && (c.ID != "j1" || c.Subject != "anna") {
			t.Errorf("%q is good: %+v", s, c)
		}
	})
}

func FuzzParseSet(f *testing.F) {
	text, _ := set(key("a", 1)).Format()
	f.Add(text)
	f.Add([]byte(`{"keys":[{"kty":"OKP"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseSet(b)
		if err != nil {
			return
		}
		text, err := s.Format()
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseSet(text)
		if err != nil || len(again) != len(s) {
			t.Errorf("%s: %v, %d keys of %d", text, err, len(again), len(s))
		}
	})
}
