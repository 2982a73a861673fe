package zones

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"net/netip"
	"net/url"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/portal/live"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/store"
	"github.com/parley-meet/parley/services/internal/portal/store/storetest"
	"github.com/parley-meet/parley/services/internal/portal/vault"
	"github.com/parley-meet/parley/services/internal/zonecert"
)

// states are appliances as a test has them.
type states []live.State

func (s *states) Appliances(context.Context, string) ([]live.State, error) { return *s, nil }

// rig is a database with the service, and a clock that the test turns.
type rig struct {
	*testing.T
	db    *store.DB
	s     *Service
	clock time.Time
	live  states
}

func each(t *testing.T, test func(r *rig)) {
	storetest.Each(t, func(t *testing.T, address string) {
		db, err := store.Open(t.Context(), address, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { db.Close() })
		v, err := vault.New(make([]byte, 32))
		if err != nil {
			t.Fatal(err)
		}
		r := &rig{T: t, db: db, clock: time.Now()}
		r.s = New(Config{DB: db, Vault: v, URL: &url.URL{Scheme: "https", Host: "portal.example"}, Live: &r.live})
		r.s.now = func() time.Time { return r.clock }
		test(r)
	})
}

func (r *rig) write(f func(tx *store.Tx) error) {
	r.Helper()
	if err := r.db.Write(r.Context(), f); err != nil {
		r.Fatal(err)
	}
}

// account makes one with an owner; with a zone it has the connector.
func (r *rig) account(name string, kind people.Type, zone string) people.Actor {
	r.Helper()
	var who people.Actor
	r.write(func(tx *store.Tx) error {
		a, err := people.InsertAccount(tx, people.Account{Name: name, Type: kind, DefaultKind: people.KindBasic})
		if err != nil {
			return err
		}
		u, err := people.InsertUser(tx, people.User{Account: a.ID, Email: "owner@" + a.ID + ".example", Name: name, Role: people.Owner, State: people.Active})
		who = people.Actor{User: u.ID, Account: a.ID, Name: name, Email: u.Email, Role: people.Owner, Via: "web"}
		return err
	})
	if zone != "" {
		r.ok(r.s.Enable(r.Context(), who, zone))
	}
	return who
}

func (r *rig) ok(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// refused wants a fault of a code.
func (r *rig) refused(err error, code string) {
	r.Helper()
	if l := fault.Of(err); len(l) == 0 || l[0].Code != code {
		r.Errorf("%v, want %s", err, code)
	}
}

func (r *rig) is(err, want error) {
	r.Helper()
	if !errors.Is(err, want) {
		r.Errorf("%v, want %v", err, want)
	}
}

func (r *rig) zone(who people.Actor) Zone {
	r.Helper()
	c, err := r.s.Get(r.Context(), who)
	r.ok(err)
	return c.Zones[0]
}

func (r *rig) token(who people.Actor, days int) MadeToken {
	r.Helper()
	m, err := r.s.AddToken(r.Context(), who, TokenInput{Zone: r.zone(who).ID, Title: "T", Days: days})
	r.ok(err)
	return m
}

// request is a signing request for a new key.
func request(t testing.TB) (string, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "ignored"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})), key
}

var from = netip.MustParseAddr("192.0.2.7")

func (r *rig) try(secret string) (link.EnrolAnswer, error) {
	r.Helper()
	csr, _ := request(r)
	return r.s.Enrol(r.Context(), secret, from, link.EnrolRequest{Role: link.Controller, Host: "zc", Version: "1", Request: csr})
}

func (r *rig) enrol(m MadeToken) (string, *x509.Certificate) {
	r.Helper()
	a, err := r.try(m.Secret)
	r.ok(err)
	return a.Appliance, leaf(r, a.Certificate)
}

func leaf(t testing.TB, text string) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		t.Fatalf("no certificate in %q", text)
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestEnable(t *testing.T) {
	each(t, func(r *rig) {
		ctx := r.Context()
		r.is(r.s.Enable(ctx, r.account("Basic", people.Basic, ""), "Z"), ErrType)
		who := r.account("Acme", people.Business, "")
		_, err := r.s.Add(ctx, who, "Z")
		r.is(err, ErrOff)
		r.refused(r.s.Enable(ctx, who, " \t"), "required")
		r.ok(r.s.Enable(ctx, who, "  Berlin  Mitte "))
		r.ok(r.s.Enable(ctx, who, "Another")) // changes nothing
		c, err := r.s.Get(ctx, who)
		r.ok(err)
		if len(c.Zones) != 1 || c.Zones[0].Name != "Berlin Mitte" || c.Account.Enabled.IsZero() {
			r.Errorf("%+v", c)
		}
		_, err = r.s.Add(ctx, who, "Berlin Mitte")
		r.refused(err, "name-taken")
		r.refused(r.s.Remove(ctx, who, c.Zones[0].ID), "zone-last")
		m := r.token(who, 0)
		id, cert := r.enrol(m)
		r.ok(r.s.Disable(ctx, who))
		r.is(r.check(id), live.ErrDisabled)
		_, err = r.s.Identify(ctx, cert)
		r.is(err, live.ErrDisabled)
		_, err = r.try(m.Secret)
		r.is(err, ErrOff)
		// Everything is kept, and comes back.
		r.ok(r.s.Enable(ctx, who, "Other"))
		r.ok(r.check(id))
		if z := r.zone(who); z.ID != c.Zones[0].ID {
			r.Errorf("another zone: %+v", z)
		}
	})
}

func TestTokens(t *testing.T) {
	each(t, func(r *rig) {
		ctx := r.Context()
		who := r.account("Acme", people.Business, "Z")
		_, err := r.s.AddToken(ctx, who, TokenInput{Zone: "none", Title: "T"})
		r.refused(err, "unknown-choice")
		_, err = r.s.AddToken(ctx, who, TokenInput{Zone: r.zone(who).ID, Title: "T", Days: maxDays + 1})
		r.refused(err, "number")
		old := r.token(who, 1)
		for _, wrong := range []string{"", "x", old.Token.ID, old.Secret[:len(old.Secret)-1], old.Secret + "0"} {
			_, err := r.try(wrong)
			r.is(err, ErrToken)
		}
		r.enrol(old)
		_, err = r.s.RotateToken(ctx, who, old.Token.ID, maxGrace+1)
		r.refused(err, "number")
		r.clock = r.clock.Add(time.Minute)
		next, err := r.s.RotateToken(ctx, who, old.Token.ID, 2)
		r.ok(err)
		r.enrol(old) // within the grace
		r.clock = r.clock.Add(2*time.Hour + time.Second)
		_, err = r.try(old.Secret)
		r.is(err, ErrToken)
		_, err = r.s.RotateToken(ctx, who, old.Token.ID, 2)
		r.refused(err, "token-ended")
		id, _ := r.enrol(next)
		r.clock = r.clock.Add(24 * time.Hour)
		_, err = r.try(next.Secret)
		r.is(err, ErrToken)
		list, err := r.s.Tokens(ctx, who)
		r.ok(err)
		if len(list) != 2 || list[0].ID != next.Token.ID || list[0].Appliances+list[1].Appliances != 3 {
			r.Errorf("%+v", list)
		}
		// Without appliances they stay; with them they are out, and no others.
		r.ok(r.s.RevokeToken(ctx, who, next.Token.ID, false))
		r.ok(r.check(id))
		r.ok(r.s.RevokeToken(ctx, who, next.Token.ID, true))
		r.is(r.check(id), live.ErrRevoked)
		left, err := r.s.Appliances(ctx, who)
		r.ok(err)
		if len(left) != 2 {
			r.Errorf("%+v", left)
		}
		forever := r.token(who, 0)
		r.clock = r.clock.Add(5 * 365 * 24 * time.Hour)
		if !forever.Token.Good(r.clock) {
			r.Error("a token without an end has ended")
		}
	})
}

// check reports whether an appliance may be linked.
func (r *rig) check(id string) error {
	_, err := r.s.Config(r.Context(), id)
	return err
}

// Whose certificate it is: none but the one shown last and the newest that
// the appliance's own zone issued.
func TestIdentify(t *testing.T) {
	each(t, func(r *rig) {
		ctx := r.Context()
		a, b := r.account("A", people.Business, "Z"), r.account("B", people.Business, "Z")
		id, first := r.enrol(r.token(a, 0))
		other, _ := r.enrol(r.token(b, 0))
		got, err := r.s.Identify(ctx, first)
		r.ok(err)
		if got.Appliance != id || got.Zone != r.zone(a).ID || got.Account != a.Account || got.Role != link.Controller {
			r.Errorf("%+v", got)
		}

		renew := func(shown *x509.Certificate) *x509.Certificate {
			csr, key := request(r)
			out, err := r.s.Renew(ctx, id, shown.SerialNumber.Text(16), link.Renew{For: "link", Request: csr})
			r.ok(err)
			c := leaf(r, out.Certificate)
			if !key.PublicKey.Equal(c.PublicKey) {
				r.Error("the certificate is for another key")
			}
			return c
		}
		// Answers may be lost, again and again: the certificate that is shown stays
		// good until the next one is shown.
		lost := renew(first)
		second := renew(first)
		for _, c := range []*x509.Certificate{first, second} {
			if _, err := r.s.Identify(ctx, c); err != nil {
				r.Error(err)
			}
		}
		third := renew(second)
		for _, c := range []*x509.Certificate{first, lost} {
			_, err = r.s.Identify(ctx, c)
			r.is(err, live.ErrRevoked)
		}

		// A request that was held up in a network comes by a connection that showed
		// the certificate before: nothing that was issued since is spoiled.
		csr, _ := request(r)
		_, err = r.s.Renew(ctx, id, first.SerialNumber.Text(16), link.Renew{For: "link", Request: csr})
		r.is(err, live.ErrRevoked) // long since renewed
		fourth := renew(third)
		renew(third) // late
		for _, c := range []*x509.Certificate{third, fourth} {
			if _, err := r.s.Identify(ctx, c); err != nil {
				r.Error(err)
			}
		}
		for range 3 * maxSerials {
			renew(third)
		}
		_, err = r.s.Identify(ctx, third)
		r.ok(err)
		r.write(func(tx *store.Tx) error {
			a, err := getAppliance(tx, id)
			if n := len(serials(a.Serial, a.Previous)); n != 1+maxSerials {
				r.Errorf("%d certificates are good", n)
			}
			return err
		})

		// B's authority signs for A's appliance, in A's zone's name and in its own.
		forge := func(signer people.Actor, zone, id string, change func(*x509.Certificate)) *x509.Certificate {
			csr, key := request(r)
			_ = csr
			var out *x509.Certificate
			r.write(func(tx *store.Tx) error {
				list, err := r.s.authorities(tx, r.zone(signer).ID)
				if err != nil {
					return err
				}
				pkcs8, err := r.s.cfg.Vault.Open(keyPurpose, list[0].id, list[0].sealed)
				if err != nil {
					return err
				}
				k, err := x509.ParsePKCS8PrivateKey(pkcs8)
				if err != nil {
					return err
				}
				c := &x509.Certificate{SerialNumber: third.SerialNumber, NotBefore: r.clock.Add(-time.Hour), NotAfter: r.clock.Add(time.Hour),
					Subject:     pkix.Name{CommonName: id, OrganizationalUnit: third.Subject.OrganizationalUnit},
					ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, URIs: []*url.URL{zonecert.URI(zone, id)}}
				if change != nil {
					change(c)
				}
				der, err := x509.CreateCertificate(rand.Reader, c, list[0].cert, key.Public(), k)
				if err != nil {
					return err
				}
				out, err = x509.ParseCertificate(der)
				return err
			})
			return out
		}
		zoneA, zoneB := r.zone(a).ID, r.zone(b).ID
		if _, err := r.s.Identify(ctx, forge(a, zoneA, id, nil)); err != nil {
			r.Fatalf("the control must pass: %v", err)
		}
		_, err = r.s.Identify(ctx, forge(b, zoneA, id, nil))
		r.is(err, live.ErrForeign)
		_, err = r.s.Identify(ctx, forge(b, zoneB, id, nil))
		r.is(err, live.ErrRevoked)
		_, err = r.s.Identify(ctx, forge(b, zoneB, other, nil)) // a serial that was not issued
		r.is(err, live.ErrRevoked)
		_, err = r.s.Identify(ctx, forge(a, zoneA, id, func(c *x509.Certificate) { c.NotAfter = r.clock.Add(-time.Minute) }))
		r.is(err, live.ErrExpired)
		_, err = r.s.Identify(ctx, forge(b, zoneA, id, func(c *x509.Certificate) { c.NotAfter = r.clock.Add(-time.Minute) }))
		r.is(err, live.ErrForeign)
		_, err = r.s.Identify(ctx, forge(a, zoneA, id, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }))
		r.is(err, live.ErrForeign)
		_, err = r.s.Identify(ctx, forge(a, zoneA, id, func(c *x509.Certificate) { c.URIs = nil }))
		r.is(err, live.ErrForeign)
		_, err = r.s.Identify(ctx, forge(a, zoneA, id, func(c *x509.Certificate) { c.Subject.CommonName = other }))
		r.is(err, live.ErrForeign)
		_, key := request(r)
		own := &x509.Certificate{SerialNumber: third.SerialNumber, NotBefore: third.NotBefore, NotAfter: third.NotAfter, URIs: third.URIs, Subject: third.Subject,
			ExtKeyUsage: third.ExtKeyUsage}
		der, err := x509.CreateCertificate(rand.Reader, own, own, key.Public(), key)
		r.ok(err)
		self, err := x509.ParseCertificate(der)
		r.ok(err)
		_, err = r.s.Identify(ctx, self)
		r.is(err, live.ErrForeign)

		r.clock = r.clock.Add(zonecert.LeafLife + time.Hour)
		_, err = r.s.Identify(ctx, third)
		r.is(err, live.ErrExpired)
		last := renew(third) // a link that stood all the time heals it
		r.ok(r.s.RemoveAppliance(ctx, a, id))
		_, err = r.s.Identify(ctx, last)
		r.is(err, live.ErrRevoked)
		csr, _ = request(r)
		_, err = r.s.Renew(ctx, id, last.SerialNumber.Text(16), link.Renew{For: "link", Request: csr})
		r.is(err, live.ErrRevoked)
	})
}

// What belongs to another account is as what is not there.
func TestIsolation(t *testing.T) {
	each(t, func(r *rig) {
		ctx := r.Context()
		a, b := r.account("A", people.Business, "Z"), r.account("B", people.Business, "Z")
		zone, m := r.zone(a).ID, r.token(a, 0)
		id, _ := r.enrol(m)
		for name, call := range map[string]func() error{
			"rename":  func() error { return r.s.Rename(ctx, b, zone, "X") },
			"remove":  func() error { return r.s.Remove(ctx, b, zone) },
			"allowed": func() error { _, err := r.s.Allowed(ctx, b, zone); return err },
			"allow":   func() error { return r.s.Allow(ctx, b, zone, Allowed{}) },
			"names":   func() error { return r.s.SetNames(ctx, b, id, NamesInput{PublicName: "a.example.com"}) },
			"out":     func() error { return r.s.RemoveAppliance(ctx, b, id) },
			"rotate":  func() error { _, err := r.s.RotateToken(ctx, b, m.Token.ID, 1); return err },
			"revoke":  func() error { return r.s.RevokeToken(ctx, b, m.Token.ID, true) },
		} {
			if err := call(); !errors.Is(err, people.ErrUnknown) {
				r.Errorf("%s: %v", name, err)
			}
		}
		r.ok(r.check(id))
		if list, err := r.s.Appliances(ctx, b); err != nil || len(list) != 0 {
			r.Errorf("%v, %v", list, err)
		}
		if list, err := r.s.Tokens(ctx, b); err != nil || len(list) != 0 {
			r.Errorf("%v, %v", list, err)
		}
		other, _ := r.enrol(r.token(b, 0))
		r.ok(r.s.SetNames(ctx, a, id, NamesInput{PublicName: "Meet.Example.com.", External: []string{"203.0.113.9", "2001:db8::1"}}))
		// Who claims a name first keeps nobody else from it, and is not told who has it.
		r.ok(r.s.SetNames(ctx, b, other, NamesInput{PublicName: "meet.example.com"}))
		second, _ := r.enrol(r.token(b, 0))
		r.refused(r.s.SetNames(ctx, b, second, NamesInput{PublicName: "meet.example.com"}), "public-name-taken")
		r.refused(r.s.SetNames(ctx, b, other, NamesInput{External: []string{"127.0.0.1"}}), "external-address")
		c, err := r.s.Config(ctx, id)
		r.ok(err)
		if c.PublicName != "meet.example.com" || len(c.External) != 2 || len(c.Appliances) != 1 || c.Appliances[0].ID != id || c.Production {
			r.Errorf("%+v", c)
		}
	})
}
