package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/logtest"
	"github.com/parley-meet/parley/services/internal/portal/server"
	"github.com/parley-meet/parley/services/internal/portalctl"
)

// bring makes a certificate for a name with its key, as somebody pastes them.
func bring(t *testing.T, name string, from, until time.Time) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(7), NotBefore: from, NotAfter: until, DNSNames: []string{name}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	k, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})) + string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: k}))
}

func TestHostOf(t *testing.T) {
	for at, want := range map[string]string{"https://portal.example.com": "portal.example.com", "https://192.0.2.7": "", "https://[2001:db8::7]": "",
		"https://portal": "", "": "", "https://3.example": "3.example", "::": ""} {
		if got := hostOf(at); got != want {
			t.Errorf("%q: %q, want %q", at, got, want)
		}
	}
}

// asked is an appliance in a folder of its own, under a URL.
func asked(t *testing.T, at string) (*appliance, *logtest.Buffer) {
	t.Helper()
	log := new(logtest.Buffer)
	a := newAppliance(server.Defaults(), slog.New(slog.NewTextHandler(log, nil)))
	a.cfg.Dir = t.TempDir()
	a.url = func() string { return at }
	return a, log
}

// What cannot be is refused with its reason and changes nothing.
func TestChooseRefuses(t *testing.T) {
	now := time.Now()
	good := bring(t, "portal.example.com", now.Add(-time.Hour), now.Add(time.Hour))
	other := bring(t, "portal.example.com", now.Add(-time.Hour), now.Add(time.Hour))
	mixed := good[:strings.Index(good, "-----BEGIN PRIVATE")] + other[strings.Index(other, "-----BEGIN PRIVATE"):]
	for _, test := range []struct {
		name, at string
		req      portalctl.Request
		want     portalctl.Problem
	}{
		{"acme for an address", "https://192.0.2.7", portalctl.Request{Op: portalctl.OpACME, Email: "a@example.com"}, portalctl.NoName},
		{"acme without an address yet", "", portalctl.Request{Op: portalctl.OpACME, Email: "a@example.com"}, portalctl.NoName},
		{"no e-mail", "https://portal.example.com", portalctl.Request{Op: portalctl.OpACME}, portalctl.NoEmail},
		{"a name too", "https://portal.example.com", portalctl.Request{Op: portalctl.OpACME, Email: "A <a@example.com>"}, portalctl.NoEmail},
		{"nothing pasted", "https://portal.example.com", portalctl.Request{Op: portalctl.OpFiles}, portalctl.NoPair},
		{"another's key", "https://portal.example.com", portalctl.Request{Op: portalctl.OpFiles, PEM: mixed}, portalctl.NoPair},
		{"another name", "https://www.example.com", portalctl.Request{Op: portalctl.OpFiles, PEM: good}, portalctl.Foreign},
		{"over", "https://portal.example.com", portalctl.Request{Op: portalctl.OpFiles, PEM: bring(t, "portal.example.com", now.Add(-2*time.Hour), now.Add(-time.Hour))}, portalctl.Expired},
		{"not begun", "https://portal.example.com", portalctl.Request{Op: portalctl.OpFiles, PEM: bring(t, "portal.example.com", now.Add(time.Hour), now.Add(2*time.Hour))}, portalctl.Expired},
	} {
		a, _ := asked(t, test.at)
		if got, err := a.choose(test.req, now); got != test.want || err != nil {
			t.Errorf("%s: %q, %v, want %q", test.name, got, err, test.want)
		}
		if list, err := os.ReadDir(a.cfg.Dir); err != nil || len(list) != 0 || len(a.again) != 0 {
			t.Errorf("%s: wrote %v (%v), starts anew: %d", test.name, list, err, len(a.again))
		}
	}
}

func TestChoose(t *testing.T) {
	const at = "https://portal.example.com"
	now := time.Now()
	a, log := asked(t, at)
	self := server.TLS{Mode: server.ModeSelf}
	is := func(step string, at string, want server.TLS, logged bool) {
		t.Helper()
		before := log.String()
		if got := a.tls(at); got != want {
			t.Errorf("%s: %+v, want %+v", step, got, want)
		}
		if text := strings.TrimPrefix(log.String(), before); (text != "") != logged {
			t.Errorf("%s: logged %q", step, text)
		}
	}
	choose := func(req portalctl.Request) {
		t.Helper()
		if got, err := a.choose(req, now); got != "" || err != nil {
			t.Fatalf("%s: %q, %v", req.Op, got, err)
		}
		select {
		case <-a.again:
		default:
			t.Errorf("%s: the portal does not start anew", req.Op)
		}
	}
	is("new", at, self, false)
	choose(portalctl.Request{Op: portalctl.OpACME, Email: "olga@example.com"})
	is("acme", at, server.TLS{Mode: server.ModeACME, Email: "olga@example.com"}, false)
	is("acme, and the name is gone", "https://192.0.2.7", self, true)
	text := bring(t, "portal.example.com", now.Add(-time.Hour), now.Add(time.Hour))
	choose(portalctl.Request{Op: portalctl.OpFiles, PEM: text})
	is("files", at, server.TLS{Mode: server.ModeFiles, Cert: a.pemPath(), Key: a.pemPath()}, false)
	for _, path := range []string{a.pemPath(), a.choicePath()} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}
	if err := os.WriteFile(a.pemPath(), []byte(text[:len(text)/2]), 0o600); err != nil {
		t.Fatal(err)
	}
	is("a damaged certificate", at, self, true)
	choose(portalctl.Request{Op: portalctl.OpSelf})
	is("self", at, self, false)
	if _, err := os.Stat(a.pemPath()); !os.IsNotExist(err) {
		t.Errorf("the key is still there: %v", err)
	}
	for _, bad := range []string{"", "{", `{"version":2,"mode":"self"}`, `{"version":1,"mode":"magic"}`} {
		if err := os.WriteFile(a.choicePath(), []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		is(bad, at, self, true)
	}
	choose(portalctl.Request{Op: portalctl.OpSelf})
	is("self again", at, self, false)
	if strings.Contains(log.String(), "PRIVATE") {
		t.Error("the log has the key")
	}
}

// A running portal starts anew with the certificate that was brought, and does so
// again after its end.
func TestInstallWhileRunning(t *testing.T) {
	a, _ := asked(t, "https://portal.example.com")
	a.cfg.KeyFile, a.cfg.Listen, a.cfg.Metrics = filepath.Join(t.TempDir(), "key", "master.key"), "127.0.0.1:0", ""
	text := bring(t, "portal.example.com", time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	for round, want := range []portalctl.Op{portalctl.OpSelf, portalctl.OpFiles} {
		end := keeping(t, a)
		shows := func(want portalctl.Op) {
			t.Helper()
			for limit := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
				if ans := a.ask(t.Context(), portalctl.Request{Op: portalctl.OpShow}); ans.TLS == want {
					return
				} else if time.Now().After(limit) {
					t.Fatalf("round %d: %+v, want a certificate of %s", round, ans, want)
				}
			}
		}
		shows(want)
		if ans := a.ask(t.Context(), portalctl.Request{Op: portalctl.OpFiles, PEM: text}); ans.Problem != "" || ans.Error != "" {
			t.Errorf("%+v", ans)
		}
		shows(portalctl.OpFiles)
		end()
	}
	if b, err := os.ReadFile(a.pemPath()); err != nil || !bytes.Equal(b, []byte(text)) {
		t.Errorf("the certificate that is kept is another one (%v)", err)
	}
}
