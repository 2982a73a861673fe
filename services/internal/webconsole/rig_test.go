package webconsole

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/admintest"
	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/certificate"
	"github.com/parley-meet/parley/services/internal/controltest"
	"github.com/parley-meet/parley/services/internal/credential"
)

const testPassword = "correct horse battery"

// rig is a console that serves TLS on 127.0.0.1 before a fake PID 1.
type rig struct {
	t      testing.TB
	c      *Console
	admin  *admintest.Rig
	server *controltest.Server
	store  *credential.Store
	certs  *certificate.Keeper
	logs   *admintest.Buffer
	base   string // https://127.0.0.1:PORT
	dir    string
	end    func() error
}

// newRig starts a console; the password is set unless password is "".
func newRig(t testing.TB, password string) *rig {
	t.Helper()
	a := admintest.Fresh(t)
	r := &rig{t: t, admin: a, server: a.PID1, store: a.Store, logs: a.Logs, dir: a.Dir}
	r.certs = &certificate.Keeper{Dir: certificate.Shared(a.ConnectorDir).Dir, RAM: t.TempDir(), RunDir: r.dir}
	if err := r.certs.Load(time.Now(), "parley", nil); err != nil {
		t.Fatal(err)
	}
	if err := r.certs.Keep(t.Context(), "parley", func() []netip.Addr { return []netip.Addr{netip.MustParseAddr("192.0.2.7")} }); err != nil {
		t.Fatal(err)
	}
	if password != "" {
		r.setPassword(password)
	}
	c := New(Config{
		Admin: a.Admin, Appliance: r.server.Client(), Certificate: r.certs, Interfaces: admintest.Interfaces,
		Cutting: []string{"console-web", "network"},
		Figures: func(service string) string { return filepath.Join(r.dir, service) },
		Log:     slog.New(slog.NewTextHandler(r.logs, nil)),
	})
	r.c = c
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.base = "https://" + l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Serve(ctx, l) }()
	r.end = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() {
		if err := r.end(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *rig) setPassword(password string) {
	r.t.Helper()
	r.admin.SetPassword(r.t, password)
}

// browser is a client with cookies that does not follow redirects.
type browser struct {
	r *rig
	*http.Client
	header http.Header // of every request
}

func (r *rig) browser() *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		r.t.Fatal(err)
	}
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	r.t.Cleanup(tr.CloseIdleConnections)
	return &browser{r: r, header: http.Header{}, Client: &http.Client{Jar: jar, Transport: tr, Timeout: 20 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

type answer struct {
	status int
	header http.Header
	body   string
}

func (b *browser) do(method, path string, form url.Values) answer {
	b.r.t.Helper()
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	req, err := http.NewRequest(method, b.r.base+path, body)
	if err != nil {
		b.r.t.Fatal(err)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for k, v := range b.header {
		req.Header[k] = v
	}
	resp, err := b.Do(req)
	if err != nil {
		b.r.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		b.r.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(data)}
}

func (b *browser) get(path string) answer { b.r.t.Helper(); return b.do("GET", path, nil) }

func (b *browser) login(password string) answer {
	b.r.t.Helper()
	return b.do("POST", "/login", url.Values{"name": {"admin"}, "password": {password}})
}

// loggedIn returns a browser with a session.
func (r *rig) loggedIn() *browser {
	r.t.Helper()
	b := r.browser()
	if a := b.login(testPassword); a.status != http.StatusSeeOther || a.header.Get("Location") != "/" {
		r.t.Fatalf("login: %d to %q\n%s", a.status, a.header.Get("Location"), a.body)
	}
	return b
}

func random(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return string(b)
}

// api sends JSON; without a body there is none.
func (b *browser) api(method, path, body string) answer {
	b.r.t.Helper()
	req, err := http.NewRequest(method, b.r.base+path, strings.NewReader(body))
	if err != nil {
		b.r.t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for k, v := range b.header {
		req.Header[k] = v
	}
	resp, err := b.Do(req)
	if err != nil {
		b.r.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		b.r.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(data)}
}

// problem reads the answer's error.
func (a answer) problem(t testing.TB) api.Problem {
	t.Helper()
	var e api.ErrorAnswer
	if err := json.Unmarshal([]byte(a.body), &e); err != nil || e.Error.Code == "" || e.Error.Message == "" {
		t.Fatalf("%v: no error in %s", err, a.body)
	}
	return e.Error
}
