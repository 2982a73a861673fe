package directory

import (
	"context"
	"errors"
	"time"

	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/store"
	"github.com/parley-meet/parley/services/internal/portal/zones"
)

// KeepClosed is how long a closed account's data is kept: until then an operator
// of the portal, or the owner of the account above, can let it in again.
const KeepClosed = 30 * 24 * time.Hour

// Settings is the own account, as its page shows it.
type Settings struct {
	people.Account
	Counts
	RequireFactor bool   `json:"requireFactor"`
	ParentName    string `json:"parentName,omitempty"`
}

// Account returns the own account.
func (s *Service) Account(ctx context.Context, who people.Actor) (out Settings, err error) {
	err = s.db.Read(ctx, func(tx *store.Tx) error {
		out = Settings{}
		if err := now(tx, who, people.Admin); err != nil {
			return err
		}
		if out.Account, err = people.GetAccount(tx, who.Account); err != nil {
			return err
		}
		if out.Counts, err = counts(tx, who.Account); err != nil {
			return err
		}
		if out.Parent != "" {
			if err := tx.Row("SELECT name FROM accounts WHERE id = ?", out.Parent).Scan(&out.ParentName); err != nil {
				return err
			}
		}
		return tx.Row("SELECT require_factor FROM accounts WHERE id = ?", who.Account).Scan(&out.RequireFactor)
	})
	return out, err
}

// AccountInput is what an account's admins change of it.
type AccountInput struct {
	Name        string      `json:"name"`
	DefaultKind people.Kind `json:"defaultKind"`
}

// SetAccount changes the own account.
func (s *Service) SetAccount(ctx context.Context, who people.Actor, in AccountInput) error {
	var l fault.List
	text(&l, "name", &in.Name)
	kind(&l, "defaultKind", in.DefaultKind, false)
	if err := l.Err(); err != nil {
		return err
	}
	return s.db.Write(ctx, func(tx *store.Tx) error {
		if err := now(tx, who, people.Admin); err != nil {
			return err
		}
		if _, err := tx.Exec("UPDATE accounts SET name = ?, name_key = ?, default_kind = ? WHERE id = ?", in.Name, people.Key(in.Name), string(in.DefaultKind), who.Account); err != nil {
			return err
		}
		return people.Audit(tx, who, "account.change", who.Account, map[string]any{"name": in.Name, "kind": in.DefaultKind})
	})
}

// Close closes the own account: nobody signs in any more, and after KeepClosed
// everything is deleted. name is typed by the owner. Sub-accounts are closed
// first, each by itself.
func (s *Service) Close(ctx context.Context, who people.Actor, name string) error {
	return s.db.Write(ctx, func(tx *store.Tx) error {
		if err := now(tx, who, people.Owner); err != nil {
			return err
		}
		a, err := people.GetAccount(tx, who.Account)
		if err != nil {
			return err
		}
		if name != a.Name {
			return fault.New("name", "account-typed", a.Name)
		}
		var n int
		if err := tx.Row("SELECT COUNT(*) FROM accounts WHERE parent_id = ? AND closed = 0", a.ID).Scan(&n); err != nil {
			return err
		}
		if n > 0 {
			return fault.New("", "account-subs", n)
		}
		if err := tx.Row("SELECT COUNT(*) FROM users WHERE account_id = ? AND operator", a.ID).Scan(&n); err != nil {
			return err
		}
		if n > 0 {
			return fault.New("", "account-operators")
		}
		if err := s.shut(tx, a.ID, true); err != nil {
			return err
		}
		return people.Audit(tx, who, "account.close", a.ID, map[string]any{"name": a.Name})
	})
}

// tell makes whoever holds links of the account's appliances look whether they
// may stay.
func tell(tx *store.Tx, account string) error {
	var ids []string
	err := tx.Each(func(scan func(...any) error) error {
		var id string
		err := scan(&id)
		ids = append(ids, id)
		return err
	}, "SELECT id FROM zones WHERE account_id = ?", account)
	for _, id := range ids {
		tx.Notify(zones.TopicConfig, id)
	}
	return err
}

// shut keeps an account's people out at once; closed begins the time until it is
// deleted.
func (s *Service) shut(tx *store.Tx, account string, closed bool) error {
	at := store.Millis(time.Now())
	if err := tell(tx, account); err != nil {
		return err
	}
	if closed {
		_, err := tx.Exec("UPDATE accounts SET suspended = ?, closed = ? WHERE id = ?", at, at, account)
		return err
	}
	_, err := tx.Exec("UPDATE accounts SET suspended = ? WHERE id = ? AND suspended = 0", at, account)
	return err
}

// reopen lets an account in again that is suspended or closed, until the time
// when it is deleted.
func (s *Service) reopen(tx *store.Tx, a people.Account) error {
	if !a.Closed.IsZero() && time.Since(a.Closed) >= KeepClosed {
		return fault.New("", "account-gone")
	}
	if err := tell(tx, a.ID); err != nil {
		return err
	}
	_, err := tx.Exec("UPDATE accounts SET suspended = 0, closed = 0, held = ? WHERE id = ?", false, a.ID)
	return err
}

// Sub is a sub-account as the account above sees it.
type Sub struct {
	Summary
	Zones []string `json:"zones"` // ids of this account's zones that it may use
}

// ZoneName names a zone of the own account.
type ZoneName struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// Subs are the sub-accounts, and the zones that they can be given.
type Subs struct {
	Subs  []Sub      `json:"subaccounts"`
	Zones []ZoneName `json:"zones"`
}

// subs checks that the actor is the owner of an account that may have
// sub-accounts.
func subs(tx *store.Tx, who people.Actor) (people.Account, error) {
	if err := now(tx, who, people.Owner); err != nil {
		return people.Account{}, err
	}
	a, err := people.GetAccount(tx, who.Account)
	if err == nil && !MayHaveSubs(a) {
		err = people.ErrDenied
	}
	return a, err
}

// MayHaveSubs reports whether an account may have sub-accounts: by its type, and
// because it is none itself.
func MayHaveSubs(a people.Account) bool {
	return a.Parent == "" && (a.Type == people.Business || a.Type == people.Enterprise)
}

// Subs lists the own account's sub-accounts.
func (s *Service) Subs(ctx context.Context, who people.Actor) (Subs, error) {
	var out Subs
	err := s.db.Read(ctx, func(tx *store.Tx) error {
		out = Subs{Subs: []Sub{}, Zones: []ZoneName{}}
		if _, err := subs(tx, who); err != nil {
			return err
		}
		err := tx.Each(func(scan func(...any) error) error {
			sum, err := scanSummary(scan)
			out.Subs = append(out.Subs, Sub{sum, []string{}})
			return err
		}, summaries+" WHERE a.parent_id = ? ORDER BY a.name_key, a.id", who.Account)
		if err != nil {
			return err
		}
		at := map[string]*Sub{}
		for i := range out.Subs {
			at[out.Subs[i].ID] = &out.Subs[i]
		}
		err = tx.Each(func(scan func(...any) error) error {
			var zone, sub string
			err := scan(&zone, &sub)
			if x := at[sub]; x != nil {
				x.Zones = append(x.Zones, zone)
			}
			return err
		}, "SELECT r.zone_id, r.id FROM zone_users r JOIN zones z ON z.id = r.zone_id WHERE r.what = 'account' AND z.account_id = ? ORDER BY r.zone_id", who.Account)
		if err != nil {
			return err
		}
		return tx.Each(func(scan func(...any) error) error {
			var z ZoneName
			err := scan(&z.ID, &z.Name)
			out.Zones = append(out.Zones, z)
			return err
		}, "SELECT id, name FROM zones WHERE account_id = ? ORDER BY name, id", who.Account)
	})
	return out, err
}

// NewAccount is an account to make, with the owner who is invited to it.
type NewAccount struct {
	Name       string      `json:"name"`
	Type       people.Type `json:"type,omitempty"` // of an operator's; a sub-account has its parent's
	OwnerName  string      `json:"ownerName"`
	OwnerEmail string      `json:"ownerEmail"`
}

func (in *NewAccount) check() error {
	var l fault.List
	text(&l, "name", &in.Name)
	text(&l, "ownerName", &in.OwnerName)
	email, err := people.NormalizeEmail("ownerEmail", in.OwnerEmail)
	l = append(l, fault.Of(err)...)
	in.OwnerEmail = email
	return l.Err()
}

// add makes an account and invites its owner.
func (s *Service) add(tx *store.Tx, who people.Actor, a people.Account, in NewAccount, language string) (people.Account, error) {
	a.Name, a.DefaultKind = in.Name, people.KindBasic
	a, err := people.InsertAccount(tx, a)
	if err != nil {
		return a, err
	}
	_, err = s.addInvited(tx, people.User{Account: a.ID, Email: in.OwnerEmail, Name: in.OwnerName, Role: people.Owner}, a.Name, who.Name, language, "ownerEmail")
	return a, err
}

// AddSub makes a sub-account of the own account's type.
func (s *Service) AddSub(ctx context.Context, who people.Actor, in NewAccount, language string) (people.Account, error) {
	var a people.Account
	if err := in.check(); err != nil {
		return a, err
	}
	err := s.db.Write(ctx, func(tx *store.Tx) error {
		own, err := subs(tx, who)
		if err != nil {
			return err
		}
		var n int
		if err := tx.Row("SELECT COUNT(*) FROM accounts WHERE parent_id = ?", own.ID).Scan(&n); err != nil {
			return err
		}
		if n >= maxSubs {
			return fault.New("", "many", maxSubs)
		}
		if a, err = s.add(tx, who, people.Account{Type: own.Type, Parent: own.ID}, in, language); err != nil {
			return err
		}
		return both(tx, who, a.ID, "subaccount.add", map[string]any{"name": a.Name, "email": in.OwnerEmail})
	})
	return a, err
}

// both writes into the audit logs of the actor's account and of the one that he
// changed.
func both(tx *store.Tx, who people.Actor, account, action string, details map[string]any) error {
	if err := people.Audit(tx, who, action, account, details); err != nil {
		return err
	}
	return people.Audit(tx, within(who, account), action, account, details)
}

// changeSub carries out what an owner does to a sub-account.
func (s *Service) changeSub(ctx context.Context, who people.Actor, id string, do func(*store.Tx, people.Account) error) error {
	return s.db.Write(ctx, func(tx *store.Tx) error {
		if _, err := subs(tx, who); err != nil {
			return err
		}
		a, err := people.GetAccount(tx, id)
		if errors.Is(err, store.ErrNotFound) || err == nil && a.Parent != who.Account {
			return people.ErrUnknown
		}
		if err != nil {
			return err
		}
		return do(tx, a)
	})
}

// SuspendSub keeps a sub-account's people out.
func (s *Service) SuspendSub(ctx context.Context, who people.Actor, id string) error {
	return s.changeSub(ctx, who, id, func(tx *store.Tx, a people.Account) error {
		if err := s.shut(tx, a.ID, false); err != nil {
			return err
		}
		return both(tx, who, a.ID, "subaccount.suspend", map[string]any{"name": a.Name})
	})
}

// ResumeSub lets them in again, also after the sub-account was closed; but not
// after an operator of the portal has suspended it.
func (s *Service) ResumeSub(ctx context.Context, who people.Actor, id string) error {
	return s.changeSub(ctx, who, id, func(tx *store.Tx, a people.Account) error {
		var held bool
		if err := tx.Row("SELECT held FROM accounts WHERE id = ?", a.ID).Scan(&held); err != nil {
			return err
		}
		if held {
			return fault.New("", "account-held")
		}
		if err := s.reopen(tx, a); err != nil {
			return err
		}
		return both(tx, who, a.ID, "subaccount.resume", map[string]any{"name": a.Name})
	})
}

// SubZones says which zones of the own account a sub-account may use.
type SubZones struct {
	Zones []string `json:"zones"` // ids
}

// SetSubZones gives a sub-account the use of exactly these zones.
func (s *Service) SetSubZones(ctx context.Context, who people.Actor, id string, in SubZones) error {
	return s.changeSub(ctx, who, id, func(tx *store.Tx, a people.Account) error {
		if _, err := tx.Exec("DELETE FROM zone_users WHERE what = 'account' AND id = ? AND zone_id IN (SELECT id FROM zones WHERE account_id = ?)", a.ID, who.Account); err != nil {
			return err
		}
		for _, z := range in.Zones {
			var one int
			err := tx.Row("SELECT 1 FROM zones WHERE id = ? AND account_id = ?", z, who.Account).Scan(&one)
			if errors.Is(err, store.ErrNotFound) {
				return people.ErrUnknown
			}
			if err != nil {
				return err
			}
			if _, err := tx.Exec("INSERT INTO zone_users (zone_id, what, id) VALUES (?, 'account', ?) ON CONFLICT DO NOTHING", z, a.ID); err != nil {
				return err
			}
		}
		return both(tx, who, a.ID, "subaccount.zones", map[string]any{"name": a.Name, "zones": len(in.Zones)})
	})
}
