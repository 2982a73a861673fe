package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/letsencrypt/pebble/v2/ca"
	"github.com/letsencrypt/pebble/v2/db"
	"github.com/letsencrypt/pebble/v2/va"
	"github.com/letsencrypt/pebble/v2/wfe"
	"github.com/miekg/dns"

	"github.com/parley-meet/parley/services/internal/portal/store/storetest"
)

// resolver says that every name is at 127.0.0.1.
func resolver(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") // as Pebble asks
	if err != nil {
		t.Fatal(err)
	}
	up := make(chan struct{})
	s := &dns.Server{Listener: l, NotifyStartedFunc: func() { close(up) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg).SetReply(r)
		if q := r.Question[0]; q.Qtype == dns.TypeA {
			m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: dns.ClassINET}, A: net.IPv4(127, 0, 0, 1)})
		}
		_ = w.WriteMsg(m)
	})}
	done := make(chan error, 1)
	go func() { done <- s.ActivateAndServe() }()
	<-up
	t.Cleanup(func() {
		if err := s.Shutdown(); err != nil {
			t.Error(err)
		}
		<-done
	})
	return l.Addr().String()
}

// A portal gets its certificate from an authority (Pebble, that of Let's Encrypt's
// makers), which looks by tls-alpn-01 whether the portal is there, and gets the
// next one before it ends.
func TestACME(t *testing.T) {
	t.Setenv("PEBBLE_VA_NOSLEEP", "1")
	t.Setenv("PEBBLE_AUTHZREUSE", "0")
	const host = "portal.example.com"
	var handler http.Handler
	ready := make(chan struct{})
	front := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		<-ready
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	cfg := config(t, storetest.SQLite(t))
	cfg.URL = "https://" + host
	trusted := filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(trusted, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.TLS = TLS{Mode: ModeACME, Roots: trusted, Directory: front.URL + wfe.DirectoryPath, Email: "ops@example.com"}
	at, _, said := started(t, cfg, false)

	quiet, memory := log.New(t.Output(), "", 0), db.NewMemoryStore()
	// A third of this before the end it is renewed.
	authority := ca.New(quiet, memory, "", "ecdsa", 0, 1, map[string]ca.Profile{"default": {ValidityPeriod: 15}})
	judge := va.New(quiet, 1, int(netip.MustParseAddrPort(at).Port()), true, resolver(t), memory)
	f := wfe.New(quiet, memory, judge, authority, []string{"ca.example"}, true, false, 1, 1)
	handler = f.Handler()
	close(ready)

	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(authority.GetRootCert(0).PEM()) {
		t.Fatal("the authority has no root")
	}
	leaf := func(name string) *x509.Certificate {
		t.Helper()
		d := &tls.Dialer{Config: &tls.Config{ServerName: name, InsecureSkipVerify: true}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		c, err := d.DialContext(ctx, "tcp", at)
		if err != nil {
			return nil
		}
		defer c.Close()
		chain := c.(*tls.Conn).ConnectionState().PeerCertificates
		between := x509.NewCertPool()
		for _, one := range chain[1:] {
			between.AddCert(one)
		}
		// Of the time alone nothing is asked: this machine may be slow.
		if _, err := chain[0].Verify(x509.VerifyOptions{DNSName: host, Roots: roots, Intermediates: between, CurrentTime: chain[0].NotBefore.Add(time.Second)}); err != nil {
			t.Error(err)
		}
		return chain[0]
	}
	var first *x509.Certificate
	for end := time.Now().Add(time.Minute); first == nil; time.Sleep(200 * time.Millisecond) {
		if first = leaf(host); first == nil && time.Now().After(end) {
			t.Fatalf("no certificate: %s", said)
		}
	}
	if leaf("other.example.com") != nil {
		t.Error("another host got a certificate")
	}
	if leaf("") == nil { // as by a load balancer
		t.Error("who names no host got none")
	}
	second := first
	for end := time.Now().Add(2 * time.Minute); second == nil || second.SerialNumber.Cmp(first.SerialNumber) == 0; time.Sleep(500 * time.Millisecond) {
		if second = leaf(host); time.Now().After(end) {
			t.Fatalf("not renewed: %s", said)
		}
	}
	if !second.NotAfter.After(first.NotAfter) {
		t.Errorf("from %v to %v", first.NotAfter, second.NotAfter)
	}
	// Its pages are told to be for https alone.
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{ServerName: host, InsecureSkipVerify: true}}}
	resp, err := c.Get("https://" + at + "/login")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK || resp.Header.Get("Strict-Transport-Security") == "" {
		t.Errorf("%s %v %v", resp.Status, resp.Header, err)
	}
	if !strings.Contains(said.String(), "certificate of the authority") {
		t.Errorf("the log does not tell: %s", said)
	}
}
