package certificate

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
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
	"github.com/parley-meet/parley/services/internal/fault"
)

// issued is a certificate with its key.
type issued struct {
	*x509.Certificate
	key crypto.Signer
}

func (c issued) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}

func (c issued) keyPEM(t *testing.T) string { return pkcs8(t, c.key) }

func pkcs8(t *testing.T, key any) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return block("PRIVATE KEY", der)
}

func block(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func p256(t *testing.T) crypto.Signer { return curve(t, elliptic.P256()) }

func curve(t *testing.T, c elliptic.Curve) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// issue makes a certificate valid a day around noon that by signs; nil: itself.
func issue(t *testing.T, name string, by *issued, key crypto.Signer, change func(*x509.Certificate)) issued {
	t.Helper()
	tpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: noon.Add(-24 * time.Hour), NotAfter: noon.Add(24 * time.Hour), BasicConstraintsValid: true,
	}
	if strings.Contains(name, ".") {
		tpl.DNSNames, tpl.ExtKeyUsage = []string{name}, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	} else {
		tpl.IsCA, tpl.KeyUsage = true, x509.KeyUsageCertSign
	}
	if change != nil {
		change(tpl)
	}
	parent, signer := tpl, key
	if by != nil {
		parent, signer = by.Certificate, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, tpl, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return issued{c, key}
}

func newStore(t *testing.T) *Store {
	t.Helper()
	return NewStore(filepath.Join(t.TempDir(), "certificates"), t.TempDir())
}

func TestInstall(t *testing.T) {
	root := issue(t, "Root", nil, p256(t), nil)
	mid := issue(t, "Middle", &root, p256(t), nil)
	good := issue(t, "meet.example.org", &mid, p256(t), nil)
	other := issue(t, "other.example.org", &mid, p256(t), nil)
	rsaKey := func(bits int) crypto.Signer {
		key, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("GODEBUG", "rsa1024min=0")
	small := issue(t, "small.example.org", &mid, rsaKey(1024), nil)
	big := issue(t, "big.example.org", &mid, rsaKey(2048), nil)
	edwards := issue(t, "ed.example.org", &mid, ed, nil)
	p384, p521 := issue(t, "p384.example.org", &mid, curve(t, elliptic.P384()), nil), issue(t, "p521.example.org", &mid, curve(t, elliptic.P521()), nil)
	past := issue(t, "past.example.org", &mid, p256(t), func(c *x509.Certificate) { c.NotAfter = noon })
	future := issue(t, "future.example.org", &mid, p256(t), func(c *x509.Certificate) { c.NotBefore = noon.Add(time.Hour) })
	client := issue(t, "client.example.org", &mid, p256(t), func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })
	nameless := issue(t, "nameless.example.org", &mid, p256(t), func(c *x509.Certificate) { c.DNSNames = nil })
	pastMid := issue(t, "Past", &root, p256(t), func(c *x509.Certificate) { c.NotAfter = noon.Add(-time.Hour) })
	underPast := issue(t, "under.example.org", &pastMid, p256(t), nil)
	// An impostor has the name of the one above, and did not sign.
	impostor := issue(t, "Middle", nil, p256(t), nil)
	sec1, err := x509.MarshalECPrivateKey(good.key.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	old, err := x509.EncryptPEMBlock(rand.Reader, "EC PRIVATE KEY", sec1, []byte("x"), x509.PEMCipherAES128)
	if err != nil {
		t.Fatal(err)
	}
	var many strings.Builder
	for range MaxChain + 1 {
		many.WriteString(root.pem())
	}
	full := good.pem() + mid.pem() + root.pem()
	for _, test := range []struct {
		name, chain, key, want string // field and code
	}{
		{"chain", full, good.keyPEM(t), ""},
		{"the other way round", root.pem() + mid.pem() + good.pem(), good.keyPEM(t), ""},
		{"mixed", mid.pem() + good.pem() + root.pem(), good.keyPEM(t), ""},
		{"twice in a row", good.pem() + good.pem() + mid.pem(), good.keyPEM(t), ""},
		{"leaf alone", good.pem(), good.keyPEM(t), ""},
		{"text around", "subject=/CN=x\n" + good.pem() + "\r\nissuer=\n" + mid.pem() + "end", good.keyPEM(t), ""},
		{"SEC 1", good.pem(), "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n" + block("EC PRIVATE KEY", sec1), ""},
		{"PKCS #1", big.pem(), block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(big.key.(*rsa.PrivateKey))), ""},
		{"RSA", big.pem(), big.keyPEM(t), ""},
		{"P-384", p384.pem(), p384.keyPEM(t), ""},
		{"signed by itself", issue(t, "own.example.org", nil, good.key, nil).pem(), good.keyPEM(t), ""},
		{"nothing", " \n", good.keyPEM(t), "chain: required"},
		{"no PEM", "hello", good.keyPEM(t), "chain: pem-none"},
		{"huge", full + strings.Repeat(" ", maxChain), good.keyPEM(t), "chain: pem-size"},
		{"half", full[:len(full)-40], good.keyPEM(t), "chain: pem-bad"},
		{"no DER", block("CERTIFICATE", []byte("x")), good.keyPEM(t), "chain: pem-bad"},
		{"too many", many.String(), good.keyPEM(t), "chain: pem-many"},
		{"key in the chain", full + good.keyPEM(t), good.keyPEM(t), "chain: pem-key"},
		{"request in the chain", block("CERTIFICATE REQUEST", []byte("x")), "", "chain: pem-other"},
		{"twice", good.pem() + mid.pem() + good.pem(), good.keyPEM(t), "chain: chain-twice"},
		{"two leaves", good.pem() + other.pem() + mid.pem(), good.keyPEM(t), "chain: chain-broken"},
		{"gap", good.pem() + root.pem(), good.keyPEM(t), "chain: chain-broken"},
		{"impostor", good.pem() + impostor.pem(), good.keyPEM(t), "chain: chain-broken"},
		{"expired", past.pem() + mid.pem(), past.keyPEM(t), "chain: cert-expired"},
		{"not yet valid", future.pem() + mid.pem(), future.keyPEM(t), "chain: cert-early"},
		{"expired above", underPast.pem() + pastMid.pem(), underPast.keyPEM(t), "chain: cert-expired"},
		{"for clients", client.pem() + mid.pem(), client.keyPEM(t), "chain: leaf-usage"},
		{"no names", nameless.pem() + mid.pem(), nameless.keyPEM(t), "chain: leaf-names"},
		{"short RSA", small.pem(), small.keyPEM(t), "chain: key-size"},
		{"P-521", p521.pem(), p521.keyPEM(t), "chain: key-curve"},
		{"Ed25519", edwards.pem(), edwards.keyPEM(t), "chain: key-ed25519"},
		{"another's key", full, other.keyPEM(t), "key: key-mismatch"},
		{"another kind of key", full, big.keyPEM(t), "key: key-mismatch"},
		{"Ed25519 key", full, pkcs8(t, ed), "key: key-ed25519"},
		{"encrypted", full, block("ENCRYPTED PRIVATE KEY", []byte("x")), "key: key-encrypted"},
		{"encrypted, old", full, string(pem.EncodeToMemory(old)), "key: key-encrypted"},
		{"certificate for a key", full, good.pem(), "key: key-other"},
		{"two keys", full, good.keyPEM(t) + other.keyPEM(t), "key: key-many"},
		{"damaged key", full, block("PRIVATE KEY", []byte("x")), "key: key-bad"},
		{"no key in it", full, "hello", "key: key-none"},
		{"huge key", full, strings.Repeat(" ", maxKey) + good.keyPEM(t), "key: pem-size"},
		{"no key and no request", full, " ", "key: key-no-request"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newStore(t)
			c, err := s.Install(t.Context(), test.chain, test.key, noon)
			if test.want != "" {
				if fault.Of(err).Error() != test.want {
					t.Errorf("%v, want %s", err, test.want)
				}
				if st := s.Read(noon); st.Current != nil {
					t.Error("it is in use nevertheless")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			st := s.Read(noon)
			if st.Current == nil || st.Self || st.Problem != nil || !st.Current.Leaf.Equal(c) {
				t.Fatalf("%+v", st)
			}
			if fi, err := os.Stat(s.path(uploadedName)); err != nil || fi.Mode() != 0o660 {
				t.Errorf("%v, %v", fi.Mode(), err)
			}
			for i, der := range st.Current.Certificate[1:] {
				above, err := x509.ParseCertificate(der)
				if err != nil {
					t.Fatal(err)
				}
				below, _ := x509.ParseCertificate(st.Current.Certificate[i])
				if err := below.CheckSignatureFrom(above); err != nil {
					t.Errorf("link %d: %v", i, err)
				}
			}
		})
	}
}

func TestRequest(t *testing.T) {
	s := newStore(t)
	text, err := s.MakeRequest(t.Context(), Request{Names: []string{" Meet.Example.org. ", "", "192.0.2.7", "2001:db8::7", "*.example.org", "meet.example.org"}, Organization: "ООО «Пример»", Country: "ru"})
	if err != nil {
		t.Fatal(err)
	}
	b, _ := pem.Decode([]byte(text))
	r, err := x509.ParseCertificateRequest(b.Bytes)
	if err != nil || r.CheckSignature() != nil {
		t.Fatal(err)
	}
	if r.Subject.String() != "CN=meet.example.org,O=ООО «Пример»,C=RU" || !slices.Equal(r.DNSNames, []string{"meet.example.org", "*.example.org"}) || fmt.Sprint(r.IPAddresses) != "[192.0.2.7 2001:db8::7]" {
		t.Errorf("%v, %v, %v", r.Subject, r.DNSNames, r.IPAddresses)
	}
	if st := s.Read(noon); st.Request != text {
		t.Errorf("kept: %q", st.Request)
	}
	// The authority signs it: what comes back needs no key, and answers it.
	root := issue(t, "Root", nil, p256(t), nil)
	sign := func(r *x509.CertificateRequest) string {
		tpl := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: r.Subject, DNSNames: r.DNSNames, NotBefore: noon.Add(-time.Hour), NotAfter: noon.Add(time.Hour)}
		der, err := x509.CreateCertificate(rand.Reader, tpl, root.Certificate, r.PublicKey, root.key)
		if err != nil {
			t.Fatal(err)
		}
		return block("CERTIFICATE", der)
	}
	first := sign(r)
	text2, err := s.MakeRequest(t.Context(), Request{Names: []string{"meet.example.org"}})
	if err != nil || text2 == text {
		t.Fatalf("%v, or the same request", err)
	}
	if _, err := s.Install(t.Context(), first, "", noon); fault.Of(err).Error() != "chain: key-not-requested" {
		t.Errorf("the answer to a request that was replaced: %v", err)
	}
	b, _ = pem.Decode([]byte(text2))
	if r, err = x509.ParseCertificateRequest(b.Bytes); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Install(t.Context(), sign(r), "", noon); err != nil {
		t.Fatal(err)
	}
	if st := s.Read(noon); st.Request != "" || st.Current == nil || st.Self {
		t.Errorf("%+v", st)
	}
	for want, in := range map[string]Request{
		"names: required":                 {Names: []string{" "}},
		"names.0: request-name":           {Names: []string{"a b.example"}},
		"names.1: request-name":           {Names: []string{"a.example", "192.0.2.300"}},
		"names.2: request-address":        {Names: []string{"a.example", "", "0.0.0.0"}},
		"names.0: request-address":        {Names: []string{"fe80::1%eth0"}},
		"names.0: request-common":         {Names: []string{strings.Repeat("a", 60) + ".example.org"}},
		"names: many":                     {Names: strings.Fields(strings.Repeat("a.example ", MaxNames+1))},
		"organization: long":              {Names: []string{"a.example"}, Organization: strings.Repeat("я", maxOrg+1)},
		"organization: control-character": {Names: []string{"a.example"}, Organization: "a\x1b[2J"},
		"country: request-country":        {Names: []string{"a.example"}, Country: "RUS"},
	} {
		if _, err := s.MakeRequest(t.Context(), in); fault.Of(err).Error() != want {
			t.Errorf("%+v: %v, want %s", in, err, want)
		}
	}
}

// follows waits, in a synctest bubble, for what Run sees.
func follows(t *testing.T, k *Keeper) {
	t.Helper()
	time.Sleep(poll + time.Second)
	synctest.Wait()
	if got := readFingerprint(filepath.Join(k.RunDir, fingerprintName)); got != k.Fingerprint() {
		t.Errorf("fingerprint %s, want %s", got, k.Fingerprint())
	}
}

// running runs a keeper until the test ends.
func running(t *testing.T, k *Keeper) {
	t.Helper()
	if err := k.Load(time.Now(), "parley", addresses()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx, func() string { return "parley" }, addresses) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	synctest.Wait()
}

// A change that another process makes is served without a restart; what is
// served falls back when it must, and says why.
func TestFollow(t *testing.T) {
	s := newStore(t)
	run := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(noon)) // its clock begins before the floor
		k := &Keeper{Dir: s.Dir, RAM: s.RAM, RunDir: run, Public: func() string { return "meet.example.org" }}
		running(t, k)
		first := leaf(t, k)
		if err := first.VerifyHostname("meet.example.org"); err != nil {
			t.Error(err)
		}
		now := time.Now()
		up := issue(t, "up.example.org", nil, p256(t), func(c *x509.Certificate) { c.NotBefore, c.NotAfter = now.Add(-time.Hour), now.Add(time.Hour) })
		if _, err := s.Install(t.Context(), up.pem(), up.keyPEM(t), now); err != nil {
			t.Fatal(err)
		}
		if follows(t, k); !leaf(t, k).Equal(up.Certificate) {
			t.Error("the uploaded one is not served")
		}
		time.Sleep(time.Hour)
		if follows(t, k); !leaf(t, k).Equal(first) {
			t.Error("an expired one is served")
		}
		if st := s.Read(time.Now()); st.Problem == nil || st.Problem.Code != "used-expired" || !st.Self {
			t.Errorf("%+v", st)
		}
		whole := read(t, s.Dir, uploadedName)
		if err := os.WriteFile(s.path(uploadedName), []byte(whole[:200]), 0o660); err != nil {
			t.Fatal(err)
		}
		if st := s.Read(now); st.Problem == nil || st.Problem.Code != "used-damaged" {
			t.Errorf("%+v", st)
		}
		otherKey := pkcs8(t, p256(t)) + whole[strings.Index(whole, "-----BEGIN CERT"):]
		if err := os.WriteFile(s.path(uploadedName), []byte(otherKey), 0o660); err != nil {
			t.Fatal(err)
		}
		if st := s.Read(now); st.Problem == nil || st.Problem.Code != "used-mismatch" {
			t.Errorf("%+v", st)
		}
		if follows(t, k); !leaf(t, k).Equal(first) {
			t.Error("damage changed what is served")
		}
		again, err := s.Reset(t.Context(), Names{Host: "parley"}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if follows(t, k); !leaf(t, k).Equal(again) || again.Equal(first) || s.Read(now).Problem != nil {
			t.Error("reset is not served")
		}
		if bytes.Equal(again.RawSubjectPublicKeyInfo, first.RawSubjectPublicKeyInfo) {
			t.Error("reset kept the key")
		}
	})
}

// A self-signed certificate is made anew a month before its end, not before.
func TestRenewal(t *testing.T) {
	k := kept(t)
	old := leaf(t, k)
	for _, test := range []struct {
		before time.Duration
		anew   bool
	}{{renewal + time.Minute, false}, {renewal - time.Minute, true}} {
		k.follow(t.Context(), old.NotAfter.Add(-test.before), func() string { return "parley" }, addresses)
		if got := !leaf(t, k).Equal(old); got != test.anew {
			t.Errorf("%v before the end: another one: %v, want %v", test.before, got, test.anew)
		}
	}
	if end := leaf(t, k).NotAfter; end.Before(old.NotAfter.Add(validity - renewal - time.Hour)) {
		t.Errorf("the new one is valid until %v", end)
	}
	k2 := another(k)
	if err := k2.Load(time.Now(), "parley", nil); err != nil || !leaf(t, k2).Equal(leaf(t, k)) {
		t.Errorf("not stored: %v", err)
	}
}

// While nothing can be stored the certificate lives in RAM over restarts of the
// process, and is stored when that works again.
func TestRAM(t *testing.T) {
	parent := t.TempDir()
	dir, ram, run := filepath.Join(parent, "gone", "certificates"), t.TempDir(), t.TempDir()
	var served *x509.Certificate
	synctest.Test(t, func(t *testing.T) {
		k := &Keeper{Dir: dir, RAM: ram, RunDir: run}
		running(t, k)
		served = leaf(t, k)
		k2 := &Keeper{Dir: dir, RAM: ram, RunDir: run}
		running(t, k2)
		if !leaf(t, k2).Equal(served) {
			t.Error("another certificate after a restart")
		}
		if fi, err := os.Stat(filepath.Join(ram, selfName)); err != nil || fi.Mode() != 0o640 {
			t.Errorf("%v, %v", fi, err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		k := &Keeper{Dir: dir, RAM: ram, RunDir: run}
		running(t, k)
		if err := os.Mkdir(filepath.Dir(dir), 0o770); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * retry)
		follows(t, k)
		if c, err := readPair(filepath.Join(dir, selfName)); err != nil || !c.Leaf.Equal(served) || !leaf(t, k).Equal(served) {
			t.Errorf("not stored when that works again: %v", err)
		}
		if _, err := os.Stat(filepath.Join(ram, selfName)); err == nil {
			t.Error("it is still in RAM")
		}
	})
}

// The certificate of an earlier version goes on being served, and its old files
// are gone.
func TestTakeOver(t *testing.T) {
	old := t.TempDir()
	c, err := selfSign(time.Now(), Names{Host: "parley"})
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(old, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("cert.pem", block("CERTIFICATE", c.Certificate[0]))
	write("key.pem", pkcs8(t, c.PrivateKey))
	k := newKeeper(t)
	k.Old = old
	end := durable.Fault(func(string) error { return syscall.EROFS })
	err = k.Load(time.Now(), "parley", nil)
	end()
	if err == nil {
		t.Error("no word about a failed move")
	}
	for range 2 {
		k = &Keeper{Dir: k.Dir, RunDir: k.RunDir, Old: old}
		if err := k.Load(time.Now(), "parley", nil); err != nil || !leaf(t, k).Equal(c.Leaf) {
			t.Errorf("%v, or another certificate", err)
		}
		if left, _ := os.ReadDir(old); len(left) != 0 {
			t.Errorf("%v is left", left)
		}
	}
	write("cert.pem", "damaged")
	write("key.pem", pkcs8(t, c.PrivateKey))
	if err := k.Load(time.Now(), "parley", nil); err != nil || !leaf(t, k).Equal(c.Leaf) {
		t.Errorf("%v: what is old took the place of what is new", err)
	}
}

func TestInfo(t *testing.T) {
	s := newStore(t)
	if i := s.Info(noon, nil); i != nil {
		t.Errorf("%+v", i)
	}
	root := issue(t, "Root", nil, p256(t), nil)
	mid := issue(t, "Middle", &root, p256(t), nil)
	good := issue(t, "meet.example.org", &mid, p256(t), nil)
	known := x509.NewCertPool()
	known.AddCert(root.Certificate)
	for _, test := range []struct {
		chain      string
		roots      *x509.CertPool
		incomplete bool
		above      int
	}{
		{good.pem(), known, true, 0},
		{good.pem() + mid.pem(), known, false, 1},
		{good.pem() + mid.pem(), x509.NewCertPool(), true, 1},
		{good.pem() + mid.pem() + root.pem(), x509.NewCertPool(), false, 2},
	} {
		if _, err := s.Install(t.Context(), test.chain, good.keyPEM(t), noon); err != nil {
			t.Fatal(err)
		}
		i := s.Info(noon, test.roots)
		if i.Incomplete != test.incomplete || len(i.Chain) != test.above || i.Key != "ECDSA P-256" || !slices.Equal(i.Names, []string{"meet.example.org"}) {
			t.Errorf("%+v", i)
		}
	}
	if _, err := s.Reset(t.Context(), Names{Host: "parley", Addresses: []netip.Addr{address}}, noon); err != nil {
		t.Fatal(err)
	}
	if i := s.Info(noon, known); !i.Self || i.Incomplete || !slices.Equal(i.Names, []string{"parley", "192.0.2.7"}) {
		t.Errorf("%+v", i)
	}
}

func FuzzParsePEM(f *testing.F) {
	c, err := selfSign(noon, Names{Host: "a.example"})
	if err != nil {
		f.Fatal(err)
	}
	b, _ := encode(c)
	f.Add(string(b))
	f.Add(string(b[bytes.Index(b, []byte("-----BEGIN CERT")):]))
	f.Add("-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\n-----END EC PRIVATE KEY-----\n")
	f.Add("-----BEGIN CERTIFICATE-----\n")
	f.Fuzz(func(t *testing.T, text string) {
		if key, err := parseKey(text); (key == nil) == (err == nil) || err != nil && fault.Of(err) == nil {
			t.Errorf("key %v, %v", key, err)
		}
		certs, err := ParsePEM("chain", text, MaxChain)
		if (len(certs) == 0) == (err == nil) || len(certs) > MaxChain || err != nil && fault.Of(err) == nil {
			t.Errorf("%d certificates, %v", len(certs), err)
		}
		chain, err := order(certs)
		if err == nil && (len(chain) == 0 || len(chain) > len(certs)) {
			t.Errorf("%d of %d certificates", len(chain), len(certs))
		}
		for _, c := range certs {
			if n := Name(c); n == "" || strings.ContainsFunc(n, func(r rune) bool { return r < ' ' || r == 0x7f }) {
				t.Errorf("name %q", n)
			}
		}
	})
}
