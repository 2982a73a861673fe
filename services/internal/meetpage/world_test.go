package meetpage

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/parley-meet/parley/services/internal/browsertest"
	"github.com/parley-meet/parley/services/internal/labtest"
	"github.com/parley-meet/parley/services/internal/load"
	"github.com/parley-meet/parley/services/internal/mmr"
	"github.com/parley-meet/parley/services/internal/ticket"
)

// world is a real router, and a server in front of it that has the page, as a
// controller is.
type world struct {
	t    *testing.T
	web  *httptest.Server
	dir  string                  // of the router's files
	to   atomic.Pointer[url.URL] // the router
	stop func()                  // ends the first one
	key  ticket.Key
	also *httptest.Server // another controller

	lost atomic.Bool // the first controller, for WebSockets
	mu   sync.Mutex
	cut  context.CancelFunc
	ctx  context.Context // of WebSockets
}

const (
	testZone   = "zone"
	testIssuer = "https://portal.example"
)

// quiet is a log of what the page's own handler must not say.
func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir()}
	if err := load.Trial(w.dir, "127.0.0.1"); err != nil {
		t.Fatal(err)
	}
	w.stop = w.router()
	var err error
	if w.key, err = load.ReadKey(w.at("tickets.pem")); err != nil {
		t.Fatal(err)
	}
	w.mendLinks()
	page := New(Config{Log: quiet(), Portal: func() string { return testIssuer }, Origins: func() []string { return []string{w.also.URL} }})
	proxy := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(w.to.Load()) },
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, // a certificate made for this test
		ErrorLog:  slog.NewLogLogger(quiet().Handler(), slog.LevelDebug),
	}
	mux := http.NewServeMux()
	mux.Handle("/", page)
	mux.HandleFunc("GET /signal", func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		ctx := w.ctx
		w.mu.Unlock()
		if ctx.Err() != nil || r.Host == w.web.Listener.Addr().String() && w.lost.Load() {
			http.Error(rw, "cut", http.StatusBadGateway)
			return
		}
		proxy.ServeHTTP(rw, r.WithContext(ctx))
	})
	mux.HandleFunc("POST /trial", func(rw http.ResponseWriter, r *http.Request) {
		var in struct{ Code, Name string }
		b, _ := io.ReadAll(io.LimitReader(r.Body, 1<<10))
		if err := json.Unmarshal(b, &in); err != nil || in.Code != "good" {
			rw.WriteHeader(http.StatusNotFound)
			fmt.Fprint(rw, `{"error":{"code":"unknown","message":"This link is not good any more."}}`)
			return
		}
		_ = json.NewEncoder(rw).Encode(map[string]string{"ticket": w.ticket(in.Name, ticket.Host, nil)})
	})
	for _, s := range []**httptest.Server{&w.web, &w.also} {
		*s = httptest.NewUnstartedServer(mux)
		(*s).Config.ErrorLog = slog.NewLogLogger(quiet().Handler(), slog.LevelDebug)
		(*s).StartTLS()
		t.Cleanup(func() {
			w.breakLinks()
			(*s).CloseClientConnections()
			(*s).Close()
		})
	}
	return w
}

func (w *world) at(name string) string { return filepath.Join(w.dir, name) }

// router starts a router, which has the meetings from now on, and returns what ends
// it.
func (w *world) router() (stop func()) {
	w.t.Helper()
	want := mmr.Config{
		Media: []netip.AddrPort{labtest.FreePort(w.t, "udp")}, HTTPS: labtest.FreePort(w.t, "tcp"),
		Certificate: w.at("cert.pem"), Key: w.at("key.pem"), Keys: w.at("keys.json"),
		Zone: testZone, Issuer: testIssuer, Limit: 30,
	}
	b, err := json.Marshal(want)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(w.at("router.json"), b, 0o600); err != nil {
		w.t.Fatal(err)
	}
	cfg, err := mmr.Read(w.at("router.json"))
	if err != nil {
		w.t.Fatal(err)
	}
	s, err := mmr.New(cfg, quiet())
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	})
	w.t.Cleanup(stop)
	to, err := url.Parse("https://" + cfg.HTTPS.String())
	if err != nil {
		w.t.Fatal(err)
	}
	w.to.Store(to)
	return stop
}

// breakLinks ends all WebSockets, and lets no other one open until mendLinks.
func (w *world) breakLinks() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut()
}

func (w *world) mendLinks() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ctx, w.cut = context.WithCancel(context.Background())
}

// ticket lets somebody into the meeting.
func (w *world) ticket(name string, role ticket.Role, change func(*ticket.Claims)) string {
	w.t.Helper()
	now := time.Now()
	c := ticket.Claims{
		Issuer: testIssuer, Zone: testZone, Subject: "s-" + name, ID: ticket.NewID(), Account: "a", Name: name, Role: role,
		Meeting: ticket.Meeting{ID: "m1", Number: "123456789", Topic: "Weekly call", JoinBeforeHost: true},
		Issued:  now, Expires: now.Add(ticket.TTL),
	}
	if change != nil {
		change(&c)
	}
	text, err := ticket.Sign(w.key, c)
	if err != nil {
		w.t.Fatal(err)
	}
	return text
}

// browser is one with a camera and a microphone that are made up.
func (w *world) browser(language string) *browsertest.Tab {
	w.t.Helper()
	return browsertest.New(w.t, language,
		chromedp.Flag("use-fake-device-for-media-stream", true),
		chromedp.Flag("use-fake-ui-for-media-stream", true),
		chromedp.Flag("auto-select-desktop-capture-source", "Entire screen"),
	)
}

// arrive opens the page as the portal sends people there.
func (w *world) arrive(b *browsertest.Tab, text string) {
	w.t.Helper()
	b.Run(chromedp.Navigate(w.web.URL + "/m#" + url.Values{"t": {text}, "c": {""}}.Encode()))
	b.Until(`document.querySelector(".ready video")?.videoWidth > 0`)
}

// join goes in and waits for the connection.
func (w *world) join(b *browsertest.Tab, text string) {
	w.t.Helper()
	w.arrive(b, text)
	b.Run(chromedp.Click("[data-join]"))
	w.connected(b)
}

func (w *world) connected(b *browsertest.Tab) {
	w.t.Helper()
	b.Until(`document.querySelector("[data-link]")?.dataset.state === "ready"`)
}
