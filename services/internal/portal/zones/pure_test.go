package zones

import (
	"encoding/pem"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/portal/live"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/store"
)

func TestJudge(t *testing.T) {
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	good := func(role link.Role) live.State {
		st := live.State{Appliance: string(role), Role: role, Host: string(role), Contact: now.Add(-time.Second)}
		st.Status = link.Status{HTTPS: 443, Media: []uint16{8801}, Clock: st.Contact, Synced: true,
			Certificate: &link.Certificate{Names: []string{"*.example.com"}, Expires: now.Add(certWarning + time.Hour), Trusted: true}}
		return st
	}
	c, m := good(link.Controller), good(link.Router)
	both := good(link.Controller)
	both.Status.Services = []link.Service{{Name: "mmr", State: "ready"}}
	with := func(st live.State, change func(*live.State)) live.State {
		if st.Status.Certificate != nil {
			c := *st.Status.Certificate
			st.Status.Certificate = &c
		}
		change(&st)
		return st
	}
	for _, x := range []struct {
		name string
		list []live.State
		want string // states in the order of the checks
	}{
		{"nothing", nil, "bad bad unknown unknown unknown"},
		{"two machines", []live.State{c, m}, "good good good good good"},
		{"a controller that holds a router", []live.State{both}, "good good good good good"},
		{"no router", []live.State{c}, "good bad good good good"},
		{"a router alone", []live.State{m}, "bad good good good unknown"},
		{"silent", []live.State{with(both, func(s *live.State) { s.Contact = now.Add(-link.SilentAfter - time.Second) })}, "bad bad unknown unknown unknown"},
		{"a port not reached", []live.State{with(both, func(s *live.State) { s.Status.Unreachable = []string{"udp 8801"} })}, "good good warn good good"},
		{"no https", []live.State{with(both, func(s *live.State) { s.Status.HTTPS = 0 })}, "good good warn good good"},
		{"no media", []live.State{c, with(m, func(s *live.State) { s.Status.Media = nil })}, "good good warn good good"},
		{"clock behind", []live.State{with(both, func(s *live.State) { s.Status.Clock = s.Contact.Add(-clockOff - time.Second) })}, "good good good warn good"},
		{"clock ahead", []live.State{with(both, func(s *live.State) { s.Status.Clock = s.Contact.Add(clockOff + time.Second) })}, "good good good warn good"},
		{"clock alone", []live.State{with(both, func(s *live.State) { s.Status.Synced = false })}, "good good good warn good"},
		{"certificate not trusted", []live.State{with(both, func(s *live.State) { s.Status.Certificate.Trusted = false })}, "good good good good warn"},
		{"certificate ends", []live.State{with(both, func(s *live.State) { s.Status.Certificate.Expires = now.Add(certWarning - time.Hour) })}, "good good good good warn"},
		{"certificate for another name", []live.State{with(both, func(s *live.State) { s.Status.Certificate.Names = []string{"*.meet.example.com", "example.com"} })}, "good good good good warn"},
		{"no certificate", []live.State{with(both, func(s *live.State) { s.Status.Certificate = nil })}, "good good good good warn"},
	} {
		r := judge(x.list, map[string]string{"controller": "meet.example.com"}, now)
		var got []string
		for _, check := range r.Checks {
			got = append(got, check.State)
		}
		s := strings.Join(got, " ")
		if s != x.want || r.Ready != strings.HasPrefix(s, "good good") || r.Warnings != (strings.Count(strings.Join(got[2:], " "), "good") < 3) {
			t.Errorf("%s: %s, ready %v, warnings %v; want %s", x.name, s, r.Ready, r.Warnings, x.want)
		}
	}
}

func TestMayHost(t *testing.T) {
	each(t, func(r *rig) {
		ctx := r.Context()
		owner := r.account("Acme", people.Business, "Z")
		off := r.account("Off", people.Business, "")
		may := func(account string, role people.Role, kind people.Kind, state people.State) error {
			r.Helper()
			var err error
			r.write(func(tx *store.Tx) error {
				id := store.NewID()
				u, e := people.InsertUser(tx, people.User{ID: id, Account: account, Email: id + "@example.com", Name: "N", Role: role, Kind: kind, State: state})
				if e != nil {
					return e
				}
				var z []Zone
				if z, err = MayHost(tx, u); err == nil && len(z) == 0 {
					err = errors.New("no zone and no reason")
				}
				return nil
			})
			return err
		}
		r.is(may(off.Account, people.Member, people.KindOnPrem, people.Active), ErrOff)
		r.is(may(owner.Account, people.Member, people.KindOnPrem, people.Active), ErrTest)
		r.is(may(owner.Account, people.Member, people.KindBasic, people.Active), ErrKind)
		r.ok(may(owner.Account, people.Admin, people.KindBasic, people.Active))
		r.is(may(owner.Account, people.Admin, people.KindBasic, people.Suspended), ErrSuspended)
		now := time.Now()
		st := live.State{Role: link.Controller, Host: "zc", Contact: now}
		st.Status = link.Status{Services: []link.Service{{Name: "mmr", State: "ready"}}, Clock: now, Synced: true}
		r.refused(r.s.SetProduction(ctx, owner, true, true), "not-ready")
		r.live, r.clock = states{st}, now
		r.refused(r.s.SetProduction(ctx, owner, true, false), "accept-warnings")
		r.ok(r.s.SetProduction(ctx, owner, true, true))
		r.ok(may(owner.Account, people.Member, people.KindOnPrem, people.Active))
		r.is(may(owner.Account, people.Member, people.KindBasic, people.Active), ErrKind)
		r.is(may(owner.Account, people.Admin, people.KindBasic, people.Active), ErrKind)
		r.ok(r.s.Allow(ctx, owner, r.zone(owner).ID, Allowed{Users: []string{owner.User}}))
		r.is(may(owner.Account, people.Member, people.KindOnPrem, people.Active), ErrNoZone)
		r.ok(r.s.SetProduction(ctx, owner, false, false))
		if c, err := r.s.Get(ctx, owner); err != nil || !c.Account.Production.IsZero() {
			r.Errorf("%+v, %v", c, err)
		}
	})
}

func TestDNSName(t *testing.T) {
	for in, want := range map[string]string{
		"meet.example.com": "meet.example.com", " Meet.Example.COM. ": "meet.example.com", "встреча.рф": "xn--80adj7beg1b.xn--p1ai",
		"": "", "meet": "", "192.0.2.1": "", "-a.example": "", "a_b.example": "", "*.example.com": "", "a..b": "", strings.Repeat("a", 64) + ".example": "", "a b.example": "",
	} {
		if got, ok := dnsName(in); got != want || ok != (want != "") {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func FuzzParseRequest(f *testing.F) {
	good, _ := request(f)
	f.Add(good)
	f.Add(good + "x")
	f.Add(strings.Replace(good, "M", "N", 1))
	f.Add(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST"})))
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseRequest(text)
		if (r == nil) == (err == nil) {
			t.Fatalf("%v, %v", r, err)
		}
		if err == nil && r.CheckSignature() != nil {
			t.Error("a request is taken whose signature is wrong")
		}
	})
}
