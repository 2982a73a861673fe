package machine

import (
	"bytes"
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/certificate"
	"github.com/parley-meet/parley/services/internal/connector"
	"github.com/parley-meet/parley/services/internal/member"
)

func addrs(list ...string) (out []netip.Addr) {
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func TestController(t *testing.T) {
	for name, x := range map[string]struct {
		setting string
		machine []netip.Addr
		want    []netip.Addr
	}{
		"nothing":              {"", nil, nil},
		"the first":            {"", addrs("10.0.0.1", "10.0.0.2"), addrs("10.0.0.1")},
		"as set":               {"10.0.0.2", addrs("10.0.0.1", "10.0.0.2", "2001:db8::1"), addrs("10.0.0.2", "2001:db8::1")},
		"set and not there":    {"10.0.0.9", addrs("10.0.0.1", "10.0.0.2"), addrs("10.0.0.1")},
		"IPv6 alone":           {"", addrs("2001:db8::1", "2001:db8::2"), addrs("2001:db8::1", "2001:db8::2")},
		"in another order":     {"", addrs("2001:db8::1", "10.0.0.1"), addrs("10.0.0.1", "2001:db8::1")},
		"the first is as well": {"10.0.0.1", addrs("10.0.0.1", "10.0.0.2"), addrs("10.0.0.1")},
	} {
		s := connector.New()
		if x.setting != "" {
			s.ZoneController = netip.MustParseAddr(x.setting)
		}
		if got := Controller(s, x.machine); !slices.Equal(got, x.want) {
			t.Errorf("%s: %v, want %v", name, got, x.want)
		}
	}
}

func TestFacts(t *testing.T) {
	if got := version([]byte("commit-time=2026-11-25T00:00:00Z\nversion=1.2.3\n")); got != "1.2.3" {
		t.Errorf("version %q", got)
	}
	if got := version([]byte("versions=1\n")); got != "" {
		t.Errorf("version %q", got)
	}
	if used, total := Memory(); used <= 0 || total < used {
		t.Errorf("memory %d of %d", used, total)
	}
	if got, err := Users("102,103"); err != nil || !slices.Equal(got, []uint32{102, 103}) {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "0", "a", "1,", "-1", "4294967296"} {
		if got, err := Users(bad); err == nil {
			t.Errorf("%q: %v", bad, got)
		}
	}
	for _, a := range Addresses() {
		if a.IsLoopback() || a.IsLinkLocalUnicast() {
			t.Errorf("nobody else reaches %v", a)
		}
	}
}

// The administrator's certificate comes before the portal's, and that before a
// self-signed one; with none at all there is one in memory.
func TestCertificates(t *testing.T) {
	dir := t.TempDir()
	var st member.State
	c := &Certificates{Dir: dir, Host: "parley", State: func() member.State { return st }}
	get := func(name string) []byte {
		t.Helper()
		c.looked = time.Time{}
		pair, err := c.Get(nil)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		told := c.Told(time.Now())
		if told == nil || told.Trusted || told.Expires.Before(time.Now()) {
			t.Errorf("%s: the portal is told %+v", name, told)
		}
		return pair.Certificate[0]
	}
	memory := get("memory")
	if !bytes.Equal(memory, get("memory again")) {
		t.Error("each look makes another certificate")
	}
	store := certificate.Shared(dir)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if _, err := store.Reset(ctx, certificate.Names{Host: "parley"}, time.Now()); err != nil {
		t.Fatal(err)
	}
	self := get("self-signed")
	if bytes.Equal(self, memory) {
		t.Error("the self-signed one is not used")
	}
	other := certificate.Shared(t.TempDir())
	pem := func(dir string) []byte {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(dir, "self.pem"))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if _, err := other.Reset(ctx, certificate.Names{Host: "portal.example"}, time.Now()); err != nil {
		t.Fatal(err)
	}
	b := string(pem(other.Dir))
	st.Browsers = &member.Certificate{Chain: b, Key: b}
	browsers := get("the portal's")
	if bytes.Equal(browsers, self) {
		t.Error("the portal's is not used")
	}
	st.Browsers = &member.Certificate{Chain: "x", Key: "y"}
	if !bytes.Equal(get("a bad one of the portal"), self) {
		t.Error("what is no certificate is not passed over")
	}
	st.Browsers = &member.Certificate{Chain: b, Key: b}
	third := certificate.Shared(t.TempDir())
	if _, err := third.Reset(ctx, certificate.Names{Host: "own.example"}, time.Now()); err != nil {
		t.Fatal(err)
	}
	key, chain, _ := strings.Cut(string(pem(third.Dir)), "-----BEGIN CERTIFICATE-----")
	if _, err := store.Install(ctx, "-----BEGIN CERTIFICATE-----"+chain, key, time.Now()); err != nil {
		t.Fatal(err)
	}
	if got := get("uploaded"); bytes.Equal(got, browsers) || bytes.Equal(got, self) {
		t.Error("the uploaded one is not used")
	}
}
