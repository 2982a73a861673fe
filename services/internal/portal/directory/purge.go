package directory

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/parley-meet/parley/services/internal/portal/store"
)

// How often and how much at a time: other writers of SQLite wait for a batch.
const (
	purgeEvery = time.Hour
	purgeBatch = 500
)

// Run deletes what is too old until ctx ends: lines of audit logs, and accounts
// that were closed KeepClosed ago. Several instances may do so at once.
func (s *Service) Run(ctx context.Context) error {
	t := time.NewTicker(purgeEvery)
	defer t.Stop()
	for {
		if err := s.Purge(ctx, time.Now()); err != nil && ctx.Err() == nil {
			s.log.Error("purge", "error", err)
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// Purge deletes what is too old at a moment.
func (s *Service) Purge(ctx context.Context, at time.Time) error {
	var days int
	var closed []string
	err := s.db.Read(ctx, func(tx *store.Tx) error {
		closed = nil
		p, err := portalSettings(tx)
		if err != nil {
			return err
		}
		days = p.AuditDays
		return tx.Each(func(scan func(...any) error) error {
			var id string
			err := scan(&id)
			closed = append(closed, id)
			return err
		}, "SELECT id FROM accounts WHERE closed <> 0 AND closed < ?", store.Millis(at.Add(-KeepClosed)))
	})
	if err != nil {
		return err
	}
	if days > 0 {
		if err := s.drain(ctx, "audit", "id < ?", store.FirstID(at.AddDate(0, 0, -days))); err != nil {
			return err
		}
	}
	for _, id := range closed {
		if err := s.erase(ctx, id, at); err != nil {
			return fmt.Errorf("account %s: %w", id, err)
		}
	}
	return nil
}

// drain deletes rows of a table in batches, by what each database calls a row.
func (s *Service) drain(ctx context.Context, table, where string, args ...any) error {
	for {
		var n int64
		err := s.db.Write(ctx, func(tx *store.Tx) (err error) {
			row := "rowid"
			if tx.Kind() == store.Postgres {
				row = "ctid"
			}
			n, err = tx.Exec("DELETE FROM "+table+" WHERE "+row+" IN (SELECT "+row+" FROM "+table+" WHERE "+where+" LIMIT ?)", append(slices.Clone(args), purgeBatch)...)
			return err
		})
		if err != nil || n < purgeBatch {
			return err
		}
	}
}

// erase deletes a closed account and all that it has: the rows of every table
// that names the account, those that refer to others first.
func (s *Service) erase(ctx context.Context, id string, at time.Time) error {
	var owned []string
	err := s.db.Read(ctx, func(tx *store.Tx) error {
		owned = nil
		tables, err := tx.Tables()
		if err != nil {
			return err
		}
		for _, t := range tables {
			columns, err := tx.Columns(t)
			if err != nil {
				return err
			}
			if slices.ContainsFunc(columns, func(c store.Column) bool { return c.Name == "account_id" }) {
				owned = append(owned, t)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, table := range owned {
		if err := s.drain(ctx, table, "account_id = ?", id); err != nil {
			return fmt.Errorf("%s: %w", table, err)
		}
	}
	return s.db.Write(ctx, func(tx *store.Tx) error {
		if _, err := tx.Exec("DELETE FROM zone_users WHERE what = 'account' AND id = ?", id); err != nil {
			return err
		}
		if _, err := tx.Exec("UPDATE accounts SET parent_id = NULL WHERE parent_id = ?", id); err != nil {
			return err
		}
		// One that was let in again meanwhile is empty, but stays.
		n, err := tx.Exec("DELETE FROM accounts WHERE id = ? AND closed <> 0 AND closed < ?", id, store.Millis(at.Add(-KeepClosed)))
		if err == nil && n == 1 {
			s.log.Info("account deleted", "account", id)
		}
		return err
	})
}
