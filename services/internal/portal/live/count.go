package live

import (
	"time"

	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/portal/store"
)

// AlertCodes are all that an alert can have.
var AlertCodes = []string{"silent", "clock", "certificate", "capacity", "routers", "version", "link-certificate", "gap", "problem"}

// Counts are figures of all accounts together.
type Counts struct {
	Appliances int            // enrolled and not revoked
	Linked     int            // of these, heard of lately, by any instance
	Alerts     map[string]int // open, by code; each code is there
}

// Count counts.
func Count(tx *store.Tx, now time.Time) (Counts, error) {
	c := Counts{Alerts: map[string]int{}}
	for _, code := range AlertCodes {
		c.Alerts[code] = 0
	}
	if err := tx.Row(`SELECT COUNT(*), COALESCE(SUM(CASE WHEN l.contact >= ? THEN 1 ELSE 0 END), 0)
FROM appliances a LEFT JOIN appliance_live l ON l.appliance_id = a.id WHERE a.revoked = 0`, store.Millis(now.Add(-link.SilentAfter))).Scan(&c.Appliances, &c.Linked); err != nil {
		return c, err
	}
	return c, tx.Each(func(scan func(...any) error) error {
		var code string
		var n int
		if err := scan(&code, &n); err != nil {
			return err
		}
		if _, ok := c.Alerts[code]; ok { // a newer instance may have others
			c.Alerts[code] = n
		}
		return nil
	}, "SELECT code, COUNT(*) FROM alerts WHERE closed = 0 GROUP BY code")
}
