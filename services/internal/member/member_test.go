package member

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/bus/bustest"
	"github.com/parley-meet/parley/services/internal/connector"
	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/portal/names"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/portaltest"
	"github.com/parley-meet/parley/services/internal/portal/zones"
	"github.com/parley-meet/parley/services/internal/ticket"
)

// From a token to the link: what the portal tells is there, it sees what the
// machine and its router do, and it all goes on after restarts, without the portal
// too.
func TestEnrol(t *testing.T) {
	z := bustest.New(t)
	m := newMachine(t, link.Controller, z.Portal.Roots())
	m.token(z.Token)
	m.start()
	s := m.until("the link", linked)
	if s.Credentials.Role != link.Controller || s.Config.Zone != "Office" || s.Issuer() != s.Config.Portal || len(s.Config.Appliances) != 1 {
		t.Errorf("%+v", s)
	}
	if keys, err := s.Keys(); err != nil || len(keys) == 0 {
		t.Errorf("keys %v, %v", keys, err)
	}
	if _, err := m.Sign(ticket.Claims{}); err != ErrNoKey {
		t.Errorf("%v, want %v", err, ErrNoKey)
	}
	if _, err := m.NewTrial("", time.Now()); err != ErrPortal {
		t.Errorf("%v, want %v", err, ErrPortal)
	}
	if err := m.Event("meeting.started", map[string]any{"meeting": "m", "run": "r", "participants": 1}); err != nil {
		t.Error(err)
	}
	// The machine's status and the router's come as one.
	m.mu.Lock()
	m.status.Limit = 0
	m.mu.Unlock()
	m.Report(Usage{Meetings: 2, Participants: 7, Limit: 200, SendBits: 5e6, ReceiveBits: 1e6, CPU: 0.25, Media: []uint16{8801}})
	portaltest.Wait(t, "the router's meetings at the portal", func() bool {
		list, err := z.Portal.All.Live.Appliances(t.Context(), z.Who.Account)
		if err != nil || len(list) != 1 {
			return false
		}
		st := list[0].Status
		return st.Meetings == 2 && st.Participants == 7 && st.Limit == 200 && st.SendBits == 5e6 && st.ReceiveBits == 1e6 && st.CPU == 0.25 &&
			slices.Contains(st.Services, link.Service{Name: "mmr", State: "ready"}) &&
			reflect.DeepEqual(st.Media, []uint16{8801}) && st.HTTPS == 443 && len(st.Addresses) == 1 && st.ConfigInUse > 0
	})
	portaltest.Wait(t, "the configuration on disk", func() bool { return len(m.files()) == 2 })
	m.stop()
	if s := m.State(); s.Credentials == nil || s.Config == nil {
		t.Error("a process that ends shows the router that there is no zone")
	}

	m.start()
	s2 := m.until("the link again", linked)
	if s2.Credentials.Appliance != s.Credentials.Appliance || len(appliances(t, z)) != 1 {
		t.Errorf("it was enrolled again: %d appliances", len(appliances(t, z)))
	}
	m.stop()
	z.Portal.Kill()
	m.start()
	s3 := m.until("a try", func(s State) bool { return s.Config != nil && s.Connection.Portal != "" })
	if s3.Connection.Connected || s3.Problem != nil || s3.Config.Zone != "Office" || s3.Credentials.Appliance != s.Credentials.Appliance {
		t.Errorf("without the portal: %+v", s3)
	}
	for _, secret := range []string{z.Token, s.Credentials.Key} {
		if strings.Contains(m.logs.String(), secret) {
			t.Error("a secret is in the logs")
		}
	}
}

// A token that is wrong says why, and does not touch the membership there is. A
// good one replaces it.
func TestTokens(t *testing.T) {
	z := bustest.New(t)
	m := newMachine(t, link.Router, z.Portal.Roots()).start()
	s := m.until("a problem", problem("member-no-token"))
	if s.Standalone || s.Credentials != nil {
		t.Errorf("a router alone: %+v", s)
	}
	if err := m.Event("x", nil); err != ErrAway {
		t.Errorf("%v, want %v", err, ErrAway)
	}
	m.token("parley2." + strings.Repeat("x", 40))
	m.until("a problem", problem("member-token-newer"))
	m.token(strings.Repeat("x", 40))
	m.until("a problem", problem("member-token-none"))
	m.token(z.Token[:len(z.Token)-1])
	m.until("a problem", problem("member-token-cut"))
	away := link.Token{URL: "https://127.0.0.1:1", ID: "x", Secret: secret(t)}
	m.token(away.String())
	m.until("a problem", problem("member-unreachable"))
	parsed, err := link.ParseToken(z.Token)
	if err != nil {
		t.Fatal(err)
	}
	parsed.Secret = secret(t)
	m.token(parsed.String())
	s = m.until("a problem", problem("member-refused"))
	if text, ok := s.Problem.Args[0].(string); !ok || text == "" {
		t.Errorf("%+v", s.Problem)
	}

	m.token(z.Token)
	first := m.until("the link", linked)
	// Another wrong one: the link goes on, also over a restart.
	m.token(parsed.String())
	s = m.until("a problem", problem("member-refused"))
	if s.Credentials == nil || s.Credentials.Appliance != first.Credentials.Appliance || !s.Connection.Connected {
		t.Errorf("the membership before is gone: %+v", s.Connection)
	}
	m.stop()
	m.start()
	s = m.until("a problem", func(s State) bool { return problem("member-refused")(s) && s.Connection.Connected })
	if s.Credentials.Appliance != first.Credentials.Appliance {
		t.Error("another appliance")
	}
	// Of another zone.
	other, err := z.Portal.All.Zones.Add(t.Context(), z.Who, "Branch")
	if err != nil {
		t.Fatal(err)
	}
	made, err := z.Portal.All.Zones.AddToken(t.Context(), z.Who, zones.TokenInput{Zone: other.ID, Title: "branch"})
	if err != nil {
		t.Fatal(err)
	}
	m.token(made.Secret)
	s = m.until("the other zone", func(s State) bool { return linked(s) && s.Config.Zone == "Branch" })
	if s.Credentials.Zone != other.ID || s.Credentials.Appliance == first.Credentials.Appliance {
		t.Errorf("%+v", s.Credentials)
	}
	portaltest.Wait(t, "one file of credentials", func() bool { return len(m.files()) == 2 })
	// Other settings change nothing of it.
	m.save(func(c *connector.Settings) { c.PublicName = "meet.example.com" })
	s = m.until("the name", func(s State) bool { return s.Settings.PublicName != "" })
	if s.Credentials.Appliance != appliances(t, z)[1].ID && s.Credentials.Appliance != appliances(t, z)[0].ID {
		t.Error("enrolled again")
	}
	// Without a token nothing is left of the zone.
	m.token("")
	m.until("a problem", problem("member-no-token"))
	if f := m.files(); len(f) != 0 {
		t.Errorf("left: %q", f)
	}
}

func secret(t *testing.T) string {
	t.Helper()
	s, err := link.NewSecret(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The way to the portal is the proxy's, where there is one.
func TestProxy(t *testing.T) {
	z := bustest.New(t)
	m := newMachine(t, link.Controller, z.Portal.Roots())
	m.token(z.Token)
	asked := make(chan string, 100)
	m.proxy = func(r *http.Request) (*url.URL, error) {
		asked <- r.URL.Host
		return url.Parse("http://anna:secret@127.0.0.1:1")
	}
	m.start()
	s := m.until("a problem", problem("member-unreachable"))
	if text := s.Problem.Args[0].(string); !strings.Contains(text, "127.0.0.1:1") || strings.Contains(text, "secret") {
		t.Error(text)
	}
	if host := <-asked; host != strings.TrimPrefix(z.Portal.Server.URL, "https://") {
		t.Error(host)
	}
	if strings.Contains(m.logs.String(), "secret") {
		t.Error("the proxy's password is in the logs")
	}
}

// Who is taken out of the zone knows nothing more of it, and comes back with
// another token.
func TestRevoked(t *testing.T) {
	z := bustest.New(t)
	m := newMachine(t, link.Controller, z.Portal.Roots())
	m.token(z.Token)
	m.start()
	first := m.until("the link", linked)
	portaltest.Wait(t, "the configuration on disk", func() bool { return len(m.files()) == 2 })
	if err := z.Portal.All.Zones.RemoveAppliance(t.Context(), z.Who, first.Credentials.Appliance); err != nil {
		t.Fatal(err)
	}
	s := m.until("a problem", problem("member-revoked"))
	if s.Credentials != nil || s.Config != nil || !s.Connection.NeedsToken() || s.Standalone {
		t.Errorf("%+v", s)
	}
	if f := m.files(); len(f) != 1 {
		t.Errorf("kept: %q", f)
	}
	list, err := z.Portal.All.Zones.Tokens(t.Context(), z.Who)
	if err != nil {
		t.Fatal(err)
	}
	made, err := z.Portal.All.Zones.AddToken(t.Context(), z.Who, zones.TokenInput{Zone: list[0].Zone, Title: "again"})
	if err != nil {
		t.Fatal(err)
	}
	m.token(made.Secret)
	if s = m.until("the link", linked); s.Credentials.Appliance == first.Credentials.Appliance {
		t.Error("the same appliance")
	}
	if err := z.Portal.All.Zones.Disable(t.Context(), z.Who); err != nil {
		t.Fatal(err)
	}
	m.until("a problem", problem("member-disabled"))
}

// Files that a power cut or somebody else spoiled cost what they held, and no
// more.
func TestDamaged(t *testing.T) {
	z := bustest.New(t)
	m := newMachine(t, link.Controller, z.Portal.Roots())
	m.token(z.Token)
	m.start()
	first := m.until("the link", linked)
	portaltest.Wait(t, "the configuration on disk", func() bool { return len(m.files()) == 2 })
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	settings := filepath.Join(m.set, connector.FileName)
	good, err := os.ReadFile(settings)
	if err != nil {
		t.Fatal(err)
	}
	// The settings, while it runs and after a restart.
	write(settings, "{")
	s := m.until("a problem", problem("member-settings"))
	if s.Credentials == nil || !s.Connection.Connected || s.Settings.Token != z.Token {
		t.Errorf("%+v", s)
	}
	m.stop()
	m.start()
	s = m.until("the link", func(s State) bool { return problem("member-settings")(s) && s.Connection.Connected })
	if s.Credentials.Appliance != first.Credentials.Appliance {
		t.Error("another appliance")
	}
	m.stop()
	write(settings, string(good))
	// The configuration: the portal tells it anew.
	write(filepath.Join(m.dir, configName), `{"version":1,"appliance":`)
	m.start()
	if s = m.until("the link", linked); s.Credentials.Appliance != first.Credentials.Appliance {
		t.Error("another appliance")
	}
	m.stop()
	// The credentials: enrolled again, once.
	write(m.keep.path(z.Token), `{"version":1,"credentials":{}`)
	m.start()
	if s = m.until("the link", linked); s.Credentials.Appliance == first.Credentials.Appliance || len(appliances(t, z)) != 2 {
		t.Errorf("%d appliances", len(appliances(t, z)))
	}
	m.stop()
	// Credentials that everybody can read are not used, and not replaced silently.
	if err := os.Chmod(m.keep.path(z.Token), 0o644); err != nil {
		t.Fatal(err)
	}
	m.start()
	if s = m.until("a problem", problem("member-read")); s.Credentials != nil {
		t.Errorf("%+v", s)
	}
}

// What the portal told is for the appliance that it told, and for no other one
// that the machine becomes.
func TestToldAnother(t *testing.T) {
	k := newKeep(t.TempDir(), newLog())
	c := link.Credentials{Appliance: "a", Zone: "z"}
	if k.told(c) != nil {
		t.Error("something was told")
	}
	want := link.Config{Generation: 7, Zone: "Office", Appliances: []link.Peer{}, Keys: json.RawMessage(`null`)}
	if err := k.tell(t.Context(), c, want); err != nil {
		t.Fatal(err)
	}
	if got := k.told(c); got == nil || !reflect.DeepEqual(*got, want) {
		t.Errorf("%+v", got)
	}
	for _, other := range []link.Credentials{{Appliance: "b", Zone: "z"}, {Appliance: "a", Zone: "y"}} {
		if got := k.told(other); got != nil {
			t.Errorf("%+v is told %+v", other, got)
		}
	}
}

// An enrolment that cannot be saved is not used, and not asked for again: it is
// saved when it can be.
func TestSavedBeforeUse(t *testing.T) {
	z := bustest.New(t)
	m := newMachine(t, link.Controller, z.Portal.Roots())
	full := failWrites(t, syscall.ENOSPC)
	m.start()
	m.until("a zone of its own", func(s State) bool { return s.Standalone })
	full.Store(true)
	settings := connector.New()
	settings.Token = z.Token
	b, err := json.Marshal(settings)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(m.set, connector.FileName), b, 0o600); err != nil {
		t.Fatal(err)
	}
	s := m.until("a problem", problem("member-save"))
	if s.Credentials != nil || s.Standalone {
		t.Errorf("%+v", s)
	}
	full.Store(false)
	m.until("the link", linked)
	if n := len(appliances(t, z)); n != 1 {
		t.Errorf("enrolled %d times", n)
	}
}

// What goes wrong with the portal is told apart.
func TestJudge(t *testing.T) {
	for _, c := range []struct {
		err   error
		code  string
		again bool
	}{
		{&link.RefusedError{Status: 401, Code: "token", Message: "no"}, "member-refused", true},
		{&link.RefusedError{Status: 503, Code: "busy", Message: "later"}, "member-busy", true},
		{&link.RefusedError{Status: 404}, "member-answer", true},
		{x509.UnknownAuthorityError{}, "member-untrusted", true},
		{errors.New("x\x1b\u202e" + strings.Repeat("y", 1000)), "member-unreachable", true},
		{link.ErrCutToken, "member-token-cut", false},
	} {
		var e enrolment
		now := time.Now()
		e.failed(c.err, now)
		if e.problem.Code != c.code || e.never == c.again {
			t.Errorf("%v: %+v", c.err, e)
		}
		if c.again && (e.next.Before(now.Add(enrolLeast)) || e.next.After(now.Add(2*enrolRefused))) {
			t.Errorf("%v: again after %v", c.err, e.next.Sub(now))
		}
		for _, a := range e.problem.Args {
			if s, ok := a.(string); !ok || len([]rune(s)) > 301 || strings.ContainsAny(s, "\x1b\u202e") {
				t.Errorf("%v: %q", c.err, a)
			}
		}
	}
}

// The key for browsers is made for the name that the portal gives, kept, and goes
// with the chain that comes for it alone.
func TestBrowsers(t *testing.T) {
	z := bustest.New(t)
	m := newMachine(t, link.Controller, z.Portal.Roots())
	m.token(z.Token)
	m.start()
	s := m.until("the link", linked)
	if err := z.Portal.All.Zones.SetNames(t.Context(), z.Who, s.Credentials.Appliance, zones.NamesInput{PublicName: "meet.example.com", External: []string{}}); err != nil {
		t.Fatal(err)
	}
	owner := z.Portal.Client(people.User{ID: z.Who.User, Account: z.Who.Account})
	portaltest.Wait(t, "the order", func() bool {
		var list []names.Order
		owner.JSON("GET", "/api/v1/connector/certificates", nil, &list)
		return len(list) == 1 && list[0].Name == "meet.example.com"
	})
	first, err := os.ReadFile(filepath.Join(m.dir, browsersName))
	if err != nil {
		t.Fatal(err)
	}
	m.stop()
	m.start()
	m.until("the link", linked)
	if again, err := os.ReadFile(filepath.Join(m.dir, browsersName)); err != nil || string(again) != string(first) {
		t.Errorf("another key: %v", err)
	}
	m.stop()
	r, err := m.keep.browsers.Load()
	if err != nil {
		t.Fatal(err)
	}
	cfg := &link.Config{PublicName: "meet.example.com", Chain: chain(t, r, nil)}
	if c := shown(r, cfg); c == nil {
		t.Error("the chain is not shown")
	} else if p, err := c.Pair(); err != nil || p.Leaf.DNSNames[0] != "meet.example.com" {
		t.Errorf("%v", err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for what, bad := range map[string]*link.Config{
		"none":         nil,
		"another name": {PublicName: "other.example.com", Chain: cfg.Chain},
		"another key":  {PublicName: "meet.example.com", Chain: chain(t, r, other)},
		"no chain":     {PublicName: "meet.example.com", Chain: "x"},
	} {
		if shown(r, bad) != nil {
			t.Errorf("%s is shown", what)
		}
	}
}

// chain signs a request, or another key in its name.
func chain(t *testing.T, r request, key *ecdsa.PrivateKey) string {
	t.Helper()
	b, _ := pem.Decode([]byte(r.Request))
	q, err := x509.ParseCertificateRequest(b.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	public := q.PublicKey
	if key != nil {
		public = key.Public()
	}
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: q.DNSNames, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, public, signer)
	if err != nil {
		t.Fatal(err)
	}
	return block("CERTIFICATE", der)
}
