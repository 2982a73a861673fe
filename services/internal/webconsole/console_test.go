package webconsole

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/services/internal/account"
	"github.com/parley-meet/parley/services/internal/admin"
	"github.com/parley-meet/parley/services/internal/admintest"
	"github.com/parley-meet/parley/services/internal/credential"
	"github.com/parley-meet/parley/services/internal/look"
	"github.com/parley-meet/parley/services/internal/netclient"
	"github.com/parley-meet/parley/services/internal/zonectl"
)

func TestLogin(t *testing.T) {
	t.Parallel()
	r := newRig(t, testPassword)
	b := r.browser()
	if a := b.get("/"); a.status != http.StatusSeeOther || a.header.Get("Location") != "/login" {
		t.Fatalf("a stranger at /: %d to %q", a.status, a.header.Get("Location"))
	}
	for _, x := range []struct{ name, password string }{{"admin", "mistaken guess"}, {"root", testPassword}, {"admin", ""}} {
		a := b.do("POST", "/login", url.Values{"name": {x.name}, "password": {x.password}})
		if a.status != http.StatusForbidden || !strings.Contains(a.body, "Wrong name or password") || a.header.Get("Set-Cookie") != "" {
			t.Errorf("%s/%s: %d, cookie %q", x.name, x.password, a.status, a.header.Get("Set-Cookie"))
		}
		if x.password != "" && strings.Contains(a.body, x.password) {
			t.Error("the page repeats the password")
		}
	}
	a := b.login(testPassword)
	if a.status != http.StatusTooManyRequests || a.header.Get("Retry-After") == "" || !strings.Contains(a.body, "Try again in 1 s") {
		t.Errorf("after 3 failures: %d, Retry-After %q", a.status, a.header.Get("Retry-After"))
	}
	time.Sleep(1100 * time.Millisecond)
	a = b.login(testPassword)
	if a.status != http.StatusSeeOther || a.header.Get("Location") != "/" {
		t.Fatalf("the right password: %d\n%s", a.status, a.body)
	}
	cookie := a.header.Get("Set-Cookie")
	if m := regexp.MustCompile(`^__Host-parley-console=([\w-]{43}); Path=/; HttpOnly; Secure; SameSite=Strict$`).FindStringSubmatch(cookie); m == nil {
		t.Errorf("cookie %q", cookie)
	}
	if a := b.get("/"); a.status != http.StatusOK || !strings.Contains(a.body, "Zone controller") && !strings.Contains(a.body, "zone controller") {
		t.Errorf("inside: %d\n%s", a.status, a.body)
	}
	if a := b.get("/login"); a.status != http.StatusSeeOther {
		t.Errorf("the login page inside: %d", a.status)
	}
	// A new login makes a new session and ends the old one.
	old := cookie
	a = b.login(testPassword)
	if a.header.Get("Set-Cookie") == old || r.c.sessions.Len() != 1 {
		t.Errorf("a second login: %q after %q, %d sessions", a.header.Get("Set-Cookie"), old, r.c.sessions.Len())
	}
	if a := b.do("POST", "/logout", url.Values{}); a.status != http.StatusSeeOther || a.header.Get("Location") != "/login?ended=logout" {
		t.Errorf("logout: %d to %q", a.status, a.header.Get("Location"))
	}
	if a := b.get("/"); a.status != http.StatusSeeOther {
		t.Errorf("after logout: %d", a.status)
	}
	if r.c.sessions.Len() != 0 {
		t.Errorf("%d sessions after logout", r.c.sessions.Len())
	}
	logs := r.logs.String()
	if strings.Contains(logs, testPassword) || strings.Contains(logs, "mistaken guess") {
		t.Errorf("the log has a password:\n%s", logs)
	}
	for _, want := range []string{"login failed", "admin=false", "login delayed", "msg=login ", "msg=logout", "from=127.0.0.1"} {
		if !strings.Contains(logs, want) {
			t.Errorf("the log has no %q:\n%s", want, logs)
		}
	}
}

func TestPasswordChangeEndsSessions(t *testing.T) {
	r := newRig(t, testPassword)
	b := r.loggedIn()
	r.setPassword("another password, quite long")
	if a := b.get("/"); a.header.Get("Location") != "/login?ended=password" {
		t.Errorf("%d to %q", a.status, a.header.Get("Location"))
	}
	if a := b.get("/login?ended=password"); !strings.Contains(a.body, "the password was changed") {
		t.Error("the login page does not say why")
	}
	if a := b.get("/login?ended=%3Cscript%3E"); strings.Contains(a.body, "<script>") || strings.Contains(a.body, `id="notice"`) {
		t.Error("the login page repeats what the address says")
	}
}

func TestStarting(t *testing.T) {
	t.Parallel()
	r := newRig(t, "")
	b := r.browser()
	if a := b.get("/login"); a.status != http.StatusOK || !strings.Contains(a.body, "still starting") {
		t.Errorf("%d\n%s", a.status, a.body)
	}
	done := make(chan answer)
	go func() { done <- b.login(testPassword) }()
	time.Sleep(200 * time.Millisecond)
	r.setPassword(testPassword)
	if a := <-done; a.status != http.StatusSeeOther {
		t.Errorf("a login during the start: %d", a.status)
	}
}

func TestStartingForLong(t *testing.T) {
	t.Parallel()
	r := newRig(t, "")
	began := time.Now()
	a := r.browser().login(testPassword)
	if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" || time.Since(began) > noneWait+2*time.Second {
		t.Errorf("%d after %v", a.status, time.Since(began))
	}
	if r.c.guard.Counted() != 0 {
		t.Error("it counts as a failure")
	}
}

func TestDamagedPassword(t *testing.T) {
	r := newRig(t, testPassword)
	b := r.loggedIn()
	if err := os.WriteFile(filepath.Join(r.dir, "admin.json"), []byte(`{"version":9}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if a := b.get("/"); a.status != http.StatusSeeOther {
		t.Errorf("inside: %d", a.status)
	}
	for _, a := range []answer{b.get("/login"), b.login(testPassword)} {
		if !strings.Contains(a.body, "passwd") || strings.Contains(a.body, `type="password"`) {
			t.Errorf("%d\n%s", a.status, a.body)
		}
	}
}

func TestGeneratedPassword(t *testing.T) {
	r := newRig(t, "")
	k := &credential.Keeper{Store: r.store, Dir: t.TempDir(), Hasher: credential.NewHasher(1), Random: strings.NewReader(random(1000))}
	if err := errors.Join(k.Load(), k.Publish(t.Context(), time.Now())); err != nil {
		t.Fatal(err)
	}
	b := r.browser()
	if a := b.login(strings.ToUpper(strings.ReplaceAll(k.Plain(), "-", " "))); a.status != http.StatusSeeOther {
		t.Fatalf("login: %d", a.status)
	}
	// Nothing else is reachable before another one is set.
	for _, path := range []string{"/", "/services", "/system", "/api"} {
		if a := b.get(path); a.header.Get("Location") != "/password" {
			t.Errorf("%s: %d to %q", path, a.status, a.header.Get("Location"))
		}
	}
	for _, path := range []string{"/api/v1/status", "/api/v1/accounts", "/api/v1/bundle"} {
		if a := b.get(path); a.status != http.StatusForbidden || a.problem(t).Code != "must-change" {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	if a := b.get("/password"); a.status != http.StatusOK || strings.Contains(a.body, `class="side"`) {
		t.Errorf("%d\n%s", a.status, a.body)
	}
	before := b.cookie()
	a := b.api("PUT", "/api/v1/account/password", `{"current":"`+k.Plain()+`","new":"`+testPassword+`","confirm":"`+testPassword+`"}`)
	if a.status != http.StatusNoContent {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if b.cookie() == before {
		t.Error("the session has its old token")
	}
	if a := b.get("/"); a.status != http.StatusOK || !strings.Contains(a.body, "Your password was changed") {
		t.Errorf("afterwards: %d to %q", a.status, a.header.Get("Location"))
	}
}

func TestCrossSite(t *testing.T) {
	r := newRig(t, testPassword)
	b := r.loggedIn()
	for _, h := range []http.Header{
		{"Sec-Fetch-Site": {"cross-site"}}, {"Sec-Fetch-Site": {"same-site"}},
		{"Origin": {"https://evil.example"}}, {"Origin": {strings.Replace(r.base, "https", "http", 1) + "1"}}, {"Origin": {"null"}},
	} {
		b.header = h
		for _, path := range []string{"/api/v1/services/zctrl/stop", "/logout", "/language", "/login"} {
			if a := b.do("POST", path, url.Values{}); a.status != http.StatusForbidden {
				t.Errorf("POST %s with %v: %d, want 403", path, h, a.status)
			}
		}
	}
	b.header = http.Header{"Sec-Fetch-Site": {"same-origin"}}
	if a := b.api("POST", "/api/v1/services/zctrl/stop", ""); a.status != http.StatusOK {
		t.Errorf("from the page itself: %d", a.status)
	}
	if got := r.server.Asked(); len(got) != 1 {
		t.Errorf("asked for %+v", got)
	}
}

func TestOperate(t *testing.T) {
	r := newRig(t, testPassword)
	if a := r.browser().api("POST", "/api/v1/services/zctrl/stop", ""); a.status != http.StatusUnauthorized {
		t.Errorf("a stranger: %d", a.status)
	}
	b := r.loggedIn()
	if a := b.api("POST", "/api/v1/services/mmr/restart", ""); a.status != http.StatusOK || !strings.Contains(a.body, `"later":false`) {
		t.Errorf("restart: %d %s", a.status, a.body)
	}
	if a := b.get("/"); !strings.Contains(a.body, "Restarted: multimedia router") {
		t.Errorf("the result is not told:\n%s", a.body)
	}
	if a := b.get("/"); strings.Contains(a.body, "Restarted: multimedia router") {
		t.Error("the result is told twice")
	}
	r.server.Refuse(control.OpStop, &control.Error{Code: control.CodeState, Message: "it is not\nrunning"})
	if a := b.api("POST", "/api/v1/services/mmr/stop", ""); a.status != http.StatusConflict || a.problem(t).Message != "Refused: it is not running" {
		t.Errorf("a refusal: %d %s", a.status, a.body)
	}
	r.server.Refuse(control.OpStop, nil)
	for _, path := range []string{"none/stop", "mmr/format", "mmr/", "..%2Fmmr/stop", "mmr/stop/x"} {
		if a := b.api("POST", "/api/v1/services/"+path, ""); a.status != http.StatusNotFound {
			t.Errorf("%s: %d, want 404", path, a.status)
		}
	}
	if a := b.get("/api/v1/services/mmr/stop"); a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") != "POST" {
		t.Errorf("GET: %d, Allow %q", a.status, a.header.Get("Allow"))
	}
	want := []control.Request{{Op: control.OpRestart, Service: "mmr"}, {Op: control.OpStop, Service: "mmr"}}
	if got := r.server.Asked(); !slices.Equal(got, want) {
		t.Errorf("asked for %+v, want %+v", got, want)
	}
}

func TestOperateCuttingItselfOff(t *testing.T) {
	t.Parallel()
	r := newRig(t, testPassword)
	b := r.loggedIn()
	body := b.get("/services").body
	for _, id := range []string{"ask-console-web-stop", "ask-console-web-restart", "ask-network-stop", "ask-network-restart", "ask-zctrl-stop"} {
		if !strings.Contains(body, `<dialog id="`+id+`"`) || !strings.Contains(body, `data-confirm="`+id+`"`) {
			t.Errorf("the page does not ask first: %s", id)
		}
	}
	a := b.api("POST", "/api/v1/services/console-web/restart", "")
	if a.status != http.StatusOK || !strings.Contains(a.body, `"later":true`) {
		t.Errorf("%d %s", a.status, a.body)
	}
	if got := r.server.Asked(); len(got) != 0 {
		t.Error("it is done before the answer has arrived")
	}
	for deadline := time.Now().Add(5 * time.Second); len(r.server.Asked()) == 0 && time.Now().Before(deadline); {
		time.Sleep(20 * time.Millisecond)
	}
	if got := r.server.Asked(); len(got) != 1 || got[0] != (control.Request{Op: control.OpRestart, Service: "console-web"}) {
		t.Errorf("asked for %+v", got)
	}
}

func TestStatusPage(t *testing.T) {
	t.Parallel()
	r := newRig(t, testPassword)
	b := r.loggedIn()
	r.server.Change(func(s *control.Status) {
		s.Perm = control.Perm{State: control.PermMissing, Message: "no partition 5"}
		s.LastBoot = "panic: <script>alert(1)</script>"
		s.Watchdog = "none"
	})
	time.Sleep(fresh)
	body := b.get("/").body
	for _, want := range []string{"1.2.3", "7.1.0", "192.0.2.7/24\n2001:db8::7/64", "The storage is missing", "no partition 5", "The last start failed",
		"panic: &lt;script&gt;", "0.42 s", "killed by signal 9", "<time", "02:00:00:00:00:01", r.certs.Fingerprint()[:23]} {
		if !strings.Contains(body, want) {
			t.Errorf("the page has no %q", want)
		}
	}
	if z, m, n := strings.Index(body, "<code>zctrl</code>"), strings.Index(body, "<code>mmr</code>"), strings.Index(body, "<code>network</code>"); z < 0 || z > m || m > n {
		t.Errorf("zctrl, mmr and network are at %d, %d, %d", z, m, n)
	}
	// Nothing inline: the policy would stop it.
	if m := regexp.MustCompile(`(?i)<style|<script>| style=| on[a-z]+=|javascript:`).FindString(body); m != "" {
		t.Errorf("the page has %q", m)
	}
	b.header = http.Header{"Accept-Language": {"ru"}}
	if body := b.get("/").body; !strings.Contains(body, "Хранилище недоступно") || !strings.Contains(body, `<html lang="ru">`) {
		t.Error("the page is not in Russian")
	}
	if a := b.do("POST", "/language", url.Values{"language": {"en"}, "to": {"https://evil.example"}}); a.header.Get("Location") != "/" {
		t.Errorf("the switch leads to %q", a.header.Get("Location"))
	}
	if body := b.get("/").body; !strings.Contains(body, `<html lang="en">`) {
		t.Error("the choice does not hold")
	}
}

func TestWithoutInit(t *testing.T) {
	t.Parallel()
	r := newRig(t, testPassword)
	b := r.loggedIn()
	r.server.Refuse(control.OpStatus, &control.Error{Code: control.CodeDenied, Message: "no right to it"})
	time.Sleep(fresh)
	a := b.get("/")
	if a.status != http.StatusOK || !strings.Contains(a.body, "The system process does not answer") || !strings.Contains(a.body, "no right to it") || !strings.Contains(a.body, "192.0.2.7") {
		t.Errorf("%d\n%s", a.status, a.body)
	}
	if a := b.get("/api/v1/status"); a.status != http.StatusBadGateway || !json.Valid([]byte(a.body)) {
		t.Errorf("API: %d %s", a.status, a.body)
	}
}

func TestAPI(t *testing.T) {
	r := newRig(t, testPassword)
	a := r.browser().get("/api/v1/status")
	if a.status != http.StatusUnauthorized || a.header.Get("Content-Type") != "application/json" || !strings.Contains(a.body, `"code":"unauthorized"`) {
		t.Errorf("a stranger: %d %s", a.status, a.body)
	}
	a = r.loggedIn().get("/api/v1/status")
	var rep Report
	if err := json.Unmarshal([]byte(a.body), &rep); err != nil || a.status != http.StatusOK {
		t.Fatalf("%d %v\n%s", a.status, err, a.body)
	}
	if rep.Appliance.Version != "1.2.3" || len(rep.Interfaces) != 1 || rep.Interfaces[0].Addresses[0].String() != "192.0.2.7/24" || rep.Certificate.SHA256 != r.certs.Fingerprint() {
		t.Errorf("%+v", rep)
	}
}

func TestHeaders(t *testing.T) {
	r := newRig(t, testPassword)
	in := r.loggedIn()
	if a := r.browser().get("/healthz"); a.status != http.StatusOK || a.body != "ok\n" {
		t.Errorf("healthz: %d %q", a.status, a.body)
	}
	for _, path := range []string{"/", "/login", "/healthz", "/none", "/api/v1/status", "/assets/none", "/events/x"} {
		a := in.get(path)
		if a.header.Get("Content-Security-Policy") == "" || a.header.Get("X-Content-Type-Options") != "nosniff" || a.header.Get("Cache-Control") != "no-store" || a.header.Get("Server") != "" {
			t.Errorf("%s: %v", path, a.header)
		}
	}
	asset := regexp.MustCompile(`/assets/style\.[0-9a-f]+\.css`).FindString(in.get("/").body)
	if a := r.browser().get(asset); a.status != http.StatusOK || !strings.Contains(a.header.Get("Cache-Control"), "immutable") {
		t.Errorf("%q: %d %v", asset, a.status, a.header)
	}
}

// event reads the next event of a stream.
func event(t *testing.T, in *bufio.Reader) (name, data string) {
	t.Helper()
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			t.Fatalf("the stream ends: %v", err)
		}
		switch line = strings.TrimSuffix(line, "\n"); {
		case strings.HasPrefix(line, "event: "):
			name = line[7:]
		case strings.HasPrefix(line, "data: "):
			data = line[6:]
		case line == "" && name != "":
			return name, data
		}
	}
}

func (b *browser) stream(t *testing.T) (*http.Response, *bufio.Reader) {
	t.Helper()
	resp, err := b.Get(b.r.base + "/events")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp, bufio.NewReader(resp.Body)
}

func TestStream(t *testing.T) {
	t.Parallel()
	r := newRig(t, testPassword)
	_, out := r.browser().stream(t)
	if name, _ := event(t, out); name != "end" {
		t.Errorf("a stranger gets %q", name)
	}
	b := r.loggedIn()
	resp, in := b.stream(t)
	if resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("type %q", resp.Header.Get("Content-Type"))
	}
	name, data := event(t, in)
	var all view
	if err := json.Unmarshal([]byte(data), &all); name != "status" || err != nil || all["svc.zctrl.state"].Text != "running" {
		t.Fatalf("%s %s: %v", name, data, err)
	}
	// What the page shows are the same fields.
	body := b.get("/").body + b.get("/services").body + b.get("/configure").body
	for k := range all {
		if !strings.Contains(body, `data-live="`+k+`"`) {
			t.Errorf("the page has no field %q", k)
		}
	}
	for _, m := range regexp.MustCompile(`data-live="([^"]+)"`).FindAllStringSubmatch(body, -1) {
		if _, ok := all[m[1]]; !ok {
			t.Errorf("no event fills the page's field %q", m[1])
		}
	}
	r.server.Change(func(s *control.Status) { s.Services[3].State = control.StateStopping })
	name, data = event(t, in)
	var some view
	if err := json.Unmarshal([]byte(data), &some); err != nil || some["svc.zctrl.state"].State != "stopping" || len(some) > 12 {
		t.Errorf("%s %s: %v", name, data, err)
	}
}

func TestStreamsAreBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t, testPassword)
	b := r.loggedIn()
	for range maxSessionStreams {
		_, in := b.stream(t)
		event(t, in)
	}
	if resp, _ := b.stream(t); resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("one more: %d", resp.StatusCode)
	}
	// The end of the server ends them at once.
	began := time.Now()
	if err := r.end(); err != nil || time.Since(began) > stopAfter {
		t.Errorf("the end took %v: %v", time.Since(began), err)
	}
}

func TestHostileForms(t *testing.T) {
	r := newRig(t, testPassword)
	for name, x := range map[string]struct {
		kind, body string
		want       int
	}{
		"no type":   {"", "name=admin", http.StatusUnsupportedMediaType},
		"JSON":      {"application/json", `{"name":"admin"}`, http.StatusUnsupportedMediaType},
		"multipart": {"multipart/form-data; boundary=x", "--x--", http.StatusUnsupportedMediaType},
		"long":      {"application/x-www-form-urlencoded", "password=" + strings.Repeat("x", maxForm), http.StatusRequestEntityTooLarge},
		"escapes":   {"application/x-www-form-urlencoded", "name=%zz", http.StatusBadRequest},
		"semicolon": {"application/x-www-form-urlencoded", "a=1;b=2", http.StatusBadRequest},
		"query":     {"application/x-www-form-urlencoded; charset=UTF-8", "", http.StatusForbidden},
	} {
		req, err := http.NewRequest("POST", r.base+"/login?name=admin&password="+url.QueryEscape(testPassword), strings.NewReader(x.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", x.kind)
		resp, err := r.browser().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != x.want {
			t.Errorf("%s: %d, want %d", name, resp.StatusCode, x.want)
		}
	}
	a := r.browser().do("POST", "/login", url.Values{"name": {"\"><script>\n\x00\u202e" + strings.Repeat("x", 500)}, "password": {"p"}})
	if strings.Contains(a.body, "<script>\n") || strings.Contains(a.body, strings.Repeat("x", 100)) || strings.Contains(r.logs.String(), "\u202e") {
		t.Errorf("the name is repeated as it came:\n%s\n%s", a.body, r.logs)
	}
}

// Any body is a form or a refusal, and never more than its bound.
func FuzzForm(f *testing.F) {
	for _, s := range []string{"", "name=admin&password=x", "a=%", "a;b", "=&&=", "%00=%ff", strings.Repeat("a&", 100)} {
		f.Add("application/x-www-form-urlencoded", s)
	}
	f.Add("Application/X-WWW-Form-Urlencoded ; charset", "a=b")
	f.Fuzz(func(t *testing.T, kind, body string) {
		r := httptest.NewRequest("POST", "/login", strings.NewReader(body))
		r.Header["Content-Type"] = []string{kind}
		form, status := readForm(httptest.NewRecorder(), r)
		if (form == nil) == (status == http.StatusOK) {
			t.Fatalf("%d with form %v", status, form)
		}
		for k, v := range form {
			for _, s := range v {
				if len(k)+len(s) > maxForm {
					t.Fatalf("a field of %d bytes", len(k)+len(s))
				}
			}
		}
	})
}

// Sessions end by the clock, seen through the handlers.
func TestSessionTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(Config{Admin: oneAccount{}, Appliance: silent{}, Interfaces: admintest.Interfaces, Certificate: noCertificate{}})
		token := c.sessions.Create(look.Session{Name: "admin", Stamp: "s"}, time.Now())
		get := func(path string) *httptest.ResponseRecorder {
			req := httptest.NewRequest("GET", path, nil)
			req.AddCookie(&http.Cookie{Name: sessionCookie, Value: token})
			w := httptest.NewRecorder()
			c.ServeHTTP(w, req)
			return w
		}
		for i := range 24 {
			time.Sleep(29 * time.Minute)
			if to := get("/").Header().Get("Location"); to != "" {
				t.Fatalf("after %d times 29 minutes: %q", i+1, to)
			}
		}
		time.Sleep(29 * time.Minute)
		if to := get("/").Header().Get("Location"); to != "/login?ended=expired" {
			t.Errorf("after 12 hours: %q", to)
		}
		// A stream is not the user's doing.
		token = c.sessions.Create(look.Session{Name: "admin", Stamp: "s"}, time.Now())
		if body := get("/events").Body.String(); !strings.Contains(body, "event: status") || !strings.HasSuffix(body, "event: end\ndata: {}\n\n") {
			t.Errorf("the stream: %.100s", body)
		}
		if to := get("/").Header().Get("Location"); to != "/login?ended=idle" {
			t.Errorf("after an idle stream: %q", to)
		}
	})
}

// oneAccount is an administrator with one account and nothing else.
type oneAccount struct{ admin.Administrator }

func (oneAccount) Stamp(name string) (account.Account, string, error) {
	return account.Account{Name: name, Authority: account.Operate}, "s", nil
}
func (oneAccount) Zone(context.Context) zonectl.State                 { return zonectl.State{Phase: zonectl.Away} }
func (oneAccount) Network(context.Context) (*netclient.Status, error) { return nil, admin.ErrAway }
func (oneAccount) Notices(context.Context) ([]string, error)          { return nil, nil }
func (oneAccount) Connector(context.Context) (admin.Connector, error) { return admin.Connector{}, nil }
func (oneAccount) Certificate(context.Context) (admin.Certificate, error) {
	return admin.Certificate{}, admin.ErrAway
}

// While the storage is read-only no password can be kept: whoever comes to see
// what is wrong is let in with the generated one.
func TestReadOnlyDoesNotForceAPassword(t *testing.T) {
	t.Parallel()
	r := newRig(t, "")
	k := &credential.Keeper{Store: r.store, Dir: t.TempDir(), Hasher: credential.NewHasher(1), Random: strings.NewReader(random(1000))}
	if err := errors.Join(k.Load(), k.Publish(t.Context(), time.Now())); err != nil {
		t.Fatal(err)
	}
	b := r.browser()
	b.login(k.Plain())
	if a := b.get("/network"); a.header.Get("Location") != "/password" {
		t.Fatalf("before: %d to %q, want the page of the password", a.status, a.header.Get("Location"))
	}
	r.server.Change(func(s *control.Status) { s.Perm.State = control.PermReadOnly })
	r.c.source.get(t.Context(), 0)
	if a := b.get("/network"); a.status != http.StatusOK {
		t.Errorf("read-only: %d to %q", a.status, a.header.Get("Location"))
	}
}

// Failed logins are in the audit log, without what may be a password typed into
// the wrong field.
func TestFailedLoginsAreAudited(t *testing.T) {
	t.Parallel()
	r := newRig(t, testPassword)
	b := r.browser()
	b.login("wrong wrong wrong")
	b.do("POST", "/login", url.Values{"name": {"my secret phrase"}, "password": {"x"}})
	list, err := r.admin.Admin.Audit(t.Context(), 10)
	if err != nil || len(list) != 2 {
		t.Fatalf("%+v, %v, want two lines", list, err)
	}
	for i, who := range []string{"", "admin"} {
		if e := list[i]; e.What != "login.failed" || e.Who != who || e.From != "127.0.0.1" || e.Via != "web" {
			t.Errorf("line %d: %+v, want a failed login of %q", i, e, who)
		}
	}
}

// The token can be taken away without touching what stands beside it.
func TestRemoveConnectorToken(t *testing.T) {
	t.Parallel()
	r := newRig(t, testPassword)
	b := r.loggedIn()
	if a := b.api("PUT", "/api/v1/connector", `{"token":"`+admintest.Token+`","zoneController":"192.0.2.7","router":"192.0.2.8","otherZoneController":"192.0.2.9","publicName":"meet.example.com","external":[{"local":"192.0.2.7","external":"203.0.113.7"}],"limit":"350"}`); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	before, err := r.admin.Admin.Connector(t.Context())
	if err != nil || !before.TokenSet {
		t.Fatalf("%+v, %v, want a token", before, err)
	}
	if a := b.api("DELETE", "/api/v1/connector/token", ""); a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	after, err := r.admin.Admin.Connector(t.Context())
	if err != nil || after.TokenSet || after.TokenHint != "" {
		t.Errorf("%+v, %v, want no token", after, err)
	}
	if after.ZoneController != before.ZoneController || after.Router != before.Router || after.OtherZoneController != before.OtherZoneController ||
		after.PublicName != before.PublicName || after.Limit != 350 || !slices.Equal(after.External, before.External) {
		t.Errorf("%+v became %+v", before, after)
	}
}

// The router's limit is on the page and in the API, in both languages; a wrong one
// is told of at its field and changes nothing, and an empty one is the default.
func TestLimit(t *testing.T) {
	t.Parallel()
	r := newRig(t, testPassword)
	b := r.loggedIn()
	set := func(limit string) answer {
		return b.api("PUT", "/api/v1/connector", `{"zoneController":"","router":"","otherZoneController":"","publicName":"","external":[],"limit":"`+limit+`"}`)
	}
	page := func(want string) {
		t.Helper()
		if p := b.get("/configure"); p.status != http.StatusOK || !strings.Contains(p.body, `name="limit" type="text" value="`+want+`" placeholder="200"`) {
			t.Errorf("%d, no limit %q in the page", p.status, want)
		}
	}
	page("")
	if a := set("350"); a.status != http.StatusOK || !strings.Contains(a.body, `"limit":350`) {
		t.Errorf("%d %s", a.status, a.body)
	}
	page("350")
	for _, wrong := range []string{"1", "-5", "100001", "viele"} {
		if a := set(wrong); a.status != http.StatusUnprocessableEntity || !strings.Contains(a.body, `"limit"`) || !strings.Contains(a.body, "from 2 to 100000") {
			t.Errorf("%q: %d %s", wrong, a.status, a.body)
		}
	}
	page("350")
	if a := set(""); a.status != http.StatusOK || !strings.Contains(a.body, `"limit":0`) {
		t.Errorf("%d %s", a.status, a.body)
	}
	page("")
}
