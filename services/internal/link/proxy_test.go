package link_test

import (
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/logtest"
	"github.com/parley-meet/parley/services/internal/portal/portaltest"
)

const password = "S3cret-of-the-proxy"

// proxy is one that makes tunnels (CONNECT) for those that know the password,
// unless answer says something else.
type proxy struct {
	*httptest.Server
	answer  func(w http.ResponseWriter, r *http.Request) bool
	mu      sync.Mutex
	tunnels []string
}

func newProxy(t *testing.T, secure, open bool, answer func(http.ResponseWriter, *http.Request) bool) *proxy {
	p := &proxy{answer: answer}
	p.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		want := "Basic " + base64.StdEncoding.EncodeToString([]byte("anna:"+password))
		switch {
		case r.Method != http.MethodConnect:
			http.Error(w, "CONNECT alone", http.StatusBadRequest)
			return
		case p.answer != nil && p.answer(w, r):
			return
		case !open && r.Header.Get("Proxy-Authorization") != want:
			w.Header().Set("Proxy-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusProxyAuthRequired)
			return
		}
		to, err := net.Dial("tcp", r.Host)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer to.Close()
		w.WriteHeader(http.StatusOK)
		conn, early, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		p.mu.Lock()
		p.tunnels = append(p.tunnels, r.Host)
		p.mu.Unlock()
		go func() {
			_, _ = io.Copy(to, early)
			to.Close()
		}()
		_, _ = io.Copy(conn, to)
	}))
	p.Config.ErrorLog = slog.NewLogLogger(slog.NewTextHandler(t.Output(), nil), slog.LevelInfo)
	p.EnableHTTP2 = true // a proxy may have it; a tunnel is asked for by HTTP/1.1
	if secure {
		p.StartTLS()
	} else {
		p.Start()
	}
	t.Cleanup(p.Close)
	return p
}

// through is the proxy's address, with a name and password or none.
func (p *proxy) through(user *url.Userinfo) func(*http.Request) (*url.URL, error) {
	u, err := url.Parse(p.URL)
	if err != nil {
		panic(err)
	}
	u.User = user
	return http.ProxyURL(u)
}

// secretless fails when a text has the password in any form.
func secretless(t *testing.T, what, text string) {
	t.Helper()
	for _, s := range []string{password, base64.StdEncoding.EncodeToString([]byte("anna:" + password)), "anna"} {
		if strings.Contains(text, s) {
			t.Errorf("%s tells %q: %s", what, s, text)
		}
	}
}

// An appliance enrols and is linked through a proxy, by TLS to it and without,
// with a password and without; its renewals too. Its log does not have the
// password.
func TestProxy(t *testing.T) {
	r := newRig(t, "", 1)
	anna := url.UserPassword("anna", password)
	for name, x := range map[string]struct {
		secure, open bool
		user         *url.Userinfo
	}{
		"open":               {false, true, nil},
		"password":           {false, false, anna},
		"TLS":                {true, true, nil},
		"TLS, password":      {true, false, anna},
		"password, unneeded": {true, true, anna},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProxy(t, x.secure, x.open, nil)
			c, err := link.Enrol(t.Context(), link.EnrolOptions{Token: r.token, Role: link.Router, Host: "r", Version: "1", Roots: r.p.Roots(), Proxy: p.through(x.user)})
			if err != nil {
				t.Fatal(err)
			}
			var log logtest.Buffer
			m := &machine{r: r, host: "r", kept: c, proxy: p.through(x.user), log: &log}
			at := r.places[0].addr()
			m.start(at).linked()
			if err := m.Event("x", 1, time.Now()); err != nil {
				t.Fatal(err)
			}
			portaltest.Wait(t, "the event", func() bool { return len(r.told(c.Appliance)) == 1 })
			m.end()
			p.mu.Lock()
			defer p.mu.Unlock()
			if len(p.tunnels) < 2 || slices.ContainsFunc(p.tunnels, func(to string) bool { return to != at }) {
				t.Errorf("tunnels %q", p.tunnels)
			}
			secretless(t, "the log", log.String())
		})
	}
}

// What is wrong with a proxy is said, with its address and without its password.
func TestProxyRefuses(t *testing.T) {
	r := newRig(t, "", 1)
	anna, wrong := url.UserPassword("anna", password), url.UserPassword("anna", "x"+password)
	status := func(code int, header ...string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, _ *http.Request) bool {
			for i := 0; i+1 < len(header); i += 2 {
				w.Header().Add(header[i], header[i+1])
			}
			w.WriteHeader(code)
			return true
		}
	}
	raw := func(text string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, _ *http.Request) bool {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				_, _ = conn.Write([]byte(text))
				conn.Close()
			}
			return true
		}
	}
	plain, secure := newProxy(t, false, false, nil), newProxy(t, true, false, nil)
	swap := func(p *proxy, scheme string) func(*http.Request) (*url.URL, error) {
		return http.ProxyURL(&url.URL{Scheme: scheme, Host: p.Listener.Addr().String(), User: anna})
	}
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	// A listener that never takes anybody.
	deaf, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	at := r.places[0].addr()
	for name, x := range map[string]struct {
		proxy func(*http.Request) (*url.URL, error)
		want  string
	}{
		"no password":      {plain.through(nil), "it asks for a name and a password"},
		"a wrong one":      {plain.through(wrong), "it refuses the name and password"},
		"a wrong one, TLS": {secure.through(wrong), "it refuses the name and password"},
		"another scheme": {newProxy(t, false, true, status(407, "Proxy-Authenticate", "Negotiate", "Proxy-Authenticate", "NTLM")).through(anna),
			"it takes no basic authentication"},
		"two schemes": {newProxy(t, false, true, status(407, "Proxy-Authenticate", "Negotiate", "Proxy-Authenticate", `BASIC realm="x"`)).through(nil),
			"it asks for a name and a password"},
		"forbidden":       {newProxy(t, false, true, status(403)).through(anna), "it does not let through to " + at + " (403)"},
		"not reached":     {newProxy(t, false, true, status(502)).through(anna), "it does not reach " + at + " (502)"},
		"time-out":        {newProxy(t, false, true, status(504)).through(anna), "it does not reach " + at + " (504)"},
		"nonsense":        {newProxy(t, false, true, status(418)).through(anna), "it answers 418"},
		"a redirect":      {newProxy(t, false, true, status(302, "Location", "http://evil.example/")).through(anna), "it answers 302"},
		"no HTTP":         {newProxy(t, false, true, raw("SSH-2.0-x\r\n")).through(anna), "its answer"},
		"a hang-up":       {newProxy(t, false, true, raw("")).through(anna), "it hangs up without an answer"},
		"no end":          {newProxy(t, false, true, raw("HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", 1<<20))).through(anna), "its answer"},
		"a word too many": {newProxy(t, false, true, raw("HTTP/1.1 200 OK\r\n\r\nhello")).through(anna), "speaks before it is asked"},
		"a TLS alert":     {newProxy(t, false, true, raw("\x15\x03\x01\x00\x02\x02\x46")).through(anna), "its address is written https://"},
		"https, plain":    {swap(plain, "https"), "its address is written http://"},
		"http, TLS":       {swap(secure, "http"), "its address is written https://"},
		"SOCKS":           {swap(plain, "socks5"), `scheme "socks5"`},
		"not there":       {http.ProxyURL(&url.URL{Scheme: "http", Host: closed.Addr().String(), User: anna}), "not reached"},
		"no host":         {http.ProxyURL(&url.URL{Scheme: "http", User: anna}), "its address"},
		"a bad setting": {func(*http.Request) (*url.URL, error) { return url.Parse("http://anna:" + password + "@pro xy") },
			"its setting cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := link.Enrol(t.Context(), link.EnrolOptions{Token: r.token, Role: link.Router, Host: "r", Version: "1", Roots: r.p.Roots(), Proxy: x.proxy})
			if err == nil || !strings.Contains(err.Error(), x.want) || !strings.Contains(err.Error(), "proxy") {
				t.Fatalf("%v, want %q", err, x.want)
			}
			secretless(t, "the error", fmt.Sprintf("%+v %#v", err, err))
			for inner := err; inner != nil; inner = errors.Unwrap(inner) {
				secretless(t, "an error inside", inner.Error())
			}
			t.Log(err)
		})
	}

	// A proxy whose certificate nobody vouches for is not told the password.
	var heard logtest.Buffer
	evil := newProxy(t, true, true, func(_ http.ResponseWriter, q *http.Request) bool {
		fmt.Fprint(&heard, q.Header)
		return false
	})
	evil.TLS.Certificates = []tls.Certificate{}
	if _, err := link.Enrol(t.Context(), link.EnrolOptions{Token: r.token, Role: link.Router, Host: "r", Version: "1", Proxy: evil.through(anna)}); err == nil || !strings.Contains(err.Error(), "TLS to it") {
		t.Errorf("%v", err)
	}
	secretless(t, "the connection", heard.String())

	// The link says the same, and so does its log.
	m := r.enrol("r1", link.Router)
	var log logtest.Buffer
	m.proxy, m.log = plain.through(wrong), &log
	m.start(at)
	portaltest.Wait(t, "a refusal", func() bool { return strings.Contains(m.Connection().Problem, "it refuses the name and password") })
	m.end()
	if c := m.Connection(); c.NeedsToken() || !strings.HasPrefix(c.Problem, "proxy ") {
		t.Errorf("%+v", c)
	}
	// One that takes the connection, as the machine's kernel does, and says nothing.
	m.proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: deaf.Addr().String(), User: anna})
	m.start(at)
	portaltest.Wait(t, "a refusal", func() bool { return strings.Contains(m.Connection().Problem, "it does not answer") })
	m.end()
	secretless(t, "the log", log.String()+m.Connection().Problem)
}
