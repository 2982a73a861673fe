package web_test

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/oauth2-proxy/mockoidc"

	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/portaltest"
)

// provider is somebody else's OpenID provider.
type provider struct {
	*mockoidc.MockOIDC
	browser *http.Client // that trusts it
}

func newProvider(t *testing.T, p *portaltest.Portal) *provider {
	t.Helper()
	h := httptest.NewUnstartedServer(nil)
	h.StartTLS() // for its certificate of 127.0.0.1
	roots := x509.NewCertPool()
	roots.AddCert(h.Certificate())
	config := &tls.Config{Certificates: h.TLS.Certificates}
	h.Close()
	m, err := mockoidc.NewServer(nil)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Start(tls.NewListener(l, config), config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Shutdown() })
	client := &tls.Config{RootCAs: roots}
	p.All.Web.Trust(client)
	return &provider{m, &http.Client{Transport: &http.Transport{TLSClientConfig: client},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

func (o *provider) add(t *testing.T, p *portaltest.Portal, account string, domains ...string) string {
	t.Helper()
	var made struct{ ID string }
	p.Client(p.Operator()).JSON("POST", "/api/v1/operator/providers", obj{"label": "Corp", "issuer": o.Issuer(), "clientId": o.ClientID, "secret": o.ClientSecret, "domains": domains, "account": account}, &made)
	return made.ID
}

// away goes to the provider as c and returns the path that it sends c back to.
func (o *provider) away(t *testing.T, c *portaltest.Client, id, to string, u *mockoidc.MockUser) string {
	t.Helper()
	a := c.Do("GET", "/login/oidc/"+id+"?to="+url.QueryEscape(to), nil)
	if a.Status != http.StatusSeeOther || !strings.HasPrefix(a.Header.Get("Location"), o.Issuer()) {
		t.Fatalf("%d %v %s", a.Status, a.Header, a.Body)
	}
	o.QueueUser(u)
	resp, err := o.browser.Get(a.Header.Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	back, ok := strings.CutPrefix(resp.Header.Get("Location"), c.P.Server.URL)
	if !ok {
		t.Fatalf("%d %v", resp.StatusCode, resp.Header)
	}
	return back
}

func who(subject, email string, verified bool) *mockoidc.MockUser {
	return &mockoidc.MockUser{Subject: subject, Email: email, EmailVerified: verified}
}

func TestProvider(t *testing.T) {
	p := portaltest.New(t)
	acc, owner := p.Account("Acme", people.Business)
	_, other := p.Account("Other", people.Business)
	o := newProvider(t, p)
	id := o.add(t, p, acc.ID, "corp.example", strings.SplitN(owner.Email, "@", 2)[1], strings.SplitN(other.Email, "@", 2)[1])
	if a := p.Stranger().Do("GET", "/login", nil); !strings.Contains(string(a.Body), "/login/oidc/"+id) {
		t.Errorf("%s", a.Body)
	}
	come := func(c *portaltest.Client, u *mockoidc.MockUser) portaltest.Answer {
		return c.Do("GET", o.away(t, c, id, "/profile", u), nil)
	}
	self := func(c *portaltest.Client) people.User {
		var s struct{ User people.User }
		c.JSON("GET", "/api/v1/self", nil, &s)
		return s.User
	}
	// A person who is there is linked; a new one is made a member.
	c := p.Stranger()
	if a := come(c, who("1", strings.ToUpper(owner.Email), true)); a.Header.Get("Location") != "/profile" {
		t.Fatalf("%d %v", a.Status, a.Header)
	}
	if u := self(c); u.ID != owner.ID {
		t.Errorf("%+v", u)
	}
	c = p.Stranger()
	come(c, who("2", "new@corp.example", true))
	if u := self(c); u.Account != acc.ID || u.Role != people.Member || u.Email != "new@corp.example" || u.Operator {
		t.Errorf("%+v", u)
	}
	// The subject counts from then on, not the address.
	c = p.Stranger()
	come(c, who("1", "renamed@corp.example", true))
	if u := self(c); u.ID != owner.ID {
		t.Errorf("%+v", u)
	}
	refused := func(what, why string, u *mockoidc.MockUser) {
		t.Helper()
		c := p.Stranger()
		if a := come(c, u); a.Header.Get("Location") != "/login?ended="+why || cookieOf(c, sessionCookie) != "" {
			t.Errorf("%s: %v", what, a.Header)
		}
	}
	refused("an address that is not verified", "address", who("3", "third@corp.example", false))
	refused("another domain", "address", who("4", "a@evil.example", true))
	refused("no address", "address", who("5", "", true))
	refused("another account's person", "address", who("6", other.Email, true))
	refused("a second subject of one address", "address", who("7", owner.Email, true))
	exec(t, p, "INSERT INTO users (id, account_id, email, name, name_key, role, state, created) VALUES ('u1', ?, 'early@corp.example', 'E', 'e', 'owner', 'unverified', 1)", acc.ID)
	refused("an address that somebody has not proven", "address", who("8", "early@corp.example", true))
	exec(t, p, "UPDATE users SET operator = ? WHERE id = ?", true, owner.ID)
	refused("an operator, by an account's provider", "address", who("1", owner.Email, true))
	exec(t, p, "UPDATE users SET operator = ?, state = 'suspended' WHERE id = ?", false, owner.ID)
	refused("somebody who is suspended", "suspended", who("1", owner.Email, true))
	p.Client(p.Operator()).JSON("DELETE", "/api/v1/operator/providers/"+id, nil, nil)
	if a := p.Stranger().Do("GET", "/login/oidc/"+id, nil); a.Status != http.StatusNotFound {
		t.Errorf("%d", a.Status)
	}
}

// The way back belongs to the browser that went away, once.
func TestProviderIsBound(t *testing.T) {
	p := portaltest.New(t)
	_, owner := p.Account("Acme", people.Business)
	o := newProvider(t, p)
	id := o.add(t, p, "")
	attacker, victim := p.Stranger(), p.Stranger()
	back := o.away(t, attacker, id, "//evil.example", who("1", owner.Email, true))
	if a := victim.Do("GET", back, nil); a.Header.Get("Location") != "/login?ended=step" || cookieOf(victim, sessionCookie) != "" {
		t.Errorf("somebody else's sign-in: %v", a.Header)
	}
	// One who has gone away himself does not take another's answer either.
	o.away(t, victim, id, "/", who("2", "x@example.com", true))
	if a := victim.Do("GET", back, nil); a.Header.Get("Location") != "/login?ended=step" {
		t.Errorf("%v", a.Header)
	}
	if a := attacker.Do("GET", back, nil); a.Header.Get("Location") != "/" {
		t.Errorf("%v", a.Header)
	}
	if a := attacker.Do("GET", back, nil); a.Header.Get("Location") != "/login?ended=step" {
		t.Errorf("twice: %v", a.Header)
	}
	if a := p.Stranger().Do("GET", o.away(t, p.Stranger(), id, "/", who("9", "nobody@example.com", true)), nil); a.Header.Get("Location") != "/login?ended=step" {
		t.Errorf("%v", a.Header)
	}
	c := p.Stranger()
	if a := c.Do("GET", o.away(t, c, id, "/", who("9", "nobody@example.com", true)), nil); a.Header.Get("Location") != "/login?ended=nobody" {
		t.Errorf("%v", a.Header)
	}
	// The second step is asked for here, too.
	setPassword(t, p, owner, testPassword)
	enrolled(t, p.Client(owner))
	c = p.Stranger()
	if a := c.Do("GET", o.away(t, c, id, "/profile", who("1", owner.Email, true)), nil); a.Header.Get("Location") != "/login/code" || cookieOf(c, sessionCookie) != "" {
		t.Errorf("%v", a.Header)
	}
}

// A hostile provider sends a browser on to an honest one with the request of its
// own sign-in: what the honest one answers is not handed to the hostile one, who
// could come in with it (RFC 9700, 4.4).
func TestProviderMixUp(t *testing.T) {
	p := portaltest.New(t)
	_, owner := p.Account("Acme", people.Business)
	evil, honest := newProvider(t, p), newProvider(t, p)
	evilID, honestID := evil.add(t, p, ""), honest.add(t, p, "")
	begin := func(c *portaltest.Client, id string) *url.URL {
		t.Helper()
		u, err := url.Parse(c.Do("GET", "/login/oidc/"+id, nil).Header.Get("Location"))
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	attacker, victim := p.Stranger(), p.Stranger()
	own, theirs := begin(attacker, honestID), begin(victim, evilID)
	q := own.Query()
	q.Set("state", theirs.Query().Get("state"))
	own.RawQuery = q.Encode()
	honest.QueueUser(who("1", owner.Email, true))
	resp, err := honest.browser.Get(own.String())
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	back, ok := strings.CutPrefix(resp.Header.Get("Location"), p.Server.URL)
	if !ok || !strings.Contains(back, "code=") || !strings.HasPrefix(back, "/login/oidc/"+honestID+"/callback?") {
		t.Fatalf("%d %v", resp.StatusCode, resp.Header)
	}
	if a := victim.Do("GET", back, nil); a.Header.Get("Location") != "/login?ended=step" || cookieOf(victim, sessionCookie) != "" {
		t.Errorf("%d %v", a.Status, a.Header)
	}
	// One that says who it is (RFC 9207) must be the one that was asked.
	c := p.Stranger()
	back = honest.away(t, c, honestID, "/", who("1", owner.Email, true))
	if a := c.Do("GET", back+"&iss="+url.QueryEscape(evil.Issuer()), nil); a.Header.Get("Location") != "/login?ended=provider" || cookieOf(c, sessionCookie) != "" {
		t.Errorf("%d %v", a.Status, a.Header)
	}
	back = honest.away(t, c, honestID, "/", who("1", owner.Email, true))
	if a := c.Do("GET", back+"&iss="+url.QueryEscape(honest.Issuer()), nil); a.Header.Get("Location") != "/" || cookieOf(c, sessionCookie) == "" {
		t.Errorf("%d %v", a.Status, a.Header)
	}
}

// Strangers do not have a provider asked again and again that does not answer.
func TestProviderIsDown(t *testing.T) {
	p := portaltest.New(t)
	o := newProvider(t, p)
	var asked atomic.Int64
	down := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		http.Error(w, "down", http.StatusInternalServerError)
	}))
	t.Cleanup(down.Close)
	id := o.add(t, p, "")
	exec(t, p, "UPDATE providers SET issuer = ? WHERE id = ?", down.URL, id)
	var wg sync.WaitGroup
	for range 30 {
		wg.Go(func() {
			if a := p.Stranger().Do("GET", "/login/oidc/"+id, nil); a.Header.Get("Location") != "/login?ended=provider" {
				t.Errorf("%d %v", a.Status, a.Header)
			}
		})
	}
	wg.Wait()
	if n := asked.Load(); n != 1 {
		t.Errorf("it was asked %d times", n)
	}
}

func TestProviderSettings(t *testing.T) {
	p := portaltest.New(t)
	acc, owner := p.Account("Acme", people.Business)
	o := newProvider(t, p)
	op := p.Client(p.Operator())
	good := func(change obj) obj {
		in := obj{"label": "Corp", "issuer": o.Issuer(), "clientId": "c", "secret": "s", "domains": []string{"@Corp.Example"}, "account": acc.ID}
		for k, v := range change {
			in[k] = v
		}
		return in
	}
	for field, in := range map[string]obj{
		"label": {"label": ""}, "clientId": {"clientId": ""}, "secret": {"secret": ""}, "account": {"account": "x"}, "domains": {"domains": []string{}},
	} {
		if a := op.Do("POST", "/api/v1/operator/providers", good(in)); a.Status != http.StatusUnprocessableEntity || !strings.Contains(string(a.Body), `"field":"`+field+`"`) {
			t.Errorf("%s: %d %s", field, a.Status, a.Body)
		}
	}
	for _, issuer := range []string{"http://127.0.0.1/", "https://", "file:///etc/passwd", "https://a@b/", p.Server.URL} {
		if a := op.Do("POST", "/api/v1/operator/providers", good(obj{"issuer": issuer})); a.Status != http.StatusUnprocessableEntity || !strings.Contains(string(a.Body), `"field":"issuer"`) {
			t.Errorf("%s: %d %s", issuer, a.Status, a.Body)
		}
	}
	if a := p.Client(owner).Do("POST", "/api/v1/operator/providers", good(nil)); a.Status != http.StatusForbidden {
		t.Errorf("%d", a.Status)
	}
	// The id, by which the provider is told the way back before it is added.
	for _, id := range []string{"x", strings.Repeat("z", 26), strings.Repeat("0", 27), "../../../../../../../../x", "0000000000000000000000000/"} {
		if a := op.Do("POST", "/api/v1/operator/providers", good(obj{"id": id})); a.Status != http.StatusUnprocessableEntity || !strings.Contains(string(a.Body), `"field":"id"`) {
			t.Errorf("%s: %d %s", id, a.Status, a.Body)
		}
	}
	shown := regexp.MustCompile(`name="id" value="([0-9a-v]{26})"`).FindSubmatch(op.Do("GET", "/operator/signin", nil).Body)
	if shown == nil {
		t.Fatal("the page has no id of the provider to add")
	}
	in := good(obj{"id": string(shown[1])})
	op.JSON("POST", "/api/v1/operator/providers", in, nil)
	if a := op.Do("POST", "/api/v1/operator/providers", in); a.Status != http.StatusUnprocessableEntity {
		t.Errorf("the id twice: %d %s", a.Status, a.Body)
	}
	if a := op.Do("GET", "/operator/signin", nil); !strings.Contains(string(a.Body), "/login/oidc/"+string(shown[1])+"/callback</code>") {
		t.Errorf("%s", a.Body)
	}
	op.JSON("POST", "/api/v1/operator/providers", good(nil), nil)
	if a := op.Do("GET", "/operator/signin", nil); a.Status != http.StatusOK || !strings.Contains(string(a.Body), "corp.example") {
		t.Errorf("%d %s", a.Status, a.Body)
	}
}
