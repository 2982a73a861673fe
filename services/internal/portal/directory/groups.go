package directory

import (
	"context"
	"errors"

	"github.com/parley-meet/parley/services/internal/api"
	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/store"
)

// Group is a group of an account's people.
type Group struct {
	ID      string      `json:"id"`
	Name    string      `json:"name"`
	Kind    people.Kind `json:"kind,omitempty"` // that it gives its members; "" is none
	Members int         `json:"members"`
}

// GroupInput is a group to make or change.
type GroupInput struct {
	Name string      `json:"name"`
	Kind people.Kind `json:"kind"` // "": gives none
}

func (in *GroupInput) check() error {
	var l fault.List
	text(&l, "name", &in.Name)
	kind(&l, "kind", in.Kind, true)
	return l.Err()
}

func groupDetails(in GroupInput) map[string]any {
	d := map[string]any{"name": in.Name}
	if in.Kind != "" {
		d["kind"] = in.Kind
	}
	return d
}

// groupOf returns a group of the actor's account.
func groupOf(tx *store.Tx, who people.Actor, id string) (Group, error) {
	g := Group{ID: id}
	err := tx.Row("SELECT name, kind, (SELECT COUNT(*) FROM group_members m WHERE m.group_id = groups.id) FROM groups WHERE id = ? AND account_id = ?", id, who.Account).Scan(&g.Name, &g.Kind, &g.Members)
	if errors.Is(err, store.ErrNotFound) {
		err = people.ErrUnknown
	}
	return g, err
}

// Groups lists the account's groups by name.
func (s *Service) Groups(ctx context.Context, who people.Actor) ([]Group, error) {
	var out []Group
	err := s.db.Read(ctx, func(tx *store.Tx) error {
		out = []Group{}
		if err := now(tx, who, people.Admin); err != nil {
			return err
		}
		return tx.Each(func(scan func(...any) error) error {
			var g Group
			err := scan(&g.ID, &g.Name, &g.Kind, &g.Members)
			out = append(out, g)
			return err
		}, "SELECT g.id, g.name, g.kind, (SELECT COUNT(*) FROM group_members m WHERE m.group_id = g.id) FROM groups g WHERE g.account_id = ? ORDER BY g.name, g.id", who.Account)
	})
	return out, err
}

// GetGroup returns one.
func (s *Service) GetGroup(ctx context.Context, who people.Actor, id string) (g Group, err error) {
	err = s.db.Read(ctx, func(tx *store.Tx) error {
		if err := now(tx, who, people.Admin); err != nil {
			return err
		}
		g, err = groupOf(tx, who, id)
		return err
	})
	return g, err
}

// AddGroup makes one.
func (s *Service) AddGroup(ctx context.Context, who people.Actor, in GroupInput) (Group, error) {
	if err := in.check(); err != nil {
		return Group{}, err
	}
	g := Group{Name: in.Name, Kind: in.Kind}
	err := s.db.Write(ctx, func(tx *store.Tx) error {
		if err := now(tx, who, people.Admin); err != nil {
			return err
		}
		var n int
		if err := tx.Row("SELECT COUNT(*) FROM groups WHERE account_id = ?", who.Account).Scan(&n); err != nil {
			return err
		}
		if n >= maxGroups {
			return fault.New("", "many", maxGroups)
		}
		g.ID = store.NewID()
		if _, err := tx.Exec("INSERT INTO groups (id, account_id, name, kind) VALUES (?,?,?,?)", g.ID, who.Account, g.Name, string(g.Kind)); err != nil {
			return taken(err)
		}
		return people.Audit(tx, who, "group.add", g.ID, groupDetails(in))
	})
	return g, err
}

func taken(err error) error {
	if errors.Is(err, store.ErrConflict) {
		return fault.New("name", "group-exists")
	}
	return err
}

// changeGroup carries out what an admin does to a group of his account.
func (s *Service) changeGroup(ctx context.Context, who people.Actor, id string, do func(*store.Tx, Group) error) error {
	return s.db.Write(ctx, func(tx *store.Tx) error {
		if err := now(tx, who, people.Admin); err != nil {
			return err
		}
		g, err := groupOf(tx, who, id)
		if err != nil {
			return err
		}
		return do(tx, g)
	})
}

// SetGroup changes one.
func (s *Service) SetGroup(ctx context.Context, who people.Actor, id string, in GroupInput) error {
	if err := in.check(); err != nil {
		return err
	}
	return s.changeGroup(ctx, who, id, func(tx *store.Tx, g Group) error {
		if _, err := tx.Exec("UPDATE groups SET name = ?, kind = ? WHERE id = ?", in.Name, string(in.Kind), g.ID); err != nil {
			return taken(err)
		}
		return people.Audit(tx, who, "group.change", g.ID, groupDetails(in))
	})
}

// RemoveGroup deletes one. Its people stay; a zone that was for it alone, and for
// nobody else, is for everybody then, so such a group is refused.
func (s *Service) RemoveGroup(ctx context.Context, who people.Actor, id string) error {
	return s.changeGroup(ctx, who, id, func(tx *store.Tx, g Group) error {
		if err := unopened(tx, "group", g.ID); err != nil {
			return err
		}
		if _, err := tx.Exec("DELETE FROM zone_users WHERE what = 'group' AND id = ?", g.ID); err != nil {
			return err
		}
		if _, err := tx.Exec("DELETE FROM groups WHERE id = ?", g.ID); err != nil {
			return err
		}
		return people.Audit(tx, who, "group.remove", g.ID, map[string]any{"name": g.Name})
	})
}

// unopened refuses to take away the last group or person that a zone is
// restricted to: without one it would be for everybody.
func unopened(tx *store.Tx, what, id string) error {
	var zone string
	err := tx.Row(`SELECT z.name FROM zones z JOIN zone_users r ON r.zone_id = z.id WHERE r.what = ? AND r.id = ?
AND NOT EXISTS (SELECT 1 FROM zone_users o WHERE o.zone_id = z.id AND o.what IN ('group', 'user') AND NOT (o.what = ? AND o.id = ?)) LIMIT 1`, what, id, what, id).Scan(&zone)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return fault.New("", "zone-restricted", zone)
}

// MembersInput names people by id or by address.
type MembersInput struct {
	People []string `json:"people,omitempty"`
	Emails []string `json:"emails,omitempty"`
}

// AddMembers puts people of the account into a group; those who are in it stay.
func (s *Service) AddMembers(ctx context.Context, who people.Actor, id string, in MembersInput) error {
	if n := len(in.People) + len(in.Emails); n == 0 {
		return fault.New("emails", "required")
	} else if n > maxBulk {
		return fault.New("emails", "many", maxBulk)
	}
	return s.changeGroup(ctx, who, id, func(tx *store.Tx, g Group) error {
		ids := append([]string(nil), in.People...)
		for _, p := range in.People {
			if _, err := userOf(tx, who, p); err != nil {
				return err
			}
		}
		var l fault.List
		for _, e := range in.Emails {
			email, err := people.NormalizeEmail("emails", e)
			if err != nil {
				l.Add("emails", "person-unknown", api.Cut(e, 60))
				continue
			}
			u, err := people.FindUser(tx, email)
			if errors.Is(err, store.ErrNotFound) || err == nil && u.Account != who.Account {
				l.Add("emails", "person-unknown", email)
				continue
			}
			if err != nil {
				return err
			}
			ids = append(ids, u.ID)
		}
		if err := l.Err(); err != nil {
			return err
		}
		for _, u := range ids {
			if _, err := tx.Exec("INSERT INTO group_members (group_id, user_id) VALUES (?,?) ON CONFLICT DO NOTHING", g.ID, u); err != nil {
				return err
			}
		}
		return people.Audit(tx, who, "group.members-add", g.ID, map[string]any{"name": g.Name, "people": len(ids)})
	})
}

// RemoveMember takes a person out of a group.
func (s *Service) RemoveMember(ctx context.Context, who people.Actor, id, user string) error {
	return s.changeGroup(ctx, who, id, func(tx *store.Tx, g Group) error {
		u, err := userOf(tx, who, user)
		if err != nil {
			return err
		}
		n, err := tx.Exec("DELETE FROM group_members WHERE group_id = ? AND user_id = ?", g.ID, u.ID)
		if err == nil && n == 0 {
			err = people.ErrUnknown
		}
		if err != nil {
			return err
		}
		return people.Audit(tx, who, "group.members-remove", g.ID, map[string]any{"name": g.Name, "email": u.Email})
	})
}
