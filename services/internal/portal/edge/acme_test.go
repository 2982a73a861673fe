package edge

import (
	"bytes"
	"crypto/tls"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/portal/store/storetest"
)

// An authority that refuses is asked again later, however many people come; and
// once in a while the log tells why they see no page.
func TestAuthorityRefuses(t *testing.T) {
	var asked atomic.Int64
	ca := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte(`{"type":"urn:ietf:params:acme:error:unauthorized","detail":"not today"}`))
	}))
	defer ca.Close()
	db, v := rig(t, storetest.SQLite(t))
	var log bytes.Buffer
	a := ACME(db, v, Order{Host: "portal.example.com", Directory: ca.URL}, slog.New(slog.NewTextHandler(&log, nil)))
	now := time.Now()
	a.now = func() time.Time { return now }
	hello := func(name string) error {
		_, err := a.Certificate(&tls.ClientHelloInfo{ServerName: name, SupportedProtos: []string{"h2", "http/1.1"}})
		return err
	}
	a.Look()
	first := asked.Load()
	for range 50 {
		if err := hello("Portal.example.com"); err == nil || !strings.Contains(err.Error(), "not today") {
			t.Fatalf("%v", err)
		}
		if err := hello(""); err == nil {
			t.Fatal("no name got a certificate")
		}
	}
	if first == 0 || asked.Load() != first {
		t.Errorf("asked %d times, then %d", first, asked.Load())
	}
	if err := hello("other.example.com"); err == nil || !strings.Contains(err.Error(), `"other.example.com"`) {
		t.Errorf("%v", err)
	}
	for range 12 {
		now = a.next
		a.Look()
	}
	lines := strings.Count(log.String(), "no certificate from the authority")
	if lines != 13 || a.wait != mostWait || !strings.Contains(log.String(), "not today") {
		t.Errorf("%d lines, next attempt in %v: %s", lines, a.wait, &log)
	}
}
