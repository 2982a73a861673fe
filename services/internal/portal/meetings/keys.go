package meetings

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/store"
	"github.com/parley-meet/parley/services/internal/portal/zones"
	"github.com/parley-meet/parley/services/internal/ticket"
)

// Times of keys.
const (
	keyLife   = 30 * 24 * time.Hour
	keyLead   = 2 * time.Hour // from publishing to signing; controllers have heard of it by then
	keyLinger = ticket.TTL + ticket.Skew + time.Minute
	keyCheck  = time.Minute
)

const purposeKey = "ticket key"

// Key is a key of tickets, without its private half.
type Key struct {
	ID      string    `json:"id"`
	Created time.Time `json:"created"`
	Signs   time.Time `json:"signs"`
	Current bool      `json:"current"`

	public ed25519.PublicKey
	sealed []byte
}

// keys returns all, the next to sign first.
func keys(tx *store.Tx, now time.Time) ([]Key, error) {
	var out []Key
	err := tx.Each(func(scan func(...any) error) error {
		var k Key
		var created, signs int64
		if err := scan(&k.ID, (*[]byte)(&k.public), &k.sealed, &created, &signs); err != nil {
			return err
		}
		k.Created, k.Signs = store.FromMillis(created), store.FromMillis(signs)
		out = append(out, k)
		return nil
	}, "SELECT id, public, key, created, signs FROM ticket_keys ORDER BY signs DESC, id")
	for i := range out {
		if !out[i].Signs.After(now) {
			out[i].Current = true
			break
		}
	}
	return out, err
}

// addKey makes a key that signs from a time on.
func (s *Service) addKey(tx *store.Tx, now, signs time.Time) (Key, error) {
	pub, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return Key{}, err
	}
	k := Key{ID: ticket.NewID(), Created: now, Signs: signs, public: pub}
	k.sealed = s.cfg.Vault.Seal(purposeKey, k.ID, private.Seed())
	_, err = tx.Exec("INSERT INTO ticket_keys (id, public, key, created, signs) VALUES (?,?,?,?,?)", k.ID, []byte(pub), k.sealed, store.Millis(now), store.Millis(signs))
	return k, err
}

// turn does what is due: the first key, the next one, the end of an old one. It
// reports whether something changed.
func (s *Service) turn(tx *store.Tx, now time.Time) (bool, error) {
	list, err := keys(tx, now)
	if err != nil {
		return false, err
	}
	current := -1
	for i, k := range list {
		if k.Current {
			current = i
		}
	}
	changed := false
	switch {
	case current < 0:
		// None may sign: the first start, or clocks that were set back.
		if _, err := s.addKey(tx, now, now); err != nil {
			return false, err
		}
		return true, nil
	case current == 0 && now.Sub(list[0].Signs) >= keyLife-keyLead:
		if _, err := s.addKey(tx, now, now.Add(keyLead)); err != nil {
			return false, err
		}
		changed = true
	}
	if now.Sub(list[current].Signs) >= keyLinger {
		for _, k := range list[current+1:] {
			if _, err := tx.Exec("DELETE FROM ticket_keys WHERE id = ?", k.ID); err != nil {
				return false, err
			}
			changed = true
		}
	}
	return changed, nil
}

// touchAll has all zones told of the keys.
func touchAll(tx *store.Tx) error {
	var ids []string
	err := tx.Each(func(scan func(...any) error) error {
		var id string
		err := scan(&id)
		ids = append(ids, id)
		return err
	}, "SELECT id FROM zones ORDER BY id")
	for _, id := range ids {
		if err == nil {
			err = zones.Touch(tx, id)
		}
	}
	return err
}

// Turn does what is due with the keys. Run does it each minute.
func (s *Service) Turn(ctx context.Context) error {
	changed := false
	err := s.cfg.DB.Write(ctx, func(tx *store.Tx) (err error) {
		if changed, err = s.turn(tx, s.cfg.Now()); err == nil && changed {
			err = touchAll(tx)
		}
		return err
	})
	if err == nil && changed {
		s.cfg.Log.Info("ticket keys changed")
	}
	return err
}

// Run keeps the keys until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	t := time.NewTicker(keyCheck)
	defer t.Stop()
	for {
		if err := s.Turn(ctx); err != nil && ctx.Err() == nil {
			s.cfg.Log.Error("ticket keys", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// Keys lists them for the portal's operator.
func (s *Service) Keys(ctx context.Context, who people.Actor) (out []Key, err error) {
	if !who.Operator {
		return nil, people.ErrDenied
	}
	err = s.cfg.DB.Read(ctx, func(tx *store.Tx) error {
		out, err = keys(tx, s.cfg.Now())
		return err
	})
	return out, err
}

// Replace takes all keys away at once and makes a new one, for the day on which
// one has become known. Tickets that were given out are refused as soon as a
// controller has heard of it; who holds one asks for another.
func (s *Service) Replace(ctx context.Context, who people.Actor) error {
	if !who.Operator {
		return people.ErrDenied
	}
	err := s.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		now := s.cfg.Now()
		if _, err := tx.Exec("DELETE FROM ticket_keys"); err != nil {
			return err
		}
		k, err := s.addKey(tx, now, now)
		if err != nil {
			return err
		}
		if err := touchAll(tx); err != nil {
			return err
		}
		return people.Audit(tx, who, "ticket.keys", k.ID, nil)
	})
	if err == nil {
		s.cfg.Log.Warn("ticket keys replaced", "by", who.User)
	}
	return err
}

// JWKS returns the public keys (RFC 7517), as controllers get them.
func (s *Service) JWKS(ctx context.Context) ([]byte, error) {
	var out []byte
	err := s.cfg.DB.Read(ctx, func(tx *store.Tx) error {
		list, err := keys(tx, s.cfg.Now())
		if err != nil {
			return err
		}
		set := ticket.Set{}
		for _, k := range list {
			set[k.ID] = k.public
		}
		out, err = set.Format()
		return err
	})
	return out, err
}

// signer returns the key that signs now.
func (s *Service) signer(tx *store.Tx, now time.Time) (ticket.Key, error) {
	list, err := keys(tx, now)
	if err != nil {
		return ticket.Key{}, err
	}
	for _, k := range list {
		if !k.Current {
			continue
		}
		seed, err := s.cfg.Vault.Open(purposeKey, k.ID, k.sealed)
		if err != nil || len(seed) != ed25519.SeedSize {
			return ticket.Key{}, fmt.Errorf("ticket key %s: %w", k.ID, err)
		}
		return ticket.Key{ID: k.ID, Private: ed25519.NewKeyFromSeed(seed)}, nil
	}
	// The task has not made the first one yet.
	return ticket.Key{}, errNoKey
}
