package live

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/parley-meet/parley/services/internal/link"
	"github.com/parley-meet/parley/services/internal/portal/store"
)

// maxBatch is how many events of an appliance wait, and how many are stored in
// one transaction. Behind that the connection is not read: an appliance has no
// more on their way (package link).
const maxBatch = 32

// store takes the events that were read. It is apart from reading: when a
// database is slow, as after an outage of which all appliances have much to tell,
// their statuses and pings are answered all the same, and their links stand.
func (c *conn) store(ctx context.Context, boot string) error {
	for {
		var batch []link.Event
		select {
		case e := <-c.events:
			batch = append(batch, e)
		case <-ctx.Done():
			return ctx.Err()
		}
		for len(batch) < maxBatch && len(c.events) > 0 {
			batch = append(batch, <-c.events)
		}
		if c.gone.Load() {
			continue // they come again by the connection that took this one's place
		}
		if err := c.take(ctx, boot, batch); err != nil {
			return fmt.Errorf("events %d to %d: %w", batch[0].Number, batch[len(batch)-1].Number, err)
		}
	}
}

// take stores events and has them acknowledged.
func (c *conn) take(ctx context.Context, boot string, batch []link.Event) error {
	last := c.taken.Load()
	batch = slices.DeleteFunc(batch, func(e link.Event) bool {
		known := e.Number <= last
		if e.Number > last+1 && !c.gap { // once: it may be said as often as the appliance likes
			c.gap = true
			c.s.cfg.Log.Warn("events of an appliance are missing", "appliance", c.id.Appliance, "from", last+1, "to", e.Number-1)
		}
		last = max(last, e.Number)
		return known
	})
	if len(batch) > 0 {
		if err := c.s.take(ctx, c.id, boot, batch); err != nil {
			return err
		}
		c.taken.Store(last)
	}
	select {
	case c.acks <- struct{}{}:
	default: // the one that is due tells of these too
	}
	return nil
}

// lastEvent returns the number of the last event taken of an appliance's start.
func (s *Service) lastEvent(ctx context.Context, appliance, boot string) (uint64, error) {
	var n int64
	err := s.cfg.DB.Read(ctx, func(tx *store.Tx) error {
		return tx.Row("SELECT number FROM appliance_events WHERE appliance_id = ? AND boot = ?", appliance, boot).Scan(&n)
	})
	if errors.Is(err, store.ErrNotFound) {
		return 0, nil
	}
	return uint64(n), err
}

// keptBoots is how many starts of an appliance have their last number kept.
const keptBoots = 5

// take hands events, whose numbers grow, to those who want them, once.
func (s *Service) take(ctx context.Context, from Identity, boot string, batch []link.Event) error {
	// Nobody knows some events; they are taken and forgotten.
	batch = slices.DeleteFunc(batch, func(e link.Event) bool { return e.Name == "" || len(e.Name) > 64 || e.Number > 1<<62 })
	if len(batch) == 0 {
		return nil
	}
	return s.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		for _, e := range batch {
			// Another connection of the same appliance may have brought it meanwhile.
			n, err := tx.Exec(`INSERT INTO appliance_events (appliance_id, boot, number, at) VALUES (?,?,?,?)
ON CONFLICT (appliance_id, boot) DO UPDATE SET number = excluded.number, at = excluded.at WHERE appliance_events.number < excluded.number`,
				from.Appliance, boot, int64(e.Number), store.Millis(s.now()))
			if err != nil {
				return err
			}
			if n == 0 {
				continue
			}
			for _, h := range s.cfg.Events {
				if err := h.HandleEvent(tx, from, e); err != nil {
					return err
				}
			}
		}
		_, err := tx.Exec("DELETE FROM appliance_events WHERE appliance_id = ? AND boot NOT IN (SELECT boot FROM appliance_events WHERE appliance_id = ? ORDER BY at DESC LIMIT ?)",
			from.Appliance, from.Appliance, keptBoots)
		return err
	})
}
