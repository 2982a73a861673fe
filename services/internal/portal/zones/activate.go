package zones

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/portal/live"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/store"
)

// Limits of the checks before production.
const (
	clockOff    = 30 * time.Second
	certWarning = 14 * 24 * time.Hour
)

// Check is a line of the checklist. Codes are "controller", "router", "ports",
// "clock", "certificate".
type Check struct {
	Code   string `json:"code"`
	State  string `json:"state"` // "good", "warn", "bad", "unknown"
	Must   bool   `json:"must"`  // no production without it
	Detail string `json:"detail,omitempty"`
}

// Readiness is whether an account can go to production.
type Readiness struct {
	Production time.Time `json:"production,omitzero"` // since when it is there
	Checks     []Check   `json:"checks"`
	Ready      bool      `json:"ready"` // all that must be good are
	Warnings   bool      `json:"warnings"`
}

// Readiness looks at the account's appliances now.
func (s *Service) Readiness(ctx context.Context, who people.Actor) (Readiness, error) {
	c, err := s.Get(ctx, who)
	if err != nil {
		return Readiness{}, err
	}
	states, err := s.cfg.Live.Appliances(ctx, who.Account)
	if err != nil {
		return Readiness{}, err
	}
	list, err := s.Appliances(ctx, who)
	if err != nil {
		return Readiness{}, err
	}
	names := map[string]string{}
	for _, a := range list {
		names[a.ID] = a.PublicName
	}
	r := judge(states, names, s.now())
	r.Production = c.Account.Production
	return r, nil
}

// BrowserCertificate judges what a controller with a public name shows browsers:
// "good", "none", "expired", "untrusted", or "name" when it is for other names.
func BrowserCertificate(c *link.Certificate, name string, now time.Time) string {
	switch {
	case c == nil:
		return "none"
	case !now.Before(c.Expires):
		return "expired"
	case !c.Trusted:
		return "untrusted"
	case name != "" && !slices.ContainsFunc(c.Names, func(n string) bool { return covers(n, name) }):
		return "name"
	}
	return "good"
}

// covers reports whether a name of a certificate is good for a host (RFC 6125,
// 6.4.3: a star is the whole first label).
func covers(name, host string) bool {
	if rest, ok := strings.CutPrefix(name, "*."); ok {
		_, host, _ = strings.Cut(host, ".")
		return strings.EqualFold(rest, host)
	}
	return strings.EqualFold(name, host)
}

// judge is the checklist of what was seen; publicNames are by appliance.
func judge(states []live.State, publicNames map[string]string, now time.Time) Readiness {
	var running, controllers, routers []live.State
	for _, st := range states {
		if !st.Running(now) {
			continue
		}
		running = append(running, st)
		if st.Role == link.Controller {
			controllers = append(controllers, st)
		}
		if hasRouter(st) {
			routers = append(routers, st)
		}
	}
	names := func(list []live.State) string {
		var out []string
		for _, st := range list {
			out = append(out, st.Host)
		}
		return strings.Join(out, ", ")
	}
	worst := func(list []live.State, bad func(live.State) bool) (string, string) {
		var is []live.State
		for _, st := range list {
			if bad(st) {
				is = append(is, st)
			}
		}
		switch {
		case len(list) == 0:
			return "unknown", ""
		case len(is) > 0:
			return "warn", names(is)
		}
		return "good", ""
	}
	must := func(code string, list []live.State) Check {
		if len(list) == 0 {
			return Check{Code: code, State: "bad", Must: true}
		}
		return Check{Code: code, State: "good", Must: true, Detail: names(list)}
	}
	out := Readiness{Checks: []Check{must("controller", controllers), must("router", routers)}, Ready: true}
	add := func(code string, list []live.State, bad func(live.State) bool) {
		state, detail := worst(list, bad)
		out.Checks = append(out.Checks, Check{Code: code, State: state, Detail: detail})
	}
	add("ports", running, func(st live.State) bool {
		return len(st.Status.Unreachable) > 0 || st.Role == link.Controller && st.Status.HTTPS == 0 || hasRouter(st) && len(st.Status.Media) == 0
	})
	add("clock", running, func(st live.State) bool {
		d := st.Status.Clock.Sub(st.Contact)
		return !st.Status.Synced || d > clockOff || d < -clockOff
	})
	add("certificate", controllers, func(st live.State) bool {
		c := st.Status.Certificate
		return BrowserCertificate(c, publicNames[st.Appliance], now) != "good" || c.Expires.Sub(now) < certWarning
	})
	for _, c := range out.Checks {
		out.Ready = out.Ready && !(c.Must && c.State != "good")
		out.Warnings = out.Warnings || !c.Must && c.State != "good"
	}
	return out
}

// hasRouter reports whether the machine is a multimedia router too: a controller
// VM holds one.
func hasRouter(st live.State) bool {
	if st.Role == link.Router {
		return true
	}
	for _, s := range st.Status.Services {
		if s.Name == "mmr" && s.State == "ready" {
			return true
		}
	}
	return false
}

// SetProduction goes to production, or back to test. Warnings must be accepted.
func (s *Service) SetProduction(ctx context.Context, who people.Actor, on, accept bool) error {
	if on {
		r, err := s.Readiness(ctx, who)
		switch {
		case err != nil:
			return err
		case !r.Ready:
			return fault.New("", "not-ready")
		case r.Warnings && !accept:
			return fault.New("accept", "accept-warnings")
		}
	}
	return s.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		a, err := enabled(tx, who.Account)
		if err != nil || a.Production.IsZero() == !on {
			return err
		}
		at, action := int64(0), "connector.test"
		if on {
			at, action = store.Millis(s.now()), "connector.production"
		}
		if _, err := tx.Exec("UPDATE accounts SET production = ? WHERE id = ?", at, a.ID); err != nil {
			return err
		}
		zones, err := list(tx, a.ID)
		if err != nil {
			return err
		}
		for _, z := range zones {
			if err := Touch(tx, z.ID); err != nil {
				return err
			}
		}
		return people.Audit(tx, who, action, a.ID, nil)
	})
}

// Why a person may not host a meeting.
var (
	ErrKind      = errors.New("the person is not of type On-Prem")
	ErrTest      = errors.New("the connector is in its test phase: only owners and admins host")
	ErrNoZone    = errors.New("no zone is open to the person")
	ErrSuspended = errors.New("the account is suspended")
)

// MayHost returns the zones in which a person may host a meeting now, or why
// not: ErrSuspended, ErrKind, ErrOff, ErrTest, ErrNoZone. Owners and admins may
// hold test meetings whatever their kind, as long as the account is in its test
// phase.
func MayHost(tx *store.Tx, u people.User) ([]Zone, error) {
	if u.Account == "" {
		return nil, ErrKind
	}
	a, err := people.GetAccount(tx, u.Account)
	if err != nil {
		return nil, err
	}
	if !a.Suspended.IsZero() || u.State != people.Active {
		return nil, ErrSuspended
	}
	kind, err := people.EffectiveKind(tx, u)
	if err != nil {
		return nil, err
	}
	admin := u.Role == people.Owner || u.Role == people.Admin
	zones, err := Usable(tx, u)
	if err != nil {
		return nil, err
	}
	// The zones of the account above decide for themselves whether they are in
	// production.
	var ready []Zone
	for _, z := range zones {
		of := a
		if z.Account != a.ID {
			if of, err = people.GetAccount(tx, z.Account); err != nil {
				return nil, err
			}
		}
		if !of.Production.IsZero() && kind == people.KindOnPrem || of.Production.IsZero() && admin && of.ID == a.ID {
			ready = append(ready, z)
		}
	}
	switch {
	case len(ready) > 0:
		return ready, nil
	case kind != people.KindOnPrem && !(admin && a.Production.IsZero()):
		return nil, ErrKind
	case a.Enabled.IsZero() && len(zones) == 0 && a.Parent == "":
		return nil, ErrOff
	case len(zones) > 0:
		return nil, ErrTest
	}
	return nil, ErrNoZone
}
