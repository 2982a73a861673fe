package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/logtest"
	"github.com/parley-meet/parley/services/internal/portal/edge"
	"github.com/parley-meet/parley/services/internal/portal/store/storetest"
)

// started runs a portal until the test ends, and returns where it listens and
// what it said.
func started(t *testing.T, cfg Config, terminal bool) (at string, said, log *logtest.Buffer) {
	t.Helper()
	said, log = &logtest.Buffer{}, &logtest.Buffer{}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- Serve(ctx, cfg, Out{said, terminal}, slog.New(slog.NewJSONHandler(log, nil)))
	}()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	listening := regexp.MustCompile(`listening on (\S+)\)`)
	for range 600 {
		if m := listening.FindStringSubmatch(said.String()); m != nil && strings.Contains(log.String(), "portal started") {
			return m[1], said, log
		}
		select {
		case err := <-done:
			done <- nil
			t.Fatalf("%v\n%s", err, log)
		case <-time.After(50 * time.Millisecond):
		}
	}
	t.Fatalf("it did not start: %s\n%s", said, log)
	return "", nil, nil
}

func config(t *testing.T, database string) Config {
	return Config{Dir: filepath.Join(t.TempDir(), "d"), Listen: "127.0.0.1:0", URL: "https://localhost:8443", Database: database, TLS: TLS{Mode: ModeSelf}, Metrics: "", Requests: true}
}

var client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}} // to itself, on loopback

func get(t *testing.T, url string) (*http.Response, string) {
	t.Helper()
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

func TestServe(t *testing.T) {
	storetest.Each(t, func(t *testing.T, url string) {
		cfg := config(t, url)
		at, said, log := started(t, cfg, false)
		resp, _ := get(t, "https://"+at+"/login?secret=xyzzy")
		if resp.StatusCode != http.StatusOK || resp.ProtoMajor != 2 || resp.Header.Get("Strict-Transport-Security") != "" {
			t.Errorf("%s %s %v", resp.Status, resp.Proto, resp.Header)
		}
		if resp.TLS.PeerCertificates[0].VerifyHostname("localhost") != nil {
			t.Error("the certificate is for another name")
		}
		roots := x509.NewCertPool()
		if b, err := os.ReadFile(filepath.Join(cfg.Dir, "root.pem")); err != nil || !roots.AppendCertsFromPEM(b) {
			t.Errorf("the root: %s %v", b, err)
		}
		if _, err := resp.TLS.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, DNSName: "localhost"}); err != nil {
			t.Errorf("by its own root: %v", err)
		}
		link, err := os.ReadFile(filepath.Join(cfg.Dir, "setup-link"))
		if err != nil || !strings.HasPrefix(string(link), "https://localhost:8443/setup#") {
			t.Errorf("%s %v", link, err)
		}
		for name := range map[string]bool{"setup-link": true, "master.key": true} {
			if info, err := os.Stat(filepath.Join(cfg.Dir, name)); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v %v", name, info.Mode(), err)
			}
		}
		secret := strings.TrimSpace(strings.SplitAfter(string(link), "#")[1])
		if strings.Contains(log.String()+said.String(), secret) || strings.Contains(log.String(), "xyzzy") {
			t.Errorf("a secret was written: %s %s", said, log)
		}
		for end := time.Now().Add(10 * time.Second); !strings.Contains(log.String(), `"endpoint":"GET /login"`); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("no line of the request: %s", log)
			}
		}
	})
}

// On a terminal the first operator's link is shown, and in no file.
func TestTerminal(t *testing.T) {
	cfg := config(t, storetest.SQLite(t))
	_, said, _ := started(t, cfg, true)
	if !strings.Contains(said.String(), "Open this within 24 hours;") || !strings.Contains(said.String(), "/setup#") || !strings.Contains(said.String(), "master.key") {
		t.Error(said)
	}
	if _, err := os.Stat(filepath.Join(cfg.Dir, "setup-link")); !os.IsNotExist(err) {
		t.Errorf("a file has the link: %v", err)
	}
}

// Two instances with one master key on PostgreSQL show leaves of one root.
func TestTwoInstances(t *testing.T) {
	url := storetest.Postgres(t)
	one, two := config(t, url), config(t, url)
	two.KeyFile = filepath.Join(one.Dir, "master.key")
	a, _, _ := started(t, one, false)
	b, _, _ := started(t, two, false)
	ra, _ := get(t, "https://"+a+"/healthz")
	rb, _ := get(t, "https://"+b+"/healthz")
	if ra.StatusCode != 200 || rb.StatusCode != 200 || !ra.TLS.PeerCertificates[1].Equal(rb.TLS.PeerCertificates[1]) {
		t.Errorf("%s %s", ra.Status, rb.Status)
	}
}

func TestMetrics(t *testing.T) {
	cfg := config(t, storetest.SQLite(t))
	s, err := open(t.Context(), cfg, slog.New(slog.DiscardHandler), key)
	if err != nil {
		t.Fatal(err)
	}
	defer s.db.Close()
	m := newMetrics(s.db, s.log)
	ask := func(path string) (int, string) {
		w := &recorder{header: http.Header{}}
		r, err := http.NewRequestWithContext(t.Context(), "GET", path, nil)
		if err != nil {
			t.Fatal(err)
		}
		m.handler().ServeHTTP(w, r)
		return w.status, w.b.String()
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /a/{id}", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusTeapot) })
	r, err := http.NewRequestWithContext(t.Context(), "GET", "/a/secret", nil)
	if err != nil {
		t.Fatal(err)
	}
	m.watch(mux, false).ServeHTTP(&recorder{header: http.Header{}}, r)
	_, text := ask("/metrics")
	for _, want := range []string{`parley_portal_requests_total{endpoint="GET /a/{id}",status="418"} 1`, "parley_portal_mails_waiting 0", "parley_portal_appliances 0", "go_goroutines"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	if strings.Contains(text, "secret") {
		t.Error("a path's value is in the figures")
	}
	if status, _ := ask("/readyz"); status != 200 && status != 0 {
		t.Errorf("ready: %d", status)
	}
	s.db.Close()
	if status, _ := ask("/readyz"); status != http.StatusServiceUnavailable {
		t.Errorf("ready without a database: %d", status)
	}
	if status, _ := ask("/healthz"); status != 200 && status != 0 {
		t.Errorf("healthy: %d", status)
	}
}

type recorder struct {
	header http.Header
	status int
	b      bytes.Buffer
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(s int)           { r.status = s }
func (r *recorder) Write(p []byte) (int, error) { return r.b.Write(p) }

func TestConfig(t *testing.T) {
	good := Defaults()
	if err := good.decode("c", []byte(`{"url": "https://p.example", "listen": ":443", "tls": {"mode": "acme", "acmeEmail": "a@p.example"}}`)); err != nil {
		t.Fatal(err)
	}
	if u, err := good.check(); err != nil || u.String() != "https://p.example" {
		t.Errorf("%v %v", u, err)
	}
	for text, want := range map[string]string{
		"{\n  \"urrl\": 1}":          "c:2:3: urrl: there is no such setting",
		"{\n\"url\": 1}":             "c:2:9: url: is a number, want string",
		"{\n,":                       "c:2:2: invalid character",
		"{} {}":                      "c:1:3: something follows",
		"":                           "c:1:1: the file is empty",
		"{\n\"url\": \"x\"":          "c:2:11: the file ends too early",
		`{"url": "http://a"}`:        "want https://",
		`{"url": "https://a/b"}`:     "want https://",
		`{"listen": "443"}`:          "listen",
		`{"tls": {"mode": "x"}}`:     "tls.mode",
		`{"tls": {"mode": "files"}}`: "needs both",
		`{"tls": {"cert": "x"}}`:     "for the mode files",
		`{"tls": {"acmeEmail":"x"}}`: "for the mode acme",
		`{"tls": {"mode": "acme"}}`:  "outside world",
	} {
		c := Defaults()
		err := c.decode("c", []byte(text))
		if err == nil {
			_, err = c.check()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// A database that has sealed values gets no new master key; one that an operator
// was added to before the first start does.
func TestKeyIsMissing(t *testing.T) {
	storetest.Each(t, func(t *testing.T, url string) {
		cfg := config(t, url)
		path := filepath.Join(cfg.Dir, "master.key")
		cfg.KeyFile = ""
		log := slog.New(slog.DiscardHandler)
		if err := AddOperator(t.Context(), cfg, "a@example.com", io.Discard, log); err != nil {
			t.Fatal(err)
		}
		if err := AddOperator(t.Context(), cfg, "nobody", io.Discard, log); err == nil || !strings.Contains(err.Error(), `"nobody": `) || strings.HasSuffix(err.Error(), "email") {
			t.Errorf("%v", err)
		}
		s, err := open(t.Context(), cfg, log, key)
		if err != nil || s.made != path {
			t.Fatalf("%v %+v", err, s)
		}
		if _, err := edge.LoadRoot(t.Context(), s.db, s.vault, "localhost"); err != nil {
			t.Fatal(err)
		}
		s.db.Close()
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if _, err := open(t.Context(), cfg, log, key); err == nil || !strings.Contains(err.Error(), "put the key there") {
			t.Errorf("%v", err)
		}
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("a key was made: %v", err)
		}
	})
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte(`{"url": "https://p.example", "tls": {"mode": "acme"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := Defaults()
		if err := c.decode("c", b); err != nil && !strings.HasPrefix(err.Error(), "c:") {
			t.Error(err)
		}
	})
}
