package webconsole

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/parley-meet/parley/image/control"
	"github.com/parley-meet/parley/services/internal/account"
	"github.com/parley-meet/parley/services/internal/admin"
	"github.com/parley-meet/parley/services/internal/admintest"
	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/look"
	"github.com/parley-meet/parley/services/internal/netclient"
)

// Somebody else's library reads the description, and finds the real answers in
// it.
func TestDescription(t *testing.T) {
	t.Parallel()
	r := newRig(t, testPassword)
	a := r.browser().get("/api/openapi.json")
	if a.status != http.StatusOK || a.header.Get("Content-Type") != "application/json" {
		t.Fatalf("%d %s", a.status, a.header.Get("Content-Type"))
	}
	doc, err := openapi3.NewLoader().LoadFromData([]byte(a.body))
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	b := r.loggedIn()
	read := 0
	for _, e := range r.c.api {
		item := doc.Paths.Value(e.Path)
		if item == nil || item.GetOperation(e.Method) == nil {
			t.Errorf("%s %s is not described", e.Method, e.Path)
			continue
		}
		if e.Method != http.MethodGet || e.Response == nil || strings.Contains(e.Path, "{") {
			continue
		}
		a := b.get(e.Path)
		if a.status == http.StatusBadGateway && e.ID == "getCertificate" {
			continue // this rig's is in memory alone
		}
		if a.status != http.StatusOK {
			t.Errorf("GET %s: %d %s", e.Path, a.status, a.body)
			continue
		}
		var v any
		if err := json.Unmarshal([]byte(a.body), &v); err != nil {
			t.Fatal(err)
		}
		schema := item.Get.Responses.Status(http.StatusOK).Value.Content.Get("application/json").Schema.Value
		if err := schema.VisitJSON(v, openapi3.EnableJSONSchema2020()); err != nil {
			t.Errorf("GET %s answers something else than is described: %v\n%s", e.Path, err, a.body)
		}
		read++
	}
	if read < 8 {
		t.Errorf("only %d answers were compared", read)
	}
	var problem any
	if err := json.Unmarshal([]byte(b.get("/api/v1/none").body), &problem); err != nil {
		t.Fatal(err)
	}
	if err := doc.Components.Schemas["ErrorAnswer"].Value.VisitJSON(problem, openapi3.EnableJSONSchema2020()); err != nil {
		t.Error(err)
	}
	// The page for people has every line.
	page := b.get("/api").body
	for _, e := range r.c.api {
		if !strings.Contains(page, "<code>"+e.Path+"</code>") {
			t.Errorf("the page has no %s", e.Path)
		}
	}
}

// operationId, method and path are each one's own, and what is big is said.
func TestTable(t *testing.T) {
	c := New(Config{Admin: oneAccount{}, Appliance: silent{}, Interfaces: admintest.Interfaces, Certificate: noCertificate{}})
	seen := map[string]bool{}
	for _, e := range c.api {
		for _, key := range []string{e.ID, e.Method + " " + e.Path} {
			if seen[key] || key == "" {
				t.Errorf("%q comes twice", key)
			}
			seen[key] = true
		}
		if !strings.HasPrefix(e.Path, "/api/v1/") && e.Need != needNobody || !strings.HasSuffix(e.Summary, ".") {
			t.Errorf("%s %s: %q", e.Method, e.Path, e.Summary)
		}
		if e.Method != http.MethodGet && e.Need == needView && !e.NoToken && e.ID != "endSession" {
			t.Errorf("%s %s changes something and needs View alone", e.Method, e.Path)
		}
	}
}

func TestStrictJSON(t *testing.T) {
	r := newRig(t, testPassword)
	b := r.loggedIn()
	for body, want := range map[string][2]string{
		`{"name":"x","authority":"view","pasword":"y"}`: {"pasword", "unknown-field"},
		`{"name":7,"authority":"view"}`:                 {"name", "type"},
		`{"name":"x"} {"name":"y"}`:                     {"", "json-more"},
		`{"name":"x"`:                                   {"", "json"},
		`[]`:                                            {"", "type"},
		`{"name":"x","authority":"root","password":"short"}`: {"authority", "choice"},
	} {
		a := b.api("POST", "/api/v1/accounts", body)
		p := a.problem(t)
		if a.status != http.StatusUnprocessableEntity || p.Code != "invalid" || !slices.ContainsFunc(p.Fields, func(f api.FieldProblem) bool {
			return f.Field == want[0] && f.Code == want[1] && f.Message != "" && !strings.Contains(f.Message, "%")
		}) {
			t.Errorf("%s: %d %s", body, a.status, a.body)
		}
	}
	if a := b.api("POST", "/api/v1/tokens/", "{}"); a.status != http.StatusNotFound {
		t.Errorf("a slash more: %d", a.status)
	}
	if a := b.api("DELETE", "/api/v1/notices", "{}"); a.status != http.StatusUnprocessableEntity || a.problem(t).Fields[0].Code != "no-body" {
		t.Errorf("a body that nobody reads: %d %s", a.status, a.body)
	}
	if a := b.do("POST", "/api/v1/accounts", url.Values{"name": {"x"}}); a.status != http.StatusUnsupportedMediaType {
		t.Errorf("a form: %d", a.status)
	}
	if a := b.api("POST", "/api/v1/accounts", `{"name":"`+strings.Repeat("x", api.MaxBody)+`"}`); a.status != http.StatusRequestEntityTooLarge || a.problem(t).Code != "too-large" {
		t.Errorf("a long body: %d", a.status)
	}
	if a := b.api("PUT", "/api/v1/status", "{}"); a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") != "GET" {
		t.Errorf("another method: %d, Allow %q", a.status, a.header.Get("Allow"))
	}
	// In the language of the request.
	b.header = http.Header{"Accept-Language": {"ru"}}
	a := b.api("POST", "/api/v1/accounts", `{"name":"","authority":"view","password":""}`)
	if p := a.problem(t); p.Message != "Некоторые значения неверны." || a.header.Get("Content-Language") != "ru" || !slices.ContainsFunc(p.Fields, func(f api.FieldProblem) bool { return f.Field == "name" }) {
		t.Errorf("in Russian: %s", a.body)
	}
}

// Any body is decoded or refused, with a text for each fault.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{"", "{}", `{"name":1}`, `{"x":{}}`, "null", `{"name":"a"}{`, `{"na\u006de":"a"}`, "\xff", `{"name":"a","name":"b"}`, `"`} {
		f.Add([]byte(s))
	}
	dict := look.MustLoad(words, "words")
	f.Fuzz(func(t *testing.T, b []byte) {
		var in admin.AccountInput
		err := api.Decode(b, &in)
		if err == nil {
			return
		}
		k := &call{words: dict[look.Russian]}
		p := k.failure(err)
		if p.Status != http.StatusUnprocessableEntity || len(p.Fields) != 1 || p.Fields[0].Message == "" || strings.Contains(p.Fields[0].Message, "%!") {
			t.Fatalf("%q: %+v", b, p)
		}
	})
}

const networkBody = `{"hostname":"","eth0":{"mode":"static","address":"192.0.2.8/24","netmask":"","gateway":"192.0.2.1","mtu":""},"ipv6":{"mode":"off"}}`

// A change is confirmed by a connection that was made after it, and by no other.
func TestConfirmFromANewConnection(t *testing.T) {
	r := newRig(t, testPassword)
	b := r.loggedIn()
	a := b.api("PUT", "/api/v1/network", networkBody)
	var st netclient.Status
	if err := json.Unmarshal([]byte(a.body), &st); err != nil || a.status != http.StatusOK || st.Pending == nil {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if page := b.get("/services").body; !strings.Contains(page, "data-countdown=") || !strings.Contains(page, st.Pending.ID) {
		t.Error("a page does not tell of the pending change")
	}
	body := `{"id":"` + st.Pending.ID + `"}`
	a = b.api("POST", "/api/v1/network/confirm", body)
	if a.status != http.StatusConflict || a.problem(t).Code != "same-connection" {
		t.Errorf("the old connection: %d %s", a.status, a.body)
	}
	// The answer has closed it; the next request makes a new one.
	if a := b.api("POST", "/api/v1/network/confirm", body); a.status != http.StatusNoContent {
		t.Errorf("a new connection: %d %s", a.status, a.body)
	}
	if page := b.get("/services").body; strings.Contains(page, "data-countdown=") {
		t.Error("the page still counts down")
	}
	// Programs may do without.
	if a := b.api("PUT", "/api/v1/network?hold=false", networkBody); a.status != http.StatusOK || strings.Contains(a.body, `"pending"`) {
		t.Errorf("without hold: %d %s", a.status, a.body)
	}
	if a := b.api("PUT", "/api/v1/network?hold=maybe", networkBody); a.status != http.StatusUnprocessableEntity {
		t.Errorf("hold=maybe: %d", a.status)
	}
}

func TestSecondFactor(t *testing.T) {
	t.Parallel()
	r := newRig(t, testPassword)
	b := r.loggedIn()
	other := r.loggedIn()
	var setup admin.TOTPSetup
	a := b.api("POST", "/api/v1/account/totp", `{"password":"`+testPassword+`"}`)
	if err := json.Unmarshal([]byte(a.body), &setup); err != nil || a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	code, err := account.Code(setup.Secret, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	a = b.api("POST", "/api/v1/account/totp/confirm", `{"code":"`+code+`"}`)
	var recovery RecoveryCodes
	if err := json.Unmarshal([]byte(a.body), &recovery); err != nil || a.status != http.StatusOK || len(recovery.Codes) < 5 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	// The own session goes on, others of the account end.
	if a := b.get("/"); a.status != http.StatusOK {
		t.Errorf("the own session: %d to %s", a.status, a.header.Get("Location"))
	}
	if a := other.get("/"); a.header.Get("Location") != "/login?ended=password" {
		t.Errorf("the other session: %d", a.status)
	}
	n := r.browser()
	if a := n.get("/login/code"); a.header.Get("Location") != "/login" {
		t.Errorf("the second step without the first: %d", a.status)
	}
	if a := n.do("POST", "/login/code", url.Values{"code": {recovery.Codes[0]}}); a.header.Get("Location") != "/login?ended=step" {
		t.Errorf("a code without the first step: %d", a.status)
	}
	if a := n.login(testPassword); a.status != http.StatusSeeOther || a.header.Get("Location") != "/login/code" {
		t.Fatalf("the first step: %d to %q", a.status, a.header.Get("Location"))
	}
	for _, path := range []string{"/", "/api/v1/status"} {
		if a := n.get(path); a.status == http.StatusOK {
			t.Errorf("%s after the first step alone: %d", path, a.status)
		}
	}
	if a := n.get("/login/code"); a.status != http.StatusOK || strings.Contains(a.body, testPassword) {
		t.Errorf("the form: %d", a.status)
	}
	if a := n.do("POST", "/login/code", url.Values{"code": {"000000"}}); a.status != http.StatusForbidden || !strings.Contains(a.body, "This code is wrong") {
		t.Errorf("a wrong code: %d", a.status)
	}
	if a := n.do("POST", "/login/code", url.Values{"code": {recovery.Codes[0]}}); a.status != http.StatusSeeOther || a.header.Get("Location") != "/" {
		t.Errorf("a recovery code: %d\n%s", a.status, a.body)
	}
	if a := n.get("/"); a.status != http.StatusOK {
		t.Errorf("inside: %d", a.status)
	}
	if a := n.get("/login/code"); a.status != http.StatusSeeOther {
		t.Error("the step can be taken again")
	}
	if strings.Contains(r.logs.String(), recovery.Codes[0]) || strings.Contains(r.logs.String(), setup.Secret) {
		t.Error("the log has a secret")
	}
}

func TestSteps(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	s := newSteps()
	request := func(now time.Time) *http.Request {
		w := recorder{http.Header{}}
		s.begin(w, "anna", "secret", now)
		r, _ := http.NewRequest("GET", "/login/code", nil)
		r.Header.Set("Cookie", strings.SplitN(w.h.Get("Set-Cookie"), ";", 2)[0])
		return r
	}
	r := request(now)
	if name, password, ok := s.get(r, now.Add(stepLimit-1)); !ok || name != "anna" || password != "secret" {
		t.Errorf("%q %q %v", name, password, ok)
	}
	if _, _, ok := s.get(r, now.Add(stepLimit)); ok || len(s.m) != 0 {
		t.Errorf("a step that is over: %v, %d are kept", ok, len(s.m))
	}
	for i := range 3 * maxSteps {
		r = request(now.Add(time.Duration(i) * time.Second / 2))
	}
	if len(s.m) > maxSteps {
		t.Errorf("%d steps are kept", len(s.m))
	}
	if _, _, ok := s.get(r, now.Add(2*time.Minute)); !ok {
		t.Error("the newest step is forgotten")
	}
}

type recorder struct{ h http.Header }

func (r recorder) Header() http.Header       { return r.h }
func (recorder) Write(b []byte) (int, error) { return len(b), nil }
func (recorder) WriteHeader(int)             {}

func TestSessionList(t *testing.T) {
	r := newRig(t, testPassword)
	b := r.loggedIn()
	other := r.loggedIn()
	var list []look.SessionInfo
	a := b.get("/api/v1/sessions")
	if err := json.Unmarshal([]byte(a.body), &list); err != nil || len(list) != 2 {
		t.Fatalf("%v %s", err, a.body)
	}
	i := slices.IndexFunc(list, func(s look.SessionInfo) bool { return !s.Own })
	if list[i].Address != "127.0.0.1" || !strings.Contains(list[i].Agent, "Go-http-client") {
		t.Errorf("%+v", list[i])
	}
	if a := b.api("DELETE", "/api/v1/sessions/"+list[i].ID, ""); a.status != http.StatusNoContent {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := other.get("/"); a.header.Get("Location") != "/login?ended=unknown" {
		t.Errorf("the ended session: %d", a.status)
	}
	if a := b.api("DELETE", "/api/v1/sessions/"+list[i].ID, ""); a.status != http.StatusNotFound {
		t.Errorf("twice: %d", a.status)
	}
	if a := b.get("/api/v1/audit"); !strings.Contains(a.body, `"session.end"`) || !strings.Contains(a.body, `"login"`) {
		t.Errorf("the audit log: %s", a.body)
	}
}

func TestLogsOfServices(t *testing.T) {
	t.Parallel()
	r := newRig(t, testPassword)
	b := r.loggedIn()
	for i := range 300 {
		r.server.Log("mmr", fmt.Sprintf("Line %d", i))
	}
	r.server.Log("mmr", "<b>Straße</b>")
	r.server.Log("zctrl", "of another")
	lines := func(query string) []control.Log {
		t.Helper()
		a := b.get("/api/v1/services/mmr/logs" + query)
		var l LogLines
		if err := json.Unmarshal([]byte(a.body), &l); err != nil || a.status != http.StatusOK {
			t.Fatalf("%s: %d %.300s", query, a.status, a.body)
		}
		return l.Lines
	}
	if l := lines(""); len(l) != 200 || l[199].Text != "<b>Straße</b>" {
		t.Errorf("%d lines", len(l))
	}
	if l := lines("?lines=3&q=line"); len(l) != 3 || l[2].Text != "Line 299" {
		t.Errorf("%+v", l)
	}
	if l := lines("?q=" + url.QueryEscape("STRASSE")); len(l) != 0 {
		t.Errorf("%+v", l)
	}
	for _, query := range []string{"?lines=0", "?lines=x", "?lines=999999", "?q=" + strings.Repeat("x", maxSearch+1)} {
		if a := b.get("/api/v1/services/mmr/logs" + query); a.status != http.StatusUnprocessableEntity {
			t.Errorf("%.30s: %d", query, a.status)
		}
	}
	if a := b.get("/api/v1/services/none/logs"); a.status != http.StatusNotFound {
		t.Errorf("an unknown service: %d", a.status)
	}
	a := b.get("/api/v1/services/mmr/logs?format=text&q=straße")
	if a.header.Get("Content-Disposition") != `attachment; filename="parley-mmr.log"` || !strings.HasSuffix(a.body, " mmr <b>Straße</b>\n") || strings.Count(a.body, "\n") != 1 {
		t.Errorf("%v %s", a.header, a.body)
	}
	if page := b.get("/services/mmr?q=straße").body; !strings.Contains(page, "&lt;b&gt;Straße") || strings.Contains(page, "Line 299") {
		t.Error("the page does not search without a script")
	}
	resp, err := b.Get(r.base + "/api/v1/logs?follow=true&lines=1&q=new")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	in := bufio.NewReader(resp.Body)
	for deadline := time.Now().Add(10 * time.Second); r.server.Following() == 0 && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	r.server.Log("zctrl", "nothing to see")
	r.server.Log("zctrl", "something NEW")
	if name, data := event(t, in); name != "line" || !strings.Contains(data, `"something NEW"`) {
		t.Errorf("%s %s", name, data)
	}
	// Its end by the session's end.
	b.do("POST", "/logout", url.Values{})
	if name, _ := event(t, in); name != "end" {
		t.Errorf("after logout: %s", name)
	}
}

func TestBearer(t *testing.T) {
	t.Parallel()
	r := newRig(t, testPassword)
	_, secret, err := r.admin.AddToken(t.Context(), admintest.Operator, admin.TokenInput{Title: "monitoring", Authority: "operate"})
	if err != nil {
		t.Fatal(err)
	}
	p := r.browser()
	p.header = http.Header{"Authorization": {"Bearer " + secret}}
	a := p.get("/api/v1/account")
	if a.status != http.StatusOK || !strings.Contains(a.body, `"via":"api"`) || a.header.Get("Set-Cookie") != "" {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := p.api("POST", "/api/v1/services/mmr/restart", ""); a.status != http.StatusOK {
		t.Errorf("operate: %d %s", a.status, a.body)
	}
	if a := p.api("PUT", "/api/v1/account/password", `{"current":"","new":"","confirm":""}`); a.status != http.StatusForbidden || a.problem(t).Code != "no-token" {
		t.Errorf("a person's password: %d %s", a.status, a.body)
	}
	if a := p.get("/"); a.status != http.StatusSeeOther {
		t.Errorf("a page with a token: %d", a.status)
	}
	// Guesses are slowed down by address, and keep nobody else out.
	bad := r.browser().from("127.9.0.1")
	bad.header = http.Header{"Authorization": {"Bearer parley_wrong"}}
	codes := map[int]int{}
	for range 20 {
		codes[bad.get("/api/v1/status").status]++
	}
	if codes[http.StatusUnauthorized] > 4 || codes[http.StatusTooManyRequests] < 15 {
		t.Errorf("20 guesses: %v", codes)
	}
	if a := bad.get("/api/v1/status"); a.header.Get("Retry-After") == "" || a.problem(t).Code != "throttled" {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := p.get("/api/v1/status"); a.status != http.StatusOK {
		t.Errorf("the good token: %d", a.status)
	}
	if strings.Contains(r.logs.String(), secret) {
		t.Error("the log has the token")
	}
}

// What the overview says of certificates and notices.
func TestOverviewWords(t *testing.T) {
	w := look.MustLoad(words, "words")[look.English]
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for days, want := range map[int]field{
		100: {Text: "2026-06-09 (100 d left)", State: fieldGood},
		29:  {Text: "2026-03-30 (29 d 0 h left)", State: fieldWarn},
		0:   {Text: "2026-03-01 (expired)", State: fieldBad},
	} {
		f := certificateFacts(w, admin.Certificate{NotAfter: now.AddDate(0, 0, days), SelfSigned: true}, now)
		if f[0].Value != want || f[1].Value.Text != "the appliance itself" {
			t.Errorf("%d days: %+v, want %+v", days, f, want)
		}
	}
	if got := notice(w, "password-recovered 2026-11-25T03:00:00Z"); !strings.Contains(got, "2026-11-25 03:00:00 UTC") {
		t.Error(got)
	}
	if got := notice(w, "unknown\x1b thing"); got != "unknown thing" {
		t.Errorf("%q", got)
	}
}

// The language switch comes back to pages of the console alone.
func TestPlace(t *testing.T) {
	c := New(Config{Admin: oneAccount{}, Appliance: silent{}, Interfaces: admintest.Interfaces, Certificate: noCertificate{}})
	for to, want := range map[string]string{
		"/": "/", "/services": "/services", "/services/mmr": "/services/mmr", "/login": "/login", "/system/audit": "/system/audit",
		"": "/", "https://evil.example/services": "/", "//evil.example": "/", "/\\evil.example": "/", "/none": "/", "/api/v1/status": "/",
		"/logout": "/", "/services/../x": "/", "services": "/", "/services?x=1": "/services", "javascript:alert(1)": "/", "/services/a%0d%0ab": "/services/a%0d%0ab",
	} {
		if got := c.place(to); got != want {
			t.Errorf("%q: %q, want %q", to, got, want)
		}
	}
}
