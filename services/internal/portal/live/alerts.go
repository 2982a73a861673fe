package live

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/store"
)

// Times and limits of alerts.
const (
	alertEvery = 5 * time.Second
	alertsFor  = 90 * 24 * time.Hour
	clockOff   = 30 * time.Second
	certSoon   = 14 * 24 * time.Hour
	// linkCertSoon is less than what is left when the certificate of the link is
	// renewed: no renewal has come.
	linkCertSoon = 24 * time.Hour
	gapFor       = 24 * time.Hour // after an appliance had to drop events
	capacity     = 0.9
	maxAlerts    = 200 // shown
)

// AlertsKept is how many alerts of an appliance are kept that are closed: one
// that opens some every few seconds fills no disk.
const AlertsKept = 200

// Alert is something that is wrong with an appliance, or was.
type Alert struct {
	ID        string    `json:"id"`
	Zone      string    `json:"zone"`
	Appliance string    `json:"appliance"`
	Host      string    `json:"host"`
	Code      string    `json:"code"` // "silent", "clock", "certificate", "capacity", "routers", "version", "link-certificate", "gap", "problem"
	Detail    string    `json:"detail,omitempty"`
	Opened    time.Time `json:"opened"`
	Closed    time.Time `json:"closed,omitzero"`
}

// Judge says what is wrong with an appliance of a zone, by code.
func Judge(st State, zone []State, now time.Time) map[string]string {
	out := map[string]string{}
	if e := st.LinkExpires; !e.IsZero() && e.Sub(now) < linkCertSoon {
		out["link-certificate"] = e.UTC().Format("2006-01-02 15:04 UTC")
	}
	if !st.Running(now) {
		out["silent"] = ""
		return out // of what it said last nothing is certain
	}
	if d := st.Status.Clock.Sub(st.Contact); d > clockOff || d < -clockOff {
		out["clock"] = d.Round(10 * time.Second).String()
	}
	if c := st.Status.Certificate; c != nil && c.Expires.Sub(now) < certSoon {
		out["certificate"] = c.Expires.UTC().Format("2006-01-02")
	}
	if st.Status.Limit > 0 && float64(st.Status.Participants) >= capacity*float64(st.Status.Limit) {
		out["capacity"] = strconv.Itoa(st.Status.Limit)
	}
	if st.Role == link.Controller {
		routers := false
		for _, o := range zone {
			routers = routers || o.Running(now) && (o.Role == link.Router || len(o.Status.Media) > 0)
		}
		if !routers {
			out["routers"] = ""
		}
	}
	newest := st.Version
	for _, o := range zone {
		if o.Running(now) && older(newest, o.Version) {
			newest = o.Version
		}
	}
	if newest != st.Version {
		out["version"] = st.Version + " < " + newest
	}
	if n := st.Status.Dropped; n > 0 && now.Sub(st.Status.DroppedAt) < gapFor {
		out["gap"] = strconv.Itoa(n)
	}
	if len(st.Status.Problems) > 0 {
		var all []string
		for _, p := range st.Status.Problems {
			all = append(all, strings.TrimSuffix(p.Code+": "+p.Detail, ": "))
		}
		out["problem"] = strings.Join(all, "; ")
	}
	return out
}

// older reports whether version a is before b, by their numbers (1.9.0 is before
// 1.10.0); of the same numbers one with something behind them is before the one
// without (1.0.0-rc.1 is before 1.0.0: Semantic Versioning 2.0.0, 11).
func older(a, b string) bool {
	aNumbers, aRest := numbers(a)
	bNumbers, bRest := numbers(b)
	if d := slices.Compare(aNumbers, bNumbers); d != 0 {
		return d < 0
	}
	if aRest == "" || bRest == "" {
		return aRest != "" && bRest == ""
	}
	return aRest < bRest
}

// numbers returns the three numbers that a version begins with, and the rest.
// What is behind a plus sign says nothing of the order.
func numbers(v string) (out []int, rest string) {
	v, _, _ = strings.Cut(strings.TrimPrefix(v, "v"), "+")
	v, rest, _ = strings.Cut(v, "-")
	for p := range strings.SplitSeq(v, ".") {
		n, err := strconv.Atoi(p)
		if err != nil {
			n = -1
		}
		out = append(out, n)
	}
	for len(out) < 3 {
		out = append(out, 0)
	}
	return out, rest
}

// alerts opens and closes what changed. Several instances do so at once; a row
// is opened once, because only one can be open.
func (s *Service) alerts(ctx context.Context) {
	now := s.now()
	var list []State
	open := map[string]map[string]string{}
	err := s.cfg.DB.Read(ctx, func(tx *store.Tx) (err error) {
		if list, err = states(tx, "1 = 1"); err != nil {
			return err
		}
		clear(open)
		return tx.Each(func(scan func(...any) error) error {
			var appliance, code, detail string
			if err := scan(&appliance, &code, &detail); err != nil {
				return err
			}
			if open[appliance] == nil {
				open[appliance] = map[string]string{}
			}
			open[appliance][code] = detail
			return nil
		}, "SELECT appliance_id, code, detail FROM alerts WHERE closed = 0")
	})
	if err != nil {
		if ctx.Err() == nil {
			s.cfg.Log.Error("alerts", "error", err)
		}
		return
	}
	zones := map[string][]State{}
	for _, st := range list {
		zones[st.Zone] = append(zones[st.Zone], st)
	}
	type change struct {
		st           State
		code, detail string
		open         bool
	}
	var changes []change
	for _, st := range list {
		now := Judge(st, zones[st.Zone], now)
		for code, detail := range now {
			if was, ok := open[st.Appliance][code]; !ok || was != detail {
				changes = append(changes, change{st, code, detail, true})
			}
		}
		for code := range open[st.Appliance] {
			if _, ok := now[code]; !ok {
				changes = append(changes, change{st, code, "", false})
			}
		}
		delete(open, st.Appliance)
	}
	for appliance, codes := range open { // of what was taken out
		for code := range codes {
			changes = append(changes, change{State{Appliance: appliance}, code, "", false})
		}
	}
	if len(changes) == 0 {
		return
	}
	err = s.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		for _, c := range changes {
			if !c.open {
				if _, err := tx.Exec("UPDATE alerts SET closed = ? WHERE appliance_id = ? AND code = ? AND closed = 0", store.Millis(now), c.st.Appliance, c.code); err != nil {
					return err
				}
				continue
			}
			if _, err := tx.Exec(`INSERT INTO alerts (id, account_id, zone_id, appliance_id, code, detail, opened) VALUES (?,?,?,?,?,?,?)
ON CONFLICT (appliance_id, code) WHERE closed = 0 DO UPDATE SET detail = excluded.detail`,
				store.NewID(), c.st.Account, c.st.Zone, c.st.Appliance, c.code, c.detail, store.Millis(now)); err != nil {
				return err
			}
			if _, err := tx.Exec("DELETE FROM alerts WHERE appliance_id = ? AND closed <> 0 AND id NOT IN (SELECT id FROM alerts WHERE appliance_id = ? AND closed <> 0 ORDER BY closed DESC, id DESC LIMIT ?)",
				c.st.Appliance, c.st.Appliance, AlertsKept); err != nil {
				return err
			}
		}
		_, err := tx.Exec("DELETE FROM alerts WHERE closed <> 0 AND closed < ?", store.Millis(now.Add(-alertsFor)))
		tx.Notify(TopicState, "")
		return err
	})
	if err != nil && ctx.Err() == nil {
		s.cfg.Log.Error("alerts", "error", err)
	}
}

// Alerts returns what is wrong in an account now, and what was lately, the newest
// first.
func (s *Service) Alerts(ctx context.Context, who people.Actor) ([]Alert, error) {
	var out []Alert
	err := s.cfg.DB.Read(ctx, func(tx *store.Tx) error {
		out = []Alert{}
		return tx.Each(func(scan func(...any) error) error {
			var a Alert
			var opened, closed int64
			err := scan(&a.ID, &a.Zone, &a.Appliance, &a.Host, &a.Code, &a.Detail, &opened, &closed)
			a.Opened, a.Closed = store.FromMillis(opened), store.FromMillis(closed)
			out = append(out, a)
			return err
		}, `SELECT a.id, a.zone_id, a.appliance_id, p.name, a.code, a.detail, a.opened, a.closed FROM alerts a JOIN appliances p ON p.id = a.appliance_id
WHERE a.account_id = ? ORDER BY CASE WHEN a.closed = 0 THEN 0 ELSE 1 END, a.opened DESC LIMIT ?`, who.Account, maxAlerts)
	})
	return out, err
}
