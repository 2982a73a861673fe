package directory

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/store"
)

// Source says where a person's kind comes from.
type Source string

// The sources.
const (
	FromOwn     Source = "own"
	FromGroup   Source = "group"
	FromAccount Source = "account"
)

// Person is a person with the kind that is in effect.
type Person struct {
	people.User
	Effective people.Kind `json:"effectiveKind"`
	Source    Source      `json:"kindFrom"`
}

// Filter chooses people; the zero Filter is all.
type Filter struct {
	Search string // in name and address
	Role   people.Role
	Kind   people.Kind // in effect
	State  people.State
	Group  string // id
	Page
}

// People is a part of a list.
type People struct {
	People []Person `json:"people"`
	Total  int      `json:"total"` // that the filter chooses
	Page   int      `json:"page"`
	Pages  int      `json:"pages"`
}

// groupRank is the place in kindOf of the highest kind of the person u's groups,
// or 0: as people.EffectiveKind has it.
const groupRank = `COALESCE((SELECT MAX(CASE g.kind WHEN 'onprem' THEN 3 WHEN 'licensed' THEN 2 WHEN 'basic' THEN 1 ELSE 0 END)
FROM group_members m JOIN groups g ON g.id = m.group_id WHERE m.user_id = u.id), 0)`

var kindOf = []people.Kind{"", people.KindBasic, people.KindLicensed, people.KindOnPrem}

// List returns people of the account in the order of their names.
func (s *Service) List(ctx context.Context, who people.Actor, f Filter) (People, error) {
	var out People
	err := s.db.Read(ctx, func(tx *store.Tx) error {
		out = People{People: []Person{}}
		if err := now(tx, who, people.Admin); err != nil {
			return err
		}
		a, err := people.GetAccount(tx, who.Account)
		if err != nil {
			return err
		}
		where, args := "u.account_id = ?", []any{who.Account}
		add := func(cond string, values ...any) { where += " AND " + cond; args = append(args, values...) }
		if f.Search != "" {
			p := like(people.Key(f.Search))
			add(`(u.name_key LIKE ? ESCAPE '\' OR u.email LIKE ? ESCAPE '\')`, p, p)
		}
		if f.Role != "" {
			add("u.role = ?", string(f.Role))
		}
		if f.State != "" {
			add("u.state = ?", string(f.State))
		}
		if f.Group != "" {
			add("EXISTS (SELECT 1 FROM group_members m WHERE m.group_id = ? AND m.user_id = u.id)", f.Group)
		}
		if f.Kind != "" {
			// Of those without a kind of their own, and without one of a group.
			add("(u.kind = ? OR u.kind = '' AND "+groupRank+" IN (?, ?))", string(f.Kind), slices.Index(kindOf, f.Kind), accountRank(a, f.Kind))
		}
		if err := tx.Row("SELECT COUNT(*) FROM users u WHERE "+where, args...).Scan(&out.Total); err != nil {
			return err
		}
		limit, offset := f.bounds()
		out.Page, out.Pages = offset/limit+1, f.Pages(out.Total)
		return tx.Each(func(scan func(...any) error) error {
			p, err := scanPerson(scan, a)
			out.People = append(out.People, p)
			return err
		}, "SELECT "+personColumns+", "+groupRank+" FROM (SELECT u.* FROM users u WHERE "+where+" ORDER BY u.name_key, u.id LIMIT ? OFFSET ?) u ORDER BY u.name_key, u.id", append(args, limit, offset)...)
	})
	return out, err
}

// accountRank is the rank of people who have their kind from the account when
// that is k, and else one that nobody has.
func accountRank(a people.Account, k people.Kind) int {
	if a.DefaultKind == k {
		return 0
	}
	return -1
}

const personColumns = "u.id, COALESCE(u.account_id, ''), u.email, u.name, u.role, u.kind, u.operator, u.state, u.language, u.timezone, u.created, u.used"

func scanPerson(scan func(...any) error, a people.Account) (Person, error) {
	var p Person
	var created, used int64
	var rank int
	err := scan(&p.ID, &p.Account, &p.Email, &p.Name, &p.Role, &p.Kind, &p.Operator, &p.State, &p.Language, &p.Timezone, &created, &used, &rank)
	p.Created, p.Used = store.FromMillis(created), store.FromMillis(used)
	switch {
	case p.Kind != "":
		p.Effective, p.Source = p.Kind, FromOwn
	case rank > 0:
		p.Effective, p.Source = kindOf[rank], FromGroup
	default:
		p.Effective, p.Source = a.DefaultKind, FromAccount
	}
	return p, err
}

// Details is a person with his groups.
type Details struct {
	Person
	Groups []string `json:"groups"` // ids
}

// Get returns a person of the account.
func (s *Service) Get(ctx context.Context, who people.Actor, id string) (Details, error) {
	var d Details
	err := s.db.Read(ctx, func(tx *store.Tx) error {
		d = Details{Groups: []string{}}
		if err := now(tx, who, people.Admin); err != nil {
			return err
		}
		a, err := people.GetAccount(tx, who.Account)
		if err != nil {
			return err
		}
		d.Person, err = scanPerson(tx.Row("SELECT "+personColumns+", "+groupRank+" FROM users u WHERE u.id = ? AND u.account_id = ?", id, who.Account).Scan, a)
		if errors.Is(err, store.ErrNotFound) {
			return people.ErrUnknown
		}
		if err != nil {
			return err
		}
		return tx.Each(func(scan func(...any) error) error {
			var g string
			err := scan(&g)
			d.Groups = append(d.Groups, g)
			return err
		}, "SELECT group_id FROM group_members WHERE user_id = ? ORDER BY group_id", id)
	})
	return d, err
}

// Invitee is a person to invite.
type Invitee struct {
	Email string      `json:"email"`
	Name  string      `json:"name,omitempty"` // "": the address until he gives his own
	Role  people.Role `json:"role,omitempty"` // "": member
	Kind  people.Kind `json:"kind,omitempty"` // "": inherited
}

// Invite adds people and sends each an invitation: all of them, or none when
// something is wrong with one. An address that is somebody's already, of
// whatever account, is a fault; it cannot be another's as well.
func (s *Service) Invite(ctx context.Context, who people.Actor, list []Invitee, language string) ([]people.User, error) {
	if len(list) == 0 {
		return nil, fault.New("people", "required")
	}
	if len(list) > maxInvite {
		return nil, fault.New("people", "many", maxInvite)
	}
	list = slices.Clone(list)
	var l fault.List
	seen := map[string]bool{}
	for i := range list {
		p := &list[i]
		at := func(field string) string { return fmt.Sprintf("people.%d.%s", i, field) }
		email, err := people.NormalizeEmail(at("email"), p.Email)
		l = append(l, fault.Of(err)...)
		if err == nil {
			if seen[email] {
				l.Add(at("email"), "person-twice")
			}
			seen[email], p.Email = true, email
		}
		if p.Name == "" {
			p.Name = api.Cut(p.Email, maxText-1)
		}
		text(&l, at("name"), &p.Name)
		if p.Role == "" {
			p.Role = people.Member
		}
		role(&l, at("role"), p.Role)
		kind(&l, at("kind"), p.Kind, true)
	}
	if err := l.Err(); err != nil {
		return nil, err
	}
	var out []people.User
	err := s.db.Write(ctx, func(tx *store.Tx) error {
		out = nil
		var l fault.List
		if err := now(tx, who, people.Admin); err != nil {
			return err
		}
		a, err := people.GetAccount(tx, who.Account)
		if err != nil {
			return err
		}
		for i, p := range list {
			u := people.User{Account: who.Account, Email: p.Email, Name: p.Name, Role: p.Role, Kind: p.Kind}
			u, err := s.addInvited(tx, u, a.Name, who.Name, language, fmt.Sprintf("people.%d.email", i))
			if errors.As(err, &raced{}) {
				return err
			}
			if f := fault.Of(err); f != nil {
				l = append(l, f...)
				continue
			}
			if err != nil {
				return err
			}
			if err := people.Audit(tx, who, "user.invite", u.ID, map[string]any{"email": u.Email, "role": u.Role}); err != nil {
				return err
			}
			out = append(out, u)
		}
		return l.Err()
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// role checks one that an admin can give.
func role(l *fault.List, field string, r people.Role) {
	if r != people.Admin && r != people.Member {
		l.Add(field, "choice", api.Cut(string(r), 20), "admin, member")
	}
}

// Resend sends an invitation again; earlier links are not good any more.
func (s *Service) Resend(ctx context.Context, who people.Actor, id, language string) error {
	return s.change(ctx, who, id, func(tx *store.Tx, u people.User) error {
		if u.State != people.Invited {
			return fault.New("", "person-not-invited")
		}
		a, err := people.GetAccount(tx, who.Account)
		if err != nil {
			return err
		}
		if err := people.DropLinks(tx, people.LinkInvite, u.ID); err != nil {
			return err
		}
		if err := s.invite(tx, u, a.Name, who.Name, language, ""); err != nil {
			return err
		}
		return people.Audit(tx, who, "user.invite-again", u.ID, map[string]any{"email": u.Email})
	})
}

// change carries out what an admin does to a person of his account.
func (s *Service) change(ctx context.Context, who people.Actor, id string, do func(*store.Tx, people.User) error) error {
	return s.db.Write(ctx, func(tx *store.Tx) error {
		if err := now(tx, who, people.Admin); err != nil {
			return err
		}
		u, err := userOf(tx, who, id)
		if err != nil {
			return err
		}
		return do(tx, u)
	})
}

// Edit is what can be changed of a person. What is nil stays.
type Edit struct {
	Name   *string      `json:"name,omitempty"`
	Role   *people.Role `json:"role,omitempty"` // admin or member; an owner's changes by a transfer alone
	Kind   *people.Kind `json:"kind,omitempty"` // "": inherited
	Groups *[]string    `json:"groups,omitempty"`
}

// Update changes a person. Only the owner changes what the owner is called and
// may do; his own role stays.
func (s *Service) Update(ctx context.Context, who people.Actor, id string, in Edit) error {
	var l fault.List
	if in.Name != nil {
		text(&l, "name", in.Name)
	}
	if in.Kind != nil {
		kind(&l, "kind", *in.Kind, true)
	}
	if in.Groups != nil && len(*in.Groups) > maxGroups {
		l.Add("groups", "many", maxGroups)
	}
	if err := l.Err(); err != nil {
		return err
	}
	return s.change(ctx, who, id, func(tx *store.Tx, u people.User) error {
		details := map[string]any{"email": u.Email}
		if u.Role == people.Owner && !who.At(people.Owner) {
			return people.ErrDenied
		}
		if in.Role != nil && *in.Role != u.Role {
			if u.Role == people.Owner {
				return fault.New("role", "owner-transfer")
			}
			var l fault.List
			role(&l, "role", *in.Role)
			if err := l.Err(); err != nil {
				return err
			}
			details["role"], u.Role = *in.Role, *in.Role
		}
		if in.Kind != nil && *in.Kind != u.Kind {
			details["kind"], u.Kind = orInherited(*in.Kind), *in.Kind
		}
		if in.Name != nil && *in.Name != u.Name {
			details["name"], u.Name = *in.Name, *in.Name
		}
		if _, err := tx.Exec("UPDATE users SET name = ?, name_key = ?, role = ?, kind = ? WHERE id = ?", u.Name, people.Key(u.Name), string(u.Role), string(u.Kind), u.ID); err != nil {
			return err
		}
		if in.Groups != nil {
			if _, err := tx.Exec("DELETE FROM group_members WHERE user_id = ?", u.ID); err != nil {
				return err
			}
			for _, g := range slices.Compact(slices.Sorted(slices.Values(*in.Groups))) {
				if _, err := groupOf(tx, who, g); err != nil {
					return err
				}
				if _, err := tx.Exec("INSERT INTO group_members (group_id, user_id) VALUES (?,?)", g, u.ID); err != nil {
					return err
				}
			}
			details["groups"] = len(*in.Groups)
		}
		return people.Audit(tx, who, "user.change", u.ID, details)
	})
}

func orInherited(k people.Kind) string {
	if k == "" {
		return "inherited"
	}
	return string(k)
}

// others refuses what nobody does to an owner, to an operator of the portal, or
// to himself.
func others(who people.Actor, u people.User) error {
	switch {
	case u.Role == people.Owner:
		return fault.New("", "person-owner")
	case u.ID == who.User:
		return fault.New("", "person-self")
	case u.Operator:
		return fault.New("", "person-operator")
	}
	return nil
}

// Suspend keeps a person out at once, with all sessions and tokens; what he has
// stays.
func (s *Service) Suspend(ctx context.Context, who people.Actor, id string) error {
	return s.change(ctx, who, id, func(tx *store.Tx, u people.User) error {
		if err := others(who, u); err != nil {
			return err
		}
		if u.State == people.Suspended {
			return nil
		}
		if _, err := tx.Exec("UPDATE users SET state = ?, stamp = stamp + 1 WHERE id = ?", string(people.Suspended), u.ID); err != nil {
			return err
		}
		return people.Audit(tx, who, "user.suspend", u.ID, map[string]any{"email": u.Email})
	})
}

// Resume lets a suspended person in again. One who never had a way to sign in is
// invited as before.
func (s *Service) Resume(ctx context.Context, who people.Actor, id string) error {
	return s.change(ctx, who, id, func(tx *store.Tx, u people.User) error {
		if u.State != people.Suspended {
			return nil
		}
		var ways int
		if err := tx.Row("SELECT (SELECT COUNT(*) FROM identities i WHERE i.user_id = u.id) + CASE WHEN u.password <> '' THEN 1 ELSE 0 END FROM users u WHERE u.id = ?", u.ID).Scan(&ways); err != nil {
			return err
		}
		state := people.Invited
		if ways > 0 {
			state = people.Active
		}
		if _, err := tx.Exec("UPDATE users SET state = ? WHERE id = ?", string(state), u.ID); err != nil {
			return err
		}
		return people.Audit(tx, who, "user.resume", u.ID, map[string]any{"email": u.Email})
	})
}

// Remove deletes a person with his sessions, tokens and meetings.
func (s *Service) Remove(ctx context.Context, who people.Actor, id string) error {
	return s.change(ctx, who, id, func(tx *store.Tx, u people.User) error {
		if err := others(who, u); err != nil {
			return err
		}
		if err := unopened(tx, "user", u.ID); err != nil {
			return err
		}
		if err := removeUser(tx, u); err != nil {
			return err
		}
		return people.Audit(tx, who, "user.remove", u.ID, map[string]any{"email": u.Email, "name": u.Name})
	})
}

// removeUser deletes a person and what the database does not delete with him.
func removeUser(tx *store.Tx, u people.User) error {
	if _, err := tx.Exec("DELETE FROM zone_users WHERE what = 'user' AND id = ?", u.ID); err != nil {
		return err
	}
	if _, err := tx.Exec("DELETE FROM mails WHERE address = ? AND sent = 0", u.Email); err != nil {
		return err
	}
	_, err := tx.Exec("DELETE FROM users WHERE id = ?", u.ID)
	return err
}

// Transfer makes another active person the owner; who was it becomes an admin.
func (s *Service) Transfer(ctx context.Context, who people.Actor, id string) error {
	return s.db.Write(ctx, func(tx *store.Tx) error {
		if err := now(tx, who, people.Owner); err != nil {
			return err
		}
		u, err := userOf(tx, who, id)
		switch {
		case err != nil:
			return err
		case u.ID == who.User:
			return fault.New("", "person-self")
		case u.State != people.Active:
			return fault.New("", "owner-active")
		}
		if _, err := tx.Exec("UPDATE users SET role = ? WHERE id = ?", string(people.Admin), who.User); err != nil {
			return err
		}
		if _, err := tx.Exec("UPDATE users SET role = ? WHERE id = ?", string(people.Owner), u.ID); err != nil {
			return err
		}
		return people.Audit(tx, who, "account.transfer", u.ID, map[string]any{"email": u.Email})
	})
}

// Bulk is a kind for several people.
type Bulk struct {
	People []string    `json:"people"` // ids
	Kind   people.Kind `json:"kind"`   // "": inherited
}

// SetKind gives several people a kind of their own, or takes it away: all of
// them, or none when one is unknown.
func (s *Service) SetKind(ctx context.Context, who people.Actor, in Bulk) error {
	var l fault.List
	kind(&l, "kind", in.Kind, true)
	switch {
	case len(in.People) == 0:
		l.Add("people", "people-none")
	case len(in.People) > maxBulk:
		l.Add("people", "many", maxBulk)
	}
	if err := l.Err(); err != nil {
		return err
	}
	return s.db.Write(ctx, func(tx *store.Tx) error {
		if err := now(tx, who, people.Admin); err != nil {
			return err
		}
		for _, id := range in.People {
			u, err := userOf(tx, who, id)
			if err != nil {
				return err
			}
			if u.Role == people.Owner && !who.At(people.Owner) {
				return people.ErrDenied
			}
			if _, err := tx.Exec("UPDATE users SET kind = ? WHERE id = ?", string(in.Kind), id); err != nil {
				return err
			}
		}
		return people.Audit(tx, who, "user.kinds", "", map[string]any{"kind": orInherited(in.Kind), "people": len(in.People)})
	})
}

// Counts of an account's people.
type Counts struct {
	People int `json:"people"`
	OnPrem int `json:"onPrem"` // active, with that kind in effect
}

func counts(tx *store.Tx, account string) (c Counts, err error) {
	a, err := people.GetAccount(tx, account)
	if err != nil {
		return c, err
	}
	if err := tx.Row("SELECT COUNT(*) FROM users WHERE account_id = ?", account).Scan(&c.People); err != nil {
		return c, err
	}
	err = tx.Row("SELECT COUNT(*) FROM users u WHERE u.account_id = ? AND u.state = 'active' AND (u.kind = 'onprem' OR u.kind = '' AND "+groupRank+" IN (3, ?))",
		account, accountRank(a, people.KindOnPrem)).Scan(&c.OnPrem)
	return c, err
}
