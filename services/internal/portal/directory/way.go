package directory

import (
	"context"
	"time"

	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/store"
)

// Way is how far an account is on its way to meetings of its own. Only an admin
// gets the numbers.
type Way struct {
	Account    people.Account
	Kind       people.Kind // of the actor, in effect
	Tokens     int         // that are good
	Appliances int         // that are enrolled
	Counts
}

// Way returns it, for every person of an account.
func (s *Service) Way(ctx context.Context, who people.Actor) (w Way, err error) {
	err = s.db.Read(ctx, func(tx *store.Tx) error {
		w = Way{}
		if err := now(tx, who, people.Member); err != nil {
			return err
		}
		if w.Account, err = people.GetAccount(tx, who.Account); err != nil {
			return err
		}
		u, err := people.GetUser(tx, who.User)
		if err != nil {
			return err
		}
		if w.Kind, err = people.EffectiveKind(tx, u); err != nil || !who.At(people.Admin) {
			return err
		}
		if err := tx.Row("SELECT COUNT(*) FROM enrol_tokens WHERE account_id = ? AND revoked = 0 AND (expires = 0 OR expires > ?)", who.Account, store.Millis(time.Now())).Scan(&w.Tokens); err != nil {
			return err
		}
		if err := tx.Row("SELECT COUNT(*) FROM appliances WHERE account_id = ? AND revoked = 0", who.Account).Scan(&w.Appliances); err != nil {
			return err
		}
		w.Counts, err = counts(tx, who.Account)
		return err
	})
	return w, err
}
