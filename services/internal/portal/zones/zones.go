// Package zones is the meeting connector as an account has it: its zones, the
// tokens that enrol appliances, each zone's own authority, the appliances, what
// they are told, and the way from test to production.
//
// A zone's authority is made with the zone. Its key is in the database (table
// zone_keys), sealed by the portal's master key and bound to its row: whoever has
// a copy of the database alone cannot read it, whoever also has the master key
// can, and so can the portal's process, which opens it to sign and forgets it.
// Appliances' keys never leave them; of tokens the database has a hash.
package zones

import (
	"time"

	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/store"
)

// Zone is a group of controllers and routers that hold meetings together.
type Zone struct {
	ID         string    `json:"id"`
	Account    string    `json:"-"`
	Name       string    `json:"name"`
	Created    time.Time `json:"created"`
	Generation int64     `json:"generation"` // of its configuration
}

const zoneColumns = "z.id, z.account_id, z.name, z.created, z.generation"

func scanZone(scan func(...any) error) (Zone, error) {
	var z Zone
	var created int64
	err := scan(&z.ID, &z.Account, &z.Name, &created, &z.Generation)
	z.Created = store.FromMillis(created)
	return z, err
}

// Get returns a zone, whatever the account.
func Get(tx *store.Tx, id string) (Zone, error) {
	return scanZone(tx.Row("SELECT "+zoneColumns+" FROM zones z WHERE z.id = ?", id).Scan)
}

// Usable returns the zones in which a person may host: those of his account that
// are for everybody, for one of his groups, or for himself; and those of the
// account above his that his account has been given.
func Usable(tx *store.Tx, u people.User) ([]Zone, error) {
	var out []Zone
	err := tx.Each(func(scan func(...any) error) error {
		z, err := scanZone(scan)
		out = append(out, z)
		return err
	}, `SELECT `+zoneColumns+` FROM zones z JOIN accounts a ON a.id = z.account_id
WHERE a.connector_enabled <> 0 AND a.suspended = 0 AND (
  z.account_id = ? AND (
    NOT EXISTS (SELECT 1 FROM zone_users r WHERE r.zone_id = z.id AND r.what IN ('group', 'user'))
    OR EXISTS (SELECT 1 FROM zone_users r WHERE r.zone_id = z.id AND r.what = 'user' AND r.id = ?)
    OR EXISTS (SELECT 1 FROM zone_users r JOIN group_members m ON m.group_id = r.id WHERE r.zone_id = z.id AND r.what = 'group' AND m.user_id = ?))
  OR EXISTS (SELECT 1 FROM zone_users r JOIN accounts c ON c.id = r.id WHERE r.zone_id = z.id AND r.what = 'account' AND c.id = ? AND c.parent_id = z.account_id))
ORDER BY z.name, z.id`, u.Account, u.ID, u.ID, u.Account)
	return out, err
}

// Touch makes a zone's configuration a new one, and tells whoever holds a link to
// its appliances.
func Touch(tx *store.Tx, id string) error {
	_, err := tx.Exec("UPDATE zones SET generation = generation + 1 WHERE id = ?", id)
	tx.Notify(TopicConfig, id)
	return err
}

// Topics of notes.
const (
	TopicConfig  = "zone-config"       // payload: the zone's id
	TopicRevoked = "appliance-revoked" // payload: the appliance's id
)
