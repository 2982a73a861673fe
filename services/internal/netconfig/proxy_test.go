package netconfig

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"
)

// What is saved is the way outwards of those who read it, but for what is
// excepted.
func TestThrough(t *testing.T) {
	path := filepath.Join(t.TempDir(), ProxyFile)
	way := Through(path)
	ask := func(target string) (string, error) {
		t.Helper()
		r, err := http.NewRequest(http.MethodGet, target, nil)
		if err != nil {
			t.Fatal(err)
		}
		u, err := way(r)
		if u == nil {
			return "", err
		}
		return u.String(), err
	}
	want := func(target, want string) {
		t.Helper()
		if got, err := ask(target); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", target, got, err, want)
		}
	}
	want("https://portal.example.com", "") // nothing was saved
	password := "p@ss:w/rd"
	p := Proxy{Host: "proxy.example.org", Port: 3128, User: "anna", Password: &password, Except: []string{"example.org", "10.0.0.0/8", "192.0.2.7", "2001:db8::/32"}}
	if err := SaveProxy(path, p); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != proxyMode {
		t.Errorf("%v, %v", info, err)
	}
	through := "http://anna:p%40ss%3Aw%2Frd@proxy.example.org:3128"
	for _, target := range []string{"https://portal.example.com", "https://portal.example.com:8443", "https://192.0.2.8", "https://[2001:db9::1]", "https://notexample.org"} {
		want(target, through)
	}
	for _, target := range []string{"https://example.org", "https://portal.example.org", "https://10.1.2.3:8443", "https://192.0.2.7", "https://[2001:db8::1]", "https://127.0.0.1"} {
		want(target, "")
	}
	// Another one counts at once; an IPv6 address is one too.
	if err := SaveProxy(path, Proxy{Host: "2001:db8::5", Port: 8080}); err != nil {
		t.Fatal(err)
	}
	want("https://portal.example.com", "http://[2001:db8::5]:8080")
	if err := SaveProxy(path, Proxy{}); err != nil {
		t.Fatal(err)
	}
	want("https://portal.example.com", "")
	for _, bad := range []string{"", "{", `{"version":2}`, `{"version":1,"proxy":{"hots":"x"}}`} {
		if err := os.WriteFile(path, []byte(bad), 0o604); err != nil {
			t.Fatal(err)
		}
		if got, err := ask("https://portal.example.com"); err == nil {
			t.Errorf("%q: %q, want an error", bad, got)
		}
	}
}
