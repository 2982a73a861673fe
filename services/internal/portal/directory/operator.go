package directory

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/store"
)

// Summary is all that the portal's operators see of an account, and the account
// above of a sub-account: no people but the owner, and no meetings.
type Summary struct {
	people.Account
	Owner      string       `json:"owner"`      // name
	OwnerEmail string       `json:"ownerEmail"` // address
	OwnerState people.State `json:"ownerState"`
	OwnerID    string       `json:"-"`
	People     int          `json:"people"`
	ParentName string       `json:"parentName,omitempty"`
}

const summaries = `SELECT a.id, a.name, a.type, COALESCE(a.parent_id, ''), a.default_kind, a.connector_enabled, a.production, a.suspended, a.closed, a.created,
COALESCE(o.id, ''), COALESCE(o.name, ''), COALESCE(o.email, ''), COALESCE(o.state, ''), (SELECT COUNT(*) FROM users u WHERE u.account_id = a.id), COALESCE(p.name, '')
FROM accounts a LEFT JOIN users o ON o.account_id = a.id AND o.role = 'owner' LEFT JOIN accounts p ON p.id = a.parent_id`

func scanSummary(scan func(...any) error) (Summary, error) {
	var s Summary
	var enabled, production, suspended, closed, created int64
	err := scan(&s.ID, &s.Name, &s.Type, &s.Parent, &s.DefaultKind, &enabled, &production, &suspended, &closed, &created,
		&s.OwnerID, &s.Owner, &s.OwnerEmail, &s.OwnerState, &s.People, &s.ParentName)
	s.Enabled, s.Production, s.Suspended = store.FromMillis(enabled), store.FromMillis(production), store.FromMillis(suspended)
	s.Closed, s.Created = store.FromMillis(closed), store.FromMillis(created)
	return s, err
}

// AccountFilter chooses accounts.
type AccountFilter struct {
	Search string // in the account's name and its owner's address
	Type   people.Type
	Page
}

// Accounts is a part of the list of accounts.
type Accounts struct {
	Accounts []Summary `json:"accounts"`
	Total    int       `json:"total"`
	Page     int       `json:"page"`
	Pages    int       `json:"pages"`
}

// Accounts lists accounts by name.
func (s *Service) Accounts(ctx context.Context, who people.Actor, f AccountFilter) (Accounts, error) {
	var out Accounts
	err := s.db.Read(ctx, func(tx *store.Tx) error {
		out = Accounts{Accounts: []Summary{}}
		if err := operates(tx, who); err != nil {
			return err
		}
		where, args := "1 = 1", []any{}
		if f.Search != "" {
			p := like(people.Key(f.Search))
			where += ` AND (a.name_key LIKE ? ESCAPE '\' OR EXISTS (SELECT 1 FROM users w WHERE w.account_id = a.id AND w.role = 'owner' AND w.email LIKE ? ESCAPE '\'))`
			args = append(args, p, p)
		}
		if f.Type != "" {
			where += " AND a.type = ?"
			args = append(args, string(f.Type))
		}
		if err := tx.Row("SELECT COUNT(*) FROM accounts a WHERE "+where, args...).Scan(&out.Total); err != nil {
			return err
		}
		limit, offset := f.bounds()
		out.Page, out.Pages = offset/limit+1, f.Pages(out.Total)
		return tx.Each(func(scan func(...any) error) error {
			a, err := scanSummary(scan)
			out.Accounts = append(out.Accounts, a)
			return err
		}, summaries+" WHERE "+where+" ORDER BY a.name_key, a.id LIMIT ? OFFSET ?", append(args, limit, offset)...)
	})
	return out, err
}

// OneAccount returns an account for an operator.
func (s *Service) OneAccount(ctx context.Context, who people.Actor, id string) (a Summary, err error) {
	err = s.db.Read(ctx, func(tx *store.Tx) error {
		if err := operates(tx, who); err != nil {
			return err
		}
		a, err = scanSummary(tx.Row(summaries+" WHERE a.id = ?", id).Scan)
		if errors.Is(err, store.ErrNotFound) {
			err = people.ErrUnknown
		}
		return err
	})
	return a, err
}

// Totals count what the portal holds.
type Totals struct {
	Accounts  int `json:"accounts"`
	Suspended int `json:"suspended"` // closed ones too
	People    int `json:"people"`
	Connector int `json:"connector"` // accounts with the connector on
}

// Totals returns them.
func (s *Service) Totals(ctx context.Context, who people.Actor) (t Totals, err error) {
	err = s.db.Read(ctx, func(tx *store.Tx) error {
		if err := operates(tx, who); err != nil {
			return err
		}
		err := tx.Row("SELECT COUNT(*), COALESCE(SUM(CASE WHEN suspended <> 0 THEN 1 ELSE 0 END), 0), COALESCE(SUM(CASE WHEN connector_enabled <> 0 THEN 1 ELSE 0 END), 0) FROM accounts").Scan(&t.Accounts, &t.Suspended, &t.Connector)
		if err != nil {
			return err
		}
		return tx.Row("SELECT COUNT(*) FROM users").Scan(&t.People)
	})
	return t, err
}

// AddAccount makes an account and invites its owner.
func (s *Service) AddAccount(ctx context.Context, who people.Actor, in NewAccount, language string) (people.Account, error) {
	var a people.Account
	var l fault.List
	l = append(l, fault.Of(in.check())...)
	accountType(&l, in.Type)
	if err := l.Err(); err != nil {
		return a, err
	}
	err := s.db.Write(ctx, func(tx *store.Tx) error {
		if err := operates(tx, who); err != nil {
			return err
		}
		var err error
		if a, err = s.add(tx, who, people.Account{Type: in.Type}, in, language); err != nil {
			return err
		}
		return both(tx, portal(who), a.ID, "account.add", map[string]any{"name": a.Name, "type": a.Type, "email": in.OwnerEmail})
	})
	return a, err
}

func accountType(l *fault.List, t people.Type) {
	if !slices.Contains(people.Types, t) {
		l.Add("type", "choice", api.Cut(string(t), 20), "basic, business, education, enterprise")
	}
}

// changeAccount carries out what an operator does to an account.
func (s *Service) changeAccount(ctx context.Context, who people.Actor, id string, do func(*store.Tx, people.Account) error) error {
	return s.db.Write(ctx, func(tx *store.Tx) error {
		if err := operates(tx, who); err != nil {
			return err
		}
		a, err := people.GetAccount(tx, id)
		if errors.Is(err, store.ErrNotFound) {
			err = people.ErrUnknown
		}
		if err != nil {
			return err
		}
		return do(tx, a)
	})
}

// SetType changes an account's type. One that may not have a connector is refused
// while the connector is on, and one that may not have sub-accounts while there
// are some: nothing stops by a side effect.
func (s *Service) SetType(ctx context.Context, who people.Actor, id string, t people.Type) error {
	var l fault.List
	accountType(&l, t)
	if err := l.Err(); err != nil {
		return err
	}
	return s.changeAccount(ctx, who, id, func(tx *store.Tx, a people.Account) error {
		was := a.Type
		a.Type = t
		if !t.Connector() && !a.Enabled.IsZero() {
			return fault.New("type", "type-connector")
		}
		var n int
		if err := tx.Row("SELECT COUNT(*) FROM accounts WHERE parent_id = ?", a.ID).Scan(&n); err != nil {
			return err
		}
		if n > 0 && !MayHaveSubs(a) {
			return fault.New("type", "type-subs", n)
		}
		if _, err := tx.Exec("UPDATE accounts SET type = ? WHERE id = ?", string(t), a.ID); err != nil {
			return err
		}
		return both(tx, portal(who), a.ID, "account.type", map[string]any{"name": a.Name, "was": was, "type": t})
	})
}

// SuspendAccount keeps an account's people out. An operator does not lock
// himself out.
func (s *Service) SuspendAccount(ctx context.Context, who people.Actor, id string) error {
	return s.changeAccount(ctx, who, id, func(tx *store.Tx, a people.Account) error {
		var n int
		if err := tx.Row("SELECT COUNT(*) FROM users WHERE account_id = ? AND operator", a.ID).Scan(&n); err != nil {
			return err
		}
		if n > 0 {
			return fault.New("", "account-operators")
		}
		if err := s.shut(tx, a.ID, false); err != nil {
			return err
		}
		if _, err := tx.Exec("UPDATE accounts SET held = ? WHERE id = ?", true, a.ID); err != nil {
			return err
		}
		return both(tx, portal(who), a.ID, "account.suspend", map[string]any{"name": a.Name})
	})
}

// ResumeAccount lets an account in again that is suspended or closed.
func (s *Service) ResumeAccount(ctx context.Context, who people.Actor, id string) error {
	return s.changeAccount(ctx, who, id, func(tx *store.Tx, a people.Account) error {
		if err := s.reopen(tx, a); err != nil {
			return err
		}
		return both(tx, portal(who), a.ID, "account.resume", map[string]any{"name": a.Name})
	})
}

// Operators lists who operates the portal.
func (s *Service) Operators(ctx context.Context, who people.Actor) ([]people.User, error) {
	var out []people.User
	err := s.db.Read(ctx, func(tx *store.Tx) error {
		out = []people.User{}
		if err := operates(tx, who); err != nil {
			return err
		}
		var ids []string
		err := tx.Each(func(scan func(...any) error) error {
			var id string
			err := scan(&id)
			ids = append(ids, id)
			return err
		}, "SELECT id FROM users WHERE operator ORDER BY name_key, id")
		for _, id := range ids {
			u, err := people.GetUser(tx, id)
			if err != nil {
				return err
			}
			out = append(out, u)
		}
		return err
	})
	return out, err
}

// OperatorInput is who shall operate the portal.
type OperatorInput struct {
	Email string `json:"email"`
	Name  string `json:"name"`
}

// AddOperator makes a person an operator: somebody of an account by his address,
// or a new person without an account, who is invited.
func (s *Service) AddOperator(ctx context.Context, who people.Actor, in OperatorInput, language string) error {
	email, err := people.NormalizeEmail("email", in.Email)
	l := append(fault.List(nil), fault.Of(err)...)
	if in.Name != "" {
		text(&l, "name", &in.Name)
	}
	if err := l.Err(); err != nil {
		return err
	}
	return s.db.Write(ctx, func(tx *store.Tx) error {
		if err := operates(tx, who); err != nil {
			return err
		}
		u, err := people.FindUser(tx, email)
		switch {
		case errors.Is(err, store.ErrNotFound):
			if in.Name == "" {
				in.Name = api.Cut(email, maxText-1)
			}
			u = people.User{Email: email, Name: in.Name, Operator: true}
			if u, err = s.addInvited(tx, u, "Parley", who.Name, language, "email"); err != nil {
				return err
			}
		case err != nil:
			return err
		case u.Operator:
			return fault.New("email", "operator-already")
		case u.State != people.Active:
			return fault.New("email", "owner-active")
		default:
			if u.Account != "" {
				if a, err := people.GetAccount(tx, u.Account); err != nil {
					return err
				} else if !a.Suspended.IsZero() {
					return fault.New("email", "owner-active")
				}
			}
			if _, err := tx.Exec("UPDATE users SET operator = ? WHERE id = ?", true, u.ID); err != nil {
				return err
			}
		}
		return people.Audit(tx, portal(who), "operator.add", u.ID, map[string]any{"email": email})
	})
}

// RemoveOperator takes the portal away from an operator; the last active one
// stays. A person without an account is deleted with it.
func (s *Service) RemoveOperator(ctx context.Context, who people.Actor, id string) error {
	return s.db.Write(ctx, func(tx *store.Tx) error {
		if err := operates(tx, who); err != nil {
			return err
		}
		u, err := people.GetUser(tx, id)
		if errors.Is(err, store.ErrNotFound) || err == nil && !u.Operator {
			return people.ErrUnknown
		}
		if err != nil {
			return err
		}
		var n int
		if err := tx.Row("SELECT COUNT(*) FROM users WHERE operator AND state = 'active' AND id <> ?", u.ID).Scan(&n); err != nil {
			return err
		}
		if n == 0 {
			return fault.New("", "operator-last")
		}
		if u.Account == "" {
			err = removeUser(tx, u)
		} else {
			_, err = tx.Exec("UPDATE users SET operator = ?, stamp = stamp + 1 WHERE id = ?", false, u.ID)
		}
		if err != nil {
			return err
		}
		return people.Audit(tx, portal(who), "operator.remove", u.ID, map[string]any{"email": u.Email})
	})
}

// PortalSettings are the portal's own, beside who may sign up (package identity).
type PortalSettings struct {
	Name      string `json:"name"`      // shown at the top; "" is none
	AuditDays int    `json:"auditDays"` // that lines of audit logs are kept; 0 is for ever
}

const (
	portalSetting = "portal"
	// minAuditDays is a bound of what purging may take away from those who look
	// for what happened.
	minAuditDays = 30
	maxAuditDays = 3650
)

func portalSettings(tx *store.Tx) (p PortalSettings, err error) {
	var b []byte
	err = tx.Row("SELECT value FROM settings WHERE name = ?", portalSetting).Scan(&b)
	if errors.Is(err, store.ErrNotFound) {
		return PortalSettings{AuditDays: 365}, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &p)
	}
	return p, err
}

// PortalName returns the portal's name, for everybody.
func (s *Service) PortalName(ctx context.Context) (name string, err error) {
	err = s.db.Read(ctx, func(tx *store.Tx) error {
		p, err := portalSettings(tx)
		name = p.Name
		return err
	})
	return name, err
}

// PortalSettings returns them.
func (s *Service) PortalSettings(ctx context.Context, who people.Actor) (p PortalSettings, err error) {
	err = s.db.Read(ctx, func(tx *store.Tx) error {
		if err := operates(tx, who); err != nil {
			return err
		}
		p, err = portalSettings(tx)
		return err
	})
	return p, err
}

// SetPortalSettings changes them.
func (s *Service) SetPortalSettings(ctx context.Context, who people.Actor, p PortalSettings) error {
	var l fault.List
	if p.Name != "" {
		text(&l, "name", &p.Name)
	}
	if p.AuditDays != 0 && (p.AuditDays < minAuditDays || p.AuditDays > maxAuditDays) {
		l.Add("auditDays", "audit-days", minAuditDays, maxAuditDays)
	}
	if err := l.Err(); err != nil {
		return err
	}
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return s.db.Write(ctx, func(tx *store.Tx) error {
		if err := operates(tx, who); err != nil {
			return err
		}
		if _, err := tx.Exec("INSERT INTO settings (name, value) VALUES (?,?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", portalSetting, b); err != nil {
			return err
		}
		return people.Audit(tx, portal(who), "portal.settings", "", map[string]any{"name": p.Name, "days": p.AuditDays})
	})
}
