package zones

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/parley-meet/parley/services/internal/fault"
	"github.com/parley-meet/parley/services/internal/portal/live"
	"github.com/parley-meet/parley/services/internal/portal/people"
	"github.com/parley-meet/parley/services/internal/portal/store"
	"github.com/parley-meet/parley/services/internal/portal/vault"
)

// Bounds of an account's connector.
const (
	maxZones  = 50
	maxTokens = 100 // of an account that are good
	maxName   = 64  // characters of a zone's name or a token's title
)

// Keys gives the public keys of tickets, as a JWKS (RFC 7517).
type Keys interface {
	JWKS(context.Context) ([]byte, error)
}

// Browsers issues controllers' certificates for browsers; package names does.
type Browsers interface {
	// Ask takes a controller's signing request (PKCS #10, DER) for its public
	// name; the certificate comes with a later configuration.
	Ask(ctx context.Context, appliance, account, name string, request []byte) error
	// Config returns the challenges that the controller answers, and its chain.
	Config(ctx context.Context, appliance string) (path, text, chain string, err error)
}

// Config is what a Service works with.
type Config struct {
	DB    *store.DB
	Vault *vault.Vault
	URL   *url.URL // of the portal: stands in tokens
	Pin   []byte   // SHA-256 of the root's key, for tokens; nil: a usual authority
	Live  live.States
	Keys  Keys             // nil: none yet
	Names Browsers         // nil: the portal issues none
	Now   func() time.Time // nil: time.Now
	Log   *slog.Logger
}

// Service is the meeting connector. It is safe for concurrent use.
type Service struct {
	cfg Config
	now func() time.Time
}

// New returns a service.
func New(cfg Config) *Service {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if len(cfg.Pin) == 0 {
		cfg.Pin = nil
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Service{cfg: cfg, now: cfg.Now}
}

// SetLive gives it what is linked: that part needs the service first.
func (s *Service) SetLive(l live.States) { s.cfg.Live = l }

// Problems of the connector itself, which the pages have words for.
var (
	// ErrType means that accounts of this type have no connector.
	ErrType = errors.New("accounts of type basic have no meeting connector")
	// ErrOff means that the connector is not enabled.
	ErrOff = errors.New("the meeting connector is not enabled")
)

// Connector is what an account has.
type Connector struct {
	Account people.Account `json:"account"`
	Zones   []Zone         `json:"zones"`
}

// Get returns the actor's connector.
func (s *Service) Get(ctx context.Context, who people.Actor) (Connector, error) {
	var c Connector
	err := s.cfg.DB.Read(ctx, func(tx *store.Tx) (err error) {
		c = Connector{}
		if c.Account, err = people.GetAccount(tx, who.Account); err != nil {
			return err
		}
		c.Zones, err = list(tx, who.Account)
		return err
	})
	return c, err
}

func list(tx *store.Tx, account string) ([]Zone, error) {
	var out []Zone
	err := tx.Each(func(scan func(...any) error) error {
		z, err := scanZone(scan)
		out = append(out, z)
		return err
	}, "SELECT "+zoneColumns+" FROM zones z WHERE z.account_id = ? ORDER BY z.created, z.id", account)
	return out, err
}

// Enable turns the connector on; the first time it makes a zone of that name.
func (s *Service) Enable(ctx context.Context, who people.Actor, zone string) error {
	zone, err := cleanName("zone", zone)
	if err != nil {
		return err
	}
	return s.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		a, err := people.GetAccount(tx, who.Account)
		switch {
		case err != nil:
			return err
		case !a.Type.Connector():
			return ErrType
		case !a.Enabled.IsZero():
			return nil
		}
		if _, err := tx.Exec("UPDATE accounts SET connector_enabled = ? WHERE id = ?", store.Millis(s.now()), a.ID); err != nil {
			return err
		}
		zones, err := list(tx, a.ID)
		if err != nil {
			return err
		}
		if len(zones) == 0 {
			if _, err := s.add(tx, who, zone); err != nil {
				return err
			}
		}
		return people.Audit(tx, who, "connector.enable", a.ID, nil)
	})
}

// Disable turns it off: appliances are sent away within seconds, and no meeting
// starts. Zones, tokens and appliances are kept.
func (s *Service) Disable(ctx context.Context, who people.Actor) error {
	return s.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		n, err := tx.Exec("UPDATE accounts SET connector_enabled = 0, production = 0 WHERE id = ? AND connector_enabled <> 0", who.Account)
		if err != nil || n == 0 {
			return err
		}
		zones, err := list(tx, who.Account)
		if err != nil {
			return err
		}
		for _, z := range zones {
			tx.Notify(TopicConfig, z.ID)
		}
		return people.Audit(tx, who, "connector.disable", who.Account, nil)
	})
}

// enabled returns the account when its connector is on.
func enabled(tx *store.Tx, account string) (people.Account, error) {
	a, err := people.GetAccount(tx, account)
	switch {
	case err != nil:
		return a, err
	case !a.Type.Connector():
		return a, ErrType
	case a.Enabled.IsZero():
		return a, ErrOff
	}
	return a, nil
}

// own returns a zone of the actor's account.
func own(tx *store.Tx, who people.Actor, id string) (Zone, error) {
	z, err := Get(tx, id)
	if errors.Is(err, store.ErrNotFound) || err == nil && (who.Account == "" || z.Account != who.Account) {
		return z, people.ErrUnknown
	}
	return z, err
}

// Add makes a zone with an authority of its own.
func (s *Service) Add(ctx context.Context, who people.Actor, name string) (Zone, error) {
	name, err := cleanName("name", name)
	if err != nil {
		return Zone{}, err
	}
	var z Zone
	err = s.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		if _, err := enabled(tx, who.Account); err != nil {
			return err
		}
		zones, err := list(tx, who.Account)
		if err != nil {
			return err
		}
		if len(zones) >= maxZones {
			return fault.New("name", "zones-many", maxZones)
		}
		if z, err = s.add(tx, who, name); err != nil {
			return err
		}
		return people.Audit(tx, who, "zone.add", z.ID, map[string]any{"name": name})
	})
	return z, taken(err, "name")
}

func (s *Service) add(tx *store.Tx, who people.Actor, name string) (Zone, error) {
	z := Zone{ID: store.NewID(), Account: who.Account, Name: name, Created: s.now().UTC(), Generation: 1}
	if _, err := tx.Exec("INSERT INTO zones (id, account_id, name, created) VALUES (?,?,?,?)", z.ID, z.Account, z.Name, store.Millis(z.Created)); err != nil {
		return z, err
	}
	return z, s.makeAuthority(tx, z)
}

// Rename gives a zone another name.
func (s *Service) Rename(ctx context.Context, who people.Actor, id, name string) error {
	name, err := cleanName("name", name)
	if err != nil {
		return err
	}
	err = s.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		z, err := own(tx, who, id)
		if err != nil || z.Name == name {
			return err
		}
		if _, err := tx.Exec("UPDATE zones SET name = ? WHERE id = ?", name, id); err != nil {
			return err
		}
		if err := Touch(tx, id); err != nil {
			return err
		}
		return people.Audit(tx, who, "zone.rename", id, map[string]any{"from": z.Name, "name": name})
	})
	return taken(err, "name")
}

// Remove removes a zone in which nothing is enrolled, with its tokens and its
// authority. What was enrolled once and taken out goes with it.
func (s *Service) Remove(ctx context.Context, who people.Actor, id string) error {
	return s.cfg.DB.Write(ctx, func(tx *store.Tx) error {
		z, err := own(tx, who, id)
		if err != nil {
			return err
		}
		var n int
		if err := tx.Row("SELECT COUNT(*) FROM appliances WHERE zone_id = ? AND revoked = 0", id).Scan(&n); err != nil {
			return err
		}
		if n > 0 {
			return fault.New("", "zone-in-use", n)
		}
		if err := tx.Row("SELECT COUNT(*) FROM zones WHERE account_id = ?", who.Account).Scan(&n); err != nil {
			return err
		}
		if n == 1 {
			return fault.New("", "zone-last")
		}
		for _, q := range []string{"DELETE FROM appliances WHERE zone_id = ?", "DELETE FROM zones WHERE id = ?"} {
			if _, err := tx.Exec(q, id); err != nil {
				return err
			}
		}
		return people.Audit(tx, who, "zone.remove", id, map[string]any{"name": z.Name})
	})
}

// taken puts a conflict of names into words.
func taken(err error, field string) error {
	if errors.Is(err, store.ErrConflict) {
		return fault.New(field, "name-taken")
	}
	return err
}

// cleanName checks a name that people see.
func cleanName(field, s string) (string, error) {
	s = strings.Join(strings.Fields(s), " ")
	switch n := utf8.RuneCountInString(s); {
	case n == 0:
		return "", fault.New(field, "required")
	case n > maxName:
		return "", fault.New(field, "long", maxName)
	}
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return "", fault.New(field, "control-character")
	}
	return s, nil
}
