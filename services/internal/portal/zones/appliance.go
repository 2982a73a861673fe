package zones

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/idna"

	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/store"
)

// Bounds of appliances.
const (
	maxAppliances = 500 // of a zone
	maxExternal   = 8   // addresses
	maxAllowed    = 1000
)

// Appliance is a machine that is enrolled.
type Appliance struct {
	ID         string    `json:"id"`
	Account    string    `json:"-"`
	Zone       string    `json:"zone"` // id
	Role       link.Role `json:"role"`
	Host       string    `json:"host"`
	PublicName string    `json:"publicName,omitempty"` // that browsers use
	External   []string  `json:"external"`             // addresses outside 1:1 NAT
	Serial     string    `json:"serial"`
	Previous   string    `json:"-"`       // serials of those before it that are good, with spaces between
	Expires    time.Time `json:"expires"` // of its certificate
	Enrolled   time.Time `json:"enrolled"`
}

func listAppliances(tx *store.Tx, where string, args ...any) ([]Appliance, error) {
	var out []Appliance
	err := tx.Each(func(scan func(...any) error) error {
		var a Appliance
		var external string
		var expires, enrolled int64
		if err := scan(&a.ID, &a.Account, &a.Zone, &a.Role, &a.Host, &a.PublicName, &external, &a.Serial, &a.Previous, &expires, &enrolled); err != nil {
			return err
		}
		a.Expires, a.Enrolled = store.FromMillis(expires), store.FromMillis(enrolled)
		err := json.Unmarshal([]byte(external), &a.External)
		out = append(out, a)
		return err
	}, "SELECT p.id, p.account_id, p.zone_id, p.role, p.name, p.public_name, p.external, p.serial, p.previous, p.expires, p.enrolled FROM appliances p WHERE "+where+" ORDER BY p.role, p.name, p.id", args...)
	return out, err
}

func getAppliance(tx *store.Tx, id string) (Appliance, error) {
	list, err := listAppliances(tx, "p.id = ? AND p.revoked = 0", id)
	if err != nil {
		return Appliance{}, err
	}
	if len(list) == 0 {
		return Appliance{}, people.ErrUnknown
	}
	return list[0], nil
}

func ownAppliance(tx *store.Tx, who people.Actor, id string) (Appliance, error) {
	a, err := getAppliance(tx, id)
	if err == nil && (who.Account == "" || a.Account != who.Account) {
		return Appliance{}, people.ErrUnknown
	}
	return a, err
}

// Appliances lists what is enrolled in the zones of the actor's account.
func (s *Service) Appliances(ctx context.Context, who people.Actor) ([]Appliance, error) {
	var out []Appliance
	err := s.cfg.DB.Read(ctx, func(tx *store.Tx) (err error) {
		out, err = listAppliances(tx, "p.account_id = ? AND p.revoked = 0", who.Account)
		return err
	})
	return out, err
}

// NamesInput is how an appliance is reached from outside.
type NamesInput struct {
	PublicName string   `json:"publicName"`
	External   []string `json:"external"`
}

// SetNames changes how an appliance is reached from outside. A public name is a
// controller's alone.
func (s *Service) SetNames(ctx context.Context, who people.Actor, id string, in NamesInput) error {
	var l fault.List
	name := ""
	if in.PublicName != "" {
		var ok bool
		if name, ok = dnsName(in.PublicName); !ok {
			l.Add("publicName", "public-name", in.PublicName)
		}
	}
	external := []string{}
	if len(in.External) > maxExternal {
		l.Add("external", "many", maxExternal)
	}
	for _, e := range in.External {
		a, err := netip.ParseAddr(strings.TrimSpace(e))
		switch {
		case err != nil || a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a.IsLinkLocalUnicast():
			l.Add("external", "external-address", e)
		case slices.Contains(external, a.String()):
			l.Add("external", "in-list-already", e)
		default:
			external = append(external, a.String())
		}
	}
	if err := l.Err(); err != nil {
		return err
	}
	b, err := json.Marshal(external)
	if err != nil {
		return err
	}
	return s.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		a, err := ownAppliance(tx, who, id)
		if err != nil {
			return err
		}
		if name != "" && a.Role != link.Controller {
			return fault.New("publicName", "public-name-router")
		}
		if name != "" {
			var n int
			// Of this account alone: another one that claims the name first must not
			// keep its owner from it, nor learn that it is in use.
			if err := tx.Row("SELECT COUNT(*) FROM appliances WHERE account_id = ? AND public_name = ? AND revoked = 0 AND id <> ?", a.Account, name, id).Scan(&n); err != nil {
				return err
			}
			if n > 0 {
				return fault.New("publicName", "public-name-taken")
			}
		}
		if _, err := tx.Exec("UPDATE appliances SET public_name = ?, external = ? WHERE id = ?", name, string(b), id); err != nil {
			return err
		}
		if err := Touch(tx, a.Zone); err != nil {
			return err
		}
		return people.Audit(tx, who, "appliance.names", id, map[string]any{"host": a.Host, "publicName": name, "external": external})
	})
}

// dnsName checks a host name that browsers use: of at least two labels, as
// certificates have it; letters beyond ASCII become their A-labels (RFC 5890).
func dnsName(s string) (string, bool) {
	s, err := idna.Lookup.ToASCII(strings.TrimSuffix(strings.ToLower(strings.TrimSpace(s)), "."))
	if err != nil || len(s) > 253 || !strings.Contains(s, ".") {
		return "", false
	}
	if _, err := netip.ParseAddr(s); err == nil {
		return "", false
	}
	for _, label := range strings.Split(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.ContainsFunc(label, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' }) {
			return "", false
		}
	}
	return s, true
}

// RemoveAppliance takes an appliance out of its zone: its certificate is good for
// nothing from now on, and its link ends within seconds.
func (s *Service) RemoveAppliance(ctx context.Context, who people.Actor, id string) error {
	return s.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		a, err := ownAppliance(tx, who, id)
		if err != nil {
			return err
		}
		if err := s.revoke(tx, id, a.Zone); err != nil {
			return err
		}
		return people.Audit(tx, who, "appliance.remove", id, map[string]any{"host": a.Host, "role": string(a.Role)})
	})
}

func (s *Service) revoke(tx *store.Tx, id, zone string) error {
	if _, err := tx.Exec("UPDATE appliances SET revoked = ? WHERE id = ?", store.Millis(s.now()), id); err != nil {
		return err
	}
	tx.Notify(TopicRevoked, id)
	return Touch(tx, zone) // its peers forget it
}

// Allowed is who may use a zone. No users and groups: everybody of the account.
type Allowed struct {
	Users    []string `json:"users"`    // ids
	Groups   []string `json:"groups"`   // ids
	Accounts []string `json:"accounts"` // ids of sub-accounts, beside the account itself; of Allow nil: as they are
	Emails   []string `json:"-"`        // addresses of Users
}

// whats are the kinds of rows in zone_users.
var whats = []string{"user", "group", "account"}

func (a *Allowed) of(what string) *[]string {
	switch what {
	case "user":
		return &a.Users
	case "group":
		return &a.Groups
	}
	return &a.Accounts
}

// Allowed returns who may use a zone.
func (s *Service) Allowed(ctx context.Context, who people.Actor, zone string) (Allowed, error) {
	var out Allowed
	err := s.cfg.DB.Read(ctx, func(tx *store.Tx) error {
		out = Allowed{[]string{}, []string{}, []string{}, []string{}}
		if _, err := own(tx, who, zone); err != nil {
			return err
		}
		return tx.Each(func(scan func(...any) error) error {
			var what, id, email string
			if err := scan(&what, &id, &email); err != nil {
				return err
			}
			to := out.of(what)
			*to = append(*to, id)
			if what == "user" && email != "" { // one who went elsewhere has none here
				out.Emails = append(out.Emails, email)
			}
			return nil
		}, "SELECT r.what, r.id, COALESCE(u.email, '') FROM zone_users r LEFT JOIN users u ON r.what = 'user' AND u.id = r.id WHERE r.zone_id = ? ORDER BY r.id", zone)
	})
	return out, err
}

// Allow says who may use a zone; people of the account may be named by their
// addresses too. Sub-accounts are the owner's matter, as everywhere: whoever
// else names other ones than there are gets people.ErrDenied.
func (s *Service) Allow(ctx context.Context, who people.Actor, zone string, in Allowed) error {
	return s.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		z, err := own(tx, who, zone)
		if err != nil {
			return err
		}
		if in.Accounts != nil && !who.At(people.Owner) {
			if same, err := hasAccounts(tx, zone, in.Accounts); err != nil || !same {
				return cmp.Or(err, people.ErrDenied)
			}
		}
		var l fault.List
		taken := map[string]bool{}
		for _, what := range whats {
			ids := *in.of(what)
			if what == "account" && ids == nil {
				continue
			}
			if _, err := tx.Exec("DELETE FROM zone_users WHERE zone_id = ? AND what = ?", zone, what); err != nil {
				return err
			}
			if len(ids) > maxAllowed {
				l.Add(what+"s", "many", maxAllowed)
				continue
			}
			slices.Sort(ids)
			for _, id := range slices.Compact(ids) {
				query, args := "SELECT id FROM users WHERE (id = ? OR email = ?) AND account_id = ?", []any{id, strings.ToLower(strings.TrimSpace(id)), who.Account}
				switch what {
				case "group":
					query, args = "SELECT id FROM groups WHERE id = ? AND account_id = ?", []any{id, who.Account}
				case "account":
					query, args = "SELECT id FROM accounts WHERE id = ? AND parent_id = ?", []any{id, who.Account}
				}
				var found string
				err := tx.Row(query, args...).Scan(&found)
				if errors.Is(err, store.ErrNotFound) {
					if what == "user" {
						l.Add("users", "zone-user", cleanText(id, 100))
					} else {
						l.Add(what+"s", "unknown-choice")
					}
					break
				}
				if err != nil {
					return err
				}
				if taken[what+found] {
					continue // by id and by address
				}
				taken[what+found] = true
				if _, err := tx.Exec("INSERT INTO zone_users (zone_id, what, id) VALUES (?,?,?)", zone, what, found); err != nil {
					return err
				}
			}
		}
		if err := l.Err(); err != nil {
			return err
		}
		return people.Audit(tx, who, "zone.allow", zone, map[string]any{"name": z.Name, "users": len(in.Users), "groups": len(in.Groups), "accounts": len(in.Accounts)})
	})
}

// hasAccounts reports whether exactly those sub-accounts may use a zone.
func hasAccounts(tx *store.Tx, zone string, ids []string) (bool, error) {
	var have []string
	err := tx.Each(func(scan func(...any) error) error {
		var id string
		err := scan(&id)
		have = append(have, id)
		return err
	}, "SELECT id FROM zone_users WHERE zone_id = ? AND what = 'account'", zone)
	want := slices.Clone(ids)
	slices.Sort(have)
	slices.Sort(want)
	return slices.Equal(have, slices.Compact(want)), err
}

// Config returns what an appliance is told.
func (s *Service) Config(ctx context.Context, id string) (link.Config, error) {
	var c link.Config
	var account string
	err := s.cfg.DB.Read(ctx, func(tx *store.Tx) error {
		if err := check(tx, id); err != nil {
			return err
		}
		a, err := getAppliance(tx, id)
		if err != nil {
			return err
		}
		account = a.Account
		z, err := Get(tx, a.Zone)
		if err != nil {
			return err
		}
		acc, err := people.GetAccount(tx, a.Account)
		if err != nil {
			return err
		}
		list, err := s.authorities(tx, z.ID)
		if err != nil {
			return err
		}
		c = link.Config{Generation: z.Generation, Zone: z.Name, Portal: strings.TrimSuffix(s.cfg.URL.String(), "/"), Production: !acc.Production.IsZero(), PublicName: a.PublicName, External: a.External,
			Authority: chain(list), Appliances: []link.Peer{}, Keys: json.RawMessage(`{"keys":[]}`)}
		peers, err := listAppliances(tx, "p.zone_id = ? AND p.revoked = 0", z.ID)
		for _, p := range peers {
			c.Appliances = append(c.Appliances, link.Peer{ID: p.ID, Role: p.Role, Host: p.Host, PublicName: p.PublicName, Serials: serials(p.Serial, p.Previous), Addresses: []netip.Addr{}})
		}
		return err
	})
	if err != nil {
		return c, err
	}
	if s.cfg.Live != nil {
		states, err := s.cfg.Live.Appliances(ctx, account)
		if err != nil {
			return c, err
		}
		for i := range c.Appliances {
			for _, st := range states {
				if st.Appliance == c.Appliances[i].ID {
					c.Appliances[i].Addresses = slices.Clone(st.Status.Addresses)
				}
			}
		}
	}
	if s.cfg.Keys != nil {
		keys, err := s.cfg.Keys.JWKS(ctx)
		if err != nil {
			return c, err
		}
		c.Keys = keys
	}
	if s.cfg.Names != nil {
		path, text, chain, err := s.cfg.Names.Config(ctx, id)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return c, err
		}
		if path != "" {
			c.Challenges = []link.Challenge{{Path: path, Text: text}}
		}
		c.Chain = chain
	}
	return c, nil
}
