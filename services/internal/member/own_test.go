package member

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/bus"
	"github.com/parley-meet/parley/services/internal/connector"
	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/ticket"
	"github.com/parley-meet/parley/services/internal/zonecert"
)

// alone returns a controller without a token that is a zone of its own.
func alone(t *testing.T) (*machine, State) {
	t.Helper()
	m := newMachine(t, link.Controller, nil)
	m.save(func(s *connector.Settings) { s.PublicName = "meet.example.com" })
	m.start()
	return m, m.until("a zone of its own", func(s State) bool { return s.Standalone })
}

// identify has the bus judge the credentials of a state.
func identify(t *testing.T, s State) bus.Identity {
	t.Helper()
	z, err := bus.NewZone(*s.Credentials, s.Config)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := pem.Decode([]byte(s.Credentials.Certificate))
	c, err := x509.ParseCertificate(b.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	who, err := z.Identify([]*x509.Certificate{c}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return who
}

// A zone of its own works as a portal's does: for the bus, and for tickets.
func TestStandalone(t *testing.T) {
	m, s := alone(t)
	if who := identify(t, s); who.Role != link.Controller || who.Zone != Standalone || who.Serial != s.Config.Appliances[0].Serials[0] {
		t.Errorf("%+v", who)
	}
	if c := s.Config; c.PublicName != "meet.example.com" || !c.Production || !reflect.DeepEqual(c.Appliances[0].Addresses, []netip.Addr{netip.MustParseAddr("192.0.2.10")}) {
		t.Errorf("%+v", c)
	}
	if err := m.Event("meeting.started", 1); err != nil {
		t.Errorf("%v, want that it is dropped", err)
	}
	m.mu.Lock()
	m.status.Addresses = []netip.Addr{netip.MustParseAddr("192.0.2.11")}
	m.mu.Unlock()
	m.save(func(s *connector.Settings) {
		s.External = []connector.External{{Local: netip.MustParseAddr("192.0.2.11"), External: netip.MustParseAddr("203.0.113.1")}}
	})
	s2 := m.until("the other address", func(s State) bool { return len(s.Config.External) == 1 })
	if s2.Config.Generation <= s.Config.Generation || s2.Config.Appliances[0].Addresses[0] != netip.MustParseAddr("192.0.2.11") || s2.Credentials.Key != s.Credentials.Key {
		t.Errorf("%+v", s2.Config)
	}
	now := time.Now()
	claims := ticket.Claims{Issuer: Standalone, Zone: Standalone, Subject: "s", ID: "i", Account: "a", Name: "n", Role: ticket.Host,
		Meeting: ticket.Meeting{ID: "m", Number: "123456789"}, Issued: now, Expires: now.Add(ticket.TTL)}
	text, err := m.Sign(claims)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := s.Keys()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ticket.Verify(text, keys, ticket.Expect{Issuer: s.Issuer(), Zone: s.Credentials.Zone}, now); err != nil {
		t.Error(err)
	}
	claims.Zone = "other"
	if _, err := m.Sign(claims); err == nil {
		t.Error("a ticket of another zone is signed")
	}
	// A restart keeps the keys.
	m.stop()
	m.start()
	s3 := m.until("a zone of its own", func(s State) bool { return s.Standalone })
	if s3.Credentials.Authority != s.Credentials.Authority || string(s3.Config.Keys) != string(s.Config.Keys) {
		t.Error("other keys after a restart")
	}
	// Damaged, it begins afresh.
	m.stop()
	if err := os.WriteFile(filepath.Join(m.dir, ownZoneName), []byte(`{"version":1}`), 0o600); err != nil {
		t.Fatal(err)
	}
	m.start()
	s4 := m.until("a zone of its own", func(s State) bool { return s.Standalone })
	if s4.Credentials.Authority == s.Credentials.Authority {
		t.Error("the same authority")
	}
	identify(t, s4)
	// With a token it ends, whatever becomes of that.
	m.token(strings.Repeat("x", 40))
	s5 := m.until("a problem", problem("member-token-none"))
	if s5.Standalone || s5.Credentials != nil || s5.Config != nil {
		t.Errorf("%+v", s5)
	}
	if _, err := m.Sign(claims); err != ErrNoKey {
		t.Errorf("%v, want %v", err, ErrNoKey)
	}
	m.token("")
	if s6 := m.until("a zone of its own", func(s State) bool { return s.Standalone }); s6.Credentials.Authority != s4.Credentials.Authority {
		t.Error("another authority")
	}
}

// Certificates are made anew before they end, and when the clock was set back to
// before they begin.
func TestOwnClock(t *testing.T) {
	k := newKeep(t.TempDir(), newLog())
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	s, err := k.begin(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	refresh := func(now time.Time) *link.Config {
		t.Helper()
		if err := s.refresh("h", connector.New(), nil, now); err != nil {
			t.Fatal(err)
		}
		return s.config
	}
	first := refresh(at)
	if again := refresh(at.Add(24 * time.Hour)); again != first {
		t.Errorf("%+v, want the same", again)
	}
	if next := refresh(at.Add(5 * 24 * time.Hour)); next.Appliances[0].Serials[0] == first.Appliances[0].Serials[0] {
		t.Error("the certificate ends in two days")
	}
	if refresh(at); s.leaf.NotBefore.After(at) {
		t.Errorf("the certificate begins later, %v", s.leaf.NotBefore)
	}
	for _, now := range []time.Time{at.Add(-48 * time.Hour), at.Add(zonecert.AuthorityLife - 24*time.Hour)} {
		again, err := k.begin(t.Context(), now)
		if err != nil {
			t.Fatal(err)
		}
		if c := again.root; c.NotBefore.After(now) || c.NotAfter.Before(now.Add(zonecert.Rollover)) || again.key.ID != s.key.ID {
			t.Errorf("at %v: authority from %v to %v", now, again.root.NotBefore, again.root.NotAfter)
		}
	}
}

// A trial meeting lets in who has its links, for a day, over restarts.
func TestTrials(t *testing.T) {
	m, s := alone(t)
	now := time.Now()
	a, err := m.NewTrial(" Try it ", now)
	if err != nil {
		t.Fatal(err)
	}
	if a.Topic != "Try it" || a.Expires.Sub(a.Created) != TrialLife || len(a.Number) != 11 || len(a.Host) != 24 || a.Host == a.Guest {
		t.Errorf("%+v", a)
	}
	if link := TrialLink("192.0.2.10", a.Guest); link != "https://192.0.2.10/#trial="+a.Guest {
		t.Error(link)
	}
	keys, err := s.Keys()
	if err != nil {
		t.Fatal(err)
	}
	enter := func(code string, want ticket.Role) ticket.Claims {
		t.Helper()
		text, err := m.TrialTicket(code, "Ann", now)
		if err != nil {
			t.Fatal(err)
		}
		c, err := ticket.Verify(text, keys, ticket.Expect{Issuer: Standalone, Zone: Standalone, Meeting: a.Meeting}, now)
		if err != nil || c.Role != want || c.Name != "Ann" || c.Meeting.Topic != "Try it" || c.Meeting.Number != a.Number {
			t.Errorf("%+v, %v", c, err)
		}
		return c
	}
	one, two := enter(a.Host, ticket.Host), enter(a.Host, ticket.Host)
	if one.ID == two.ID || one.Subject == two.Subject {
		t.Error("two tickets are one")
	}
	enter(a.Guest, ticket.Guest)
	for code, want := range map[string]error{"": ErrNoTrial, a.Host[:23]: ErrNoTrial, a.Meeting: ErrNoTrial, a.Number: ErrNoTrial} {
		if _, err := m.TrialTicket(code, "Ann", now); err != want {
			t.Errorf("%q: %v, want %v", code, err, want)
		}
	}
	for name, want := range map[string]string{"": "name: required", "  ": "name: required", "a\x00b": "name: control-character", "a\u202eb": "name: control-character", strings.Repeat("x", 61): "name: long"} {
		if _, err := m.TrialTicket(a.Host, name, now); fault.Of(err) == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", name, err, want)
		}
	}
	if _, err := m.NewTrial(strings.Repeat("x", 121), now); fault.Of(err) == nil || err.Error() != "topic: long" {
		t.Errorf("%v", err)
	}
	var last Trial
	for range MaxTrials - 1 {
		if last, err = m.NewTrial("", now); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := m.NewTrial("", now); err != ErrTrials {
		t.Errorf("%v, want %v", err, ErrTrials)
	}
	if list := m.Trials(now); len(list) != MaxTrials || list[0].Meeting != last.Meeting {
		t.Errorf("%d, %+v", len(list), list[0])
	}
	if err := m.EndTrial(last.Meeting); err != nil {
		t.Error(err)
	}
	if err := m.EndTrial(last.Meeting); err != ErrNoTrial {
		t.Errorf("%v, want %v", err, ErrNoTrial)
	}
	if _, err := m.TrialTicket(last.Guest, "Ann", now); err != ErrNoTrial {
		t.Errorf("%v, want %v", err, ErrNoTrial)
	}
	m.stop()
	m.start()
	m.until("a zone of its own", func(s State) bool { return s.Standalone })
	if list := m.Trials(now); len(list) != MaxTrials-1 {
		t.Errorf("%d meetings after a restart", len(list))
	}
	enter(a.Host, ticket.Host)
	// A day later.
	now = a.Expires
	if _, err := m.TrialTicket(a.Host, "Ann", now); err != ErrNoTrial {
		t.Errorf("%v, want %v", err, ErrNoTrial)
	}
	if list := m.Trials(now); len(list) != 0 {
		t.Errorf("%+v", list)
	}
	if _, err := m.NewTrial("", now); err != nil {
		t.Error(err)
	}
	if list := m.Trials(now); len(list) != 1 {
		t.Errorf("%d, want the new one", len(list))
	}
	m.stop()
	for _, secret := range []string{a.Host, a.Guest, s.Credentials.Key} {
		if strings.Contains(m.logs.String(), secret) {
			t.Error("a secret is in the logs")
		}
	}
}

// Somebody with a link cannot have tickets signed without end.
func TestTrialRate(t *testing.T) {
	m, _ := alone(t)
	now := time.Now()
	a, err := m.NewTrial("", now)
	if err != nil {
		t.Fatal(err)
	}
	got := 0
	for range 2 * ticketBurst {
		switch _, err := m.TrialTicket(a.Guest, "Ann", now); {
		case err == nil:
			got++
		case !errors.Is(err, ErrRate):
			t.Fatal(err)
		}
	}
	if got != ticketBurst {
		t.Errorf("%d tickets at once, want %d", got, ticketBurst)
	}
	if _, err := m.TrialTicket(a.Guest, "Ann", now.Add(ticketEvery)); err != nil {
		t.Error(err)
	}
}

// What cannot be saved is not given out.
func TestTrialNotSaved(t *testing.T) {
	full := errors.New("no space")
	on := failWrites(t, full)
	m, _ := alone(t)
	on.Store(true)
	if _, err := m.NewTrial("", time.Now()); !errors.Is(err, full) {
		t.Errorf("%v, want %v", err, full)
	}
	on.Store(false)
	if list := m.Trials(time.Now()); len(list) != 0 {
		t.Errorf("%+v", list)
	}
	if _, err := m.NewTrial("", time.Now()); err != nil {
		t.Error(err)
	}
}

func FuzzOwnZone(f *testing.F) {
	k := newKeep(f.TempDir(), newLog())
	if _, err := k.begin(context.Background(), time.Now()); err != nil {
		f.Fatal(err)
	}
	b, err := os.ReadFile(k.own.Path())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"version":1,"trials":[]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		z, err := k.own.Parse(b)
		if err != nil {
			return
		}
		if _, _, err := z.issue(time.Now()); err != nil {
			t.Errorf("%s: %v", b, err)
		}
		if _, err := z.key(); err != nil || len(z.Trials) > MaxTrials {
			t.Errorf("%s: %v", b, err)
		}
	})
}
