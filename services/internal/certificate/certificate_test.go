package certificate

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-meet/parley/internal/durable"
)

var (
	noon    = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	address = netip.MustParseAddr("192.0.2.7")
	sixth   = netip.MustParseAddr("2001:db8::7")
)

func newKeeper(t *testing.T) *Keeper {
	t.Helper()
	return &Keeper{Dir: filepath.Join(t.TempDir(), "certificates"), RunDir: t.TempDir()}
}

// another is the keeper of the next process.
func another(k *Keeper) *Keeper { return &Keeper{Dir: k.Dir, RunDir: k.RunDir} }

func addresses() []netip.Addr { return []netip.Addr{address, sixth} }

// kept makes a certificate and stores it.
func kept(t *testing.T) *Keeper {
	t.Helper()
	k := newKeeper(t)
	if err := k.Load(time.Now(), "parley", nil); err != nil {
		t.Fatal(err)
	}
	if err := k.Keep(t.Context(), "parley", addresses); err != nil {
		t.Fatal(err)
	}
	return k
}

func leaf(t *testing.T, k *Keeper) *x509.Certificate {
	t.Helper()
	c, err := k.Certificate(nil)
	if err != nil || c == nil {
		t.Fatalf("%v, %v", c, err)
	}
	return c.Leaf
}

func read(t *testing.T, dir, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestSelfSigned(t *testing.T) {
	k := newKeeper(t)
	if err := k.Load(noon, "parley-1", addresses()); err != nil {
		t.Fatal(err)
	}
	c := leaf(t, k)
	if err := c.CheckSignatureFrom(c); err == nil {
		t.Error("the certificate may sign others")
	}
	if err := c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature); err != nil {
		t.Errorf("signature: %v", err)
	}
	if key, ok := c.PublicKey.(*ecdsa.PublicKey); !ok || key.Curve != elliptic.P256() {
		t.Errorf("key %T, want P-256", c.PublicKey)
	}
	if c.NotBefore != noon.Add(-24*time.Hour) || c.NotAfter != noon.Add(3650*24*time.Hour) {
		t.Errorf("valid from %v to %v", c.NotBefore, c.NotAfter)
	}
	if c.Subject.CommonName != "parley-1" || !slices.Equal(c.DNSNames, []string{"parley-1"}) {
		t.Errorf("names %v, %v", c.Subject, c.DNSNames)
	}
	for _, name := range []string{"parley-1", "192.0.2.7", "2001:db8::7"} {
		if err := c.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
	if !slices.Equal(c.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}) || c.IsCA {
		t.Errorf("for %v, authority %v", c.ExtKeyUsage, c.IsCA)
	}
	if c.SerialNumber.Sign() <= 0 || c.SerialNumber.BitLen() > 128 {
		t.Errorf("serial number %v", c.SerialNumber)
	}
	k2 := newKeeper(t)
	if err := k2.Load(noon, "parley-1", nil); err != nil {
		t.Fatal(err)
	}
	if c2 := leaf(t, k2); c2.SerialNumber.Cmp(c.SerialNumber) == 0 || string(c2.RawSubjectPublicKeyInfo) == string(c.RawSubjectPublicKeyInfo) {
		t.Error("two machines have the same serial number or key")
	}
}

// A machine can have any name; it always gets a certificate.
func TestNames(t *testing.T) {
	long := strings.Repeat("a", 60) + "." + strings.Repeat("b", 60)
	for _, hostname := range []string{"", "(none)", "переговоры", "a b", "-", "\x00", "line\nbreak", long, strings.Repeat("x", 300)} {
		k := newKeeper(t)
		if err := k.Load(noon, hostname, addresses()); err != nil {
			t.Errorf("%q: %v", hostname, err)
			continue
		}
		c := leaf(t, k)
		if n := c.Subject.CommonName; n == "" || len(n) > 64 {
			t.Errorf("%q: common name %q", hostname, n)
		}
		if err := c.VerifyHostname("192.0.2.7"); err != nil {
			t.Errorf("%q: %v", hostname, err)
		}
		if err := k.Keep(t.Context(), hostname, addresses); err != nil {
			t.Errorf("%q: %v", hostname, err)
		}
	}
	k := newKeeper(t)
	k.Load(noon, long, nil)
	if err := leaf(t, k).VerifyHostname(long); err != nil {
		t.Error(err)
	}
}

func TestKeep(t *testing.T) {
	k := kept(t)
	for path, mode := range map[string]os.FileMode{k.Dir: os.ModeDir | os.ModeSetgid | 0o770, filepath.Join(k.Dir, selfName): 0o660} {
		if fi, err := os.Stat(path); err != nil || fi.Mode() != mode {
			t.Errorf("%s: %v, %v, want %v", path, fi.Mode(), err, mode)
		}
	}
	if fi, err := os.Stat(filepath.Join(k.RunDir, fingerprintName)); err != nil || fi.Mode() != 0o640 {
		t.Errorf("fingerprint: %v, %v", fi.Mode(), err)
	}
	sum := sha256.Sum256(leaf(t, k).Raw)
	text := read(t, k.RunDir, fingerprintName)
	if got := strings.ToLower(strings.ReplaceAll(strings.TrimSpace(text), ":", "")); got != hex.EncodeToString(sum[:]) {
		t.Errorf("fingerprint %s, want %x", text, sum)
	}
	if got := readFingerprint(filepath.Join(k.RunDir, fingerprintName)); got != k.Fingerprint() || got+"\n" != text {
		t.Errorf("fingerprint is read as %q", got)
	}
	if err := leaf(t, k).VerifyHostname(address.String()); err != nil {
		t.Errorf("the address of later is not in it: %v", err)
	}

	// The next process uses it, and writes nothing but the fingerprint.
	k2 := another(k)
	defer durable.Fault(func(step string) error { return nil })()
	if err := k2.Load(time.Now(), "renamed", nil); err != nil {
		t.Fatal(err)
	}
	if !leaf(t, k2).Equal(leaf(t, k)) {
		t.Error("another certificate after a restart")
	}
	before := read(t, k.Dir, selfName)
	if err := k2.Keep(t.Context(), "renamed", func() []netip.Addr { t.Error("addresses asked for"); return nil }); err != nil {
		t.Fatal(err)
	}
	if read(t, k.Dir, selfName) != before {
		t.Error("the certificate was written again")
	}
}

func serves(t *testing.T, k *Keeper) {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	go tls.Server(a, &tls.Config{GetCertificate: k.Certificate}).Handshake()
	want := leaf(t, k)
	roots := x509.NewCertPool()
	roots.AddCert(want)
	client := tls.Client(b, &tls.Config{RootCAs: roots, ServerName: "192.0.2.7", Time: func() time.Time { return want.NotBefore.Add(48 * time.Hour) }})
	if err := client.Handshake(); err != nil {
		t.Errorf("a browser that trusts the certificate: %v", err)
	}
}

func TestServes(t *testing.T) {
	k := kept(t)
	serves(t, k)
	k2 := another(k)
	if err := k2.Load(time.Now(), "parley", nil); err != nil {
		t.Fatal(err)
	}
	serves(t, k2)
}

// Whatever is wrong with the file, there is a certificate that serves, the
// reason is told, and Keep puts a good file in its place.
func TestDamaged(t *testing.T) {
	other := kept(t)
	path := func(k *Keeper) string { return filepath.Join(k.Dir, selfName) }
	half := func(k *Keeper, last bool) []byte {
		b := []byte(read(t, k.Dir, selfName))
		i := bytes.Index(b, []byte("-----BEGIN CERT"))
		if last {
			return b[i:]
		}
		return b[:i]
	}
	for _, test := range []struct {
		name, want string
		damage     func(k *Keeper) error
	}{
		{"empty", "failed to find any PEM data", func(k *Keeper) error { return os.WriteFile(path(k), nil, 0o600) }},
		{"half", "self.pem", func(k *Keeper) error { return os.Truncate(path(k), 300) }},
		{"no certificate", "failed to find", func(k *Keeper) error { return os.WriteFile(path(k), half(k, false), 0o600) }},
		{"no key", "found a certificate rather than a key", func(k *Keeper) error { return os.WriteFile(path(k), half(k, true), 0o600) }},
		{"another's key", "private key does not match", func(k *Keeper) error {
			return os.WriteFile(path(k), append(half(other, false), half(k, true)...), 0o600)
		}},
		{"huge", "bytes, want at most", func(k *Keeper) error { return os.Truncate(path(k), 1<<30) }},
		{"gone", "", func(k *Keeper) error { return os.Remove(path(k)) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			k := another(kept(t))
			old := read(t, k.Dir, selfName)
			if err := test.damage(k); err != nil {
				t.Fatal(err)
			}
			err := k.Load(time.Now(), "parley", addresses())
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("%v, want %q", err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), "BEGIN") {
				t.Errorf("the error tells the key: %v", err)
			}
			serves(t, k)
			if err := k.Keep(t.Context(), "parley", addresses); err != nil {
				t.Fatal(err)
			}
			serves(t, k)
			k2 := another(k)
			if err := k2.Load(time.Now(), "parley", nil); err != nil || !leaf(t, k2).Equal(leaf(t, k)) {
				t.Errorf("after Keep: %v", err)
			}
			if read(t, k.Dir, selfName) == old {
				t.Error("the old certificate is still there")
			}
		})
	}
}

func TestExpiry(t *testing.T) {
	k := kept(t)
	end := leaf(t, k).NotAfter
	for _, test := range []struct {
		now time.Time
		old bool
	}{
		{end.Add(-time.Second), true}, {end, false}, {end.Add(time.Hour), false},
		{time.Unix(0, 0), true}, {leaf(t, k).NotBefore.Add(-time.Hour), true}, // a clock that is behind is no reason
	} {
		k2 := another(k)
		err := k2.Load(test.now, "parley", nil)
		if got := leaf(t, k2).Equal(leaf(t, k)); got != test.old || (err == nil) != test.old {
			t.Errorf("at %v: the old one is used: %v, %v, want %v", test.now, got, err, test.old)
		}
		if err != nil && !strings.Contains(err.Error(), "expired on "+end.Format(time.DateOnly)) {
			t.Error(err)
		}
	}
}

// A machine whose clock has not been set makes a certificate that is good when
// it has.
func TestClockBehind(t *testing.T) {
	k := newKeeper(t)
	if err := k.Load(time.Unix(0, 0), "parley", nil); err != nil {
		t.Fatal(err)
	}
	c := leaf(t, k)
	if c.NotAfter.Before(floor.Add(validity)) || c.NotBefore.After(floor) {
		t.Errorf("valid from %v to %v", c.NotBefore, c.NotAfter)
	}
}

// Whatever step fails, the certificate serves, the fingerprint is that of the
// one that serves, and the next start has it or a new one.
func TestKeepFaults(t *testing.T) {
	fault := errors.New("fault")
	for _, failing := range durable.Steps {
		k := newKeeper(t)
		if err := k.Load(time.Now(), "parley", nil); err != nil {
			t.Fatal(err)
		}
		failed := false
		end := durable.Fault(func(step string) error {
			if step != failing || failed {
				return nil
			}
			failed = true
			return fault
		})
		err := k.Keep(t.Context(), "parley", addresses)
		end()
		if !errors.Is(err, fault) {
			t.Fatalf("%s: %v, want the fault", failing, err)
		}
		serves(t, k)
		if got := readFingerprint(filepath.Join(k.RunDir, fingerprintName)); got != k.Fingerprint() {
			t.Errorf("%s: fingerprint %q, want %q", failing, got, k.Fingerprint())
		}
		k2 := another(k)
		if err := k2.Load(time.Now(), "parley", nil); err != nil {
			t.Errorf("%s: next start: %v", failing, err)
		}
		if err := k2.Keep(t.Context(), "parley", addresses); err != nil {
			t.Errorf("%s: next start: %v", failing, err)
		}
	}
}

func TestReadOnlyFolder(t *testing.T) {
	k := &Keeper{Dir: filepath.Join(t.TempDir(), "missing", "certificates"), RunDir: t.TempDir()}
	if err := k.Load(time.Now(), "parley", nil); err != nil {
		t.Fatal(err)
	}
	if err := k.Keep(t.Context(), "parley", addresses); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v, want that there is no folder", err)
	}
	serves(t, k)
	if readFingerprint(filepath.Join(k.RunDir, fingerprintName)) != k.Fingerprint() {
		t.Error("the fingerprint is not published")
	}
}

// Keep waits ten seconds for an IPv4 address, and does without.
func TestKeepWaitsForAddress(t *testing.T) {
	for _, test := range []struct {
		name   string
		comes  time.Duration
		cancel time.Duration
		found  bool
		kept   bool
	}{
		{"at once", 0, time.Hour, true, true},
		{"in time", 7 * time.Second, time.Hour, true, true},
		{"too late", time.Minute, time.Hour, false, true},
		{"the process ends", time.Minute, 3 * time.Second, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			k := newKeeper(t)
			synctest.Test(t, func(t *testing.T) {
				if err := k.Load(time.Now(), "parley", nil); err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), test.cancel)
				defer cancel()
				start := time.Now()
				err := k.Keep(ctx, "parley", func() []netip.Addr {
					if time.Since(start) < test.comes { // a router was quicker than DHCP
						return []netip.Addr{netip.MustParseAddr("2001:db8::99")}
					}
					return addresses()
				})
				if err != nil {
					t.Fatal(err)
				}
				if d := time.Since(start); d > min(addressWait+time.Second, test.cancel) {
					t.Errorf("waited %v", d)
				}
				if got := leaf(t, k).VerifyHostname("192.0.2.7") == nil; got != test.found {
					t.Errorf("the address is in it: %v, want %v", got, test.found)
				}
				if _, err := os.Stat(filepath.Join(k.Dir, selfName)); (err == nil) != test.kept {
					t.Errorf("stored: %v, want %v", err, test.kept)
				}
			})
		})
	}
}

func TestReadFingerprint(t *testing.T) {
	dir := t.TempDir()
	good := strings.TrimSuffix(strings.Repeat("AB:", 32), ":")
	for content, want := range map[string]string{
		good: good, good + "\n": good, "\n " + good + "\r\n": good,
		"": "", "AB:CD": "", strings.ToLower(good): "", good + ":AB": "", strings.ReplaceAll(good, ":", ""): "",
		strings.Replace(good, "AB", "\x1b[", 1): "", strings.Replace(good, "AB:A", "ABA:", 1): "",
		strings.Repeat("x", 95): "", good + strings.Repeat(" ", 4096): "",
	} {
		path := filepath.Join(dir, "fingerprint")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := readFingerprint(path); got != want {
			t.Errorf("%.120q: %q, want %q", content, got, want)
		}
	}
	if got := readFingerprint(filepath.Join(dir, "missing")); got != "" {
		t.Errorf("no file: %q", got)
	}
}

// The terminals read the fingerprint from a folder in which the web console
// writes: they must not wait for what it leaves there.
func TestFingerprintIsNoFIFO(t *testing.T) {
	path := filepath.Join(t.TempDir(), fingerprintName)
	if err := syscall.Mkfifo(path, 0o640); err != nil {
		t.Fatal(err)
	}
	done := make(chan string, 1)
	go func() { done <- readFingerprint(path) }()
	select {
	case s := <-done:
		if s != "" {
			t.Errorf("%q", s)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("reading waits for ever")
	}
}
