package account

import (
	"bytes"
	"crypto/rand"
	"encoding/base32"
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/credential"
	"github.com/parley-meet/parley/services/internal/statefile"
)

// The vectors of RFC 6238, appendix B, cut to six digits.
func TestCode(t *testing.T) {
	secret := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString([]byte("12345678901234567890"))
	for at, want := range map[int64]string{
		59: "287082", 1111111109: "081804", 1111111111: "050471", 1234567890: "005924", 2000000000: "279037", 20000000000: "353130",
	} {
		if got, err := Code(secret, time.Unix(at, 0)); got != want || err != nil {
			t.Errorf("at %d: %s, %v, want %s", at, got, err, want)
		}
	}
}

func newFactor(t testing.TB) (*Factor, []string) {
	t.Helper()
	secret, err := NewSecret(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	codes, sums, err := NewRecovery(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &Factor{Secret: secret, Recovery: sums}, codes
}

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestTake(t *testing.T) {
	f, _ := newFactor(t)
	at := func(d time.Duration) string {
		c, err := Code(f.Secret, noon.Add(d))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for _, d := range []time.Duration{-60 * time.Second, 60 * time.Second, time.Hour} {
		if f.Take(at(d), noon) {
			t.Errorf("a code of %v was taken", d)
		}
	}
	for _, s := range []string{"", "12345", "1234567", "abcdef", "–23456"} {
		if f.Take(s, noon) {
			t.Errorf("%q was taken", s)
		}
	}
	if c := at(-30 * time.Second); !f.Take(c[:3]+" "+c[3:], noon) {
		t.Error("the code before was not taken")
	}
	if f.Take(at(-30*time.Second), noon) {
		t.Error("a code was taken twice")
	}
	if !f.Take(at(30*time.Second), noon) {
		t.Error("the next code was not taken")
	}
	if f.Take(at(0), noon) {
		t.Error("a code older than one that was used was taken")
	}
	// The clock was years ahead, and was set right.
	f.Used = noon.AddDate(5, 0, 0).Unix() / 30
	if !f.Take(at(0), noon) || f.Take(at(0), noon) {
		t.Error("after a clock that was ahead: want the code once")
	}
}

func TestRecoveryCodes(t *testing.T) {
	f, codes := newFactor(t)
	if len(codes) != RecoveryCodes || len(f.Recovery) != RecoveryCodes {
		t.Fatalf("%d codes", len(codes))
	}
	other := *f
	for i, c := range codes {
		if !regexp.MustCompile(`^[a-z2-9]{5}-[a-z2-9]{5}$`).MatchString(c) {
			t.Errorf("code %q", c)
		}
		typed := []string{c, strings.ToUpper(c), strings.ReplaceAll(c, "-", " ")}[i%3]
		if !f.Take(typed, noon) || f.Take(c, noon) {
			t.Errorf("%q: want it once", typed)
		}
		if len(f.Recovery) != RecoveryCodes-1-i {
			t.Errorf("%d left", len(f.Recovery))
		}
	}
	if other.Merge(*f); len(other.Recovery) != 0 {
		t.Error("what is used in one state is not in the other")
	}
}

func TestURI(t *testing.T) {
	u, err := url.Parse(URI("meet one", "anna", "ABC"))
	if err != nil || u.Scheme != "otpauth" || u.Host != "totp" || u.Path != "/Parley meet one:anna" || u.Query().Get("issuer") != "Parley meet one" || u.Query().Get("secret") != "ABC" || strings.Contains(u.String(), "+") {
		t.Errorf("%v, %v", u, err)
	}
}

func TestNames(t *testing.T) {
	for s, want := range map[string]bool{
		"anna": true, "a": true, "a.b-c_9": true, strings.Repeat("a", 32): true,
		"": false, "9a": false, "Anna": false, "анна": false, "a b": false, "a\n": false, "-a": false, strings.Repeat("a", 33): false, "a/..": false,
	} {
		if ValidName(s) != want {
			t.Errorf("%q: want %v", s, want)
		}
	}
	if !Reserved("admin") || !Reserved("recover") || Reserved("anna") || FoldName(" Anna\t") != "anna" {
		t.Error("reserved names, or folding")
	}
}

const phc = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$MDEyMzQ1Njc4OWFiY2RlZg"

func goodBook(t testing.TB) Book {
	f, _ := newFactor(t)
	return Book{Version: 1, Accounts: []Record{
		{Name: "admin", Authority: Operate, MustChange: true, TOTP: f},
		{Name: "anna", Authority: View, Hash: phc, Set: noon, Pending: f.Secret, PendingAt: noon},
	}}
}

func TestBook(t *testing.T) {
	books := Books(statefile.New(t.TempDir()))
	b, err := json.Marshal(goodBook(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := books.Parse(b); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Book){
		"twice":         func(b *Book) { b.Accounts[1].Name = "admin" },
		"no name":       func(b *Book) { b.Accounts[1].Name = "" },
		"capital":       func(b *Book) { b.Accounts[1].Name = "Anna" },
		"authority":     func(b *Book) { b.Accounts[1].Authority = "root" },
		"admin looks":   func(b *Book) { b.Accounts[0].Authority = View },
		"admin's hash":  func(b *Book) { b.Accounts[0].Hash = phc },
		"no hash":       func(b *Book) { b.Accounts[1].Hash = "" },
		"dear hash":     func(b *Book) { b.Accounts[1].Hash = strings.Replace(phc, "m=8", "m=4194304", 1) },
		"secret":        func(b *Book) { b.Accounts[0].TOTP.Secret = "0" },
		"short secret":  func(b *Book) { b.Accounts[0].TOTP.Secret = "ABCD" },
		"recovery":      func(b *Book) { b.Accounts[0].TOTP.Recovery[0] = "x" },
		"many recovery": func(b *Book) { b.Accounts[0].TOTP.Recovery = make([]string, 11) },
		"pending":       func(b *Book) { b.Accounts[1].Pending = "1" },
		"many":          func(b *Book) { b.Accounts = slices.Repeat(b.Accounts, 26) },
		"version":       func(b *Book) { b.Version = 2 },
	} {
		bad := goodBook(t)
		spoil(&bad)
		b, err := json.Marshal(bad)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := books.Parse(b); err == nil {
			t.Errorf("%s: is read", name)
		} else if strings.Contains(err.Error(), phc[30:]) {
			t.Errorf("%s: the error tells a hash: %v", name, err)
		}
	}
	n := NewBook()
	if n.Find("admin") != nil || n.Admin().Authority != Operate || n.Find("admin") == nil || len(n.Accounts) != 1 || n.Admin() != n.Find("admin") {
		t.Errorf("%+v", n)
	}
}

// What ends sessions: each of these, and nothing else.
func TestStamp(t *testing.T) {
	f, _ := newFactor(t)
	r := Record{Name: "anna", Authority: View}
	stamps := []string{r.Stamp("h"), r.Stamp("i")}
	r.Authority = Operate
	stamps = append(stamps, r.Stamp("h"))
	r.TOTP = f
	stamps = append(stamps, r.Stamp("h"))
	f.Used, f.Recovery, r.MustChange = 9, nil, true
	if r.Stamp("h") != stamps[3] {
		t.Error("a code that was used ends the session")
	}
	slices.Sort(stamps)
	if len(slices.Compact(stamps)) != 4 {
		t.Errorf("%d different stamps, want 4", len(stamps))
	}
}

func TestTokens(t *testing.T) {
	id, secret, err := NewToken(rand.Reader)
	if err != nil || !strings.HasPrefix(secret, "parley_") || len(secret) != len("parley_")+43 {
		t.Fatalf("%q %q %v", id, secret, err)
	}
	b := NewTokenBook()
	b.Tokens = append(b.Tokens, TokenRecord{Token: Token{ID: id, Title: "x", Authority: View, By: "admin", Created: noon, Expires: noon.Add(time.Hour)}, Sum: TokenSum(secret)})
	books := TokenBooks(statefile.New(t.TempDir()))
	js, err := json.Marshal(b)
	if err != nil || bytes.Contains(js, []byte(secret)) {
		t.Fatalf("%v, or the secret is kept", err)
	}
	if _, err := books.Parse(js); err != nil {
		t.Fatal(err)
	}
	if b.Find(secret, noon) == nil || b.Find(secret, noon.Add(time.Hour)) != nil || b.Find(secret+"x", noon) != nil || b.Find("", noon) != nil || b.Find(b.Tokens[0].Sum, noon) != nil {
		t.Error("want the token for its secret until it expires")
	}
	for name, spoil := range map[string]func(*TokenRecord){
		"id": func(r *TokenRecord) { r.ID = "x" }, "authority": func(r *TokenRecord) { r.Authority = "" }, "sum": func(r *TokenRecord) { r.Sum = "00" },
		"title": func(r *TokenRecord) { r.Title = strings.Repeat("x", 300) }, "by": func(r *TokenRecord) { r.By = strings.Repeat("x", 65) },
	} {
		bad := TokenBook{Version: 1, Tokens: slices.Clone(b.Tokens)}
		spoil(&bad.Tokens[0])
		js, _ := json.Marshal(bad)
		if _, err := books.Parse(js); err == nil {
			t.Errorf("%s: is read", name)
		}
	}
	js, _ = json.Marshal(TokenBook{Version: 1, Tokens: slices.Repeat(b.Tokens, 2)})
	if _, err := books.Parse(js); err == nil {
		t.Error("an id twice is read")
	}
}

func FuzzBook(f *testing.F) {
	b, err := json.Marshal(goodBook(f))
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range [][]byte{b, nil, []byte("{}"), []byte(`{"version":1,"accounts":null}`), []byte(`{"version":1,"accounts":[{"name":"admin"}]}`)} {
		f.Add(s)
	}
	books := Books(statefile.New(f.TempDir()))
	f.Fuzz(func(t *testing.T, b []byte) {
		book, err := books.Parse(b)
		if err != nil {
			return
		}
		for i := range book.Accounts {
			r := &book.Accounts[i]
			if !ValidName(r.Name) || book.Find(r.Name) != r {
				t.Fatalf("%+v", r)
			}
			r.Stamp("")
			if r.TOTP != nil {
				r.TOTP.Take("123456", noon)
			}
			if _, err := credential.ParseHash(r.Hash); (err != nil) != (r.Name == credential.User) {
				t.Fatalf("%+v: %v", r, err)
			}
		}
	})
}

func FuzzTokens(f *testing.F) {
	f.Add([]byte(`{"version":1,"tokens":[{"id":"00112233","title":"x","authority":"view","by":"admin","created":"2026-03-01T12:00:00Z","sum":"` + TokenSum("x") + `"}]}`))
	f.Add([]byte(`{"version":1,"tokens":[]}`))
	books := TokenBooks(statefile.New(f.TempDir()))
	f.Fuzz(func(t *testing.T, b []byte) {
		if book, err := books.Parse(b); err == nil && len(book.Tokens) > MaxTokens {
			t.Fatal("more tokens than there may be")
		} else if err == nil {
			book.Find("x", noon)
		}
	})
}
